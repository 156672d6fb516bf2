// iopt/uapi/vfio/profile.hpp - which kernel a container is.
//
// What is fixed when a program is built is a profile, a class of constants and types; what an
// administrator sets is container_options.
//
// Layer: uapi. Includes: core/traits.hpp, core/unmap_profile.hpp, policy.
#pragma once

#include <concepts>
#include <cstdint>

#include "iopt/core/traits.hpp"
#include "iopt/core/unmap_profile.hpp"
#include "iopt/policy/credentials.hpp"
#include "iopt/policy/user_copy.hpp"

namespace iopt::vfio {

/// Who answers the container's ioctls.
enum class personality : std::uint8_t {
  type1,    // the VFIO type1 driver
  iommufd,  // iommufd's compatibility layer
};

/// type1_profile: native VFIO of Linux 6.12, in a program of one thread that trusts itself. To
/// change one thing, derive.
struct type1_profile {
  static constexpr personality answers_as = personality::type1;
  static constexpr kernel_level level = kernel_level::linux_6_12;
  /// Whether an unmap removes exactly the range it names, whatever it cuts: what type1 v1 never did.
  static constexpr bool punches_holes = false;
  using traits = single_threaded;
  using copy = trusted_caller;
  using caller = every_capability;
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
concept container_profile = table_traits<typename P::traits> && user_copy<typename P::copy> &&
                            credentials<typename P::caller> && requires {
                              { P::answers_as } -> std::convertible_to<personality>;
                              { P::level } -> std::convertible_to<kernel_level>;
                              { P::punches_holes } -> std::convertible_to<bool>;
                            };
static_assert(container_profile<type1_profile> && container_profile<iommufd_profile> &&
              container_profile<hole_punching_profile>);

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
