// iopt/core/map.hpp - io_pagetable: mapping memory.
//
// A map has three phases, so that pinning, which may wait for a disk, holds up nobody else:
// reserve the IOVA with an area in flight (core/place.hpp says which); fill it into the domains; publish it.
//
// Layer: core. Includes: core/io_pagetable.hpp.
#pragma once

#include <utility>

#include "iopt/core/io_pagetable.hpp"

namespace iopt {

template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
io_pagetable<Pinner, Domain, Traits>::io_pagetable(io_pagetable&& other) noexcept
    : pinner_(other.pinner_),
      memory_(other.memory_),
      readers_(other.memory_),
      areas_(std::move(other.areas_)),
      reserved_(std::move(other.reserved_)),
      allowed_(std::move(other.allowed_)),
      views_(std::move(other.views_)),
      last_origin_(std::exchange(other.last_origin_, nullptr)),
      origin_stock_(std::exchange(other.origin_stock_, 0)),
      alignment_(other.alignment_),
      mode_(other.mode_),
      large_pages_(other.large_pages_) {
  IOPT_ASSERT(other.domain_count_ == 0 && other.accesses_ == nullptr);
  readers_.move_from(other.readers_);
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
  spare_compact_.release(memory_);
  if (domains_ != nullptr)
    memory_.deallocate(domains_, domain_room_ * sizeof(*domains_), alignof(attachment_type*));
  if (last_origin_ != nullptr) last_origin_->release(origin_stock_ + 1);
}

/// The record of an origin, counted for the caller. The last one used is kept at hand, with a stock of
/// references, so that who maps and unmaps in turn need not count where others count too.
template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
auto io_pagetable<Pinner, Domain, Traits>::intern(const typename origin_type::key& key)
    -> result<origin_type*> {
  detail::exclusive_lock guard(areas_lock_);
  return intern_locked(key);
}
template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
auto io_pagetable<Pinner, Domain, Traits>::intern_locked(const typename origin_type::key& key)
    -> result<origin_type*> {
  constexpr std::uint32_t stock = 256;
  if (last_origin_ == nullptr || !(last_origin_->is == key)) {
    origin_type* fresh = origin_type::create(key, memory_);
    if (fresh == nullptr) return fail(errc::not_enough_memory);
    if (last_origin_ != nullptr) last_origin_->release(origin_stock_ + 1);
    last_origin_ = fresh;
    origin_stock_ = 0;
  }
  if (origin_stock_ == 0) {
    last_origin_->share(stock);
    origin_stock_ = stock;
  }
  --origin_stock_;
  return last_origin_;
}

/// Gives back what intern() gave. Requires: areas_lock_, exclusively.
template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
void io_pagetable<Pinner, Domain, Traits>::release_locked(origin_type& o) noexcept {
  if (&o == last_origin_) {
    ++origin_stock_;
  } else {
    o.release();
  }
}

/// What a map call asks of memory, wherever it goes.
template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
result<void> io_pagetable<Pinner, Domain, Traits>::check_memory(const memory& what,
                                                                std::uint64_t length_bytes) {
  if (length_bytes == 0 || length_bytes > top - page_bytes) return fail(errc::invalid_argument);
  if (!checked_add(what.from.value, length_bytes)) return fail(errc::value_too_large);
  return {};
}

/// A new area with pages of its own, at no IOVA yet.
template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
auto io_pagetable<Pinner, Domain, Traits>::create_area(const memory& what,
                                                       std::uint64_t length_bytes,
                                                       access_rights rights) -> result<area_type*> {
  if (const result<void> ok = check_memory(what, length_bytes); !ok) return fail(ok.error());
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

/// Takes the IOVA for an area in flight.
template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
result<void> io_pagetable<Pinner, Domain, Traits>::insert(any_area& a, iova at) {
  const std::uint64_t more = a.where.length_minus_one();
  if (more > top - at.value) return fail(errc::value_too_large);
  const iova_range where{at, {at.value + more}};
  if (is_compact(a)) {
    compact(a).show(where);
  } else {
    full(a).show(where, full(a).start_byte);
  }
  // Rights and offset are checked after areas in the way, so these are looked for first.
  // A copy of several areas may come off the alignment behind one of odd length: Linux leaves that
  // to the domain, which answers the same.
  const errc refused = allows(a.rights, access_rights::write) && !is_writable(a)
                           ? errc::operation_not_permitted
                       : (page_offset(a) & (alignment_ - 1)) != 0 || !at.is_aligned(alignment_)
                           ? errc::invalid_argument
                           : errc{};
  if (refused != errc{}) {
    if (const auto hit = areas_.first_overlap(a.where))
      return fail({errc::file_exists, error_place::area, hit.range().first.value});
    return fail(refused);
  }
  // What failed is handed on where it is found: a result that is kept and copied is read in other pieces
  // than it was written in, and waits for its bytes.
  if (const result<void> inserted = areas_.insert(a.where, &a); !inserted)
    return fail(inserted.error());
  if constexpr (table_readers::kept) {
    const memory shown = memory_of(a);
    if (const result<void> known =
            readers_.area_comes(a.where, shown.from, shown.of.kind == origin_kind::user);
        !known) {
      areas_.erase(a.where);
      return fail(known.error());
    }
  }
  if constexpr (Traits::reverse_index) {
    detail::exclusive_lock inner(full(a).source->mutex);  // another table may find it a new origin
    index(a);
  }
  return {};
}

/// Enters an area in the index by user address, where there is one. Requires: the pages' mutex, or
/// that nobody else knows them.
template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
void io_pagetable<Pinner, Domain, Traits>::index(any_area& any) noexcept {
  if constexpr (Traits::reverse_index) {
    area_type& a = full(any);
    const user_address first{a.source->start + a.start_byte};
    a.view.range = {first, first + a.where.length_minus_one()};
    a.view.shows = &a;
    views_.insert(a.view);
  } else {
    static_cast<void>(any);
  }
}
template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
void io_pagetable<Pinner, Domain, Traits>::unindex(any_area& a) noexcept {
  if constexpr (Traits::reverse_index) {
    views_.erase(full(a).view);
  } else {
    static_cast<void>(a);
  }
}

/// Puts areas, which are chained, back to back at an IOVA. On error they are gone. Requires:
/// areas_lock_, exclusively.
template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
result<iova> io_pagetable<Pinner, Domain, Traits>::enter(any_area* chain, user_address hint,
                                                         std::uint64_t length_bytes,
                                                         const iova* at) {
  result<iova> where = place(hint, length_bytes, at);
  if (where && chain->chain != nullptr) {  // areas in the way of any come before all else
    if (const auto hit = areas_.first_overlap(iova_range::sized(*where, length_bytes)))
      where = fail({errc::file_exists, error_place::area, hit.range().first.value});
  }
  if (where) {
    iova next = *where;
    for (any_area* a = chain; a != nullptr; a = a->chain) {
      const std::uint64_t bytes = a->where.length_minus_one() + 1;
      if (const result<void> inserted = insert(*a, next); !inserted) {
        for (any_area* undo = chain; undo != a; undo = undo->chain) {
          unindex(*undo);
          readers_.area_goes(undo->where);
          areas_.erase(undo->where);
        }
        where = fail(inserted.error());
        break;
      }
      if (a->chain != nullptr) next += bytes;
    }
  }
  if (!where)
    while (chain != nullptr) destroy_area(*std::exchange(chain, chain->chain));
  return where;
}

/// Fills areas in flight into every domain, then publishes them. On error none is filled. An area that
/// must grow for it is another afterwards, and the chain has that.
template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
result<void> io_pagetable<Pinner, Domain, Traits>::fill(any_area*& chain, std::uint64_t* failed) {
  std::uint64_t element = 0;
  for (any_area** link = &chain; *link != nullptr; link = &(*link)->chain, ++element) {
    const result<void> filled = fill_one(*link);
    if (filled) continue;
    for (any_area* undo = chain; undo != *link; undo = undo->chain) begin_take_down(*undo);
    if (chain != *link) {
      transfer::flush(domains());
      readers_.wait();
    }
    for (any_area* undo = chain; undo != *link; undo = undo->chain) finish_take_down(*undo);
    if (failed != nullptr) *failed = element;
    return filled;
  }
  publish(chain);
  return {};
}

/// The same for areas that were entered at an IOVA, which is the answer. On error they are gone.
template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
result<iova> io_pagetable<Pinner, Domain, Traits>::fill_or_discard(any_area* chain, iova where) {
  if (const result<void> filled = fill(chain); !filled) {
    discard(chain);
    return fail(filled.error());
  }
  return where;
}

/// Fills one area in flight.
template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
result<void> io_pagetable<Pinner, Domain, Traits>::fill_one(any_area*& link) {
  if (!is_compact(*link)) {
    area_type& a = full(*link);
    detail::exclusive_lock guard(a.source->mutex);
    return moves(*a.source).fill(a, domains());
  }
  compact_type& a = compact(*link);
  if (domain_count_ == 0) {
    a.filled = fill_state::done;
    return {};
  }
  return fill_compact(a, domains(), [&] {
    detail::exclusive_lock guard(areas_lock_);
    const result<area_type*> grown = expand_at(areas_.find(a.where.first));
    if (grown) link = *grown;
    return grown;
  });
}

/// Fills a compact area that no domain shows into some. Where its memory is no single run, grow() makes
/// a full area of it, which is filled with what was pinned so far. Errors: those of filling and grow().
template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
template <class Grow>
result<void> io_pagetable<Pinner, Domain, Traits>::fill_compact(
    compact_type& a, std::span<attachment_type* const> into, const Grow& grow) {
  batch_type batch(memory_, detail::batch_size(a.page_count() - 1));
  if (const result<void> taken = moves(a).take(batch.list()); !taken) return taken;
  if (moves(a).is_whole(batch.list())) return moves(a).show(batch.list(), into);
  const result<area_type*> grown = grow();
  if (!grown) {
    moves(a).forgo(batch.view());
    return fail(grown.error());
  }
  pages_type& p = *(*grown)->source;
  detail::exclusive_lock guard(p.mutex);
  return moves(p).fill(**grown, into, &batch);
}

/// Areas can be seen from here on; who made them may not touch them any more.
template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
void io_pagetable<Pinner, Domain, Traits>::publish(any_area* chain) noexcept {
  if constexpr (table_readers::kept) {
    detail::exclusive_lock guard(areas_lock_);
    for (const any_area* a = chain; a != nullptr; a = a->chain) readers_.area_is_there(a->where);
  }
  while (chain != nullptr) {
    any_area& a = *std::exchange(chain, chain->chain);
    a.chain = nullptr;
    detail::release_into(a.state, area_state::present);
  }
}

/// Forgets areas that hold an IOVA but are not filled.
template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
void io_pagetable<Pinner, Domain, Traits>::discard(any_area* chain) noexcept {
  detail::exclusive_lock guard(areas_lock_);
  while (chain != nullptr) {
    forget(*std::exchange(chain, chain->chain));
  }
}
/// One of them. Requires: areas_lock_, exclusively.
template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
void io_pagetable<Pinner, Domain, Traits>::forget(any_area& a) noexcept {
  unindex(a);
  readers_.area_goes(a.where);
  areas_.erase(a.where);
  destroy_area(a);
}

/// Makes an area for memory and enters it, at `at` or, without that, where it fits. Nothing is left on
/// error. `first`: the operation has made no claim yet.
template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
result<iova> io_pagetable<Pinner, Domain, Traits>::enter_new(any_area*& made, const memory& what,
                                                             std::uint64_t length_bytes,
                                                             access_rights rights, const iova* at,
                                                             bool first) {
  if constexpr (has_compact) {
    if (what.of.kind == origin_kind::user) {
      if (const result<void> ok = check_memory(what, length_bytes); !ok) return fail(ok.error());
      const domains_claimed guard(*this, first);
      if (at != nullptr) areas_.approach(*at);
      if (at != nullptr && length_bytes - 1 <= top - at->value)
        prefetch_in_domains(iova_range::sized(*at, length_bytes));
      compact_type* const a = create_compact(what.from.value, length_bytes, rights);
      if (a == nullptr) return fail(errc::not_enough_memory);
      made = a;
      const result<origin_type*> from = intern_locked(what.of);
      if (from) {
        a->own = *from;
        return enter(a, what.from, length_bytes, at);
      }
      destroy_area(*a);
      return fail(from.error());
    }
  }
  const result<area_type*> a = create_area(what, length_bytes, rights);
  if (!a) return fail(a.error());
  made = *a;
  const domains_claimed guard(*this, first);
  return enter(made, what.from, length_bytes, at);
}

template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
result<iova> io_pagetable<Pinner, Domain, Traits>::map_at(const memory& what,
                                                          std::uint64_t length_bytes,
                                                          access_rights rights, const iova* at) {
  any_area* a = nullptr;
  const result<iova> where = enter_new(a, what, length_bytes, rights, at, true);
  if (!where) return where;
  return fill_or_discard(a, *where);
}

template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
result<void> io_pagetable<Pinner, Domain, Traits>::map_all(std::span<map_request> requests) {
  any_area* chain = nullptr;
  any_area** end = &chain;
  std::uint64_t element = 0;
  result<void> outcome{};
  for (map_request& r : requests) {
    any_area* made = nullptr;
    const result<iova> where = enter_new(made, r.what, r.length_bytes, r.rights,
                                         r.at ? &*r.at : nullptr, chain == nullptr);
    if (!where) {
      outcome = fail({where.error().code, error_place::element, element});
      break;
    }
    r.mapped_at = *where;
    *end = made;
    end = &made->chain;
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

}  // namespace iopt
