// examples/interpose/faulty_pinner.hpp - the pinner of the process, which can be made to fail.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

#include "faults.hpp"
#include "iopt/backends/host/process_pinner.hpp"

namespace interpose {

/// faulty_pinner: process_pinner, with failure points before what may fail.
///
/// Model     process_pinner's, and the most pages that one pin() takes, at first all.
/// Errors    Those of process_pinner; at a failure point what faults() has for it.
/// Threads   As process_pinner.
/// Tested by tests/examples/interpose/client.cpp, faults
class faulty_pinner : public iopt::host::process_pinner<> {
  using base = iopt::host::process_pinner<>;
  using point = iopt::mock::fault_point;

 public:
  /// As a kernel does that has little room for what it pins at a time. Requires: pages > 0.
  void set_pages_a_call(std::uint64_t pages) noexcept {
    pages_a_call_.store(pages, std::memory_order_relaxed);
  }
  std::uint64_t pages_a_call() const noexcept {
    return pages_a_call_.load(std::memory_order_relaxed);
  }

  iopt::result<void> pin(const owner& who, iopt::user_range where, iopt::access_rights rights,
                         iopt::run_list& out) noexcept {
    if (faults().fails(point::pin)) return refused(point::pin);
    const std::uint64_t most =
        std::min(pages_a_call(), longest_probe_bytes / iopt::host::page_bytes);
    if (where.length_minus_one() >= most * iopt::host::page_bytes)
      where = iopt::user_range::sized(where.first, most * iopt::host::page_bytes);
    return base::pin(who, where, rights, out);
  }

  iopt::result<void> read(const owner& who, iopt::user_address at,
                          std::span<std::byte> to) noexcept {
    if (faults().fails(point::copy)) return refused(point::copy);
    return base::read(who, at, to);
  }
  iopt::result<void> write(const owner& who, iopt::user_address at,
                           std::span<const std::byte> from) noexcept {
    if (faults().fails(point::copy)) return refused(point::copy);
    return base::write(who, at, from);
  }

  iopt::result<void> charge(const owner& who, iopt::account_mode mode,
                            std::uint64_t pages) noexcept {
    if (faults().fails(point::charge)) return refused(point::charge);
    return base::charge(who, mode, pages);
  }

 private:
  static iopt::result<void> refused(point at) noexcept { return iopt::fail(faults().error_of(at)); }

  std::atomic<std::uint64_t> pages_a_call_ = ~std::uint64_t{0};
};

static_assert(iopt::page_pinner<faulty_pinner> && iopt::copying_pinner<faulty_pinner>);

}  // namespace interpose
