// tests/uapi/profile_test.cpp - what a profile must have, and what is none.
#include "iopt/uapi/profile.hpp"

#include "iopt/core/multi_threaded.hpp"
#include "tests/catch.hpp"

namespace {

struct with_locks : iopt::uapi::default_profile {
  using traits = iopt::multi_threaded;
};
struct no_copy : iopt::uapi::default_profile {
  using copy = int;
};
struct no_level {
  using traits = iopt::single_threaded;
  using copy = iopt::trusted_caller;
  using caller = iopt::every_capability;
};

}  // namespace

TEST_CASE("a profile is derived, one thing at a time", "[profile]") {
  STATIC_REQUIRE(iopt::uapi::front_end_profile<with_locks>);
  STATIC_REQUIRE(!iopt::uapi::front_end_profile<no_copy>);
  STATIC_REQUIRE(!iopt::uapi::front_end_profile<no_level>);
  STATIC_REQUIRE(iopt::uapi::default_profile::level == iopt::kernel_level::linux_6_12);
  STATIC_REQUIRE(!iopt::uapi::default_profile::punches_holes);
}
