// iopt/core/dirty.hpp - io_pagetable: which pages devices wrote.
//
// Layer: core. Includes: core/io_pagetable.hpp.
#pragma once

#include <utility>

#include "iopt/core/io_pagetable.hpp"

namespace iopt {

template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
result<void> io_pagetable<Pinner, Domain, Traits>::set_dirty_tracking(Domain& domain, bool on) {
  if constexpr (dirty_tracking_domain<Domain>) {
    detail::shared_lock stable(domains_lock_);
    detail::shared_lock guard(areas_lock_);
    attachment_type* const slot = find_attachment(domain);
    if (slot == nullptr) return fail(errc::no_such_file_or_directory);
    detail::exclusive_lock inner(slot->mutex);
    result<void> done = domain.set_dirty_tracking(on);
    for (auto c = areas_.begin(); done && on && c.valid(); c.next()) {
      if (c.value()->is_in_flight() || !is_held(*c.value())) continue;
      done = domain.read_dirty(c.range(), dirty_read::clear, [](iova_range) {});
    }
    if (done) {
      slot->tracking = on;
    } else if (on && !slot->tracking) {
      static_cast<void>(domain.set_dirty_tracking(false));  // one that goes on tells nobody
    }
    return done;
  } else {
    static_cast<void>(domain), static_cast<void>(on);
    return fail(errc::operation_not_supported);
  }
}

template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
template <class Record>
result<void> io_pagetable<Pinner, Domain, Traits>::read_dirty(Domain& domain, iova_range range,
                                                              dirty_read mode, Record record) {
  if constexpr (dirty_tracking_domain<Domain>) {
    detail::shared_lock stable(domains_lock_);
    detail::shared_lock guard(areas_lock_);
    attachment_type* const slot = find_attachment(domain);
    if (slot == nullptr) return fail(errc::no_such_file_or_directory);
    detail::exclusive_lock inner(slot->mutex);
    if (!range.is_aligned(alignment_) || !slot->tracking) return fail(errc::invalid_argument);
    iova next = range.first;
    for (auto c = areas_.find(next); c.valid() && c.range().contains(next); c.next()) {
      if (c.value()->is_in_flight() || !is_held(*c.value())) return {};
      const iova_range part{next, std::min(c.range().last, range.last)};
      if (const result<void> done = domain.read_dirty(part, mode, record); !done) return done;
      if (part.last == range.last) break;
      next = part.last + 1;
    }
    return {};
  } else {
    static_cast<void>(domain), static_cast<void>(range), static_cast<void>(mode);
    static_cast<void>(record);
    return fail(errc::operation_not_supported);
  }
}

/// Tells what devices wrote in an area that goes, in every domain that tracks. One that cannot say may
/// have written all of it.
template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
template <class Record>
void io_pagetable<Pinner, Domain, Traits>::tell_dirty(const any_area& a, Record& record) {
  if constexpr (dirty_tracking_domain<Domain>) {
    for (attachment_type* d : domains()) {
      if (!is_held(a)) continue;
      detail::exclusive_lock guard(d->mutex);
      if (!d->tracking) continue;
      if (!d->domain->read_dirty(a.where, dirty_read::clear, record)) record(a.where);
    }
  } else {
    static_cast<void>(a), static_cast<void>(record);
  }
}

}  // namespace iopt
