// tests/containers/overlap_words_test.cpp - what overlap_map asks of arrays, against plain loops.
#include "iopt/containers/overlap_words.hpp"

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>

#include "tests/catch.hpp"
#include "tests/containers/word_arrays.hpp"
#include "tests/memory_between_guards.hpp"

namespace {

using iopt::top;
using namespace iopt::test;

/// Up to `most` + 1 ranges, ascending by begin; what is unused is all-ones there, and any behind.
template <class Array>
unsigned draw_ranges(random_bits& random, Array& begin, Array& end) {
  using word_type = typename decltype(begin.word)::value_type;
  const auto count = static_cast<unsigned>(random() % (begin.word.size() + 1));
  begin.word.fill(static_cast<word_type>(top));
  for (unsigned n = 0; n < count; ++n) begin.word[n] = draw<word_type>(random);
  std::sort(begin.word.begin(), begin.word.begin() + count);
  for (word_type& word : end.word) word = draw<word_type>(random);
  for (unsigned n = 0; n < count; ++n) end.word[n] = std::max(begin.word[n], end.word[n]);
  return count;
}

}  // namespace

TEMPLATE_TEST_CASE("the twins of overlapping agree with a plain loop", "[overlap_words]", words,
                   keys) {
  random_bits random(1);
  memory_between_guards<TestType> begins, ends;
  for (int step = 0; step < 20000; ++step) {
    TestType &begin = begins.at_end(random() % 2 != 0), &end = ends.at_end(random() % 2 != 0);
    using word_type = typename decltype(begin.word)::value_type;
    const unsigned count = draw_ranges(random, begin, end);
    word_type first = draw<word_type>(random), last = draw<word_type>(random);
    if (count != 0 && random() % 2) first = end.word[random() % count];
    if (count != 0 && random() % 2) last = begin.word[random() % count];
    if (first > last) std::swap(first, last);
    std::uint64_t bits = 0;
    for (unsigned n = 0; n < count; ++n)
      if (begin.word[n] <= last && first <= end.word[n]) bits |= std::uint64_t{1} << n;
    const auto *b = begin.word.data(), *e = end.word.data();
    if (iopt::detail::overlapping(b, e, count, first, last) != bits ||
        iopt::detail::overlapping_portable(b, e, count, first, last) != bits)
      FAIL("step " << step << ", " << first << " to " << last);
  }
}

TEST_CASE("the twins of overlapping_children agree with a plain loop", "[overlap_words]") {
  random_bits random(2);
  memory_between_guards<words> all_fences, all_reach;
  for (int step = 0; step < 20000; ++step) {
    words &fences = all_fences.at_end(random() % 2 != 0),
          &reach = all_reach.at_end(random() % 2 != 0);
    const unsigned count = std::max(1u, draw_ranges(random, fences, reach));
    fences.word[count - 1] = top;  // the last child has none
    std::uint64_t first = draw<std::uint64_t>(random), last = draw<std::uint64_t>(random);
    if (random() % 2) first = reach.word[random() % count];
    if (random() % 2) last = fences.word[random() % count];
    if (first > last) std::swap(first, last);
    std::uint32_t bits = 0;
    for (unsigned n = 0; n < count; ++n) {
      const std::uint64_t low = n == 0 ? 0 : fences.word[n - 1];
      if (low <= last && first <= reach.word[n]) bits |= std::uint32_t{1} << n;
    }
    const auto *f = fences.word.data(), *r = reach.word.data();
    if (iopt::detail::overlapping_children(f, r, count, first, last) != bits ||
        iopt::detail::overlapping_children_portable(f, r, count, first, last) != bits)
      FAIL("step " << step << ", " << first << " to " << last);
  }
}

TEMPLATE_TEST_CASE("the twins of pick_words agree, and stay in the array", "[overlap_words]", words,
                   values) {
  random_bits random(6);
  constexpr std::size_t size = TestType{}.word.size();
  // Exactly as long as it is allowed to be read and written.
  memory_between_guards<TestType> from, to;
  for (int step = 0; step < 20000; ++step) {
    TestType &w = from.at_end(random() % 2 != 0), &a = to.at_end(random() % 2 != 0), b;
    for (std::uint64_t& word : w.word) word = random();
    std::uint64_t bits = random();
    for (auto times = random() % 4; times != 0; --times) bits &= random();  // few
    if (step % 16 == 1) bits = ~std::uint64_t{0};
    if (step % 4 == 0) bits = (bits & 0xff) << random() % 64;  // side by side
    bits &= (std::uint64_t{1} << size) - 1;
    const auto bytes = [](TestType& out) {
      return std::as_writable_bytes(std::span(out.word)).data();
    };
    const unsigned n = iopt::detail::pick_words(w.word.data(), bits, bytes(a));
    const unsigned m = iopt::detail::pick_words_portable(w.word.data(), bits, bytes(b));
    if (n != m || n != static_cast<unsigned>(std::popcount(bits)) ||
        !std::equal(a.word.begin(), a.word.begin() + n, b.word.begin()))
      FAIL("step " << step);
  }
}
