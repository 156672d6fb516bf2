// iopt/core/change.hpp - io_pagetable: changing what a live range allows, or shows.
//
// Everything that can fail comes first; what a domain was told is taken back in the reverse order
// where a later domain refuses, which the domains' contracts promise to be possible.
//
// Layer: core. Includes: core/io_pagetable.hpp.
#pragma once

#include <algorithm>
#include <utility>

#include "iopt/core/cut.hpp"
#include "iopt/core/io_pagetable.hpp"

namespace iopt {

/// Whether areas that are present cover the range without a gap.
template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
result<void> io_pagetable<Pinner, Domain, Traits>::check_covered(iova_range range) const {
  iova next = range.first;
  for (auto c = areas_.find(next);; c.next()) {
    if (!c.valid() || !c.range().contains(next))
      return fail({errc::no_such_file_or_directory, error_place::request_byte, next - range.first});
    if (!c.value()->is_present())
      return fail({errc::device_or_resource_busy, error_place::area, c.range().first.value});
    if (c.range().last >= range.last) return {};
    next = c.range().last + 1;
  }
}

template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
result<void> io_pagetable<Pinner, Domain, Traits>::protect(iova_range range, access_rights rights) {
  detail::shared_lock stable(domains_lock_);
  detail::exclusive_lock guard(areas_lock_);
  if (const result<void> covered = check_covered(range); !covered) return covered;
  for (auto c = areas_.find(range.first); c.valid() && c.range().first <= range.last; c.next()) {
    if (allows(rights, access_rights::write) && !is_writable(*c.value()))
      return fail({errc::operation_not_permitted, error_place::area, c.range().first.value});
  }
  if (const result<void> grown = expand_in(range); !grown) return grown;
  cut_plan plan;
  if (const result<void> ready = prepare_cuts(range, cut_rule::split, plan); !ready) return ready;

  if (domain_count_ != 0) {
    if constexpr (protecting_domain<Domain>) {
      for (auto c = areas_.find(range.first); c.valid() && c.range().first <= range.last;
           c.next()) {
        const any_area& a = *c.value();
        if (!is_held(a)) continue;
        const iova_range part = *a.where.intersection(range);
        for (std::size_t n = 0; n < domain_count_; ++n) {
          result<void> done{};
          {
            typename attachment_type::call inner(*domains_[n]);
            domains_[n]->mark_stale();
            done = domains_[n]->domain->protect(part, rights);
          }
          if (done) continue;
          give_back_rights(range, a, n);
          abandon(plan);
          return fail({done.error().code, error_place::domain, part.first - range.first,
                       static_cast<std::uint32_t>(n)});
        }
      }
    } else {
      abandon(plan);
      return fail(errc::operation_not_supported);
    }
  }
  commit(plan);
  for (auto c = areas_.find(range.first); c.valid() && c.range().first <= range.last; c.next())
    detail::release_into(c.value()->rights, rights);
  flush_all();
  return {};
}

/// Gives the areas of the range before `stop` their old rights back in every domain, and `stop`
/// itself in the first `refused` domains.
template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
void io_pagetable<Pinner, Domain, Traits>::give_back_rights(iova_range range, const any_area& stop,
                                                            std::size_t refused) noexcept {
  if constexpr (protecting_domain<Domain>) {
    for (auto c = areas_.find(range.first); c.valid(); c.next()) {
      const any_area& a = *c.value();
      const std::size_t told = &a == &stop ? refused : domain_count_;
      for (std::size_t n = 0; n < told && is_held(a); ++n) {
        typename attachment_type::call inner(*domains_[n]);
        domains_[n]->mark_stale();
        static_cast<void>(domains_[n]->domain->protect(*a.where.intersection(range), a.rights));
      }
      if (&a == &stop) break;
    }
    flush_all();
  }
}

template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
void io_pagetable<Pinner, Domain, Traits>::flush_all() noexcept {
  transfer::flush(domains());
}

/// Points the domains' entries for `part` of an area at the frames of `from`, which `from` stores.
/// `from` shows them from byte `start_byte` on. Domains [0, count) are told.
template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
result<void> io_pagetable<Pinner, Domain, Traits>::show_instead(iova_range where, pages_type& from,
                                                                std::uint64_t start_byte,
                                                                access_rights rights,
                                                                attachment_type& in) {
  if constexpr (replacing_domain<Domain>) {
    constexpr std::size_t most = 64;
    run place[most];
    iova next = where.first;
    for (;;) {
      const std::uint64_t byte = start_byte + (next - where.first);
      const std::uint64_t end = start_byte + where.length_minus_one();
      run_list some{place};
      page_range wanted{{byte / page_bytes}, {end / page_bytes}};
      if (!large_pages_ && wanted.length() > most) wanted.last = wanted.first + (most - 1);
      {
        detail::exclusive_lock inner(from.mutex);
        from.stored.read(wanted, some);
      }
      const std::uint64_t skip = byte % page_bytes;
      const std::uint64_t bytes = std::min(some.bytes() - skip, end - byte + 1);
      run told[most];
      std::size_t count = 0;
      for_each_slice(some.view(), skip, bytes, [&](run r) {
        // Without large pages each page is a range of its own, as where it is mapped.
        const std::uint64_t step = large_pages_ ? r.length_bytes : page_bytes;
        for (std::uint64_t done = 0; done < r.length_bytes; done += step)
          told[count++] = r.slice(done, step);
      });
      typename attachment_type::call guard(in);
      in.mark_stale();
      const result<void> done = in.domain->replace(next, std::span<const run>(told, count), rights);
      if (!done) return fail({done.error().code, error_place::domain, next - where.first});
      if (bytes > where.last - next) return {};
      next += bytes;
    }
  } else {
    return fail(errc::operation_not_supported);
  }
}

template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
result<void> io_pagetable<Pinner, Domain, Traits>::remap(iova_range range, const memory& what,
                                                         access_rights rights) {
  if (range == iova_range::whole()) return fail(errc::invalid_argument);
  const result<area_type*> made = create_area(what, range.length(), rights);
  if (!made) return fail(made.error());
  area_type& fresh = **made;
  result<void> done = remap_to(range, fresh);
  if (!done) detail::destroy_area(fresh);
  return done;
}

/// Puts `fresh`, at no IOVA yet, in the place of the areas of the range.
template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
result<void> io_pagetable<Pinner, Domain, Traits>::remap_to(iova_range range, area_type& fresh) {
  detail::shared_lock stable(domains_lock_);
  detail::exclusive_lock guard(areas_lock_);
  if (const result<void> covered = check_covered(range); !covered) return covered;
  if (!range.is_aligned(alignment_) || fresh.page_offset() % alignment_ != 0)
    return fail(errc::invalid_argument);
  if (domain_count_ != 0 && !replacing_domain<Domain>) return fail(errc::operation_not_supported);
  if (const result<void> grown = expand_in(range); !grown) return grown;
  for (auto c = areas_.find(range.first); c.valid() && c.range().first <= range.last; c.next()) {
    const area_type& a = full(*c.value());
    if (a.pin_calls != 0 || a.suspended || !a.source->is_pinnable())
      return fail({errc::device_or_resource_busy, error_place::area, a.where.first.value});
  }
  cut_plan plan;
  if (const result<void> ready = prepare_cuts(range, cut_rule::split, plan); !ready) return ready;
  fresh.show(range, fresh.start_byte);
  pages_type& p = *fresh.source;
  // The frames of both, old and new, are stored before any domain hears of the change: then it can
  // be taken back, and the old pages can be given back, without asking anybody. The old ones are
  // pinned as an access would, so that they stay stored whatever other tables do with them.
  pin_record* pinned = nullptr;  // one for each area, in order
  pin_record** pinned_end = &pinned;
  // Ends the first of them, which is of that area.
  const auto unpin_first = [&](area_type& a) {
    pin_record* const as = std::exchange(pinned, pinned->chain);
    {
      detail::exclusive_lock inner(a.source->mutex);
      unpin_pages(*a.source, *as);
    }
    destroy(as);
  };
  const bool told = readers_.is_told(fresh);
  // Calls f(part, whether it was told) for the part of each area of the range.
  const auto each_part = [&](auto f) {
    if constexpr (!translation_keeper<typename Traits::readers>) return;
    for (auto c = areas_.find(range.first); c.valid() && c.range().first <= range.last; c.next()) {
      const area_type& a = full(*c.value());
      detail::exclusive_lock inner(a.source->mutex);
      f(*c.range().intersection(range), readers_.is_told(a));
    }
  };
  result<void> done = areas_.reserve(plan.count + 1);
  each_part([&](iova_range part, bool told_before) {
    if (done)
      done = readers_.area_becomes_told(part, {p.start + fresh.byte_of(part.first)}, told_before,
                                        told);
  });
  if (done && domain_count_ != 0) {
    done = moves(p).store(fresh.range);
    if (!done && done.error().place == error_place::request_byte)
      done = fail({done.error().code, error_place::request_byte,
                   fresh.shown({{done.error().at}, fresh.range.last}).first - range.first});
    for (auto c = areas_.find(range.first); done && c.valid() && c.range().first <= range.last;
         c.next()) {
      area_type& a = full(*c.value());
      detail::exclusive_lock inner(a.source->mutex);
      pin_record* const as = create<pin_record>();
      if (as != nullptr) as->range = a.indices_of(*a.where.intersection(range));
      done =
          as == nullptr ? result<void>(fail(errc::not_enough_memory)) : pin_pages(*a.source, *as);
      if (done) {
        *pinned_end = as;
        pinned_end = &as->chain;
      } else if (as != nullptr) {
        destroy(as);
      }
    }
    for (auto c = areas_.find(range.first); done && c.valid() && c.range().first <= range.last;
         c.next()) {
      area_type& a = full(*c.value());
      const iova_range part = *a.where.intersection(range);
      for (std::size_t n = 0; done && n < domain_count_; ++n) {
        done = show_instead(part, p, fresh.byte_of(part.first), fresh.rights, *domains_[n]);
        if (done) continue;
        done = fail({done.error().code, error_place::domain,
                     part.first - range.first + done.error().at, static_cast<std::uint32_t>(n)});
        show_old_again(range, a, n);
      }
    }
  }
  if (!done) {
    for (auto c = areas_.find(range.first); pinned != nullptr; c.next())
      unpin_first(full(*c.value()));
    if (domain_count_ != 0) moves(p).release_unheld(fresh.range);
    each_part([&](iova_range part, bool told_before) {
      if (!told_before) readers_.area_goes(part);
    });
    abandon(plan);
    return done;
  }
  flush_all();
  readers_.area_shows(range, readers_.address_of(fresh), told, true);
  readers_.wait();
  if (!told) readers_.area_goes(range);
  commit(plan);
  for (auto c = areas_.find(range.first); c.valid() && c.range().first <= range.last;) {
    area_type& a = full(*c.value());
    {
      detail::exclusive_lock inner(a.source->mutex);
      if (a.storage != nullptr) {
        a.source->holders.erase(a);
        a.storage = nullptr;
      }
    }
    if (pinned != nullptr) unpin_first(a);
    unindex(a);
    areas_.erase(c);
    destroy_area(a);
  }
  if (domain_count_ != 0) {
    fresh.storage = domains_[0];
    p.holders.insert(fresh);
    moves(p).forget_stored(fresh.range);
  }
  detail::release_into(fresh.state, area_state::present);
  fresh.filled = fill_state::done;
  const result<void> inserted = areas_.insert(range, &fresh);
  IOPT_ASSERT(inserted.has_value());
  static_cast<void>(inserted);
  index(fresh);
  return {};
}

/// Undoes show_instead() for the areas of the range before `stop`, and for `stop` itself in the
/// first `told` domains and, in part, the next.
template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
void io_pagetable<Pinner, Domain, Traits>::show_old_again(iova_range range, const area_type& stop,
                                                          std::size_t told) noexcept {
  for (auto c = areas_.find(range.first); c.valid(); c.next()) {
    area_type& a = full(*c.value());
    const iova_range part = *a.where.intersection(range);
    const std::size_t count = &a == &stop ? told + 1 : domain_count_;
    for (std::size_t n = 0; n < count && a.storage != nullptr; ++n)
      static_cast<void>(
          show_instead(part, *a.source, a.byte_of(part.first), a.rights, *domains_[n]));
    if (&a == &stop) break;
  }
  flush_all();
}

}  // namespace iopt
