// iopt/core/fill.hpp - pages into domains, and out again.
//
// Filling maps frames in every domain, a batch of runs at a time. Unfilling takes entries out and
// gives back the pages that nobody else holds, in this order, batch by batch:
//
//   unmap every domain -> flush -> wait for readers -> unpin -> uncharge
//
// An unmap ends where a run ends, never inside. Unfilling allocates nothing and cannot fail; a
// domain that comes back short keeps its pins for ever, since a device may still reach the pages.
//
// Requires throughout: the mutex of the pages is held.
//
// Layer: core. Includes: base, containers, core/domain_calls.hpp, core/page_frames.hpp,
// core/pages.hpp.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "iopt/base/error.hpp"
#include "iopt/base/range.hpp"
#include "iopt/base/run.hpp"
#include "iopt/containers/double_span.hpp"
#include "iopt/containers/run_batch.hpp"
#include "iopt/core/domain_calls.hpp"
#include "iopt/core/page_frames.hpp"
#include "iopt/core/pages.hpp"

namespace iopt::detail {

/// page_transfer: the moves between one pages object and the domains of one table.
template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
class page_transfer : public page_frames<Pinner, Domain, Traits> {
  using frames = page_frames<Pinner, Domain, Traits>;
  using frames::any_unheld, frames::release_stored_holes, frames::settle;
  using frames::batch_size, frames::page_count, frames::granule, frames::pages_;
  using frames::take, frames::store_missing, frames::give_back, frames::unpin, frames::unpin_all,
      frames::unpin_but_keep, frames::charge, frames::forgo;
  using typename frames::batch_type, typename frames::tally;

 public:
  using frames::must_store;
  using typename frames::area_type;
  using typename frames::pages_type;
  using attachment_type = attachment<Domain, Traits>;
  using attachment_list = std::span<attachment_type* const>;

  page_transfer(pages_type& p, typename Traits::readers& readers, bool large_pages) noexcept
      : frames(p), readers_(readers), page_by_page_(large_pages ? 0 : Traits::page_bytes) {}

  /// Fills `a` into the domains, and makes it a holder if it was none. Memory that its exporter took
  /// away is passed over, but where other domains of the table show it still.
  /// `begun` holds what the caller has taken of its frames already, from the first on, pinned, and
  /// charged where that is done while pinning.
  /// Errors: those of the pinner (with the byte of the area) and of the domains (with the number of
  /// the domain in `domains`, and the byte); not_enough_memory. On error nothing changed, and what
  /// was begun is given back.
  result<void> fill(area_type& a, attachment_list domains, batch_type* begun = nullptr) {
    if (pages_.revoked && a.storage == nullptr) {
      a.filled = fill_state::revoked;
      return {};
    }
    if (domains.empty()) {
      a.filled = fill_state::done;
      return {};
    }
    const page_range all = a.range;
    std::optional<batch_type> own;
    if (begun == nullptr) begun = &own.emplace(pages_.from->memory, batch_size(all));
    batch_type& batch = *begun;
    tally added;
    for (const run& r : batch.view()) {
      if (r.type() == memory_type::cached) {
        added.pinned += page_count(r.length_bytes);
      } else {
        added.reserved = true;
      }
    }
    page_index at = all.first;
    for (;;) {
      const result<void> step = fill_batch(a, domains, {at, all.last}, batch, added);
      if (!step) {
        undo_fill(a, domains, at);
        forgo(added);
        return step;
      }
      const std::uint64_t got = page_count(batch.bytes());
      if (got > all.last - at) break;
      at += got;
      batch.clear();
    }
    if (const result<void> charged = charge(added); !charged) {
      batch.clear();
      undo_fill(a, domains, all.last + 1);
      return charged;
    }
    pages_.pinned += added.pinned;
    if (a.storage == nullptr) {
      a.storage = domains.front();
      if (at == all.first && batch.view().size() == 1 && !must_store && pages_.stored.empty()) {
        // One run says it all, and is kept without memory: no domain need be asked for it again.
        static_cast<void>(pages_.stored.store(all.first, batch.view().front()));
      }
      pages_.holders.insert(a);
    }
    a.filled = fill_state::done;
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
  /// readers, which may serve many areas, and then calls finish_unfill(). Until then `a` goes on
  /// holding them, so that who takes the pages, or lets them go, meanwhile does so beside it.
  bool begin_unfill(area_type& a, attachment_list domains) noexcept {
    if (a.storage == nullptr) return true;
    attachment_type& last = *a.storage;
    if (pages_.is_pinnable() && pages_.stored.contains(a.range)) {
      ++pages_.leaving;
      bool complete = true;
      for (attachment_type* d : domains) complete = unmap(*d, a.where) && complete;
      return complete;
    }
    pages_.holders.erase(a);
    a.storage = nullptr;
    const bool complete = empty(a, a.range, domains, last, true);
    // Others hold the pages, and may give them back before the caller flushes.
    if (pages_.is_pinnable()) flush(domains);
    return complete;
  }
  void finish_unfill(area_type& a) noexcept {
    if (a.storage != nullptr) {
      pages_.holders.erase(a);
      a.storage = nullptr;
      --pages_.leaving;
    }
    settle(release_stored_holes(a.range));
  }

  static void flush(attachment_list domains) noexcept { attachment_type::flush_all(domains); }

  /// Takes `a` out of one domain while others go on holding it. The caller flushes.
  bool leave(area_type& a, attachment_type& from) noexcept { return unmap(from, a.where); }

 private:
  result<void> fill_batch(area_type& a, attachment_list domains, page_range rest, batch_type& batch,
                          tally& added) {
    result<void> taken{};
    if (const std::uint64_t begun = page_count(batch.bytes()); begun <= rest.last - rest.first)
      taken = take({rest.first + begun, rest.last}, batch.list(), added);
    if (!taken) {
      error e = taken.error();
      if (e.place == error_place::request_byte) e.at = byte_in_area(a, {e.at});
      give_back(rest.first, batch);
      return fail(e);
    }
    const page_range part = page_range::sized(rest.first, page_count(batch.bytes()));
    if (must_store || added.reserved) {
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

  static std::uint64_t byte_in_area(const area_type& a, page_index at) noexcept {
    return at == a.range.first ? 0 : at.value * Traits::page_bytes - a.start_byte;
  }

  result<void> map(attachment_type& to, iova_range where, const area_type& a, page_range part,
                   const batch_type& batch) {
    const std::uint64_t bytes = where.length_minus_one() + 1;
    if (bytes == batch.bytes())
      return to.put_in(where.first, batch.view(), a.rights, page_by_page_);
    // The area begins or ends inside a page: so do its first and last run.
    const std::uint64_t skip = part.first == a.range.first ? a.page_offset() : 0;
    std::uint64_t offset = 0;
    result<void> mapped{};
    for_each_slice(batch.view(), skip, bytes, [&](run r) {
      if (!mapped) return;
      mapped = to.put_in(where.first + offset, {&r, 1}, a.rights, page_by_page_);
      if (mapped) offset += r.length_bytes;
    });
    if (mapped) return {};
    if (offset != 0) {
      unmap(to, iova_range::sized(where.first, offset));
      to.flush();
    }
    return fail({mapped.error().code, error_place::domain, offset + mapped.error().at});
  }

  /// Unmaps, and leaves it to the caller to flush. False: the domain came back short.
  bool unmap(attachment_type& from, iova_range where) noexcept {
    const bool complete = from.take_out(where);
    if (!complete) pages_.lost = true;
    return complete;
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

  /// The domain is asked what it held, a batch at a time.
  std::uint64_t empty_by_runs(area_type& a, page_range part, attachment_type& last,
                              bool& complete) noexcept {
    batch_type batch(pages_.from->memory, batch_size(part));
    const iova_range all = a.shown(part);
    // Mostly nobody else has to do with the pages, and what the domain held is theirs, run by run.
    const bool alone = pages_.pins.empty() && pages_.holders.empty() && pages_.stored.empty() &&
                       granule(*last.domain) == Traits::page_bytes &&
                       a.byte_of(all.first) % Traits::page_bytes == 0 &&
                       (a.byte_of(all.last) + 1) % Traits::page_bytes == 0;
    std::uint64_t gone = 0;
    iova at = all.first;
    for (;;) {
      batch.clear();
      std::uint64_t bytes;
      {
        typename attachment_type::call guard(last);
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
      if (complete) gone += alone ? unpin_all(batch) : give_back_shown(a, at, batch);
      if (bytes > all.last - at) break;
      at += bytes;
    }
    for (double_span walk(&pages_.pins, &pages_.holders, part); !alone && walk.valid(); walk.next())
      if (walk.owner() == span_owner::none) pages_.stored.erase(walk.range());
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
          // What is stored is given back from there: it knows the kind of memory. The rest is
          // ordinary memory, whatever kind the domain says it held.
          page_range span = walk.range();
          while (true) {
            const std::optional<page_range> there = pages_.stored.first_stored(span);
            const page_index end = there ? there->first : span.last + 1;
            if (end > span.first)
              gone += unpin(run({frame + (span.first - first_page) * Traits::page_bytes},
                                (end - span.first) * Traits::page_bytes));
            if (!there) break;
            gone += unpin_but_keep(*there);
            if (there->last == span.last) break;
            span.first = there->last + 1;
          }
        }
      }
      next = last.value == top ? last : last + 1;
    }
    return gone;
  }

  typename Traits::readers& readers_;
  std::uint64_t page_by_page_;  // 0: large entries are welcome
};

}  // namespace iopt::detail
