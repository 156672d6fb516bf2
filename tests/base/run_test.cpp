// tests/base/run_test.cpp - runs, and the list that joins them, against the bytes one by one.
#include "iopt/base/run.hpp"

#include <deque>
#include <random>
#include <utility>
#include <vector>

#include "tests/catch.hpp"

using namespace iopt;

namespace {

/// A byte: its address and its type.
using byte = std::pair<std::uint64_t, memory_type>;

template <class Bytes>
bool same(const Bytes& bytes, std::span<const run> runs) {
  auto expected = bytes.begin();
  for (const run each : runs) {
    for (std::uint64_t i = 0; i < each.length_bytes; ++i, ++expected) {
      if (expected == bytes.end() || *expected != byte(each.first.value + i, each.type())) {
        return false;
      }
    }
  }
  return expected == bytes.end();
}

/// How many runs a sequence of bytes is told with.
template <class Bytes>
std::size_t runs_in(const Bytes& bytes) {
  std::size_t count = 0;
  const byte* before = nullptr;
  for (const byte& each : bytes) {
    if (before == nullptr || before->first == top || before->first + 1 != each.first ||
        before->second != each.second) {
      ++count;
    }
    before = &each;
  }
  return count;
}

}  // namespace

TEST_CASE("run: what joins", "[run]") {
  const run a({4096}, 4096);
  REQUIRE(a.joins(run({8192}, 1)));
  REQUIRE(!a.joins(run({8193}, 1)));
  REQUIRE(!a.joins(run({4096}, 4096)));
  REQUIRE(!a.joins(run({8192}, 1, memory_type::mmio)));
  REQUIRE(run({8192}, 1, memory_type::mmio).joins(run({8193}, 1, memory_type::mmio)));
  // A run has a greatest length, and ends before 2^64.
  REQUIRE(run({0}, run::longest - 1).joins(run({run::longest - 1}, 1)));
  REQUIRE(!run({0}, run::longest).joins(run({run::longest}, 1)));
  REQUIRE(!run({top - 4095}, 4096).joins(run({0}, 4096)));
}

TEST_CASE("run: slices and equality", "[run]") {
  const run a({4096}, 8192, memory_type::reserved);
  REQUIRE(a.slice(0, 8192) == a);
  REQUIRE(a.slice(4096, 100) == run({8192}, 100, memory_type::reserved));
  REQUIRE(a.slice(4096, 100).type() == memory_type::reserved);
  REQUIRE(!(a == run({4096}, 8192)));
  REQUIRE(!(a == run({4096}, 8191, memory_type::reserved)));
  REQUIRE(!(a == run({4097}, 8192, memory_type::reserved)));
  REQUIRE(run({top}, 1).slice(0, 1) == run({top}, 1));
}

TEST_CASE("run_list: an empty one, and one without storage", "[run]") {
  run_list none;
  REQUIRE(none.empty());
  REQUIRE(none.full());
  REQUIRE(!none.append(run({0}, 1)));
  REQUIRE(none.append_pages({}, 4096) == 0);
  none.drop_front(0);
  REQUIRE(none.bytes() == 0);
  REQUIRE(none.view().empty());
  REQUIRE(none.verify() == "");
}

TEST_CASE("run_list: a full list still takes what joins", "[run]") {
  run storage[2];
  run_list list(storage);
  REQUIRE(list.capacity() == 2);
  REQUIRE(list.append(run({0}, 4096)));
  REQUIRE(list.append(run({8192}, 4096)));
  REQUIRE(list.full());
  REQUIRE(!list.append(run({0}, 4096)));
  REQUIRE(list.bytes() == 8192);
  REQUIRE(list.append(run({12288}, 4096)));
  REQUIRE(list.size() == 2);
  REQUIRE(list[1] == run({8192}, 8192));
  REQUIRE(list.bytes() == 12288);
  REQUIRE(list.end() - list.begin() == 2);
  REQUIRE(list.verify() == "");
  list.clear();
  REQUIRE(list.empty());
  REQUIRE(list.bytes() == 0);
  REQUIRE(list.append(run({0}, 4096)));
}

TEST_CASE("run_list: what is known to fit is appended without an answer", "[run]") {
  run storage[2];
  run_list list(storage);
  list.append_fitting(run({0}, 4096));
  list.append_fitting(run({8192}, 4096));
  REQUIRE(list.full());
  list.append_fitting(run({12288}, 4096));  // joins
  REQUIRE(list.size() == 2);
  REQUIRE(list[0] == run({0}, 4096));
  REQUIRE(list[1] == run({8192}, 8192));
  REQUIRE(list.bytes() == 12288);
  REQUIRE(list.verify() == "");
}

TEST_CASE("run_list: a gibibyte in pages is one run", "[run]") {
  std::vector<physical> pages;
  for (std::uint64_t i = 0; i < 262144; ++i) pages.push_back({(std::uint64_t{1} << 32) + i * 4096});
  run storage[1];
  run_list list(storage);
  REQUIRE(list.append_pages(pages, 4096) == pages.size());
  REQUIRE(list[0] == run({std::uint64_t{1} << 32}, std::uint64_t{1} << 30));
}

TEST_CASE("run_list: pages do not join around the end of memory", "[run][regression]") {
  const physical pages[] = {{top - 8191}, {top - 4095}, {0}, {4096}};
  run storage[4];
  run_list list(storage);
  REQUIRE(list.append_pages(pages, 4096) == 4);
  REQUIRE(list.size() == 2);
  REQUIRE(list[0] == run({top - 8191}, 8192));
  REQUIRE(list[1] == run({0}, 8192));
  REQUIRE(list.verify() == "");
}

TEST_CASE("run_list: verify names what is broken", "[run]") {
  run storage[3];
  run_list list(storage);
  list.append(run({0}, 4096));
  list.append(run({8192}, 4096));
  REQUIRE(list.verify() == "");
  storage[1] = run({4096}, 4096);
  REQUIRE(list.verify() == "joined");
  storage[1] = run();
  REQUIRE(list.verify() == "length");
  storage[1] = run({8192}, 4097);
  REQUIRE(list.verify() == "bytes");
}

TEST_CASE("run_list: model", "[run][model]") {
  for (const std::uint64_t seed : {31u, 32u}) {
    CAPTURE(seed);
    std::mt19937_64 engine(seed);
    run storage[12];
    run_list list(storage);
    std::deque<byte> bytes;
    for (int step = 0; step < 100'000; ++step) {
      CAPTURE(step);
      const auto type = engine() % 8 == 0 ? memory_type::mmio : memory_type::cached;
      const std::uint64_t near = bytes.empty() ? engine() : bytes.back().first + 1;
      const std::uint64_t start = engine() % 3 == 0   ? engine() % 4
                                  : engine() % 4 == 0 ? top - engine() % 8
                                                      : near;
      switch (engine() % 8) {
        case 0:
        case 1:
        case 2: {
          std::uint64_t length = 1 + engine() % 6;
          if (length - 1 > top - start) length = top - start + 1;
          std::deque<byte> after = bytes;
          for (std::uint64_t i = 0; i < length; ++i) after.emplace_back(start + i, type);
          const bool fits = runs_in(after) <= list.capacity();
          if (list.append(run({start}, length, type)) != fits) FAIL("append");
          if (fits) bytes = after;
          break;
        }
        case 3:
        case 4: {
          std::vector<physical> pages;
          std::uint64_t at = start;
          for (std::uint64_t i = engine() % 6; i > 0; --i) {
            if (at > top - 1) at = 0;  // pages of two bytes
            pages.push_back({at});
            at += engine() % 4 == 0 ? 4 : 2;
          }
          const std::size_t taken = list.append_pages(pages, 2, type);
          if (taken > pages.size()) FAIL("append_pages takes too many");
          for (std::size_t i = 0; i < taken; ++i) {
            bytes.emplace_back(pages[i].value, type);
            bytes.emplace_back(pages[i].value + 1, type);
          }
          if (taken < pages.size()) {
            bytes.emplace_back(pages[taken].value, type);
            if (runs_in(bytes) <= list.capacity()) FAIL("append_pages stops early");
            bytes.pop_back();
          }
          break;
        }
        case 5:
        case 6: {
          const std::uint64_t gone = engine() % (std::min<std::uint64_t>(bytes.size(), 12) + 1);
          list.drop_front(gone);
          bytes.erase(bytes.begin(), bytes.begin() + static_cast<long>(gone));
          break;
        }
        default:
          if (engine() % 8 == 0 || list.capacity() == 0) {
            list = run_list(storage);
            bytes.clear();
          } else if (engine() % 8 == 0) {
            list.clear();
            bytes.clear();
          }
          break;
      }
      if (const std::string_view broken = list.verify(); !broken.empty()) FAIL(broken);
      if (list.bytes() != bytes.size() || list.size() != runs_in(bytes)) FAIL("size");
      if (list.full() != (list.size() == list.capacity())) FAIL("full");
      if (!same(bytes, list.view())) FAIL("bytes");
    }
  }
}

TEST_CASE("run_list: cost", "[run][cost]") {
  // What a dropped byte costs does not grow with what stays: whole runs are left, not moved.
  std::vector<run> storage(65536);
  run_list list(storage);
  for (std::uint64_t i = 0; i < storage.size(); ++i) list.append(run({i * 8192}, 4096));
  const run* const at = list.begin();
  list.drop_front(4096 + 100);
  REQUIRE(list.begin() == at + 1);
  REQUIRE(list.capacity() == storage.size() - 1);
  REQUIRE(list[0] == run({8192 + 100}, 3996));
}
