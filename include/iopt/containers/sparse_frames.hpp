// iopt/containers/sparse_frames.hpp - where the frames of a pages object are, by page index.
//
// A pages object that is a few contiguous runs costs a few words, however many pages it has: what
// is stored is runs, and a single one is stored in the object itself. More live in an area_map.
//
// Erasing in the middle of a run leaves two, and must not fail. Room for that is reserved when a
// holder is added: a holder is whoever needs a range of frames to be there (an area, an access).
// The rule, for a user who erases what a holder needed and nobody else does:
//
//   * add_holder() before its frames are stored, drop_holder() when they are erased;
//   * each maximal piece that nobody needs any more is erased by one call.
//
// An erasure that splits a run then leaves holders on both sides. So with n holders at most n - 2
// erasures can split a run until something is stored again, and that is what is reserved: the first
// two holders reserve nothing. Where the rule is broken, erase() may ask for memory, and a refusal
// is a broken precondition. So fragments <= physical runs + holders.
//
// Layer: containers. Includes: base, containers/area_map.hpp, the standard library.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <new>
#include <optional>
#include <span>
#include <string_view>
#include <utility>

#include "iopt/base/access.hpp"
#include "iopt/base/address.hpp"
#include "iopt/base/assert.hpp"
#include "iopt/base/error.hpp"
#include "iopt/base/memory_source.hpp"
#include "iopt/base/range.hpp"
#include "iopt/base/run.hpp"
#include "iopt/containers/area_map.hpp"

namespace iopt {

/// sparse_frames: a sparse array of page frames.
///
/// Model       A partial function F: page_index -> (physical address of a page, memory type).
///             A fragment is a maximal range of indices whose frames are contiguous, of one type.
/// Invariants  In the order of verify(): those of the area_map; the frames of a fragment lie on
///             page boundaries and do not pass 2^64 - 1; no fragment goes on where another ends.
/// Errors      store(), add_holder(): not_enough_memory. On error nothing has changed.
///             erase() does not fail, and allocates nothing where the rule above is kept.
/// Cost        n fragments: find, store of one run O(log n); erase, read, first_stored, contains
///             O(log n + fragments touched); none depends on the number of pages. One fragment and
///             up to two holders: no allocation. 40 bytes.
/// Threads     Thread-compatible: const calls may run together.
/// Tested by   tests/containers/sparse_frames_test.cpp (model: std::map, page by page)
template <memory_source Memory = heap_memory, class Probe = no_probe>
class sparse_frames {
  using map = area_map<page_index, std::uint64_t, Memory, Probe>;
  using cursor = typename map::cursor;

 public:
  /// An empty array of pages of 2^page_lg2 bytes. Requires: 12 <= page_lg2 < 60.
  explicit sparse_frames(unsigned page_lg2, Memory memory = {}) noexcept
      : page_lg2_(static_cast<std::uint8_t>(page_lg2)), memory_(std::move(memory)) {
    IOPT_ASSERT(12 <= page_lg2 && page_lg2 < 60);
  }
  /// The other is empty afterwards and has no holders.
  sparse_frames(sparse_frames&& other) noexcept
      : only_(other.only_),
        more_(std::exchange(other.more_, nullptr)),
        holders_(std::exchange(other.holders_, 0)),
        has_only_(std::exchange(other.has_only_, false)),
        page_lg2_(other.page_lg2_),
        memory_(other.memory_) {}
  sparse_frames& operator=(sparse_frames&& other) noexcept {
    if (this != &other) {
      this->~sparse_frames();
      ::new (static_cast<void*>(this)) sparse_frames(std::move(other));
    }
    return *this;
  }
  ~sparse_frames() { drop_map(); }

  unsigned page_lg2() const noexcept { return page_lg2_; }
  std::uint64_t page_bytes() const noexcept { return std::uint64_t{1} << page_lg2_; }
  bool empty() const noexcept { return fragments() == 0; }
  std::size_t fragments() const noexcept {
    return more_ != nullptr ? more_->size() : has_only_ ? 1 : 0;
  }
  /// What is allocated, in bytes.
  std::size_t allocated_bytes() const noexcept {
    return more_ == nullptr ? 0 : sizeof(map) + more_->node_bytes() + more_->kept_bytes();
  }

  // ---- holders ----

  std::size_t holders() const noexcept { return holders_; }

  /// Reserves what the removal of one more holder can need. Errors: not_enough_memory.
  result<void> add_holder() noexcept {
    if (holders_ >= 2) {
      if (!use_map()) return fail(errc::not_enough_memory);
      if (!more_->reserve(holders_ - 1)) {
        use_less();
        return fail(errc::not_enough_memory);
      }
    }
    ++holders_;
    return {};
  }
  /// One holder less. Requires: holders() > 0.
  void drop_holder() noexcept {
    IOPT_ASSERT(holders_ > 0);
    --holders_;
    use_less();
  }

  // ---- storing and erasing ----

  /// F(first + i) = page i of r, for all of r. Requires: r is whole pages; F undefined there.
  result<void> store(page_index first, run r) noexcept {
    if (more_ == nullptr && !has_only_) {
      only_ = fragment_of(first, r), has_only_ = true;
      return {};
    }
    const fragment f = fragment_of(first, r);
    IOPT_ASSERT(!first_stored(f.range));
    if (more_ == nullptr) {
      if (goes_on(only_, f)) {
        only_.range.last = f.range.last;
        return {};
      }
      if (goes_on(f, only_)) {
        only_ = {{first, only_.range.last}, f.word};
        return {};
      }
      if (!use_map()) return fail(errc::not_enough_memory);
    }
    cursor after = more_->lower_bound(first);
    cursor before = after ? after : more_->last();
    if (after) before.prev();
    const bool joins_before = before && goes_on(at(before), f);
    const bool joins_after = after && goes_on(f, at(after));
    // Where two fragments become one, one is erased first: then nothing may fail any more.
    const bool to_reserve =
        holders_ > 2 || (joins_before && joins_after &&
                         !map::widens_in_place({before.range().first, after.range().last}));
    bool stored = true;
    if (to_reserve && !more_->reserve(std::max(holders_, 2u) - 1)) {
      stored = false;
    } else if (joins_before) {
      page_range r_all = {before.range().first, f.range.last};
      if (joins_after) {
        r_all.last = after.range().last;
        more_->erase(after);
        before = more_->find(r_all.first);
      }
      stored = more_->widen(before, r_all).has_value();
    } else if (joins_after) {
      const auto wider = more_->widen(after, {first, after.range().last});
      stored = wider.has_value();
      if (stored) wider->set_value(f.word);
    } else {
      stored = more_->insert(f.range, f.word).has_value();
    }
    if (stored) return {};
    use_less();
    return fail(errc::not_enough_memory);
  }

  /// The same for runs one behind the other: all of them or none.
  result<void> store(page_index first, std::span<const run> runs) noexcept {
    page_index next = first;
    for (const run& r : runs) {
      if (const auto stored = store(next, r); !stored) {
        if (next != first) erase({first, next - 1});  // splits nothing: only the last run can join
        return stored;                                // what is behind
      }
      const std::uint64_t pages = r.length_bytes >> page_lg2_;
      if (&r != &runs.back()) next += pages;
    }
    return {};
  }

  /// F is undefined on r. (By reference: GCC writes a range that comes in registers to the stack in two
  /// pieces and reads it in one, which waits for them.)
  void erase(const page_range& r) noexcept {
    if (more_ == nullptr) {
      if (!has_only_ || !only_.range.overlaps(r)) return;
      if (r.contains(only_.range)) {
        has_only_ = false;
        return;
      }
      if (only_.range.first >= r.first) {
        only_ = tail(only_, r.last + 1);
        return;
      }
      if (only_.range.last <= r.last) {
        only_.range.last = r.first - 1;
        return;
      }
      [[maybe_unused]] const bool room = use_map();
      IOPT_ASSERT(room);
      if (!room) return;
    }
    if (cursor c = more_->begin();
        c && r.first <= c.range().first && more_->last().range().last <= r.last) {
      more_->clear();
    } else {
      c = more_->first_overlap(r);
      while (c && c.range().first <= r.last) erase_part(c, r);
    }
    use_less();
  }
  void clear() noexcept { erase(page_range::whole()); }

  // ---- reading ----

  /// The address of the page; nothing where F is undefined.
  std::optional<physical> find(page_index n) const noexcept {
    const std::optional<fragment> f = containing(n);
    if (!f) return std::nullopt;
    return physical{address(*f, n)};
  }
  /// The page as a run, with its type.
  std::optional<run> find_run(page_index n) const noexcept {
    const std::optional<fragment> f = containing(n);
    if (!f) return std::nullopt;
    return run({address(*f, n)}, page_bytes(), type(*f));
  }

  /// Appends F from r.first upwards until r is done, F is undefined or `out` takes no more.
  /// Returns the pages appended; 2^64 of them count as 2^64 - 1.
  std::uint64_t read(page_range r, run_list& out) const noexcept {
    std::uint64_t pages = 0;
    for_each_adjacent(r, [&](const fragment& f) {
      page_index n = f.range.first;
      for (;;) {
        const std::uint64_t more = std::min(f.range.last - n, (run::longest >> page_lg2_) - 1);
        if (!out.append(run({address(f, n)}, (more + 1) << page_lg2_, type(f)))) return false;
        pages += more + 1;
        if (n + more == f.range.last) return true;
        n += more + 1;
      }
    });
    return pages;
  }

  /// The lowest maximal range within r on which F is defined, joined over fragments.
  std::optional<page_range> first_stored(page_range r) const noexcept {
    std::optional<page_range> found;
    const auto start = [&](page_range f) { found = *f.intersection(r); };
    if (more_ == nullptr) {
      if (has_only_ && only_.range.overlaps(r)) start(only_.range);
      return found;
    }
    cursor c = more_->first_overlap(r);
    if (!c) return found;
    start(c.range());
    while (found->last < r.last && c.next() && c.range().first == found->last + 1)
      found->last = std::min(c.range().last, r.last);
    return found;
  }

  /// Whether F is defined on all of r.
  bool contains(page_range r) const noexcept { return first_stored(r) == r; }

  /// f(page_range, run of its first page's address and type) for each fragment in r, clipped, in
  /// order; a fragment of more than run::longest bytes comes in pieces.
  template <class F>
  void for_each(page_range r, F f) const {
    if (more_ == nullptr) {
      if (has_only_ && only_.range.overlaps(r)) tell(only_, r, f);
      return;
    }
    for (cursor c = more_->first_overlap(r); c && c.range().first <= r.last; c.next())
      tell(at(c), r, f);
  }

  std::string_view verify() const noexcept {
    if (more_ == nullptr) return has_only_ && !sound(only_) ? "frames" : std::string_view{};
    if (has_only_) return "one or more";
    if (const auto wrong = more_->verify(); !wrong.empty()) return wrong;
    std::optional<fragment> before;
    for (cursor c = more_->begin(); c; c.next()) {
      if (!sound(at(c))) return "frames";
      if (before && goes_on(*before, at(c))) return "fragments are maximal";
      before = at(c);
    }
    return {};
  }

 private:
  /// Pages and where they are: the word is the address of the first page, plus the memory type.
  struct fragment {
    page_range range{};
    std::uint64_t word = 0;
  };
  static constexpr std::uint64_t type_mask = 15;

  fragment fragment_of(page_index first, run r) const noexcept {
    const std::uint64_t pages = r.length_bytes >> page_lg2_;
    IOPT_ASSERT(pages > 0 && r.length_bytes == pages << page_lg2_);
    IOPT_ASSERT(r.first.is_aligned(page_bytes()) && r.length_bytes - 1 <= top - r.first.value);
    return {page_range::sized(first, pages), r.first.value | r.type_bits};
  }
  static fragment at(cursor c) noexcept { return {c.range(), c.value()}; }
  std::uint64_t address(const fragment& f, page_index n) const noexcept {
    return (f.word & ~type_mask) + ((n - f.range.first) << page_lg2_);
  }
  static memory_type type(const fragment& f) noexcept {
    return static_cast<memory_type>(f.word & type_mask);
  }
  fragment tail(const fragment& f, page_index from) const noexcept {
    return {{from, f.range.last}, address(f, from) | (f.word & type_mask)};
  }
  bool goes_on(const fragment& a, const fragment& b) const noexcept {
    return a.range.last.value != top && a.range.last + 1 == b.range.first && type(a) == type(b) &&
           (b.word & ~type_mask) != 0 &&
           address(a, a.range.last) == address(b, b.range.first) - page_bytes();
  }
  bool sound(const fragment& f) const noexcept {
    const std::uint64_t first = f.word & ~type_mask;
    return f.range.first <= f.range.last && (first & (page_bytes() - 1)) == 0 &&
           f.range.length_minus_one() <= (top - first) >> page_lg2_;
  }

  std::optional<fragment> containing(page_index n) const noexcept {
    if (more_ == nullptr)
      return has_only_ && only_.range.contains(n) ? std::optional(only_) : std::nullopt;
    const cursor c = more_->find(n);
    return c ? std::optional(at(c)) : std::nullopt;
  }
  /// f(fragment clipped to r), from r.first on without a hole, while f answers true.
  template <class F>
  void for_each_adjacent(page_range r, F f) const {
    if (more_ == nullptr) {
      if (has_only_ && only_.range.contains(r.first)) f(clip(only_, r));
      return;
    }
    cursor c = more_->find(r.first);
    while (c && f(clip(at(c), r)) && c.range().last < r.last) {
      const page_index next = c.range().last + 1;
      if (c.next() && c.range().first != next) return;
    }
  }
  fragment clip(const fragment& f, page_range r) const noexcept {
    fragment part = f.range.first < r.first ? tail(f, r.first) : f;
    part.range.last = std::min(part.range.last, r.last);
    return part;
  }
  template <class F>
  void tell(const fragment& whole, page_range r, F& f) const {
    const fragment part = clip(whole, r);
    page_index n = part.range.first;
    for (;;) {
      const std::uint64_t more = std::min(part.range.last - n, (run::longest >> page_lg2_) - 1);
      f(page_range{n, n + more}, run({address(part, n)}, (more + 1) << page_lg2_, type(part)));
      if (n + more == part.range.last) return;
      n += more + 1;
    }
  }

  /// Takes r out of the fragment at c, which overlaps it, and moves c on.
  void erase_part(cursor& c, page_range r) noexcept {
    const fragment f = at(c);
    const bool keeps_front = f.range.first < r.first, keeps_back = r.last < f.range.last;
    if (keeps_front && keeps_back) {
      [[maybe_unused]] const auto cut = more_->split(c, r.last, tail(f, r.last + 1).word);
      IOPT_ASSERT(cut.has_value());
      if (cut) more_->narrow(more_->find(f.range.first), {f.range.first, r.first - 1});
      c = {};
    } else if (keeps_front) {
      more_->narrow(c, {f.range.first, r.first - 1});
      c.next();
    } else if (keeps_back) {
      c.set_value(tail(f, r.last + 1).word);
      more_->narrow(c, {r.last + 1, f.range.last});
      c = {};
    } else {
      more_->erase(c);
    }
  }

  // ---- one run or a map ----

  /// Sees to it that the fragments are in a map. False, and nothing has changed, without memory.
  bool use_map() noexcept {
    if (more_ != nullptr) return true;
    void* memory = memory_.allocate(sizeof(map), alignof(map));
    if (memory == nullptr) return false;
    more_ = ::new (memory) map(memory_);
    if (!has_only_) return true;
    if (!more_->insert(only_.range, only_.word)) {
      drop_map();
      return false;
    }
    has_only_ = false;
    return true;
  }
  /// Goes back to one run where that is enough.
  void use_less() noexcept {
    if (more_ == nullptr || more_->size() > 1 || holders_ > 1) return;
    if (const cursor c = more_->begin()) only_ = at(c), has_only_ = true;
    drop_map();
  }
  void drop_map() noexcept {
    if (more_ == nullptr) return;
    more_->~map();
    memory_.deallocate(more_, sizeof(map), alignof(map));
    more_ = nullptr;
  }

  fragment only_{};      // the one fragment, where has_only_
  map* more_ = nullptr;  // or all of them
  std::uint32_t holders_ = 0;
  bool has_only_ = false;
  std::uint8_t page_lg2_;
  [[no_unique_address]] Memory memory_;
};
static_assert(sizeof(void*) != 8 || sizeof(sparse_frames<>) == 40);

}  // namespace iopt
