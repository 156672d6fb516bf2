// tests/backends/mock/tce_group_test.cpp - a platform that makes tables, and groups that show them.
#include "iopt/backends/mock/tce_group.hpp"

#include "tests/catch.hpp"

using namespace iopt;

static_assert(tce_table<mock::domain>);

TEST_CASE("a table has one page size, and is where the platform puts its window") {
  mock::tce_platform platform;
  mock::tce_group g(platform, {.second_window = {1ULL << 40}});
  const auto low = g.create_table(0, {.page_lg2 = 12, .levels = 1, .length_bytes = 1 << 30});
  const auto high = g.create_table(1, {.page_lg2 = 24, .levels = 2, .length_bytes = 1ULL << 36});
  REQUIRE(low.has_value());
  REQUIRE(high.has_value());
  CHECK((*low)->aperture() == iova_range{{0}, {(1 << 30) - 1}});
  CHECK((*high)->aperture() == iova_range::sized({1ULL << 40}, 1ULL << 36));
  CHECK((*high)->page_sizes() == page_size_set{16 * mebibyte});
  REQUIRE(g.set_window(0, **low).has_value());
  CHECK(g.shown(0) == *low);
  CHECK(g.shown(1) == nullptr);
  g.unset_window(0);
  g.unset_window(0);
  g.destroy_table(**low);
  CHECK(platform.tables().size() == 1);
  g.destroy_table(**high);
}

TEST_CASE("a table's size is told before it is made") {
  mock::tce_platform platform;
  mock::tce_group g(platform);
  CHECK(g.table_bytes({.page_lg2 = 12, .levels = 1, .length_bytes = 1 << 30}) == 2 * mebibyte);
  CHECK(g.table_bytes({.page_lg2 = 12, .levels = 1, .length_bytes = 3 << 20}) == 0);
  CHECK(g.table_bytes({.page_lg2 = 24, .levels = 1, .length_bytes = 1 << 20}) == 0);
  CHECK(g.table_bytes({.page_lg2 = 12, .levels = 6, .length_bytes = 1 << 30}) == 0);
  CHECK(g.table_bytes({.page_lg2 = 12, .levels = 0, .length_bytes = 1 << 30}) == 0);
}

TEST_CASE("the platform's hooks fail on command") {
  mock::fault_injector faults;
  mock::tce_platform platform(&faults);
  mock::tce_group g(platform);
  faults.arm(mock::fault_point::create_table, 0);
  CHECK(g.create_table(0, {12, 1, 1 << 20}).error() == errc::io_error);
  const auto table = g.create_table(0, {12, 1, 1 << 20});
  REQUIRE(table.has_value());
  faults.arm(mock::fault_point::set_window, 0);
  CHECK(g.set_window(0, **table).error() == errc::io_error);
  CHECK(g.shown(0) == nullptr);
  g.destroy_table(**table);
}

TEST_CASE("operations are remembered, and the state is told") {
  mock::tce_platform platform;
  mock::tce_group g(platform, {.handles_errors = true, .error_state = 2});
  CHECK(g.operate({.what = 4}).value() == 2);
  CHECK(g.operate({.what = 6}).value() == 0);
  CHECK(g.operations().size() == 2);
}
