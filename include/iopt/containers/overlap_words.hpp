// iopt/containers/overlap_words.hpp - what overlap_map asks of the words of an array in a node.
//
// As in area_map_words.hpp: portable code, with twins for AVX-512 and AVX2 that the tests hold to the
// portable answer.
//
// Layer: containers. Includes: base/address.hpp, containers/area_map_lanes.hpp,
// containers/area_map_words.hpp, the standard library.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "iopt/base/address.hpp"
#include "iopt/containers/area_map_lanes.hpp"
#include "iopt/containers/area_map_words.hpp"

namespace iopt::detail {

/// Whether a look at all words of an array costs no more than one at those in use.
#if defined(__AVX512F__) || defined(__AVX2__)
inline constexpr bool has_vectors = true;
#else
inline constexpr bool has_vectors = false;
#endif

// ---- portable --------------------------------------------------------------------------------

/// One bit for each of `count` ranges, begin[n] to end[n], that overlaps [first, last].
/// Requires: first <= last and begin[n] <= end[n].
template <class Word>
inline bits_for<usual<Word>> overlapping_portable(const Word* begin, const Word* end,
                                                  unsigned count, std::type_identity_t<Word> first,
                                                  std::type_identity_t<Word> last) noexcept {
  bits_for<usual<Word>> bits = 0;
  for (unsigned n = 0; n < count; ++n)
    bits |= bits_for<usual<Word>>{begin[n] <= last && first <= end[n]} << n;
  return bits;
}

/// One bit for each of `count` > 0 children that may have such ranges: what is below one begins at
/// the fence before it or behind, and `reach` is where it ends. (Vectors look at fences that are not
/// there: from count - 1 on they are all-ones.)
inline std::uint32_t overlapping_children_portable(const std::uint64_t* fences,
                                                   const std::uint64_t* reach, unsigned count,
                                                   std::uint64_t first,
                                                   std::uint64_t last) noexcept {
  std::uint32_t bits = first <= reach[0] ? 1 : 0;
  for (unsigned n = 1; n < count; ++n)
    bits |= std::uint32_t{fences[n - 1] <= last && first <= reach[n]} << n;
  return bits;
}

/// Copies those of an array's words that have their bit set, in order, to memory with room for the
/// whole array, all of which may be written to. Returns how many they are.
inline unsigned pick_words_portable(const std::uint64_t* words, std::uint64_t bits,
                                    std::byte* out) noexcept {
  unsigned picked = 0;
  for (; bits != 0; bits &= bits - 1)
    std::memcpy(out + 8 * picked++, words + std::countr_zero(bits), 8);
  return picked;
}

// ---- by the target ---------------------------------------------------------------------------

#if defined(__AVX512F__)

template <class Word>
inline bits_for<usual<Word>> overlapping(const Word* begin, const Word* end, unsigned count,
                                         std::type_identity_t<Word> first,
                                         std::type_identity_t<Word> last) noexcept {
  using vector = lanes<Word>;
  const __m512i low = vector::all_are(first), high = vector::all_are(last);
  const auto bits = join_bits<Word, usual<Word>>([&](unsigned n) noexcept {
    return vector::not_above(vector::greater(low, _mm512_load_si512(begin + n)),
                             vector::lesser(high, _mm512_load_si512(end + n)));
  });
  // Where all are asked about there are no other bits, which the compiler cannot see (mask_bits.hpp).
  if (__builtin_constant_p(count) && count == usual<Word>) return bits;
  return bits & used_bits<bits_for<usual<Word>>>(count);
}

template <unsigned N>
inline std::uint32_t overlapping_among(const std::uint64_t* fences, const std::uint64_t* reach,
                                       std::uint64_t first, std::uint64_t last) noexcept {
  using vector = lanes<std::uint64_t>;
  const __m512i low = vector::all_are(first), high = vector::all_are(last);
  const std::uint32_t reaching = join_bits<std::uint64_t, N>(
      [&](unsigned n) noexcept { return vector::not_above(low, _mm512_load_si512(reach + n)); });
  const std::uint32_t not_behind = join_bits<std::uint64_t, N>(
      [&](unsigned n) noexcept { return vector::not_above(_mm512_load_si512(fences + n), high); });
  return reaching & (not_behind << 1 | 1);
}

inline unsigned pick_eight(const std::uint64_t* words, std::uint64_t bits,
                           std::byte* out) noexcept {
  _mm512_storeu_si512(
      out, _mm512_maskz_compress_epi64(static_cast<__mmask8>(bits), _mm512_loadu_si512(words)));
  return static_cast<unsigned>(std::popcount(bits & 0xff));
}

#elif defined(__AVX2__)

template <class Word>
inline bits_for<usual<Word>> overlapping(const Word* begin, const Word* end, unsigned count,
                                         std::type_identity_t<Word> first,
                                         std::type_identity_t<Word> last) noexcept {
  const __m256i flip = lanes<Word>::all_are(sign<Word>);
  const __m256i low = lanes<Word>::all_are(first ^ sign<Word>);
  const __m256i high = lanes<Word>::all_are(last ^ sign<Word>);
  bits_for<usual<Word>> apart = 0;
  for (unsigned n = 0; n < usual<Word>; n += lanes<Word>::size) {
    const __m256i ends_before =
        lanes<Word>::above(low, _mm256_xor_si256(load_vector(end + n), flip));
    const __m256i begins_behind =
        lanes<Word>::above(_mm256_xor_si256(load_vector(begin + n), flip), high);
    apart |= bits_for<usual<Word>>{lanes<Word>::bits(_mm256_or_si256(ends_before, begins_behind))}
             << n;
  }
  return ~apart & used_bits<bits_for<usual<Word>>>(count);
}

template <unsigned N>
inline std::uint32_t overlapping_among(const std::uint64_t* fences, const std::uint64_t* reach,
                                       std::uint64_t first, std::uint64_t last) noexcept {
  const auto from = [](const std::uint64_t* words) noexcept {
    return [=](unsigned n) noexcept { return load_vector(words + n); };
  };
  const std::uint32_t behind =
      last == top ? 0 : at_least_of<std::uint64_t, N>(last + 1, from(fences));
  return at_least_of<std::uint64_t, N>(first, from(reach)) & (~behind << 1 | 1);
}

/// For each set of bits of four words, the halves of words to move to the front.
inline constexpr auto picks = [] {
  std::array<std::array<std::uint32_t, 8>, 16> all{};
  for (std::uint32_t bits = 0; bits < 16; ++bits)
    for (std::uint32_t n = 0, to = 0; n < 4; ++n)
      if ((bits >> n & 1) != 0) all[bits][to] = 2 * n, all[bits][to + 1] = 2 * n + 1, to += 2;
  return all;
}();

inline unsigned pick_eight(const std::uint64_t* words, std::uint64_t bits,
                           std::byte* out) noexcept {
  const auto pick_four = [](const std::uint64_t* from, std::uint64_t four, std::byte* to) noexcept {
    _mm256_storeu_si256(
        reinterpret_cast<__m256i*>(to),
        _mm256_permutevar8x32_epi32(load_vector(from), load_vector(picks[four & 15].data())));
    return static_cast<unsigned>(std::popcount(four & 15));
  };
  const unsigned picked = pick_four(words, bits, out);
  return picked + pick_four(words + 4, bits >> 4, out + std::size_t{8} * picked);
}

#else

template <class Word>
inline bits_for<usual<Word>> overlapping(const Word* begin, const Word* end, unsigned count,
                                         std::type_identity_t<Word> first,
                                         std::type_identity_t<Word> last) noexcept {
  return overlapping_portable(begin, end, count, first, last);
}
inline std::uint32_t overlapping_children(const std::uint64_t* fences, const std::uint64_t* reach,
                                          unsigned count, std::uint64_t first,
                                          std::uint64_t last) noexcept {
  return overlapping_children_portable(fences, reach, count, first, last);
}

#endif

#if defined(__AVX512F__) || defined(__AVX2__)

// The root of a tree often has few children, and is asked each time.
inline std::uint32_t overlapping_children(const std::uint64_t* fences, const std::uint64_t* reach,
                                          unsigned count, std::uint64_t first,
                                          std::uint64_t last) noexcept {
  const std::uint32_t children = count <= 8 ? overlapping_among<8>(fences, reach, first, last)
                                            : overlapping_among<32>(fences, reach, first, last);
  return last != top ? children : children & used_bits(count);
}

// Eight words at a time, from the first that is wanted: as many as a query usually finds without a
// branch on how many they are. Where there is nothing to pick, words are read that have been.
inline unsigned pick_words(const std::uint64_t* words, std::uint64_t bits,
                           std::byte* out) noexcept {
  const unsigned from = static_cast<unsigned>(std::countr_zero(bits)) & 56;  // of none, 0
  words += from, bits >>= from;
  unsigned picked = pick_eight(words, bits, out);
  const auto onward = [&]() noexcept {
    bits >>= 8;
    words += bits != 0 ? 8 : 0;
    picked += pick_eight(words, bits, out + std::size_t{8} * picked);
  };
  onward(), onward();
  while (bits >> 8 != 0) onward();
  return picked;
}

#else

inline unsigned pick_words(const std::uint64_t* words, std::uint64_t bits,
                           std::byte* out) noexcept {
  return pick_words_portable(words, bits, out);
}

#endif

}  // namespace iopt::detail
