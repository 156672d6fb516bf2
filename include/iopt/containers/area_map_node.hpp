// iopt/containers/area_map_node.hpp - one node of area_map, and what is done inside one node.
//
// A node holds 32 entries in three arrays of 64-bit words, so that a search reads one array and
// nothing else. A leaf's entry is a range and a value; an inner node's entry is a child, with the
// last address that belongs to it and the longest hole below it.
//
//   last[n]    leaf: last address of the entry     inner: last address of the child's entries
//   first[n]   leaf: first address of the entry    inner: hole[n], longest hole below the child
//   value[n]   leaf: the value                     inner: child[n]
//
// Unused words of `last` are all-ones, and so is the word of an inner node's last child: counting
// the words that are less than an address is then the whole search, without a branch and without a
// look at the count. Unused words of the other arrays mean nothing.
//
// A hole belongs to the leaf that holds the entry behind it. `space_first` is where the hole before
// a leaf's first entry begins, which is the address behind the last entry of the leaf before: every
// hole, and every neighbour that an insertion could overlap, is known inside one leaf.
//
// Each function here is portable code; those worth it have twins for AVX-512 and AVX2 that the
// compiler's target selects, and the tests hold the twins to the portable answer.
//
// Layer: containers. Includes: base/address.hpp, base/assert.hpp, the standard library.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "iopt/base/address.hpp"
#include "iopt/base/assert.hpp"

#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#endif

namespace iopt::detail {

/// area_map_node: see above. What the words must satisfy is area_tree::verify()'s business.
struct alignas(64) area_map_node {
  static constexpr unsigned capacity = 32;

  area_map_node* parent;
  area_map_node* next;        // leaves: the leaf after this one; pool: the next free node
  area_map_node* previous;    // leaves: the leaf before this one
  std::uint64_t space_first;  // leaves: the first address that is not the leaves' before
  std::uint32_t count;
  alignas(64) std::uint64_t last[capacity];
  std::uint64_t first[capacity];
  std::uint64_t value[capacity];

  area_map_node* child(unsigned n) const noexcept {
    return reinterpret_cast<area_map_node*>(static_cast<std::uintptr_t>(value[n]));
  }
  static std::uint64_t word(area_map_node* child) noexcept {
    return reinterpret_cast<std::uintptr_t>(child);
  }
  std::uint64_t& hole(unsigned n) noexcept { return first[n]; }
  std::uint64_t hole(unsigned n) const noexcept { return first[n]; }

  /// Where the hole before entry n of a leaf begins; no hole is there if the entry begins there.
  std::uint64_t hole_first(unsigned n) const noexcept {
    return n == 0 ? space_first : last[n - 1] + 1;
  }
  bool full() const noexcept { return count == capacity; }
};
static_assert(sizeof(area_map_node) == 832);

/// One bit for each entry in use.
constexpr std::uint32_t used_bits(std::uint32_t count) noexcept {
  return count == 32 ? ~std::uint32_t{0} : (std::uint32_t{1} << count) - 1;
}

/// Asks for the memory of a whole node, so that its arrays are fetched side by side.
inline void prefetch(const area_map_node* n) noexcept {
#if defined(__GNUC__)
  const char* p = reinterpret_cast<const char*>(n);
  for (std::size_t line = 0; line < sizeof(area_map_node); line += 64) __builtin_prefetch(p + line);
#else
  (void)n;
#endif
}

/// Asks for the words that a search reads.
inline void prefetch_search(const area_map_node* n) noexcept {
#if defined(__GNUC__)
  for (unsigned word = 0; word < area_map_node::capacity; word += 8)
    __builtin_prefetch(n->last + word);
#else
  (void)n;
#endif
}

/// Asks for the line of one word.
inline void prefetch_word(const std::uint64_t* word) noexcept {
#if defined(__GNUC__)
  __builtin_prefetch(word);
#else
  (void)word;
#endif
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

/// The length of the longest hole that belongs to a leaf; 0 for none.
inline std::uint64_t longest_hole_portable(const area_map_node& leaf) noexcept {
  if (leaf.count == 0) return 0;
  std::uint64_t most = leaf.first[0] - leaf.space_first;
  for (unsigned n = 1; n < leaf.count; ++n)
    most = std::max(most, leaf.first[n] - leaf.last[n - 1] - 1);
  return most;
}

/// One bit for each hole of a leaf, named by the entry behind it, of at least `length` > 0 units.
inline std::uint32_t long_holes_portable(const area_map_node& leaf, std::uint64_t length) noexcept {
  if (leaf.count == 0) return 0;
  std::uint32_t bits = std::uint32_t{leaf.first[0] - leaf.space_first >= length};
  for (unsigned n = 1; n < leaf.count; ++n)
    bits |= std::uint32_t{leaf.first[n] - leaf.last[n - 1] - 1 >= length} << n;
  return bits;
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

/// The lengths of holes n to n + 7 of a leaf; zero where no entry is.
inline __m512i hole_lengths(const area_map_node& leaf, unsigned n) noexcept {
  const __mmask8 used = static_cast<__mmask8>(used_bits(leaf.count) >> n);
  __m512i before;  // the address before each hole
  if (n == 0) {
    before = _mm512_maskz_alignr_epi64(
        all_words, _mm512_load_si512(leaf.last),
        _mm512_set1_epi64(static_cast<long long>(leaf.space_first - 1)), 7);
  } else {
    before = _mm512_loadu_si512(leaf.last + n - 1);
  }
  const __m512i ones = _mm512_set1_epi64(-1);
  return _mm512_maskz_add_epi64(used, ones,
                                _mm512_sub_epi64(_mm512_load_si512(leaf.first + n), before));
}

inline std::uint64_t longest_hole(const area_map_node& leaf) noexcept {
  return greatest_of(greater(greater(hole_lengths(leaf, 0), hole_lengths(leaf, 8)),
                             greater(hole_lengths(leaf, 16), hole_lengths(leaf, 24))));
}

inline std::uint32_t long_holes(const area_map_node& leaf, std::uint64_t length) noexcept {
  const __m512i wanted = _mm512_set1_epi64(static_cast<long long>(length));
  const auto bits = [&](unsigned n) noexcept {
    return std::uint32_t{_mm512_cmpge_epu64_mask(hole_lengths(leaf, n), wanted)};
  };
  return join_bits(bits(0), bits(8), bits(16), bits(24)) & used_bits(leaf.count);
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
/// The lengths of holes n to n + 3 of a leaf; zero where no entry is.
inline __m256i hole_lengths(const area_map_node& leaf, unsigned n) noexcept {
  const __m256i used = _mm256_cmpgt_epi64(all_are(leaf.count), numbers_from(n));
  __m256i before;  // the address before each hole
  if (n == 0) {
    before = _mm256_permute4x64_epi64(load_four(leaf.last), 0x90);
    before = _mm256_blend_epi32(before, all_are(leaf.space_first - 1), 0x03);
  } else {
    before = load_four(leaf.last + n - 1);
  }
  const __m256i length = _mm256_sub_epi64(load_four(leaf.first + n), before);
  return _mm256_and_si256(used, _mm256_add_epi64(length, all_are(top)));
}
inline std::uint64_t longest_hole(const area_map_node& leaf) noexcept {
  return greatest_of([&](unsigned n) noexcept { return hole_lengths(leaf, n); });
}
inline std::uint32_t long_holes(const area_map_node& leaf, std::uint64_t length) noexcept {
  return at_least_of(length, [&](unsigned n) noexcept { return hole_lengths(leaf, n); });
}
inline std::uint64_t greatest(const std::uint64_t* words, std::uint32_t count) noexcept {
  return greatest_of([&](unsigned n) noexcept {
    const __m256i used = _mm256_cmpgt_epi64(all_are(count), numbers_from(n));
    return _mm256_and_si256(used, load_four(words + n));
  });
}

inline void insert_word(std::uint64_t* words, unsigned at, unsigned, std::uint64_t x) noexcept {
  const __m256i place = all_are(at), value = all_are(x);
  const auto put = [&](unsigned n, __m256i v, __m256i up) noexcept {
    const __m256i numbers = numbers_from(n);
    v = _mm256_blendv_epi8(v, up, _mm256_cmpgt_epi64(numbers, place));
    store_four(words + n, _mm256_blendv_epi8(v, value, _mm256_cmpeq_epi64(numbers, place)));
  };
  for (unsigned n = 28; n != 0; n -= 4) put(n, load_four(words + n), load_four(words + n - 1));
  const __m256i v = load_four(words);
  put(0, v, _mm256_permute4x64_epi64(v, 0x90));
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

#else

inline unsigned count_less(const std::uint64_t* words, std::uint64_t x) noexcept {
  return count_less_portable(words, x);
}
inline std::uint32_t at_least(const std::uint64_t* words, std::uint32_t count,
                              std::uint64_t x) noexcept {
  return at_least_portable(words, count, x);
}
inline std::uint64_t longest_hole(const area_map_node& leaf) noexcept {
  return longest_hole_portable(leaf);
}
inline std::uint32_t long_holes(const area_map_node& leaf, std::uint64_t length) noexcept {
  return long_holes_portable(leaf, length);
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

// ---- entries ---------------------------------------------------------------------------------

/// Puts an entry before entry `at` of a node that is not full.
inline void insert_entry(area_map_node& n, unsigned at, std::uint64_t first, std::uint64_t last,
                         std::uint64_t value) noexcept {
  IOPT_ASSERT(at <= n.count && !n.full());
  insert_word(n.last, at, n.count, last);
  insert_word(n.first, at, n.count, first);
  insert_word(n.value, at, n.count, value);
  ++n.count;
}

inline void remove_entry(area_map_node& n, unsigned at) noexcept {
  IOPT_ASSERT(at < n.count);
  remove_word(n.last, at, n.count);
  remove_word(n.first, at, n.count);
  remove_word(n.value, at, n.count);
  --n.count;
}

/// Moves entries between two neighbours until the left one has `left_count`.
inline void share_entries(area_map_node& left, area_map_node& right, unsigned left_count) noexcept {
  const unsigned total = left.count + right.count;
  const unsigned right_count = total - left_count;
  IOPT_ASSERT(left_count <= area_map_node::capacity && right_count <= area_map_node::capacity);
  const auto share = [&](std::uint64_t* l, std::uint64_t* r) noexcept {
    if (left_count >= left.count) {
      const unsigned moved = left_count - left.count;
      std::memcpy(l + left.count, r, moved * sizeof *l);
      std::memmove(r, r + moved, right_count * sizeof *l);
    } else {
      const unsigned moved = left.count - left_count;
      std::memmove(r + moved, r, right.count * sizeof *l);
      std::memcpy(r, l + left_count, moved * sizeof *l);
    }
  };
  share(left.last, right.last);
  share(left.first, right.first);
  share(left.value, right.value);
  left.count = left_count;
  right.count = right_count;
  std::fill(left.last + left_count, left.last + area_map_node::capacity, top);
  std::fill(right.last + right_count, right.last + area_map_node::capacity, top);
}

}  // namespace iopt::detail
