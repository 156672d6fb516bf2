// iopt/backends/kernel/traits.hpp - a kernel's memory and locks for an io_pagetable.
//
// What core/traits.hpp asks of a Traits class, spelt out: a backend does not include core. Derive
// from it to change one thing.
//
// Layer: backends. Includes: base, backends/kernel.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "iopt/backends/kernel/operations.h"
#include "iopt/backends/kernel/pinner.hpp"
#include "iopt/base/memory_source.hpp"

namespace iopt::kernel {

/// memory: memory of a table's allocate and free. There is none without a table.
///
/// Tested by   tests/backends/kernel/kernel_test.cpp
class memory {
 public:
  explicit memory(const iopt_kernel_operations& operations) noexcept : operations_(&operations) {}

  void* allocate(std::size_t bytes, std::size_t alignment) noexcept {
    return operations_->allocate(operations_->context, bytes, alignment);
  }
  void deallocate(void* p, std::size_t bytes, std::size_t alignment) noexcept {
    if (p != nullptr) operations_->free(operations_->context, p, bytes, alignment);
  }

 private:
  const iopt_kernel_operations* operations_;
};
static_assert(memory_source<memory>);

/// mutex: a struct mutex, in place.
class mutex {
 public:
  mutex() noexcept { iopt_kernel_mutex_init(&mutex_); }
  ~mutex() { iopt_kernel_mutex_destroy(&mutex_); }
  mutex(const mutex&) = delete;
  mutex& operator=(const mutex&) = delete;

  void lock() noexcept { iopt_kernel_mutex_lock(&mutex_); }
  void unlock() noexcept { iopt_kernel_mutex_unlock(&mutex_); }

 private:
  iopt_kernel_mutex mutex_;
};

/// shared_mutex: a struct rw_semaphore, in place.
class shared_mutex {
 public:
  shared_mutex() noexcept { iopt_kernel_rwsem_init(&rwsem_); }
  ~shared_mutex() { iopt_kernel_rwsem_destroy(&rwsem_); }
  shared_mutex(const shared_mutex&) = delete;
  shared_mutex& operator=(const shared_mutex&) = delete;

  void lock() noexcept { iopt_kernel_down_write(&rwsem_); }
  void unlock() noexcept { iopt_kernel_up_write(&rwsem_); }
  void lock_shared() noexcept { iopt_kernel_down_read(&rwsem_); }
  void unlock_shared() noexcept { iopt_kernel_up_read(&rwsem_); }

 private:
  iopt_kernel_rwsem rwsem_;
};

/// no_readers: as core's.
struct no_readers {
  void wait() noexcept {}
};

/// traits: the traits of a table in a kernel; several threads use it.
struct traits {
  static constexpr bool concurrent = true;
  static void yield() noexcept { iopt_kernel_yield(); }
  static constexpr std::uint64_t page_bytes = kernel::page_bytes;
  static constexpr std::uint64_t huge_page_bytes = std::uint64_t{1} << IOPT_KERNEL_HUGE_PAGE_SHIFT;
  static constexpr bool reverse_index = false;

  using mutex = kernel::mutex;
  using shared_mutex = kernel::shared_mutex;
  template <class Integer>
  using counter = std::atomic<Integer>;
  using memory = kernel::memory;
  using readers = no_readers;
};

}  // namespace iopt::kernel
