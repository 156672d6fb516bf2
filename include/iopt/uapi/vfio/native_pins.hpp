// iopt/uapi/vfio/native_pins.hpp - native_container: what drivers of mediated devices do.
//
// Layer: uapi. Includes: uapi/vfio/native_container.hpp.
#pragma once

#include "iopt/uapi/vfio/native_container.hpp"

namespace iopt::vfio {

/// Has memory users let go of the mappings that an unmap of the range takes. The lock is dropped while
/// they are told, and all is looked at anew then.
template <page_pinner Pinner, iommu_domain Domain, container_profile Profile>
result<void> native_container<Pinner, Domain, Profile>::let_go(iova_range range, bool all) {
  if (user_count_ == 0) return {};
  constexpr unsigned patience = 100;
  std::optional<iova> asked;
  unsigned tries = 0;
  for (;;) {
    if (!is_v1() && !all && !Profile::punches_holes)
      if (const result<void> ok = check_bisected(range); !ok) return ok;
    std::optional<iova_range> pinned;
    for_each_mapping(range, is_v1() && !Profile::punches_holes, [&](const area_info& a) {
      // What a hole cuts out of pinned pages is refused by the table.
      const bool whole = !Profile::punches_holes || range.contains(a.where);
      if (!pinned && a.pin_calls != 0 && whole) pinned = a.where;
    });
    if (!pinned) return {};
    if (asked != pinned->first) tries = 0;
    asked = pinned->first;
    if (++tries > patience)
      return fail({errc::resource_deadlock_would_occur, error_place::area, pinned->first.value});
    {
      const iopt::detail::released_lock dropped(lock_);
      guard listed(users_lock_);
      users_.tell(*pinned);
    }
    if (const result<void> ok = needs_type1(); !ok) return ok;  // the last group left meanwhile
  }
}

template <page_pinner Pinner, iommu_domain Domain, container_profile Profile>
result<void> native_container<Pinner, Domain, Profile>::register_user(memory_user& user) {
  guard listed(users_lock_);
  guard held(lock_);
  if (const result<void> ok = needs_type1(); !ok) return ok;
  if (users_.contains(user)) return fail(errc::invalid_argument);
  users_.add(user);
  ++user_count_;
  return {};
}
template <page_pinner Pinner, iommu_domain Domain, container_profile Profile>
void native_container<Pinner, Domain, Profile>::unregister_user(memory_user& user) noexcept {
  guard listed(users_lock_);
  guard held(lock_);
  if (users_.remove(user)) --user_count_;
}

/// No address is invalid, or none is any more. The lock is dropped while this waits.
template <page_pinner Pinner, iommu_domain Domain, container_profile Profile>
result<void> native_container<Pinner, Domain, Profile>::need_addresses() {
  while (any_address_invalid()) {
    if constexpr (Profile::waits_for_addresses) {
      const std::uint32_t seen = address_changes_;
      const iopt::detail::released_lock dropped(lock_);
      address_changes_.wait(seen);
    } else {
      return fail(errc::device_or_resource_busy);
    }
    if (driver_ != driver::type1) return fail(errc::inappropriate_io_control_operation);
  }
  return {};
}
/// A mapping has got an address, or is gone.
template <page_pinner Pinner, iommu_domain Domain, container_profile Profile>
void native_container<Pinner, Domain, Profile>::addresses_changed() noexcept {
  if constexpr (Profile::waits_for_addresses) {
    ++address_changes_;
    address_changes_.notify_all();
  }
}

template <page_pinner Pinner, iommu_domain Domain, container_profile Profile>
result<std::uint64_t> native_container<Pinner, Domain, Profile>::pin_pages(
    const group_type* group, iova first, std::uint64_t pages, access_rights want,
    std::span<physical> out) {
  if (pages == 0 || out.size() < pages) return fail(errc::invalid_argument);
  if (pages > max_pin_pages) return fail(errc::argument_list_too_long);
  guard held(lock_);
  if (driver_ != driver::type1) return fail(errc::inappropriate_io_control_operation);
  if (is_v1()) return fail(errc::permission_denied);
  if (const result<void> ok = need_addresses(); !ok) return fail(ok.error());
  if (user_count_ == 0) return fail(errc::invalid_argument);
  const iova base = first - first.value % page_bytes;
  result<void> done{};
  std::uint64_t pinned = 0;
  for (; done && pinned < pages; ++pinned) {
    const iova at{base.value + pinned * page_bytes};
    const auto there = table_->find(at);
    if (!there) {
      done = fail(errc::invalid_argument);
    } else if (!allows(there->rights, want)) {
      done = fail({errc::operation_not_permitted, error_place::area, there->where.first.value});
    } else {
      const iova_range page = iova_range::sized(at, page_bytes);
      done = pins_->pin(page,
                        allows(want, access_rights::write)           ? access_rights::write
                        : allows(there->rights, access_rights::read) ? access_rights::read
                                                                     : access_rights::write,
                        [&](run r) { out[pinned] = r.first; });
      if (done && tracking_)
        if (dirty_log* const log = logs_.first_overlap(page)) log->set(page);
    }
    if (!done) break;
  }
  if (!done) {
    while (pinned-- != 0)
      pins_->unpin(iova_range::sized({base.value + pinned * page_bytes}, page_bytes));
    // Memory that is a device's has no page to be had.
    if (done.error() == errc::operation_not_supported) return fail(errc::invalid_argument);
    return fail(done.error());
  }
  // A group that pins what it reaches has declared that it reaches nothing else.
  if (member* const m = group == nullptr ? nullptr : find(*group); m != nullptr && !m->pins_only) {
    m->pins_only = true;
    --untracked_groups_;
  }
  return pages;
}

template <page_pinner Pinner, iommu_domain Domain, container_profile Profile>
void native_container<Pinner, Domain, Profile>::unpin_pages(iova first,
                                                            std::uint64_t pages) noexcept {
  guard held(lock_);
  if (driver_ != driver::type1 || pages == 0) return;
  iova at = first - first.value % page_bytes;
  const std::uint64_t most = (top - at.value) / page_bytes + 1;
  iova_range left{at, at + (std::min(pages, most) * page_bytes - 1)};
  // As type1: up to the first page that is not mapped. What is not pinned is passed over at once.
  while (const auto there = table_->find(left.first)) {
    const iova end = std::min(there->where.last, left.last);
    while (const auto held_part = table_->first_pinned({left.first, end})) {
      const iova_range page = iova_range::sized(held_part->first, page_bytes);
      if (pins_->is_pinned(page)) pins_->unpin(page);
      if (page.last >= end) break;
      left.first = page.last + 1;
    }
    if (end == left.last) return;
    left.first = end + 1;
  }
}

/// Drops whatever users left pinned when the container's life ends.
template <page_pinner Pinner, iommu_domain Domain, container_profile Profile>
void native_container<Pinner, Domain, Profile>::drop_pins() noexcept {
  while (const auto part = table_->first_pinned(iova_range::whole())) {
    const iova_range page = iova_range::sized(part->first, page_bytes);
    if (!pins_->is_pinned(page)) return;
    while (pins_->is_pinned(page)) pins_->unpin(page);
  }
}

template <page_pinner Pinner, iommu_domain Domain, container_profile Profile>
template <access_rights Want, class Bytes>
result<void> native_container<Pinner, Domain, Profile>::dma_copy(iova at, Bytes bytes) {
  if (bytes.empty()) return fail(errc::invalid_argument);
  guard held(lock_);
  if (driver_ != driver::type1) return fail(errc::inappropriate_io_control_operation);
  if (const result<void> ok = need_addresses(); !ok) return fail(ok.error());
  while (!bytes.empty()) {
    const auto there = table_->find(at);
    if (!there) return fail(errc::invalid_argument);
    if (!allows(there->rights, Want))
      return fail({errc::operation_not_permitted, error_place::area, there->where.first.value});
    const auto memory = table_->memory_at(at);
    if (!pinner_.reachable(memory->of.owner)) return fail(errc::operation_not_permitted);
    if (!(memory->of.owner == pinner_.current())) return fail(errc::bad_address);
    const std::uint64_t left = there->where.last - at;
    const std::size_t step =
        left < bytes.size() ? static_cast<std::size_t>(left + 1) : bytes.size();
    result<void> done{};
    if constexpr (Want == access_rights::read) {
      done = pins_->read(at, bytes.first(step));
    } else {
      done = pins_->write(at, bytes.first(step));
      if (done && tracking_) {
        const iova_range part = iova_range::sized(at, step);
        if (dirty_log* const log = logs_.first_overlap(part)) log->set(part);
      }
    }
    if (!done) return fail(errc::bad_address);
    bytes = bytes.subspan(step);
    if (bytes.empty()) break;
    at += step;
  }
  return {};
}

}  // namespace iopt::vfio
