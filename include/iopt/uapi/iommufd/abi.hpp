// iopt/uapi/iommufd/abi.hpp - the ioctls of /dev/iommu, as bytes.
//
// Declared here, because a program that answers ioctls need not have the headers of the kernel that
// it stands for. Where <linux/iommufd.h> is there, every number, size and place is compared with it.
//
// Layer: abi, which real backends include too. Includes: the standard library; <linux/iommufd.h> if
// present.
#pragma once

#include <cstddef>
#include <cstdint>

#if __has_include(<linux/iommufd.h>)
#include <linux/iommufd.h>
#endif

namespace iopt::iommufd::abi {

/// All iommufd ioctls are _IO(';', n): no size and no direction in the number. The size is the
/// first member of the argument.
constexpr std::uint32_t request_of(std::uint32_t number) noexcept { return 0x3b00U | number; }
constexpr std::uint32_t number_of(std::uint32_t request) noexcept { return request & 0xffU; }

enum class request : std::uint32_t {
  destroy = request_of(0x80),
  ioas_alloc = request_of(0x81),
  ioas_allow_iovas = request_of(0x82),
  ioas_copy = request_of(0x83),
  ioas_iova_ranges = request_of(0x84),
  ioas_map = request_of(0x85),
  ioas_unmap = request_of(0x86),
  option = request_of(0x87),
  vfio_ioas = request_of(0x88),
  hwpt_alloc = request_of(0x89),
  get_hw_info = request_of(0x8a),
  hwpt_set_dirty_tracking = request_of(0x8b),
  hwpt_get_dirty_bitmap = request_of(0x8c),
  hwpt_invalidate = request_of(0x8d),
  fault_queue_alloc = request_of(0x8e),
  ioas_map_file = request_of(0x8f),        // Linux 6.13
  viommu_alloc = request_of(0x90),         // Linux 6.13
  vdevice_alloc = request_of(0x91),        // Linux 6.13
  ioas_change_process = request_of(0x92),  // Linux 6.14
  veventq_alloc = request_of(0x93),        // Linux 6.15
  hw_queue_alloc = request_of(0x94),       // Linux 6.17
};
inline constexpr std::uint32_t first_number = 0x80;
inline constexpr std::uint32_t last_number_6_12 = 0x8e;
inline constexpr std::uint32_t last_number_6_18 = 0x94;

struct destroy {
  std::uint32_t size;  // of this struct as the caller knows it, in bytes; so in all of them
  std::uint32_t id;
};

struct ioas_alloc {
  std::uint32_t size;
  std::uint32_t flags;
  std::uint32_t out_ioas_id;
};

struct iova_range {
  std::uint64_t start;
  std::uint64_t last;
};

struct ioas_iova_ranges {
  std::uint32_t size;
  std::uint32_t ioas_id;
  std::uint32_t num_iovas;
  std::uint32_t reserved;
  std::uint64_t allowed_iovas;  // the address of an array of iova_range
  std::uint64_t out_iova_alignment;
};

struct ioas_allow_iovas {
  std::uint32_t size;
  std::uint32_t ioas_id;
  std::uint32_t num_iovas;
  std::uint32_t reserved;
  std::uint64_t allowed_iovas;  // the address of an array of iova_range
};

inline constexpr std::uint32_t map_fixed_iova = 1;
inline constexpr std::uint32_t map_writeable = 2;
inline constexpr std::uint32_t map_readable = 4;
struct ioas_map {
  std::uint32_t size;
  std::uint32_t flags;
  std::uint32_t ioas_id;
  std::uint32_t reserved;
  std::uint64_t user_va;
  std::uint64_t length;
  std::uint64_t iova;
};

struct ioas_map_file {
  std::uint32_t size;
  std::uint32_t flags;
  std::uint32_t ioas_id;
  std::int32_t fd;
  std::uint64_t start;
  std::uint64_t length;
  std::uint64_t iova;
};

struct ioas_copy {
  std::uint32_t size;
  std::uint32_t flags;
  std::uint32_t dst_ioas_id;
  std::uint32_t src_ioas_id;
  std::uint64_t length;
  std::uint64_t dst_iova;
  std::uint64_t src_iova;
};

struct ioas_change_process {
  std::uint32_t size;
  std::uint32_t reserved;
};

struct ioas_unmap {
  std::uint32_t size;
  std::uint32_t ioas_id;
  std::uint64_t iova;
  std::uint64_t length;
};

inline constexpr std::uint32_t option_rlimit_mode = 0;
inline constexpr std::uint32_t option_huge_pages = 1;
inline constexpr std::uint16_t option_set = 0;
inline constexpr std::uint16_t option_get = 1;
struct option {
  std::uint32_t size;
  std::uint32_t option_id;
  std::uint16_t op;
  std::uint16_t reserved;
  std::uint32_t object_id;
  std::uint64_t val64;
};

inline constexpr std::uint16_t vfio_ioas_get = 0;
inline constexpr std::uint16_t vfio_ioas_set = 1;
inline constexpr std::uint16_t vfio_ioas_clear = 2;
struct vfio_ioas {
  std::uint32_t size;
  std::uint32_t ioas_id;
  std::uint16_t op;
  std::uint16_t reserved;
};

inline constexpr std::size_t hwpt_data_most = 256;  // bytes of a description that a group may know
inline constexpr std::uint32_t hwpt_nest_parent = 1;
inline constexpr std::uint32_t hwpt_dirty_tracking = 2;
inline constexpr std::uint32_t hwpt_fault_id_valid = 4;
inline constexpr std::uint32_t hwpt_data_none = 0;
struct hwpt_alloc {
  std::uint32_t size;
  std::uint32_t flags;
  std::uint32_t dev_id;
  std::uint32_t pt_id;
  std::uint32_t out_hwpt_id;
  std::uint32_t reserved;
  std::uint32_t data_type;
  std::uint32_t data_len;
  std::uint64_t data_uptr;
  std::uint32_t fault_id;
  std::uint32_t reserved2;
};
inline constexpr std::size_t hwpt_alloc_least = 24;

inline constexpr std::uint64_t hw_cap_dirty_tracking = 1;
inline constexpr std::uint32_t hw_info_input_type = 1;
struct hw_info {
  std::uint32_t size;
  std::uint32_t flags;
  std::uint32_t dev_id;
  std::uint32_t data_len;
  std::uint64_t data_uptr;
  std::uint32_t out_data_type;  // with hw_info_input_type also read: the type wanted
  std::uint8_t out_max_pasid_log2;
  std::uint8_t reserved[3];
  std::uint64_t out_capabilities;
};
inline constexpr std::size_t hw_info_least = 32;

inline constexpr std::uint32_t dirty_tracking_enable = 1;
struct hwpt_set_dirty_tracking {
  std::uint32_t size;
  std::uint32_t flags;
  std::uint32_t hwpt_id;
  std::uint32_t reserved;
};

inline constexpr std::uint32_t dirty_bitmap_no_clear = 1;
struct hwpt_get_dirty_bitmap {
  std::uint32_t size;
  std::uint32_t hwpt_id;
  std::uint32_t flags;
  std::uint32_t reserved;
  std::uint64_t iova;
  std::uint64_t length;
  std::uint64_t page_size;  // bytes a bit stands for
  std::uint64_t data;       // the address of the bitmap
};

// On objects that a context makes none of: see absent_calls.hpp.

inline constexpr std::uint32_t hwpt_invalidate_most = std::uint32_t{1} << 19;  // entries in a call
struct hwpt_invalidate {
  std::uint32_t size;
  std::uint32_t hwpt_id;
  std::uint64_t data_uptr;  // the address of an array of entries
  std::uint32_t data_type;
  std::uint32_t entry_len;  // bytes
  std::uint32_t entry_num;  // told back: how many were done
  std::uint32_t reserved;
};

struct fault_alloc {
  std::uint32_t size;
  std::uint32_t flags;
  std::uint32_t out_fault_id;
  std::uint32_t out_fault_fd;
};

struct viommu_alloc {
  std::uint32_t size;
  std::uint32_t flags;
  std::uint32_t type;
  std::uint32_t dev_id;
  std::uint32_t hwpt_id;
  std::uint32_t out_viommu_id;
  std::uint32_t data_len;  // from here on Linux 6.17
  std::uint32_t reserved;
  std::uint64_t data_uptr;
};
inline constexpr std::size_t viommu_alloc_least = 24;

struct vdevice_alloc {
  std::uint32_t size;
  std::uint32_t viommu_id;
  std::uint32_t dev_id;
  std::uint32_t out_vdevice_id;
  std::uint64_t virt_id;
};

struct veventq_alloc {
  std::uint32_t size;
  std::uint32_t flags;
  std::uint32_t viommu_id;
  std::uint32_t type;
  std::uint32_t veventq_depth;
  std::uint32_t out_veventq_id;
  std::uint32_t out_veventq_fd;
  std::uint32_t reserved;
};
inline constexpr std::size_t veventq_alloc_least = 28;

struct hw_queue_alloc {
  std::uint32_t size;
  std::uint32_t flags;
  std::uint32_t viommu_id;
  std::uint32_t type;
  std::uint32_t index;
  std::uint32_t out_hw_queue_id;
  std::uint64_t nesting_parent_iova;
  std::uint64_t length;
};

static_assert(sizeof(hwpt_invalidate) == 32 && sizeof(fault_alloc) == 16 &&
              sizeof(viommu_alloc) == 40 && sizeof(vdevice_alloc) == 24 &&
              sizeof(veventq_alloc) == 32 && sizeof(hw_queue_alloc) == 40);
static_assert(sizeof(destroy) == 8 && sizeof(ioas_alloc) == 12 && sizeof(iova_range) == 16 &&
              sizeof(ioas_iova_ranges) == 32 && sizeof(ioas_allow_iovas) == 24 &&
              sizeof(ioas_map) == 40 && sizeof(ioas_map_file) == 40 && sizeof(ioas_copy) == 40 &&
              sizeof(ioas_change_process) == 8 && sizeof(ioas_unmap) == 24 &&
              sizeof(option) == 24 && sizeof(vfio_ioas) == 12 && sizeof(hwpt_alloc) == 48 &&
              sizeof(hw_info) == 40 && sizeof(hwpt_set_dirty_tracking) == 16 &&
              sizeof(hwpt_get_dirty_bitmap) == 48);

#ifdef IOMMU_DESTROY
#define IOPT_SAME(ours, theirs) (static_cast<std::uint32_t>(request::ours) == (theirs))
static_assert(IOPT_SAME(destroy, IOMMU_DESTROY) && IOPT_SAME(ioas_alloc, IOMMU_IOAS_ALLOC) &&
              IOPT_SAME(ioas_allow_iovas, IOMMU_IOAS_ALLOW_IOVAS) &&
              IOPT_SAME(ioas_copy, IOMMU_IOAS_COPY) &&
              IOPT_SAME(ioas_iova_ranges, IOMMU_IOAS_IOVA_RANGES) &&
              IOPT_SAME(ioas_map, IOMMU_IOAS_MAP) && IOPT_SAME(ioas_unmap, IOMMU_IOAS_UNMAP) &&
              IOPT_SAME(option, IOMMU_OPTION) && IOPT_SAME(vfio_ioas, IOMMU_VFIO_IOAS) &&
              IOPT_SAME(hwpt_alloc, IOMMU_HWPT_ALLOC) &&
              IOPT_SAME(get_hw_info, IOMMU_GET_HW_INFO) &&
              IOPT_SAME(hwpt_set_dirty_tracking, IOMMU_HWPT_SET_DIRTY_TRACKING) &&
              IOPT_SAME(hwpt_get_dirty_bitmap, IOMMU_HWPT_GET_DIRTY_BITMAP) &&
              IOPT_SAME(hwpt_invalidate, IOMMU_HWPT_INVALIDATE) &&
              IOPT_SAME(fault_queue_alloc, IOMMU_FAULT_QUEUE_ALLOC));
#undef IOPT_SAME
static_assert(map_fixed_iova == IOMMU_IOAS_MAP_FIXED_IOVA &&
              map_writeable == IOMMU_IOAS_MAP_WRITEABLE &&
              map_readable == IOMMU_IOAS_MAP_READABLE &&
              option_rlimit_mode == IOMMU_OPTION_RLIMIT_MODE &&
              option_huge_pages == IOMMU_OPTION_HUGE_PAGES && option_set == IOMMU_OPTION_OP_SET &&
              option_get == IOMMU_OPTION_OP_GET && vfio_ioas_get == IOMMU_VFIO_IOAS_GET &&
              vfio_ioas_set == IOMMU_VFIO_IOAS_SET && vfio_ioas_clear == IOMMU_VFIO_IOAS_CLEAR &&
              hwpt_nest_parent == IOMMU_HWPT_ALLOC_NEST_PARENT &&
              hwpt_dirty_tracking == IOMMU_HWPT_ALLOC_DIRTY_TRACKING &&
              hwpt_fault_id_valid == IOMMU_HWPT_FAULT_ID_VALID &&
              hwpt_data_none == IOMMU_HWPT_DATA_NONE &&
              hw_cap_dirty_tracking == IOMMU_HW_CAP_DIRTY_TRACKING &&
              dirty_tracking_enable == IOMMU_HWPT_DIRTY_TRACKING_ENABLE &&
              dirty_bitmap_no_clear == IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR);
#define IOPT_SAME(type, member) (offsetof(type, member) == offsetof(::iommu_##type, member))
static_assert(sizeof(destroy) == sizeof(iommu_destroy) && IOPT_SAME(destroy, id) &&
              sizeof(ioas_alloc) == sizeof(iommu_ioas_alloc) &&
              IOPT_SAME(ioas_alloc, out_ioas_id) &&
              sizeof(iova_range) == sizeof(iommu_iova_range) && IOPT_SAME(iova_range, last));
static_assert(sizeof(ioas_iova_ranges) == sizeof(iommu_ioas_iova_ranges) &&
              IOPT_SAME(ioas_iova_ranges, ioas_id) && IOPT_SAME(ioas_iova_ranges, num_iovas) &&
              IOPT_SAME(ioas_iova_ranges, allowed_iovas) &&
              IOPT_SAME(ioas_iova_ranges, out_iova_alignment) &&
              sizeof(ioas_allow_iovas) == sizeof(iommu_ioas_allow_iovas) &&
              IOPT_SAME(ioas_allow_iovas, num_iovas) && IOPT_SAME(ioas_allow_iovas, allowed_iovas));
static_assert(sizeof(ioas_map) == sizeof(iommu_ioas_map) && IOPT_SAME(ioas_map, ioas_id) &&
              IOPT_SAME(ioas_map, user_va) && IOPT_SAME(ioas_map, length) &&
              IOPT_SAME(ioas_map, iova) && sizeof(ioas_copy) == sizeof(iommu_ioas_copy) &&
              IOPT_SAME(ioas_copy, dst_ioas_id) && IOPT_SAME(ioas_copy, src_ioas_id) &&
              IOPT_SAME(ioas_copy, length) && IOPT_SAME(ioas_copy, dst_iova) &&
              IOPT_SAME(ioas_copy, src_iova) && sizeof(ioas_unmap) == sizeof(iommu_ioas_unmap) &&
              IOPT_SAME(ioas_unmap, iova) && IOPT_SAME(ioas_unmap, length));
static_assert(sizeof(option) == sizeof(iommu_option) && IOPT_SAME(option, op) &&
              IOPT_SAME(option, object_id) && IOPT_SAME(option, val64) &&
              sizeof(vfio_ioas) == sizeof(iommu_vfio_ioas) && IOPT_SAME(vfio_ioas, op));
static_assert(sizeof(hwpt_alloc) == sizeof(iommu_hwpt_alloc) && IOPT_SAME(hwpt_alloc, pt_id) &&
              IOPT_SAME(hwpt_alloc, out_hwpt_id) && IOPT_SAME(hwpt_alloc, data_type) &&
              IOPT_SAME(hwpt_alloc, data_uptr) && IOPT_SAME(hwpt_alloc, fault_id) &&
              hwpt_alloc_least == offsetof(iommu_hwpt_alloc, data_type) &&
              sizeof(hw_info) >= offsetof(iommu_hw_info, out_capabilities) + 8 &&
              IOPT_SAME(hw_info, data_uptr) && IOPT_SAME(hw_info, out_data_type) &&
              IOPT_SAME(hw_info, out_max_pasid_log2) && IOPT_SAME(hw_info, out_capabilities));
static_assert(sizeof(hwpt_set_dirty_tracking) == sizeof(iommu_hwpt_set_dirty_tracking) &&
              IOPT_SAME(hwpt_set_dirty_tracking, hwpt_id) &&
              sizeof(hwpt_get_dirty_bitmap) == sizeof(iommu_hwpt_get_dirty_bitmap) &&
              IOPT_SAME(hwpt_get_dirty_bitmap, hwpt_id) &&
              IOPT_SAME(hwpt_get_dirty_bitmap, flags) && IOPT_SAME(hwpt_get_dirty_bitmap, iova) &&
              IOPT_SAME(hwpt_get_dirty_bitmap, length) &&
              IOPT_SAME(hwpt_get_dirty_bitmap, page_size) &&
              IOPT_SAME(hwpt_get_dirty_bitmap, data));
#ifdef IOMMU_IOAS_MAP_FILE
static_assert(sizeof(ioas_map_file) == sizeof(iommu_ioas_map_file) &&
              IOPT_SAME(ioas_map_file, fd) && IOPT_SAME(ioas_map_file, start) &&
              IOPT_SAME(ioas_map_file, iova) &&
              static_cast<std::uint32_t>(request::ioas_map_file) == IOMMU_IOAS_MAP_FILE);
#endif
static_assert(sizeof(hwpt_invalidate) == sizeof(iommu_hwpt_invalidate) &&
              IOPT_SAME(hwpt_invalidate, data_uptr) && IOPT_SAME(hwpt_invalidate, entry_len) &&
              IOPT_SAME(hwpt_invalidate, entry_num) &&
              sizeof(fault_alloc) == sizeof(iommu_fault_alloc) && IOPT_SAME(fault_alloc, flags));
#ifdef IOMMU_HW_QUEUE_ALLOC
static_assert(sizeof(viommu_alloc) == sizeof(iommu_viommu_alloc) && IOPT_SAME(viommu_alloc, type) &&
              IOPT_SAME(viommu_alloc, dev_id) &&
              viommu_alloc_least == offsetof(iommu_viommu_alloc, data_len) &&
              sizeof(vdevice_alloc) == sizeof(iommu_vdevice_alloc) &&
              sizeof(veventq_alloc) == sizeof(iommu_veventq_alloc) &&
              IOPT_SAME(veventq_alloc, type) && IOPT_SAME(veventq_alloc, veventq_depth) &&
              veventq_alloc_least == offsetof(iommu_veventq_alloc, __reserved) &&
              sizeof(hw_queue_alloc) == sizeof(iommu_hw_queue_alloc) &&
              IOPT_SAME(hw_queue_alloc, type) && IOPT_SAME(hw_queue_alloc, length) &&
              IOPT_SAME(hw_queue_alloc, nesting_parent_iova));
static_assert(static_cast<std::uint32_t>(request::viommu_alloc) == IOMMU_VIOMMU_ALLOC &&
              static_cast<std::uint32_t>(request::vdevice_alloc) == IOMMU_VDEVICE_ALLOC &&
              static_cast<std::uint32_t>(request::veventq_alloc) == IOMMU_VEVENTQ_ALLOC &&
              static_cast<std::uint32_t>(request::hw_queue_alloc) == IOMMU_HW_QUEUE_ALLOC);
#endif
#ifdef IOMMU_IOAS_CHANGE_PROCESS
static_assert(sizeof(ioas_change_process) == sizeof(iommu_ioas_change_process) &&
              static_cast<std::uint32_t>(request::ioas_change_process) ==
                  IOMMU_IOAS_CHANGE_PROCESS);
#endif
#undef IOPT_SAME
#endif

}  // namespace iopt::iommufd::abi
