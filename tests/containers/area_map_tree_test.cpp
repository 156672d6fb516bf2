// tests/containers/area_map_tree_test.cpp - the shape of the tree as it grows and shrinks.
#include "iopt/containers/area_map_tree.hpp"

#include <algorithm>
#include <cstdint>
#include <random>
#include <string_view>
#include <vector>

#include "iopt/base/memory_source.hpp"
#include "iopt/containers/area_map_check.hpp"
#include "tests/catch.hpp"

namespace {

using tree = iopt::detail::area_tree<iopt::heap_memory, iopt::no_probe>;
using node = iopt::detail::area_map_node;

std::string_view wrong(const tree& t) { return iopt::detail::area_tree_check<tree>::wrong(t); }

bool insert(tree& t, std::uint64_t n) { return t.insert(n * 4 + 4, n * 4 + 6, n).has_value(); }
void erase(tree& t, std::uint64_t n) {
  const auto at = t.descend(n * 4 + 5);
  if (at.index == at.leaf->count || iopt::detail::first_of(*at.leaf, at.index) != n * 4 + 4)
    FAIL("missing " << n);
  t.erase(at);
}
std::size_t nodes(const tree& t) { return t.node_bytes() / sizeof(node); }

}  // namespace

TEST_CASE("ascending and descending insertion fill their leaves", "[area_map_tree]") {
  for (const bool down : {false, true}) {
    tree t{iopt::heap_memory{}};
    const std::uint64_t n = 48 * 31 * 31;
    for (std::uint64_t i = 0; i < n; ++i) REQUIRE(insert(t, down ? n - i : i));
    CHECK(wrong(t).empty());
    CHECK(nodes(t) <= n / 48 + n / (48 * 31) + 8);
    CHECK(t.height() <= 3);
  }
}

TEST_CASE("a leaf that is full as a plain one is packed where it can be", "[area_map_tree]") {
  constexpr std::uint64_t full = node::capacity;
  enum class how { behind, between, cut };
  for (const how one_more : {how::behind, how::between, how::cut}) {
    tree t{iopt::heap_memory{}};
    REQUIRE(t.insert(iopt::top - 9, iopt::top - 9, 0).has_value());
    REQUIRE(insert(t, 0));
    t.erase(t.descend(iopt::top - 9));
    for (std::uint64_t i = 2; i <= full; ++i) REQUIRE(insert(t, i));
    CHECK_FALSE(t.root()->is_packed);
    switch (one_more) {
      case how::behind: REQUIRE(insert(t, full + 1)); break;
      case how::between: REQUIRE(insert(t, 1)); break;
      case how::cut: REQUIRE(t.split(t.descend(4), 4, 7).has_value()); break;
    }
    CHECK(t.root()->is_packed);
    CHECK(nodes(t) == 1);
    CHECK(wrong(t).empty());
  }
}

TEST_CASE("the tree is sound after every step of filling and emptying", "[area_map_tree]") {
  // Each order in which a B+tree is known to go wrong, over three levels.
  for (int order = 0; order < 4; ++order) {
    tree t{iopt::heap_memory{}};
    std::vector<std::uint64_t> keys(2000);
    for (std::uint64_t i = 0; i < keys.size(); ++i) keys[i] = i;
    if (order & 1) std::reverse(keys.begin(), keys.end());
    for (const std::uint64_t k : keys) {
      if (!insert(t, k)) FAIL("insert " << k);
      if (k % 5 == 0 && !wrong(t).empty()) FAIL("insert " << k << ": " << wrong(t));
    }
    CHECK(t.height() == 2);
    if (order & 2) std::shuffle(keys.begin(), keys.end(), std::mt19937_64(5));
    for (const std::uint64_t k : keys) {
      erase(t, k);
      if (!wrong(t).empty()) FAIL("erase " << k << ": " << wrong(t));
      const std::size_t most = t.size() / tree::least + t.size() / 64 + 6;
      if (nodes(t) > most) FAIL("nodes " << nodes(t) << " for " << t.size());
    }
    CHECK(t.empty());
    CHECK(nodes(t) == 0);
    CHECK(t.height() == 0);
  }
}

TEST_CASE("an entry at the seam of two leaves is split, resized and erased", "[area_map_tree]") {
  tree t{iopt::heap_memory{}};
  for (std::uint64_t n = 0; n < 3000; ++n) REQUIRE(t.insert(n * 16, n * 16 + 7, n).has_value());
  for (std::uint64_t n = 0; n < 3000; ++n) {
    const auto find = [&] { return t.descend(n * 16); };
    REQUIRE(t.resize(find(), n * 16, n * 16 + 15).has_value());
    if (!wrong(t).empty()) FAIL("widen " << n << ": " << wrong(t));
    REQUIRE(t.resize(find(), n * 16 + 1, n * 16 + 3).has_value());
    if (!wrong(t).empty()) FAIL("narrow " << n << ": " << wrong(t));
    if (!t.split(t.descend(n * 16 + 1), n * 16 + 1, 7)) FAIL("split " << n);
    if (!wrong(t).empty()) FAIL("split " << n << ": " << wrong(t));
    if (n % 3 == 0) t.erase(t.descend(n * 16 + 2));
    if (!wrong(t).empty()) FAIL("erase " << n << ": " << wrong(t));
  }
  CHECK(t.size() == 5000);
}
