// iopt/core/punch.hpp - io_pagetable: a hole in one compact area.
//
// The general way to a hole is two cuts and an unmap (core/cut.hpp, core/unmap.hpp), and what is left
// shows one pages object. Where the memory is one run that nobody shares, what is left can stay compact:
// the parts know their frames from the whole's, and a family is all they share. In order: what can fail,
// which is memory and the domains' splits; the map of areas, with the hole in flight; then as any unmap.
//
// Layer: core. Includes: core/io_pagetable.hpp.
#pragma once

#include "iopt/core/io_pagetable.hpp"

namespace iopt {

/// Makes an area of its own of `hole` in a compact one, in flight; null where that must be done
/// otherwise, and nothing has changed. Errors: as cut(). On error nothing has changed. Requires:
/// areas_lock_, exclusively; the hole is not all of the area. (By reference, as sparse_frames::erase().)
template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
auto io_pagetable<Pinner, Domain, Traits>::punch(any_area& around, const iova_range& hole) noexcept
    -> result<any_area*> {
  if (!is_compact(around)) return nullptr;
  compact_type& a = compact(around);
  const auto begins_page = [&](iova i) {
    return (a.page_offset() + (i - a.where.first)) % page_bytes == 0;
  };
  const bool front = hole.first != a.where.first, back = hole.last != a.where.last;
  if (!a.is_present() || !a.where.contains(hole) ||
      (front && (!begins_page(hole.first) || !hole.first.is_aligned(alignment_))) ||
      (back && (!begins_page(hole.last + 1) || !(hole.last + 1).is_aligned(alignment_))))
    return nullptr;
  compact_type* part = nullptr;
  if (const result<void> ready = prepare_punch(a, hole, front && back, part); !ready)
    return fail(ready.error());
  // The part with the area's address is the first that stays; `part` is the hole, and the back is what
  // prepare_punch() has chained to it.
  const iova_range all = a.where;
  any_area* const right = std::exchange(part->chain, nullptr);
  part->narrow(hole);
  if (right != nullptr) compact(*right).narrow({hole.last + 1, all.last});
  a.narrow(front ? iova_range{all.first, hole.first - 1} : iova_range{hole.last + 1, all.last});
  [[maybe_unused]] const result<void> carved =
      areas_.carve(hole, part, right != nullptr ? right : &a);
  IOPT_ASSERT(carved.has_value());
  readers_.area_is_to_go(hole);
  return part;
}

/// Obtains all that a hole in `a` needs: `hole_area` for itself, in flight, chained to it one for the
/// back where both ends stay; both still as `a` is, and in its family. Errors: as cut(). On error
/// nothing has changed. Requires: areas_lock_, exclusively.
template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
result<void> io_pagetable<Pinner, Domain, Traits>::prepare_punch(
    compact_type& a, iova_range hole, bool both_stay, compact_type*& hole_area) noexcept {
  if (!areas_.reserve_carve(hole)) return fail(errc::not_enough_memory);
  if (a.where.first != hole.first && !readers_.area_is_cut(hole.first - 1))
    return fail(errc::not_enough_memory);
  if (a.where.last != hole.last && !readers_.area_is_cut(hole.last))
    return fail(errc::not_enough_memory);
  compact_type* part[2] = {nullptr, nullptr};
  family_type* family = a.in_family ? a.family : nullptr;
  const std::size_t parts = both_stay ? 2 : 1;
  bool enough = true;
  for (std::size_t n = 0; enough && n < parts; ++n) {
    part[n] = create_compact(a.first_byte, a.length(), a.rights);
    enough = part[n] != nullptr;
  }
  if (enough && family == nullptr) {
    family = create<family_type>(a.own, a.where, a.first_byte - a.where.first.value,
                                 a.held ? a.page_count() : 0, 0u);
    enough = family != nullptr;
  }
  const auto forgo = [&](error e) {
    for (compact_type* p : part)
      if (p != nullptr) destroy(p);
    if (family != nullptr && !a.in_family) destroy(family);
    return fail(e);
  };
  if (!enough) return forgo(errc::not_enough_memory);
  if (a.held && large_pages_) {
    if (!can_split) return forgo({errc::invalid_argument, error_place::area, a.where.first.value});
    const result<void> split = split_entries(hole, hole.first - a.where.first);
    if (!split) return forgo(split.error());
  }
  if (!a.in_family) {
    a.in_family = true;
    a.family = family;
    ++family->references;
  }
  for (std::size_t n = 0; n < parts; ++n) {
    compact_type& p = *part[n];
    p.show(a.where);
    p.frame = a.frame;
    p.filled = a.filled;
    detail::release_into(p.suspended, static_cast<bool>(a.suspended));
    p.held = a.held;
    p.lost = a.lost;
    p.in_family = true;
    p.family = family;
    ++family->references;
  }
  part[0]->chain = part[1];
  if (both_stay) detail::release_into(part[1]->state, area_state::present);
  hole_area = part[0];
  return {};
}

}  // namespace iopt
