// tests/examples/interpose/accesses.cpp - an unmodified program of /dev/iommu and the ioctl of the kernel's
// own tests, run on libiopt_interpose.so: software that uses a space through a descriptor.
#include <array>
#include <atomic>
#include <string_view>
#include <thread>
#include <utility>

#include "examples/interpose/test_command.hpp"
#include "iopt/uapi/iommufd/abi.hpp"
#include "tests/examples/interpose/program.hpp"

namespace {

using namespace interpose_test;
using namespace iopt::test;
namespace iommu = iopt::iommufd::abi;

constexpr std::uint64_t base = 0x1000000;
constexpr std::uint64_t page = 4096;

int ask(int fd, test_command& c) {
  c.size = sizeof c;
  return ::ioctl(fd, iommu::request_of(test_number), &c);
}
test_command command(test_operation op, std::uint32_t id) {
  test_command c{};
  c.op = op;
  c.id = id;
  return c;
}

/// /dev/iommu with a space.
struct machine {
  explicit machine(bool with_device = false) : fd(::open("/dev/iommu", O_RDWR)) {
    iommu::ioas_alloc c{sizeof c, 0, 0};
    CHECK(::ioctl(fd, iommu::request_of(0x81), &c) == 0);
    space = c.out_ioas_id;
    if (with_device) {
      test_command d = command(test_operation::mock_domain, space);
      CHECK(ask(fd, d) == 0);
      table = d.mock_domain.out_hw_pagetable;
    }
  }
  machine(const machine&) = delete;
  machine& operator=(const machine&) = delete;
  ~machine() { close(); }
  void close() {
    if (fd >= 0) CHECK(::close(fd) == 0);
    fd = -1;
  }

  int map(std::uint64_t from, std::uint64_t at, std::uint64_t bytes, std::uint32_t flags = 7) {
    iommu::ioas_map c{sizeof c, flags, space, 0, from, bytes, at};
    return ::ioctl(fd, iommu::request_of(0x85), &c);
  }
  int unmap(std::uint64_t at, std::uint64_t bytes) {
    iommu::ioas_unmap c{sizeof c, space, at, bytes};
    return ::ioctl(fd, iommu::request_of(0x86), &c);
  }
  /// A descriptor, or -1.
  int access(std::uint32_t flags = access_pins_pages) {
    test_command c = command(test_operation::create_access, space);
    c.create_access.flags = flags;
    return ask(fd, c) == 0 ? static_cast<int>(c.create_access.out_fd) : -1;
  }
  /// The number of the pin, or -1.
  int pin(int access_fd, std::uint64_t at, std::uint64_t bytes, std::uint64_t seen,
          std::uint32_t flags = 0) {
    test_command c = command(test_operation::access_pages, static_cast<std::uint32_t>(access_fd));
    c.access_pages = {flags, 0, at, bytes, seen};
    return ask(fd, c) == 0 ? static_cast<int>(c.access_pages.out_number) : -1;
  }
  int unpin(int access_fd, int number) {
    test_command c =
        command(test_operation::destroy_access_pages, static_cast<std::uint32_t>(access_fd));
    c.destroy_access_pages.number = static_cast<std::uint32_t>(number);
    return ask(fd, c);
  }
  int rw(int access_fd, std::uint64_t at, std::uint64_t bytes, void* with,
         std::uint32_t flags = 0) {
    test_command c = command(test_operation::access_rw, static_cast<std::uint32_t>(access_fd));
    c.access_rw = {at, bytes, reinterpret_cast<std::uintptr_t>(with), flags};
    return ask(fd, c);
  }
  int refs(std::uint64_t from, std::uint64_t bytes, std::uint32_t pins) {
    test_command c = command(test_operation::check_refs, 0);
    c.check_refs = {bytes, from, pins};
    return ask(fd, c);
  }
  int shows(std::uint64_t at, std::uint64_t bytes, std::uint64_t from) {
    test_command c = command(test_operation::check_map, table);
    c.check_map = {at, bytes, from};
    return ask(fd, c);
  }

  int fd;
  std::uint32_t space = 0;
  std::uint32_t table = 0;
};

// What is pinned, and when it is not any more.
void pins() {
  machine m;
  const pages memory(8);
  const std::uint64_t from = memory.address();
  CHECK(m.map(from, base, memory.bytes) == 0);
  const int a = m.access();
  CHECK(a >= 0 && (::fcntl(a, F_GETFD) & FD_CLOEXEC) != 0);
  CHECK(m.pin(a, base + page, 2 * page, from + page) == 0);
  CHECK(m.pin(a, base + page, 2 * page, 0) == 1);
  CHECK(m.pin(a, base, page, from) == 2);
  CHECK(m.refs(from, 3 * page, 1) == 0);
  CHECK(m.refs(from + 3 * page, page, 0) == 0);
  FAILS(m.refs(from, 4 * page, 1), EIO);
  FAILS(m.refs(from + 1, page, 1), EINVAL);
  FAILS(m.refs(from, page + 1, 1), EINVAL);
  FAILS(m.refs(0x20000, page, 0), EFAULT);

  // Refused, and nothing is pinned by it.
  FAILS(m.pin(a, base, page, from + page), EBADE);
  FAILS(m.pin(a, base, page, 0x20000), EFAULT);
  FAILS(m.pin(a, base + 7 * page, 2 * page, 0), ENOENT);
  FAILS(m.pin(a, base, 0, 0), EINVAL);
  FAILS(m.pin(a, base, ~std::uint64_t{0}, 0), ENOMEM);
  FAILS(m.pin(a, ~std::uint64_t{0} - page, 2 * page, 0), EOVERFLOW);
  FAILS(m.pin(a, base, page, 0, 2), EOPNOTSUPP);
  FAILS(m.pin(m.fd, base, page, 0), EBADFD);
  FAILS(m.pin(0, base, page, 0), EBADFD);
  FAILS(m.pin(12345, base, page, 0), EBADFD);
  FAILS(m.unpin(a, 3), ENOENT);
  FAILS(m.unpin(m.fd, 0), EBADFD);
  CHECK(m.refs(from, 3 * page, 1) == 0);

  CHECK(m.unpin(a, 0) == 0);
  CHECK(m.unpin(a, 0) == -1);
  CHECK(m.refs(from, 3 * page, 1) == 0);
  CHECK(m.unpin(a, 1) == 0);
  CHECK(m.refs(from + page, page, 0) == 0);
  CHECK(m.unmap(base, memory.bytes) == 0);  // the last pin lets go
  CHECK(m.refs(from, 3 * page, 0) == 0);
  FAILS(m.unpin(a, 2), ENOENT);

  CHECK(m.map(from, base, memory.bytes) == 0);
  CHECK(m.pin(a, base, page, from) == 3);
  const int same = ::dup(a);
  CHECK(::close(a) == 0);
  CHECK(m.refs(from, page, 1) == 0);
  CHECK(::close(same) == 0);
  CHECK(m.refs(from, page, 0) == 0);
  FAILS(m.pin(a, base, page, from), EBADFD);

  // A place in the n-th area.
  const int b = m.access();
  CHECK(m.pin(b, std::uint64_t{2 * page} << 32, page, from + 2 * page, by_area) == 0);
  CHECK(::close(b) == 0);

  // The descriptor holds the context open.
  const int last = m.access();
  CHECK(m.pin(last, base, page, from) == 0);
  m.close();
  machine other;
  CHECK(other.refs(from, page, 1) == 0);
  CHECK(::close(last) == 0);
  CHECK(other.refs(from, page, 0) == 0);
}

// Reading and writing, and what a device sees of it.
void copies() {
  machine m(true);
  const pages memory(4);
  const std::uint64_t from = memory.address();
  CHECK(m.map(from, base, memory.bytes) == 0);
  CHECK(m.shows(base, memory.bytes, from) == 0);
  CHECK(m.shows(base + 2048, 2048, from + 2048) == 0);
  FAILS(m.shows(base, 2048, from + 2048), EINVAL);
  FAILS(m.shows(base + 1, 2048, from), EINVAL);
  FAILS(m.shows(base + memory.bytes, 2048, from), EINVAL);
  FAILS(m.shows(base, 2048, 0x20000), EFAULT);
  const std::uint32_t table = std::exchange(m.table, 99);
  FAILS(m.shows(base, 2048, from), ENOENT);
  m.table = table;

  const int a = m.access(0);
  std::array<char, 100> text{"written"};
  CHECK(m.rw(a, base + page - 4, text.size(), text.data(), access_write) == 0);
  CHECK(std::memcmp(memory.data + page - 4, "written", 8) == 0);
  std::array<char, 100> back{};
  CHECK(m.rw(a, base + page - 4, back.size(), back.data()) == 0);
  CHECK(back == text);
  back = {};
  CHECK(m.rw(a, base + page - 4, back.size(), back.data(), access_slow_path) == 0);
  CHECK(back == text);
  FAILS(m.rw(a, base, 0, back.data()), EINVAL);
  FAILS(m.rw(a, base, 100, reinterpret_cast<void*>(0x20000)), EFAULT);
  FAILS(m.rw(a, base, 100, reinterpret_cast<void*>(0x20000), access_write), EFAULT);
  FAILS(m.rw(a, base, 100, back.data(), 2), EOPNOTSUPP);
  FAILS(m.rw(a, base + memory.bytes, 100, back.data()), ENOENT);
  FAILS(m.rw(a, base, 17 << 20, back.data()), ENOMEM);
  FAILS(m.rw(m.fd, base, 100, back.data()), EBADFD);
  FAILS(m.pin(a, base, page, 0), EOPNOTSUPP);
  FAILS(::ioctl(a, iommu::request_of(0x81), &text), ENOTTY);
  FAILS(m.access(2), EOPNOTSUPP);

  // Elsewhere, by another space.
  machine other;
  test_command c = command(test_operation::access_replace, static_cast<std::uint32_t>(a));
  c.access_replace.space = 77;
  FAILS(ask(m.fd, c), ENOENT);
  c.id = static_cast<std::uint32_t>(m.fd);
  FAILS(ask(m.fd, c), EBADFD);
  iommu::ioas_alloc fresh{sizeof fresh, 0, 0};
  CHECK(::ioctl(m.fd, iommu::request_of(0x81), &fresh) == 0);
  c.id = static_cast<std::uint32_t>(a);
  c.access_replace.space = fresh.out_ioas_id;
  CHECK(ask(m.fd, c) == 0);
  FAILS(m.rw(a, base, 100, back.data()), ENOENT);
  CHECK(::close(a) == 0);

  const std::uint32_t space = std::exchange(m.space, 77);
  FAILS(m.access(), ENOENT);
  m.space = space;
  c = command(test_operation::set_memory_limit, 0);
  c.memory_limit.bytes = 11;
  FAILS(ask(m.fd, c), EINVAL);
  c.memory_limit.bytes = 12;
  CHECK(ask(m.fd, c) == 0);
  CHECK(m.map(from, base + 0x100000, memory.bytes) == 0);
  CHECK(m.shows(base + 0x100000, memory.bytes, from) == 0);
  c.memory_limit.bytes = 65536;
  CHECK(ask(m.fd, c) == 0);
}

int map_file(machine& m, int fd, std::uint64_t start, std::uint64_t bytes, std::uint64_t at) {
  iommu::ioas_map_file c{sizeof c, 7, m.space, fd, start, bytes, at};
  return ::ioctl(m.fd, iommu::request_of(0x8f), &c);
}

// A page of a file is that page, however it is named.
void files() {
  machine m(true);
  const int file = ::memfd_create("test", MFD_CLOEXEC);
  CHECK(::ftruncate(file, 4 * page) == 0);
  char* const shown =
      static_cast<char*>(::mmap(nullptr, 4 * page, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0));
  const auto from = reinterpret_cast<std::uintptr_t>(shown);
  FAILS(map_file(m, -1, 0, page, base), EBADF);
  FAILS(map_file(m, file, 0, 5 * page, base), EINVAL);
  FAILS(map_file(m, file, 0, 0, base), EINVAL);
  CHECK(map_file(m, file, page, 2 * page, base) == 0);
  CHECK(m.shows(base, 2 * page, from + page) == 0);
  CHECK(m.refs(from + page, 2 * page, 1) == 0);
  CHECK(m.refs(from, page, 0) == 0);
  CHECK(m.map(from + page, base + 0x10000, page) == 0);
  CHECK(m.refs(from + page, page, 2) == 0);
  const int a = m.access();
  CHECK(m.pin(a, base + page, page, from + 2 * page) == 0);
  FAILS(m.pin(a, base + page, page, from + page), EBADE);
  std::strcpy(shown + 2 * page, "in the file");
  std::array<char, 12> text{};
  CHECK(m.rw(a, base + page, text.size(), text.data()) == 0);
  CHECK(std::strcmp(text.data(), "in the file") == 0);
  text = {"by iova"};
  CHECK(m.rw(a, base + 10, text.size(), text.data(), access_write) == 0);
  CHECK(std::strcmp(shown + page + 10, "by iova") == 0);
  CHECK(::close(file) == 0);  // which stays as long as it is mapped
  CHECK(m.shows(base, 2 * page, from + page) == 0);

  // Who maps files may hand them on; whoever maps memory may not.
  iommu::ioas_change_process change{sizeof change, 0};
  FAILS(::ioctl(m.fd, iommu::request_of(0x92), &change), EINVAL);
  CHECK(m.unmap(base + 0x10000, page) == 0);
  CHECK(::ioctl(m.fd, iommu::request_of(0x92), &change) == 0);
  CHECK(::close(a) == 0);
  CHECK(m.unmap(base, 2 * page) == 0);
  CHECK(m.refs(from, 4 * page, 0) == 0);
  ::munmap(shown, 4 * page);
}

// Memory of a device is mapped as long as it is there.
void device_memory() {
  machine m(true);
  test_command c = command(test_operation::dmabuf_get, 0);
  c.dmabuf_get = {4 * page + 1, 0};
  FAILS(ask(m.fd, c), EINVAL);
  c.dmabuf_get = {4 * page, O_CLOEXEC};
  const int buffer = ask(m.fd, c);
  CHECK(buffer >= 0);
  const auto revoke = [&](int fd, std::uint32_t on) {
    test_command r = command(test_operation::dmabuf_revoke, 0);
    r.dmabuf_revoke = {fd, on};
    return ask(m.fd, r);
  };
  FAILS(map_file(m, buffer, page, 4 * page, base), EINVAL);
  FAILS(map_file(m, buffer, 0, 4 * page + 2048, base), EINVAL);
  CHECK(map_file(m, buffer, 0, 4 * page, base) == 0);
  CHECK(pinned_kb() == 0);
  FAILS(revoke(m.fd, 1), EINVAL);
  CHECK(revoke(buffer, 1) == 0);
  FAILS(map_file(m, buffer, 0, page, base + 0x10000), ENODEV);
  CHECK(revoke(buffer, 0) == 0);
  CHECK(map_file(m, buffer, 0, page, base + 0x10000) == 0);
  CHECK(m.unmap(base, 4 * page) == 0);
  CHECK(map_file(m, buffer, 0, 4 * page, base) == 0);
  CHECK(::close(buffer) == 0);
  FAILS(map_file(m, buffer, 0, page, base + 0x20000), EBADF);
}

/// Runs it in a child; 0 where all checks of it held.
template <class F>
int in_child(F f) {
  const pid_t child = ::fork();
  if (child == 0) {
    good = true;
    f();
    ::_exit(good ? 0 : 1);
  }
  return ended(child);
}

// An iommufd is one, however many processes have it.
void families() {
  machine m(true);
  const pages own(4);
  char* const shared = static_cast<char*>(
      ::mmap(nullptr, 4 * page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  const auto from = reinterpret_cast<std::uintptr_t>(shared);
  const int a = m.access(0);
  CHECK(m.map(own.address(), base, page) == 0);
  std::strcpy(own.data, "the parent's");
  std::strcpy(shared + page, "of both");
  CHECK(in_child([&] {
          std::strcpy(own.data, "the child's");
          FAILS(m.map(from, base, page), EEXIST);
          CHECK(m.map(from, base + 0x10000, 2 * page) == 0);
          CHECK(m.map(own.address(), base + 0x20000, page) == 0);
          FAILS(m.map(0x20000, base + 0x30000, page), EFAULT);
          FAILS(::ioctl(m.fd, iommu::request_of(0x81), 8L), EFAULT);
          FAILS(::ioctl(m.fd, iommu::request_of(0x81), nullptr), EFAULT);
          CHECK(m.refs(from, 2 * page, 1) == 0);
          CHECK(m.shows(base + 0x10000, 2 * page, from) == 0);
          // Each sees its own memory, and a descriptor is who has it.
          std::array<char, 13> text{};
          CHECK(m.rw(a, base, text.size(), text.data()) == 0);
          CHECK(std::strcmp(text.data(), "the parent's") == 0);
          CHECK(m.rw(a, base + 0x20000, 12, text.data()) == 0);
          CHECK(std::strcmp(text.data(), "the child's") == 0);
          const int copy = ::dup2(a, 200);
          CHECK(m.rw(copy, base, text.size(), text.data()) == 0);
          FAILS(m.rw(201, base, text.size(), text.data()), EBADFD);
          const int file = ::memfd_create("child", MFD_CLOEXEC);
          CHECK(::ftruncate(file, page) == 0);
          CHECK(map_file(m, file, 0, page, base + 0x40000) == 0);
          FAILS(m.access(), ENOMEM);  // it would be the parent's
          CHECK(in_child([&] { CHECK(m.unmap(base + 0x20000, page) == 0); }) == 0);
          const machine another(true);
          CHECK(::close(m.fd) == 0);
          FAILS(m.map(from, base + 0x50000, page), EBADF);
        }) == 0);
  // What it mapped is there, and so are the pages that others hold.
  FAILS(m.map(from, base + 0x10000, page), EEXIST);
  CHECK(m.shows(base + 0x10000, 2 * page, from) == 0);
  std::array<char, 8> text{};
  CHECK(m.rw(a, base + 0x10000 + page, text.size(), text.data()) == 0);
  CHECK(std::strcmp(text.data(), "of both") == 0);
  CHECK(m.unmap(base + 0x40000, page) == 0);
  FAILS(m.unmap(base + 0x20000, page), ENOENT);
  CHECK(m.unmap(base + 0x10000, 2 * page) == 0);
  CHECK(m.refs(from, 4 * page, 0) == 0);
  CHECK(m.unmap(base, page) == 0);
  CHECK(pinned_kb() == 0);

  // Eight children at once, each with its range.
  std::array<pid_t, 8> all{};
  for (std::size_t n = 0; n != all.size(); ++n) {
    all[n] = ::fork();
    if (all[n] != 0) continue;
    good = true;
    for (int round = 0; round != 50; ++round) {
      CHECK(m.map(from, base + n * 0x10000, 4 * page) == 0);
      CHECK(m.unmap(base + n * 0x10000, 4 * page) == 0);
    }
    ::_exit(good ? 0 : 1);
  }
  for (const pid_t child : all) CHECK(ended(child) == 0);
  CHECK(m.refs(from, 4 * page, 0) == 0);
  CHECK(::close(a) == 0);

  // Who has closed it has closed it for all.
  int go[2];
  CHECK(::pipe(go) == 0);
  const pid_t late = ::fork();
  if (late == 0) {
    good = true;
    char byte;
    CHECK(::read(go[0], &byte, 1) == 1);
    FAILS(m.map(from, base, page), EBADF);
    ::_exit(good ? 0 : 1);
  }
  CHECK(::close(m.fd) == 0);
  m.fd = -1;
  CHECK(::write(go[1], "", 1) == 1);
  CHECK(ended(late) == 0);
  ::munmap(shared, 4 * page);
}

/// What /proc says of a process, in kB, or -1.
long status_kb(pid_t process, const char* key, const char* mode = "r") {
  const std::string path = "/proc/" + std::to_string(process) + "/status";
  std::FILE* const file = std::fopen(path.c_str(), mode);
  if (file == nullptr) return -1;
  std::array<char, 200> line{};
  long kb = -1;
  while (std::fgets(line.data(), line.size(), file) != nullptr)
    if (std::strncmp(line.data(), key, std::strlen(key)) == 0)
      kb = std::atol(line.data() + std::strlen(key));
  std::fclose(file);
  return kb;
}

// What is pinned shows where programs look for it, and goes over to who takes the files.
void status() {
  machine m(true);
  const pid_t parent = ::getpid();
  CHECK(status_kb(parent, "VmPin:") == 0);
  const int file = ::memfd_create("test", MFD_CLOEXEC);
  CHECK(::ftruncate(file, 4 * page) == 0);
  CHECK(map_file(m, file, 0, 4 * page, base) == 0);
  CHECK(status_kb(parent, "VmPin:") == 16);
  CHECK(status_kb(parent, "VmLck:") == 0);
  CHECK(status_kb(parent, "VmPin:", "re") == 0);  // which is not looked at
  const int text = ::open("/proc/self/status", O_RDONLY);
  std::array<char, 8192> all{};
  CHECK(::read(text, all.data(), all.size() - 1) > 0);
  CHECK(std::strstr(all.data(), "VmPin:\t      16 kB\n") != nullptr);
  CHECK(::close(text) == 0);
  CHECK(in_child([&] {
          CHECK(status_kb(parent, "VmPin:") == 16);
          CHECK(status_kb(::getpid(), "VmPin:") == 0);
          CHECK(pinned_kb() == 0);
          iommu::ioas_change_process change{sizeof change, 0};
          CHECK(::ioctl(m.fd, iommu::request_of(0x92), &change) == 0);
          CHECK(status_kb(parent, "VmPin:") == 0);
          CHECK(status_kb(::getpid(), "VmPin:") == 16);
          CHECK(pinned_kb() == 16);
        }) == 0);
  CHECK(status_kb(parent, "VmPin:") == 0);
  CHECK(m.unmap(base, 4 * page) == 0);
  ::close(file);
}

// A group joins an iommufd as it joins a container, and VFIO's ioctls mean the compatible space then.
void groups() {
  const pages memory(4);
  machine m;
  namespace vfio = iopt::vfio::abi;
  const int group = ::open("/dev/vfio/0", O_RDWR);
  vfio::dma_map map{sizeof map, 3, memory.address(), base, page};
  FAILS(::ioctl(m.fd, vfio::iommu_map_dma, &map), ENODEV);
  CHECK(::ioctl(group, vfio::group_set_container, &m.fd) == 0);
  FAILS(::ioctl(group, vfio::group_set_container, &m.fd), EINVAL);
  CHECK(::ioctl(m.fd, vfio::set_iommu, vfio::type1v2_iommu) == 0);
  CHECK(::ioctl(m.fd, vfio::iommu_map_dma, &map) == 0);
  iommu::vfio_ioas space{sizeof space, 0, 0, 0};
  CHECK(::ioctl(m.fd, iommu::request_of(0x88), &space) == 0);
  CHECK(space.ioas_id == 2);
  m.space = space.ioas_id;
  CHECK(::ioctl(group, vfio::group_unset_container) == 0);
  FAILS(::ioctl(group, vfio::group_unset_container), EINVAL);
  CHECK(m.unmap(base, page) == 0);
  const int a = m.access();
  FAILS(::ioctl(group, vfio::group_set_container, &a), EBADFD);
  CHECK(::close(a) == 0);
  CHECK(::ioctl(group, vfio::group_set_container, &m.fd) == 0);
  m.close();
  CHECK(::close(group) == 0);  // which held it open
}

// Pins, unmaps and closes side by side: every unmap that is answered has had the pins let go.
void threads() {
  machine m;
  const pages memory(8);
  const std::uint64_t from = memory.address();
  std::atomic<unsigned> wrong = 0;
  std::array<std::thread, 3> all;
  for (unsigned me = 0; me != all.size(); ++me) {
    all[me] = std::thread([&, me] {
      for (int n = 0; n != 200; ++n) {
        if (me == 0) {
          if (m.map(from, base, memory.bytes) != 0 || m.unmap(base, memory.bytes) != 0) ++wrong;
          continue;
        }
        const int a = m.access();
        const int pin = m.pin(a, base + me * page, 2 * page, from + me * page);
        if (pin >= 0 && n % 2 == 0) m.unpin(a, pin);
        if (::close(a) != 0) ++wrong;
      }
    });
  }
  for (std::thread& t : all) t.join();
  CHECK(wrong == 0);
  CHECK(m.refs(from, memory.bytes, 0) == 0);
  CHECK(pinned_kb() == 0);
}

}  // namespace

int main(int count, char** arguments) {
  const std::string_view name = count > 1 ? arguments[1] : "";
  if (pinned_kb() != 0) return std::fputs("run me on libiopt_interpose.so\n", stderr), 2;
  if (name == "pins") {
    pins();
  } else if (name == "copies") {
    copies();
  } else if (name == "files") {
    files();
  } else if (name == "device-memory") {
    device_memory();
  } else if (name == "families") {
    families();
  } else if (name == "groups") {
    groups();
  } else if (name == "status") {
    status();
  } else if (name == "threads") {
    threads();
  } else {
    return std::fputs("no such case\n", stderr), 2;
  }
  return good ? 0 : 1;
}
