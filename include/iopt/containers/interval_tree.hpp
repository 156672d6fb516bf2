// iopt/containers/interval_tree.hpp - closed ranges that may overlap: what overlaps this?
//
// The pages object keeps two of them: the areas that hold its frames, and the accesses that pin
// them; a table keeps its reserved ranges in one. The nodes are base classes of the caller's
// records, so that linking and unlinking can neither fail nor allocate.
//
// The tree is balanced by ranks: containers/interval_tree_balance.hpp. A node is 48 bytes. A search
// asks a node's left child how far it reaches, so both children are prefetched on arrival: the answer
// then costs no trip to memory of its own.
//
// Layer: containers. Includes: base, containers/coverage_spans.hpp, the standard library.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>

#include "iopt/base/address.hpp"
#include "iopt/base/assert.hpp"
#include "iopt/base/range.hpp"
#include "iopt/containers/coverage_spans.hpp"

namespace iopt {

/// interval_node: the base class of a record that an interval_tree holds.
///
/// `range` is the caller's and stays as it is while the node is linked; the rest is the tree's.
/// A record that is in trees of two kinds of address derives from two nodes.
///
/// Errors  None. Destroying a linked node is a bug and is asserted.
template <class Address>
struct interval_node {
  using interval_address = Address;

  closed_range<Address> range{};
  /// The greatest range.last at and below this node; meaningful while linked.
  Address subtree_last{};

  constexpr interval_node() noexcept = default;
  constexpr interval_node(closed_range<Address> covers) noexcept : range(covers) {}
  interval_node(const interval_node&) = delete;
  interval_node& operator=(const interval_node&) = delete;
  constexpr ~interval_node() { IOPT_ASSERT(!is_linked()); }

  /// Whether a tree holds the node.
  constexpr bool is_linked() const noexcept { return (parent_and_bits_ & unlinked_bit) == 0; }

 private:
  template <class, class, class>
  friend class interval_tree;

  static constexpr std::uintptr_t parity_bit = 1;
  static constexpr std::uintptr_t unlinked_bit = 2;

  std::uintptr_t parent_and_bits_ = unlinked_bit;
  interval_node* child_[2] = {nullptr, nullptr};
};

/// uncounted: the probe of a tree outside of tests. A probe's visit() is called for every node that
/// an operation looks at.
struct uncounted {
  static constexpr void visit() noexcept {}
};

/// interval_tree: a set of closed ranges that answers "what overlaps this?".
///
/// Model       A multiset M of nodes; node n covers [n.range.first, n.range.last].
/// Order       Iteration is by `first`, ties in insertion order.
/// Invariants  links         a child's parent is the node it hangs below; every node is linked.
///             range         first <= last in every node.
///             order         in order, `first` never falls.
///             subtree_last  n.subtree_last == max of `last` at and below n.
///             balance       there are ranks, whose parities are the nodes' bits, such that a leaf
///                           has 0, a missing child -1, and a child 1 or 2 less than its parent.
///             verify() checks them in this order in O(n).
/// Ownership   Intrusive: the caller owns the nodes, the tree allocates nothing. Records do not
///             move while linked; erased, they may be changed and linked again. The tree may move.
/// Errors      None. Linking a linked node is a bug and is asserted.
/// Cost        n nodes, k results: insert, erase, first, next, first_overlap, next_overlap
///             O(log n); for_each_overlap and spans O(min(n, (k + 1) log n)), lazily; find_exact
///             O((m + 1) log n) for m longer nodes with the same first. Height <= 2 log2(n + 1).
/// Threads     Thread-compatible: const calls may run together.
/// Source      Haeupler, Sen and Tarjan, Rank-Balanced Trees (2015); Cormen et al., Introduction to
///             Algorithms, "Interval trees".
/// Tested by   tests/containers/interval_tree_test.cpp (model: Boost.ICL coverage depth)
///
/// `Address` must be given only where Node is not complete yet, or derives from several nodes.
template <class Node, class Address = typename Node::interval_address, class Probe = uncounted>
class interval_tree {
 public:
  using node_type = Node;
  using address_type = Address;
  using range_type = closed_range<Address>;

  constexpr interval_tree() noexcept = default;
  interval_tree(interval_tree&& other) noexcept : root_(std::exchange(other.root_, nullptr)) {}
  /// Requires: this tree is empty.
  interval_tree& operator=(interval_tree&& other) noexcept {
    IOPT_ASSERT(empty() || this == &other);
    root_ = std::exchange(other.root_, nullptr);
    return *this;
  }

  bool empty() const noexcept { return root_ == nullptr; }

  /// What a record covers in this tree.
  static range_type range_of(const Node& record) noexcept { return base(record)->range; }

  void insert(Node& record) noexcept {
    const link node = base(record);
    IOPT_ASSERT(!node->is_linked());
    IOPT_ASSERT(node->range.first <= node->range.last);
    const range_type range = node->range;
    link parent = nullptr;
    std::size_t side = left;
    for (link at = root_; at != nullptr; at = at->child_[side]) {
      Probe::visit();
      if (at->subtree_last < range.last) at->subtree_last = range.last;
      parent = at;
      side = std::size_t{!(range.first < at->range.first)};
    }
    node->subtree_last = range.last;
    node->child_[left] = node->child_[right] = nullptr;
    node->parent_and_bits_ = word(parent, even);
    (parent == nullptr ? root_ : parent->child_[side]) = node;
    balance_after_insert(node);
  }

  void erase(Node& record) noexcept {
    const link node = base(record);
    IOPT_ASSERT(node->is_linked());
    link parent = parent_of(node);
    link child = nullptr;
    if (node->child_[left] != nullptr && node->child_[right] != nullptr) {
      const link heir = outermost(node->child_[right], left);
      child = heir->child_[right];
      parent = parent_of(heir);
      if (parent == node) {
        parent = heir;
      } else {
        hang(child, parent, left);
        hang(node->child_[right], heir, right);
      }
      hang(node->child_[left], heir, left);
      take_place(heir, node);
      heir->subtree_last = node->subtree_last;
      set_parity(heir, parity(node));
      for (link at = parent; at != heir && refresh(at);) at = parent_of(at);
      for (link at = heir; at != nullptr && refresh(at);) at = parent_of(at);
    } else {
      child = node->child_[node->child_[left] == nullptr ? right : left];
      take_place(child, node);
      for (link at = parent; at != nullptr && refresh(at);) at = parent_of(at);
    }
    node->parent_and_bits_ = node_type_base::unlinked_bit;
    balance_after_erase(child, parent);
  }

  /// Unlinks every node. Cost: O(n), no balancing.
  void clear() noexcept {
    for (link at = std::exchange(root_, nullptr); at != nullptr;) {
      const std::size_t side = at->child_[left] != nullptr ? left : right;
      const link below = std::exchange(at->child_[side], nullptr);
      if (below != nullptr) {
        at = below;
      } else {
        const link above = parent_of(at);
        at->parent_and_bits_ = node_type_base::unlinked_bit;
        at = above;
      }
    }
  }

  /// The lowest node in order, or null.
  Node* first() const noexcept {
    return root_ == nullptr ? nullptr : record_of(outermost(root_, left));
  }

  /// The node that follows in order, or null.
  Node* next(const Node& record) const noexcept {
    link at = base(record);
    IOPT_ASSERT(at->is_linked());
    if (at->child_[right] != nullptr) return record_of(outermost(at->child_[right], left));
    link came = at;
    do {
      came = at;
      at = parent_of(at);
      Probe::visit();
    } while (at != nullptr && at->child_[right] == came);
    return record_of(at);
  }

  /// The lowest node in order that overlaps `range`, or null.
  Node* first_overlap(range_type range) const noexcept {
    if (root_ == nullptr || root_->subtree_last < range.first) return nullptr;
    return record_of(lowest(root_, range.first, range.last));
  }

  /// The next node in order, after `record`, that overlaps `range`, or null. `record` itself need
  /// not overlap it.
  Node* next_overlap(const Node& record, range_type range) const noexcept {
    IOPT_ASSERT(base(record)->is_linked());
    return record_of(following(base(record), range.first, range.last));
  }

  /// The node that covers exactly `range`, the one inserted first where there are several; or null.
  Node* find_exact(range_type range) const noexcept {
    link found = nullptr;
    for (link at = root_; at != nullptr;) {
      Probe::visit();
      const bool goes_left = !(at->range.first < range.first);
      if (goes_left) found = at;
      at = at->child_[goes_left ? left : right];
    }
    if (found == nullptr || found->range.first != range.first) return nullptr;
    // What follows and still reaches range.last without starting past range.first.
    while (found != nullptr && found->range.last != range.last) {
      found = following(found, range.last, range.first);
    }
    return record_of(found);
  }

  /// Calls f(node) for each node that overlaps `range`, in order. `f` may erase the node it is
  /// given, and no other.
  template <class F>
  void for_each_overlap(range_type range, F&& f) const {
    for (Node* at = first_overlap(range); at != nullptr;) {
      Node* const after = next_overlap(*at, range);
      f(*at);
      at = after;
    }
  }

  /// The maximal spans of used and unused addresses in `window`, in order.
  coverage_spans<interval_tree> spans(range_type window) const noexcept {
    return coverage_spans<interval_tree>(this, window);
  }

  /// Empty where every invariant holds, and otherwise the first one that does not.
  std::string_view verify() const noexcept {
    if (root_ == nullptr) return {};
    if (parent_of(root_) != nullptr) return "links";
    link before = nullptr;
    std::string_view broken{};
    check(root_, 0, before, broken);
    return broken;
  }

 private:
  using node_type_base = interval_node<Address>;
  using link = node_type_base*;

  static constexpr std::size_t left = 0;
  static constexpr std::size_t right = 1;
  static constexpr std::uintptr_t even = 0;
  static constexpr std::uintptr_t odd = 1;

  static link base(const Node& record) noexcept {
    return const_cast<link>(static_cast<const node_type_base*>(&record));
  }
  static Node* record_of(link node) noexcept { return static_cast<Node*>(node); }

  static std::uintptr_t word(link parent, std::uintptr_t parity) noexcept {
    return reinterpret_cast<std::uintptr_t>(parent) | parity;
  }
  static link parent_of(link node) noexcept {
    return reinterpret_cast<link>(node->parent_and_bits_ & ~std::uintptr_t{3});
  }
  /// The parity of a rank; a missing child has rank -1.
  static std::uintptr_t parity(link node) noexcept {
    return node == nullptr ? odd : node->parent_and_bits_ & node_type_base::parity_bit;
  }
  static void set_parity(link node, std::uintptr_t parity) noexcept {
    node->parent_and_bits_ = word(parent_of(node), parity);
  }
  static void shift_rank(link node) noexcept {
    node->parent_and_bits_ ^= node_type_base::parity_bit;
  }

  static void hang(link child, link parent, std::size_t side) noexcept {
    parent->child_[side] = child;
    if (child != nullptr) child->parent_and_bits_ = word(parent, parity(child));
  }
  /// `in` hangs from now on where `out` hangs. It keeps its own rank.
  void take_place(link in, link out) noexcept {
    const link parent = parent_of(out);
    if (parent != nullptr) {
      hang(in, parent, parent->child_[right] == out ? right : left);
    } else {
      root_ = in;
      if (in != nullptr) in->parent_and_bits_ = word(nullptr, parity(in));
    }
  }

  static Address reach(link node) noexcept {
    Address last = node->range.last;
    for (const link child : node->child_) {
      if (child != nullptr) last = std::max(last, child->subtree_last);
    }
    return last;
  }
  /// Computes subtree_last anew; returns whether that changed it.
  static bool refresh(link node) noexcept {
    Probe::visit();
    const Address before = std::exchange(node->subtree_last, reach(node));
    return before != node->subtree_last;
  }

  static link outermost(link node, std::size_t side) noexcept {
    while (node->child_[side] != nullptr) {
      Probe::visit();
      node = node->child_[side];
    }
    return node;
  }

  /// The lowest node below `at` with range.last >= low and range.first <= high, or null.
  /// Requires: at->subtree_last >= low.
  static link lowest(link at, Address low, Address high) noexcept {
    for (;;) {
      Probe::visit();
      const link before = at->child_[left];
      const link after = at->child_[right];
      __builtin_prefetch(after);
      if (before != nullptr && !(before->subtree_last < low)) {
        at = before;  // if any node qualifies, one on this side does
        continue;
      }
      if (high < at->range.first) return nullptr;
      if (!(at->range.last < low)) return at;
      if (after == nullptr || after->subtree_last < low) return nullptr;
      at = after;
    }
  }

  /// As lowest(), among the nodes that follow `at` in order.
  static link following(link at, Address low, Address high) noexcept {
    for (;;) {
      const link after = at->child_[right];
      if (after != nullptr && !(after->subtree_last < low)) return lowest(after, low, high);
      link came = at;
      do {
        came = at;
        at = parent_of(at);
        Probe::visit();
        if (at == nullptr) return nullptr;
      } while (at->child_[right] == came);
      if (high < at->range.first) return nullptr;
      if (!(at->range.last < low)) return at;
    }
  }

  // containers/interval_tree_balance.hpp
  void rotate(link down, std::size_t side) noexcept;
  void balance_after_insert(link node) noexcept;
  void balance_after_erase(link node, link parent) noexcept;

  /// Checks what hangs at `node`; returns its rank. `before` is the last node seen in order.
  static int check(link node, int depth, link& before, std::string_view& broken) noexcept {
    if (node == nullptr || !broken.empty()) return -1;
    const auto fault = [&broken](bool holds, std::string_view invariant) {
      if (!holds && broken.empty()) broken = invariant;
    };
    fault(node->is_linked(), "links");
    for (const link child : node->child_) {
      fault(child == nullptr || parent_of(child) == node, "links");
    }
    fault(depth < 128, "balance");
    const int left_rank = check(node->child_[left], depth + 1, before, broken);
    fault(node->range.first <= node->range.last, "range");
    fault(before == nullptr || before->range.first <= node->range.first, "order");
    before = node;
    const int right_rank = check(node->child_[right], depth + 1, before, broken);
    fault(node->subtree_last == reach(node), "subtree_last");
    const auto above = [node](link child, int rank) {
      return rank + (parity(child) == parity(node) ? 2 : 1);
    };
    const int rank = above(node->child_[left], left_rank);
    fault(rank == above(node->child_[right], right_rank), "balance");
    const bool leaf = node->child_[left] == nullptr && node->child_[right] == nullptr;
    fault(!leaf || rank == 0, "balance");
    return rank;
  }

  link root_ = nullptr;
};

}  // namespace iopt

#include "iopt/containers/interval_tree_balance.hpp"  // IWYU pragma: export
