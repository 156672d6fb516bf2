// tests/containers/overlap_tree_test.cpp - the shape of the tree as it grows and shrinks.
#include "iopt/containers/overlap_tree.hpp"

#include <algorithm>
#include <cstdint>
#include <random>
#include <vector>

#include "iopt/base/memory_source.hpp"
#include "tests/catch.hpp"

namespace {

using tree = iopt::detail::overlap_tree<iopt::heap_memory, iopt::no_probe>;
using node = iopt::detail::area_map_node;

struct entry {
  std::uint64_t first, last;
};

void erase(tree& t, const entry& e) {
  auto at = t.lower(e.first);
  while (at.leaf != nullptr && tree::end(*at.leaf, at.index) != e.last)
    if (++at.index == at.leaf->count)
      at = {at.leaf->next, 0, at.leaf->next == nullptr ? 0 : tree::child_of(*at.leaf->next)};
  if (at.leaf == nullptr || tree::begin(*at.leaf, at.index) != e.first) FAIL("missing " << e.first);
  t.erase(at);
}
std::size_t nodes(const tree& t) { return t.node_bytes() / sizeof(node); }

}  // namespace

TEST_CASE("ascending and descending ranges fill their leaves", "[overlap_tree]") {
  for (const bool down : {false, true}) {
    tree t{iopt::heap_memory{}};
    const std::uint64_t n = 32 * 31 * 31;
    for (std::uint64_t i = 0; i < n; ++i) {
      const std::uint64_t first = down ? n - i : i;
      REQUIRE(t.insert(first, first + 100, i).has_value());
    }
    CHECK(t.verify() == "");
    CHECK(nodes(t) <= n / 32 + n / (32 * 31) + 8);
    CHECK(t.height() <= 3);
  }
}

TEST_CASE("overlapping ranges fill and empty a tree that stays sound", "[overlap_tree]") {
  // Each order in which a B+tree is known to go wrong, over three levels, with and without ties.
  for (int order = 0; order < 16; ++order) {
    tree t{iopt::heap_memory{}};
    std::vector<entry> all(1500);
    std::mt19937_64 random(5);
    for (std::uint64_t i = 0; i < all.size(); ++i) {
      const std::uint64_t first = order & 4 ? i / 100 : i;
      all[i] = {first, first + random() % 300};
    }
    if (order & 1) std::reverse(all.begin(), all.end());
    if (order & 8) std::shuffle(all.begin(), all.end(), random);
    for (const entry& e : all) {
      if (!t.insert(e.first, e.last, 0)) FAIL("insert");
      if (random() % 5 == 0 && !t.verify().empty()) FAIL("insert: " << t.verify());
    }
    CHECK(t.verify() == "");
    if (order & 2) std::shuffle(all.begin(), all.end(), random);
    for (const entry& e : all) {
      erase(t, e);
      if (!t.verify().empty()) FAIL("erase: " << t.verify());
      const std::size_t most = t.size() / tree::least + t.size() / 64 + 6;
      if (nodes(t) > most) FAIL("nodes " << nodes(t) << " for " << t.size());
    }
    CHECK(t.empty());
    CHECK(nodes(t) == 0);
    CHECK(t.height() == 0);
  }
}
