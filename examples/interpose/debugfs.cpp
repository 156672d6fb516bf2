// examples/interpose/debugfs.cpp - what a test of fault injection looks for in /sys/kernel/debug.
#include "debugfs.hpp"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "libc.hpp"

namespace interpose {
namespace {

constexpr std::string_view root = "/sys/kernel/debug";
constexpr std::string_view stand_in = "/iopt-debugfs-";  // and six letters
constexpr std::string_view removed = " (deleted)";       // as the kernel says of a path

int open_real(const char* path, int flags) noexcept {
  const int fd = libc::next<int(const char*, int, ...), "open">()(path, flags);
  return fd < 0 ? -errno : fd;
}

}  // namespace

bool is_debugfs(std::string_view path) noexcept {
  if (path.ends_with('/')) path.remove_suffix(1);
  return path == root;
}

std::optional<int> open_knob(std::string_view path, int flags) noexcept {
  if (!path.starts_with(root) || (flags & O_ACCMODE) == O_RDONLY) return std::nullopt;
  path.remove_prefix(root.size());
  const std::size_t slash = path.rfind('/');
  if (!path.starts_with("/fail") || slash == 0 || path.find('/', 1) != slash) return std::nullopt;
  const std::string_view name = path.substr(slash + 1);
  if (name != "verbose" && name != "ignore-gfp-wait" && name != "ignore-gfp-highmem")
    return std::nullopt;
  return open_real("/dev/null", flags & (O_ACCMODE | O_CLOEXEC | O_NONBLOCK | O_DIRECTORY));
}

int stand_in_for_debugfs() noexcept {
  int fd = -ENOENT;
  for (const std::string_view folder : {"/tmp", "/dev/shm", "/var/tmp", "."}) {
    std::array<char, 40> name{};
    char* end = name.data();
    for (const std::string_view part : {folder, stand_in, std::string_view("XXXXXX")})
      end += part.copy(end, part.size());
    if (::mkdtemp(name.data()) == nullptr) continue;
    fd = open_real(name.data(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    ::rmdir(name.data());
    if (fd >= 0) return fd;
  }
  return fd;
}

std::string path_below(int folder, std::string_view name) {
  const std::string link = "/proc/self/fd/" + std::to_string(folder);
  std::array<char, 256> room;
  const ssize_t size = ::readlink(link.c_str(), room.data(), room.size());
  if (size < 0) return {};
  std::string_view at(room.data(), static_cast<std::size_t>(size));
  if (at.ends_with(removed)) {
    at.remove_suffix(removed.size());
    if (at.rfind('/') + stand_in.size() + 6 != at.size() ||
        !at.substr(at.rfind('/')).starts_with(stand_in))
      return {};
    at = root;
  }
  return std::string(at) + "/" + std::string(name);
}

}  // namespace interpose
