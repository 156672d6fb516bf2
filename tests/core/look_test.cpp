// tests/core/look_test.cpp - looking at a table: areas, usable ranges, views of user memory.
#include "iopt/core/look.hpp"

#include <utility>
#include <vector>

#include "iopt/backends/mock/mock.hpp"
#include "tests/catch.hpp"

namespace {

using iopt::iova;
using iopt::iova_range;
using iopt::user_address;
namespace mock = iopt::mock;
constexpr auto rw = iopt::access_rights::read_write;
struct indexed : iopt::single_threaded {
  static constexpr bool reverse_index = true;
};
template <class Traits>
using table_type = iopt::io_pagetable<mock::pinner, mock::domain, Traits>;
using view = std::pair<iova_range, user_address>;

template <class Table>
std::vector<view> views(const Table& table, mock::pinner& pinner, iopt::user_range memory) {
  std::vector<view> found;
  table.for_each_view(pinner.current(), memory,
                      [&](iova_range r, user_address from) { found.push_back({r, from}); });
  std::sort(found.begin(), found.end(),
            [](const view& a, const view& b) { return a.first.first < b.first.first; });
  return found;
}

}  // namespace

TEMPLATE_TEST_CASE("every IOVA that shows a user address is found, and no other", "[look]",
                   iopt::single_threaded, indexed) {
  mock::pinner pinner;
  table_type<TestType> table(pinner);
  const auto stranger = pinner.create_process();
  REQUIRE(table.map({0x100000}, 0x4000, rw, iova{0x10000}));
  REQUIRE(table.map({0x102800}, 0x2000, rw, iova{0x20000}));
  REQUIRE(table.map(table.user_memory(stranger, {0x100000}), 0x4000, rw, iova{0x30000}));
  REQUIRE(table.copy(table, {{0x11000}, {0x12fff}}, rw, iova{0x40000}));
  CHECK(views(table, pinner, {{0x102000}, {0x102fff}}) ==
        std::vector<view>{{{{0x12000}, {0x12fff}}, {0x102000}},
                          {{{0x20000}, {0x207ff}}, {0x102800}},
                          {{{0x41000}, {0x41fff}}, {0x102000}}});
  CHECK(views(table, pinner, {{0x104800}, {0x104fff}}).empty());

  REQUIRE(table.cut({0x11fff}));  // a cut shows the same, in two areas
  CHECK(views(table, pinner, {{0x101fff}, {0x102000}}) ==
        std::vector<view>{{{{0x11fff}, {0x11fff}}, {0x101fff}},
                          {{{0x12000}, {0x12000}}, {0x102000}},
                          {{{0x40fff}, {0x41000}}, {0x101fff}}});
  CHECK(table.unmap({0x40000}, 0x2000, iopt::unmap_profile::exact));
  CHECK(table.unmap({0x12000}, 0x2000, iopt::unmap_profile::exact));
  CHECK(views(table, pinner, {{0x101fff}, {0x102000}}).size() == 1);
  CHECK(table.verify() == "");
}

TEMPLATE_TEST_CASE("memory that moved is found where it is now", "[look]", iopt::single_threaded,
                   indexed) {
  mock::pinner pinner;
  table_type<TestType> table(pinner);
  REQUIRE(table.map({0x100000}, 0x2000, rw, iova{0x10000}));
  REQUIRE(table.suspend_access({{0x10000}, {0x11fff}}));
  REQUIRE(table.resume_access({{0x10000}, {0x11fff}}, table.user_memory({0x700000})));
  CHECK(views(table, pinner, {{0x100000}, {0x101fff}}).empty());
  CHECK(views(table, pinner, {{0x700000}, {0x700fff}}).size() == 1);
}

TEST_CASE("a table may move while nothing is attached", "[look]") {
  mock::pinner pinner;
  table_type<indexed> table(pinner);
  REQUIRE(table.map({0x100000}, 0x2000, rw, iova{0x10000}));
  REQUIRE(table.reserve({{0}, {0xfff}}));
  table_type<indexed> moved(std::move(table));
  CHECK(moved.find({0x11fff}));
  CHECK(views(moved, pinner, {{0x100000}, {0x100fff}}).size() == 1);
  CHECK(moved.map({0x100000}, 0x1000, rw, iova{0}).error() == iopt::errc::invalid_argument);
  CHECK(table.area_count() == 0);
  CHECK(moved.verify() == "");
}

TEST_CASE("usable ranges are what no reservation touches, joined", "[look]") {
  mock::pinner pinner;
  table_type<iopt::single_threaded> table(pinner);
  const auto usable = [&] {
    std::vector<iova_range> all;
    table.for_each_usable([&](iova_range r) { all.push_back(r); });
    return all;
  };
  CHECK(usable() == std::vector{iova_range::whole()});
  int owner = 0;
  REQUIRE(table.reserve({{0x1000}, {0x1fff}}, &owner));
  REQUIRE(table.reserve({{0x1800}, {0x2fff}}, &owner));
  REQUIRE(table.reserve({{iopt::top}, {iopt::top}}));
  CHECK(usable() == std::vector<iova_range>{{{0}, {0xfff}}, {{0x3000}, {iopt::top - 1}}});
  table.unreserve(&owner);
  CHECK(usable() == std::vector<iova_range>{{{0}, {iopt::top - 1}}});
}

TEST_CASE("areas are told in order", "[look]") {
  mock::pinner pinner;
  table_type<iopt::single_threaded> table(pinner);
  for (const unsigned at : {0x30000u, 0x10000u, 0x20000u})
    REQUIRE(table.map({0x100000}, 0x1000, rw, iova{at}));
  std::vector<std::uint64_t> firsts;
  table.for_each_area([&](const iopt::area_info& a) { firsts.push_back(a.where.first.value); });
  CHECK(firsts == std::vector<std::uint64_t>{0x10000, 0x20000, 0x30000});
  CHECK(table.area_count() == 3);
}

TEST_CASE("the first area in a range is found, and what is shown at an IOVA", "[look]") {
  mock::pinner pinner;
  table_type<iopt::single_threaded> table(pinner);
  REQUIRE(table.map({0x100800}, 0x4000, rw, iova{0x10000}));
  REQUIRE(table.map({0x200000}, 0x1000, rw, iova{0x20000}));
  CHECK(table.first_in({{0}, {0x10000}})->where.first == iova{0x10000});
  CHECK(table.first_in({{0x13fff}, {0x20000}})->where.first == iova{0x10000});
  CHECK(table.first_in({{0x14000}, {0x20000}})->where.first == iova{0x20000});
  CHECK_FALSE(table.first_in({{0x14000}, {0x1ffff}}));
  const auto shown = table.memory_at({0x12345});
  REQUIRE(shown);
  CHECK(shown->from == user_address{0x102b45});
  CHECK(shown->of.owner == pinner.current());
  CHECK(shown->of.mode == table.mode());
  CHECK_FALSE(table.memory_at({0x14000}));
}

TEST_CASE("pinned parts are told by IOVA, whole pages clipped to their area", "[look]") {
  mock::pinner pinner;
  table_type<iopt::single_threaded> table(pinner);
  REQUIRE(table.map({0x100000}, 0x4000, rw, iova{0x10000}));
  REQUIRE(table.map({0x200000}, 0x1800, rw, iova{0x14000}));
  iopt::access_object<mock::pinner, mock::domain> user([](void*, iova_range) {});
  REQUIRE(user.attach(table).error() == iopt::errc::address_in_use);
  REQUIRE(table.unmap({0x14000}, 0x1800, iopt::unmap_profile::exact));
  REQUIRE(table.map({0x200000}, 0x2000, rw, iova{0x14000}));
  REQUIRE(user.attach(table));
  REQUIRE(user.pin({{0x12000}, {0x14fff}}, rw, [](iopt::run) {}));
  const auto parts = [&](iova_range in) {
    std::vector<iova_range> all;
    while (const auto part = table.first_pinned(in)) {
      all.push_back(*part);
      if (part->last == in.last) break;
      in.first = part->last + 1;
    }
    return all;
  };
  CHECK(parts(iova_range::whole()) ==
        std::vector<iova_range>{{{0x12000}, {0x13fff}}, {{0x14000}, {0x14fff}}});
  CHECK(parts({{0x12800}, {0x12fff}}) == std::vector<iova_range>{{{0x12800}, {0x12fff}}});
  CHECK(parts({{0x10000}, {0x11fff}}).empty());
  CHECK(user.is_pinned({{0x12000}, {0x14fff}}));
  CHECK_FALSE(user.is_pinned({{0x12000}, {0x12fff}}));  // pinned, but not just so
  CHECK_FALSE(user.is_pinned({{0x15000}, {0x15fff}}));
  user.unpin({{0x12000}, {0x14fff}});
  CHECK_FALSE(user.is_pinned({{0x12000}, {0x14fff}}));
  user.detach();
}
