// iopt/backends/host/process_maps.hpp - what a process has mapped where, as Linux tells it.
//
// Layer: backends. Includes: base, the standard library, Linux.
#pragma once

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/types.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "iopt/base/access.hpp"
#include "iopt/base/address.hpp"
#include "iopt/base/error.hpp"
#include "iopt/base/range.hpp"

namespace iopt::host {

/// mapping: a range of a process's addresses, and what is behind it.
struct mapping {
  user_range where;  // whole pages
  access_rights rights = access_rights::none;
  bool shared = false;       // what is written, others see
  std::uint64_t device = 0;  // with `inode`, the object behind it; both 0 where there is none
  std::uint64_t inode = 0;
  std::uint64_t offset = 0;  // in the object, of where.first, in bytes
};

/// process_maps: the mappings of a process, while it lives.
///
/// Model       The file /proc/PID/maps, as it is when it is asked.
/// Ownership   A descriptor. Not copyable.
/// Errors      first_at(): no_such_process's stand-in no_such_file_or_directory, the process is gone or
///             out of reach; bad_address, nothing is mapped there or above.
/// Cost        A system call where Linux is 6.11 or newer; else the text of all mappings below.
/// Threads     Thread-compatible.
/// Source      Linux Documentation/filesystems/proc.rst, as facts.
/// Tested by   tests/backends/host/process_maps_test.cpp
class process_maps {
 public:
  enum class how : std::uint8_t { best, by_text };

  explicit process_maps(pid_t process, how means = how::best) noexcept
      : fd_(open_of(process)), by_text_(means == how::by_text) {}
  process_maps(const process_maps&) = delete;
  process_maps& operator=(const process_maps&) = delete;
  ~process_maps() {
    if (fd_ >= 0) ::close(fd_);
  }

  /// The mapping that has this byte, or else the first above it.
  result<mapping> first_at(user_address at) noexcept {
    if (fd_ < 0) return fail(errc::no_such_file_or_directory);
    if (!by_text_) {
      const result<mapping> found = query(at);
      if (found || found.error() != errc::inappropriate_io_control_operation) return found;
      by_text_ = true;
    }
    return read_text(at);
  }

 private:
  // What the ioctl PROCMAP_QUERY takes, which older headers do not have.
  struct query_argument {
    std::uint64_t size, flags, address;
    std::uint64_t start, end, rights, page_size, offset, inode;
    std::uint32_t device_major, device_minor, name_size, build_id_size;
    std::uint64_t name_address, build_id_address;
  };
  static_assert(sizeof(query_argument) == 104);
  static constexpr std::uint64_t query_or_next = 0x10;

  static std::uint64_t device_of(std::uint64_t major, std::uint64_t minor) noexcept {
    return major << 32 | minor;
  }

  static int open_of(pid_t process) noexcept {
    char path[32] = "/proc/";
    char* const end = std::to_chars(path + 6, path + 20, process).ptr;
    std::memcpy(end, "/maps", 6);
    return ::open(path, O_RDONLY | O_CLOEXEC);
  }

  result<mapping> query(user_address at) const noexcept {
    query_argument q{};
    q.size = sizeof q;
    q.flags = query_or_next;
    q.address = at.value;
    if (::ioctl(fd_, _IOWR('f', 17, query_argument), &q) != 0) {
      switch (errno) {
        case ENOENT: return fail(errc::bad_address);
        case ESRCH: return fail(errc::no_such_file_or_directory);
        default: return fail(errc::inappropriate_io_control_operation);
      }
    }
    mapping m;
    m.where = {{q.start}, {q.end - 1}};
    if ((q.rights & 1) != 0) m.rights = m.rights | access_rights::read;
    if ((q.rights & 2) != 0) m.rights = m.rights | access_rights::write;
    m.shared = (q.rights & 8) != 0;
    m.device = device_of(q.device_major, q.device_minor);
    m.inode = q.inode;
    m.offset = q.offset;
    return m;
  }

  /// Line by line: "first-end rwxs offset major:minor inode   name".
  result<mapping> read_text(user_address at) const noexcept {
    char text[4096];
    std::size_t size = 0;
    for (off_t next = 0;;) {
      const ssize_t got = ::pread(fd_, text + size, sizeof text - size, next);
      if (got < 0) return fail(errc::no_such_file_or_directory);
      if (got == 0) return fail(next == 0 ? errc::no_such_file_or_directory : errc::bad_address);
      next += got;
      size += static_cast<std::size_t>(got);
      std::string_view rest(text, size);
      for (std::size_t end; (end = rest.find('\n')) != rest.npos; rest.remove_prefix(end + 1)) {
        const mapping m = parse(rest.substr(0, end));
        if (m.where.last >= at) return m;
      }
      // The beginning of a line; of one that is longer than all, which its name is, enough of it.
      if (rest.size() == sizeof text) rest = rest.substr(0, sizeof text / 2);
      std::memmove(text, rest.data(), rest.size());
      size = rest.size();
    }
  }

  static std::uint64_t number(std::string_view& text, int base) noexcept {
    std::uint64_t value = 0;
    const char* const end =
        std::from_chars(text.data(), text.data() + text.size(), value, base).ptr;
    text.remove_prefix(std::min(static_cast<std::size_t>(end - text.data()) + 1,
                                text.size()));  // what ends it too
    return value;
  }
  static mapping parse(std::string_view line) noexcept {
    mapping m;
    const std::uint64_t first = number(line, 16);
    const std::uint64_t end = number(line, 16);
    m.where = {{first}, {end - 1}};
    if (line.size() > 5) {
      if (line[0] == 'r') m.rights = m.rights | access_rights::read;
      if (line[1] == 'w') m.rights = m.rights | access_rights::write;
      m.shared = line[3] == 's';
      line.remove_prefix(5);
    }
    m.offset = number(line, 16);
    const std::uint64_t major = number(line, 16);
    m.device = device_of(major, number(line, 16));
    m.inode = number(line, 10);
    return m;
  }

  int fd_;
  bool by_text_;
};

}  // namespace iopt::host
