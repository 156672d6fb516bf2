// iopt/containers/overlap_tree.hpp - the B+tree of 64-bit words below overlap_map.
//
// Ranges that may overlap, by first address. overlap_map is the typed face; use that.
//
// A node sorts by its array `last` (area_map_node.hpp), so a leaf keeps the *first* addresses of its
// entries there, and in `first` their last ones: begin() and end() name them. An inner node knows
// the greatest last address below each child. A query takes in a node, without a branch, one bit for
// each child that reaches it and does not begin behind it, and goes down only there.
//
// Fences need not be exact: none below a child begins before the fence on its left, or behind the
// one on its right. Erasing moves no fence.
//
// Layer: containers. Includes: base, containers/area_map_node.hpp, containers/node_tree.hpp, the
// standard library.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <utility>

#include "iopt/base/address.hpp"
#include "iopt/base/assert.hpp"
#include "iopt/base/error.hpp"
#include "iopt/base/memory_source.hpp"
#include "iopt/containers/area_map_node.hpp"
#include "iopt/containers/node_tree.hpp"

namespace iopt::detail {

/// overlap_leaves: for a leaf the greatest of its last addresses is kept. Fences may be equal, so a
/// node is found in its parent by its address.
struct overlap_leaves {
  static std::uint64_t most(const area_map_node& leaf) noexcept {
    return greatest(leaf.plain.first, leaf.count);
  }
  static unsigned child_of(const area_map_node& n) noexcept { return position(*n.parent, &n); }
};

/// overlap_tree: a multiset of closed ranges of words, each with a word.
///
/// Invariants  In the order of verify():
///             entries      first <= last
///             order        first addresses never fall
///             words        unused sorted words are all-ones
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
  using base::joint;
  using base::least;
  using typename base::node;
  using typename base::place;

  static std::uint64_t begin(const node& leaf, unsigned n) noexcept { return leaf.plain.last[n]; }
  static std::uint64_t end(const node& leaf, unsigned n) noexcept { return leaf.plain.first[n]; }

  result<place> insert(std::uint64_t first, std::uint64_t last, std::uint64_t value) noexcept {
    if (root_ == nullptr) {
      if (!stock(1)) return fail(errc::not_enough_memory);
      root_ = tail_ = new_node();
      insert_entry(*root_, 0, last, first, value);
      size_ = 1;
      return place{root_, 0, 0};
    }
    const place at = behind(first, last);
    node& leaf = *at.leaf;
    if (leaf.full()) {
      if (!stock(split_nodes(leaf))) {
        base::renew_most(leaf);
        return fail(errc::not_enough_memory);
      }
      return split_leaf(at, first, last, value);
    }
    insert_entry(leaf, at.index, last, first, value);
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
    const std::uint64_t last = end(leaf, at.index);
    remove_entry(leaf, at.index);
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
    at.index = count_less(at.leaf->plain.last, first);
    if (at.index < at.leaf->count) return at;
    node* next = at.leaf->next;
    if (next != nullptr) Probe::visit();
    return next == nullptr ? place{} : place{next, 0, base::child_of(*next)};
  }

  /// Calls f(leaf, index) for each entry that overlaps [first, last], in order, until one answers
  /// false.
  template <class F>
  void for_each_overlap(std::uint64_t first, std::uint64_t last, F f) const {
    visit_overlaps(
        first, last, [&](const node& a, std::uint64_t in_a, const node& b, std::uint64_t in_b) {
          for (std::uint64_t hits = in_a | in_b << node::capacity; hits != 0; hits &= hits - 1) {
            const auto n = static_cast<unsigned>(std::countr_zero(hits));
            if (!f(n < node::capacity ? a : b, n % node::capacity)) return false;
          }
          return true;
        });
  }

  /// Copies the words of the entries that overlap [first, last], in order, to `out`, as many as
  /// there is room for. Returns how many entries there are. Without a branch on how many are in a
  /// leaf: so queries that follow one another overlap in time.
  std::size_t copy_overlaps(std::uint64_t first, std::uint64_t last, std::byte* out,
                            std::size_t room) const noexcept {
    std::size_t found = 0;
    visit_overlaps(
        first, last, [&](const node& a, std::uint32_t in_a, const node& b, std::uint32_t in_b) {
          constexpr std::size_t word = sizeof(std::uint64_t);
          if (found + 2 * node::capacity <= room) {
            found += pick_words(a.plain.value, in_a, out + found * word);
            found += pick_words(b.plain.value, in_b, out + found * word);
            return true;
          }
          std::byte picked[2 * node::capacity * word];
          const unsigned from_a = pick_words(a.plain.value, in_a, picked);
          const unsigned both = from_a + pick_words(b.plain.value, in_b, picked + from_a * word);
          if (found < room)
            std::memcpy(out + found * word, picked,
                        std::min<std::size_t>(room - found, both) * word);
          found += both;
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
      const auto pass = [&](unsigned entries) noexcept {
        if (entries != 0)
          reach = std::max(reach, greatest(leaf->plain.first, entries)), used = true;
      };
      for (unsigned level = height_; level != 0; --level) {
        Probe::visit();
        const unsigned c = not_behind(*leaf, leaf->count - 1, first);
        pass(c);
        leaf = leaf->child(c);
        prefetch(leaf);
      }
      Probe::visit();
      index = not_behind(*leaf, leaf->count, first);
      pass(index);
      used = used && reach >= first;
    }
    for (;; used = !used) {  // `first` is where the span begins
      if (used) {
        while (leaf != nullptr && reach < last) {
          for (; index < leaf->count && begin(*leaf, index) <= reach + 1; ++index)
            reach = std::max(reach, end(*leaf, index));
          if (index < leaf->count) break;
          leaf = ahead.onward(leaf), index = 0;
        }
        if (reach >= last) return static_cast<void>(f(first, last, true));
        if (!f(first, reach, true)) return;
        first = reach + 1;
      } else {
        if (leaf != nullptr && index == leaf->count) leaf = ahead.onward(leaf), index = 0;
        if (leaf == nullptr || begin(*leaf, index) > last)
          return static_cast<void>(f(first, last, false));
        if (!f(first, begin(*leaf, index) - 1, false)) return;
        first = begin(*leaf, index), reach = end(*leaf, index++);
      }
    }
  }

  /// Empty, or the name of the first invariant that does not hold.
  std::string_view verify() const noexcept {
    if (root_ == nullptr) {
      const bool nothing = size_ == 0 && base::node_bytes() == 0 && height_ == 0;
      return nothing ? "" : "counts";
    }
    soundness seen;
    seen.below(*this, *root_, height_, true, true, 0, top);
    seen.require(root_->parent == nullptr && seen.leaf->next == nullptr && tail_ == seen.leaf,
                 "links");
    const std::size_t bytes = seen.nodes * sizeof(node);
    seen.require(seen.entries == size_ && bytes == base::node_bytes(), "counts");
    return seen.wrong;
  }

 private:
  using base::height_;
  using base::root_;
  using base::size_;
  using base::tail_;

  using base::new_node;
  using base::split_nodes;
  using base::stock;

  static constexpr unsigned highest = 24;  // more levels than 2^64 entries need

  /// How many of the first `count` sorted words of a node are not behind `a`.
  static unsigned not_behind(const node& n, unsigned count, std::uint64_t a) noexcept {
    return a == top ? count : count_less(n.plain.last, a + 1);
  }
  /// One bit for each entry of a leaf that overlaps [first, last].
  static std::uint32_t hits(const node& leaf, std::uint64_t first, std::uint64_t last) noexcept {
    return at_least(leaf.plain.first, node::capacity, first) &
           used_bits(not_behind(leaf, leaf.count, last));
  }
  /// Calls f(a, bits of a, b, bits of b) for the leaves that may have entries which overlap [first,
  /// last], two at a time, in order, until it answers false. The bits are those of the entries.
  template <class F>
  void visit_overlaps(std::uint64_t first, std::uint64_t last, F f) const {
    if (root_ == nullptr) return;
    struct level_of_inner {
      const node* inner;
      std::uint32_t children;  // those still to be visited
    };
    level_of_inner above[highest];  // [n]: the parent of what is visited n levels above the leaves
    const node* n = root_;
    for (unsigned level = height_;;) {
      Probe::visit();
      if (level == 0) {
        f(*n, hits(*n, first, last), *n, std::uint32_t{0});
        return;
      }
      // Words that are not in use are behind every `last` but the top, for which they are counted.
      std::uint32_t children = at_least(n->plain.first, node::capacity, first) &
                               (used_bits(not_behind(*n, n->count - 1, last)) << 1 | 1);
      if (level == 1) {
        // Two leaves at a time, without a branch on whether there is a second.
        while (children != 0) {
          const auto left = static_cast<unsigned>(std::countr_zero(children));
          children &= children - 1;
          const unsigned right =
              children == 0 ? left : static_cast<unsigned>(std::countr_zero(children));
          const std::uint32_t both = children == 0 ? 0 : ~std::uint32_t{0};
          children &= children - 1;
          const node &a = *n->child(left), &b = *n->child(right);
          prefetch_words(a.plain.value), prefetch_words(b.plain.value);
          Probe::visit(), Probe::visit();
          if (!f(a, hits(a, first, last), b, hits(b, first, last) & both)) return;
        }
      } else {
        above[--level] = {n, children};
      }
      while (level < height_ && above[level].children == 0) ++level;
      if (level == height_) return;
      std::uint32_t& rest = above[level].children;
      n = above[level].inner->child(static_cast<unsigned>(std::countr_zero(rest)));
      rest &= rest - 1;
    }
  }

  /// Where an entry goes: behind the last one that begins at `first`. Tells the nodes on the way
  /// that it reaches `last`. Requires: not empty.
  place behind(std::uint64_t first, std::uint64_t last) noexcept {
    node* n = root_;
    unsigned child = 0;
    for (unsigned level = height_; level != 0; --level) {
      Probe::visit();
      child = not_behind(*n, n->count - 1, first);
      std::uint64_t& reach = n->plain.first[child];
      n = n->child(child);
      if (level == 1) prefetch(n);
      if (reach < last) reach = last;
    }
    Probe::visit();
    return {n, not_behind(*n, n->count, first), child};
  }

  /// Puts an entry into a full leaf. Requires: the pool holds split_nodes().
  place split_leaf(place at, std::uint64_t first, std::uint64_t last,
                   std::uint64_t value) noexcept {
    node& left = *at.leaf;
    node& right = *new_node();
    const bool append = at.index == node::capacity && left.next == nullptr;
    const bool prepend = at.index == 0 && left.previous == nullptr;
    const unsigned keep = append ? node::capacity : prepend ? 0 : node::capacity / 2;
    share_entries(left, right, keep);
    base::chain(left, right);
    const bool goes_left = at.index <= keep && !append;
    const place put = goes_left ? place{&left, at.index, 0} : place{&right, at.index - keep, 0};
    insert_entry(*put.leaf, put.index, last, first, value);
    ++size_;
    base::link(left, at.child, right, begin(right, 0), append, prepend);
    return put;
  }

  /// Joins a small leaf with a neighbour, or shares the neighbour's entries with it.
  place rebalance_leaf(place at) noexcept {
    node& p = *at.leaf->parent;
    const unsigned l = at.child + 1 < p.count ? at.child : at.child - 1;
    node &left = *p.child(l), &right = *p.child(l + 1);
    Probe::visit(), Probe::visit();
    const unsigned total = left.count + right.count;
    const unsigned flat = at.leaf == &left ? at.index : left.count + at.index;
    if (total <= joint) {
      share_entries(left, right, total);
      base::join_leaves(p, l);
      return {&left, flat, base::child_of(left)};
    }
    share_entries(left, right, total / 2);
    p.plain.last[l] = begin(right, 0);
    p.plain.first[l] = overlap_leaves::most(left),
    p.plain.first[l + 1] = overlap_leaves::most(right);
    return flat < left.count ? place{&left, flat, l} : place{&right, flat - left.count, l + 1};
  }

  /// soundness: what a walk over all nodes, for verify(), has seen.
  struct soundness {
    std::string_view wrong;
    const node* leaf = nullptr;  // the last one
    std::size_t entries = 0;
    std::size_t nodes = 0;

    bool require(bool holds, std::string_view name) noexcept {
      if (!holds && wrong.empty()) wrong = name;
      return wrong.empty();
    }
    /// Checks a subtree between two fences; answers how far it reaches.
    std::uint64_t below(const overlap_tree& tree, const node& n, unsigned level, bool leftmost,
                        bool rightmost, std::uint64_t low, std::uint64_t high) noexcept {
      ++nodes;
      const unsigned few = level == 0 ? 1 : 2;  // in the root and at either end
      const bool outer = &n == tree.root_ || leftmost || rightmost;
      const unsigned fewest = outer ? few : least;
      if (!require(n.count >= fewest && n.count <= node::capacity, "occupancy")) return 0;
      for (unsigned w = level == 0 ? n.count : n.count - 1; w < node::capacity; ++w)
        if (!require(n.plain.last[w] == top, "words")) return 0;
      std::uint64_t reach = 0;
      if (level == 0) {
        require(n.previous == leaf && (leaf == nullptr || leaf->next == &n), "links");
        leaf = &n;
        for (unsigned e = 0; e < n.count; ++e, ++entries) {
          require(begin(n, e) <= end(n, e), "entries");
          require(e == 0 || begin(n, e - 1) <= begin(n, e), "order");
          reach = std::max(reach, end(n, e));
        }
        require(low <= begin(n, 0) && begin(n, n.count - 1) <= high, "fences");
        return reach;
      }
      for (unsigned c = 0; c < n.count && wrong.empty(); ++c) {
        if (!require(n.child(c)->parent == &n, "links")) return 0;
        const bool final = c + 1 == n.count;
        const std::uint64_t known =
            below(tree, *n.child(c), level - 1, leftmost && c == 0, rightmost && final,
                  c == 0 ? low : n.plain.last[c - 1], final ? high : n.plain.last[c]);
        require(known == n.plain.first[c], "reach");
        reach = std::max(reach, known);
      }
      return reach;
    }
  };
};

}  // namespace iopt::detail
