// tests/memory_between_guards.hpp - arrays that nobody may leave, whatever the test is compiled with.
//
// What is instrumented sees to that too, but has no twins in intrinsics.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <new>
#include <stdexcept>
#include <type_traits>

namespace iopt::test {

/// memory_between_guards: two T, one at each end of memory that nobody may read or write beyond.
template <class T>
class memory_between_guards {
  static_assert(std::is_trivially_destructible_v<T> && 2 * sizeof(T) <= 4096);

 public:
  memory_between_guards()
      : page_bytes_(static_cast<std::size_t>(::sysconf(_SC_PAGESIZE))),
        memory_(::mmap(nullptr, 3 * page_bytes_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)) {
    if (memory_ == MAP_FAILED) throw std::runtime_error("no memory between guards");
    std::byte* const page = static_cast<std::byte*>(memory_) + page_bytes_;
    if (::mprotect(page, page_bytes_, PROT_READ | PROT_WRITE) != 0)
      throw std::runtime_error("no memory between guards");
    first_ = new (page) T{};
    last_ = new (page + page_bytes_ - sizeof(T)) T{};
  }
  ~memory_between_guards() { ::munmap(memory_, 3 * page_bytes_); }
  memory_between_guards(const memory_between_guards&) = delete;
  memory_between_guards& operator=(const memory_between_guards&) = delete;

  /// The one that ends where memory does, or the one that begins there.
  T& at_end(bool last) noexcept { return last ? *last_ : *first_; }

 private:
  std::size_t page_bytes_;
  void* memory_;
  T* first_;
  T* last_;
};

}  // namespace iopt::test
