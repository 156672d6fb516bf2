// tests/uapi/vfio/dirty_log_test.cpp - a log against bits of one each.
#include "iopt/uapi/vfio/dirty_log.hpp"

#include <array>
#include <cstring>
#include <random>
#include <vector>

#include "tests/catch.hpp"

using namespace iopt;
using vfio::dirty_log;

namespace {

user_address at(const void* p) { return {reinterpret_cast<std::uintptr_t>(p)}; }

struct owned_log {
  heap_memory memory;
  dirty_log* log;
  explicit owned_log(iova_range where) : log(dirty_log::create(where, 12, memory).value()) {}
  ~owned_log() { dirty_log::destroy(log, memory); }
  dirty_log* operator->() const { return log; }
};

}  // namespace

TEST_CASE("a log begins empty, and is set by range", "[dirty_log]") {
  owned_log log({{0x10000}, {0x10000 + 200 * 4096 - 1}});
  CHECK(log->pages() == 200);
  CHECK_FALSE(log->test({0x10000}));
  log->set({{0x10000 + 63 * 4096}, {0x10000 + 64 * 4096 + 5}});
  CHECK(log->test({0x10000 + 63 * 4096}));
  CHECK(log->test({0x10000 + 64 * 4096}));
  CHECK_FALSE(log->test({0x10000 + 62 * 4096}));
  CHECK_FALSE(log->test({0x10000 + 65 * 4096}));
  log->set_all();
  CHECK(log->test({0x10000 + 199 * 4096}));
  log->clear();
  CHECK_FALSE(log->test({0x10000 + 199 * 4096}));
}

TEST_CASE("a log has at most 2^31 - 1 pages, and asks for memory once", "[dirty_log]") {
  struct refusing {
    void* allocate(std::size_t, std::size_t) noexcept { return nullptr; }
    void deallocate(void*, std::size_t, std::size_t) noexcept {}
  } no;
  CHECK(dirty_log::create({{0}, {(vfio::max_bitmap_pages + 1) * 4096 - 1}}, 12, no).error() ==
        errc::invalid_argument);
  CHECK(dirty_log::create({{0}, {vfio::max_bitmap_pages * 4096 - 1}}, 12, no).error() ==
        errc::not_enough_memory);
}

TEST_CASE("a caller's bitmap that cannot be read or written is a bad address", "[dirty_log]") {
  trusted_caller copy;
  owned_log log({{0x3000}, {0x3fff}});
  CHECK(log->copy_out(copy, {0}, {0}).error() == errc::bad_address);
  CHECK(log->copy_out(copy, {0}, {0x3000}).error() == errc::bad_address);
}

// The rule, told with one bool a bit: type1 shifts the log in place by the mapping's offset modulo 64,
// ors the caller's word into it, copies whole words, and clears only the mapping's own bits.
TEST_CASE("a log is copied, shifted and cleared as type1 does", "[dirty_log][model]") {
  for (unsigned seed = 0; seed < 400; ++seed) {
    CAPTURE(seed);
    std::mt19937_64 random(seed);
    const std::uint64_t pages = 1 + random() % 200;
    const iova first{(random() % 500) * 4096};
    owned_log log({first, first + (pages * 4096 - 1)});
    std::vector<bool> model(pages + 192);
    trusted_caller copy;
    for (int step = 0; step < 30; ++step) {
      for (int n = 0; n < 5; ++n) {
        const std::uint64_t from = random() % pages;
        const std::uint64_t to = from + random() % (pages - from);
        if (random() % 2 == 0) continue;
        log->set({first + from * 4096, first + (to * 4096 + 4095)});
        for (std::uint64_t page = from; page <= to; ++page) model[page] = true;
      }
      const std::uint64_t offset = random() % (first.value / 4096 + 1);
      std::vector<std::uint64_t> theirs((offset + pages) / 64 + 3);
      for (auto& word : theirs) word = random();
      std::vector<std::uint64_t> expected = theirs;

      const unsigned shift = offset % 64;
      if (shift != 0) {
        // Whole words are shifted; what leaves the last of them is lost.
        const std::uint64_t end = vfio::bitmap_bytes(pages + shift) * 8;
        for (std::uint64_t n = end; n-- != 0;) model[n] = n >= shift && model[n - shift];
        for (unsigned n = 0; n < 64; ++n)
          if ((theirs[offset / 64] >> n & 1) != 0) model[n] = true;
      }
      for (std::uint64_t n = 0; n < vfio::bitmap_bytes(pages + shift) * 8; ++n) {
        const std::uint64_t bit = std::uint64_t{1} << (n % 64);
        auto& word = expected[offset / 64 + n / 64];
        word = model[n] ? word | bit : word & ~bit;
      }
      REQUIRE(log->copy_out(copy, at(theirs.data()), {first.value - offset * 4096}));
      CHECK(theirs == expected);
      log->clear();
      for (std::uint64_t n = 0; n < pages; ++n) model[n] = false;
    }
  }
}

TEST_CASE("a part of a log takes over its pages", "[dirty_log]") {
  owned_log whole({{0}, {64 * 4096 - 1}});
  owned_log part({{8 * 4096}, {12 * 4096 - 1}});
  whole->set({{7 * 4096}, {9 * 4096}});
  part->take(*whole.log);
  CHECK(part->test({8 * 4096}));
  CHECK(part->test({9 * 4096}));
  CHECK_FALSE(part->test({10 * 4096}));
}
