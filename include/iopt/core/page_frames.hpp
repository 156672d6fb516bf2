// iopt/core/page_frames.hpp - the frames of one pages object: taken, stored, given back.
//
// Each frame is taken from the cheapest holder: the stored frames, a domain that holds the page,
// the origin. It is given back when nobody holds it any more. What comes from the origin is pinned,
// and charged once the operation that needed it has all it needs.
//
// Requires throughout: the mutex of the pages is held.
//
// Layer: core. Includes: base, containers, core/domain_calls.hpp, core/pages.hpp.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "iopt/base/error.hpp"
#include "iopt/base/log2.hpp"
#include "iopt/base/range.hpp"
#include "iopt/base/run.hpp"
#include "iopt/containers/double_span.hpp"
#include "iopt/containers/run_batch.hpp"
#include "iopt/core/domain_calls.hpp"
#include "iopt/core/pages.hpp"

namespace iopt::detail {

/// How many runs an operation gathers before it passes them on: 64 KiB of them.
inline constexpr std::size_t batch_runs = 4096;

/// How many runs a batch for one page and `more` needs.
constexpr std::size_t batch_size(std::uint64_t more) noexcept {
  return more < batch_runs ? static_cast<std::size_t>(more + 1) : batch_runs;
}

/// page_frames: what is done with the frames of one pages object, apart from mapping them.
template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
class page_frames {
 public:
  using pages_type = pages<Pinner, Domain, Traits>;
  using area_type = area<Pinner, Domain, Traits>;
  using batch_type = run_batch<typename Traits::memory>;

  /// Whether a page that a domain holds must be in `stored` as well.
  static constexpr bool must_store = unreadable_domain<Domain>;

  explicit page_frames(pages_type& p) noexcept : pages_(p) {}

  /// Makes `stored` hold all of `part`, pinning what nobody held.
  /// Errors: as fill(). On error nothing is pinned that was not.
  result<void> store(page_range part) {
    tally added;
    batch_type batch(pages_.from->memory, batch_size(part));
    page_index at = part.first;
    while (at <= part.last) {
      const std::optional<page_range> there = pages_.stored.first_stored({at, part.last});
      if (there && there->first == at) {
        at = there->last + 1;
        continue;
      }
      const page_range missing{at, there ? there->first - 1 : part.last};
      batch.clear();
      result<void> got = take(missing, batch.list(), added);
      if (got) got = pages_.stored.store(at, batch.view());
      if (!got) {
        give_back(missing.first, batch);
        if (at > part.first) release_stored_holes({part.first, at - 1});
        forgo(added);
        return got;
      }
      at += page_count(batch.bytes());
    }
    if (const result<void> charged = charge(added); !charged) {
      release_stored_holes(part);
      return charged;
    }
    pages_.pinned += added.pinned;
    return {};
  }

  /// store() of one page, whose frame it tells: most pins are of one.
  result<void> store_one(page_index at, run& told) {
    run_list frame{{&told, 1}};
    if (!pages_.stored.empty() && pages_.stored.read({at, at}, frame) != 0) return {};
    if (const area_type* const h = pages_.holders.first_overlap({at, at})) {
      if constexpr (!must_store) {
        const typename attachment<Domain, Traits>::call guard(*h->storage);
        read_shown(*h, {at, at}, frame);
      }
      if (frame.empty()) return fail(errc::bad_address);
      return pages_.stored.store(at, told);
    }
    tally added;
    const auto undo = [&] {
      forgo(added);
      if (!frame.empty()) unpin(told);
    };
    if (const result<void> got = pin({at, at}, frame, added); !got) {
      undo();
      return fail({got.error().code, error_place::request_byte, at.value});
    }
    if (const result<void> kept = pages_.stored.store(at, told); !kept) {
      undo();
      return kept;
    }
    if (const result<void> charged = charge(added); !charged) {
      pages_.stored.erase({at, at});
      undo();
      return charged;
    }
    pages_.pinned += added.pinned;
    return {};
  }

  /// After a pin of `part` went, all of whose frames `all` may say: gives back what nobody else holds,
  /// and forgets what a domain can be asked for.
  void unstore(page_range part, run all = {}) noexcept {
    const bool pinned = pages_.pins.first_overlap(part) != nullptr;
    const area_type* const shows = pages_.holders.first_overlap(part);
    if (!pinned && shows == nullptr) {
      settle(all.length_bytes != 0 ? unpin(all) : unpin_but_keep(part));
      return pages_.stored.erase(part);
    }
    if (!pinned && shows->range.contains(part)) return forget_after_pin(part);
    unstore_shared(part);
  }

 private:
  void unstore_shared(page_range part) noexcept {
    std::uint64_t gone = 0;
    for (double_span walk(&pages_.pins, &pages_.holders, part); walk.valid(); walk.next())
      if (walk.owner() == span_owner::none) gone += unpin_stored(walk.range());
    settle(gone);
    forget_stored(part);
  }

 public:
  /// Appends the frames of `part`, which is held, from its beginning on, until done or full.
  /// Returns the pages appended.
  std::uint64_t read_held(page_range part, run_list& out) const {
    page_index at = part.first;
    while (at <= part.last) {
      std::uint64_t got = pages_.stored.read({at, part.last}, out);
      if (got == 0 && !out.full()) got = read_domain({at, part.last}, out);
      if (got == 0) break;
      at += got;
    }
    return at - part.first;
  }

  /// Gives back what is stored of `part` and nobody holds.
  void release_unheld(page_range part) noexcept { settle(release_stored_holes(part)); }

  /// Forgets what is stored of `part`, where a domain can be asked for it.
  void forget_stored(page_range part) noexcept {
    if (must_store || pages_.leaving != 0) return;
    for (double_span walk(&pages_.pins, &pages_.holders, part); walk.valid(); walk.next())
      if (walk.owner() == span_owner::second) forget(walk.range());
  }

 protected:
  static std::uint64_t page_count(std::uint64_t bytes) noexcept {
    return bytes / Traits::page_bytes;
  }
  static std::size_t batch_size(page_range part) noexcept {
    return detail::batch_size(part.length_minus_one());
  }

  static std::uint64_t granule(const Domain& d) noexcept {
    return std::min(d.page_sizes().smallest(), Traits::page_bytes);
  }

  /// What an operation took from the origin.
  struct tally {
    std::uint64_t pinned = 0;  // pages
    bool reserved = false;     // memory that is not pinned was there too: only `stored` can tell
  };

  /// Appends frames of `part`, held or pinned now, from its beginning on, until done or full, and
  /// counts what was pinned. Takes at least one page. On error `out` has what was taken before.
  result<void> take(page_range part, run_list& out, tally& added) {
    if (!pages_.is_pinnable())
      return pages_.from->take(pages_.at_origin(part), access_rights::none, out);
    for (double_span walk(&pages_.pins, &pages_.holders, part); walk.valid() && !out.full();
         walk.next()) {
      page_range rest = walk.range();
      const bool held = walk.owner() != span_owner::none;
      while (!out.full()) {
        const std::uint64_t before = out.bytes();
        if (held) {
          if (read_held(rest, out) == 0) return fail(errc::bad_address);
        } else if (const result<void> r = pin(rest, out, added); !r) {
          return fail({r.error().code, error_place::request_byte, rest.first.value});
        }
        const std::uint64_t got = page_count(out.bytes() - before);
        IOPT_ASSERT(got != 0 && got - 1 <= rest.length_minus_one());
        if (got > rest.length_minus_one()) break;
        rest.first += got;
      }
    }
    return {};
  }

  /// Pins pages of `part` from its beginning on.
  result<void> pin(page_range part, run_list& out, tally& added) {
    const std::uint64_t before = out.bytes();
    const std::size_t runs = out.size();
    const std::uint64_t tail = runs == 0 ? 0 : out[runs - 1].length_bytes;
    const result<void> done = pages_.from->take(pages_.at_origin(part), pages_.pin_rights(), out);
    if (!done) return done;
    if (out.bytes() == before) return fail(errc::bad_address);  // as the kernel has it
    std::uint64_t reserved = 0;
    for (std::size_t n = runs == 0 ? 0 : runs - 1; n < out.size(); ++n) {
      const run r = out[n];
      IOPT_ASSERT(r.type() != memory_type::mmio);
      if (r.type() != memory_type::cached) reserved += r.length_bytes - (n + 1 == runs ? tail : 0);
    }
    const std::uint64_t fresh = page_count(out.bytes() - before - reserved);
    added.reserved = added.reserved || reserved != 0;
    if (charges_while_pinning(pages_.from->is.mode)) {
      // Over the limit: what was appended is given back with what was taken before.
      if (const result<void> charged = pages_.charge(fresh); !charged) return charged;
    }
    added.pinned += fresh;
    return {};
  }

  /// Charges what an operation pinned, where that is not done already.
  result<void> charge(const tally& added) {
    if (charges_while_pinning(pages_.from->is.mode)) return {};
    return pages_.charge(added.pinned);
  }
  /// Takes back what is charged of an operation that failed.
  void forgo(const tally& added) noexcept {
    if (charges_while_pinning(pages_.from->is.mode)) pages_.uncharge(added.pinned);
  }

  /// Stores what of the batch is not stored yet.
  result<void> store_missing(page_range part, const batch_type& batch) {
    page_index at = part.first;
    while (at <= part.last) {
      const std::optional<page_range> there = pages_.stored.first_stored({at, part.last});
      const page_index end = there ? there->first : part.last + 1;
      result<void> kept{};
      page_index next = at;
      if (end > at) {
        for_each_slice(batch.view(), (at - part.first) * Traits::page_bytes,
                       (end - at) * Traits::page_bytes, [&](run r) {
                         if (kept) kept = pages_.stored.store(next, r);
                         if (kept) next += page_count(r.length_bytes);
                       });
      }
      if (!kept) {
        forget_unheld({part.first, next == part.first ? next : next - 1}, next != part.first);
        return kept;
      }
      at = there ? there->last + 1 : end;
    }
    return {};
  }
  void forget_unheld(page_range part, bool any) noexcept {
    if (!any) return;
    for (double_span walk(&pages_.pins, &pages_.holders, part); walk.valid(); walk.next())
      if (walk.owner() == span_owner::none) pages_.stored.erase(walk.range());
  }

  /// Gives back the pages of a batch, which begins at `first`, that nobody holds.
  std::uint64_t give_back(page_index first, const batch_type& batch) noexcept {
    if (batch.empty()) return 0;
    const page_range part = page_range::sized(first, page_count(batch.bytes()));
    std::uint64_t gone = 0;
    for (double_span walk(&pages_.pins, &pages_.holders, part); walk.valid(); walk.next()) {
      if (walk.owner() != span_owner::none) continue;
      const page_range span = walk.range();
      for_each_slice(batch.view(), (span.first - first) * Traits::page_bytes,
                     span.length() * Traits::page_bytes, [&](run r) { gone += unpin(r); });
      pages_.stored.erase(span);
    }
    return gone;
  }

  /// Unpins what `stored` has of `part`, and leaves it stored.
  std::uint64_t unpin_but_keep(page_range part) noexcept {
    std::uint64_t gone = 0;
    pages_.stored.for_each(part, [&](page_range, run r) { gone += unpin(r); });
    return gone;
  }

  /// Unpins what `stored` has of `part`, and forgets it: in one piece, so that no holder is on one
  /// side only of a run that this splits.
  std::uint64_t unpin_stored(page_range part) noexcept {
    const std::uint64_t gone = unpin_but_keep(part);
    pages_.stored.erase(part);
    return gone;
  }

  std::uint64_t unpin(run r) noexcept {
    if (!pages_.is_pinnable() || pages_.lost || r.type() != memory_type::cached) return 0;
    pages_.from->is.pinner->unpin(r, pages_.writable);
    return page_count(r.length_bytes);
  }

  /// Unpins all of a batch that is whole pages of ordinary memory, whatever types its runs have.
  std::uint64_t unpin_all(const batch_type& batch) noexcept {
    if (pages_.lost) return 0;
    unpin_runs(*pages_.from->is.pinner, batch.view(), pages_.writable);
    return page_count(batch.bytes());
  }

  void settle(std::uint64_t gone) noexcept {
    pages_.pinned -= gone;
    pages_.uncharge(gone);
  }

  bool any_unheld(page_range part) const noexcept {
    for (double_span walk(&pages_.pins, &pages_.holders, part); walk.valid(); walk.next())
      if (walk.owner() == span_owner::none) return true;
    return false;
  }

  std::uint64_t release_stored_holes(page_range part) noexcept {
    std::uint64_t gone = 0;
    for (double_span walk(&pages_.pins, &pages_.holders, part); walk.valid(); walk.next())
      if (walk.owner() == span_owner::none) gone += unpin_stored(walk.range());
    return gone;
  }

 private:
  /// forget_stored() of what a domain holds. A single fragment is kept where it says all there is:
  /// less, and the next pin of another page would have two.
  void forget_after_pin(page_range part) noexcept {
    if (must_store || pages_.leaving != 0) return;
    if (pages_.stored.fragments() != 1) return forget(part);
    bool useless = false;
    pages_.stored.for_each(page_range::whole(), [&](page_range all, run r) {
      useless =
          part.contains(all) && all.length() < pages_.count && r.type() == memory_type::cached;
    });
    if (useless) pages_.stored.erase(part);
  }

  /// Drops from `stored` what a domain can be asked for, where that needs no split: but for a
  /// single fragment, which costs nothing; and a domain does not tell the kind of memory.
  void forget(page_range part) noexcept {
    if (pages_.stored.fragments() == 1) return;
    const bool inside =
        part.first.value != 0 && pages_.stored.contains({part.first - 1, part.last + 1});
    if (inside) return;
    bool cached = true;
    pages_.stored.for_each(
        part, [&](page_range, run r) { cached = cached && r.type() != memory_type::reserved; });
    if (cached) pages_.stored.erase(part);
  }

  std::uint64_t read_domain(page_range part, run_list& out) const {
    if constexpr (must_store) return 0;
    const area_type* h = pages_.holders.first_overlap({part.first, part.first});
    if (h == nullptr) return 0;
    page_index last = std::min(part.last, h->range.last);
    // Only as far as `stored` does not know better: an access may have stored what follows.
    if (const auto there = pages_.stored.first_stored({part.first, last})) last = there->first - 1;
    detail::exclusive_lock guard(h->storage->mutex);
    return read_shown(*h, {part.first, last}, out);
  }

  /// Appends the frames of whole pages that a filled area shows.
  std::uint64_t read_shown(const area_type& h, page_range part, run_list& out) const {
    const Domain& d = *h.storage->domain;
    page_index at = part.first;
    while (at <= part.last) {
      const iova_range one = h.shown({at, at});
      if (one.length_minus_one() + 1 == Traits::page_bytes) {
        page_index last = part.last;
        if (const iova_range end = h.shown({last, last});
            last > at && end.length_minus_one() + 1 != Traits::page_bytes)
          last -= 1;
        const std::uint64_t want = last - at + 1;
        const std::uint64_t got = page_count(read_runs(d, h.shown({at, last}), granule(d), out));
        at += got;
        if (got != want) break;
      } else {  // part of a page at an end of the area: the frame is where the byte is
        const std::optional<physical> byte = d.translate(one.first);
        if (!byte ||
            !out.append(run({align_down(byte->value, Traits::page_bytes)}, Traits::page_bytes)))
          break;
        at += 1;
      }
    }
    return at - part.first;
  }

 protected:
  pages_type& pages_;
};

}  // namespace iopt::detail
