#include "iopt/backends/mock/mock.hpp"

#include "tests/catch.hpp"

using namespace iopt;

// What a user does first: pin, map, look, and give all of it back in the right order.
TEST_CASE("the mock backend works together") {
  mock::fault_injector faults;
  mock::pinner p({.contiguity_bytes = mock::contiguity::blocks_2m, .faults = &faults});
  mock::domain d({.faults = &faults});
  p.watch(d);

  const user_range memory = user_range::sized({0x7f00'0000'0000}, 8 * mebibyte);
  run storage[8];
  run_list runs{storage};
  REQUIRE(p.pin(p.current(), memory, iopt::access_rights::read_write, runs).has_value());
  REQUIRE(p.charge(p.current(), account_mode::user, 2048).has_value());
  REQUIRE(d.map_runs({gibibyte}, runs.view(), iopt::access_rights::read_write).has_value());
  CHECK(d.entries(2 * mebibyte) == 4);
  CHECK(d.translate({gibibyte + 3 * mebibyte}) ==
        p.frame_of(p.current(), memory.first + 3 * mebibyte));

  run back[8];
  run_list held{back};
  CHECK(d.unmap_runs(iova_range::sized({gibibyte}, 8 * mebibyte), held) == 8 * mebibyte);
  d.sync();
  for (const run& r : held) p.unpin(r, true);
  p.uncharge(p.current(), account_mode::user, 2048);
  CHECK(p.is_idle());
  CHECK(d.bytes_mapped() == 0);
  CHECK(faults.passed() == 3);
}
