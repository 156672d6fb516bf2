// iopt/backends/host/lockable_memory.hpp - how much more memory a container may lock for this process.
//
// Layer: backends. Includes: backends/host, the standard library, Linux.
#pragma once

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "iopt/backends/host/process_capabilities.hpp"
#include "iopt/base/page_sizes.hpp"
#include "iopt/policy/credentials.hpp"

namespace iopt::host {

/// The kilobytes behind a name ("VmLck:") in the text of /proc/PID/status, or nothing.
constexpr std::optional<std::uint64_t> kilobytes_in_status(std::string_view text,
                                                           std::string_view name) noexcept {
  for (std::size_t at = text.find(name); at != text.npos; at = text.find(name, at + 1)) {
    if (at != 0 && text[at - 1] != '\n') continue;
    std::uint64_t value = 0;
    bool any = false;
    for (std::size_t n = at + name.size(); n < text.size(); ++n) {
      const char c = text[n];
      if (c >= '0' && c <= '9') {
        value = value * 10 + static_cast<std::uint64_t>(c - '0');
        any = true;
      } else if (any || (c != ' ' && c != '\t')) {
        break;
      }
    }
    if (any) return value;
  }
  return std::nullopt;
}

/// Bytes that VFIO's type1 would still lock for this process before it answers ENOMEM: RLIMIT_MEMLOCK less
/// what is locked, by containers and by mlock(). Nothing: no limit holds, or it is not known.
/// mapping_plan::bytes is what to compare it with: type1 counts what is mapped twice twice.
///
/// An iommufd counts against the user, over all processes, and no file tells how much that is.
/// Cost      Some system calls; the kernel writes the text of /proc/self/status.
/// Threads   Any. Who else maps meanwhile makes it less.
/// Tested by tests/backends/host/lockable_memory_test.cpp
inline std::optional<std::uint64_t> lockable_bytes() noexcept {
  if (process_capabilities{}.has(capability::lock_memory)) return std::nullopt;
  rlimit limit{};
  if (::getrlimit(RLIMIT_MEMLOCK, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY)
    return std::nullopt;
  char text[4096];
  const int file = ::open("/proc/self/status", O_RDONLY | O_CLOEXEC);
  if (file < 0) return std::nullopt;
  std::size_t bytes = 0;
  for (ssize_t got = 1; got > 0 && bytes < sizeof text; bytes += static_cast<std::size_t>(got)) {
    got = ::read(file, text + bytes, sizeof text - bytes);
    if (got < 0) got = 0;
  }
  ::close(file);
  const auto locked_kb = kilobytes_in_status({text, bytes}, "VmLck:");
  if (!locked_kb) return std::nullopt;
  const std::uint64_t locked = *locked_kb * kibibyte;
  return limit.rlim_cur > locked ? limit.rlim_cur - locked : 0;
}

}  // namespace iopt::host
