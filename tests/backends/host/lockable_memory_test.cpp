// tests/backends/host/lockable_memory_test.cpp - what may still be locked, and the text it is read from.
#include "iopt/backends/host/lockable_memory.hpp"

#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tests/backends/without_lock_capability.hpp"
#include "tests/catch.hpp"

namespace {

using namespace iopt;

static_assert(host::kilobytes_in_status("VmPeak:\t  9 kB\nVmLck:\t      64 kB\n", "VmLck:") == 64);
static_assert(!host::kilobytes_in_status("Name:\tVmLck: 7\n", "VmLck:").has_value());
static_assert(host::kilobytes_in_status("Name:\tVmLck:1\nVmLck:12", "VmLck:") == 12);
static_assert(!host::kilobytes_in_status("VmLck:\t", "VmLck:").has_value());
static_assert(!host::kilobytes_in_status("", "VmLck:").has_value());

TEST_CASE("lockable_bytes: the limit less what is locked, where the limit holds") {
  const test::without_lock_capability bound(256 * kibibyte);
  const auto before = host::lockable_bytes();
  REQUIRE(before.has_value());
  CHECK(*before <= 256 * kibibyte);
  void* const memory =
      ::mmap(nullptr, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  REQUIRE(memory != MAP_FAILED);
  // The call itself: sanitizers make mlock() do nothing.
  if (::syscall(SYS_mlock, memory, 65536) == 0)
    CHECK(*before - host::lockable_bytes().value() == 65536);
  ::munmap(memory, 65536);
  CHECK(host::lockable_bytes() == before);
}

}  // namespace
