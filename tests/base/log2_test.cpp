#include "iopt/base/log2.hpp"

#include <cstdint>
#include <limits>

#include "tests/catch.hpp"

using namespace iopt;

namespace {
constexpr std::uint64_t most = std::numeric_limits<std::uint64_t>::max();
}

TEST_CASE("powers of two") {
  CHECK_FALSE(is_power_of_two(0));
  for (unsigned n = 0; n < 64; ++n) {
    const std::uint64_t power = std::uint64_t{1} << n;
    CHECK(is_power_of_two(power));
    CHECK(is_power_of_two(power + 1) == (n == 0));
    CHECK(log2_exact(power) == n);
    CHECK(lowest_bit(power) == power);
    CHECK(lowest_bit(most << n) == power);
    CHECK(round_up_to_power_of_two(power) == power);
    if (n < 63 && n > 0) CHECK(round_up_to_power_of_two(power + 1) == 2 * power);
  }
  CHECK(lowest_bit(0) == 0);
  CHECK(round_up_to_power_of_two(0) == 1);
  CHECK(round_up_to_power_of_two(3) == 4);
  CHECK(round_up_to_power_of_two(most) == std::uint64_t{1} << 63);
}

TEST_CASE("alignment says when it does not fit") {
  CHECK(align_down(4095, 4096) == 0);
  CHECK(align_down(most, 4096) == most - 4095);
  CHECK(align_up(0, 4096) == 0);
  CHECK(align_up(1, 4096) == 4096);
  CHECK(align_up(4096, 4096) == 4096);
  CHECK(align_up(most - 4095, 4096) == most - 4095);
  CHECK_FALSE(align_up(most - 4094, 4096).has_value());
  CHECK(align_up(most, 1) == most);
}

TEST_CASE("sums and products say when they do not fit") {
  CHECK(checked_add(most, 0) == most);
  CHECK_FALSE(checked_add(most, 1).has_value());
  CHECK(checked_add(most - 1, 1) == most);
  CHECK(checked_multiply(0, most) == 0);
  CHECK(checked_multiply(most, 0) == 0);
  CHECK(checked_multiply(most, 1) == most);
  CHECK_FALSE(checked_multiply(most, 2).has_value());
  CHECK_FALSE(checked_multiply(std::uint64_t{1} << 32, std::uint64_t{1} << 32).has_value());
  CHECK(checked_multiply(most / 3, 3) == most);
}
