// iopt/backends/host/frame_counter.hpp - how often each frame is pinned, at the price of runs.
//
// Counting page by page would make a pin of 1 GiB a quarter of a million additions. Here a chunk of
// 2 MiB has one count for all of its pages, and each page a difference to it, so that whole chunks
// cost one addition. Both arrays are reserved at once for the whole machine and given memory by the
// system where they are touched: taking a count back allocates nothing.
//
// Layer: backends. Includes: base, backends/host/physical_memory.hpp, the standard library, Linux.
#pragma once

#include <sys/mman.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "iopt/backends/host/physical_memory.hpp"
#include "iopt/base/address.hpp"
#include "iopt/base/assert.hpp"
#include "iopt/base/range.hpp"

namespace iopt::host {

/// frame_counter: a count for each frame of a machine.
///
/// Model       c(f), at first 0 for every frame f.
/// Invariants  c(f) >= 0. A chunk's `odd_pages` is the number of its pages with a difference other
///             than 0. total() is the sum of c(f), frames() the number of f with c(f) > 0.
/// Errors      None after construction; usable() is false where the process lacks address space.
///             A count below 0 is a bug and is asserted.
/// Cost        add, subtract: O(chunks of 2 MiB), and O(pages) in chunks that are counted in part.
///             Reserved: 4 bytes of address space a page.
/// Threads     Thread-compatible.
/// Tested by   tests/backends/host/frame_counter_test.cpp (model: one count a page)
class frame_counter {
 public:
  static constexpr std::uint64_t chunk_pages = 512;

  explicit frame_counter(std::uint64_t machine_bytes) noexcept
      : chunk_count_((machine_bytes + chunk_pages * page_bytes - 1) / (chunk_pages * page_bytes)),
        chunks_(reserve<chunk>(chunk_count_)),
        differences_(reserve<std::int32_t>(chunk_count_ * chunk_pages)) {}
  frame_counter(const frame_counter&) = delete;
  frame_counter& operator=(const frame_counter&) = delete;
  ~frame_counter() {
    if (chunks_ != nullptr) ::munmap(chunks_, chunk_count_ * sizeof(chunk));
    if (differences_ != nullptr)
      ::munmap(differences_, chunk_count_ * chunk_pages * sizeof(std::int32_t));
  }

  bool usable() const noexcept { return chunks_ != nullptr && differences_ != nullptr; }

  /// c(f) += 1 for each frame of the range; entered(physical_range) for each maximal part of it
  /// whose frames had count 0. Requires: whole pages, inside the machine; usable().
  template <class Entered>
  void add(physical_range frames, Entered&& entered) noexcept {
    change<1>(frames, entered);
  }
  void add(physical_range frames) noexcept {
    add(frames, [](physical_range) noexcept {});
  }

  /// c(f) -= 1; left(physical_range) for each maximal part whose frames now have count 0.
  template <class Left>
  void subtract(physical_range frames, Left&& left) noexcept {
    change<-1>(frames, left);
  }
  void subtract(physical_range frames) noexcept {
    subtract(frames, [](physical_range) noexcept {});
  }

  /// c of the frame that this byte is in.
  std::uint64_t count(physical byte) const noexcept {
    const std::uint64_t page = byte.value / page_bytes;
    if (!usable() || page / chunk_pages >= chunk_count_) return 0;
    return static_cast<std::uint64_t>(count_of(page));
  }
  std::uint64_t total() const noexcept { return total_; }
  std::uint64_t frames() const noexcept { return frames_; }

  /// Chunks and pages looked at by add() and subtract(), to test what they cost.
  std::uint64_t steps() const noexcept { return steps_; }

  /// The first invariant that does not hold, or nothing. O(chunks ever touched and between).
  std::string_view verify() const noexcept {
    std::uint64_t total = 0, frames = 0;
    for (std::uint64_t n = lowest_chunk_; n < end_chunk_; ++n) {
      const chunk& c = chunks_[n];
      if (c.odd_pages == 0) {
        if (c.common < 0) return "no count is below 0";
        total += static_cast<std::uint64_t>(c.common) * chunk_pages;
        if (c.common > 0) frames += chunk_pages;
        continue;
      }
      std::uint32_t odd_pages = 0;
      for (std::uint64_t page = n * chunk_pages; page != (n + 1) * chunk_pages; ++page) {
        if (differences_[page] != 0) ++odd_pages;
        if (count_of(page) < 0) return "no count is below 0";
        total += static_cast<std::uint64_t>(count_of(page));
        if (count_of(page) > 0) ++frames;
      }
      if (odd_pages != c.odd_pages) return "odd_pages counts the pages with a difference";
    }
    if (total != total_) return "total() is the sum of the counts";
    if (frames != frames_) return "frames() is the number of frames with a count";
    return {};
  }

 private:
  struct chunk {
    std::int32_t common;      // what each page of the chunk counts, but for its difference
    std::uint32_t odd_pages;  // pages with a difference
  };

  template <class T>
  static T* reserve(std::uint64_t count) noexcept {
    void* const memory = ::mmap(nullptr, count * sizeof(T), PROT_READ | PROT_WRITE,
                                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return memory == MAP_FAILED ? nullptr : static_cast<T*>(memory);
  }

  std::int64_t count_of(std::uint64_t page) const noexcept {
    return std::int64_t{chunks_[page / chunk_pages].common} + differences_[page];
  }

  /// Whether a count of `before` that changes by Step crosses between 0 and 1.
  template <int Step>
  static bool crosses(std::int64_t before) noexcept {
    IOPT_ASSERT(before + Step >= 0);
    return before == (Step > 0 ? 0 : 1);
  }

  template <int Step, class Crossed>
  void change(physical_range range, Crossed& crossed) noexcept {
    constexpr std::uint64_t step = static_cast<std::uint64_t>(Step);  // -1 wraps, as it should
    IOPT_ASSERT(usable() && range.is_aligned(page_bytes));
    const std::uint64_t first = range.first.value / page_bytes;
    const std::uint64_t end = range.last.value / page_bytes + 1;
    IOPT_ASSERT(end <= chunk_count_ * chunk_pages);
    lowest_chunk_ = std::min(lowest_chunk_, first / chunk_pages);
    end_chunk_ = std::max(end_chunk_, (end - 1) / chunk_pages + 1);

    std::uint64_t crossed_first = 0, crossed_end = 0;  // a part gathered, empty where equal
    const auto tell = [&]() noexcept {
      if (crossed_first == crossed_end) return;
      frames_ += step * (crossed_end - crossed_first);
      crossed(physical_range{{crossed_first * page_bytes}, {crossed_end * page_bytes - 1}});
    };
    const auto gather = [&](std::uint64_t page, std::uint64_t pages) noexcept {
      if (page != crossed_end) tell(), crossed_first = page;
      crossed_end = page + pages;
    };

    for (std::uint64_t page = first; page != end;) {
      chunk& c = chunks_[page / chunk_pages];
      const std::uint64_t stop = std::min(end, (page / chunk_pages + 1) * chunk_pages);
      const bool whole = stop - page == chunk_pages;
      if (whole && c.odd_pages == 0) {
        if (crosses<Step>(c.common)) gather(page, chunk_pages);
        c.common += Step;
        page = stop;
        ++steps_;
        continue;
      }
      const std::int32_t one_difference = differences_[page];
      bool all_differ_alike = whole;
      steps_ += stop - page;
      for (; page != stop; ++page) {
        if (crosses<Step>(count_of(page))) gather(page, 1);
        if (whole) {
          all_differ_alike = all_differ_alike && differences_[page] == one_difference;
          continue;
        }
        const std::int32_t before = differences_[page];
        differences_[page] = before + Step;
        c.odd_pages += (before + Step != 0 ? 1U : 0U) - (before != 0 ? 1U : 0U);
      }
      if (!whole) continue;
      c.common += Step;
      if (all_differ_alike) {  // pinned whole and unpinned in pieces, or the other way round
        std::fill_n(differences_ + (stop - chunk_pages), chunk_pages, 0);
        c.common += one_difference;
        c.odd_pages = 0;
      }
    }
    tell();
    total_ += step * (end - first);
  }

  std::uint64_t chunk_count_ = 0;
  chunk* chunks_ = nullptr;
  std::int32_t* differences_ = nullptr;
  std::uint64_t total_ = 0;
  std::uint64_t frames_ = 0;
  std::uint64_t steps_ = 0;
  std::uint64_t lowest_chunk_ = top;  // of the chunks ever touched
  std::uint64_t end_chunk_ = 0;
};

}  // namespace iopt::host
