// iopt/backends/mock/domain_options.hpp - what kind of IOMMU a mock domain is, and what it counts.
//
// Layer: backends/mock. Includes: base, policy, the standard library.
#pragma once

#include <cstdint>
#include <vector>

#include "iopt/backends/mock/fault_injector.hpp"
#include "iopt/base/page_sizes.hpp"
#include "iopt/base/range.hpp"
#include "iopt/policy/iommu_domain.hpp"

namespace iopt::mock {

/// domain_options: what kind of IOMMU it is. All of it stays as it is for the domain's life.
///
/// Tested by tests/backends/mock/domain_test.cpp
struct domain_options {
  page_size_set page_sizes{4 * kibibyte, 2 * mebibyte, gibibyte};  // the smallest >= 512 bytes
  iova_range aperture = iova_range::whole();
  std::vector<reserved_region> reserved{};
  bool enforces_coherency = true;
  bool tracks_dirty = true;
  fault_injector* faults = nullptr;

  /// The mock domain of the kernel's own iommufd tests.
  static domain_options kernel_selftest() {
    domain_options o;
    o.page_sizes = {2 * kibibyte};
    o.aperture = {{std::uint64_t{1} << 24}, {(std::uint64_t{1} << 31) - 1}};
    o.enforces_coherency = false;
    return o;
  }
};

/// domain_calls: how often each member of a domain was called.
struct domain_calls {
  std::uint64_t map = 0;
  std::uint64_t map_runs = 0;
  std::uint64_t runs = 0;  // mapped by map_runs() and replace()
  std::uint64_t unmap = 0;
  std::uint64_t unmap_runs = 0;
  std::uint64_t translate = 0;
  std::uint64_t translate_range = 0;
  std::uint64_t sync = 0;
  std::uint64_t read_dirty = 0;
  std::uint64_t split = 0;
  std::uint64_t protect = 0;
  std::uint64_t replace = 0;

  /// Calls that change or flush the table.
  std::uint64_t writes() const noexcept {
    return map + map_runs + unmap + unmap_runs + sync + split + protect + replace;
  }
  friend bool operator==(const domain_calls&, const domain_calls&) = default;
};

}  // namespace iopt::mock
