// iopt/containers/area_map.hpp - a map of disjoint closed ranges: the address space of a table.
//
// A B+tree with up to 48 entries a node: one search finds an entry, the entry in the way of a new
// one, or the hole to put it in. Each inner node knows the longest hole below each child, so the
// lowest hole that is long enough is found without a walk over the short ones.
//
// area_map_node.hpp says what a node holds, area_map_tree.hpp how nodes hang together.
//
// Layer: containers. Includes: base, containers/area_map_*.hpp, containers/leaf_cursor.hpp, the
// standard library.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <type_traits>
#include <utility>

#include "iopt/base/address.hpp"
#include "iopt/base/assert.hpp"
#include "iopt/base/error.hpp"
#include "iopt/base/log2.hpp"
#include "iopt/base/memory_source.hpp"
#include "iopt/base/range.hpp"
#include "iopt/containers/area_map_check.hpp"
#include "iopt/containers/area_map_holes.hpp"
#include "iopt/containers/area_map_tree.hpp"
#include "iopt/containers/leaf_cursor.hpp"

namespace iopt {

/// hole_request: what lowest_hole() looks for.
template <class Address>
struct hole_request {
  std::uint64_t length = 1;     // in units; > 0
  std::uint64_t alignment = 1;  // of the first address; a power of two
  closed_range<Address> window = closed_range<Address>::whole();
  /// Not to be touched; ascending and disjoint.
  std::span<const closed_range<Address>> excluded{};
};

/// area_map: a map from disjoint closed ranges to small values.
///
/// Model       A set E of entries (range, value), no two ranges overlapping. A hole is a maximal
///             range of addresses in no entry; with E empty, the whole space.
/// Order       By address.
/// Invariants  Those of detail::area_tree.
/// Ownership   The map owns its nodes and copies its values. A cursor is valid until the map is
///             modified; set_value(), narrow() and reserve() leave all cursors valid.
/// Errors      insert(), split(), carve(), widen() and reserve(): not_enough_memory; insert() and
///             widen(): file_exists, with the first address of the lowest entry in the way. On
///             error nothing has changed. All else cannot fail, and erase() allocates nothing.
/// Cost        n entries: insert, erase, find, split, carve, narrow, widen O(log n), one descent
///             each, none where approach() or seek() was there; next, prev O(1); nodes at most
///             n / 4 + 40. A split of a node writes to its children.
///             lowest_hole O(log n) for each hole that is long enough and is refused, once more for
///             the one taken, and O(log n) beside.
/// Threads     Thread-compatible: const calls may run together.
/// Tested by   tests/containers/area_map_test.cpp (model: Boost.ICL interval_map)
template <class Address, class Value, memory_source Memory = heap_memory, class Probe = no_probe>
class area_map {
  static_assert(std::is_trivially_copyable_v<Value> && sizeof(Value) <= 8);
  using tree = detail::area_tree<Memory, Probe>;
  using node = detail::area_map_node;

 public:
  using range_type = closed_range<Address>;

  /// An entry of a map, or none.
  using cursor = detail::leaf_cursor<area_map, Address, Value>;

  explicit area_map(Memory memory = {}) noexcept : tree_(std::move(memory)) {}
  area_map(area_map&&) noexcept = default;
  area_map& operator=(area_map&&) noexcept = default;

  bool empty() const noexcept { return tree_.empty(); }
  std::size_t size() const noexcept { return tree_.size(); }
  void clear() noexcept { tree_.clear(); }

  // ---- look-up ----

  /// Finds where `a` belongs and asks for the memory that is read there. insert(), erase(), carve() and
  /// seek() at `a` then need not look for it again, until the map is modified.
  void approach(Address a) noexcept { tree_.approach(a.value); }
  /// find(), which is remembered likewise.
  cursor seek(Address a) noexcept {
    return tree_.reaches(a.value) ? containing(tree_.seek(a.value), a) : cursor();
  }
  /// The entry that contains `a`.
  cursor find(Address a) const noexcept {
    return tree_.reaches(a.value) ? containing(tree_.descend(a.value), a) : cursor();
  }
  /// The lowest entry that overlaps `r`.
  cursor first_overlap(range_type r) const noexcept {
    if (!tree_.reaches(r.first.value)) return {};
    const auto at = tree_.descend(r.first.value);
    return detail::first_of(*at.leaf, at.index) <= r.last.value ? cursor(at.leaf, at.index)
                                                                : cursor();
  }
  /// The first entry whose last address is `a` or behind it.
  cursor lower_bound(Address a) const noexcept {
    if (!tree_.reaches(a.value)) return {};
    const auto at = tree_.descend(a.value);
    return cursor(at.leaf, at.index);
  }
  cursor begin() const noexcept { return to_cursor(tree_.first()); }
  cursor last() const noexcept { return to_cursor(tree_.final()); }

  /// values[n] = the value of the entry that contains keys[n], or `missing`; for all n, sixteen at
  /// a time level by level, so that their cache misses overlap. Returns how many were found.
  /// Requires: values is as long as keys.
  std::size_t find_batch(std::span<const Address> keys, std::span<Value> values,
                         Value missing) const noexcept;

  /// Calls f(range, value) for each entry that overlaps `window`, in order. Where f returns bool,
  /// false stops the walk.
  template <class F>
  void for_each_overlap(range_type window, F f) const {
    if (!tree_.reaches(window.first.value)) return;
    const auto at = tree_.descend(window.first.value);
    const node* leaf = at.leaf;
    detail::leaves_ahead ahead;
    for (unsigned from = at.index; leaf != nullptr; leaf = ahead.onward(leaf), from = 0) {
      const bool on = detail::with_form(*leaf, [&](auto range_at, const std::uint64_t* value) {
        const auto walk = [&](auto behind) {
          const unsigned end = leaf->count;
          for (unsigned n = from; n < end; ++n) {
            const auto [first, last] = range_at(n);
            if (behind(first) || !tell(f, range_type{{first}, {last}}, from_word(value[n])))
              return false;
          }
          return true;
        };
        // Most leaves of a long walk lie in the window, and their entries need not be compared.
        if (range_at(leaf->count - 1).first <= window.last.value)
          return walk([](std::uint64_t) { return false; });
        return walk([&](std::uint64_t first) { return first > window.last.value; });
      });
      if (!on) return;
    }
  }

  // ---- modification ----

  result<void> insert(range_type r, Value v) noexcept {
    IOPT_ASSERT(r.first <= r.last);
    const auto at = tree_.insert(r.first.value, r.last.value, to_word(v));
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
    const Value v = at.value();
    at = to_cursor(tree_.erase(place_of(at)));
    return v;
  }
  /// Erases the entry with exactly that range, if there is one.
  [[gnu::always_inline]] std::optional<Value> erase(range_type r) noexcept {
    std::uint64_t word = 0;
    if (!take_out(r, word)) return std::nullopt;
    return from_word(word);
  }

  /// The entry [f, l] becomes [f, left_last], with its value, and [left_last + 1, l] with `right`.
  /// Requires: f <= left_last < l.
  result<void> split(cursor at, Address left_last, Value right) noexcept {
    IOPT_ASSERT(at.range().first <= left_last && left_last < at.range().last);
    return tree_.split(place_of(at), left_last.value, to_word(right));
  }
  /// Afterwards, if the map is not modified in between, carve() of `part` cannot fail.
  /// Errors: not_enough_memory. Requires: there is an entry around it.
  result<void> reserve_carve(range_type part) noexcept {
    if (!tree_.stock_for_carve(part.first.value)) return fail(errc::not_enough_memory);
    return {};
  }
  /// Makes up to three entries of the one around `part`: what is before keeps its value, `part` gets
  /// `inner`, what is behind gets `right`. `part` is then remembered as by seek().
  /// Requires: there is that entry.
  result<void> carve(range_type part, Value inner, Value right) noexcept {
    IOPT_ASSERT(find(part.first) && find(part.first).range().contains(part));
    return tree_.carve(part.first.value, part.last.value, to_word(inner), to_word(right));
  }
  /// Requires: `smaller` lies within the entry.
  void narrow(cursor at, range_type smaller) noexcept {
    IOPT_ASSERT(at.range().contains(smaller));
    [[maybe_unused]] const auto narrowed = resize(at, smaller);
    IOPT_ASSERT(narrowed);  // what fits a leaf's form, a part of it fits
  }
  /// Whether widen() to that range asks for no memory.
  static bool widens_in_place(range_type larger) noexcept {
    return detail::leaf_form::of(larger.first.value, larger.last.value).is_packed;
  }
  /// Where the entry is then; file_exists where `larger` overlaps a neighbour.
  /// Requires: `larger` contains the entry.
  result<cursor> widen(cursor at, range_type larger) noexcept {
    IOPT_ASSERT(larger.contains(at.range()));
    cursor before = at, next = at;
    if (before.prev() && before.range().last >= larger.first) return in_the_way(before);
    if (next.next() && next.range().first <= larger.last) return in_the_way(next);
    return resize(at, larger);
  }

  // ---- memory ----

  /// Afterwards that many calls of insert(), split() and widen(), and half as many of carve(), cannot
  /// fail for memory; erasing in between takes nothing from it. Errors: not_enough_memory.
  result<void> reserve(std::size_t inserts) noexcept {
    if (!tree_.reserve(inserts)) return fail(errc::not_enough_memory);
    return {};
  }
  /// Gives back the nodes that are kept for later, and with them what reserve() promised.
  void trim() noexcept { tree_.trim(); }
  /// What the entries take, in bytes; nodes kept for later apart.
  std::size_t node_bytes() const noexcept { return tree_.node_bytes(); }
  std::size_t kept_bytes() const noexcept { return tree_.pool_size() * sizeof(node); }

  // ---- holes ----

  /// Walks `window` from end to end: f(range, cursor) for each entry and each hole, clipped to the
  /// window, the cursor none for a hole. Where f returns bool, false stops the walk.
  template <class F>
  void for_each_span(range_type window, F f) const {
    std::uint64_t at = window.first.value;
    cursor c = lower_bound(window.first);
    for (; c && c.range().first <= window.last; c.next()) {
      const range_type r = c.range();
      if (r.first.value > at && !tell(f, {{at}, {r.first.value - 1}}, cursor())) return;
      const range_type used{std::max(r.first, window.first), std::min(r.last, window.last)};
      if (!tell(f, used, c) || r.last >= window.last) return;
      at = r.last.value + 1;
    }
    tell(f, {{at}, window.last}, cursor());
  }

  /// Walks `window`: f(range) for each maximal span of addresses that are in entries, clipped to the
  /// window. Where f returns bool, false stops the walk.
  template <class F>
  void for_each_used_span(range_type window, F f) const {
    std::uint64_t first = window.first.value;  // the span, if one is there
    const auto tell_span = [&](std::uint64_t last) {
      if constexpr (std::same_as<decltype(f(window)), bool>) return f(range_type{{first}, {last}});
      f(range_type{{first}, {last}});
      return true;
    };
    bool more = true;
    detail::for_each_hole(tree_, first, window.last.value, 1,
                          [&](std::uint64_t hole, std::uint64_t hole_last) {
                            const bool stop = hole > first && !tell_span(hole - 1);
                            more = !stop && hole_last != window.last.value;
                            first = hole_last + 1;
                            return stop;
                          });
    if (more) tell_span(window.last.value);
  }

  /// Offers each hole, clipped to the window and of at least `length` units, in order, to
  /// std::optional<Address> fits(closed_range<Address>), and returns the first answer.
  /// Requires: length > 0.
  template <class Fits>
    requires std::invocable<Fits&, range_type>
  std::optional<Address> lowest_hole(range_type window, std::uint64_t length, Fits fits) const {
    IOPT_ASSERT(length > 0);
    std::optional<Address> found;
    detail::for_each_hole(tree_, window.first.value, window.last.value, length,
                          [&](std::uint64_t first, std::uint64_t last) {
                            found = fits(range_type{{first}, {last}});
                            return found.has_value();
                          });
    return found;
  }

  /// The lowest aligned address with `length` units of hole from it on, inside the window and
  /// outside of what is excluded. Cost: with e ranges excluded, O(log e) for each hole that is long
  /// enough, and O(1) for each excluded range in one.
  std::optional<Address> lowest_hole(const hole_request<Address>& wanted) const {
    IOPT_ASSERT(is_power_of_two(wanted.alignment));
    return lowest_hole(wanted.window, wanted.length,
                       [&](range_type hole) { return lowest_in_hole(wanted, hole); });
  }

  /// Empty, or the name of the first invariant that does not hold. Cost: O(n).
  std::string_view verify() const noexcept { return detail::area_tree_check<tree>::wrong(tree_); }

 private:
  /// What erase() does, out of line. An optional that is returned in registers is written to memory in two
  /// pieces and read in one, which waits for them, also where nobody looks at it.
  [[gnu::noinline]] bool take_out(range_type r, std::uint64_t& word) noexcept {
    if (!tree_.reaches(r.first.value)) return false;
    const auto at = tree_.known(r.first.value);
    if (range_of(*at.leaf, at.index) != r) return false;
    word = detail::value_of(*at.leaf, at.index);
    tree_.erase(at);
    return true;
  }

  friend cursor;

  static std::uint64_t to_word(Value v) noexcept { return detail::to_word(v); }
  static Value from_word(std::uint64_t word) noexcept { return detail::from_word<Value>(word); }
  static range_type range_of(const node& leaf, unsigned n) noexcept {
    return {{detail::first_of(leaf, n)}, {detail::last_of(leaf, n)}};
  }
  static cursor containing(typename tree::place at, Address a) noexcept {
    return detail::first_of(*at.leaf, at.index) <= a.value ? to_cursor(at) : cursor();
  }
  static cursor to_cursor(typename tree::place at) noexcept { return {at.leaf, at.index}; }
  static typename tree::place place_of(cursor c) noexcept {
    IOPT_ASSERT(c.valid());
    return {c.leaf_, c.index_, tree::child_of(*c.leaf_)};
  }

  static std::unexpected<error> in_the_way(cursor c) noexcept {
    return fail(error(errc::file_exists, error_place::area, c.range().first.value));
  }
  result<cursor> resize(cursor at, range_type r) noexcept {
    const auto resized = tree_.resize(place_of(at), r.first.value, r.last.value);
    if (!resized) return std::unexpected(resized.error());
    return to_cursor(*resized);
  }

  template <class F, class What>
  static bool tell(F& f, range_type r, What what) {
    if constexpr (std::same_as<decltype(f(r, what)), bool>) return f(r, what);
    f(r, what);
    return true;
  }

  static std::optional<Address> lowest_in_hole(const hole_request<Address>& wanted,
                                               range_type hole) noexcept {
    auto excluded = std::lower_bound(wanted.excluded.begin(), wanted.excluded.end(), hole.first,
                                     [](const range_type& r, Address a) { return r.last < a; });
    std::uint64_t from = hole.first.value;
    for (;;) {
      const auto first = align_up(from, wanted.alignment);
      if (!first || *first > hole.last.value || hole.last.value - *first < wanted.length - 1)
        return std::nullopt;
      const std::uint64_t last = *first + (wanted.length - 1);
      while (excluded != wanted.excluded.end() && excluded->last.value < *first) ++excluded;
      if (excluded == wanted.excluded.end() || excluded->first.value > last) return Address{*first};
      if (excluded->last.value == top) return std::nullopt;
      from = excluded->last.value + 1;
    }
  }

  tree tree_;
};

template <class Address, class Value, memory_source Memory, class Probe>
std::size_t area_map<Address, Value, Memory, Probe>::find_batch(std::span<const Address> keys,
                                                                std::span<Value> values,
                                                                Value missing) const noexcept {
  constexpr std::size_t width = 16;
  IOPT_ASSERT(values.size() == keys.size());
  if (empty()) {
    std::fill(values.begin(), values.end(), missing);
    return 0;
  }
  std::size_t found = 0;
  const std::uint64_t last = tree_.last_address();
  for (std::size_t done = 0; done < keys.size(); done += width) {
    const std::size_t batch = std::min(width, keys.size() - done);
    const node* at[width];
    std::uint64_t wanted[width];
    for (std::size_t n = 0; n < width; ++n) {  // a short batch repeats its first key
      at[n] = tree_.root();
      wanted[n] = std::min(keys[done + (n < batch ? n : 0)].value, last);
    }
    for (unsigned level = tree_.height(); level != 0; --level) {
      for (std::size_t n = 0; n < width; ++n) {
        Probe::visit();
        at[n] = at[n]->child(detail::count_less(at[n]->plain.last, wanted[n]));
        if (level == 1) detail::prefetch_line(at[n]);
        detail::prefetch_words(at[n]->plain.last);
      }
    }
    unsigned index[width];
    for (std::size_t n = 0; n < width; ++n) {
      Probe::visit();
      index[n] = detail::place_in(*at[n], wanted[n]);
      detail::prefetch_entry(*at[n], index[n]);
    }
    for (std::size_t n = 0; n < batch; ++n) {
      const std::uint64_t key = keys[done + n].value;
      const bool hit = range_of(*at[n], index[n]).contains(Address{key});
      values[done + n] = hit ? from_word(detail::value_of(*at[n], index[n])) : missing;
      found += hit ? 1u : 0u;
    }
  }
  return found;
}

}  // namespace iopt
