// iopt/uapi/profile.hpp - what of a front end is fixed when a program is built.
//
// A profile is a class of constants and types: which kernel the front end is, with which locks and
// memory, and how it reaches its callers. What an administrator sets is an option instead.
//
// Layer: uapi. Includes: core/traits.hpp, core/unmap_profile.hpp, policy.
#pragma once

#include <concepts>

#include "iopt/core/traits.hpp"
#include "iopt/core/unmap_profile.hpp"
#include "iopt/policy/credentials.hpp"
#include "iopt/policy/user_copy.hpp"

namespace iopt::uapi {

/// default_profile: Linux 6.12, in a program of one thread that trusts itself. To change one thing,
/// derive. A profile that also has a kernel_level `ioctls` answers by the rules of `level`, and knows the
/// iommufd ioctls of that one.
struct default_profile {
  static constexpr kernel_level level = kernel_level::linux_6_12;
  /// Whether an unmap removes exactly the range it names, whatever it cuts: what no kernel does.
  static constexpr bool punches_holes = false;
  using traits = single_threaded;
  using copy = trusted_caller;
  using caller = every_capability;
};

/// front_end_profile: what a profile must have; see default_profile for the meaning of each.
///
/// Tested by tests/uapi/profile_test.cpp
template <class P>
concept front_end_profile = table_traits<typename P::traits> && user_copy<typename P::copy> &&
                            credentials<typename P::caller> && requires {
                              { P::level } -> std::convertible_to<kernel_level>;
                              { P::punches_holes } -> std::convertible_to<bool>;
                            };
static_assert(front_end_profile<default_profile>);

/// Up to which kernel the ioctls are known.
template <front_end_profile P>
consteval kernel_level ioctls_of() {
  if constexpr (requires { P::ioctls; }) {
    return P::ioctls;
  } else {
    return P::level;
  }
}

}  // namespace iopt::uapi
