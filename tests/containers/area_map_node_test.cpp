// tests/containers/area_map_node_test.cpp - the functions inside one node against plain loops.
#include "iopt/containers/area_map_node.hpp"

#include <algorithm>
#include <cstdint>
#include <random>
#include <vector>

#include "tests/catch.hpp"

namespace {

using iopt::top;
using iopt::detail::area_map_node;
using random_bits = std::mt19937_64;

/// A word that lies near 0, near 2^63, near 2^64 - 1 or anywhere.
std::uint64_t draw(random_bits& random) {
  const std::uint64_t small = random() % 64;
  switch (random() % 4) {
    case 0: return small;
    case 1: return top - small;
    case 2: return (std::uint64_t{1} << 63) + small - 32;
    default: return random();
  }
}

/// A leaf of disjoint entries, as a tree would hold it.
area_map_node draw_leaf(random_bits& random) {
  area_map_node leaf{};
  leaf.count = static_cast<std::uint32_t>(1 + random() % 32);
  std::fill(std::begin(leaf.last), std::end(leaf.last), top);
  std::fill(std::begin(leaf.first), std::end(leaf.first), random());
  std::vector<std::uint64_t> ends(2 * leaf.count + 1);
  for (std::uint64_t& end : ends) end = draw(random);
  std::sort(ends.begin(), ends.end());
  for (std::size_t n = 1; n < ends.size(); ++n) ends[n] = std::max(ends[n], ends[n - 1] + 1);
  if (!std::is_sorted(ends.begin(), ends.end())) return draw_leaf(random);
  leaf.space_first = ends[0] % 2 == 0 ? ends[0] : ends[1];
  for (unsigned n = 0; n < leaf.count; ++n) {
    leaf.first[n] = ends[2 * n + 1];
    leaf.last[n] = ends[2 * n + 2];
    leaf.value[n] = random();
    const bool no_hole = n != 0 && random() % 4 == 0;
    if (no_hole) leaf.first[n] = leaf.last[n - 1] + 1;
  }
  if (random() % 3 == 0) leaf.last[leaf.count - 1] = top;
  return leaf;
}

}  // namespace

TEST_CASE("the holes of a leaf are those before its entries", "[area_map_node]") {
  random_bits random(3);
  for (int step = 0; step < 20000; ++step) {
    const area_map_node leaf = draw_leaf(random);
    std::uint64_t begin = leaf.space_first, most = 0;
    std::vector<std::uint64_t> lengths;
    for (unsigned n = 0; n < leaf.count; ++n) {
      lengths.push_back(leaf.first[n] - begin);
      most = std::max(most, lengths.back());
      begin = leaf.last[n] + 1;
    }
    const std::uint64_t length =
        std::max<std::uint64_t>(1, random() % 2 ? draw(random) : lengths[random() % leaf.count]);
    std::uint32_t bits = 0;
    for (unsigned n = 0; n < leaf.count; ++n)
      if (lengths[n] >= length) bits |= std::uint32_t{1} << n;
    if (iopt::detail::longest_hole(leaf) != most ||
        iopt::detail::longest_hole_portable(leaf) != most ||
        iopt::detail::long_holes(leaf, length) != bits ||
        iopt::detail::long_holes_portable(leaf, length) != bits)
      FAIL("step " << step);
  }
}

TEST_CASE("a leaf without entries has no holes", "[area_map_node]") {
  area_map_node leaf{};
  std::fill(std::begin(leaf.last), std::end(leaf.last), top);
  leaf.space_first = 100;
  CHECK(iopt::detail::longest_hole(leaf) == 0);
  CHECK(iopt::detail::longest_hole_portable(leaf) == 0);
  CHECK(iopt::detail::long_holes(leaf, 1) == 0);
  CHECK(iopt::detail::long_holes_portable(leaf, 1) == 0);
}

TEST_CASE("entries go in, come out and are shared as in a vector", "[area_map_node]") {
  struct entry {
    std::uint64_t first, last, value;
    bool operator==(const entry&) const = default;
  };
  random_bits random(4);
  const auto entries = [](const area_map_node& n) {
    std::vector<entry> all;
    for (unsigned e = 0; e < n.count; ++e) all.push_back({n.first[e], n.last[e], n.value[e]});
    for (unsigned e = n.count; e < 32; ++e)
      if (n.last[e] != top) all.push_back({0, 0, 0});  // an unused word must be all-ones
    return all;
  };
  area_map_node left{}, right{};
  std::fill(std::begin(left.last), std::end(left.last), top);
  std::fill(std::begin(right.last), std::end(right.last), top);
  std::vector<entry> model_left, model_right;
  for (int step = 0; step < 40000; ++step) {
    area_map_node& n = random() % 2 ? left : right;
    std::vector<entry>& model = &n == &left ? model_left : model_right;
    const entry e{random(), random(), random()};
    if (random() % 8 == 0) {
      const unsigned total = left.count + right.count;
      const unsigned low = total > 32 ? total - 32 : 0;
      const auto keep = static_cast<unsigned>(low + random() % (std::min(total, 32u) - low + 1));
      iopt::detail::share_entries(left, right, keep);
      model_left.insert(model_left.end(), model_right.begin(), model_right.end());
      model_right.assign(model_left.begin() + keep, model_left.end());
      model_left.resize(keep);
    } else if (random() % 2 && n.count < 32) {
      const auto at = static_cast<unsigned>(random() % (n.count + 1));
      iopt::detail::insert_entry(n, at, e.first, e.last, e.value);
      model.insert(model.begin() + at, e);
    } else if (n.count != 0) {
      const auto at = static_cast<unsigned>(random() % n.count);
      iopt::detail::remove_entry(n, at);
      model.erase(model.begin() + at);
    }
    if (entries(left) != model_left || entries(right) != model_right) FAIL("step " << step);
  }
}
