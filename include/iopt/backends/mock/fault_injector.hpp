// iopt/backends/mock/fault_injector.hpp - makes the n-th call that may fail, fail.
//
// One injector is given to everything that can say no: the mock pinner, the mock domains, and, as
// failing_memory, the library's own memory. A sweep then arms it with 0, 1, 2, ... and runs the
// same operation until nothing fired:
//
//   for (std::uint64_t n = 0;; ++n) {
//     faults.arm(n);
//     const auto answer = operation();
//     if (!faults.fired()) break;              // every failure point has had its turn
//     REQUIRE(state() == before);
//   }
//
// Layer: backends/mock. Includes: base, the standard library.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "iopt/base/error.hpp"
#include "iopt/base/memory_source.hpp"

namespace iopt::mock {

/// fault_point: a kind of call that may fail.
enum class fault_point : std::uint8_t {
  allocation,          // failing_memory
  pin,                 // pinner
  pin_file,            // pinner
  resolve,             // pinner
  charge,              // pinner
  copy,                // pinner: read and write
  map,                 // domain
  map_runs,            // domain
  split,               // domain
  protect,             // domain
  replace,             // domain
  read_dirty,          // domain
  set_dirty_tracking,  // domain
  create_table,        // tce_platform
  set_window,          // tce_group
  create_domain,       // group
  attach_group,        // group: attach and replace
  enable_nesting,      // group
};
inline constexpr std::size_t fault_points =
    static_cast<std::size_t>(fault_point::enable_nesting) + 1;

constexpr std::string_view name(fault_point point) noexcept {
  constexpr std::array<std::string_view, fault_points> names{
      "allocation",    "pin",          "pin_file",           "resolve",      "charge",
      "copy",          "map",          "map_runs",           "split",        "protect",
      "replace",       "read_dirty",   "set_dirty_tracking", "create_table", "set_window",
      "create_domain", "attach_group", "enable_nesting"};
  static_assert(!names.back().empty());
  return names[static_cast<std::size_t>(point)];
}

/// fault_injector: counts the calls that may fail, and fails one of them.
///
/// Model    A number for each fault point: how often it was passed; and a countdown over all. Beside
///          the countdown a chooser may say which calls fail: one that counts by threads, as Linux
///          does, or draws them at random.
/// Errors   An armed point answers error_of(point): the errno that the kernel's own fault injection
///          gives at that place, unless a test set another.
/// Cost     Two relaxed atomic operations a call, and the chooser's.
/// Threads  All calls may run together; exactly one call fails for one arm().
/// Tested by tests/backends/mock/fault_injector_test.cpp
class fault_injector {
 public:
  /// Whether this call shall fail. Asked at every point that the countdown lets pass.
  using chooser = bool (*)(fault_point point) noexcept;

  explicit fault_injector(chooser choose = nullptr) noexcept : choose_(choose) {
    errors_.fill(errc::io_error);
    set_error(fault_point::allocation, errc::not_enough_memory);
    set_error(fault_point::charge, errc::not_enough_memory);
    set_error(fault_point::create_domain, errc::not_enough_memory);
    set_error(fault_point::enable_nesting, errc::not_enough_memory);
    set_error(fault_point::attach_group, errc::not_enough_memory);
    set_error(fault_point::pin, errc::bad_address);
    set_error(fault_point::pin_file, errc::bad_address);
    set_error(fault_point::copy, errc::bad_address);
    set_error(fault_point::resolve, errc::no_such_device);
    set_error(fault_point::map, errc::no_such_file_or_directory);
    set_error(fault_point::map_runs, errc::no_such_file_or_directory);
  }
  fault_injector(const fault_injector&) = delete;
  fault_injector& operator=(const fault_injector&) = delete;

  /// The n-th call from now that may fail, counted from 0 over all points, fails, once.
  void arm(std::uint64_t n) noexcept { start(n, all_points); }
  /// The same, counting calls of one kind only.
  void arm(fault_point point, std::uint64_t n) noexcept {
    start(n, std::uint32_t{1} << static_cast<unsigned>(point));
  }
  void disarm() noexcept { counted_points_.store(0, std::memory_order_relaxed); }

  /// Whether a call has failed since the last arm().
  bool fired() const noexcept { return fired_.load(std::memory_order_relaxed); }
  /// The point at which it failed. Requires: fired().
  fault_point fired_at() const noexcept { return fired_at_.load(std::memory_order_relaxed); }

  std::uint64_t passed(fault_point point) const noexcept {
    return passed_[index(point)].load(std::memory_order_relaxed);
  }
  std::uint64_t passed() const noexcept {
    std::uint64_t sum = 0;
    for (const auto& one : passed_) sum += one.load(std::memory_order_relaxed);
    return sum;
  }
  /// How often the point has failed, over all arm() calls.
  std::uint64_t failed(fault_point point) const noexcept {
    return failed_[index(point)].load(std::memory_order_relaxed);
  }

  errc error_of(fault_point point) const noexcept { return errors_[index(point)]; }
  void set_error(fault_point point, errc code) noexcept { errors_[index(point)] = code; }

  /// Called by a mock at a point of failure: whether this call shall fail.
  bool fails(fault_point point) noexcept {
    passed_[index(point)].fetch_add(1, std::memory_order_relaxed);
    if (!counted_down(point) && (choose_ == nullptr || !choose_(point))) return false;
    failed_[index(point)].fetch_add(1, std::memory_order_relaxed);
    fired_at_.store(point, std::memory_order_relaxed);
    fired_.store(true, std::memory_order_relaxed);
    return true;
  }

 private:
  static constexpr std::uint32_t all_points = (std::uint32_t{1} << fault_points) - 1;
  static constexpr std::size_t index(fault_point point) noexcept {
    return static_cast<std::size_t>(point);
  }
  bool counted_down(fault_point point) noexcept {
    const std::uint32_t bit = std::uint32_t{1} << static_cast<unsigned>(point);
    if ((counted_points_.load(std::memory_order_relaxed) & bit) == 0) return false;
    if (countdown_.fetch_sub(1, std::memory_order_relaxed) != 0) return false;
    disarm();
    return true;
  }
  void start(std::uint64_t n, std::uint32_t points) noexcept {
    fired_.store(false, std::memory_order_relaxed);
    countdown_.store(static_cast<std::int64_t>(n), std::memory_order_relaxed);
    counted_points_.store(points, std::memory_order_relaxed);
  }

  chooser choose_;
  std::array<std::atomic<std::uint64_t>, fault_points> passed_{};
  std::array<std::atomic<std::uint64_t>, fault_points> failed_{};
  std::array<errc, fault_points> errors_{};
  std::atomic<std::uint32_t> counted_points_ = 0;
  std::atomic<std::int64_t> countdown_ = 0;
  std::atomic<fault_point> fired_at_ = fault_point::allocation;
  std::atomic<bool> fired_ = false;
};

/// memory_account: what failing_memory handles share: who may refuse, and what is still out.
///
/// Invariants  live_blocks() == 0 exactly when all that was allocated has been given back.
/// Threads     All calls may run together.
class memory_account {
 public:
  explicit memory_account(fault_injector* faults = nullptr) noexcept : faults_(faults) {}
  memory_account(const memory_account&) = delete;
  memory_account& operator=(const memory_account&) = delete;

  /// Every allocation answers nullptr until this is taken back: what must not allocate, shows.
  void refuse_all(bool on = true) noexcept { refusing_ = on; }

  std::uint64_t live_blocks() const noexcept { return blocks_; }
  std::uint64_t live_bytes() const noexcept { return bytes_; }
  /// How often memory was asked for, refusals included.
  std::uint64_t asked() const noexcept { return asked_; }
  /// How often it was refused, for whatever reason.
  std::uint64_t refused() const noexcept { return refused_; }

 private:
  friend class failing_memory;

  fault_injector* faults_;
  std::atomic<bool> refusing_ = false;
  std::atomic<std::uint64_t> blocks_ = 0;
  std::atomic<std::uint64_t> bytes_ = 0;
  std::atomic<std::uint64_t> asked_ = 0;
  std::atomic<std::uint64_t> refused_ = 0;
};

/// failing_memory: a memory_source that refuses on command, and knows what is still out.
///
/// Model     The heap, seen through a memory_account; without one, just the heap.
/// Ownership The account must outlive every copy of the handle.
/// Threads   All calls may run together.
/// Tested by tests/backends/mock/fault_injector_test.cpp
class failing_memory {
 public:
  failing_memory() noexcept = default;
  explicit failing_memory(memory_account& account) noexcept : account_(&account) {}

  void* allocate(std::size_t bytes, std::size_t alignment) noexcept {
    if (account_ == nullptr) return heap_memory{}.allocate(bytes, alignment);
    memory_account& a = *account_;
    a.asked_.fetch_add(1, std::memory_order_relaxed);
    const bool refused = a.refusing_.load(std::memory_order_relaxed) ||
                         (a.faults_ != nullptr && a.faults_->fails(fault_point::allocation));
    void* const p = refused ? nullptr : heap_memory{}.allocate(bytes, alignment);
    if (p == nullptr) {
      a.refused_.fetch_add(1, std::memory_order_relaxed);
      return nullptr;
    }
    a.blocks_.fetch_add(1, std::memory_order_relaxed);
    a.bytes_.fetch_add(bytes, std::memory_order_relaxed);
    return p;
  }
  void deallocate(void* p, std::size_t bytes, std::size_t alignment) noexcept {
    heap_memory{}.deallocate(p, bytes, alignment);
    if (account_ == nullptr) return;
    account_->blocks_.fetch_sub(1, std::memory_order_relaxed);
    account_->bytes_.fetch_sub(bytes, std::memory_order_relaxed);
  }

 private:
  memory_account* account_ = nullptr;
};
static_assert(memory_source<failing_memory>);

}  // namespace iopt::mock
