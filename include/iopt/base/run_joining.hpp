// iopt/base/run_joining.hpp - an array of pages told as runs, eight pages at a time.
//
// Pages come as an array of addresses or of frame numbers. Where memory is contiguous nearly all of
// them go on from the one before, and where it is scattered nothing foretells which do. So pages are
// looked at in blocks: a block that goes on as a whole makes the open run longer, and of any other
// each page is written where it belongs. No branch depends on one page.
//
// Both are portable code with twins for AVX-512 that the compiler's target selects, which take half
// the time; the tests hold the twins to the portable answer. (bench/run_joining_bench.cpp says what
// was measured.)
//
// Layer: base. Includes: base/address.hpp, base/mask_bits.hpp, the standard library.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "iopt/base/address.hpp"
#include "iopt/base/mask_bits.hpp"

#if defined(__AVX512F__) && defined(__AVX512DQ__)
#include <immintrin.h>
#endif

namespace iopt::detail {

/// How many pages a block has.
inline constexpr std::size_t joining_block = 8;

constexpr std::uint64_t word_of(physical at) noexcept { return at.value; }
constexpr std::uint64_t word_of(std::uint64_t frame) noexcept { return frame; }
constexpr std::uint64_t word_of(std::uint32_t frame) noexcept { return frame; }

/// joining: a list of runs that grows behind its last run, which is open, by pages of one size.
///
/// Model       A run is two words: where it begins; and its length in bytes, with its type in the four
///             bits on top. `last` is followed by free ones.
/// Errors      None: who uses it sees that there is room and that no length grows too long.
/// Threads     Thread-compatible.
/// Tested by   tests/base/run_joining_test.cpp
struct joining {
  static constexpr std::size_t run_bytes = 16;

  std::byte* last;
  std::uint64_t length;  // of the last run, with its type; in memory after close()
  std::uint64_t next;    // the word that would go on
  std::uint64_t step;    // from a page's word to the next page's
  std::uint64_t page_bytes;
  std::uint64_t one_page;  // the length of a run of one page, with its type

  void close() noexcept { std::memcpy(last + 8, &length, 8); }
};

// ---- portable --------------------------------------------------------------------------------

/// Whether a block goes on from `next`. Address 0 goes on from nothing.
template <class Word>
bool goes_on(const Word* block, std::uint64_t next, std::uint64_t step) noexcept {
  if (next - 1 >= next + (joining_block - 1) * step) return false;  // 0 is in it
  std::uint64_t differs = 0;
#pragma GCC unroll 8
  for (std::size_t n = 0; n < joining_block; ++n) differs |= word_of(block[n]) ^ (next + n * step);
  return differs == 0;
}

/// How many of `count` blocks go on from `next`.
template <class Word>
std::size_t blocks_going_on_portable(const Word* words, std::size_t count, std::uint64_t next,
                                     std::uint64_t step) noexcept {
  std::size_t n = 0;
  while (n < count && goes_on(words + n * joining_block, next, step))
    ++n, next += joining_block * step;
  return n;
}

/// Joins the pages of a block that does not go on as a whole. Requires: eight runs are free, and the
/// word before the block, which is in the array too, is the one that `next` follows.
template <class Word>
void join_block_portable(joining& j, const Word* block) noexcept {
  joining to = j;  // what is written is not j, which the compiler cannot see
  to.close();
#pragma GCC unroll 8
  for (std::size_t n = 0; n < joining_block; ++n) {
    const std::uint64_t word = word_of(block[n]);
    bool apart = word != to.next;
    std::uint64_t first = word * to.page_bytes;
    if constexpr (std::is_same_v<Word, physical>) apart |= word == 0, first = word;
    std::memcpy(to.last + joining::run_bytes, &first, 8);  // where it stays free if this goes on
    to.last += apart * joining::run_bytes;
    to.length = apart ? to.one_page : to.length + to.page_bytes;
    std::memcpy(to.last + 8, &to.length, 8);
    to.next = word + to.step;
  }
  j = to;
}

// ---- by the target ---------------------------------------------------------------------------

#if defined(__AVX512F__) && defined(__AVX512DQ__)

// The zero-masked forms are used with a full mask, for GCC 12 warns of the plain ones' own headers.
inline constexpr __mmask8 all_eight = 0xff;

inline __m512i eight_of(std::uint64_t x) noexcept {
  return _mm512_set1_epi64(static_cast<long long>(x));
}
template <class Word>
__m512i load_eight(const Word* words) noexcept {
  if constexpr (sizeof(Word) == 4) {
    __m256i narrow;
    std::memcpy(&narrow, words, sizeof narrow);
    return _mm512_maskz_cvtepu32_epi64(all_eight, narrow);
  } else {
    return _mm512_loadu_si512(words);
  }
}
/// 0, step, 2 step, ..., 7 step.
inline __m512i eight_steps(std::uint64_t step) noexcept {
  return _mm512_mullo_epi64(eight_of(step), _mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7));
}

template <class Word>
std::size_t blocks_going_on(const Word* words, std::size_t count, std::uint64_t next,
                            std::uint64_t step) noexcept {
  __m512i wanted = _mm512_add_epi64(eight_of(next), eight_steps(step));
  const __m512i further = eight_of(joining_block * step);
  std::size_t n = 0;
  while (n < count && next - 1 < next + (joining_block - 1) * step &&
         _mm512_cmpneq_epi64_mask(load_eight(words + n * joining_block), wanted) == 0) {
    wanted = _mm512_add_epi64(wanted, further);
    ++n, next += joining_block * step;
  }
  return n;
}

template <class Word>
void join_block(joining& j, const Word* block) noexcept {
  const __m512i words = load_eight(block);
  const __m512i steps = _mm512_sub_epi64(words, load_eight(block - 1));
  auto apart =
      static_cast<std::uint32_t>(bits_of(_mm512_cmpneq_epi64_mask(steps, eight_of(j.step))));
  __m512i firsts = words;
  if constexpr (std::is_same_v<Word, physical>) {
    apart |= static_cast<std::uint32_t>(bits_of(_mm512_testn_epi64_mask(words, words)));
  } else {
    firsts = _mm512_mullo_epi64(words, eight_of(j.page_bytes));
  }
  // The runs that begin here, from the front: where, at which byte of the block, and where the next
  // one does, which is where the block ends for the last.
  const auto begin_here = static_cast<__mmask8>(apart);
  firsts = _mm512_maskz_compress_epi64(begin_here, firsts);
  const __m512i end = eight_of(joining_block * j.page_bytes);
  const __m512i begins = _mm512_mask_compress_epi64(end, begin_here, eight_steps(j.page_bytes));
  const __m512i ends = _mm512_maskz_alignr_epi64(all_eight, end, begins, 1);
  const __m512i lengths =
      _mm512_add_epi64(_mm512_sub_epi64(ends, begins), eight_of(j.one_page - j.page_bytes));
  const auto write_four = [&](std::byte* to, __m512i which) noexcept {
    _mm512_storeu_si512(to, _mm512_maskz_permutex2var_epi64(all_eight, firsts, which, lengths));
  };
  j.length += static_cast<unsigned>(std::countr_zero(apart)) * j.page_bytes;
  j.close();
  write_four(j.last + joining::run_bytes, _mm512_setr_epi64(0, 8, 1, 9, 2, 10, 3, 11));
  write_four(j.last + 5 * joining::run_bytes, _mm512_setr_epi64(4, 12, 5, 13, 6, 14, 7, 15));
  j.last += static_cast<unsigned>(std::popcount(apart)) * joining::run_bytes;
  j.length = j.one_page + static_cast<unsigned>(std::countl_zero(apart) - 24) * j.page_bytes;
  j.next = word_of(block[joining_block - 1]) + j.step;
}

#else

template <class Word>
std::size_t blocks_going_on(const Word* words, std::size_t count, std::uint64_t next,
                            std::uint64_t step) noexcept {
  return blocks_going_on_portable(words, count, next, step);
}
template <class Word>
void join_block(joining& j, const Word* block) noexcept {
  join_block_portable(j, block);
}

#endif

}  // namespace iopt::detail
