// iopt/backends/iommufd/iova_ranges.hpp - what an address space says of itself: IOMMU_IOAS_IOVA_RANGES.
//
// Layer: backends. Includes: base, policy, backends/host, uapi/iommufd/abi.hpp.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "iopt/backends/host/device_file.hpp"
#include "iopt/base/address.hpp"
#include "iopt/base/error.hpp"
#include "iopt/base/range.hpp"
#include "iopt/policy/iommu_domain.hpp"
#include "iopt/uapi/iommufd/abi.hpp"

namespace iopt::dev_iommu {

namespace abi = iommufd::abi;

/// iova_ranges: usable IOVAs and the alignment, as the devices attached at the moment have them.
///
/// Errors      read(): those of the ioctl; address_not_available where nothing is usable.
/// Cost        One ioctl, two where there are more than 16 ranges.
/// Threads     A value.
/// Tested by   tests/backends/iommufd/ioas_table_test.cpp
struct iova_ranges {
  /// From the first usable address to the last, but the last page of 2^64: an address and a length
  /// of 2^64 - 1 are reserved words of the ioctls.
  iova_range aperture{{0}, {top - 4096}};
  /// What is not usable in between.
  std::vector<reserved_region> reserved{};
  std::uint64_t alignment_bytes = 1;

  static result<iova_ranges> read(int iommufd, std::uint32_t ioas) {
    std::vector<abi::iova_range> room(16);
    abi::ioas_iova_ranges said{};
    for (;;) {
      said = {sizeof said,
              ioas,
              static_cast<std::uint32_t>(room.size()),
              0,
              reinterpret_cast<std::uintptr_t>(room.data()),
              0};
      const result<int> asked =
          host::call(iommufd, static_cast<std::uint32_t>(abi::request::ioas_iova_ranges), &said);
      if (asked) break;
      if (asked.error() != errc::message_size || said.num_iovas <= room.size())
        return std::unexpected(asked.error());
      room.resize(said.num_iovas);
    }
    room.resize(std::min<std::size_t>(said.num_iovas, room.size()));
    return from(room, said.out_iova_alignment);
  }

  /// Requires: in ascending order.
  static result<iova_ranges> from(const std::vector<abi::iova_range>& usable,
                                  std::uint64_t alignment) {
    if (usable.empty()) return fail(errc::address_not_available);
    iova_ranges all;
    all.alignment_bytes = std::max<std::uint64_t>(alignment, 1);
    all.aperture = {{usable.front().start}, {std::min(usable.back().last, top - 4096)}};
    for (std::size_t n = 1; n < usable.size(); ++n)
      all.reserved.push_back(
          {{{usable[n - 1].last + 1}, {usable[n].start - 1}}, reserved_region::kind::reserved});
    return all;
  }
};

}  // namespace iopt::dev_iommu
