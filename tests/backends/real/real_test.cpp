// tests/backends/real/real_test.cpp - whatever this machine has: of the kernel, or of
// examples/interpose.
#include "iopt/backends/real/real.hpp"

#include <sys/mman.h>

#include <string>

#include "examples/interpose/test_command.hpp"
#include "iopt/core/io_pagetable.hpp"
#include "tests/backends/real_memory.hpp"
#include "tests/catch.hpp"
#include "tests/policy/iommu_domain_conformance.hpp"

namespace {

using namespace iopt;
using iopt::access_rights;  // not that of unistd.h

constexpr std::uint64_t page = 4096;

struct hooks {
  test::real_memory& memory;
  physical frames(std::uint64_t, std::uint64_t) { return {memory.address()}; }
  std::uint64_t largest_bytes() const { return 16 * mebibyte; }
};

/// n: 0 iommufd, 1 a group, 2 a device that is not there and a group.
std::optional<real::address_space> open_as(int n) {
  const auto group = test::group_path();
  if (n != 0 && !group) {
    test::skipped("no group below /dev/vfio");
    return std::nullopt;
  }
  const real::device_paths paths[] = {
      {}, {nullptr, group ? group->c_str() : ""}, {"/no such device", group ? group->c_str() : ""}};
  auto opened = real::address_space::open(paths[n]);
  if (opened) return std::move(*opened);
  test::skipped(n == 0 ? "no /dev/iommu, or no right to it" : "the group cannot be used");
  return std::nullopt;
}

TEST_CASE("real: the domain keeps the contract, whichever it is", "[conformance]") {
  const int n = GENERATE(0, 1, 2);
  CAPTURE(n);
  test::real_memory memory(16 * mebibyte);
  const auto space = open_as(n);
  if (!space) return;
  CHECK((space->behind() == (n == 0 ? real::interface::iommufd : real::interface::type1)));
  CHECK((space->iommufd() != nullptr) == (n == 0));
  CHECK((space->container() != nullptr) == (n != 0));
  CHECK(space->descriptor() >= 0);
  iopt_conformance::check_domain<real::domain>(
      [&] { return real::domain(*space->table(), {granules::fixed(page)}); }, hooks{memory});
}

TEST_CASE("real: a container that an iommufd stands for keeps the contract", "[conformance]") {
  const auto space = dev_iommu::address_space::open();
  if (!space) return test::skipped("no /dev/iommu, or no right to it");
  iommufd::abi::vfio_ioas chosen{sizeof chosen, space->ioas(), iommufd::abi::vfio_ioas_set, 0};
  if (!host::call(space->descriptor(), static_cast<std::uint32_t>(iommufd::abi::request::vfio_ioas),
                  &chosen))
    return test::skipped("this iommufd stands for no container");
  // Its SET_IOMMU wants a device; a mock of the kernel's tests will do.
  test::test_command c{};
  c.size = sizeof c;
  c.op = test::test_operation::mock_domain;
  c.id = space->ioas();
  if (!host::call(space->descriptor(), 0x3b00U | test::test_number, &c))
    return test::skipped("no device to put behind an IOAS");
  REQUIRE(host::call_with(space->descriptor(), vfio::abi::set_iommu, vfio::abi::type1v2_iommu)
              .has_value());
  test::real_memory memory(16 * mebibyte);
  iopt_conformance::check_domain<vfio_type1::domain>(
      [&] {
        return vfio_type1::domain(*vfio_type1::container_table::open(space->descriptor()),
                                  {granules::fixed(page)});
      },
      hooks{memory});
  CHECK_FALSE(vfio_type1::container_table::open(space->descriptor())->entries_left().has_value());
}

TEST_CASE("real: one program for both, but for what only one can do") {
  const int n = GENERATE(0, 1);
  CAPTURE(n);
  const test::real_memory memory(mebibyte);
  const auto space = open_as(n);
  if (!space) return;
  real::pinner pinner;
  auto opened = space->table({.files = &pinner.frames()});
  REQUIRE(opened.has_value());
  CHECK(opened->behind() == space->behind());
  real::domain domain(std::move(*opened), {granules::fixed(64 * kibibyte)});
  io_pagetable<real::pinner, real::domain> table(pinner);
  REQUIRE(table.attach(domain).has_value());
  const auto at = table.map(memory.at(0), mebibyte, access_rights::read_write);
  REQUIRE(at.has_value());
  CHECK(domain.entries() == 16);
  CHECK(domain.entries_left().has_value() == (n == 1));
  CHECK(table.unmap(*at + 128 * kibibyte, 64 * kibibyte, unmap_profile::hole_punching).bytes ==
        64 * kibibyte);
  CHECK(domain.entries() == 15);

  const int file = ::memfd_create("guest", MFD_CLOEXEC);
  REQUIRE(::ftruncate(file, 1 << 16) == 0);
  const auto number = pinner.add_file(file);
  ::close(file);
  REQUIRE(number.has_value());
  const auto mapped = table.map(table.file_memory(*number, 0), 1 << 16, access_rights::read);
  if (n == 1) {
    CHECK(mapped.error() == errc::operation_not_supported);
  } else {
    CHECK((mapped.has_value() || mapped.error() == errc::operation_not_supported));
  }
}

TEST_CASE("real: errors of opening are the system's") {
  const auto none = real::address_space::open({nullptr, "/no such group"});
  REQUIRE_FALSE(none.has_value());
  const auto device = real::address_space::open({"/no such device", nullptr});
  REQUIRE_FALSE(device.has_value());
}

}  // namespace
