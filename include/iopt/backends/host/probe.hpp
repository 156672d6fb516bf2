// iopt/backends/host/probe.hpp - touching memory of this process without being killed for it.
//
// A pinner must know of every page whether it can be read, or written, before a device does; and
// copies must answer EFAULT where a plain load would raise a signal. No signal handler is installed
// for that: the kernel is asked to touch the pages in our place.
//
//   page can be touched   madvise(MADV_POPULATE_READ or _WRITE), Linux 5.14; one call a range
//            otherwise    a futex call on the page's first word: FUTEX_WAIT reads it, FUTEX_WAKE_OP
//                         or-s 0 into it, atomically, so that no writer's bytes are lost
//   copy                  process_vm_readv, process_vm_writev
//            otherwise    through a pipe, where a sandbox forbids those
//
// Layer: backends. Includes: base, backends/host/physical_memory.hpp, the standard library, Linux.
#pragma once

#include <fcntl.h>
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <span>

#include "iopt/backends/host/physical_memory.hpp"
#include "iopt/base/access.hpp"
#include "iopt/base/address.hpp"
#include "iopt/base/assert.hpp"
#include "iopt/base/error.hpp"
#include "iopt/base/range.hpp"

namespace iopt::host {

/// Which system calls to use: the best that this kernel has, or those that every kernel has.
enum class system_calls : std::uint8_t { best, portable };

}  // namespace iopt::host

namespace iopt::detail {

inline void* host_pointer(std::uint64_t address) noexcept {
  return reinterpret_cast<void*>(static_cast<std::uintptr_t>(address));
}

#ifndef MADV_POPULATE_READ
inline constexpr int host_populate_read = 22;
inline constexpr int host_populate_write = 23;
#else
inline constexpr int host_populate_read = MADV_POPULATE_READ;
inline constexpr int host_populate_write = MADV_POPULATE_WRITE;
#endif

/// 0, or the errno for the first page of the range that cannot be had.
inline int host_populate(std::uint64_t first, std::uint64_t bytes, int advice) noexcept {
  int number = 0;
  do {
    number = ::madvise(host_pointer(first), bytes, advice) == 0 ? 0 : errno;
  } while (number == EINTR);
  return number;
}

/// Whether one page can be touched, with a futex call. Waiters on the page's first word may wake
/// once for nothing, which every futex user expects.
inline bool host_touch(std::uint64_t page, bool write) noexcept {
  constexpr std::uint32_t unlikely = 0x9e3779b9;  // where the word holds it, we wait for no time
  constexpr timespec no_time{0, 0};
  std::uint32_t nobody_waits_here = 0;
  for (;;) {
    const long answer =
        write ? ::syscall(SYS_futex, &nobody_waits_here, FUTEX_WAKE_OP | FUTEX_PRIVATE_FLAG, 0, 0,
                          host_pointer(page), FUTEX_OP(FUTEX_OP_OR, 0, FUTEX_OP_CMP_EQ, 0))
              : ::syscall(SYS_futex, host_pointer(page), FUTEX_WAIT | FUTEX_PRIVATE_FLAG, unlikely,
                          &no_time, nullptr, 0);
    if (answer >= 0) return true;
    if (errno == EINTR) continue;
    return !write && (errno == EAGAIN || errno == ETIMEDOUT);
  }
}

/// Copies at most a page through a pipe; returns the bytes copied, 0 where it faults at once.
inline std::size_t host_copy_by_pipe(void* to, const void* from, std::size_t bytes) noexcept {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) return 0;
  ssize_t copied = ::write(ends[1], from, bytes);
  if (copied > 0) copied = ::read(ends[0], to, static_cast<std::size_t>(copied));
  ::close(ends[0]);
  ::close(ends[1]);
  return copied > 0 ? static_cast<std::size_t>(copied) : 0;
}

/// Copies between memory that may fault, at `there`, and memory that does not.
inline result<void> host_copy(user_address there, std::byte* here, std::uint64_t bytes, bool write,
                              host::system_calls calls) noexcept {
  if (bytes == 0) return {};
  if (bytes - 1 > top - there.value) return fail(errc::bad_address);
  bool by_pipe = calls == host::system_calls::portable;
  for (std::uint64_t done = 0; done != bytes;) {
    const std::uint64_t at = there.value + done;
    std::uint64_t copied = 0;
    if (by_pipe) {
      const std::uint64_t part = std::min(bytes - done, host::page_bytes - at % host::page_bytes);
      copied = write ? host_copy_by_pipe(host_pointer(at), here + done, part)
                     : host_copy_by_pipe(here + done, host_pointer(at), part);
    } else {
      const std::uint64_t part = std::min(bytes - done, std::uint64_t{1} << 30);
      const iovec near{here + done, part};
      const iovec far{host_pointer(at), part};
      const ssize_t answer = write ? ::process_vm_writev(::getpid(), &near, 1, &far, 1, 0)
                                   : ::process_vm_readv(::getpid(), &near, 1, &far, 1, 0);
      if (answer < 0 && (errno == ENOSYS || errno == EPERM)) {
        by_pipe = true;
        continue;
      }
      copied = answer > 0 ? static_cast<std::uint64_t>(answer) : 0;
    }
    if (copied == 0) return fail({errc::bad_address, error_place::request_byte, done});
    done += copied;
  }
  return {};
}

}  // namespace iopt::detail

namespace iopt::host {

/// How many bytes from where.first on can be touched with these rights, in whole pages: at least a
/// page. The pages have memory afterwards, and their bytes are unchanged.
///
/// Requires  where is whole pages.
/// Errors    bad_address where the first page cannot be touched: nothing is mapped, rights are
///           missing, past the end of its file. not_enough_memory where the system has none for it.
/// Cost      One system call where all can be touched, O(log pages) where not; with portable calls
///           one a page.
/// Threads   Any. What another thread unmaps meanwhile is its own concern.
inline result<std::uint64_t> touchable_bytes(user_range where, access_rights rights,
                                             system_calls calls = system_calls::best) noexcept {
  IOPT_ASSERT(where.is_aligned(page_bytes));
  const bool write = allows(rights, access_rights::write);
  const std::uint64_t first = where.first.value;
  const std::uint64_t pages = where.length_minus_one() / page_bytes + 1;
  const int advice = write ? detail::host_populate_write : detail::host_populate_read;

  // An advice that the kernel does not know, or a sandbox does not let through, is refused also for
  // no bytes at all; so is any by a kernel that was built without madvise().
  if (calls == system_calls::portable || detail::host_populate(first, 0, advice) != 0) {
    std::uint64_t good = 0;
    while (good != pages && detail::host_touch(first + good * page_bytes, write)) ++good;
    if (good == 0) return fail(errc::bad_address);
    return good * page_bytes;
  }

  if (detail::host_populate(first, pages * page_bytes, advice) == 0) return pages * page_bytes;
  std::uint64_t good = 0, bad = pages;  // the first `good` pages are had, the first `bad` are not
  while (bad - good > 1) {
    const std::uint64_t middle = good + (bad - good) / 2;
    const bool had =
        detail::host_populate(first + good * page_bytes, (middle - good) * page_bytes, advice) == 0;
    (had ? good : bad) = middle;
  }
  if (good != 0) return good * page_bytes;
  const int number = detail::host_populate(first, page_bytes, advice);
  if (number == 0) return page_bytes;
  unsigned char resident = 0;
  const bool mapped = ::mincore(detail::host_pointer(first), page_bytes, &resident) == 0;
  return fail(mapped && number == ENOMEM ? errc::not_enough_memory : errc::bad_address);
}

/// Copies from memory of this process that may not be there.
/// Errors: bad_address, with the first byte that failed; those before it are copied, to a page.
inline result<void> copy_from(user_address at, std::span<std::byte> to,
                              system_calls calls = system_calls::best) noexcept {
  return detail::host_copy(at, to.data(), to.size(), false, calls);
}

/// Copies into memory of this process that may not be there, or not be writable.
/// Errors: bad_address, as copy_from().
inline result<void> copy_to(user_address at, std::span<const std::byte> from,
                            system_calls calls = system_calls::best) noexcept {
  return detail::host_copy(at, const_cast<std::byte*>(from.data()), from.size(), true, calls);
}

}  // namespace iopt::host
