// examples/interpose/descriptors.cpp - which descriptors are ours.
#include "descriptors.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <string>
#include <utility>

#include "family.hpp"
#include "fork_gate.hpp"
#include "libc.hpp"

namespace interpose {
namespace {

// A bit a number; greater ones are never ours (the kernel's default limit is as high).
constexpr unsigned most_numbers = 1U << 20;
constinit std::array<std::atomic<std::uint64_t>, most_numbers / 64> known{};
constinit std::atomic<bool> used = false;

bool fits(int fd) noexcept { return fd >= 0 && static_cast<unsigned>(fd) < most_numbers; }
void mark(int fd, bool on) noexcept {
  const unsigned n = static_cast<unsigned>(fd);
  const std::uint64_t bit = std::uint64_t{1} << (n % 64);
  if (on) {
    known[n / 64].fetch_or(bit);
  } else {
    known[n / 64].fetch_and(~bit);
  }
}

/// The system call itself: a number that is closed meanwhile is no race, whatever a sanitizer that
/// watches fstat() thinks of it.
bool look(int fd, struct stat& out) noexcept { return ::syscall(SYS_fstat, fd, &out) == 0; }

}  // namespace

class descriptors::dropped {
 public:
  dropped() = default;
  dropped(const dropped&) = delete;
  dropped& operator=(const dropped&) = delete;
  ~dropped() {
    for (const opening_pointer& o : openings_) o->file->close();
  }
  void add(opening_pointer o) { openings_.push_back(std::move(o)); }

 private:
  std::vector<opening_pointer> openings_;
};

descriptors& descriptors::of_process() {
  static descriptors* const made = new descriptors;
  return *made;
}

bool descriptors::may_know(int fd) noexcept {
  if (!fits(fd)) return false;
  const unsigned n = static_cast<unsigned>(fd);
  return (known[n / 64].load() >> (n % 64) & 1) != 0;
}
bool descriptors::any() noexcept { return used; }

bool descriptors::is(int fd, const opening& what) noexcept {
  struct stat seen{};
  return look(fd, seen) && seen.st_dev == what.device && seen.st_ino == what.inode;
}

void descriptors::erase(std::map<int, opening_pointer>::iterator at, dropped& out) {
  opening_pointer was = std::move(at->second);
  mark(at->first, false);
  numbers_.erase(at);
  if (was.use_count() == 1) out.add(std::move(was));
}
void descriptors::set(int fd, opening_pointer to, dropped& out) {
  if (!fits(fd)) return;
  if (const auto old = numbers_.find(fd); old != numbers_.end()) erase(old, out);
  numbers_.emplace(fd, std::move(to));
  mark(fd, true);
}

int descriptors::install(file_pointer file, int flags, const char* name) {
  if (family::served_child() != 0) return -EOPNOTSUPP;  // it would be ours, not the child's
  const int fd =
      ::memfd_create(name, MFD_ALLOW_SEALING | ((flags & O_CLOEXEC) != 0 ? MFD_CLOEXEC : 0U));
  struct stat made{};
  if (fd < 0 || !look(fd, made) || !fits(fd)) {
    const int why = fits(fd) || fd < 0 ? errno : EMFILE;
    if (fd >= 0) libc::close(fd);
    return -why;
  }
  // A device without a size: nothing can be written to it or mapped.
  libc::fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE);
  if ((flags & O_NONBLOCK) != 0) libc::fcntl(fd, F_SETFL, O_NONBLOCK);
  auto fresh = std::make_shared<opening>(opening{std::move(file), made.st_dev, made.st_ino});
  dropped gone;
  const std::lock_guard held(lock_);
  used = true;
  set(fd, std::move(fresh), gone);
  return fd;
}

file_pointer descriptors::find(std::uint64_t device, std::uint64_t inode) {
  const std::lock_guard held(lock_);
  for (const auto& [number, opened] : numbers_)
    if (opened->device == device && opened->inode == inode) return opened->file;
  return nullptr;
}
bool descriptors::any_shared() {
  const std::lock_guard held(lock_);
  return std::ranges::any_of(numbers_, [](const auto& n) { return n.second->file->is_shared(); });
}

file_pointer descriptors::find(int fd) {
  if (const pid_t child = family::served_child()) {
    const std::string path = "/proc/" + std::to_string(child) + "/fd/" + std::to_string(fd);
    struct stat seen{};
    return ::stat(path.c_str(), &seen) == 0 ? find(seen.st_dev, seen.st_ino) : nullptr;
  }
  dropped gone;
  const std::lock_guard held(lock_);
  if (const auto at = numbers_.find(fd); at != numbers_.end()) {
    if (is(fd, *at->second)) return at->second->file;
    erase(at, gone);
  }
  for (const auto& [number, opened] : numbers_) {
    if (!is(fd, *opened)) continue;
    file_pointer file = opened->file;
    if (fork_gate::own_process()) set(fd, opening_pointer(opened), gone);
    return file;
  }
  return nullptr;
}

void descriptors::duplicated(int fd, int copy) {
  dropped gone;
  const std::lock_guard held(lock_);
  const auto at = numbers_.find(fd);
  if (at != numbers_.end() && is(copy, *at->second)) set(copy, opening_pointer(at->second), gone);
}

void descriptors::closing(int fd) {
  if (fd >= 0) closing(static_cast<unsigned>(fd), static_cast<unsigned>(fd));
}
void descriptors::closing(unsigned first, unsigned last) {
  dropped gone;
  const std::lock_guard held(lock_);
  for (auto at = numbers_.begin(); at != numbers_.end();) {
    const auto next = std::next(at);
    const unsigned number = static_cast<unsigned>(at->first);
    if (number >= first && number <= last) erase(at, gone);
    at = next;
  }
}

void descriptors::sweep() {
  dropped gone;
  const std::lock_guard held(lock_);
  for (auto at = numbers_.begin(); at != numbers_.end();) {
    const auto next = std::next(at);
    if (!is(at->first, *at->second)) erase(at, gone);
    at = next;
  }
}

}  // namespace interpose
