// iopt/containers/bitmap.hpp - bitmaps in memory of the caller, and dirty bitmaps of any page size.
//
// A dirty bitmap is asked for in the client's page size and recorded in the I/O page table's, which
// may be coarser or finer, and lies wherever the client put it. So nothing is assumed of its
// alignment, bit n is bit n % 8 of byte n / 8 on every host, and nothing but the bytes that hold
// bits is touched.
//
// Layer: containers. Includes: base, the standard library.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>

#include "iopt/base/address.hpp"
#include "iopt/base/assert.hpp"
#include "iopt/base/log2.hpp"
#include "iopt/base/range.hpp"

namespace iopt {

/// The number of a bit in a bitmap.
using bit_index = address<struct bit_kind>;
using bit_range = closed_range<bit_index>;

/// bitmap_view: `size()` bits in memory of the caller.
///
/// Model       A set of numbers below size(). Bit n is bit n % 8, counted from the lowest, of byte
///             n / 8: the order of the Linux uAPI on little-endian machines, whatever the host.
/// Ownership   The memory is the caller's: size_bytes() bytes at any alignment. The bits past size()
///             in its last byte are never changed.
/// Errors      None. A bit outside is a bug and is asserted.
/// Cost        set, clear: O(bits / 8), as memset. count, for_each_run: O(bits / 64 + runs).
/// Threads     Not atomic: bits of one byte are not to be changed at once.
/// Tested by   tests/containers/bitmap_test.cpp (model: std::vector<bool>)
class bitmap_view {
 public:
  constexpr bitmap_view() noexcept = default;
  constexpr bitmap_view(std::byte* bytes, std::uint64_t bits) noexcept
      : bytes_(bytes), size_(bits) {}

  constexpr std::uint64_t size() const noexcept { return size_; }
  constexpr std::uint64_t size_bytes() const noexcept { return bytes_for(size_); }
  constexpr std::byte* data() const noexcept { return bytes_; }

  /// The bytes that so many bits take.
  static constexpr std::uint64_t bytes_for(std::uint64_t bits) noexcept {
    return bits / 8 + (bits % 8 != 0);
  }

  /// Sets the bits from first to last, both included.
  void set(std::uint64_t first, std::uint64_t last) noexcept {
    fill(first, last, 0xff, [](std::byte& at, std::byte mask) { at |= mask; });
  }
  void set(std::uint64_t bit) noexcept { set(bit, bit); }

  void clear(std::uint64_t first, std::uint64_t last) noexcept {
    fill(first, last, 0, [](std::byte& at, std::byte mask) { at &= ~mask; });
  }
  void clear(std::uint64_t bit) noexcept { clear(bit, bit); }

  bool test(std::uint64_t bit) const noexcept {
    IOPT_ASSERT(bit < size_);
    return (bytes_[bit / 8] & std::byte(1u << (bit % 8))) != std::byte{0};
  }

  /// How many bits from first to last are set.
  std::uint64_t count(std::uint64_t first, std::uint64_t last) const noexcept {
    std::uint64_t sum = 0;
    for_each_word(first, last, [&sum](std::uint64_t, std::uint64_t word) {
      sum += static_cast<std::uint64_t>(std::popcount(word));
    });
    return sum;
  }
  std::uint64_t count() const noexcept { return size_ == 0 ? 0 : count(0, size_ - 1); }

  /// Calls f(bit_range) for each maximal run of set bits from first to last, in order.
  template <class F>
  void for_each_run(std::uint64_t first, std::uint64_t last, F&& f) const {
    bool inside = false;
    std::uint64_t start = 0;
    for_each_word(first, last, [&](std::uint64_t base, std::uint64_t word) {
      for (unsigned at = 0; at < 64;) {
        if (!inside) {
          if (word >> at == 0) return;
          at += static_cast<unsigned>(std::countr_zero(word >> at));
          start = base + at;
          inside = true;
        }
        at += static_cast<unsigned>(std::countr_one(word >> at));
        if (at == 64) return;  // may go on in the next word
        f(bit_range{{start}, {base + at - 1}});
        inside = false;
      }
    });
    if (inside) f(bit_range{{start}, {last}});
  }
  template <class F>
  void for_each_run(F&& f) const {
    if (size_ != 0) for_each_run(0, size_ - 1, f);
  }

 private:
  /// The bits of the byte of `bit` from it upwards, and up to it.
  static constexpr std::byte mask_from(std::uint64_t bit) noexcept {
    return std::byte(0xffu << (bit % 8) & 0xff);
  }
  static constexpr std::byte mask_to(std::uint64_t bit) noexcept {
    return std::byte(0xffu >> (7 - bit % 8));
  }

  template <class Change>
  void fill(std::uint64_t first, std::uint64_t last, int whole, Change change) noexcept {
    IOPT_ASSERT(first <= last && last < size_);
    const std::uint64_t first_byte = first / 8;
    const std::uint64_t last_byte = last / 8;
    if (first_byte >=
        last_byte) {  // never more; for AVX-512 GCC 12 would warn of what lies between
      change(bytes_[first_byte], mask_from(first) & mask_to(last));
      return;
    }
    change(bytes_[first_byte], mask_from(first));
    std::memset(bytes_ + first_byte + 1, whole, last_byte - first_byte - 1);
    change(bytes_[last_byte], mask_to(last));
  }

  static std::uint64_t load(const std::byte* from, std::uint64_t bytes) noexcept {
    std::uint64_t word = 0;
    if (bytes >= sizeof(word)) {
      std::memcpy(&word, from, sizeof(word));
      if constexpr (std::endian::native == std::endian::big) word = __builtin_bswap64(word);
    } else {
      for (std::uint64_t n = 0; n < bytes; ++n)
        word |= std::to_integer<std::uint64_t>(from[n]) << 8 * n;
    }
    return word;
  }

  /// Calls f(bit, word) for each 64 bits from the byte of `first` to that of `last`; the bits
  /// outside are 0 in the words.
  template <class F>
  void for_each_word(std::uint64_t first, std::uint64_t last, F&& f) const {
    IOPT_ASSERT(first <= last && last < size_);
    const std::uint64_t end = last / 8 + 1;
    for (std::uint64_t at = first / 8; at < end; at += 8) {
      std::uint64_t word = load(bytes_ + at, end - at);
      const std::uint64_t base = at * 8;
      if (base < first) word &= ~std::uint64_t{0} << (first - base);
      if (last - base < 63) word &= ~std::uint64_t{0} >> (63 - (last - base));
      f(base, word);
    }
  }

  std::byte* bytes_ = nullptr;
  std::uint64_t size_ = 0;
};

/// dirty_bitmap: which pages of a range of IOVAs were written, one bit a page.
///
/// Model       A set of pages of `range()`, numbered from its first address: page n is the
///             page_bytes() addresses from range().first + n * page_bytes(), less what is past the
///             range. Neither end need be aligned.
/// Ownership   The memory is the caller's, as with bitmap_view: size_bytes(range, page_bytes).
/// Errors      None. Bits are set here, and cleared only through bits().
/// Cost        record: as bitmap_view::set. for_each_dirty: O(pages / 64 + runs).
/// Threads     As bitmap_view.
/// Tested by   tests/containers/bitmap_test.cpp (model: std::vector<bool>)
class dirty_bitmap {
 public:
  /// Requires: page_bytes is a power of two; the pages are fewer than 2^64.
  constexpr dirty_bitmap(std::byte* bytes, iova_range range, std::uint64_t page_bytes) noexcept
      : bits_(bytes, page_count(range, page_bytes)),
        range_(range),
        page_lg2_(log2_exact(page_bytes)) {}

  static constexpr std::uint64_t page_count(iova_range range, std::uint64_t page_bytes) noexcept {
    IOPT_ASSERT(page_bytes > 1 || range != iova_range::whole());
    return (range.length_minus_one() >> log2_exact(page_bytes)) + 1;
  }
  static constexpr std::uint64_t size_bytes(iova_range range, std::uint64_t page_bytes) noexcept {
    return bitmap_view::bytes_for(page_count(range, page_bytes));
  }

  constexpr iova_range range() const noexcept { return range_; }
  constexpr std::uint64_t page_bytes() const noexcept { return std::uint64_t{1} << page_lg2_; }
  constexpr bitmap_view bits() const noexcept { return bits_; }

  /// The numbers of the pages that `part` touches, or nothing where it lies outside.
  constexpr std::optional<bit_range> pages_of(iova_range part) const noexcept {
    const std::optional<iova_range> inside = range_.intersection(part);
    if (!inside) return std::nullopt;
    return bit_range{{(inside->first - range_.first) >> page_lg2_},
                     {(inside->last - range_.first) >> page_lg2_}};
  }
  /// The addresses of pages.
  constexpr iova_range addresses_of(bit_range pages) const noexcept {
    const iova last_page = range_.first + (pages.last.value << page_lg2_);
    return {range_.first + (pages.first.value << page_lg2_),
            last_page + std::min(page_bytes() - 1, range_.last - last_page)};
  }

  /// Sets every page that `written` touches; what lies outside the range is left out.
  void record(iova_range written) noexcept {
    if (const auto pages = pages_of(written)) bits_.set(pages->first.value, pages->last.value);
  }

  bool is_dirty(iova a) const noexcept {
    IOPT_ASSERT(range_.contains(a));
    return bits_.test((a - range_.first) >> page_lg2_);
  }

  /// Calls f(iova_range) for each maximal run of dirty pages, in order.
  template <class F>
  void for_each_dirty(F&& f) const {
    bits_.for_each_run([&](bit_range pages) { f(addresses_of(pages)); });
  }

 private:
  bitmap_view bits_;
  iova_range range_;
  unsigned page_lg2_;
};

/// Records in `to` all that is dirty in `from`. A coarser page is dirty where any finer one in it
/// is; a finer one where the coarser one around it is. The two share no memory.
inline void convert(const dirty_bitmap& from, dirty_bitmap& to) noexcept {
  from.for_each_dirty([&to](iova_range dirty) { to.record(dirty); });
}

}  // namespace iopt
