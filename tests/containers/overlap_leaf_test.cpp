// tests/containers/overlap_leaf_test.cpp - leaves of overlapping ranges, in either form, against
// plain loops.
#include "iopt/containers/overlap_leaf.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <random>
#include <vector>

#include "tests/catch.hpp"

namespace {

using iopt::top;
using iopt::detail::area_map_node;
using iopt::detail::begin_of;
using iopt::detail::end_of;
using iopt::detail::leaf_form;
using iopt::detail::leaf_hits;
using random_bits = std::mt19937_64;

constexpr std::uint64_t window = std::uint64_t{1} << 32;

struct entry {
  std::uint64_t first, last, value;
  bool operator==(const entry&) const = default;
};

/// An address in a window, at either end of the space or not, or anywhere.
struct place {
  std::uint64_t from, span;
  explicit place(random_bits& random) {
    const std::uint64_t windows[] = {0, top - window + 1, random() & ~(window - 1)};
    const bool anywhere = random() % 4 == 0;
    from = anywhere ? 0 : windows[random() % 3];
    span = anywhere ? top : random() % 3 ? window - 1 : (window - 1) >> 16;
  }
  std::uint64_t draw(random_bits& random) const {
    const std::uint64_t near = random() % 64;
    const std::uint64_t offset[] = {near, span - near, random(), random()};
    return from + (offset[random() % 4] & span);
  }
};

area_map_node empty_leaf() {
  area_map_node leaf{};
  std::fill(std::begin(leaf.plain.last), std::end(leaf.plain.last), top);
  return leaf;
}

bool put(area_map_node& leaf, unsigned at, const entry& e) {
  if (leaf.count == 0) begin_leaf(leaf, leaf_form::of(e.first, e.last));
  if (!make_place(leaf, e.last, e.first)) return false;
  insert_into(leaf, at, e.last, e.first, e.value);
  return true;
}

/// A leaf of ranges in a place, put in in any order, some of which leave it.
area_map_node draw_leaf(random_bits& random, const place& where, std::size_t most,
                        std::vector<entry>& all) {
  area_map_node leaf = empty_leaf();
  all.clear();
  for (auto count = random() % (most + 1); count != 0; --count) {
    entry e{where.draw(random), where.draw(random), random()};
    if (random() % 256 == 0) e.last = random();
    if (e.first > e.last) std::swap(e.first, e.last);
    const auto at = std::upper_bound(all.begin(), all.end(), e,
                                     [](auto& a, auto& b) { return a.first < b.first; });
    if (!put(leaf, static_cast<unsigned>(at - all.begin()), e)) break;
    all.insert(at, e);
  }
  return leaf;
}

std::vector<entry> entries_of(const area_map_node& leaf) {
  std::vector<entry> all;
  for (unsigned n = 0; n < leaf.count; ++n)
    all.push_back({begin_of(leaf, n), end_of(leaf, n), value_of(leaf, n)});
  return all;
}

}  // namespace

TEST_CASE("a leaf is packed where all its ranges end in the window too", "[overlap_leaf]") {
  area_map_node leaf = empty_leaf();
  REQUIRE(put(leaf, 0, {window, 2 * window - 1, 7}));
  CHECK(leaf.is_packed);
  REQUIRE(put(leaf, 1, {window + 5, window + 6, 8}));
  CHECK(leaf.is_packed);
  // The range that leaves it is not the last one.
  REQUIRE(put(leaf, 1, {window + 1, 2 * window, 9}));
  CHECK_FALSE(leaf.is_packed);
  CHECK(entries_of(leaf) == std::vector<entry>{{window, 2 * window - 1, 7},
                                               {window + 1, 2 * window, 9},
                                               {window + 5, window + 6, 8}});
  for (unsigned n = 3; n < area_map_node::capacity; ++n)
    REQUIRE(put(leaf, n, {window + 9, window + n + 10, n}));
  CHECK_FALSE(put(leaf, 0, {window, window, 0}));
  remove_from(leaf, 1);
  REQUIRE(put(leaf, 0, {window, window, 0}));
  CHECK_FALSE(leaf.is_packed);
  CHECK(put(leaf, 0, {window, window, 0}));  // a leaf without room becomes packed where it can
  CHECK(leaf.is_packed);
}

TEST_CASE("a packed leaf is asked for what lies at the ends of its window", "[overlap_leaf]") {
  for (const std::uint64_t low : {std::uint64_t{0}, 5 * window, top - window + 1}) {
    const std::uint64_t high = low + window - 1;
    area_map_node leaf = empty_leaf();
    REQUIRE(put(leaf, 0, {low, low, 1}));
    REQUIRE(put(leaf, 1, {high, high, 2}));
    REQUIRE(leaf.is_packed);
    CHECK(begin_before(leaf, low) == 0);
    CHECK(begin_before(leaf, low + 1) == 1);
    CHECK(begin_before(leaf, high) == 1);
    CHECK(not_behind(leaf, low) == 1);
    CHECK(not_behind(leaf, high - 1) == 1);
    CHECK(not_behind(leaf, high) == 2);
    CHECK(not_behind(leaf, top) == 2);
    CHECK(leaf_hits::of(leaf, 0, low).bits == 1);
    CHECK(leaf_hits::of(leaf, low + 1, high - 1).bits == 0);
    CHECK(leaf_hits::of(leaf, high, top).bits == 2);
    CHECK(leaf_hits::of(leaf, 0, top).bits == 3);
    if (low != 0) {
      CHECK(begin_before(leaf, low - 1) == 0);
      CHECK(not_behind(leaf, low - 1) == 0);
      CHECK(leaf_hits::of(leaf, 0, low - 1).bits == 0);
    }
    if (high != top) {
      CHECK(begin_before(leaf, high + 1) == 2);
      CHECK(leaf_hits::of(leaf, low + 1, high + 1).bits == 2);
      CHECK(leaf_hits::of(leaf, high + 1, top).bits == 0);
    }
  }
}

TEST_CASE("a range that lies inside a leaf's window meets no unused word", "[overlap_leaf]") {
  random_bits random(3);
  std::vector<entry> all;
  int inside = 0, outside = 0;
  for (int step = 0; step < 20000; ++step) {
    const place where(random);
    const area_map_node leaf = draw_leaf(random, where, 47, all);
    if (!leaf.is_packed) continue;
    std::uint64_t first = where.draw(random), last = where.draw(random);
    if (random() % 8 == 0) last = random();
    if (random() % 8 == 0) last = leaf.base + (window - 1) - random() % 2;
    if (random() % 8 == 0) first ^= window, last ^= window;  // in the next one
    if (first > last) std::swap(first, last);
    const std::uint64_t end = leaf.base + (window - 1);
    const bool expected = first >= leaf.base && last < end;
    if (lies_inside(leaf, first, last) != expected) FAIL("step " << step);
    ++(expected ? inside : outside);
    if (!expected) continue;
    const auto bits = [&](unsigned count) {
      return iopt::detail::overlapping_portable(leaf.packed.last, leaf.packed.first, count,
                                                static_cast<std::uint32_t>(first),
                                                static_cast<std::uint32_t>(last));
    };
    if (bits(area_map_node::packed_capacity) != bits(leaf.count)) FAIL("words, step " << step);
  }
  CHECK(inside > 1000);
  CHECK(outside > 1000);
}

TEST_CASE("what a leaf says of its ranges is what loops find", "[overlap_leaf]") {
  random_bits random(2);
  int packed = 0, plain = 0, full = 0;
  std::vector<entry> all;
  for (int step = 0; step < 20000; ++step) {
    const place where(random);
    const area_map_node leaf = draw_leaf(random, where, 52, all);
    if (entries_of(leaf) != all) FAIL("entries, step " << step);
    ++(leaf.is_packed ? packed : plain);
    full += leaf.count == area_map_node::packed_capacity;
    const auto some = static_cast<unsigned>(random() % (all.size() + 1));
    std::uint64_t reach = 0;
    for (unsigned n = 0; n < some; ++n) reach = std::max(reach, all[n].last);
    if (reach_of(leaf, some) != reach) FAIL("reach, step " << step);
    for (int n = 0; n < 8; ++n) {
      std::uint64_t first = random() % 2 ? where.draw(random) : random() >> random() % 64;
      std::uint64_t last = random() % 4 ? where.draw(random) : ~(random() >> random() % 64);
      if (!all.empty() && random() % 2) first = all[random() % all.size()].last + random() % 3 - 1;
      if (!all.empty() && random() % 2) last = all[random() % all.size()].first + random() % 3 - 1;
      if (first > last) std::swap(first, last);
      std::uint64_t bits = 0;
      unsigned before = 0, not_behind = 0;
      for (unsigned e = 0; e < all.size(); ++e) {
        if (all[e].first <= last && first <= all[e].last) bits |= std::uint64_t{1} << e;
        before += all[e].first < first ? 1 : 0;
        not_behind += all[e].first <= first ? 1 : 0;
      }
      const leaf_hits hits = leaf_hits::of(leaf, first, last);
      if (hits.bits != bits) FAIL("hits, step " << step << ", " << first << " to " << last);
      for (unsigned e = 0; e < all.size(); ++e)
        if (hits.value[e] != all[e].value) FAIL("value, step " << step);
      if (begin_before(leaf, first) != before) FAIL("before, step " << step << ", " << first);
      if (iopt::detail::not_behind(leaf, first) != not_behind)
        FAIL("not behind, step " << step << ", " << first);
    }
  }
  CHECK(packed > 1000);
  CHECK(plain > 1000);
  CHECK(full > 100);
}

TEST_CASE("overlapping ranges are shared as in a vector", "[overlap_leaf]") {
  random_bits random(3);
  std::vector<entry> l, r;
  for (int round = 0; round < 4000; ++round) {
    area_map_node left = draw_leaf(random, place(random), 28, l);
    area_map_node right = draw_leaf(random, place(random), 28, r);
    if (l.empty() || r.empty()) continue;
    if (r.front().first < l.back().first) {
      if (l.front().first < r.back().first) continue;
      std::swap(l, r), std::swap(left, right);
    }
    std::vector<entry> both = l;
    both.insert(both.end(), r.begin(), r.end());
    const unsigned total = left.count + right.count, least = total > 32 ? total - 32 : 0;
    const auto keep = static_cast<unsigned>(least + random() % (std::min(total, 32u) - least + 1));
    share_leaves(left, right, keep);
    if (entries_of(left) != std::vector(both.begin(), both.begin() + keep)) FAIL("left " << round);
    if (entries_of(right) != std::vector(both.begin() + keep, both.end())) FAIL("right " << round);
  }
}
