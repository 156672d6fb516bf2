// tests/uapi/iommufd/abi_test.cpp - the numbers, as a program's headers have them.
//
// Sizes, and with <linux/iommufd.h> every number and place, are compared where they are declared.
#include "iopt/uapi/iommufd/abi.hpp"

#include "tests/catch.hpp"

namespace abi = iopt::iommufd::abi;

TEST_CASE("numbers are _IO(';', 0x80) and on", "[abi]") {
  CHECK(static_cast<std::uint32_t>(abi::request::destroy) == 0x3b80);
  CHECK(static_cast<std::uint32_t>(abi::request::ioas_unmap) == 0x3b86);
  CHECK(static_cast<std::uint32_t>(abi::request::fault_queue_alloc) ==
        abi::request_of(abi::last_number_6_12));
  CHECK(static_cast<std::uint32_t>(abi::request::hw_queue_alloc) ==
        abi::request_of(abi::last_number_6_18));
  CHECK(abi::number_of(0xc0083b85) == 0x85);
}
