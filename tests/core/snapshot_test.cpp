// tests/core/snapshot_test.cpp - a snapshot shows every change, and nothing that did not change.
#include "iopt/core/snapshot.hpp"

#include "iopt/backends/mock/mock.hpp"
#include "tests/catch.hpp"

TEST_CASE("a snapshot differs after a change and equals itself without one", "[snapshot]") {
  iopt::mock::pinner pinner;
  iopt::mock::domain domain;
  iopt::io_pagetable<iopt::mock::pinner, iopt::mock::domain> table(pinner);
  const iopt::table_snapshot blank = snapshot(table);
  REQUIRE(blank.areas.empty());
  REQUIRE(blank.usable.size() == 1);

  const iopt::user_address memory{0x100000};
  REQUIRE(table.map(memory, 0x3000, iopt::access_rights::read_write, iopt::iova{0x4000}));
  const iopt::table_snapshot mapped = snapshot(table);
  REQUIRE(mapped.areas.size() == 1);
  CHECK(mapped.areas[0].from == memory);
  CHECK(!mapped.areas[0].filled);
  CHECK(mapped != blank);
  CHECK(mapped == snapshot(table));

  REQUIRE(table.attach(domain));
  const iopt::table_snapshot attached = snapshot(table);
  CHECK(attached.areas[0].filled);
  CHECK(attached.areas[0].pinned_pages == 3);
  CHECK(attached.domains == 1);

  CHECK(!table.map(memory, 0x1000, iopt::access_rights::read, iopt::iova{0x5000}));
  CHECK(attached == snapshot(table));

  table.detach(domain);
  CHECK(mapped == snapshot(table));
  CHECK(table.unmap_all());
  CHECK(blank == snapshot(table));
}
