// examples/interpose/iommu_device.cpp - /dev/iommu.
#include <fcntl.h>
#include <unistd.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "devices.hpp"
#include "family.hpp"
#include "faults.hpp"
#include "group_home.hpp"
#include "iopt/backends/host/process_capabilities.hpp"
#include "iopt/backends/mock/domain.hpp"
#include "iopt/uapi/iommufd/context.hpp"
#include "libc.hpp"
#include "settings.hpp"
#include "test_accesses.hpp"

namespace interpose {
namespace {

using namespace iopt;

/// Root passes for root also in a sandbox that took its capabilities: nothing here could be harmed.
struct caller_of_iommu : host::process_capabilities {
  bool has(capability what) const noexcept {
    const bool said = what == capability::lock_memory && lock_memory;
    const bool may = family::served_child() == 0 || said ? process_capabilities::has(what)
                                                         : family::child_may(what);
    return may || (what != capability::lock_memory && ::geteuid() == 0);
  }
};
/// A descriptor as memory: of a device, or else of a file.
struct find_dmabuf {
  result<std::optional<device_memory>> operator()(std::int32_t fd, std::uint64_t start,
                                                  std::uint64_t bytes) const {
    const file_pointer file = descriptors::of_process().find(fd);
    if (file == nullptr || file->kind() != file_kind::test_dmabuf) return std::nullopt;
    const device_memory& memory = static_cast<const test_dmabuf&>(*file).memory();
    if (memory->size_bytes() <= start + (bytes - 1)) return fail(errc::invalid_argument);
    if (memory->is_revoked()) return fail(errc::no_such_device);
    return memory;
  }
};
struct find_file {
  result<host::shared_file> operator()(std::int32_t fd) const {
    const pid_t child = family::served_child();
    if (child == 0) return host::shared_file::open(fd);
    const std::string path = "/proc/" + std::to_string(child) + "/fd/" + std::to_string(fd);
    const int own = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
    const auto file = host::shared_file::open(own);
    if (own >= 0) libc::close(own);
    return file;
  }
};
/// The rules are those of Linux 6.12; the ioctls that came later are known too.
struct profile : uapi::default_profile {
  static constexpr kernel_level ioctls = kernel_level::linux_6_18;
  using traits = interpose::traits;
  using copy = family::caller_memory;
  using caller = caller_of_iommu;
  using files = find_file;
  using dmabufs = find_dmabuf;
};
using context = iommufd::context<pinner_type, mock::domain, profile>;

/// An iommufd; its devices are those of the kernel's own tests.
class iommu_file final : public group_home, public std::enable_shared_from_this<iommu_file> {
 public:
  file_kind kind() const noexcept override { return file_kind::iommufd; }
  bool is_shared() const noexcept override { return true; }
  uapi::answer ioctl(std::uint32_t request, std::uint64_t argument) override {
    return context_.ioctl(request, argument, more{*this});
  }
  /// A group in place of a container: the compatible space is there. Its devices would be attached when
  /// they are opened, which they cannot be.
  result<void> join(group_type&) override { return context_.need_compatible_space(); }
  result<void> leave(group_type&) override { return {}; }

 private:
  using calls = test_calls<context, mock::domain>;
  struct more {
    static constexpr std::uint32_t last_number = calls::last_number;
    uapi::answer operator()(const calls::argument_type& a) {
      return of.tests_.run(a, of.shared_from_this());
    }
    iommu_file& of;
  };

  static iommufd::context_options options() {
    iommufd::context_options o;
    o.allow_noiommu = true;
    return o;
  }

  // The context goes first, and with it the devices whose groups `tests_` keeps.
  calls tests_{context_, {}, &faults()};
  context context_{pinner(), options(), family::caller_memory{},
                   caller_of_iommu{{chosen().lock_memory}}};
};

}  // namespace

opened open_iommu(std::string_view path) {
  if (path != "/dev/iommu") return std::nullopt;
  return file_pointer(std::make_shared<iommu_file>());
}

}  // namespace interpose
