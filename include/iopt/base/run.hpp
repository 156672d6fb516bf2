// iopt/base/run.hpp - a run of physically contiguous bytes, and a bounded list to append runs to.
//
// A pinner appends what it pinned, a domain appends what it held; both through a run_list, which
// joins neighbours, so that a gibibyte of contiguous memory is one run however it is handed over.
//
// Layer: base. Includes: base/access.hpp, base/address.hpp, base/assert.hpp, the standard library.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "iopt/base/access.hpp"
#include "iopt/base/address.hpp"
#include "iopt/base/assert.hpp"

namespace iopt {

/// run: `length_bytes` bytes from physical address `first`, all of one memory type.
///
/// Invariants  length_bytes > 0 in every run that a list holds.
struct run {
  /// The greatest length, in bytes.
  static constexpr std::uint64_t longest = (std::uint64_t{1} << 60) - 1;

  physical first{};
  std::uint64_t length_bytes : 60 = 0;
  std::uint64_t type_bits : 4 = 0;

  constexpr run() noexcept = default;
  constexpr run(physical start, std::uint64_t bytes, memory_type t = memory_type::cached) noexcept
      : first(start), length_bytes(bytes & longest), type_bits(static_cast<std::uint64_t>(t) & 15) {
    IOPT_ASSERT(bytes <= longest);
  }

  constexpr memory_type type() const noexcept { return static_cast<memory_type>(type_bits); }

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
      runs_[size_++] = r;
    }
    bytes_ += r.length_bytes;
    return true;
  }

  /// Appends pages of one size from an array of their addresses, as many as fit, joined.
  /// Returns how many it took. Cost: O(pages), a compare and an add each.
  constexpr std::size_t append_pages(std::span<const physical> pages, std::uint64_t page_bytes,
                                     memory_type type = memory_type::cached) noexcept {
    std::size_t taken = 0;
    while (taken < pages.size()) {
      const std::uint64_t start = pages[taken].value;
      std::size_t end = taken + 1;
      while (end < pages.size() && pages[end].value == start + (end - taken) * page_bytes) ++end;
      if (pages[end - 1].value < start) end = taken + (top - start) / page_bytes + 1;  // wrapped
      if (!append(run({start}, (end - taken) * page_bytes, type))) break;
      taken = end;
    }
    return taken;
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
  run* runs_ = nullptr;
  std::size_t capacity_ = 0;
  std::size_t size_ = 0;
  std::uint64_t bytes_ = 0;
};

}  // namespace iopt
