// iopt/containers/node_tree.hpp - how the nodes of a B+tree hang together, grow and shrink.
//
// What area_tree and overlap_tree have in common: levels of nodes with parents, a chain of leaves,
// a pool of free nodes, and one word for each child that is the greatest of something below it:
// the longest hole, or the last address of all. `Leaves` says what, for a leaf.
//
// A node's words are sorted by the array `last`, which inner nodes use for the words between their
// children (fences), all-ones for the last child; `first` keeps each child's greatest.
//
// Layer: containers. Includes: base, containers/area_map_leaf.hpp, containers/area_map_node.hpp,
// containers/area_map_pool.hpp, the standard library.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "iopt/base/address.hpp"
#include "iopt/base/memory_source.hpp"
#include "iopt/containers/area_map_leaf.hpp"
#include "iopt/containers/area_map_node.hpp"
#include "iopt/containers/area_map_pool.hpp"

namespace iopt {

/// no_probe: counts nothing. A probe's visit() is called once for each node that is looked at.
struct no_probe {
  static constexpr void visit() noexcept {}
};

namespace detail {

/// The number of a child, found by its address.
inline unsigned position(const area_map_node& p, const area_map_node* child) noexcept {
  if (p.child(p.count - 1) == child) return p.count - 1;  // where what ascends is appended
  unsigned c = 0;
  while (p.child(c) != child) ++c;
  return c;
}

/// leaves_ahead: fetches the leaves that a walk along the chain comes to, through their parent,
/// which knows them without a look at the leaves between. It begins with the second step, so that
/// who takes one only pays nothing.
class leaves_ahead {
 public:
  /// The leaf behind `leaf`, or none. Requires: each call is given what the one before returned.
  template <class Node>
  Node* onward(Node* leaf) noexcept {
    Node* const next = leaf->next;
    if (next == nullptr || next->parent == nullptr) return next;
    if (child_ == unknown) {
      if (next->next != nullptr) prefetch(next->next);
      child_ = begun;
      return next;
    }
    const area_map_node& p = *next->parent;
    if (child_ == begun) {
      child_ = position(p, next);
      fetch(p, child_ + 1, child_ + distance);
      if (child_ + distance > p.count) fetch_cousins(p);
    } else {
      child_ = &p == leaf->parent ? child_ + 1 : 0;
    }
    const unsigned soon = child_ + distance;
    if (soon < p.count) {
      prefetch(p.child(soon));
    } else if (soon == p.count) {
      fetch_cousins(p);
    }
    return next;
  }

 private:
  static constexpr unsigned distance = 5;
  static constexpr unsigned unknown = ~0u, begun = ~0u - 1;

  static void fetch(const area_map_node& p, unsigned from, unsigned to) noexcept {
    for (unsigned n = from; n <= to && n < p.count; ++n) prefetch(p.child(n));
  }
  /// The first children of the node behind p, if that has the same parent.
  static void fetch_cousins(const area_map_node& p) noexcept {
    if (p.parent == nullptr) return;
    const unsigned n = position(*p.parent, &p) + 1;
    if (n < p.parent->count) fetch(*p.parent->child(n), 0, distance - 1);
  }

  unsigned child_ = unknown;  // the number in its parent of the leaf that was returned
};

/// leaf_walk: an entry of a leaf, or none, and how to come to the next. Cursors are made of it.
class leaf_walk {
 public:
  leaf_walk() noexcept = default;
  leaf_walk(area_map_node* leaf, unsigned index) noexcept : leaf_(leaf), index_(index) {}

  friend bool operator==(leaf_walk a, leaf_walk b) noexcept {
    return a.leaf_ == b.leaf_ && a.index_ == b.index_;
  }

 protected:
  void forward() noexcept {
    if (++index_ != leaf_->count) return;
    leaf_ = ahead_.onward(leaf_);
    index_ = 0;
  }
  void back() noexcept {
    if (index_ == 0) {
      area_map_node* const before = leaf_->previous;
      *this = leaf_walk(before, before == nullptr ? 1 : before->count);
      if (before != nullptr && before->previous != nullptr)
        if (const area_map_node* third = before->previous->previous) prefetch(third);
    }
    --index_;
  }

  area_map_node* leaf_ = nullptr;
  std::uint32_t index_ = 0;
  leaves_ahead ahead_;
};
static_assert(sizeof(leaf_walk) == 16);

/// node_tree: the part of a B+tree that does not depend on what is in its leaves.
///
/// Leaves      Leaves::most(leaf) is what is kept for a leaf; Leaves::child_of(n) the number of a
///             node that has a parent, and at least one word, in it; Leaves::meet(left, right) the
///             fence between two leaves, each of which then knows what it must of the other.
/// Invariants  Those of the tree made of it, whose verify() checks them.
/// Ownership   The tree owns its nodes, and keeps free ones in a pool.
/// Errors      stock() and reserve() answer false without memory, and have then changed nothing.
///             The rest takes nodes that the pool holds, and does not fail.
/// Cost        n entries: set_most, link, shrink O(log n), and O(1) nodes for each level but for
///             the children of nodes that are split or joined.
/// Tested by   tests/containers/node_tree_test.cpp
template <memory_source Memory, class Probe, class Leaves>
class node_tree {
 public:
  using node = area_map_node;
  using probe = Probe;
  static constexpr unsigned least = 8;   // fewer entries are merged with a neighbour's
  static constexpr unsigned joint = 24;  // two neighbours of at most so many become one

  /// An entry, or where one would go; `child` is the leaf's number in its parent.
  struct place {
    node* leaf = nullptr;
    unsigned index = 0;
    unsigned child = 0;
  };

  explicit node_tree(Memory memory) noexcept : pool_(std::move(memory)) {}
  node_tree(node_tree&& other) noexcept : pool_(other.pool_.memory()) { swap(other); }
  node_tree& operator=(node_tree&& other) noexcept {
    node_tree taken(std::move(other));
    swap(taken);
    return *this;
  }
  ~node_tree() { clear(); }

  bool empty() const noexcept { return root_ == nullptr; }
  std::size_t size() const noexcept { return size_; }
  std::size_t node_bytes() const noexcept { return nodes_ * sizeof(node); }
  std::size_t pool_size() const noexcept { return pool_.size(); }
  const node* root() const noexcept { return root_; }
  unsigned height() const noexcept { return height_; }
  const node* last_leaf() const noexcept { return tail_; }

  place first() const noexcept {
    if (root_ == nullptr) return {};
    node* n = root_;
    for (unsigned level = height_; level != 0; --level) Probe::visit(), n = n->child(0);
    return {n, 0, 0};
  }
  place final() const noexcept {
    if (root_ == nullptr) return {};
    const place at = end();
    return {at.leaf, at.index - 1, at.child};
  }

  /// The number of a node in its parent. Requires: at least one word in use.
  static unsigned child_of(const node& n) noexcept {
    return n.parent == nullptr ? 0 : Leaves::child_of(n);
  }

  /// After true, that many insertions and splits find the nodes they need.
  bool reserve(std::size_t inserts) noexcept {
    const std::size_t wanted = area_map_nodes_for(inserts, size_, height_, least);
    pool_.keep(wanted);
    return stock(wanted);
  }
  void trim() noexcept { pool_.trim(); }
  void clear() noexcept {
    if (root_ != nullptr) free_below(root_, height_);
    root_ = nullptr, height_ = 0, size_ = 0, nodes_ = 0;
  }

 protected:
  /// Behind the last entry. Requires: not empty.
  place end() const noexcept {
    Probe::visit();
    return {tail_, tail_->count, tail_->parent == nullptr ? 0 : tail_->parent->count - 1};
  }

  // ---- nodes ----
  bool stock(std::size_t wanted) noexcept { return pool_.stock(wanted); }
  node* new_node() noexcept { return ++nodes_, pool_.take(); }
  void drop_node(node* n) noexcept { --nodes_, pool_.give(n); }
  /// How many nodes an insertion into a full leaf takes.
  static std::size_t split_nodes(const node& leaf) noexcept {
    std::size_t nodes = 1;
    const node* n = leaf.parent;
    for (; n != nullptr && n->full(); n = n->parent) Probe::visit(), ++nodes;
    return n == nullptr ? nodes + 1 : nodes;
  }

  /// What is kept for a node, which is that child of its parent, is `most` now.
  void set_most(node& n, unsigned child, std::uint64_t most) noexcept {
    for (node* p = n.parent; p != nullptr; p = p->parent) {
      Probe::visit();
      const std::uint64_t before = std::exchange(p->plain.first[child], most);
      if (before == most || p->parent == nullptr) return;
      child = child_of(*p);
      const std::uint64_t known = p->parent->plain.first[child];
      if (most < known) {
        if (before < known) return;  // another child has the most
        most = greatest(p->plain.first, p->count);
      }
    }
  }

  /// Computes anew what is kept for a leaf and for all above it.
  void renew_most(const node& leaf) noexcept {
    std::uint64_t most = Leaves::most(leaf);
    for (const node* n = &leaf; n->parent != nullptr; n = n->parent) {
      Probe::visit();
      n->parent->plain.first[child_of(*n)] = most;
      most = greatest(n->parent->plain.first, n->parent->count);
    }
  }

  // ---- growth ----
  /// Puts a new leaf into the chain.
  void chain(node& left, node& right) noexcept {
    right.next = std::exchange(left.next, &right);
    right.previous = &left;
    (right.next != nullptr ? right.next->previous : tail_) = &right;
  }
  /// Makes `right` the child behind `left`, which is child number `child` of its parent, with the
  /// fence between them. Requires: the pool holds split_nodes(), less the leaf taken.
  void link(node& left_leaf, unsigned child, node& right_leaf, std::uint64_t fence, bool append,
            bool prepend) noexcept {
    node* left = &left_leaf;
    node* right = &right_leaf;
    std::uint64_t left_most = Leaves::most(*left), right_most = Leaves::most(*right);
    for (;;) {
      Probe::visit();
      node* p = left->parent;
      if (p == nullptr) {
        p = new_node();
        insert_entry(*p, 0, left_most, top, node::word(left));
        insert_child(*p, 0, fence, left_most, right_most, right);
        left->parent = right->parent = p;
        root_ = p, ++height_;
        return;
      }
      if (!p->full()) {
        insert_child(*p, child, fence, left_most, right_most, right);
        right->parent = p;
        if (p->parent != nullptr) set_most(*p, child_of(*p), greatest(p->plain.first, p->count));
        return;
      }
      node& q = *new_node();
      const unsigned keep = append && child + 1 == node::capacity ? node::capacity - 1
                            : prepend && child == 0               ? 1
                                                                  : node::capacity / 2;
      share_entries(*p, q, keep);
      const std::uint64_t between = std::exchange(p->plain.last[keep - 1], top);
      if (child < keep) {
        insert_child(*p, child, fence, left_most, right_most, right);
        right->parent = p;
      } else {
        insert_child(q, child - keep, fence, left_most, right_most, right);
      }
      adopt(q);
      if (p->parent != nullptr) child = position(*p->parent, p);
      left = p, right = &q, fence = between;
      left_most = greatest(p->plain.first, p->count), right_most = greatest(q.plain.first, q.count);
    }
  }

  /// Makes two leaves of one that has no room, and change(leaf, index) for the entry at `at`, or the
  /// one that goes there, in its new leaf. Requires: the pool holds split_nodes().
  template <class Change>
  place split_leaf(place at, bool append, bool prepend, Change change) noexcept {
    node& left = *at.leaf;
    node& right = *new_node();
    const unsigned keep = append ? left.count : prepend ? 0 : left.count / 2;
    begin_leaf(right, leaf_form::of(left));  // so that sharing is a copy
    share_leaves(left, right, keep);
    chain(left, right);
    const bool goes_left = at.index <= keep && !append;
    const place at_new = goes_left ? place{&left, at.index, 0} : place{&right, at.index - keep, 0};
    change(*at_new.leaf, at_new.index);
    const std::uint64_t fence = Leaves::meet(left, right);
    link(left, at.child, right, fence, append, prepend);
    return at_new;
  }
  /// The same for an entry that goes there, which it puts in and counts. One at either end of all gets
  /// a leaf of its own.
  place split_leaf(place at, std::uint64_t first, std::uint64_t last,
                   std::uint64_t value) noexcept {
    const bool append = at.index == at.leaf->count && at.leaf->next == nullptr;
    const bool prepend = at.index == 0 && at.leaf->previous == nullptr;
    ++size_;
    return split_leaf(at, append, prepend, [&](node& part, unsigned index) noexcept {
      put_into(part, index, first, last, value);
    });
  }

  // ---- shrinking ----
  /// Joins a small leaf with a neighbour, or shares the neighbour's entries with it.
  place rebalance_leaf(place at) noexcept {
    node& p = *at.leaf->parent;
    const unsigned l = at.child + 1 < p.count ? at.child : at.child - 1;
    node &left = *p.child(l), &right = *p.child(l + 1);
    Probe::visit(), Probe::visit();
    const unsigned total = left.count + right.count;
    const unsigned flat = at.leaf == &left ? at.index : left.count + at.index;
    if (total <= joint) {
      share_leaves(left, right, total);
      join_leaves(p, l);
      return {&left, flat, child_of(left)};
    }
    share_leaves(left, right, total / 2);
    p.plain.last[l] = Leaves::meet(left, right);
    p.plain.first[l] = Leaves::most(left), p.plain.first[l + 1] = Leaves::most(right);
    return flat < left.count ? place{&left, flat, l} : place{&right, flat - left.count, l + 1};
  }
  /// Leaf l + 1 of p has moved into leaf l.
  void join_leaves(node& p, unsigned l) noexcept {
    node &left = *p.child(l), &right = *p.child(l + 1);
    left.next = right.next;
    (left.next != nullptr ? left.next->previous : tail_) = &left;
    remove_child(p, l);
    shrink(p);
  }

  node* root_ = nullptr;
  node* tail_ = nullptr;  // the last leaf, where there is a root
  std::size_t size_ = 0;
  std::size_t nodes_ = 0;
  area_map_pool<Memory> pool_;
  unsigned height_ = 0;  // levels of inner nodes

 private:
  void free_below(node* n, unsigned level) noexcept {
    if (level != 0)
      for (unsigned c = 0; c < n->count; ++c) free_below(n->child(c), level - 1);
    pool_.destroy(n);
  }
  static void insert_child(node& p, unsigned child, std::uint64_t fence, std::uint64_t left_most,
                           std::uint64_t right_most, node* right) noexcept {
    insert_word(p.plain.last, child, p.count, fence);
    p.plain.first[child] = left_most;
    insert_word(p.plain.first, child + 1, p.count, right_most);
    insert_word(p.plain.value, child + 1, p.count, node::word(right));
    ++p.count;
  }
  static void adopt(node& p) noexcept {
    for (unsigned c = 0; c < p.count; ++c) p.child(c)->parent = &p;
  }
  /// Child l + 1 of p has moved into child l.
  void remove_child(node& p, unsigned l) noexcept {
    drop_node(p.child(l + 1));
    p.plain.first[l] = std::max(p.plain.first[l], p.plain.first[l + 1]);
    remove_word(p.plain.last, l, p.count);
    remove_word(p.plain.first, l + 1, p.count);
    remove_word(p.plain.value, l + 1, p.count);
    --p.count;
  }
  /// Joins an inner node that has become small with a neighbour, upwards as far as needed. What is
  /// kept for a subtree does not change above.
  void shrink(node& inner) noexcept {
    node* n = &inner;
    while (n->parent != nullptr && n->count < least) {
      node& p = *n->parent;
      Probe::visit(), Probe::visit();
      const unsigned c = position(p, n);
      const unsigned l = c + 1 < p.count ? c : c - 1;
      node &left = *p.child(l), &right = *p.child(l + 1);
      left.plain.last[left.count - 1] = p.plain.last[l];
      const unsigned total = left.count + right.count;
      if (total <= joint) {
        share_entries(left, right, total);
        adopt(left);
        remove_child(p, l);
        n = &p;
        continue;
      }
      share_entries(left, right, total / 2);
      adopt(left), adopt(right);
      p.plain.last[l] = std::exchange(left.plain.last[left.count - 1], top);
      p.plain.first[l] = greatest(left.plain.first, left.count);
      p.plain.first[l + 1] = greatest(right.plain.first, right.count);
      return;
    }
    if (n->parent == nullptr && n->count == 1) {
      root_ = n->child(0);
      root_->parent = nullptr;
      --height_;
      drop_node(n);
    }
  }

  void swap(node_tree& other) noexcept {
    std::swap(root_, other.root_);
    std::swap(tail_, other.tail_);
    std::swap(size_, other.size_);
    std::swap(nodes_, other.nodes_);
    pool_.swap(other.pool_);
    std::swap(height_, other.height_);
  }
};

}  // namespace detail
}  // namespace iopt
