// iopt/uapi/vfio/native_mappings.hpp - native_container: the ioctl entry, mapping and unmapping.
//
// Tested by tests/uapi/vfio/native_container_test.cpp
//
// Layer: uapi. Includes: uapi/vfio/native_container.hpp.
#pragma once

#include <algorithm>
#include <optional>

#include "iopt/uapi/vfio/native_container.hpp"

namespace iopt::vfio {

template <page_pinner Pinner, iommu_domain Domain, container_profile Profile>
uapi::answer native_container<Pinner, Domain, Profile>::ioctl(std::uint32_t request,
                                                              std::uint64_t argument) {
  switch (request) {
    case abi::get_api_version: return abi::api_version;
    case abi::check_extension: return check_extension(argument);
    case abi::set_iommu: return uapi::answer_of(set_iommu(argument));
    default: break;
  }
  {
    guard held(lock_);
    if (const result<void> ok = needs_type1(); !ok) return uapi::answer_of(ok);
  }
  switch (request) {
    case abi::iommu_get_info: {
      guard held(lock_);
      if (const result<void> ok = needs_type1(); !ok) return uapi::answer_of(ok);
      return uapi::answer_of(write_type1_info(copy_, {argument}, *table_, first_domain_ != nullptr,
                                              common_page_sizes(), avail()));
    }
    case abi::iommu_map_dma: return uapi::answer_of(map_ioctl({argument}));
    case abi::iommu_unmap_dma: return uapi::answer_of(unmap_ioctl({argument}));
    case abi::iommu_dirty_pages: return uapi::answer_of(dirty_ioctl({argument}));
    default: return uapi::refusal(errc::inappropriate_io_control_operation);
  }
}

template <page_pinner Pinner, iommu_domain Domain, container_profile Profile>
result<uapi::answer> native_container<Pinner, Domain, Profile>::map_ioctl(user_address argument) {
  const result<abi::dma_map> request = uapi::read_argument<abi::dma_map>(copy_, argument);
  if (!request) return fail(request.error());
  const result<void> done =
      map_dma(request->flags, {request->vaddr}, {request->iova}, request->size);
  if (!done) return fail(done.error());
  return 0;
}

template <page_pinner Pinner, iommu_domain Domain, container_profile Profile>
result<uapi::answer> native_container<Pinner, Domain, Profile>::unmap_ioctl(user_address argument) {
  result<abi::dma_unmap> request = uapi::read_argument<abi::dma_unmap>(copy_, argument);
  if (!request) return fail(request.error());
  result<std::uint64_t> bytes = 0;
  if (request->flags == abi::unmap_get_dirty_bitmap) {
    if (request->argsz < sizeof(abi::dma_unmap) + sizeof(abi::bitmap))
      return fail(errc::invalid_argument);
    const result<abi::bitmap> bits =
        uapi::read_bytes<abi::bitmap>(copy_, uapi::behind(argument, sizeof(abi::dma_unmap)));
    if (!bits) return fail(bits.error());
    bytes = unmap_dma_with_bitmap({request->iova}, request->size, *bits);
  } else {
    bytes = unmap_dma(request->flags, {request->iova}, request->size);
  }
  if (!bytes) return fail(bytes.error());
  request->size = *bytes;
  if (const result<void> told = uapi::write_bytes(copy_, argument, *request); !told)
    return fail(told.error());
  return 0;
}

/// Memory of the caller: a peer's, where the address shows a device's, else the process's own.
template <page_pinner Pinner, iommu_domain Domain, container_profile Profile>
auto native_container<Pinner, Domain, Profile>::memory_for(user_address vaddr,
                                                           std::uint64_t size_bytes)
    -> memory_type {
  if constexpr (device_showing_pinner<Pinner>) {
    if (const auto shown =
            pinner_.device_memory_at(pinner_.current(), user_range::sized(vaddr, size_bytes)))
      return table_->device_memory(shown->exporter, shown->offset);
  }
  memory_type m = table_->user_memory(vaddr);
  m.of.mode = locked_by(caller_);
  return m;
}

template <page_pinner Pinner, iommu_domain Domain, container_profile Profile>
result<void> native_container<Pinner, Domain, Profile>::map_dma(std::uint32_t flags,
                                                                user_address vaddr, iova at,
                                                                std::uint64_t size_bytes) {
  guard held(lock_);
  if (const result<void> ok = needs_type1(); !ok) return ok;
  if ((flags & ~(abi::map_read | abi::map_write | abi::map_vaddr)) != 0)
    return fail(errc::invalid_argument);
  const bool wraps =
      size_bytes != 0 && (size_bytes - 1 > top - at.value || size_bytes - 1 > top - vaddr.value);
  if constexpr (Profile::level == kernel_level::linux_6_18) {
    if (size_bytes == 0) return fail(errc::invalid_argument);
    if (wraps) return fail(wrap_error());
  }
  const access_rights rights = abi::rights_of(flags);
  const bool moves = (flags & abi::map_vaddr) != 0;
  if (moves == (rights != access_rights::none)) return fail(errc::invalid_argument);
  if (size_bytes == 0 || ((size_bytes | at.value | vaddr.value) & (granule() - 1)) != 0)
    return fail(errc::invalid_argument);
  if (wraps) return fail(wrap_error());
  const iova_range where = iova_range::sized(at, size_bytes);
  if (moves) return give_new_address(where, vaddr);

  // Where type1 is blind the table looks, behind the other checks.
  if (const auto hit = table_->first_in(where); hit && !is_blind_to(where))
    return fail({errc::file_exists, error_place::area, hit->where.first.value});
  if (avail() == 0) return fail(errc::no_space_on_device);
  result<dirty_log*> log = nullptr;
  if (tracking_) {
    log = new_log(where);
    // Too many pages is told only of what could be mapped.
    if (!log && log.error() != errc::invalid_argument) return fail(log.error());
  }
  const result<iova> mapped = table_->map(memory_for(vaddr, size_bytes), size_bytes, rights, at);
  if (!mapped) {
    if (log && *log != nullptr) dirty_log::destroy(*log, memory_);
    // Memory that ends at 2^64 is none that a process has.
    if (mapped.error() == errc::value_too_large) return fail(errc::bad_address);
    return fail(mapped.error());
  }
  if (!log) {
    static_cast<void>(table_->unmap(at, size_bytes, unmap_profile::iommufd));
    return fail(log.error());
  }
  if (*log != nullptr) add_log(*log);
  return {};
}

/// VFIO_DMA_MAP_FLAG_VADDR.
template <page_pinner Pinner, iommu_domain Domain, container_profile Profile>
result<void> native_container<Pinner, Domain, Profile>::give_new_address(iova_range where,
                                                                         user_address vaddr) {
  const auto there = table_->first_in(where);
  if (!there || is_blind_to(where)) return fail(errc::no_such_file_or_directory);
  if (!there->suspended || there->where != where)
    return fail({errc::invalid_argument, error_place::area, there->where.first.value});
  const memory_type old = *table_->memory_at(where.first);
  memory_type fresh = old;
  if (there->kind != origin_kind::device) {
    fresh = table_->user_memory(vaddr);
    fresh.of.mode = old.of.mode;  // whose memory it is decides, and the owner may be another now
    if (!(fresh.of.owner == old.of.owner)) fresh.of.mode = locked_by(caller_);
  }
  const result<void> done = table_->resume_access(where, fresh);
  if (done) addresses_changed();
  return done;
}

template <page_pinner Pinner, iommu_domain Domain, container_profile Profile>
bool native_container<Pinner, Domain, Profile>::any_address_invalid() {
  if (!may_be_invalid_) return false;
  bool any = false;
  table_->for_each_area([&](const area_info& a) { any = any || a.suspended; });
  may_be_invalid_ = any;
  return any;
}

/// The range that an unmap names.
template <page_pinner Pinner, iommu_domain Domain, container_profile Profile>
result<iova_range> native_container<Pinner, Domain, Profile>::unmap_range(
    std::uint32_t flags, iova first, std::uint64_t size_bytes) const {
  const std::uint64_t unit = granule();
  if ((first.value & (unit - 1)) != 0) return fail(errc::invalid_argument);
  if ((flags & abi::unmap_all_flag) != 0) {
    if (first.value != 0 || size_bytes != 0) return fail(errc::invalid_argument);
    return iova_range::whole();
  }
  if (size_bytes == 0 || (size_bytes & (unit - 1)) != 0) return fail(errc::invalid_argument);
  if (size_bytes - 1 > top - first.value) return fail(wrap_error());
  return iova_range::sized(first, size_bytes);
}

/// type1 v2 removes nothing where a mapping is cut.
template <page_pinner Pinner, iommu_domain Domain, container_profile Profile>
result<void> native_container<Pinner, Domain, Profile>::check_bisected(iova_range range) const {
  for (const iova end : {range.first, range.last}) {
    const auto there = table_->find(end);
    if (there && !range.contains(there->where))
      return fail({errc::invalid_argument, error_place::area, there->where.first.value});
  }
  return {};
}

/// The mappings that an unmap of the range walks: f(area_info). With `stops`, none where one begins
/// before the range: the rule of type1 v1.
template <page_pinner Pinner, iommu_domain Domain, container_profile Profile>
template <class F>
void native_container<Pinner, Domain, Profile>::for_each_mapping(iova_range range, bool stops,
                                                                 F f) const {
  iova next = range.first;
  for (;;) {
    const auto there = table_->first_in({next, range.last});
    if (!there) return;
    if (stops && there->where.first < range.first) return;
    f(*there);
    if (there->where.last >= range.last) return;
    next = there->where.last + 1;
  }
}

template <page_pinner Pinner, iommu_domain Domain, container_profile Profile>
result<std::uint64_t> native_container<Pinner, Domain, Profile>::unmap_dma(
    std::uint32_t flags, iova first, std::uint64_t size_bytes) {
  guard held(lock_);
  if (const result<void> ok = needs_type1(); !ok) return fail(ok.error());
  if ((flags & ~(abi::unmap_all_flag | abi::unmap_vaddr)) != 0) return fail(errc::invalid_argument);
  if ((flags & abi::unmap_vaddr) != 0 && has_emulated()) return fail(errc::device_or_resource_busy);
  const result<iova_range> range = unmap_range(flags, first, size_bytes);
  if (!range) return fail(range.error());
  const bool all = (flags & abi::unmap_all_flag) != 0;
  const bool moves = (flags & abi::unmap_vaddr) != 0;
  const bool blind = !all && is_blind_to(*range) && !Profile::punches_holes;
  if (!is_v1() && !all && (moves || blind))
    if (const result<void> ok = check_bisected(*range); !ok) return fail(ok.error());
  if (blind) return 0;
  return moves ? invalidate_addresses(*range) : remove(*range, all);
}

/// VFIO_DMA_UNMAP_FLAG_VADDR.
template <page_pinner Pinner, iommu_domain Domain, container_profile Profile>
result<std::uint64_t> native_container<Pinner, Domain, Profile>::invalidate_addresses(
    iova_range range) {
  std::uint64_t bytes = 0;
  std::optional<iova_range> touched;
  for_each_mapping(range, is_v1(), [&](const area_info& a) {
    touched = {touched ? touched->first : a.where.first, a.where.last};
    bytes += a.where.length_minus_one() + 1;
  });
  if (!touched) return 0;
  if (const result<void> done = table_->suspend_access(*touched); !done) return fail(done.error());
  may_be_invalid_ = true;
  return bytes;
}

/// Unmaps by the version's rules, or exactly the range where the profile punches holes.
template <page_pinner Pinner, iommu_domain Domain, container_profile Profile>
result<std::uint64_t> native_container<Pinner, Domain, Profile>::remove(iova_range range,
                                                                        bool all) {
  if (const result<void> ok = let_go(range, all); !ok) return fail(ok.error());
  return take(range, all);
}

/// The same, behind let_go().
template <page_pinner Pinner, iommu_domain Domain, container_profile Profile>
result<std::uint64_t> native_container<Pinner, Domain, Profile>::take(iova_range range, bool all) {
  log_cuts cuts{};
  if (Profile::punches_holes && !all) {
    // A hole in the middle of a mapping makes two of it.
    const auto there = table_->find(range.first);
    if (avail() == 0 && there && there->where.first < range.first && there->where.last > range.last)
      return fail(errc::no_space_on_device);
    const result<log_cuts> prepared = prepare_log_cuts(range);
    if (!prepared) return fail(prepared.error());
    cuts = *prepared;
  }
  const unmap_profile rules = Profile::punches_holes ? unmap_profile::hole_punching
                              : is_v1()              ? unmap_profile::type1_v1
                                                     : unmap_profile::type1_v2;
  const unmap_report gone =
      all ? table_->unmap_all()
          : table_->unmap(range.first, range.length_minus_one() + 1, rules, Profile::level);
  if (gone.outcome || gone.areas != 0) {
    forget_logs(range, cuts);
  } else {
    abandon(cuts);
  }
  addresses_changed();
  if (!gone.outcome) return fail(gone.outcome.error());
  return gone.bytes;
}

}  // namespace iopt::vfio
