// iopt/base/log2.hpp - powers of two, alignment, and arithmetic that says when it does not fit.
//
// Layer: base. Includes: base/assert.hpp, the standard library.
#pragma once

#include <bit>
#include <cstdint>
#include <optional>

#include "iopt/base/assert.hpp"

namespace iopt {

constexpr bool is_power_of_two(std::uint64_t n) noexcept { return std::has_single_bit(n); }

/// The lowest bit that is set in n, as a number; 0 for 0.
constexpr std::uint64_t lowest_bit(std::uint64_t n) noexcept { return n & (~n + 1); }

/// The exponent of a power of two.
constexpr unsigned log2_exact(std::uint64_t power_of_two) noexcept {
  IOPT_ASSERT(is_power_of_two(power_of_two));
  return static_cast<unsigned>(std::countr_zero(power_of_two));
}

/// The least power of two that is not below n, saturating at 2^63; 1 for 0.
constexpr std::uint64_t round_up_to_power_of_two(std::uint64_t n) noexcept {
  constexpr std::uint64_t greatest = std::uint64_t{1} << 63;
  return n > greatest ? greatest : std::bit_ceil(n);
}

constexpr std::uint64_t align_down(std::uint64_t n, std::uint64_t power_of_two) noexcept {
  return n & ~(power_of_two - 1);
}

/// n rounded up to a multiple, or nothing where that passes 2^64 - 1.
constexpr std::optional<std::uint64_t> align_up(std::uint64_t n,
                                                std::uint64_t power_of_two) noexcept {
  const std::uint64_t mask = power_of_two - 1;
  if (n > ~mask) return std::nullopt;
  return (n + mask) & ~mask;
}

/// a + b, or nothing where that passes 2^64 - 1.
constexpr std::optional<std::uint64_t> checked_add(std::uint64_t a, std::uint64_t b) noexcept {
  if (b > ~a) return std::nullopt;
  return a + b;
}

/// a * b, or nothing where that passes 2^64 - 1.
constexpr std::optional<std::uint64_t> checked_multiply(std::uint64_t a, std::uint64_t b) noexcept {
  if (a != 0 && b > ~std::uint64_t{0} / a) return std::nullopt;
  return a * b;
}

static_assert(lowest_bit(0) == 0 && lowest_bit(24) == 8);
static_assert(round_up_to_power_of_two(5) == 8 && round_up_to_power_of_two(0) == 1);
static_assert(align_up(~0ull, 4096) == std::nullopt &&
              align_up(~0ull - 4095, 4096) == ~0ull - 4095);

}  // namespace iopt
