// iopt/uapi/vfio/profile.hpp - which kernel a container is.
//
// What is fixed when a program is built is a profile (uapi/profile.hpp); what an administrator sets
// is container_options.
//
// Layer: uapi. Includes: policy, uapi/profile.hpp, the standard library.
#pragma once

#include <concepts>
#include <cstdint>

#include "iopt/policy/account.hpp"
#include "iopt/policy/credentials.hpp"
#include "iopt/uapi/profile.hpp"

namespace iopt::vfio {

/// Who answers the container's ioctls.
enum class personality : std::uint8_t {
  type1,    // the VFIO type1 driver
  iommufd,  // iommufd's compatibility layer
};

/// type1_profile: native VFIO of Linux 6.12, in a program of one thread that trusts itself. To
/// change one thing, derive.
struct type1_profile : uapi::default_profile {
  static constexpr personality answers_as = personality::type1;
  /// Whether pins and copies of mediated devices wait while an address is invalid, as before Linux 6.2;
  /// else they are refused. Waiting needs traits with locks.
  static constexpr bool waits_for_addresses = false;
};

/// iommufd_profile: the same ioctls on an iommufd.
struct iommufd_profile : type1_profile {
  static constexpr personality answers_as = personality::iommufd;
};

/// hole_punching_profile: native VFIO, and every unmap is exact.
struct hole_punching_profile : type1_profile {
  static constexpr bool punches_holes = true;
};

/// container_profile: what a profile must have; see type1_profile for the meaning of each.
template <class P>
concept container_profile = uapi::front_end_profile<P> && requires {
  { P::answers_as } -> std::convertible_to<personality>;
  { P::waits_for_addresses } -> std::convertible_to<bool>;
} && (!P::waits_for_addresses || P::traits::concurrent);
static_assert(container_profile<type1_profile> && container_profile<iommufd_profile> &&
              container_profile<hole_punching_profile>);

/// How type1 and SPAPR count what a caller locks.
template <credentials Caller>
account_mode locked_by(Caller& caller) noexcept {
  return caller.has(capability::lock_memory) ? account_mode::type1_unlimited : account_mode::type1;
}

/// container_options: what Linux has module parameters for.
struct container_options {
  std::uint32_t dma_entry_limit = 65535;  // mappings that a container may hold
  bool allow_unsafe_interrupts = false;   // groups that do not isolate their interrupts
  bool allow_noiommu = false;             // groups without an IOMMU
  /// Ask domains that have dirty bits for them, which type1 does not: it takes everything that a
  /// device can reach for written.
  bool reads_dirty_bits = false;
};

}  // namespace iopt::vfio
