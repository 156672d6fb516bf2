// examples/interpose/interposed_file.hpp - what a descriptor is that this library answers for.
#pragma once

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "iopt/uapi/argument.hpp"

namespace interpose {

enum class file_kind : std::uint8_t {
  vfio_container,
  vfio_group,
  iommufd,
  test_access,
  test_dmabuf,
  fail_nth
};

/// interposed_file: one opening of a device. A new device is a class of this kind and a line in
/// devices.cpp.
///
/// Threads   All but close() is called from several threads at once; close() once, when no descriptor is
///           left, while calls that began before may be under way.
class interposed_file {
 public:
  virtual ~interposed_file() = default;
  virtual file_kind kind() const noexcept = 0;
  /// Whether a child of a fork goes on with this one, by asking us (family.hpp); else it has a copy.
  virtual bool is_shared() const noexcept { return false; }
  /// What the ioctl returns, or an errno, negative. `argument` is as the program passed it.
  virtual iopt::uapi::answer ioctl(std::uint32_t request, std::uint64_t argument) = 0;
  /// What read() and write() return, or an errno, negative: as they answer for a device that has none
  /// unless it is said otherwise. Addresses are as the program passed them.
  virtual iopt::uapi::answer read(std::uint64_t /*to*/, std::size_t /*size*/,
                                  std::uint64_t /*offset*/) {
    return -EINVAL;
  }
  virtual iopt::uapi::answer write(std::uint64_t /*from*/, std::size_t /*size*/,
                                   std::uint64_t /*offset*/) {
    return -EINVAL;
  }
  /// The last descriptor is closed.
  virtual void close() noexcept {}

 protected:
  interposed_file() = default;
  interposed_file(const interposed_file&) = default;
  interposed_file& operator=(const interposed_file&) = default;
};

using file_pointer = std::shared_ptr<interposed_file>;

}  // namespace interpose
