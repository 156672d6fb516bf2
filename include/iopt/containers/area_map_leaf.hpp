// iopt/containers/area_map_leaf.hpp - a leaf of area_map: its two forms, and what is done inside it.
//
// Where its entries lie in one aligned window of 2^32 addresses, a leaf is packed: 48 entries, found
// by comparing 32 bits. A leaf of entries that lie further apart is plain. So almost every leaf of a
// large map is packed, for it shares the space with all the others.
//
// A leaf changes its form when an entry is put in that its form has no place for, and when entries
// are shared with a leaf of another form. It never needs memory for that: entries that a plain leaf
// has no room for make the leaf split, which an insertion is ready for.
//
// Layer: containers. Includes: base/address.hpp, base/assert.hpp, containers/area_map_node.hpp,
// containers/area_map_words.hpp, the standard library.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <utility>

#include "iopt/base/address.hpp"
#include "iopt/base/assert.hpp"
#include "iopt/containers/area_map_node.hpp"
#include "iopt/containers/area_map_words.hpp"

namespace iopt::detail {

// ---- what the words mean ---------------------------------------------------------------------

/// The key of an address that lies in a packed leaf's window; of one before it, 0.
inline std::uint32_t key_of(const area_map_node& leaf, std::uint64_t a) noexcept {
  return a < leaf.base ? 0 : static_cast<std::uint32_t>(a - leaf.base);
}
inline std::uint64_t first_of(const area_map_node& leaf, unsigned n) noexcept {
  return leaf.is_packed ? leaf.base + leaf.packed.first[n] : leaf.plain.first[n];
}
inline std::uint64_t last_of(const area_map_node& leaf, unsigned n) noexcept {
  return leaf.is_packed ? leaf.base + leaf.packed.last[n] : leaf.plain.last[n];
}
inline std::uint64_t& value_of(area_map_node& leaf, unsigned n) noexcept {
  return leaf.is_packed ? leaf.packed.value[n] : leaf.plain.value[n];
}
inline std::uint64_t value_of(const area_map_node& leaf, unsigned n) noexcept {
  return leaf.is_packed ? leaf.packed.value[n] : leaf.plain.value[n];
}

/// What f(range_at, values) returns, range_at(n) being the first and the last address of entry n: a
/// loop over entries looks at the form once.
template <class F>
auto with_form(const area_map_node& leaf, F f) {
  using pair = std::pair<std::uint64_t, std::uint64_t>;
  if (!leaf.is_packed) {
    const area_map_node::plain_words& words = leaf.plain;
    return f([&](unsigned n) noexcept { return pair(words.first[n], words.last[n]); }, words.value);
  }
  const area_map_node::packed_words& words = leaf.packed;
  const auto range_at = [&, base = leaf.base](unsigned n) noexcept {
    return pair(base + words.first[n], base + words.last[n]);
  };
  return f(range_at, words.value);
}

/// Where the hole before entry n begins; no hole is there if the entry begins there.
inline std::uint64_t hole_first(const area_map_node& leaf, unsigned n) noexcept {
  return n == 0 ? leaf.space_first : last_of(leaf, n - 1) + 1;
}

/// The first entry whose last address is at least `a`. Requires: if packed, `a` is not behind the
/// leaf's window.
inline unsigned place_in(const area_map_node& leaf, std::uint64_t a) noexcept {
  return leaf.is_packed ? count_less(leaf.packed.last, key_of(leaf, a))
                        : count_less(leaf.plain.last, a);
}

/// Asks for what is left to read of an entry that place_in() has found.
inline void prefetch_entry(const area_map_node& leaf, unsigned n) noexcept {
  if (leaf.is_packed) {
    prefetch_line(leaf.packed.first + n), prefetch_line(leaf.packed.value + n);
  } else {
    prefetch_line(leaf.plain.first + n), prefetch_line(leaf.plain.value + n);
  }
}

/// The length of the longest hole that belongs to a leaf; 0 for none.
inline std::uint64_t longest_hole(const area_map_node& leaf) noexcept {
  if (leaf.count == 0) return 0;
  const std::uint64_t between = leaf.is_packed
                                    ? greatest_gap(leaf.packed.first, leaf.packed.last, leaf.count)
                                    : greatest_gap(leaf.plain.first, leaf.plain.last, leaf.count);
  return std::max(first_of(leaf, 0) - leaf.space_first, between);
}

/// One bit for each hole of a leaf, named by the entry behind it, of at least `length` > 0 units.
inline std::uint64_t long_holes(const area_map_node& leaf, std::uint64_t length) noexcept {
  if (leaf.count == 0) return 0;
  const auto before = std::uint64_t{first_of(leaf, 0) - leaf.space_first >= length};
  if (!leaf.is_packed)
    return before | gaps_at_least(leaf.plain.first, leaf.plain.last, leaf.count, length);
  if (length > ~std::uint32_t{0}) return before;
  return before | gaps_at_least(leaf.packed.first, leaf.packed.last, leaf.count,
                                static_cast<std::uint32_t>(length));
}

// ---- forms -----------------------------------------------------------------------------------

/// How a leaf writes its addresses.
struct leaf_form {
  static constexpr std::uint64_t in_window = ~std::uint32_t{0};

  bool is_packed;
  std::uint64_t base;

  /// The form for entries from `first` to `last`.
  static leaf_form of(std::uint64_t first, std::uint64_t last) noexcept {
    return {((first ^ last) & ~in_window) == 0, first & ~in_window};
  }
  static leaf_form of(const area_map_node& leaf) noexcept { return {leaf.is_packed, leaf.base}; }

  unsigned capacity() const noexcept {
    return is_packed ? area_map_node::packed_capacity : area_map_node::capacity;
  }
  bool operator==(const leaf_form& other) const noexcept {
    return is_packed == other.is_packed && (!is_packed || base == other.base);
  }
  /// Whether it can write that range.
  bool fits(std::uint64_t first, std::uint64_t last) const noexcept {
    return !is_packed || (((first ^ base) | (last ^ base)) & ~in_window) == 0;
  }
};

/// Whether a node so many levels above the leaves has a form that it may have, and the words that it
/// does not use are all-ones. Requires: it has no more entries than the form holds.
inline bool has_sound_words(const area_map_node& n, unsigned level) noexcept {
  constexpr auto unused = [](const auto* from, const auto* to) noexcept {
    return std::all_of(from, to, [](auto word) noexcept { return word == decltype(word)(-1); });
  };
  const unsigned used = level == 0 ? n.count : n.count - 1;
  if (!n.is_packed) return unused(n.plain.last + used, std::end(n.plain.last));
  return level == 0 && unused(n.packed.last + used, std::end(n.packed.last)) &&
         (n.base & leaf_form::in_window) == 0;
}

/// Gives a node as it comes from the pool that form: what is unused there is all-ones in both.
inline void begin_leaf(area_map_node& leaf, leaf_form form) noexcept {
  IOPT_ASSERT(leaf.count == 0);
  leaf.is_packed = form.is_packed, leaf.base = form.base;
}

/// Puts an entry behind the last one, word by word. Requires: has_place().
inline void add_entry(area_map_node& leaf, std::uint64_t first, std::uint64_t last,
                      std::uint64_t value) noexcept {
  const unsigned n = leaf.count++;
  if (leaf.is_packed) {
    leaf.packed.last[n] = key_of(leaf, last), leaf.packed.first[n] = key_of(leaf, first);
    leaf.packed.value[n] = value;
  } else {
    leaf.plain.last[n] = last, leaf.plain.first[n] = first, leaf.plain.value[n] = value;
  }
}

/// The entries of a leaf, or of two of different forms, while they are written anew.
class leaf_entries {
 public:
  void take(const area_map_node& leaf) noexcept {
    IOPT_ASSERT(count_ + leaf.count <= std::size(entry_));
    for (unsigned n = 0; n < leaf.count; ++n)
      entry_[count_++] = {first_of(leaf, n), last_of(leaf, n), value_of(leaf, n)};
  }
  /// The form for entries [from, to); any one for none.
  leaf_form form(unsigned from, unsigned to) const noexcept { return form(from, to, top, 0); }
  /// The form for all entries, and for addresses from `low` to `high` beside them.
  leaf_form form_with(std::uint64_t low, std::uint64_t high) const noexcept {
    return form(0, count_, low, high);
  }
  /// Makes a leaf of entries [from, to). Requires: the form fits them and has room.
  void give(area_map_node& leaf, leaf_form form, unsigned from, unsigned to) const noexcept {
    IOPT_ASSERT(to - from <= form.capacity());
    clear_words(leaf);
    leaf.is_packed = form.is_packed, leaf.base = form.base;
    for (leaf.count = 0; from < to; ++from) {
      const entry& e = entry_[from];
      add_entry(leaf, e.first, e.last, e.value);
    }
  }

 private:
  struct entry {
    std::uint64_t first, last, value;
  };
  // Leaves are sorted by their entries' last addresses or, in overlap_map, by the first: any entry may
  // have the greatest.
  leaf_form form(unsigned from, unsigned to, std::uint64_t low, std::uint64_t high) const noexcept {
    for (; from < to; ++from) {
      const entry& e = entry_[from];
      low = std::min({low, e.first, e.last}), high = std::max({high, e.first, e.last});
    }
    return leaf_form::of(low, high);
  }

  entry entry_[2 * area_map_node::capacity];
  unsigned count_ = 0;
};

/// Whether one more entry, of that range, can be put into a leaf as it is.
inline bool has_place(const area_map_node& leaf, std::uint64_t first, std::uint64_t last) noexcept {
  const leaf_form form = leaf_form::of(leaf);
  return leaf.count < form.capacity() && form.fits(first, last);
}

/// Gives a leaf the form for its entries and one of that range beside them; false, and nothing has
/// changed, where that has no room for `count` entries. Not in line, for its stack.
[[gnu::noinline]] inline bool change_form(area_map_node& leaf, std::uint64_t first,
                                          std::uint64_t last, unsigned count) noexcept {
  std::uint64_t low = std::min(first, last), high = std::max(first, last);
  if (leaf.count != 0) {  // the lowest address of all, and one that may be the greatest
    low = std::min({low, first_of(leaf, 0), last_of(leaf, 0)});
    high = std::max({high, first_of(leaf, leaf.count - 1), last_of(leaf, leaf.count - 1)});
  }
  if (count > leaf_form::of(low, high).capacity()) return false;
  leaf_entries all;
  all.take(leaf);
  const leaf_form form = all.form_with(low, high);
  if (count > form.capacity()) return false;
  all.give(leaf, form, 0, leaf.count);
  return true;
}

/// Sees to it that one more entry, of that range, can be put into a leaf; false, and nothing has
/// changed, where no form has room. A leaf that is not full as a plain one always has a form.
inline bool make_place(area_map_node& leaf, std::uint64_t first, std::uint64_t last) noexcept {
  return has_place(leaf, first, last) || change_form(leaf, first, last, leaf.count + 1);
}

// ---- entries ---------------------------------------------------------------------------------

/// Puts an entry before entry `at`. Requires: has_place().
inline void insert_into(area_map_node& leaf, unsigned at, std::uint64_t first, std::uint64_t last,
                        std::uint64_t value) noexcept {
  IOPT_ASSERT(has_place(leaf, first, last));
  if (!leaf.is_packed) return insert_entry(leaf, at, first, last, value);
  insert_words(leaf.packed, at, leaf.count, key_of(leaf, first), key_of(leaf, last), value);
}
/// The same where the leaf has a form for it, if not the one it is in.
inline void put_into(area_map_node& leaf, unsigned at, std::uint64_t first, std::uint64_t last,
                     std::uint64_t value) noexcept {
  [[maybe_unused]] const bool room = make_place(leaf, first, last);
  IOPT_ASSERT(room);
  insert_into(leaf, at, first, last, value);
}

inline void remove_from(area_map_node& leaf, unsigned at) noexcept {
  if (!leaf.is_packed) return remove_entry(leaf, at);
  remove_words(leaf.packed, at, leaf.count);
}

/// Gives an entry another range, and the leaf another form if the range is larger and needs it.
/// False, and nothing has changed, where no form has room; a leaf with no more entries than a plain
/// one holds has one.
inline bool set_range(area_map_node& leaf, unsigned n, std::uint64_t first,
                      std::uint64_t last) noexcept {
  IOPT_ASSERT(n < leaf.count);
  if (!leaf_form::of(leaf).fits(first, last) && !change_form(leaf, first, last, leaf.count))
    return false;
  if (leaf.is_packed) {
    leaf.packed.first[n] = key_of(leaf, first), leaf.packed.last[n] = key_of(leaf, last);
  } else {
    leaf.plain.first[n] = first, leaf.plain.last[n] = last;
  }
  return true;
}

/// share_leaves() of different forms. Not in line, for its stack.
[[gnu::noinline]] inline void share_mixed(area_map_node& left, area_map_node& right,
                                          unsigned keep) noexcept {
  const unsigned total = left.count + right.count;
  leaf_entries all;
  all.take(left), all.take(right);
  all.give(left, all.form(0, keep), 0, keep);
  all.give(right, all.form(keep, total), keep, total);
}

/// Moves entries between two neighbours until the left one has `keep`, each in a form that has room.
/// Requires: they are of one form, or neither gets more than a plain leaf holds.
inline void share_leaves(area_map_node& left, area_map_node& right, unsigned keep) noexcept {
  const unsigned total = left.count + right.count;
  if (leaf_form::of(left) != leaf_form::of(right)) return share_mixed(left, right, keep);
  if (!left.is_packed) return share_entries(left, right, keep);
  share_words(left.packed, left.count, right.packed, right.count, keep);
  left.count = keep, right.count = total - keep;
}

}  // namespace iopt::detail
