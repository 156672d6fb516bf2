// iopt/core/translation_index.hpp - what IOVAs show in this process, for threads of the data path.
//
// A VMM's or a user-space driver's I/O thread translates millions of IOVAs a second, while another
// thread maps and unmaps now and then. It does so in sections, each over a burst of translations:
//
//   auto me = index.attach();                       // once a thread
//   {
//     const decltype(index)::section inside(*me);   // one store
//     me->translate(iova, bytes, runs);             // no lock, no store, no waiting
//     ... use what runs tell ...
//   }                                               // one store
//
// What was translated is good until the section is left: whoever unmaps waits for that before a page
// is given back. It is what was mapped at some time since the section was entered.
//
// An io_pagetable keeps an index up to date whose Traits::readers it is (core/translation_hook.hpp).
// Two structures answer: an ordered tree, and before it, for IOVAs below a window, a radix table. The
// window is for IOVAs that are dense, a guest's memory say: it costs eight bytes for every 2 MiB.
//
// This lies in core, and what it is made of in containers: those know neither IOVAs nor owners.
//
// Layer: core. Includes: base, containers, the standard library.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <type_traits>
#include <utility>

#include "iopt/base/address.hpp"
#include "iopt/base/error.hpp"
#include "iopt/base/memory_source.hpp"
#include "iopt/base/range.hpp"
#include "iopt/containers/deferred_memory.hpp"
#include "iopt/containers/reader_sections.hpp"
#include "iopt/containers/shared_radix.hpp"
#include "iopt/containers/shared_ranges.hpp"

namespace iopt {

/// host_run: bytes that are contiguous in this process.
struct host_run {
  user_address first{};
  std::uint64_t length_bytes = 0;

  friend constexpr bool operator==(host_run, host_run) noexcept = default;
};

/// host_run_list: an appender to storage that somebody else owns; it joins what is contiguous.
///
/// Errors   append() answers false, and has done nothing, where a new run is needed and there is no
///          room for one.
class host_run_list {
 public:
  constexpr explicit host_run_list(std::span<host_run> storage) noexcept : storage_(storage) {}

  constexpr bool append(host_run r) noexcept {
    if (size_ != 0) {
      host_run& before = storage_[size_ - 1];
      if (before.first.value + before.length_bytes == r.first.value && r.first > before.first) {
        before.length_bytes += r.length_bytes;
        return true;
      }
    }
    if (size_ == storage_.size()) return false;
    storage_[size_++] = r;
    return true;
  }
  constexpr std::span<const host_run> view() const noexcept { return storage_.first(size_); }
  constexpr std::size_t size() const noexcept { return size_; }
  constexpr void clear() noexcept { size_ = 0; }

 private:
  std::span<host_run> storage_;
  std::size_t size_ = 0;
};

namespace detail {

template <class Memory, std::uint64_t WindowBytes>
struct radix_of {
  using type = shared_radix<Memory, WindowBytes>;
};
template <class Memory>
struct radix_of<Memory, 0> {
  struct type {
    using view_type = char;
    explicit type(deferred_memory<Memory>&) noexcept {}
  };
};

}  // namespace detail

/// translation_index: a partial function from IOVAs to user addresses, read while it is changed.
///
/// Model       A set of entries (IOVA range, user address, shown or not), ranges disjoint. A reader
///             translates an IOVA of a shown entry to entry.address + (IOVA - range.first). Each byte
///             is translated as it was at some time since the section was entered; two bytes perhaps
///             as at two times.
/// Invariants  those of the tree, then those of the radix table; then
///             answers   what the radix table answers is what the tree does.
///             verify() checks them in this order.
/// Ownership   Owns entries, and places of readers. It outlives its readers. Not the memory.
/// Errors      prepare(), cut(), attach(): not_enough_memory; nothing has changed then. What takes
///             away cannot fail, and needs no memory.
/// Cost        n entries. Translating one IOVA: two loads below the window, else O(log n), or O(1)
///             where the last answer of this reader still is one, or the entry behind it is.
///             A section: two stores. Changes: O(log n), and below the window a store for each 2 MiB.
/// Threads     Readers: one thread each, beside everything. Changes: one thread at a time (an
///             io_pagetable holds its lock). wait(): any thread.
/// Tested by   tests/core/translation_index_test.cpp
template <memory_source Memory = heap_memory, std::uint64_t WindowBytes = 0,
          class Probe = no_shared_probe>
class translation_index {
  using sections_type = reader_sections<Memory>;
  using tree_type = shared_ranges<Memory, Probe>;
  using found_type = typename tree_type::entry;
  static constexpr bool has_window = WindowBytes != 0;
  using radix_type = typename detail::radix_of<Memory, WindowBytes>::type;

 public:
  /// reader: one thread's way to translate.
  class reader {
   public:
    /// Begins a section; see `section` below for a scope of it. Requires: not inside.
    void enter() noexcept {
      mine_.enter();
      // What was found in earlier sections is still so if nothing was taken away since. The fence of
      // enter() is between the store that says we are inside and this load: a writer that took
      // something away and does not wait for us has counted up before.
      const std::uint64_t now = index_->taken_away_.load(std::memory_order_acquire);
      next_ = {};
      if constexpr (has_window) view_ = index_->radix_.view();
      if (now != as_of_) {
        last_ = nothing;
        as_of_ = now;
      }
    }
    void leave() noexcept { mine_.leave(); }
    bool inside() const noexcept { return mine_.inside(); }

    /// The host bytes from `at` on, as far as one answer reaches; there may be more behind. Nothing:
    /// `at` is not mapped. Requires: inside.
    std::optional<host_run> find(iova at) noexcept {
      found_type e;
      if (!look(at.value, e)) return std::nullopt;
      const std::uint64_t more = e.last - at.value;
      return host_run{{at.value + e.offset}, more == top ? top : more + 1};
    }

    /// Appends where the `length_bytes` bytes from `at` on are. Returns how many bytes that was:
    /// fewer where a byte is not mapped, or the list is full. Requires: inside.
    std::uint64_t translate(iova at, std::uint64_t length_bytes, host_run_list& out) noexcept {
      std::uint64_t done = 0;
      while (done != length_bytes) {
        const std::uint64_t x = at.value + done;
        found_type e;
        if (!look(x, e)) break;
        const std::uint64_t bytes = std::min(e.last - x, length_bytes - done - 1) + 1;
        if (!out.append({{x + e.offset}, bytes})) break;
        done += bytes;
        if (bytes > top - x) break;  // there is nothing behind the last address
      }
      return done;
    }

   private:
    friend class translation_index;
    static constexpr found_type nothing{top, 0, 0};

    reader(const translation_index& index, typename sections_type::reader&& mine) noexcept
        : mine_(std::move(mine)), index_(&index) {}

    bool look(std::uint64_t x, found_type& out) noexcept {
      IOPT_ASSERT(inside());
      if constexpr (has_window) {
        const radix_answer a = radix_type::find(view_, x);
        if (a.is != radix_answer::kind::elsewhere) {
          out = {x, a.last, a.offset};
          return a.is == radix_answer::kind::found;
        }
      }
      // One comparison, not two: for an address at random either would be a coin toss.
      if (x - last_.first <= last_.last - last_.first && last_.last != 0) {
        out = last_;
        return true;
      }
      typename tree_type::place there = next_;
      if (!index_->tree_.find_next(x, out, there) && !index_->tree_.find(x, out, there))
        return false;
      last_ = out;
      next_ = there;
      return true;
    }

    typename sections_type::reader mine_;
    typename radix_type::view_type view_{};
    const translation_index* index_;
    found_type last_ = nothing;            // the last answer of the tree
    std::uint64_t as_of_ = 0;              // and what index_->taken_away_ was then
    typename tree_type::place next_ = {};  // where it was, in this section
  };

  /// section: a scope in which a reader translates.
  class section {
   public:
    explicit section(reader& r) noexcept : reader_(r) { reader_.enter(); }
    ~section() { reader_.leave(); }
    section(const section&) = delete;
    section& operator=(const section&) = delete;

   private:
    reader& reader_;
  };

  explicit translation_index(Memory memory = {}, fence_kind kind = fence_kind::asymmetric) noexcept
      : sections_(memory, kind),
        blocks_(sections_, memory, tree_type::usual_bytes),
        radix_(blocks_),
        tree_(blocks_) {}

  /// A new reader. Errors: not_enough_memory.
  result<reader> attach() noexcept {
    result<typename sections_type::reader> mine = sections_.attach();
    if (!mine) return fail(mine.error());
    return reader(*this, std::move(*mine));
  }
  std::size_t readers() const noexcept { return sections_.readers(); }

  /// Waits until every section that is open now has been left. Requires: the caller is in none.
  void wait() noexcept { sections_.wait(); }

  // --- Changes ---

  /// Adds an entry, which is not shown. Requires: no entry overlaps it.
  result<void> prepare(iova_range where, user_address at) noexcept {
    const std::uint64_t first = where.first.value, last = where.last.value;
    if constexpr (has_window) {
      if (!radix_.is_open() && !radix_.open(blocks_.memory())) return fail(errc::not_enough_memory);
      if (!radix_.prepare(first, last)) return fail(errc::not_enough_memory);
    }
    if (tree_.prepare(first, last, at.value - first)) return {};
    if constexpr (has_window) forget(first, last);
    return fail(errc::not_enough_memory);
  }
  /// Makes `last` the last IOVA of an entry, cutting the one around it in two.
  result<void> cut(iova last) noexcept {
    const std::optional<found_type> e = tree_.at(last.value);
    if (!e || e->last == last.value) return {};
    if constexpr (has_window) {
      if (!radix_.cut(e->first, e->last, last.value)) return fail(errc::not_enough_memory);
    }
    const bool done = tree_.cut(last.value);
    if constexpr (has_window) {
      if (done)
        radix_.divide(last.value);
      else
        radix_.uncut(e->first, e->last, last.value);
    }
    return done ? result<void>{} : fail(errc::not_enough_memory);
  }

  // The following are for all entries of a range, which lie in it whole.

  /// Readers find them from now on.
  void show(iova_range where) noexcept {
    tree_.show(where.first.value, where.last.value, [&](const found_type& e) {
      if constexpr (has_window) radix_.show(e.first, e.last, e.offset);
    });
  }
  /// Readers that enter from now on do not find them. Before the memory goes: wait().
  void hide(iova_range where) noexcept {
    tree_.hide(where.first.value, where.last.value, [&](const found_type& e) {
      if constexpr (has_window) radix_.hide(e.first, e.last);
    });
    count_up();
  }
  /// Takes them out. Requires: not shown, and wait() was called since they were.
  void erase(iova_range where) noexcept {
    tree_.erase(where.first.value, where.last.value, [&](const found_type& e) {
      if constexpr (has_window) forget(e.first, e.last);
    });
  }
  /// Points them elsewhere: where.first at `at`, and so on. Readers find the old or the new, and no
  /// gap. Before the old memory goes: wait().
  void assign(iova_range where, user_address at) noexcept {
    const std::uint64_t first = where.first.value;
    tree_.assign(first, where.last.value, at.value - first, [&](const found_type& e) {
      if constexpr (has_window) radix_.show(e.first, e.last, e.offset);
    });
    count_up();
  }

  std::size_t size() const noexcept { return tree_.size(); }
  /// Calls f(iova_range, user_address, shown) for each entry, in ascending order.
  template <class F>
  void for_each(F f) const {
    tree_.for_each([&](const found_type& e, bool live) {
      f(iova_range{{e.first}, {e.last}}, user_address{e.first + e.offset}, live);
    });
  }
  /// Frees now what readers have left behind; else it is freed as more is.
  void collect() noexcept { blocks_.collect(); }
  /// Takes the entries of another index. Requires: neither has readers, this one has no entries.
  void take_over(translation_index& other) noexcept {
    IOPT_ASSERT(readers() == 0 && other.readers() == 0);
    tree_.take_over(other.tree_);
    if constexpr (has_window) radix_.take_over(other.radix_);
  }

  /// "" where the invariants hold, else the first that does not. Cost: O(n log n + window).
  std::string_view verify() const;

 private:
  void forget(std::uint64_t first, std::uint64_t last) noexcept {
    radix_.erase(first, last,
                 [&](std::uint64_t from, std::uint64_t to) { return tree_.any_in(from, to); });
  }
  /// Last of what takes away, so that who does not see it cannot have missed the rest.
  void count_up() noexcept {
    taken_away_.store(taken_away_.load(std::memory_order_relaxed) + 1, std::memory_order_release);
  }

  sections_type sections_;
  deferred_memory<Memory> blocks_;
  [[no_unique_address]] radix_type radix_;
  tree_type tree_;
  alignas(64) std::atomic<std::uint64_t> taken_away_{0};
};

template <memory_source Memory, std::uint64_t WindowBytes, class Probe>
std::string_view translation_index<Memory, WindowBytes, Probe>::verify() const {
  if (const std::string_view fault = tree_.verify(); fault != "") return fault;
  if constexpr (has_window) {
    using kind = radix_answer::kind;
    constexpr std::uint64_t page = radix_type::page_bytes;
    const auto count_in = [&](std::uint64_t first, std::uint64_t last) {
      std::size_t count = 0;
      tree_.for_each([&](const found_type& e, bool) {
        count += e.first <= last && e.last >= first ? 1u : 0u;
      });
      return count;
    };
    if (const std::string_view fault = radix_.verify(count_in); fault != "") return fault;
    bool same = true;
    tree_.for_each([&](const found_type& e, bool live) {
      for (std::uint64_t x = e.first; live && radix_.is_open();) {
        const radix_answer a = radix_.find(x);
        const std::uint64_t start = x & ~(page - 1), end = x | (page - 1);
        const bool whole = start >= e.first && end <= e.last && e.offset % page == 0;
        const bool outside = x >= WindowBytes;
        if (outside || (!whole && a.is == kind::nothing)) same = same && outside;
        if (outside) break;
        same = same && (a.is == kind::found) == whole && (!whole || a.offset == e.offset);
        const std::uint64_t to = a.is == kind::found ? a.last : end;
        if (to >= e.last) break;
        x = to + 1;
      }
    });
    radix_.for_each([&](std::uint64_t first, std::uint64_t last, std::uint64_t offset) {
      found_type e;
      same =
          same && tree_.find(first, e) && e.first <= first && e.last >= last && e.offset == offset;
    });
    if (!same) return "answers";
  }
  return "";
}

}  // namespace iopt
