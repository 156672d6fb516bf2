// iopt/uapi/vfio/group_file.hpp - /dev/vfio/GROUP: the descriptor through which a group joins a
// container.
//
// Layer: uapi. Includes: policy, uapi.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include "iopt/policy/iommu_group.hpp"
#include "iopt/policy/user_copy.hpp"
#include "iopt/uapi/argument.hpp"
#include "iopt/uapi/vfio/abi.hpp"

namespace iopt::vfio {

/// What a descriptor that a caller passed turns out to be.
enum class descriptor_kind : std::uint8_t { none, other, container };

/// group_file: the ioctls of a group's descriptor. The library has no devices to open: a group's
/// names are all unknown.
///
/// Model       Open or not; the container that the group is in, held by a handle, or none.
/// Ownership   `Handle` keeps a container alive (a shared pointer, say): *handle is a Container, and
///             a Handle made from nothing is none. Refers to the group.
/// Errors      open(): device_or_resource_busy, it is open. ioctl(): GET_STATUS bad_address,
///             invalid_argument; SET_CONTAINER bad_address, bad_file_descriptor, invalid_argument
///             (in a container already), descriptor_in_bad_state (no container), those of joining;
///             UNSET_CONTAINER invalid_argument; GET_DEVICE_FD bad_address, no_such_device.
/// Threads     One at a time.
/// Source      Linux 6.12 drivers/vfio/group.c, as facts.
/// Tested by   tests/uapi/vfio/group_file_test.cpp
template <class Handle>
class group_file {
 public:
  using container_type = std::remove_cvref_t<decltype(*std::declval<Handle&>())>;
  using group_type = typename container_type::group_type;

  explicit group_file(group_type& group) noexcept : group_(group) {}
  group_file(const group_file&) = delete;
  group_file& operator=(const group_file&) = delete;
  ~group_file() { close(); }

  result<void> open() noexcept {
    if (std::exchange(open_, true)) return fail(errc::device_or_resource_busy);
    return {};
  }
  /// Leaves the container, if it is in one.
  void close() noexcept {
    static_cast<void>(unset_container());
    open_ = false;
  }
  bool is_open() const noexcept { return open_; }
  const Handle& container() const noexcept { return container_; }

  /// look_up(int descriptor, Handle& out) says what the descriptor is; a container is put in `out`.
  template <user_copy Copy, class LookUp>
  uapi::answer ioctl(std::uint32_t request, std::uint64_t argument, Copy& copy, LookUp look_up) {
    switch (request) {
      case abi::group_get_status: return uapi::answer_of(get_status(copy, {argument}));
      case abi::group_set_container: {
        const result<std::int32_t> descriptor = uapi::read_bytes<std::int32_t>(copy, {argument});
        if (!descriptor) return uapi::refusal(errc::bad_address);
        Handle found{};
        switch (look_up(*descriptor, found)) {
          case descriptor_kind::none: return uapi::refusal(errc::bad_file_descriptor);
          case descriptor_kind::other:
            return uapi::refusal(container_ ? errc::invalid_argument
                                            : errc::descriptor_in_bad_state);
          case descriptor_kind::container: break;
        }
        return uapi::answer_of(set_container(std::move(found)));
      }
      case abi::group_unset_container: return uapi::answer_of(unset_container());
      case abi::group_get_device_fd: return uapi::answer_of(name_device(copy, {argument}));
      default: return uapi::refusal(errc::inappropriate_io_control_operation);
    }
  }

  /// VFIO_GROUP_SET_CONTAINER. Errors: invalid_argument, it is in one; those of joining.
  result<void> set_container(Handle to) {
    if (container_) return fail(errc::invalid_argument);
    const result<void> joined = (*to).join(group_);
    if (joined) container_ = std::move(to);
    return joined;
  }
  /// VFIO_GROUP_UNSET_CONTAINER. Errors: invalid_argument, it is in none; those of leaving.
  result<void> unset_container() {
    if (!container_) return fail(errc::invalid_argument);
    const result<void> left = (*container_).leave(group_);
    if (left) container_ = Handle{};
    return left;
  }

 private:
  template <user_copy Copy>
  result<void> get_status(Copy& copy, user_address argument) {
    result<abi::group_status> status = uapi::read_argument<abi::group_status>(copy, argument);
    if (!status) return fail(status.error());
    status->flags = abi::group_viable | (container_ ? abi::group_container_set : 0U);
    return uapi::write_bytes(copy, argument, *status);
  }
  /// Reads the name of a device, which is then unknown.
  template <user_copy Copy>
  static result<void> name_device(Copy& copy, user_address argument) {
    constexpr std::size_t longest = 4096;
    for (std::size_t n = 0; n < longest; ++n) {
      const result<char> letter = uapi::read_bytes<char>(copy, uapi::behind(argument, n));
      if (!letter) return fail(letter.error());
      if (*letter == '\0') return fail(errc::no_such_device);
    }
    return fail(errc::invalid_argument);
  }

  group_type& group_;
  bool open_ = false;
  Handle container_{};
};

}  // namespace iopt::vfio
