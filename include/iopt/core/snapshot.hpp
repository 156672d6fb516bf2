// iopt/core/snapshot.hpp - all that can be seen of a table at one moment, to keep, compare or
// print.
//
// Layer: core. Includes: core/io_pagetable.hpp, the standard library.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

#include "iopt/core/io_pagetable.hpp"

namespace iopt {

/// table_snapshot: a table's areas and rules. Sizes of entries in the domains are not part of it; areas
/// that show one pages object have one `pages_id`, a number from 0 on.
struct table_snapshot {
  std::vector<area_info> areas;
  std::vector<iova_range> usable;  // what no reservation touches
  std::uint64_t alignment = 1;     // bytes
  std::size_t domains = 0;
  bool large_pages = true;

  friend bool operator==(const table_snapshot&, const table_snapshot&) = default;
};

/// Errors   None, but that of std::vector without memory. Cost: O(areas + reservations).
template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
table_snapshot snapshot(const io_pagetable<Pinner, Domain, Traits>& table) {
  table_snapshot now{.areas = {},
                     .usable = {},
                     .alignment = table.alignment(),
                     .domains = table.domain_count(),
                     .large_pages = table.large_pages()};
  // Pages are told apart by what does not outlive a look: here, by the first area that shows them.
  std::unordered_map<std::uint64_t, std::uint64_t> numbers;
  table.for_each_area([&](const area_info& a) {
    now.areas.push_back(a);
    now.areas.back().pages_id = numbers.try_emplace(a.pages_id, numbers.size()).first->second;
  });
  table.for_each_usable([&](iova_range r) { now.usable.push_back(r); });
  return now;
}

}  // namespace iopt
