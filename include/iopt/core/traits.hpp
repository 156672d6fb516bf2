// iopt/core/traits.hpp - what else of an io_pagetable varies, and its defaults.
//
// Beside the two policies an io_pagetable takes a Traits class: locks, counters, memory, the page
// size of the CPU, and how to wait for readers. To change one thing, derive from a ready one:
//
//   struct arm64_traits : iopt::single_threaded { static constexpr std::uint64_t page_bytes =
//   65536; };
//
// Layer: core. Includes: base, the standard library.
#pragma once

#include <atomic>
#include <concepts>
#include <cstdint>

#include "iopt/base/log2.hpp"
#include "iopt/base/memory_source.hpp"
#include "iopt/base/page_sizes.hpp"

namespace iopt {

/// no_lock: a mutex and a shared mutex for a program that has one thread, or a lock of its own.
struct no_lock {
  void lock() noexcept {}
  void unlock() noexcept {}
  void lock_shared() noexcept {}
  void unlock_shared() noexcept {}
};

/// no_readers: nobody reads translations without a lock, so nobody need be waited for.
struct no_readers {
  void wait() noexcept {}
};

/// single_threaded: the default traits. One thread at a time uses a table and the tables that share
/// pages with it.
struct single_threaded {
  /// Whether several threads use a table: only then is an operation taken up anew after a wait.
  static constexpr bool concurrent = false;
  /// The CPU's page: the unit of pinning, in bytes.
  static constexpr std::uint64_t page_bytes = 4 * kibibyte;
  /// The greatest alignment that a chosen IOVA is given, in bytes: the CPU's huge page, or
  /// page_bytes on a system without them.
  static constexpr std::uint64_t huge_page_bytes = 2 * mebibyte;
  /// Whether areas are kept by user address too, so that for_each_view() is O(log n + found), for 48 bytes
  /// each.
  static constexpr bool reverse_index = false;

  /// Lets other threads run: somebody waits for what they do. Called only where `concurrent`.
  static void yield() noexcept {}

  using mutex = no_lock;
  using shared_mutex = no_lock;
  template <class Integer>
  using counter = Integer;
  using memory = heap_memory;
  using readers = no_readers;
};

/// table_traits: what a Traits class must have; see single_threaded for the meaning of each.
template <class T>
concept table_traits =
    memory_source<typename T::memory> && std::default_initializable<typename T::mutex> &&
    std::default_initializable<typename T::shared_mutex> && is_power_of_two(T::page_bytes) &&
    is_power_of_two(T::huge_page_bytes) && T::huge_page_bytes >= T::page_bytes &&
    requires(typename T::mutex& m, typename T::shared_mutex& s, typename T::readers& r,
             typename T::template counter<std::uint32_t>& count) {
      m.lock();
      m.unlock();
      s.lock();
      s.unlock();
      s.lock_shared();
      s.unlock_shared();
      { r.wait() } noexcept;
      { T::yield() } noexcept;
      { count += 1u } -> std::convertible_to<std::uint32_t>;
      { count -= 1u } -> std::convertible_to<std::uint32_t>;
      { --count } -> std::convertible_to<std::uint32_t>;
      { T::concurrent } -> std::convertible_to<bool>;
      { T::reverse_index } -> std::convertible_to<bool>;
    };
static_assert(table_traits<single_threaded>);

namespace detail {

/// Holds a mutex for a scope. (std::lock_guard, but free of <mutex> for builds without threads.)
template <class Mutex>
class exclusive_lock {
 public:
  explicit exclusive_lock(Mutex& m) : mutex_(m) { mutex_.lock(); }
  ~exclusive_lock() { mutex_.unlock(); }
  exclusive_lock(const exclusive_lock&) = delete;
  exclusive_lock& operator=(const exclusive_lock&) = delete;

 private:
  Mutex& mutex_;
};

/// Sets a counter of Traits for others to see with all that was done before.
template <class Counter, class Value>
void release_into(Counter& counter, Value value) noexcept {
  if constexpr (requires { counter.store(value, std::memory_order_release); }) {
    counter.store(value, std::memory_order_release);
  } else {
    counter = value;
  }
}

/// Lets go, for a scope, of a mutex that the thread holds.
template <class Mutex>
class released_lock {
 public:
  explicit released_lock(Mutex& m) : mutex_(m) { mutex_.unlock(); }
  ~released_lock() { mutex_.lock(); }
  released_lock(const released_lock&) = delete;
  released_lock& operator=(const released_lock&) = delete;

 private:
  Mutex& mutex_;
};

/// Holds a shared mutex together with other readers for a scope.
template <class Mutex>
class shared_lock {
 public:
  explicit shared_lock(Mutex& m) : mutex_(m) { mutex_.lock_shared(); }
  ~shared_lock() { mutex_.unlock_shared(); }
  shared_lock(const shared_lock&) = delete;
  shared_lock& operator=(const shared_lock&) = delete;

 private:
  Mutex& mutex_;
};

}  // namespace detail

}  // namespace iopt
