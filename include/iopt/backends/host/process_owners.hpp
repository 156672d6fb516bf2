// iopt/backends/host/process_owners.hpp - whose memory it is, and who is charged: what pinners of processes'
// memory share.
//
// Layer: backends. Includes: base, policy, backends/host, the standard library, Linux.
#pragma once

#include <sys/types.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <span>

#include "iopt/backends/host/probe.hpp"
#include "iopt/backends/host/process_accounts.hpp"
#include "iopt/base/address.hpp"
#include "iopt/base/assert.hpp"
#include "iopt/base/error.hpp"
#include "iopt/base/page_sizes.hpp"
#include "iopt/base/range.hpp"
#include "iopt/policy/account.hpp"

namespace iopt::host {

/// process_owner: a process.
struct process_owner {
  pid_t process = 0;
  friend bool operator==(process_owner, process_owner) noexcept = default;
};

/// process_owners: the owners of page_pinner that are processes.
///
/// Threads   Any.
/// Tested by tests/backends/host/pinner_test.cpp, tests/policy/page_pinner_conformance.hpp
class process_owners {
 public:
  using owner = process_owner;

  /// This process.
  owner current() const noexcept { return {::getpid()}; }
  /// Whether that process lives.
  bool reachable(const owner& who) const noexcept {
    return who == current() || (who.process > 0 && (::kill(who.process, 0) == 0 || errno == EPERM));
  }

 protected:
  process_owners() = default;
  ~process_owners() = default;
};

/// own_memory: process_owners of which this process alone has memory that can be copied.
///
/// Errors    As copying_pinner; bad_address for another process.
/// Threads   Any.
/// Tested by tests/backends/host/address_pinner_test.cpp, tests/policy/page_pinner_conformance.hpp
class own_memory : public process_owners {
 public:
  /// Copies as a load or store of the process would, but for the signal.
  result<void> read(const owner& who, user_address at, std::span<std::byte> to) noexcept {
    if (who != current()) return fail(errc::bad_address);
    return copy_from(at, to);
  }
  result<void> write(const owner& who, user_address at, std::span<const std::byte> from) noexcept {
    if (who != current()) return fail(errc::bad_address);
    return copy_to(at, from);
  }

 protected:
  own_memory() = default;
  ~own_memory() = default;
};

/// process_charges: what owners that are processes are charged, and how much of their memory is asked for
/// before a charge can refuse it.
///
/// Model     process_accounts.
/// Errors    As the concept.
/// Threads   Any.
/// Tested by tests/backends/host/process_pinner_test.cpp, tests/backends/host/shared_pinner_test.cpp
class process_charges {
 public:
  /// What a pin() probes at most: memory that is refused for a limit was given pages for nothing.
  static constexpr std::uint64_t longest_probe_bytes = 64 * mebibyte;

  process_charges(const process_charges&) = delete;
  process_charges& operator=(const process_charges&) = delete;

  void uncharge(const process_owner& who, account_mode mode, std::uint64_t pages) noexcept {
    const std::lock_guard guard(accounts_lock_);
    const bool there = accounts_.uncharge(who.process, mode, pages);
    IOPT_ASSERT(there);
    static_cast<void>(there);
  }

  /// Pages charged by a process: in a mode, and as the kernel's two counters have it.
  std::uint64_t charged(const process_owner& who, account_mode mode) const noexcept {
    const std::lock_guard guard(accounts_lock_);
    return accounts_.charged(who.process, mode);
  }
  std::uint64_t locked_vm(const process_owner& who) const noexcept {
    const std::lock_guard guard(accounts_lock_);
    return accounts_.locked_vm(who.process);
  }
  std::uint64_t pinned_vm(const process_owner& who) const noexcept {
    const std::lock_guard guard(accounts_lock_);
    return accounts_.pinned_vm(who.process);
  }
  /// What is charged in all modes, by all processes known here.
  std::uint64_t charged() const noexcept {
    const std::lock_guard guard(accounts_lock_);
    return accounts_.total();
  }

 protected:
  process_charges() = default;
  ~process_charges() = default;

  /// The first pages of a range, as many as are probed at once.
  static user_range probed_at_once(user_range where) noexcept {
    if (where.length_minus_one() < longest_probe_bytes) return where;
    return user_range::sized(where.first, longest_probe_bytes);
  }

  result<void> charge_below(std::uint64_t limit_pages, const process_owner& who, account_mode mode,
                            std::uint64_t pages) noexcept {
    const std::lock_guard guard(accounts_lock_);
    return accounts_.charge(who.process, mode, pages, limit_pages);
  }

 private:
  mutable std::mutex accounts_lock_;  // over what follows
  process_accounts accounts_;
};

}  // namespace iopt::host
