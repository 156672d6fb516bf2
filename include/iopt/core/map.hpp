// iopt/core/map.hpp - io_pagetable: mapping memory, and showing what is mapped elsewhere.
//
// A map has three phases, so that pinning, which may wait for a disk, holds up nobody else:
// reserve the IOVA with an area in flight; fill it into the domains; publish it.
//
// Layer: core. Includes: core/io_pagetable.hpp.
#pragma once

#include <algorithm>
#include <utility>

#include "iopt/containers/coverage_spans.hpp"
#include "iopt/core/io_pagetable.hpp"

namespace iopt {

template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
io_pagetable<Pinner, Domain, Traits>::io_pagetable(io_pagetable&& other) noexcept
    : pinner_(other.pinner_),
      memory_(other.memory_),
      areas_(std::move(other.areas_)),
      reserved_(std::move(other.reserved_)),
      allowed_(std::move(other.allowed_)),
      views_(std::move(other.views_)),
      last_origin_(std::exchange(other.last_origin_, nullptr)),
      alignment_(other.alignment_),
      mode_(other.mode_),
      large_pages_(other.large_pages_) {
  IOPT_ASSERT(other.domain_count_ == 0 && other.accesses_ == nullptr);
}

template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
io_pagetable<Pinner, Domain, Traits>::~io_pagetable() {
  IOPT_ASSERT(accesses_ == nullptr);
  while (domain_count_ != 0) detach(*domains_[domain_count_ - 1]->domain);
  static_cast<void>(unmap_all());
  for (auto* tree : {&reserved_, &allowed_}) {
    while (reservation* r = tree->first()) {
      tree->erase(*r);
      destroy(r);
    }
  }
  if (domains_ != nullptr)
    memory_.deallocate(domains_, domain_room_ * sizeof(*domains_), alignof(attachment_type*));
  if (last_origin_ != nullptr) last_origin_->release();
}

/// The record of an origin, counted for the caller. The last one used is kept at hand.
template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
auto io_pagetable<Pinner, Domain, Traits>::intern(const typename origin_type::key& key)
    -> result<origin_type*> {
  detail::exclusive_lock guard(areas_lock_);
  return intern_locked(key);
}
template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
auto io_pagetable<Pinner, Domain, Traits>::intern_locked(const typename origin_type::key& key)
    -> result<origin_type*> {
  if (last_origin_ == nullptr || !(last_origin_->is == key)) {
    origin_type* fresh = origin_type::create(key, memory_);
    if (fresh == nullptr) return fail(errc::not_enough_memory);
    if (last_origin_ != nullptr) last_origin_->release();
    last_origin_ = fresh;
  }
  return last_origin_->share();
}

/// A new area with pages of its own, at no IOVA yet.
template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
auto io_pagetable<Pinner, Domain, Traits>::create_area(const memory& what,
                                                       std::uint64_t length_bytes,
                                                       access_rights rights) -> result<area_type*> {
  if (length_bytes == 0 || length_bytes > top - page_bytes) return fail(errc::invalid_argument);
  if (!checked_add(what.from.value, length_bytes)) return fail(errc::value_too_large);
  const result<origin_type*> from = intern(what.of);
  if (!from) return fail(from.error());
  const std::uint64_t offset = what.from.value % page_bytes;
  block_type* block =
      create<block_type>(iova_range::sized({0}, length_bytes), **from, what.from.value - offset,
                         (offset + length_bytes - 1) / page_bytes + 1,
                         allows(rights, access_rights::write), offset, rights);
  if (block == nullptr) {
    (*from)->release();
    return fail(errc::not_enough_memory);
  }
  return &block->first;
}

/// The lowest IOVA that fits, as the kernel chooses it.
template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
result<iova> io_pagetable<Pinner, Domain, Traits>::choose(user_address from,
                                                          std::uint64_t length_bytes) const {
  if (length_bytes >= top / 2) return fail(errc::value_too_large);
  std::uint64_t want = round_up_to_power_of_two(length_bytes);
  if (from.value != 0) want = std::min(want, lowest_bit(from.value));
  want = std::min(want, Traits::huge_page_bytes);
  if (want < alignment_) return fail(errc::invalid_argument);
  const std::uint64_t in_page = from.value % page_bytes;

  const auto fits = [&](iova_range hole) -> std::optional<iova> {
    const std::optional<std::uint64_t> aligned = align_up(hole.first.value, want);
    if (!aligned) return std::nullopt;
    const std::uint64_t start = *aligned | in_page;
    if (start >= hole.last.value || hole.last.value - start < length_bytes - 1) return std::nullopt;
    return iova{start};
  };
  // The whole must have room from its own start, moved likewise, which then bounds the search.
  const auto search = [&](iova_range whole) -> std::optional<iova> {
    const std::optional<iova> start = fits(whole);
    if (!start) return std::nullopt;
    for (auto spans = reserved_.spans({*start, whole.last}); spans.valid(); spans.next()) {
      if (spans.used()) continue;
      if (const auto found = areas_.lowest_hole(spans.range(), length_bytes, fits)) return found;
    }
    return std::nullopt;
  };

  const iova_range everywhere{{page_bytes}, {top - page_bytes}};
  if (allowed_.empty()) {
    if (const auto found = search(everywhere)) return *found;
    return fail(errc::no_space_on_device);
  }
  for (auto spans = allowed_.spans(everywhere); spans.valid(); spans.next()) {
    if (!spans.used()) continue;
    if (const auto found = search(spans.range())) return *found;
  }
  return fail(errc::no_space_on_device);
}

/// Where a mapping goes: the checks of a fixed IOVA, but for areas in the way; or a choice.
template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
result<iova> io_pagetable<Pinner, Domain, Traits>::place(user_address from,
                                                         std::uint64_t length_bytes,
                                                         std::optional<iova> at) const {
  if (length_bytes == 0 || length_bytes % alignment_ != 0) return fail(errc::invalid_argument);
  if (!at) return choose(from, length_bytes);
  if (!at->is_aligned(alignment_)) return fail(errc::invalid_argument);
  const result<iova_range> where = iova_range::from_length(*at, length_bytes);
  if (!where) return fail(where.error());
  if (const reservation* r = reserved_.first_overlap(*where))
    return fail({errc::invalid_argument, error_place::request_byte,
                 r->range.first <= *at ? 0 : r->range.first - *at});
  return *at;
}

/// Takes the IOVA for an area in flight.
template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
result<void> io_pagetable<Pinner, Domain, Traits>::insert(area_type& a, iova at) {
  const std::uint64_t more = a.where.length_minus_one();
  if (more > top - at.value) return fail(errc::value_too_large);
  a.show({at, {at.value + more}}, a.start_byte);
  // Rights and offset are checked after areas in the way, so these are looked for first.
  // A copy of several areas may come off the alignment behind one of odd length: Linux leaves that
  // to the domain, which answers the same.
  const errc refused =
      allows(a.rights, access_rights::write) && !a.source->writable ? errc::operation_not_permitted
      : a.page_offset() % alignment_ != 0 || !at.is_aligned(alignment_) ? errc::invalid_argument
                                                                        : errc{};
  if (refused != errc{}) {
    if (const auto hit = areas_.first_overlap(a.where))
      return fail({errc::file_exists, error_place::area, hit.range().first.value});
    return fail(refused);
  }
  const result<void> inserted = areas_.insert(a.where, &a);
  if constexpr (Traits::reverse_index) {
    detail::exclusive_lock inner(a.source->mutex);  // another table may find it a new origin
    if (inserted) index(a);
  }
  return inserted;
}

/// Enters an area in the index by user address, where there is one. Requires: the pages' mutex, or
/// that nobody else knows them.
template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
void io_pagetable<Pinner, Domain, Traits>::index(area_type& a) noexcept {
  if constexpr (Traits::reverse_index) {
    const user_address first{a.source->start + a.start_byte};
    a.view.range = {first, first + a.where.length_minus_one()};
    a.view.shows = &a;
    views_.insert(a.view);
  }
}
template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
void io_pagetable<Pinner, Domain, Traits>::unindex(area_type& a) noexcept {
  if constexpr (Traits::reverse_index) views_.erase(a.view);
}

/// Puts areas, which are chained, back to back at an IOVA; fills and publishes them. On error they
/// are gone.
template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
result<iova> io_pagetable<Pinner, Domain, Traits>::publish_all(area_type* chain, user_address hint,
                                                               std::uint64_t length_bytes,
                                                               std::optional<iova> at) {
  result<iova> where = fail(errc::invalid_argument);
  {
    detail::exclusive_lock guard(areas_lock_);
    where = place(hint, length_bytes, at);
    if (where && chain->chain != nullptr) {  // areas in the way of any come before all else
      if (const auto hit = areas_.first_overlap(iova_range::sized(*where, length_bytes)))
        where = fail({errc::file_exists, error_place::area, hit.range().first.value});
    }
    if (where) {
      iova next = *where;
      for (area_type* a = chain; a != nullptr; a = a->chain) {
        const std::uint64_t bytes = a->where.length_minus_one() + 1;
        if (const result<void> inserted = insert(*a, next); !inserted) {
          for (area_type* undo = chain; undo != a; undo = undo->chain) {
            unindex(*undo);
            areas_.erase(undo->where);
          }
          where = fail(inserted.error());
          break;
        }
        if (a->chain != nullptr) next += bytes;
      }
    }
  }
  if (!where) {
    while (chain != nullptr) detail::destroy_area(*std::exchange(chain, chain->chain));
    return where;
  }
  if (const result<void> filled = fill(chain); !filled) {
    discard(chain);
    return fail(filled.error());
  }
  return where;
}

/// Fills areas in flight into every domain, then publishes them. On error none is filled.
template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
result<void> io_pagetable<Pinner, Domain, Traits>::fill(area_type* chain, std::uint64_t* failed) {
  detail::shared_lock stable(domains_lock_);
  std::uint64_t element = 0;
  for (area_type* a = chain; a != nullptr; a = a->chain, ++element) {
    result<void> filled{};
    {
      detail::exclusive_lock guard(a->source->mutex);
      filled = moves(*a->source).fill(*a, domains());
    }
    if (filled) continue;
    for (area_type* undo = chain; undo != a; undo = undo->chain) {
      detail::exclusive_lock guard(undo->source->mutex);
      moves(*undo->source).unfill(*undo, domains());
      undo->filled = fill_state::no_longer;
    }
    if (failed != nullptr) *failed = element;
    return filled;
  }
  publish(chain);
  return {};
}

template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
void io_pagetable<Pinner, Domain, Traits>::publish(area_type* chain) noexcept {
  detail::exclusive_lock guard(areas_lock_);
  while (chain != nullptr) {
    area_type& a = *std::exchange(chain, chain->chain);
    a.chain = nullptr;
    a.state = area_state::present;
  }
}

/// Forgets areas that hold an IOVA but are not filled.
template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
void io_pagetable<Pinner, Domain, Traits>::discard(area_type* chain) noexcept {
  detail::exclusive_lock guard(areas_lock_);
  while (chain != nullptr) {
    area_type& a = *std::exchange(chain, chain->chain);
    unindex(a);
    areas_.erase(a.where);
    detail::destroy_area(a);
  }
}

template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
result<iova> io_pagetable<Pinner, Domain, Traits>::map(const memory& what,
                                                       std::uint64_t length_bytes,
                                                       access_rights rights,
                                                       std::optional<iova> at) {
  const result<area_type*> made = create_area(what, length_bytes, rights);
  if (!made) return fail(made.error());
  return publish_all(*made, what.from, length_bytes, at);
}

template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
result<void> io_pagetable<Pinner, Domain, Traits>::map_all(std::span<map_request> requests) {
  area_type* chain = nullptr;
  area_type** end = &chain;
  std::uint64_t element = 0;
  result<void> outcome{};
  for (map_request& r : requests) {
    const result<area_type*> made = create_area(r.what, r.length_bytes, r.rights);
    if (!made) {
      outcome = fail({made.error().code, error_place::element, element});
      break;
    }
    result<iova> where = fail(errc::invalid_argument);
    {
      detail::exclusive_lock guard(areas_lock_);
      where = place(r.what.from, r.length_bytes, r.at);
      if (where) {
        if (const result<void> inserted = insert(**made, *where); !inserted)
          where = fail(inserted.error());
      }
    }
    if (!where) {
      detail::destroy_area(**made);
      outcome = fail({where.error().code, error_place::element, element});
      break;
    }
    r.mapped_at = *where;
    *end = *made;
    end = &(*made)->chain;
    ++element;
  }
  if (outcome) {
    std::uint64_t failed = 0;
    outcome = fill(chain, &failed);
    if (!outcome) outcome = fail({outcome.error().code, error_place::element, failed});
  }
  if (!outcome) discard(chain);
  return outcome;
}

template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
result<iova> io_pagetable<Pinner, Domain, Traits>::copy(io_pagetable& source, iova_range from,
                                                        access_rights rights,
                                                        std::optional<iova> at) {
  area_type* chain = nullptr;
  area_type** end = &chain;
  user_address hint{0};
  result<void> outcome{};
  {
    detail::shared_lock guard(source.areas_lock_);
    iova next = from.first;
    for (auto c = source.areas_.find(next);; c.next()) {
      if (!c.valid() || !c.range().contains(next) || c.value()->state == area_state::in_flight) {
        outcome =
            fail({errc::no_such_file_or_directory, error_place::request_byte, next - from.first});
        break;
      }
      area_type& shown = *c.value();
      pages_type& p = *shown.source;
      const iova last = std::min(shown.where.last, from.last);
      const std::uint64_t byte = shown.byte_of(next);
      area_type* slice = create<area_type>(iova_range{{0}, {last - next}}, p, byte, rights);
      if (slice != nullptr) {
        detail::exclusive_lock inner(p.mutex);
        if (!p.stored.add_holder()) {
          destroy(slice);
          slice = nullptr;
        } else {
          ++p.references;
          if (chain == nullptr) hint = {p.start + byte};
        }
      }
      if (slice == nullptr) {
        outcome = fail(errc::not_enough_memory);
        break;
      }
      *end = slice;
      end = &slice->chain;
      if (last == from.last) break;
      next = last + 1;
    }
  }
  if (!outcome) {
    while (chain != nullptr) detail::destroy_area(*std::exchange(chain, chain->chain));
    return fail(outcome.error());
  }
  return publish_all(chain, hint, from.length_minus_one() + 1, at);
}

}  // namespace iopt
