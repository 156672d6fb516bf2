// examples/interpose/settings.hpp - what the environment says of the machine.
//
//   IOPT_GROUPS            how many groups there are, /dev/vfio/0 and on (2)
//   IOPT_APERTURE          the IOVAs that the IOMMU translates (0-0x7fffffffff)
//   IOPT_RESERVED          those that its devices keep, with commas (0xfee00000-0xfeefffff)
//   IOPT_PAGE_SIZES        a bitmap: 4 KiB, 2 MiB and 1 GiB (0x40201000)
//   IOPT_COHERENT          whether it enforces cache coherency (0)
//   IOPT_DMA_ENTRY_LIMIT   mappings that a container may hold (65535)
//   IOPT_CAP_IPC_LOCK      whether the caller may lock memory at will (as the process may)
//   IOPT_HOLE_PUNCHING     unmaps are exact, which a kernel's are not (0)
//
// What shall fail is no setting: a thread says it by its file fail-nth (devices.hpp).
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "iopt/base/page_sizes.hpp"
#include "iopt/base/range.hpp"

namespace interpose {

struct settings {
  unsigned groups = 2;
  iopt::iova_range aperture{{0}, {0x7fffffffff}};
  std::vector<iopt::iova_range> reserved{{{0xfee00000}, {0xfeefffff}}};
  iopt::page_size_set page_sizes = iopt::page_size_set::from_bitmap(0x40201000);
  bool coherent = false;
  std::uint32_t dma_entry_limit = 65535;
  std::optional<bool> lock_memory{};
  bool hole_punching = false;
};

/// Read once. Where a value makes no sense it says so and ends the process.
const settings& chosen();

}  // namespace interpose
