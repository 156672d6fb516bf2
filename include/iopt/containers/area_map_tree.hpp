// iopt/containers/area_map_tree.hpp - the B+tree of 64-bit words below area_map.
//
// The fences between neighbours and the longest hole of each subtree: what does not depend on what
// the words mean. How nodes hang together, split and merge is node_tree's business; area_map is the
// typed face; use that.
//
// Fences are exact: the word between two children is the last address of the last entry below the
// left one. So the leaf that a search for `a` ends in holds the first entry whose last address is
// not below `a`, and the hole before it: no operation looks at a neighbour to find its answer. The
// price is paid where a leaf's last entry goes, which moves the fence.
//
// The hole behind the last entry of all belongs to no leaf; `last_` says where it begins.
//
// Layer: containers. Includes: base, containers/area_map_leaf.hpp, containers/node_tree.hpp, the
// standard library.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "iopt/base/address.hpp"
#include "iopt/base/assert.hpp"
#include "iopt/base/error.hpp"
#include "iopt/base/memory_source.hpp"
#include "iopt/containers/area_map_leaf.hpp"
#include "iopt/containers/node_tree.hpp"

namespace iopt::detail {

/// area_leaves: for a leaf its longest hole is kept; nodes are found by their words.
template <class Probe>
struct area_leaves {
  static std::uint64_t most(const area_map_node& leaf) noexcept { return longest_hole(leaf); }
  static std::uint64_t meet(const area_map_node& left, area_map_node& right) noexcept {
    const std::uint64_t last = last_of(left, left.count - 1);
    right.space_first = last + 1;
    return last;
  }
  static unsigned child_of(const area_map_node& n) noexcept {
    Probe::visit();
    return count_less(n.parent->plain.last, last_of(n, 0));
  }
};

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
class area_tree : public node_tree<Memory, Probe, area_leaves<Probe>> {
  using base = node_tree<Memory, Probe, area_leaves<Probe>>;

 public:
  using base::child_of;
  using base::least;
  using typename base::node;
  using typename base::place;

  using base::base;
  area_tree(area_tree&& other) noexcept : base(std::move(other)), last_(other.last_) {
    other.near_ = {};
  }
  area_tree& operator=(area_tree&& other) noexcept {
    base::operator=(std::move(other));
    last_ = other.last_;
    near_ = other.near_ = {};
    return *this;
  }

  void clear() noexcept { near_ = {}, base::clear(); }

  /// Whether any entry ends at `a` or behind it.
  bool reaches(std::uint64_t a) const noexcept { return root_ != nullptr && a <= last_; }
  std::uint64_t last_address() const noexcept { return last_; }

  /// The first entry whose last address is at least `a`, or the end of the last leaf.
  /// Requires: not empty.
  place descend(std::uint64_t a) const noexcept {
    place at = leaf_of(a);
    Probe::visit();
    at.index = place_in(*at.leaf, a);
    return at;
  }

  // Where an address belongs is remembered until the tree is modified, for what modifies it there.

  /// Finds the leaf of an address and asks for its memory.
  void approach(std::uint64_t a) noexcept {
    if (height_ != 0) near_ = leaf_of(a), near_address_ = a;
  }
  /// descend(), but for what is remembered. Requires: not empty.
  place known(std::uint64_t a) const noexcept {
    if (near_.leaf == nullptr || near_address_ != a) return descend(a);
    if (near_.index != unknown) return near_;
    Probe::visit();
    return {near_.leaf, place_in(*near_.leaf, a), near_.child};
  }
  /// The same, and is remembered. Requires: not empty.
  place seek(std::uint64_t a) noexcept {
    near_ = known(a), near_address_ = a;
    return near_;
  }

  result<place> insert(std::uint64_t first, std::uint64_t last, std::uint64_t value) noexcept {
    if (root_ == nullptr) return insert_first(first, last, value);
    return first > last_ ? append(first, last, value) : insert_among(first, last, value);
  }

  /// Takes the entry out. Returns the entry behind it, or a place without a leaf.
  place erase(place at) noexcept {
    near_ = {};
    if (size_ != 1) return erase_among(at);
    base::drop_node(std::exchange(root_, nullptr));
    size_ = 0;
    return {};
  }

  /// Cuts an entry behind `left_last`, the right part gets `value`. On error nothing has changed.
  result<void> split(place at, std::uint64_t left_last, std::uint64_t value) noexcept {
    node& leaf = *at.leaf;
    const std::uint64_t first = first_of(leaf, at.index), last = last_of(leaf, at.index);
    near_ = {};
    const auto cut = [=](node& part, unsigned index) noexcept {
      put_into(part, index, left_last + 1, last, value);
      set_range(part, index - 1, first, left_last);
    };
    ++at.index;
    if (make_place(leaf, left_last + 1, last)) {
      cut(leaf, at.index), ++size_;
    } else if (stock(split_nodes(leaf))) {
      split_leaf(at, false, false, cut), ++size_;
    } else {
      return fail(errc::not_enough_memory);
    }
    return {};
  }

  /// After true, carve() of a range that begins there finds the nodes it needs. Requires: not empty.
  bool stock_for_carve(std::uint64_t first) noexcept {
    const node& leaf = *seek(first).leaf;
    return leaf.count + 2 <= leaf_form::of(leaf).capacity() || stock(split_nodes(leaf));
  }
  /// Makes up to three entries of the one around [first, last]: what is before keeps its value, that
  /// range gets `inner`, what is behind gets `right`. The range is then remembered as by seek(). On
  /// error nothing has changed. Requires: there is that entry.
  result<void> carve(std::uint64_t first, std::uint64_t last, std::uint64_t inner,
                     std::uint64_t right) noexcept {
    place at = known(first);
    node& leaf = *at.leaf;
    const std::uint64_t all_first = first_of(leaf, at.index), all_last = last_of(leaf, at.index);
    const bool front = all_first != first, back = all_last != last;
    const unsigned more = unsigned{front} + unsigned{back};
    if (leaf.count + more > leaf_form::of(leaf).capacity()) {
      if (!stock(split_nodes(leaf))) return fail(errc::not_enough_memory);  // halves have room
      [[maybe_unused]] result<void> cut{};
      if (back) cut = split(at, last, right);
      IOPT_ASSERT(cut);
      if (front) cut = split(descend(all_first), first - 1, inner);
      IOPT_ASSERT(cut);
      at = seek(first);
      value_of(*at.leaf, at.index) = inner;
      return {};
    }
    if (front) {  // holes and fences stay where they are
      set_range(leaf, at.index, all_first, first - 1);
      insert_into(leaf, ++at.index, first, last, inner);
    } else {
      set_range(leaf, at.index, first, last);
      value_of(leaf, at.index) = inner;
    }
    if (back) insert_into(leaf, at.index + 1, last + 1, all_last, right);
    size_ += more;
    near_ = at, near_address_ = first;
    return {};
  }

  /// Gives an entry another range, which must overlap no other entry, and says where it is then.
  /// On error nothing has changed.
  result<place> resize(place at, std::uint64_t first, std::uint64_t last) noexcept {
    const bool moved = last_of(*at.leaf, at.index) != last;
    near_ = {};
    if (!set_range(*at.leaf, at.index, first, last)) {
      if (!stock(split_nodes(*at.leaf))) return fail(errc::not_enough_memory);
      ++at.index;
      at = split_leaf(at, false, false, [](node&, unsigned) noexcept {});
      --at.index, at.child = child_of(*at.leaf);
      set_range(*at.leaf, at.index, first, last);
    }
    node& leaf = *at.leaf;
    if (leaf.parent != nullptr) set_hole(leaf, at.child, longest_hole(leaf));
    if (moved && at.index + 1 == leaf.count) move_fence(leaf, at.child);
    return at;
  }

 private:
  static constexpr unsigned unknown = ~0u;
  static constexpr unsigned few = 8;  // fences: a vector's, where vectors are widest

  /// The leaf of an address, which is not looked at but asked for. Requires: not empty.
  place leaf_of(std::uint64_t a) const noexcept {
    node* n = root_;
    unsigned child = 0, level = height_;
    const auto down = [&](unsigned before) {
      Probe::visit();
      child = before;
      n = n->child(child);
      if (--level == 0) prefetch(n);
    };
    // A root often has few children. The last one's fence is all-ones, which need not be looked at.
    if (few_are_faster && level != 0 && n->count - 1 <= few)
      down(count_less<std::uint64_t, few>(n->plain.last, a));
    while (level != 0) down(count_less(n->plain.last, a));
    return {n, unknown, child};
  }

  using base::height_;
  using base::root_;
  using base::size_;
  using base::tail_;

  using base::end;
  using base::new_node;
  using base::rebalance_leaf;
  using base::split_leaf;
  using base::split_nodes;
  using base::stock;

  // ---- among others ----
  // What a map with one entry or none does is in line; these have more to save than it has to do.

  result<place> insert_first(std::uint64_t first, std::uint64_t last,
                             std::uint64_t value) noexcept {
    if (!stock(1)) return fail(errc::not_enough_memory);
    root_ = tail_ = new_node();
    // Word by word, for a wide read of a node that has just been written would wait for it.
    begin_leaf(*root_, leaf_form::of(first, last));
    add_entry(*root_, first, last, value);
    last_ = last, size_ = 1;
    return place{root_, 0, 0};
  }
  /// Behind all entries, and word by word: entries that come in order would each wait for the wide write
  /// of the one before.
  [[gnu::noinline]] result<place> append(std::uint64_t first, std::uint64_t last,
                                         std::uint64_t value) noexcept {
    const place at = end();
    node& leaf = *at.leaf;
    const bool room = make_place(leaf, first, last);
    if (!room && !stock(split_nodes(leaf))) return fail(errc::not_enough_memory);
    near_ = {};
    const std::uint64_t hole = first - last_ - 1;
    last_ = last;
    if (!room) return split_leaf(at, first, last, value);
    add_entry(leaf, first, last, value);
    ++size_;
    if (leaf.parent != nullptr && hole > leaf.parent->hole(at.child))
      set_hole(leaf, at.child, hole);
    return at;
  }
  [[gnu::noinline]] result<place> insert_among(std::uint64_t first, std::uint64_t last,
                                               std::uint64_t value) noexcept {
    const place at = known(first);
    node& leaf = *at.leaf;
    const std::uint64_t behind = first_of(leaf, at.index);
    if (behind <= last) return fail(error(errc::file_exists, error_place::area, behind));
    const bool room = make_place(leaf, first, last);
    if (!room && !stock(split_nodes(leaf))) return fail(errc::not_enough_memory);

    near_ = {};
    const std::uint64_t broken = behind - hole_first(leaf, at.index);
    if (!room) return split_leaf(at, first, last, value);
    insert_into(leaf, at.index, first, last, value);
    ++size_;
    if (leaf.parent != nullptr && broken == leaf.parent->hole(at.child))
      set_hole(leaf, at.child, longest_hole(leaf));
    return at;
  }
  [[gnu::noinline]] place erase_among(place at) noexcept {
    if (at.leaf->count <= least && at.leaf != root_) at = rebalance_leaf(at);
    node& leaf = *at.leaf;
    const std::uint64_t space = hole_first(leaf, at.index);
    const std::uint64_t before = first_of(leaf, at.index) - space;
    remove_from(leaf, at.index);
    --size_;
    if (at.index < leaf.count) {  // the two holes around it become one
      const std::uint64_t joined = first_of(leaf, at.index) - space;
      if (leaf.parent != nullptr && joined > leaf.parent->hole(at.child))
        set_hole(leaf, at.child, joined);
      return at;
    }
    if (leaf.parent != nullptr && before == leaf.parent->hole(at.child))
      set_hole(leaf, at.child, longest_hole(leaf));
    move_fence(leaf, at.child);
    return {leaf.next, 0, 0};
  }

  // ---- holes and fences ----
  void set_hole(node& n, unsigned child, std::uint64_t longest) noexcept {
    base::set_most(n, child, longest);
  }
  /// The last address of a leaf has changed: so do its fence and the hole before the next leaf.
  void move_fence(node& leaf, unsigned child) noexcept {
    const std::uint64_t last = last_of(leaf, leaf.count - 1);
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
    n->parent->plain.last[child] = last;
    set_hole(next, next_child, longest_hole(next));
  }

  std::uint64_t last_ = 0;  // the last address of the last entry
  place near_;              // where near_address_ belongs, if that is known
  std::uint64_t near_address_ = 0;
};

}  // namespace iopt::detail
