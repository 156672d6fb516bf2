// tests/fuzz/vfio_ioctl_test.cpp - the ioctl entry with random bytes, a range of seeds.
//
// libFuzzer searches (tests/fuzz/run); this is what can be run again anywhere, and needs no Clang.
// IOPT_FUZZ_SEEDS=FIRST-LAST runs another range.
#include "tests/fuzz/vfio_ioctl.hpp"

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

#include "tests/catch.hpp"

TEST_CASE("no bytes at any address harm a container", "[fuzz]") {
  unsigned long first = 0, last = 1999;
  if (const char* range = std::getenv("IOPT_FUZZ_SEEDS"))
    REQUIRE(std::sscanf(range, "%lu-%lu", &first, &last) == 2);
  for (unsigned long seed = first; seed <= last; ++seed) {
    CAPTURE(seed);
    std::mt19937_64 random(seed);
    std::vector<std::uint8_t> bytes(200 + random() % 4000);
    for (auto& b : bytes) b = static_cast<std::uint8_t>(random());
    iopt::test::vfio_machine::run(bytes);
  }
  SUCCEED();
}
