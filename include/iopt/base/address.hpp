// iopt/base/address.hpp - one type for each kind of address, so that none is passed for another.
//
// An address is a 64-bit number with a kind. Addresses of one kind compare, and move by a plain
// number of units (bytes; pages for page_index); addresses of two kinds do not mix. Every value is
// an ordinary address, 2^64 - 1 too: nothing here is a sentinel.
//
// Layer: base. Includes: base/assert.hpp, the standard library.
#pragma once

#include <compare>
#include <cstdint>

#include "iopt/base/assert.hpp"

namespace iopt {

/// The last address of a 64-bit space, and the greatest 64-bit number.
inline constexpr std::uint64_t top = ~std::uint64_t{0};

/// address: a 64-bit number of one kind.
///
/// Errors   None. Arithmetic that leaves [0, 2^64 - 1] is a bug and is asserted.
/// Cost     That of a std::uint64_t.
template <class Kind>
struct address {
  std::uint64_t value{};

  friend constexpr auto operator<=>(const address&, const address&) noexcept = default;

  friend constexpr address operator+(address a, std::uint64_t units) noexcept {
    IOPT_ASSERT(units <= top - a.value);
    return {a.value + units};
  }
  friend constexpr address operator-(address a, std::uint64_t units) noexcept {
    IOPT_ASSERT(units <= a.value);
    return {a.value - units};
  }
  friend constexpr std::uint64_t operator-(address a, address b) noexcept {
    IOPT_ASSERT(b.value <= a.value);
    return a.value - b.value;
  }
  constexpr address& operator+=(std::uint64_t units) noexcept { return *this = *this + units; }
  constexpr address& operator-=(std::uint64_t units) noexcept { return *this = *this - units; }

  constexpr bool is_aligned(std::uint64_t power_of_two) const noexcept {
    return (value & (power_of_two - 1)) == 0;
  }
};

/// Where a device reads and writes: an I/O virtual address, in bytes.
using iova = address<struct iova_kind>;
/// What the memory controller sees, in bytes.
using physical = address<struct physical_kind>;
/// An address in the space of the process that owns the memory, or an offset in a file, in bytes.
using user_address = address<struct user_kind>;
/// The number of a page in a pages object, counted from 0, in CPU pages.
using page_index = address<struct page_index_kind>;

static_assert(iova{4096} + 1 == iova{4097} && iova{5} - iova{2} == 3);
static_assert(iova{top}.is_aligned(1) && !iova{top}.is_aligned(2));

}  // namespace iopt
