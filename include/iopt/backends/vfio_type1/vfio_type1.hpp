// iopt/backends/vfio_type1/vfio_type1.hpp - a real VFIO container under an io_pagetable.
//
// Not part of iopt.hpp: Linux only.
//
//   vfio_type1::container         opens one, with a group
//   vfio_type1::container_table   its entries
//   vfio_type1::domain            the iommu_domain: granules, holes, a budget
//   host::address_pinner          the pinner that goes with it
//
// Layer: backends. Includes: backends/vfio_type1, backends/host, backends/granular.
#pragma once

#include "iopt/backends/host/address_pinner.hpp"
#include "iopt/backends/vfio_type1/container.hpp"
#include "iopt/backends/vfio_type1/container_info.hpp"
#include "iopt/backends/vfio_type1/container_table.hpp"
