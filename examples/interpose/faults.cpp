// examples/interpose/faults.cpp - fault injection, and the files fail-nth.
#include "faults.hpp"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string_view>

#include "devices.hpp"
#include "iopt/backends/host/probe.hpp"

namespace interpose {
namespace {

using namespace iopt;

bool is_of_this_process(pid_t thread) noexcept { return ::tgkill(::getpid(), thread, 0) == 0; }

/// countdowns: how many failure points each thread still has to pass until one fails.
///
/// Threads are known by the kernel's number: in a fork no thread has one that was armed before.
///
/// Invariants  armed_ is the number of slots that are not 0.
/// Threads     Any. passes() takes no lock.
class countdowns {
 public:
  /// The thread's n-th failure point from now fails; with 0 none does. False without room.
  bool set(pid_t thread, std::uint32_t n) noexcept {
    const std::lock_guard held(lock_);
    for (slot& s : slots_)
      if (s != 0 && (of(s) == thread || !is_of_this_process(of(s)))) replace(s, 0);
    if (n == 0) return true;
    const auto room = std::ranges::find_if(slots_, [](const slot& s) { return s == 0; });
    if (room == slots_.end()) return false;
    replace(*room, static_cast<std::uint64_t>(thread) << 32 | n);
    return true;
  }
  std::uint32_t left(pid_t thread) const noexcept {
    for (const slot& s : slots_)
      if (const std::uint64_t seen = s; of(seen) == thread) return static_cast<std::uint32_t>(seen);
    return 0;
  }
  /// The calling thread passes a failure point: whether it fails there.
  bool passes() noexcept {
    if (armed_.load(std::memory_order_relaxed) == 0) return false;
    const pid_t self = ::gettid();
    for (slot& s : slots_) {
      std::uint64_t seen = s;
      while (seen != 0 && of(seen) == self) {
        const bool last = static_cast<std::uint32_t>(seen) == 1;
        if (!s.compare_exchange_weak(seen, last ? 0 : seen - 1)) continue;
        if (last) --armed_;
        return last;
      }
    }
    return false;
  }

 private:
  using slot = std::atomic<std::uint64_t>;  // a thread and, in the lower half, what it has left

  static pid_t of(std::uint64_t seen) noexcept { return static_cast<pid_t>(seen >> 32); }
  void replace(slot& s, std::uint64_t with) noexcept {
    const bool was = s.exchange(with) != 0;
    if (was && with == 0) --armed_;
    if (!was && with != 0) ++armed_;
  }

  std::mutex lock_;  // over who takes a slot
  std::array<slot, 64> slots_{};
  std::atomic<int> armed_ = 0;
};
constinit countdowns of_threads;

/// A number as the kernel takes it: decimal, or by its prefix; one newline may follow.
uapi::answer parse(std::string_view text, std::uint32_t& out) noexcept {
  text = text.substr(0, text.find('\0'));
  if (text.ends_with('\n')) text.remove_suffix(1);
  if (text.starts_with('+')) text.remove_prefix(1);
  int base = 10;
  if (text.starts_with("0x") || text.starts_with("0X")) {
    base = 16;
    text.remove_prefix(2);
  } else if (text.starts_with('0') && text.size() > 1) {
    base = 8;
  }
  const char* const end = text.data() + text.size();
  const auto [at, error] = std::from_chars(text.data(), end, out, base);
  if (at != end || error == std::errc::invalid_argument) return -EINVAL;
  return error == std::errc{} ? 0 : -ERANGE;
}

/// The file fail-nth of one thread.
class fail_nth_file final : public interposed_file {
 public:
  fail_nth_file(pid_t thread, int access) : thread_(thread), access_(access) {}

  file_kind kind() const noexcept override { return file_kind::fail_nth; }
  uapi::answer ioctl(std::uint32_t, std::uint64_t) override { return -ENOTTY; }

  uapi::answer read(std::uint64_t to, std::size_t size, std::uint64_t offset) override {
    if (access_ == O_WRONLY) return -EBADF;
    if (!is_of_this_process(thread_)) return -ESRCH;
    std::array<char, 12> room{};
    char* const end =
        std::to_chars(room.data(), room.data() + room.size() - 1, of_threads.left(thread_)).ptr;
    *end = '\n';
    const auto text = std::as_bytes(std::span(room.data(), end + 1));
    const auto part = text.subspan(std::min<std::uint64_t>(offset, text.size()));
    const auto given = part.first(std::min(part.size(), size));
    if (!given.empty() && !host::copy_to({to}, given)) return -EFAULT;
    return static_cast<uapi::answer>(given.size());
  }

  uapi::answer write(std::uint64_t from, std::size_t size, std::uint64_t) override {
    if (access_ == O_RDONLY) return -EBADF;
    std::array<char, 34> room{};  // as much as the kernel looks at
    const auto text = std::span(room).first(std::min(room.size(), size));
    if (!host::copy_from({from}, std::as_writable_bytes(text))) return -EFAULT;
    std::uint32_t n = 0;
    if (const uapi::answer bad = parse({text.data(), text.size()}, n); bad != 0) return bad;
    if (!is_of_this_process(thread_)) return -ESRCH;
    return of_threads.set(thread_, n) ? static_cast<uapi::answer>(size) : -ENOMEM;
  }

 private:
  const pid_t thread_;
  const int access_;  // O_RDONLY, O_WRONLY, O_RDWR
};

/// Takes "NUMBER/" off the front.
std::optional<pid_t> take_number(std::string_view& path) noexcept {
  pid_t number = 0;
  const auto [at, error] = std::from_chars(path.data(), path.data() + path.size(), number);
  const auto digits = static_cast<std::size_t>(at - path.data());
  if (error != std::errc{} || number <= 0 || path[0] == '0' || digits == path.size() || *at != '/')
    return std::nullopt;
  path.remove_prefix(digits + 1);
  return number;
}
bool take(std::string_view& path, std::string_view what) noexcept {
  if (!path.starts_with(what)) return false;
  path.remove_prefix(what.size());
  return true;
}

/// The thread of this process whose fail-nth that is.
std::optional<pid_t> thread_of(std::string_view path) noexcept {
  if (!take(path, "/proc/")) return std::nullopt;
  pid_t thread = 0;
  if (take(path, "thread-self/")) {
    thread = ::gettid();
  } else {
    if (!take(path, "self/") && take_number(path) != ::getpid()) return std::nullopt;
    thread = ::getpid();
    if (take(path, "task/")) {
      const auto number = take_number(path);
      if (!number || !is_of_this_process(*number)) return std::nullopt;
      thread = *number;
    }
  }
  if (path != "fail-nth") return std::nullopt;
  return thread;
}

}  // namespace

mock::fault_injector& faults() noexcept {
  static auto* const made =
      new mock::fault_injector([](mock::fault_point) noexcept { return of_threads.passes(); });
  return *made;
}

mock::memory_account& memory::account() noexcept {
  static auto* const made = new mock::memory_account(&faults());
  return *made;
}

opened open_fail_nth(std::string_view path, int flags) {
  const std::optional<pid_t> thread = thread_of(path);
  if (!thread) return std::nullopt;
  return file_pointer(std::make_shared<fail_nth_file>(*thread, flags & O_ACCMODE));
}

}  // namespace interpose
