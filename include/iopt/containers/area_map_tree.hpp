// iopt/containers/area_map_tree.hpp - the B+tree of 64-bit words below area_map.
//
// Nodes, their splits and merges, the fences between neighbours, the longest hole of each subtree
// and the pool of free nodes: everything that does not depend on what the words mean. area_map is
// the typed face; use that.
//
// Fences are exact: the word between two children is the last address of the last entry below the
// left one. So the leaf that a search for `a` ends in holds the first entry whose last address is
// not below `a`, and the hole before it: no operation looks at a neighbour to find its answer. The
// price is paid where a leaf's last entry goes, which moves the fence.
//
// The hole behind the last entry of all belongs to no leaf; `last_` says where it begins.
//
// Layer: containers. Includes: base, containers/area_map_node.hpp, containers/area_map_pool.hpp,
// the standard library.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "iopt/base/address.hpp"
#include "iopt/base/assert.hpp"
#include "iopt/base/error.hpp"
#include "iopt/base/memory_source.hpp"
#include "iopt/containers/area_map_node.hpp"
#include "iopt/containers/area_map_pool.hpp"

namespace iopt {

/// no_probe: counts nothing. A probe's visit() is called once for each node that is looked at.
struct no_probe {
  static constexpr void visit() noexcept {}
};

namespace detail {

/// area_tree: a set of disjoint closed ranges of words, each with a word.
///
/// Invariants  In the order of verify():
///             entries      first <= last, and each entry begins behind the one before it
///             words        unused `last` words are all-ones
///             fences       a child's fence is its last entry's last address; the last child has
///                          none (all-ones)
///             space        a leaf's space_first is 0 or one behind the leaf before's last entry
///             holes        an inner node knows the longest hole of each child
///             occupancy    a node has at least `least` entries; a leaf at either end of the tree
///                          at least 1, an inner node at either end or the root at least 2
///             links        parents, leaf chain, height
///             counts       size, nodes, last address
/// Tested by   tests/containers/area_map_tree_test.cpp
template <memory_source Memory, class Probe>
class area_tree {
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

  explicit area_tree(Memory memory) noexcept : pool_(std::move(memory)) {}
  area_tree(area_tree&& other) noexcept : pool_(other.pool_.memory()) { swap(other); }
  area_tree& operator=(area_tree&& other) noexcept {
    area_tree taken(std::move(other));
    swap(taken);
    return *this;
  }
  ~area_tree() { clear(); }

  std::size_t size() const noexcept { return size_; }
  std::size_t node_bytes() const noexcept { return nodes_ * sizeof(node); }
  std::size_t pool_size() const noexcept { return pool_.size(); }
  /// Whether any entry ends at `a` or behind it.
  bool reaches(std::uint64_t a) const noexcept { return root_ != nullptr && a <= last_; }
  bool empty() const noexcept { return root_ == nullptr; }
  std::uint64_t last_address() const noexcept { return last_; }
  const node* root() const noexcept { return root_; }
  unsigned height() const noexcept { return height_; }

  /// The first entry whose last address is at least `a`, or the end of the last leaf.
  /// Requires: not empty.
  place descend(std::uint64_t a) const noexcept {
    node* n = root_;
    unsigned child = 0;
    for (unsigned level = height_; level != 0; --level) {
      Probe::visit();
      child = count_less(n->last, a);
      n = n->child(child);
      if (level == 1) prefetch(n);
    }
    Probe::visit();
    return {n, count_less(n->last, a), child};
  }

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
  const node* last_leaf() const noexcept { return tail_; }

  result<place> insert(std::uint64_t first, std::uint64_t last, std::uint64_t value) noexcept {
    if (root_ == nullptr) {
      if (!stock(1)) return fail(errc::not_enough_memory);
      root_ = tail_ = new_node();
      // By words: the node was just written by words, and a wide read of it would wait for them.
      root_->first[0] = first, root_->last[0] = last, root_->value[0] = value, root_->count = 1;
      last_ = last, size_ = 1;
      return place{root_, 0, 0};
    }
    const bool behind_all = first > last_;
    const place at = behind_all ? end() : descend(first);
    node& leaf = *at.leaf;
    if (!behind_all && leaf.first[at.index] <= last)
      return fail(error(errc::file_exists, error_place::area, leaf.first[at.index]));
    if (leaf.full() && !stock(split_nodes(leaf))) return fail(errc::not_enough_memory);

    const std::uint64_t space = leaf.hole_first(at.index);
    const std::uint64_t broken = behind_all ? 0 : leaf.first[at.index] - space;
    if (behind_all) last_ = last;
    if (leaf.full()) return split_leaf(at, first, last, value);
    insert_entry(leaf, at.index, first, last, value);
    ++size_;
    if (leaf.parent != nullptr) {
      const std::uint64_t longest = leaf.parent->hole(at.child);
      if (behind_all) {
        if (first - space > longest) set_hole(leaf, at.child, first - space);
      } else if (broken == longest) {
        set_hole(leaf, at.child, longest_hole(leaf));
      }
    }
    return at;
  }

  /// Takes the entry out. Returns the entry behind it, or a place without a leaf.
  place erase(place at) noexcept {
    if (size_ == 1) {
      drop_node(std::exchange(root_, nullptr));
      size_ = 0;
      return {};
    }
    if (at.leaf->count <= least && at.leaf != root_) at = rebalance_leaf(at);
    node& leaf = *at.leaf;
    const std::uint64_t space = leaf.hole_first(at.index);
    const std::uint64_t before = leaf.first[at.index] - space;
    remove_entry(leaf, at.index);
    --size_;
    if (at.index < leaf.count) {  // the two holes around it become one
      const std::uint64_t joined = leaf.first[at.index] - space;
      if (leaf.parent != nullptr && joined > leaf.parent->hole(at.child))
        set_hole(leaf, at.child, joined);
      return at;
    }
    if (leaf.parent != nullptr && before == leaf.parent->hole(at.child))
      set_hole(leaf, at.child, longest_hole(leaf));
    move_fence(leaf, at.child);
    return {leaf.next, 0, 0};
  }

  /// Cuts an entry behind `left_last`, the right part gets `value`. On error nothing has changed.
  result<void> split(place at, std::uint64_t left_last, std::uint64_t value) noexcept {
    node& leaf = *at.leaf;
    if (leaf.full() && !stock(split_nodes(leaf))) return fail(errc::not_enough_memory);
    const std::uint64_t last = std::exchange(leaf.last[at.index], left_last);
    ++at.index;
    if (leaf.full()) {
      split_leaf(at, left_last + 1, last, value);
    } else {
      insert_entry(leaf, at.index, left_last + 1, last, value);
      ++size_;
    }
    return {};
  }

  /// Gives an entry another range, which must overlap no other entry.
  void resize(place at, std::uint64_t first, std::uint64_t last) noexcept {
    node& leaf = *at.leaf;
    leaf.first[at.index] = first;
    const bool moved = std::exchange(leaf.last[at.index], last) != last;
    if (leaf.parent != nullptr) set_hole(leaf, at.child, longest_hole(leaf));
    if (moved && at.index + 1 == leaf.count) move_fence(leaf, at.child);
  }

  /// The number of a node in its parent, found by its words. Requires: at least one word in use.
  static unsigned child_of(const node& n) noexcept {
    if (n.parent == nullptr) return 0;
    Probe::visit();
    return count_less(n.parent->last, n.last[0]);
  }

  /// After true, that many insert() and split() calls find the nodes they need.
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

 private:
  /// Behind the last entry. Requires: not empty.
  place end() const noexcept {
    Probe::visit();
    return {tail_, tail_->count, tail_->parent == nullptr ? 0 : tail_->parent->count - 1};
  }

  // ---- nodes ----
  void free_below(node* n, unsigned level) noexcept {
    if (level != 0)
      for (unsigned c = 0; c < n->count; ++c) free_below(n->child(c), level - 1);
    pool_.destroy(n);
  }
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

  // ---- holes and fences ----
  void set_hole(node& n, unsigned child, std::uint64_t longest) noexcept {
    for (node* p = n.parent; p != nullptr; p = p->parent) {
      Probe::visit();
      const std::uint64_t before = std::exchange(p->hole(child), longest);
      if (before == longest || p->parent == nullptr) return;
      child = child_of(*p);
      const std::uint64_t known = p->parent->hole(child);
      if (longest < known) {
        if (before < known) return;  // another child has the longest
        longest = greatest(p->first, p->count);
      }
    }
  }
  void update_hole(node& inner) noexcept {
    if (inner.parent != nullptr)
      set_hole(inner, child_of(inner), greatest(inner.first, inner.count));
  }
  /// The last address of a leaf has changed: so do its fence and the hole before the next leaf.
  void move_fence(node& leaf, unsigned child) noexcept {
    const std::uint64_t last = leaf.last[leaf.count - 1];
    if (leaf.next == nullptr) {
      last_ = last;
      return;
    }
    node& next = *leaf.next;
    Probe::visit();
    next.space_first = last + 1;
    const unsigned next_child = next.parent == leaf.parent ? child + 1 : 0;
    node* n = &leaf;
    while (child + 1 == n->parent->count) n = n->parent, child = child_of(*n);
    n->parent->last[child] = last;
    set_hole(next, next_child, longest_hole(next));
  }

  // ---- growth ----
  /// Puts an entry into a full leaf. Requires: the pool holds split_nodes().
  place split_leaf(place at, std::uint64_t first, std::uint64_t last,
                   std::uint64_t value) noexcept {
    node& left = *at.leaf;
    node& right = *new_node();
    const bool append = at.index == node::capacity && left.next == nullptr;
    const bool prepend = at.index == 0 && left.previous == nullptr;
    const unsigned keep = append ? node::capacity : prepend ? 0 : node::capacity / 2;
    share_entries(left, right, keep);
    right.next = std::exchange(left.next, &right);
    right.previous = &left;
    (right.next != nullptr ? right.next->previous : tail_) = &right;
    const bool goes_left = at.index <= keep && !append;
    const place put = goes_left ? place{&left, at.index, 0} : place{&right, at.index - keep, 0};
    insert_entry(*put.leaf, put.index, first, last, value);
    ++size_;
    right.space_first = left.last[left.count - 1] + 1;
    link(left, at.child, right, append, prepend);
    return put;
  }

  /// Makes `right` the child behind `left`, which is child number `child` of its parent.
  void link(node& left_leaf, unsigned child, node& right_leaf, bool append, bool prepend) noexcept {
    node* left = &left_leaf;
    node* right = &right_leaf;
    std::uint64_t fence = left->last[left->count - 1];
    std::uint64_t left_hole = longest_hole(*left), right_hole = longest_hole(*right);
    for (;;) {
      Probe::visit();
      node* p = left->parent;
      if (p == nullptr) {
        p = new_node();
        insert_entry(*p, 0, left_hole, top, node::word(left));
        insert_child(*p, 0, fence, left_hole, right_hole, right);
        left->parent = right->parent = p;
        root_ = p, ++height_;
        return;
      }
      if (!p->full()) {
        insert_child(*p, child, fence, left_hole, right_hole, right);
        right->parent = p;
        return update_hole(*p);
      }
      node& q = *new_node();
      const unsigned keep = append && child + 1 == node::capacity ? node::capacity - 1
                            : prepend && child == 0               ? 1
                                                                  : node::capacity / 2;
      share_entries(*p, q, keep);
      const std::uint64_t between = std::exchange(p->last[keep - 1], top);
      if (child < keep) {
        insert_child(*p, child, fence, left_hole, right_hole, right);
        right->parent = p;
      } else {
        insert_child(q, child - keep, fence, left_hole, right_hole, right);
      }
      adopt(q);
      if (p->parent != nullptr) child = position(*p->parent, p);
      left = p, right = &q, fence = between;
      left_hole = greatest(p->first, p->count), right_hole = greatest(q.first, q.count);
    }
  }
  static void insert_child(node& p, unsigned child, std::uint64_t fence, std::uint64_t left_hole,
                           std::uint64_t right_hole, node* right) noexcept {
    insert_word(p.last, child, p.count, fence);
    p.hole(child) = left_hole;
    insert_word(p.first, child + 1, p.count, right_hole);
    insert_word(p.value, child + 1, p.count, node::word(right));
    ++p.count;
  }
  static void adopt(node& p) noexcept {
    for (unsigned c = 0; c < p.count; ++c) p.child(c)->parent = &p;
  }
  /// The number of a child, found by its address.
  static unsigned position(const node& p, const node* child) noexcept {
    unsigned c = 0;
    while (p.child(c) != child) ++c;
    return c;
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
      share_entries(left, right, total);
      left.next = right.next;
      (left.next != nullptr ? left.next->previous : tail_) = &left;
      remove_child(p, l);
      shrink(p);
      return {&left, flat, child_of(left)};
    }
    share_entries(left, right, total / 2);
    right.space_first = left.last[left.count - 1] + 1;
    p.last[l] = left.last[left.count - 1];
    p.hole(l) = longest_hole(left), p.hole(l + 1) = longest_hole(right);
    return flat < left.count ? place{&left, flat, l} : place{&right, flat - left.count, l + 1};
  }
  /// Child l + 1 of p has moved into child l.
  void remove_child(node& p, unsigned l) noexcept {
    drop_node(p.child(l + 1));
    p.hole(l) = std::max(p.hole(l), p.hole(l + 1));
    remove_word(p.last, l, p.count);
    remove_word(p.first, l + 1, p.count);
    remove_word(p.value, l + 1, p.count);
    --p.count;
  }
  /// The same for inner nodes, upwards as far as needed. No subtree's longest hole changes above.
  void shrink(node& inner) noexcept {
    node* n = &inner;
    while (n->parent != nullptr && n->count < least) {
      node& p = *n->parent;
      Probe::visit(), Probe::visit();
      const unsigned c = position(p, n);
      const unsigned l = c + 1 < p.count ? c : c - 1;
      node &left = *p.child(l), &right = *p.child(l + 1);
      left.last[left.count - 1] = p.last[l];
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
      p.last[l] = std::exchange(left.last[left.count - 1], top);
      p.hole(l) = greatest(left.first, left.count),
      p.hole(l + 1) = greatest(right.first, right.count);
      return;
    }
    if (n->parent == nullptr && n->count == 1) {
      root_ = n->child(0);
      root_->parent = nullptr;
      --height_;
      drop_node(n);
    }
  }

  void swap(area_tree& other) noexcept {
    std::swap(root_, other.root_);
    std::swap(tail_, other.tail_);
    std::swap(last_, other.last_);
    std::swap(size_, other.size_);
    std::swap(nodes_, other.nodes_);
    pool_.swap(other.pool_);
    std::swap(height_, other.height_);
  }

  node* root_ = nullptr;
  node* tail_ = nullptr;    // the last leaf, where there is a root
  std::uint64_t last_ = 0;  // the last address of the last entry
  std::size_t size_ = 0;
  std::size_t nodes_ = 0;
  area_map_pool<Memory> pool_;
  unsigned height_ = 0;  // levels of inner nodes
};

}  // namespace detail
}  // namespace iopt
