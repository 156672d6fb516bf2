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

struct counting {
  int* live;
  bool refuses = false;
  void* allocate(std::size_t bytes, std::size_t alignment) noexcept {
    if (refuses) return nullptr;
    ++*live;
    return heap_memory{}.allocate(bytes, alignment);
  }
  void deallocate(void* p, std::size_t bytes, std::size_t alignment) noexcept {
    --*live;
    heap_memory{}.deallocate(p, bytes, alignment);
  }
};
struct pair {
  int first;
  int second = 2;
};

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

TEST_CASE("an object is made in a source's memory, or not at all") {
  int live = 0;
  counting memory{&live};
  pair* const made = create_in<pair>(memory, 1);
  REQUIRE(made != nullptr);
  CHECK(made->first + made->second == 3);
  CHECK(live == 1);
  destroy_in(memory, made);
  CHECK(live == 0);
  memory.refuses = true;
  CHECK(create_in<pair>(memory, 1) == nullptr);
}

TEST_CASE("the room of one object is kept for the next") {
  int live = 0;
  counting memory{&live};
  spare_room<pair> room;
  pair* const a = room.create(memory, 1);
  pair* const b = room.create(memory, 2);
  REQUIRE((a != nullptr && b != nullptr));
  CHECK(live == 2);
  room.destroy(memory, a);
  CHECK(live == 2);
  room.destroy(memory, b);
  CHECK(live == 1);
  memory.refuses = true;
  pair* const again = room.create(memory, 3);
  REQUIRE(again != nullptr);
  CHECK(again->first + again->second == 5);
  CHECK(room.create(memory, 4) == nullptr);
  room.destroy(memory, again);
  room.release(memory);
  room.release(memory);
  CHECK(live == 0);
}
