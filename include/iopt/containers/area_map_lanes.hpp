// iopt/containers/area_map_lanes.hpp - vectors of the words in a node, by the target.
//
// lanes<Word> is what AVX-512, or else AVX2, does to a vector of words of 32 or 64 bits, under names
// that do not depend on the word; functions on whole arrays are written with it once. Portable code
// has no lanes.
//
// Layer: containers. Includes: base/mask_bits.hpp, the standard library.
#pragma once

#include <bit>
#include <cstdint>
#include <type_traits>
#include <utility>

#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#endif

#include "iopt/base/mask_bits.hpp"

namespace iopt::detail {

/// How many words an array has, if nothing else is said.
template <class Word>
inline constexpr unsigned usual = sizeof(Word) == 8 ? 32 : 48;

/// A bit for each of N words.
template <unsigned N>
using bits_for = std::conditional_t<N <= 32, std::uint32_t, std::uint64_t>;

#if defined(__AVX512F__) || defined(__AVX2__)

/// What is done to the words of a vector; `size` is how many they are.
template <class Word>
struct lanes;

/// The greatest of four words.
inline std::uint32_t greatest_of_four(__m128i v) noexcept {
  v = _mm_max_epu32(v, _mm_shuffle_epi32(v, 0x4e));
  v = _mm_max_epu32(v, _mm_shuffle_epi32(v, 0xb1));
  return static_cast<std::uint32_t>(_mm_cvtsi128_si32(v));
}

#endif

#if defined(__AVX512F__)

// The zero-masked forms are used with a full mask, for GCC 12 warns of the plain ones' own headers.
inline constexpr __mmask8 all_words = 0xff;

template <>
struct lanes<std::uint64_t> {
  using mask = __mmask8;
  static constexpr unsigned size = 8;
  static __m512i all_are(std::uint64_t x) noexcept {
    return _mm512_set1_epi64(static_cast<long long>(x));
  }
  /// A bit for each word.
  static std::uint64_t less(__m512i a, __m512i b) noexcept {
    return bits_of(_mm512_cmplt_epu64_mask(a, b));
  }
  static std::uint64_t not_above(__m512i a, __m512i b) noexcept {
    return bits_of(_mm512_cmple_epu64_mask(a, b));
  }
  static __m512i lesser(__m512i a, __m512i b) noexcept {
    return _mm512_maskz_min_epu64(all_words, a, b);
  }
  static __m512i greater(__m512i a, __m512i b) noexcept {
    return _mm512_maskz_max_epu64(all_words, a, b);
  }
  static __m512i put(__m512i v, mask where, __m512i x) noexcept {
    return _mm512_mask_mov_epi64(v, where, x);
  }
  /// The words before those of v: its own, behind the last of u.
  static __m512i up(__m512i v, __m512i u) noexcept {
    return _mm512_maskz_alignr_epi64(all_words, v, u, 7);
  }
  /// The words behind those of v: its own, before the first of u.
  static __m512i down(__m512i v, __m512i u) noexcept {
    return _mm512_maskz_alignr_epi64(all_words, u, v, 1);
  }
};

template <>
struct lanes<std::uint32_t> {
  using mask = __mmask16;
  static constexpr unsigned size = 16;
  static constexpr mask all = 0xffff;
  static __m512i all_are(std::uint32_t x) noexcept {
    return _mm512_set1_epi32(static_cast<int>(x));
  }
  static std::uint64_t less(__m512i a, __m512i b) noexcept {
    return bits_of(_mm512_cmplt_epu32_mask(a, b));
  }
  static std::uint64_t not_above(__m512i a, __m512i b) noexcept {
    return bits_of(_mm512_cmple_epu32_mask(a, b));
  }
  static __m512i lesser(__m512i a, __m512i b) noexcept { return _mm512_maskz_min_epu32(all, a, b); }
  static __m512i greater(__m512i a, __m512i b) noexcept {
    return _mm512_maskz_max_epu32(all, a, b);
  }
  static __m512i put(__m512i v, mask where, __m512i x) noexcept {
    return _mm512_mask_mov_epi32(v, where, x);
  }
  static __m512i up(__m512i v, __m512i u) noexcept {
    return _mm512_maskz_alignr_epi32(all, v, u, 15);
  }
  static __m512i down(__m512i v, __m512i u) noexcept {
    return _mm512_maskz_alignr_epi32(all, u, v, 1);
  }
};

inline std::uint32_t join_bits(std::uint32_t a, std::uint32_t b, std::uint32_t c,
                               std::uint32_t d) noexcept {
  return a | b << 8 | c << 16 | d << 24;
}

/// The bits of vectors(n), n = 0, size, ..., of N words. (GCC counts the statement in bits_of() as much
/// code, and would not put this in line.)
template <class Word, unsigned N, class Vectors>
[[gnu::always_inline]] inline bits_for<N> join_bits(Vectors vectors) noexcept {
  constexpr unsigned size = lanes<Word>::size;
  static_assert(N % size == 0);
  return
      [&]<unsigned... V> [[gnu::always_inline]] (std::integer_sequence<unsigned, V...>) noexcept {
        return static_cast<bits_for<N>>(((std::uint64_t{vectors(size * V)} << (size * V)) | ...));
      }(std::make_integer_sequence<unsigned, N / size>{});
}

inline __m512i greater(__m512i a, __m512i b) noexcept {
  return lanes<std::uint64_t>::greater(a, b);
}
/// The greatest words of v are among these.
template <class Word>
inline __m128i greatest_among(__m512i v) noexcept {
  using vector = lanes<Word>;
  v = vector::greater(v, _mm512_maskz_shuffle_i64x2(all_words, v, v, 0x4e));
  v = vector::greater(v, _mm512_maskz_shuffle_i64x2(all_words, v, v, 0xb1));
  return _mm512_maskz_extracti32x4_epi32(0xf, v, 0);
}
inline std::uint64_t greatest_of(__m512i v) noexcept {
  const __m128i two = greatest_among<std::uint64_t>(v);
  const auto low = static_cast<std::uint64_t>(_mm_cvtsi128_si64(two));
  const auto high = static_cast<std::uint64_t>(_mm_extract_epi64(two, 1));
  return low > high ? low : high;
}

#elif defined(__AVX2__)

/// What is flipped before a comparison, for AVX2 compares signed.
template <class Word>
inline constexpr Word sign = Word{1} << (8 * sizeof(Word) - 1);

inline __m256i all_are(std::uint64_t x) noexcept {
  return _mm256_set1_epi64x(static_cast<long long>(x));
}
template <class Word>
inline __m256i load_vector(const Word* words) noexcept {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(words));
}
template <class Word>
inline void store_vector(Word* words, __m256i v) noexcept {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(words), v);
}
/// n, n + 1, n + 2, n + 3.
inline __m256i numbers_from(unsigned n) noexcept {
  return _mm256_add_epi64(all_are(n), _mm256_setr_epi64x(0, 1, 2, 3));
}

template <>
struct lanes<std::uint64_t> {
  static constexpr unsigned size = 4;
  static __m256i all_are(std::uint64_t x) noexcept { return detail::all_are(x); }
  static __m256i numbers_from(unsigned n) noexcept { return detail::numbers_from(n); }
  static __m256i above(__m256i a, __m256i b) noexcept { return _mm256_cmpgt_epi64(a, b); }
  static __m256i same(__m256i a, __m256i b) noexcept { return _mm256_cmpeq_epi64(a, b); }
  static __m256i add(__m256i a, __m256i b) noexcept { return _mm256_add_epi64(a, b); }
  static std::uint32_t bits(__m256i mask) noexcept {
    return static_cast<std::uint32_t>(_mm256_movemask_pd(_mm256_castsi256_pd(mask)));
  }
  /// The words behind those of v, then all-ones.
  static __m256i down(__m256i v) noexcept {
    return _mm256_blend_epi32(_mm256_permute4x64_epi64(v, 0xf9), _mm256_set1_epi32(-1), 0xc0);
  }
  static unsigned sum(__m128i v) noexcept {
    return static_cast<unsigned>(_mm_cvtsi128_si64(v) + _mm_extract_epi64(v, 1));
  }
};

template <>
struct lanes<std::uint32_t> {
  static constexpr unsigned size = 8;
  static __m256i all_are(std::uint32_t x) noexcept {
    return _mm256_set1_epi32(static_cast<int>(x));
  }
  static __m256i numbers_from(unsigned n) noexcept {
    return _mm256_add_epi32(all_are(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  }
  static __m256i above(__m256i a, __m256i b) noexcept { return _mm256_cmpgt_epi32(a, b); }
  static __m256i same(__m256i a, __m256i b) noexcept { return _mm256_cmpeq_epi32(a, b); }
  static __m256i add(__m256i a, __m256i b) noexcept { return _mm256_add_epi32(a, b); }
  static std::uint32_t bits(__m256i mask) noexcept {
    return static_cast<std::uint32_t>(_mm256_movemask_ps(_mm256_castsi256_ps(mask)));
  }
  static __m256i down(__m256i v) noexcept {
    v = _mm256_permutevar8x32_epi32(v, _mm256_setr_epi32(1, 2, 3, 4, 5, 6, 7, 7));
    return _mm256_blend_epi32(v, _mm256_set1_epi32(-1), 0x80);
  }
  /// The words before those of v; the first once more.
  static __m256i up(__m256i v) noexcept {
    return _mm256_permutevar8x32_epi32(v, _mm256_setr_epi32(0, 0, 1, 2, 3, 4, 5, 6));
  }
  static unsigned sum(__m128i v) noexcept {
    v = _mm_add_epi32(v, _mm_shuffle_epi32(v, 0x4e));
    return static_cast<unsigned>(_mm_cvtsi128_si32(_mm_add_epi32(v, _mm_shuffle_epi32(v, 0xb1))));
  }
};

/// All-ones in each word that is less than x.
template <class Word>
inline auto less_than(Word x) noexcept {
  const __m256i flip = lanes<Word>::all_are(sign<Word>);
  const __m256i wanted = lanes<Word>::all_are(x ^ sign<Word>);
  return [=](__m256i v) noexcept { return lanes<Word>::above(wanted, _mm256_xor_si256(v, flip)); };
}
/// The sum of vectors(n), n = 0, size, ..., of N words.
template <class Word, unsigned N, class Vectors>
inline __m256i sum_of(Vectors vectors, unsigned n = 0) noexcept {
  static_assert(N % lanes<Word>::size == 0);
  if constexpr (N == lanes<Word>::size) {
    return vectors(n);
  } else {
    constexpr unsigned half = std::bit_floor(N / lanes<Word>::size - 1) * lanes<Word>::size;
    return lanes<Word>::add(sum_of<Word, half>(vectors, n),
                            sum_of<Word, N - half>(vectors, n + half));
  }
}

/// The greater of words whose sign bits are flipped.
inline __m256i greater(__m256i a, __m256i b) noexcept {
  return _mm256_blendv_epi8(a, b, _mm256_cmpgt_epi64(b, a));
}
/// The greatest word over all n of four(n), n = 0, 4, ..., 28.
template <class Four>
inline std::uint64_t greatest_of(Four four) noexcept {
  const __m256i flip = all_are(sign<std::uint64_t>);
  __m256i most = flip;  // zero
  for (unsigned n = 0; n < 32; n += 4) most = greater(most, _mm256_xor_si256(four(n), flip));
  most = greater(most, _mm256_permute4x64_epi64(most, 0x4e));
  most = greater(most, _mm256_permute4x64_epi64(most, 0xb1));
  return static_cast<std::uint64_t>(_mm256_extract_epi64(most, 0)) ^ sign<std::uint64_t>;
}
/// One bit for each of N words, over all n of vectors(n), that is at least x; the bits above are 1.
template <class Word, unsigned N = usual<Word>, class Vectors>
inline bits_for<N> at_least_of(Word x, Vectors vectors) noexcept {
  const auto less_than_x = less_than(x);
  bits_for<N> less = 0;
  for (unsigned n = 0; n < N; n += lanes<Word>::size)
    less |= bits_for<N>{lanes<Word>::bits(less_than_x(vectors(n)))} << n;
  return ~less;
}

#endif

}  // namespace iopt::detail
