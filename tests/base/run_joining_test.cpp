// tests/base/run_joining_test.cpp - arrays of pages against append(), page by page.
#include "iopt/base/run_joining.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <random>
#include <span>
#include <type_traits>
#include <vector>

#include "iopt/base/run.hpp"
#include "tests/catch.hpp"
#include "tests/memory_between_guards.hpp"

using namespace iopt;

namespace {

constexpr std::uint64_t page_4k = 4096;

template <class Word>
std::size_t append(run_list& list, std::span<const Word> words, std::uint64_t page_bytes,
                   memory_type type) {
  if constexpr (std::is_same_v<Word, physical>) {
    return list.append_pages(words, page_bytes, type);
  } else {
    return list.append_frames(words, page_bytes, type);
  }
}

/// Appends the words to two lists of `capacity` runs behind `before`, and demands the same of both.
template <class Word>
std::vector<run> joined(std::span<const Word> words, std::uint64_t page_bytes, memory_type type,
                        std::size_t capacity, std::span<const run> before = {}) {
  const std::uint64_t scale = std::is_same_v<Word, physical> ? 1 : page_bytes;
  const run guard({0x5a5a}, 0x5a5a);
  std::vector<run> storage(capacity + 1, guard), model_storage(capacity + 1, guard);
  run_list list(std::span<run>(storage).first(capacity)),
      model(std::span<run>(model_storage).first(capacity));
  for (const run each : before) list.append(each), model.append(each);
  std::size_t expected = 0;
  while (expected < words.size() &&
         model.append(run({detail::word_of(words[expected]) * scale}, page_bytes, type)))
    ++expected;
  const std::size_t taken = append(list, words, page_bytes, type);
  CAPTURE(words.size(), page_bytes, capacity, before.size());
  if (taken != expected) FAIL("took " << taken << " and not " << expected);
  if (list.bytes() != model.bytes()) FAIL("bytes");
  if (const std::string_view broken = list.verify(); !broken.empty()) FAIL(broken);
  if (!(storage.back() == guard)) FAIL("written past the list");
  const std::vector<run> runs(list.begin(), list.end());
  if (runs != std::vector<run>(model.begin(), model.end())) FAIL("other runs");
  return runs;
}

/// Numbers up to `last` of which one in `run_pages` does not go on; 0 for one run. After the last
/// comes 0.
template <class Random>
std::vector<std::uint64_t> draw(Random& random, std::size_t count, std::uint64_t last,
                                std::uint64_t first, std::uint64_t run_pages) {
  std::vector<std::uint64_t> numbers;
  for (; count != 0; --count) {
    numbers.push_back(first);
    first = first == last ? 0 : first + 1;
    if (run_pages == 0 || random() % run_pages != 0) continue;
    const std::uint64_t others[] = {numbers.back(), 0, last, last - random() % 8, random() % 1000};
    first = others[random() % 5];
  }
  return numbers;
}

template <class Word>
std::vector<Word> words_of(std::span<const std::uint64_t> numbers, std::uint64_t page_bytes) {
  std::vector<Word> words;
  for (const std::uint64_t n : numbers) {
    if constexpr (std::is_same_v<Word, physical>) {
      words.push_back({n * page_bytes});
    } else {
      words.push_back(static_cast<Word>(n));
    }
  }
  return words;
}

}  // namespace

TEMPLATE_TEST_CASE("an array of pages is joined as page by page", "[run_joining][model]", physical,
                   std::uint64_t, std::uint32_t) {
  std::mt19937_64 random(41);
  const memory_type types[] = {memory_type::cached, memory_type::mmio, memory_type::reserved};
  for (int step = 0; step < 20'000; ++step) {
    CAPTURE(step);
    const std::uint64_t run_pages = std::array<std::uint64_t, 5>{0, 1, 2, 8, 40}[random() % 5];
    const std::uint64_t page_bytes = std::uint64_t{1} << random() % 18;
    const std::uint64_t last = sizeof(TestType) == 4 ? 0xffffffff : top / page_bytes;
    const std::uint64_t first = random() % 2 ? last - random() % 64 : random() % 1000;
    const auto words =
        words_of<TestType>(draw(random, random() % 70, last, first, run_pages), page_bytes);
    const memory_type type = types[random() % 3];
    std::vector<run> before;
    if (random() % 2 && first != 0)
      before.push_back(run({first * page_bytes - 1}, 1, types[random() % 3]));
    joined<TestType>(words, page_bytes, type, random() % 80, before);
  }
}

TEST_CASE("every length of a contiguous array, and a break at every place, is told",
          "[run_joining]") {
  for (std::size_t count = 0; count <= 40; ++count) {
    for (std::size_t gap = 0; gap <= count; ++gap) {
      std::vector<physical> pages;
      for (std::size_t n = 0; n < count; ++n) pages.push_back({(100 + n + (n >= gap)) * page_4k});
      const auto runs = joined<physical>(pages, page_4k, memory_type::cached, 2);
      const std::size_t expected = count == 0 ? 0 : gap == 0 || gap == count ? 1 : 2;
      if (runs.size() != expected) FAIL(count << " pages, a gap before " << gap);
    }
  }
}

TEST_CASE("a list that is full in the middle of a block takes what joins and no more",
          "[run_joining]") {
  for (std::size_t capacity = 0; capacity <= 24; ++capacity) {
    std::vector<std::uint64_t> frames;
    for (std::uint64_t n = 0; n < 40; ++n) frames.push_back(n + n / 2);  // two by two
    const auto runs = joined<std::uint64_t>(frames, page_4k, memory_type::reserved, capacity);
    CHECK(runs.size() == std::min<std::size_t>(capacity, 20));
    for (const run each : runs) CHECK(each.length_bytes == 2 * page_4k);
  }
}

TEST_CASE("nothing goes on behind the last page of memory", "[run_joining][regression]") {
  for (std::uint64_t before = 0; before <= 20; ++before) {
    std::vector<physical> pages;
    for (std::uint64_t n = 0; n < 30; ++n) pages.push_back({(n - before) * page_4k});
    const auto runs = joined<physical>(pages, page_4k, memory_type::cached, 30);
    CHECK(runs.size() == (before == 0 ? 1 : 2));
  }
  // The last frame that 32 bits can name has a neighbour that they cannot.
  std::vector<std::uint32_t> frames;
  for (std::uint32_t n = 0; n < 30; ++n) frames.push_back(n - 12u);
  CHECK(joined<std::uint32_t>(frames, page_4k, memory_type::cached, 30).size() == 2);
}

TEST_CASE("no run grows longer than a run can be", "[run_joining]") {
  for (const unsigned lg2 : {40u, 46u, 47u, 48u, 58u, 59u}) {
    std::vector<physical> pages;
    for (std::uint64_t n = 0; n < 10'000 && n <= top >> lg2; ++n) pages.push_back({n << lg2});
    const auto runs = joined<physical>(pages, std::uint64_t{1} << lg2, memory_type::mmio, 10'000);
    CAPTURE(lg2, runs.size());
    CHECK(runs.front().length_bytes > std::uint64_t{1} << 52);
  }
}

TEMPLATE_TEST_CASE("the twins that join a block agree", "[run_joining]", physical, std::uint64_t,
                   std::uint32_t) {
  using detail::joining, detail::joining_block;
  std::mt19937_64 random(42);
  iopt::test::memory_between_guards<std::array<TestType, 1 + 3 * joining_block>> all_words;
  iopt::test::memory_between_guards<std::array<std::uint64_t, 18>> all_runs;
  for (int step = 0; step < 20'000; ++step) {
    CAPTURE(step);
    const std::uint64_t page_bytes = std::uint64_t{2} << random() % 47;
    const std::uint64_t last = std::min(top / page_bytes, sizeof(TestType) == 4 ? 0xffffffff : top);
    const std::uint64_t first = random() % 2 ? last - random() % 64 : random() % 1000;
    const std::uint64_t run_pages = std::array<std::uint64_t, 4>{1, 2, 8, 40}[random() % 4];
    auto& words = all_words.at_end(random() % 2 != 0);
    std::ranges::copy(
        words_of<TestType>(draw(random, words.size(), last, first, run_pages), page_bytes),
        words.begin());
    const TestType* const block = words.data() + 1;
    const std::uint64_t word_step = std::is_same_v<TestType, physical> ? page_bytes : 1;
    const std::uint64_t next = detail::word_of(words[0]) + word_step;
    const std::size_t going_on = detail::blocks_going_on(block, 3, next, word_step);
    if (going_on != detail::blocks_going_on_portable(block, 3, next, word_step)) FAIL("going on");
    if (going_on != 0) continue;
    const std::uint64_t type = random() % 3 << 60;
    auto& a = all_runs.at_end(random() % 2 != 0);
    a = {1, 2};
    auto b = a;
    const joining both{nullptr,    (random() % 100 * page_bytes) | type,
                       next,       word_step,
                       page_bytes, page_bytes | type};
    joining ja = both, jb = both;
    ja.last = reinterpret_cast<std::byte*>(a.data());
    jb.last = reinterpret_cast<std::byte*>(b.data());
    detail::join_block(ja, block), detail::join_block_portable(jb, block);
    ja.close(), jb.close();
    const std::ptrdiff_t used = (ja.last - reinterpret_cast<std::byte*>(a.data())) / 8 + 2;
    if (used != (jb.last - reinterpret_cast<std::byte*>(b.data())) / 8 + 2) FAIL("runs");
    if (!std::equal(a.begin(), a.begin() + used, b.begin())) FAIL("words");
    if (ja.length != jb.length || ja.next != jb.next) FAIL("what is open");
  }
}
