// tests/backends/mock/huge_pages_test.cpp - which page a frame is part of.
#include "iopt/backends/mock/huge_pages.hpp"

#include "iopt/policy/archetypes.hpp"
#include "tests/catch.hpp"

using namespace iopt;

TEST_CASE("a frame in a huge page is told with its page, any other with the CPU's") {
  mock::huge_page_pinner p;
  const mock::process me = p.current();
  p.set_huge(me, user_range::sized({16 * mebibyte}, 32 * mebibyte), 16 * mebibyte);
  p.set_huge(me, user_range::sized({64 * mebibyte}, 2 * mebibyte), 2 * mebibyte, false);
  CHECK(p.backing_page_of(p.frame_of(me, {16 * mebibyte + 4096})) ==
        backing_page{16 * mebibyte, true});
  CHECK(p.backing_page_of(p.frame_of(me, {66 * mebibyte - 1})) ==
        backing_page{2 * mebibyte, false});
  CHECK(p.backing_page_of(p.frame_of(me, {48 * mebibyte})) == backing_page{4096, false});
}

TEST_CASE("where the pinner cannot tell, every page is one of the CPU's") {
  archetype::pinner p;
  CHECK(backing_page_of(p, {0x10000}, 65536) == backing_page{65536, false});
}
