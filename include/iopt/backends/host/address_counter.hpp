// iopt/backends/host/address_counter.hpp - how often each page of a process is pinned.
//
// An address space is too wide for one frame_counter: 128 TiB would reserve 128 GiB of counts, which a
// process that locks all its memory cannot have. So there is one a GiB, made where something is
// pinned for the first time, and kept from then on: taking a count back allocates nothing.
//
// Layer: backends. Includes: base, backends/host, the standard library.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <new>
#include <string_view>

#include "iopt/backends/host/frame_counter.hpp"
#include "iopt/backends/host/physical_memory.hpp"
#include "iopt/base/address.hpp"
#include "iopt/base/assert.hpp"
#include "iopt/base/error.hpp"
#include "iopt/base/page_sizes.hpp"
#include "iopt/base/range.hpp"

namespace iopt::host {

/// address_counter: a count for each page of an address space.
///
/// Model       c(p), at first 0 for every page p.
/// Invariants  Blocks are sorted by address, each there once. total() is the sum of c(p), pages()
///             the number of p with c(p) > 0. Those of every frame_counter.
/// Errors      add(): not_enough_memory; then nothing is counted. A count below 0 is a bug and is
///             asserted.
/// Cost        As frame_counter, and O(log blocks + blocks touched). Reserved: 1 MiB of address
///             space for each GiB that anything was ever counted in.
/// Threads     Thread-compatible.
/// Tested by   tests/backends/host/address_counter_test.cpp (model: one count a page)
class address_counter {
 public:
  static constexpr std::uint64_t block_bytes = gibibyte;

  address_counter() = default;
  address_counter(const address_counter&) = delete;
  address_counter& operator=(const address_counter&) = delete;
  ~address_counter() {
    for (const block& b : blocks_) delete b.counts;
  }

  /// c(p) += 1 for each page of the range. Requires: whole pages.
  result<void> add(user_range pages) noexcept {
    for (std::uint64_t n = pages.first.value / block_bytes; n <= pages.last.value / block_bytes;
         ++n)
      if (!make(n)) return fail(errc::not_enough_memory);
    for_each_block(pages, [](frame_counter& c, physical_range part) noexcept { c.add(part); });
    return {};
  }
  /// c(p) -= 1. Requires: whole pages, each with a count.
  void subtract(user_range pages) noexcept {
    for_each_block(pages, [](frame_counter& c, physical_range part) noexcept { c.subtract(part); });
  }

  /// c of the page that this byte is in.
  std::uint64_t count(user_address byte) const noexcept {
    const std::uint64_t number = byte.value / block_bytes;
    const block* const at = place(number);
    if (at == blocks_.end() || at->number != number) return 0;
    return at->counts->count({byte.value % block_bytes});
  }
  std::uint64_t total() const noexcept {
    std::uint64_t sum = 0;
    for (const block& b : blocks_) sum += b.counts->total();
    return sum;
  }
  std::uint64_t pages() const noexcept {
    std::uint64_t sum = 0;
    for (const block& b : blocks_) sum += b.counts->frames();
    return sum;
  }

  /// The first invariant that does not hold, or nothing.
  std::string_view verify() const noexcept {
    for (std::size_t n = 1; n < blocks_.size(); ++n)
      if (blocks_[n - 1].number >= blocks_[n].number) return "blocks are sorted, each there once";
    for (const block& b : blocks_)
      if (const std::string_view fault = b.counts->verify(); !fault.empty()) return fault;
    return {};
  }

 private:
  struct block {
    std::uint64_t number;  // of the GiB
    frame_counter* counts;
  };

  const block* place(std::uint64_t number) const noexcept {
    return std::lower_bound(
        blocks_.begin(), blocks_.end(), number,
        [](const block& b, std::uint64_t wanted) noexcept { return b.number < wanted; });
  }

  /// Makes the block where it is not there; false without memory.
  bool make(std::uint64_t number) noexcept {
    const block* const at = place(number);
    if (at != blocks_.end() && at->number == number) return true;
    frame_counter* const counts = new (std::nothrow) frame_counter(block_bytes);
    if (counts != nullptr && counts->usable() &&
        blocks_.insert(static_cast<std::size_t>(at - blocks_.begin()), {number, counts}))
      return true;
    delete counts;
    return false;
  }

  template <class Each>
  void for_each_block(user_range pages, Each each) noexcept {
    const block* at = place(pages.first.value / block_bytes);
    for (;; ++at) {
      IOPT_ASSERT(at != blocks_.end() && at->number == pages.first.value / block_bytes);
      const std::uint64_t start = at->number * block_bytes;
      const std::uint64_t last = std::min(pages.last.value, start + (block_bytes - 1));
      each(*at->counts, physical_range{{pages.first.value - start}, {last - start}});
      if (last == pages.last.value) return;
      pages.first = {last + 1};
    }
  }

  detail::host_array<block> blocks_;
};

}  // namespace iopt::host
