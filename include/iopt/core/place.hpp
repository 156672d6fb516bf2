// iopt/core/place.hpp - io_pagetable: which IOVA a mapping gets.
//
// A fixed one is checked against everything but areas in the way; without one the lowest that fits is
// chosen, as Linux does it: aligned as the memory and the length allow.
//
// Layer: core. Includes: containers/coverage_spans.hpp, core/io_pagetable.hpp.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>

#include "iopt/containers/coverage_spans.hpp"
#include "iopt/core/io_pagetable.hpp"

namespace iopt {

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
                                                         const iova* at) const {
  if (length_bytes == 0 || (length_bytes & (alignment_ - 1)) != 0)
    return fail(errc::invalid_argument);
  if (at == nullptr) return choose(from, length_bytes);
  if (!at->is_aligned(alignment_)) return fail(errc::invalid_argument);
  const result<iova_range> where = iova_range::from_length(*at, length_bytes);
  if (!where) return fail(where.error());
  if (const reservation* r = reserved_.first_overlap(*where))
    return fail({errc::invalid_argument, error_place::request_byte,
                 r->range.first <= *at ? 0 : r->range.first - *at});
  return *at;
}

}  // namespace iopt
