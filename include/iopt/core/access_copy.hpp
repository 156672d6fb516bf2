// iopt/core/access_copy.hpp - access_object: reading and writing through a table.
//
// Bytes go by the address of their owner where that process lives, else by the frames that are held, or
// are pinned for it.
//
// Tested by tests/core/access_object_test.cpp.
//
// Layer: core. Includes: core/access_object.hpp.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "iopt/core/access_object.hpp"

namespace iopt {

template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
template <access_rights Want, class Bytes>
inline result<void> access_object<Pinner, Domain, Traits>::copy(iova at, Bytes bytes) {
  const result<iova_range> range = iova_range::from_length(at, bytes.size());
  if (!range) return fail(range.error());
  table_type* const in = usable();
  if (in == nullptr) return fail(errc::no_such_file_or_directory);
  table_type& t = *in;
  iova next = at;
  for (;;) {
    std::optional<iova_range> any_compact;
    {
      detail::shared_lock guard(t.areas_lock_);
      const result<void> done = copy_from<Want>(t, at, range->last, bytes, next, any_compact);
      if (!any_compact) return done;
    }
    detail::exclusive_lock guard(t.areas_lock_);
    if (const result<void> grown = t.expand_in(*any_compact); !grown) return grown;
  }
}

/// Copies from `next` on, which moves along, as far as no compact area's frames are wanted.
template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
template <access_rights Want, class Bytes>
inline result<void> access_object<Pinner, Domain, Traits>::copy_from(
    table_type& t, iova at, iova end, Bytes bytes, iova& next,
    std::optional<iova_range>& any_compact) {
  for (auto c = t.areas_.find(next);; c.next()) {
    const std::uint64_t done = next - at;
    if (!c.valid() || !c.range().contains(next) || c.value()->is_in_flight())
      return fail({errc::no_such_file_or_directory, error_place::request_byte, done});
    any_area& a = *c.value();
    if (const result<void> ok = may_use(a, Want); !ok) return ok;
    const iova last = std::min(a.where.last, end);
    const auto part = bytes.subspan(done, last - next + 1);
    // The owner's eyes will do where the owner lives; else the frames that are held.
    const auto shown = t.memory_of(a);
    result<void> copied{};
    if (shown.of.kind == origin_kind::user && shown.of.pinner->reachable(shown.of.owner)) {
      const user_address from = shown.from + (next - a.where.first);
      if constexpr (Want == access_rights::write) {
        copied = shown.of.pinner->write(shown.of.owner, from, part);
      } else {
        copied = shown.of.pinner->read(shown.of.owner, from, part);
      }
    } else if constexpr (!frame_copying_pinner<Pinner>) {
      copied = fail(errc::bad_address);
    } else if (table_type::is_compact(a)) {
      any_compact = a.where;
      return {};
    } else {
      area_type& whole = table_type::full(a);
      copied = copy_frames<Want>(t, *whole.source, whole.byte_of(next), part);
    }
    if (!copied) return copied;
    if (last == end) return {};
    next = last + 1;
  }
}

template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
template <access_rights Want, class Bytes>
inline result<void> access_object<Pinner, Domain, Traits>::copy_frames(table_type& t, pages_type& p,
                                                                       std::uint64_t byte,
                                                                       Bytes bytes) {
  detail::exclusive_lock guard(p.mutex);
  while (!bytes.empty()) {
    const page_index index{byte / Traits::page_bytes};
    const std::uint64_t skip = byte % Traits::page_bytes;
    run place[1];
    run_list one{place};
    const page_range page{index, index};
    const bool held = t.moves(p).read_held(page, one) != 0;
    if (!held) {
      const result<void> got = p.from->take(p.at_origin(page), p.pin_rights(), one);
      if (!got) return fail(errc::bad_address);
    }
    const std::size_t step = std::min<std::size_t>(Traits::page_bytes - skip, bytes.size());
    const physical frame = one[0].first;
    if constexpr (Want == access_rights::write) {
      p.from->is.pinner->write_frame(frame + skip, bytes.first(step));
    } else {
      p.from->is.pinner->read_frame(frame + skip, bytes.first(step));
    }
    if (!held && one[0].type() == memory_type::cached)
      p.from->is.pinner->unpin(one[0], Want == access_rights::write);
    bytes = bytes.subspan(step);
    byte += step;
  }
  return {};
}

}  // namespace iopt
