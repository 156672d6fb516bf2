#include "iopt/base/memory_source.hpp"

#include <cstdint>
#include <cstring>

#include "tests/catch.hpp"

using namespace iopt;

namespace {

struct allocate_may_throw {
  void* allocate(std::size_t, std::size_t) { return nullptr; }
  void deallocate(void*, std::size_t, std::size_t) noexcept {}
};
struct no_deallocate {
  void* allocate(std::size_t, std::size_t) noexcept { return nullptr; }
};
static_assert(memory_source<heap_memory> && !memory_source<allocate_may_throw> &&
              !memory_source<no_deallocate>);

}  // namespace

TEST_CASE("the heap gives memory of any alignment, to any copy") {
  heap_memory memory;
  heap_memory copy = memory;
  for (std::size_t alignment = 1; alignment <= 4096; alignment *= 2) {
    void* const p = memory.allocate(3 * alignment, alignment);
    REQUIRE(p != nullptr);
    CHECK(reinterpret_cast<std::uintptr_t>(p) % alignment == 0);
    std::memset(p, 1, 3 * alignment);
    copy.deallocate(p, 3 * alignment, alignment);
  }
}
