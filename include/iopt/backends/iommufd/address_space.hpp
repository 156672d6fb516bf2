// iopt/backends/iommufd/address_space.hpp - opens /dev/iommu and makes an IOAS; binds VFIO devices to it.
//
// Layer: backends. Includes: base, backends/host, uapi/iommufd/abi.hpp; <linux/vfio.h> if present.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include "iopt/backends/host/device_file.hpp"
#include "iopt/base/error.hpp"
#include "iopt/uapi/iommufd/abi.hpp"

#if __has_include(<linux/vfio.h>)
#include <linux/vfio.h>
#endif

namespace iopt::dev_iommu {

namespace abi = iommufd::abi;

/// The ioctls of a VFIO device's own file, /dev/vfio/devices/vfioN, since Linux 6.6.
namespace device_abi {
inline constexpr std::uint32_t bind_iommufd = 0x3b00U + 100U + 18U;
inline constexpr std::uint32_t attach_pagetable = 0x3b00U + 100U + 19U;
inline constexpr std::uint32_t detach_pagetable = 0x3b00U + 100U + 20U;
struct bind {
  std::uint32_t argsz;
  std::uint32_t flags;
  std::int32_t iommufd;
  std::uint32_t out_devid;
};
struct attach {
  std::uint32_t argsz;
  std::uint32_t flags;
  std::uint32_t pt_id;  // an IOAS, or a hardware page table; and out: the page table
};
struct detach {
  std::uint32_t argsz;
  std::uint32_t flags;
};
#ifdef VFIO_DEVICE_BIND_IOMMUFD
static_assert(bind_iommufd == VFIO_DEVICE_BIND_IOMMUFD &&
              attach_pagetable == VFIO_DEVICE_ATTACH_IOMMUFD_PT &&
              detach_pagetable == VFIO_DEVICE_DETACH_IOMMUFD_PT &&
              sizeof(bind) == sizeof(vfio_device_bind_iommufd) &&
              sizeof(attach) >= offsetof(vfio_device_attach_iommufd_pt, pt_id) + 4);
#endif
}  // namespace device_abi

/// address_space: an iommufd and an IOAS of it.
///
/// Ownership   Of the descriptor, and with it of all there is behind it.
/// Errors      open(): no_such_file_or_directory, no iommufd in this kernel; permission_denied.
/// Threads     Thread-compatible.
/// Tested by   tests/backends/iommufd/ioas_table_test.cpp
class address_space {
 public:
  static result<address_space> open() noexcept {
    result<host::device_file> file = host::device_file::open("/dev/iommu");
    if (!file) return std::unexpected(file.error());
    const result<std::uint32_t> made = make_ioas(file->descriptor());
    if (!made) return std::unexpected(made.error());
    return address_space(std::move(*file), *made);
  }

  /// Another IOAS of the same iommufd, for instance one to share memory with.
  result<std::uint32_t> another() const noexcept { return make_ioas(file_.descriptor()); }
  /// Destroys an object: an IOAS unmaps all it has. Errors: device_or_resource_busy, a device uses it.
  result<void> destroy(std::uint32_t id) const noexcept {
    abi::destroy request{sizeof request, id};
    const auto done =
        host::call(file_.descriptor(), static_cast<std::uint32_t>(abi::request::destroy), &request);
    if (!done) return std::unexpected(done.error());
    return {};
  }

  /// A page table of `ioas` for a device, made for itself to track what is written.
  /// Errors: operation_not_supported, the device's IOMMU does not track.
  result<std::uint32_t> make_tracking_pagetable(std::uint32_t device,
                                                std::uint32_t ioas) const noexcept {
    abi::hwpt_alloc request{};
    request.size = sizeof request;
    request.flags = abi::hwpt_dirty_tracking;
    request.dev_id = device;
    request.pt_id = ioas;
    const auto done = host::call(file_.descriptor(),
                                 static_cast<std::uint32_t>(abi::request::hwpt_alloc), &request);
    if (!done) return std::unexpected(done.error());
    return request.out_hwpt_id;
  }

  int descriptor() const noexcept { return file_.descriptor(); }
  std::uint32_t ioas() const noexcept { return ioas_; }

 private:
  address_space(host::device_file file, std::uint32_t ioas) noexcept
      : file_(std::move(file)), ioas_(ioas) {}

  static result<std::uint32_t> make_ioas(int iommufd) noexcept {
    abi::ioas_alloc request{sizeof request, 0, 0};
    const auto made =
        host::call(iommufd, static_cast<std::uint32_t>(abi::request::ioas_alloc), &request);
    if (!made) return std::unexpected(made.error());
    return request.out_ioas_id;
  }

  host::device_file file_;
  std::uint32_t ioas_;
};

/// vfio_device: a device behind an iommufd, by its own file.
///
/// Ownership   Of the device's descriptor; closing it takes the device out of the address space.
/// Errors      open(): those of opening; invalid_argument, no such binding; device_or_resource_busy, the
///             device is somebody's. attach(): address_in_use, what is mapped does not suit the device.
/// Threads     Thread-compatible.
/// Tested by   tests/backends/iommufd/ioas_table_test.cpp where IOPT_VFIO_DEVICE names one
class vfio_device {
 public:
  static result<vfio_device> open(const char* path, int iommufd) noexcept {
    result<host::device_file> file = host::device_file::open(path);
    if (!file) return std::unexpected(file.error());
    device_abi::bind request{sizeof request, 0, iommufd, 0};
    const auto bound = host::call(file->descriptor(), device_abi::bind_iommufd, &request);
    if (!bound) return std::unexpected(bound.error());
    return vfio_device(std::move(*file), request.out_devid);
  }
  /// Puts the device behind an IOAS, or a hardware page table; from another too.
  result<void> attach(std::uint32_t to) noexcept {
    device_abi::attach request{sizeof request, 0, to};
    const auto done = host::call(file_.descriptor(), device_abi::attach_pagetable, &request);
    if (!done) return std::unexpected(done.error());
    return {};
  }
  int descriptor() const noexcept { return file_.descriptor(); }
  std::uint32_t id() const noexcept { return id_; }

 private:
  vfio_device(host::device_file file, std::uint32_t id) noexcept
      : file_(std::move(file)), id_(id) {}

  host::device_file file_;
  std::uint32_t id_;
};

}  // namespace iopt::dev_iommu
