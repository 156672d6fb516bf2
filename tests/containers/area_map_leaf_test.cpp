// tests/containers/area_map_leaf_test.cpp - leaves in either form against plain loops.
#include "iopt/containers/area_map_leaf.hpp"

#include <algorithm>
#include <cstdint>
#include <random>
#include <vector>

#include "tests/catch.hpp"

namespace {

using iopt::top;
using iopt::detail::area_map_node;
using iopt::detail::leaf_form;
using random_bits = std::mt19937_64;

struct entry {
  std::uint64_t first, last, value;
  bool operator==(const entry&) const = default;
};

/// Ascending entries, some of them side by side: in a window, which may be the first or the last one,
/// in a part of it, or anywhere.
std::vector<entry> draw_entries(random_bits& random, unsigned most) {
  constexpr std::uint64_t window = ~std::uint32_t{0};
  const std::uint64_t windows[] = {0, ~window, random() & ~window};
  const bool anywhere = random() % 4 == 0;
  const std::uint64_t from = anywhere ? 0 : windows[random() % 3];
  const std::uint64_t span = anywhere ? top : random() % 3 ? window : window >> 16;
  const auto address = [&] {
    const std::uint64_t near = random() % 64;
    const std::uint64_t offset[] = {near, span - near, random(), random()};
    return from + (offset[random() % 4] & span);
  };
  const auto count = static_cast<unsigned>(random() % (most + 1));
  std::vector<std::uint64_t> ends(2 * count);
  for (std::uint64_t& end : ends) end = address();
  std::sort(ends.begin(), ends.end());
  std::vector<entry> all;
  for (unsigned n = 0; n < count; ++n) {
    entry e{ends[2 * n], ends[2 * n + 1], random()};
    if (!all.empty() && random() % 4 == 0) e.first = all.back().last + 1;
    if (e.first > e.last || (!all.empty() && e.first <= all.back().last)) continue;
    all.push_back(e);
  }
  return all;
}

std::vector<entry> entries_of(const area_map_node& leaf) {
  std::vector<entry> all;
  for (unsigned n = 0; n < leaf.count; ++n)
    all.push_back({first_of(leaf, n), last_of(leaf, n), value_of(leaf, n)});
  return all;
}

/// Whether unused words of the array that is searched are all-ones.
bool padded(const area_map_node& leaf) {
  bool all = true;
  for (unsigned n = leaf.count; n < leaf_form::of(leaf).capacity(); ++n)
    all = all &&
          (leaf.is_packed ? leaf.packed.last[n] == ~std::uint32_t{0} : leaf.plain.last[n] == top);
  return all;
}

area_map_node empty_leaf() {
  area_map_node leaf{};
  std::fill(std::begin(leaf.plain.last), std::end(leaf.plain.last), top);
  return leaf;
}

/// A leaf of those entries as far as they have a place; they are shortened to what has.
area_map_node make_leaf(std::vector<entry>& all) {
  area_map_node leaf = empty_leaf();
  if (!all.empty()) begin_leaf(leaf, leaf_form::of(all[0].first, all[0].last));
  unsigned n = 0;
  for (; n < all.size(); ++n) {
    const entry& e = all[n];
    if (!has_place(leaf, e.first, e.last) && !make_place(leaf, e.first, e.last)) break;
    insert_into(leaf, n, e.first, e.last, e.value);
  }
  all.resize(n);
  return leaf;
}

}  // namespace

TEST_CASE("a leaf is packed where its entries lie in one window", "[area_map_leaf]") {
  area_map_node leaf = empty_leaf();
  const std::uint64_t window = std::uint64_t{1} << 32;
  begin_leaf(leaf, leaf_form::of(window, window + 9));
  insert_into(leaf, 0, window, window + 9, 7);
  CHECK(leaf.is_packed);
  CHECK(has_place(leaf, 2 * window - 5, 2 * window - 1));
  CHECK_FALSE(has_place(leaf, 2 * window - 5, 2 * window));
  CHECK_FALSE(has_place(leaf, window - 1, window - 1));

  REQUIRE(make_place(leaf, 2 * window, 2 * window));
  CHECK_FALSE(leaf.is_packed);
  CHECK(entries_of(leaf) == std::vector<entry>{{window, window + 9, 7}});
  insert_into(leaf, 1, 2 * window, 2 * window, 8);
  remove_from(leaf, 1);
  CHECK_FALSE(leaf.is_packed);
  // A leaf without room becomes packed again where it can.
  for (unsigned n = 1; n < area_map_node::capacity; ++n)
    insert_into(leaf, n, window + 10 * n, window + 10 * n, n);
  CHECK_FALSE(has_place(leaf, window + 5000, window + 5000));
  CHECK(make_place(leaf, window + 5000, window + 5000));
  CHECK(leaf.is_packed);
}

TEST_CASE("entries keep their addresses in every form", "[area_map_leaf]") {
  random_bits random(1);
  int packed = 0, plain = 0, full = 0;
  for (int step = 0; step < 20000; ++step) {
    std::vector<entry> all = draw_entries(random, 48);
    const std::size_t drawn = all.size();
    area_map_node leaf = make_leaf(all);
    if (entries_of(leaf) != all || !padded(leaf)) FAIL("step " << step);
    if (drawn != all.size() && leaf.count < area_map_node::capacity) FAIL("no room " << step);
    ++(leaf.is_packed ? packed : plain);
    full += drawn != all.size();
    if (all.empty()) continue;

    // A search finds the first entry that ends at `a` or behind it.
    for (int n = 0; n < 8; ++n) {
      const entry& some = all[random() % all.size()];
      const std::uint64_t near = (random() % 2 ? some.first : some.last) + random() % 3 - 1;
      const std::uint64_t a = std::min(n == 0 ? random() : near, all.back().last);
      const auto wanted =
          std::find_if(all.begin(), all.end(), [&](auto& e) { return e.last >= a; });
      if (place_in(leaf, a) != wanted - all.begin()) FAIL("step " << step << " at " << a);
    }
    // An entry may be narrowed in every form, and widened unless the leaf has to be split for it.
    const auto n = static_cast<unsigned>(random() % all.size());
    entry& e = all[n];
    const std::uint64_t length = e.last - e.first;
    e.first += length == top ? 1 : random() % (length + 1);
    if (!set_range(leaf, n, e.first, e.last)) FAIL("narrow " << step);
    if (entries_of(leaf) != all || !padded(leaf)) FAIL("narrow " << step);
    const std::uint64_t room = n + 1 < all.size() ? all[n + 1].first - 1 - e.last : top - e.last;
    const std::uint64_t last = e.last + (room == top ? 1 : random() % (room + 1));
    const bool set = set_range(leaf, n, e.first, last);
    if (!set && leaf.count <= area_map_node::capacity) FAIL("widen " << step);
    if (set) e.last = last;
    if (entries_of(leaf) != all || !padded(leaf)) FAIL("widen " << step);
  }
  CHECK(packed > 1000);
  CHECK(plain > 1000);
  CHECK(full > 100);
}

TEST_CASE("the holes of a leaf are those before its entries", "[area_map_leaf]") {
  random_bits random(3);
  for (int step = 0; step < 20000; ++step) {
    std::vector<entry> all = draw_entries(random, 48);
    area_map_node leaf = make_leaf(all);
    leaf.space_first = all.empty() ? random() : all[0].first - random() % 3 * (all[0].first / 2);
    std::uint64_t begin = leaf.space_first, most = 0;
    std::vector<std::uint64_t> lengths;
    for (const entry& e : all) {
      lengths.push_back(e.first - begin);
      most = std::max(most, lengths.back());
      begin = e.last + 1;
    }
    if (longest_hole(leaf) != most) FAIL("longest, step " << step);
    for (int n = 0; n < 4; ++n) {
      std::uint64_t length = random() >> random() % 64;
      if (!all.empty() && n != 0) length = lengths[random() % all.size()] + random() % 3 - 1;
      length = std::max<std::uint64_t>(length, 1);
      std::uint64_t bits = 0;
      for (unsigned e = 0; e < all.size(); ++e)
        if (lengths[e] >= length) bits |= std::uint64_t{1} << e;
      if (long_holes(leaf, length) != bits) FAIL("step " << step << ", length " << length);
    }
  }
}

TEST_CASE("a leaf's entries go in, come out and are shared as in a vector", "[area_map_leaf]") {
  random_bits random(4);
  int same_window = 0, apart = 0;
  for (int round = 0; round < 4000; ++round) {
    std::vector<entry> l = draw_entries(random, 28), r = draw_entries(random, 28);
    if (random() % 2) {  // likely of one window
      l = draw_entries(random, 56);
      const auto cut = l.begin() + static_cast<int>(l.size() / 2);
      r.assign(cut, l.end()), l.erase(cut, l.end());
    }
    if (!l.empty() && !r.empty() && r.front().first <= l.back().last) {
      if (r.back().last >= l.front().first) continue;
      std::swap(l, r);
    }
    area_map_node left = make_leaf(l), right = make_leaf(r);
    std::vector<entry> both = l;
    both.insert(both.end(), r.begin(), r.end());
    const unsigned total = left.count + right.count;
    if (total > 0) {
      const bool same = leaf_form::of(left) == leaf_form::of(right);
      const unsigned most = same ? leaf_form::of(left).capacity() : area_map_node::capacity;
      const unsigned least = total > most ? total - most : 0;
      const auto keep =
          static_cast<unsigned>(least + random() % (std::min(total, most) - least + 1));
      ++(same ? same_window : apart);
      share_leaves(left, right, keep);
      l.assign(both.begin(), both.begin() + keep), r.assign(both.begin() + keep, both.end());
    }
    if (entries_of(left) != l || entries_of(right) != r) FAIL("share " << round);
    if (!padded(left) || !padded(right)) FAIL("share " << round);
    while (!l.empty()) {
      const auto n = static_cast<unsigned>(random() % l.size());
      const entry e = l[n];
      remove_from(left, n), l.erase(l.begin() + n);
      if (entries_of(left) != l || !padded(left)) FAIL("remove " << round);
      if (random() % 4) continue;
      insert_into(left, n, e.first, e.last, e.value), l.insert(l.begin() + n, e);
      if (entries_of(left) != l || !padded(left)) FAIL("insert " << round);
    }
  }
  CHECK(same_window > 100);
  CHECK(apart > 100);
}
