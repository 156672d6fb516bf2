// tests/containers/area_map_holes_test.cpp - the walk over long enough holes.
#include "iopt/containers/area_map_holes.hpp"

#include <algorithm>
#include <cstdint>
#include <random>
#include <utility>
#include <vector>

#include "iopt/base/memory_source.hpp"
#include "iopt/containers/area_map_tree.hpp"
#include "tests/catch.hpp"

namespace {

using iopt::top;

struct counting_probe {
  static inline std::size_t visits = 0;
  static void visit() noexcept { ++visits; }
};
using tree = iopt::detail::area_tree<iopt::heap_memory, counting_probe>;
using hole_list = std::vector<std::pair<std::uint64_t, std::uint64_t>>;

hole_list walk(const tree& t, std::uint64_t first, std::uint64_t last, std::uint64_t length,
               std::size_t most) {
  hole_list found;
  iopt::detail::for_each_hole(t, first, last, length, [&](std::uint64_t a, std::uint64_t b) {
    found.emplace_back(a, b);
    return found.size() == most;
  });
  return found;
}

}  // namespace

TEST_CASE("an empty tree is one hole", "[area_map_holes]") {
  const tree t{iopt::heap_memory{}};
  CHECK(walk(t, 0, top, top, 9) == hole_list{{0, top}});
  CHECK(walk(t, 5, 9, 5, 9) == hole_list{{5, 9}});
  CHECK(walk(t, 5, 9, 6, 9).empty());
}

TEST_CASE("the holes of a tree are what its entries leave", "[area_map_holes][model]") {
  std::mt19937_64 random(3);
  for (int round = 0; round < 60; ++round) {
    tree t{iopt::heap_memory{}};
    // Holes of length 0 to 3, few of them long; the last entry ends at the top in some rounds.
    std::vector<std::pair<std::uint64_t, std::uint64_t>> entries;
    const std::size_t count = 1 + random() % (round < 30 ? 40 : 4000);
    std::uint64_t at = random() % 4;
    for (std::size_t n = 0; n < count; ++n) {
      const std::uint64_t last = at + random() % 4;
      entries.emplace_back(at, last);
      at = last + 1 + (random() % 16 == 0 ? random() % 40 : random() % 4);
    }
    if (round % 3 == 0) entries.emplace_back(at + 7, top);
    hole_list holes;
    std::uint64_t from = 0;
    for (const auto& [first, last] : entries) {
      if (first > from) holes.emplace_back(from, first - 1);
      from = last + 1;
    }
    if (round % 3 != 0) holes.emplace_back(from, top);
    std::shuffle(entries.begin(), entries.end(), random);
    for (const auto& [first, last] : entries)
      if (!t.insert(first, last, 0)) FAIL("insert");
    for (int query = 0; query < 400; ++query) {
      const std::uint64_t a = random() % 4 ? random() % (at + 20) : 0;
      const std::uint64_t b = random() % 4 ? a + random() % (at + 1) : top;
      const std::uint64_t length = 1 + random() % (random() % 4 ? 6 : 60);
      const std::size_t most = 1 + random() % 64;
      hole_list expected;
      for (const auto& [first, last] : holes) {
        const std::uint64_t f = std::max(first, a), l = std::min(last, b);
        if (f <= l && l - f >= length - 1 && expected.size() < most) expected.emplace_back(f, l);
      }
      counting_probe::visits = 0;
      if (walk(t, a, b, length, most) != expected) FAIL("round " << round << " query " << query);
      const std::size_t levels = t.height() + 1;
      if (counting_probe::visits > (expected.size() + 3) * 2 * levels)
        FAIL("visits " << counting_probe::visits << " for " << expected.size());
    }
  }
}

TEST_CASE("a walk turns back at the node below which no hole is long enough",
          "[area_map_holes][cost]") {
  tree t{iopt::heap_memory{}};
  for (std::uint64_t n = 1; n <= 4000; ++n)  // the first hole has 4 units, each other one 1
    if (!t.insert(n * 4, n * 4 + 2, n)) FAIL("insert");
  REQUIRE(t.height() == 2);
  counting_probe::visits = 0;
  CHECK(walk(t, 400, 12000, 5, 9).empty());
  CHECK(counting_probe::visits == 1);
  counting_probe::visits = 0;
  CHECK(walk(t, 400, 12000, 2, 9).empty());
  CHECK(counting_probe::visits <= 3);  // not the leaf
}
