// iopt/backends/host/checked_caller.hpp - the user_copy of a front end whose caller may err.
//
// A pointer that a program passes to an ioctl may be anything: here a bad one is refused, and never
// a signal, as a kernel does it.
//
// Layer: backends. Includes: base, policy, backends/host, the standard library.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "iopt/backends/host/probe.hpp"
#include "iopt/base/address.hpp"
#include "iopt/policy/user_copy.hpp"

namespace iopt::host {

/// checked_caller: a user_copy for any address of this process.
///
/// Model       As user_copy; contains() is the kernel's access_ok() of this machine, on x86-64 with
///             four levels of page table.
/// Errors      False for what lies outside the user's half, or may not be read or written.
/// Cost        One system call a copy.
/// Threads     Any.
/// Tested by   tests/backends/host/checked_caller_test.cpp
struct checked_caller {
#if defined(__x86_64__)
  static constexpr std::uint64_t end = (std::uint64_t{1} << 47) - 4096;
#else
  static constexpr std::uint64_t end = std::uint64_t{1} << 48;
#endif

  bool read(user_address at, std::span<std::byte> to) noexcept {
    return contains(at, to.size()) && copy_from(at, to).has_value();
  }
  bool write(user_address at, std::span<const std::byte> from) noexcept {
    return contains(at, from.size()) && copy_to(at, from).has_value();
  }
  bool contains(user_address at, std::uint64_t bytes) const noexcept {
    return bytes <= end && at.value <= end - bytes;
  }
};
static_assert(user_copy<checked_caller>);

}  // namespace iopt::host
