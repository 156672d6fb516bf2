// tests/backends/host/process_pinner_test.cpp - a pinner for any memory of this process.
#include "iopt/backends/host/process_pinner.hpp"

#include <sys/mman.h>
#include <sys/wait.h>

#include <array>
#include <cstring>
#include <thread>
#include <vector>

#include "iopt/backends/mock/mock.hpp"
#include "iopt/core/io_pagetable.hpp"
#include "iopt/core/multi_threaded.hpp"
#include "tests/catch.hpp"
#include "tests/policy/page_pinner_conformance.hpp"

namespace {

using namespace iopt;
using iopt::access_rights;  // not that of unistd.h

/// Memory of this process, for as long as it lives.
class pages {
 public:
  explicit pages(std::uint64_t count, int protection = PROT_READ | PROT_WRITE)
      : bytes_(count * 4096),
        data_(static_cast<std::byte*>(::mmap(nullptr, bytes_, protection,
                                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0))) {
    REQUIRE(data_ != MAP_FAILED);
  }
  pages(const pages&) = delete;
  pages& operator=(const pages&) = delete;
  ~pages() { ::munmap(data_, bytes_); }

  std::byte* data() const { return data_; }
  user_range range() const {
    return user_range::sized({reinterpret_cast<std::uintptr_t>(data_)}, bytes_);
  }
  user_range part(std::uint64_t first, std::uint64_t count) const {
    return user_range::sized(range().first + first * 4096, count * 4096);
  }
  void protect(std::uint64_t first, std::uint64_t count, int protection) const {
    REQUIRE(::mprotect(data_ + first * 4096, count * 4096, protection) == 0);
  }
  /// Pages past the end of a file: nothing is there, and nobody else moves in.
  void empty(std::uint64_t first, std::uint64_t count) const {
    const int file = ::memfd_create("nothing", MFD_CLOEXEC);
    REQUIRE(::mmap(data_ + first * 4096, count * 4096, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_FIXED, file, 0) != MAP_FAILED);
    ::close(file);
  }

 private:
  std::uint64_t bytes_;
  std::byte* data_;
};

/// Limits that a test sets, by mode.
using limit_table = std::array<std::uint64_t, host::process_accounts::modes>;
struct set_limits {
  limit_table* pages;
  std::uint64_t operator()(account_mode mode) const noexcept {
    return (*pages)[static_cast<std::size_t>(mode)];
  }
};
using limited_pinner = host::process_pinner<set_limits>;

struct process_hooks {
  limit_table& limits;
  pages& good;
  pages& bad;
  pages& fixed;

  std::uint64_t page_bytes() const { return 4096; }
  user_range memory(limited_pinner&, std::uint64_t count) const { return good.part(1, count); }
  user_range hole(limited_pinner&) const { return bad.part(0, 1); }
  user_range read_only(limited_pinner&) const { return fixed.part(0, 1); }
  std::uint64_t pins(limited_pinner& p, physical f) const { return p.pins({f.value}); }
  void limit(limited_pinner&, account_mode mode, std::uint64_t count) const {
    limits[static_cast<std::size_t>(mode)] = count;
  }
  limited_pinner::owner vanished(limited_pinner&) const {
    const pid_t child = ::fork();
    if (child == 0) ::_exit(0);
    ::waitpid(child, nullptr, 0);
    return {child};
  }
};

TEST_CASE("the process pinner keeps the contract of page_pinner", "[conformance]") {
  limit_table limits;
  limits.fill(top);
  pages good(70), bad(2, PROT_NONE), fixed(1, PROT_READ);
  iopt_conformance::check_pinner<limited_pinner>(
      [&] {
        limits.fill(top);
        return limited_pinner(set_limits{&limits});
      },
      process_hooks{limits, good, bad, fixed});
}

/// A list with storage of its own.
template <std::size_t Capacity>
struct batch {
  std::array<run, Capacity> storage{};
  run_list list{std::span<run>(storage)};
};

TEST_CASE("process_pinner: frames are addresses, whatever the memory") {
  host::process_pinner<> p;
  const pages mapped(600);
  static std::byte of_the_program[3 * 4096];
  std::vector<std::byte> heap(3 * 4096);
  for (const user_range where :
       {mapped.range(),
        user_range::sized({(reinterpret_cast<std::uintptr_t>(of_the_program) + 4095) / 4096 * 4096},
                          4096),
        user_range::sized({(reinterpret_cast<std::uintptr_t>(heap.data()) + 4095) / 4096 * 4096},
                          4096)}) {
    batch<1> out;
    REQUIRE(p.pin(p.current(), where, access_rights::read_write, out.list).has_value());
    REQUIRE(out.list.size() == 1);
    CHECK(out.list[0] == run({where.first.value}, where.length()));
    CHECK(p.pinned_pages() == where.length() / 4096);
    p.unpin(out.list[0], true);
    CHECK(p.pinned_pages() == 0);
    CHECK(p.verify() == "");
  }
}

TEST_CASE("process_pinner: stops early, but not before the first page") {
  host::process_pinner<> p;
  const pages memory(20);
  memory.protect(5, 1, PROT_NONE);
  memory.protect(12, 3, PROT_READ);
  memory.empty(17, 1);
  const auto pinned = [&](std::uint64_t first, std::uint64_t count, access_rights rights) {
    batch<2> out;
    const result<void> answer = p.pin(p.current(), memory.part(first, count), rights, out.list);
    if (!answer) {
      CHECK(answer.error() == errc::bad_address);
      CHECK(out.list.empty());
      return std::uint64_t{0};
    }
    const std::uint64_t bytes = out.list.bytes();
    for (const run r : out.list) p.unpin(r, false);
    return bytes / 4096;
  };
  CHECK(pinned(0, 20, access_rights::read) == 5);
  CHECK(pinned(4, 2, access_rights::read_write) == 1);
  CHECK(pinned(5, 2, access_rights::read) == 0);
  CHECK(pinned(6, 14, access_rights::read) == 11);
  CHECK(pinned(6, 14, access_rights::write) == 6);
  CHECK(pinned(12, 1, access_rights::write) == 0);
  CHECK(pinned(12, 3, access_rights::read) == 3);
  CHECK(pinned(17, 3, access_rights::read) == 0);
  CHECK(pinned(18, 2, access_rights::read_write) == 2);
  CHECK(p.pinned_pages() == 0);
  batch<1> out;
  CHECK(p.pin(p.current(), {{0x20000}, {0x20fff}}, access_rights::read, out.list).error() ==
        errc::bad_address);  // so low is nothing
  CHECK(p.pin(p.current(), {{top - 4095}, {top}}, access_rights::read, out.list).error() ==
        errc::bad_address);
  CHECK(p.pin(p.current(), {{top - gibibyte + 1}, {top}}, access_rights::read, out.list).error() ==
        errc::bad_address);
}

TEST_CASE("process_pinner: gives no memory to more than it probes") {
  host::process_pinner<> p;
  constexpr std::uint64_t probed = host::process_pinner<>::longest_probe_bytes / 4096;
  const pages memory(3 * probed);
  batch<2> out;
  REQUIRE(p.pin(p.current(), memory.range(), access_rights::read, out.list).has_value());
  CHECK(out.list.bytes() == probed * 4096);
  // The next joins it.
  REQUIRE(p.pin(p.current(), memory.part(probed, 2 * probed), access_rights::read, out.list)
              .has_value());
  CHECK(out.list.size() == 1);
  CHECK(out.list.bytes() == 2 * probed * 4096);
  p.unpin(run({memory.range().first.value}, 2 * probed * 4096), false);
  CHECK(p.pinned_pages() == 0);
}

TEST_CASE("process_pinner: a fork may give back what its parent pinned, in its own copy") {
  host::process_pinner<> p;
  const pages memory(4);
  batch<1> out;
  const auto parent = p.current();
  REQUIRE(p.pin(parent, memory.range(), access_rights::read_write, out.list).has_value());
  REQUIRE(p.charge(parent, account_mode::type1_unlimited, 4).has_value());
  const pid_t child = ::fork();
  if (child == 0) {
    const auto me = p.current();
    batch<1> again;
    bool good =
        !(me == parent) && p.reachable(parent) && p.locked_vm(me) == 0 && p.locked_vm(parent) == 4;
    good = good && p.pin(parent, memory.range(), access_rights::read, again.list).error() ==
                       errc::bad_address;
    good = good && p.charge(parent, account_mode::mm, 1).error() == errc::invalid_argument;
    p.unpin(out.list[0], false);
    p.uncharge(parent, account_mode::type1_unlimited, 4);
    good = good && p.pinned_pages() == 0 && p.charged() == 0;
    good = good && p.charge(me, account_mode::type1_unlimited, 2) && p.locked_vm(me) == 2;
    good = good && p.pin(me, memory.part(1, 2), access_rights::read, again.list).has_value();
    ::_exit(good ? 0 : 1);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(status == 0);
  CHECK_FALSE(p.reachable({child}));
  CHECK(p.pinned_pages() == 4);
  CHECK(p.locked_vm(parent) == 4);
  p.unpin(out.list[0], false);
  p.uncharge(parent, account_mode::type1_unlimited, 4);
}

TEST_CASE("process_pinner: a table maps memory of the program, refusing what is not there") {
  host::process_pinner<> p;
  mock::domain iommu;
  io_pagetable<host::process_pinner<>, mock::domain> table(p);
  REQUIRE(table.attach(iommu).has_value());
  const pages memory(512);
  memory.empty(300, 1);
  const user_address at = memory.range().first;
  REQUIRE(table.map(at, 300 * 4096, access_rights::read_write, iova{0x100000}).has_value());
  CHECK(iommu.translate({0x100000 + 5 * 4096}) == physical{at.value + 5 * 4096});
  const auto refused = table.map(at, 400 * 4096, access_rights::read, iova{0x10000000});
  REQUIRE_FALSE(refused.has_value());
  CHECK(refused.error() == errc::bad_address);
  CHECK(p.pinned_pages() == 300);
  CHECK(table.unmap({0x100000}, 300 * 4096, unmap_profile::iommufd));
  CHECK(p.pinned_pages() == 0);
  CHECK(p.charged() == 0);
}

TEST_CASE("process_pinner: several threads pin, count and copy") {
  host::process_pinner<> p;
  const pages memory(1024);
  std::vector<std::thread> threads;
  std::array<int, 4> wrong{};
  for (std::size_t t = 0; t != 4; ++t) {
    threads.emplace_back([&, t] {
      // Neighbours overlap by half.
      const user_range mine = memory.part(t * 200, 400);
      for (int round = 0; round != 100; ++round) {
        batch<1> out;
        if (!p.pin(p.current(), mine, access_rights::read_write, out.list)) ++wrong[t];
        if (!p.charge(p.current(), account_mode::type1_unlimited, 400)) ++wrong[t];
        if (p.pins(mine.first) == 0) ++wrong[t];
        p.uncharge(p.current(), account_mode::type1_unlimited, 400);
        p.unpin(out.list[0], false);
      }
    });
  }
  for (std::thread& t : threads) t.join();
  for (const int n : wrong) CHECK(n == 0);
  CHECK(p.pinned_pages() == 0);
  CHECK(p.charged() == 0);
  CHECK(p.verify() == "");
}

}  // namespace
