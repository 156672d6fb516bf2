// tests/backends/host/host_test.cpp - the host backend as a whole.
#include "iopt/backends/host/host.hpp"

#include <array>
#include <cstring>

#include "iopt/policy/page_pinner.hpp"
#include "tests/catch.hpp"

namespace {

using namespace iopt;

static_assert(page_pinner<host::pinner> && file_pinner<host::pinner> &&
              copying_pinner<host::pinner> && frame_copying_pinner<host::pinner>);

TEST_CASE("host: a device writes where the user reads, through one header") {
  host::physical_memory memory = host::physical_memory::create(64 * mebibyte).value();
  const host::user_memory user = host::user_memory::create(memory, 4 * mebibyte).value();
  host::pinner pinner(memory);

  std::array<run, 4> storage{};
  run_list runs{std::span<run>(storage)};
  REQUIRE(pinner.pin(pinner.current(), user.range(), iopt::access_rights::read_write, runs)
              .has_value());
  REQUIRE(runs.bytes() == user.size_bytes());
  for (const run r : runs) std::memset(memory.bytes(r.first, r.length_bytes).data(), 7, 4096);
  CHECK(user.data()[0] == std::byte{7});
  CHECK(user.data()[4095] == std::byte{7});
  CHECK(user.data()[4096] == std::byte{0});
  // A frame is no address in disguise: it is neither the user's nor the view's.
  CHECK(runs[0].first.value != user.range().first.value);
  CHECK(runs[0].first.value < memory.size_bytes());
  for (const run r : runs) pinner.unpin(r, true);
  CHECK(pinner.pinned_pages() == 0);
}

}  // namespace
