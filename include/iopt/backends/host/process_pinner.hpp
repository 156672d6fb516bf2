// iopt/backends/host/process_pinner.hpp - a pinner for any memory of this process.
//
// Its frames are addresses: the frame of a page is where the page is. That serves programs whose
// device is software in the same process, and those whose domain is a real kernel's container,
// which takes addresses; it would hide every confusion of the two from a test of translation, for
// which backends/host/pinner.hpp is there. Nothing holds the memory: what the process unmaps while
// it is pinned is gone, where a kernel would keep the page.
//
// Layer: backends. Includes: base, policy, backends/host, the standard library, Linux.
#pragma once

#include <algorithm>
#include <cstdint>
#include <mutex>
#include <string_view>
#include <utility>

#include "iopt/backends/host/address_counter.hpp"
#include "iopt/backends/host/physical_memory.hpp"
#include "iopt/backends/host/probe.hpp"
#include "iopt/backends/host/process_accounts.hpp"
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

/// process_pinner: pins memory of the calling process, wherever it comes from.
///
/// Model       pins(p) for every page p of the address space, and process_accounts. Every page is
///             probed before it is pinned: with write where the rights have it, else for reading. A
///             fork has a copy of it all, in which what its parent mapped can be given back but not
///             pinned again.
/// Invariants  Those of address_counter. Where Limit is, charges are at most what it said when they
///             were made: Limit()(mode) is a number of pages.
/// Errors      pin(): bad_address where the first page may not be touched so, or the owner is another
///             process; not_enough_memory where the system has none. Device memory (VM_PFNMAP) is
///             none that can be touched here. charge(): not_enough_memory over the limit;
///             invalid_argument for another process.
/// Cost        pin(): one system call for at most longest_probe_bytes, which costs the kernel
///             O(pages), O(log pages) calls where a page fails, and the counting. One run a call.
/// Threads     Calls from several threads at once work; they probe side by side.
/// Tested by   tests/backends/host/process_pinner_test.cpp, tests/policy/page_pinner_conformance.hpp
template <class Limit = memlock_limit>
class process_pinner : public own_memory, public process_charges {
 public:
  explicit process_pinner(Limit limit = {}) noexcept : limit_(std::move(limit)) {}
  process_pinner(const process_pinner&) = delete;
  process_pinner& operator=(const process_pinner&) = delete;

  result<void> pin(const owner& who, user_range where, access_rights rights,
                   run_list& out) noexcept {
    IOPT_ASSERT(where.is_aligned(page_bytes) && !out.full());
    if (who != current()) return fail(errc::bad_address);
    const result<std::uint64_t> good = touchable_bytes(probed_at_once(where), rights);
    if (!good) return std::unexpected(good.error());
    where = user_range::sized(where.first, *good);
    {
      const std::lock_guard guard(lock_);
      if (const result<void> counted = counter_.add(where); !counted) return counted;
    }
    out.append_fitting(run({where.first.value}, *good));
    return {};
  }
  void unpin(run r, bool /*dirty*/) noexcept {
    const std::lock_guard guard(lock_);
    counter_.subtract(user_range::sized({r.first.value}, r.length_bytes));
  }

  result<void> charge(const owner& who, account_mode mode, std::uint64_t pages) noexcept {
    if (who != current()) return fail(errc::invalid_argument);
    return charge_below(limit_(mode), who, mode, pages);
  }

  /// pins(p) of the page that holds this byte.
  std::uint64_t pins(user_address byte) const noexcept {
    const std::lock_guard guard(lock_);
    return counter_.count(byte);
  }
  /// The sum of pins(p): a page pinned twice counts twice.
  std::uint64_t pinned_pages() const noexcept {
    const std::lock_guard guard(lock_);
    return counter_.total();
  }
  /// The first invariant that does not hold, or nothing.
  std::string_view verify() const noexcept {
    const std::lock_guard guard(lock_);
    return counter_.verify();
  }

 private:
  [[no_unique_address]] Limit limit_;
  mutable std::mutex lock_;  // over what follows
  address_counter counter_;
};

static_assert(page_pinner<process_pinner<>> && copying_pinner<process_pinner<>> &&
              !frame_copying_pinner<process_pinner<>> && !file_pinner<process_pinner<>>);

}  // namespace iopt::host
