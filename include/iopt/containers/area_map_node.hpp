// iopt/containers/area_map_node.hpp - one node of area_map, and what is done inside a plain one.
//
// A node is plain or packed. A plain one holds 32 entries in three arrays of 64-bit words, so that a
// search reads one array and nothing else. A leaf's entry is a range and a value; an inner node's
// entry is a child, with the last address that belongs to it and the longest hole below it.
//
//   last[n]    leaf: last address of the entry     inner: last address of the child's entries
//   first[n]   leaf: first address of the entry    inner: hole[n], longest hole below the child
//   value[n]   leaf: the value                     inner: child[n]
//
// A packed leaf holds 48 in the same memory: of its addresses it keeps the lower 32 bits, and `base`,
// which is added to them. area_map_leaf.hpp says which form a leaf takes.
//
// Unused words of `last` are all-ones, and so is the word of an inner node's last child: counting
// the words that are less than an address is then the whole search, without a branch and without a
// look at the count (but the root's, which is often small). Unused words of the other arrays mean nothing.
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
#include <iterator>
#include <limits>
#include <type_traits>

#include "iopt/base/address.hpp"
#include "iopt/base/assert.hpp"
#include "iopt/containers/area_map_words.hpp"

namespace iopt::detail {

/// area_map_node: see above. What the words must satisfy is area_tree::verify()'s business.
struct alignas(64) area_map_node {
  static constexpr unsigned capacity = 32;         // of a plain node
  static constexpr unsigned packed_capacity = 48;  // of a packed leaf

  struct plain_words {
    std::uint64_t last[capacity];
    std::uint64_t first[capacity];
    std::uint64_t value[capacity];
  };
  struct packed_words {
    std::uint32_t last[packed_capacity];
    std::uint32_t first[packed_capacity];
    std::uint64_t value[packed_capacity];
  };

  area_map_node* parent;
  area_map_node* next;        // leaves: the leaf after this one; pool: the next free node
  area_map_node* previous;    // leaves: the leaf before this one
  std::uint64_t space_first;  // leaves: the first address that is not the leaves' before
  std::uint64_t base;         // packed leaves: the upper 32 bits of their addresses
  std::uint32_t count;
  bool is_packed;
  union {
    alignas(64) plain_words plain;
    alignas(64) packed_words packed;
  };

  area_map_node* child(unsigned n) const noexcept {
    return reinterpret_cast<area_map_node*>(static_cast<std::uintptr_t>(plain.value[n]));
  }
  static std::uint64_t word(area_map_node* child) noexcept {
    return reinterpret_cast<std::uintptr_t>(child);
  }
  std::uint64_t& hole(unsigned n) noexcept { return plain.first[n]; }
  std::uint64_t hole(unsigned n) const noexcept { return plain.first[n]; }

  /// Requires: plain.
  bool full() const noexcept { return count == capacity; }
};
static_assert(sizeof(area_map_node) == 832);
static_assert(sizeof(area_map_node::plain_words) == sizeof(area_map_node::packed_words));
static_assert(sizeof(area_map_node::plain_words::last) >=
              sizeof(area_map_node::packed_words::last));

/// Makes the words that are searched all-ones, in either form.
inline void clear_words(area_map_node& n) noexcept {
  std::memset(&n.plain.last, 0xff, sizeof n.plain.last);
}

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

/// Asks for the memory of a whole node. (Keys first, and the value when its number is known, was tried:
/// a hit among a million then waits twice, and took 1.3 times as long.)
inline void prefetch(const area_map_node* n) noexcept {
  prefetch_line(n);
  prefetch_words(n->plain.last), prefetch_words(n->plain.first), prefetch_words(n->plain.value);
}

// ---- entries ---------------------------------------------------------------------------------

/// Puts an entry before entry `at` of `count`, which are fewer than the words are.
template <class Words, class Key>
inline void insert_words(Words& words, unsigned at, std::uint32_t& count, Key first, Key last,
                         std::uint64_t value) noexcept {
  IOPT_ASSERT(at <= count && count < std::size(words.last));
  insert_word(words.last, at, count, last);
  insert_word(words.first, at, count, first);
  insert_word<std::extent_v<decltype(Words::value)>>(words.value, at, count, value);
  ++count;
}

template <class Words>
inline void remove_words(Words& words, unsigned at, std::uint32_t& count) noexcept {
  IOPT_ASSERT(at < count);
  remove_word(words.last, at, count);
  remove_word(words.first, at, count);
  remove_word<std::extent_v<decltype(Words::value)>>(words.value, at, count);
  --count;
}

/// Puts an entry before entry `at` of a plain node that is not full.
inline void insert_entry(area_map_node& n, unsigned at, std::uint64_t first, std::uint64_t last,
                         std::uint64_t value) noexcept {
  insert_words(n.plain, at, n.count, first, last, value);
}

inline void remove_entry(area_map_node& n, unsigned at) noexcept {
  remove_words(n.plain, at, n.count);
}

/// Moves entries between the words of two nodes until the left one has `keep`.
template <class Words>
void share_words(Words& left, unsigned left_count, Words& right, unsigned right_count,
                 unsigned keep) noexcept {
  const unsigned total = left_count + right_count;
  IOPT_ASSERT(keep <= std::size(left.last) && total - keep <= std::size(right.last));
  const auto share = [&](auto* l, auto* r) noexcept {
    if (keep >= left_count) {
      const unsigned moved = keep - left_count;
      std::memcpy(l + left_count, r, moved * sizeof *l);
      std::memmove(r, r + moved, (total - keep) * sizeof *l);
    } else {
      const unsigned moved = left_count - keep;
      std::memmove(r + moved, r, right_count * sizeof *l);
      std::memcpy(r, l + keep, moved * sizeof *l);
    }
  };
  share(left.last, right.last);
  share(left.first, right.first);
  share(left.value, right.value);
  constexpr auto unused = std::numeric_limits<std::remove_extent_t<decltype(Words::last)>>::max();
  std::fill(left.last + keep, std::end(left.last), unused);
  std::fill(right.last + (total - keep), std::end(right.last), unused);
}

/// Moves entries between two plain neighbours until the left one has `keep`.
inline void share_entries(area_map_node& left, area_map_node& right, unsigned keep) noexcept {
  const unsigned total = left.count + right.count;
  share_words(left.plain, left.count, right.plain, right.count, keep);
  left.count = keep, right.count = total - keep;
}

}  // namespace iopt::detail
