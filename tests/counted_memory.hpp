// tests/counted_memory.hpp - memory that counts its blocks and refuses on command, and a probe that
// counts the nodes that an operation looks at.
#pragma once

#include <cstddef>

#include "iopt/base/memory_source.hpp"

namespace iopt::test {

/// What is lent. A test that allocates from several threads counts in std::atomic.
template <class Count>
struct basic_ledger {
  Count blocks{0};
  Count calls{0};
  Count refuse_from{~std::size_t{0}};  // this call and all after it are refused
};
using ledger = basic_ledger<std::size_t>;

template <class Ledger>
struct counted_by {
  Ledger* book;
  void* allocate(std::size_t bytes, std::size_t alignment) noexcept {
    if (book->calls++ >= book->refuse_from) return nullptr;
    ++book->blocks;
    return heap_memory{}.allocate(bytes, alignment);
  }
  void deallocate(void* p, std::size_t bytes, std::size_t alignment) noexcept {
    --book->blocks;
    heap_memory{}.deallocate(p, bytes, alignment);
  }
};
using counting_memory = counted_by<ledger>;

struct counting_probe {
  static inline std::size_t visits = 0;
  static void visit() noexcept { ++visits; }
};

}  // namespace iopt::test
