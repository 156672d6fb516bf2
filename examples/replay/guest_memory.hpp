// examples/replay/guest_memory.hpp - the memory that a trace speaks of, as memory of this process.
//
// A trace names memory by addresses of another program, long gone. Here every such address gets
// real memory behind it, the same each time it is named: regions are the union of all that the
// trace ever maps. For a VMM's trace a region is user memory in shuffled blocks, so that its frames
// are as contiguous as a host's; for a DMA trace it lies exactly on the trace's own frames, in a
// sparse arena. Every page the trace can show carries a tag of its own, written through the user's
// mapping.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <expected>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "examples/replay/trace.hpp"
#include "iopt/backends/host/host.hpp"

namespace replay {

/// region: memory that the trace names contiguously.
struct region {
  iopt::user_range named{};       // in the trace's own addresses
  std::uint64_t pad_bytes = 0;    // before it, so that it is congruent to the IOVAs that show it
  std::uint64_t first_page = 0;   // its first page's number among those of one guest
  std::uint64_t times_shown = 0;  // events that map part of it

  std::uint64_t pages() const noexcept { return named.length_minus_one() / page_bytes + 1; }
};

/// The regions of a trace, in order. `block_bytes` is the unit of contiguity.
std::vector<region> find_regions(const trace& t, std::uint64_t block_bytes);

/// The content tag of a page, unique in the run, and where in the page it stands: not always at its
/// start, lest all tags fall into one set of the processor's cache.
constexpr std::uint64_t tag_of(std::uint64_t page) noexcept {
  // splitmix64's finisher: a bijection, so different pages differ.
  std::uint64_t z = page + 0x9e3779b97f4a7c15;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}
constexpr std::uint64_t tag_offset(std::uint64_t page) noexcept { return page % 64 * 64; }

/// guest_memory: the memory of all guests.
///
/// Model       A function from (guest, address in the trace) to user addresses of this process, and
///             to page numbers, which are unique over all guests.
/// Ownership   Owns the machine's physical memory and the regions' user memory.
class guest_memory {
 public:
  /// Makes the memory and writes the tags. progress(pages done, pages in all) is told now and then.
  /// An error is a reason in words.
  template <class Progress>
  static std::expected<std::unique_ptr<guest_memory>, std::string> create(const trace& t,
                                                                          std::size_t guests,
                                                                          std::uint64_t block_bytes,
                                                                          Progress progress) {
    auto made = make(t, guests, block_bytes);
    if (made) (*made)->write_tags(progress);
    return made;
  }

  std::size_t guests() const noexcept { return guests_; }
  std::uint64_t pages() const noexcept { return guests_ * pages_of_guest_; }
  const std::vector<region>& regions() const noexcept { return regions_; }
  iopt::host::physical_memory& machine() noexcept { return *machine_; }
  const iopt::host::physical_memory& machine() const noexcept { return *machine_; }

  /// The region that an address of the trace lies in. Requires: some event maps it.
  std::size_t region_of(std::uint64_t source) const noexcept;
  /// Where this byte of a guest is in this process.
  iopt::user_address user_at(std::size_t guest, std::uint64_t source) const noexcept;
  /// The number of its page.
  std::uint64_t page_at(std::size_t guest, std::uint64_t source) const noexcept;
  /// Its frame, as user_memory knows it.
  std::optional<iopt::physical> frame_at(std::size_t guest, std::uint64_t source) const noexcept;

 private:
  guest_memory() = default;
  static std::expected<std::unique_ptr<guest_memory>, std::string> make(const trace& t,
                                                                        std::size_t guests,
                                                                        std::uint64_t block_bytes);
  const iopt::host::user_memory& memory_of(std::size_t guest, std::size_t r) const noexcept {
    return memory_[guest * regions_.size() + r];
  }

  template <class Progress>
  void write_tags(Progress& progress) {
    std::uint64_t done = 0;
    for (std::size_t guest = 0; guest != guests_; ++guest) {
      for (std::size_t r = 0; r != regions_.size(); ++r) {
        std::byte* const start = memory_of(guest, r).data() + regions_[r].pad_bytes;
        const std::uint64_t first = guest * pages_of_guest_ + regions_[r].first_page;
        for (std::uint64_t n = 0; n != regions_[r].pages(); ++n) {
          if (!holds_page(r, n)) continue;
          const std::uint64_t tag = tag_of(first + n);
          std::memcpy(start + n * page_bytes + tag_offset(first + n), &tag, sizeof tag);
          if (++done % 4096 == 0) progress(done, guests_ * tagged_pages_);
        }
      }
    }
  }
  /// Whether the trace ever shows the page: regions of a DMA trace have gaps, which stay sparse.
  bool holds_page(std::size_t r, std::uint64_t n) const noexcept {
    return shown_.empty() || shown_[regions_[r].first_page + n];
  }

  std::size_t guests_ = 0;
  std::uint64_t pages_of_guest_ = 0;
  std::uint64_t tagged_pages_ = 0;
  std::vector<region> regions_;
  std::vector<bool> shown_;  // by page number of one guest; empty where all are
  std::optional<iopt::host::physical_memory> machine_;
  std::vector<iopt::host::user_memory> memory_;  // of guest 0, then of guest 1, ...
};

}  // namespace replay
