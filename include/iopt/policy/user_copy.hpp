// iopt/policy/user_copy.hpp - how an ioctl's argument is read and written.
//
// A front end never dereferences an address that a caller passed: it copies through this policy,
// and a bad address is EFAULT.
//
// Layer: policy. Includes: base, the standard library.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "iopt/base/address.hpp"

namespace iopt {

/// A user_copy moves bytes between the library and the caller of an ioctl.
///
/// Meaning   c.read(at, to)          copies to.size() bytes from the caller's memory at `at`. False:
///                                   not all of it can be read; what `to` holds then is unspecified.
///           c.write(at, from)       copies into the caller's memory. False: not all of it can be
///                                   written; bytes before the first that cannot may have been.
///           c.contains(at, bytes)   whether such a range can be memory of a caller at all, readable
///                                   or not: the kernel's access_ok().
/// Threads   Calls from several threads at once must work where the front end has locks.
/// Tested by tests/policy/user_copy_test.cpp
template <class C>
concept user_copy = requires(C& c, const C& k, user_address at, std::span<std::byte> to,
                             std::span<const std::byte> from, std::uint64_t bytes) {
  { c.read(at, to) } noexcept -> std::same_as<bool>;
  { c.write(at, from) } noexcept -> std::same_as<bool>;
  { k.contains(at, bytes) } noexcept -> std::same_as<bool>;
};

/// trusted_caller: the user_copy of a program that calls its own front end and passes addresses that
/// it owns. Only null, and what is no user address on any 64-bit system, is refused.
struct trusted_caller {
  static constexpr std::uint64_t end = (std::uint64_t{1} << 56) - 4096;

  bool read(user_address at, std::span<std::byte> to) noexcept {
    if (at.value == 0 || !contains(at, to.size())) return false;
    std::memcpy(to.data(), reinterpret_cast<const void*>(static_cast<std::uintptr_t>(at.value)),
                to.size());
    return true;
  }
  bool write(user_address at, std::span<const std::byte> from) noexcept {
    if (at.value == 0 || !contains(at, from.size())) return false;
    std::memcpy(reinterpret_cast<void*>(static_cast<std::uintptr_t>(at.value)), from.data(),
                from.size());
    return true;
  }
  bool contains(user_address at, std::uint64_t bytes) const noexcept {
    return bytes <= end && at.value <= end - bytes;
  }
};
static_assert(user_copy<trusted_caller>);

}  // namespace iopt
