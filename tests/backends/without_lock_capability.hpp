// tests/backends/without_lock_capability.hpp - a limit of locked memory that holds for a while.
#pragma once

#include <linux/capability.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>

#include "tests/catch.hpp"

namespace iopt::test {

/// While it lives the thread is without CAP_IPC_LOCK, and RLIMIT_MEMLOCK is at most so many bytes.
class without_lock_capability {
 public:
  explicit without_lock_capability(std::uint64_t bytes) {
    REQUIRE(::syscall(SYS_capget, &header_, before_) == 0);
    __user_cap_data_struct less[_LINUX_CAPABILITY_U32S_3] = {before_[0], before_[1]};
    less[0].effective &= ~(1U << CAP_IPC_LOCK);
    REQUIRE(::syscall(SYS_capset, &header_, less) == 0);
    REQUIRE(::getrlimit(RLIMIT_MEMLOCK, &limit_) == 0);
    rlimit lower = limit_;
    if (lower.rlim_cur == RLIM_INFINITY || lower.rlim_cur > bytes) lower.rlim_cur = bytes;
    REQUIRE(::setrlimit(RLIMIT_MEMLOCK, &lower) == 0);
  }
  without_lock_capability(const without_lock_capability&) = delete;
  without_lock_capability& operator=(const without_lock_capability&) = delete;
  ~without_lock_capability() {
    ::setrlimit(RLIMIT_MEMLOCK, &limit_);
    ::syscall(SYS_capset, &header_, before_);
  }

 private:
  __user_cap_header_struct header_{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct before_[_LINUX_CAPABILITY_U32S_3] = {};
  rlimit limit_{};
};

}  // namespace iopt::test
