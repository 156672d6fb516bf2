// iopt/containers/overlap_tree.hpp - the B+tree of 64-bit words below overlap_map.
//
// Ranges that may overlap, by first address, which is what nodes are sorted by (overlap_leaf.hpp).
// overlap_map is the typed face; use that.
//
// An inner node knows the greatest last address below each child. A query takes in a node, without a
// branch, one bit for each child that reaches it and does not begin behind it, and goes down only
// there.
//
// Fences need not be exact: none below a child begins before the fence on its left, or behind the
// one on its right. So erasing moves none but between two leaves that share what they have.
//
// Layer: containers. Includes: base, containers/area_map_*.hpp, containers/node_tree.hpp,
// containers/overlap_leaf.hpp, containers/overlap_words.hpp, the standard library.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

#include "iopt/base/address.hpp"
#include "iopt/base/assert.hpp"
#include "iopt/base/error.hpp"
#include "iopt/base/memory_source.hpp"
#include "iopt/containers/area_map_leaf.hpp"
#include "iopt/containers/area_map_node.hpp"
#include "iopt/containers/area_map_words.hpp"
#include "iopt/containers/node_tree.hpp"
#include "iopt/containers/overlap_leaf.hpp"
#include "iopt/containers/overlap_words.hpp"

namespace iopt::detail {

/// overlap_leaves: for a leaf the greatest of its last addresses is kept. Fences may be equal, so a
/// node is found in its parent by its address.
struct overlap_leaves {
  static std::uint64_t most(const area_map_node& leaf) noexcept {
    return reach_of(leaf, leaf.count);
  }
  static std::uint64_t meet(const area_map_node&, const area_map_node& right) noexcept {
    return begin_of(right, 0);
  }
  static unsigned child_of(const area_map_node& n) noexcept { return position(*n.parent, &n); }
};

/// overlap_tree: a multiset of closed ranges of words, each with a word.
///
/// Invariants  In the order of overlap_tree_check:
///             entries      first <= last
///             order        first addresses never fall
///             words        unused sorted words are all-ones; inner nodes are plain
///             fences       they lie between the first addresses of their two children, both
///                          included; the last child has none (all-ones)
///             reach        an inner node knows the greatest last address below each child
///             occupancy    a node has at least `least` entries; a leaf at either end of the tree
///                          at least 1, an inner node at either end or the root at least 2
///             links        parents, leaf chain, height
///             counts       size, nodes
/// Tested by   tests/containers/overlap_tree_test.cpp
template <memory_source Memory, class Probe>
class overlap_tree : public node_tree<Memory, Probe, overlap_leaves> {
  using base = node_tree<Memory, Probe, overlap_leaves>;

 public:
  using base::base;
  using base::least;
  using typename base::node;
  using typename base::place;

  result<place> insert(std::uint64_t first, std::uint64_t last, std::uint64_t value) noexcept {
    if (root_ == nullptr) {
      if (!stock(1)) return fail(errc::not_enough_memory);
      root_ = tail_ = new_node();
      begin_leaf(*root_, leaf_form::of(first, last));
      add_entry(*root_, last, first, value);
      size_ = 1;
      return place{root_, 0, 0};
    }
    const place at = behind(first, last);
    node& leaf = *at.leaf;
    if (!make_place(leaf, last, first)) {
      if (!stock(split_nodes(leaf))) {
        base::renew_most(leaf);
        return fail(errc::not_enough_memory);
      }
      return split_leaf(at, last, first, value);
    }
    insert_into(leaf, at.index, last, first, value);
    ++size_;
    return at;
  }

  /// Takes the entry out. Returns the entry behind it, or a place without a leaf.
  place erase(place at) noexcept {
    if (size_ == 1) {
      base::drop_node(std::exchange(root_, nullptr));
      size_ = 0;
      return {};
    }
    if (at.leaf->count <= least && at.leaf != root_) at = rebalance_leaf(at);
    node& leaf = *at.leaf;
    const std::uint64_t last = end_of(leaf, at.index);
    remove_from(leaf, at.index);
    --size_;
    if (leaf.parent != nullptr && leaf.parent->plain.first[at.child] == last)
      base::set_most(leaf, at.child, overlap_leaves::most(leaf));
    return at.index < leaf.count ? at : place{leaf.next, 0, 0};
  }

  /// The first entry that begins at `first` or behind it; without a leaf if there is none.
  place lower(std::uint64_t first) const noexcept {
    if (root_ == nullptr) return {};
    place at{root_, 0, 0};
    for (unsigned level = height_; level != 0; --level) {
      Probe::visit();
      at.child = count_less(at.leaf->plain.last, first);
      at.leaf = at.leaf->child(at.child);
      if (level == 1) prefetch(at.leaf);
    }
    Probe::visit();
    at.index = begin_before(*at.leaf, first);
    if (at.index < at.leaf->count) return at;
    node* next = at.leaf->next;
    if (next != nullptr) Probe::visit();
    return next == nullptr ? place{} : place{next, 0, base::child_of(*next)};
  }

  /// Calls f(leaf, index, value) for each entry that overlaps [first, last], in order, until one
  /// answers false. What the next leaf has is found before f is called with what this one has: a
  /// processor that foresaw another number of calls need not find it once more.
  template <class F>
  void for_each_overlap(std::uint64_t first, std::uint64_t last, F f) const {
    const node* leaf = nullptr;
    leaf_hits hits{};
    const auto call = [&] {
      for (std::uint64_t bits = hits.bits; bits != 0; bits &= bits - 1) {
        const auto n = static_cast<unsigned>(std::countr_zero(bits));
        if (!f(*leaf, n, hits.value[n])) return false;
      }
      return true;
    };
    visit_overlaps(first, last, [&](const node& next, leaf_hits more) {
      const bool goes_on = call();
      leaf = &next, hits = goes_on ? more : leaf_hits{};
      return goes_on;
    });
    call();
  }

  /// Copies the words of the entries that overlap [first, last], in order, to `out`, as many as
  /// there is room for. Returns how many entries there are. Without a branch on how many are in a
  /// leaf: so queries that follow one another overlap in time.
  std::size_t copy_overlaps(std::uint64_t first, std::uint64_t last, std::byte* out,
                            std::size_t room) const noexcept {
    std::size_t found = 0;
    visit_overlaps(first, last, [&](const node&, leaf_hits hits) {
      if (found + node::packed_capacity <= room) {
        found += pick_words(hits.value, hits.bits, out + found * word);
        return true;
      }
      std::byte picked[node::packed_capacity * word];
      const unsigned more = pick_words(hits.value, hits.bits, picked);
      if (found < room)
        std::memcpy(out + found * word, picked, std::min<std::size_t>(room - found, more) * word);
      found += more;
      return true;
    });
    return found;
  }

  /// Calls f(first, last, used) for each maximal span of covered and of uncovered words in
  /// [first, last], in order, until one answers false.
  template <class F>
  void for_each_span(std::uint64_t first, std::uint64_t last, F f) const {
    const node* leaf = root_;
    leaves_ahead ahead;
    unsigned index = 0;
    std::uint64_t reach = 0;  // the greatest last address of what begins at `first` or before
    bool used = false;
    if (leaf != nullptr) {
      const auto pass = [&](unsigned entries, std::uint64_t most) noexcept {
        if (entries != 0) reach = std::max(reach, most), used = true;
      };
      for (unsigned level = height_; level != 0; --level) {
        Probe::visit();
        const unsigned c = children_not_behind(*leaf, first);
        pass(c, greatest(leaf->plain.first, c));
        leaf = leaf->child(c);
        prefetch(leaf);
      }
      Probe::visit();
      index = not_behind(*leaf, first);
      pass(index, reach_of(*leaf, index));
      used = used && reach >= first;
    }
    for (;; used = !used) {  // `first` is where the span begins
      if (used) {
        while (leaf != nullptr && reach < last) {
          with_form(*leaf, [&](auto range_at, auto) noexcept {
            unsigned n = index;
            std::uint64_t most = reach;
            for (; n < leaf->count && range_at(n).second <= most + 1; ++n)
              most = std::max(most, range_at(n).first);
            index = n, reach = most;
          });
          if (index < leaf->count) break;
          leaf = ahead.onward(leaf), index = 0;
        }
        if (reach >= last) return static_cast<void>(f(first, last, true));
        if (!f(first, reach, true)) return;
        first = reach + 1;
      } else {
        if (leaf != nullptr && index == leaf->count) leaf = ahead.onward(leaf), index = 0;
        if (leaf == nullptr || begin_of(*leaf, index) > last)
          return static_cast<void>(f(first, last, false));
        if (!f(first, begin_of(*leaf, index) - 1, false)) return;
        first = begin_of(*leaf, index), reach = end_of(*leaf, index++);
      }
    }
  }

 private:
  using base::height_;
  using base::root_;
  using base::size_;
  using base::tail_;

  using base::new_node;
  using base::rebalance_leaf;
  using base::split_leaf;
  using base::split_nodes;
  using base::stock;

  static constexpr std::size_t word = sizeof(std::uint64_t);
  static constexpr unsigned highest = 24;  // more levels than 2^64 entries need

  /// The last child that may have an entry which does not begin behind `a`.
  static unsigned children_not_behind(const node& n, std::uint64_t a) noexcept {
    return a == top ? n.count - 1 : count_less(n.plain.last, a + 1);
  }
  /// The first of some children, which a compiler does not know to be any.
  static const node* first_child(const node& n, std::uint32_t children) noexcept {
    return n.child(static_cast<unsigned>(std::countr_zero(children)) % node::capacity);
  }
  /// Calls f(leaf, hits) for the leaves that may have entries which overlap [first, last], in order,
  /// until it answers false.
  template <class F>
  void visit_overlaps(std::uint64_t first, std::uint64_t last, F f) const {
    if (root_ == nullptr) return;
    struct siblings {
      const node* inner;
      std::uint32_t children;  // those still to be visited, one at least
      unsigned level;
    };
    siblings later[highest];
    unsigned pending = 0;
    const node* n = root_;
    for (unsigned level = height_;;) {
      Probe::visit();
      if (level == 0) {
        const leaf_hits hits = leaf_hits::of(*n, first, last);
        prefetch_values(*n);
        if (!f(*n, hits)) return;
      } else {
        const std::uint32_t children =
            overlapping_children(n->plain.last, n->plain.first, n->count, first, last);
        if (children != 0) {
          const std::uint32_t rest = children & (children - 1);
          if (rest != 0) later[pending++] = {n, rest, level};
          n = first_child(*n, children);
          --level;
          continue;
        }
      }
      if (pending == 0) return;
      siblings& next = later[pending - 1];
      n = first_child(*next.inner, next.children);
      level = next.level - 1;
      next.children &= next.children - 1;
      if (next.children == 0) --pending;
    }
  }

  /// Where an entry goes: behind the last one that begins at `first`. Tells the nodes on the way
  /// that it reaches `last`. Requires: not empty.
  place behind(std::uint64_t first, std::uint64_t last) noexcept {
    node* n = root_;
    unsigned child = 0;
    for (unsigned level = height_; level != 0; --level) {
      Probe::visit();
      child = children_not_behind(*n, first);
      std::uint64_t& reach = n->plain.first[child];
      n = n->child(child);
      if (level == 1) prefetch(n);
      if (reach < last) reach = last;
    }
    Probe::visit();
    return {n, not_behind(*n, first), child};
  }
};

}  // namespace iopt::detail
