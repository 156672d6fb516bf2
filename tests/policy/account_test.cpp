#include "iopt/policy/account.hpp"

#include "tests/catch.hpp"

using iopt::account_mode;

TEST_CASE("type1 charges while it pins, iommufd afterwards") {
  CHECK(iopt::charges_while_pinning(account_mode::type1));
  CHECK(iopt::charges_while_pinning(account_mode::type1_unlimited));
  CHECK_FALSE(iopt::charges_while_pinning(account_mode::mm));
  CHECK_FALSE(iopt::charges_while_pinning(account_mode::none));
}

TEST_CASE("account modes have names") {
  CHECK(iopt::name(account_mode::none) == "none");
  CHECK(iopt::name(account_mode::user) == "user");
  CHECK(iopt::name(account_mode::mm) == "mm");
  CHECK(iopt::name(account_mode::custom) == "custom");
  CHECK(iopt::name(account_mode::type1) == "type1");
  CHECK(iopt::name(account_mode::type1_unlimited) == "type1_unlimited");
  CHECK(iopt::name(static_cast<account_mode>(99)) == "?");
}
