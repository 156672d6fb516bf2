// iopt/core/attach.hpp - io_pagetable: domains, alignment, reserved and allowed ranges.
//
// Layer: core. Includes: core/io_pagetable.hpp.
#pragma once

#include <algorithm>
#include <utility>

#include "iopt/containers/coverage_spans.hpp"
#include "iopt/core/access_object.hpp"
#include "iopt/core/io_pagetable.hpp"

namespace iopt {

/// What every IOVA, length and page offset must be a multiple of, with `extra` added.
template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
std::uint64_t io_pagetable<Pinner, Domain, Traits>::alignment_with(
    const Domain* extra) const noexcept {
  std::uint64_t alignment = large_pages_ ? 1 : page_bytes;
  for (const attachment_type* d : domains())
    alignment = std::max(alignment, d->domain->page_sizes().smallest());
  for (const access_type* a = accesses_; a != nullptr; a = a->next_)
    alignment = std::max(alignment, a->alignment());
  if (extra != nullptr)
    alignment = std::max({alignment, alignment_, extra->page_sizes().smallest()});
  return alignment;
}

template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
result<void> io_pagetable<Pinner, Domain, Traits>::check_alignment(std::uint64_t alignment) const {
  if (alignment <= alignment_) return {};
  for (auto c = areas_.begin(); c.valid(); c.next()) {
    if (!c.range().is_aligned(alignment) || page_offset(*c.value()) % alignment != 0)
      return fail({errc::address_in_use, error_place::area, c.range().first.value});
  }
  return {};
}

template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
void io_pagetable<Pinner, Domain, Traits>::update_alignment() noexcept {
  alignment_ = alignment_with(nullptr);
}

template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
auto io_pagetable<Pinner, Domain, Traits>::find_attachment(const Domain& domain) const noexcept
    -> attachment_type* {
  for (attachment_type* d : domains())
    if (d->domain == &domain) return d;
  return nullptr;
}

/// Room for one more domain in the list.
template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
result<void> io_pagetable<Pinner, Domain, Traits>::grow_domains() {
  if (domain_count_ < domain_room_) return {};
  const std::size_t room = domain_room_ == 0 ? 4 : 2 * domain_room_;
  void* place = memory_.allocate(room * sizeof(*domains_), alignof(attachment_type*));
  if (place == nullptr) return fail(errc::not_enough_memory);
  auto** grown = static_cast<attachment_type**>(place);
  std::copy_n(domains_, domain_count_, grown);
  if (domains_ != nullptr)
    memory_.deallocate(domains_, domain_room_ * sizeof(*domains_), alignof(attachment_type*));
  domains_ = grown;
  domain_room_ = room;
  return {};
}

/// Reserves what a domain cannot translate, and what its devices keep for themselves.
template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
result<void> io_pagetable<Pinner, Domain, Traits>::reserve_for(const Domain& domain,
                                                               const void* owner) {
  result<void> done{};
  if constexpr (reserved_regions_domain<Domain>) {
    for (const reserved_region& region : domain.reserved_regions()) {
      if (done && region.what != reserved_region::kind::direct_relaxable)
        done = add_reservation(region.range, owner);
    }
  }
  const iova_range aperture = domain.aperture();
  if (done && aperture.first.value != 0) done = add_reservation({{0}, aperture.first - 1}, owner);
  if (done && aperture.last.value != top) done = add_reservation({aperture.last + 1, {top}}, owner);
  return done;
}

/// Fills a domain with every area that is, or is being, shown. On error it is empty again.
template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
result<void> io_pagetable<Pinner, Domain, Traits>::fill_from_areas(attachment_type& to) {
  attachment_type* const list[] = {&to};
  for (auto c = areas_.begin(); c.valid(); c.next()) {
    // What no domain shows is left to its maker, or to restore() where there are domains already.
    const auto passed_over = [&](const any_area& a) {
      return !is_held(a) && (domain_count_ != 0 || a.filled == fill_state::not_yet ||
                             a.filled == fill_state::no_longer);
    };
    if (passed_over(*c.value())) continue;
    const result<void> filled = fill_into(c, to);
    if (filled) continue;
    for (auto undo = areas_.begin(); undo != c; undo.next())
      if (is_held(*undo.value())) leave(*undo.value(), to);
    transfer::flush(list);
    if (domain_count_ == 0) {
      readers_.wait();
      for (auto undo = areas_.begin(); undo != c; undo.next()) finish_take_down(*undo.value());
    }
    return fail({filled.error().code, error_place::area, c.range().first.value});
  }
  return {};
}

/// Fills a new domain with one area, which is in the others, or in none where there are none.
template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
result<void> io_pagetable<Pinner, Domain, Traits>::fill_into(typename area_tree::cursor at,
                                                             attachment_type& to) {
  attachment_type* const list[] = {&to};
  if (!is_compact(*at.value())) {
    area_type& a = full(*at.value());
    detail::exclusive_lock guard(a.source->mutex);
    return moves(*a.source).fill(a, list);
  }
  compact_type& a = compact(*at.value());
  if (a.held) return moves(a).put_in(list);
  return fill_compact(a, list, [&] { return expand_at(at); });
}

/// Takes an area out of a domain, to be flushed; finish_take_down() then, where it was the last.
/// False: it came back short.
template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
bool io_pagetable<Pinner, Domain, Traits>::leave(any_area& a, attachment_type& from) noexcept {
  attachment_type* const list[] = {&from};
  if (is_compact(a)) return !a.held || moves(compact(a)).take_out(list);
  area_type& whole = full(a);
  detail::exclusive_lock inner(whole.source->mutex);
  if (whole.storage == nullptr) return true;
  if (domain_count_ == 0) return moves(*whole.source).begin_unfill(whole, list);
  if (whole.storage == &from) whole.storage = domains_[0];
  return moves(*whole.source).leave(whole, from);
}

template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
result<void> io_pagetable<Pinner, Domain, Traits>::attach(Domain& domain) {
  const domains_mine guard(*this);
  if (find_attachment(domain) != nullptr) return fail(errc::file_exists);
  const std::uint64_t alignment = alignment_with(&domain);
  if (alignment > page_bytes) return fail(errc::invalid_argument);
  if (const result<void> suits = check_alignment(alignment); !suits) return suits;
  attachment_type* slot = nullptr;
  result<void> done = reserve_for(domain, &domain);
  if (done) done = grow_domains();
  if (done) {
    slot = create<attachment_type>(domain);
    if (slot == nullptr) done = fail(errc::not_enough_memory);
  }
  if (done)
    domains_[domain_count_] = slot;  // areas that grow now know whom to ask, if it is the first
  if (done) done = fill_from_areas(*slot);
  if (!done) {
    if (slot != nullptr) destroy(slot);
    drop_reservations(&domain);
    return done;
  }
  alignment_ = alignment;
  domains_[domain_count_++] = slot;
  return {};
}

template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
bool io_pagetable<Pinner, Domain, Traits>::detach(Domain& domain) noexcept {
  const domains_mine guard(*this);
  attachment_type* const slot = find_attachment(domain);
  IOPT_ASSERT(slot != nullptr);
  if (slot == nullptr) return true;
  // The last of the list moves into the gap, as the kernel's does: it is asked for frames next.
  *std::find(domains_, domains_ + domain_count_, slot) = domains_[domain_count_ - 1];
  --domain_count_;
  bool complete = true;
  for (auto c = areas_.begin(); c.valid(); c.next())
    complete = leave(*c.value(), *slot) && complete;
  slot->flush();
  readers_.wait();
  if (domain_count_ == 0)
    for (auto c = areas_.begin(); c.valid(); c.next()) finish_take_down(*c.value());
  destroy(slot);
  drop_reservations(&domain);
  update_alignment();
  return complete;
}

template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
result<void> io_pagetable<Pinner, Domain, Traits>::replace(Domain& old, Domain& next) {
  if (&old == &next) return {};
  if (const result<void> done = attach(next); !done) return done;
  detach(old);
  return {};
}

template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
bool io_pagetable<Pinner, Domain, Traits>::enforce_cache_coherency() noexcept {
  if constexpr (coherency_enforcing_domain<Domain>) {
    detail::shared_lock stable(domains_lock_);
    bool all = true;
    for (attachment_type* d : domains()) {
      typename attachment_type::call guard(*d);
      all = d->domain->enforce_cache_coherency() && all;
    }
    return all;
  } else {
    return domain_count() == 0;
  }
}

template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
result<void> io_pagetable<Pinner, Domain, Traits>::disable_large_pages() {
  const domains_mine guard(*this);
  if (!large_pages_) return {};
  if (domain_count_ != 0 && !areas_.empty()) return fail(errc::invalid_argument);
  if (const result<void> suits = check_alignment(page_bytes); !suits) return suits;
  large_pages_ = false;
  update_alignment();
  return {};
}

template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
void io_pagetable<Pinner, Domain, Traits>::enable_large_pages() noexcept {
  const domains_mine guard(*this);
  large_pages_ = true;
  update_alignment();
}

template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
result<void> io_pagetable<Pinner, Domain, Traits>::add_reservation(iova_range range,
                                                                   const void* owner) {
  if (const auto hit = areas_.first_overlap(range); hit.valid())
    return fail({errc::address_in_use, error_place::area, hit.range().first.value});
  if (allowed_.first_overlap(range) != nullptr) return fail(errc::address_in_use);
  reservation* r = create<reservation>();
  if (r == nullptr) return fail(errc::not_enough_memory);
  r->range = range;
  r->owner = owner;
  reserved_.insert(*r);
  return {};
}

template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
void io_pagetable<Pinner, Domain, Traits>::drop_reservations(const void* owner) noexcept {
  for (reservation* r = reserved_.first(); r != nullptr;) {
    reservation* const after = reserved_.next(*r);
    if (r->owner == owner) {
      reserved_.erase(*r);
      destroy(r);
    }
    r = after;
  }
}

template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
result<void> io_pagetable<Pinner, Domain, Traits>::reserve(iova_range range, const void* owner) {
  detail::exclusive_lock guard(areas_lock_);
  return add_reservation(range, owner);
}

template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
void io_pagetable<Pinner, Domain, Traits>::unreserve(const void* owner) noexcept {
  detail::exclusive_lock guard(areas_lock_);
  drop_reservations(owner);
}

template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
result<void> io_pagetable<Pinner, Domain, Traits>::allow(std::span<const iova_range> ranges) {
  std::size_t n = 0;
  return allow_each([&]() -> result<std::optional<iova_range>> {
    if (n == ranges.size()) return std::nullopt;
    return ranges[n++];
  });
}

template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
template <class Next>
result<void> io_pagetable<Pinner, Domain, Traits>::allow_each(Next next) {
  interval_tree<reservation> fresh;
  reservation* in_order = nullptr;
  reservation** end = &in_order;
  result<void> done{};
  for (std::uint64_t n = 0; done; ++n) {
    const result<std::optional<iova_range>> range = next();
    if (!range) {
      done = fail(range.error());
    } else if (!*range) {
      break;
    } else if (fresh.first_overlap(**range) != nullptr) {
      done = fail({errc::invalid_argument, error_place::element, n});
    } else if (reservation* r = create<reservation>()) {
      r->range = **range;
      fresh.insert(*r);
      *end = r;
      end = &r->next;
    } else {
      done = fail(errc::not_enough_memory);
    }
  }
  detail::exclusive_lock guard(areas_lock_);
  std::uint64_t n = 0;
  for (const reservation* r = in_order; r != nullptr && done; r = r->next, ++n)
    if (reserved_.first_overlap(r->range) != nullptr)
      done = fail({errc::address_in_use, error_place::element, n});
  if (done) std::swap(fresh, allowed_);
  while (reservation* r = fresh.first()) {
    fresh.erase(*r);
    destroy(r);
  }
  return done;
}

}  // namespace iopt
