#include "iopt/policy/account.hpp"

#include "tests/catch.hpp"

using iopt::account_mode;

TEST_CASE("account modes have names") {
  CHECK(iopt::name(account_mode::none) == "none");
  CHECK(iopt::name(account_mode::user) == "user");
  CHECK(iopt::name(account_mode::mm) == "mm");
  CHECK(iopt::name(account_mode::custom) == "custom");
  CHECK(iopt::name(static_cast<account_mode>(99)) == "?");
}
