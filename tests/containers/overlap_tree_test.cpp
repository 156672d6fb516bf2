// tests/containers/overlap_tree_test.cpp - the shape of the tree as it grows and shrinks.
#include "iopt/containers/overlap_tree.hpp"

#include <algorithm>
#include <cstdint>
#include <random>
#include <string_view>
#include <vector>

#include "iopt/base/memory_source.hpp"
#include "iopt/containers/overlap_check.hpp"
#include "iopt/containers/overlap_leaf.hpp"
#include "tests/catch.hpp"

namespace {

using tree = iopt::detail::overlap_tree<iopt::heap_memory, iopt::no_probe>;
using node = iopt::detail::area_map_node;

std::string_view wrong(const tree& t) { return iopt::detail::overlap_tree_check<tree>::wrong(t); }

struct entry {
  std::uint64_t first, last;
};

void erase(tree& t, const entry& e) {
  auto at = t.lower(e.first);
  while (at.leaf != nullptr && end_of(*at.leaf, at.index) != e.last)
    if (++at.index == at.leaf->count)
      at = {at.leaf->next, 0, at.leaf->next == nullptr ? 0 : tree::child_of(*at.leaf->next)};
  if (at.leaf == nullptr || begin_of(*at.leaf, at.index) != e.first) FAIL("missing " << e.first);
  t.erase(at);
}
std::size_t nodes(const tree& t) { return t.node_bytes() / sizeof(node); }

}  // namespace

TEST_CASE("ascending and descending ranges fill their leaves", "[overlap_tree]") {
  for (const bool down : {false, true}) {
    for (const bool apart : {false, true}) {
      tree t{iopt::heap_memory{}};
      const std::uint64_t n = 32 * 31 * 31, leaf = apart ? 32 : 48;
      for (std::uint64_t i = 0; i < n; ++i) {
        const std::uint64_t first = (down ? n - i : i) << (apart ? 40 : 0);
        REQUIRE(t.insert(first, first + 100, i).has_value());
      }
      CHECK(wrong(t) == "");
      CHECK(nodes(t) <= n / leaf + n / (leaf * 31) + 8);
      CHECK(t.height() <= 3);
    }
  }
}

TEST_CASE("overlapping ranges fill and empty a tree that stays sound", "[overlap_tree]") {
  // Each order in which a B+tree is known to go wrong, over three levels, with and without ties, in
  // one window of 2^32 addresses, over the edge of two, and a few to a window.
  for (int order = 0; order < 16; ++order) {
    for (const int shift : {0, 1, 27}) {
      tree t{iopt::heap_memory{}};
      std::vector<entry> all(1500);
      std::mt19937_64 random(5);
      const std::uint64_t from = shift == 1 ? (std::uint64_t{1} << 32) - 1500 : 0;
      for (std::uint64_t i = 0; i < all.size(); ++i) {
        const std::uint64_t first = from + ((order & 4 ? i / 100 : i) << shift);
        const std::uint64_t length = shift == 27 && random() % 4 ? 8 : 300;
        all[i] = {first, first + (random() % length << shift)};
      }
      if (order & 1) std::reverse(all.begin(), all.end());
      if (order & 8) std::shuffle(all.begin(), all.end(), random);
      for (const entry& e : all) {
        if (!t.insert(e.first, e.last, 0)) FAIL("insert");
        if (random() % 5 == 0 && !wrong(t).empty()) FAIL("insert: " << wrong(t));
      }
      CHECK(wrong(t) == "");
      if (order & 2) std::shuffle(all.begin(), all.end(), random);
      for (const entry& e : all) {
        erase(t, e);
        if (!wrong(t).empty()) FAIL("erase: " << wrong(t));
        const std::size_t most = t.size() / tree::least + t.size() / 64 + 6;
        if (nodes(t) > most) FAIL("nodes " << nodes(t) << " for " << t.size());
      }
      CHECK(t.empty());
      CHECK(nodes(t) == 0);
      CHECK(t.height() == 0);
    }
  }
}

TEST_CASE("a leaf that splits for one long range takes it in either half", "[overlap_tree]") {
  // A full packed leaf of 48, and a range that no packed leaf holds, at each place of it.
  for (std::uint64_t at = 0; at <= 48; ++at) {
    tree t{iopt::heap_memory{}};
    for (std::uint64_t n = 0; n < 48; ++n) REQUIRE(t.insert(n * 2 + 2, n * 2 + 9, n).has_value());
    REQUIRE(t.height() == 0);
    REQUIRE(t.root()->is_packed);
    const auto put = t.insert(at * 2 + 1, iopt::top, 99);
    REQUIRE(put.has_value());
    CHECK(begin_of(*put->leaf, put->index) == at * 2 + 1);
    CHECK(end_of(*put->leaf, put->index) == iopt::top);
    CHECK(t.height() == 1);
    if (wrong(t) != "") FAIL("at " << at << ": " << wrong(t));
    erase(t, {at * 2 + 1, iopt::top});
    if (wrong(t) != "") FAIL("at " << at << ": " << wrong(t));
    CHECK(t.size() == 48);
  }
}
