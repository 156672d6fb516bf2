// iopt/containers/deferred_memory.hpp - blocks that readers may still be reading when they go.
//
// A writer takes a block out of sight and retires it; it is freed once no section that was open then
// is open any more. Nobody waits for that: retired blocks gather, and of every batch it is asked
// whether the readers have moved on since the batch before was complete.
//
//   fresh    retired since the last mark of the readers
//   aging    retired before it: freed when all sections open at the mark have been left
//   spare    free, of the usual size, for the next allocation
//
// Layer: containers. Includes: base, containers/reader_sections.hpp, the standard library.
#pragma once

#include <cstddef>
#include <cstdint>
#include <new>
#include <type_traits>
#include <utility>

#include "iopt/base/assert.hpp"
#include "iopt/base/memory_source.hpp"
#include "iopt/containers/reader_sections.hpp"

namespace iopt {

/// What a block that can be retired begins with. Readers do not look at it.
struct deferred_block {
  deferred_block* next = nullptr;
  std::uint32_t bytes = 0;
};

/// deferred_memory: a memory source for one writer whose blocks many readers look at.
///
/// Model       Blocks handed out, each of which is given back to the memory source once: at free(),
///             or after retire() when every section that was open at retire() has been left.
/// Ownership   Refers to the sections, which outlive it. The destructor frees what was retired.
///             Requires then: no reader is inside.
/// Errors      allocate() answers nullptr where the memory source refuses.
/// Cost        allocate(), retire() O(1), but every `batch`-th retire(), which looks at every reader
///             and may free two batches. Nothing waits.
/// Threads     One at a time, beside any number of readers.
/// Tested by   tests/containers/deferred_memory_test.cpp
template <memory_source Memory>
class deferred_memory {
 public:
  static constexpr std::size_t alignment = 64;
  static constexpr std::size_t batch = 64;

  deferred_memory(reader_sections<Memory>& readers, Memory memory, std::size_t usual_bytes) noexcept
      : readers_(readers), memory_(std::move(memory)), usual_bytes_(usual_bytes) {}
  deferred_memory(const deferred_memory&) = delete;
  deferred_memory& operator=(const deferred_memory&) = delete;
  ~deferred_memory() {
    for (deferred_block** list : {&fresh_, &aging_, &spare_})
      while (*list != nullptr) give_back(take(*list));
  }

  /// A new T, which begins with a deferred_block, or nullptr. The constructor does not throw.
  template <class T>
  T* create() noexcept {
    static_assert(alignof(T) <= alignment);
    void* place = nullptr;
    if (sizeof(T) == usual_bytes_ && spare_ != nullptr) {
      place = take(spare_);
      --spare_count_;
    } else {
      place = memory_.allocate(sizeof(T), alignment);
    }
    if (place == nullptr) return nullptr;
    T* const made = ::new (place) T;
    block_of(made)->bytes = sizeof(T);
    return made;
  }
  /// Frees what no reader has ever seen.
  template <class T>
  void free(T* object) noexcept {
    keep_or_give_back(block_of(object));
  }
  /// Frees, in time, what is out of sight now.
  template <class T>
  void retire(T* object) noexcept {
    put(fresh_, block_of(object));
    if (++fresh_count_ % batch == 0) collect();
  }
  /// Frees what no reader can be looking at any more.
  void collect() noexcept {
    if (aging_ != nullptr) {
      if (!readers_.passed()) return;
      while (aging_ != nullptr) keep_or_give_back(take(aging_));
    }
    if (fresh_ == nullptr) return;
    aging_ = std::exchange(fresh_, nullptr);
    fresh_count_ = 0;
    readers_.mark();
    if (!readers_.passed()) return;
    while (aging_ != nullptr) keep_or_give_back(take(aging_));
  }

  const Memory& memory() const noexcept { return memory_; }

 private:
  // The first member of a standard-layout class is at its address.
  template <class T>
  static deferred_block* block_of(T* object) noexcept {
    static_assert(std::is_standard_layout_v<T> && std::is_trivially_destructible_v<T>);
    return reinterpret_cast<deferred_block*>(object);
  }
  static void put(deferred_block*& list, deferred_block* b) noexcept {
    b->next = std::exchange(list, b);
  }
  static deferred_block* take(deferred_block*& list) noexcept {
    return std::exchange(list, list->next);
  }
  void keep_or_give_back(deferred_block* b) noexcept {
    if (b->bytes != usual_bytes_ || spare_count_ == batch) return give_back(b);
    put(spare_, b);
    ++spare_count_;
  }
  void give_back(deferred_block* b) noexcept { memory_.deallocate(b, b->bytes, alignment); }

  reader_sections<Memory>& readers_;
  [[no_unique_address]] Memory memory_;
  std::size_t usual_bytes_;
  deferred_block* fresh_ = nullptr;
  deferred_block* aging_ = nullptr;
  deferred_block* spare_ = nullptr;
  std::size_t fresh_count_ = 0;
  std::size_t spare_count_ = 0;
};

}  // namespace iopt
