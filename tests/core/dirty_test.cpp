// tests/core/dirty_test.cpp - what devices wrote, read, cleared, and taken along by an unmap.
#include "iopt/core/dirty.hpp"

#include <array>
#include <vector>

#include "iopt/backends/mock/mock.hpp"
#include "iopt/containers/bitmap.hpp"
#include "tests/catch.hpp"

namespace {

using iopt::iova;
using iopt::iova_range;
namespace mock = iopt::mock;
constexpr auto rw = iopt::access_rights::read_write;
using table_type = iopt::io_pagetable<mock::pinner, mock::domain>;
const mock::domain_options small_pages{.page_sizes = {4096}};

/// A table over small pages in one domain, which can be made to fail.
struct small_world {
  small_world() { REQUIRE(table.attach(d)); }
  mock::fault_injector faults;
  mock::pinner pinner;
  mock::domain d{{.page_sizes = small_pages.page_sizes, .faults = &faults}};
  table_type table{pinner};
};

struct recorder {
  std::vector<iova_range>* seen;
  void operator()(iova_range r) const {
    if (!seen->empty() && seen->back().last + 1 == r.first) {
      seen->back().last = r.last;
    } else {
      seen->push_back(r);
    }
  }
};

std::vector<iova_range> read(table_type& table, mock::domain& d, iova_range r,
                             iopt::dirty_read mode = iopt::dirty_read::clear) {
  std::vector<iova_range> seen;
  REQUIRE(table.read_dirty(d, r, mode, recorder{&seen}));
  return seen;
}

}  // namespace

TEST_CASE("a write is read once, or as often as it is kept", "[dirty]") {
  small_world w;
  REQUIRE(w.table.map({0x100000}, 0x8000, rw, iova{0x10000}));
  REQUIRE(w.table.map({0x200000}, 0x8000, rw, iova{0x18000}));
  w.d.mark_dirty({{0x10000}, {0x10fff}});  // before tracking is on: not recorded, or dropped
  REQUIRE(w.table.set_dirty_tracking(w.d, true));
  const iova_range all{{0x10000}, {0x1ffff}};
  CHECK(read(w.table, w.d, all).empty());
  w.d.mark_dirty({{0x17000}, {0x18fff}});
  CHECK(read(w.table, w.d, all, iopt::dirty_read::keep) ==
        std::vector<iova_range>{{{0x17000}, {0x18fff}}});
  CHECK(read(w.table, w.d, {{0x18000}, {0x1ffff}}) ==
        std::vector<iova_range>{{{0x18000}, {0x18fff}}});
  CHECK(read(w.table, w.d, all) == std::vector<iova_range>{{{0x17000}, {0x17fff}}});
  CHECK(read(w.table, w.d, all).empty());
  REQUIRE(w.table.set_dirty_tracking(w.d, false));
  CHECK(w.table.read_dirty(w.d, all, iopt::dirty_read::clear, recorder{nullptr}).error() ==
        iopt::errc::invalid_argument);
}

TEST_CASE("a read stops at the first gap", "[dirty]") {
  small_world w;
  REQUIRE(w.table.map({0x100000}, 0x1000, rw, iova{0x10000}));
  REQUIRE(w.table.map({0x100000}, 0x1000, rw, iova{0x12000}));
  REQUIRE(w.table.set_dirty_tracking(w.d, true));
  w.d.mark_dirty({{0x10000}, {0x10fff}});
  w.d.mark_dirty({{0x12000}, {0x12fff}});
  CHECK(read(w.table, w.d, {{0x10000}, {0x12fff}}) ==
        std::vector<iova_range>{{{0x10000}, {0x10fff}}});
}

TEST_CASE("an unaligned range, a strange domain, a domain that cannot", "[dirty]") {
  mock::domain stranger(small_pages), deaf({.tracks_dirty = false});
  mock::plain<> plain;
  small_world w;
  REQUIRE(w.table.set_dirty_tracking(w.d, true));
  const recorder nobody{nullptr};
  CHECK(w.table.read_dirty(w.d, {{0x10000}, {0x107ff}}, iopt::dirty_read::clear, nobody).error() ==
        iopt::errc::invalid_argument);
  CHECK(w.table.set_dirty_tracking(stranger, true).error() ==
        iopt::errc::no_such_file_or_directory);
  iopt::io_pagetable<mock::pinner, mock::plain<>> other(w.pinner);
  REQUIRE(other.attach(plain));
  CHECK(other.set_dirty_tracking(plain, true).error() == iopt::errc::operation_not_supported);
  REQUIRE(w.table.attach(deaf));
  CHECK(w.table.set_dirty_tracking(deaf, true).error() == iopt::errc::operation_not_supported);
}

TEST_CASE("an unmap takes what was written along, from every domain that tracks", "[dirty]") {
  mock::pinner pinner;
  mock::domain first(small_pages), second(small_pages), third(small_pages);
  table_type table(pinner);
  for (mock::domain* d : {&first, &second, &third}) REQUIRE(table.attach(*d));
  REQUIRE(table.map({0x100000}, 0x8000, rw, iova{0x10000}));
  REQUIRE(table.set_dirty_tracking(first, true));
  REQUIRE(table.set_dirty_tracking(second, true));
  first.mark_dirty({{0x11000}, {0x11fff}});
  second.mark_dirty({{0x13000}, {0x13fff}});
  std::array<std::byte, 1> bits{};
  iopt::dirty_bitmap bitmap(bits.data(), {{0x10000}, {0x17fff}}, 4096);
  CHECK(table.unmap_dirty({0x10000}, 0x8000, iopt::unmap_profile::type1_v2,
                          [&](iova_range r) { bitmap.record(r); }));
  CHECK(bits[0] == std::byte{0b1010});
}

TEST_CASE("what a domain that goes cannot tell counts as written", "[dirty]") {
  small_world w;
  REQUIRE(w.table.map({0x100000}, 0x4000, rw, iova{0x10000}));
  REQUIRE(w.table.map({0x104000}, 0x4000, rw, iova{0x14000}));
  REQUIRE(w.table.set_dirty_tracking(w.d, true));
  w.d.mark_dirty({{0x11000}, {0x11fff}});
  w.d.mark_dirty({{0x17000}, {0x17fff}});
  std::vector<iova_range> seen;
  w.faults.arm(mock::fault_point::read_dirty, 0);
  CHECK(w.table.unmap_dirty({0x10000}, 0x8000, iopt::unmap_profile::type1_v2, recorder{&seen}));
  CHECK(w.faults.fired());
  CHECK(seen == std::vector<iova_range>{{{0x10000}, {0x13fff}}, {{0x17000}, {0x17fff}}});
}

TEST_CASE("tracking is on with nothing recorded, or stays as it was", "[dirty]") {
  small_world w;
  REQUIRE(w.table.map({0x100000}, 0x4000, rw, iova{0x10000}));
  REQUIRE(w.table.set_dirty_tracking(w.d, true));
  w.d.mark_dirty({{0x11000}, {0x11fff}});
  REQUIRE(w.table.set_dirty_tracking(w.d, false));
  for (const auto point : {mock::fault_point::set_dirty_tracking, mock::fault_point::read_dirty}) {
    w.faults.arm(point, 0);
    CHECK(w.table.set_dirty_tracking(w.d, true).error() == w.faults.error_of(point));
    CHECK_FALSE(w.d.is_tracking());
    CHECK(w.table.read_dirty(w.d, {{0x10000}, {0x13fff}}, iopt::dirty_read::keep, recorder{nullptr})
              .error() == iopt::errc::invalid_argument);
  }
  REQUIRE(w.table.set_dirty_tracking(w.d, true));
  CHECK(read(w.table, w.d, {{0x10000}, {0x13fff}}).empty());
}

TEST_CASE("a cut and a hole keep what was written beside it", "[dirty]") {
  mock::pinner pinner;
  mock::domain d;  // one entry of 2 MiB
  table_type table(pinner);
  REQUIRE(table.attach(d));
  REQUIRE(table.map({0x200000}, 0x200000, rw, iova{0x200000}));
  REQUIRE(table.set_dirty_tracking(d, true));
  CHECK(table.unmap({0x300000}, 0x1000, iopt::unmap_profile::hole_punching));
  d.mark_dirty({{0x201000}, {0x201fff}});
  REQUIRE(table.cut({0x2fffff - 0x1000}));
  CHECK(read(table, d, {{0x200000}, {0x2fffff}}) ==
        std::vector<iova_range>{{{0x201000}, {0x201fff}}});
}
