// iopt/core/multi_threaded.hpp - traits for a table that several threads use.
//
// A map and an unmap of 4 KiB take and leave locks three times, and with the standard library's that is
// half of what they cost. So the locks are of a word or three, and sleep in std::atomic::wait().
// Measured, nobody else wanting them, in ns to lock and unlock: std::mutex 17.5, word_mutex 4.7;
// std::shared_mutex 25.9, word_shared_mutex 5.4; to share, 12.1 and 10.2. A std::mutex is 40 bytes as
// well, which a mapping's pages would carry. (absl::Mutex would do, but Debian's Abseil is not built for
// ThreadSanitizer, which then reports races that are none.) They carry Clang's thread-safety
// annotations, by Abseil's macros where it is installed.
//
// Layer: core. Includes: base, core/traits.hpp, the standard library; Abseil's macros if present.
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>

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

#include "iopt/base/asymmetric_fence.hpp"
#include "iopt/core/traits.hpp"

namespace iopt {

namespace detail {

/// Tries for some 10 to 20 us, before anything is paid for sleeping, and ever less often: each look takes
/// the lock's line from who has it, and who is left alone with the lines for a while gets more done with
/// them. Whether it worked.
template <class Try>
bool spin(Try attempt) noexcept {
  constexpr unsigned longest = 256;
  for (unsigned pauses = 8; pauses <= longest; pauses *= 2) {
    if (attempt()) return true;
    for (unsigned n = 0; n < pauses; ++n) {
#if defined(__x86_64__) || defined(__i386__)
      __builtin_ia32_pause();
#elif defined(__aarch64__)
      __asm__ __volatile__("yield");
#else
      std::atomic_signal_fence(std::memory_order_seq_cst);  // so that the loop is one
#endif
    }
  }
  return attempt();
}

/// What lets an unlock be a plain store: who is about to sleep makes those who unlock see him.
inline const asymmetric_fence unlock_fence;

/// How many threads sleep, or are about to, for a word_mutex of an address of this kind. It is not in
/// the mutex, which may be gone when who unlocked looks.
inline std::atomic<std::uint32_t>& sleepers(const void* mutex) noexcept {
  static constinit std::atomic<std::uint32_t> kinds[64]{};
  const auto word = reinterpret_cast<std::uintptr_t>(mutex);
  return kinds[(word >> 4 ^ word >> 12) % 64];
}

}  // namespace detail

/// word_mutex: a mutex of four bytes.
///
/// Ownership  As std::mutex: who holds it last may destroy it, though another's unlock has not returned.
/// Cost       Uncontended: one locked instruction to lock, none to unlock; no system call. Who must wait
///            pays for detail::unlock_fence.
/// Threads    Any. Not fair, not recursive.
/// Tested by  tests/core/multi_threaded_test.cpp
class IOPT_LOCKABLE word_mutex {
 public:
  void lock() noexcept IOPT_EXCLUSIVE_LOCK {
    std::uint32_t expected = free;
    if (!word_.compare_exchange_strong(expected, held, std::memory_order_acquire)) lock_slowly();
  }
  void unlock() noexcept IOPT_UNLOCK {
    word_.store(free, std::memory_order_release);
    detail::unlock_fence.light();
    if (detail::sleepers(this).load(std::memory_order_relaxed) != 0) wake();
  }

 private:
  static constexpr std::uint32_t free = 0, held = 1;

  void lock_slowly() noexcept {
    if (detail::spin([&] {
          std::uint32_t expected = free;
          return word_.load(std::memory_order_relaxed) == free &&
                 word_.compare_exchange_strong(expected, held, std::memory_order_acquire);
        }))
      return;
    std::atomic<std::uint32_t>& asleep = detail::sleepers(this);
    asleep.fetch_add(1, std::memory_order_relaxed);
    detail::unlock_fence.heavy();
    for (;;) {
      std::uint32_t expected = free;
      if (word_.compare_exchange_strong(expected, held, std::memory_order_acquire)) break;
      word_.wait(held, std::memory_order_relaxed);
    }
    asleep.fetch_sub(1, std::memory_order_relaxed);
  }
  /// Only the address is used: there may be no mutex any more.
  void wake() noexcept {
    // The word is seen to be free before anybody is looked for.
    detail::sleepers(this).fetch_add(0, std::memory_order_seq_cst);
    word_.notify_one();
  }

  std::atomic<std::uint32_t> word_{free};
};

/// basic_word_shared_mutex: a shared mutex of twelve bytes, whose exclusive lock is the cheap one.
///
/// Ownership  Outlives every unlock of it, to its end: who unlocks looks at it once more.
/// Cost       Uncontended: one locked instruction for lock(), none for unlock(), one each to share and to
///            leave; no system call. Who must wait pays for Fence.heavy().
/// Threads    Any. Not fair among writers; a reader that comes while a writer waits lets him pass.
/// Tested by  tests/core/multi_threaded_test.cpp
template <const asymmetric_fence& Fence>
class IOPT_LOCKABLE basic_word_shared_mutex {
 public:
  void lock() noexcept IOPT_EXCLUSIVE_LOCK {
    std::uint32_t expected = 0;
    if (!word_.compare_exchange_strong(expected, written, std::memory_order_acquire)) lock_slowly();
  }
  void unlock() noexcept IOPT_UNLOCK {
    word_.store(0, std::memory_order_release);
    wake();
  }
  void lock_shared() noexcept IOPT_SHARED_LOCK {
    if (!try_lock_shared()) lock_shared_slowly();
  }
  void unlock_shared() noexcept IOPT_UNLOCK {
    if (word_.fetch_sub(1, std::memory_order_release) == 1) wake();
  }

 private:
  static constexpr std::uint32_t written = std::uint32_t{1} << 31;  // below it, readers

  void wake() noexcept {
    Fence.light();
    if (waiters_.load(std::memory_order_relaxed) == 0) return;
    // notify_all() looks whether anybody sleeps, and the plain store must be seen before it does.
    detail::full_fence();
    word_.notify_all();
  }

  bool try_lock() noexcept {
    std::uint32_t seen = word_.load(std::memory_order_relaxed);
    return seen == 0 && word_.compare_exchange_strong(seen, written, std::memory_order_acquire);
  }
  bool try_lock_shared() noexcept {
    std::uint32_t seen = word_.load(std::memory_order_relaxed);
    return seen != written && writers_.load(std::memory_order_relaxed) == 0 &&
           word_.compare_exchange_strong(seen, seen + 1, std::memory_order_acquire);
  }

  void lock_slowly() noexcept {
    if (detail::spin([&] { return try_lock(); })) return;
    writers_.fetch_add(1, std::memory_order_relaxed);
    waiters_.fetch_add(1, std::memory_order_relaxed);
    Fence.heavy();
    for (;;) {
      std::uint32_t seen = word_.load(std::memory_order_relaxed);
      if (seen != 0) {
        word_.wait(seen, std::memory_order_relaxed);
      } else if (word_.compare_exchange_weak(seen, written, std::memory_order_acquire)) {
        break;
      }
    }
    waiters_.fetch_sub(1, std::memory_order_relaxed);
    writers_.fetch_sub(1, std::memory_order_relaxed);
  }
  void lock_shared_slowly() noexcept {
    if (detail::spin([&] { return try_lock_shared(); })) return;
    waiters_.fetch_add(1, std::memory_order_relaxed);
    Fence.heavy();
    for (;;) {
      std::uint32_t seen = word_.load(std::memory_order_relaxed);
      // A writer who waits goes first. He sets the word, so waiting for it to change ends; while it is free he
      // is on his way, and nobody would wake who sleeps on that.
      const bool after_writer = writers_.load(std::memory_order_relaxed) != 0;
      if (seen == written || (seen != 0 && after_writer)) {
        word_.wait(seen, std::memory_order_relaxed);
      } else if (after_writer) {
        std::this_thread::yield();
      } else if (word_.compare_exchange_weak(seen, seen + 1, std::memory_order_acquire)) {
        break;
      }
    }
    waiters_.fetch_sub(1, std::memory_order_relaxed);
  }

  std::atomic<std::uint32_t> word_{0};
  std::atomic<std::uint32_t> waiters_{0};  // that sleep, or are about to
  std::atomic<std::uint32_t> writers_{0};  // those of them that want to write
};
using word_shared_mutex = basic_word_shared_mutex<detail::unlock_fence>;

/// multi_threaded: real locks. Maps of different ranges pin and fill side by side.
///
/// Threads   Any call from any thread, but construction, move and destruction of a table. Calls on
///           one domain are serialised by a lock of the domain's, but for a concurrent_domain. The pinner is called from several
///           threads at once.
struct multi_threaded : single_threaded {
  static constexpr bool concurrent = true;
  static void yield() noexcept { std::this_thread::yield(); }
  using mutex = word_mutex;
  using shared_mutex = word_shared_mutex;
  template <class Integer>
  using counter = std::atomic<Integer>;
};
static_assert(table_traits<multi_threaded>);

}  // namespace iopt
