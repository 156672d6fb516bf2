// tests/core/pages_test.cpp - bytes, page indices and IOVAs of an area; one block for a mapping.
#include "iopt/core/pages.hpp"

#include "iopt/backends/mock/mock.hpp"
#include "tests/catch.hpp"

namespace {

using iopt::iova;
using iopt::iova_range;
using iopt::page_range;
struct traits : iopt::single_threaded {
  using memory = iopt::mock::failing_memory;
};
using origin_type = iopt::origin<iopt::mock::pinner, traits>;
using area_type = iopt::area<iopt::mock::pinner, iopt::mock::domain, traits>;
using pages_type = iopt::pages<iopt::mock::pinner, iopt::mock::domain, traits>;
using block_type = iopt::detail::mapping_block<iopt::mock::pinner, iopt::mock::domain, traits>;

struct mapping {
  iopt::mock::memory_account account;
  iopt::mock::pinner pinner;
  traits::memory memory{account};
  block_type* block = nullptr;

  mapping(iova_range where, std::uint64_t start_byte, std::uint64_t count) {
    origin_type* o = origin_type::create(
        {&pinner, iopt::origin_kind::user, iopt::account_mode::none, pinner.current()}, memory);
    void* place = memory.allocate(sizeof(block_type), alignof(block_type));
    block = new (place)
        block_type(where, *o, 0x10000, count, true, start_byte, iopt::access_rights::read);
  }
};

}  // namespace

TEST_CASE("an area that begins and ends inside pages knows which it shows", "[pages]") {
  mapping m({{0x8000}, {0x9fff}}, 0x1800, 4);  // bytes 0x1800 to 0x37ff: pages 1, 2 and 3
  area_type& a = m.block->first;
  CHECK(a.range == page_range{{1}, {3}});
  CHECK(a.page_offset() == 0x800);
  CHECK(a.byte_of({0x8000}) == 0x1800);
  CHECK(a.index_of({0x87ff}) == iopt::page_index{1});
  CHECK(a.index_of({0x8800}) == iopt::page_index{2});
  CHECK(a.index_of({0x9fff}) == iopt::page_index{3});
  CHECK(a.shown({{1}, {1}}) == iova_range{{0x8000}, {0x87ff}});
  CHECK(a.shown({{2}, {2}}) == iova_range{{0x8800}, {0x97ff}});
  CHECK(a.shown({{3}, {3}}) == iova_range{{0x9800}, {0x9fff}});
  CHECK(a.shown({{1}, {3}}) == a.where);
  iopt::detail::destroy_area(a);
  CHECK(m.account.live_blocks() == 0);
}

TEST_CASE("an area may end at the last byte of the space", "[pages]") {
  mapping m({{iopt::top - 0x1fff}, {iopt::top}}, 0, 2);
  area_type& a = m.block->first;
  CHECK(a.range == page_range{{0}, {1}});
  CHECK(a.shown({{1}, {1}}) == iova_range{{iopt::top - 0xfff}, {iopt::top}});
  iopt::detail::destroy_area(a);
}

TEST_CASE("pages outlive the area they were made for, while another shows them", "[pages]") {
  mapping m({{0x8000}, {0x9fff}}, 0, 2);
  pages_type& p = m.block->contents;
  CHECK(&block_type::of(p) == m.block);
  CHECK(m.account.live_blocks() == 2);  // the block and the origin
  void* place = m.memory.allocate(sizeof(area_type), alignof(area_type));
  area_type* copy = new (place) area_type({{0}, {0xfff}}, p, 0x1000, iopt::access_rights::read);
  REQUIRE(p.stored.add_holder());
  ++p.references;
  iopt::detail::destroy_area(m.block->first);
  CHECK(m.account.live_blocks() == 3);
  CHECK(p.references == 1);
  iopt::detail::destroy_area(*copy);
  CHECK(m.account.live_blocks() == 0);
}

TEST_CASE("pages say where they are at their origin, and with which rights", "[pages]") {
  mapping m({{0x8000}, {0x9fff}}, 0, 2);
  pages_type& p = m.block->contents;
  CHECK(p.at_origin({{1}, {1}}) == iopt::user_range{{0x11000}, {0x11fff}});
  CHECK(p.pin_rights() == iopt::access_rights::read_write);
  CHECK(p.is_pinnable());
  p.writable = false;
  CHECK(p.pin_rights() == iopt::access_rights::read);
  iopt::detail::destroy_area(m.block->first);
}
