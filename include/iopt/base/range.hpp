// iopt/base/range.hpp - closed ranges, and the words used for them.
//
// [first, last] includes both ends, because an I/O address space may end at 2^64 - 1, and one
// past that has no representation. A range is never empty and never wraps: from_length() is the
// only way in from outside.
//
// Words: first, last  the two ends, both inside
//        area         an IOVA range bound to a slice of pages
//        pages        a zero-based array of page frames with one origin
//        span         a maximal run of used, or of unused, addresses
//        run          bytes that are physically contiguous
//
// Layer: base. Includes: base/address.hpp, base/error.hpp, the standard library.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>

#include "iopt/base/address.hpp"
#include "iopt/base/error.hpp"

namespace iopt {

/// closed_range: the addresses from first to last, both included.
///
/// Invariants  first <= last.
template <class Address>
struct closed_range {
  Address first{};
  Address last{};

  /// The range of `length` units from `first`.
  /// Errors: invalid_argument if length == 0; `wraps` if it would pass 2^64 - 1.
  static constexpr result<closed_range> from_length(Address first, std::uint64_t length,
                                                    errc wraps = errc::value_too_large) noexcept {
    if (length == 0) return fail(errc::invalid_argument);
    if (length - 1 > top - first.value) return fail(wraps);
    return closed_range{first, {first.value + (length - 1)}};
  }

  /// The same for a caller that knows it fits.
  static constexpr closed_range sized(Address first, std::uint64_t length) noexcept {
    IOPT_ASSERT(length != 0 && length - 1 <= top - first.value);
    return {first, {first.value + (length - 1)}};
  }

  /// Every address there is.
  static constexpr closed_range whole() noexcept { return {{0}, {top}}; }

  friend constexpr bool operator==(const closed_range&, const closed_range&) noexcept = default;

  constexpr bool overlaps(closed_range other) const noexcept {
    return first <= other.last && other.first <= last;
  }
  constexpr bool contains(Address a) const noexcept { return first <= a && a <= last; }
  constexpr bool contains(closed_range other) const noexcept {
    return first <= other.first && other.last <= last;
  }

  /// The number of units, less one: it fits even for the whole space.
  constexpr std::uint64_t length_minus_one() const noexcept { return last.value - first.value; }

  /// The number of units. Requires: this is not the whole space.
  constexpr std::uint64_t length() const noexcept {
    IOPT_ASSERT(length_minus_one() != top);
    return length_minus_one() + 1;
  }

  /// The common part, or nothing.
  constexpr std::optional<closed_range> intersection(closed_range other) const noexcept {
    if (!overlaps(other)) return std::nullopt;
    return closed_range{std::max(first, other.first), std::min(last, other.last)};
  }

  /// Both ends on a boundary: first and last + 1 are multiples of a power of two.
  constexpr bool is_aligned(std::uint64_t power_of_two) const noexcept {
    return ((first.value | (last.value + 1)) & (power_of_two - 1)) == 0;
  }
};

using iova_range = closed_range<iova>;
using physical_range = closed_range<physical>;
using user_range = closed_range<user_address>;
using page_range = closed_range<page_index>;

static_assert(iova_range::from_length({top}, 1) == iova_range{{top}, {top}});
static_assert(iova_range::from_length({top}, 2).error() == errc::value_too_large);
static_assert(iova_range::from_length({0}, 0).error() == errc::invalid_argument);
static_assert(iova_range{{top - 4095}, {top}}.is_aligned(4096));
static_assert(iova_range::whole().length_minus_one() == top);

}  // namespace iopt
