// tests/containers/area_map_pool_test.cpp - the pool of free nodes.
#include "iopt/containers/area_map_pool.hpp"

#include <cstddef>

#include "tests/catch.hpp"

namespace {

struct limited_memory {
  std::size_t* left;
  std::size_t* held;
  void* allocate(std::size_t bytes, std::size_t alignment) noexcept {
    if (*left == 0) return nullptr;
    --*left, ++*held;
    return iopt::heap_memory{}.allocate(bytes, alignment);
  }
  void deallocate(void* p, std::size_t bytes, std::size_t alignment) noexcept {
    --*held;
    iopt::heap_memory{}.deallocate(p, bytes, alignment);
  }
};
using pool = iopt::detail::area_map_pool<limited_memory>;

}  // namespace

TEST_CASE("a pool that cannot be stocked is as it was", "[area_map_pool][sweep]") {
  std::size_t left = 5, held = 0;
  {
    pool p(limited_memory{&left, &held});
    CHECK(p.stock(0));
    CHECK(p.stock(3));
    CHECK(p.stock(2));
    CHECK(held == 3);
    CHECK_FALSE(p.stock(6));
    CHECK(p.size() == 3);
    CHECK(held == 3);
  }
  CHECK(held == 0);
}

TEST_CASE("a node comes out empty whatever it held", "[area_map_pool]") {
  std::size_t left = 1, held = 0;
  pool p(limited_memory{&left, &held});
  REQUIRE(p.stock(1));
  for (int round = 0; round < 2; ++round) {
    iopt::detail::area_map_node* n = p.take();
    CHECK(p.size() == 0);
    CHECK(n->count == 0);
    CHECK((n->parent == nullptr && n->next == nullptr && n->previous == nullptr));
    CHECK(n->space_first == 0);
    CHECK_FALSE(n->is_packed);
    for (const std::uint64_t word : n->plain.last) CHECK(word == iopt::top);
    iopt::detail::insert_entry(*n, 0, 1, 2, 3);
    n->space_first = 4;
    n->parent = n;
    p.give(n);
  }
  CHECK(held == 1);
}

TEST_CASE("a pool keeps a few nodes, or as many as it was asked to", "[area_map_pool]") {
  std::size_t left = 100, held = 0;
  pool p(limited_memory{&left, &held});
  const auto cycle = [&](std::size_t nodes) {
    iopt::detail::area_map_node* taken[20];
    REQUIRE(p.stock(nodes));
    for (std::size_t n = 0; n < nodes; ++n) taken[n] = p.take();
    for (std::size_t n = 0; n < nodes; ++n) p.give(taken[n]);
  };
  cycle(20);
  CHECK(p.size() == pool::usual);
  p.keep(12);
  cycle(20);
  CHECK(p.size() == 12);
  CHECK(held == 12);
  pool other(limited_memory{&left, &held});
  other.swap(p);
  CHECK(p.size() == 0);
  CHECK(other.size() == 12);
  other.trim();
  CHECK(other.size() == 0);
  CHECK(held == 0);
}
