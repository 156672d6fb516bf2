// iopt/base/memory_source.hpp - where the library's own memory comes from.
//
// Everything that allocates does so through a memory_source, and takes "no" for an answer: a test
// refuses at will, a kernel shim calls kmalloc.
//
// Layer: base. Includes: the standard library.
#pragma once

#include <concepts>
#include <cstddef>
#include <new>
#include <utility>

namespace iopt {

/// A memory_source hands out raw memory.
///
/// Meaning   m.allocate(bytes, alignment)          `bytes` of memory aligned to a power of two, or
///                                                  nullptr. Requires: bytes > 0.
///           m.deallocate(p, bytes, alignment)     gives back what allocate() returned for the same
///                                                  two numbers; does not fail.
///           Copies of one source are the same source: either may give back what the other took.
/// Threads   Calls from several threads at once must work where the traits are multi-threaded.
/// Tested by tests/base/memory_source_test.cpp
template <class M>
concept memory_source = std::copyable<M> && requires(M& m, void* p, std::size_t bytes) {
  { m.allocate(bytes, bytes) } noexcept -> std::same_as<void*>;
  { m.deallocate(p, bytes, bytes) } noexcept -> std::same_as<void>;
};

/// heap_memory: the global heap.
struct heap_memory {
  void* allocate(std::size_t bytes, std::size_t alignment) noexcept {
    if (alignment <= __STDCPP_DEFAULT_NEW_ALIGNMENT__) return ::operator new(bytes, std::nothrow);
    return ::operator new(bytes, std::align_val_t{alignment}, std::nothrow);
  }
  void deallocate(void* p, std::size_t, std::size_t alignment) noexcept {
    if (alignment <= __STDCPP_DEFAULT_NEW_ALIGNMENT__) return ::operator delete(p);
    ::operator delete(p, std::align_val_t{alignment});
  }
};
static_assert(memory_source<heap_memory>);

/// A new T from a memory source, or nullptr without memory. The constructor does not throw.
template <class T, memory_source Memory, class... Arguments>
T* create_in(Memory& memory, Arguments&&... arguments) noexcept {
  void* const place = memory.allocate(sizeof(T), alignof(T));
  return place == nullptr ? nullptr : new (place) T{static_cast<Arguments&&>(arguments)...};
}
/// Gives back what create_in() made from the same source.
template <memory_source Memory, class T>
void destroy_in(Memory& memory, T* object) noexcept {
  object->~T();
  memory.deallocate(object, sizeof(T), alignof(T));
}

/// spare_room: objects of one type from a source, and the memory of one that went, for the next. So what
/// comes and goes in turn does not ask the source each time.
///
/// Ownership   release() must be called before it goes, and gives the memory back.
/// Errors      create() answers null where the source refuses.
/// Threads     Thread-compatible.
/// Tested by   tests/base/memory_source_test.cpp
template <class T>
class spare_room {
 public:
  template <memory_source Memory, class... Arguments>
  T* create(Memory& memory, Arguments&&... arguments) noexcept {
    if (spare_ == nullptr) return create_in<T>(memory, static_cast<Arguments&&>(arguments)...);
    return new (std::exchange(spare_, nullptr)) T{static_cast<Arguments&&>(arguments)...};
  }
  template <memory_source Memory>
  void destroy(Memory& memory, T* object) noexcept {
    object->~T();
    release(memory);
    spare_ = object;
  }
  template <memory_source Memory>
  void release(Memory& memory) noexcept {
    if (spare_ != nullptr) memory.deallocate(spare_, sizeof(T), alignof(T));
    spare_ = nullptr;
  }

 private:
  void* spare_ = nullptr;
};

}  // namespace iopt
