// tests/containers/overlap_check_test.cpp - each broken invariant is found and named.
#include "iopt/containers/overlap_check.hpp"

#include <cstdint>
#include <string_view>
#include <utility>

#include "iopt/base/memory_source.hpp"
#include "iopt/containers/overlap_tree.hpp"
#include "tests/catch.hpp"

namespace {

using tree = iopt::detail::overlap_tree<iopt::heap_memory, iopt::no_probe>;
using check = iopt::detail::overlap_tree_check<tree>;
using node = iopt::detail::area_map_node;

/// A tree of three levels with room in every node.
void fill(tree& t, std::uint64_t times) {
  for (std::uint64_t n = 0; n < 2000; ++n) {
    const std::uint64_t first = (n * 7919 % 2003) * times + 50;
    REQUIRE(t.insert(first, first + 3 * times, n).has_value());
  }
  REQUIRE(t.height() == 2);
}

node* root(const tree& t) { return const_cast<node*>(t.root()); }

/// The name that the check gives while `word` is `wrong`.
template <class T>
std::string_view name_of(const tree& t, T& word, T wrong) {
  const T right = std::exchange(word, wrong);
  const std::string_view name = check::wrong(t);
  word = right;
  CHECK(check::wrong(t).empty());
  return name;
}

}  // namespace

TEST_CASE("every invariant of overlapping ranges is checked", "[overlap_check]") {
  tree t{iopt::heap_memory{}};
  CHECK(check::wrong(t).empty());
  fill(t, 100);
  node* inner = root(t)->child(1);
  node* leaf = inner->child(1);
  REQUIRE(leaf->is_packed);
  REQUIRE(leaf->count < node::packed_capacity);

  CHECK(name_of(t, leaf->packed.first[2], leaf->packed.last[2] - 1) == "entries");
  CHECK(name_of(t, leaf->packed.last[2], leaf->packed.last[1] - 1) == "order");
  CHECK(name_of(t, leaf->packed.last[leaf->count], std::uint32_t{5}) == "words");
  CHECK(name_of(t, leaf->base, std::uint64_t{5}) == "words");
  CHECK(name_of(t, inner->is_packed, true) == "words");
  CHECK(name_of(t, inner->plain.last[inner->count - 1], std::uint64_t{1} << 40) == "words");
  CHECK(name_of(t, inner->plain.last[0], begin_of(*leaf, 0) + 1) == "fences");
  CHECK(name_of(t, inner->plain.last[1], begin_of(*leaf, leaf->count - 1) - 1) == "fences");
  CHECK(name_of(t, inner->plain.first[1], inner->plain.first[1] + 1) == "reach");
  CHECK(name_of(t, inner->plain.first[1], inner->plain.first[1] - 1) == "reach");
  CHECK(name_of(t, root(t)->plain.first[0], std::uint64_t{0}) == "reach");
  CHECK(name_of(t, leaf->count, std::uint32_t{0}) == "occupancy");
  CHECK(name_of(t, leaf->count, std::uint32_t{7}) == "occupancy");
  CHECK(name_of(t, leaf->count, std::uint32_t{49}) == "occupancy");
  CHECK(name_of(t, inner->count, std::uint32_t{33}) == "occupancy");
  CHECK(name_of(t, root(t)->count, std::uint32_t{33}) == "occupancy");  // no leaf is looked at
  CHECK(name_of(t, leaf->parent, root(t)) == "links");
  CHECK(name_of(t, root(t)->parent, inner) == "links");
  CHECK(name_of(t, leaf->next, inner) == "links");
  CHECK(name_of(t, leaf->previous, leaf) == "links");

  // The last leaf alone ends the chain.
  node* final = root(t)->child(root(t)->count - 1);
  final = final->child(final->count - 1);
  CHECK(name_of(t, final->next, leaf) == "links");
}

TEST_CASE("ranges that are lost are counted", "[overlap_check]") {
  tree t{iopt::heap_memory{}};
  fill(t, 100);
  REQUIRE(t.insert(iopt::top - 1, iopt::top, 0).has_value());
  REQUIRE(t.insert(iopt::top, iopt::top, 0).has_value());
  node* leaf = root(t)->child(root(t)->count - 1);
  leaf = leaf->child(leaf->count - 1);
  CHECK(name_of(t, leaf->count, leaf->count - 1) == "counts");
}

TEST_CASE("plain leaves are checked as packed ones are", "[overlap_check]") {
  tree t{iopt::heap_memory{}};
  fill(t, std::uint64_t{1} << 40);
  node* leaf = root(t)->child(1)->child(1);
  REQUIRE_FALSE(leaf->is_packed);
  REQUIRE(leaf->count < node::capacity);
  CHECK(name_of(t, leaf->plain.first[2], leaf->plain.last[2] - 1) == "entries");
  CHECK(name_of(t, leaf->plain.last[2], leaf->plain.last[1] - 1) == "order");
  CHECK(name_of(t, leaf->plain.last[leaf->count], std::uint64_t{5}) == "words");
  CHECK(name_of(t, leaf->count, std::uint32_t{33}) == "occupancy");
}
