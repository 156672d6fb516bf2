// iopt/core/cut.hpp - io_pagetable: cutting an area in two without disturbing what it shows.
//
// A cut is prepared, which may fail and changes nothing but the sizes of entries in a domain; and
// then committed, which cannot fail. The left part keeps the area's address; the right is new.
//
// Layer: core. Includes: core/io_pagetable.hpp.
#pragma once

#include <utility>

#include "iopt/core/io_pagetable.hpp"

namespace iopt {

/// The area that a cut after `last` would cut, or nullptr where there is nothing to do. What pins
/// and domains have against it is asked with `held_too`: Linux asks that after memory.
template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
auto io_pagetable<Pinner, Domain, Traits>::may_cut(iova last, cut_rule rule, bool held_too) const
    -> result<any_area*> {
  const auto c = areas_.find(last);
  if (!c.valid() || c.range().last == last) return nullptr;
  any_area& a = *c.value();
  const bool kernel = rule == cut_rule::as_iommufd;
  if (kernel && a.where.first == last) return nullptr;
  const auto refuse = [&](errc code) {
    return fail({code, error_place::area, a.where.first.value});
  };
  if (!a.is_present()) return refuse(errc::device_or_resource_busy);
  if (!(last + 1).is_aligned(alignment_) ||
      (page_offset(a) + (last + 1 - a.where.first)) % alignment_ != 0)
    return refuse(errc::invalid_argument);
  if (!held_too) return &a;
  if (pin_calls(a) != 0) return refuse(errc::invalid_argument);
  if (is_held(a) && large_pages_ && (kernel || !can_split)) return refuse(errc::invalid_argument);
  return &a;
}

/// Obtains all that a cut after `last` needs. Requires: areas_lock_, domains_lock_.
template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
result<void> io_pagetable<Pinner, Domain, Traits>::prepare_cut(iova last, cut_rule rule,
                                                               cut_plan& plan) {
  const result<any_area*> found = may_cut(last, rule, false);
  if (!found) return fail(found.error());
  if (*found == nullptr) return {};
  const result<area_type*> grown = expand_at(areas_.find(last));
  if (!grown) return fail(grown.error());
  area_type& a = **grown;
  if (!areas_.reserve(plan.count + 1)) return fail(errc::not_enough_memory);
  if (!readers_.area_is_cut(last)) return fail(errc::not_enough_memory);
  area_type* right =
      create<area_type>(iova_range{last, last}, *a.source, std::uint64_t{0}, a.rights);
  if (right == nullptr) return fail(errc::not_enough_memory);
  result<void> ready{};
  {
    detail::exclusive_lock guard(a.source->mutex);
    ready = a.source->stored.add_holder();
    if (ready) ++a.source->references;
  }
  if (!ready) {
    destroy(right);
    return ready;
  }
  plan.spare.append(*right);
  ++plan.count;
  if (const result<any_area*> held = may_cut(last, rule); !held) return fail(held.error());
  if (a.storage != nullptr && large_pages_)
    return split_entries({a.where.first, last}, last - a.where.first);
  return {};
}

/// Makes both ends of a range boundaries of entries, in every domain. Errors: those of a domain, with
/// its number and `offset`. Requires: can_split, or there is none.
template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
result<void> io_pagetable<Pinner, Domain, Traits>::split_entries(iova_range range,
                                                                 std::uint64_t offset) {
  for (std::size_t n = 0; n < domain_count_; ++n) {
    typename attachment_type::call guard(*domains_[n]);
    if (const result<void> done = detail::split(*domains_[n]->domain, range); !done)
      return fail({done.error().code, error_place::domain, offset, static_cast<std::uint32_t>(n)});
  }
  return {};
}

/// Both ends of a range. On error nothing is held back.
template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
result<void> io_pagetable<Pinner, Domain, Traits>::prepare_cuts(iova_range around, cut_rule rule,
                                                                cut_plan& plan) {
  result<void> ready = prepare_cut(around.last, rule, plan);
  if (ready && around.first.value != 0) ready = prepare_cut(around.first - 1, rule, plan);
  if (!ready) abandon(plan);
  return ready;
}

template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
void io_pagetable<Pinner, Domain, Traits>::commit(cut_plan& plan) noexcept {
  while (plan.spare.first != nullptr) {
    area_type& right = full(*std::exchange(plan.spare.first, plan.spare.first->chain));
    right.chain = nullptr;
    const iova last = right.where.first;
    const auto c = areas_.find(last);
    if (c.range().last == last) {  // two ranges meet here
      destroy_area(right);
      continue;
    }
    area_type& left = full(*c.value());
    detail::exclusive_lock guard(left.source->mutex);
    const bool held = left.storage != nullptr;
    if (held) left.source->holders.erase(left);
    const std::uint64_t right_start = left.byte_of(last + 1);
    unindex(left);
    right.show({last + 1, left.where.last}, right_start);
    left.show({left.where.first, last}, left.start_byte);
    right.storage = left.storage;
    detail::release_into(right.state, static_cast<area_state>(left.state));
    right.filled = left.filled;
    detail::release_into(right.suspended, static_cast<bool>(left.suspended));
    if (held) {
      left.source->holders.insert(left);
      left.source->holders.insert(right);
    }
    index(left);
    index(right);
    const result<void> split = areas_.split(c, last, &right);
    IOPT_ASSERT(split.has_value());
    static_cast<void>(split);
  }
  plan.count = 0;
}

template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
void io_pagetable<Pinner, Domain, Traits>::abandon(cut_plan& plan) noexcept {
  while (plan.spare.first != nullptr)
    destroy_area(*std::exchange(plan.spare.first, plan.spare.first->chain));
  plan.count = 0;
}

template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
result<void> io_pagetable<Pinner, Domain, Traits>::cut(iova last, cut_rule rule) {
  detail::shared_lock stable(domains_lock_);
  detail::exclusive_lock guard(areas_lock_);
  cut_plan plan;
  if (const result<void> ready = prepare_cut(last, rule, plan); !ready) {
    abandon(plan);
    return ready;
  }
  commit(plan);
  return {};
}

}  // namespace iopt
