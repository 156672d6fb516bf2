// examples/interpose/calls.cpp - ioctl(), reading, writing, and all that copies or closes a descriptor.
//
// Each answers for descriptors that are ours and passes all else on as it came, at the price of a
// look at a bit. Opening is in opens.cpp.
#include <fcntl.h>
#include <linux/close_range.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <new>

#include "descriptors.hpp"
#include "devices.hpp"
#include "exported.hpp"
#include "family.hpp"
#include "fork_gate.hpp"
#include "libc.hpp"

namespace interpose {
namespace {

/// What the kernel answers for every descriptor.
bool is_for_any_file(std::uint32_t request) noexcept {
  return request == FIOCLEX || request == FIONCLEX || request == FIONBIO || request == FIOASYNC;
}
bool may_be_for_us(std::uint32_t request) noexcept { return (request >> 8 & 0xff) == ';'; }

int answer_ioctl(int fd, unsigned long request, void* argument) {
  const auto number = static_cast<std::uint32_t>(request);
  if (is_for_any_file(number) ||
      (!descriptors::may_know(fd) && !(descriptors::any() && may_be_for_us(number))))
    return libc::ioctl(fd, request, argument);
  const errno_keeper errno_stays;
  const fork_gate::entry inside;
  try {
    if (const file_pointer file = descriptors::of_process().find(fd))
      return errno_stays.answer(file->ioctl(number, reinterpret_cast<std::uintptr_t>(argument)));
  } catch (const std::bad_alloc&) {
    return errno_stays.answer(-ENOMEM);
  }
  return errno_stays.passed(libc::ioctl(fd, request, argument));
}

using reading = ssize_t(int, void*, std::size_t);
using writing = ssize_t(int, const void*, std::size_t);
using reading_at = ssize_t(int, void*, std::size_t, off_t);
using writing_at = ssize_t(int, const void*, std::size_t, off_t);

/// A signal handler may be the first to call them, and must not look for them.
[[gnu::constructor]] void find_at_load() {
  static_cast<void>(libc::next<reading, "read">());
  static_cast<void>(libc::next<writing, "write">());
  static_cast<void>(libc::next<reading_at, "pread">());
  static_cast<void>(libc::next<writing_at, "pwrite">());
}

/// Asks the file, where it is ours, else calls `real`, with no lock held.
template <class Ask, class Real>
ssize_t transfer(int fd, Ask ask, Real real) {
  if (!descriptors::may_know(fd)) return real();
  {
    const errno_keeper errno_stays;
    const fork_gate::entry inside;
    try {
      if (const file_pointer file = descriptors::of_process().find(fd))
        return errno_stays.answer(ask(*file));
    } catch (const std::bad_alloc&) {
      return errno_stays.answer(-ENOMEM);
    }
  }
  return real();
}

/// A descriptor stands where that of its memfd does.
template <class Real>
ssize_t answer_read(int fd, void* to, std::size_t size, Real real) {
  const auto ask = [&](interposed_file& file) {
    const off_t at = ::lseek(fd, 0, SEEK_CUR);
    const auto answer =
        file.read(reinterpret_cast<std::uintptr_t>(to), size, static_cast<std::uint64_t>(at));
    if (answer > 0) ::lseek(fd, at + answer, SEEK_SET);
    return answer;
  };
  return transfer(fd, ask, real);
}
template <class Real>
ssize_t answer_read_at(int fd, void* to, std::size_t size, off_t at, Real real) {
  const auto ask = [&](interposed_file& file) -> iopt::uapi::answer {
    if (at < 0) return -EINVAL;
    return file.read(reinterpret_cast<std::uintptr_t>(to), size, static_cast<std::uint64_t>(at));
  };
  return transfer(fd, ask, real);
}
/// No file of ours is longer for what is written to it: none moves on.
template <class Real>
ssize_t answer_write(int fd, const void* from, std::size_t size, off_t at, Real real) {
  const auto ask = [&](interposed_file& file) -> iopt::uapi::answer {
    if (at < 0) return -EINVAL;
    return file.write(reinterpret_cast<std::uintptr_t>(from), size, static_cast<std::uint64_t>(at));
  };
  return transfer(fd, ask, real);
}

/// Before the kernel closes a descriptor. A child that borrows its parent's memory closes its own.
void close_ours(int fd) noexcept {
  if (!descriptors::may_know(fd)) return;
  const errno_keeper errno_stays;
  const fork_gate::entry inside;
  if (fork_gate::own_process()) descriptors::of_process().closing(fd);
}

/// Duplicates by `call`, which may close `onto`.
template <class Call>
int duplicate(int fd, int onto, Call call) noexcept {
  const bool from_ours = descriptors::may_know(fd);
  if (!from_ours && !descriptors::may_know(onto)) return call();
  const errno_keeper errno_stays;
  const fork_gate::entry inside;
  const int made = call();
  if (made >= 0 && made != fd && fork_gate::own_process()) {
    descriptors::of_process().closing(made);
    if (from_ours) descriptors::of_process().duplicated(fd, made);
  }
  return errno_stays.passed(made);
}

int answer_fcntl(int fd, int command, long argument) {
  if (command != F_DUPFD && command != F_DUPFD_CLOEXEC) return libc::fcntl(fd, command, argument);
  return duplicate(fd, -1, [&] { return libc::fcntl(fd, command, argument); });
}

}  // namespace
}  // namespace interpose

using namespace interpose;

extern "C" {

IOPT_EXPORTED int ioctl(int fd, unsigned long request, ...) noexcept {
  va_list more;
  va_start(more, request);
  void* const argument = va_arg(more, void*);
  va_end(more);
  return answer_ioctl(fd, request, argument);
}

IOPT_EXPORTED int close(int fd) {
  close_ours(fd);
  return libc::close(fd);
}
IOPT_EXPORTED int __close(int fd) { return close(fd); }

IOPT_EXPORTED int close_range(unsigned first, unsigned last, int flags) noexcept {
  if ((static_cast<unsigned>(flags) & CLOSE_RANGE_CLOEXEC) == 0 && first <= last &&
      descriptors::any()) {
    const errno_keeper errno_stays;
    const fork_gate::entry inside;
    if (fork_gate::own_process()) descriptors::of_process().closing(first, last);
  }
  const auto real = libc::next<int(unsigned, unsigned, int), "close_range">();
  if (real != nullptr) return real(first, last, flags);
  errno = ENOSYS;
  return -1;
}
IOPT_EXPORTED void closefrom(int first) noexcept {
  if (descriptors::any()) {
    const errno_keeper errno_stays;
    const fork_gate::entry inside;
    if (fork_gate::own_process())
      descriptors::of_process().closing(static_cast<unsigned>(std::max(first, 0)), ~0U);
  }
  if (const auto real = libc::next<void(int), "closefrom">()) real(first);
}

IOPT_EXPORTED int dup(int fd) noexcept {
  return duplicate(fd, -1, [&] { return libc::next<int(int), "dup">()(fd); });
}
IOPT_EXPORTED int dup2(int fd, int onto) noexcept {
  return duplicate(fd, onto, [&] { return libc::next<int(int, int), "dup2">()(fd, onto); });
}
IOPT_EXPORTED int __dup2(int fd, int onto) noexcept { return dup2(fd, onto); }
IOPT_EXPORTED int dup3(int fd, int onto, int flags) noexcept {
  return duplicate(fd, onto,
                   [&] { return libc::next<int(int, int, int), "dup3">()(fd, onto, flags); });
}

IOPT_EXPORTED int fcntl(int fd, int command, ...) {
  va_list more;
  va_start(more, command);
  const long argument = va_arg(more, long);
  va_end(more);
  return answer_fcntl(fd, command, argument);
}
IOPT_EXPORTED int fcntl64(int fd, int command, ...) {
  va_list more;
  va_start(more, command);
  const long argument = va_arg(more, long);
  va_end(more);
  return answer_fcntl(fd, command, argument);
}
IOPT_EXPORTED int __fcntl(int fd, int command, ...) {
  va_list more;
  va_start(more, command);
  const long argument = va_arg(more, long);
  va_end(more);
  return answer_fcntl(fd, command, argument);
}

IOPT_EXPORTED ssize_t read(int fd, void* to, std::size_t size) {
  return answer_read(fd, to, size, [&] { return libc::next<reading, "read">()(fd, to, size); });
}
IOPT_EXPORTED ssize_t __read(int fd, void* to, std::size_t size) { return read(fd, to, size); }
IOPT_EXPORTED ssize_t pread(int fd, void* to, std::size_t size, off_t at) {
  return answer_read_at(fd, to, size, at,
                        [&] { return libc::next<reading_at, "pread">()(fd, to, size, at); });
}
IOPT_EXPORTED ssize_t pread64(int fd, void* to, std::size_t size, off_t at) {
  return pread(fd, to, size, at);
}
IOPT_EXPORTED ssize_t __pread64(int fd, void* to, std::size_t size, off_t at) {
  return pread(fd, to, size, at);
}
IOPT_EXPORTED ssize_t write(int fd, const void* from, std::size_t size) {
  return answer_write(fd, from, size, 0,
                      [&] { return libc::next<writing, "write">()(fd, from, size); });
}
IOPT_EXPORTED ssize_t __write(int fd, const void* from, std::size_t size) {
  return write(fd, from, size);
}
IOPT_EXPORTED ssize_t pwrite(int fd, const void* from, std::size_t size, off_t at) {
  return answer_write(fd, from, size, at,
                      [&] { return libc::next<writing_at, "pwrite">()(fd, from, size, at); });
}
IOPT_EXPORTED ssize_t pwrite64(int fd, const void* from, std::size_t size, off_t at) {
  return pwrite(fd, from, size, at);
}
IOPT_EXPORTED ssize_t __pwrite64(int fd, const void* from, std::size_t size, off_t at) {
  return pwrite(fd, from, size, at);
}

// What programs built with _FORTIFY_SOURCE call. Theirs ends the program where there is no room.
IOPT_EXPORTED ssize_t __read_chk(int fd, void* to, std::size_t size, std::size_t room) {
  using checked = ssize_t(int, void*, std::size_t, std::size_t);
  if (size <= room) return read(fd, to, size);
  return libc::next<checked, "__read_chk">()(fd, to, size, room);
}
IOPT_EXPORTED ssize_t __pread_chk(int fd, void* to, std::size_t size, off_t at, std::size_t room) {
  using checked = ssize_t(int, void*, std::size_t, off_t, std::size_t);
  if (size <= room) return pread(fd, to, size, at);
  return libc::next<checked, "__pread_chk">()(fd, to, size, at, room);
}
IOPT_EXPORTED ssize_t __pread64_chk(int fd, void* to, std::size_t size, off_t at,
                                    std::size_t room) {
  return __pread_chk(fd, to, size, at, room);
}

/// What the process would have in /proc/self/status as VmLck and VmPin, in kB.
IOPT_EXPORTED long iopt_vm_lck_kb() {
  const errno_keeper errno_stays;
  const fork_gate::entry inside;
  descriptors::of_process().sweep();
  return static_cast<long>(family::counted(::getpid()).locked * 4);
}
IOPT_EXPORTED long iopt_vm_pin_kb() {
  const errno_keeper errno_stays;
  const fork_gate::entry inside;
  descriptors::of_process().sweep();
  return static_cast<long>(family::counted(::getpid()).pinned * 4);
}

}  // extern "C"
