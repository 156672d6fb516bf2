// iopt/backends/host/device_file.hpp - an open file of a device, and its ioctls as results.
//
// Layer: backends. Includes: base, the standard library, Linux.
#pragma once

#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "iopt/base/error.hpp"

namespace iopt::host {

/// The errno that a system call just left, as an error.
inline std::unexpected<error> last_error() noexcept { return fail(static_cast<errc>(errno)); }

/// An ioctl: what it answers, 0 or more; or its errno.
inline result<int> call(int descriptor, unsigned long request, void* argument) noexcept {
  const int answer = ::ioctl(descriptor, request, argument);
  if (answer < 0) return last_error();
  return answer;
}
/// The same where the argument is a number.
inline result<int> call_with(int descriptor, unsigned long request, unsigned long value) noexcept {
  const int answer = ::ioctl(descriptor, request, value);
  if (answer < 0) return last_error();
  return answer;
}

/// device_file: a descriptor, closed in the end.
///
/// Ownership   Of the descriptor; none after a move.
/// Errors      open(): those of open(2).
/// Threads     Thread-compatible.
/// Tested by   tests/backends/host/device_file_test.cpp
class device_file {
 public:
  device_file() noexcept = default;
  explicit device_file(int descriptor) noexcept : descriptor_(descriptor) {}
  static result<device_file> open(const char* path) noexcept {
    const int descriptor = ::open(path, O_RDWR | O_CLOEXEC);
    if (descriptor < 0) return last_error();
    return device_file(descriptor);
  }
  device_file(device_file&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)) {}
  device_file& operator=(device_file&& other) noexcept {
    std::swap(descriptor_, other.descriptor_);
    return *this;
  }
  ~device_file() {
    if (descriptor_ >= 0) ::close(descriptor_);
  }

  bool is_open() const noexcept { return descriptor_ >= 0; }
  int descriptor() const noexcept { return descriptor_; }

 private:
  int descriptor_ = -1;
};

}  // namespace iopt::host
