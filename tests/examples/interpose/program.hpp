// tests/examples/interpose/program.hpp - what the programs that are run on libiopt_interpose.so share.
//
// They are ordinary programs of libc calls: none of the library but the layout of VFIO's structs.
#pragma once

#include <dlfcn.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <source_location>
#include <string>
#include <vector>

#include "iopt/uapi/vfio/abi.hpp"

namespace interpose_test {

namespace abi = iopt::vfio::abi;

inline bool good = true;

/// One check of a test. What fails is told, and the program goes on.
inline void check(bool holds, const char* what,
                  std::source_location here = std::source_location::current()) {
  if (holds) return;
  good = false;
  std::fprintf(stderr, "%s:%u: %s (errno %d)\n", here.file_name(),
               static_cast<unsigned>(here.line()), what, errno);
}
inline void fails_with(long answer, int number, const char* what,
                       std::source_location here = std::source_location::current()) {
  const int seen = errno;
  if (answer == -1 && seen == number) return;
  good = false;
  std::fprintf(stderr, "%s:%u: %s: answered %ld, errno %d, not %d\n", here.file_name(),
               static_cast<unsigned>(here.line()), what, answer, seen, number);
}
#define CHECK(expression) ::interpose_test::check(expression, #expression)
#define FAILS(expression, number) ::interpose_test::fails_with(expression, number, #expression)

/// What the interposer counts, in kB.
inline long counted(const char* name) {
  const auto ask = reinterpret_cast<long (*)()>(::dlsym(RTLD_DEFAULT, name));
  return ask == nullptr ? -1 : ask();
}
inline long locked_kb() { return counted("iopt_vm_lck_kb"); }
inline long pinned_kb() { return counted("iopt_vm_pin_kb"); }

/// Memory of whole pages.
struct pages {
  explicit pages(std::size_t count, int protection = PROT_READ | PROT_WRITE)
      : bytes(count * 4096),
        data(static_cast<char*>(
            ::mmap(nullptr, bytes, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0))) {}
  pages(const pages&) = delete;
  pages& operator=(const pages&) = delete;
  ~pages() { ::munmap(data, bytes); }
  std::uint64_t address() const { return reinterpret_cast<std::uintptr_t>(data); }
  const std::size_t bytes;
  char* const data;
};

inline int map(int container, std::uint64_t vaddr, std::uint64_t iova, std::uint64_t bytes,
               std::uint32_t flags = abi::map_read | abi::map_write) {
  abi::dma_map m{sizeof m, flags, vaddr, iova, bytes};
  return ::ioctl(container, abi::iommu_map_dma, &m);
}
/// Bytes unmapped, or -1.
inline long unmap(int container, std::uint64_t iova, std::uint64_t bytes, std::uint32_t flags = 0) {
  abi::dma_unmap u{sizeof u, flags, iova, bytes};
  return ::ioctl(container, abi::iommu_unmap_dma, &u) != 0 ? -1 : static_cast<long>(u.size);
}
inline std::uint32_t group_flags(int group) {
  abi::group_status s{sizeof s, 0};
  return ::ioctl(group, abi::group_get_status, &s) == 0 ? s.flags : ~0U;
}
inline int set_container(int group, int container) {
  return ::ioctl(group, abi::group_set_container, &container);
}

/// A container with group 0 and type1 v2.
struct machine {
  int container = ::open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC);
  int group = ::open("/dev/vfio/0", O_RDWR | O_CLOEXEC);
  machine() {
    CHECK(container >= 0 && group >= 0);
    CHECK(set_container(group, container) == 0);
    CHECK(::ioctl(container, abi::set_iommu, abi::type1v2_iommu) == 0);
  }
  machine(const machine&) = delete;
  machine& operator=(const machine&) = delete;
  ~machine() {
    ::close(group);
    ::close(container);
  }
};

/// How a child ended: its exit status, or 256 and the signal.
inline int ended(pid_t child) {
  int status = 0;
  if (::waitpid(child, &status, 0) != child) return -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 256 + WTERMSIG(status);
}

/// Runs this program anew with an argument and more environment ("NAME=value").
inline pid_t run_self(const char* argument, const std::vector<std::string>& environment) {
  const pid_t child = ::fork();
  if (child != 0) return child;
  for (const std::string& e : environment) ::putenv(const_cast<char*>(e.c_str()));
  ::execl("/proc/self/exe", "interpose", argument, static_cast<char*>(nullptr));
  ::_exit(127);
}

}  // namespace interpose_test
