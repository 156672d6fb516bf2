// iopt/backends/mock/frame_watch.hpp - which frames a domain's device can still reach.
//
// Layer: backends/mock. Includes: base, the standard library.
#pragma once

#include <cstdint>
#include <mutex>
#include <vector>

#include "iopt/backends/mock/count_table.hpp"
#include "iopt/base/run.hpp"

namespace iopt::mock {

/// frame_watch: the reverse of one domain's table, shared with the pinner that watches it.
///
/// Model       For every frame, by how many entries the domain shows it, and whether an entry was
///             taken away and the translation cache has not been flushed since.
/// Ownership   Shared: it outlives the domain, which forgets everything when it dies.
/// Cost        O(log) a run.
/// Threads     All calls may run together.
/// Tested by   tests/backends/mock/pinner_test.cpp
class frame_watch {
 public:
  explicit frame_watch(std::uint64_t granule_bytes) noexcept : granule_bytes_(granule_bytes) {}

  void mapped(run r) {
    const std::lock_guard hold(mutex_);
    shown_.add(first(r), last(r));
  }
  void unmapped(run r) {
    const std::lock_guard hold(mutex_);
    shown_.subtract(first(r), last(r), true);
    stale_.push_back(r);
  }
  /// The same for an entry whose translation is gone at once.
  void replaced(run r) {
    const std::lock_guard hold(mutex_);
    shown_.subtract(first(r), last(r));
  }
  void flushed() {
    const std::lock_guard hold(mutex_);
    for (const run r : stale_) shown_.set_mark(first(r), last(r), false);
    stale_.clear();
  }
  void clear() {
    const std::lock_guard hold(mutex_);
    shown_.clear();
    stale_.clear();
  }

  /// Whether a device may reach a byte of r.
  bool reaches(run r) const {
    const std::lock_guard hold(mutex_);
    return shown_.any(first(r), last(r));
  }

 private:
  std::uint64_t first(run r) const noexcept { return r.first.value / granule_bytes_; }
  std::uint64_t last(run r) const noexcept {
    return (r.first.value + (r.length_bytes - 1)) / granule_bytes_;
  }

  std::uint64_t granule_bytes_;
  mutable std::mutex mutex_;
  count_table shown_;
  std::vector<run> stale_;
};

}  // namespace iopt::mock
