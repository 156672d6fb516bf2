// iopt/containers/run_batch.hpp - a bounded batch of runs that always has room for some.
//
// Frames travel in batches between the pinner, the pages and the domains. A batch that gives frames
// back may not fail for want of memory, so it has room on the object itself; and it may not end in
// the middle of a run that a domain mapped as one, so it can carry the tail of its last run over to
// the next round, from where whoever still uses those bytes drops them.
//
// Layer: containers. Includes: base, the standard library.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <new>
#include <span>
#include <string_view>

#include "iopt/base/assert.hpp"
#include "iopt/base/memory_source.hpp"
#include "iopt/base/run.hpp"

namespace iopt {

/// Calls f(run) for what lies in the bytes [offset_bytes, offset_bytes + length_bytes) of a
/// sequence of runs, in order. What lies past the end of the runs is left out. Cost: O(runs up to
/// there).
template <class F>
constexpr void for_each_slice(std::span<const run> runs, std::uint64_t offset_bytes,
                              std::uint64_t length_bytes, F&& f) {
  for (const run each : runs) {
    if (length_bytes == 0) return;
    if (offset_bytes >= each.length_bytes) {
      offset_bytes -= each.length_bytes;
      continue;
    }
    const std::uint64_t taken = std::min(each.length_bytes - offset_bytes, length_bytes);
    f(each.slice(offset_bytes, taken));
    offset_bytes = 0;
    length_bytes -= taken;
  }
}

/// run_batch: storage for runs, and the list that appends to it.
///
/// Model       A sequence of bytes, told as runs, of which bytes are appended behind and dropped in
///             front.
/// Invariants  storage  the list lies inside the storage, and ends where it ends; and those of
///                      run_list, whose names verify() returns.
/// Ownership   Owns its storage, which comes from Memory where more than `inline_runs` are wanted
///             and Memory has them, and lies on the object otherwise. Does not move.
/// Errors      None: a batch that cannot have what was wanted is a smaller one.
/// Cost        O(1) an append; O(1) amortised for each run that is dropped.
/// Threads     Thread-compatible.
/// Tested by   tests/containers/run_batch_test.cpp
template <memory_source Memory>
class run_batch {
 public:
  /// The most that is asked of Memory, in bytes.
  static constexpr std::size_t limit_bytes = 64 * 1024;
  static constexpr std::size_t limit_runs = limit_bytes / sizeof(run);
  /// Every batch holds at least this many runs.
  static constexpr std::size_t inline_runs = 32;

  run_batch(Memory memory, std::size_t wanted_runs) noexcept
      : memory_(memory), storage_(on_object(), inline_runs), list_(storage_) {
    if (wanted_runs <= inline_runs) return;
    const std::size_t runs = std::min(wanted_runs, limit_runs);
    void* const taken = memory_.allocate(runs * sizeof(run), alignof(run));
    if (taken == nullptr) return;
    storage_ = {static_cast<run*>(taken), runs};
    clear();
  }
  run_batch(const run_batch&) = delete;
  run_batch& operator=(const run_batch&) = delete;
  ~run_batch() {
    if (storage_.data() != on_object()) {
      memory_.deallocate(storage_.data(), storage_.size_bytes(), alignof(run));
    }
  }

  /// What to append to. Where bytes were dropped since, call it again rather than keep it: it makes
  /// room of what they left.
  run_list& list() noexcept {
    if (list_.full()) compact();
    return list_;
  }

  std::span<const run> view() const noexcept { return list_.view(); }
  std::uint64_t bytes() const noexcept { return list_.bytes(); }
  bool empty() const noexcept { return list_.empty(); }
  /// How many runs it can hold.
  std::size_t capacity() const noexcept { return storage_.size(); }
  void clear() noexcept { list_ = run_list(storage_); }

  /// Keeps only the last `bytes` bytes of the last run: the carry.
  /// Requires: the last run has them.
  void keep_tail(std::uint64_t bytes) noexcept {
    if (bytes == 0) return clear();
    IOPT_ASSERT(!empty() && bytes <= list_.view().back().length_bytes);
    const run last = list_.view().back();
    clear();
    list_.append_fitting(last.slice(last.length_bytes - bytes, bytes));
  }

  /// Removes bytes from the front, trimming the run in which they end.
  /// Requires: `bytes` <= bytes().
  void drop_front(std::uint64_t bytes) noexcept {
    list_.drop_front(bytes);
    if (list_.size() <= capacity() - list_.capacity()) compact();
  }

  /// Empty where every invariant holds, and otherwise the first one that does not.
  std::string_view verify() const noexcept {
    if (list_.capacity() > capacity() ||
        list_.begin() + list_.capacity() != storage_.data() + storage_.size()) {
      return "storage";
    }
    return list_.verify();
  }

 private:
  run* on_object() noexcept { return std::launder(reinterpret_cast<run*>(inline_)); }

  /// Moves the runs to the front of the storage.
  void compact() noexcept {
    if (list_.capacity() == capacity()) return;
    const std::span<const run> held = list_.view();
    clear();
    for (const run each : held) list_.append(each);  // never past the one that is read
  }

  [[no_unique_address]] Memory memory_;
  std::span<run> storage_;
  run_list list_;
  // Bytes and not runs, because a batch is made for every operation and most fill little of it.
  alignas(run) std::byte inline_[inline_runs * sizeof(run)];
};

}  // namespace iopt
