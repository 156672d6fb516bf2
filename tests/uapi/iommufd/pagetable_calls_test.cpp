// tests/uapi/iommufd/pagetable_calls_test.cpp - the ioctls on hardware page tables, rule by rule.
#include "iopt/uapi/iommufd/pagetable_calls.hpp"

#include <array>
#include <vector>

#include "tests/catch.hpp"
#include "tests/uapi/iommufd/context_fixture.hpp"

using namespace iopt;
using namespace iopt::test;
namespace abi = iopt::iommufd::abi;
using fixture = context_fixture<>;
using abi::request;

namespace {

constexpr std::uint64_t max = ~std::uint64_t{0};

std::string alloc(fixture& f, abi::hwpt_alloc c, std::uint32_t size = sizeof(abi::hwpt_alloc)) {
  const std::string answer = f.call(request::hwpt_alloc, c, size);
  return answer == "0" ? std::to_string(c.out_hwpt_id) : answer;
}

/// A space with 16 pages at 0x10000, and a hardware page table that tracks.
struct tracked : fixture {
  id s = space();
  id d = device();
  id h = 0;

  tracked() {
    REQUIRE(map(s, 0x10000, 16) == "0");
    const auto made = context->create_hw_pagetable(d, s, true);
    REQUIRE(made);
    h = *made;
  }
  std::string track(std::uint32_t flags) {
    abi::hwpt_set_dirty_tracking c{0, flags, h, 0};
    return call(request::hwpt_set_dirty_tracking, c);
  }
  void dirty(std::uint64_t at, std::uint64_t bytes = 1) {
    REQUIRE(context->with_hw_pagetable(h, [&](auto&, mock::domain& m) {
      m.mark_dirty(iova_range::sized({at}, bytes));
      return result<int>(0);
    }));
  }
  std::string read(std::uint64_t at, std::uint64_t bytes, std::uint64_t page_size,
                   std::uint32_t flags = 0) {
    std::array<unsigned char, 32> bits{};
    abi::hwpt_get_dirty_bitmap c{0, h, flags, 0, at, bytes, page_size, address(bits.data())};
    std::string text = call(request::hwpt_get_dirty_bitmap, c);
    for (std::size_t n = 0; n < 256; ++n)
      if ((bits[n / 8] >> n % 8 & 1) != 0) text += " " + std::to_string(n);
    return text;
  }
};

}  // namespace

TEST_CASE("HWPT_ALLOC checks what it is told in order", "[alloc]") {
  fixture f;
  const auto s = f.space();                                       // 1
  const auto d = f.device();                                      // 2
  const auto e = f.device({.domains = {.tracks_dirty = false}});  // 3
  CHECK(alloc(f, {0, 8, 9, 9, 0, 1, 1, 0, 0, 0, 0}) == "EOPNOTSUPP");
  CHECK(alloc(f, {0, 8, 9, 9, 0, 0, 1, 0, 0, 0, 0}) == "EINVAL");  // a type without data
  CHECK(alloc(f, {0, 8, 9, 9, 0, 0, 0, 1, 0, 0, 0}) == "EINVAL");  // data without a type
  CHECK(alloc(f, {0, 8, 9, 9, 0, 0, 1, 1, 0, 0, 0}) == "ENOENT");
  CHECK(alloc(f, {0, 8, d, 9, 0, 0, 1, 1, 0, 0, 0}) == "EINVAL");
  CHECK(alloc(f, {0, 8, d, e, 0, 0, 1, 1, 0, 0, 0}) == "EINVAL");
  CHECK(alloc(f, {0, 8, d, s, 0, 0, 0, 0, 0, 0, 0}) == "EOPNOTSUPP");
  CHECK(alloc(f, {0, 1, d, s, 0, 0, 0, 0, 0, 0, 0}) == "EOPNOTSUPP");  // no nested translation
  CHECK(alloc(f, {0, 4, d, s, 0, 0, 0, 0, 0, 0, 0}) == "EOPNOTSUPP");  // no faults
  CHECK(alloc(f, {0, 0, d, s, 0, 0, 1, 1, 0, 0, 0}) == "EOPNOTSUPP");
  CHECK(alloc(f, {0, 2, e, s, 0, 0, 0, 0, 0, 0, 0}) == "EOPNOTSUPP");
  CHECK(alloc(f, {0, 2, d, s, 0, 0, 0, 0, 0, 0, 0}) == "4");
  CHECK(alloc(f, {0, 0, e, s, 0, 0, 0, 0, 0, 0, 0}) == "5");
  CHECK(alloc(f, {0, 0, d, s, 0, 0, 7, 7, 7, 7, 7}, 24) == "6");  // what an older caller knows
  // On top of another: nested, of which no kind is known; and the lower did not offer it.
  CHECK(alloc(f, {0, 0, d, 4, 0, 0, 0, 0, 0, 0, 0}) == "EOPNOTSUPP");
  CHECK(alloc(f, {0, 0, d, 4, 0, 0, 1, 1, 0, 0, 0}) == "EINVAL");
  CHECK(alloc(f, {0, 2, d, 4, 0, 0, 1, 1, 0, 0, 0}) == "EOPNOTSUPP");
}

TEST_CASE("a hardware page table may be made to lie below others, where the IOMMU can", "[alloc]") {
  fixture f;
  const auto s = f.space();                   // 1
  const auto d = f.device({.nests = true});   // 2
  const auto e = f.device({.nests = false});  // 3
  CHECK(alloc(f, {0, 1, e, s, 0, 0, 0, 0, 0, 0, 0}) == "EOPNOTSUPP");
  CHECK(f.groups[1]->domains() == 0);
  CHECK(alloc(f, {0, 1, d, s, 0, 0, 0, 0, 0, 0, 0}) == "4");
  CHECK(alloc(f, {0, 3, d, s, 0, 0, 0, 0, 0, 0, 0}) == "5");
  CHECK(alloc(f, {0, 0, d, 4, 0, 0, 1, 1, 0, 0, 0}) == "EOPNOTSUPP");
  REQUIRE(f.context->attach(d, 4));
  REQUIRE(f.context->detach(d));
}

TEST_CASE("a hardware page table may be described in bytes that the group knows", "[alloc]") {
  fixture f;
  const auto s = f.space();
  mock::group_options o;
  o.described = {7, 8, [](mock::domain_options usual, std::span<const std::byte> said) {
                   result<mock::domain_options> what = usual;
                   if (said.size() < 4)
                     return result<mock::domain_options>(fail(errc::no_such_device));
                   what->page_sizes = {std::uint64_t{1} << std::to_integer<int>(said[0])};
                   return what;
                 }};
  const auto d = f.device(o);
  std::array<std::byte, 300> said{std::byte{11}};
  const auto ask = [&](std::uint32_t type, std::uint32_t length, std::uint32_t flags = 0) {
    return alloc(f, {0, flags, d, s, 0, 0, type, length, fixture::address(said.data()), 0, 0});
  };
  CHECK(ask(8, 8) == "EOPNOTSUPP");
  CHECK(ask(7, 8) == "3");
  REQUIRE(f.context->with_hw_pagetable(3, [](auto&, mock::domain& made) {
    CHECK(made.page_sizes().smallest() == 2048);
    return result<void>{};
  }));
  CHECK(ask(7, 4) == "4");
  CHECK(ask(7, 300) == "5");  // what is more is zero
  CHECK(ask(7, 3) == "ENODEV");
  said[299] = std::byte{1};
  CHECK(ask(7, 300) == "E2BIG");
  CHECK(ask(7, 299) == "6");
  f.memory.unreadable = user_range::sized({fixture::address(said.data()) + 7}, 1);
  CHECK(ask(7, 8) == "EFAULT");
  CHECK(ask(8, 8) == "EOPNOTSUPP");  // not looked at
  CHECK(f.context->size() == 6);
  CHECK(f.groups[0]->domains() == 4);
}

TEST_CASE("a device that cannot tell what it wrote attaches to no domain that must", "[attach]") {
  fixture f;
  const auto s = f.space();
  const auto d = f.device();
  const auto e = f.device({.domains = {.tracks_dirty = false}});
  const auto tracks = f.context->create_hw_pagetable(d, s, true);
  REQUIRE(tracks);
  CHECK(f.context->attach(e, *tracks).error() == errc::invalid_argument);
  const auto at = f.context->attach(e, s);
  REQUIRE(at);
  CHECK(*at != *tracks);
  CHECK(f.context->replace(e, *tracks).error() == errc::invalid_argument);
  REQUIRE(f.context->detach(e));
  REQUIRE(f.context->attach(d, *tracks));
  REQUIRE(f.context->detach(d));
}

TEST_CASE("a hardware page table whose number cannot be told is none", "[alloc]") {
  fixture f;
  const auto s = f.space();
  const auto d = f.device();
  CHECK(f.map(s, 0x10000, 4) == "0");
  abi::hwpt_alloc c{0, 0, d, s, 0, 0, 0, 0, 0, 0, 0};
  f.memory.unwritable = gate::bytes_of(c);
  CHECK(f.call(request::hwpt_alloc, c) == "EFAULT");
  CHECK(f.context->size() == 2);
  CHECK(f.pinner.pinned_pages() == 0);
  CHECK(f.groups[0]->domains() == 0);
}

TEST_CASE("GET_HW_INFO tells what the group knows of its IOMMU", "[info]") {
  fixture f;
  const std::array<std::byte, 6> told{std::byte{1}, std::byte{2}, std::byte{3},
                                      std::byte{4}, std::byte{5}, std::byte{6}};
  const auto d = f.device({.hardware = {77, told}});
  const auto plain = f.device({.domains = {.tracks_dirty = false}});
  std::array<unsigned char, 200> data{};
  const auto ask = [&](abi::hw_info c, std::uint32_t size = sizeof(abi::hw_info)) {
    data.fill(0xee);
    c.data_uptr = fixture::address(data.data());
    const std::string answer = f.call(request::get_hw_info, c, size);
    return answer + " " + std::to_string(c.data_len) + " " + std::to_string(c.out_data_type) + " " +
           std::to_string(c.out_capabilities);
  };
  CHECK(ask({0, 2, 9, 0, 0, 0, 0, {}, 0}) == "EOPNOTSUPP 0 0 0");
  CHECK(ask({0, 1, 9, 0, 0, 0, 0, {}, 0}) == "EOPNOTSUPP 0 0 0");
  CHECK(ask({0, 1, d, 0, 0, 0, 0, {}, 0}) == "EOPNOTSUPP 0 0 0");
  CHECK(ask({0, 1, d, 0, 0, 78, 0, {}, 0}) == "EOPNOTSUPP 0 78 0");
  CHECK(ask({0, 1, d, 0, 0, 77, 0, {}, 0}) == "0 6 77 1");  // the type that it is
  CHECK(ask({0, 0, 9, 0, 0, 0, 0, {0, 0, 1}, 0}) == "EOPNOTSUPP 0 0 0");
  CHECK(ask({0, 0, 9, 0, 0, 0, 0, {}, 0}) == "ENOENT 0 0 0");
  CHECK(ask({0, 0, d, 0, 0, 0, 9, {}, 0}) == "0 6 77 1");
  CHECK(data[0] == 0xee);
  CHECK(ask({0, 0, d, 4, 0, 0, 0, {}, 0}) == "0 6 77 1");
  CHECK(data[3] == 4);
  CHECK(data[4] == 0xee);
  CHECK(ask({0, 0, d, 190, 0, 0, 0, {}, 0}) == "0 6 77 1");
  CHECK(data[5] == 6);
  CHECK(data[6] == 0);
  CHECK(data[189] == 0);
  CHECK(data[190] == 0xee);
  CHECK(ask({0, 0, d, 4, 0, 0, 0, {}, 5}, 32) == "0 6 77 5");  // an older caller
  CHECK(ask({0, 0, plain, 4, 0, 9, 0, {}, 9}) == "0 0 0 0");
  CHECK(data[3] == 0);
  abi::hw_info nowhere{0, 0, d, 0, 0, 0, 0, {}, 0};
  CHECK(f.call(request::get_hw_info, nowhere) == "0");  // asks how long it is
  CHECK(nowhere.data_len == 6);
  f.memory.unwritable = gate::bytes_of(data, 3, 1);
  CHECK(ask({0, 0, d, 3, 0, 0, 0, {}, 0}) == "0 6 77 1");
  CHECK(ask({0, 0, d, 4, 0, 0, 0, {}, 0}) == "EFAULT 4 0 0");
  f.memory.unwritable = gate::bytes_of(data, 100, 1);
  CHECK(ask({0, 0, d, 101, 0, 0, 0, {}, 0}) == "EFAULT 101 0 0");
}

TEST_CASE("dirty tracking is for hardware page tables made for it", "[dirty]") {
  tracked f;
  const auto made = f.context->create_hw_pagetable(f.d, f.s, false);
  REQUIRE(made);
  abi::hwpt_set_dirty_tracking c{0, 2, 99, 1};
  CHECK(f.call(request::hwpt_set_dirty_tracking, c) == "EOPNOTSUPP");
  c.flags = 1;
  CHECK(f.call(request::hwpt_set_dirty_tracking, c) == "ENOENT");
  c.hwpt_id = f.s;
  CHECK(f.call(request::hwpt_set_dirty_tracking, c) == "ENOENT");
  c.hwpt_id = *made;
  CHECK(f.call(request::hwpt_set_dirty_tracking, c) == "EOPNOTSUPP");
  c.hwpt_id = f.h;
  CHECK(f.call(request::hwpt_set_dirty_tracking, c) == "0");  // reserved is not looked at
  CHECK(f.track(1) == "0");
  CHECK(f.track(0) == "0");
  CHECK(f.track(0) == "0");
}

TEST_CASE("dirty bits are told, in pages of the caller's, and cleared", "[dirty]") {
  tracked f;
  CHECK(f.track(1) == "0");
  f.dirty(0x12000);
  f.dirty(0x15000);
  CHECK(f.read(0x10000, 0x10000, 0x1000, abi::dirty_bitmap_no_clear) == "0 2 5");
  CHECK(f.read(0x10000, 0x10000, 0x2000, abi::dirty_bitmap_no_clear) == "0 1 2");
  CHECK(f.read(0x12000, 0x2000, 0x800, abi::dirty_bitmap_no_clear) == "0 0 1");
  CHECK(f.read(0x10000, 0x3000, 0x1000) == "0 2");
  CHECK(f.read(0x10000, 0x10000, 0x1000) == "0 5");
  CHECK(f.read(0x10000, 0x10000, 0x1000) == "0");
  f.dirty(0x11000);
  CHECK(f.track(1) == "0");  // which clears them
  CHECK(f.read(0x10000, 0x10000, 0x1000) == "0");
}

TEST_CASE("GET_DIRTY_BITMAP checks what it is told in order", "[dirty]") {
  tracked f;
  const auto plain = f.context->create_hw_pagetable(f.d, f.s, false);
  REQUIRE(plain);
  const auto get = [&](abi::hwpt_get_dirty_bitmap c) {
    return f.call(request::hwpt_get_dirty_bitmap, c);
  };
  CHECK(get({0, 99, 2, 0, 1, 0, 0, 0}) == "EOPNOTSUPP");
  CHECK(get({0, 99, 0, 1, 1, 0, 0, 0}) == "EOPNOTSUPP");
  CHECK(get({0, 99, 0, 0, 1, 0, 0, 0}) == "ENOENT");
  CHECK(get({0, f.s, 0, 0, 1, 0, 0, 0}) == "ENOENT");
  CHECK(get({0, *plain, 0, 0, 1, 0, 0, 0}) == "EINVAL");
  CHECK(get({0, *plain, 0, 0, 1, max, 0, 0}) == "EINVAL");
  CHECK(get({0, *plain, 0, 0, 2, max, 0, 0}) == "EOVERFLOW");
  CHECK(get({0, *plain, 0, 0, 0x1800, 0x1000, 0x800, 0}) == "EINVAL");
  CHECK(get({0, *plain, 0, 0, 0x1000, 0x1800, 0x800, 0}) == "EINVAL");
  CHECK(get({0, *plain, 0, 0, 0x1000, 0x1000, 0, 0}) == "EINVAL");
  CHECK(get({0, *plain, 0, 0, 0x1000, 0x1000, 0x2000, 0}) == "EINVAL");
  CHECK(get({0, *plain, 0, 0, 0x1000, 0x1000, 0x1000, 0}) == "EOPNOTSUPP");
  CHECK(get({0, f.h, 0, 0, 0x1000, 0x1000, 0x1000, 0}) == "0");
  CHECK(get({0, f.h, 0, 0, max - 0xfff, 0x1000, 0x1000, 0}) == "0");  // the last page of all
}

TEST_CASE("what is in the way of dirty bits is no error", "[dirty]") {
  tracked f;
  CHECK(f.read(0x10000, 0x10000, 0x1000) == "0");  // tracking is off
  CHECK(f.track(1) == "0");
  f.dirty(0x11000);
  CHECK(f.read(0xf000, 0x10000, 0x1000) == "0");     // it begins in a gap
  CHECK(f.read(0x10000, 0x20000, 0x1000) == "0 1");  // up to the gap
  f.dirty(0x11000);
  abi::hwpt_get_dirty_bitmap c{0, f.h, 0, 0, 0x10000, 0x10000, 0x1000, 0};
  CHECK(f.call(request::hwpt_get_dirty_bitmap, c) == "0");  // no memory for bits
}
