// iopt/containers/shared_radix.hpp - the offset of each page of a window, found in two loads.
//
// One word for each granule of 2 MiB of the window, and where a granule is not all of one entry a
// table with a word for each of its 512 pages. It answers for the pages that lie wholly in one live
// entry; a page that does not, or whose offset is not a multiple of the page, is marked so that
// readers ask elsewhere (containers/shared_ranges.hpp, whose entries this mirrors).
//
//   0              nothing is here
//   offset | 1     the granule, or page, is live
//   table | 2      granules only
//   4              ask elsewhere
//
// One bit each, so that a reader tests one bit for each of its two loads.
//
// Words are stored with release and loaded with acquire: a table is complete before its granule
// points to it, and what the writer did to memory before it was shown is seen by who finds it.
//
// Layer: containers. Includes: base, containers/deferred_memory.hpp, the standard library.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <new>
#include <span>
#include <string_view>

#include "iopt/base/address.hpp"
#include "iopt/base/assert.hpp"
#include "iopt/containers/deferred_memory.hpp"

namespace iopt {

/// What a shared_radix knows of a number.
struct radix_answer {
  enum class kind : std::uint8_t { nothing, found, elsewhere };
  kind is = kind::nothing;
  std::uint64_t last = 0;    // found: the answer is good up to here
  std::uint64_t offset = 0;  // found
};

/// shared_radix: a cache of entries (range, offset, live) over the window [0, WindowBytes).
///
/// Model       For each page of the window: the offset of the live entry that it lies in, or that
///             there is none, or that others know, which is also the answer before open().
/// Invariants  granules  a word is 0, a live offset, a table, or says to ask elsewhere.
///             tables    a table is there while an entry lies in its granule and others may too, and
///                       knows how many do.
///             verify() checks them in this order; that the answers are those of the entries is what
///             its owner verifies.
/// Ownership   Owns its words, one for each granule from the start, and its tables. Refers to the
///             deferred_memory.
/// Errors      open(), prepare(), cut(): false without memory; nothing has changed then.
/// Cost        find(): two loads. prepare(), cut(), erase(): at most two tables. show(), hide(): one
///             store for each granule of the entry, and for each page at its ends.
/// Threads     find() in a section of the readers, on any thread; all else on one thread at a time.
/// Tested by   tests/containers/shared_radix_test.cpp
template <memory_source Memory, std::uint64_t WindowBytes>
class shared_radix {
 public:
  using blocks_type = deferred_memory<Memory>;
  static constexpr unsigned page_lg2 = 12;
  static constexpr unsigned granule_lg2 = 21;
  static constexpr std::uint64_t page_bytes = std::uint64_t{1} << page_lg2;
  static constexpr std::uint64_t granule_bytes = std::uint64_t{1} << granule_lg2;
  static_assert(WindowBytes != 0 && WindowBytes % granule_bytes == 0);
  static constexpr std::uint64_t granules = WindowBytes / granule_bytes;

  explicit shared_radix(blocks_type& blocks) noexcept : blocks_(blocks) {}
  shared_radix(const shared_radix&) = delete;
  shared_radix& operator=(const shared_radix&) = delete;
  ~shared_radix() { close(); }

  /// Takes the memory of the window's words. Requires: no entry yet. Errors: false, no memory.
  bool open(Memory memory) noexcept {
    IOPT_ASSERT(!is_open());
    void* const place = memory.allocate(granules * sizeof(word), 64);
    if (place == nullptr) return false;
    word* const all = static_cast<word*>(place);
    for (std::uint64_t n = 0; n < granules; ++n) ::new (all + n) word(0);
    words_.store(all, std::memory_order_release);
    return true;
  }
  bool is_open() const noexcept { return words() != nullptr; }

  // --- Readers ---

  /// What a reader keeps for a section, to find its way without a load: the words, none before open().
  using view_type = std::span<const std::atomic<std::uint64_t>>;
  view_type view() const noexcept {
    const word* const all = words_.load(std::memory_order_acquire);
    return {all, all == nullptr ? 0 : granules};
  }

  radix_answer find(std::uint64_t x) const noexcept { return find(view(), x); }
  static radix_answer find(view_type words, std::uint64_t x) noexcept {
    using kind = radix_answer::kind;
    const std::uint64_t granule = x >> granule_lg2;
    if (granule >= words.size()) [[unlikely]]
      return {kind::elsewhere};
    std::uint64_t w = words[granule].load(std::memory_order_acquire);
    std::uint64_t last = x | (granule_bytes - 1);
    if ((w & is_table) != 0) [[likely]] {
      w = table_of(w)->pages[x >> page_lg2 & (pages - 1)].load(std::memory_order_acquire);
      last = x | (page_bytes - 1);
    }
    if ((w & is_live) != 0) [[likely]]
      return {kind::found, last, w - is_live};
    return {w == 0 ? kind::nothing : kind::elsewhere};
  }

  // --- The writer: as in shared_ranges, an entry at a time ---

  /// An entry [first, last] comes, hidden. Errors: false, no memory.
  bool prepare(std::uint64_t first, std::uint64_t last) noexcept {
    const std::uint64_t a = first >> granule_lg2, b = last >> granule_lg2;
    if (is_part(a, first, last) && !enter(a)) return false;
    if (a != b && b < granules && is_part(b, first, last) && !enter(b)) {
      if (is_part(a, first, last)) leave(a);
      return false;
    }
    return true;
  }
  /// The entry [first, last] becomes two, of which the first ends at `at`. Errors: false, no memory.
  bool cut(std::uint64_t first, std::uint64_t last, std::uint64_t at) noexcept {
    const std::uint64_t g = at >> granule_lg2;
    if (g >= granules || at == (at | (granule_bytes - 1))) return true;
    const bool whole = !is_part(g, first, last);
    if (!enter(g)) return false;
    if (whole) ++table_at(g)->users;
    return true;
  }
  /// After a cut(): the page that both share is no longer one's alone.
  void divide(std::uint64_t at) noexcept {
    const std::uint64_t g = at >> granule_lg2;
    if (g >= granules || (at + 1) % page_bytes == 0) return;
    word& page = table_at(g)->pages[at >> page_lg2 & (pages - 1)];
    if (page.load(std::memory_order_relaxed) != 0)
      page.store(is_elsewhere, std::memory_order_release);
  }
  /// Takes cut() back. Requires: nothing was done in between.
  void uncut(std::uint64_t first, std::uint64_t last, std::uint64_t at) noexcept {
    const std::uint64_t g = at >> granule_lg2;
    if (g >= granules || at == (at | (granule_bytes - 1))) return;
    table* const t = table_at(g);
    --t->users;
    if (is_part(g, first, last)) return;
    words()[g].store(t->pages[0].load(std::memory_order_relaxed), std::memory_order_release);
    --tables_;
    blocks_.retire(t);
  }
  void show(std::uint64_t first, std::uint64_t last, std::uint64_t offset) noexcept {
    write(first, last, offset % page_bytes != 0 ? is_elsewhere : offset | is_live);
  }
  void hide(std::uint64_t first, std::uint64_t last) noexcept { write(first, last, 0); }
  /// The entry goes, which is hidden. any_other(first, last) is whether another entry lies there.
  template <class F>
  void erase(std::uint64_t first, std::uint64_t last, F any_other) noexcept {
    const auto clear = [&](std::uint64_t x) {
      const std::uint64_t from = x & ~(page_bytes - 1), to = x | (page_bytes - 1);
      const std::uint64_t g = x >> granule_lg2;
      if (g >= granules || (from >= first && to <= last) || any_other(from, to)) return;
      if (table* const t = table_at(g))
        t->pages[x >> page_lg2 & (pages - 1)].store(0, std::memory_order_release);
    };
    clear(first), clear(last);
    const std::uint64_t a = first >> granule_lg2, b = last >> granule_lg2;
    if (is_part(a, first, last)) leave(a);
    if (a != b && b < granules && is_part(b, first, last)) leave(b);
  }

  /// Calls f(first, last, offset) for each granule, or page, that readers find here.
  template <class F>
  void for_each(F f) const {
    if (!is_open()) return;
    for (std::uint64_t g = 0; g < granules; ++g) {
      const std::uint64_t first = g << granule_lg2;
      for (std::uint64_t x = first; x - first < granule_bytes;) {
        const radix_answer a = find(x);
        if (a.is == radix_answer::kind::found) f(x, a.last, a.offset);
        x = table_at(g) != nullptr ? x + page_bytes : x + granule_bytes;
      }
    }
  }
  std::size_t tables() const noexcept { return tables_; }

  /// Takes the contents of another, whose memory source is the same and which has no readers.
  void take_over(shared_radix& other) noexcept {
    IOPT_ASSERT(!is_open());
    words_.store(other.words_.exchange(nullptr, std::memory_order_relaxed),
                 std::memory_order_release);
    std::swap(tables_, other.tables_);
  }

  /// "" where the invariants hold, else the first that does not. count_in(first, last) is how many
  /// entries, live or not, lie there. Cost: O(granules + tables).
  template <class F>
  std::string_view verify(F count_in) const {
    if (!is_open()) return "";
    std::size_t seen = 0;
    for (std::uint64_t g = 0; g < granules; ++g) {
      const std::uint64_t w = words()[g].load(std::memory_order_relaxed);
      const bool known = (w & marks) == is_table || (w & (page_bytes - 1)) == is_live;
      if (w != 0 && w != is_elsewhere && !known) return "granules";
    }
    for (std::uint64_t g = 0; g < granules; ++g) {
      const std::uint64_t w = words()[g].load(std::memory_order_relaxed);
      if ((w & is_table) == 0) continue;
      ++seen;
      const std::uint64_t first = g << granule_lg2;
      if (table_of(w)->users == 0 ||
          table_of(w)->users != count_in(first, first + (granule_bytes - 1)))
        return "tables";
    }
    return seen == tables_ ? "" : "tables";
  }

 private:
  using word = std::atomic<std::uint64_t>;
  static constexpr std::size_t pages = std::size_t{1} << (granule_lg2 - page_lg2);
  static constexpr std::uint64_t is_live = 1;
  static constexpr std::uint64_t is_table = 2;
  static constexpr std::uint64_t is_elsewhere = 4;
  static constexpr std::uint64_t marks = is_live | is_table | is_elsewhere;

  struct table {
    deferred_block block;
    std::uint32_t users;  // entries that lie in the granule
    alignas(64) word pages[shared_radix::pages];
  };

  static_assert(page_bytes > marks && alignof(table) > marks);

  static table* table_of(std::uint64_t w) noexcept {
    return reinterpret_cast<table*>(static_cast<std::uintptr_t>(w - is_table));
  }
  word* words() const noexcept { return words_.load(std::memory_order_relaxed); }
  table* table_at(std::uint64_t g) const noexcept {
    const std::uint64_t w = words()[g].load(std::memory_order_relaxed);
    return (w & is_table) != 0 ? table_of(w) : nullptr;
  }
  /// Whether [first, last] lies in granule g, but is not all of it.
  bool is_part(std::uint64_t g, std::uint64_t first, std::uint64_t last) const noexcept {
    if (g >= granules) return false;
    const std::uint64_t from = g << granule_lg2, to = from | (granule_bytes - 1);
    return first <= to && last >= from && (first > from || last < to);
  }

  /// One more entry lies in granule g, for which there is a table then: as the granule was.
  bool enter(std::uint64_t g) noexcept {
    if (table* const there = table_at(g)) {
      ++there->users;
      return true;
    }
    table* const fresh = blocks_.template create<table>();
    if (fresh == nullptr) return false;
    const std::uint64_t all = words()[g].load(std::memory_order_relaxed);
    for (word& w : fresh->pages) w.store(all, std::memory_order_relaxed);
    fresh->users = 1;
    ++tables_;
    words()[g].store(reinterpret_cast<std::uintptr_t>(fresh) | is_table, std::memory_order_release);
    return true;
  }
  /// One entry fewer.
  void leave(std::uint64_t g) noexcept {
    table* const t = table_at(g);
    IOPT_ASSERT(t != nullptr);
    if (--t->users != 0) return;
    words()[g].store(0, std::memory_order_release);
    --tables_;
    blocks_.retire(t);
  }

  /// Writes `w` for all pages of an entry, and a mark for those at its ends that it shares.
  void write(std::uint64_t first, std::uint64_t last, std::uint64_t w) noexcept {
    if (!is_open()) return;
    const std::uint64_t b = std::min<std::uint64_t>(last >> granule_lg2, granules - 1);
    for (std::uint64_t g = first >> granule_lg2; g <= b; ++g) {
      table* const t = table_at(g);
      if (t == nullptr) {
        words()[g].store(w, std::memory_order_release);
        continue;
      }
      const std::uint64_t from = std::max(first, g << granule_lg2);
      const std::uint64_t to = std::min(last, g << granule_lg2 | (granule_bytes - 1));
      for (std::uint64_t page = from >> page_lg2; page <= to >> page_lg2; ++page) {
        const std::uint64_t start = page << page_lg2;
        const bool shared = start < first || (start | (page_bytes - 1)) > last;
        t->pages[page & (pages - 1)].store(shared ? is_elsewhere : w, std::memory_order_release);
      }
    }
  }

  void close() noexcept {
    if (!is_open()) return;
    for (std::size_t g = 0; g < granules; ++g)
      if (table* const t = table_at(g)) blocks_.free(t);
    Memory memory = blocks_.memory();
    memory.deallocate(words(), granules * sizeof(word), 64);
    words_.store(nullptr, std::memory_order_relaxed);
    tables_ = 0;
  }

  std::atomic<word*> words_{nullptr};
  std::size_t tables_ = 0;
  blocks_type& blocks_;
};

}  // namespace iopt
