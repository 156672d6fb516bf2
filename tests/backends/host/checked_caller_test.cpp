// tests/backends/host/checked_caller_test.cpp - copies for callers that may err.
#include "iopt/backends/host/checked_caller.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <cstring>

#include "tests/catch.hpp"

namespace {

using namespace iopt;
using host::checked_caller;

user_address at(const void* p) { return {reinterpret_cast<std::uintptr_t>(p)}; }

/// Four pages: to read and write, to read, neither, and past the end of a file.
struct four_pages {
  std::byte* data = static_cast<std::byte*>(
      ::mmap(nullptr, 4 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  four_pages() {
    REQUIRE(data != MAP_FAILED);
    std::memset(data, 0x5a, 4 * 4096);
    REQUIRE(::mprotect(data + 4096, 4096, PROT_READ) == 0);
    REQUIRE(::mprotect(data + 8192, 4096, PROT_NONE) == 0);
    const int file = ::memfd_create("nothing", MFD_CLOEXEC);
    REQUIRE(::mmap(data + 12288, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, file, 0) !=
            MAP_FAILED);
    ::close(file);
  }
  four_pages(const four_pages&) = delete;
  four_pages& operator=(const four_pages&) = delete;
  ~four_pages() { ::munmap(data, 4 * 4096); }
};

TEST_CASE("checked_caller: good memory is copied") {
  checked_caller copy;
  std::array<std::byte, 24> there{}, here{};
  for (std::size_t n = 0; n != there.size(); ++n) there[n] = static_cast<std::byte>(n + 1);
  CHECK(copy.read(at(there.data()), here));
  CHECK(here == there);
  here[5] = std::byte{99};
  CHECK(copy.write(at(there.data() + 1), std::span(here).first(6)));
  CHECK(there[6] == std::byte{99});
  CHECK(there[7] == std::byte{8});
  CHECK(copy.read(at(there.data()), {}));
  CHECK(copy.write({0}, {}));
}

TEST_CASE("checked_caller: bad memory is refused without a signal") {
  checked_caller copy;
  four_pages pages;
  std::array<std::byte, 16> bytes{};
  CHECK(copy.read(at(pages.data + 4088), bytes));
  CHECK_FALSE(copy.write(at(pages.data + 4088), bytes));
  CHECK(copy.write(at(pages.data + 4080), bytes));
  for (const std::size_t offset : {std::size_t{8184}, std::size_t{8192}, std::size_t{8190},
                                   std::size_t{12280}, std::size_t{12288}}) {
    CAPTURE(offset);
    CHECK_FALSE(copy.read(at(pages.data + offset), bytes));
    CHECK_FALSE(copy.write(at(pages.data + offset), bytes));
  }
  for (const std::uint64_t address :
       {std::uint64_t{0}, std::uint64_t{8}, std::uint64_t{0x20000}, top, top - 15,
        std::uint64_t{1} << 63, checked_caller::end - 16, checked_caller::end - 15}) {
    CAPTURE(address);
    CHECK_FALSE(copy.read({address}, bytes));
    CHECK_FALSE(copy.write({address}, bytes));
  }
}

TEST_CASE("checked_caller: what may be a user's memory at all") {
  const checked_caller copy;
  constexpr std::uint64_t end = checked_caller::end;
  CHECK(copy.contains({0}, 0));
  CHECK(copy.contains({0}, end));
  CHECK_FALSE(copy.contains({0}, end + 1));
  CHECK_FALSE(copy.contains({0}, top));
  CHECK(copy.contains({end}, 0));
  CHECK_FALSE(copy.contains({end}, 1));
  CHECK(copy.contains({end - 8}, 8));
  CHECK_FALSE(copy.contains({end - 8}, 9));
  CHECK_FALSE(copy.contains({end + 1}, 0));
  CHECK_FALSE(copy.contains({top}, 1));
  CHECK_FALSE(copy.contains({top - 4095}, top - 4096));
}

}  // namespace
