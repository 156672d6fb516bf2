// iopt/backends/host/process_accounts.hpp - what a process has charged, and what it may charge.
//
// Layer: backends. Includes: base, policy, backends/host, the standard library, Linux.
#pragma once

#include <sys/resource.h>
#include <sys/types.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "iopt/backends/host/physical_memory.hpp"
#include "iopt/base/address.hpp"
#include "iopt/base/error.hpp"
#include "iopt/policy/account.hpp"

namespace iopt::host {

/// memlock_limit: RLIMIT_MEMLOCK of a process, the calling one where it is 0, as it is now, for the
/// modes that the kernel limits.
struct memlock_limit {
  pid_t process = 0;

  std::uint64_t operator()(account_mode mode) const noexcept {
    rlimit now{};
    if (mode == account_mode::none || mode == account_mode::custom ||
        ::prlimit(process, RLIMIT_MEMLOCK, nullptr, &now) != 0 || now.rlim_cur == RLIM_INFINITY)
      return top;
    return now.rlim_cur / page_bytes;
  }
};

/// process_accounts: the counters of this process, and of those that it is a fork of.
///
/// Model       For each process the pages charged in each mode. locked_vm() is the kernel's counter
///             of that name (VmLck): what modes mm, type1 and type1_unlimited charged together.
///             pinned_vm() is the other one (VmPin): none, user, mm and custom.
/// Invariants  The counters of a process are those of its modes.
/// Errors      charge(): not_enough_memory over the limit, or for a first charge without memory. mm
///             and type1 are limited by locked_vm(), user and custom by what all processes known
///             here charged in the mode; none and type1_unlimited never.
/// Threads     Thread-compatible.
/// Tested by   tests/backends/host/process_accounts_test.cpp
class process_accounts {
 public:
  static constexpr std::size_t modes = static_cast<std::size_t>(account_mode::type1_unlimited) + 1;

  result<void> charge(pid_t process, account_mode mode, std::uint64_t pages,
                      std::uint64_t limit_pages) noexcept {
    entry* const own = find(process);
    const std::uint64_t before = compared(own, mode);
    if (mode != account_mode::none && mode != account_mode::type1_unlimited &&
        (before > limit_pages || pages > limit_pages - before))
      return fail(errc::not_enough_memory);
    if (own != nullptr) {
      own->by_mode[index(mode)] += pages;
      return {};
    }
    entry fresh{process, {}};
    fresh.by_mode[index(mode)] = pages;
    if (!entries_.push_back(fresh)) return fail(errc::not_enough_memory);
    return {};
  }
  /// Whether so much was charged; if not, nothing is taken back.
  bool uncharge(pid_t process, account_mode mode, std::uint64_t pages) noexcept {
    entry* const own = find(process);
    if (own == nullptr) return pages == 0;
    std::uint64_t& charged = own->by_mode[index(mode)];
    if (pages > charged) return false;
    charged -= pages;
    return true;
  }

  std::uint64_t charged(pid_t process, account_mode mode) const noexcept {
    const entry* const own = find(process);
    return own == nullptr ? 0 : own->by_mode[index(mode)];
  }
  std::uint64_t locked_vm(pid_t process) const noexcept {
    return charged(process, account_mode::mm) + charged(process, account_mode::type1) +
           charged(process, account_mode::type1_unlimited);
  }
  std::uint64_t pinned_vm(pid_t process) const noexcept {
    return charged(process, account_mode::none) + charged(process, account_mode::user) +
           charged(process, account_mode::mm) + charged(process, account_mode::custom);
  }
  /// What all of them charged in all modes.
  std::uint64_t total() const noexcept {
    std::uint64_t sum = 0;
    for (const entry& e : entries_)
      for (const std::uint64_t pages : e.by_mode) sum += pages;
    return sum;
  }

 private:
  struct entry {
    pid_t process;
    std::array<std::uint64_t, modes> by_mode;
  };

  static constexpr std::size_t index(account_mode mode) noexcept {
    return static_cast<std::size_t>(mode);
  }
  const entry* find(pid_t process) const noexcept {
    for (const entry& e : entries_)
      if (e.process == process) return &e;
    return nullptr;
  }
  entry* find(pid_t process) noexcept {
    return const_cast<entry*>(static_cast<const process_accounts*>(this)->find(process));
  }

  /// What the limit is compared with.
  std::uint64_t compared(const entry* own, account_mode mode) const noexcept {
    if (mode != account_mode::user && mode != account_mode::custom)
      return own == nullptr ? 0 : locked_vm(own->process);
    std::uint64_t sum = 0;
    for (const entry& e : entries_) sum += e.by_mode[index(mode)];
    return sum;
  }

  detail::host_array<entry> entries_;
};

}  // namespace iopt::host
