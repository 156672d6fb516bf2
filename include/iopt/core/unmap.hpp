// iopt/core/unmap.hpp - io_pagetable: unmapping by profile.
//
// An unmap gathers the areas that go, marking each in flight, and then takes them all down
// together: out of every domain, one flush, one wait for readers, out of the table, unpinned. While
// it gathers nothing is lost yet, so an operation that must be whole can put them back.
//
// Layer: core. Includes: core/io_pagetable.hpp.
#pragma once

#include <utility>

#include "iopt/core/access_object.hpp"
#include "iopt/core/io_pagetable.hpp"

namespace iopt {

/// The checks that some profiles make before anything goes.
template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
result<void> io_pagetable<Pinner, Domain, Traits>::check_ends(iova_range range,
                                                              const unmap_rules& rules) const {
  if (rules.bisect != bisect_rule::refuse_first) return {};
  const auto head = areas_.first_overlap(range);
  if (rules.must_match_area && (!head.valid() || head.range() != range))
    return fail(rules.bisect_error);
  if (!head.valid()) return {};
  if (head.range().first < range.first)
    return fail({rules.bisect_error, error_place::area, head.range().first.value});
  const auto tail = areas_.find(range.last);
  if (tail.valid() && tail.range().last > range.last)
    return fail({rules.bisect_error, error_place::area, tail.range().first.value});
  return {};
}

template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
unmap_report io_pagetable<Pinner, Domain, Traits>::plan(iova_range range,
                                                        const unmap_rules& rules) const {
  unmap_report report;
  const bool as_iommufd = rules.bisect == bisect_rule::cut_as_iommufd;
  const bool cuts = rules.cuts() && !(as_iommufd && large_pages_);
  if (cuts) {
    const cut_rule how = as_iommufd ? cut_rule::as_iommufd : cut_rule::split;
    result<any_area*> ok = may_cut(range.last, how);
    if (ok && range.first.value != 0) ok = may_cut(range.first - 1, how);
    if (!ok) report.outcome = fail(ok.error());
  } else {
    report.outcome = check_ends(range, rules);
  }
  if (!report.outcome) return report;

  for (auto c = areas_.first_overlap(range); c.valid() && c.range().first <= range.last; c.next()) {
    const any_area& a = *c.value();
    if (a.is_in_flight()) {
      report.outcome =
          fail({errc::device_or_resource_busy, error_place::area, a.where.first.value});
      return report;
    }
    iova_range goes = a.where;
    // iommufd leaves an area's first byte with the rest: a cut behind it is none.
    const bool stays_whole =
        as_iommufd && (range.last == goes.first || range.first.value == goes.first.value + 1);
    if (!range.contains(goes)) {
      if (rules.bisect == bisect_rule::take_or_stop) {
        if (goes.first < range.first) break;
      } else if (cuts && !stays_whole) {
        goes = *goes.intersection(range);
      } else {
        report.outcome = fail({rules.bisect_error, error_place::area, a.where.first.value});
        return report;
      }
    }
    report.bytes += goes.length_minus_one() + 1;
    ++report.areas;
  }
  if (report.areas == 0 && rules.empty_is_error)
    report.outcome = fail(errc::no_such_file_or_directory);
  return report;
}

template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
unmap_report io_pagetable<Pinner, Domain, Traits>::would_unmap(iova first,
                                                               std::uint64_t length_bytes,
                                                               unmap_profile profile,
                                                               kernel_level level) const {
  const unmap_rules rules = rules_of(profile, level);
  const result<iova_range> range = unmap_request(rules, first, length_bytes);
  if (!range) return {.outcome = fail(range.error())};
  detail::shared_lock guard(areas_lock_);
  return plan(*range, rules);
}

/// Cuts the areas that stick out of the range, at both ends or at none. Requires: rules.cuts().
template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
result<void> io_pagetable<Pinner, Domain, Traits>::cut_for(iova_range range,
                                                           const unmap_rules& rules) {
  detail::shared_lock stable(domains_lock_);
  detail::exclusive_lock guard(areas_lock_);
  const bool as_iommufd = rules.bisect == bisect_rule::cut_as_iommufd;
  if (as_iommufd && large_pages_) return {};
  const cut_rule how = as_iommufd ? cut_rule::as_iommufd : cut_rule::split;
  cut_plan plan;
  if (const result<void> ready = prepare_cuts(range, how, plan); !ready) return ready;
  commit(plan);
  return {};
}

/// The same for many ranges: all that can refuse is asked before the first cut.
template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
result<void> io_pagetable<Pinner, Domain, Traits>::cut_for_all(std::span<const iova_range> ranges,
                                                               const unmap_rules& rules) {
  detail::shared_lock stable(domains_lock_);
  detail::exclusive_lock guard(areas_lock_);
  const bool as_iommufd = rules.bisect == bisect_rule::cut_as_iommufd;
  const cut_rule how = as_iommufd ? cut_rule::as_iommufd : cut_rule::split;
  cut_plan cuts;
  for (std::size_t n = 0; n < ranges.size(); ++n) {
    result<void> ready = plan(ranges[n], rules).outcome;
    if (ready && !(as_iommufd && large_pages_)) ready = prepare_cuts(ranges[n], how, cuts);
    if (ready) continue;
    abandon(cuts);
    return fail({ready.error().code, error_place::element, n});
  }
  commit(cuts);
  return {};
}

/// Marks in flight, and chains, the areas that go. Whoever pinned is asked to let go first.
template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
unmap_report io_pagetable<Pinner, Domain, Traits>::gather(iova_range range,
                                                          const unmap_rules& rules,
                                                          area_chain& chain) {
  constexpr unsigned patience = 100;
  unmap_report report;
  iova cursor = range.first;
  std::optional<iova> asked;
  unsigned tries = 0;
  bool first_look = true;
  for (;;) {
    std::optional<iova_range> pinned;
    {
      const domains_claimed guard(*this, chain.first == nullptr);
      if (std::exchange(first_look, false)) report.outcome = check_ends(range, rules);
      while (report.outcome) {
        const auto c = areas_.first_overlap({cursor, range.last});
        if (!c.valid()) return report;
        any_area& a = *c.value();
        const auto refuse = [&](errc code) {
          report.outcome = fail({code, error_place::area, a.where.first.value});
        };
        if (a.is_in_flight()) {
          refuse(errc::device_or_resource_busy);
        } else if (!range.contains(a.where) && rules.bisect != bisect_rule::take_or_stop) {
          refuse(rules.bisect_error);
        } else if (a.where.first < range.first) {
          return report;
        } else if (pin_calls(a) != 0) {
          if (asked != a.where.first) tries = 0;
          asked = a.where.first;
          if (++tries > patience) {
            detail::release_into(a.state, area_state::present);
            refuse(errc::resource_deadlock_would_occur);
            break;
          }
          detail::release_into(a.state, area_state::under_notification);
          pinned = a.where;
          break;
        } else {
          detail::release_into(a.state, area_state::in_flight);
          readers_.area_is_to_go(a.where);
          chain.append(a);
          report.bytes += a.where.length_minus_one() + 1;
          ++report.areas;
          if (a.where.last >= range.last) return report;
          cursor = a.where.last + 1;
        }
      }
    }
    if (!pinned) return report;
    notify(*pinned);
  }
}

/// Tells every access object that an area goes. Called without locks.
template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
void io_pagetable<Pinner, Domain, Traits>::notify(iova_range gone) {
  detail::shared_lock guard(accesses_lock_);
  for (access_type* a = accesses_; a != nullptr; a = a->next_) a->on_unmap_(a->context_, gone);
}

/// Takes one area in flight out of the domains, to be flushed. False: a domain came back short. (A full
/// area's part is out of line: a compact one's need not save registers for it.)
template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
bool io_pagetable<Pinner, Domain, Traits>::begin_take_down(any_area& a) noexcept {
  if (!is_compact(a)) return begin_take_down(full(a));
  a.filled = fill_state::no_longer;
  return !a.held || moves(compact(a)).take_out(domains());
}
template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
bool io_pagetable<Pinner, Domain, Traits>::begin_take_down(area_type& a) noexcept {
  detail::exclusive_lock guard(a.source->mutex);
  a.filled = fill_state::no_longer;
  return moves(*a.source).begin_unfill(a, domains());
}
/// Gives back what nobody else holds of an area that no device shows any more.
template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
void io_pagetable<Pinner, Domain, Traits>::finish_take_down(any_area& a) noexcept {
  if (is_compact(a)) return moves(compact(a)).give_back();
  finish_take_down(full(a));
}
template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
void io_pagetable<Pinner, Domain, Traits>::finish_take_down(area_type& a) noexcept {
  detail::exclusive_lock guard(a.source->mutex);
  moves(*a.source).finish_unfill(a);
}

/// Takes areas in flight out of the domains and the table. False: a domain came back short.
template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
bool io_pagetable<Pinner, Domain, Traits>::take_down(area_chain chain) noexcept {
  if (chain.first == nullptr) return true;
  bool complete = true;
  for (any_area* a = chain.first; a != nullptr; a = a->chain)
    complete = begin_take_down(*a) && complete;
  transfer::flush(domains());
  readers_.wait();
  for (any_area* a = chain.first; a != nullptr; a = a->chain) finish_take_down(*a);
  discard(chain.first);
  return complete;
}

/// Areas that were to go stay after all.
template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
void io_pagetable<Pinner, Domain, Traits>::put_back(area_chain chain) noexcept {
  publish(chain.first);
}

/// The area of exactly that range, put in flight, if there is one that is ready to go: every profile has
/// that so. With `cuts`, also one that can be made of a compact area at once. Null: there is none, or it
/// takes more than that. Errors: as cut().
template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
auto io_pagetable<Pinner, Domain, Traits>::take_one(iova_range range, bool cuts) noexcept
    -> result<any_area*> {
  const domains_claimed guard(*this);
  if (cuts) prefetch_in_domains(range);
  const auto c = areas_.seek(range.first);
  if (!c.valid()) return nullptr;
  any_area& a = *c.value();
  if (c.range() != range) {
    if constexpr (has_compact)
      if (cuts) return punch(a, range);
    return nullptr;
  }
  if (!a.is_present() || pin_calls(a) != 0) return nullptr;
  detail::release_into(a.state, area_state::in_flight);
  readers_.area_is_to_go(range);
  return &a;
}

/// Takes down one area in flight, to its end, and reports that.
template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
unmap_report io_pagetable<Pinner, Domain, Traits>::finish_one(any_area& a) noexcept {
  unmap_report report{.bytes = a.where.length_minus_one() + 1, .areas = 1};
  if (!begin_take_down(a)) report.outcome = fail(errc::io_error);
  transfer::flush(domains());
  readers_.wait();
  finish_take_down(a);
  detail::exclusive_lock guard(areas_lock_);
  forget(a);
  return report;
}

template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
unmap_report io_pagetable<Pinner, Domain, Traits>::unmap(iova first, std::uint64_t length_bytes,
                                                         unmap_profile profile,
                                                         kernel_level level) {
  return unmap_dirty(first, length_bytes, profile, nullptr, level);
}

template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
template <class Record>
unmap_report io_pagetable<Pinner, Domain, Traits>::unmap_dirty(iova first,
                                                               std::uint64_t length_bytes,
                                                               unmap_profile profile, Record record,
                                                               kernel_level level) {
  const unmap_rules rules = rules_of(profile, level);
  const result<iova_range> range = unmap_request(rules, first, length_bytes);
  if (!range) return {.outcome = fail(range.error())};
  if constexpr (std::is_same_v<Record, std::nullptr_t>) {
    const result<any_area*> one = take_one(*range, rules.bisect == bisect_rule::cut);
    if (!one) return {.outcome = fail(one.error())};
    if (*one != nullptr) return finish_one(**one);
  }
  if (rules.cuts()) {
    if (const result<void> ready = cut_for(*range, rules); !ready)
      return {.outcome = fail(ready.error())};
  }
  area_chain chain;
  unmap_report report = gather(*range, rules, chain);
  if constexpr (!std::is_same_v<Record, std::nullptr_t>) {
    for (const any_area* a = chain.first; a != nullptr; a = a->chain) tell_dirty(*a, record);
  }
  const bool complete = take_down(chain);
  if (report.outcome && !complete) report.outcome = fail(errc::io_error);
  if (report.outcome && report.areas == 0 && rules.empty_is_error)
    report.outcome = fail(errc::no_such_file_or_directory);
  return report;
}

template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
unmap_report io_pagetable<Pinner, Domain, Traits>::unmap_all() {
  area_chain chain;
  unmap_report report = gather(iova_range::whole(),
                               rules_of(unmap_profile::iommufd, kernel_level::linux_6_12), chain);
  if (!take_down(chain) && report.outcome) report.outcome = fail(errc::io_error);
  return report;
}

template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
unmap_report io_pagetable<Pinner, Domain, Traits>::unmap_all(std::span<const iova_range> ranges,
                                                             unmap_profile profile,
                                                             kernel_level level) {
  const unmap_rules rules = rules_of(profile, level);
  unmap_report sum;
  if (rules.cuts()) {
    if (sum.outcome = cut_for_all(ranges, rules); !sum.outcome) return sum;
  }
  area_chain chain;
  for (std::size_t n = 0; n < ranges.size(); ++n) {
    unmap_report one = gather(ranges[n], rules, chain);
    if (one.outcome && one.areas == 0 && rules.empty_is_error)
      one.outcome = fail(errc::no_such_file_or_directory);
    if (!one.outcome) {
      put_back(chain);
      return {.outcome = fail({one.outcome.error().code, error_place::element, n})};
    }
    sum.bytes += one.bytes;
    sum.areas += one.areas;
  }
  if (!take_down(chain)) sum.outcome = fail(errc::io_error);
  return sum;
}

}  // namespace iopt
