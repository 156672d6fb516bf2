// examples/interpose/opens.cpp - open() and opendir(), in all their spellings.
//
// A path is ours where it is absolute and spells the device plainly: repeated slashes and /./ are
// looked through, links and working directories are not. Below an open folder only names that begin
// with "fail" are, the files of fault injection; nothing else costs more for them.
#include <dirent.h>
#include <fcntl.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <new>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "debugfs.hpp"
#include "descriptors.hpp"
#include "devices.hpp"
#include "exported.hpp"
#include "fork_gate.hpp"
#include "iopt/backends/host/probe.hpp"
#include "libc.hpp"
#include "status.hpp"

namespace interpose {
namespace {

using short_path = std::array<char, 64>;
constexpr std::string_view below_folder = "fail";

/// The path in plain spelling, where it can be one of ours at all. A bad pointer is not.
std::optional<std::string_view> plain(const char* path, short_path& out) {
  short_path raw;
  std::size_t size = 0;
  const auto address = reinterpret_cast<std::uintptr_t>(path);
  for (bool ended = false; !ended;) {
    const std::size_t part =
        std::min<std::size_t>(raw.size() - size, 4096 - (address + size) % 4096);
    if (part == 0 ||
        !iopt::host::copy_from({address + size},
                               std::as_writable_bytes(std::span(raw)).subspan(size, part)))
      return std::nullopt;
    const auto from = raw.begin() + static_cast<std::ptrdiff_t>(size);
    const auto end = std::find(from, from + static_cast<std::ptrdiff_t>(part), '\0');
    ended = end != from + static_cast<std::ptrdiff_t>(part);
    size = static_cast<std::size_t>(end - raw.begin());
    if (raw[0] != '/' && raw[0] != below_folder[0]) return std::nullopt;
  }
  std::size_t length = 0;
  for (std::size_t n = 0; n != size; ++n) {
    const auto at = [&](std::size_t i) { return i < size ? raw[i] : '\0'; };
    if (raw[n] == '/' && (at(n + 1) == '/' || (at(n + 1) == '.' && at(n + 2) == '/'))) {
      if (at(n + 1) == '.') ++n;
      continue;
    }
    out[length++] = raw[n];
  }
  return std::string_view(out.data(), length);
}

/// What `folder` is where the path alone is given: below it nothing is ours.
constexpr int no_folder = -1;

/// A descriptor or an errno, negative; nothing where the path is not ours.
std::optional<int> open_ours(int folder, const char* path, int flags) {
  if ((flags & O_PATH) != 0) return std::nullopt;
  short_path text;
  auto name = plain(path, text);
  if (!name) return std::nullopt;
  try {
    std::string full;
    if (folder >= 0 && name->starts_with(below_folder)) name = full = path_below(folder, *name);
    if (name->starts_with("/sys/")) return open_knob(*name, flags);
    const bool in_proc = name->starts_with("/proc/");
    const bool is_status = in_proc && descriptors::any() && name->ends_with("/status");
    if (!name->starts_with("/dev/") && !is_status && !(in_proc && name->ends_with("/fail-nth")))
      return std::nullopt;
    const fork_gate::entry inside;
    if (is_status) return open_status(*name, flags);
    const opened file = open_device(*name, flags);
    if (!file) return std::nullopt;
    int fd = -ENOTDIR;
    if (!*file) return -static_cast<int>(file->error().code);
    if ((flags & O_DIRECTORY) == 0) {
      fork_gate::watch();
      fd = (flags & O_CREAT) != 0 && (flags & O_EXCL) != 0
               ? -EEXIST
               : descriptors::of_process().install(**file, flags, std::string(*name).c_str());
    }
    if (fd < 0) (**file)->close();
    return fd;
  } catch (const std::bad_alloc&) {
    return -ENOMEM;
  }
}

template <class Otherwise>
int open_or(int folder, const char* path, int flags, Otherwise otherwise) {
  {
    const errno_keeper errno_stays;
    if (const std::optional<int> fd = open_ours(folder, path, flags))
      return errno_stays.answer(*fd);
  }
  return otherwise();
}

/// Only what is read from: nothing that is written through a FILE is ours.
template <class Otherwise>
FILE* fopen_or(const char* path, const char* mode, Otherwise otherwise) {
  if (descriptors::any() && std::string_view(mode) == "r") {
    const errno_keeper errno_stays;
    const std::optional<int> fd = open_ours(no_folder, path, O_RDONLY);
    if (fd && *fd >= 0) return ::fdopen(*fd, mode);
  }
  return otherwise();
}

bool has_mode(int flags) noexcept {
  return (flags & O_CREAT) != 0 || (flags & O_TMPFILE) == O_TMPFILE;
}

}  // namespace
}  // namespace interpose

using namespace interpose;

// The third argument, if there is one.
#define IOPT_MODE(mode)                                 \
  mode_t mode = 0;                                      \
  if (has_mode(flags)) {                                \
    va_list more;                                       \
    va_start(more, flags);                              \
    mode = static_cast<mode_t>(va_arg(more, unsigned)); \
    va_end(more);                                       \
  }

extern "C" {

IOPT_EXPORTED int open(const char* path, int flags, ...) {
  IOPT_MODE(mode)
  return open_or(no_folder, path, flags, [&] {
    return libc::next<int(const char*, int, ...), "open">()(path, flags, mode);
  });
}
IOPT_EXPORTED int open64(const char* path, int flags, ...) {
  IOPT_MODE(mode)
  return open_or(no_folder, path, flags, [&] {
    return libc::next<int(const char*, int, ...), "open64">()(path, flags, mode);
  });
}
IOPT_EXPORTED int __open(const char* path, int flags, ...) {
  IOPT_MODE(mode)
  return open_or(no_folder, path, flags, [&] {
    return libc::next<int(const char*, int, ...), "__open">()(path, flags, mode);
  });
}
IOPT_EXPORTED int __open64(const char* path, int flags, ...) {
  IOPT_MODE(mode)
  return open_or(no_folder, path, flags, [&] {
    return libc::next<int(const char*, int, ...), "__open64">()(path, flags, mode);
  });
}
IOPT_EXPORTED int openat(int folder, const char* path, int flags, ...) {
  IOPT_MODE(mode)
  return open_or(folder, path, flags, [&] {
    return libc::next<int(int, const char*, int, ...), "openat">()(folder, path, flags, mode);
  });
}
IOPT_EXPORTED int openat64(int folder, const char* path, int flags, ...) {
  IOPT_MODE(mode)
  return open_or(folder, path, flags, [&] {
    return libc::next<int(int, const char*, int, ...), "openat64">()(folder, path, flags, mode);
  });
}

// What programs built with _FORTIFY_SOURCE call.
IOPT_EXPORTED int __open_2(const char* path, int flags) {
  return open_or(no_folder, path, flags,
                 [&] { return libc::next<int(const char*, int), "__open_2">()(path, flags); });
}
IOPT_EXPORTED int __open64_2(const char* path, int flags) {
  return open_or(no_folder, path, flags,
                 [&] { return libc::next<int(const char*, int), "__open64_2">()(path, flags); });
}
IOPT_EXPORTED int __openat_2(int folder, const char* path, int flags) {
  return open_or(folder, path, flags, [&] {
    return libc::next<int(int, const char*, int), "__openat_2">()(folder, path, flags);
  });
}
IOPT_EXPORTED int __openat64_2(int folder, const char* path, int flags) {
  return open_or(folder, path, flags, [&] {
    return libc::next<int(int, const char*, int), "__openat64_2">()(folder, path, flags);
  });
}

IOPT_EXPORTED FILE* fopen(const char* path, const char* mode) {
  return fopen_or(path, mode, [&] {
    return libc::next<FILE*(const char*, const char*), "fopen">()(path, mode);
  });
}
IOPT_EXPORTED FILE* fopen64(const char* path, const char* mode) {
  return fopen_or(path, mode, [&] {
    return libc::next<FILE*(const char*, const char*), "fopen64">()(path, mode);
  });
}

IOPT_EXPORTED DIR* opendir(const char* path) {
  const errno_keeper errno_stays;
  DIR* const real = libc::next<DIR*(const char*), "opendir">()(path);
  if (real != nullptr) return real;
  errno_stays.passed(-1);
  short_path text;
  const auto name = plain(path, text);
  if (!name || !is_debugfs(*name)) return nullptr;
  const int fd = stand_in_for_debugfs();
  return fd < 0 ? nullptr : ::fdopendir(fd);
}

}  // extern "C"
