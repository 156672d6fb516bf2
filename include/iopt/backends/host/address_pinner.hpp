// iopt/backends/host/address_pinner.hpp - a pinner for domains that are a kernel's: it pins nothing.
//
// VFIO's containers and iommufd take addresses of the process and pin what is there themselves, count it
// and refuse what may not be locked. So the frame of a page is its address, nothing is touched and
// nothing counted here, and what cannot be had is told by the domain, with the kernel's errno. That
// includes device memory which the process has mapped: type1 takes it by address.
//
// A table without a domain holds nothing at all; and pins of an access object are no pins: memory that the
// process unmaps meanwhile is gone. backends/host/process_pinner.hpp is the one that probes and counts.
//
// Layer: backends. Includes: base, policy, backends/host, the standard library.
#pragma once

#include <algorithm>
#include <cstdint>

#include "iopt/backends/host/physical_memory.hpp"
#include "iopt/backends/host/process_owners.hpp"
#include "iopt/base/access.hpp"
#include "iopt/base/address.hpp"
#include "iopt/base/assert.hpp"
#include "iopt/base/error.hpp"
#include "iopt/base/range.hpp"
#include "iopt/base/run.hpp"
#include "iopt/policy/account.hpp"
#include "iopt/policy/page_pinner.hpp"

namespace iopt::host {

/// address_pinner: frames are addresses of this process, and are its own affair.
///
/// Model       None: pins(f) is the kernel's, which counts them where a domain is filled.
/// Errors      pin(): bad_address where the owner is another process. charge(): invalid_argument for
///             another process. read(), write(): bad_address.
/// Cost        pin(): one run a call, whatever its length; no system call but getpid().
/// Threads     Any.
/// Tested by   tests/backends/host/address_pinner_test.cpp, tests/policy/page_pinner_conformance.hpp
class address_pinner : public own_memory {
 public:
  address_pinner() noexcept = default;
  address_pinner(const address_pinner&) = delete;
  address_pinner& operator=(const address_pinner&) = delete;

  result<void> pin(const owner& who, user_range where, access_rights, run_list& out) noexcept {
    IOPT_ASSERT(where.is_aligned(page_bytes) && !out.full());
    if (who != current()) return fail(errc::bad_address);
    constexpr std::uint64_t most = run::longest / page_bytes * page_bytes;
    const std::uint64_t bytes = std::min(where.length_minus_one(), most - 1) + 1;
    out.append_fitting(run({where.first.value}, bytes));
    return {};
  }
  void unpin(run, bool /*dirty*/) noexcept {}

  result<void> charge(const owner& who, account_mode, std::uint64_t /*pages*/) noexcept {
    if (who != current()) return fail(errc::invalid_argument);
    return {};
  }
  void uncharge(const owner&, account_mode, std::uint64_t /*pages*/) noexcept {}
};

static_assert(page_pinner<address_pinner> && copying_pinner<address_pinner> &&
              !frame_copying_pinner<address_pinner> && !file_pinner<address_pinner>);

}  // namespace iopt::host
