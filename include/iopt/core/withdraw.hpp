// iopt/core/withdraw.hpp - io_pagetable: what is withdrawn for a while, and comes back.
//
// Software's access to an area, while its memory moves to another address or owner: devices go on.
// Device memory from every domain, while its exporter does not have it: areas that show it stay.
//
// Layer: core. Includes: core/io_pagetable.hpp.
#pragma once

#include <cstdint>
#include <utility>

#include "iopt/core/io_pagetable.hpp"

namespace iopt {

template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
result<void> io_pagetable<Pinner, Domain, Traits>::suspend_access(iova_range range) {
  detail::exclusive_lock guard(areas_lock_);
  bool any = false;
  for (auto c = areas_.first_overlap(range); c.valid() && c.range().first <= range.last; c.next()) {
    if (!range.contains(c.range()))
      return fail({errc::no_such_file_or_directory, error_place::area, c.range().first.value});
    if (c.value()->suspended)
      return fail({errc::invalid_argument, error_place::area, c.range().first.value});
    any = true;
  }
  if (!any) return fail(errc::no_such_file_or_directory);
  for (auto c = areas_.first_overlap(range); c.valid() && c.range().first <= range.last; c.next())
    detail::release_into(c.value()->suspended, true);
  return {};
}

template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
result<void> io_pagetable<Pinner, Domain, Traits>::resume_access(iova_range range,
                                                                 const memory& what) {
  const result<origin_type*> to = intern(what.of);
  if (!to) return fail(to.error());
  detail::exclusive_lock guard(areas_lock_);
  const auto c = areas_.first_overlap(range);
  result<void> done{};
  if (!c.valid()) {
    done = fail(errc::no_such_file_or_directory);
  } else if (c.range() != range || !c.value()->suspended || c.value()->is_in_flight()) {
    done = fail({errc::invalid_argument, error_place::area, c.range().first.value});
  } else if (const result<area_type*> grown = expand_at(c); !grown) {
    done = fail(grown.error());
  } else if (const area_type& a = **grown;
             a.source->device != (what.of.kind == origin_kind::device) ||
             what.from.value % page_bytes != a.page_offset() || what.from.value < a.start_byte ||
             // Device memory has no owner who could move it.
             (a.source->device && !(what.of == a.source->from->is &&
                                    what.from.value - a.start_byte == a.source->start))) {
    done = fail({errc::invalid_argument, error_place::area, c.range().first.value});
  }
  if (done) {
    area_type& a = full(*c.value());
    pages_type& p = *a.source;
    detail::exclusive_lock inner(p.mutex);
    const bool same_account =
        (*to)->is.owner == p.from->is.owner && (*to)->is.mode == p.from->is.mode;
    const bool told_before = readers_.is_told(a), told = what.of.kind == origin_kind::user;
    const std::uint64_t start = what.from.value - a.start_byte;
    // Calls f(area, where it will be) for every area that shows these pages.
    const auto each_told = [&](auto f) {
      if constexpr (translation_keeper<typename Traits::readers>)
        for (auto other = areas_.begin(); other.valid(); other.next())
          if (!is_compact(*other.value()) && full(*other.value()).source == &p)
            f(full(*other.value()), user_address{start + full(*other.value()).start_byte});
    };
    each_told([&](const area_type& other, user_address at) {
      if (done) done = readers_.area_becomes_told(other.where, at, told_before, told);
    });
    if (done && !same_account) done = (*to)->charge(p.pinned);
    if (!done && !told_before)
      each_told([&](const area_type& other, user_address) { readers_.area_goes(other.where); });
    if (done) {
      if (!same_account) p.from->uncharge(p.pinned);
      // Every area that shows these pages shows them at their new address.
      const auto each = [&](auto reindex) {
        if constexpr (Traits::reverse_index)
          for (auto other = areas_.begin(); other.valid(); other.next())
            if (full(*other.value()).source == &p) reindex(full(*other.value()));
      };
      each([&](area_type& other) { unindex(other); });
      std::exchange(p.from, *to)->release();
      p.start = start;
      each([&](area_type& other) { index(other); });
      each_told([&](const area_type& other, user_address at) {
        readers_.area_shows(other.where, at, told, other.state != area_state::in_flight);
      });
      if (told_before || told) readers_.wait();
      if (!told)
        each_told([&](const area_type& other, user_address) { readers_.area_goes(other.where); });
      detail::release_into(a.suspended, false);
      return {};
    }
  }
  (*to)->release();
  return done;
}

template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
template <class Exporter>
void io_pagetable<Pinner, Domain, Traits>::revoke(const Exporter& exporter) noexcept
  requires device_memory_pinner<Pinner>
{
  detail::shared_lock stable(domains_lock_);
  detail::exclusive_lock guard(areas_lock_);
  take_away(exporter);
}

/// Requires: domains_lock_, areas_lock_. Areas in flight lose their entries too; who makes them sees
/// the revocation, or has passed them on to restore().
template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
template <class Exporter>
void io_pagetable<Pinner, Domain, Traits>::take_away(const Exporter& exporter) noexcept {
  for (auto c = areas_.begin(); c.valid(); c.next()) {
    if (is_compact(*c.value())) continue;
    area_type& a = full(*c.value());
    pages_type& p = *a.source;
    if (p.is_pinnable() || !(p.from->is.exporter == exporter)) continue;
    detail::exclusive_lock inner(p.mutex);
    if (!p.revoked) ++p.generation;
    p.revoked = true;
    if (a.filled != fill_state::done) continue;
    moves(p).unfill(a, domains());
    a.filled = fill_state::revoked;
  }
  // An unmap under way has taken its entries out, and may not have flushed yet.
  transfer::flush(domains());
}

template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
template <class Exporter>
result<void> io_pagetable<Pinner, Domain, Traits>::restore(const Exporter& exporter)
  requires device_memory_pinner<Pinner>
{
  detail::shared_lock stable(domains_lock_);
  detail::exclusive_lock guard(areas_lock_);
  result<void> done{};
  for (auto c = areas_.begin(); done && c.valid(); c.next()) {
    if (is_compact(*c.value())) continue;
    area_type& a = full(*c.value());
    pages_type& p = *a.source;
    if (p.is_pinnable() || !(p.from->is.exporter == exporter)) continue;
    detail::exclusive_lock inner(p.mutex);
    const bool was_revoked = std::exchange(p.revoked, false);
    if (a.filled == fill_state::revoked) done = moves(p).fill(a, domains());
    if (done) continue;
    p.revoked = was_revoked;  // who fills another area of the pages has not seen it otherwise
    done = fail({done.error().code, error_place::area, a.where.first.value});
  }
  if (!done) take_away(exporter);
  return done;
}

}  // namespace iopt
