// tests/backends/host/address_pinner_test.cpp - a pinner that pins nothing.
#include "iopt/backends/host/address_pinner.hpp"

#include <sys/mman.h>
#include <sys/wait.h>

#include <array>

#include "iopt/backends/mock/mock.hpp"
#include "iopt/core/io_pagetable.hpp"
#include "tests/catch.hpp"
#include "tests/policy/page_pinner_conformance.hpp"

namespace {

using namespace iopt;
using iopt::access_rights;  // not that of unistd.h

struct some_memory {
  std::byte* data = static_cast<std::byte*>(
      ::mmap(nullptr, 70 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  some_memory() { REQUIRE(data != MAP_FAILED); }
  some_memory(const some_memory&) = delete;
  some_memory& operator=(const some_memory&) = delete;
  ~some_memory() { ::munmap(data, 70 * 4096); }
  user_range pages(std::uint64_t first, std::uint64_t count) const {
    return user_range::sized({reinterpret_cast<std::uintptr_t>(data) + first * 4096}, count * 4096);
  }
};

struct hooks {
  some_memory& m;
  std::uint64_t page_bytes() const { return 4096; }
  user_range memory(host::address_pinner&, std::uint64_t count) const { return m.pages(1, count); }
  host::address_pinner::owner vanished(host::address_pinner&) const {
    const pid_t child = ::fork();
    if (child == 0) ::_exit(0);
    ::waitpid(child, nullptr, 0);
    return {child};
  }
};

TEST_CASE("the address pinner keeps the contract of page_pinner", "[conformance]") {
  some_memory m;
  iopt_conformance::check_pinner<host::address_pinner>([] { return host::address_pinner(); },
                                                       hooks{m});
}

TEST_CASE("address_pinner: any range is one run, and nothing is touched") {
  host::address_pinner p;
  std::array<run, 1> storage{};
  run_list out{std::span<run>(storage)};
  const user_range terabyte = user_range::sized({std::uint64_t{1} << 46}, std::uint64_t{1} << 40);
  REQUIRE(p.pin(p.current(), terabyte, access_rights::read_write, out).has_value());
  CHECK(out[0] == run({terabyte.first.value}, terabyte.length()));
}

TEST_CASE("address_pinner: a table maps in one call of the domain whatever the length") {
  host::address_pinner p;
  mock::domain d;
  io_pagetable<host::address_pinner, mock::domain> table(p);
  REQUIRE(table.attach(d).has_value());
  REQUIRE(table.map({std::uint64_t{1} << 40}, 64 * gibibyte, access_rights::read, iova{gibibyte})
              .has_value());
  CHECK(d.contents().size() == 1);
  CHECK(d.translate({gibibyte + 4097}) == physical{(std::uint64_t{1} << 40) + 4097});
}

}  // namespace
