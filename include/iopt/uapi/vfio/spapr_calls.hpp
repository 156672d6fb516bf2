// iopt/uapi/vfio/spapr_calls.hpp - spapr_container: its ioctls, and what they do beside windows.
//
// Layer: uapi. Includes: uapi/vfio/spapr_container.hpp.
#pragma once

#include "iopt/uapi/vfio/spapr_container.hpp"

namespace iopt::vfio {

// --- What every call asks first -------------------------------------------------------------------

/// A container that is bound to a process serves no other.
template <page_pinner Pinner, tce_table Domain, uapi::front_end_profile Profile>
result<void> spapr_container<Pinner, Domain, Profile>::enter() const {
  if (driver_ == driver::none) return fail(errc::invalid_argument);
  if (owner_ && !(*owner_ == registered_.pinner().current()))
    return fail(errc::operation_not_permitted);
  return {};
}
/// A call of the other version is no call.
template <page_pinner Pinner, tce_table Domain, uapi::front_end_profile Profile>
result<void> spapr_container<Pinner, Domain, Profile>::enter(driver wanted) const {
  if (const result<void> ok = enter(); !ok) return ok;
  if (driver_ != wanted) return fail(errc::inappropriate_io_control_operation);
  return {};
}
template <page_pinner Pinner, tce_table Domain, uapi::front_end_profile Profile>
result<void> spapr_container<Pinner, Domain, Profile>::enter_enabled() const {
  if (const result<void> ok = enter(); !ok) return ok;
  if (!enabled_) return fail(errc::operation_not_permitted);
  return {};
}
template <page_pinner Pinner, tce_table Domain, uapi::front_end_profile Profile>
result<void> spapr_container<Pinner, Domain, Profile>::enter_bound(driver wanted) {
  if (const result<void> ok = enter(wanted); !ok) return ok;
  return bind();
}
/// Binds to the caller's process, if it is not yet.
template <page_pinner Pinner, tce_table Domain, uapi::front_end_profile Profile>
result<void> spapr_container<Pinner, Domain, Profile>::bind() {
  if (owner_) return {};
  const owner_type caller = pinner().current();
  if (driver_ == driver::v2) {
    const result<space_type*> space = registered_.bind(caller);
    if (!space) return fail(space.error());
    space_ = *space;
  }
  owner_ = caller;
  return {};
}

// --- Enabling, registering ------------------------------------------------------------------------

template <page_pinner Pinner, tce_table Domain, uapi::front_end_profile Profile>
result<void> spapr_container<Pinner, Domain, Profile>::enable() {
  guard held(lock_);
  if (const result<void> ok = enter(driver::v1); !ok) return ok;
  if (enabled_) return fail(errc::device_or_resource_busy);
  const std::uint64_t bytes = first_group().properties()->window32_size;
  if (bytes == 0) return fail(errc::operation_not_permitted);
  if (const result<void> bound = bind(); !bound) return bound;
  const account_mode how = mode();
  if (const result<void> charged = pinner().charge(*owner_, how, bytes / page_bytes); !charged)
    return charged;
  enabled_pages_ = bytes / page_bytes;
  enabled_mode_ = how;
  enabled_ = true;
  return {};
}

template <page_pinner Pinner, tce_table Domain, uapi::front_end_profile Profile>
result<void> spapr_container<Pinner, Domain, Profile>::disable() {
  guard held(lock_);
  if (const result<void> ok = enter(driver::v1); !ok) return ok;
  if (!enabled_) return {};
  enabled_ = false;
  pinner().uncharge(*owner_, enabled_mode_, std::exchange(enabled_pages_, 0));
  return {};
}

template <page_pinner Pinner, tce_table Domain, uapi::front_end_profile Profile>
result<void> spapr_container<Pinner, Domain, Profile>::register_memory(user_address first,
                                                                       std::uint64_t length_bytes) {
  guard held(lock_);
  if (const result<void> ok = enter_bound(driver::v2); !ok) return ok;
  if (!first.is_aligned(page_bytes) || length_bytes % page_bytes != 0 ||
      (length_bytes != 0 && length_bytes > top - first.value))
    return fail(errc::invalid_argument);
  if (const region_type* const there = registered_.find(*space_, first, length_bytes))
    for (const registration* r = registrations_; r != nullptr; r = r->next)
      if (r->region == there) return fail(errc::device_or_resource_busy);
  const result<region_type*> region = registered_.add(*space_, first, length_bytes, mode());
  if (!region) return fail(region.error());
  registration* const fresh = create_in<registration>(memory_, *region, registrations_);
  if (fresh == nullptr) {
    registered_.remove(*space_, **region);
    return fail(errc::not_enough_memory);
  }
  registrations_ = fresh;
  enabled_ = true;
  return {};
}

template <page_pinner Pinner, tce_table Domain, uapi::front_end_profile Profile>
result<void> spapr_container<Pinner, Domain, Profile>::unregister_memory(
    user_address first, std::uint64_t length_bytes) {
  guard held(lock_);
  if (const result<void> ok = enter(driver::v2); !ok) return ok;
  if (!owner_) return fail(errc::operation_not_permitted);
  if (!first.is_aligned(page_bytes) || length_bytes % page_bytes != 0)
    return fail(errc::invalid_argument);
  region_type* const there = registered_.find(*space_, first, length_bytes);
  registration** link = &registrations_;
  while (*link != nullptr && (*link)->region != there) link = &(*link)->next;
  if (there == nullptr || *link == nullptr) return fail(errc::no_such_file_or_directory);
  registration* const gone = *link;
  *link = gone->next;
  destroy_in(memory_, gone);
  registered_.remove(*space_, *there);
  return {};
}

// --- Mapping --------------------------------------------------------------------------------------

template <page_pinner Pinner, tce_table Domain, uapi::front_end_profile Profile>
result<uapi::answer> spapr_container<Pinner, Domain, Profile>::map_dma(std::uint32_t flags,
                                                                       user_address vaddr, iova at,
                                                                       std::uint64_t size_bytes) {
  guard held(lock_);
  if (const result<void> ok = enter_enabled(); !ok) return fail(ok.error());
  if ((flags & ~(abi::map_read | abi::map_write)) != 0) return fail(errc::invalid_argument);
  if (const result<void> made = add_default_window(); !made) return fail(made.error());
  const result<window_record*> found = window_at(at);
  if (!found) return fail(found.error());
  window_type& w = (*found)->shows;
  if (((size_bytes | vaddr.value) & (w.page_bytes() - 1)) != 0 || flags == 0)
    return fail(errc::invalid_argument);
  if (!at.is_aligned(w.page_bytes())) return 1;
  if (size_bytes == 0) return 0;
  if (size_bytes - 1 > w.range().last - at) return fail(errc::invalid_argument);
  if (size_bytes - 1 > top - vaddr.value)
    return fail(driver_ == driver::v1 ? errc::bad_address : errc::invalid_argument);
  const access_rights rights = abi::rights_of(flags);
  const result<void> shown = w.put(*owner_, iova_range::sized(at, size_bytes), vaddr, rights);
  if (!shown) return fail(shown.error());
  return 0;
}

template <page_pinner Pinner, tce_table Domain, uapi::front_end_profile Profile>
result<uapi::answer> spapr_container<Pinner, Domain, Profile>::unmap_dma(std::uint32_t flags,
                                                                         iova first,
                                                                         std::uint64_t size_bytes) {
  guard held(lock_);
  if (const result<void> ok = enter_enabled(); !ok) return fail(ok.error());
  if (flags != 0) return fail(errc::invalid_argument);
  if (const result<void> made = add_default_window(); !made) return fail(made.error());
  const result<window_record*> found = window_at(first);
  if (!found) return fail(found.error());
  window_type& w = (*found)->shows;
  if ((size_bytes & (w.page_bytes() - 1)) != 0) return fail(errc::invalid_argument);
  if (!first.is_aligned(w.page_bytes()) ||
      (size_bytes != 0 && size_bytes - 1 > w.range().last - first))
    return 1;
  if (size_bytes == 0) return 0;
  const result<void> gone = w.clear(iova_range::sized(first, size_bytes));
  if (!gone) return fail(gone.error());
  return 0;
}

// --- As bytes -------------------------------------------------------------------------------------

template <page_pinner Pinner, tce_table Domain, uapi::front_end_profile Profile>
uapi::answer spapr_container<Pinner, Domain, Profile>::ioctl(std::uint32_t request,
                                                             std::uint64_t argument) {
  switch (request) {
    case abi::get_api_version: return abi::api_version;
    case abi::check_extension: return check_extension(argument);
    case abi::set_iommu: return uapi::answer_of(set_iommu(argument));
    case abi::iommu_get_info: return uapi::answer_of(info_ioctl({argument}));
    case abi::iommu_map_dma: return uapi::answer_of(map_ioctl({argument}));
    case abi::iommu_unmap_dma: return uapi::answer_of(unmap_ioctl({argument}));
    case abi::iommu_enable: return uapi::answer_of(enable());
    case abi::iommu_disable: return uapi::answer_of(disable());
    case abi::spapr_register_memory: return uapi::answer_of(register_ioctl({argument}));
    case abi::spapr_unregister_memory: return uapi::answer_of(unregister_ioctl({argument}));
    case abi::spapr_tce_create: return uapi::answer_of(create_ioctl({argument}));
    case abi::spapr_tce_remove: return uapi::answer_of(remove_ioctl({argument}));
    case abi::eeh_pe_op: return uapi::answer_of(errors_ioctl({argument}));
    default: break;
  }
  const result<void> ok = locked([&] { return enter(); });
  return uapi::refusal(ok ? errc::inappropriate_io_control_operation : ok.error().code);
}

template <page_pinner Pinner, tce_table Domain, uapi::front_end_profile Profile>
result<uapi::answer> spapr_container<Pinner, Domain, Profile>::info_ioctl(user_address argument) {
  guard held(lock_);
  if (const result<void> ok = enter(); !ok) return fail(ok.error());
  const tce_properties can = *first_group().properties();
  result<abi::spapr_info> info =
      uapi::read_argument<abi::spapr_info>(copy_, argument, abi::spapr_info_least);
  if (!info) return fail(info.error());
  info->window32_start = can.window32_start;
  info->window32_size = can.window32_size;
  info->flags = 0;
  info->ddw = {};
  if (can.max_windows != 0 && driver_ == driver::v2) {
    info->flags = abi::spapr_info_ddw;
    info->ddw = {can.page_sizes, can.max_windows, can.levels};
  }
  const std::size_t told = info->argsz >= sizeof *info ? sizeof *info : abi::spapr_info_least;
  if (const result<void> done = uapi::write_bytes(copy_, argument, *info, told); !done)
    return fail(done.error());
  return 0;
}

template <page_pinner Pinner, tce_table Domain, uapi::front_end_profile Profile>
result<uapi::answer> spapr_container<Pinner, Domain, Profile>::map_ioctl(user_address argument) {
  if (const result<void> ok = locked([&] { return enter_enabled(); }); !ok) return fail(ok.error());
  const auto in = uapi::read_argument<abi::dma_map>(copy_, argument);
  if (!in) return fail(in.error());
  return map_dma(in->flags, {in->vaddr}, {in->iova}, in->size);
}

template <page_pinner Pinner, tce_table Domain, uapi::front_end_profile Profile>
result<uapi::answer> spapr_container<Pinner, Domain, Profile>::unmap_ioctl(user_address argument) {
  if (const result<void> ok = locked([&] { return enter_enabled(); }); !ok) return fail(ok.error());
  const auto in = uapi::read_argument<abi::dma_unmap>(copy_, argument);
  if (!in) return fail(in.error());
  return unmap_dma(in->flags, {in->iova}, in->size);
}

template <page_pinner Pinner, tce_table Domain, uapi::front_end_profile Profile>
result<uapi::answer> spapr_container<Pinner, Domain, Profile>::register_ioctl(
    user_address argument) {
  if (const result<void> ok = locked([&] { return enter_bound(driver::v2); }); !ok)
    return fail(ok.error());
  const auto in = uapi::read_argument<abi::spapr_memory>(copy_, argument);
  if (!in) return fail(in.error());
  if (in->flags != 0) return fail(errc::invalid_argument);
  return uapi::answer_of(register_memory({in->vaddr}, in->size));
}

template <page_pinner Pinner, tce_table Domain, uapi::front_end_profile Profile>
result<uapi::answer> spapr_container<Pinner, Domain, Profile>::unregister_ioctl(
    user_address argument) {
  const result<void> ok = locked([&] {
    const result<void> entered = enter(driver::v2);
    return entered && !owner_ ? result<void>(fail(errc::operation_not_permitted)) : entered;
  });
  if (!ok) return fail(ok.error());
  const auto in = uapi::read_argument<abi::spapr_memory>(copy_, argument);
  if (!in) return fail(in.error());
  if (in->flags != 0) return fail(errc::invalid_argument);
  return uapi::answer_of(unregister_memory({in->vaddr}, in->size));
}

template <page_pinner Pinner, tce_table Domain, uapi::front_end_profile Profile>
result<uapi::answer> spapr_container<Pinner, Domain, Profile>::create_ioctl(user_address argument) {
  if (const result<void> ok = locked([&] { return enter_bound(driver::v2); }); !ok)
    return fail(ok.error());
  auto in = uapi::read_argument<abi::spapr_create>(copy_, argument);
  if (!in) return fail(in.error());
  if (in->flags != 0) return fail(errc::invalid_argument);
  const result<iova> at = create_window(
      {.page_lg2 = in->page_shift, .levels = in->levels, .length_bytes = in->window_size});
  if (!at) return fail(at.error());
  in->start = at->value;
  // A bad address leaves the window.
  return uapi::answer_of(uapi::write_bytes(copy_, argument, *in));
}

template <page_pinner Pinner, tce_table Domain, uapi::front_end_profile Profile>
result<uapi::answer> spapr_container<Pinner, Domain, Profile>::remove_ioctl(user_address argument) {
  if (const result<void> ok = locked([&] { return enter_bound(driver::v2); }); !ok)
    return fail(ok.error());
  const auto in = uapi::read_argument<abi::spapr_remove>(copy_, argument);
  if (!in) return fail(in.error());
  if (in->flags != 0) return fail(errc::invalid_argument);
  return uapi::answer_of(remove_window({in->start}));
}

/// VFIO_EEH_PE_OP: each group in turn, until one answers anything but 0.
template <page_pinner Pinner, tce_table Domain, uapi::front_end_profile Profile>
result<uapi::answer> spapr_container<Pinner, Domain, Profile>::errors_ioctl(user_address argument) {
  guard held(lock_);
  if (const result<void> ok = enter(); !ok) return fail(ok.error());
  for (member* m = attached_; m != nullptr; m = m->next_attached) {
    const result<uapi::answer> said = operate(*m->group, argument);
    if (!said || *said != 0) return said;
  }
  return 0;
}

template <page_pinner Pinner, tce_table Domain, uapi::front_end_profile Profile>
result<uapi::answer> spapr_container<Pinner, Domain, Profile>::operate(group_type& group,
                                                                       user_address argument) {
  if (!group.handles_errors()) return fail(errc::no_such_device);
  auto in = uapi::read_argument<abi::eeh_request>(copy_, argument, abi::eeh_request_least);
  if (!in) return fail(in.error());
  if (in->flags != 0 || in->operation > abi::eeh_inject_error) return fail(errc::invalid_argument);
  const std::uint32_t what = in->operation;
  if (what == abi::eeh_inject_error) {
    if (in->argsz < sizeof *in) return fail(errc::invalid_argument);
    in = uapi::read_bytes<abi::eeh_request>(copy_, argument);
    if (!in) return fail(in.error());
  }
  return group.operate(
      {what, in->error.type, in->error.function, in->error.address, in->error.mask});
}

}  // namespace iopt::vfio
