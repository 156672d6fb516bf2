// iopt/uapi/vfio/abi.hpp - the VFIO container's ioctls, as bytes.
//
// Declared here, because a program that answers ioctls need not have the headers of the kernel that
// it stands for. Where <linux/vfio.h> is there, every number and size is compared with it.
//
// Layer: abi, which real backends include too. Includes: base/access.hpp, the standard library;
// <linux/vfio.h> if present.
#pragma once

#include <cstddef>
#include <cstdint>

#include "iopt/base/access.hpp"

#if __has_include(<linux/vfio.h>)
#include <linux/vfio.h>
#endif

namespace iopt::vfio::abi {

/// All VFIO ioctls are _IO(';', 100 + n): no size and no direction in the number.
constexpr std::uint32_t request(std::uint32_t n) noexcept { return 0x3b00U + 100U + n; }

inline constexpr std::uint32_t get_api_version = request(0);
inline constexpr std::uint32_t check_extension = request(1);
inline constexpr std::uint32_t set_iommu = request(2);
inline constexpr std::uint32_t group_get_status = request(3);
inline constexpr std::uint32_t group_set_container = request(4);
inline constexpr std::uint32_t group_unset_container = request(5);
inline constexpr std::uint32_t group_get_device_fd = request(6);
inline constexpr std::uint32_t iommu_get_info = request(12);
inline constexpr std::uint32_t iommu_map_dma = request(13);
inline constexpr std::uint32_t iommu_unmap_dma = request(14);
inline constexpr std::uint32_t iommu_enable = request(15);   // SPAPR v1
inline constexpr std::uint32_t iommu_disable = request(16);  // SPAPR v1
inline constexpr std::uint32_t iommu_dirty_pages = request(17);
inline constexpr std::uint32_t spapr_register_memory = request(17);
inline constexpr std::uint32_t spapr_unregister_memory = request(18);
inline constexpr std::uint32_t spapr_tce_create = request(19);
inline constexpr std::uint32_t spapr_tce_remove = request(20);
inline constexpr std::uint32_t eeh_pe_op = request(21);

inline constexpr std::int64_t api_version = 0;

/// What VFIO_CHECK_EXTENSION asks about and VFIO_SET_IOMMU chooses.
enum extension : std::uint64_t {
  type1_iommu = 1,
  spapr_tce_iommu = 2,
  type1v2_iommu = 3,
  dma_cc_iommu = 4,
  eeh = 5,
  type1_nesting_iommu = 6,
  spapr_tce_v2_iommu = 7,
  noiommu_iommu = 8,
  unmap_all = 9,
  update_vaddr = 10,
};

inline constexpr std::uint32_t group_viable = 1;
inline constexpr std::uint32_t group_container_set = 2;

/// The least of every argument: how many bytes there are, and flags.
struct header {
  std::uint32_t argsz;  // bytes
  std::uint32_t flags;
};

struct group_status {
  std::uint32_t argsz;
  std::uint32_t flags;
};

inline constexpr std::uint32_t info_page_sizes = 1;
inline constexpr std::uint32_t info_capabilities = 2;
struct type1_info {
  std::uint32_t argsz;
  std::uint32_t flags;
  std::uint64_t page_sizes;
  std::uint32_t cap_offset;
  std::uint32_t pad;
};
inline constexpr std::size_t type1_info_least = 16;

/// One link of the chain of capabilities behind type1_info.
struct capability_header {
  std::uint16_t id;
  std::uint16_t version;
  std::uint32_t next;  // from the start of type1_info, in bytes; 0: the last
};
inline constexpr std::uint16_t capability_iova_range = 1;
inline constexpr std::uint16_t capability_migration = 2;
inline constexpr std::uint16_t capability_dma_avail = 3;

struct iova_ranges_capability {  // and a closed range for each of `count`
  capability_header header;
  std::uint32_t count;
  std::uint32_t reserved;
};
struct iova_range_entry {
  std::uint64_t first;
  std::uint64_t last;
};
struct migration_capability {
  capability_header header;
  std::uint32_t flags;
  std::uint32_t pad;
  std::uint64_t page_sizes;
  std::uint64_t max_bitmap_bytes;
};
struct dma_avail_capability {
  capability_header header;
  std::uint32_t avail;
};

inline constexpr std::uint32_t map_read = 1;
inline constexpr std::uint32_t map_write = 2;
inline constexpr std::uint32_t map_vaddr = 4;
constexpr access_rights rights_of(std::uint32_t map_flags) noexcept {
  return ((map_flags & map_read) != 0 ? access_rights::read : access_rights::none) |
         ((map_flags & map_write) != 0 ? access_rights::write : access_rights::none);
}
struct dma_map {
  std::uint32_t argsz;
  std::uint32_t flags;
  std::uint64_t vaddr;
  std::uint64_t iova;
  std::uint64_t size;
};

struct bitmap {
  std::uint64_t page_size;  // bytes a bit stands for
  std::uint64_t size;       // of the bitmap, in bytes
  std::uint64_t data;       // its address
};

inline constexpr std::uint32_t unmap_get_dirty_bitmap = 1;
inline constexpr std::uint32_t unmap_all_flag = 2;
inline constexpr std::uint32_t unmap_vaddr = 4;
struct dma_unmap {  // and a bitmap, with unmap_get_dirty_bitmap
  std::uint32_t argsz;
  std::uint32_t flags;
  std::uint64_t iova;
  std::uint64_t size;
};

inline constexpr std::uint32_t dirty_start = 1;
inline constexpr std::uint32_t dirty_stop = 2;
inline constexpr std::uint32_t dirty_get_bitmap = 4;
struct dirty_bitmap {  // and a dirty_bitmap_get, with dirty_get_bitmap
  std::uint32_t argsz;
  std::uint32_t flags;
};
struct dirty_bitmap_get {
  std::uint64_t iova;
  std::uint64_t size;
  bitmap bits;
};

static_assert(sizeof(type1_info) == 24 && sizeof(iova_ranges_capability) == 16 &&
              sizeof(migration_capability) == 32 && sizeof(dma_avail_capability) == 12 &&
              sizeof(dma_map) == 32 && sizeof(dma_unmap) == 24 && sizeof(bitmap) == 24 &&
              sizeof(dirty_bitmap) == 8 && sizeof(dirty_bitmap_get) == 40);

#ifdef VFIO_API_VERSION
static_assert(api_version == VFIO_API_VERSION && get_api_version == VFIO_GET_API_VERSION &&
              check_extension == VFIO_CHECK_EXTENSION && set_iommu == VFIO_SET_IOMMU &&
              group_get_status == VFIO_GROUP_GET_STATUS &&
              group_set_container == VFIO_GROUP_SET_CONTAINER &&
              group_unset_container == VFIO_GROUP_UNSET_CONTAINER &&
              group_get_device_fd == VFIO_GROUP_GET_DEVICE_FD &&
              iommu_get_info == VFIO_IOMMU_GET_INFO && iommu_map_dma == VFIO_IOMMU_MAP_DMA &&
              iommu_unmap_dma == VFIO_IOMMU_UNMAP_DMA &&
              iommu_dirty_pages == VFIO_IOMMU_DIRTY_PAGES && iommu_enable == VFIO_IOMMU_ENABLE &&
              iommu_disable == VFIO_IOMMU_DISABLE &&
              spapr_register_memory == VFIO_IOMMU_SPAPR_REGISTER_MEMORY &&
              spapr_unregister_memory == VFIO_IOMMU_SPAPR_UNREGISTER_MEMORY &&
              spapr_tce_create == VFIO_IOMMU_SPAPR_TCE_CREATE &&
              spapr_tce_remove == VFIO_IOMMU_SPAPR_TCE_REMOVE && eeh_pe_op == VFIO_EEH_PE_OP);
static_assert(sizeof(type1_info) >= offsetof(vfio_iommu_type1_info, cap_offset) + 4 &&
              sizeof(dma_map) == sizeof(vfio_iommu_type1_dma_map) &&
              sizeof(dma_unmap) == sizeof(vfio_iommu_type1_dma_unmap) &&
              sizeof(bitmap) == sizeof(vfio_bitmap) &&
              sizeof(dirty_bitmap) == sizeof(vfio_iommu_type1_dirty_bitmap) &&
              sizeof(dirty_bitmap_get) == sizeof(vfio_iommu_type1_dirty_bitmap_get) &&
              sizeof(migration_capability) == sizeof(vfio_iommu_type1_info_cap_migration) &&
              sizeof(dma_avail_capability) == sizeof(vfio_iommu_type1_info_dma_avail));
#endif

}  // namespace iopt::vfio::abi
