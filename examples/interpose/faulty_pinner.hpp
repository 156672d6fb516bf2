// examples/interpose/faulty_pinner.hpp - the pinner of the process, which can be made to fail.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

#include "family.hpp"
#include "faults.hpp"
#include "iopt/backends/host/shared_pinner.hpp"
#include "test_dmabuf.hpp"

namespace interpose {

/// faulty_pinner: shared_pinner, with failure points before what may fail.
///
/// Model     shared_pinner's, and the most pages that one pin() takes, at first all.
/// Errors    Those of shared_pinner; at a failure point what faults() has for it.
/// Threads   As shared_pinner.
/// Tested by tests/examples/interpose/client.cpp, faults
class faulty_pinner : public iopt::host::shared_pinner {
  using base = iopt::host::shared_pinner;
  using point = iopt::mock::fault_point;

 public:
  /// As a kernel does that has little room for what it pins at a time. Requires: pages > 0.
  void set_pages_a_call(std::uint64_t pages) noexcept {
    pages_a_call_.store(pages, std::memory_order_relaxed);
  }
  std::uint64_t pages_a_call() const noexcept {
    return pages_a_call_.load(std::memory_order_relaxed);
  }

  /// Who makes the call.
  owner current() const noexcept { return {family::calling_process()}; }

  iopt::result<void> pin(const owner& who, iopt::user_range where, iopt::access_rights rights,
                         iopt::run_list& out) noexcept {
    if (faults().fails(point::pin)) return refused(point::pin);
    return base::pin(who, at_once(where), rights, out);
  }
  iopt::result<void> pin_file(const file& from, iopt::user_range where, iopt::access_rights rights,
                              iopt::run_list& out) noexcept {
    if (faults().fails(point::pin_file)) return refused(point::pin_file);
    return base::pin_file(from, at_once(where), rights, out);
  }

  using exporter = device_memory;
  iopt::result<void> resolve(const exporter& from, iopt::user_range where,
                             iopt::run_list& out) noexcept {
    if (faults().fails(point::resolve)) return refused(point::resolve);
    const iopt::result<iopt::run> found = from->resolve(where);
    if (!found) return iopt::fail(found.error());
    out.append_fitting(*found);
    return {};
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
  iopt::user_range at_once(iopt::user_range where) const noexcept {
    const std::uint64_t most =
        std::min(pages_a_call(), longest_probe_bytes / iopt::host::page_bytes);
    if (where.length_minus_one() < most * iopt::host::page_bytes) return where;
    return iopt::user_range::sized(where.first, most * iopt::host::page_bytes);
  }
  static iopt::result<void> refused(point at) noexcept { return iopt::fail(faults().error_of(at)); }

  std::atomic<std::uint64_t> pages_a_call_ = ~std::uint64_t{0};
};

static_assert(iopt::file_pinner<faulty_pinner> && iopt::device_memory_pinner<faulty_pinner> &&
              iopt::copying_pinner<faulty_pinner> && iopt::frame_copying_pinner<faulty_pinner>);

}  // namespace interpose
