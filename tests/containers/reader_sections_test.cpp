// tests/containers/reader_sections_test.cpp - whom wait() waits for, and for whom it does not.
#include "iopt/containers/reader_sections.hpp"

#include <atomic>
#include <chrono>
#include <optional>
#include <thread>
#include <vector>

#include "tests/catch.hpp"

namespace {

using iopt::fence_kind;
using sections = iopt::reader_sections<>;

template <class F>
void with_both_fences(F f) {
  for (const fence_kind kind : {fence_kind::symmetric, fence_kind::asymmetric}) {
    sections all({}, kind);
    f(all);
  }
}

TEST_CASE("wait() returns at once where nobody is inside") {
  with_both_fences([](sections& all) {
    all.wait();
    auto r = all.attach();
    REQUIRE(r);
    all.wait();
    r->enter();
    CHECK(r->inside());
    r->leave();
    CHECK_FALSE(r->inside());
    all.wait();
    CHECK(all.readers() == 1);
  });
}

TEST_CASE("wait() returns when the sections that were open are left, though readers enter again") {
  with_both_fences([](sections& all) {
    auto mine = all.attach();
    REQUIRE(mine);
    mine->enter();
    std::atomic<bool> waiting{false}, over{false};
    std::thread writer([&] {
      waiting = true;
      all.wait();
      over = true;
    });
    while (!waiting) std::this_thread::yield();
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    CHECK_FALSE(over);
    mine->leave();
    mine->enter();  // a section of its own: it is not waited for
    while (!over) std::this_thread::yield();
    writer.join();
    mine->leave();
  });
}

TEST_CASE("wait() waits for one section of each reader at most, however busy they are") {
  with_both_fences([](sections& all) {
    std::atomic<bool> stop{false};
    std::vector<std::thread> readers;
    for (int n = 0; n < 3; ++n)
      readers.emplace_back([&] {
        auto me = all.attach();
        while (!stop) {
          me->enter();
          me->leave();
          std::this_thread::yield();  // or the writer waits for the scheduler
        }
      });
    while (all.readers() != 3) std::this_thread::yield();
    for (int n = 0; n < 50; ++n) all.wait();
    stop = true;
    for (auto& r : readers) r.join();
  });
}

TEST_CASE("passed() tells the same without waiting") {
  with_both_fences([](sections& all) {
    auto a = all.attach(), b = all.attach();
    a->enter();
    all.mark();
    CHECK_FALSE(all.passed());
    b->enter();
    CHECK_FALSE(all.passed());
    a->leave();
    CHECK(all.passed());
    a->enter();
    CHECK(all.passed());
    all.mark();
    CHECK_FALSE(all.passed());
    a->leave(), b->leave();
    CHECK(all.passed());
  });
}

TEST_CASE("what was stored before wait() is seen by every section that it did not wait for") {
  // The writer puts a box in the place of another, waits, and breaks the old one.
  with_both_fences([](sections& all) {
    struct box {
      std::atomic<int> whole{1};
    };
    std::vector<box> boxes(2);
    std::atomic<box*> shown{&boxes[0]};
    std::atomic<bool> stop{false};
    std::atomic<int> broken{0};
    std::vector<std::thread> readers;
    for (int n = 0; n < 2; ++n)
      readers.emplace_back([&] {
        auto me = all.attach();
        while (!stop.load(std::memory_order_relaxed)) {
          me->enter();
          const box* const b = shown.load(std::memory_order_acquire);
          for (int k = 0; k < 8; ++k)
            if (b->whole.load(std::memory_order_relaxed) != 1) ++broken;
          me->leave();
          std::this_thread::yield();
        }
      });
    while (all.readers() != 2) std::this_thread::yield();
    for (std::size_t n = 0; n < 300; ++n) {
      box& old = boxes[n % 2];
      boxes[(n + 1) % 2].whole.store(1, std::memory_order_relaxed);
      shown.store(&boxes[(n + 1) % 2], std::memory_order_release);
      all.wait();
      old.whole.store(0, std::memory_order_relaxed);
    }
    stop = true;
    for (auto& r : readers) r.join();
    CHECK(broken == 0);
  });
}

TEST_CASE("places of readers are used again, and given back") {
  struct counting {
    std::size_t* blocks;
    void* allocate(std::size_t bytes, std::size_t alignment) noexcept {
      ++*blocks;
      return iopt::heap_memory{}.allocate(bytes, alignment);
    }
    void deallocate(void* p, std::size_t bytes, std::size_t alignment) noexcept {
      --*blocks;
      iopt::heap_memory{}.deallocate(p, bytes, alignment);
    }
  };
  std::size_t blocks = 0;
  {
    iopt::reader_sections<counting> all(counting{&blocks});
    for (int n = 0; n < 100; ++n) {
      auto a = all.attach(), b = all.attach();
      REQUIRE((a && b));
    }
    CHECK(blocks == 1);
    std::vector<iopt::reader_sections<counting>::reader> many;
    for (int n = 0; n < 50; ++n) many.push_back(std::move(*all.attach()));
    for (auto& r : many) r.enter();
    all.mark();
    for (auto& r : many) {
      CHECK_FALSE(all.passed());
      r.leave();
    }
    CHECK(all.passed());
    CHECK(all.readers() == 50);
  }
  CHECK(blocks == 0);
}

TEST_CASE("a reader that finds no memory is an error") {
  struct empty {
    void* allocate(std::size_t, std::size_t) noexcept { return nullptr; }
    void deallocate(void*, std::size_t, std::size_t) noexcept {}
  };
  iopt::reader_sections<empty> all;
  const auto r = all.attach();
  REQUIRE_FALSE(r);
  CHECK(r.error() == iopt::errc::not_enough_memory);
  CHECK(all.readers() == 0);
}

}  // namespace
