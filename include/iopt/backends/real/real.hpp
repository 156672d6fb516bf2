// iopt/backends/real/real.hpp - devices of this machine under an io_pagetable: iommufd where it is
// there, a VFIO container of type1 where not.
//
// Not part of iopt.hpp: Linux only.
//
//   auto space = real::address_space::open({.group = "/dev/vfio/12"});
//   real::pinner pinner;
//   real::domain domain(*space->table(), {granules::fixed(2 * mebibyte)});
//   io_pagetable<real::pinner, real::domain> table(pinner);
//   table.attach(domain);
//
// Layer: backends. Includes: backends/real, backends/vfio_type1, backends/iommufd, backends/granular.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <variant>

#include "iopt/backends/granular/domain.hpp"
#include "iopt/backends/iommufd/iommufd.hpp"
#include "iopt/backends/vfio_type1/vfio_type1.hpp"
#include "iopt/base/access.hpp"
#include "iopt/base/error.hpp"
#include "iopt/base/page_sizes.hpp"
#include "iopt/base/range.hpp"
#include "iopt/policy/iommu_domain.hpp"

namespace iopt::real {

/// Which of the kernel's interfaces is behind it.
enum class interface : std::uint8_t { iommufd, type1 };

/// table: an entry_table of either kind.
///
/// Model       That of the one it holds.
/// Errors      Likewise; memory of a file is operation_not_supported on type1, which maps by address.
/// Threads     As entry_table.
/// Tested by   tests/backends/real/real_test.cpp
class table {
  /// f() of what is held.
  template <class Held, class F>
  static auto with(Held& held, F f) noexcept {
    if (auto* t = std::get_if<dev_iommu::ioas_table>(&held)) return f(*t);
    return f(*std::get_if<vfio_type1::container_table>(&held));
  }

 public:
  explicit table(vfio_type1::container_table t) noexcept : is_(std::move(t)) {}
  explicit table(dev_iommu::ioas_table t) noexcept : is_(std::move(t)) {}

  result<void> map(iova_range r, physical memory, access_rights rights) {
    if (dev_iommu::ioas_table* t = std::get_if<dev_iommu::ioas_table>(&is_))
      return t->map(r, memory, rights);
    if (memory.value >= dev_iommu::file_frames::first_frame)
      return fail(errc::operation_not_supported);
    return std::get_if<vfio_type1::container_table>(&is_)->map(r, memory, rights);
  }
  std::uint64_t unmap(iova_range r) noexcept {
    return with(is_, [&](auto& t) { return t.unmap(r); });
  }
  std::optional<std::uint64_t> entries_left() const noexcept {
    return with(is_, [](const auto& t) { return t.entries_left(); });
  }
  page_size_set page_sizes() const noexcept {
    return with(is_, [](const auto& t) { return t.page_sizes(); });
  }
  iova_range aperture() const noexcept {
    return with(is_, [](const auto& t) { return t.aperture(); });
  }
  std::span<const reserved_region> reserved_regions() const noexcept {
    return with(is_, [](const auto& t) { return t.reserved_regions(); });
  }
  interface behind() const noexcept {
    return std::get_if<dev_iommu::ioas_table>(&is_) != nullptr ? interface::iommufd
                                                               : interface::type1;
  }

 private:
  std::variant<vfio_type1::container_table, dev_iommu::ioas_table> is_;
};
static_assert(granular::entry_table<table>);

using domain = granular::domain<table>;
using pinner = dev_iommu::pinner;

/// How to get at a device. iommufd takes it by its own file, type1 by its group.
struct device_paths {
  const char* device = nullptr;  // "/dev/vfio/devices/vfio0"
  const char* group = nullptr;   // "/dev/vfio/12"
};

/// address_space: what is open of this machine: an iommufd with an IOAS, or a container with a group.
///
/// Ownership   Of all descriptors. Tables refer to it.
/// Errors      open(): where iommufd cannot be used and no group is named, why not: as
///             dev_iommu::address_space::open() and vfio_device; else as vfio_type1::container::open().
/// Threads     Thread-compatible.
/// Tested by   tests/backends/real/real_test.cpp
class address_space {
 public:
  /// iommufd with the device, where both are there; else a container with the group. With a group alone it
  /// is a container. With neither, iommufd without a device yet: attach some, then make tables.
  static result<address_space> open(device_paths at = {}) noexcept {
    if (at.device != nullptr || at.group == nullptr) {
      result<address_space> opened = open_iommufd(at.device);
      if (opened || at.group == nullptr) return opened;
    }
    result<vfio_type1::container> container = vfio_type1::container::open(at.group);
    if (!container) return std::unexpected(container.error());
    return address_space(std::move(*container));
  }

  /// The mappings. Several tables show one address space; options are iommufd's.
  /// Errors: as container_table::open() and ioas_table::open().
  result<real::table> table(dev_iommu::ioas_options options = {}) const {
    if (const auto* c = std::get_if<vfio_type1::container>(&is_)) {
      auto opened = vfio_type1::container_table::open(c->descriptor());
      if (!opened) return std::unexpected(opened.error());
      return real::table(std::move(*opened));
    }
    const behind_iommufd& i = *std::get_if<behind_iommufd>(&is_);
    auto opened = dev_iommu::ioas_table::open(i.space.descriptor(), i.space.ioas(), options);
    if (!opened) return std::unexpected(opened.error());
    return real::table(std::move(*opened));
  }

  interface behind() const noexcept {
    return std::get_if<behind_iommufd>(&is_) != nullptr ? interface::iommufd : interface::type1;
  }
  /// The iommufd, or the container.
  int descriptor() const noexcept {
    if (const auto* c = std::get_if<vfio_type1::container>(&is_)) return c->descriptor();
    return std::get_if<behind_iommufd>(&is_)->space.descriptor();
  }
  /// The one or the other, or nullptr.
  const dev_iommu::address_space* iommufd() const noexcept {
    const auto* i = std::get_if<behind_iommufd>(&is_);
    return i == nullptr ? nullptr : &i->space;
  }
  const vfio_type1::container* container() const noexcept {
    return std::get_if<vfio_type1::container>(&is_);
  }

 private:
  struct behind_iommufd {
    dev_iommu::address_space space;
    std::optional<dev_iommu::vfio_device> device;
  };
  explicit address_space(vfio_type1::container c) noexcept : is_(std::move(c)) {}
  explicit address_space(behind_iommufd i) noexcept : is_(std::move(i)) {}

  static result<address_space> open_iommufd(const char* path) noexcept {
    result<dev_iommu::address_space> space = dev_iommu::address_space::open();
    if (!space) return std::unexpected(space.error());
    behind_iommufd all{std::move(*space), std::nullopt};
    if (path != nullptr) {
      auto device = dev_iommu::vfio_device::open(path, all.space.descriptor());
      if (!device) return std::unexpected(device.error());
      if (const result<void> in = device->attach(all.space.ioas()); !in)
        return std::unexpected(in.error());
      all.device.emplace(std::move(*device));
    }
    return address_space(std::move(all));
  }

  std::variant<vfio_type1::container, behind_iommufd> is_;
};

}  // namespace iopt::real
