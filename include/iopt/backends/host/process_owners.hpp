// iopt/backends/host/process_owners.hpp - whose memory it is, and who is charged: what pinners of processes'
// memory share.
//
// Layer: backends. Includes: base, policy, backends/host, the standard library, Linux.
#pragma once

#include <sys/types.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdint>
#include <mutex>

#include "iopt/backends/host/process_accounts.hpp"
#include "iopt/base/assert.hpp"
#include "iopt/base/error.hpp"
#include "iopt/policy/account.hpp"

namespace iopt::host {

/// process_owners: the owners of page_pinner that are processes, with their accounts.
///
/// Model     process_accounts.
/// Errors    As the concept.
/// Threads   Any.
/// Tested by tests/backends/host/process_pinner_test.cpp, tests/backends/host/shared_pinner_test.cpp
class process_owners {
 public:
  /// A process.
  struct owner {
    pid_t process = 0;
    friend bool operator==(owner, owner) noexcept = default;
  };

  process_owners(const process_owners&) = delete;
  process_owners& operator=(const process_owners&) = delete;

  /// This process.
  owner current() const noexcept { return {::getpid()}; }
  /// Whether that process lives.
  bool reachable(const owner& who) const noexcept {
    return who == current() || (who.process > 0 && (::kill(who.process, 0) == 0 || errno == EPERM));
  }

  void uncharge(const owner& who, account_mode mode, std::uint64_t pages) noexcept {
    const std::lock_guard guard(accounts_lock_);
    const bool there = accounts_.uncharge(who.process, mode, pages);
    IOPT_ASSERT(there);
    static_cast<void>(there);
  }

  /// Pages charged by a process: in a mode, and as the kernel's two counters have it.
  std::uint64_t charged(const owner& who, account_mode mode) const noexcept {
    const std::lock_guard guard(accounts_lock_);
    return accounts_.charged(who.process, mode);
  }
  std::uint64_t locked_vm(const owner& who) const noexcept {
    const std::lock_guard guard(accounts_lock_);
    return accounts_.locked_vm(who.process);
  }
  std::uint64_t pinned_vm(const owner& who) const noexcept {
    const std::lock_guard guard(accounts_lock_);
    return accounts_.pinned_vm(who.process);
  }
  /// What is charged in all modes, by all processes known here.
  std::uint64_t charged() const noexcept {
    const std::lock_guard guard(accounts_lock_);
    return accounts_.total();
  }

 protected:
  process_owners() = default;
  ~process_owners() = default;

  result<void> charge_below(std::uint64_t limit_pages, const owner& who, account_mode mode,
                            std::uint64_t pages) noexcept {
    const std::lock_guard guard(accounts_lock_);
    return accounts_.charge(who.process, mode, pages, limit_pages);
  }

 private:
  mutable std::mutex accounts_lock_;  // over what follows
  process_accounts accounts_;
};

}  // namespace iopt::host
