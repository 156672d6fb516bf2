// iopt/uapi/vfio/spapr_abi.hpp - the ioctls of an SPAPR TCE container, as bytes.
//
// The numbers are in uapi/vfio/abi.hpp, since some are type1's as well: GET_INFO is
// iommu_get_info, and spapr_register_memory is iommu_dirty_pages. MAP_DMA and UNMAP_DMA take type1's
// structs. Here are the structs that only SPAPR has.
//
// Layer: uapi. Includes: uapi/vfio/abi.hpp, the standard library; <linux/vfio.h> if present.
#pragma once

#include <cstddef>
#include <cstdint>

#include "iopt/uapi/vfio/abi.hpp"

namespace iopt::vfio::abi {

struct spapr_ddw_info {
  std::uint64_t page_sizes;   // bit n: windows may have IOMMU pages of 2^n bytes
  std::uint32_t max_windows;  // that there may be at once
  std::uint32_t levels;       // that a table may have
};

inline constexpr std::uint32_t spapr_info_ddw = 1;
struct spapr_info {
  std::uint32_t argsz;
  std::uint32_t flags;
  std::uint32_t window32_start;  // bytes
  std::uint32_t window32_size;   // bytes
  spapr_ddw_info ddw;
};
inline constexpr std::size_t spapr_info_least = 16;

struct spapr_memory {  // of spapr_register_memory and spapr_unregister_memory
  std::uint32_t argsz;
  std::uint32_t flags;
  std::uint64_t vaddr;
  std::uint64_t size;
};

struct spapr_create {
  std::uint32_t argsz;
  std::uint32_t flags;
  std::uint32_t page_shift;
  std::uint32_t reserved_1;
  std::uint64_t window_size;  // bytes
  std::uint32_t levels;
  std::uint32_t reserved_2;
  std::uint64_t start;  // out
};

struct spapr_remove {
  std::uint32_t argsz;
  std::uint32_t flags;
  std::uint64_t start;
};

/// What eeh_pe_op does. Source: VFIO_EEH_PE_*.
enum eeh_operation : std::uint32_t {
  eeh_disable = 0,
  eeh_enable = 1,
  eeh_unfreeze_io = 2,
  eeh_unfreeze_dma = 3,
  eeh_get_state = 4,
  eeh_reset_deactivate = 5,
  eeh_reset_hot = 6,
  eeh_reset_fundamental = 7,
  eeh_configure = 8,
  eeh_inject_error = 9,
};

struct eeh_error {  // what eeh_inject_error injects
  std::uint32_t type;
  std::uint32_t function;
  std::uint64_t address;
  std::uint64_t mask;
};
struct eeh_request {
  std::uint32_t argsz;
  std::uint32_t flags;
  std::uint32_t operation;
  std::uint32_t pad;
  eeh_error error;
};
inline constexpr std::size_t eeh_request_least = 12;

static_assert(sizeof(spapr_info) == 32 && offsetof(spapr_info, ddw) == spapr_info_least &&
              sizeof(spapr_memory) == 24 && sizeof(spapr_create) == 40 &&
              sizeof(spapr_remove) == 16 && sizeof(eeh_request) == 40 &&
              offsetof(eeh_request, error) == 16);

#ifdef VFIO_IOMMU_SPAPR_TCE_CREATE
static_assert(iommu_get_info == VFIO_IOMMU_SPAPR_TCE_GET_INFO &&
              spapr_register_memory == VFIO_IOMMU_SPAPR_REGISTER_MEMORY &&
              spapr_unregister_memory == VFIO_IOMMU_SPAPR_UNREGISTER_MEMORY &&
              spapr_tce_create == VFIO_IOMMU_SPAPR_TCE_CREATE &&
              spapr_tce_remove == VFIO_IOMMU_SPAPR_TCE_REMOVE && eeh_pe_op == VFIO_EEH_PE_OP &&
              spapr_tce_iommu == VFIO_SPAPR_TCE_IOMMU &&
              spapr_tce_v2_iommu == VFIO_SPAPR_TCE_v2_IOMMU && eeh == VFIO_EEH);
static_assert(spapr_info_ddw == VFIO_IOMMU_SPAPR_INFO_DDW &&
              sizeof(spapr_info) == sizeof(vfio_iommu_spapr_tce_info) &&
              offsetof(spapr_info, ddw) == offsetof(vfio_iommu_spapr_tce_info, ddw) &&
              sizeof(spapr_ddw_info) == sizeof(vfio_iommu_spapr_tce_ddw_info) &&
              sizeof(spapr_memory) == sizeof(vfio_iommu_spapr_register_memory) &&
              sizeof(spapr_create) == sizeof(vfio_iommu_spapr_tce_create) &&
              offsetof(spapr_create, start) == offsetof(vfio_iommu_spapr_tce_create, start_addr) &&
              sizeof(spapr_remove) == sizeof(vfio_iommu_spapr_tce_remove) &&
              sizeof(eeh_request) == sizeof(vfio_eeh_pe_op) &&
              sizeof(eeh_error) == sizeof(vfio_eeh_pe_err));
static_assert(eeh_disable == VFIO_EEH_PE_DISABLE && eeh_enable == VFIO_EEH_PE_ENABLE &&
              eeh_unfreeze_io == VFIO_EEH_PE_UNFREEZE_IO &&
              eeh_unfreeze_dma == VFIO_EEH_PE_UNFREEZE_DMA &&
              eeh_get_state == VFIO_EEH_PE_GET_STATE &&
              eeh_reset_deactivate == VFIO_EEH_PE_RESET_DEACTIVATE &&
              eeh_reset_hot == VFIO_EEH_PE_RESET_HOT &&
              eeh_reset_fundamental == VFIO_EEH_PE_RESET_FUNDAMENTAL &&
              eeh_configure == VFIO_EEH_PE_CONFIGURE && eeh_inject_error == VFIO_EEH_PE_INJECT_ERR);
#endif

}  // namespace iopt::vfio::abi
