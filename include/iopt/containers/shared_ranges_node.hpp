// iopt/containers/shared_ranges_node.hpp - the nodes of shared_ranges.
//
// What a search compares never changes in a node that readers can see: it is plain memory, and read
// with the widest loads there are. What does change is one atomic word each: the children of an inner
// node, and in a leaf the offset of an entry and the bits that say which entries are live.
//
//   leaf    last[n], at[n].first    the range of entry n, ascending; unused words of `last` all-ones
//           at[n].offset            what is added to an address in it
//           live                    bit n: readers find entry n
//           used                    bit n: entry n is one, live or not; the writer's
//   inner   last[n]                 the last address that belongs to child n; all-ones for the last
//                                   child, and in unused words
//           child[n]                a node one level lower, or null: nothing is there
//
// Tested by tests/containers/shared_ranges_test.cpp.
//
// Layer: containers. Includes: base, containers/area_map_words.hpp, containers/deferred_memory.hpp.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "iopt/base/address.hpp"
#include "iopt/base/assert.hpp"
#include "iopt/containers/area_map_words.hpp"
#include "iopt/containers/deferred_memory.hpp"

namespace iopt::detail {

inline constexpr unsigned shared_capacity = 32;        // entries of a leaf
inline constexpr unsigned shared_inner_capacity = 64;  // children of an inner node: a level fewer

struct shared_leaf {
  struct entry {
    std::uint64_t first;
    std::atomic<std::uint64_t> offset;
  };
  deferred_block block;
  std::uint32_t count;  // entries with a range, used or not
  std::uint32_t used;
  std::atomic<std::uint64_t> live;  // bits 32 and up are 0: what a search past the last entry finds
  alignas(64) std::uint64_t last[shared_capacity];
  entry at[shared_capacity];

  bool is_used(unsigned n) const noexcept { return (used >> n & 1) != 0; }
  bool is_live(unsigned n) const noexcept {
    return (live.load(std::memory_order_relaxed) >> n & 1) != 0;
  }
  std::uint64_t offset(unsigned n) const noexcept {
    return at[n].offset.load(std::memory_order_relaxed);
  }
};
static_assert(sizeof(shared_leaf) == 832);

struct shared_inner {
  deferred_block block;
  std::uint32_t count;     // children, null or not
  std::uint32_t children;  // that are not null
  alignas(64) std::uint64_t last[shared_inner_capacity];
  std::atomic<void*> child[shared_inner_capacity];

  /// The child that x belongs to.
  unsigned child_of(std::uint64_t x) const noexcept {
    const unsigned half = last[31] < x ? 32 : 0;
    return half + count_less(last + half, x);
  }
};
static_assert(sizeof(shared_inner) == 1088 && shared_inner_capacity == 2 * 32);

/// Asks for the line of a leaf that a search reads last. (For more of them it gained nothing.)
inline void prefetch(const shared_leaf* n) noexcept {
#if defined(__GNUC__)
  __builtin_prefetch(&n->live);
#else
  (void)n;
#endif
}

/// The entries of a leaf that is to be, one more than fit at most.
struct shared_entries {
  struct entry {
    std::uint64_t first, last, offset;
    bool live;
  };
  entry list[shared_capacity + 1];
  unsigned count = 0;

  void add(const entry& e) noexcept {
    IOPT_ASSERT(count <= shared_capacity && e.first <= e.last);
    IOPT_ASSERT(count == 0 || list[count - 1].last < e.first);
    list[count++] = e;
  }
  /// Entry n of a leaf, if it is used.
  void add_used(const shared_leaf& leaf, unsigned n) noexcept {
    if (leaf.is_used(n)) add({leaf.at[n].first, leaf.last[n], leaf.offset(n), leaf.is_live(n)});
  }
  void add_used(const shared_leaf& leaf) noexcept {
    for (unsigned n = 0; n < leaf.count; ++n) add_used(leaf, n);
  }
  /// Where the list is divided among two leaves: behind all but the last, if that is the new one, so
  /// that what is inserted in ascending order fills its leaves.
  unsigned half(unsigned fresh) const noexcept {
    return count <= shared_capacity ? count : fresh + 1 == count ? count - 1 : (count + 1) / 2;
  }
  /// Makes a leaf of entries [from, to).
  void fill(shared_leaf& leaf, unsigned from, unsigned to) const noexcept {
    std::uint64_t live = 0;
    leaf.count = to - from;
    leaf.used = used_bits(leaf.count);
    for (unsigned n = 0; n < leaf.count; ++n) {
      const entry& e = list[from + n];
      leaf.last[n] = e.last;
      leaf.at[n].first = e.first;
      leaf.at[n].offset.store(e.offset, std::memory_order_relaxed);
      live |= std::uint64_t{e.live} << n;
    }
    std::fill(leaf.last + leaf.count, leaf.last + shared_capacity, top);
    if (leaf.count < shared_capacity) leaf.at[leaf.count].first = top;
    leaf.live.store(live, std::memory_order_relaxed);
  }
};

/// A subtree, and the last address that belongs to it.
struct shared_part {
  void* node;
  std::uint64_t last;
};

/// The children of an inner node that is to be, one more than fit at most.
struct shared_children {
  shared_part list[shared_inner_capacity + 1];
  unsigned count = 0;

  void add(shared_part p) noexcept {
    if (p.node == nullptr) return;  // what belonged to it now belongs to the next
    IOPT_ASSERT(count <= shared_inner_capacity && (count == 0 || list[count - 1].last < p.last));
    list[count++] = p;
  }
  unsigned half(bool at_end) const noexcept {
    return count <= shared_inner_capacity ? count : at_end ? count - 1 : (count + 1) / 2;
  }
  void fill(shared_inner& inner, unsigned from, unsigned to) const noexcept {
    inner.count = inner.children = to - from;
    for (unsigned n = 0; n < inner.count; ++n) {
      inner.last[n] = list[from + n].last;
      inner.child[n].store(list[from + n].node, std::memory_order_relaxed);
    }
    std::fill(inner.last + inner.count - 1, inner.last + shared_inner_capacity, top);
    for (unsigned n = inner.count; n < shared_inner_capacity; ++n)
      inner.child[n].store(nullptr, std::memory_order_relaxed);
  }
};

}  // namespace iopt::detail
