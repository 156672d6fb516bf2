// iopt/backends/mock/memory_space.hpp - memory that exists in name only: a process, a file, a BAR.
//
// Nothing is stored for a page. Its frame is a function of its address, so that a test can hold
// terabytes, and can say how contiguous they are.
//
// Layer: backends/mock. Includes: base, the standard library.
#pragma once

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <map>
#include <optional>

#include "iopt/base/access.hpp"
#include "iopt/base/log2.hpp"
#include "iopt/base/page_sizes.hpp"
#include "iopt/base/range.hpp"
#include "iopt/base/run.hpp"

namespace iopt::mock {

/// contiguity: how many bytes of memory lie behind one another in one block of frames. Any power of
/// two from the page size up will do; blocks are shuffled, so that no two neighbours join.
namespace contiguity {
inline constexpr std::uint64_t scattered = 0;  // single pages, whatever the page size
inline constexpr std::uint64_t blocks_2m = 2 * mebibyte;
inline constexpr std::uint64_t contiguous = std::uint64_t{1} << 47;  // any range is one run
}  // namespace contiguity

/// range_set: a set of 64-bit numbers, kept as disjoint closed ranges.
///
/// Cost     O(log n + ranges removed).
/// Threads  Thread-compatible.
/// Tested by tests/backends/mock/memory_space_test.cpp
class range_set {
 public:
  bool empty() const noexcept { return ranges_.empty(); }

  void remove(std::uint64_t first, std::uint64_t last) {
    auto at = ranges_.upper_bound(first);
    if (at != ranges_.begin()) --at;
    while (at != ranges_.end() && at->first <= last) {
      const auto [from, to] = *at;
      if (to < first) {
        ++at;
        continue;
      }
      at = ranges_.erase(at);
      if (from < first) ranges_.emplace(from, first - 1);
      if (to > last) ranges_.emplace(last + 1, to);
    }
  }
  void insert(std::uint64_t first, std::uint64_t last) {
    remove(first, last);
    ranges_.emplace(first, last);
  }

  /// The least member that is not below n.
  std::optional<std::uint64_t> next(std::uint64_t n) const {
    auto at = ranges_.upper_bound(n);
    if (at != ranges_.begin() && std::prev(at)->second >= n) return n;
    if (at == ranges_.end()) return std::nullopt;
    return at->first;
  }
  bool contains(std::uint64_t n) const { return next(n) == n; }

 private:
  std::map<std::uint64_t, std::uint64_t> ranges_;
};

/// memory_space: `size_bytes` bytes of imaginary memory, with frames, holes and read-only parts.
///
/// Model       A function from bytes to physical bytes: injective, disjoint from that of every space
///             with another number, linear inside each block of the contiguity.
/// Cost        run_at() O(1), a multiplication.
/// Threads     Thread-compatible.
/// Tested by   tests/backends/mock/memory_space_test.cpp
class memory_space {
 public:
  /// Each space has a window of 2^47 bytes of physical addresses for itself.
  static constexpr unsigned window_lg2 = 47;
  static constexpr std::uint64_t largest = std::uint64_t{1} << window_lg2;
  static constexpr std::uint64_t most_spaces = (std::uint64_t{1} << (64 - window_lg2)) - 1;

  /// Requires: size_bytes <= largest; number < most_spaces; powers of two.
  memory_space(std::uint64_t number, std::uint64_t size_bytes, std::uint64_t page_bytes,
               std::uint64_t contiguity_bytes) noexcept
      : base_((number + 1) << window_lg2), size_bytes_(size_bytes) {
    IOPT_ASSERT(size_bytes <= largest && number < most_spaces);
    set_contiguity(std::max(contiguity_bytes, page_bytes));
  }

  std::uint64_t size_bytes() const noexcept { return size_bytes_; }
  void set_size(std::uint64_t bytes) noexcept { size_bytes_ = std::min(bytes, largest); }
  /// All the frames that the space can have.
  physical_range frames() const noexcept { return physical_range::sized({base_}, largest); }
  /// Moves the space to the frames of another number.
  void move_to(std::uint64_t number) noexcept { base_ = (number + 1) << window_lg2; }

  void set_contiguity(std::uint64_t bytes) noexcept {
    block_lg2_ = log2_exact(bytes);
    // Blocks are shuffled among 512 neighbours or in a gibibyte, so that frames stay dense.
    shuffle_lg2_ = std::max(30u, block_lg2_ + 9);
    if (shuffle_lg2_ > window_lg2) block_lg2_ = shuffle_lg2_ = window_lg2;
  }

  /// Where the byte is, present or not.
  physical where(std::uint64_t at) const noexcept {
    const std::uint64_t blocks = std::uint64_t{1} << (shuffle_lg2_ - block_lg2_);
    const std::uint64_t block = at >> block_lg2_;
    // An odd factor permutes the residues of a power of two.
    const std::uint64_t shuffled = (block & ~(blocks - 1)) | (block * 0x9E3779B1u & (blocks - 1));
    return {base_ + (shuffled << block_lg2_) + (at & ((std::uint64_t{1} << block_lg2_) - 1))};
  }
  /// The run of at most `bytes` bytes that starts there.
  run run_at(std::uint64_t at, std::uint64_t bytes, memory_type type) const noexcept {
    const std::uint64_t block = std::uint64_t{1} << block_lg2_;
    return run(where(at), std::min(bytes, block - (at & (block - 1))), type);
  }

  /// How many bytes from `at` on can be used: 0 in a hole, past the end, or, to write, in read-only
  /// memory.
  std::uint64_t usable(std::uint64_t at, bool to_write) const {
    if (at >= size_bytes_) return 0;
    std::uint64_t end = size_bytes_;
    if (!holes.empty()) end = std::min(end, holes.next(at).value_or(end));
    if (to_write && !read_only.empty()) end = std::min(end, read_only.next(at).value_or(end));
    return end - at;
  }

  range_set holes;
  range_set read_only;

 private:
  std::uint64_t base_;
  std::uint64_t size_bytes_;
  unsigned block_lg2_ = window_lg2;
  unsigned shuffle_lg2_ = window_lg2;
};

}  // namespace iopt::mock
