#include "iopt/base/access.hpp"

#include "tests/catch.hpp"

using iopt::access_rights;
using iopt::allows;
using iopt::attributes;
using iopt::memory_type;

TEST_CASE("rights are a set") {
  CHECK((access_rights::read | access_rights::write) == access_rights::read_write);
  CHECK((access_rights::read_write & access_rights::write) == access_rights::write);
  CHECK(allows(access_rights::read_write, access_rights::read));
  CHECK(allows(access_rights::read_write, access_rights::none));
  CHECK(allows(access_rights::read | access_rights::execute, access_rights::execute));
  CHECK_FALSE(allows(access_rights::read_write, access_rights::execute));
  CHECK_FALSE(allows(access_rights::none, access_rights::read));
  CHECK_FALSE(allows(access_rights::read, access_rights::read_write));
}

TEST_CASE("attributes are rights and a type") {
  CHECK(attributes{} == attributes{access_rights::none, memory_type::cached});
  CHECK_FALSE(attributes{access_rights::read, memory_type::cached} ==
              attributes{access_rights::read, memory_type::mmio});
}
