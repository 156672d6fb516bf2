// examples/interpose/test_command.hpp - what a program passes to the ioctl of the kernel's own iommufd
// tests.
#pragma once

#include <cstddef>
#include <cstdint>

namespace iopt::test {

/// The number of IOMMU_TEST_CMD among iommufd's ioctls.
inline constexpr std::uint32_t test_number = 0xa0;

enum class test_operation : std::uint32_t {
  add_reserved = 1,
  mock_domain,
  check_map,
  check_refs,
  create_access,
  destroy_access_pages,
  access_pages,
  access_rw,
  set_memory_limit,
  mock_domain_replace,
  access_replace,
  mock_domain_flags,
  dirty,
  check_device_cache = 16,  // since 6.13
  dmabuf_get = 22,          // since 6.19
  dmabuf_revoke,            // likewise
};

// Flags.
inline constexpr std::uint32_t device_no_dirty = 1;    // of mock_domain_flags
inline constexpr std::uint32_t device_huge_iova = 2;   // likewise
inline constexpr std::uint32_t device_pasid = 4;       // likewise
inline constexpr std::uint32_t access_pins_pages = 1;  // of create_access
inline constexpr std::uint32_t access_write = 1;       // of access_pages and access_rw
inline constexpr std::uint32_t access_slow_path = 4;   // of access_rw
inline constexpr std::uint32_t by_area = 1U << 16;     // the IOVA is an area's number and an offset

struct add_reserved_argument {
  std::uint64_t start, length;
};
struct mock_domain_argument {
  std::uint32_t out_test_device, out_hw_pagetable, out_device, flags;
};
struct replace_argument {
  std::uint32_t to;  // and out: the hardware page table
};
struct check_map_argument {
  std::uint64_t iova, length, address;
};
struct check_refs_argument {
  std::uint64_t length, address;
  std::uint32_t pins;
};
struct create_access_argument {
  std::uint32_t out_fd, flags;
};
struct destroy_access_pages_argument {
  std::uint32_t number;
};
struct access_pages_argument {
  std::uint32_t flags, out_number;
  std::uint64_t iova, length, address;
};
struct access_rw_argument {
  std::uint64_t iova, length, address;
  std::uint32_t flags;
};
struct memory_limit_argument {
  std::uint32_t bytes;
};
struct access_replace_argument {
  std::uint32_t space;
};
struct dirty_argument {
  std::uint32_t flags;
  std::uint64_t iova, length, page_size, address, out_count;
};
struct device_cache_argument {
  std::uint32_t number, value;
};
struct dmabuf_get_argument {
  std::uint32_t length, open_flags;
};
struct dmabuf_revoke_argument {
  std::int32_t fd;
  std::uint32_t revoked;
};

/// What HWPT_ALLOC is told of a domain (since 6.19).
inline constexpr std::uint32_t domain_description_type = 0xdead;
struct domain_description {
  std::uint32_t iotlb;
  std::uint32_t has_huge_pages;  // 0 or 1
};

/// The argument: a head, and what the operation reads and answers.
struct test_command {
  std::uint32_t size;
  test_operation op;
  std::uint32_t id;
  std::uint32_t reserved;
  union {
    add_reserved_argument add_reserved;
    mock_domain_argument mock_domain;
    replace_argument replace;
    check_map_argument check_map;
    check_refs_argument check_refs;
    create_access_argument create_access;
    destroy_access_pages_argument destroy_access_pages;
    access_pages_argument access_pages;
    access_rw_argument access_rw;
    memory_limit_argument memory_limit;
    access_replace_argument access_replace;
    dirty_argument dirty;
    device_cache_argument device_cache;
    dmabuf_get_argument dmabuf_get;
    dmabuf_revoke_argument dmabuf_revoke;
  };
  std::uint32_t last;
};
static_assert(sizeof(test_command) == 72 && offsetof(test_command, last) == 64);
/// The least that a caller must know of it.
inline constexpr std::size_t test_command_least = 68;

}  // namespace iopt::test
