// iopt/core/fill.hpp - pages into domains, and out again.
//
// Filling takes each frame from the cheapest holder: the stored frames, a domain that holds the
// page, the origin; and maps it in a domain, a batch of runs at a time. Unfilling takes entries out
// and gives back the pages that nobody else holds, in this order, batch by batch:
//
//   unmap every domain -> flush -> wait for readers -> unpin -> uncharge
//
// An unmap ends where a run ends, never inside. Unfilling allocates nothing and cannot fail; a
// domain that comes back short keeps its pins for ever, since a device may still reach the pages.
//
// Requires throughout: the mutex of the pages is held.
//
// Layer: core. Includes: base, containers, core/domain_calls.hpp, core/pages.hpp.
#pragma once

#include <cstdint>
#include <span>
#include <utility>

#include "iopt/base/error.hpp"
#include "iopt/base/range.hpp"
#include "iopt/base/run.hpp"
#include "iopt/containers/double_span.hpp"
#include "iopt/containers/run_batch.hpp"
#include "iopt/core/domain_calls.hpp"
#include "iopt/core/pages.hpp"

namespace iopt::detail {

/// How many runs a fill gathers before it goes to the domains: 64 KiB of them.
inline constexpr std::size_t fill_batch_runs = 4096;

/// page_transfer: the moves between one pages object and the domains of one table.
template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
class page_transfer {
 public:
  using pages_type = pages<Pinner, Domain, Traits>;
  using area_type = area<Pinner, Domain, Traits>;
  using attachment_type = attachment<Domain, Traits>;
  using attachment_list = std::span<attachment_type* const>;
  using batch_type = run_batch<typename Traits::memory>;

  /// Whether a page that a domain holds must be in `stored` as well.
  static constexpr bool must_store = unreadable_domain<Domain>;

  page_transfer(pages_type& p, typename Traits::readers& readers, bool large_pages) noexcept
      : pages_(p), readers_(readers), page_by_page_(large_pages ? 0 : Traits::page_bytes) {}

  /// Fills `a` into the domains, and makes it a holder if it was none.
  /// Errors: those of the pinner (with the byte of the area) and of the domains (with the number of
  /// the domain in `domains`, and the byte); not_enough_memory. On error nothing changed.
  result<void> fill(area_type& a, attachment_list domains) {
    if (domains.empty() || pages_.revoked) return {};
    const page_range all = a.range;
    batch_type batch(pages_.from->memory, batch_size(all));
    std::uint64_t added = 0;
    page_index at = all.first;
    for (;;) {
      const result<void> step = fill_batch(a, domains, {at, all.last}, batch, added);
      if (!step) {
        undo_fill(a, domains, at);
        return step;
      }
      const std::uint64_t got = page_count(batch.bytes());
      if (got > all.last - at) break;
      at += got;
      batch.clear();
    }
    if (const result<void> charged = pages_.from->charge(added); !charged) {
      batch.clear();
      undo_fill(a, domains, all.last + 1);
      return charged;
    }
    pages_.pinned += added;
    if (a.storage == nullptr) {
      a.storage = domains.front();
      if (at == all.first && batch.view().size() == 1 && !must_store && pages_.stored.empty()) {
        // One run says it all, and is kept without memory: no domain need be asked for it again.
        static_cast<void>(pages_.stored.store(all.first, batch.view().front()));
      }
      pages_.holders.insert(a);
    }
    return {};
  }

  /// Takes `a` out of the domains; then unpins what nobody else holds. False: a domain came back
  /// short, and the pages stay pinned.
  bool unfill(area_type& a, attachment_list domains) noexcept {
    const bool complete = begin_unfill(a, domains);
    flush(domains);
    readers_.wait();
    finish_unfill(a);
    return complete;
  }

  /// The first half of an unfill: after it no entry shows `a`. Frames that only a domain knew are
  /// given back already, flushed; for the others the caller flushes the domains and waits for
  /// readers, which may serve many areas, and then calls finish_unfill().
  bool begin_unfill(area_type& a, attachment_list domains) noexcept {
    if (a.storage == nullptr) return true;
    pages_.holders.erase(a);
    attachment_type& last = *std::exchange(a.storage, nullptr);
    return empty(a, a.range, domains, last, true);
  }
  void finish_unfill(area_type& a) noexcept {
    settle(release_stored_holes(a.range));
  }

  /// Gives back what is stored of `part` and nobody holds.
  void release_unheld(page_range part) noexcept { settle(release_stored_holes(part)); }

  /// Forgets what is stored of `part`, where a domain can be asked for it.
  void forget_stored(page_range part) noexcept {
    if (must_store) return;
    for (double_span walk(&pages_.pins, &pages_.holders, part); walk.valid(); walk.next())
      if (walk.owner() == span_owner::second) forget(walk.range());
  }

  static void flush(attachment_list domains) noexcept {
    if constexpr (flushing_domain<Domain>) {
      for (attachment_type* d : domains) {
        exclusive_lock guard(d->mutex);
        if (std::exchange(d->stale, false)) d->domain->sync();
      }
    }
  }

  /// Takes `a` out of one domain while others go on holding it. The caller flushes.
  bool leave(area_type& a, attachment_type& from) noexcept { return unmap(from, a.where); }

  /// Makes `stored` hold all of `part`, pinning what nobody held.
  /// Errors: as fill(). On error nothing is pinned that was not.
  result<void> store(page_range part) {
    std::uint64_t added = 0;
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
        return got;
      }
      at += page_count(batch.bytes());
    }
    if (const result<void> charged = pages_.from->charge(added); !charged) {
      release_stored_holes(part);
      return charged;
    }
    pages_.pinned += added;
    return {};
  }

  /// After a pin of `part` went: gives back what nobody else holds, and forgets what a domain can
  /// be asked for.
  void unstore(page_range part) noexcept {
    std::uint64_t gone = 0;
    for (double_span walk(&pages_.pins, &pages_.holders, part); walk.valid(); walk.next())
      if (walk.owner() == span_owner::none) gone += unpin_stored(walk.range());
    settle(gone);
    forget_stored(part);
  }

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

 private:
  static std::uint64_t page_count(std::uint64_t bytes) noexcept {
    return bytes / Traits::page_bytes;
  }
  static std::size_t batch_size(page_range part) noexcept {
    const std::uint64_t more = part.length_minus_one();
    return more < fill_batch_runs ? static_cast<std::size_t>(more + 1) : fill_batch_runs;
  }

  /// Appends frames of `part`, held or pinned now, from its beginning on, until done or full;
  /// counts in `added` the pages pinned. Takes at least one page. On error `out` has what was taken
  /// before.
  result<void> take(page_range part, run_list& out, std::uint64_t& added) {
    if (!pages_.is_pinnable()) return pages_.from->take(pages_.at_origin(part), access::none, out);
    for (double_span walk(&pages_.pins, &pages_.holders, part); walk.valid() && !out.full();
         walk.next()) {
      page_range rest = walk.range();
      const bool held = walk.owner() != span_owner::none;
      while (!out.full()) {
        const std::uint64_t before = out.bytes();
        if (held) {
          if (read_held(rest, out) == 0) return fail(errc::bad_address);
        } else if (const result<void> r =
                       pages_.from->take(pages_.at_origin(rest), pages_.pin_rights(), out);
                   !r) {
          return fail({r.error().code, error_place::request_byte, rest.first.value});
        }
        const std::uint64_t got = page_count(out.bytes() - before);
        if (!held) added += got;
        if (got > rest.length_minus_one()) break;
        rest.first += got;
      }
    }
    return {};
  }

  result<void> fill_batch(area_type& a, attachment_list domains, page_range rest, batch_type& batch,
                          std::uint64_t& added) {
    if (const result<void> taken = take(rest, batch.list(), added); !taken) {
      error e = taken.error();
      if (e.place == error_place::request_byte) e.at = byte_in_area(a, {e.at});
      give_back(rest.first, batch);
      return fail(e);
    }
    const page_range part = page_range::sized(rest.first, page_count(batch.bytes()));
    if (must_store || !all_cached(batch)) {
      if (const result<void> kept = store_missing(part, batch); !kept) {
        give_back(part.first, batch);
        return kept;
      }
    }
    const iova_range where = a.shown(part);
    for (std::size_t n = 0; n < domains.size(); ++n) {
      const result<void> mapped = map(*domains[n], where, a, part, batch);
      if (mapped) continue;
      for (std::size_t m = 0; m < n; ++m) unmap(*domains[m], where);
      flush(domains.first(n));
      give_back(part.first, batch);
      return fail({mapped.error().code, error_place::domain,
                   (where.first - a.where.first) + mapped.error().at,
                   static_cast<std::uint32_t>(n)});
    }
    return {};
  }

  /// Whether a domain can be asked for every run: it does not tell the kind of memory.
  static bool all_cached(const batch_type& batch) noexcept {
    for (const run& r : batch.view())
      if (r.type() == memory_type::reserved) return false;
    return true;
  }

  static std::uint64_t byte_in_area(const area_type& a, page_index at) noexcept {
    return at == a.range.first ? 0 : at.value * Traits::page_bytes - a.start_byte;
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

  result<void> map(attachment_type& to, iova_range where, const area_type& a, page_range part,
                   const batch_type& batch) {
    exclusive_lock guard(to.mutex);
    if (to.poisoned) return fail({errc::io_error, error_place::domain, 0});
    const std::uint64_t bytes = where.length_minus_one() + 1;
    if (bytes == batch.bytes())
      return map_runs(*to.domain, where.first, batch.view(), a.rights, page_by_page_);
    // The area begins or ends inside a page: so do its first and last run.
    const std::uint64_t skip = part.first == a.range.first ? a.page_offset() : 0;
    std::uint64_t offset = 0;
    result<void> mapped{};
    for_each_slice(batch.view(), skip, bytes, [&](run r) {
      if (!mapped) return;
      mapped = map_runs(*to.domain, where.first + offset, {&r, 1}, a.rights, page_by_page_);
      if (mapped) offset += r.length_bytes;
    });
    if (!mapped && offset != 0) {
      unmap_whole(*to.domain, iova_range::sized(where.first, offset));
      detail::sync(*to.domain);
    }
    if (!mapped)
      return fail({mapped.error().code, error_place::domain, offset + mapped.error().at});
    return {};
  }

  /// Unmaps, and leaves it to the caller to flush. False: the domain came back short.
  bool unmap(attachment_type& from, iova_range where) noexcept {
    exclusive_lock guard(from.mutex);
    from.stale = true;
    const bool complete = unmap_whole(*from.domain, where);
    if (!complete) from.poisoned = pages_.lost = true;
    return complete;
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

  /// The same for pages that are all in `stored`.
  std::uint64_t unpin_stored(page_range part) noexcept {
    std::uint64_t gone = 0;
    run place[16];
    for (page_index at = part.first; at <= part.last;) {
      const std::optional<page_range> there = pages_.stored.first_stored({at, part.last});
      if (!there) break;
      run_list some{place};
      const std::uint64_t got = pages_.stored.read(*there, some);
      for (const run& r : some) gone += unpin(r);
      at = there->first + got;
    }
    pages_.stored.erase(part);
    return gone;
  }

  std::uint64_t unpin(run r) noexcept {
    if (!pages_.is_pinnable() || pages_.lost || r.type() != memory_type::cached) return 0;
    pages_.from->is.pinner->unpin(r, pages_.writable);
    return page_count(r.length_bytes);
  }

  void settle(std::uint64_t gone) noexcept {
    pages_.pinned -= gone;
    pages_.from->uncharge(gone);
  }

  /// Drops from `stored` what a domain can be asked for, where that needs no split. It does not tell
  /// the kind of memory.
  void forget(page_range part) noexcept {
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
    exclusive_lock guard(h->storage->mutex);
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

  static std::uint64_t granule(const Domain& d) noexcept {
    return std::min(d.page_sizes().smallest(), Traits::page_bytes);
  }

  void undo_fill(area_type& a, attachment_list domains, page_index end) noexcept {
    if (end == a.range.first) return;
    const page_range part{a.range.first, end - 1};
    if (a.storage != nullptr) {  // others hold every page
      for (attachment_type* d : domains) unmap(*d, a.shown(part));
      return flush(domains);
    }
    if (!empty(a, part, domains, *domains.front(), false)) return;
    flush(domains);
    readers_.wait();
    release_stored_holes(part);
  }

  /// Takes pages `part` of `a`, which is no holder any more, out of the domains. Where `stored` has
  /// the frames, or nothing need be given back, it is left to the caller to flush and give back;
  /// else `last` is asked for the frames and they are given back here.
  bool empty(area_type& a, page_range part, attachment_list domains, attachment_type& last,
             bool charged) noexcept {
    bool complete = true;
    for (attachment_type* d : domains)
      if (d != &last) complete = unmap(*d, a.shown(part)) && complete;
    if (!pages_.is_pinnable() || pages_.stored.contains(part) || !any_unheld(part))
      return unmap(last, a.shown(part)) && complete;
    for (attachment_type* d : domains)
      if (d != &last) flush({&d, 1});
    const std::uint64_t gone = empty_by_runs(a, part, last, complete);
    if (charged) settle(gone);
    return complete;
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

  /// The domain is asked what it held, a batch at a time.
  std::uint64_t empty_by_runs(area_type& a, page_range part, attachment_type& last,
                              bool& complete) noexcept {
    batch_type batch(pages_.from->memory, batch_size(part));
    const iova_range all = a.shown(part);
    std::uint64_t gone = 0;
    iova at = all.first;
    for (;;) {
      batch.clear();
      std::uint64_t bytes;
      {
        exclusive_lock guard(last.mutex);
        bytes = unmap_runs(*last.domain, {at, all.last}, granule(*last.domain), batch.list());
        detail::sync(*last.domain);
        last.stale = false;
      }
      readers_.wait();
      if (bytes == 0 || bytes != batch.bytes()) {
        last.poisoned = pages_.lost = true;
        complete = false;
        break;
      }
      if (complete) gone += give_back_shown(a, at, batch);
      if (bytes > all.last - at) break;
      at += bytes;
    }
    return gone;
  }

  /// Gives back the whole pages behind the bytes of a batch that was unmapped from `at` on. A page
  /// shown in two batches (its domain's pages are smaller) goes with the second.
  std::uint64_t give_back_shown(area_type& a, iova at, batch_type& batch) noexcept {
    std::uint64_t gone = 0;
    iova next = at;
    for (const run& r : batch.view()) {
      const iova last = next + (r.length_bytes - 1);
      const std::uint64_t lead = a.byte_of(next) % Traits::page_bytes;
      const page_index first_page = a.index_of(next);
      page_index last_page = a.index_of(last);
      const bool ends_inside =
          last != a.where.last && (a.byte_of(last) + 1) % Traits::page_bytes != 0;
      if (!(ends_inside && last_page == first_page)) {
        if (ends_inside) last_page -= 1;
        const page_range span_all{first_page, last_page};
        const std::uint64_t frame = r.first.value - lead;
        for (double_span walk(&pages_.pins, &pages_.holders, span_all); walk.valid(); walk.next()) {
          if (walk.owner() != span_owner::none) continue;
          // What is stored is given back from there: it knows the kind of memory.
          page_range span = walk.range();
          while (true) {
            const std::optional<page_range> there = pages_.stored.first_stored(span);
            const page_index end = there ? there->first : span.last + 1;
            if (end > span.first)
              gone += unpin(run({frame + (span.first - first_page) * Traits::page_bytes},
                                (end - span.first) * Traits::page_bytes, r.type()));
            if (!there) break;
            gone += unpin_stored(*there);
            if (there->last == span.last) break;
            span.first = there->last + 1;
          }
        }
      }
      next = last.value == top ? last : last + 1;
    }
    return gone;
  }

  pages_type& pages_;
  typename Traits::readers& readers_;
  std::uint64_t page_by_page_;  // 0: large entries are welcome
};

}  // namespace iopt::detail
