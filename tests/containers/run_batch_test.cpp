// tests/containers/run_batch_test.cpp - batches of runs, against the bytes one by one.
#include "iopt/containers/run_batch.hpp"

#include <algorithm>
#include <deque>
#include <random>
#include <utility>
#include <vector>

#include "tests/catch.hpp"

using namespace iopt;

namespace {

/// Memory that counts, and that refuses where it is told to.
struct counting_memory {
  struct ledger {
    bool refuses = false;
    std::size_t held_bytes = 0;
    std::size_t calls = 0;
  };
  ledger* books;

  void* allocate(std::size_t bytes, std::size_t alignment) noexcept {
    ++books->calls;
    if (books->refuses) return nullptr;
    books->held_bytes += bytes;
    return heap_memory{}.allocate(bytes, alignment);
  }
  void deallocate(void* p, std::size_t bytes, std::size_t alignment) noexcept {
    books->held_bytes -= bytes;
    heap_memory{}.deallocate(p, bytes, alignment);
  }
};
using batch = run_batch<counting_memory>;
using byte = std::pair<std::uint64_t, memory_type>;

std::deque<byte> bytes_of(std::span<const run> runs) {
  std::deque<byte> out;
  for (const run each : runs) {
    for (std::uint64_t i = 0; i < each.length_bytes; ++i) {
      out.emplace_back(each.first.value + i, each.type());
    }
  }
  return out;
}

void model(std::uint64_t seed, std::size_t wanted, bool refuses) {
  CAPTURE(seed, wanted, refuses);
  std::mt19937_64 engine(seed);
  counting_memory::ledger books;
  books.refuses = refuses;
  {
    batch subject(counting_memory{&books}, wanted);
    std::deque<byte> bytes;
    for (int step = 0; step < 30'000; ++step) {
      CAPTURE(step);
      const std::uint64_t wave = static_cast<std::uint64_t>(step) / 512 % 2 == 0 ? 3 : 6;
      switch (engine() % 10) {
        default: {
          const auto type = engine() % 8 == 0 ? memory_type::mmio : memory_type::cached;
          std::uint64_t start = bytes.empty() ? 0 : bytes.back().first + 1;
          if (engine() % 3 != 0) start = engine() % 1000;
          const std::uint64_t length = 1 + engine() % 5;
          const bool joins = !bytes.empty() && bytes.back() == byte(start - 1, type);
          const bool room = subject.view().size() < subject.capacity();
          if (subject.list().append(run({start}, length, type)) != (joins || room)) FAIL("append");
          if (!joins && !room) break;
          for (std::uint64_t i = 0; i < length; ++i) bytes.emplace_back(start + i, type);
          break;
        }
        case 0:
        case 1:
        case 2: {
          const std::uint64_t gone =
              engine() % (std::min<std::uint64_t>(bytes.size(), wave * 3) + 1);
          subject.drop_front(gone);
          bytes.erase(bytes.begin(), bytes.begin() + static_cast<long>(gone));
          break;
        }
        case 3: {
          if (engine() % 40 != 0 || bytes.empty()) break;
          const std::uint64_t kept = engine() % (subject.view().back().length_bytes + 1);
          subject.keep_tail(kept);
          bytes.erase(bytes.begin(), bytes.end() - static_cast<long>(kept));
          if (subject.view().size() != (kept == 0 ? 0 : 1)) FAIL("the carry is one run");
          break;
        }
        case 4:
          if (engine() % 400 != 0) break;
          subject.clear();
          bytes.clear();
          break;
      }
      if (const std::string_view broken = subject.verify(); !broken.empty()) FAIL(broken);
      if (subject.bytes() != bytes.size() || subject.empty() != bytes.empty()) FAIL("size");
      if (step % 8 == 0) {
        if (bytes_of(subject.view()) != bytes) FAIL("bytes");
        const std::uint64_t offset = engine() % (bytes.size() + 3);
        const std::uint64_t length = engine() % (bytes.size() + 3);
        std::vector<run> slices;
        for_each_slice(subject.view(), offset, length, [&](run r) { slices.push_back(r); });
        const auto clip = [&](std::uint64_t n) {
          return bytes.begin() + static_cast<long>(std::min<std::uint64_t>(n, bytes.size()));
        };
        if (bytes_of(slices) != std::deque<byte>(clip(offset), clip(offset + length))) {
          FAIL("for_each_slice");
        }
      }
    }
  }
  REQUIRE(books.held_bytes == 0);
}

}  // namespace

TEST_CASE("run_batch: model", "[run_batch][model]") {
  model(41, 1, false);
  model(42, 100, true);
  model(43, 100, false);
  model(44, 40, false);
}

TEST_CASE("run_batch: what it holds", "[run_batch]") {
  counting_memory::ledger books;
  {
    const batch small(counting_memory{&books}, 0);
    REQUIRE(small.capacity() == 32);
    const batch fits(counting_memory{&books}, 32);
    REQUIRE(fits.capacity() == 32);
    REQUIRE(books.calls == 0);
    const batch larger(counting_memory{&books}, 33);
    REQUIRE(larger.capacity() == 33);
    REQUIRE(books.held_bytes == 33 * sizeof(run));
    const batch largest(counting_memory{&books}, ~std::size_t{0});
    REQUIRE(largest.capacity() == 4096);
    REQUIRE(books.held_bytes == 33 * sizeof(run) + 65536);
    books.refuses = true;
    batch refused(counting_memory{&books}, 1000);
    REQUIRE(refused.capacity() == 32);
    REQUIRE(refused.list().append(run({0}, 1)));
  }
  REQUIRE(books.held_bytes == 0);
}

TEST_CASE("run_batch: the carry", "[run_batch][regression]") {
  counting_memory::ledger books;
  batch b(counting_memory{&books}, 0);
  b.list().append(run({0}, 4096));
  b.list().append(run({0x100000}, 0x200000, memory_type::reserved));
  b.keep_tail(0x1ff000);
  REQUIRE(b.view().size() == 1);
  REQUIRE(b.view()[0] == run({0x101000}, 0x1ff000, memory_type::reserved));
  b.drop_front(0x1fe000);
  REQUIRE(b.view()[0] == run({0x2ff000}, 0x1000, memory_type::reserved));
  b.drop_front(0x1000);
  REQUIRE(b.empty());
  b.keep_tail(0);
  REQUIRE(b.list().capacity() == 32);
}

TEST_CASE("run_batch: room that was dropped in front comes back", "[run_batch][cost]") {
  counting_memory::ledger books;
  batch b(counting_memory{&books}, 4096);
  std::uint64_t next = 0;
  const auto append = [&] { return b.list().append(run({8192 * next++}, 4096)); };
  while (b.view().size() < b.capacity()) REQUIRE(append());
  REQUIRE(!append());
  // Dropping run by run moves each run at most once: the front stays where it is until half left.
  std::size_t moves = 0;
  const run* front = b.view().data();
  while (!b.empty()) {
    b.drop_front(4096);
    const run* const now = b.view().data();
    if (now < front) moves += b.view().size();
    front = now;
  }
  REQUIRE(moves <= 4096);
  for (int i = 0; i < 4096; ++i) {
    if (!append()) FAIL("no room");
  }
  b.drop_front(1);
  REQUIRE(!append());
  b.drop_front(4095);
  REQUIRE(append());
  REQUIRE(b.view().size() == 4096);
  REQUIRE(b.verify() == "");
}
