// tests/examples/interpose/client.cpp - an unmodified program of VFIO, run on libiopt_interpose.so.
//
//   client CASE   runs one case; main() names them
#include <dirent.h>
#include <poll.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <string_view>
#include <thread>

#include "tests/examples/interpose/program.hpp"

#if defined(__has_feature)
#define IOPT_THREAD_SANITIZER __has_feature(thread_sanitizer)
#elif defined(__SANITIZE_THREAD__)
#define IOPT_THREAD_SANITIZER 1
#else
#define IOPT_THREAD_SANITIZER 0
#endif

namespace {

using namespace interpose_test;

// From opening to closing, as a VMM does it.
void flow() {
  const int container = ::open("/dev/vfio/vfio", O_RDWR);
  CHECK(container >= 0);
  CHECK(::ioctl(container, abi::get_api_version) == 0);
  CHECK(::ioctl(container, abi::check_extension, abi::type1v2_iommu) == 1);
  CHECK(::ioctl(container, abi::check_extension, abi::noiommu_iommu) == 0);
  FAILS(::ioctl(container, abi::set_iommu, abi::type1v2_iommu), EINVAL);
  const int group = ::open("/dev//vfio/./0", O_RDWR);
  CHECK(group >= 0);
  CHECK(group_flags(group) == abi::group_viable);
  CHECK(set_container(group, container) == 0);
  CHECK(group_flags(group) == (abi::group_viable | abi::group_container_set));
  FAILS(map(container, 0, 0, 4096), EINVAL);
  FAILS(::ioctl(container, abi::set_iommu, 77L), ENODEV);
  CHECK(::ioctl(container, abi::set_iommu, abi::type1v2_iommu) == 0);
  CHECK(::ioctl(container, abi::check_extension, abi::dma_cc_iommu) == 0);
  CHECK(::ioctl(container, abi::check_extension, abi::update_vaddr) == 1);

  alignas(8) std::array<char, 4096> room{};
  abi::type1_info info{room.size(), 0, 0, 0, 0};
  std::memcpy(room.data(), &info, sizeof info);
  CHECK(::ioctl(container, abi::iommu_get_info, room.data()) == 0);
  std::memcpy(&info, room.data(), sizeof info);
  CHECK(info.page_sizes == 0x40201000 && info.cap_offset == 24);

  const pages memory(16);
  CHECK(map(container, memory.address(), 0x100000, memory.bytes) == 0);
  CHECK(locked_kb() == 64);
  CHECK(pinned_kb() == 0);
  FAILS(map(container, memory.address(), 0x101000, 4096), EEXIST);
  FAILS(map(container, memory.address(), 0xfee00000, 4096), EINVAL);
  FAILS(map(container, memory.address(), 0x8000000000, 4096), EINVAL);
  FAILS(unmap(container, 0x100000, 4096), EINVAL);
  CHECK(unmap(container, 0x100000, memory.bytes) == static_cast<long>(memory.bytes));
  CHECK(unmap(container, 0x100000, memory.bytes) == 0);
  CHECK(locked_kb() == 0);

  const char device[] = "0000:00:01.0";
  FAILS(::ioctl(group, abi::group_get_device_fd, device), ENODEV);
  CHECK(map(container, memory.address(), 0, memory.bytes) == 0);
  CHECK(::ioctl(group, abi::group_unset_container) == 0);
  CHECK(locked_kb() == 0);
  FAILS(::ioctl(group, abi::group_unset_container), EINVAL);
  CHECK(::close(group) == 0);
  CHECK(::close(container) == 0);
  FAILS(::ioctl(container, abi::get_api_version), EBADF);
}

// Whatever a program passes, it is an errno.
void refusals() {
  const machine m;
  const pages memory(3);
  ::mprotect(memory.data + 4096, 4096, PROT_READ);
  ::mprotect(memory.data + 8192, 4096, PROT_NONE);
  constexpr std::uint64_t hole = 0x20000;  // so low is nothing
  const auto at = [&](std::size_t offset) { return memory.data + offset; };
  void* const bad[] = {nullptr,
                       reinterpret_cast<void*>(8),
                       at(8192),
                       at(8184),
                       at(12288 - 8),
                       reinterpret_cast<void*>(hole),
                       reinterpret_cast<void*>(~std::uintptr_t{0} - 7),
                       reinterpret_cast<void*>(std::uintptr_t{1} << 63)};
  for (void* const p : bad) {
    for (const std::uint32_t request :
         {abi::iommu_get_info, abi::iommu_map_dma, abi::iommu_unmap_dma, abi::iommu_dirty_pages}) {
      // Eight bytes are there, and say that there are more.
      const bool some = p == at(8184) && request == abi::iommu_dirty_pages;
      if (!some) FAILS(::ioctl(m.container, request, p), EFAULT);
    }
    for (const std::uint32_t request :
         {abi::group_get_status, abi::group_set_container, abi::group_get_device_fd})
      if (p != at(8184)) FAILS(::ioctl(m.group, request, p), EFAULT);
  }
  // It can be read, and what is answered cannot be written.
  FAILS(::ioctl(m.group, abi::group_get_status, at(4096)), EINVAL);
  ::mprotect(at(4096), 4096, PROT_READ | PROT_WRITE);
  const abi::group_status status{sizeof status, 0};
  std::memcpy(at(4096), &status, sizeof status);
  ::mprotect(at(4096), 4096, PROT_READ);
  FAILS(::ioctl(m.group, abi::group_get_status, at(4096)), EFAULT);

  // More than there is: what is not there is not looked at, or is an errno.
  abi::dma_map huge{~0U, abi::map_read, memory.address(), 0, 4096};
  std::memcpy(at(4096 - sizeof huge), &huge, sizeof huge);
  CHECK(::ioctl(m.container, abi::iommu_map_dma, at(4096 - sizeof huge)) == 0);
  abi::dma_unmap gone{~0U, 0, 0, 4096};
  std::memcpy(at(4096 - sizeof gone), &gone, sizeof gone);
  CHECK(::ioctl(m.container, abi::iommu_unmap_dma, at(4096 - sizeof gone)) == 0);
  const abi::type1_info info{~0U, 0, 0, 0, 0};
  std::memcpy(at(4096 - sizeof info), &info, sizeof info);
  FAILS(::ioctl(m.container, abi::iommu_get_info, at(4096 - sizeof info)), EFAULT);
  huge.argsz = 31;
  FAILS(::ioctl(m.container, abi::iommu_map_dma, &huge), EINVAL);

  // Memory that a device could not reach.
  FAILS(map(m.container, memory.address() + 8192, 0, 4096), EFAULT);
  FAILS(map(m.container, hole, 0, 4096), EFAULT);
  FAILS(map(m.container, memory.address() + 4096, 0, 4096), EFAULT);
  CHECK(map(m.container, memory.address() + 4096, 0, 4096, abi::map_read) == 0);
  FAILS(map(m.container, memory.address(), 0x10000, 3 * 4096, abi::map_read), EFAULT);
  FAILS(map(m.container, std::uint64_t{1} << 60, 0x10000, 4096), EFAULT);
  CHECK(locked_kb() == 4);

  FAILS(::ioctl(m.container, abi::request(99)), ENOTTY);
  FAILS(::ioctl(m.container, 0x12345678UL), ENOTTY);
  FAILS(::ioctl(m.group, abi::get_api_version), ENOTTY);
  FAILS(set_container(m.group, m.container), EINVAL);
  const int other = ::open("/dev/vfio/1", O_RDWR);
  FAILS(set_container(other, -1), EBADF);
  FAILS(set_container(other, 1234), EBADF);
  FAILS(set_container(other, STDERR_FILENO), EBADFD);
  FAILS(set_container(other, other), EBADFD);
  ::close(other);
  FAILS(::open("/dev/vfio/0", O_RDWR), EBUSY);
  FAILS(::open("/dev/vfio/0", O_RDWR | O_DIRECTORY), EBUSY);
  FAILS(::open("/dev/vfio/vfio", O_RDWR | O_CREAT | O_EXCL, 0600), EEXIST);
  FAILS(::open("/dev/vfio/vfio", O_RDONLY | O_DIRECTORY), ENOTDIR);
  char byte = 0;
  FAILS(::read(m.container, &byte, 1), EINVAL);
  FAILS(::write(m.container, "x", 1), EINVAL);
  FAILS(::pread(m.container, &byte, 1, 0), EINVAL);
  FAILS(::pwrite(m.container, "x", 1, 0), EINVAL);
}

// Who lives as long as whom.
void order_of_closing() {
  const pages memory(2);
  {  // the group holds the container
    machine m;
    CHECK(map(m.container, memory.address(), 0, 8192) == 0);
    const int copy = ::dup(m.container);
    CHECK(::close(m.container) == 0 && ::close(copy) == 0);
    CHECK(group_flags(m.group) == (abi::group_viable | abi::group_container_set));
    CHECK(locked_kb() == 8);
    CHECK(::close(m.group) == 0);
    CHECK(locked_kb() == 0);
    m.container = ::open("/dev/vfio/vfio", O_RDWR);
    m.group = ::open("/dev/vfio/0", O_RDWR);
    CHECK(group_flags(m.group) == abi::group_viable);
    CHECK(set_container(m.group, m.container) == 0);
  }
  {  // the last group takes the mappings with it
    machine m;
    CHECK(map(m.container, memory.address(), 0, 8192) == 0);
    const int second = ::open("/dev/vfio/1", O_RDWR);
    CHECK(set_container(second, m.container) == 0);
    CHECK(::close(m.group) == 0);
    CHECK(unmap(m.container, 0, 4096 * 2) == 8192);
    CHECK(map(m.container, memory.address(), 0, 8192) == 0);
    CHECK(::close(second) == 0);
    CHECK(locked_kb() == 0);
    FAILS(unmap(m.container, 0, 8192), EINVAL);
    m.group = ::open("/dev/vfio/0", O_RDWR);
    CHECK(m.group >= 0);
    CHECK(set_container(m.group, m.container) == 0);
    CHECK(::ioctl(m.container, abi::set_iommu, abi::type1_iommu) == 0);
  }
  {  // two containers know nothing of each other
    const machine m;
    const int container = ::open("/dev/vfio/vfio", O_RDWR);
    const int group = ::open("/dev/vfio/1", O_RDWR);
    CHECK(set_container(group, container) == 0);
    CHECK(::ioctl(container, abi::set_iommu, abi::type1_iommu) == 0);
    CHECK(map(m.container, memory.address(), 0, 8192) == 0);
    CHECK(map(container, memory.address(), 0, 8192) == 0);
    CHECK(locked_kb() == 16);
    ::close(container);
    ::close(group);
    CHECK(locked_kb() == 8);
  }
  CHECK(locked_kb() == 0);
}

bool is_open(int fd) { return ::fcntl(fd, F_GETFD) >= 0; }

// However a descriptor is copied and closed, it is a descriptor.
void descriptors() {
  const pages memory(1);
  {
    machine m;
    struct stat seen{};
    CHECK(::fstat(m.container, &seen) == 0);
    pollfd ready{m.container, POLLIN, 0};
    CHECK(::poll(&ready, 1, 0) >= 0);
    CHECK(::fcntl(m.container, F_GETFD) == FD_CLOEXEC);
    int copies[] = {::dup(m.container),
                    ::dup2(m.container, 200),
                    ::dup3(m.container, 201, O_CLOEXEC),
                    ::fcntl(m.container, F_DUPFD, 210),
                    ::fcntl(m.container, F_DUPFD_CLOEXEC, 220),
                    static_cast<int>(::syscall(SYS_dup, m.container))};
    CHECK(copies[1] == 200 && copies[2] == 201 && copies[3] >= 210 && copies[4] >= 220);
    CHECK(::fcntl(201, F_GETFD) == FD_CLOEXEC && ::fcntl(200, F_GETFD) == 0);
    CHECK(::dup2(200, 200) == 200);
    ::close(m.container);
    for (const int fd : copies) {
      CHECK(map(fd, memory.address(), 0, 4096) == 0);
      CHECK(unmap(fd, 0, 4096) == 4096);
    }
    CHECK(map(200, memory.address(), 0, 4096) == 0);
    // Something else takes its number.
    const int null = ::open("/dev/null", O_RDWR);
    CHECK(::dup2(null, 200) == 200);
    FAILS(map(200, memory.address(), 0, 4096), ENOTTY);
    FAILS(map(copies[3], memory.address(), 0, 4096), EEXIST);
    CHECK(::dup2(copies[3], null) == null);
    CHECK(unmap(null, 0, 4096) == 4096);
    m.container = null;
    ::close(200);
    for (const int fd : copies) ::close(fd);
  }
  {  // closed behind our back, and taken by another
    const machine m;
    const int held = ::open("/dev/vfio/1", O_RDWR);
    ::syscall(SYS_close, held);
    const int null = ::open("/dev/null", O_RDWR);
    CHECK(null == held);
    FAILS(::ioctl(null, abi::group_unset_container), ENOTTY);
    CHECK(::write(null, "x", 1) == 1);
    const int again = ::open("/dev/vfio/1", O_RDWR);
    CHECK(again >= 0);
    CHECK(::close(null) == 0);
    CHECK(group_flags(again) == abi::group_viable);
    ::close(again);
  }
  {  // ranges of them
    const int first = ::open("/dev/vfio/1", O_RDWR);
    CHECK(::dup2(first, 300) == 300 && ::dup2(first, 310) == 310);
    ::close(first);
    CHECK(::close_range(300, 305, 0) == 0);
    CHECK(!is_open(300) && group_flags(310) == abi::group_viable);
    FAILS(::open("/dev/vfio/1", O_RDWR), EBUSY);
    ::closefrom(306);
    CHECK(!is_open(310));
    const int again = ::open("/dev/vfio/1", O_RDWR);
    CHECK(again >= 0);
    CHECK(::close(again) == 0);
  }
  FAILS(::dup2(-1, 5), EBADF);
  FAILS(::close(-1), EBADF);
}

// A fork has its own copy.
void forks() {
  const machine m;
  const pages memory(4);
  CHECK(map(m.container, memory.address(), 0, 8192) == 0);
  const pid_t child = ::fork();
  if (child == 0) {
    CHECK(locked_kb() == 0);  // of another process
    FAILS(map(m.container, memory.address(), 4096, 4096), EEXIST);
    CHECK(map(m.container, memory.address(), 0x10000, 4096) == 0);
    CHECK(locked_kb() == 4);
    CHECK(unmap(m.container, 0, 8192) == 8192);
    CHECK(::ioctl(m.group, abi::group_unset_container) == 0);
    CHECK(::close(m.group) == 0 && ::close(m.container) == 0);
    {
      const machine own;
      CHECK(map(own.container, memory.address(), 0, 4096) == 0);
      CHECK(map(own.container, memory.address(), 0x10000, 4096) == 0);
      const pid_t grandchild = ::fork();
      if (grandchild == 0) ::_exit(unmap(own.container, 0x10000, 4096) == 4096 ? 0 : 1);
      CHECK(ended(grandchild) == 0);
    }
    std::exit(good ? 0 : 1);
  }
  CHECK(ended(child) == 0);
  CHECK(locked_kb() == 8);
  FAILS(map(m.container, memory.address(), 4096, 4096), EEXIST);
  FAILS(::open("/dev/vfio/0", O_RDWR), EBUSY);
  CHECK(unmap(m.container, 0, 8192) == 8192);
  CHECK(map(m.container, memory.address(), 0x10000, 4096) == 0);

  // A child that borrows our memory closes descriptors of its own.
  const pid_t borrower = ::vfork();
  if (borrower == 0) {
    ::close(m.group);
    ::close(m.container);
    ::_exit(0);
  }
  CHECK(ended(borrower) == 0);
  CHECK(unmap(m.container, 0x10000, 4096) == 4096);
  CHECK(group_flags(m.group) == (abi::group_viable | abi::group_container_set));

  pid_t spawned = 0;
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_addclose(&actions, m.group);
  ::posix_spawn_file_actions_adddup2(&actions, m.container, 0);
  char program[] = "/proc/self/exe", argument[] = "nothing";
  char* const arguments[] = {program, argument, nullptr};
  CHECK(::posix_spawn(&spawned, program, &actions, nullptr, arguments, environ) == 0);
  CHECK(ended(spawned) == 0);
  ::posix_spawn_file_actions_destroy(&actions);
  FAILS(::open("/dev/vfio/0", O_RDWR), EBUSY);
  CHECK(map(m.container, memory.address(), 0, 4096) == 0);
}

// Eight threads map and unmap disjoint ranges, while another forks and another opens and closes.
void threads() {
  const machine m;
  constexpr int workers = 8, rounds = 300;
  std::atomic<int> wrong = 0, running = workers;
  std::vector<std::thread> all;
  for (int t = 0; t != workers; ++t) {
    all.emplace_back([&, t] {
      const pages memory(16);
      const std::uint64_t base = static_cast<std::uint64_t>(t) << 24;
      for (int round = 0; round != rounds; ++round) {
        for (std::uint64_t n = 0; n != 4; ++n)
          if (map(m.container, memory.address() + n * 16384, base + n * 16384, 16384) != 0) ++wrong;
        const int copy = ::dup(m.container);
        if (unmap(copy, base, 65536) != 65536) ++wrong;
        if (::close(copy) != 0) ++wrong;
      }
      --running;
    });
  }
  all.emplace_back([&] {
    const pages memory(1);
    while (running != 0) {
      const pid_t child = ::fork();
      if (child == 0) {
        const std::uint64_t at = std::uint64_t{1} << 35;
        ::_exit(map(m.container, memory.address(), at, 4096) == 0 &&
                        unmap(m.container, at, 4096) == 4096 && ::close(m.container) == 0
                    ? 0
                    : 1);
      }
      if (ended(child) != 0) ++wrong;
      ::usleep(1000);
    }
  });
  all.emplace_back([&] {
    while (running != 0) {
      const int container = ::open("/dev/vfio/vfio", O_RDWR);
      const int group = ::open("/dev/vfio/1", O_RDWR);
      const int null = ::open("/dev/null", O_RDWR);
      if (container < 0 || group < 0 || null < 0 || set_container(group, container) != 0 ||
          ::ioctl(container, abi::set_iommu, abi::type1_iommu) != 0)
        ++wrong;
      if (::close(container) != 0 || ::close(group) != 0 || ::close(null) != 0) ++wrong;
    }
  });
  for (std::thread& t : all) t.join();
  CHECK(wrong == 0);
  CHECK(locked_kb() == 0);
}

// What is not ours is as it was.
void all_else() {
  errno = 77;
  const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  CHECK(null >= 0 && errno == 77);
  CHECK(::fcntl(null, F_GETFD) == FD_CLOEXEC);
  FAILS(::ioctl(null, abi::get_api_version), ENOTTY);
  FAILS(::ioctl(null, 0x5401UL, nullptr), ENOTTY);
  {
    const machine m;
    errno = 77;
    CHECK(::ioctl(m.container, abi::get_api_version) == 0 && errno == 77);
    FAILS(::ioctl(null, abi::get_api_version), ENOTTY);
    CHECK(::ioctl(m.container, 0x5450UL) == 0);  // FIONCLEX, FIOCLEX
    CHECK(::fcntl(m.container, F_GETFD) == 0);
    CHECK(::ioctl(m.container, 0x5451UL) == 0);
    CHECK(::fcntl(m.container, F_GETFD) == FD_CLOEXEC);
  }
  CHECK(::close(null) == 0);
  FAILS(::open("/nonexistent/file", O_RDONLY), ENOENT);
  FAILS(::open("/dev/vfio/4711", O_RDWR), ENOENT);
  FAILS(::open("/dev/vfio/00", O_RDWR), ENOENT);
  FAILS(::open("/dev/vfio/vfio2", O_RDWR), ENOENT);
  FAILS(::open("", O_RDONLY), ENOENT);
#if !IOPT_THREAD_SANITIZER  // which looks at the path itself
  int (*volatile opening)(const char*, int, ...) = ::open;
  FAILS(opening(nullptr, O_RDONLY), EFAULT);
  const pages closed(1, PROT_NONE);
  FAILS(opening(closed.data, O_RDONLY), EFAULT);
#endif
  const std::string longest(5000, 'x');
  FAILS(::open(longest.c_str(), O_RDONLY), ENAMETOOLONG);

  char name[] = "/tmp/interpose-XXXXXX";
  const int made = ::mkstemp(name);
  CHECK(made >= 0);
  ::close(made);
  ::unlink(name);
  ::umask(0);
  const int file = ::open(name, O_RDWR | O_CREAT | O_EXCL, 0640);
  struct stat seen{};
  CHECK(::fstat(file, &seen) == 0 && (seen.st_mode & 0777) == 0640);
  ::close(file);
  const int folder = ::open("/tmp", O_RDONLY | O_DIRECTORY);
  const int below = ::openat(folder, name + 5, O_RDWR);
  CHECK(below >= 0);
  CHECK(::openat(folder, "/dev/vfio/vfio", O_RDWR) >= 0);
  const int unnamed = ::open("/tmp", O_TMPFILE | O_RDWR, 0600);
  CHECK(unnamed < 0 || (::fstat(unnamed, &seen) == 0 && (seen.st_mode & 0777) == 0600));
  ::unlink(name);

  // A path that ends with its page.
  const pages edge(2);
  ::mprotect(edge.data + 4096, 4096, PROT_NONE);
  for (const char* path : {"/dev/vfio/vfio", "/dev/null"}) {
    char* const at = edge.data + 4096 - std::strlen(path) - 1;
    std::strcpy(at, path);
    const int fd = ::open(at, O_RDWR);
    CHECK(fd >= 0);
    CHECK((::ioctl(fd, abi::get_api_version) == 0) == (path[5] == 'v'));
    ::close(fd);
  }
}

// What the environment says; each in a process of its own.
std::string seen_machine() {
  const machine m;
  alignas(8) std::array<char, 4096> room{};
  abi::type1_info info{room.size(), 0, 0, 0, 0};
  std::memcpy(room.data(), &info, sizeof info);
  CHECK(::ioctl(m.container, abi::iommu_get_info, room.data()) == 0);
  std::memcpy(&info, room.data(), sizeof info);
  char text[80];
  std::snprintf(text, sizeof text, "sizes %#llx coherent %d",
                static_cast<unsigned long long>(info.page_sizes),
                ::ioctl(m.container, abi::check_extension, abi::dma_cc_iommu));
  std::string all = text;
  for (std::uint32_t at = info.cap_offset; at != 0;) {
    abi::capability_header head{};
    std::memcpy(&head, room.data() + at, sizeof head);
    if (head.id == abi::capability_dma_avail) {
      abi::dma_avail_capability avail{};
      std::memcpy(&avail, room.data() + at, sizeof avail);
      all += " limit " + std::to_string(avail.avail);
    } else if (head.id == abi::capability_iova_range) {
      abi::iova_ranges_capability ranges{};
      std::memcpy(&ranges, room.data() + at, sizeof ranges);
      for (std::uint32_t n = 0; n != ranges.count; ++n) {
        abi::iova_range_entry r{};
        std::memcpy(&r, room.data() + at + sizeof ranges + n * sizeof r, sizeof r);
        std::snprintf(text, sizeof text, " %#llx-%#llx", static_cast<unsigned long long>(r.first),
                      static_cast<unsigned long long>(r.last));
        all += text;
      }
    }
    at = head.next;
  }
  int groups = 1;
  while (::open(("/dev/vfio/" + std::to_string(groups)).c_str(), O_RDWR) >= 0) ++groups;
  const pages memory(4);
  CHECK(map(m.container, memory.address(), 0x1000000, 4 * 4096) == 0);
  return all + " groups " + std::to_string(groups) + " hole " +
         std::to_string(unmap(m.container, 0x1001000, 4096));
}

void environment() {
  // A child's output on its descriptor `of`, and how it ended.
  const auto said = [](const char* argument, int of, const std::vector<std::string>& e) {
    int ends[2];
    CHECK(::pipe(ends) == 0);
    const int saved = ::dup(of);
    ::dup2(ends[1], of);
    const pid_t child = run_self(argument, e);
    ::dup2(saved, of);
    ::close(saved);
    ::close(ends[1]);
    std::string text(1000, '\0');
    const ssize_t got = ::read(ends[0], text.data(), text.size());
    text.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
    ::close(ends[0]);
    return text + "=" + std::to_string(ended(child));
  };
  const auto shows = [&](const std::vector<std::string>& e, std::string_view wanted) {
    const std::string text = said("seen-machine", STDOUT_FILENO, e);
    if (text != std::string(wanted) + "\n=0")
      std::fprintf(stderr, "want %s\nhave %s\n", std::string(wanted).c_str(), text.c_str());
    CHECK(text == std::string(wanted) + "\n=0");
  };
  shows({},
        "sizes 0x40201000 coherent 0 limit 65535 0-0xfedfffff 0xfef00000-0x7fffffffff groups 2 "
        "hole -1");
  shows({"IOPT_GROUPS=5", "IOPT_APERTURE=0x100000-0xffffffff",
         "IOPT_RESERVED=0x200000-0x2fffff,16777216-16781311", "IOPT_PAGE_SIZES=0x201000",
         "IOPT_COHERENT=1", "IOPT_DMA_ENTRY_LIMIT=12", "IOPT_HOLE_PUNCHING=0",
         "IOPT_RESERVED=0x200000-0x2fffff,0x3000000-0x3ffffff"},
        "sizes 0x201000 coherent 1 limit 12 0x100000-0x1fffff 0x300000-0x2ffffff "
        "0x4000000-0xffffffff groups 5 hole -1");
  shows({"IOPT_HOLE_PUNCHING=1", "IOPT_RESERVED="},
        "sizes 0x40201000 coherent 0 limit 65535 0-0x7fffffffff groups 2 hole 4096");

  for (const char* bad :
       {"IOPT_GROUPS=0", "IOPT_GROUPS=two", "IOPT_GROUPS=", "IOPT_APERTURE=1", "IOPT_APERTURE=5-4",
        "IOPT_APERTURE=0-0x1ffe", "IOPT_RESERVED=1-2,", "IOPT_RESERVED=1-2;3-4",
        "IOPT_PAGE_SIZES=0", "IOPT_PAGE_SIZES=0x1100", "IOPT_COHERENT=yes", "IOPT_HOLE_PUNCHING=2",
        "IOPT_CAP_IPC_LOCK=-1", "IOPT_DMA_ENTRY_LIMIT=0x100000000", "IOPT_DMA_ENTRY_LIMIT= 1"}) {
    const std::string text = said("nothing", STDERR_FILENO, {bad});
    const bool told = text.starts_with(std::string("libiopt_interpose: ") + bad + ": not ") &&
                      text.ends_with("\n=1") && text.find('\n') == text.size() - 3;
    if (!told) std::fprintf(stderr, "%s: %s\n", bad, text.c_str());
    CHECK(told);
  }
  CHECK(said("unlimited", STDOUT_FILENO, {"IOPT_CAP_IPC_LOCK=1"}) == "=0");
  CHECK(said("limited", STDOUT_FILENO, {"IOPT_CAP_IPC_LOCK=0"}) == "=0");
}

// RLIMIT_MEMLOCK of two pages.
void limit(bool counts) {
  rlimit two{8192, 8192};
  CHECK(::setrlimit(RLIMIT_MEMLOCK, &two) == 0);
  const machine m;
  const pages memory(3);
  CHECK(map(m.container, memory.address(), 0, 8192) == 0);
  if (counts) {
    FAILS(map(m.container, memory.address() + 8192, 8192, 4096), ENOMEM);
    CHECK(locked_kb() == 8);
    CHECK(unmap(m.container, 0, 8192) == 8192);
    FAILS(map(m.container, memory.address(), 0, 3 * 4096), ENOMEM);
    CHECK(locked_kb() == 0);
  } else {
    CHECK(map(m.container, memory.address() + 8192, 8192, 4096) == 0);
    CHECK(locked_kb() == 12);
  }
}

// The ioctls of /dev/iommu that are asked here.
constexpr std::uint32_t iommu_request(unsigned number) { return unsigned{';'} << 8 | number; }
int make_space(int fd, std::uint32_t& out) {
  std::array<std::uint32_t, 3> said{12};
  const int answer = ::ioctl(fd, iommu_request(0x81), said.data());
  out = said[2];
  return answer;
}
int map_space(int fd, std::uint32_t space, const pages& memory, std::uint64_t& iova) {
  struct {
    std::uint32_t size, flags, space, reserved;
    std::uint64_t user, length, iova;
  } said{40, 6, space, 0, memory.address(), memory.bytes, 0};
  const int answer = ::ioctl(fd, iommu_request(0x85), &said);
  iova = said.iova;
  return answer;
}
int unmap_space(int fd, std::uint32_t space, std::uint64_t iova, std::uint64_t bytes) {
  struct {
    std::uint32_t size, space;
    std::uint64_t iova, length;
  } said{24, space, iova, bytes};
  return ::ioctl(fd, iommu_request(0x86), &said);
}

/// fail-nth of a thread.
struct fail_nth {
  explicit fail_nth(const std::string& path) : fd(::open(path.c_str(), O_RDWR)) { CHECK(fd >= 0); }
  fail_nth() : fail_nth("/proc/self/task/" + std::to_string(::gettid()) + "/fail-nth") {}
  fail_nth(const fail_nth&) = delete;
  fail_nth& operator=(const fail_nth&) = delete;
  ~fail_nth() { ::close(fd); }
  void arm(unsigned n) const {
    const std::string text = std::to_string(n);
    CHECK(::pwrite(fd, text.c_str(), text.size(), 0) == static_cast<ssize_t>(text.size()));
  }
  std::string left() const {
    char text[20];
    const ssize_t size = ::pread(fd, text, sizeof text, 0);
    return size < 0 ? "?" : std::string(text, static_cast<std::size_t>(size));
  }
  const int fd;
};

/// Runs `call` with each of its failure points failing in turn. It is one of these errnos, and all is
/// as it was; or it made up for the failure, and is undone. In the end it has been done. How many
/// failures it refused for.
unsigned sweep(const fail_nth& mine, const std::vector<int>& errnos, auto call, auto undo) {
  unsigned refused = 0;
  for (unsigned n = 1; n != 400; ++n) {
    const long locked = locked_kb(), pinned = pinned_kb();
    mine.arm(n);
    const int answer = call();
    const int number = errno;
    const bool fired = mine.left() == "0\n";
    mine.arm(0);
    CHECK(mine.left() == "0\n");
    if (!fired) {
      CHECK(answer == 0);
      return refused;
    }
    if (answer == 0) {
      CHECK(undo() == 0);
    } else {
      CHECK(std::ranges::count(errnos, number) != 0);
      ++refused;
    }
    CHECK(locked_kb() == locked && pinned_kb() == pinned);
  }
  const bool comes_to_an_end = false;
  CHECK(comes_to_an_end);
  return 0;
}

// A program arms failures as in Linux.
void faults_of_iommu() {
  const fail_nth mine;
  const pages memory(40);
  const int fd = ::open("/dev/iommu", O_RDWR);
  CHECK(fd >= 0);
  std::uint32_t space = 0;
  std::uint64_t iova = 0;
  const auto make = [&] { return make_space(fd, space); };
  const auto map_it = [&] { return map_space(fd, space, memory, iova); };
  const auto unmap_it = [&] { return unmap_space(fd, space, iova, memory.bytes); };
  CHECK(sweep(mine, {ENOMEM}, make, [] { return -1; }) > 0);
  // Without a device nothing is pinned; with one every page is.
  CHECK(sweep(mine, {ENOMEM}, map_it, unmap_it) > 0);
  CHECK(pinned_kb() == 0);
  CHECK(sweep(mine, {}, unmap_it, map_it) == 0);
  std::array<std::uint32_t, 18> device{72, 2, space};
  CHECK(::ioctl(fd, iommu_request(0xa0), device.data()) == 0);
  // What the first mapping allocated for good, the second time is there; and the room of an area.
  CHECK(sweep(mine, {ENOMEM, EFAULT, ENOENT}, map_it, unmap_it) > 2);
  CHECK(unmap_it() == 0);
  const unsigned points = sweep(mine, {ENOMEM, EFAULT, ENOENT}, map_it, unmap_it);
  CHECK(points > 2);
  CHECK(pinned_kb() == 160);
  // Ten pages at a time: pinned in four calls where it was one.
  CHECK(unmap_it() == 0);
  std::array<std::uint32_t, 18> limit{72, 9, 0, 0, 120};
  CHECK(::ioctl(fd, iommu_request(0xa0), limit.data()) == 0);
  CHECK(sweep(mine, {ENOMEM, EFAULT, ENOENT}, map_it, unmap_it) == points + 3);
  CHECK(sweep(mine, {}, unmap_it, map_it) == 0);
  CHECK(pinned_kb() == 0);
  FAILS(unmap_it(), ENOENT);
  ::close(fd);
}

void faults_of_vfio() {
  const fail_nth mine;
  const pages memory(40);
  const int container = ::open("/dev/vfio/vfio", O_RDWR);
  const int group = ::open("/dev/vfio/0", O_RDWR);
  CHECK(set_container(group, container) == 0);
  const auto choose = [&] { return ::ioctl(container, abi::set_iommu, abi::type1v2_iommu); };
  const auto map_it = [&] { return map(container, memory.address(), 0x100000, memory.bytes); };
  const auto unmap_it = [&] { return unmap(container, 0x100000, memory.bytes) > 0 ? 0 : -1; };
  CHECK(sweep(mine, {ENOMEM}, choose, [] { return -1; }) > 0);
  CHECK(sweep(mine, {ENOMEM, EFAULT, ENOENT}, map_it, unmap_it) > 3);
  CHECK(unmap_it() == 0);
  CHECK(sweep(mine, {ENOMEM, EFAULT, ENOENT}, map_it, unmap_it) > 3);
  CHECK(locked_kb() == 160);
  CHECK(sweep(mine, {}, unmap_it, map_it) == 0);
  CHECK(locked_kb() == 0);
  ::close(group);
  ::close(container);
}

// Of threads, forks and bad numbers.
void fail_nth_file() {
  const fail_nth mine;
  const std::string self = std::to_string(::getpid());
  for (const char* path :
       {"/proc/thread-self/fail-nth", "/proc/self/fail-nth", "/proc//self/./fail-nth"}) {
    const fail_nth other(path);
    mine.arm(7);
    CHECK(other.left() == "7\n");
    other.arm(0);
    CHECK(mine.left() == "0\n");
  }
  for (const std::string& path :
       {"/proc/" + self + "/task/" + self + "/fail-nth", "/proc/" + self + "/fail-nth"}) {
    const fail_nth other(path);
    other.arm(8);
    CHECK(mine.left() == "8\n");
  }
  FAILS(::open("/proc/self/task/1/fail-nth", O_RDWR), ENOENT);
  FAILS(::open("/proc/self/task/01/fail-nth", O_RDWR), ENOENT);
  FAILS(::open("/proc/self/task//fail-nth", O_RDWR), ENOENT);
  FAILS(::open("/proc/self/task/fail-nth", O_RDWR), ENOENT);

  const auto put = [&](std::string_view text) {
    return ::write(mine.fd, text.data(), text.size());
  };
  mine.arm(5);
  for (const std::string_view wrong :
       {"", "\n", "x", "-1", "1 ", " 1", "1\n\n", "1x", "0x", "08", "+"})
    FAILS(put(wrong), EINVAL);
  FAILS(put("4294967296"), ERANGE);
  void* const bad = ::mmap(nullptr, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  FAILS(::write(mine.fd, bad, 1), EFAULT);
  FAILS(::pwrite(mine.fd, "1", 1, -1), EINVAL);
  FAILS(::ioctl(mine.fd, abi::get_api_version), ENOTTY);
  CHECK(mine.left() == "5\n");
  CHECK(put("4294967295\n") == 11 && mine.left() == "4294967295\n");
  CHECK(put("0x1f") == 4 && mine.left() == "31\n");
  CHECK(put("017") == 3 && mine.left() == "15\n");

  // read() goes on where it was, and ends.
  char text[8] = {};
  CHECK(::read(mine.fd, text, 2) == 2 && std::string_view(text) == "15");
  const int copy = ::dup(mine.fd);
  CHECK(::read(copy, text, sizeof text) == 1 && text[0] == '\n');
  CHECK(::read(mine.fd, text, sizeof text) == 0);
  ::close(copy);
  CHECK(::pread(mine.fd, text, 1, 1) == 1 && text[0] == '5');
  FAILS(::pread(mine.fd, text, 1, -1), EINVAL);
  FAILS(::pread(mine.fd, bad, 1, 0), EFAULT);
  const int reads = ::open("/proc/thread-self/fail-nth", O_RDONLY);
  const int writes = ::open("/proc/thread-self/fail-nth", O_WRONLY);
  FAILS(::write(reads, "1", 1), EBADF);
  FAILS(::read(writes, text, 1), EBADF);
  ::close(reads);
  ::close(writes);

  // Each thread counts what it passes itself.
  mine.arm(1);
  std::thread([&] {
    const int fd = ::open("/dev/iommu", O_RDWR);
    std::uint32_t space = 0;
    CHECK(make_space(fd, space) == 0);
    CHECK(mine.left() == "1\n");
    const fail_nth own;
    CHECK(own.left() == "0\n");
    own.arm(1);
    FAILS(make_space(fd, space), ENOMEM);
    CHECK(own.left() == "0\n" && mine.left() == "1\n");
    own.arm(1);  // and it ends
    ::close(fd);
  }).join();
  const int fd = ::open("/dev/iommu", O_RDWR);
  std::uint32_t space = 0;
  const pid_t child = ::fork();
  if (child == 0) {
    CHECK(make_space(fd, space) == 0);  // which the parent does
    const fail_nth own;
    CHECK(own.left() == "0\n");
    own.arm(1);
    FAILS(make_space(::open("/dev/iommu", O_RDWR), space), ENOMEM);
    ::_exit(good ? 0 : 1);
  }
  CHECK(ended(child) == 0);
  CHECK(mine.left() == "1\n");
  FAILS(make_space(fd, space), ENOMEM);
  CHECK(make_space(fd, space) == 0);
  for (int n = 0; n != 200; ++n) std::thread([] { fail_nth().arm(3); }).join();
  ::close(fd);
}

// What a test of fault injection sets before.
void knobs() {
  DIR* const folder = ::opendir("/sys/kernel/debug/");
  CHECK(folder != nullptr);
  const auto put = [](int fd) {
    const bool done = ::write(fd, "N", 1) == 1;
    return ::close(fd) == 0 && done;
  };
  for (const char* name : {"failslab/ignore-gfp-wait", "fail_page_alloc/ignore-gfp-wait",
                           "fail_page_alloc/ignore-gfp-highmem", "fail_iommufd/verbose"}) {
    CHECK(put(::openat(::dirfd(folder), name, O_WRONLY)));
    CHECK(put(::open((std::string("/sys/kernel/debug/") + name).c_str(), O_WRONLY)));
    const int elsewhere = ::open("/tmp", O_RDONLY | O_DIRECTORY);
    FAILS(::openat(elsewhere, name, O_WRONLY), ENOENT);
    FAILS(::open(name, O_WRONLY), ENOENT);
    FAILS(::openat(-1, name, O_WRONLY), EBADF);
    ::close(elsewhere);
  }
  CHECK(::openat(::dirfd(folder), "failslab/unknown", O_WRONLY) < 0);
  CHECK(::openat(::dirfd(folder), "failslab", O_WRONLY) < 0);
  ::closedir(folder);
  FAILS(::opendir("/sys/kernel/no-debug") == nullptr ? -1 : 0, ENOENT);

  const std::string task = "/proc/self/task/" + std::to_string(::gettid());
  const int mine = ::open(task.c_str(), O_RDONLY | O_DIRECTORY);
  const int file = ::openat(mine, "fail-nth", O_RDWR);
  CHECK(::write(file, "3\n", 2) == 2 && fail_nth().left() == "3\n");
  CHECK(::write(file, "0", 1) == 1);
  ::close(file);
  ::close(mine);
}

void faults() {
  faults_of_iommu();
  faults_of_vfio();
  fail_nth_file();
  knobs();
}

}  // namespace

int main(int count, char** arguments) {
  const std::string_view name = count > 1 ? arguments[1] : "";
  if (name == "nothing") return 0;
  if (locked_kb() != 0) return std::fputs("run me on libiopt_interpose.so\n", stderr), 2;
  if (name == "flow") {
    flow();
  } else if (name == "refusals") {
    refusals();
  } else if (name == "order-of-closing") {
    order_of_closing();
  } else if (name == "descriptors") {
    descriptors();
  } else if (name == "forks") {
    forks();
  } else if (name == "threads") {
    threads();
  } else if (name == "all-else") {
    all_else();
  } else if (name == "environment") {
    environment();
  } else if (name == "faults") {
    faults();
  } else if (name == "seen-machine") {
    std::puts(seen_machine().c_str());
  } else if (name == "limited" || name == "unlimited") {
    limit(name == "limited");
  } else {
    return std::fputs("no such case\n", stderr), 2;
  }
  return good ? 0 : 1;
}
