// examples/interpose/family.cpp - the process that opened a device answers for its children.
#include "family.hpp"

#include <linux/capability.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstring>
#include <memory>
#include <new>
#include <utility>
#include <vector>

#include "descriptors.hpp"
#include "devices.hpp"
#include "fork_gate.hpp"
#include "iopt/backends/host/checked_caller.hpp"
#include "libc.hpp"

namespace interpose::family {
namespace {

using namespace iopt;

[[gnu::tls_model("initial-exec")]] thread_local pid_t child_served = 0;

/// A call, as it goes through the socket: an ioctl, or without an inode a question for counts. What comes
/// back is a reply. Both are one packet.
struct call {
  std::uint64_t device, inode;  // of the descriptor
  std::uint64_t argument;       // or the process that the counts are of
  std::uint32_t request;
};
struct reply {
  uapi::answer answer;
  counts counted;
};

/// Where this process listens for its children, once it has forked with something to share.
struct server {
  int socket = -1;
  bool has_thread = false;
  sockaddr_un at{};
  socklen_t at_bytes = 0;
};
constinit server own{};
std::vector<server>& parents() {
  static auto* const made = new std::vector<server>;
  return *made;
}

counts counted_here(pid_t process) noexcept {
  return {pinner().locked_vm({process}), pinner().pinned_vm({process})};
}

/// The name is the kernel's choice, and seen by this machine's programs alone.
bool listen() noexcept {
  own.socket = ::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  if (own.socket < 0) return false;
  own.at.sun_family = AF_UNIX;
  own.at_bytes = sizeof own.at;
  if (::bind(own.socket, reinterpret_cast<const sockaddr*>(&own.at), sizeof own.at.sun_family) ==
          0 &&
      ::getsockname(own.socket, reinterpret_cast<sockaddr*>(&own.at), &own.at_bytes) == 0 &&
      ::listen(own.socket, 64) == 0)
    return true;
  libc::close(own.socket);
  own.socket = -1;
  return false;
}

uapi::answer answer_call(const call& c, pid_t child) noexcept {
  const fork_gate::entry inside;
  const file_pointer file = descriptors::of_process().find(c.device, c.inode);
  if (file == nullptr) return -EBADF;
  child_served = child;
  uapi::answer said = -ENOMEM;
  try {
    said = file->ioctl(c.request, c.argument);
  } catch (const std::bad_alloc&) {
  }
  child_served = 0;
  return said;
}

/// One call of each that connects.
void* serve(void*) noexcept {
  const int socket = own.socket;
  for (;;) {
    const int peer = ::accept4(socket, nullptr, nullptr, SOCK_CLOEXEC);
    if (peer < 0) {
      if (errno == EINTR || errno == ECONNABORTED) continue;
      return nullptr;  // closed by the program
    }
    ucred who{};
    socklen_t bytes = sizeof who;
    call c{};
    if (::getsockopt(peer, SOL_SOCKET, SO_PEERCRED, &who, &bytes) == 0 && who.uid == ::geteuid() &&
        ::recv(peer, &c, sizeof c, 0) == sizeof c) {
      reply said{};
      if (c.inode == 0) {
        said.counted = counted_here(static_cast<pid_t>(c.argument));
      } else {
        said.answer = answer_call(c, who.pid);
      }
      ::send(peer, &said, sizeof said, MSG_NOSIGNAL);
    }
    libc::close(peer);
  }
}

bool receive(int socket, reply& said) noexcept {
  ssize_t got;
  do {
    got = ::recv(socket, &said, sizeof said, 0);
  } while (got < 0 && errno == EINTR);
  return got == sizeof said;
}
/// EIO where the parent is gone.
reply ask(const server& whom, const call& c) noexcept {
  reply said{};
  const int socket = ::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  if (socket < 0) return {-errno, {}};
  if (::connect(socket, reinterpret_cast<const sockaddr*>(&whom.at), whom.at_bytes) != 0 ||
      ::send(socket, &c, sizeof c, MSG_NOSIGNAL) != sizeof c || !receive(socket, said))
    said = {-EIO, {}};
  libc::close(socket);
  return said;
}

/// inherited_file: in a child, a file of its parent's.
class inherited_file final : public interposed_file {
 public:
  inherited_file(file_kind kind, std::uint64_t device, std::uint64_t inode, const server& whose)
      : kind_(kind), device_(device), inode_(inode), whose_(whose) {}
  file_kind kind() const noexcept override { return kind_; }
  bool is_shared() const noexcept override { return false; }  // the parent's parent is asked itself
  uapi::answer ioctl(std::uint32_t request, std::uint64_t argument) override {
    return ask(whose_, {device_, inode_, argument, request}).answer;
  }

 private:
  file_kind kind_;
  std::uint64_t device_, inode_;
  server whose_;
};

}  // namespace

pid_t served_child() noexcept { return child_served; }
pid_t calling_process() noexcept { return child_served != 0 ? child_served : ::getpid(); }

bool caller_memory::contains(user_address at, std::uint64_t bytes) const noexcept {
  return host::checked_caller{}.contains(at, bytes);
}
bool caller_memory::read(user_address at, std::span<std::byte> to) noexcept {
  host::shared_pinner& memory = pinner();
  return contains(at, to.size()) && memory.read({calling_process()}, at, to).has_value();
}
bool caller_memory::write(user_address at, std::span<const std::byte> from) noexcept {
  host::shared_pinner& memory = pinner();
  return contains(at, from.size()) && memory.write({calling_process()}, at, from).has_value();
}

bool child_may(capability what) noexcept {
  const unsigned number = what == capability::lock_memory ? CAP_IPC_LOCK
                          : what == capability::raw_io    ? CAP_SYS_RAWIO
                                                          : CAP_SYS_RESOURCE;
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, child_served};
  __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {};
  return ::syscall(SYS_capget, &header, data) == 0 &&
         (data[number / 32].effective >> (number % 32) & 1) != 0;
}

counts counted(pid_t process) {
  counts sum{};
  // What a copy of a parent's says of the parent, the parent knows better.
  if (process == ::getpid() || parents().empty()) sum = counted_here(process);
  for (const server& p : parents()) {
    const counts more = ask(p, {0, 0, static_cast<std::uint64_t>(process), 0}).counted;
    sum.locked += more.locked;
    sum.pinned += more.pinned;
  }
  return sum;
}

void before_fork() noexcept {
  if (own.socket < 0 && descriptors::of_process().any_shared()) static_cast<void>(listen());
}
void after_fork_in_parent() noexcept {
  if (own.socket < 0 || own.has_thread) return;
  sigset_t all, before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  pthread_t made;
  own.has_thread = ::pthread_create(&made, nullptr, &serve, nullptr) == 0;
  if (own.has_thread) ::pthread_detach(made);
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
}
void after_fork_in_child() noexcept {
  child_served = 0;
  if (own.socket < 0) return;
  const server parent = std::exchange(own, {});
  libc::close(parent.socket);
  parents().push_back(parent);
  descriptors::of_process().put_away(
      [&](file_kind kind, std::uint64_t device, std::uint64_t inode) -> file_pointer {
        return std::make_shared<inherited_file>(kind, device, inode, parent);
      });
}

}  // namespace interpose::family
