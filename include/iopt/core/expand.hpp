// iopt/core/expand.hpp - io_pagetable: compact areas become full ones.
//
// Who wants more of an area than it can be as a compact one (core/mapped_area.hpp) asks for the full
// one first. It needs memory and can fail, and then nothing has changed.
//
// Layer: core. Includes: core/io_pagetable.hpp.
#pragma once

#include "iopt/core/io_pagetable.hpp"

namespace iopt {

/// Makes a full area of a compact one of no family, which is then gone; nullptr without memory, and
/// nothing has changed. Requires: nobody else uses `a`; the caller puts the new one in its place.
template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
auto io_pagetable<Pinner, Domain, Traits>::expand(compact_type& a) noexcept -> area_type* {
  const std::uint64_t offset = a.page_offset();
  block_type* block = create<block_type>(a.where, *a.own, a.first_byte - offset, a.page_count(),
                                         a.writable(), offset, a.rights);
  if (block == nullptr) return nullptr;
  if (a.held) {
    const result<void> stored = block->contents.stored.store({0}, a.frames());
    IOPT_ASSERT(stored.has_value());
    static_cast<void>(stored);
  }
  inherit(block->first, a);
  destroy(&a);
  return &block->first;
}

/// Gives a full area what a compact one has but its origin.
template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
void io_pagetable<Pinner, Domain, Traits>::inherit(area_type& grown,
                                                   const compact_type& from) noexcept {
  grown.chain = from.chain;
  grown.filled = from.filled;
  detail::release_into(grown.suspended, static_cast<bool>(from.suspended));
  detail::release_into(grown.state, static_cast<area_state>(from.state));
  pages_type& p = *grown.source;
  p.lost = p.lost || from.lost;
  if (!from.held) return;
  p.pinned += from.page_count();
  grown.storage = domains_[0];
  p.holders.insert(grown);
}

/// Makes full areas, which show one pages object, of all members of a family that are not in flight.
/// Requires: areas_lock_, exclusively. Errors: not_enough_memory; nothing has changed then.
template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
result<void> io_pagetable<Pinner, Domain, Traits>::expand_family(family_type& family) noexcept {
  const auto each_member = [&](auto f) {
    for (auto c = areas_.first_overlap(family.was); c.valid() && c.range().first <= family.was.last;
         c.next()) {
      any_area& a = *c.value();
      if (is_compact(a) && a.in_family && compact(a).family == &family && !a.is_in_flight())
        if (!f(c, compact(a))) return;
    }
  };
  const std::uint64_t first = family.was.first.value + family.offset;
  const std::uint64_t start = align_down(first, page_bytes);
  block_type* block = nullptr;
  area_chain grown;
  bool enough = true;
  each_member([&](auto, const compact_type& a) {
    const std::uint64_t byte = a.first_byte - start;
    if (block == nullptr) {
      block = create<block_type>(a.where, *family.from, start,
                                 (first - start + family.was.length_minus_one()) / page_bytes + 1,
                                 a.writable(), byte, a.rights);
      enough = block != nullptr;
      if (enough) {
        family.from->share();
        grown.append(block->first);
      }
      return enough;
    }
    area_type* const next = create<area_type>(a.where, block->contents, byte, a.rights);
    enough = next != nullptr && block->contents.stored.add_holder().has_value();
    if (enough) {
      ++block->contents.references;
      grown.append(*next);
    } else if (next != nullptr) {
      destroy(next);
    }
    return enough;
  });
  if (!enough) {
    while (grown.first != nullptr) destroy_area(*std::exchange(grown.first, grown.first->chain));
    return fail(errc::not_enough_memory);
  }
  each_member([&](auto at, compact_type& a) {
    area_type& next = full(*std::exchange(grown.first, grown.first->chain));
    inherit(next, a);
    at.set_value(&next);
    destroy_area(a);
    return grown.first != nullptr;  // the last of them took the family along
  });
  return {};
}

/// The full area at a place of the map. Requires: areas_lock_, exclusively; it is not in flight, or the
/// caller's and of no family. Errors: not_enough_memory.
template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
auto io_pagetable<Pinner, Domain, Traits>::expand_at(typename area_tree::cursor at) noexcept
    -> result<area_type*> {
  any_area& a = *at.value();
  if (!is_compact(a)) return &full(a);
  if (a.in_family) {
    if (const result<void> done = expand_family(*compact(a).family); !done)
      return fail(done.error());
    return &full(*at.value());
  }
  area_type* const grown = expand(compact(a));
  if (grown == nullptr) return fail(errc::not_enough_memory);
  at.set_value(grown);
  return grown;
}

/// The same for every area that is not in flight and touches the range.
template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
result<void> io_pagetable<Pinner, Domain, Traits>::expand_in(iova_range range) noexcept {
  for (auto c = areas_.first_overlap(range); c.valid() && c.range().first <= range.last; c.next()) {
    if (c.value()->is_in_flight()) continue;
    if (const result<area_type*> grown = expand_at(c); !grown) return fail(grown.error());
  }
  return {};
}

/// Frees an area that no structure refers to any more, and its share of what is behind it. Requires:
/// areas_lock_, exclusively.
template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
void io_pagetable<Pinner, Domain, Traits>::destroy_area(any_area& any) noexcept {
  if (!is_compact(any)) return detail::destroy_area(full(any));
  compact_type& a = compact(any);
  if (!a.in_family) {
    if (a.own != nullptr) release_locked(*a.own);
  } else if (--a.family->references == 0) {
    release_locked(*a.family->from);
    destroy(a.family);
  }
  destroy(&a);
}

}  // namespace iopt
