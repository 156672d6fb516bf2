// iopt/containers/area_map_words.hpp - what is done to the 32 words of an array in a node.
//
// Each function is portable code; those worth it have twins for AVX-512 and AVX2 that the
// compiler's target selects, and the tests hold the twins to the portable answer. The arrays begin
// on 64-byte boundaries.
//
// Layer: containers. Includes: base/address.hpp, the standard library.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "iopt/base/address.hpp"

#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#endif

namespace iopt::detail {

/// One bit for each of `count` <= 32 words.
constexpr std::uint32_t used_bits(std::uint32_t count) noexcept {
  return count == 32 ? ~std::uint32_t{0} : (std::uint32_t{1} << count) - 1;
}

// ---- portable --------------------------------------------------------------------------------

/// How many of 32 ascending words are less than x.
inline unsigned count_less_portable(const std::uint64_t* words, std::uint64_t x) noexcept {
  unsigned fours = 0;
  for (unsigned n = 3; n < 28; n += 4) fours += words[n] < x ? 1u : 0u;
  const std::uint64_t* four = words + std::size_t{4} * fours;
  unsigned rest = 0;
  for (unsigned n = 0; n < 4; ++n) rest += four[n] < x ? 1u : 0u;
  return 4 * fours + rest;
}

/// One bit for each of `count` words that is at least x.
inline std::uint32_t at_least_portable(const std::uint64_t* words, std::uint32_t count,
                                       std::uint64_t x) noexcept {
  std::uint32_t bits = 0;
  for (unsigned n = 0; n < count; ++n) bits |= std::uint32_t{words[n] >= x} << n;
  return bits;
}

/// The greatest of `count` words; 0 for none.
inline std::uint64_t greatest_portable(const std::uint64_t* words, std::uint32_t count) noexcept {
  std::uint64_t most = 0;
  for (unsigned n = 0; n < count; ++n) most = std::max(most, words[n]);
  return most;
}

/// Puts x before word `at` of `count` < 32 words.
inline void insert_word_portable(std::uint64_t* words, unsigned at, unsigned count,
                                 std::uint64_t x) noexcept {
  std::memmove(words + at + 1, words + at, (count - at) * sizeof x);
  words[at] = x;
}

/// Takes word `at` out of `count` words; word count - 1 becomes all-ones.
inline void remove_word_portable(std::uint64_t* words, unsigned at, unsigned count) noexcept {
  std::memmove(words + at, words + at + 1, (count - at - 1) * sizeof *words);
  words[count - 1] = top;
}

/// Copies those of 32 words that have their bit set, in order, to memory with room for 32 words,
/// which may all be written to. Returns how many they are.
inline unsigned pick_words_portable(const std::uint64_t* words, std::uint32_t bits,
                                    std::byte* out) noexcept {
  unsigned picked = 0;
  for (; bits != 0; bits &= bits - 1)
    std::memcpy(out + 8 * picked++, words + std::countr_zero(bits), 8);
  return picked;
}

// ---- by the target ---------------------------------------------------------------------------

#if defined(__AVX512F__)

// The zero-masked forms are used with a full mask, for GCC 12 warns of the plain ones' own headers.
inline constexpr __mmask8 all_words = 0xff;

inline __m512i greater(__m512i a, __m512i b) noexcept {
  return _mm512_maskz_max_epu64(all_words, a, b);
}
inline std::uint64_t greatest_of(__m512i v) noexcept {
  v = greater(v, _mm512_maskz_shuffle_i64x2(all_words, v, v, 0x4e));
  v = greater(v, _mm512_maskz_shuffle_i64x2(all_words, v, v, 0xb1));
  const __m128i two = _mm512_maskz_extracti32x4_epi32(0xf, v, 0);
  const auto low = static_cast<std::uint64_t>(_mm_cvtsi128_si64(two));
  const auto high = static_cast<std::uint64_t>(_mm_extract_epi64(two, 1));
  return low > high ? low : high;
}

inline std::uint32_t join_bits(std::uint32_t a, std::uint32_t b, std::uint32_t c,
                               std::uint32_t d) noexcept {
  return a | b << 8 | c << 16 | d << 24;
}

inline unsigned count_less(const std::uint64_t* words, std::uint64_t x) noexcept {
  const __m512i wanted = _mm512_set1_epi64(static_cast<long long>(x));
  const auto bits = [&](unsigned n) noexcept {
    return std::uint32_t{_mm512_cmplt_epu64_mask(_mm512_load_si512(words + n), wanted)};
  };
  return static_cast<unsigned>(std::popcount(join_bits(bits(0), bits(8), bits(16), bits(24))));
}

inline std::uint32_t at_least(const std::uint64_t* words, std::uint32_t count,
                              std::uint64_t x) noexcept {
  const __m512i wanted = _mm512_set1_epi64(static_cast<long long>(x));
  const auto bits = [&](unsigned n) noexcept {
    return std::uint32_t{_mm512_cmpge_epu64_mask(_mm512_load_si512(words + n), wanted)};
  };
  return join_bits(bits(0), bits(8), bits(16), bits(24)) & used_bits(count);
}

inline std::uint64_t greatest(const std::uint64_t* words, std::uint32_t count) noexcept {
  const std::uint32_t used = used_bits(count);
  const auto load = [&](unsigned n) noexcept {
    return _mm512_maskz_load_epi64(static_cast<__mmask8>(used >> n), words + n);
  };
  return greatest_of(greater(greater(load(0), load(8)), greater(load(16), load(24))));
}

inline void insert_word(std::uint64_t* words, unsigned at, unsigned, std::uint64_t x) noexcept {
  const std::uint32_t moved = (~std::uint32_t{0} << at) << 1;
  const std::uint32_t put = std::uint32_t{1} << at;
  const __m512i value = _mm512_set1_epi64(static_cast<long long>(x));
  const auto step = [&](unsigned n) noexcept {  // from the top, so that nothing is read too late
    __m512i v = _mm512_load_si512(words + n);
    v = _mm512_mask_loadu_epi64(v, static_cast<__mmask8>(moved >> n), words + n - 1);
    v = _mm512_mask_mov_epi64(v, static_cast<__mmask8>(put >> n), value);
    _mm512_store_si512(words + n, v);
  };
  step(24), step(16), step(8);
  __m512i v = _mm512_load_si512(words);
  const __m512i up = _mm512_maskz_alignr_epi64(all_words, v, v, 7);
  v = _mm512_mask_mov_epi64(v, static_cast<__mmask8>(moved), up);
  _mm512_store_si512(words, _mm512_mask_mov_epi64(v, static_cast<__mmask8>(put), value));
}

inline void remove_word(std::uint64_t* words, unsigned at, unsigned count) noexcept {
  const std::uint32_t moved = ~std::uint32_t{0} << at;
  const auto step = [&](unsigned n) noexcept {
    __m512i v = _mm512_load_si512(words + n);
    v = _mm512_mask_loadu_epi64(v, static_cast<__mmask8>(moved >> n), words + n + 1);
    _mm512_store_si512(words + n, v);
  };
  step(0), step(8), step(16);
  __m512i v = _mm512_load_si512(words + 24);
  const __m512i down = _mm512_maskz_alignr_epi64(all_words, _mm512_set1_epi64(-1), v, 1);
  v = _mm512_mask_mov_epi64(v, static_cast<__mmask8>(moved >> 24), down);
  _mm512_store_si512(words + 24, v);
  words[count - 1] = top;
}

inline unsigned pick_words(const std::uint64_t* words, std::uint32_t bits,
                           std::byte* out) noexcept {
  for (unsigned n = 0; n < 32; n += 8) {
    const auto eight = static_cast<__mmask8>(bits >> n);
    const auto picked = static_cast<unsigned>(std::popcount(bits & used_bits(n)));
    _mm512_storeu_si512(out + std::size_t{8} * picked,
                        _mm512_maskz_compress_epi64(eight, _mm512_load_si512(words + n)));
  }
  return static_cast<unsigned>(std::popcount(bits));
}

#elif defined(__AVX2__)

inline constexpr std::uint64_t sign = std::uint64_t{1} << 63;  // AVX2 compares signed

inline __m256i all_are(std::uint64_t x) noexcept {
  return _mm256_set1_epi64x(static_cast<long long>(x));
}
inline __m256i load_four(const std::uint64_t* words) noexcept {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(words));
}
inline void store_four(std::uint64_t* words, __m256i v) noexcept {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(words), v);
}
/// n, n + 1, n + 2, n + 3.
inline __m256i numbers_from(unsigned n) noexcept {
  return _mm256_add_epi64(all_are(n), _mm256_setr_epi64x(0, 1, 2, 3));
}
inline std::uint32_t bits_of(__m256i mask) noexcept {
  return static_cast<std::uint32_t>(_mm256_movemask_pd(_mm256_castsi256_pd(mask)));
}
/// The greater of words whose sign bits are flipped.
inline __m256i greater(__m256i a, __m256i b) noexcept {
  return _mm256_blendv_epi8(a, b, _mm256_cmpgt_epi64(b, a));
}
/// The greatest word over all n of four(n), n = 0, 4, ..., 28.
template <class Four>
std::uint64_t greatest_of(Four four) noexcept {
  const __m256i flip = all_are(sign);
  __m256i most = flip;  // zero
  for (unsigned n = 0; n < 32; n += 4) most = greater(most, _mm256_xor_si256(four(n), flip));
  most = greater(most, _mm256_permute4x64_epi64(most, 0x4e));
  most = greater(most, _mm256_permute4x64_epi64(most, 0xb1));
  return static_cast<std::uint64_t>(_mm256_extract_epi64(most, 0)) ^ sign;
}
/// One bit for each word over all n of four(n) that is at least x.
template <class Four>
std::uint32_t at_least_of(std::uint64_t x, Four four) noexcept {
  const __m256i flip = all_are(sign), wanted = all_are(x ^ sign);
  std::uint32_t less = 0;
  for (unsigned n = 0; n < 32; n += 4)
    less |= bits_of(_mm256_cmpgt_epi64(wanted, _mm256_xor_si256(four(n), flip))) << n;
  return ~less;
}

inline unsigned count_less(const std::uint64_t* words, std::uint64_t x) noexcept {
  const __m256i flip = all_are(sign), wanted = all_are(x ^ sign);
  const auto less = [&](unsigned n) noexcept {
    return _mm256_cmpgt_epi64(wanted, _mm256_xor_si256(load_four(words + n), flip));
  };
  const __m256i a = _mm256_add_epi64(less(0), less(4)), b = _mm256_add_epi64(less(8), less(12));
  const __m256i c = _mm256_add_epi64(less(16), less(20)), d = _mm256_add_epi64(less(24), less(28));
  const __m256i four = _mm256_add_epi64(_mm256_add_epi64(a, b), _mm256_add_epi64(c, d));
  const __m128i two =
      _mm_add_epi64(_mm256_castsi256_si128(four), _mm256_extracti128_si256(four, 1));
  return static_cast<unsigned>(-(_mm_cvtsi128_si64(two) + _mm_extract_epi64(two, 1)));
}

inline std::uint32_t at_least(const std::uint64_t* words, std::uint32_t count,
                              std::uint64_t x) noexcept {
  return at_least_of(x, [&](unsigned n) noexcept { return load_four(words + n); }) &
         used_bits(count);
}
inline std::uint64_t greatest(const std::uint64_t* words, std::uint32_t count) noexcept {
  return greatest_of([&](unsigned n) noexcept {
    const __m256i used = _mm256_cmpgt_epi64(all_are(count), numbers_from(n));
    return _mm256_and_si256(used, load_four(words + n));
  });
}

// Here blends are not faster than memmove, and slower at the end of the array.
inline void insert_word(std::uint64_t* words, unsigned at, unsigned count,
                        std::uint64_t x) noexcept {
  insert_word_portable(words, at, count, x);
}

inline void remove_word(std::uint64_t* words, unsigned at, unsigned count) noexcept {
  const __m256i place = all_are(at);
  const auto put = [&](unsigned n, __m256i v, __m256i down) noexcept {
    const __m256i stays = _mm256_cmpgt_epi64(place, numbers_from(n));
    store_four(words + n, _mm256_blendv_epi8(down, v, stays));
  };
  for (unsigned n = 0; n < 28; n += 4) put(n, load_four(words + n), load_four(words + n + 1));
  const __m256i v = load_four(words + 28);
  put(28, v, _mm256_permute4x64_epi64(v, 0xf9));
  words[31] = top;
  words[count - 1] = top;
}

/// For each set of bits of four words, the halves of words to move to the front.
inline constexpr auto picks = [] {
  std::array<std::array<std::uint32_t, 8>, 16> all{};
  for (std::uint32_t bits = 0; bits < 16; ++bits)
    for (std::uint32_t n = 0, to = 0; n < 4; ++n)
      if ((bits >> n & 1) != 0) all[bits][to] = 2 * n, all[bits][to + 1] = 2 * n + 1, to += 2;
  return all;
}();

inline unsigned pick_words(const std::uint64_t* words, std::uint32_t bits,
                           std::byte* out) noexcept {
  for (unsigned n = 0; n < 32; n += 4) {
    const auto order =
        _mm256_loadu_si256(reinterpret_cast<const __m256i*>(picks[bits >> n & 15].data()));
    const auto picked = static_cast<unsigned>(std::popcount(bits & used_bits(n)));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + std::size_t{8} * picked),
                        _mm256_permutevar8x32_epi32(load_four(words + n), order));
  }
  return static_cast<unsigned>(std::popcount(bits));
}

#else

inline unsigned pick_words(const std::uint64_t* words, std::uint32_t bits,
                           std::byte* out) noexcept {
  return pick_words_portable(words, bits, out);
}
inline unsigned count_less(const std::uint64_t* words, std::uint64_t x) noexcept {
  return count_less_portable(words, x);
}
inline std::uint32_t at_least(const std::uint64_t* words, std::uint32_t count,
                              std::uint64_t x) noexcept {
  return at_least_portable(words, count, x);
}
inline std::uint64_t greatest(const std::uint64_t* words, std::uint32_t count) noexcept {
  return greatest_portable(words, count);
}
inline void insert_word(std::uint64_t* words, unsigned at, unsigned count,
                        std::uint64_t x) noexcept {
  insert_word_portable(words, at, count, x);
}
inline void remove_word(std::uint64_t* words, unsigned at, unsigned count) noexcept {
  remove_word_portable(words, at, count);
}

#endif

}  // namespace iopt::detail
