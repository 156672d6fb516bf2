// tests/backends/host/probe_test.cpp - touching memory without being killed for it.
#include "iopt/backends/host/probe.hpp"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstring>
#include <thread>
#include <utility>
#include <vector>

#include "tests/catch.hpp"

namespace {

using namespace iopt;
using host::system_calls;
using iopt::access_rights;  // not that of unistd.h

/// Pages of this process that are unmapped at the end.
struct pages_here {
  std::byte* base;
  std::size_t bytes;
  explicit pages_here(std::size_t count, int flags = MAP_PRIVATE | MAP_ANONYMOUS, int file = -1)
      : base(static_cast<std::byte*>(
            ::mmap(nullptr, count * 4096, PROT_READ | PROT_WRITE, flags, file, 0))),
        bytes(count * 4096) {
    REQUIRE(static_cast<void*>(base) != MAP_FAILED);
  }
  ~pages_here() { ::munmap(base, bytes); }
  pages_here(const pages_here&) = delete;
  pages_here& operator=(const pages_here&) = delete;
  user_range range(std::size_t first, std::size_t count) const {
    return user_range::sized({reinterpret_cast<std::uintptr_t>(base) + first * 4096}, count * 4096);
  }
  void* page(std::size_t n) const { return base + n * 4096; }
};

TEST_CASE("probe: the good pages before a bad one are counted exactly") {
  for (const system_calls calls : {system_calls::best, system_calls::portable}) {
    for (std::size_t bad = 0; bad != 17; ++bad) {
      for (const int kind : {0, 1, 2}) {
        CAPTURE(bad, kind, static_cast<int>(calls));
        pages_here memory(20);
        if (kind == 0) REQUIRE(::munmap(memory.page(bad), 4096) == 0);
        if (kind == 1) REQUIRE(::mprotect(memory.page(bad), 4096, PROT_NONE) == 0);
        if (kind == 2) REQUIRE(::mprotect(memory.page(bad), 4096, PROT_READ) == 0);
        for (const access_rights rights : {access_rights::none, access_rights::read,
                                           access_rights::read_write, access_rights::write}) {
          const bool fails = kind != 2 || allows(rights, access_rights::write);
          const result<std::uint64_t> answer =
              host::touchable_bytes(memory.range(0, 20), rights, calls);
          if (fails && bad == 0)
            CHECK(answer.error() == errc::bad_address);
          else
            CHECK(answer.value() == (fails ? bad : 20) * 4096);
        }
        CHECK(host::touchable_bytes(memory.range(bad + 1, 19 - bad), access_rights::write, calls)
                  .value() == (19 - bad) * 4096);
      }
    }
  }
}

TEST_CASE("probe: past the end of a file") {
  const int file = ::memfd_create("probe", MFD_CLOEXEC);
  REQUIRE(::ftruncate(file, 3 * 4096) == 0);
  pages_here memory(8, MAP_SHARED, file);
  for (const system_calls calls : {system_calls::best, system_calls::portable}) {
    for (const access_rights rights : {access_rights::read, access_rights::write}) {
      CHECK(host::touchable_bytes(memory.range(0, 8), rights, calls).value() == 3 * 4096);
      CHECK(host::touchable_bytes(memory.range(3, 5), rights, calls).error() == errc::bad_address);
    }
  }
  ::close(file);
}

TEST_CASE("probe: addresses that no process has") {
  for (const system_calls calls : {system_calls::best, system_calls::portable}) {
    for (const std::uint64_t first : {std::uint64_t{0}, std::uint64_t{1} << 47, top - 8191}) {
      CAPTURE(first);
      CHECK(host::touchable_bytes({{first}, {first + 8191}}, access_rights::read, calls).error() ==
            errc::bad_address);
      CHECK(host::touchable_bytes({{first}, {first + 8191}}, access_rights::write, calls).error() ==
            errc::bad_address);
      std::byte byte{};
      CHECK(host::copy_from({first}, {&byte, 1}, calls).error() == errc::bad_address);
      CHECK(host::copy_to({first}, {&byte, 1}, calls).error() == errc::bad_address);
    }
    std::array<std::byte, 16> bytes{};
    CHECK(host::copy_from({top - 3}, bytes, calls).error() == errc::bad_address);
    CHECK(host::copy_from({top}, {}, calls).has_value());
  }
}

TEST_CASE("probe: bytes keep their values, also while another thread writes them") {
  for (const system_calls calls : {system_calls::best, system_calls::portable}) {
    pages_here memory(4);
    for (std::size_t n = 0; n != memory.bytes; ++n) memory.base[n] = static_cast<std::byte>(n * 7);
    REQUIRE(host::touchable_bytes(memory.range(0, 4), access_rights::write, calls).has_value());
    for (std::size_t n = 0; n != memory.bytes; ++n)
      if (memory.base[n] != static_cast<std::byte>(n * 7)) FAIL("byte " << n);

    auto& word = *reinterpret_cast<std::atomic<std::uint32_t>*>(memory.page(1));
    word = 0;
    std::atomic<bool> done{false};
    std::thread writer([&] {
      for (int n = 0; n != 100'000; ++n) word.fetch_add(1, std::memory_order_relaxed);
      done = true;
    });
    while (!done)
      if (!host::touchable_bytes(memory.range(0, 4), access_rights::write, calls)) break;
    writer.join();
    CHECK(word == 100'000);
  }
}

TEST_CASE("probe: a word that holds what the futex call compares with") {
  pages_here memory(1);
  const std::uint32_t unlikely = 0x9e3779b9;
  std::memcpy(memory.base, &unlikely, sizeof unlikely);
  CHECK(host::touchable_bytes(memory.range(0, 1), access_rights::read, system_calls::portable)
            .value() == 4096);
}

TEST_CASE("probe: copies stop at the byte that fails") {
  for (const system_calls calls : {system_calls::best, system_calls::portable}) {
    pages_here memory(6);
    for (std::size_t n = 0; n != memory.bytes; ++n) memory.base[n] = static_cast<std::byte>(n / 11);
    const user_address start = memory.range(0, 1).first;
    std::vector<std::byte> buffer(5 * 4096);
    CHECK(host::copy_from(start + 100, {buffer.data(), 3 * 4096}, calls).has_value());
    CHECK(std::memcmp(buffer.data(), memory.base + 100, 3 * 4096) == 0);
    std::memset(buffer.data(), 0x5a, buffer.size());
    CHECK(host::copy_to(start + 50, {buffer.data(), 4097}, calls).has_value());
    CHECK(memory.base[49] == std::byte{49 / 11});
    CHECK(memory.base[50] == std::byte{0x5a});
    CHECK(memory.base[50 + 4096] == std::byte{0x5a});
    CHECK(memory.base[51 + 4096] == static_cast<std::byte>((51 + 4096) / 11 % 256));

    REQUIRE(::mprotect(memory.page(3), 4096, PROT_READ) == 0);
    const result<void> written = host::copy_to(start + 100, {buffer.data(), buffer.size()}, calls);
    CHECK(written.error() == errc::bad_address);
    CHECK(written.error().place == error_place::request_byte);
    CHECK(written.error().at == 3 * 4096 - 100);
    CHECK(memory.base[3 * 4096 - 1] == std::byte{0x5a});
    CHECK(host::copy_from(start + 3 * 4096, {buffer.data(), 4096}, calls).has_value());

    REQUIRE(::munmap(memory.page(4), 4096) == 0);
    const result<void> read = host::copy_from(start + 5000, {buffer.data(), 4 * 4096}, calls);
    CHECK(read.error() == errc::bad_address);
    CHECK(read.error().at == 4 * 4096 - 5000);
  }
}

/// From now on, in this process: MADV_POPULATE_* is refused with `advice`, and process_vm_* with `number`.
bool become_old_kernel(std::uint32_t number, std::uint32_t advice) {
  const auto jump = [](std::uint32_t value, std::uint8_t then, std::uint8_t otherwise) {
    return sock_filter{BPF_JMP | BPF_JEQ | BPF_K, then, otherwise, value};
  };
  // The numbers of a jump are instructions to skip.
  std::array<sock_filter, 9> program = {{
      {BPF_LD | BPF_W | BPF_ABS, 0, 0, offsetof(seccomp_data, nr)},
      jump(SYS_process_vm_readv, 4, 0),
      jump(SYS_process_vm_writev, 3, 0),
      jump(SYS_madvise, 0, 4),
      {BPF_LD | BPF_W | BPF_ABS, 0, 0, offsetof(seccomp_data, args) + 2 * sizeof(std::uint64_t)},
      {BPF_JMP | BPF_JGE | BPF_K, 1, 2, 22},
      {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ERRNO | number},
      {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ERRNO | advice},
      {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW},
  }};
  const sock_fprog filter{static_cast<unsigned short>(program.size()), program.data()};
  return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
}

TEST_CASE("probe: a kernel or a sandbox without the best calls gives the same answers") {
  // EINVAL: before 5.14. ENOSYS: no such system call, as without CONFIG_ADVISE_SYSCALLS.
  for (const auto& [number, advice] :
       {std::pair{ENOSYS, EINVAL}, {EPERM, EINVAL}, {ENOSYS, ENOSYS}, {EPERM, EPERM}}) {
    CAPTURE(number, advice);
    pages_here memory(8);
    REQUIRE(::mprotect(memory.page(5), 4096, PROT_READ) == 0);
    REQUIRE(::munmap(memory.page(7), 4096) == 0);
    const pid_t child = ::fork();
    if (child == 0) {  // the exit status is the number of the first check that fails
      if (!become_old_kernel(static_cast<std::uint32_t>(number),
                             static_cast<std::uint32_t>(advice)))
        ::_exit(100);
      if (::madvise(memory.base, 0, MADV_POPULATE_READ) == 0 || errno != advice) ::_exit(101);
      std::array<std::byte, 3 * 4096> bytes{};
      if (host::touchable_bytes(memory.range(0, 8), access_rights::read).value_or(0) != 7 * 4096)
        ::_exit(1);
      if (host::touchable_bytes(memory.range(0, 8), access_rights::write).value_or(0) != 5 * 4096)
        ::_exit(2);
      if (host::touchable_bytes(memory.range(7, 1), access_rights::read)) ::_exit(3);
      if (!host::copy_to(memory.range(1, 1).first + 9, bytes)) ::_exit(4);
      if (!host::copy_from(memory.range(4, 1).first, bytes)) ::_exit(5);
      const result<void> past = host::copy_to(memory.range(4, 1).first, bytes);
      if (past || past.error().at != 4096) ::_exit(6);
      ::_exit(0);
    }
    REQUIRE(child > 0);
    int status = -1;
    REQUIRE(::waitpid(child, &status, 0) == child);
    REQUIRE(WIFEXITED(status));
    if (WEXITSTATUS(status) == 100) {
      WARN("this sandbox allows no seccomp filter");
      return;
    }
    CHECK(WEXITSTATUS(status) == 0);
  }
}

}  // namespace
