// iopt/policy/iommu_group.hpp - the devices behind a front end, as one IOMMU sees them.
//
// A container or an iommufd does not know devices; it knows groups of them, which the IOMMU cannot
// tell apart, and asks the group for domains. It is a class with virtual members and not a concept,
// because one container holds groups of several kinds at once. An iommufd knows devices, but all
// that it asks of one is asked of its group, so there is no policy for devices beside this.
//
// Layer: policy. Includes: policy/iommu_domain.hpp, the standard library.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "iopt/base/assert.hpp"
#include "iopt/base/error.hpp"
#include "iopt/policy/iommu_domain.hpp"

namespace iopt {

/// What stands between a group's devices and memory.
enum class group_kind : std::uint8_t {
  iommu,     // an IOMMU
  emulated,  // software (a mediated device): it reaches memory only by asking for it
  none,      // nothing: the devices see physical memory
};

/// What IOMMU_GET_HW_INFO tells of an IOMMU: a type of the uAPI, and bytes that it gives a meaning; and
/// of its device, how many bits a PASID has (0: it has none).
struct hardware_info {
  std::uint32_t type = 0;
  std::span<const std::byte> bytes{};
  std::uint8_t pasid_bits = 0;
};

/// iommu_group: devices that share their view of memory.
///
/// Model       A set of devices that translate through one domain, or through none.
/// Ownership   The caller's; it outlives its stay in a container. Domains are made and destroyed by
///             the group that first needed one, which stays until then.
/// Threads     Calls on one group are serialised by the container.
/// Tested by   tests/backends/mock/group_test.cpp, tests/uapi/vfio/native_groups_test.cpp,
///             tests/uapi/iommufd/devices_test.cpp
template <iommu_domain Domain>
class iommu_group {
 public:
  virtual group_kind kind() const noexcept { return group_kind::iommu; }

  /// A new, empty domain that suits the devices.
  /// Errors: not_enough_memory; any errno of the backend.
  virtual result<Domain*> create_domain() = 0;
  virtual void destroy_domain(Domain& domain) noexcept = 0;
  /// One as its user describes it, in bytes that a type of the uAPI (not 0) gives a meaning: how many
  /// bytes are known of the type, 0 where there is no such; and the domain.
  /// Errors: invalid_argument, what is said makes no sense, or is too little; as create_domain().
  virtual std::size_t description_bytes(std::uint32_t /*type*/) const noexcept { return 0; }
  virtual result<Domain*> create_domain(std::uint32_t /*type*/, std::span<const std::byte>) {
    return fail(errc::operation_not_supported);
  }

  /// Makes the devices translate through the domain, which another group of the same iommu() may
  /// have made.
  /// Errors: invalid_argument where the domain does not suit; any errno. The devices then see
  /// nothing.
  virtual result<void> attach(Domain& domain) = 0;
  virtual void detach(Domain& domain) noexcept = 0;
  /// Makes the devices that translate through `from` translate through `to`; better so that no
  /// access between the two faults.
  /// Errors: as attach(), and then they translate through `from` as before.
  virtual result<void> replace(Domain& from, Domain& to) {
    detach(from);
    const result<void> done = attach(to);
    if (done) return done;
    const result<void> back = attach(from);
    IOPT_ASSERT(back.has_value());
    static_cast<void>(back);
    return done;
  }

  /// The domain, which is empty, is to be one of two stages of translation.
  /// Errors: invalid_argument where the IOMMU has one; any errno.
  virtual result<void> enable_nesting(Domain&) { return fail(errc::invalid_argument); }

  /// IOVAs that the devices keep for themselves.
  virtual std::span<const reserved_region> reserved_regions() const noexcept { return {}; }
  /// Which IOMMU this is: groups with the same may share a domain.
  virtual const void* iommu() const noexcept = 0;
  /// Whether a device can raise no interrupts but its own.
  virtual bool isolates_msi() const noexcept { return true; }
  /// Whether what the devices access is coherent with the caches of the CPUs.
  virtual bool is_coherent() const noexcept { return true; }
  /// Whether the domains know which pages the devices have written.
  virtual bool tracks_dirty() const noexcept { return dirty_tracking_domain<Domain>; }
  virtual hardware_info hardware() const noexcept { return {}; }

 protected:
  ~iommu_group() = default;
};

/// emulated_group: a mediated device's group, which has no IOMMU.
template <iommu_domain Domain>
class emulated_group final : public iommu_group<Domain> {
 public:
  group_kind kind() const noexcept override { return group_kind::emulated; }
  result<Domain*> create_domain() override { return fail(errc::no_such_device); }
  void destroy_domain(Domain&) noexcept override {}
  result<void> attach(Domain&) override { return fail(errc::no_such_device); }
  void detach(Domain&) noexcept override {}
  const void* iommu() const noexcept override { return nullptr; }
};

}  // namespace iopt
