// iopt/backends/kernel/pinner.hpp - a kernel's pages as a page_pinner.
//
// Layer: backends. Includes: base, policy, backends/kernel/operations.h.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "iopt/backends/kernel/operations.h"
#include "iopt/base/access.hpp"
#include "iopt/base/address.hpp"
#include "iopt/base/error.hpp"
#include "iopt/base/range.hpp"
#include "iopt/base/run.hpp"
#include "iopt/policy/account.hpp"
#include "iopt/policy/page_pinner.hpp"

namespace iopt::kernel {

/// The CPU's page, in bytes.
inline constexpr std::uint64_t page_bytes = std::uint64_t{1} << IOPT_KERNEL_PAGE_SHIFT;

namespace detail {

/// What a kernel's function answered: 0, or a negative errno.
constexpr result<void> answer(long returned) noexcept {
  if (returned < 0) return fail(static_cast<errc>(-returned));
  return {};
}

constexpr iopt_kernel_account account_of(account_mode mode) noexcept {
  return static_cast<iopt_kernel_account>(mode);
}
static_assert(account_of(account_mode::none) == IOPT_KERNEL_ACCOUNT_NONE &&
              account_of(account_mode::user) == IOPT_KERNEL_ACCOUNT_USER &&
              account_of(account_mode::mm) == IOPT_KERNEL_ACCOUNT_MM &&
              account_of(account_mode::custom) == IOPT_KERNEL_ACCOUNT_CUSTOM &&
              account_of(account_mode::type1) == IOPT_KERNEL_ACCOUNT_TYPE1 &&
              account_of(account_mode::type1_unlimited) == IOPT_KERNEL_ACCOUNT_TYPE1_UNLIMITED);

}  // namespace detail

/// owner: an iopt_kernel_owner and a reference to each of its parts.
///
/// Model       Equal owners have one mm and one user; the task only says where limits are read.
/// Ownership   A copy takes references of its own. What was moved from names nobody.
/// Threads     As a std::shared_ptr: copies may be made and dropped by several threads.
/// Tested by   tests/backends/kernel/kernel_test.cpp
class owner {
 public:
  /// Takes over the references that `parts` comes with.
  owner(const iopt_kernel_operations& operations, iopt_kernel_owner parts) noexcept
      : operations_(&operations), parts_(parts) {}
  owner(const owner& other) noexcept : operations_(other.operations_), parts_(other.parts_) {
    operations_->owner_get(operations_->context, &parts_);
  }
  owner(owner&& other) noexcept
      : operations_(other.operations_), parts_(std::exchange(other.parts_, {})) {}
  owner& operator=(owner other) noexcept {
    std::swap(operations_, other.operations_);
    std::swap(parts_, other.parts_);
    return *this;
  }
  ~owner() {
    if (parts_.mm != nullptr || parts_.task != nullptr || parts_.user != nullptr)
      operations_->owner_put(operations_->context, &parts_);
  }

  const iopt_kernel_owner& parts() const noexcept { return parts_; }

  friend bool operator==(const owner& a, const owner& b) noexcept {
    return a.parts_.mm == b.parts_.mm && a.parts_.user == b.parts_.user;
  }

 private:
  const iopt_kernel_operations* operations_;
  iopt_kernel_owner parts_;
};

/// pinner: pages of address spaces, through a table of a kernel's functions.
///
/// Model       As page_pinner has it; what is pinned and counted is known to the kernel alone.
/// Ownership   Refers to the table, which outlives it.
/// Errors      The kernel's. Memory that has no struct page (VM_PFNMAP, a device's BAR) is bad_address:
///             no run is `reserved`, and nothing is resolved.
/// Cost        pin(): one call of the kernel for batch_pages pages, 8 batch_pages bytes of stack; pages
///             that do not fit in the list are unpinned again.
/// Threads     As the table's functions: any.
/// Tested by   tests/backends/kernel/kernel_test.cpp
class pinner {
 public:
  using owner = kernel::owner;
  /// How many pages are asked for at once.
  static constexpr std::size_t batch_pages = 64;

  explicit pinner(const iopt_kernel_operations& operations) noexcept : operations_(&operations) {}

  owner current() noexcept {
    iopt_kernel_owner parts{};
    operations_->owner_current(operations_->context, &parts);
    return owner(*operations_, parts);
  }

  result<void> pin(const owner& who, user_range where, access_rights rights,
                   run_list& out) noexcept {
    IOPT_ASSERT(where.is_aligned(page_bytes) && !out.full());
    const unsigned flags = allows(rights, access_rights::write) ? IOPT_KERNEL_FOLL_WRITE : 0;
    std::uint64_t left = where.length_minus_one() / page_bytes + 1;
    for (std::uint64_t at = where.first.value; left != 0 && !out.full();) {
      std::array<std::uint64_t, batch_pages> frames;
      const auto asked = static_cast<unsigned long>(std::min<std::uint64_t>(left, batch_pages));
      const long pinned = operations_->pin_user_pages_remote(operations_->context, &who.parts(), at,
                                                             asked, flags, frames.data());
      if (pinned <= 0) {
        if (at != where.first.value) return {};  // what is pinned stays; the next call says why
        return fail(pinned == 0 ? errc::bad_address : static_cast<errc>(-pinned));
      }
      const std::span<const std::uint64_t> got{frames.data(), static_cast<std::size_t>(pinned)};
      const std::size_t taken = out.append_frames(got, page_bytes);
      give_back(got.subspan(taken));
      if (taken != asked) return {};
      left -= taken;
      at += taken * page_bytes;
    }
    return {};
  }

  void unpin(run r, bool dirty) noexcept {
    operations_->unpin_user_page_range_dirty_lock(
        operations_->context, r.first.value / page_bytes,
        static_cast<unsigned long>(r.length_bytes / page_bytes), dirty ? 1 : 0);
  }

  bool reachable(const owner& who) noexcept {
    return operations_->mm_alive(operations_->context, &who.parts()) != 0;
  }
  result<void> charge(const owner& who, account_mode mode, std::uint64_t pages) noexcept {
    return detail::answer(operations_->account(operations_->context, &who.parts(),
                                               detail::account_of(mode),
                                               static_cast<unsigned long>(pages)));
  }
  void uncharge(const owner& who, account_mode mode, std::uint64_t pages) noexcept {
    operations_->unaccount(operations_->context, &who.parts(), detail::account_of(mode),
                           static_cast<unsigned long>(pages));
  }

  result<void> read(const owner& who, user_address at, std::span<std::byte> to) noexcept {
    return copied(operations_->access_remote_vm(operations_->context, &who.parts(), at.value,
                                                to.data(), to.size(), 0),
                  to.size());
  }
  result<void> write(const owner& who, user_address at, std::span<const std::byte> from) noexcept {
    // It is read only: the kernel's function has one pointer for both ways.
    void* const buffer = const_cast<std::byte*>(from.data());
    return copied(operations_->access_remote_vm(operations_->context, &who.parts(), at.value,
                                                buffer, from.size(), 1),
                  from.size());
  }

  void read_frame(physical at, std::span<std::byte> to) noexcept {
    while (!to.empty()) {
      const std::size_t part = in_page(at, to.size());
      operations_->memcpy_from_page(operations_->context, to.data(), at.value / page_bytes,
                                    offset(at), part);
      to = to.subspan(part);
      if (!to.empty()) at += part;
    }
  }
  void write_frame(physical at, std::span<const std::byte> from) noexcept {
    while (!from.empty()) {
      const std::size_t part = in_page(at, from.size());
      operations_->memcpy_to_page(operations_->context, at.value / page_bytes, offset(at),
                                  from.data(), part);
      from = from.subspan(part);
      if (!from.empty()) at += part;
    }
  }

 private:
  static std::size_t offset(physical at) noexcept {
    return static_cast<std::size_t>(at.value & (page_bytes - 1));
  }
  static std::size_t in_page(physical at, std::size_t bytes) noexcept {
    return std::min(bytes, static_cast<std::size_t>(page_bytes) - offset(at));
  }
  static result<void> copied(std::size_t bytes, std::size_t asked) noexcept {
    if (bytes != asked) return fail(errc::bad_address);
    return {};
  }

  // How many frames of a row are neighbours.
  static std::size_t neighbours(std::span<const std::uint64_t> frames) noexcept {
    std::size_t count = 1;
    while (count < frames.size() && frames[count] == frames[0] + count) ++count;
    return count;
  }
  void give_back(std::span<const std::uint64_t> frames) noexcept {
    while (!frames.empty()) {
      const std::size_t count = neighbours(frames);
      unpin(run({frames[0] * page_bytes}, count * page_bytes), false);
      frames = frames.subspan(count);
    }
  }

  const iopt_kernel_operations* operations_;
};
static_assert(copying_pinner<pinner> && frame_copying_pinner<pinner>);

}  // namespace iopt::kernel
