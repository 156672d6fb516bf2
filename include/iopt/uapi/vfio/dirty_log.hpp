// iopt/uapi/vfio/dirty_log.hpp - the dirty bitmap that type1 keeps for each mapping.
//
// type1 answers VFIO_IOMMU_DIRTY_PAGES from a bitmap a mapping, and a program can see how it is kept:
// where a mapping does not begin at a multiple of 64 pages of the range that was asked for, its
// bitmap is shifted in place before it is copied out, the word of the caller that it begins in is
// or-ed into it whole, and only the mapping's own bits are cleared afterwards. So bits that were
// shifted past the end come out with a later read. The golden vectors show it; this does the same.
//
// Layer: uapi. Includes: base, containers/interval_tree.hpp, policy/user_copy.hpp.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <span>

#include "iopt/base/address.hpp"
#include "iopt/base/assert.hpp"
#include "iopt/base/error.hpp"
#include "iopt/base/memory_source.hpp"
#include "iopt/base/range.hpp"
#include "iopt/containers/interval_tree.hpp"
#include "iopt/policy/user_copy.hpp"

namespace iopt::vfio {

/// The most bytes that a caller's dirty bitmap may have, and the most pages of a mapping that is
/// tracked. Source: Linux 6.12 DIRTY_BITMAP_SIZE_MAX, DIRTY_BITMAP_PAGES_MAX.
inline constexpr std::uint64_t max_bitmap_bytes = std::uint64_t{1} << 28;
inline constexpr std::uint64_t max_bitmap_pages = (std::uint64_t{1} << 31) - 1;

/// The bytes that the bits of so many pages take: whole words of 64 bits.
constexpr std::uint64_t bitmap_bytes(std::uint64_t pages) noexcept {
  return pages / 64 * 8 + (pages % 64 != 0 ? 8 : 0);
}

/// dirty_log: which pages of one mapping may have been written.
///
/// Model       A set of page numbers of the mapping, and the bits of one word past the last.
/// Ownership   One block of the memory source, made by create() and given back by destroy(); linked
///             into a tree by the IOVAs of the mapping.
/// Errors      create(): invalid_argument for more than max_bitmap_pages pages, not_enough_memory.
///             copy_out(): bad_address; the bits are shifted already then, as type1's are.
/// Cost        create, set_all, copy_out, clear: O(pages / 64).
/// Threads     Thread-compatible.
/// Source      Linux 6.12 vfio_iommu_type1.c: update_user_bitmap, vfio_dma_bitmap_alloc, as facts.
/// Tested by   tests/uapi/vfio/dirty_log_test.cpp
class dirty_log : public interval_node<iova> {
 public:
  /// An empty log for the mapping `where`, in pages of 2^page_lg2 bytes, which divide it.
  template <memory_source Memory>
  static result<dirty_log*> create(iova_range where, unsigned page_lg2, Memory& memory) noexcept {
    const std::uint64_t more = where.length_minus_one() >> page_lg2;
    if (more >= max_bitmap_pages) return fail(errc::invalid_argument);
    void* const place = memory.allocate(block_bytes(more + 1), alignof(dirty_log));
    if (place == nullptr) return fail(errc::not_enough_memory);
    dirty_log* const made = new (place) dirty_log(where, page_lg2, more + 1);
    std::memset(made->words(), 0, made->word_count() * sizeof(std::uint64_t));
    return made;
  }
  /// Requires: not linked.
  template <memory_source Memory>
  static void destroy(dirty_log* log, Memory& memory) noexcept {
    const std::size_t bytes = block_bytes(log->pages_);
    log->~dirty_log();
    memory.deallocate(log, bytes, alignof(dirty_log));
  }

  std::uint64_t pages() const noexcept { return pages_; }

  /// Sets the pages that hold the IOVAs. Requires: they are of the mapping.
  void set(iova_range part) noexcept {
    const std::uint64_t first = page_of(part.first);
    const std::uint64_t last = page_of(part.last);
    IOPT_ASSERT(range.contains(part));
    for (std::uint64_t n = first / 64; n <= last / 64; ++n) {
      std::uint64_t mask = ~std::uint64_t{0};
      if (n == first / 64) mask &= ~std::uint64_t{0} << (first % 64);
      if (n == last / 64) mask &= ~std::uint64_t{0} >> (63 - last % 64);
      words()[n] |= mask;
    }
  }
  void set_all() noexcept { set(range); }
  bool test(iova at) const noexcept {
    const std::uint64_t page = page_of(at);
    return (words()[page / 64] >> (page % 64) & 1) != 0;
  }

  /// Clears the mapping's pages; the bits past them stay.
  void clear() noexcept {
    std::fill_n(words(), pages_ / 64, 0);
    if (pages_ % 64 != 0) words()[pages_ / 64] &= ~std::uint64_t{0} << (pages_ % 64);
  }

  /// Writes the bits into a caller's bitmap, whose bit 0 is the page at `base`.
  /// Requires: base <= range.first, both page aligned.
  template <user_copy Copy>
  result<void> copy_out(Copy& copy, user_address bitmap, iova base) noexcept {
    const std::uint64_t offset = (range.first - base) >> page_lg2_;
    const user_address at{bitmap.value + offset / 64 * 8};
    const unsigned shift = offset % 64;
    if (shift != 0) {
      shift_up(shift);
      std::byte there[8];
      if (!copy.read(at, there)) return fail(errc::bad_address);
      words()[0] |= std::bit_cast<std::uint64_t>(there);
    }
    const std::uint64_t bytes = bitmap_bytes(pages_ + shift);
    if (!copy.write(at, std::as_bytes(std::span(words(), bytes / 8))))
      return fail(errc::bad_address);
    return {};
  }

  /// Takes over what `from` has of this log's mapping, whose range lies inside that of `from`.
  void take(const dirty_log& from) noexcept {
    for (std::uint64_t page = 0; page < pages_; ++page) {
      const iova at = range.first + (page << page_lg2_);
      if (from.test(at)) set({at, at});
    }
  }

 private:
  dirty_log(iova_range where, unsigned page_lg2, std::uint64_t pages) noexcept
      : pages_(pages), page_lg2_(page_lg2) {
    range = where;
  }

  // One word more than the bits take: room for them to be shifted into.
  static std::size_t words_for(std::uint64_t pages) noexcept {
    return static_cast<std::size_t>(bitmap_bytes(pages) / 8 + 1);
  }
  static std::size_t block_bytes(std::uint64_t pages) noexcept {
    return sizeof(dirty_log) + words_for(pages) * sizeof(std::uint64_t);
  }
  std::size_t word_count() const noexcept { return words_for(pages_); }
  std::uint64_t* words() noexcept { return reinterpret_cast<std::uint64_t*>(this + 1); }
  const std::uint64_t* words() const noexcept {
    return reinterpret_cast<const std::uint64_t*>(this + 1);
  }
  std::uint64_t page_of(iova at) const noexcept { return (at - range.first) >> page_lg2_; }

  /// Shifts the bits, with those past the last page, towards higher numbers. Requires: 0 < by < 64.
  void shift_up(unsigned by) noexcept {
    std::uint64_t* const w = words();
    for (std::uint64_t n = bitmap_bytes(pages_ + by) / 8; n-- != 0;)
      w[n] = w[n] << by | (n == 0 ? 0 : w[n - 1] >> (64 - by));
  }

  std::uint64_t pages_;
  unsigned page_lg2_;
};

}  // namespace iopt::vfio
