// tests/containers/area_map_lanes_test.cpp - what is done to vectors, word by word.
#include "iopt/containers/area_map_lanes.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "tests/catch.hpp"

using iopt::detail::bits_for;
using iopt::detail::usual;

static_assert(usual<std::uint64_t> == 32 && usual<std::uint32_t> == 48);
static_assert(std::is_same_v<bits_for<32>, std::uint32_t>);
static_assert(std::is_same_v<bits_for<48>, std::uint64_t>);

TEST_CASE("an array's number of words has bits", "[area_map_lanes]") {
  CHECK(8 * sizeof(bits_for<usual<std::uint64_t>>) >= usual<std::uint64_t>);
  CHECK(8 * sizeof(bits_for<usual<std::uint32_t>>) >= usual<std::uint32_t>);
}

#if defined(__AVX512F__) || defined(__AVX2__)

namespace {

using iopt::detail::lanes;

template <class Word>
struct alignas(64) words {
  static constexpr unsigned size = lanes<Word>::size;
  std::array<Word, size> word{};

  /// Words on both sides of the middle, of which each is different.
  static words some() {
    words w;
    for (unsigned n = 0; n < size; ++n)
      w.word[n] = (Word{n % 2} << (8 * sizeof(Word) - 1)) + n * n + 1;
    for (unsigned n = 0; n < size; n += 3) w.word[n] = static_cast<Word>(~w.word[n]);
    return w;
  }
};

#if defined(__AVX512F__)
using vector = __m512i;
#else
using vector = __m256i;
#endif

template <class Word>
vector vector_of(const words<Word>& w) {
  vector v;
  std::memcpy(&v, w.word.data(), sizeof v);
  return v;
}
template <class Word>
std::array<Word, words<Word>::size> words_of(vector v) {
  words<Word> w;
  std::memcpy(w.word.data(), &v, sizeof v);
  return w.word;
}

}  // namespace

TEMPLATE_TEST_CASE("words of a vector move and compare", "[area_map_lanes]", std::uint64_t,
                   std::uint32_t) {
  using lane = lanes<TestType>;
  constexpr unsigned size = lane::size;
  const words<TestType> w = words<TestType>::some();
  const vector v = vector_of(w), fives = lane::all_are(5);
  for (const TestType word : words_of<TestType>(fives)) CHECK(word == 5);

#if defined(__AVX512F__)
  const auto up = words_of<TestType>(lane::up(v, fives));
  const auto down = words_of<TestType>(lane::down(v, fives));
  const auto greater = words_of<TestType>(lane::greater(v, fives));
  const auto put = words_of<TestType>(lane::put(v, 2, fives));
  for (unsigned n = 0; n < size; ++n) {
    CHECK(up[n] == (n == 0 ? 5 : w.word[n - 1]));
    CHECK(down[n] == (n + 1 == size ? 5 : w.word[n + 1]));
    CHECK(greater[n] == std::max<TestType>(w.word[n], 5));
    CHECK(put[n] == (n == 1 ? 5 : w.word[n]));
    CHECK((lane::less(v, fives) >> n & 1) == (w.word[n] < 5));
  }
  const auto joined = iopt::detail::join_bits<TestType, 2 * size>(
      [](unsigned n) { return static_cast<typename lane::mask>(n == 0 ? 1 : 2); });
  CHECK(joined == (1 | 2 << size));
#else
  const auto numbers = words_of<TestType>(lane::numbers_from(7));
  const auto down = words_of<TestType>(lane::down(v));
  const auto add = words_of<TestType>(lane::add(v, fives));
  const std::uint32_t above = lane::bits(lane::above(lane::numbers_from(3), fives));
  const std::uint32_t same = lane::bits(lane::same(lane::numbers_from(3), fives));
  const std::uint32_t less = lane::bits(iopt::detail::less_than<TestType>(w.word[1])(v));
  for (unsigned n = 0; n < size; ++n) {
    CHECK(numbers[n] == n + 7);
    CHECK(down[n] == (n + 1 == size ? static_cast<TestType>(-1) : w.word[n + 1]));
    CHECK(add[n] == static_cast<TestType>(w.word[n] + 5));
    CHECK((above >> n & 1) == (n + 3 > 5));
    CHECK((same >> n & 1) == (n + 3 == 5));
    CHECK((less >> n & 1) == (w.word[n] < w.word[1]));
  }
  CHECK(lane::sum(_mm256_castsi256_si128(lane::all_are(3))) == 3 * size / 2);
  const auto sum = words_of<TestType>(iopt::detail::sum_of<TestType, 6 * size>(
      [](unsigned n) { return lane::all_are(TestType{1} << n / size); }));
  for (const TestType word : sum) CHECK(word == 63);
  if constexpr (size == 8) {
    const auto up = words_of<TestType>(lane::up(v));
    for (unsigned n = 0; n < size; ++n) CHECK(up[n] == w.word[n == 0 ? 0 : n - 1]);
  }
#endif
}

#endif
