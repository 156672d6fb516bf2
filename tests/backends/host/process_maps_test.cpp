// tests/backends/host/process_maps_test.cpp - what is mapped, against what the test mapped.
#include "iopt/backends/host/process_maps.hpp"

#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <csignal>
#include <vector>

#include "tests/catch.hpp"

using namespace iopt;
using host::process_maps;

namespace {

constexpr std::uint64_t page = 4096;

user_address address_of(const void* p) { return {reinterpret_cast<std::uintptr_t>(p)}; }

/// Eight pages: private memory, a hole, two that show a file from its third page on, a hole, private
/// memory for reading, none at all, and a hole.
struct sample {
  sample() : file(::memfd_create("sample", MFD_CLOEXEC)) {
    REQUIRE(file >= 0);
    REQUIRE(::ftruncate(file, 8 * page) == 0);
    at = static_cast<char*>(
        ::mmap(nullptr, 8 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    REQUIRE(at != MAP_FAILED);
    ::mprotect(at, page, PROT_READ | PROT_WRITE);
    ::mmap(at + 2 * page, 2 * page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file, 2 * page);
    ::mprotect(at + 5 * page, page, PROT_READ);
    for (const std::uint64_t hole : {1u, 4u, 7u}) ::munmap(at + hole * page, page);
  }
  sample(const sample&) = delete;
  sample& operator=(const sample&) = delete;
  ~sample() {
    ::munmap(at, 8 * page);
    ::close(file);
  }
  user_range pages(std::uint64_t first, std::uint64_t count) const {
    return user_range::sized(address_of(at + first * page), count * page);
  }
  int file;
  char* at;
};

}  // namespace

TEST_CASE("a process's mappings are found by address, with what is behind them") {
  const sample s;
  process_maps maps(::getpid(), GENERATE(process_maps::how::best, process_maps::how::by_text));

  const auto own = maps.first_at(address_of(s.at + 5));
  REQUIRE(own);
  CHECK(own->where.last == s.pages(0, 1).last);  // it may have joined what was there before
  CHECK(own->rights == access_rights::read_write);
  CHECK_FALSE(own->shared);
  CHECK(own->inode == 0);

  struct stat is{};
  ::fstat(s.file, &is);
  for (const std::uint64_t in : {page, 2 * page, 4 * page - 1}) {  // in a hole: the next above
    const auto shown = maps.first_at(address_of(s.at + in));
    REQUIRE(shown);
    CHECK(shown->where == s.pages(2, 2));
    CHECK(shown->rights == access_rights::read_write);
    CHECK(shown->shared);
    CHECK(shown->inode == is.st_ino);
    CHECK(shown->offset == 2 * page);
  }
  const auto readable = maps.first_at(address_of(s.at + 4 * page));
  REQUIRE(readable);
  CHECK(readable->where == s.pages(5, 1));
  CHECK(readable->rights == access_rights::read);
  const auto none = maps.first_at(address_of(s.at + 6 * page));
  REQUIRE(none);
  CHECK(none->where.first == s.pages(6, 1).first);
  CHECK(none->rights == access_rights::none);

  CHECK(maps.first_at({top - page}).error() == errc::bad_address);
}

TEST_CASE("objects of one number on two devices are told apart") {
  const sample s;
  struct stat is{};
  const int null = ::open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
  ::fstat(null, &is);
  void* const at = ::mmap(nullptr, page, PROT_READ, MAP_SHARED, null, 0);
  REQUIRE(at != MAP_FAILED);
  process_maps maps(::getpid(), GENERATE(process_maps::how::best, process_maps::how::by_text));
  const auto program = maps.first_at(address_of(at));
  const auto file = maps.first_at(address_of(s.at + 2 * page));
  REQUIRE((program && file));
  CHECK(program->inode == is.st_ino);
  CHECK(program->device != file->device);
  ::munmap(at, page);
  ::close(null);
}

TEST_CASE("the text is read past the first block, and past a long name") {
  // A hundred mappings below the one that is asked for; holes keep them apart.
  char* const at = static_cast<char*>(
      ::mmap(nullptr, 400 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  REQUIRE(at != MAP_FAILED);
  for (std::uint64_t n = 0; n < 400; n += 2) ::munmap(at + n * page, page);
  process_maps best(::getpid()), text(::getpid(), process_maps::how::by_text);
  for (std::uint64_t n = 0; n < 400; ++n) {
    const auto a = best.first_at(address_of(at + n * page));
    const auto b = text.first_at(address_of(at + n * page));
    REQUIRE((a && b));
    CHECK(a->where == b->where);
    CHECK(b->where.first == address_of(at + (n | 1) * page));
  }
  ::munmap(at, 400 * page);
}

TEST_CASE("another process's mappings are seen while it lives") {
  const sample s;
  int wait[2];
  REQUIRE(::pipe(wait) == 0);
  const pid_t child = ::fork();
  if (child == 0) {
    char byte;
    ::close(wait[1]);
    [[maybe_unused]] const ssize_t got = ::read(wait[0], &byte, 1);
    ::_exit(0);
  }
  process_maps maps(child, GENERATE(process_maps::how::best, process_maps::how::by_text));
  ::munmap(s.at, page);  // here, and not there
  const auto there = maps.first_at(address_of(s.at));
  REQUIRE(there);
  CHECK(there->where.contains(address_of(s.at)));
  ::close(wait[1]);
  ::close(wait[0]);
  ::waitpid(child, nullptr, 0);
  CHECK(maps.first_at(address_of(s.at)).error() == errc::no_such_file_or_directory);
  process_maps gone(child);
  CHECK(gone.first_at({0}).error() == errc::no_such_file_or_directory);
}
