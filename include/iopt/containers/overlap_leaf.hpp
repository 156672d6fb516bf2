// iopt/containers/overlap_leaf.hpp - a leaf of overlap_map: what its words mean, and its hits.
//
// A node sorts by its array `last` (area_map_node.hpp), so a leaf keeps the *first* addresses of its
// entries there, and in `first` their last ones: begin_of() and end_of() name them. The form of a leaf
// must hold the greatest of its last addresses, which any entry may have: one that reaches out of the
// window makes the leaf plain (area_map_leaf.hpp).
//
// Layer: containers. Includes: base/address.hpp, containers/area_map_leaf.hpp,
// containers/area_map_node.hpp, containers/area_map_words.hpp, containers/overlap_words.hpp, the
// standard library.
#pragma once

#include <algorithm>
#include <cstdint>

#include "iopt/base/address.hpp"
#include "iopt/containers/area_map_leaf.hpp"
#include "iopt/containers/area_map_node.hpp"
#include "iopt/containers/area_map_words.hpp"
#include "iopt/containers/overlap_words.hpp"

namespace iopt::detail {

inline std::uint64_t begin_of(const area_map_node& leaf, unsigned n) noexcept {
  return last_of(leaf, n);
}
inline std::uint64_t end_of(const area_map_node& leaf, unsigned n) noexcept {
  return first_of(leaf, n);
}

/// The greatest last address of the first `count` entries; 0 for none.
inline std::uint64_t reach_of(const area_map_node& leaf, unsigned count) noexcept {
  if (!leaf.is_packed) return greatest(leaf.plain.first, count);
  return count == 0 ? 0 : leaf.base + greatest(leaf.packed.first, count);
}

/// How many entries begin before `a`.
inline unsigned begin_before(const area_map_node& leaf, std::uint64_t a) noexcept {
  if (leaf.is_packed && a > leaf.base && a - leaf.base > leaf_form::in_window) return leaf.count;
  return place_in(leaf, a);
}
/// How many entries do not begin behind `a`.
inline unsigned not_behind(const area_map_node& leaf, std::uint64_t a) noexcept {
  return a == top ? leaf.count : begin_before(leaf, a + 1);
}

/// Asks for the values of a leaf, in either form: its keys, which say which of them are wanted, are
/// on their way too.
inline void prefetch_values(const area_map_node& leaf) noexcept {
  for (unsigned n = 0; n < area_map_node::packed_capacity; n += 8)
    prefetch_line(leaf.packed.value + n);
}

/// Whether a range lies in a packed leaf's window and ends before its last address, which is where
/// unused words begin: so they need not be told from the others.
inline bool lies_inside(const area_map_node& leaf, std::uint64_t first,
                        std::uint64_t last) noexcept {
  const std::uint64_t window = first & ~leaf_form::in_window;
  return window == leaf.base && last - window < leaf_form::in_window;
}

/// leaf_hits: what of a leaf overlaps a range: a bit for each entry, and where their values are.
struct leaf_hits {
  std::uint64_t bits;
  const std::uint64_t* value;

  static leaf_hits of(const area_map_node& leaf, std::uint64_t first, std::uint64_t last) noexcept {
    if (!leaf.is_packed)
      return {overlapping(leaf.plain.last, leaf.plain.first, leaf.count, first, last),
              leaf.plain.value};
    // Of the leaf's header a processor then waits for nothing, for it foresees the branches.
    if (has_vectors && lies_inside(leaf, first, last))
      return {overlapping(leaf.packed.last, leaf.packed.first, area_map_node::packed_capacity,
                          static_cast<std::uint32_t>(first), static_cast<std::uint32_t>(last)),
              leaf.packed.value};
    const std::uint64_t low = first < leaf.base ? 0 : first - leaf.base;
    const std::uint64_t high = std::min(last - leaf.base, leaf_form::in_window);
    const bool apart = last < leaf.base || low > leaf_form::in_window;
    return {overlapping(leaf.packed.last, leaf.packed.first, apart ? 0 : leaf.count,
                        static_cast<std::uint32_t>(low), static_cast<std::uint32_t>(high)),
            leaf.packed.value};
  }
};

}  // namespace iopt::detail
