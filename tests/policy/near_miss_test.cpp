// tests/policy/near_miss_test.cpp - the archetypes and the mock have what they seem to have.
//
// That a near miss does not compile is seen by the tests structure.near_miss.*.
#include "iopt/policy/near_miss.hpp"

#include "iopt/backends/mock/mock.hpp"
#include "iopt/policy/archetypes.hpp"
#include "tests/catch.hpp"

TEST_CASE("what has an ability, or nothing like it, is exact", "[near_miss]") {
  STATIC_REQUIRE(iopt::exact_domain<iopt::archetype::domain>::value);
  STATIC_REQUIRE(iopt::exact_domain<iopt::mock::domain>::value);
  STATIC_REQUIRE(iopt::exact_domain<iopt::mock::plain<iopt::mock::domain>>::value);
  STATIC_REQUIRE(iopt::exact_domain<iopt::mock::unreadable<iopt::mock::domain>>::value);
  STATIC_REQUIRE(iopt::exact_pinner<iopt::archetype::pinner>::value);
  STATIC_REQUIRE(iopt::exact_pinner<iopt::mock::pinner>::value);
}
