// iopt/base/asymmetric_fence.hpp - a fence of which one side pays, for both.
//
// Two threads that each store a word and then read the other's may both read the old one, unless
// there is a fence between the store and the read on both sides. Where one side runs a million
// times as often as the other, Linux can run that side's fence when the other asks for it:
// membarrier() interrupts every running thread of the process. Elsewhere both sides have a fence.
//
// Layer: base. Includes: the standard library; on Linux, the system call.
#pragma once

#include <atomic>

#if defined(__linux__) && __has_include(<linux/membarrier.h>) && __has_include(<sys/syscall.h>)
#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <exception>
#define IOPT_HAS_MEMBARRIER 1
#else
#define IOPT_HAS_MEMBARRIER 0
#endif

namespace iopt {

/// Which side of an asymmetric_fence pays.
enum class fence_kind : bool {
  symmetric,   // both: standard C++ and nothing else
  asymmetric,  // heavy(), where the system can; else as symmetric
};

namespace detail {

// ThreadSanitizer runs fences but draws no conclusion from them, of which GCC warns. No code here
// takes a happens-before from a fence: only that one of two threads sees the other's store.
#if defined(__SANITIZE_THREAD__) && defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wtsan"
#endif
inline void full_fence() noexcept { std::atomic_thread_fence(std::memory_order_seq_cst); }
#if defined(__SANITIZE_THREAD__) && defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif

}  // namespace detail

/// asymmetric_fence: orders a store before a later load of the same thread, against a thread that
/// does the same at the other end.
///
/// Model       Thread L stores a, calls light(), loads b. Thread H stores b, calls heavy(), loads a.
///             At least one of them loads what the other stored. Any number of threads are L and H.
/// Errors      None. Whether the system can is asked at construction. Where it could then and
///             refuses later (a filter of system calls was put in place), the program ends, for
///             threads that took the light side could no longer be stopped: install filters before,
///             allow membarrier(), or construct with fence_kind::symmetric.
/// Cost        light(): none where is_asymmetric(), else one fence. heavy(): one fence, and where
///             is_asymmetric() one system call, of a microsecond or so.
/// Threads     Any call from any thread.
/// Tested by   tests/base/asymmetric_fence_test.cpp
class asymmetric_fence {
 public:
  explicit asymmetric_fence(fence_kind wanted = fence_kind::asymmetric) noexcept {
#if IOPT_HAS_MEMBARRIER
    // Registered for good, for the whole process; a second time is as good as the first.
    asymmetric_ = wanted == fence_kind::asymmetric &&
                  ::syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) == 0;
#else
    static_cast<void>(wanted);
#endif
  }

  bool is_asymmetric() const noexcept { return asymmetric_; }

  void light() const noexcept { light(asymmetric_); }
  /// The same for who keeps is_asymmetric() at hand.
  static void light(bool asymmetric) noexcept {
    // The system's fence stands for the processor's; the compiler must keep the order itself.
    if (asymmetric)
      std::atomic_signal_fence(std::memory_order_seq_cst);
    else
      detail::full_fence();
  }

  void heavy() const noexcept {
    detail::full_fence();
#if IOPT_HAS_MEMBARRIER
    if (asymmetric_ && ::syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0) != 0)
      std::terminate();
#endif
  }

 private:
  bool asymmetric_ = false;
};

}  // namespace iopt
