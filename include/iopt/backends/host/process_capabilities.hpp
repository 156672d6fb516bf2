// iopt/backends/host/process_capabilities.hpp - what this process may do, as Linux has it.
//
// Layer: backends. Includes: policy, the standard library, Linux.
#pragma once

#include <linux/capability.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <optional>

#include "iopt/policy/credentials.hpp"

namespace iopt::host {

/// process_capabilities: the effective capabilities of the calling thread, asked for at each call.
/// In a user namespace those are the namespace's, which a kernel's own driver would not honour.
///
/// Threads     Any.
/// Tested by   tests/backends/host/process_capabilities_test.cpp
struct process_capabilities {
  std::optional<bool> lock_memory{};  // said instead of what the system says

  bool has(capability what) const noexcept {
    switch (what) {
      case capability::lock_memory: return lock_memory ? *lock_memory : has_number(CAP_IPC_LOCK);
      case capability::raw_io: return has_number(CAP_SYS_RAWIO);
      case capability::resources: return has_number(CAP_SYS_RESOURCE);
    }
    return false;
  }

 private:
  static bool has_number(unsigned number) noexcept {
    __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
    __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {};
    if (::syscall(SYS_capget, &header, data) != 0) return false;
    return (data[number / 32].effective >> (number % 32) & 1) != 0;
  }
};
static_assert(credentials<process_capabilities>);

}  // namespace iopt::host
