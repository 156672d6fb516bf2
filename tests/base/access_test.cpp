#include "iopt/base/access.hpp"

#include "tests/catch.hpp"

using iopt::access;
using iopt::allows;
using iopt::attributes;
using iopt::memory_type;

TEST_CASE("rights are a set") {
  CHECK((access::read | access::write) == access::read_write);
  CHECK((access::read_write & access::write) == access::write);
  CHECK(allows(access::read_write, access::read));
  CHECK(allows(access::read_write, access::none));
  CHECK(allows(access::read | access::execute, access::execute));
  CHECK_FALSE(allows(access::read_write, access::execute));
  CHECK_FALSE(allows(access::none, access::read));
  CHECK_FALSE(allows(access::read, access::read_write));
}

TEST_CASE("attributes are rights and a type") {
  CHECK(attributes{} == attributes{access::none, memory_type::cached});
  CHECK_FALSE(attributes{access::read, memory_type::cached} ==
              attributes{access::read, memory_type::mmio});
}
