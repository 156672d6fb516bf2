// iopt/policy/credentials.hpp - what the caller of an ioctl may do.
//
// Limits are not asked for here: the pinner knows them, since it counts (policy/account.hpp).
//
// Layer: policy. Includes: the standard library.
#pragma once

#include <concepts>
#include <cstdint>

namespace iopt {

/// capability: a right of the caller that an ioctl asks about. Source: capabilities(7).
enum class capability : std::uint8_t {
  lock_memory,  // CAP_IPC_LOCK: pinned memory is not limited
  raw_io,       // CAP_SYS_RAWIO: devices without an IOMMU
  resources,    // CAP_SYS_RESOURCE: the choice of what is limited
};

/// A credentials object knows the caller of the ioctl under way.
///
/// Meaning   c.has(what)   whether the caller has the capability, now.
/// Threads   As policy/user_copy.hpp.
/// Tested by tests/policy/credentials_test.cpp
template <class C>
concept credentials = requires(C& c, capability what) {
  { c.has(what) } noexcept -> std::same_as<bool>;
};

/// every_capability: the credentials of a program that is its own master.
struct every_capability {
  bool has(capability) const noexcept { return true; }
};
static_assert(credentials<every_capability>);

}  // namespace iopt
