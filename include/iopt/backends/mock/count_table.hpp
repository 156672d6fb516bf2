// iopt/backends/mock/count_table.hpp - a counter and a mark for each page frame there is.
//
// The mock pinner keeps its pins here, and a watched mock domain the frames that it shows. Both
// want what a hash map cannot give: a gibibyte of contiguous frames counted in one step, and single
// frames in no particular order without a search. So it is a radix tree whose inner slots may hold
// one counter for all that lies below them.
//
// Layer: backends/mock. Includes: the standard library.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace iopt::mock {

/// count_table: numbers of 64-bit units, each with a count and a mark.
///
/// Model       Two functions on units: count >= 0 and mark, at first 0 and false everywhere.
/// Invariants  1. Every node has a slot that is not empty, and knows how many it has.
///             2. total() is the sum of all counts.
/// Errors      None: memory comes from operator new. subtract() below 0 does nothing, answers
/// false. Cost        A range takes O(512 * depth) at each end, and one step for 512^k aligned
/// units. Threads     Thread-compatible. Tested by   tests/backends/mock/count_table_test.cpp
/// (model: std::map, unit by unit)
class count_table {
 public:
  using unit = std::uint64_t;

  count_table() = default;
  count_table(const count_table&) = delete;
  count_table& operator=(const count_table&) = delete;
  ~count_table() { clear(); }

  /// Adds one to every unit of [first, last].
  void add(unit first, unit last) {
    update(first, last, [](slot s) { return s == 0 ? slot{counted + one} : s + one; });
    total_ += last - first + 1;
  }

  /// Takes one from every unit of [first, last], and marks each if asked. False, and nothing is
  /// changed, where a unit has a count of 0.
  bool subtract(unit first, unit last, bool mark = false) {
    if (least(first, last) == 0) return false;
    const slot marks = mark ? marked : 0;
    update(first, last, [marks](slot s) {
      const slot now = (s - one) | marks;
      return now == counted ? slot{0} : now;
    });
    total_ -= last - first + 1;
    return true;
  }

  void set_mark(unit first, unit last, bool on) {
    update(first, last, [on](slot s) {
      const slot now = on ? (s | counted | marked) : (s & ~marked);
      return now == counted ? slot{0} : now;
    });
  }

  std::uint64_t count(unit u) const noexcept { return slot_of(u) / one; }
  bool is_marked(unit u) const noexcept { return (slot_of(u) & marked) != 0; }
  std::uint64_t total() const noexcept { return total_; }
  bool empty() const noexcept { return root_ == nullptr; }

  /// The least count in [first, last].
  std::uint64_t least(unit first, unit last) const {
    std::uint64_t low = ~std::uint64_t{0};
    for_each(first, last, [&](unit, unit, std::uint64_t count, bool) {
      low = std::min(low, count);
      return low != 0;
    });
    return low;
  }

  /// Whether a unit of [first, last] has a count or a mark.
  bool any(unit first, unit last) const {
    bool found = false;
    for_each(first, last, [&](unit, unit, std::uint64_t count, bool mark) {
      found = count != 0 || mark;
      return !found;
    });
    return found;
  }

  /// Calls f(first, last, count, mark) for pieces that make up [first, last], in order, until f
  /// answers false.
  template <class F>
  void for_each(unit first, unit last, F f) const {
    const unit reach = span_minus_one(depth_);
    if (root_ == nullptr || first > reach) {
      f(first, last, std::uint64_t{0}, false);
      return;
    }
    if (!walk(*root_, depth_ - 1, first, std::min(last, reach), f)) return;
    if (last > reach) f(reach + 1, last, std::uint64_t{0}, false);
  }

  void clear() noexcept {
    if (root_ != nullptr) free(root_, depth_ - 1);
    root_ = nullptr;
    depth_ = 0;
    total_ = 0;
    recent_ = nullptr;
  }

  /// Empty when the invariants hold, else the one that does not.
  std::string_view verify() const {
    std::uint64_t sum = 0;
    if (root_ != nullptr && !sound(*root_, depth_ - 1, sum)) return "1: used slots of a node";
    return sum == total_ ? "" : "2: total";
  }

 private:
  using slot = std::uint64_t;  // 0, a node, or counted | marked? | count * one
  static constexpr slot counted = 1;
  static constexpr slot marked = 2;
  static constexpr slot one = 4;
  static constexpr unsigned bits = 9;
  static constexpr std::size_t width = std::size_t{1} << bits;

  struct alignas(8) node {
    std::array<slot, width> slots{};
    std::size_t used = 0;
  };

  static bool is_node(slot s) noexcept { return s != 0 && (s & counted) == 0; }
  static node* node_of(slot s) noexcept { return reinterpret_cast<node*>(s); }
  static slot slot_for(node* n) noexcept { return reinterpret_cast<slot>(n); }
  // A node of the given level has slots of 2^(9 * level) units; `depth` levels reach this far.
  static unit span_minus_one(unsigned depth) noexcept {
    return depth * bits >= 64 ? ~unit{0} : (unit{1} << (depth * bits)) - 1;
  }

  slot slot_of(unit u) const noexcept {
    if (root_ == nullptr || u > span_minus_one(depth_)) return 0;
    const node* n = root_;
    for (unsigned level = depth_ - 1;; --level) {
      const slot s = n->slots[(u >> (level * bits)) % width];
      if (!is_node(s)) return s;
      n = node_of(s);
    }
  }

  template <class Change>
  void update(unit first, unit last, Change change) {
    // Neighbours hit the leaf that the last one hit. One that goes empty is pruned from above.
    if (recent_ != nullptr && first >> bits == recent_key_ && last >> bits == recent_key_) {
      apply(*recent_, first % width, last % width, change);
      if (recent_->used != 0) return;
      prune(first);
      return;
    }
    recent_ = nullptr;
    reach(last);
    if (!descend(*root_, depth_ - 1, first, last, change)) drop_root();
  }

  // Makes the tree deep enough for u.
  void reach(unit u) {
    if (root_ == nullptr) {
      depth_ = 1;
      while (u > span_minus_one(depth_)) ++depth_;
      root_ = new node;
    }
    while (u > span_minus_one(depth_)) {
      node* const above = new node;
      above->slots[0] = slot_for(root_);
      above->used = 1;
      root_ = above;
      ++depth_;
    }
  }

  void drop_root() noexcept {
    delete root_;
    root_ = nullptr;
    depth_ = 0;
  }

  template <class Change>
  static void apply(node& n, std::size_t from, std::size_t to, Change change) {
    for (std::size_t i = from; i <= to; ++i) {
      const slot before = n.slots[i];
      const slot after = change(before);
      n.slots[i] = after;
      n.used += std::size_t{after != 0} - std::size_t{before != 0};
    }
  }

  // Changes [first, last] below n, whose level it is; false when n has become empty.
  template <class Change>
  bool descend(node& n, unsigned level, unit first, unit last, Change change) {
    if (level == 0) {
      apply(n, first % width, last % width, change);
      recent_ = n.used != 0 && depth_ > 1 ? &n : nullptr;
      recent_key_ = first >> bits;
      return n.used != 0;
    }
    const unsigned shift = level * bits;
    const unit below = (unit{1} << shift) - 1;
    for (unit at = first;;) {
      const unit end = std::min(last, at | below);
      slot& s = n.slots[(at >> shift) % width];
      const slot before = s;
      if (!is_node(s) && (at & below) == 0 && end - at == below) {
        s = change(s);
      } else {
        node* child = is_node(s) ? node_of(s) : nullptr;
        if (child == nullptr) {
          child = new node;
          child->slots.fill(s);
          child->used = s == 0 ? 0 : width;
          s = slot_for(child);
        }
        if (!descend(*child, level - 1, at, end, change)) {
          delete child;
          s = 0;
        }
      }
      n.used += std::size_t{s != 0} - std::size_t{before != 0};
      if (end == last) return n.used != 0;
      at = end + 1;
    }
  }

  // Takes out the empty leaf that holds u, and what that empties.
  void prune(unit u) {
    recent_ = nullptr;
    if (!descend(*root_, depth_ - 1, u, u, [](slot s) { return s; })) drop_root();
  }

  template <class F>
  static bool walk(const node& n, unsigned level, unit first, unit last, F& f) {
    const unsigned shift = level * bits;
    const unit below = (unit{1} << shift) - 1;
    for (unit at = first;;) {
      const unit end = std::min(last, at | below);
      const slot s = n.slots[(at >> shift) % width];
      if (is_node(s)) {
        if (!walk(*node_of(s), level - 1, at, end, f)) return false;
      } else if (!f(at, end, s / one, (s & marked) != 0)) {
        return false;
      }
      if (end == last) return true;
      at = end + 1;
    }
  }

  static void free(node* n, unsigned level) noexcept {
    if (level > 0) {
      for (const slot s : n->slots) {
        if (is_node(s)) free(node_of(s), level - 1);
      }
    }
    delete n;
  }

  static bool sound(const node& n, unsigned level, std::uint64_t& sum) {
    std::size_t used = 0;
    for (const slot s : n.slots) {
      if (s == 0) continue;
      ++used;
      if (!is_node(s)) {
        sum += (s / one) << (level * bits);
      } else if (level == 0 || !sound(*node_of(s), level - 1, sum)) {
        return false;
      }
    }
    return used == n.used && used != 0;
  }

  node* root_ = nullptr;
  unsigned depth_ = 0;
  std::uint64_t total_ = 0;
  node* recent_ = nullptr;  // a leaf, and the units it is for, shifted; never the root
  unit recent_key_ = 0;
};

}  // namespace iopt::mock
