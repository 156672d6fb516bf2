// iopt/backends/iommufd/iommufd.hpp - /dev/iommu under an io_pagetable.
//
// Not part of iopt.hpp: Linux only.
//
//   dev_iommu::address_space   opens it, with an IOAS; vfio_device puts a device behind one
//   dev_iommu::ioas_table      an IOAS's mappings; dev_iommu::domain the iommu_domain
//   dev_iommu::tracking_table  with the writes of a hardware page table; tracking_domain
//   dev_iommu::sharing         address spaces that show the same memory, pinned once
//   dev_iommu::pinner          the pinner that goes with it: addresses, and files by descriptor
//
// Layer: backends. Includes: backends/iommufd.
#pragma once

#include "iopt/backends/iommufd/address_space.hpp"
#include "iopt/backends/iommufd/file_frames.hpp"
#include "iopt/backends/iommufd/ioas_table.hpp"
#include "iopt/backends/iommufd/iova_ranges.hpp"
#include "iopt/backends/iommufd/sharing.hpp"
