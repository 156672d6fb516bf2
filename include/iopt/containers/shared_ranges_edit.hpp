// iopt/containers/shared_ranges_edit.hpp - shared_ranges: new nodes for old ones.
//
// New nodes are made from the leaf upwards, as far as anything above must change, while no reader
// sees them; one store of a pointer then puts all of them in the place of the old.
//
// Tested by tests/containers/shared_ranges_test.cpp.
//
// Layer: containers. Includes: containers/shared_ranges.hpp.
#pragma once

#include "iopt/containers/shared_ranges.hpp"

namespace iopt {

/// Puts one leaf or two with these entries in the place of the path's leaf, or where none is.
/// `reach` is the last number of the fresh entry, which may lie past what belonged to the leaf.
template <memory_source Memory, class Probe>
bool shared_ranges<Memory, Probe>::replace_leaf(const path& p, const detail::shared_entries& all,
                                                unsigned fresh, std::uint64_t reach) noexcept {
  const unsigned half = all.half(fresh);
  const unsigned count = half == all.count ? 1 : 2;
  detail::shared_part parts[2] = {};
  leaf* made[2] = {};
  for (unsigned n = 0; n < count; ++n) {
    made[n] = blocks_.template create<leaf>();
    if (made[n] == nullptr) {
      if (n != 0) blocks_.free(made[0]);
      return false;
    }
    all.fill(*made[n], n == 0 ? 0 : half, n == 0 ? half : all.count);
    parts[n] = {made[n], all.list[half - 1].last};
  }
  if (!lift(p, parts, count, reach, nobody)) {
    for (unsigned n = 0; n < count; ++n) blocks_.free(made[n]);
    return false;
  }
  if (p.bottom != nullptr) blocks_.retire(p.bottom);
  return true;
}

/// Puts one part or two in the place of the path's leaf, and of the child `joined` beside it, if
/// that is not `nobody`. Every child between the path's and the one that `reach` leads to is null,
/// for the part reaches over all that belonged to it. False: no memory, nothing changed.
template <memory_source Memory, class Probe>
bool shared_ranges<Memory, Probe>::lift(const path& p, detail::shared_part (&parts)[2],
                                        unsigned count, std::uint64_t reach,
                                        unsigned joined) noexcept {
  inner* fresh[2 * levels + 2];
  unsigned fresh_count = 0;
  const auto make = [&]() noexcept -> inner* {
    inner* const n = blocks_.template create<inner>();
    if (n != nullptr) fresh[fresh_count++] = n;
    return n;
  };
  const auto undo = [&]() noexcept {
    while (fresh_count != 0) blocks_.free(fresh[--fresh_count]);
    return false;
  };

  unsigned level = 1;
  for (; level <= p.height; ++level) {
    const step& s = p.steps[level];
    const unsigned skipped = level == 1 ? joined : nobody;
    detail::shared_children all;
    bool at_end = true;
    if (s.node == nullptr) {
      for (unsigned n = 0; n < count; ++n)
        all.add({parts[n].node, n + 1 < count ? parts[n].last : top});
    } else {
      inner& old = *s.node;
      if (count == 1 && reach <= s.bound && skipped == nobody) {
        if (old.child[s.at].load(std::memory_order_relaxed) == nullptr) ++old.children;
        old.child[s.at].store(parts[0].node, std::memory_order_release);
        break;
      }
      const auto keep = [&](unsigned n) noexcept {
        if (n != skipped) all.add({old.child[n].load(std::memory_order_relaxed), old.last[n]});
      };
      for (unsigned n = 0; n < s.at; ++n) keep(n);
      std::uint64_t until = std::max(old.last[s.at], reach);
      if (skipped != nobody) until = std::max(until, old.last[skipped]);
      for (unsigned n = 0; n < count; ++n)
        all.add({parts[n].node, n + 1 < count ? parts[n].last : until});
      const unsigned before = all.count;
      for (unsigned n = s.at + 1; n < old.count; ++n) keep(n);
      at_end = all.count == before;
    }
    if (level == p.height && all.count == 1) {  // a root with one child is none
      parts[0] = all.list[0];
      count = 1;
      root_.store(root_of(parts[0].node, level - 1), std::memory_order_release);
      break;
    }
    const unsigned half = all.half(at_end);
    count = half == all.count ? 1 : 2;
    for (unsigned n = 0; n < count; ++n) {
      inner* const made = make();
      if (made == nullptr) return undo();
      all.fill(*made, n == 0 ? 0 : half, n == 0 ? half : all.count);
      parts[n] = {made, all.list[half - 1].last};
    }
  }
  // How far up new nodes were made: the nodes below that level are out of sight.
  unsigned replaced = level;
  if (level > p.height) {
    IOPT_ASSERT(count == 1 || level <= levels);
    void* node = parts[0].node;
    if (count == 2) {
      inner* const made = make();
      if (made == nullptr) return undo();
      detail::shared_children two;
      two.add(parts[0]);
      two.add({parts[1].node, top});
      two.fill(*made, 0, 2);
      node = made;
    }
    root_.store(root_of(node, count == 2 ? level : level - 1), std::memory_order_release);
  } else if (level == p.height &&
             node_of(root_.load(std::memory_order_relaxed)) != p.steps[level].node) {
    ++replaced;  // the root's only child took its place
  }
  for (unsigned n = 1; n < replaced; ++n)
    if (n <= p.height && p.steps[n].node != nullptr) blocks_.retire(p.steps[n].node);
  return true;
}

/// Takes the path's leaf, in which nothing is used, out, and all above it that has no other child.
template <memory_source Memory, class Probe>
void shared_ranges<Memory, Probe>::unlink(const path& p) noexcept {
  unsigned level = 1;
  for (; level <= p.height; ++level) {
    inner& n = *p.steps[level].node;
    if (n.children != 1) {
      n.child[p.steps[level].at].store(nullptr, std::memory_order_release);
      --n.children;
      break;
    }
  }
  if (level > p.height) root_.store(0, std::memory_order_release);
  while (--level != 0) blocks_.retire(p.steps[level].node);
  blocks_.retire(p.bottom);
}

/// Makes one leaf of the path's and a neighbour's, if both have little and there is memory.
template <memory_source Memory, class Probe>
void shared_ranges<Memory, Probe>::join(const path& p) noexcept {
  if (p.height == 0) return;
  const step& s = p.steps[1];
  const auto neighbour = [&](unsigned n) noexcept {
    return static_cast<leaf*>(s.node->child[n].load(std::memory_order_relaxed));
  };
  const auto fits = [&](unsigned n) noexcept {
    const leaf* const other = neighbour(n);
    return std::popcount(p.bottom->used) + std::popcount(other->used) <= few_of_two;
  };
  unsigned right = s.at + 1, left = s.at;
  while (right < s.node->count && neighbour(right) == nullptr) ++right;
  while (left != 0 && neighbour(left - 1) == nullptr) --left;
  unsigned with = nobody;
  if (right < s.node->count && fits(right))
    with = right;
  else if (left != 0 && fits(left - 1))
    with = left - 1;
  if (with == nobody) return;

  leaf* const other = neighbour(with);
  leaf* const made = blocks_.template create<leaf>();
  if (made == nullptr) return;
  detail::shared_entries all;
  all.add_used(with < s.at ? *other : *p.bottom);
  all.add_used(with < s.at ? *p.bottom : *other);
  all.fill(*made, 0, all.count);
  detail::shared_part parts[2] = {{made, 0}, {}};
  if (!lift(p, parts, 1, 0, with)) return blocks_.free(made);
  blocks_.retire(p.bottom);
  blocks_.retire(other);
}

}  // namespace iopt
