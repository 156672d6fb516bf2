// tests/containers/area_map_check_test.cpp - each broken invariant is found and named.
#include "iopt/containers/area_map_check.hpp"

#include <cstdint>
#include <string_view>

#include "iopt/base/memory_source.hpp"
#include "iopt/containers/area_map_tree.hpp"
#include "tests/catch.hpp"

namespace {

using tree = iopt::detail::area_tree<iopt::heap_memory, iopt::no_probe>;
using node = iopt::detail::area_map_node;

/// A tree of three levels with room and holes in every node.
void fill(tree& t) {
  for (std::uint64_t n = 0; n < 2000; ++n)
    REQUIRE(t.insert((n * 7919 % 2003) * 100 + 50, (n * 7919 % 2003) * 100 + 80, n).has_value());
  REQUIRE(t.height() == 2);
}

node* root(const tree& t) { return const_cast<node*>(t.root()); }

/// The name that the check gives while `word` is `wrong`.
template <class T>
std::string_view name_of(const tree& t, T& word, T wrong) {
  const T right = word;
  word = wrong;
  const std::string_view name = iopt::detail::area_tree_check<tree>::wrong(t);
  word = right;
  CHECK(iopt::detail::area_tree_check<tree>::wrong(t).empty());
  return name;
}

}  // namespace

TEST_CASE("every invariant of the tree is checked", "[area_map_check]") {
  tree t{iopt::heap_memory{}};
  CHECK(iopt::detail::area_tree_check<tree>::wrong(t).empty());
  fill(t);
  CHECK(iopt::detail::area_tree_check<tree>::wrong(t).empty());
  node* inner = root(t)->child(1);
  node* leaf = inner->child(1);
  REQUIRE(leaf->count < node::capacity);
  REQUIRE(leaf->is_packed);

  CHECK(name_of(t, leaf->packed.first[2], leaf->packed.last[1]) == "entries");
  CHECK(name_of(t, leaf->packed.first[2], leaf->packed.last[2] + 1) == "entries");
  CHECK(name_of(t, leaf->packed.last[leaf->count], std::uint32_t{5}) == "words");
  CHECK(name_of(t, leaf->base, std::uint64_t{5}) == "words");
  CHECK(name_of(t, inner->is_packed, true) == "words");
  CHECK(name_of(t, inner->plain.last[inner->count - 1], std::uint64_t{1} << 40) == "words");
  CHECK(name_of(t, inner->plain.last[1], inner->plain.last[1] + 1) == "fences");
  CHECK(name_of(t, inner->plain.last[1], inner->plain.last[1] - 1) == "fences");
  CHECK(name_of(t, root(t)->plain.last[0], root(t)->plain.last[0] + 1) == "fences");
  CHECK(name_of(t, leaf->space_first, leaf->space_first - 1) == "space");
  CHECK(name_of(t, inner->hole(1), inner->hole(1) + 1) == "holes");
  CHECK(name_of(t, root(t)->hole(1), root(t)->hole(1) - 1) == "holes");
  CHECK(name_of(t, leaf->count, std::uint32_t{0}) == "occupancy");
  CHECK(name_of(t, leaf->count, std::uint32_t{7}) == "occupancy");
  CHECK(name_of(t, inner->count, std::uint32_t{33}) == "occupancy");
  CHECK(name_of(t, leaf->parent, root(t)) == "links");
  CHECK(name_of(t, root(t)->parent, inner) == "links");
  CHECK(name_of(t, leaf->next, inner) == "links");
  CHECK(name_of(t, leaf->previous, leaf) == "links");

  // A plain leaf.
  REQUIRE(t.insert(iopt::top, iopt::top, 0).has_value());
  node* far = root(t)->child(root(t)->count - 1);
  far = far->child(far->count - 1);
  REQUIRE_FALSE(far->is_packed);
  CHECK(name_of(t, far->plain.first[2], far->plain.last[1]) == "entries");
  CHECK(name_of(t, far->plain.last[far->count], std::uint64_t{5}) == "words");
  CHECK(name_of(t, far->count, std::uint32_t{33}) == "occupancy");
  t.erase(t.descend(iopt::top));

  // The last leaf alone ends the chain; entries that are lost are counted.
  node* final = root(t)->child(root(t)->count - 1);
  final = final->child(final->count - 1);
  CHECK(name_of(t, final->next, leaf) == "links");
  CHECK(name_of(t, final->plain.last[final->count - 1], iopt::top) == "counts");
}
