// iopt/backends/host/pinner.hpp - a pinner for real memory of this process.
//
// It pins host::user_memory, whose frames it knows: offsets in the machine's memfd. Other memory of
// the process (a malloc'ed buffer) has no frame that the device's view could show, and to pass its
// address off as one would hide every confusion of the two: pinning it is refused (bad_address).
//
// Layer: backends. Includes: base, policy, backends/host, the standard library, Linux.
#pragma once

#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <mutex>
#include <numeric>
#include <shared_mutex>
#include <span>
#include <string_view>

#include "iopt/backends/host/frame_counter.hpp"
#include "iopt/backends/host/physical_memory.hpp"
#include "iopt/backends/host/probe.hpp"
#include "iopt/backends/host/process_owners.hpp"
#include "iopt/backends/host/user_memory.hpp"
#include "iopt/base/access.hpp"
#include "iopt/base/address.hpp"
#include "iopt/base/assert.hpp"
#include "iopt/base/error.hpp"
#include "iopt/base/range.hpp"
#include "iopt/base/run.hpp"
#include "iopt/policy/account.hpp"
#include "iopt/policy/page_pinner.hpp"

namespace iopt::host {

/// pinner_options: what a pinner does beyond counting.
struct pinner_options {
  /// Pinned pages are mlock()ed: they stay in memory and count against the process's
  /// RLIMIT_MEMLOCK, each page once, with everything else that the process has locked.
  bool lock_memory = false;
  system_calls calls = system_calls::best;
};

/// pinner: pins user memory of this process that lies in one machine.
///
/// Model       pins(f) as page_pinner has it, and a count of charged pages for each account mode.
///             Every page is probed before it is pinned: with write where the rights have it, else
///             for reading. A right to execute asks for nothing more.
/// Invariants  pins(f) >= 0. With lock_memory a frame is locked while pins(f) > 0. Charges are at
///             most the limit that was set when they were made.
/// Ownership   Refers to the machine, which is destroyed later.
/// Errors      pin(): bad_address where the first page is not in a user_memory, is a hole, or may
///             not be touched so, or the owner is another process; not_enough_memory where the
///             system has none, or with lock_memory over RLIMIT_MEMLOCK: then the whole first run
///             is refused.
/// Cost        pin(): O(runs appended + chunks of 2 MiB) and one system call to probe them, which
///             costs the kernel O(pages); O(log pages) system calls where a page fails.
///             With lock_memory a system call a run.
/// Threads     Calls from several threads at once work. unmap() and protect() of user_memory wait
///             for a pin() under way; an munmap() behind its back is not seen.
/// Tested by   tests/backends/host/pinner_test.cpp, tests/policy/page_pinner_conformance.hpp
class pinner : public process_owners {
 public:
  using file = host::file;

  explicit pinner(physical_memory& memory, pinner_options options = {}) noexcept
      : machine_(&memory.machine()), options_(options), counter_(machine_->bytes) {
    limits_.fill(top);
    if (!options_.lock_memory) return;
    // Locked through a mapping of its own, so that what the user unmaps stays locked, and that two
    // pinners of one machine do not unlock each other's pages.
    void* const view = ::mmap(nullptr, machine_->bytes, PROT_READ, MAP_SHARED | MAP_NORESERVE,
                              machine_->descriptor, 0);
    if (view != MAP_FAILED) locked_view_ = static_cast<std::byte*>(view);
  }
  pinner(const pinner&) = delete;
  pinner& operator=(const pinner&) = delete;
  ~pinner() {
    if (locked_view_ != nullptr) ::munmap(locked_view_, machine_->bytes);
  }

  result<void> pin(const owner& who, user_range where, access_rights rights,
                   run_list& out) noexcept {
    IOPT_ASSERT(where.is_aligned(page_bytes) && !out.full());
    if (who != current()) return fail(errc::bad_address);
    const std::shared_lock guard(machine_->lock);
    const detail::host_region* const region = detail::host_region_at(*machine_, where.first);
    if (region == nullptr) return fail(errc::bad_address);
    where.last = std::min(where.last, region->range().last);
    const user_range* const hole = region->hole_from(where.first);
    if (hole != region->holes.end() && hole->overlaps(where)) {
      if (hole->contains(where.first)) return fail(errc::bad_address);
      where.last = hole->first - 1;
    }
    const std::uint64_t offset = where.first - region->range().first;
    const std::uint64_t fit = bytes_that_fit(*region, offset, where.length(), out);
    const result<std::uint64_t> good =
        touchable_bytes(user_range::sized(where.first, fit), rights, options_.calls);
    if (!good) return std::unexpected(good.error());
    return take(*region, offset, *good, out);
  }

  void unpin(run r, bool /*dirty*/) noexcept {
    const std::lock_guard guard(lock_);
    counter_.subtract(physical_range::sized(r.first, r.length_bytes),
                      [this](physical_range free) noexcept { unlock(free); });
  }

  /// Pins pages of a file, whether a user maps them or not.
  /// Errors: invalid_argument past the end of the file, or where it is of another machine;
  /// not_enough_memory as pin().
  result<void> pin_file(const file& from, user_range where, access_rights, run_list& out) noexcept {
    IOPT_ASSERT(where.is_aligned(page_bytes) && !out.full());
    const detail::host_region& region = from.region();
    if (region.machine != machine_ || where.first.value >= region.bytes)
      return fail(errc::invalid_argument);
    where.last.value = std::min(where.last.value, region.bytes - 1);
    const std::uint64_t offset = where.first.value;
    const std::uint64_t fit = bytes_that_fit(region, offset, where.length(), out);
    std::uint64_t good = 0;  // the pages get memory through the device's view
    for_each_run(region, offset, fit, [&](run r) noexcept {
      const user_range seen = user_range::sized(
          {reinterpret_cast<std::uintptr_t>(machine_->view) + r.first.value}, r.length_bytes);
      const std::uint64_t touched =
          touchable_bytes(seen, access_rights::write, options_.calls).value_or(0);
      good += touched;
      return touched == r.length_bytes;
    });
    if (good == 0) return fail(errc::not_enough_memory);
    return take(region, offset, good, out);
  }

  /// Copies from and to any memory of this process, as a load or store of its own would, but for
  /// the signal.
  result<void> read(const owner& who, user_address at, std::span<std::byte> to) noexcept {
    if (who != current()) return fail(errc::bad_address);
    return copy_from(at, to, options_.calls);
  }
  result<void> write(const owner& who, user_address at, std::span<const std::byte> from) noexcept {
    if (who != current()) return fail(errc::bad_address);
    return copy_to(at, from, options_.calls);
  }

  /// Copies as a device does. Requires: pinned frames.
  void read_frame(physical at, std::span<std::byte> to) noexcept {
    IOPT_ASSERT(at.value <= machine_->bytes && to.size() <= machine_->bytes - at.value);
    if (!to.empty()) std::memcpy(to.data(), machine_->view + at.value, to.size());
  }
  void write_frame(physical at, std::span<const std::byte> from) noexcept {
    IOPT_ASSERT(at.value <= machine_->bytes && from.size() <= machine_->bytes - at.value);
    if (!from.empty()) std::memcpy(machine_->view + at.value, from.data(), from.size());
  }

  /// Errors: not_enough_memory over the limit of the mode; invalid_argument for another process.
  result<void> charge(const owner& who, account_mode mode, std::uint64_t pages) noexcept {
    if (who != current()) return fail(errc::invalid_argument);
    const std::lock_guard guard(lock_);
    std::uint64_t& charged = charged_[index(mode)];
    const std::uint64_t limit = limits_[index(mode)];
    if (mode != account_mode::type1_unlimited && (charged > limit || pages > limit - charged))
      return fail(errc::not_enough_memory);
    charged += pages;
    return {};
  }
  void uncharge(const owner&, account_mode mode, std::uint64_t pages) noexcept {
    const std::lock_guard guard(lock_);
    IOPT_ASSERT(pages <= charged_[index(mode)]);
    charged_[index(mode)] -= pages;
  }

  /// The most pages that may be charged in this mode, from now on. account_mode::none has no limit;
  /// the modes of type1 share the counter of account_mode::mm, and type1_unlimited minds no limit.
  void set_limit(account_mode mode, std::uint64_t limit_pages) noexcept {
    const std::lock_guard guard(lock_);
    if (mode != account_mode::none) limits_[index(mode)] = limit_pages;
  }
  /// The pages charged in this mode.
  std::uint64_t charged(account_mode mode) const noexcept {
    const std::lock_guard guard(lock_);
    return charged_[index(mode)];
  }

  /// What is charged in all modes together.
  std::uint64_t charged() const noexcept {
    const std::lock_guard guard(lock_);
    return std::accumulate(charged_.begin(), charged_.end(), std::uint64_t{0});
  }

  /// pins(f) of the frame that holds this byte.
  std::uint64_t pins(physical byte) const noexcept {
    const std::lock_guard guard(lock_);
    return counter_.count(byte);
  }
  /// The sum of pins(f): a page pinned twice counts twice.
  std::uint64_t pinned_pages() const noexcept {
    const std::lock_guard guard(lock_);
    return counter_.total();
  }
  /// How many frames have pins(f) > 0.
  std::uint64_t pinned_frames() const noexcept {
    const std::lock_guard guard(lock_);
    return counter_.frames();
  }

  /// The first invariant that does not hold, or nothing.
  std::string_view verify() const noexcept {
    const std::lock_guard guard(lock_);
    return counter_.verify();
  }

 private:
  static constexpr std::size_t index(account_mode mode) noexcept {
    return static_cast<std::size_t>(charges_while_pinning(mode) ? account_mode::mm : mode);
  }

  /// Calls each(run) for the runs of the region's bytes from `offset` on, until it says false.
  template <class Each>
  static void for_each_run(const detail::host_region& region, std::uint64_t offset,
                           std::uint64_t bytes, Each&& each) noexcept {
    for (const detail::host_piece* piece = region.piece_at(offset); bytes != 0; ++piece) {
      const std::uint64_t inside = offset - piece->offset;
      const std::uint64_t part = std::min(bytes, piece->bytes - inside);
      if (!each(run(piece->frame + inside, part))) return;
      offset += part;
      bytes -= part;
    }
  }

  /// How many of the bytes have room in the list: one run a piece, and the first may join.
  static std::uint64_t bytes_that_fit(const detail::host_region& region, std::uint64_t offset,
                                      std::uint64_t bytes, const run_list& out) noexcept {
    std::size_t room = out.capacity() - out.size();
    std::uint64_t fit = 0;
    for_each_run(region, offset, bytes, [&](run r) noexcept {
      const bool joins = fit == 0 && !out.empty() && out[out.size() - 1].joins(r);
      if (!joins && room-- == 0) return false;
      fit += r.length_bytes;
      return true;
    });
    return fit;
  }

  /// Counts, locks and appends pages that were probed.
  result<void> take(const detail::host_region& region, std::uint64_t offset, std::uint64_t bytes,
                    run_list& out) noexcept {
    const std::lock_guard guard(lock_);
    if (!counter_.usable()) return fail(errc::not_enough_memory);
    bool any = false;
    for_each_run(region, offset, bytes, [&](run r) noexcept {
      const physical_range frames = physical_range::sized(r.first, r.length_bytes);
      counter_.add(frames);
      if (!lock(frames)) {
        counter_.subtract(frames, [this](physical_range free) noexcept { unlock(free); });
        return false;
      }
      out.append_fitting(r);
      return any = true;
    });
    if (!any) return fail(errc::not_enough_memory);
    return {};
  }

  // The system calls themselves: sanitizers replace mlock() by a function that does nothing.
  bool lock(physical_range frames) noexcept {
    if (!options_.lock_memory) return true;
    return locked_view_ != nullptr &&
           ::syscall(SYS_mlock, locked_view_ + frames.first.value, frames.length()) == 0;
  }
  /// Where the kernel cannot cut its mapping for want of memory, pages stay locked until the pinner
  /// goes: too much is counted, never too little.
  void unlock(physical_range frames) noexcept {
    if (locked_view_ != nullptr)
      ::syscall(SYS_munlock, locked_view_ + frames.first.value, frames.length());
  }

  detail::host_machine* machine_;
  pinner_options options_;
  std::byte* locked_view_ = nullptr;

  mutable std::mutex lock_;  // over what follows
  frame_counter counter_;
  std::array<std::uint64_t, 4> charged_{};
  std::array<std::uint64_t, 4> limits_{};
};

static_assert(page_pinner<pinner> && file_pinner<pinner> && copying_pinner<pinner> &&
              frame_copying_pinner<pinner> && !device_memory_pinner<pinner>);

}  // namespace iopt::host
