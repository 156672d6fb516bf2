// iopt/containers/area_map_holes.hpp - the walk from one long enough hole of an area_map to the
// next.
//
// Inside a leaf the long holes are the bits of one word; from leaf to leaf the walk climbs until a
// subtree to the right has a long hole, and goes down to the first. Short holes are never visited
// one by one.
//
// Layer: containers. Includes: base/address.hpp, containers/area_map_leaf.hpp, the standard
// library.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <utility>

#include "iopt/base/address.hpp"
#include "iopt/containers/area_map_leaf.hpp"

namespace iopt::detail {

/// Where many of a node's children have holes of the wanted length, a walk will come to them all:
/// fetches those that come soon, and at the beginning all up to there. `behind` has a bit for each.
inline void fetch_leaves(const area_map_node& p, std::uint32_t behind, bool beginning) noexcept {
  constexpr int distance = 4, many = 8;
  // Whether there are so many, without a count, which is a library's function on some processors.
  std::uint32_t more = behind;
  for (int n = 1; n < (beginning ? many : distance); ++n) more &= more - 1;
  if (more == 0) return;
  for (int n = 1; n <= distance; ++n, behind &= behind - 1)
    if (beginning || n == distance)
      prefetch(p.child(static_cast<unsigned>(std::countr_zero(behind))));
}

/// The leaf behind n, which is `level` levels above the leaves, that has the next hole of that
/// length, unless all its holes begin behind `last`. The tree's last hole belongs to no leaf.
template <class Tree>
const area_map_node* next_leaf_with_hole(const area_map_node* n, unsigned level, std::uint64_t last,
                                         std::uint64_t length) noexcept {
  const auto descend = [&](const area_map_node* inner, std::uint32_t holes) noexcept {
    return inner->child(static_cast<unsigned>(std::countr_zero(holes)));
  };
  for (;; ++level) {
    const area_map_node* p = n->parent;
    if (p == nullptr) return nullptr;
    const std::uint32_t behind = (~std::uint32_t{0} << Tree::child_of(*n)) << 1;
    const std::uint32_t holes = at_least(p->plain.first, p->count, length) & behind;
    n = p;
    if (holes == 0) continue;
    if (p->plain.last[std::countr_zero(holes) - 1] >= last) return nullptr;
    const bool elsewhere = level != 0;
    std::uint32_t next = holes;
    for (n = descend(p, holes); level != 0; --level) {
      Tree::probe::visit();
      next = at_least(n->plain.first, n->count, length);
      n = descend(n, next);
    }
    Tree::probe::visit();
    fetch_leaves(*n->parent, next & (next - 1), elsewhere);
    return n;
  }
}

/// Calls f(first, last) for each hole, clipped to [first, last], of at least `length` > 0 units, in
/// order, until f answers true.
///
/// Cost       n entries: O(log n) a call of f, and O(log n) beside.
/// Tested by  tests/containers/area_map_holes_test.cpp
template <class Tree, class F>
void for_each_hole(const Tree& tree, std::uint64_t first, std::uint64_t last, std::uint64_t length,
                   F f) {
  const auto offer = [&](std::uint64_t from, std::uint64_t to) {  // whether that is enough
    const std::uint64_t a = std::max(from, first), b = std::min(to, last);
    return (a <= b && b - a >= length - 1 && f(a, b)) || to >= last;
  };
  if (tree.reaches(first)) {
    const area_map_node* n = tree.root();
    unsigned level = tree.height();
    std::uint64_t holes = 0;
    for (;; --level) {
      Tree::probe::visit();
      if (level == 0) {
        holes = long_holes(*n, length) & (~std::uint64_t{0} << place_in(*n, first));
        break;
      }
      const unsigned child = count_less(n->plain.last, first);
      const std::uint32_t from = ~std::uint32_t{0} << child;
      const std::uint32_t enough = at_least(n->plain.first, n->count, length) & from;
      if (enough == 0) break;  // the walk goes on behind this node
      const std::uint32_t behind = enough & from << 1;
      if (level <= 2) prefetch(n->child(child));
      if (level == 1 && behind != 0)  // the walk likely goes on there, and both are fetched at once
        prefetch(n->child(static_cast<unsigned>(std::countr_zero(behind))));
      n = n->child(child);
    }
    while (n != nullptr) {
      for (; holes != 0; holes &= holes - 1) {
        const auto hole = static_cast<unsigned>(std::countr_zero(holes));
        if (offer(hole_first(*n, hole), first_of(*n, hole) - 1)) return;
      }
      n = next_leaf_with_hole<Tree>(n, std::exchange(level, 0), last, length);
      if (n != nullptr) holes = long_holes(*n, length);
    }
  }
  if (tree.empty()) {
    offer(0, top);
  } else if (tree.last_address() < last) {
    offer(tree.last_address() + 1, top);
  }
}

}  // namespace iopt::detail
