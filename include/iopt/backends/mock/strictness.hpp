// iopt/backends/mock/strictness.hpp - what a mock does when a precondition is broken.
//
// Layer: backends/mock. Includes: the standard library.
#pragma once

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <string>
#include <string_view>

namespace iopt::mock {

/// strictness: the base of every mock that checks its caller.
///
/// Model    A count of broken preconditions, and the last one in words.
/// Errors   A broken precondition ends the program with one line on stderr, until a test that breaks
///          one on purpose asks for record_violations(). The call that broke it then does nothing.
/// Threads  All calls may run together.
/// Tested by tests/backends/mock/strictness_test.cpp
class strictness {
 public:
  explicit strictness(std::string_view who) : who_(who) {}
  strictness(const strictness&) = delete;
  strictness& operator=(const strictness&) = delete;

  /// From now on violations are counted and do not end the program.
  void record_violations(bool on = true) noexcept { recording_ = on; }
  std::uint64_t violations() const noexcept { return count_; }
  std::string last_violation() const {
    const std::lock_guard hold(mutex_);
    return last_;
  }
  void forget_violations() {
    const std::lock_guard hold(mutex_);
    count_ = 0;
    last_.clear();
  }

  /// Says that a precondition was broken: `what`, and the addresses concerned.
  void violated(const char* what, std::uint64_t first = 0, std::uint64_t last = 0) const noexcept {
    char line[192];
    std::snprintf(line, sizeof line, "%.*s: %s [%#llx, %#llx]", static_cast<int>(who_.size()),
                  who_.data(), what, static_cast<unsigned long long>(first),
                  static_cast<unsigned long long>(last));
    if (!recording_) {
      std::fprintf(stderr, "iopt: broken precondition: %s\n", line);
      std::abort();
    }
    const std::lock_guard hold(mutex_);
    ++count_;
    last_ = line;
  }

 private:
  std::string_view who_;
  std::atomic<bool> recording_ = false;
  mutable std::atomic<std::uint64_t> count_ = 0;
  mutable std::mutex mutex_;
  mutable std::string last_;
};

/// call_in_progress: whether a call that must be alone is going on.
class call_in_progress {
 public:
  bool is_set() const noexcept { return on_.load(std::memory_order_relaxed); }
  void set(bool on) noexcept { on_.store(on, std::memory_order_relaxed); }

 private:
  std::atomic<bool> on_ = false;
};

/// single_call: for its life, says that a call is going on; a second one is a violation when it is
/// noticed. It is not a lock, and costs two stores.
class single_call {
 public:
  single_call(const strictness& who, call_in_progress& busy) noexcept : busy_(busy) {
    if (busy_.is_set()) who.violated("two calls at the same time");
    busy_.set(true);
  }
  ~single_call() { busy_.set(false); }
  single_call(const single_call&) = delete;
  single_call& operator=(const single_call&) = delete;

 private:
  call_in_progress& busy_;
};

}  // namespace iopt::mock
