// iopt/backends/vfio_type1/container.hpp - opens /dev/vfio/vfio, for a program that has no container yet.
//
// Layer: backends. Includes: base, backends/host, uapi/vfio/abi.hpp.
#pragma once

#include <cstdint>
#include <utility>

#include "iopt/backends/host/device_file.hpp"
#include "iopt/base/error.hpp"
#include "iopt/uapi/vfio/abi.hpp"

namespace iopt::vfio_type1 {

namespace abi = vfio::abi;

/// container: a container of type1 with a group in it.
///
/// Ownership   Of both descriptors. Closing the group's takes it out, and with the last group the kernel
///             drops all mappings.
/// Errors      open(): no_such_file_or_directory, there is no such device; permission_denied;
///             device_or_resource_busy, somebody has the group; operation_not_permitted, the group is not
///             viable (a device of it has another driver than vfio), or interrupts are not isolated;
///             no_such_device, no such type; operation_not_supported, another version of VFIO.
/// Threads     Thread-compatible.
/// Tested by   tests/backends/vfio_type1/container_table_test.cpp
class container {
 public:
  /// Opens a container and the group, say "/dev/vfio/12", and sets the type.
  static result<container> open(const char* group_path,
                                std::uint64_t type = abi::type1v2_iommu) noexcept {
    result<host::device_file> file = host::device_file::open("/dev/vfio/vfio");
    if (!file) return std::unexpected(file.error());
    const result<int> version = host::call_with(file->descriptor(), abi::get_api_version, 0);
    if (!version) return std::unexpected(version.error());
    if (*version != abi::api_version) return fail(errc::operation_not_supported);
    result<host::device_file> group = host::device_file::open(group_path);
    if (!group) return std::unexpected(group.error());
    if (const result<void> joined = join(group->descriptor(), file->descriptor()); !joined)
      return std::unexpected(joined.error());
    const result<int> set = host::call_with(file->descriptor(), abi::set_iommu, type);
    if (!set) return std::unexpected(set.error());
    return container(std::move(*file), std::move(*group));
  }

  /// Puts a group into a container. Errors: as open().
  static result<void> join(int group, int into) noexcept {
    abi::group_status status{sizeof status, 0};
    if (const auto asked = host::call(group, abi::group_get_status, &status); !asked)
      return std::unexpected(asked.error());
    if ((status.flags & abi::group_viable) == 0) return fail(errc::operation_not_permitted);
    if (const auto set = host::call(group, abi::group_set_container, &into); !set)
      return std::unexpected(set.error());
    return {};
  }

  int descriptor() const noexcept { return file_.descriptor(); }
  int group() const noexcept { return group_.descriptor(); }

 private:
  container(host::device_file file, host::device_file group) noexcept
      : file_(std::move(file)), group_(std::move(group)) {}

  host::device_file file_;
  host::device_file group_;  // closed first
};

}  // namespace iopt::vfio_type1
