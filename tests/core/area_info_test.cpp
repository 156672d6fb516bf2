// tests/core/area_info_test.cpp - what a table tells of an area.
#include "iopt/core/area_info.hpp"

#include "iopt/backends/mock/mock.hpp"
#include "iopt/core/io_pagetable.hpp"
#include "tests/catch.hpp"

TEST_CASE("an area tells where it is, what it shows, and who holds it", "[area_info]") {
  iopt::mock::pinner pinner;
  iopt::mock::domain domain;
  iopt::io_pagetable<iopt::mock::pinner, iopt::mock::domain> table(pinner);
  REQUIRE(table.map({0x5000}, 0x3000, iopt::access_rights::read_write, iopt::iova{0x10000}));
  REQUIRE(
      table.copy(table, {{0x11000}, {0x11fff}}, iopt::access_rights::read, iopt::iova{0x20000}));
  CHECK(!table.find({0x13000}));

  const iopt::area_info whole = *table.find({0x10fff});
  const iopt::area_info part = *table.find({0x20000});
  CHECK(whole.where == iopt::iova_range{{0x10000}, {0x12fff}});
  CHECK(whole.kind == iopt::origin_kind::user);
  CHECK(whole.state == iopt::area_state::present);
  CHECK(part.from == iopt::user_address{0x6000});
  CHECK(part.rights == iopt::access_rights::read);
  CHECK(part.pages_id == whole.pages_id);
  CHECK(!whole.filled);

  REQUIRE(table.attach(domain));
  CHECK(table.find({0x10000})->filled);
  CHECK(table.find({0x10000})->pinned_pages == 3);
  table.detach(domain);
}
