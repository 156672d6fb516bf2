// iopt/base/page_sizes.hpp - the set of page sizes that an I/O page table can write.
//
// Layer: base. Includes: base/log2.hpp, base/assert.hpp, the standard library.
#pragma once

#include <bit>
#include <cstdint>
#include <initializer_list>

#include "iopt/base/assert.hpp"
#include "iopt/base/log2.hpp"

namespace iopt {

/// page_size_set: powers of two, kept as the bitmap that the kernel calls pgsize_bitmap.
///
/// Invariants  Bit n is set when 2^n bytes is a page size.
/// Cost        All calls O(1).
class page_size_set {
 public:
  constexpr page_size_set() noexcept = default;
  constexpr page_size_set(std::initializer_list<std::uint64_t> sizes_bytes) noexcept {
    for (const std::uint64_t size : sizes_bytes) {
      IOPT_ASSERT(is_power_of_two(size));
      bits_ |= size;
    }
  }
  static constexpr page_size_set from_bitmap(std::uint64_t bits) noexcept {
    page_size_set set;
    set.bits_ = bits;
    return set;
  }

  constexpr std::uint64_t bitmap() const noexcept { return bits_; }
  constexpr bool empty() const noexcept { return bits_ == 0; }
  constexpr bool contains(std::uint64_t size_bytes) const noexcept {
    return is_power_of_two(size_bytes) && (bits_ & size_bytes) != 0;
  }

  /// The smallest size, in bytes. Requires: not empty.
  constexpr std::uint64_t smallest() const noexcept {
    IOPT_ASSERT(!empty());
    return lowest_bit(bits_);
  }
  constexpr std::uint64_t largest() const noexcept {
    IOPT_ASSERT(!empty());
    return std::bit_floor(bits_);
  }

  /// The largest size that divides both addresses (given or-ed together) and does not pass the
  /// length, in bytes; 0 where none does.
  constexpr std::uint64_t best_fit(std::uint64_t addresses,
                                   std::uint64_t length_bytes) const noexcept {
    std::uint64_t usable = bits_;
    if (addresses != 0) usable &= lowest_bit(addresses) | (lowest_bit(addresses) - 1);
    if (length_bytes == 0) return 0;
    const std::uint64_t floor = std::bit_floor(length_bytes);
    usable &= floor | (floor - 1);
    return usable == 0 ? 0 : std::bit_floor(usable);
  }

  friend constexpr page_size_set operator&(page_size_set a, page_size_set b) noexcept {
    return from_bitmap(a.bits_ & b.bits_);
  }
  friend constexpr bool operator==(page_size_set, page_size_set) noexcept = default;

 private:
  std::uint64_t bits_ = 0;
};

inline constexpr std::uint64_t kibibyte = 1024;
inline constexpr std::uint64_t mebibyte = 1024 * kibibyte;
inline constexpr std::uint64_t gibibyte = 1024 * mebibyte;

static_assert(page_size_set{4096, 2 * mebibyte}.best_fit(2 * mebibyte, 3 * mebibyte) ==
              2 * mebibyte);
static_assert(page_size_set{4096, 2 * mebibyte}.best_fit(4096, 3 * mebibyte) == 4096);
static_assert(page_size_set{4096}.best_fit(4096, 4095) == 0);

}  // namespace iopt
