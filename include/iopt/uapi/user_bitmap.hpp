// iopt/uapi/user_bitmap.hpp - a bitmap in a caller's memory, in which bits are set.
//
// Layer: uapi. Includes: base, containers/bitmap.hpp, policy/user_copy.hpp.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

#include "iopt/base/address.hpp"
#include "iopt/containers/bitmap.hpp"
#include "iopt/policy/user_copy.hpp"
#include "iopt/uapi/argument.hpp"

namespace iopt::uapi {

/// user_bitmap: bits by number from an address on; bit n is bit n % 8 of byte n / 8.
///
/// Model       A set of numbers, in the caller's memory; only what is set is touched, bytes at a
///             time.
/// Errors      set(): false where memory is out of reach. What comes before may have been set.
/// Cost        set: O(bits / 8), 64 bytes a copy.
/// Threads     Not atomic: bits of one byte are not to be changed at once.
/// Tested by   tests/uapi/user_bitmap_test.cpp
template <user_copy Copy>
class user_bitmap {
 public:
  user_bitmap(Copy& copy, user_address at) noexcept : copy_(copy), at_(at) {}

  bool set(std::uint64_t first, std::uint64_t last) noexcept {
    constexpr std::uint64_t chunk_bits = 512;
    for (;;) {
      const std::uint64_t base = first / 8 * 8;
      const std::uint64_t end = std::min(last, base + (chunk_bits - 1));
      std::byte bytes[chunk_bits / 8];
      const auto part = std::span(bytes).first(static_cast<std::size_t>((end - base) / 8 + 1));
      const user_address where = behind(at_, base / 8);
      if (!copy_.read(where, part)) return false;
      bitmap_view(bytes, chunk_bits).set(first - base, end - base);
      if (!copy_.write(where, part)) return false;
      if (end == last) return true;
      first = end + 1;
    }
  }

 private:
  Copy& copy_;
  user_address at_;
};

}  // namespace iopt::uapi
