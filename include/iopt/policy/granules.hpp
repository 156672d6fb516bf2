// iopt/policy/granules.hpp - in which pieces a range is told to a table that cannot cut an entry.
//
// VFIO's type1 v2 and iommufd unmap what was mapped, as it was mapped: where holes can be made later
// is decided when a range is mapped. One piece costs one entry, of which a container has 65535; a
// piece for each page lets every hole be made.
//
//   granules                        pieces of [4 KiB, 10 MiB)             a hole then begins and ends
//   granules::whole()               1                                     nowhere inside
//   granules::fixed(2 * mebibyte)   5: at each multiple of 2 MiB          at multiples of 2 MiB
//   granules::power_of_two()        12: 4K 8K .. 2M 4M 2M                 at the ends of blocks
//   granules::power_of_two(4096)    2559                                  anywhere
//
// Layer: policy. Includes: base, the standard library.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

#include "iopt/base/address.hpp"
#include "iopt/base/assert.hpp"
#include "iopt/base/log2.hpp"
#include "iopt/base/range.hpp"

namespace iopt {

/// Where pieces end.
enum class granule_shape : std::uint8_t {
  whole,         // at the ends of the range
  fixed,         // at each multiple of a size, too
  power_of_two,  // the fewest naturally aligned powers of two, none above a size
};

/// granules: a rule that cuts every range into pieces.
///
/// Model       A function from ranges to sequences of adjoining pieces. Where a range is cut at the
///             end of a piece, the pieces of its two parts are those it had: a table that knows the
///             ranges knows the pieces.
/// Errors      None.
/// Cost        piece_at() O(1); count() O(64). Two bytes.
/// Threads     A value.
/// Tested by   tests/policy/granules_test.cpp
class granules {
 public:
  static constexpr granules whole() noexcept { return {granule_shape::whole, 63}; }
  /// Requires: a power of two.
  static constexpr granules fixed(std::uint64_t bytes) noexcept {
    return {granule_shape::fixed, log2_exact(bytes)};
  }
  /// Requires: a power of two.
  static constexpr granules power_of_two(std::uint64_t largest_bytes = std::uint64_t{1}
                                                                       << 63) noexcept {
    return {granule_shape::power_of_two, log2_exact(largest_bytes)};
  }

  constexpr granules() noexcept = default;

  constexpr granule_shape shape() const noexcept { return shape_; }
  /// The size of fixed(), and the largest of power_of_two(), in bytes.
  constexpr std::uint64_t size_bytes() const noexcept { return std::uint64_t{1} << size_lg2_; }

  /// The next rule that needs fewer pieces or as many: twice the size, and in the end whole().
  constexpr granules coarser() const noexcept {
    if (shape_ == granule_shape::whole || size_lg2_ == 63) return whole();
    return {shape_, size_lg2_ + 1u};
  }

  /// The piece of `all` that has `at` in it. Requires: it is inside.
  constexpr iova_range piece_at(iova_range all, iova at) const noexcept {
    IOPT_ASSERT(all.contains(at));
    if (shape_ == granule_shape::whole) return all;
    if (shape_ == granule_shape::fixed) return *block(at, size_lg2_).intersection(all);
    // Blocks around `at` that fit, fit up to some size: binary search for it.
    unsigned fits = 0, too_large = size_lg2_ + 1u;
    while (too_large - fits > 1) {
      const unsigned middle = fits + (too_large - fits) / 2;
      (all.contains(block(at, middle)) ? fits : too_large) = middle;
    }
    return block(at, fits);
  }
  /// Whether a piece of `all` begins at `at`.
  constexpr bool begins_at(iova_range all, iova at) const noexcept {
    return piece_at(all, at).first == at;
  }

  /// How many pieces `all` is. Saturates: the whole space in bytes is 2^64 - 1.
  constexpr std::uint64_t count(iova_range all) const noexcept {
    if (shape_ == granule_shape::whole) return 1;
    if (shape_ == granule_shape::fixed) {
      const std::uint64_t more = (all.last.value >> size_lg2_) - (all.first.value >> size_lg2_);
      return more == top ? top : more + 1;
    }
    std::uint64_t pieces = 0;
    for (iova at = all.first;;) {
      iova_range piece = piece_at(all, at);
      std::uint64_t more = 1;
      if (piece.length_minus_one() == size_bytes() - 1) {  // and all behind it that are as large
        const std::uint64_t beyond = all.last - piece.last;
        more = checked_add(beyond >> size_lg2_, 1).value_or(top);
        piece.last += (beyond >> size_lg2_) << size_lg2_;
      }
      pieces = checked_add(pieces, more).value_or(top);
      if (piece.last == all.last) return pieces;
      at = piece.last + 1;
    }
  }

  friend constexpr bool operator==(granules, granules) noexcept = default;

 private:
  constexpr granules(granule_shape shape, unsigned size_lg2) noexcept
      : shape_(shape), size_lg2_(static_cast<std::uint8_t>(size_lg2)) {}

  /// The naturally aligned block of 2^lg2 bytes around an address.
  static constexpr iova_range block(iova at, unsigned lg2) noexcept {
    const std::uint64_t rest = (std::uint64_t{1} << lg2) - 1;
    return {{at.value & ~rest}, {at.value | rest}};
  }

  granule_shape shape_ = granule_shape::whole;
  std::uint8_t size_lg2_ = 63;
};

static_assert(granules::fixed(4096).count({{4096}, {3 * 4096 - 1}}) == 2);
static_assert(granules::power_of_two().count({{4096}, {10 * (1 << 20) - 1}}) == 12);
static_assert(granules::power_of_two(4096).count(iova_range::whole()) == std::uint64_t{1} << 52);
static_assert(granules::power_of_two().piece_at({{4096}, {65535}}, {12288}) ==
              iova_range{{8192}, {16383}});

}  // namespace iopt
