// iopt/core/mapping_budget.hpp - what mappings will cost in entries, before the first is made.
//
// A container of VFIO takes 65535 entries, and says so with ENOSPC at the 65536th. A VMM that maps its
// guest in blocks, so that it can unplug them one by one, finds out half way. Here it asks first:
//
//   const planned_mapping guest{ram, address, access_rights::read_write, .call_bytes = 4 * kibibyte};
//   const mapping_plan plan = plan_mappings({&guest, 1}, granules::whole(), 65535);
//   plan.entries        256 GiB: 67108864
//   plan.remedy         coalesce: one call for all of it; then coalesce() joins the requests
//   plan.entries_then   1
//
// Layer: core. Includes: base, policy, the standard library.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "iopt/base/access.hpp"
#include "iopt/base/address.hpp"
#include "iopt/base/assert.hpp"
#include "iopt/base/log2.hpp"
#include "iopt/base/range.hpp"
#include "iopt/policy/granules.hpp"

namespace iopt {

/// planned_mapping: a range that will be mapped, in one call or in many.
///
/// Invariants  call_bytes and contiguous_bytes are 0 or powers of two, of which where.first is a
///             multiple.
struct planned_mapping {
  iova_range where{};
  user_address from{};
  access_rights rights{};
  /// How much each call maps, in bytes, the last perhaps less; 0: all of it in one call.
  std::uint64_t call_bytes = 0;
  /// How far the memory is contiguous for the domain, in bytes; 0: all of it is, as it is for a
  /// container, which takes addresses of a process.
  std::uint64_t contiguous_bytes = 0;
};

/// What makes mappings fit.
enum class mapping_remedy : std::uint8_t {
  none,                  // they fit as they are
  coalesce,              // neighbours in one call
  coarsen,               // larger granules
  coalesce_and_coarsen,  // both
  impossible,            // fewer or more contiguous mappings, or a higher limit
};
constexpr std::string_view name(mapping_remedy r) noexcept {
  switch (r) {
    case mapping_remedy::none: return "none";
    case mapping_remedy::coalesce: return "coalesce";
    case mapping_remedy::coarsen: return "coarsen";
    case mapping_remedy::coalesce_and_coarsen: return "coalesce and coarsen";
    case mapping_remedy::impossible: return "impossible";
  }
  return "?";
}

/// mapping_plan: what mappings cost, and what to do where that is too much.
struct mapping_plan {
  std::uint64_t entries = 0;  // as they are planned; saturates
  std::uint64_t bytes = 0;    // mapped, and so locked by a container; saturates
  mapping_remedy remedy{};
  granules pieces{};               // with the remedy
  std::uint64_t entries_then = 0;  // likewise; where it is impossible, the fewest there can be

  constexpr bool fits() const noexcept { return remedy == mapping_remedy::none; }
};

namespace detail {

/// Entries for a range that is mapped in aligned blocks of `unit` bytes, 0 for all at once.
constexpr std::uint64_t count_entries(iova_range all, std::uint64_t unit, granules g) noexcept {
  if (unit == 0) return g.count(all);
  IOPT_ASSERT(is_power_of_two(unit) && all.first.is_aligned(unit));
  const std::uint64_t each =
      g.shape() == granule_shape::whole || unit <= g.size_bytes() ? 1 : unit / g.size_bytes();
  const std::uint64_t more = all.length_minus_one();
  const bool ends_whole = more % unit == unit - 1;
  const std::uint64_t blocks = checked_add(more / unit, ends_whole ? 1 : 0).value_or(top);
  const std::uint64_t tail = ends_whole ? 0 : g.count({all.first + (more / unit) * unit, all.last});
  return checked_add(checked_multiply(blocks, each).value_or(top), tail).value_or(top);
}
constexpr std::uint64_t least_of(std::uint64_t a, std::uint64_t b) noexcept {
  return a == 0 ? b : b == 0 ? a : std::min(a, b);
}
/// Whether one call can map both: b goes on where a ends, in all that matters.
constexpr bool goes_on(const planned_mapping& a, const planned_mapping& b) noexcept {
  return a.contiguous_bytes == 0 && b.contiguous_bytes == 0 && a.rights == b.rights &&
         a.where.last.value != top && a.where.last + 1 == b.where.first &&
         a.where.length_minus_one() < top - a.from.value &&
         a.from.value + a.where.length_minus_one() + 1 == b.from.value;
}

}  // namespace detail

/// Entries that mappings cost, each in its calls, with a rule for pieces. Saturates at 2^64 - 1.
/// Cost: O(mappings).
constexpr std::uint64_t count_entries(std::span<const planned_mapping> mappings,
                                      granules pieces) noexcept {
  std::uint64_t sum = 0;
  for (const planned_mapping& m : mappings) {
    const std::uint64_t unit = detail::least_of(m.call_bytes, m.contiguous_bytes);
    sum = checked_add(sum, detail::count_entries(m.where, unit, pieces)).value_or(top);
  }
  return sum;
}

/// The same where neighbours that show contiguous memory with the same rights are one call.
/// Requires: mappings are in ascending order and do not overlap. Cost: O(mappings).
constexpr std::uint64_t count_entries_coalesced(std::span<const planned_mapping> mappings,
                                                granules pieces) noexcept {
  std::uint64_t sum = 0;
  for (std::size_t n = 0; n < mappings.size();) {
    iova_range all = mappings[n].where;
    std::size_t next = n + 1;
    while (next < mappings.size() && detail::goes_on(mappings[next - 1], mappings[next]))
      all.last = mappings[next++].where.last;
    const std::uint64_t unit = mappings[n].contiguous_bytes;
    sum = checked_add(sum, detail::count_entries(all, unit, pieces)).value_or(top);
    n = next;
  }
  return sum;
}

/// What mappings cost in a table that takes `limit` more entries (nothing: any number), and the least
/// change that makes them fit: first in how they are called, which keeps every hole that the granules
/// allow; then in granules, no coarser than need be; then in both.
///
/// Requires: mappings are in ascending order and do not overlap.
/// Cost      O(64 mappings).
/// Tested by tests/core/mapping_budget_test.cpp
constexpr mapping_plan plan_mappings(std::span<const planned_mapping> mappings, granules pieces,
                                     std::optional<std::uint64_t> limit) noexcept {
  const std::uint64_t most = limit.value_or(top);
  mapping_plan plan{count_entries(mappings, pieces), 0, mapping_remedy::none, pieces, 0};
  for (const planned_mapping& m : mappings)
    plan.bytes = checked_add(plan.bytes, checked_add(m.where.length_minus_one(), 1).value_or(top))
                     .value_or(top);
  plan.entries_then = plan.entries;
  if (plan.entries <= most) return plan;
  const auto fits = [&](mapping_remedy remedy, granules with, std::uint64_t entries) {
    plan.remedy = remedy;
    plan.pieces = with;
    plan.entries_then = entries;
    return entries <= most;
  };
  if (fits(mapping_remedy::coalesce, pieces, count_entries_coalesced(mappings, pieces)))
    return plan;
  for (granules g = pieces; g.shape() != granule_shape::whole;) {
    g = g.coarser();
    if (fits(mapping_remedy::coarsen, g, count_entries(mappings, g))) return plan;
  }
  for (granules g = pieces; g.shape() != granule_shape::whole;) {
    g = g.coarser();
    if (fits(mapping_remedy::coalesce_and_coarsen, g, count_entries_coalesced(mappings, g)))
      return plan;
  }
  plan.remedy = mapping_remedy::impossible;
  plan.pieces = granules::whole();
  plan.entries_then = count_entries_coalesced(mappings, granules::whole());
  return plan;
}

/// Joins requests for io_pagetable::map_all() that follow one another in IOVA and in memory, with the same
/// rights and origin: one area each, which is unmapped as a whole or cut. Those without an IOVA of their own
/// stay as they are. Returns how many are left, at the front, in their order.
template <class Request>
constexpr std::size_t coalesce(std::span<Request> requests) {
  std::size_t kept = 0;
  for (Request& next : requests) {
    if (kept != 0) {
      Request& last = requests[kept - 1];
      const bool adjoins =
          last.at && next.at && last.rights == next.rights && last.what.of == next.what.of &&
          checked_add(last.at->value, last.length_bytes) == next.at->value &&
          checked_add(last.what.from.value, last.length_bytes) == next.what.from.value &&
          checked_add(last.length_bytes, next.length_bytes).has_value();
      if (adjoins) {
        last.length_bytes += next.length_bytes;
        continue;
      }
    }
    if (&requests[kept] != &next) requests[kept] = next;
    ++kept;
  }
  return kept;
}

/// The plan of requests that all have an IOVA, in ascending order, for a domain that takes addresses.
/// `room` is for that many planned mappings. Requires: room is as long as requests.
template <class Request>
constexpr mapping_plan plan_requests(std::span<const Request> requests, granules pieces,
                                     std::optional<std::uint64_t> limit,
                                     std::span<planned_mapping> room) {
  IOPT_ASSERT(room.size() >= requests.size());
  for (std::size_t n = 0; n < requests.size(); ++n) {
    const Request& r = requests[n];
    IOPT_ASSERT(r.at.has_value());
    room[n] = {iova_range::sized(*r.at, r.length_bytes), r.what.from, r.rights};
  }
  return plan_mappings(room.first(requests.size()), pieces, limit);
}

}  // namespace iopt
