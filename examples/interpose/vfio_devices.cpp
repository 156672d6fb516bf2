// examples/interpose/vfio_devices.cpp - /dev/vfio/vfio and /dev/vfio/NUMBER.
#include <fcntl.h>

#include <charconv>
#include <memory>
#include <mutex>
#include <vector>

#include "descriptors.hpp"
#include "devices.hpp"
#include "faults.hpp"
#include "group_home.hpp"
#include "iopt/backends/host/checked_caller.hpp"
#include "iopt/backends/host/process_capabilities.hpp"
#include "iopt/backends/mock/domain.hpp"
#include "iopt/backends/mock/group.hpp"
#include "iopt/uapi/vfio/container.hpp"
#include "iopt/uapi/vfio/group_file.hpp"
#include "libc.hpp"
#include "settings.hpp"

namespace interpose {
namespace {

using namespace iopt;

struct type1 : vfio::type1_profile {
  using traits = interpose::traits;
  using copy = host::checked_caller;
  using caller = host::process_capabilities;
};
struct hole_punching : type1 {
  static constexpr bool punches_holes = true;
};

/// A machine with one IOMMU and some groups of devices behind it.
template <class Profile>
class vfio_machine {
 public:
  using container = vfio::container<pinner_type, mock::domain, Profile>;

  vfio_machine() {
    const settings& s = chosen();
    mock::group_options o;
    o.domains.page_sizes = s.page_sizes;
    o.domains.aperture = s.aperture;
    o.domains.enforces_coherency = s.coherent;
    o.domains.faults = &faults();
    for (const iova_range r : s.reserved) o.reserved.push_back({r, reserved_region::kind::msi});
    o.iommu = this;
    for (unsigned n = 0; n != s.groups; ++n) groups_.push_back(std::make_shared<group_device>(o));
  }

  opened open(std::string_view name) {
    if (name == "vfio") return file_pointer(std::make_shared<container_file>());
    unsigned number = 0;
    const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
    if (error != std::errc{} || end != name.data() + name.size() || number >= groups_.size() ||
        name != std::to_string(number))
      return std::nullopt;
    // Who closed it behind our back has closed it.
    descriptors::of_process().sweep();
    if (const result<void> done = groups_[number]->open(); !done) return fail(done.error());
    return file_pointer(groups_[number]);
  }

 private:
  /// Lives while a descriptor or a group holds it.
  class container_file final : public group_home {
   public:
    file_kind kind() const noexcept override { return file_kind::vfio_container; }
    uapi::answer ioctl(std::uint32_t request, std::uint64_t argument) override {
      return container_.ioctl(request, argument);
    }
    result<void> join(group_type& group) override { return container_.join(group); }
    result<void> leave(group_type& group) override { return container_.leave(group); }

   private:
    container container_{pinner(), options(), host::checked_caller{},
                         host::process_capabilities{chosen().lock_memory}};

    static vfio::container_options options() {
      vfio::container_options o;
      o.dma_entry_limit = chosen().dma_entry_limit;
      return o;
    }
  };

  /// A group is one device, however often it is opened: once at a time.
  class group_device final : public interposed_file {
   public:
    explicit group_device(const mock::group_options& options) : group_(options) {}

    result<void> open() {
      const std::lock_guard held(lock_);
      return file_.open();
    }
    file_kind kind() const noexcept override { return file_kind::vfio_group; }
    uapi::answer ioctl(std::uint32_t request, std::uint64_t argument) override {
      const std::lock_guard held(lock_);
      return file_.ioctl(request, argument, copy_, look_up);
    }
    void close() noexcept override {
      const std::lock_guard held(lock_);
      file_.close();
    }

   private:
    static vfio::descriptor_kind look_up(int fd, std::shared_ptr<group_home>& out) {
      out = home_of(descriptors::of_process().find(fd));
      if (out != nullptr) return vfio::descriptor_kind::container;
      return libc::fcntl(fd, F_GETFD, 0) < 0 ? vfio::descriptor_kind::none
                                             : vfio::descriptor_kind::other;
    }

    std::mutex lock_;  // over what follows
    mock::group group_;
    vfio::group_file<std::shared_ptr<group_home>> file_{group_};
    host::checked_caller copy_;
  };

  std::vector<std::shared_ptr<group_device>> groups_;
};

template <class Profile>
vfio_machine<Profile>& machine() {
  static auto* const made = new vfio_machine<Profile>;
  return *made;
}

}  // namespace

opened open_vfio(std::string_view path) {
  constexpr std::string_view folder = "/dev/vfio/";
  if (!path.starts_with(folder)) return std::nullopt;
  path.remove_prefix(folder.size());
  return chosen().hole_punching ? machine<hole_punching>().open(path) : machine<type1>().open(path);
}

}  // namespace interpose
