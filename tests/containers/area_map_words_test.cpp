// tests/containers/area_map_words_test.cpp - the functions on arrays against plain loops.
#include "iopt/containers/area_map_words.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "tests/catch.hpp"
#include "tests/containers/word_arrays.hpp"
#include "tests/memory_between_guards.hpp"

namespace {

using iopt::top;
using namespace iopt::test;

}  // namespace

TEMPLATE_TEST_CASE("a search counts the words that are less", "[area_map_words]", words, keys) {
  random_bits random(1);
  memory_between_guards<TestType> memory;
  for (int step = 0; step < 20000; ++step) {
    TestType& w = memory.at_end(random() % 2 != 0);
    using word_type = typename decltype(w.word)::value_type;
    constexpr std::size_t size = TestType{}.word.size();
    for (word_type& word : w.word) word = draw<word_type>(random);
    std::fill(w.word.begin() + static_cast<int>(random() % (size + 1)), w.word.end(),
              static_cast<word_type>(top));
    std::sort(w.word.begin(), w.word.end());
    const word_type x = random() % 2
                            ? draw<word_type>(random)
                            : static_cast<word_type>(w.word[random() % size] + random() % 2);
    const auto expected = static_cast<unsigned>(
        std::count_if(w.word.begin(), w.word.end(), [&](auto word) { return word < x; }));
    if (iopt::detail::count_less(w.word.data(), x) != expected ||
        iopt::detail::count_less_portable(w.word.data(), x) != expected)
      FAIL("step " << step << ", x " << x);
    constexpr unsigned few = 64 / sizeof(word_type);  // of a node with few words
    const unsigned among_few = std::min(expected, few);
    if (iopt::detail::count_less<word_type, few>(w.word.data(), x) != among_few ||
        iopt::detail::count_less_portable<word_type, few>(w.word.data(), x) != among_few)
      FAIL("step " << step << ", x " << x << ", the first " << few);
  }
}

TEST_CASE("the twins of at_least agree with a plain loop", "[area_map_words]") {
  random_bits random(2);
  memory_between_guards<words> memory;
  for (int step = 0; step < 20000; ++step) {
    words& w = memory.at_end(random() % 2 != 0);
    for (std::uint64_t& word : w.word) word = draw(random);
    const auto count = static_cast<std::uint32_t>(random() % 33);
    const std::uint64_t x = random() % 2 ? draw(random) : w.word[random() % 32];
    std::uint32_t bits = 0;
    for (unsigned n = 0; n < count; ++n)
      if (w.word[n] >= x) bits |= std::uint32_t{1} << n;
    if (iopt::detail::at_least(w.word.data(), count, x) != bits ||
        iopt::detail::at_least_portable(w.word.data(), count, x) != bits)
      FAIL("step " << step);
  }
}

TEMPLATE_TEST_CASE("the twins of greatest agree with a plain loop", "[area_map_words]", words,
                   keys) {
  random_bits random(3);
  memory_between_guards<TestType> memory;
  for (int step = 0; step < 20000; ++step) {
    TestType& w = memory.at_end(random() % 2 != 0);
    using word_type = typename decltype(w.word)::value_type;
    for (word_type& word : w.word) word = draw<word_type>(random);
    const auto count = static_cast<unsigned>(random() % (w.word.size() + 1));
    word_type most = 0;
    for (unsigned n = 0; n < count; ++n) most = std::max(most, w.word[n]);
    if (iopt::detail::greatest(w.word.data(), count) != most ||
        iopt::detail::greatest_portable(w.word.data(), count) != most)
      FAIL("step " << step);
  }
}

TEMPLATE_TEST_CASE("the twins of insert_word and remove_word do what a list does",
                   "[area_map_words]", words, values, keys) {
  random_bits random(5);
  memory_between_guards<TestType> memory;
  for (int step = 0; step < 20000; ++step) {
    TestType& a = memory.at_end(random() % 2 != 0);
    using word_type = typename decltype(a.word)::value_type;
    constexpr unsigned size = TestType{}.word.size();
    const bool insert = random() % 2 == 0;
    const auto count = static_cast<unsigned>(insert ? random() % size : 1 + random() % size);
    const auto at = static_cast<unsigned>(random() % (count + (insert ? 1 : 0)));
    for (unsigned n = 0; n < size; ++n)
      a.word[n] = n < count ? draw<word_type>(random) : static_cast<word_type>(top);
    TestType b = a, usual = a;
    std::vector<word_type> list(a.word.begin(), a.word.end());
    if (insert) {
      iopt::detail::insert_word<size>(a.word.data(), at, count, 7);
      iopt::detail::insert_word_portable(b.word.data(), at, count, 7);
      if (!std::is_same_v<TestType, values>)
        iopt::detail::insert_word(usual.word.data(), at, count, 7);
      list.insert(list.begin() + static_cast<int>(at), 7), list.pop_back();
    } else {
      iopt::detail::remove_word<size>(a.word.data(), at, count);
      iopt::detail::remove_word_portable(b.word.data(), at, count);
      if (!std::is_same_v<TestType, values>)
        iopt::detail::remove_word(usual.word.data(), at, count);
      list.erase(list.begin() + static_cast<int>(at)), list.push_back(static_cast<word_type>(top));
    }
    if (a.word != b.word || !std::equal(list.begin(), list.end(), a.word.begin()) ||
        (!std::is_same_v<TestType, values> && usual.word != a.word))
      FAIL("step " << step << ", insert " << insert << ", " << at << " of " << count);
  }
}

TEST_CASE("the twins of greatest_gap and gaps_at_least agree with plain loops",
          "[area_map_words]") {
  random_bits random(8);
  memory_between_guards<keys> firsts, lasts;
  for (int step = 0; step < 49 * 500; ++step) {
    const auto count = static_cast<unsigned>(step % 49);
    keys &first = firsts.at_end(random() % 2 != 0), &last = lasts.at_end(random() % 2 != 0);
    std::array<std::uint32_t, 96> ends{};
    for (std::uint32_t& end : ends) end = draw<std::uint32_t>(random);
    std::sort(ends.begin(), ends.begin() + 2 * count);
    for (unsigned n = 0; n < 48; ++n)  // those behind count are any
      first.word[n] = ends[2 * n], last.word[n] = ends[2 * n + 1];
    for (unsigned n = 1; n < count; ++n)  // ranges are disjoint
      first.word[n] = std::max(first.word[n], last.word[n - 1] + (last.word[n - 1] != ~0u));
    std::uint32_t most = 0;
    const auto gap = [&](unsigned n) { return first.word[n] - last.word[n - 1] - 1; };
    for (unsigned n = 1; n < count; ++n) most = std::max(most, gap(n));
    std::uint32_t length = draw<std::uint32_t>(random);
    if (count > 1 && random() % 2) length = gap(1 + static_cast<unsigned>(random() % (count - 1)));
    length = std::max(length, 1u);
    std::uint64_t bits = 0;
    for (unsigned n = 1; n < count; ++n)
      if (gap(n) >= length) bits |= std::uint64_t{1} << n;
    const auto &f = first.word, &l = last.word;
    if (iopt::detail::greatest_gap(f.data(), l.data(), count) != most ||
        iopt::detail::greatest_gap_portable(f.data(), l.data(), count) != most ||
        iopt::detail::gaps_at_least(f.data(), l.data(), count, length) != bits ||
        iopt::detail::gaps_at_least_portable(f.data(), l.data(), count, length) != bits)
      FAIL("step " << step << ", length " << length);
  }
}

TEST_CASE("bits of the words in use", "[area_map_words]") {
  using iopt::detail::used_bits;
  static_assert(used_bits(0) == 0 && used_bits(31) == ~0u >> 1 && used_bits(32) == ~0u);
  static_assert(used_bits<std::uint64_t>(0) == 0 && used_bits<std::uint64_t>(63) == top >> 1);
  for (unsigned n = 0; n < 64; ++n)
    CHECK(used_bits<std::uint64_t>(n) == (std::uint64_t{1} << n) - 1);
}
