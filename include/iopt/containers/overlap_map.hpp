// iopt/containers/overlap_map.hpp - many closed ranges that may overlap, each with a value.
//
// interval_tree answers the same questions about records that the caller owns: it cannot fail, and
// is the one to take for a few ranges, or where the ranges are records anyway. This one owns its
// entries, 32 or 48 to a node, and is the one to take for many: at 64 K entries a query costs a
// fraction, for it meets a miss of the cache a node and not one an entry.
//
// overlap_tree.hpp says how it works.
//
// Layer: containers. Includes: base, containers/leaf_cursor.hpp, containers/overlap_check.hpp,
// containers/overlap_leaf.hpp, containers/overlap_tree.hpp, the standard library.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <type_traits>
#include <utility>

#include "iopt/base/assert.hpp"
#include "iopt/base/error.hpp"
#include "iopt/base/memory_source.hpp"
#include "iopt/base/range.hpp"
#include "iopt/containers/leaf_cursor.hpp"
#include "iopt/containers/overlap_check.hpp"
#include "iopt/containers/overlap_leaf.hpp"
#include "iopt/containers/overlap_tree.hpp"

namespace iopt {

/// overlap_map: a multimap from closed ranges, which may overlap, to small values.
///
/// Model       A multiset E of entries (range, value).
/// Order       By range.first, ties in insertion order.
/// Invariants  Those of detail::overlap_tree.
/// Ownership   The map owns its nodes and copies its values. A cursor is valid until the map is
///             modified; set_value() and reserve() leave all cursors valid.
/// Errors      insert() and reserve(): not_enough_memory. On error nothing has changed. All else
///             cannot fail, and erase() allocates nothing.
/// Cost        n entries: insert and erase at a cursor O(log n), one descent; erase of a range, and
///             m entries with the same first: O(log n + m); next, prev O(1); nodes at most
///             n / 4 + 40. for_each_overlap with k results O((k + 1) log n), and never more than
///             O(n); for_each_span O(log n) and O(1) for each entry that begins in the window, both
///             lazily, the former one leaf ahead.
/// Threads     Thread-compatible: const calls may run together.
/// Tested by   tests/containers/overlap_map_test.cpp (model: Boost.ICL coverage depth)
template <class Address, class Value, memory_source Memory = heap_memory, class Probe = no_probe>
class overlap_map {
  static_assert(std::is_trivially_copyable_v<Value> && sizeof(Value) <= 8);
  using tree = detail::overlap_tree<Memory, Probe>;
  using node = detail::area_map_node;

 public:
  using range_type = closed_range<Address>;

  /// An entry of a map, or none.
  using cursor = detail::leaf_cursor<overlap_map, Address, Value>;

  explicit overlap_map(Memory memory = {}) noexcept : tree_(std::move(memory)) {}
  overlap_map(overlap_map&&) noexcept = default;
  overlap_map& operator=(overlap_map&&) noexcept = default;

  bool empty() const noexcept { return tree_.empty(); }
  std::size_t size() const noexcept { return tree_.size(); }
  void clear() noexcept { tree_.clear(); }

  // ---- modification ----

  result<void> insert(range_type r, Value v) noexcept {
    const auto at = insert_at(r, v);
    if (!at) return std::unexpected(at.error());
    return {};
  }
  /// The same, and says where.
  result<cursor> insert_at(range_type r, Value v) noexcept {
    IOPT_ASSERT(r.first <= r.last);
    const auto at = tree_.insert(r.first.value, r.last.value, to_word(v));
    if (!at) return std::unexpected(at.error());
    return to_cursor(*at);
  }

  /// Erases the entry and moves the cursor on to the next one. Returns the value.
  Value erase(cursor& at) noexcept {
    IOPT_ASSERT(at.valid());
    const Value v = at.value();
    at = to_cursor(tree_.erase({at.leaf_, at.index_, tree::child_of(*at.leaf_)}));
    return v;
  }
  /// Erases the first entry with exactly that range and value. Returns whether there was one.
  bool erase(range_type r, Value v) noexcept {
    const std::uint64_t word = to_word(v);
    for (auto at = tree_.lower(r.first.value); at.leaf != nullptr;) {
      const node& leaf = *at.leaf;
      if (detail::begin_of(leaf, at.index) != r.first.value) return false;
      if (detail::end_of(leaf, at.index) == r.last.value && value_of(leaf, at.index) == word)
        return tree_.erase(at), true;
      if (++at.index == leaf.count)
        at = {leaf.next, 0, leaf.next == nullptr ? 0 : tree::child_of(*leaf.next)};
    }
    return false;
  }

  // ---- look-up ----

  cursor begin() const noexcept { return to_cursor(tree_.first()); }
  cursor last() const noexcept { return to_cursor(tree_.final()); }
  /// The first entry that begins at `a` or behind it.
  cursor lower_bound(Address a) const noexcept { return to_cursor(tree_.lower(a.value)); }

  /// Calls f(range, value) for each entry that overlaps `r`, in order. Where f returns bool, false
  /// stops the walk. f modifies nothing.
  template <class F>
  void for_each_overlap(range_type r, F f) const {
    tree_.for_each_overlap(r.first.value, r.last.value,
                           [&](const node& leaf, unsigned n, std::uint64_t word) {
                             return answer([&] { return f(range_of(leaf, n), from_word(word)); });
                           });
  }

  /// Copies the values of the entries that overlap `r`, in order, to `out`, as many as there is room
  /// for; what is not needed of the room may be overwritten. Returns how many entries there are.
  /// For many queries in a row this is the fast way: nothing branches on how many a node has, so
  /// their misses of the cache overlap. Requires: a Value of 8 bytes.
  std::size_t copy_overlaps(range_type r, std::span<Value> out) const noexcept
    requires(sizeof(Value) == 8)
  {
    return tree_.copy_overlaps(r.first.value, r.last.value, std::as_writable_bytes(out).data(),
                               out.size());
  }

  /// Walks `window` from end to end: f(range, used) for each maximal span of used and of unused
  /// addresses. Where f returns bool, false stops the walk. f modifies nothing.
  template <class F>
  void for_each_span(range_type window, F f) const {
    tree_.for_each_span(window.first.value, window.last.value,
                        [&](std::uint64_t first, std::uint64_t last, bool used) {
                          return answer([&] { return f(range_type{{first}, {last}}, used); });
                        });
  }

  // ---- memory ----

  /// Afterwards that many calls of insert() cannot fail for memory; erasing in between takes
  /// nothing from it. Errors: not_enough_memory.
  result<void> reserve(std::size_t inserts) noexcept {
    if (!tree_.reserve(inserts)) return fail(errc::not_enough_memory);
    return {};
  }
  /// Gives back the nodes that are kept for later, and with them what reserve() promised.
  void trim() noexcept { tree_.trim(); }
  /// What the entries take, in bytes; nodes kept for later apart.
  std::size_t node_bytes() const noexcept { return tree_.node_bytes(); }
  std::size_t kept_bytes() const noexcept { return tree_.pool_size() * sizeof(node); }

  /// Empty, or the name of the first invariant that does not hold. Cost: O(n).
  std::string_view verify() const noexcept {
    return detail::overlap_tree_check<tree>::wrong(tree_);
  }

 private:
  friend cursor;

  static std::uint64_t to_word(Value v) noexcept { return detail::to_word(v); }
  static Value from_word(std::uint64_t word) noexcept { return detail::from_word<Value>(word); }
  static range_type range_of(const node& leaf, unsigned n) noexcept {
    return {{detail::begin_of(leaf, n)}, {detail::end_of(leaf, n)}};
  }
  static cursor to_cursor(typename tree::place at) noexcept { return {at.leaf, at.index}; }
  /// What f() says, or true.
  template <class F>
  static bool answer(F f) {
    if constexpr (std::same_as<decltype(f()), bool>) {
      return f();
    } else {
      f();
      return true;
    }
  }

  tree tree_;
};

}  // namespace iopt
