// iopt/backends/mock/table_geometry.hpp - the arithmetic of a mock page table: levels and sizes.
//
// Layer: backends/mock. Includes: base, the standard library.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "iopt/backends/mock/table_node.hpp"
#include "iopt/base/assert.hpp"
#include "iopt/base/log2.hpp"
#include "iopt/base/page_sizes.hpp"
#include "iopt/base/range.hpp"

namespace iopt::mock {

/// table_geometry: which level an entry of a page size lies in, and which sizes a range takes.
///
/// Model       A slot of level n spans granule * 512^n bytes. A page size between two levels takes a
///             group of slots of the lower one.
/// Cost        All calls O(1), but nodes_to_write() O(page sizes * levels).
/// Tested by   tests/backends/mock/page_table_test.cpp
class table_geometry {
 public:
  static constexpr unsigned level_bits = table_node::width_lg2;
  static constexpr unsigned levels = 7;  // enough for 64 bits from a granule of 512 bytes

  /// Requires: at least one size; the smallest is 512 bytes or more.
  explicit table_geometry(page_size_set sizes) noexcept
      : sizes_(sizes), granule_lg2_(log2_exact(sizes.smallest())) {
    IOPT_ASSERT(granule_lg2_ >= 9);
    for (unsigned level = 0; shift_of(level) < 64; ++level) {
      const std::uint64_t above = shift_of(level + 1) >= 64 ? 0 : slot_bytes(level + 1);
      grouped_[level] = (sizes.bitmap() & (above - 1) & ~(slot_bytes(level) * 2 - 1)) != 0;
    }
  }

  page_size_set sizes() const noexcept { return sizes_; }
  std::uint64_t granule() const noexcept { return std::uint64_t{1} << granule_lg2_; }
  unsigned shift_of(unsigned level) const noexcept { return granule_lg2_ + level_bits * level; }
  std::uint64_t slot_bytes(unsigned level) const noexcept {
    return std::uint64_t{1} << shift_of(level);
  }
  unsigned level_of(std::uint64_t size) const noexcept {
    return (log2_exact(size) - granule_lg2_) / level_bits;
  }
  std::size_t slot_at(std::uint64_t v, unsigned level) const noexcept {
    return static_cast<std::size_t>(v >> shift_of(level)) % table_node::width;
  }
  /// Whether a page size takes a group of slots of this level.
  bool grouped(unsigned level) const noexcept { return grouped_[level]; }
  /// The last address below a root whose level is height - 1.
  std::uint64_t reach(unsigned height) const noexcept {
    return shift_of(height) >= 64 ? top : slot_bytes(height) - 1;
  }

  /// The bytes from `at` on that entries of one size can take, the largest that fits; and that
  /// size. `left` is the bytes to map, less one.
  std::uint64_t choose(std::uint64_t at, std::uint64_t to, std::uint64_t left,
                       std::uint64_t& size) const noexcept {
    const std::uint64_t length = left == top ? top : left + 1;
    size = sizes_.best_fit(at | to, length);
    const std::uint64_t larger = sizes_.bitmap() & ~(size * 2 - 1);
    const std::uint64_t span = align_down(length, size);
    if (larger == 0) return span;
    // Up to where the next size could begin, if there it also fits.
    const std::uint64_t next = lowest_bit(larger);
    if (((at ^ to) & (next - 1)) != 0) return span;
    const std::uint64_t until = next - (at & (next - 1));
    return until <= length && length - until >= next ? until : span;
  }

  /// An upper bound for the nodes that mapping r to `to` takes.
  std::size_t nodes_to_write(iova_range r, std::uint64_t to) const noexcept {
    std::uint64_t count = 0;
    std::uint64_t at = r.first.value;
    for (std::uint64_t left = r.length_minus_one();;) {
      std::uint64_t size = 0;
      const std::uint64_t span = choose(at, to, left, size);
      for (unsigned above = level_of(size) + 1; shift_of(above) < 64; ++above)
        count += ((at + (span - 1)) >> shift_of(above)) - (at >> shift_of(above)) + 1;
      if (span - 1 == left) return static_cast<std::size_t>(count + levels);
      at += span;
      to += span;
      left -= span;
    }
  }

 private:
  page_size_set sizes_;
  unsigned granule_lg2_;
  std::array<bool, levels + 1> grouped_{};
};

}  // namespace iopt::mock
