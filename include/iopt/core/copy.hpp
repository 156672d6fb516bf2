// iopt/core/copy.hpp - io_pagetable: showing in one table what is mapped in another.
//
// The slices are made under the source's lock, and then entered and filled as any map does
// (core/map.hpp): what they show is pinned and charged already where a domain holds it.
//
// Layer: core. Includes: core/io_pagetable.hpp.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <utility>

#include "iopt/core/io_pagetable.hpp"

namespace iopt {

template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
result<iova> io_pagetable<Pinner, Domain, Traits>::copy(io_pagetable& source, iova_range from,
                                                        access_rights rights,
                                                        std::optional<iova> at) {
  any_area* chain = nullptr;
  any_area** end = &chain;
  user_address hint{0};
  result<void> outcome{};
  {
    detail::exclusive_lock guard(source.areas_lock_);
    iova next = from.first;
    for (auto c = source.areas_.find(next);; c.next()) {
      if (!c.valid() || !c.range().contains(next) || c.value()->is_in_flight()) {
        outcome =
            fail({errc::no_such_file_or_directory, error_place::request_byte, next - from.first});
        break;
      }
      const result<area_type*> whole = source.expand_at(c);
      if (!whole) {
        outcome = fail(whole.error());
        break;
      }
      area_type& shown = **whole;
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
  result<iova> where = fail(errc::invalid_argument);
  {
    const domains_claimed guard(*this);
    if (outcome) {
      where = enter(chain, hint, from.length_minus_one() + 1, at ? &*at : nullptr);
    } else {
      while (chain != nullptr) destroy_area(*std::exchange(chain, chain->chain));
      where = fail(outcome.error());
    }
  }
  if (!where) return where;
  return fill_or_discard(chain, *where);
}

}  // namespace iopt
