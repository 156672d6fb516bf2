// iopt/containers/shared_ranges.hpp - disjoint ranges that threads search while one changes them.
//
// A tree of leaves of 32 and inner nodes of 64. A reader goes down it once, without a lock, a loop back or a store: it is
// wait-free. The writer never moves what a reader may compare: it makes a new leaf, which one store
// puts in the place of the old one, and retires the old (containers/deferred_memory.hpp). What needs
// no new leaf needs no memory, and cannot fail: to show, to hide, to take out, to aim elsewhere.
//
// An entry that is taken out leaves its range behind in its leaf, where a later entry of the very
// same range is put without a new leaf; others drop it when they make one. A leaf goes when nothing
// in it is used, and is joined with a neighbour when little is, if there is memory for that.
//
// How a reader and the writer agree, on processors that reorder too: every pointer is stored with
// release after the node behind it is complete, and loaded with acquire; so is the word of live bits,
// after the offset of the entry that it makes live. A reader that finds a bit set thus finds the
// range and the offset that belong to it: the place of an entry is used for another only after the
// readers that may have seen the bit are gone, which is what erase() requires.
//
// Layer: containers. Includes: base, containers/shared_ranges_node.hpp, the standard library.
#pragma once

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstdint>
#include <optional>
#include <string_view>
#include <utility>

#include "iopt/base/address.hpp"
#include "iopt/base/assert.hpp"
#include "iopt/containers/deferred_memory.hpp"
#include "iopt/containers/shared_ranges_node.hpp"

namespace iopt {

/// The default probe: counts nothing.
struct no_shared_probe {
  static void visit() noexcept {}  // a node was looked at
};

/// shared_ranges: disjoint closed ranges of 64-bit numbers, each with an offset, live or hidden.
///
/// Model       A set of entries (range, offset, live), ranges disjoint. find(x) is the live entry
///             whose range holds x.
/// Invariants  counts    no node is empty; inner nodes know how many of their children are there.
///             words     the words of a node ascend; what is past the last is all-ones.
///             entries   first <= last, and the entry before ends before it.
///             fences    every entry lies where the words above lead to.
///             live      what is live is used.
///             size      size() is the number of entries.
///             verify() checks them in this order.
/// Ownership   Owns its nodes. Refers to the deferred_memory.
/// Errors      prepare(), cut(): false without memory; nothing has changed then. The others cannot
///             fail.
/// Cost        n entries, h = O(log n) levels. find(): h nodes. prepare(), cut(): h nodes, one or two
///             new leaves, and new inner nodes where a node is split. The others: h nodes for each
///             leaf that the range touches.
/// Threads     find() in a section of the readers, on any thread; all else on one thread at a time.
/// Tested by   tests/containers/shared_ranges_test.cpp
template <memory_source Memory, class Probe = no_shared_probe>
class shared_ranges {
  using leaf = detail::shared_leaf;
  using inner = detail::shared_inner;
  static constexpr unsigned capacity = detail::shared_capacity;
  static constexpr unsigned nobody = detail::shared_inner_capacity;  // no child
  static constexpr unsigned levels =
      16;  // a split of a node takes 16 of the nodes below: 2^64 steps

 public:
  using blocks_type = deferred_memory<Memory>;
  static constexpr std::size_t usual_bytes = sizeof(leaf);

  struct entry {
    std::uint64_t first, last, offset;
  };
  /// Where in a leaf an entry was found. Good inside the section it was found in.
  struct place {
    const leaf* in = nullptr;
    unsigned n = 0;
  };

  explicit shared_ranges(blocks_type& blocks) noexcept : blocks_(blocks) {}
  shared_ranges(const shared_ranges&) = delete;
  shared_ranges& operator=(const shared_ranges&) = delete;
  ~shared_ranges() { clear(); }

  // --- Readers ---

  /// The live entry that holds x, in `out`. False: there is none.
  bool find(std::uint64_t x, entry& out, place& where) const noexcept {
    const std::uintptr_t root = root_.load(std::memory_order_acquire);
    void* node = node_of(root);
    if (node == nullptr) return false;
    for (unsigned level = height_of(root); level != 0; --level) {
      const inner* const n = static_cast<const inner*>(node);
      Probe::visit();
      node = n->child[n->child_of(x)].load(std::memory_order_acquire);
      if (node == nullptr) return false;
    }
    const leaf* const l = static_cast<const leaf*>(node);
    detail::prefetch(l);
    Probe::visit();
    return look({l, detail::count_less(l->last, x)}, x, out, where);
  }
  bool find(std::uint64_t x, entry& out) const noexcept {
    place unused;
    return find(x, out, unused);
  }
  /// The same, where it is the entry behind one found before in the same section. False: it may
  /// still be elsewhere.
  bool find_next(std::uint64_t x, entry& out, place& where) const noexcept {
    const unsigned n = where.n + 1;
    if (where.in == nullptr || n == capacity) return false;
    // One comparison, not two: for a number at random either would be a coin toss. Behind the last
    // entry it is true of the last number only, and no such entry is live.
    const std::uint64_t first = where.in->at[n].first;
    if (x - first > where.in->last[n] - first) return false;
    return look({where.in, n}, x, out, where);
  }

  // --- The writer ---

  /// Adds an entry, hidden. Requires: no entry overlaps it. Errors: false, no memory.
  bool prepare(std::uint64_t first, std::uint64_t last, std::uint64_t offset) noexcept {
    path p = descend(first);
    detail::shared_entries all;
    unsigned n = 0;
    if (leaf* const old = p.bottom; old != nullptr) {
      n = detail::count_less(old->last, first);
      if (n < old->count && !old->is_used(n) && old->last[n] == last && old->at[n].first == first) {
        old->at[n].offset.store(offset, std::memory_order_relaxed);
        old->used |= std::uint32_t{1} << n;
        ++size_;
        return true;
      }
      for (unsigned k = 0; k < n; ++k) all.add_used(*old, k);
    }
    const unsigned fresh = all.count;
    all.add({first, last, offset, false});
    if (p.bottom != nullptr)
      for (; n < p.bottom->count; ++n) all.add_used(*p.bottom, n);
    if (!replace_leaf(p, all, fresh, last)) return false;
    ++size_;
    return true;
  }

  /// Makes `last` the last of an entry: the entry that holds it and the next becomes two.
  /// Errors: false, no memory.
  bool cut(std::uint64_t last) noexcept {
    const path p = descend(last);
    if (p.bottom == nullptr) return true;
    const leaf& old = *p.bottom;
    const unsigned n = detail::count_less(old.last, last);
    if (n >= old.count || !old.is_used(n) || old.at[n].first > last || old.last[n] == last)
      return true;
    detail::shared_entries all;
    for (unsigned k = 0; k < n; ++k) all.add_used(old, k);
    const unsigned fresh = all.count;
    all.add({old.at[n].first, last, old.offset(n), old.is_live(n)});
    all.add({last + 1, old.last[n], old.offset(n), old.is_live(n)});
    for (unsigned k = n + 1; k < old.count; ++k) all.add_used(old, k);
    if (!replace_leaf(p, all, fresh, last)) return false;
    ++size_;
    return true;
  }

  /// Each of the following is for all entries of the range [first, last], which are whole, and calls
  /// f(entry) for each.

  /// Readers find them from now on.
  template <class F>
  void show(std::uint64_t first, std::uint64_t last, F f) noexcept {
    for_each_leaf(first, last, [&](path& p, std::uint32_t some) {
      set_live(*p.bottom, p.bottom->live.load(std::memory_order_relaxed) | some);
      for_each_of(*p.bottom, some, f);
    });
  }
  /// Readers find them no more, but for those that are in a section now.
  template <class F>
  void hide(std::uint64_t first, std::uint64_t last, F f) noexcept {
    for_each_leaf(first, last, [&](path& p, std::uint32_t some) {
      const std::uint64_t live = p.bottom->live.load(std::memory_order_relaxed);
      set_live(*p.bottom, live & ~std::uint64_t{some});
      for_each_of(*p.bottom, static_cast<std::uint32_t>(live) & some, f);
    });
  }
  /// Takes them out. Requires: they are hidden, and readers were waited for since they were live.
  template <class F>
  void erase(std::uint64_t first, std::uint64_t last, F f) noexcept {
    for_each_leaf(first, last, [&](path& p, std::uint32_t some) {
      IOPT_ASSERT((p.bottom->live.load(std::memory_order_relaxed) & some) == 0);
      p.bottom->used &= ~some;
      size_ -= static_cast<std::size_t>(std::popcount(some));
      for_each_of(*p.bottom, some, f);
      if (p.bottom->used == 0)
        unlink(p);
      else if (std::popcount(p.bottom->used) <= few)
        join(p);
    });
  }
  /// Gives them another offset, at once; f is called for those that are live.
  template <class F>
  void assign(std::uint64_t first, std::uint64_t last, std::uint64_t offset, F f) noexcept {
    for_each_leaf(first, last, [&](path& p, std::uint32_t some) {
      for (std::uint32_t rest = some; rest != 0; rest &= rest - 1)
        p.bottom->at[std::countr_zero(rest)].offset.store(offset, std::memory_order_release);
      for_each_of(*p.bottom,
                  some & static_cast<std::uint32_t>(p.bottom->live.load(std::memory_order_relaxed)),
                  f);
    });
  }

  /// Whether an entry, live or not, holds a number of the range.
  bool any_in(std::uint64_t first, std::uint64_t last) const noexcept {
    for (std::uint64_t x = first;;) {
      const path p = descend(x);
      if (p.bottom != nullptr && touched(*p.bottom, x, last, false) != 0) return true;
      if (p.bound >= last) return false;
      x = p.bound + 1;
    }
  }
  /// The entry, live or not, that holds x.
  std::optional<entry> at(std::uint64_t x) const noexcept {
    const path p = descend(x);
    if (p.bottom == nullptr) return std::nullopt;
    const unsigned n = detail::count_less(p.bottom->last, x);
    if (n >= p.bottom->count || !p.bottom->is_used(n) || p.bottom->at[n].first > x)
      return std::nullopt;
    return entry_of(*p.bottom, n);
  }
  std::size_t size() const noexcept { return size_; }

  /// Calls f(entry, live) for each entry in ascending order.
  template <class F>
  void for_each(F f) const {
    const std::uintptr_t root = root_.load(std::memory_order_relaxed);
    walk(node_of(root), height_of(root), [&](const leaf& l) {
      for (unsigned n = 0; n < l.count; ++n)
        if (l.is_used(n)) f(entry_of(l, n), l.is_live(n));
    });
  }

  /// Takes the entries of another, whose memory source is the same and which has no readers.
  /// Requires: this one is empty.
  void take_over(shared_ranges& other) noexcept {
    IOPT_ASSERT(root_.load(std::memory_order_relaxed) == 0);
    root_.store(other.root_.exchange(0, std::memory_order_relaxed), std::memory_order_release);
    size_ = std::exchange(other.size_, 0);
  }

  /// "" where the invariants hold, else the first that does not. Cost: O(n).
  std::string_view verify() const;

 private:
  static constexpr int few = 8;  // entries used at which a leaf looks for a neighbour to join
  static constexpr int few_of_two = 24;  // and what both may have together

  /// The way to a number: at each level the node, and the child taken. A null child is followed by
  /// null nodes.
  struct step {
    inner* node;
    unsigned at;
    std::uint64_t bound;  // the last number that belongs to the child
  };
  struct path {
    step steps[levels + 1];  // [1, height]
    unsigned height;
    leaf* bottom;
    std::uint64_t bound;  // the last number that belongs to the leaf
  };

  static void* node_of(std::uintptr_t root) noexcept {
    return reinterpret_cast<void*>(root & ~std::uintptr_t{63});
  }
  static unsigned height_of(std::uintptr_t root) noexcept {
    return static_cast<unsigned>(root & 63);
  }
  static std::uintptr_t root_of(void* node, unsigned height) noexcept {
    return reinterpret_cast<std::uintptr_t>(node) | height;
  }
  static entry entry_of(const leaf& l, unsigned n) noexcept {
    return {l.at[n].first, l.last[n], l.offset(n)};
  }
  static bool look(place here, std::uint64_t x, entry& out, place& where) noexcept {
    const leaf& l = *here.in;
    if ((l.live.load(std::memory_order_acquire) >> here.n & 1) == 0) return false;
    const leaf::entry& e = l.at[here.n];
    if (x < e.first) return false;
    out = {e.first, l.last[here.n], e.offset.load(std::memory_order_acquire)};
    where = here;
    return true;
  }
  static void set_live(leaf& l, std::uint64_t live) noexcept {
    l.live.store(live, std::memory_order_release);
  }

  path descend(std::uint64_t x) const noexcept {
    const std::uintptr_t root = root_.load(std::memory_order_relaxed);
    path p;
    p.height = height_of(root);
    p.bound = top;
    void* node = node_of(root);
    for (unsigned level = p.height; level != 0; --level) {
      inner* const n = static_cast<inner*>(node);
      step& s = p.steps[level];
      s.node = n;
      s.at = 0;
      if (n != nullptr) {
        Probe::visit();
        s.at = n->child_of(x);
        p.bound = std::min(p.bound, n->last[s.at]);
        node = n->child[s.at].load(std::memory_order_relaxed);
      }
      s.bound = p.bound;
    }
    if (node != nullptr) Probe::visit();
    p.bottom = static_cast<leaf*>(node);
    return p;
  }

  /// One bit for each used entry of a leaf that lies in [x, last]; or also for those that stick out.
  static std::uint32_t touched(const leaf& l, std::uint64_t x, std::uint64_t last,
                               bool whole) noexcept {
    std::uint32_t some = 0;
    for (unsigned n = detail::count_less(l.last, x); n < l.count && l.at[n].first <= last; ++n) {
      if (!l.is_used(n)) continue;
      IOPT_ASSERT(!whole || (l.at[n].first >= x && l.last[n] <= last));
      some |= std::uint32_t{1} << n;
    }
    static_cast<void>(whole);
    return some;
  }
  template <class F>
  static void for_each_of(const leaf& l, std::uint32_t some, F& f) noexcept {
    for (; some != 0; some &= some - 1)
      f(entry_of(l, static_cast<unsigned>(std::countr_zero(some))));
  }
  template <class F>
  void for_each_leaf(std::uint64_t first, std::uint64_t last, F f) noexcept {
    for (std::uint64_t x = first;;) {
      path p = descend(x);
      const std::uint64_t bound = p.bound;
      if (p.bottom != nullptr)
        if (const std::uint32_t some = touched(*p.bottom, x, last, true); some != 0) f(p, some);
      if (bound >= last) return;
      x = bound + 1;
    }
  }

  bool replace_leaf(const path& p, const detail::shared_entries& all, unsigned fresh,
                    std::uint64_t reach) noexcept;
  bool lift(const path& p, detail::shared_part (&parts)[2], unsigned count, std::uint64_t reach,
            unsigned joined) noexcept;
  void unlink(const path& p) noexcept;
  void join(const path& p) noexcept;

  template <class F>
  static void walk(void* node, unsigned height, F f) {
    if (node == nullptr) return;
    if (height == 0) return f(*static_cast<leaf*>(node));
    inner* const n = static_cast<inner*>(node);
    for (unsigned k = 0; k < n->count; ++k)
      walk(n->child[k].load(std::memory_order_relaxed), height - 1, f);
  }
  void free_below(void* node, unsigned height) noexcept {
    if (node == nullptr) return;
    if (height == 0) return blocks_.free(static_cast<leaf*>(node));
    inner* const n = static_cast<inner*>(node);
    for (unsigned k = 0; k < n->count; ++k)
      free_below(n->child[k].load(std::memory_order_relaxed), height - 1);
    blocks_.free(n);
  }
  void clear() noexcept {
    const std::uintptr_t root = root_.exchange(0, std::memory_order_relaxed);
    free_below(node_of(root), height_of(root));
    size_ = 0;
  }

  std::atomic<std::uintptr_t> root_{0};  // a node, and in the low six bits its height
  std::size_t size_ = 0;
  blocks_type& blocks_;
};

}  // namespace iopt

#include "iopt/containers/shared_ranges_check.hpp"  // IWYU pragma: export
#include "iopt/containers/shared_ranges_edit.hpp"   // IWYU pragma: export
