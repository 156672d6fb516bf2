// iopt/containers/area_map_words.hpp - what is done to the words of an array in a node.
//
// An array has 32 words of 64 bits; in a packed leaf it has 48, keys of 32 bits and values of 64.
// A function that is not told how many there are takes a word's usual number, 32 or 48.
//
// Each function is portable code; those worth it have twins for AVX-512 and AVX2 that the
// compiler's target selects, and the tests hold the twins to the portable answer. The arrays begin
// on 64-byte boundaries.
//
// Layer: containers. Includes: base/address.hpp, containers/area_map_lanes.hpp, the standard
// library.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#include "iopt/base/address.hpp"
#include "iopt/containers/area_map_lanes.hpp"

namespace iopt::detail {

/// One bit for each of `count` words, of which there are at most 48, and no more than Bits has bits.
template <class Bits = std::uint32_t>
constexpr Bits used_bits(std::uint32_t count) noexcept {
  return static_cast<Bits>((std::uint64_t{1} << count) - 1);
}

// ---- portable --------------------------------------------------------------------------------

/// How many of the first N ascending words are less than x. N: the usual number, or another that fills
/// vectors of 64 bytes. Those that are not in use are all-ones.
template <class Word, unsigned N = usual<Word>>
inline unsigned count_less_portable(const Word* words, std::type_identity_t<Word> x) noexcept {
  static_assert(N % (64 / sizeof(Word)) == 0);
  constexpr unsigned step = 32 / sizeof(Word);
  unsigned steps = 0;
  for (unsigned n = step - 1; n < N - step; n += step) steps += words[n] < x ? 1u : 0u;
  const Word* from = words + std::size_t{step} * steps;
  unsigned rest = 0;
  for (unsigned n = 0; n < step; ++n) rest += from[n] < x ? 1u : 0u;
  return step * steps + rest;
}

/// One bit for each of `count` words that is at least x.
inline std::uint32_t at_least_portable(const std::uint64_t* words, std::uint32_t count,
                                       std::uint64_t x) noexcept {
  std::uint32_t bits = 0;
  for (unsigned n = 0; n < count; ++n) bits |= std::uint32_t{words[n] >= x} << n;
  return bits;
}

/// The greatest of `count` words; 0 for none.
template <class Word>
inline Word greatest_portable(const Word* words, unsigned count) noexcept {
  Word most = 0;
  for (unsigned n = 0; n < count; ++n) most = std::max(most, words[n]);
  return most;
}

/// Puts x before word `at` of `count` words, which are less than the array has.
template <class Word>
inline void insert_word_portable(Word* words, unsigned at, unsigned count,
                                 std::type_identity_t<Word> x) noexcept {
  std::memmove(words + at + 1, words + at, (count - at) * sizeof x);
  words[at] = x;
}

/// Takes word `at` out of `count` words. If those behind, up to the array's end, are all-ones, word
/// count - 1 becomes so; else it means nothing, as they do.
template <class Word>
inline void remove_word_portable(Word* words, unsigned at, unsigned count) noexcept {
  std::memmove(words + at, words + at + 1, (count - at - 1) * sizeof *words);
  words[count - 1] = static_cast<Word>(top);
}

/// The greatest first[n] - last[n - 1] - 1, 0 < n < count; 0 for none.
template <class Word>
inline Word greatest_gap_portable(const Word* first, const Word* last, unsigned count) noexcept {
  Word most = 0;
  for (unsigned n = 1; n < count; ++n) most = std::max(most, first[n] - last[n - 1] - 1);
  return most;
}

/// One bit for each n, 0 < n < count, with first[n] - last[n - 1] - 1 >= length > 0.
template <class Word>
inline std::uint64_t gaps_at_least_portable(const Word* first, const Word* last, unsigned count,
                                            Word length) noexcept {
  std::uint64_t bits = 0;
  for (unsigned n = 1; n < count; ++n)
    bits |= std::uint64_t{first[n] - last[n - 1] - 1 >= length} << n;
  return bits;
}

// ---- by the target ---------------------------------------------------------------------------

/// Whether few words are searched faster than many. (The portable form of few is compiled to a branch, which
/// is missed: a hit took 1.8 times as long.)
#if defined(__AVX512F__) || defined(__AVX2__)
inline constexpr bool few_are_faster = true;
#else
inline constexpr bool few_are_faster = false;
#endif

#if defined(__AVX512F__)

// (Masks joined in mask registers, or counted one by one, were tried: a search took 1.1 and 1.4 times
// as long as with masks joined in a word.)

template <class Word, unsigned N = usual<Word>>
inline unsigned count_less(const Word* words, std::type_identity_t<Word> x) noexcept {
  const __m512i wanted = lanes<Word>::all_are(x);
  return static_cast<unsigned>(std::popcount(join_bits<Word, N>([&](unsigned n) noexcept {
    return lanes<Word>::less(_mm512_load_si512(words + n), wanted);
  })));
}

inline std::uint32_t at_least(const std::uint64_t* words, std::uint32_t count,
                              std::uint64_t x) noexcept {
  const __m512i wanted = _mm512_set1_epi64(static_cast<long long>(x));
  const auto bits = [&](unsigned n) noexcept {
    return static_cast<std::uint32_t>(
        lanes<std::uint64_t>::not_above(wanted, _mm512_load_si512(words + n)));
  };
  return join_bits(bits(0), bits(8), bits(16), bits(24)) & used_bits(count);
}

inline std::uint64_t greatest(const std::uint64_t* words, unsigned count) noexcept {
  const std::uint32_t used = used_bits(count);
  const auto load = [&](unsigned n) noexcept {
    return _mm512_maskz_load_epi64(static_cast<__mmask8>(used >> n), words + n);
  };
  return greatest_of(greater(greater(load(0), load(8)), greater(load(16), load(24))));
}
inline std::uint32_t greatest(const std::uint32_t* words, unsigned count) noexcept {
  using vector = lanes<std::uint32_t>;
  const auto used = used_bits<std::uint64_t>(count);
  const auto load = [&](unsigned n) noexcept {
    return _mm512_maskz_load_epi32(static_cast<__mmask16>(used >> n), words + n);
  };
  return greatest_of_four(
      greatest_among<std::uint32_t>(vector::greater(vector::greater(load(0), load(16)), load(32))));
}

template <unsigned N, class Word>
inline void insert_word(Word* words, unsigned at, unsigned, std::type_identity_t<Word> x) noexcept {
  using vector = lanes<Word>;
  const bits_for<N> moved = (~bits_for<N>{0} << at) << 1;
  const bits_for<N> put = bits_for<N>{1} << at;
  const __m512i value = vector::all_are(x);
  const auto step = [&](unsigned n, __m512i v, __m512i before) noexcept {
    v = vector::put(v, static_cast<typename vector::mask>(moved >> n), vector::up(v, before));
    v = vector::put(v, static_cast<typename vector::mask>(put >> n), value);
    _mm512_store_si512(words + n, v);
    return before;
  };
  constexpr unsigned final = N - vector::size;
  __m512i v = _mm512_load_si512(words + final);
  [&]<unsigned... V>(std::integer_sequence<unsigned, V...>) noexcept {
    ((v = step(final - vector::size * V, v,
               _mm512_load_si512(words + final - vector::size * (V + 1)))),
     ...);
  }(std::make_integer_sequence<unsigned, N / vector::size - 1>{});
  step(0, v, v);
}

// All-ones move in from above. A store of one word would do, but the next load of its vector would
// have to wait for it.
template <unsigned N, class Word>
inline void remove_word(Word* words, unsigned at, unsigned) noexcept {
  using vector = lanes<Word>;
  const bits_for<N> moved = ~bits_for<N>{0} << at;
  const auto step = [&](unsigned n, __m512i v, __m512i next) noexcept {
    v = vector::put(v, static_cast<typename vector::mask>(moved >> n), vector::down(v, next));
    _mm512_store_si512(words + n, v);
    return next;
  };
  __m512i v = _mm512_load_si512(words);
  [&]<unsigned... V>(std::integer_sequence<unsigned, V...>) noexcept {
    ((v = step(vector::size * V, v, _mm512_load_si512(words + vector::size * (V + 1)))), ...);
  }(std::make_integer_sequence<unsigned, N / vector::size - 1>{});
  step(N - vector::size, v, _mm512_set1_epi64(-1));
}

/// The gaps before words n to n + 15; zero for the first word, and where no word is.
inline __m512i gaps_before(const std::uint32_t* first, const std::uint32_t* last, unsigned count,
                           unsigned n) noexcept {
  const auto used =
      static_cast<__mmask16>((used_bits<std::uint64_t>(count) & ~std::uint64_t{1}) >> n);
  const __m512i before = lanes<std::uint32_t>::up(_mm512_load_si512(last + n),
                                                  _mm512_load_si512(last + (n == 0 ? 0 : n - 16)));
  return _mm512_maskz_add_epi32(used, _mm512_set1_epi32(-1),
                                _mm512_sub_epi32(_mm512_load_si512(first + n), before));
}

inline std::uint32_t greatest_gap(const std::uint32_t* first, const std::uint32_t* last,
                                  unsigned count) noexcept {
  using vector = lanes<std::uint32_t>;
  const auto gaps = [&](unsigned n) noexcept { return gaps_before(first, last, count, n); };
  return greatest_of_four(
      greatest_among<std::uint32_t>(vector::greater(vector::greater(gaps(0), gaps(16)), gaps(32))));
}

inline std::uint64_t gaps_at_least(const std::uint32_t* first, const std::uint32_t* last,
                                   unsigned count, std::uint32_t length) noexcept {
  const __m512i less = lanes<std::uint32_t>::all_are(length - 1);
  return join_bits<std::uint32_t, 48>([&](unsigned n) noexcept {
    return lanes<std::uint32_t>::less(less, gaps_before(first, last, count, n));
  });
}

#elif defined(__AVX2__)

template <class Word, unsigned N = usual<Word>>
inline unsigned count_less(const Word* words, std::type_identity_t<Word> x) noexcept {
  const auto less = less_than<Word>(x);
  const __m256i sums =
      sum_of<Word, N>([&](unsigned n) noexcept { return less(load_vector(words + n)); });
  const __m128i low = _mm256_castsi256_si128(sums), high = _mm256_extracti128_si256(sums, 1);
  return 0 - lanes<Word>::sum(_mm256_castsi256_si128(
                 lanes<Word>::add(_mm256_castsi128_si256(low), _mm256_castsi128_si256(high))));
}

inline std::uint32_t at_least(const std::uint64_t* words, std::uint32_t count,
                              std::uint64_t x) noexcept {
  return at_least_of(x, [&](unsigned n) noexcept { return load_vector(words + n); }) &
         used_bits(count);
}
inline std::uint64_t greatest(const std::uint64_t* words, unsigned count) noexcept {
  return greatest_of([&](unsigned n) noexcept {
    const __m256i used = _mm256_cmpgt_epi64(all_are(count), numbers_from(n));
    return _mm256_and_si256(used, load_vector(words + n));
  });
}
inline std::uint32_t greatest(const std::uint32_t* words, unsigned count) noexcept {
  using vector = lanes<std::uint32_t>;
  __m256i most = _mm256_setzero_si256();
  for (unsigned n = 0; n < 48; n += 8) {
    const __m256i used = vector::above(vector::all_are(count), vector::numbers_from(n));
    most = _mm256_max_epu32(most, _mm256_and_si256(used, load_vector(words + n)));
  }
  return greatest_of_four(
      _mm_max_epu32(_mm256_castsi256_si128(most), _mm256_extracti128_si256(most, 1)));
}

// For 64 bits blends are not faster than memmove, and slower at the end of the array.
template <unsigned N, class Word>
inline void insert_word(Word* words, unsigned at, unsigned count,
                        std::type_identity_t<Word> x) noexcept {
  if constexpr (sizeof(Word) == 8) {
    insert_word_portable(words, at, count, x);
  } else {
    using vector = lanes<Word>;
    const __m256i place = vector::all_are(at), value = vector::all_are(x);
    const auto put = [&](unsigned n, __m256i v, __m256i up) noexcept {
      const __m256i numbers = vector::numbers_from(n);
      v = _mm256_blendv_epi8(v, up, vector::above(numbers, place));
      store_vector(words + n, _mm256_blendv_epi8(v, value, vector::same(numbers, place)));
    };
    for (unsigned n = N - vector::size; n > 0; n -= vector::size)
      put(n, load_vector(words + n), load_vector(words + n - 1));
    const __m256i v = load_vector(words);
    put(0, v, vector::up(v));
  }
}

template <unsigned N, class Word>
inline void remove_word(Word* words, unsigned at, unsigned) noexcept {
  using vector = lanes<Word>;
  const __m256i place = vector::all_are(at);
  const auto put = [&](unsigned n, __m256i v, __m256i down) noexcept {
    const __m256i stays = vector::above(place, vector::numbers_from(n));
    store_vector(words + n, _mm256_blendv_epi8(down, v, stays));
  };
  constexpr unsigned final = N - vector::size;
  for (unsigned n = 0; n < final; n += vector::size)
    put(n, load_vector(words + n), load_vector(words + n + 1));
  const __m256i v = load_vector(words + final);
  put(final, v, vector::down(v));
}

/// The gaps before words n to n + 7; zero for the first word, and where no word is.
inline __m256i gaps_before(const std::uint32_t* first, const std::uint32_t* last, unsigned count,
                           unsigned n) noexcept {
  using vector = lanes<std::uint32_t>;
  __m256i used = vector::above(vector::all_are(count), vector::numbers_from(n));
  __m256i before;
  if (n == 0) {
    used = _mm256_blend_epi32(used, _mm256_setzero_si256(), 1);
    before = vector::up(load_vector(last));
  } else {
    before = load_vector(last + n - 1);
  }
  const __m256i gaps = _mm256_sub_epi32(load_vector(first + n), before);
  return _mm256_and_si256(used, vector::add(gaps, _mm256_set1_epi32(-1)));
}

inline std::uint32_t greatest_gap(const std::uint32_t* first, const std::uint32_t* last,
                                  unsigned count) noexcept {
  __m256i most = gaps_before(first, last, count, 0);
  for (unsigned n = 8; n < 48; n += 8)
    most = _mm256_max_epu32(most, gaps_before(first, last, count, n));
  return greatest_of_four(
      _mm_max_epu32(_mm256_castsi256_si128(most), _mm256_extracti128_si256(most, 1)));
}

inline std::uint64_t gaps_at_least(const std::uint32_t* first, const std::uint32_t* last,
                                   unsigned count, std::uint32_t length) noexcept {
  const auto gaps = [&](unsigned n) noexcept { return gaps_before(first, last, count, n); };
  return at_least_of(length, gaps) & used_bits<std::uint64_t>(48);
}

#else

template <class Word, unsigned N = usual<Word>>
inline unsigned count_less(const Word* words, std::type_identity_t<Word> x) noexcept {
  return count_less_portable<Word, N>(words, x);
}
inline std::uint32_t at_least(const std::uint64_t* words, std::uint32_t count,
                              std::uint64_t x) noexcept {
  return at_least_portable(words, count, x);
}
template <class Word>
inline Word greatest(const Word* words, unsigned count) noexcept {
  return greatest_portable(words, count);
}
template <unsigned N, class Word>
inline void insert_word(Word* words, unsigned at, unsigned count,
                        std::type_identity_t<Word> x) noexcept {
  insert_word_portable(words, at, count, x);
}
template <unsigned N, class Word>
inline void remove_word(Word* words, unsigned at, unsigned count) noexcept {
  remove_word_portable(words, at, count);
}
inline std::uint32_t greatest_gap(const std::uint32_t* first, const std::uint32_t* last,
                                  unsigned count) noexcept {
  return greatest_gap_portable(first, last, count);
}
inline std::uint64_t gaps_at_least(const std::uint32_t* first, const std::uint32_t* last,
                                   unsigned count, std::uint32_t length) noexcept {
  return gaps_at_least_portable(first, last, count, length);
}

#endif

template <class Word>
inline void insert_word(Word* words, unsigned at, unsigned count,
                        std::type_identity_t<Word> x) noexcept {
  insert_word<usual<Word>>(words, at, count, x);
}
template <class Word>
inline void remove_word(Word* words, unsigned at, unsigned count) noexcept {
  remove_word<usual<Word>>(words, at, count);
}

// Gaps between words of 64 bits are looked for where entries are far apart, which is not often.
inline std::uint64_t greatest_gap(const std::uint64_t* first, const std::uint64_t* last,
                                  unsigned count) noexcept {
  return greatest_gap_portable(first, last, count);
}
inline std::uint64_t gaps_at_least(const std::uint64_t* first, const std::uint64_t* last,
                                   unsigned count, std::uint64_t length) noexcept {
  return gaps_at_least_portable(first, last, count, length);
}

}  // namespace iopt::detail
