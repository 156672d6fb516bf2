// iopt/backends/vfio_type1/container_table.hpp - a VFIO container as an entry_table; and the domain.
//
//   vfio_type1::container_table::open(fd)   of an open container that has a group and type1
//   vfio_type1::domain                      the iommu_domain over it, with granules and a budget
//
// The kernel pins and counts the memory itself: the pinner that goes with it is host::address_pinner.
//
// Type1 tracks dirty pages, but a container with a device of its own says that all of them are: it
// cannot tell more. So the domain does not track.
//
// Layer: backends. Includes: base, policy, backends/granular, backends/host, uapi/vfio/abi.hpp.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <utility>

#include "iopt/backends/granular/domain.hpp"
#include "iopt/backends/granular/entry_table.hpp"
#include "iopt/backends/host/device_file.hpp"
#include "iopt/backends/vfio_type1/container_info.hpp"
#include "iopt/base/access.hpp"
#include "iopt/base/error.hpp"
#include "iopt/base/page_sizes.hpp"
#include "iopt/base/range.hpp"
#include "iopt/policy/iommu_domain.hpp"
#include "iopt/uapi/vfio/abi.hpp"

namespace iopt::vfio_type1 {

/// container_table: the mappings of a container, type1 v1 or v2.
///
/// Model       As entry_table; memory is an address of this process. What the container said when it was
///             opened holds as long as its groups stay; open it anew where one comes or goes.
/// Ownership   Refers to the descriptor. Others may map in the container too; the table leaves what they
///             map alone, unless it lies in a range that the table unmaps.
/// Errors      map(), in the kernel's order: file_exists, no_space_on_device, invalid_argument outside the
///             usable IOVAs, bad_address, not_enough_memory over RLIMIT_MEMLOCK. open(): as
///             container_info::read().
/// Cost        One ioctl a call; the kernel pins a page at a time.
/// Threads     As entry_table. In a fork the same container has the child's memory: map() there shows that.
/// Source      Linux 6.12 vfio_iommu_type1.c, as facts.
/// Tested by   tests/backends/vfio_type1/container_table_test.cpp
class container_table {
 public:
  static result<container_table> open(int container) {
    result<container_info> info = container_info::read(container);
    if (!info) return std::unexpected(info.error());
    return container_table(container, std::move(*info));
  }

  result<void> map(iova_range r, physical memory, access_rights rights) noexcept {
    const std::uint32_t flags = (allows(rights, access_rights::read) ? abi::map_read : 0) |
                                (allows(rights, access_rights::write) ? abi::map_write : 0);
    abi::dma_map request{sizeof request, flags, memory.value, r.first.value, r.length()};
    const result<int> done = host::call(container_, abi::iommu_map_dma, &request);
    if (!done) return std::unexpected(done.error());
    return {};
  }
  std::uint64_t unmap(iova_range r) noexcept {
    abi::dma_unmap request{sizeof request, 0, r.first.value, r.length()};
    return host::call(container_, abi::iommu_unmap_dma, &request) ? request.size : 0;
  }
  std::optional<std::uint64_t> entries_left() const noexcept {
    return container_info::read_entries_left(container_);
  }

  page_size_set page_sizes() const noexcept { return info_.page_sizes; }
  iova_range aperture() const noexcept { return info_.aperture; }
  std::span<const reserved_region> reserved_regions() const noexcept { return info_.reserved; }
  int descriptor() const noexcept { return container_; }

 private:
  container_table(int container, container_info info) noexcept
      : container_(container), info_(std::move(info)) {}

  int container_;
  container_info info_;
};
static_assert(granular::entry_table<container_table>);

/// An iommu_domain on a container.
using domain = granular::domain<container_table>;

}  // namespace iopt::vfio_type1
