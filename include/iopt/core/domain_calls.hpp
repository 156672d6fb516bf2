// iopt/core/domain_calls.hpp - every ability of a domain, whether the domain has it or not.
//
// The engine calls these. Where a domain has the refinement it is one call; where not, the five
// base operations make up for it, or the answer is operation_not_supported.
//
// Layer: core. Includes: base, policy/iommu_domain.hpp, the standard library.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <span>

#include "iopt/base/access.hpp"
#include "iopt/base/error.hpp"
#include "iopt/base/log2.hpp"
#include "iopt/base/range.hpp"
#include "iopt/base/run.hpp"
#include "iopt/policy/iommu_domain.hpp"

namespace iopt::detail {

template <iommu_domain D>
void sync(D& d) noexcept {
  if constexpr (flushing_domain<D>) d.sync();
}

/// Unmaps r. Whether all of it went: false is a table that came back short.
template <iommu_domain D>
bool unmap_whole(D& d, iova_range r) noexcept {
  return d.unmap(r) == r.length_minus_one() + 1;
}

/// Maps one run as a range of its own, or, with a page size, page by page, each page its own range.
/// On error nothing of it stays mapped; `done` is then how many bytes had gone well.
template <iommu_domain D>
result<void> map_run(D& d, iova at, run r, access_rights rights, std::uint64_t page_bytes,
                     std::uint64_t& done) {
  const attributes how{rights, r.type()};
  if (page_bytes == 0) {
    done = 0;
    return d.map(iova_range::sized(at, r.length_bytes), r.first, how);
  }
  for (done = 0; done < r.length_bytes;) {
    // A run may begin and end inside a page; the pages are those of the physical address.
    const std::uint64_t in_page = (r.first.value + done) & (page_bytes - 1);
    const std::uint64_t step = std::min<std::uint64_t>(page_bytes - in_page, r.length_bytes - done);
    const result<void> mapped = d.map(iova_range::sized(at + done, step), r.first + done, how);
    if (!mapped) {
      if (done != 0) unmap_whole(d, iova_range::sized(at, done));
      return mapped;
    }
    done += step;
  }
  return {};
}

/// Maps runs, one behind the other, from `at` on; page by page where page_bytes is not 0. On error
/// none is mapped, and the error tells the offset, in bytes, of the run that failed.
template <iommu_domain D>
result<void> map_runs(D& d, iova at, std::span<const run> runs, access_rights rights,
                      std::uint64_t page_bytes) {
  if (page_bytes == 0 && runs.size() == 1) {
    const run& only = runs.front();
    const result<void> mapped =
        d.map(iova_range::sized(at, only.length_bytes), only.first, {rights, only.type()});
    if (mapped) return {};
    return fail({mapped.error().code, error_place::domain, 0});
  }
  if constexpr (run_mapping_domain<D>) {
    if (page_bytes == 0) {
      const result<void> mapped = d.map_runs(at, runs, rights);
      if (mapped) return {};
      return fail({mapped.error().code, error_place::domain, 0});
    }
  }
  std::uint64_t offset = 0;
  for (const run& r : runs) {
    std::uint64_t done = 0;
    const result<void> mapped = map_run(d, at + offset, r, rights, page_bytes, done);
    if (!mapped) {
      if (offset != 0) unmap_whole(d, iova_range::sized(at, offset));
      if (offset != 0 || done != 0) sync(d);
      return fail({mapped.error().code, error_place::domain, offset + done});
    }
    offset += r.length_bytes;
  }
  return {};
}

/// Appends what the domain holds from r.first upwards, until r is done, a run does not fit, or
/// nothing is there; returns the bytes appended. `granule` divides every entry's address and size.
template <iommu_domain D>
std::uint64_t read_runs(const D& d, iova_range r, std::uint64_t granule, run_list& out) {
  if constexpr (range_translating_domain<D>) {
    return d.translate_range(r, out);
  } else {
    std::uint64_t done = 0;
    const std::uint64_t beyond = r.length_minus_one();
    for (;;) {
      const iova at = r.first + done;
      const std::optional<physical> to = d.translate(at);
      const std::uint64_t step = std::min(granule - (at.value & (granule - 1)), beyond - done + 1);
      if (!to || !out.append(run(*to, step))) return done;
      done += step;
      if (done > beyond) return done;
    }
  }
}

/// Unmaps from r.first upwards and appends the runs that were there, until r is done or a run does
/// not fit; returns the bytes unmapped. Requires: `out` is empty and has room.
template <iommu_domain D>
std::uint64_t unmap_runs(D& d, iova_range r, std::uint64_t granule, run_list& out) noexcept {
  if constexpr (run_returning_domain<D>) {
    return d.unmap_runs(r, out);
  } else {
    // What has been read ends where a run ends: either r is done, or the next run did not fit.
    const std::uint64_t there = read_runs(d, r, granule, out);
    if (there == 0) return 0;
    return std::min(d.unmap(iova_range::sized(r.first, there)), there);
  }
}

/// Makes both ends of r boundaries of entries.
template <iommu_domain D>
result<void> split(D& d, iova_range r) {
  if constexpr (splitting_domain<D>) {
    return d.split(r);
  } else {
    return fail(errc::invalid_argument);
  }
}

}  // namespace iopt::detail
