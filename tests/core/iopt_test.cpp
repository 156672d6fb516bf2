// tests/core/iopt_test.cpp - the header that a user includes, and the engine over the least policies.
#include "iopt/iopt.hpp"

#include <cstdint>
#include <type_traits>

#include "iopt/core/multi_threaded.hpp"
#include "tests/catch.hpp"

// Every member, over policies that grant nothing beyond the concepts: what compiles here uses no more.
template class iopt::io_pagetable<iopt::archetype::pinner, iopt::archetype::domain>;
template class iopt::access_object<iopt::archetype::pinner, iopt::archetype::domain>;
template class iopt::io_pagetable<iopt::archetype::pinner, iopt::archetype::domain,
                                  iopt::multi_threaded>;
template class iopt::access_object<iopt::archetype::pinner, iopt::archetype::domain,
                                   iopt::multi_threaded>;
// And over those with every ability.
template class iopt::io_pagetable<iopt::mock::pinner, iopt::mock::domain>;
template class iopt::access_object<iopt::mock::pinner, iopt::mock::domain>;
template class iopt::io_pagetable<iopt::mock::pinner, iopt::mock::plain<>>;
template class iopt::io_pagetable<iopt::archetype::pinner, iopt::mock::unreadable<>>;

namespace {

using least = iopt::io_pagetable<iopt::archetype::pinner, iopt::archetype::domain>;
using iopt::access_rights;
using iopt::errc;

static_assert(std::is_nothrow_move_constructible_v<least>);
static_assert(!std::is_copy_constructible_v<least> && !std::is_move_assignable_v<least>);
static_assert(std::is_nothrow_destructible_v<least>);

}  // namespace

TEST_CASE("the least policies make a table that refuses what they refuse") {
  iopt::archetype::pinner pinner;
  iopt::archetype::domain domain;
  least table(pinner);
  const iopt::iova at{0x10000};
  // Without a domain nothing is pinned, so nothing is refused.
  REQUIRE(table.map({0x1000}, 0x4000, access_rights::read_write, at) == at);
  CHECK(table.attach(domain).error() == errc::bad_address);
  CHECK(table.domain_count() == 0);
  CHECK(table.cut(at + 0xfff).has_value());
  CHECK(table.protect({at, at + 0xfff}, access_rights::read).has_value());
  CHECK(table.set_dirty_tracking(domain, true).error() == errc::operation_not_supported);
  REQUIRE(table.unmap_all());
  REQUIRE(table.attach(domain));
  CHECK(table.map({0x1000}, 0x4000, access_rights::read_write, at).error() == errc::bad_address);
  CHECK_FALSE(table.enforce_cache_coherency());
  CHECK(table.area_count() == 0);
  CHECK(table.detach(domain));
  CHECK(table.verify() == "");
}

TEST_CASE("the first program") {
  iopt::mock::pinner pinner;
  iopt::mock::domain domain;
  iopt::io_pagetable<iopt::mock::pinner, iopt::mock::domain> table(pinner);
  REQUIRE(table.attach(domain));
  const auto at = table.map({0x200000}, 0x400000, access_rights::read_write);
  REQUIRE(at);
  CHECK(domain.translate(*at + 5) == pinner.frame_of(pinner.current(), {0x200005}));
  REQUIRE(table.unmap(*at, 0x400000, iopt::unmap_profile::iommufd));
  CHECK(pinner.is_idle());
}
