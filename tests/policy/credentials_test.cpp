#include "iopt/policy/credentials.hpp"

#include "tests/catch.hpp"

using namespace iopt;

TEST_CASE("credentials answer for each capability", "[credentials]") {
  STATIC_REQUIRE(credentials<every_capability>);
  STATIC_REQUIRE_FALSE(credentials<int>);
  every_capability caller;
  for (const capability c : {capability::lock_memory, capability::raw_io, capability::resources})
    CHECK(caller.has(c));
}
