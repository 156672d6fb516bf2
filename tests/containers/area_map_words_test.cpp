// tests/containers/area_map_words_test.cpp - the functions on arrays against plain loops.
#include "iopt/containers/area_map_words.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <random>
#include <span>

#include "tests/catch.hpp"

namespace {

using iopt::top;
using random_bits = std::mt19937_64;

/// A word that lies near 0, near 2^63, near 2^64 - 1 or anywhere.
std::uint64_t draw(random_bits& random) {
  const std::uint64_t small = random() % 64;
  switch (random() % 4) {
    case 0: return small;
    case 1: return top - small;
    case 2: return (std::uint64_t{1} << 63) + small - 32;
    default: return random();
  }
}

struct alignas(64) words {
  std::array<std::uint64_t, 32> word{};
};

}  // namespace

TEST_CASE("a search counts the words that are less", "[area_map_words]") {
  random_bits random(1);
  for (int step = 0; step < 20000; ++step) {
    words w;
    for (std::uint64_t& word : w.word) word = draw(random);
    std::fill(w.word.begin() + static_cast<int>(random() % 33), w.word.end(), top);
    std::sort(w.word.begin(), w.word.end());
    const std::uint64_t x = random() % 2 ? draw(random) : w.word[random() % 32] + random() % 2;
    const auto expected = static_cast<unsigned>(
        std::count_if(w.word.begin(), w.word.end(), [&](auto word) { return word < x; }));
    if (iopt::detail::count_less(w.word.data(), x) != expected ||
        iopt::detail::count_less_portable(w.word.data(), x) != expected)
      FAIL("step " << step << ", x " << x);
  }
}

TEST_CASE("the twins of at_least and greatest agree with plain loops", "[area_map_words]") {
  random_bits random(2);
  for (int step = 0; step < 20000; ++step) {
    words w;
    for (std::uint64_t& word : w.word) word = draw(random);
    const auto count = static_cast<std::uint32_t>(random() % 33);
    const std::uint64_t x = random() % 2 ? draw(random) : w.word[random() % 32];
    std::uint32_t bits = 0;
    std::uint64_t most = 0;
    for (unsigned n = 0; n < count; ++n) {
      if (w.word[n] >= x) bits |= std::uint32_t{1} << n;
      most = std::max(most, w.word[n]);
    }
    if (iopt::detail::at_least(w.word.data(), count, x) != bits ||
        iopt::detail::at_least_portable(w.word.data(), count, x) != bits ||
        iopt::detail::greatest(w.word.data(), count) != most ||
        iopt::detail::greatest_portable(w.word.data(), count) != most)
      FAIL("step " << step);
  }
}

TEST_CASE("the twins of insert_word and remove_word agree", "[area_map_words]") {
  random_bits random(5);
  for (int step = 0; step < 20000; ++step) {
    words a, b;
    for (std::uint64_t& word : a.word) word = random();
    const auto count = static_cast<unsigned>(1 + random() % 31);
    const auto at = static_cast<unsigned>(random() % count);
    std::fill(a.word.begin() + count, a.word.end(), top), b = a;
    if (random() % 2) {
      iopt::detail::insert_word(a.word.data(), at, count, 7);
      iopt::detail::insert_word_portable(b.word.data(), at, count, 7);
    } else {
      iopt::detail::remove_word(a.word.data(), at, count);
      iopt::detail::remove_word_portable(b.word.data(), at, count);
    }
    if (a.word != b.word) FAIL("step " << step);
  }
}

TEST_CASE("the twins of pick_words agree, and stay in 32 words", "[area_map_words]") {
  random_bits random(6);
  for (int step = 0; step < 20000; ++step) {
    words w, a, b;
    for (std::uint64_t& word : w.word) word = random();
    std::uint32_t bits = static_cast<std::uint32_t>(random());
    if (step % 4 == 0) bits &= static_cast<std::uint32_t>(random() & random());
    if (step % 64 == 0) bits = ~std::uint32_t{0};
    const auto bytes = [](words& to) { return std::as_writable_bytes(std::span(to.word)).data(); };
    const unsigned n = iopt::detail::pick_words(w.word.data(), bits, bytes(a));
    const unsigned m = iopt::detail::pick_words_portable(w.word.data(), bits, bytes(b));
    if (n != m || n != static_cast<unsigned>(std::popcount(bits)) ||
        !std::equal(a.word.begin(), a.word.begin() + n, b.word.begin()))
      FAIL("step " << step);
  }
}
