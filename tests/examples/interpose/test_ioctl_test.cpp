// tests/examples/interpose/test_ioctl_test.cpp - the ioctl of the kernel's own tests, on any context.
#include "examples/interpose/test_ioctl.hpp"

#include <array>
#include <cstdint>
#include <string>

#include "tests/catch.hpp"
#include "tests/uapi/iommufd/context_fixture.hpp"

using namespace iopt;
using namespace iopt::test;

namespace {

using fixture = context_fixture<>;

/// A context that knows the ioctl.
struct extended : fixture {
  // It outlives the context, whose groups it has.
  test_ioctl<fixture::context_type, mock::domain> more{
      *context, [this](mock::domain& d) { pinner.watch(d); }};
  ~extended() { close(); }

  std::string test(test_command& c, std::uint32_t size = sizeof(test_command)) {
    c.size = size;
    return status(context->ioctl(0x3ba0, fixture::address(&c), more));
  }
  test_command device(iommufd::object_id at, std::uint32_t flags = 0) {
    test_command c{};
    c.op = test_operation::mock_domain_flags;
    c.id = at;
    c.mock_domain.flags = flags;
    CHECK(test(c) == "0");
    return c;
  }
};

test_command command(test_operation op, iommufd::object_id id) {
  test_command c{};
  c.op = op;
  c.id = id;
  return c;
}

}  // namespace

TEST_CASE("the ioctl of the kernel's tests is added from outside", "[test_ioctl]") {
  extended f;
  test_command c = command(test_operation{99}, 0);
  CHECK(f.test(c) == "EOPNOTSUPP");
  CHECK(f.test(c, 67) == "EINVAL");
  CHECK(f.test(c, 68) == "EOPNOTSUPP");
  CHECK(status(f.context->ioctl(0x3b9f, fixture::address(&c), f.more)) == "ENOTTY");
}

TEST_CASE("MOCK_DOMAIN makes a device that goes with its number", "[test_ioctl]") {
  extended f;
  test_command c = command(test_operation::mock_domain, 9);
  CHECK(f.test(c) == "ENOENT");
  CHECK(f.context->size() == 0);
  c.id = f.space();
  f.memory.unwritable = gate::bytes_of(c);
  CHECK(f.test(c) == "EFAULT");
  CHECK(f.context->size() == 1);
  f.memory.unwritable.reset();
  CHECK(f.test(c) == "0");
  CHECK(c.mock_domain.out_test_device == 2);
  CHECK(c.mock_domain.out_hw_pagetable == 4);
  CHECK(c.mock_domain.out_device == 3);
  CHECK(f.destroy(4) == "EBUSY");
  CHECK(f.destroy(3) == "EBUSY");
  test_command r = command(test_operation::mock_domain_replace, 2);
  r.replace.to = f.space();  // 5
  CHECK(f.test(r) == "0");
  CHECK(r.replace.to == 6);
  CHECK(f.destroy(1) == "0");
  CHECK(f.destroy(5) == "EBUSY");
  CHECK(f.destroy(2) == "0");  // with its device, and the hardware page table
  CHECK(f.context->size() == 1);
  r.replace.to = 5;
  CHECK(f.test(r) == "ENOENT");
}

TEST_CASE("MOCK_DOMAIN_FLAGS chooses what the device can do", "[test_ioctl]") {
  extended f;
  const auto s = f.space();
  test_command c = command(test_operation::mock_domain_flags, s);
  c.mock_domain.flags = 8;
  CHECK(f.test(c) == "EINVAL");
  CHECK(f.context->size() == 1);
  const auto plain = f.device(s, device_no_dirty).mock_domain;
  CHECK(f.context->create_hw_pagetable(plain.out_device, s, true).error() ==
        errc::operation_not_supported);
  const auto huge = f.device(f.space(), device_huge_iova).mock_domain;
  REQUIRE(f.context->with_hw_pagetable(huge.out_hw_pagetable, [](auto&, mock::domain& d) {
    CHECK(d.page_sizes() == page_size_set{2 * kibibyte, mebibyte});
    return result<void>{};
  }));
  std::array<std::uint32_t, 2> told{};
  for (const auto& [device, bits] :
       {std::pair{plain, 0}, std::pair{f.device(s, device_pasid).mock_domain, 20}}) {
    iommufd::abi::hw_info info{};
    info.dev_id = device.out_device;
    info.data_len = sizeof told;
    info.data_uptr = fixture::address(told.data());
    CHECK(f.call(iommufd::abi::request::get_hw_info, info) == "0");
    CHECK(info.out_data_type == 0xfeedbeef);
    CHECK(told[1] == 0xdeadbeef);
    CHECK(info.out_max_pasid_log2 == bits);
  }
}

TEST_CASE("ADD_RESERVED keeps IOVAs free until the space goes", "[test_ioctl]") {
  extended f;
  const auto s = f.space();
  test_command c = command(test_operation::add_reserved, 9);
  CHECK(f.test(c) == "EINVAL");
  c.add_reserved = {0x4000, 0 - std::uint64_t{0x1000}};
  CHECK(f.test(c) == "EOVERFLOW");
  c.add_reserved = {0x4000, 0x1000};
  CHECK(f.test(c) == "ENOENT");
  c.id = s;
  CHECK(f.test(c) == "0");
  CHECK(f.map(s, 0x4000, 1) == "EINVAL");
  CHECK(f.map(s, 0x5000, 1) == "0");
  c.add_reserved = {0x5000, 0x1000};
  CHECK(f.test(c) == "EADDRINUSE");
}

TEST_CASE("DIRTY has the device write where a bit is set and something is mapped", "[test_ioctl]") {
  extended f;
  const auto s = f.space();
  const auto d = f.device(s).mock_domain;
  const auto tracks = f.context->create_hw_pagetable(d.out_device, s, true);
  REQUIRE(tracks);
  constexpr std::uint64_t base = 0x1000000;
  CHECK(f.map(s, base, 2) == "0");
  std::array<unsigned char, 2> bits{0xf1, 0xff};
  test_command c = command(test_operation::dirty, 99);
  const auto ask = [&](std::uint64_t at, std::uint64_t length, std::uint64_t page,
                       std::uint64_t from) {
    c.dirty = {0, at, length, page, from, 0};
    const std::string answer = f.test(c);
    return answer + " " + std::to_string(c.dirty.out_count);
  };
  const std::uint64_t from = fixture::address(bits.data());
  CHECK(ask(base, 0x4000, 0, from) == "EINVAL 0");
  CHECK(ask(base, 0, 0x800, from) == "EINVAL 0");
  CHECK(ask(base + 1, 0x4000, 0x800, from) == "EINVAL 0");
  CHECK(ask(base, 0x4001, 0x800, from) == "EINVAL 0");
  CHECK(ask(base, 0x4000, 0x800, 0) == "EINVAL 0");
  CHECK(ask(base, std::uint64_t{0x800} << 28, 0x800, from) == "EOVERFLOW 0");
  CHECK(ask(base, 0x4000, 0x800, from) == "ENOENT 0");
  c.id = *tracks;
  CHECK(ask(base, 0x4000, 0x800, from) == "EINVAL 0");  // it does not track yet
  iommufd::abi::hwpt_set_dirty_tracking on{0, iommufd::abi::dirty_tracking_enable, *tracks, 0};
  CHECK(f.call(iommufd::abi::request::hwpt_set_dirty_tracking, on) == "0");
  f.memory.unreadable = gate::bytes_of(bits);
  CHECK(ask(base, 0x4000, 0x800, from) == "EFAULT 0");
  f.memory.unreadable.reset();
  CHECK(ask(base, 0x4000, 0x800, from) == "0 1");  // four pages are mapped, of eight bits
}
