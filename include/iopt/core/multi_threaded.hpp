// iopt/core/multi_threaded.hpp - traits for a table that several threads use.
//
// The locks are the standard library's, in wrappers that carry Clang's thread-safety annotations.
// (absl::Mutex would do, but Debian's Abseil is not built for ThreadSanitizer, which then reports
// races that are none.) The annotation macros are Abseil's where it is installed.
//
// Layer: core. Includes: core/traits.hpp, the standard library; Abseil's macros if present.
#pragma once

#include <atomic>
#include <mutex>
#include <shared_mutex>

#if __has_include(<absl/base/thread_annotations.h>)
#include <absl/base/thread_annotations.h>
#define IOPT_LOCKABLE ABSL_LOCKABLE
#define IOPT_EXCLUSIVE_LOCK ABSL_EXCLUSIVE_LOCK_FUNCTION()
#define IOPT_SHARED_LOCK ABSL_SHARED_LOCK_FUNCTION()
#define IOPT_UNLOCK ABSL_UNLOCK_FUNCTION()
#else
#define IOPT_LOCKABLE
#define IOPT_EXCLUSIVE_LOCK
#define IOPT_SHARED_LOCK
#define IOPT_UNLOCK
#endif

#include "iopt/core/traits.hpp"

namespace iopt {

/// annotated_mutex: std::mutex, visible to Clang's thread-safety analysis.
class IOPT_LOCKABLE annotated_mutex {
 public:
  void lock() IOPT_EXCLUSIVE_LOCK { mutex_.lock(); }
  void unlock() IOPT_UNLOCK { mutex_.unlock(); }

 private:
  std::mutex mutex_;
};

/// annotated_shared_mutex: std::shared_mutex, likewise.
class IOPT_LOCKABLE annotated_shared_mutex {
 public:
  void lock() IOPT_EXCLUSIVE_LOCK { mutex_.lock(); }
  void unlock() IOPT_UNLOCK { mutex_.unlock(); }
  void lock_shared() IOPT_SHARED_LOCK { mutex_.lock_shared(); }
  void unlock_shared() IOPT_UNLOCK { mutex_.unlock_shared(); }

 private:
  std::shared_mutex mutex_;
};

/// multi_threaded: real locks. Maps of different ranges pin and fill side by side.
///
/// Threads   Any call from any thread, but construction, move and destruction of a table. Calls on
///           one domain are serialised by a lock of the domain's. The pinner is called from several
///           threads at once.
struct multi_threaded : single_threaded {
  static constexpr bool concurrent = true;
  using mutex = annotated_mutex;
  using shared_mutex = annotated_shared_mutex;
  template <class Integer>
  using counter = std::atomic<Integer>;
};
static_assert(table_traits<multi_threaded>);

}  // namespace iopt
