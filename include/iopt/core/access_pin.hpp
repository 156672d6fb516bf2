// iopt/core/access_pin.hpp - access_object: a range that it does not hold yet is pinned.
//
// A record is made for the part in each area, and given to the pages of the area and to the object;
// pages that no domain has stored are pinned and stored.
//
// Tested by tests/core/access_object_test.cpp.
//
// Layer: core. Includes: core/access_object.hpp.
#pragma once

#include <utility>

#include "iopt/core/access_object.hpp"

namespace iopt {

/// Pins the pages of full areas; `any_compact` says that one is not, and that nothing is pinned.
/// `only` is all of them if they are one area's, and else names none; after an error, and where
/// `any_compact`, it means nothing.
template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
inline result<void> access_object<Pinner, Domain, Traits>::pin_full(table_type& t, iova_range range,
                                                                    access_rights rights,
                                                                    bool& any_compact,
                                                                    pinned_part& only) {
  iova next = range.first;
  for (auto c = t.areas_.find(next);; c.next()) {
    const auto undo = [&] {
      if (next != range.first) unpin_areas(t, {range.first, next - 1});
    };
    if (!c.valid() || !c.range().contains(next) || c.value()->is_in_flight()) {
      undo();
      return fail({errc::no_such_file_or_directory, error_place::request_byte, next - range.first});
    }
    const bool ends_here = c.range().last >= range.last;
    const iova_range part{next, ends_here ? range.last : c.range().last};
    if (const result<void> done =
            pin_part(t, *c.value(), part, ends_here, rights, part == range, any_compact, only);
        !done || any_compact) {
      undo();
      return done;
    }
    if (ends_here) {
      if (next != range.first) only = {};
      return {};
    }
    next = c.range().last + 1;
  }
}

/// `looked` says that this object does not hold that part.
template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
inline result<void> access_object<Pinner, Domain, Traits>::pin_part(table_type& t, any_area& any,
                                                                    iova_range part, bool ends_here,
                                                                    access_rights rights,
                                                                    bool looked, bool& any_compact,
                                                                    pinned_part& is) {
  const auto begins_page = [&](std::uint64_t offset) {
    return (table_type::page_offset(any) + offset) % Traits::page_bytes == 0;
  };
  if (any.state != area_state::under_notification &&
      (!begins_page(part.first - any.where.first) ||
       (!ends_here && !begins_page(any.where.length_minus_one() + 1))))
    return fail({errc::invalid_argument, error_place::area, any.where.first.value});
  if (const result<void> ok = may_use(any, rights); !ok) return ok;
  if (table_type::is_compact(any)) {
    any_compact = true;
    return {};
  }
  if (!looked) {
    result<void> refused{};
    if (pin_again(part, rights, is, refused)) return refused;
  }
  area_type& a = table_type::full(any);
  held_type* const fresh = t.template create<held_type>();
  if (fresh == nullptr) return fail(errc::not_enough_memory);
  {
    fresh->pin_record::range.first = a.index_of(part.first);
    fresh->pin_record::range.last = a.index_of(part.last);
    detail::exclusive_lock guard(a.source->mutex);
    if (const result<void> done = t.pin_pages(*a.source, *fresh); !done) {
      t.destroy(fresh);
      return done;
    }
    note_pin(a, 1);
  }
  fresh->of = &a;
  fresh->interval_node<iova>::range.first = part.first;
  fresh->interval_node<iova>::range.last = part.last;
  is = {&a, fresh->frames};
  {
    detail::exclusive_lock mine(lock_);
    pins_.insert(*fresh);
    detail::release_into(holds_any_, true);
  }
  return {};
}

/// Makes the pages `as.range` stay pinned and stored until unpin_pages() of the same. Requires: their mutex.
/// Errors: those of pinning; not_enough_memory. On error nothing is pinned.
template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
result<void> io_pagetable<Pinner, Domain, Traits>::pin_pages(pages_type& p, pin_record& as) {
  if (const result<void> room = p.stored.add_holder(); !room) return room;
  const bool is_one = as.range.first == as.range.last;
  const result<void> done =
      is_one ? moves(p).store_one(as.range.first, as.frames) : moves(p).store(as.range);
  if (!done) {
    p.stored.drop_holder();
    return done;
  }
  if (!is_one) {
    run_list one{{&as.frames, 1}};
    if (p.stored.read(as.range, one) - 1 != as.range.length_minus_one()) as.frames = {};
  }
  p.pins.insert(as);
  return {};
}

template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
void io_pagetable<Pinner, Domain, Traits>::unpin_pages(pages_type& p, pin_record& as) noexcept {
  p.pins.erase(as);
  moves(p).unstore(as.range, as.frames);
  p.stored.drop_holder();
}

}  // namespace iopt
