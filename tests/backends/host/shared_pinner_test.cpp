// tests/backends/host/shared_pinner_test.cpp - pages that several show have one frame.
#include "iopt/backends/host/shared_pinner.hpp"

#include <sys/mman.h>
#include <sys/wait.h>

#include <array>
#include <cstring>
#include <functional>
#include <numeric>
#include <vector>

#include "iopt/backends/mock/domain.hpp"
#include "iopt/core/access_object.hpp"
#include "iopt/core/io_pagetable.hpp"
#include "tests/catch.hpp"
#include "tests/policy/page_pinner_conformance.hpp"

namespace {

using namespace iopt;
using host::shared_pinner;
using iopt::access_rights;  // not that of unistd.h

constexpr std::uint64_t page = 4096;
constexpr access_rights rw = access_rights::read_write;

user_address address_of(const void* p) { return {reinterpret_cast<std::uintptr_t>(p)}; }

/// Memory of this process, private or shared, or of a file.
class some_pages {
 public:
  explicit some_pages(std::uint64_t count, int kind = MAP_PRIVATE | MAP_ANONYMOUS, int file = -1,
                      int protection = PROT_READ | PROT_WRITE)
      : count_(count),
        data_(static_cast<char*>(
            ::mmap(nullptr, count * page, protection, kind | MAP_NORESERVE, file, 0))) {
    REQUIRE(data_ != MAP_FAILED);
  }
  some_pages(const some_pages&) = delete;
  some_pages& operator=(const some_pages&) = delete;
  ~some_pages() { ::munmap(data_, count_ * page); }
  char* data() const { return data_; }
  user_range part(std::uint64_t first, std::uint64_t count) const {
    return user_range::sized(address_of(data_) + first * page, count * page);
  }
  user_range range() const { return part(0, count_); }

 private:
  std::uint64_t count_;
  char* data_;
};

struct memfd {
  explicit memfd(std::uint64_t count, unsigned flags = 0)
      : number(::memfd_create("test", MFD_CLOEXEC | flags)) {
    REQUIRE(number >= 0);
    REQUIRE(::ftruncate(number, static_cast<off_t>(count * page)) == 0);
  }
  memfd(const memfd&) = delete;
  memfd& operator=(const memfd&) = delete;
  ~memfd() { ::close(number); }
  int number;
};

/// A child that waits for its parent to let it go.
class child {
 public:
  explicit child(const std::function<void()>& first = [] {}) {
    REQUIRE(::pipe(go_) == 0);
    int ready[2];
    REQUIRE(::pipe(ready) == 0);
    process = ::fork();
    if (process == 0) {
      first();
      char byte = 0;
      ::close(go_[1]);
      [[maybe_unused]] ssize_t done = ::write(ready[1], &byte, 1);
      done = ::read(go_[0], &byte, 1);
      ::_exit(0);
    }
    char byte;
    REQUIRE(::read(ready[0], &byte, 1) == 1);
    ::close(ready[0]), ::close(ready[1]);
  }
  child(const child&) = delete;
  child& operator=(const child&) = delete;
  ~child() { end(); }
  void end() {
    if (process == 0) return;
    ::close(go_[0]), ::close(go_[1]);
    ::waitpid(process, nullptr, 0);
    process = 0;
  }
  shared_pinner::owner owner() const { return {process}; }
  pid_t process = 0;

 private:
  int go_[2];
};

struct batch {
  std::array<run, 8> storage{};
  run_list list{std::span<run>(storage)};
  std::vector<run> runs() { return {list.begin(), list.end()}; }
};

std::vector<run> pinned(shared_pinner& p, shared_pinner::owner who, user_range where) {
  batch b;
  REQUIRE(p.pin(who, where, rw, b.list));
  return b.runs();
}
void give_back(shared_pinner& p, const std::vector<run>& runs) {
  for (const run& r : runs) p.unpin(r, true);
  CHECK(p.verify() == "");
}

struct hooks {
  some_pages& good;
  some_pages& bad;
  some_pages& fixed;
  std::uint64_t page_bytes() const { return page; }
  user_range memory(shared_pinner&, std::uint64_t count) { return good.part(0, count); }
  user_range hole(shared_pinner&) { return bad.part(0, 1); }
  user_range read_only(shared_pinner&) { return fixed.range(); }
  std::uint64_t pins(shared_pinner& p, physical at) { return p.pins(at); }
  host::shared_file file(shared_pinner&, std::uint64_t bytes) {
    const memfd made((bytes + page - 1) / page);
    REQUIRE(::ftruncate(made.number, static_cast<off_t>(bytes)) == 0);
    return *host::shared_file::open(made.number);
  }
  shared_pinner::owner vanished(shared_pinner&) {
    child gone;
    const shared_pinner::owner who = gone.owner();
    gone.end();
    return who;
  }
};

}  // namespace

TEST_CASE("the shared pinner keeps the contract of page_pinner", "[conformance]") {
  constexpr int own = MAP_PRIVATE | MAP_ANONYMOUS;
  some_pages good(70), bad(2, own, -1, PROT_NONE), fixed(1, own, -1, PROT_READ);
  iopt_conformance::check_pinner<shared_pinner>([] { return shared_pinner(); },
                                                hooks{good, bad, fixed});
}

TEST_CASE("private memory of this process has frames that are its addresses") {
  shared_pinner p;
  const some_pages memory(5);
  const auto runs = pinned(p, p.current(), memory.range());
  REQUIRE(runs.size() == 1);
  CHECK(runs[0] == run({memory.range().first.value}, 5 * page));
  CHECK(p.pins({memory.range().first.value}) == 1);
  give_back(p, runs);
  CHECK(p.pinned_pages() == 0);
}

TEST_CASE("one page that is mapped twice has one frame, and so has its file") {
  shared_pinner p;
  const memfd file(8);
  const some_pages one(8, MAP_SHARED, file.number), two(8, MAP_SHARED, file.number);
  const auto held = host::shared_file::open(file.number);
  REQUIRE(held);
  const auto a = pinned(p, p.current(), one.part(2, 3));
  const auto b = pinned(p, p.current(), two.part(2, 3));
  batch c;
  REQUIRE(p.pin_file(*held, user_range::sized({2 * page}, 3 * page), rw, c.list));
  CHECK(a == b);
  CHECK(a == c.runs());
  CHECK(p.pins(a[0].first) == 3);
  CHECK(*p.frame_at(p.current(), one.part(3, 1).first) == a[0].first + page);
  CHECK(*p.frame_at(p.current(), two.part(3, 1).first) == a[0].first + page);
  give_back(p, a);
  give_back(p, b);
  CHECK(p.pins(a[0].first) == 1);
  give_back(p, c.runs());
  CHECK(p.frame_at(p.current(), one.part(3, 1).first).error() == errc::no_such_file_or_directory);
}

TEST_CASE("a range over several mappings is a run for each") {
  shared_pinner p;
  const memfd file(2);
  const some_pages memory(6);
  REQUIRE(::mmap(memory.data() + 2 * page, 2 * page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
                 file.number, 0) != MAP_FAILED);
  const auto runs = pinned(p, p.current(), memory.range());
  REQUIRE(runs.size() == 3);
  CHECK(runs[0].length_bytes == 2 * page);
  CHECK(runs[1].length_bytes == 2 * page);
  CHECK(runs[2].first.value == memory.part(4, 1).first.value);
  give_back(p, runs);
}

TEST_CASE("files are pinned by offset, to their end and no further") {
  shared_pinner p;
  const memfd file(4);
  const auto held = host::shared_file::open(file.number);
  const auto pin = [&](std::uint64_t first, std::uint64_t count) {
    batch b;
    const auto done =
        p.pin_file(*held, user_range::sized({first * page}, count * page), rw, b.list);
    give_back(p, b.runs());
    return done ? b.list.bytes() : static_cast<std::uint64_t>(done.error().number());
  };
  CHECK(pin(0, 4) == 4 * page);
  CHECK(pin(2, 9) == 2 * page);
  CHECK(pin(4, 1) == EINVAL);
  REQUIRE(::ftruncate(file.number, 100) == 0);
  CHECK(pin(0, 2) == page);
  CHECK(pin(1, 1) == EINVAL);
  struct stat is{};
  REQUIRE(::fstat(file.number, &is) == 0);
  CHECK(is.st_size == 100);
  REQUIRE(::ftruncate(file.number, 0) == 0);
  CHECK(pin(0, 1) == EINVAL);

  CHECK(host::shared_file::open(-1).error() == errc::bad_file_descriptor);
  const int null = ::open("/dev/zero", O_RDWR | O_CLOEXEC);
  const auto other = host::shared_file::open(null);
  ::close(null);
  batch b;
  CHECK(p.pin_file(*other, user_range::sized({0}, page), rw, b.list).error() ==
        errc::invalid_argument);
  CHECK_FALSE(*other == *held);
}

TEST_CASE("what is pinned of a file is read and written through its frames") {
  shared_pinner p;
  const memfd file(4);
  const some_pages shown(4, MAP_SHARED, file.number);
  std::strcpy(shown.data() + 2 * page + 100, "in the file");
  const auto held = host::shared_file::open(file.number);
  batch b;
  REQUIRE(p.pin_file(*held, user_range::sized({page}, 2 * page), rw, b.list));
  std::array<std::byte, 12> text{};
  p.read_frame(b.list[0].first + page + 100, text);
  CHECK(std::memcmp(text.data(), "in the file", 12) == 0);
  p.write_frame(b.list[0].first + 50, text);
  CHECK(std::memcmp(shown.data() + page + 50, "in the file", 12) == 0);
  give_back(p, b.runs());
}

TEST_CASE("another process's shared memory is the page that this one shows") {
  shared_pinner p;
  const some_pages shared(4, MAP_SHARED | MAP_ANONYMOUS);
  const some_pages own(4);
  std::strcpy(own.data(), "before");
  child c([&] { std::strcpy(own.data(), "after"); });
  const auto theirs = pinned(p, c.owner(), shared.part(1, 2));
  const auto ours = pinned(p, p.current(), shared.part(1, 2));
  CHECK(theirs == ours);
  CHECK(p.pins(ours[0].first) == 2);

  // What is private is another page there.
  const auto their_own = pinned(p, c.owner(), own.range());
  CHECK(their_own.size() == 1);
  CHECK(their_own[0].first.value != own.range().first.value);
  std::array<std::byte, 6> text{};
  REQUIRE(p.read(c.owner(), own.range().first, text));
  CHECK(std::memcmp(text.data(), "after", 6) == 0);
  p.read_frame(their_own[0].first, text);
  CHECK(std::memcmp(text.data(), "after", 6) == 0);
  REQUIRE(p.write(c.owner(), own.range().first, std::as_bytes(std::span("again", 6))));
  p.read_frame(their_own[0].first, text);
  CHECK(std::memcmp(text.data(), "again", 6) == 0);
  CHECK(std::strcmp(own.data(), "before") == 0);

  // What it shares outlives it; what was its own does not.
  c.end();
  p.write_frame(theirs[0].first + 5, std::as_bytes(std::span("left", 5)));
  CHECK(std::strcmp(shared.data() + page + 5, "left") == 0);
  text.fill(std::byte{1});
  p.read_frame(their_own[0].first, text);
  CHECK(text[0] == std::byte{0});
  p.write_frame(their_own[0].first, text);
  batch b;
  CHECK(p.pin(c.owner(), shared.part(0, 1), rw, b.list).error() == errc::bad_address);
  give_back(p, theirs);
  give_back(p, ours);
  give_back(p, their_own);
  CHECK(p.pinned_pages() == 0);
}

TEST_CASE("another process's memory is pinned to its first hole, and not where rights lack") {
  shared_pinner p;
  const some_pages memory(200);
  ::munmap(memory.data() + 150 * page, page);
  ::mprotect(memory.data() + 180 * page, page, PROT_READ);
  ::mprotect(memory.data() + 190 * page, page, PROT_NONE);
  const child c;
  const auto bytes = [&](std::uint64_t first, std::uint64_t count, access_rights rights) {
    batch b;
    const auto done = p.pin(c.owner(), memory.part(first, count), rights, b.list);
    give_back(p, b.runs());
    return done ? b.list.bytes() / page : 0;
  };
  CHECK(bytes(0, 200, rw) == 150);
  CHECK(bytes(150, 1, rw) == 0);
  CHECK(bytes(151, 49, rw) == 29);
  CHECK(bytes(151, 49, access_rights::read) == 39);
  CHECK(bytes(180, 1, rw) == 0);
  CHECK(bytes(190, 1, access_rights::read) == 0);
}

TEST_CASE("processes are charged one by one, each below its own limit") {
  shared_pinner p;
  child c([] {
    const rlimit small{2 * page, 2 * page};
    ::setrlimit(RLIMIT_MEMLOCK, &small);
  });
  CHECK(p.charge(c.owner(), account_mode::mm, 3).error() == errc::not_enough_memory);
  REQUIRE(p.charge(c.owner(), account_mode::mm, 2));
  CHECK(p.locked_vm(c.owner()) == 2);
  CHECK(p.locked_vm(p.current()) == 0);
  const auto who = c.owner();
  c.end();
  CHECK(p.charge(who, account_mode::none, 1).error() == errc::invalid_argument);
  p.uncharge(who, account_mode::mm, 2);
  CHECK(p.charged() == 0);
}

TEST_CASE("an access object reads what a process mapped, also when that is gone") {
  shared_pinner p;
  const some_pages shared(4, MAP_SHARED | MAP_ANONYMOUS);
  std::strcpy(shared.data() + page, "kept");
  io_pagetable<shared_pinner, mock::domain> table(p);
  access_object<shared_pinner, mock::domain> user;
  mock::domain d;
  REQUIRE(table.attach(d));
  REQUIRE(user.attach(table));
  child c;
  typename decltype(table)::memory what = table.user_memory(shared.range().first);
  what.of.owner = c.owner();
  REQUIRE(table.map(what, 4 * page, rw, iova{0x10000}));
  std::array<std::byte, 5> text{};
  REQUIRE(user.read({0x11000}, text));
  c.end();
  REQUIRE(user.read({0x11000}, text));
  CHECK(std::memcmp(text.data(), "kept", 5) == 0);
  user.detach();
  REQUIRE(table.unmap_all().outcome);
  REQUIRE(table.detach(d));
  CHECK(p.pinned_pages() == 0);
}
