// iopt/core/look.hpp - io_pagetable: looking at it, and checking it.
//
// Layer: core. Includes: core/io_pagetable.hpp.
#pragma once

#include <utility>

#include "iopt/containers/coverage_spans.hpp"
#include "iopt/core/io_pagetable.hpp"

namespace iopt {

template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
area_info io_pagetable<Pinner, Domain, Traits>::describe(const any_area& any) const {
  if (is_compact(any)) {
    const compact_type& a = compact(any);
    // What an area in flight holds is known to who moves it.
    const bool held = !a.is_in_flight() && a.held;
    return {.where = a.where,
            .rights = a.rights,
            .state = a.state,
            .kind = origin_kind::user,
            .from = {a.first_byte},
            .pages_id = a.in_family ? reinterpret_cast<std::uintptr_t>(a.family)
                                    : reinterpret_cast<std::uintptr_t>(&a),
            .pinned_pages = a.in_family ? static_cast<std::uint64_t>(a.family->pinned)
                            : held      ? a.page_count()
                                        : 0,
            .filled = held,
            .suspended = a.suspended};
  }
  const area_type& a = full(any);
  const pages_type& p = *a.source;
  if (a.pin_calls != 0)
    for (access_type* user = accesses_; user != nullptr; user = user->next_) user->tell_areas();
  detail::exclusive_lock guard(p.mutex);
  return {.where = a.where,
          .rights = a.rights,
          .state = a.state,
          .kind = p.from->is.kind,
          .from = {p.start + a.start_byte},
          .pages_id = reinterpret_cast<std::uintptr_t>(&p),
          .pinned_pages = p.pinned,
          .pin_calls = std::uint64_t{a.pin_calls} + a.more_pin_calls,
          .filled = a.storage != nullptr,
          .suspended = a.suspended,
          .revoked = p.revoked || a.filled == fill_state::revoked};
}

/// Where the memory of an area begins at its origin, which is told too. Requires: areas_lock_.
template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
auto io_pagetable<Pinner, Domain, Traits>::memory_of(const any_area& any) const -> memory {
  if (is_compact(any)) return memory(compact(any).origin().is, {compact(any).first_byte});
  const area_type& a = full(any);
  detail::exclusive_lock inner(a.source->mutex);
  return memory(a.source->from->is, {a.source->start + a.start_byte});
}

template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
std::optional<area_info> io_pagetable<Pinner, Domain, Traits>::find(iova at) const {
  detail::shared_lock guard(areas_lock_);
  const auto c = areas_.find(at);
  if (!c.valid()) return std::nullopt;
  return describe(*c.value());
}

template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
std::optional<area_info> io_pagetable<Pinner, Domain, Traits>::first_in(iova_range range) const {
  detail::shared_lock guard(areas_lock_);
  const auto c = areas_.first_overlap(range);
  if (!c.valid()) return std::nullopt;
  return describe(*c.value());
}

template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
auto io_pagetable<Pinner, Domain, Traits>::memory_at(iova at) const -> std::optional<memory> {
  detail::shared_lock guard(areas_lock_);
  const auto c = areas_.find(at);
  if (!c.valid()) return std::nullopt;
  memory shown = memory_of(*c.value());
  shown.from += at - c.range().first;
  return shown;
}

template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
auto io_pagetable<Pinner, Domain, Traits>::first_pinned(iova_range range) const
    -> std::optional<iova_range> {
  detail::shared_lock guard(areas_lock_);
  for (auto c = areas_.first_overlap(range); c.valid() && c.range().first <= range.last; c.next()) {
    if (is_compact(*c.value())) continue;
    const area_type& a = full(*c.value());
    const iova_range part = *a.where.intersection(range);
    detail::exclusive_lock inner(a.source->mutex);
    for (auto spans = a.source->pins.spans(a.indices_of(part)); spans.valid(); spans.next())
      if (spans.used()) return a.shown(spans.range()).intersection(part);
  }
  return std::nullopt;
}

template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
template <class F>
void io_pagetable<Pinner, Domain, Traits>::for_each_area(F f) const {
  detail::shared_lock guard(areas_lock_);
  for (auto c = areas_.begin(); c.valid(); c.next()) f(describe(*c.value()));
}

template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
template <class F>
void io_pagetable<Pinner, Domain, Traits>::for_each_usable(F f) const {
  detail::shared_lock guard(areas_lock_);
  for (auto spans = reserved_.spans(iova_range::whole()); spans.valid(); spans.next())
    if (!spans.used()) f(spans.range());
}

template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
template <class F>
void io_pagetable<Pinner, Domain, Traits>::for_each_view(const owner_type& owner, user_range shown,
                                                         F f) const {
  detail::shared_lock guard(areas_lock_);
  const auto tell = [&](const any_area& a) {
    const memory all = memory_of(a);
    if (all.of.kind != origin_kind::user || !(all.of.owner == owner)) return;
    const user_range here{all.from, all.from + a.where.length_minus_one()};
    if (const auto part = here.intersection(shown)) {
      const iova first = a.where.first + (part->first - here.first);
      f(iova_range{first, first + part->length_minus_one()}, part->first);
    }
  };
  if constexpr (Traits::reverse_index) {
    views_.for_each_overlap(shown, [&](const user_view& v) { tell(*v.shows); });
  } else {
    for (auto c = areas_.begin(); c.valid(); c.next()) tell(*c.value());
  }
}

template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
std::string_view io_pagetable<Pinner, Domain, Traits>::verify() const {
  detail::shared_lock guard(areas_lock_);
  if (const std::string_view text = areas_.verify(); !text.empty()) return text;
  if (const std::string_view text = reserved_.verify(); !text.empty()) return text;
  if (const std::string_view text = allowed_.verify(); !text.empty()) return text;
  for (const reservation* r = reserved_.first(); r != nullptr; r = reserved_.next(*r)) {
    if (areas_.first_overlap(r->range).valid()) return "no area touches a reserved range";
    if (allowed_.first_overlap(r->range) != nullptr) return "no allowed range is reserved";
  }
  for (auto c = areas_.begin(); c.valid(); c.next()) {
    if (c.value()->where != c.range()) return "an area is where the map has it";
    if (!c.range().is_aligned(alignment_) || page_offset(*c.value()) % alignment_ != 0)
      return "areas are aligned";
    if (is_compact(*c.value())) {
      const compact_type& a = compact(*c.value());
      if (!a.is_present()) continue;
      if (a.in_family && (a.family->references == 0 || !a.family->was.contains(a.where) ||
                          a.where.first.value + a.family->offset != a.first_byte))
        return "a family is counted by its members, and shows what it did";
      if (a.filled != fill_state::done)
        return "an area that is present is filled, or waits for its memory";
      if (a.held != (domain_count_ != 0)) return "areas are filled while there is a domain";
      continue;
    }
    const area_type& a = full(*c.value());
    const pages_type& p = *a.source;
    detail::exclusive_lock inner(p.mutex);
    if (a.range.last.value >= p.count) return "an area shows pages that exist";
    if (p.references == 0) return "pages are counted by their areas";
    if (a.storage != nullptr && !a.is_linked()) return "a filled area is a holder";
    if (a.storage == nullptr && a.is_linked()) return "an area that is not filled is no holder";
    if (a.is_present() && (a.filled == fill_state::not_yet || a.filled == fill_state::no_longer))
      return "an area that is present is filled, or waits for its memory";
    if (a.is_present() &&
        (a.storage != nullptr) != (a.filled == fill_state::done && domain_count_ != 0))
      return "areas are filled while there is a domain";
    if (a.storage != nullptr && domain_count_ != 0 && a.storage != domains_[0])
      return "the first domain is asked for frames";
    // Areas may share pages: these are looked at with the first that fills them.
    if (a.storage != nullptr && p.holders.first() != &a) continue;
    if (const std::string_view text = p.holders.verify(); !text.empty()) return text;
    if (const std::string_view text = p.pins.verify(); !text.empty()) return text;
    if (const std::string_view text = p.stored.verify(); !text.empty()) return text;
    std::uint64_t held = 0;
    for (double_span walk(&p.pins, &p.holders, page_range{{0}, {p.count - 1}}); walk.valid();
         walk.next()) {
      const page_range span = walk.range();
      if (walk.owner() != span_owner::none) held += span.length();
      if (walk.owner() == span_owner::first && !p.stored.contains(span))
        return "what is pinned is stored";
      if (walk.owner() == span_owner::none && p.stored.first_stored(span))
        return "only held pages are stored";
    }
    if (p.is_pinnable() && !p.lost && p.pinned > held) return "only held pages stay pinned";
  }
  return "";
}

}  // namespace iopt
