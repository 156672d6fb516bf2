// tests/uapi/iommufd/context_test.cpp - which ioctl is meant, numbers of objects, the compatible
// space, other front ends' ioctls.
#include "iopt/uapi/iommufd/context.hpp"

#include <array>
#include <cstring>

#include "tests/catch.hpp"
#include "tests/uapi/iommufd/context_fixture.hpp"

using namespace iopt;
using namespace iopt::test;
namespace abi = iopt::iommufd::abi;
using fixture = context_fixture<>;
using abi::request;

TEST_CASE("numbers outside the table are VFIO's", "[dispatch]") {
  fixture f;
  CHECK(f.raw(vfio::abi::get_api_version, 0) == "0");
  CHECK(f.context->ioctl(vfio::abi::check_extension, 1) == 1);
  CHECK(f.raw(vfio::abi::set_iommu, 1) == "ENODEV");
  for (const std::uint32_t number : {0x7fU, 0x8fU, 0x95U, 0xa0U, 0xffU})
    CHECK(f.raw(abi::request_of(number), 0) == "ENOTTY");  // the argument is not looked at
}

TEST_CASE("a number of the table needs a size that can be read", "[dispatch]") {
  fixture f;
  std::array<std::uint32_t, 2> room{8, 0};
  for (std::uint32_t number = 0x80; number <= 0x8e; ++number) {
    CAPTURE(number);
    CHECK(f.raw(abi::request_of(number), 0) == "EFAULT");
    // Direction, size or another type: not this ioctl, whatever the struct says.
    for (const std::uint32_t odd : {0x40083b00U, 0xc0083b00U, 0x80003b00U, 0x00001200U}) {
      CHECK(f.raw(odd | number, 0) == "EFAULT");
      CHECK(f.raw(odd | number, fixture::address(room.data())) == "ENOTTY");
    }
  }
}

TEST_CASE("each ioctl has its least size", "[dispatch]") {
  struct row {
    request number;
    std::uint32_t least;
    std::uint32_t whole;
    const char* answer;  // to nothing but zeroes
  };
  const row table[] = {{request::destroy, 8, 8, "ENOENT"},
                       {request::ioas_alloc, 12, 12, "0"},
                       {request::ioas_allow_iovas, 24, 24, "ENOENT"},
                       {request::ioas_copy, 40, 40, "EINVAL"},
                       {request::ioas_iova_ranges, 32, 32, "ENOENT"},
                       {request::ioas_map, 40, 40, "EINVAL"},
                       {request::ioas_unmap, 24, 24, "ENOENT"},
                       {request::option, 24, 24, "EPERM"},
                       {request::vfio_ioas, 12, 12, "ENODEV"},
                       {request::hwpt_alloc, 24, 48, "ENOENT"},
                       {request::get_hw_info, 32, 40, "ENOENT"},
                       {request::hwpt_set_dirty_tracking, 16, 16, "ENOENT"},
                       {request::hwpt_get_dirty_bitmap, 48, 48, "ENOENT"}};
  for (const row& r : table) {
    CAPTURE(static_cast<std::uint32_t>(r.number));
    const auto answer = [&](std::uint32_t size, std::size_t dirty = 0) {
      fixture f;
      f.may.resources = false;
      alignas(8) std::array<unsigned char, 128> bytes{};
      std::memcpy(bytes.data(), &size, sizeof size);
      if (dirty != 0) bytes[dirty] = 1;
      return f.raw(static_cast<std::uint32_t>(r.number), fixture::address(bytes.data()));
    };
    CHECK(answer(0) == "EINVAL");
    CHECK(answer(r.least - 1) == "EINVAL");
    CHECK(answer(r.least) == r.answer);
    CHECK(answer(r.whole) == r.answer);
    CHECK(answer(r.whole + 20) == r.answer);
    CHECK(answer(r.whole + 20, r.whole) == "E2BIG");
    CHECK(answer(r.whole + 20, r.whole + 19) == "E2BIG");
    CHECK(answer(r.whole + 20, r.whole + 20) == r.answer);
  }
}

TEST_CASE("objects have the lowest free number", "[destroy]") {
  fixture f;
  CHECK(f.space() == 1);
  CHECK(f.space() == 2);
  CHECK(f.space() == 3);
  CHECK(f.destroy(2) == "0");
  CHECK(f.destroy(2) == "ENOENT");
  CHECK(f.destroy(0) == "ENOENT");
  CHECK(f.destroy(77) == "ENOENT");
  CHECK(f.space() == 2);
  CHECK(f.context->size() == 3);
}

TEST_CASE("a space goes with what is mapped", "[destroy]") {
  fixture f;
  const auto s = f.space();
  const auto d = f.device();
  REQUIRE(f.context->attach(d, s));
  CHECK(f.map(s, 0x10000, 8) == "0");
  CHECK(f.pinner.pinned_pages() == 8);
  CHECK(f.destroy(s) == "EBUSY");
  REQUIRE(f.context->detach(d));
  CHECK(f.destroy(s) == "0");
  CHECK(f.pinner.pinned_pages() == 0);
}

TEST_CASE("the end of the context ends everything", "[destroy]") {
  fixture f;
  const auto s = f.space();
  const auto other = f.space();
  const auto d = f.device();
  const auto e = f.device();
  REQUIRE(f.context->attach(d, s));
  REQUIRE(f.context->attach(e, s));
  REQUIRE(f.context->create_hw_pagetable(e, other, false));
  const auto a = f.context->create_access([](void*, iova_range) {}, nullptr, true);
  REQUIRE(a);
  REQUIRE(f.context->attach_access(*a, other));
  CHECK(f.map(s, 0x10000, 8) == "0");
  CHECK(f.map(other, 0x10000, 8) == "0");
  f.close();  // checks that nothing is left
}

TEST_CASE("without memory there is no space", "[destroy]") {
  fixture f;
  abi::ioas_alloc c{};
  for (std::uint64_t n = 0;; ++n) {
    f.faults.arm(n);
    const std::string answer = f.call(request::ioas_alloc, c);
    if (!f.faults.fired()) break;
    CHECK(answer == "ENOMEM");
    CHECK(f.context->size() == 0);
    CHECK(f.account.live_blocks() == 0);
  }
  CHECK(c.out_ioas_id == 1);
}

TEST_CASE("the compatible space is what VFIO's ioctls mean", "[compatible]") {
  fixture f({.allow_noiommu = true});
  CHECK(said(f.context->compatible_space()) == "ENODEV");
  CHECK(f.space() == 1);
  REQUIRE(f.context->need_compatible_space());
  CHECK(said(f.context->compatible_space()) == "2");
  REQUIRE(f.context->need_compatible_space());  // that one again
  CHECK(said(f.context->compatible_space()) == "2");
  CHECK(f.context->size() == 2);
  CHECK(said(f.context->need_no_iommu()) == "EINVAL");

  vfio::abi::dma_map m{sizeof m, 3, 0x10000, 0x2000, 0x1000};
  CHECK(f.raw(vfio::abi::iommu_map_dma, fixture::address(&m)) == "0");
  CHECK(f.destroy(2) == "0");
  CHECK(said(f.context->compatible_space()) == "ENODEV");
  CHECK(f.raw(vfio::abi::iommu_map_dma, fixture::address(&m)) == "ENODEV");
  CHECK(f.space() == 2);  // the number again, but not the compatible space
  CHECK(f.raw(vfio::abi::iommu_map_dma, fixture::address(&m)) == "ENODEV");
}

TEST_CASE("a group without an IOMMU bars the compatible space", "[compatible]") {
  fixture f({.allow_noiommu = true});
  CHECK(f.context->ioctl(vfio::abi::check_extension, 3) == 1);
  REQUIRE(f.context->need_no_iommu());
  REQUIRE(f.context->need_no_iommu());
  CHECK(said(f.context->need_compatible_space()) == "EINVAL");
  CHECK(f.context->size() == 0);
  CHECK(f.context->ioctl(vfio::abi::check_extension, 3) == 0);
  CHECK(f.context->ioctl(vfio::abi::check_extension, 8) == 1);
  CHECK(f.raw(vfio::abi::set_iommu, 1) == "EINVAL");
  CHECK(f.raw(vfio::abi::set_iommu, 8) == "0");
  f.may.raw_io = false;
  CHECK(f.raw(vfio::abi::set_iommu, 8) == "EPERM");
}

namespace {

/// Knows number 0xa0 and answers with what it was asked.
struct echo {
  static constexpr std::uint32_t last_number = 0xa0;
  std::uint32_t asked = 0;

  template <class Argument>
  uapi::answer operator()(const Argument& a) {
    asked = a.request();
    if (asked != 0x3ba0) return uapi::refusal(errc::inappropriate_io_control_operation);
    const auto said = a.template read<abi::destroy>();
    if (!said) return uapi::refusal(said.error().code);
    return said->id;
  }
};

}  // namespace

TEST_CASE("a front end may add ioctls, which also makes the table longer", "[more]") {
  fixture f;
  echo more;
  abi::destroy c{sizeof c, 41};
  const auto call = [&](std::uint32_t number, std::uint64_t argument) {
    return status(f.context->ioctl(number, argument, more));
  };
  CHECK(f.context->ioctl(0x3ba0, fixture::address(&c), more) == 41);
  c.size = 7;
  CHECK(call(0x3ba0, fixture::address(&c)) == "EINVAL");
  CHECK(call(0x3ba0, 0) == "EFAULT");
  // Holes up to there need a readable size now; another direction never reaches the front end.
  more.asked = 0;
  CHECK(call(0x3b90, 0) == "EFAULT");
  CHECK(call(0x40003ba0, fixture::address(&c)) == "ENOTTY");
  CHECK(more.asked == 0);
  CHECK(call(0x3b8f, fixture::address(&c)) == "ENOTTY");
  CHECK(more.asked == 0x3b8f);
  CHECK(call(0x3ba1, 0) == "ENOTTY");  // VFIO's again
  // What the context knows is not asked for.
  more.asked = 0;
  c.size = sizeof c;
  CHECK(call(0x3b80, fixture::address(&c)) == "ENOENT");
  CHECK(more.asked == 0);
}

TEST_CASE("from Linux 6.18 on the table is longer", "[level]") {
  context_fixture<newer_profile> f;
  std::array<std::uint32_t, 2> room{7, 0};
  for (std::uint32_t number = 0x8f; number <= 0x94; ++number) {
    CHECK(f.raw(abi::request_of(number), 0) == "EFAULT");
    // This profile knows no files: there is nothing at 0x8f.
    CHECK(f.raw(abi::request_of(number), f.address(room.data())) ==
          (number == 0x8f ? "ENOTTY" : "EINVAL"));
  }
  CHECK(f.raw(abi::request_of(0x95), 0) == "ENOTTY");
}
