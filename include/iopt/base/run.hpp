// iopt/base/run.hpp - a run of physically contiguous bytes, and a bounded list to append runs to.
//
// A pinner appends what it pinned, a domain appends what it held; both through a run_list, which
// joins neighbours, so that a gibibyte of contiguous memory is one run however it is handed over.
//
// Layer: base. Includes: base/access.hpp, base/address.hpp, base/assert.hpp,
// base/run_joining.hpp, the standard library.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <type_traits>

#include "iopt/base/access.hpp"
#include "iopt/base/address.hpp"
#include "iopt/base/assert.hpp"
#include "iopt/base/run_joining.hpp"

namespace iopt {

/// run: `length_bytes` bytes from physical address `first`, all of one memory type.
///
/// Invariants  length_bytes > 0 in every run that a list holds.
struct run {
  /// How many bits a length has, and the greatest one, in bytes.
  static constexpr unsigned length_bits = 60;
  static constexpr std::uint64_t longest = (std::uint64_t{1} << length_bits) - 1;

  physical first{};
  std::uint64_t length_bytes : length_bits = 0;
  std::uint64_t type_bits : 64 - length_bits = 0;

  constexpr run() noexcept = default;
  constexpr run(physical start, std::uint64_t bytes, memory_type t = memory_type::cached) noexcept
      : first(start), length_bytes(bytes & longest), type_bits(static_cast<std::uint64_t>(t) & 15) {
    IOPT_ASSERT(bytes <= longest);
  }

  constexpr memory_type type() const noexcept { return static_cast<memory_type>(type_bits); }
  /// What stands behind `first`, where words come in little-endian order.
  constexpr std::uint64_t second_word() const noexcept {
    return length_bytes | std::uint64_t{type_bits} << length_bits;
  }

  /// Whether `next` goes on where this run ends, so that the two are one. Nothing goes on past the
  /// last address: address 0 does not.
  constexpr bool joins(run next) const noexcept {
    return first.value + length_bytes == next.first.value && next.first > first &&
           type_bits == next.type_bits && next.length_bytes <= longest - length_bytes;
  }

  /// The part of `bytes` bytes from `offset`. Requires: it lies inside.
  constexpr run slice(std::uint64_t offset, std::uint64_t bytes) const noexcept {
    IOPT_ASSERT(offset <= length_bytes && bytes <= length_bytes - offset);
    return {first + offset, bytes, type()};
  }

  friend constexpr bool operator==(run a, run b) noexcept {
    return a.first == b.first && a.length_bytes == b.length_bytes && a.type_bits == b.type_bits;
  }
};
static_assert(sizeof(run) == 16);
static_assert(run({4096}, 4096).joins(run({8192}, 1)) && !run({top}, 1).joins(run({0}, 1)));

/// run_list: an appender to storage that somebody else owns; full when no further run fits.
///
/// Model       A sequence of bytes, told as runs.
/// Invariants  capacity  size() <= capacity().
///             length    no run is empty.
///             joined    no run joins the one after it.
///             bytes     bytes() is the sum of the lengths.
///             verify() checks them in this order.
/// Errors      append() answers false, and has done nothing, where a new run is needed and the
///             list is full. An append that joins the last run always succeeds.
/// Cost        O(1) an append.
/// Threads     Thread-compatible.
/// Tested by   tests/base/run_test.cpp
class run_list {
 public:
  constexpr run_list() noexcept = default;
  constexpr explicit run_list(std::span<run> storage) noexcept
      : runs_(storage.data()), capacity_(storage.size()) {}

  constexpr bool append(run r) noexcept {
    IOPT_ASSERT(r.length_bytes > 0);
    if (size_ != 0 && runs_[size_ - 1].joins(r)) {
      runs_[size_ - 1].length_bytes =
          (runs_[size_ - 1].length_bytes + r.length_bytes) & run::longest;
    } else {
      if (size_ == capacity_) return false;
      put(runs_[size_++], r);
    }
    bytes_ += r.length_bytes;
    return true;
  }

  /// append() of a run that is known to fit. Requires: the list is not full, or `r` joins its last run.
  constexpr void append_fitting(run r) noexcept {
    [[maybe_unused]] const bool appended = append(r);
    IOPT_ASSERT(appended);
  }

  /// Appends pages of one size from an array of their addresses, as many as fit, joined: what
  /// append() does for one after the other. Returns how many it took. Requires: `page_bytes` > 0, and
  /// no page passes 2^64 - 1. Cost: O(pages); no branch depends on one page.
  constexpr std::size_t append_pages(std::span<const physical> pages, std::uint64_t page_bytes,
                                     memory_type type = memory_type::cached) noexcept {
    return append_words(pages, page_bytes, 1, type);
  }

  /// The same, from an array of frame numbers: addresses divided by `page_bytes`.
  constexpr std::size_t append_frames(std::span<const std::uint64_t> frames,
                                      std::uint64_t page_bytes,
                                      memory_type type = memory_type::cached) noexcept {
    return append_words(frames, 1, page_bytes, type);
  }
  constexpr std::size_t append_frames(std::span<const std::uint32_t> frames,
                                      std::uint64_t page_bytes,
                                      memory_type type = memory_type::cached) noexcept {
    return append_words(frames, 1, page_bytes, type);
  }

  /// Removes the first bytes, trimming the run in which they end. The storage of whole runs that go
  /// is left behind: capacity() falls with size(), until its owner makes a list of it anew.
  /// Requires: `bytes` <= bytes(). Cost: O(runs removed).
  constexpr void drop_front(std::uint64_t bytes) noexcept {
    IOPT_ASSERT(bytes <= bytes_);
    bytes_ -= bytes;
    while (bytes != 0 && bytes >= runs_->length_bytes) {
      bytes -= runs_->length_bytes;
      ++runs_, --size_, --capacity_;
    }
    if (bytes != 0) *runs_ = runs_->slice(bytes, runs_->length_bytes - bytes);
  }

  constexpr std::size_t size() const noexcept { return size_; }
  constexpr std::size_t capacity() const noexcept { return capacity_; }
  constexpr bool empty() const noexcept { return size_ == 0; }
  constexpr bool full() const noexcept { return size_ == capacity_; }
  constexpr std::uint64_t bytes() const noexcept { return bytes_; }
  constexpr run operator[](std::size_t n) const noexcept {
    IOPT_ASSERT(n < size_);
    return runs_[n];
  }
  constexpr const run* begin() const noexcept { return runs_; }
  constexpr const run* end() const noexcept { return runs_ + size_; }
  constexpr std::span<const run> view() const noexcept { return {runs_, size_}; }
  constexpr void clear() noexcept { size_ = 0, bytes_ = 0; }

  /// Empty where every invariant holds, and otherwise the first one that does not. Cost: O(size()).
  constexpr std::string_view verify() const noexcept {
    if (size_ > capacity_) return "capacity";
    std::uint64_t sum = 0;
    for (std::size_t n = 0; n < size_; ++n) {
      if (runs_[n].length_bytes == 0) return "length";
      if (n != 0 && runs_[n - 1].joins(runs_[n])) return "joined";
      sum += runs_[n].length_bytes;
    }
    return sum == bytes_ ? "" : "bytes";
  }

 private:
  /// Writes a run as two words. As bit-fields GCC writes the second in two pieces, and who reads it next
  /// waits for both.
  static constexpr void put(run& at, run r) noexcept {
    if !consteval {
      if constexpr (std::endian::native == std::endian::little) {  // elsewhere the words are others
        const std::uint64_t second = r.second_word();
        at.first = r.first;
        std::memcpy(reinterpret_cast<std::byte*>(&at) + sizeof at.first, &second, sizeof second);
        IOPT_ASSERT(at == r);
        return;
      }
    }
    at = r;
  }

  /// Pages at word * scale, of step * scale bytes.
  template <class Word>
  constexpr std::size_t append_words(std::span<const Word> words, std::uint64_t step,
                                     std::uint64_t scale, memory_type type) noexcept {
    std::size_t taken = 0;
    while (taken < words.size()) {
      const std::uint64_t word = detail::word_of(words[taken]);
      if (!append(run({word * scale}, step * scale, type))) break;
      ++taken;
      if consteval {
        continue;
      } else {
        if (words.size() - taken >= detail::joining_block)
          taken += append_blocks(words.subspan(taken), word + step, step, step * scale);
      }
    }
    return taken;
  }

  /// Appends blocks of pages behind one that append() took; stops where append() must see to one.
  template <class Word>
  std::size_t append_blocks(std::span<const Word> words, std::uint64_t next, std::uint64_t step,
                            std::uint64_t page_bytes) noexcept {
    using detail::joining_block;
    constexpr std::size_t most_blocks = 512;  // between two looks at the length of a run
    constexpr std::uint64_t most_pages = most_blocks * joining_block;
    if constexpr (std::endian::native != std::endian::little) return 0;  // a run's words are others
    if (page_bytes > run::longest / most_pages) return 0;
    if (step == page_bytes && !std::is_same_v<Word, physical>) return 0;  // frame 0 could go on
    const std::uint64_t longest = run::longest - most_pages * page_bytes;
    const std::uint64_t open = runs_[size_ - 1].second_word();
    const std::uint64_t type = open & ~run::longest;
    std::byte* const begin = reinterpret_cast<std::byte*>(runs_);
    detail::joining j{.last = begin + (size_ - 1) * sizeof(run),
                      .length = open,
                      .next = next,
                      .step = step,
                      .page_bytes = page_bytes,
                      .one_page = page_bytes | type};
    std::size_t taken = 0;
    while (words.size() - taken >= joining_block && j.length - type <= longest) {
      const Word* const block = words.data() + taken;
      const std::size_t blocks = (words.size() - taken) / joining_block;
      const std::size_t going_on =
          joining_block *
          detail::blocks_going_on(block, blocks < most_blocks ? blocks : most_blocks, j.next, step);
      if (going_on != 0) {
        j.length += going_on * page_bytes;
        j.next += going_on * step;
        taken += going_on;
        continue;
      }
      const auto used = static_cast<std::size_t>(j.last - begin) / sizeof(run) + 1;
      if (capacity_ - used < joining_block) break;
      detail::join_block(j, block);
      taken += joining_block;
    }
    j.close();
    size_ = static_cast<std::size_t>(j.last - begin) / sizeof(run) + 1;
    bytes_ += taken * page_bytes;
    return taken;
  }

  run* runs_ = nullptr;
  std::size_t capacity_ = 0;
  std::size_t size_ = 0;
  std::uint64_t bytes_ = 0;
};

}  // namespace iopt
