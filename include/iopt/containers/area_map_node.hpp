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
// Layer: containers. Includes: base/address.hpp, base/assert.hpp, containers/area_map_words.hpp,
// the standard library.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "iopt/base/address.hpp"
#include "iopt/base/assert.hpp"
#include "iopt/containers/area_map_words.hpp"

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

/// Asks for the line of memory that p points into. The empty statement keeps GCC from taking a
/// function that does nothing else for one without effect, whose calls it leaves out.
inline void prefetch_line(const void* p) noexcept {
#if defined(__GNUC__)
  __builtin_prefetch(p);
  asm volatile("");
#else
  (void)p;
#endif
}

/// Asks for 32 words, so that their lines are fetched side by side.
inline void prefetch_words(const std::uint64_t* words) noexcept {
  for (unsigned word = 0; word < area_map_node::capacity; word += 8) prefetch_line(words + word);
}

/// Asks for the memory of a whole node.
inline void prefetch(const area_map_node* n) noexcept {
  prefetch_line(n);
  prefetch_words(n->last), prefetch_words(n->first), prefetch_words(n->value);
}

// ---- portable --------------------------------------------------------------------------------

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

// ---- by the target ---------------------------------------------------------------------------

#if defined(__AVX512F__)

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

#elif defined(__AVX2__)

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

#else

inline std::uint64_t longest_hole(const area_map_node& leaf) noexcept {
  return longest_hole_portable(leaf);
}

inline std::uint32_t long_holes(const area_map_node& leaf, std::uint64_t length) noexcept {
  return long_holes_portable(leaf, length);
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
