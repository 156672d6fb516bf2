// tests/containers/node_tree_test.cpp - what trees of nodes have in common: the walk from leaf to
// leaf, children and their numbers, reserving.
#include "iopt/containers/node_tree.hpp"

#include <cstdint>

#include "iopt/base/memory_source.hpp"
#include "iopt/containers/area_map_tree.hpp"
#include "tests/catch.hpp"

namespace {

using tree = iopt::detail::area_tree<iopt::heap_memory, iopt::no_probe>;
using node = iopt::detail::area_map_node;

/// One that is walked by hand.
struct walker : iopt::detail::leaf_walk {
  using leaf_walk::back;
  using leaf_walk::forward;
  using leaf_walk::leaf_walk;
  bool valid() const { return leaf_ != nullptr; }
  std::uint64_t value() const { return iopt::detail::value_of(*leaf_, index_); }
};

}  // namespace

TEST_CASE("a walk goes through all leaves, from wherever it begins", "[node_tree]") {
  tree t{iopt::heap_memory{}};
  const std::uint64_t n = 40000;  // more than one node of inner nodes
  for (std::uint64_t i = 0; i < n; ++i) REQUIRE(t.insert(i * 2, i * 2, i).has_value());
  REQUIRE(t.height() >= 2);
  for (std::uint64_t from = 0; from < n; from += 1777) {
    const auto at = t.descend(from * 2);
    walker w(at.leaf, at.index);
    for (std::uint64_t i = from; i < n; ++i, w.forward())
      if (!w.valid() || w.value() != i) FAIL("forward from " << from << " at " << i);
    CHECK_FALSE(w.valid());
    w = walker(at.leaf, at.index);
    for (std::uint64_t i = from + 1; i-- > 0; w.back())
      if (!w.valid() || w.value() != i) FAIL("back from " << from << " at " << i);
    CHECK_FALSE(w.valid());
  }
}

TEST_CASE("a child's number is found by its words and by its address", "[node_tree]") {
  tree t{iopt::heap_memory{}};
  for (std::uint64_t i = 0; i < 5000; ++i)
    REQUIRE(t.insert(i * 7919 % 5003 * 4, i * 7919 % 5003 * 4 + 1, i).has_value());
  for (const node* leaf = t.first().leaf; leaf != nullptr; leaf = leaf->next) {
    const unsigned n = tree::child_of(*leaf);
    REQUIRE(leaf->parent->child(n) == leaf);
    REQUIRE(iopt::detail::position(*leaf->parent, leaf) == n);
  }
  REQUIRE(tree::child_of(*t.root()) == 0);
}

TEST_CASE("nodes are reserved, used and given back", "[node_tree]") {
  tree t{iopt::heap_memory{}};
  REQUIRE(t.reserve(1000));
  const std::size_t held = t.pool_size();
  REQUIRE(held >= 1000 / 16);
  for (std::uint64_t i = 0; i < 1000; ++i) REQUIRE(t.insert(i, i, i).has_value());
  REQUIRE(t.pool_size() + t.node_bytes() / sizeof(node) == held);
  tree other(std::move(t));
  REQUIRE(t.empty());
  REQUIRE(other.size() == 1000);
  t = std::move(other);
  REQUIRE(t.last_address() == 999);
  t.clear();
  t.trim();
  REQUIRE(t.pool_size() == 0);
  REQUIRE(t.node_bytes() == 0);
}
