// examples/interpose/status.cpp - /proc/PID/status, with what the process would have locked and pinned.
#include "status.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <string>

#include "family.hpp"
#include "libc.hpp"

namespace interpose {
namespace {

/// Adds to the number of "KEY:\t    NUMBER kB\n".
void add(std::string& text, std::string_view key, std::uint64_t pages) {
  const std::size_t at = text.find(key);
  if (pages == 0 || at == text.npos) return;
  const std::size_t first = text.find_first_of("0123456789", at);
  const std::size_t end = text.find(' ', first);
  if (first == text.npos || end == text.npos) return;
  std::uint64_t kb = 0;
  std::from_chars(text.data() + first, text.data() + end, kb);
  std::array<char, 24> number{};
  const int size = std::snprintf(number.data(), number.size(), "%8llu",
                                 static_cast<unsigned long long>(kb + 4 * pages));
  const std::size_t start = at + key.size();
  text.replace(start, end - start, number.data(), static_cast<std::size_t>(size));
}

std::optional<pid_t> process_of(std::string_view path) noexcept {
  constexpr std::string_view folder = "/proc/", name = "/status";
  if (!path.starts_with(folder) || !path.ends_with(name) ||
      path.size() <= folder.size() + name.size())
    return std::nullopt;
  path.remove_prefix(folder.size());
  path.remove_suffix(name.size());
  if (path == "self") return ::getpid();
  pid_t process = 0;
  const auto [at, error] = std::from_chars(path.data(), path.data() + path.size(), process);
  if (error != std::errc{} || at != path.data() + path.size()) return std::nullopt;
  return process;
}

}  // namespace

std::optional<int> open_status(std::string_view path, int flags) {
  const std::optional<pid_t> process = process_of(path);
  if (!process || (flags & O_ACCMODE) != O_RDONLY) return std::nullopt;
  const family::counts ours = family::counted(*process);
  if (ours.locked == 0 && ours.pinned == 0) return std::nullopt;
  const std::string name(path);
  const int real =
      libc::next<int(const char*, int, ...), "open">()(name.c_str(), O_RDONLY | O_CLOEXEC);
  if (real < 0) return std::nullopt;
  std::string text;
  std::array<char, 4096> part{};
  for (ssize_t got; (got = ::read(real, part.data(), part.size())) > 0;)
    text.append(part.data(), static_cast<std::size_t>(got));
  libc::close(real);
  add(text, "VmLck:\t", ours.locked);
  add(text, "VmPin:\t", ours.pinned);
  const int fd = ::memfd_create("status", (flags & O_CLOEXEC) != 0 ? MFD_CLOEXEC : 0U);
  if (fd < 0) return std::nullopt;
  const auto size = static_cast<off_t>(text.size());
  if (::pwrite(fd, text.data(), text.size(), 0) != size) {
    libc::close(fd);
    return std::nullopt;
  }
  return fd;
}

}  // namespace interpose
