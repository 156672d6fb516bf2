// tests/uapi/vfio/compat_calls_test.cpp - type1's ioctls by iommufd's rules; the order of checks, and
// what is written back.
#include "iopt/uapi/vfio/compat_calls.hpp"

#include <array>
#include <cstring>
#include <optional>

#include "tests/catch.hpp"
#include "tests/uapi/vfio/container_world.hpp"

using namespace iopt;
using namespace iopt::test;
namespace abi = vfio::abi;

namespace {

using table_type = io_pagetable<mock::pinner, mock::domain>;
using calls_type = vfio::compat_calls<table_type, narrow_copy, settable_caller>;

struct fixture {
  mock::pinner pinner;
  table_type table{pinner};
  std::array<bool, 3> may{true, true, true};
  settable_caller caller{&may};
  std::array<std::byte, 4096> bytes{};
  narrow_copy copy{&bytes};
  vfio::compat_state state{};
  bool has_table = true;

  calls_type calls() { return {has_table ? &table : nullptr, state, copy, caller}; }
  std::string map(std::uint64_t at, std::uint64_t size, std::uint32_t flags = 3) {
    return test::text(calls().map_dma(flags, {0x100000}, {at}, size));
  }
  template <class T>
  void put(const T& what) {
    std::memcpy(bytes.data(), &what, sizeof what);
  }
  /// "ERRNO size=..." of an unmap as bytes.
  std::string unmap(std::uint64_t at, std::uint64_t size, std::uint32_t flags = 0) {
    put(abi::dma_unmap{24, flags, at, size});
    const auto answer = calls().ioctl(abi::iommu_unmap_dma, narrow_copy::base);
    abi::dma_unmap u{};
    std::memcpy(&u, bytes.data(), sizeof u);
    return test::text(answer) + " " + std::to_string(u.size / 4096);
  }
};

}  // namespace

TEST_CASE("without a space there is no device, behind the checks of the argument", "[compat]") {
  fixture f;
  f.has_table = false;
  CHECK(f.map(0, 4096, 8) == "EINVAL");
  CHECK(f.map(0, 4096) == "ENODEV");
  CHECK(f.unmap(0, 4096, 1) == "EINVAL 1");
  CHECK(f.unmap(0, 4096) == "ENODEV 1");
  CHECK(test::text(f.calls().set_iommu(2)) == "EINVAL");
  CHECK(test::text(f.calls().set_iommu(1)) == "ENODEV");
  CHECK(test::text(f.calls().check_extension(4)) == "ENODEV");
  CHECK(test::text(f.calls().ioctl(abi::iommu_map_dma, 0)) == "EFAULT");
  CHECK(test::text(f.calls().ioctl(abi::iommu_dirty_pages, 0)) == "ENOTTY");
  CHECK(f.calls().ioctl(abi::get_api_version, 0) == 0);
}

TEST_CASE("extensions are those of iommufd", "[compat]") {
  fixture f;
  for (const std::uint64_t yes : {1U, 3U, 9U, 4U}) CHECK(*f.calls().check_extension(yes) == 1);
  for (const std::uint64_t no : {0U, 2U, 5U, 6U, 7U, 8U, 10U, 11U})
    CHECK(*f.calls().check_extension(no) == 0);
  f.state.allow_noiommu = true;
  CHECK(*f.calls().check_extension(8) == 1);
  f.state.noiommu = true;
  for (const std::uint64_t no : {1U, 3U, 9U}) CHECK(*f.calls().check_extension(no) == 0);
  CHECK(test::text(f.calls().set_iommu(1)) == "EINVAL");
  CHECK(test::text(f.calls().set_iommu(8)) == "0");
  f.may[static_cast<std::size_t>(capability::raw_io)] = false;
  CHECK(test::text(f.calls().set_iommu(8)) == "EPERM");
}

TEST_CASE("type1 v1 cuts, v2 refuses and has lost what came before", "[compat]") {
  fixture f;
  REQUIRE(f.map(0x10000, 0x4000) == "0");
  REQUIRE(f.map(0x20000, 0x4000) == "0");
  CHECK(f.unmap(0x11000, 0x1000) == "ENOENT 0");
  CHECK(f.unmap(0x10000, 0x11000) == "ENOENT 4");  // told how much went
  REQUIRE(test::text(f.calls().set_iommu(abi::type1_iommu)) == "0");
  CHECK(f.unmap(0x21000, 0x1000) == "0 1");
  CHECK(f.table.area_count() == 2);
  CHECK(f.unmap(0x21800, 0x1000) == "EINVAL 1");  // a cut that is refused tells nothing
  CHECK(f.unmap(0, 0x40000) == "0 3");
  CHECK(f.unmap(0, 0x40000) == "0 0");
}

TEST_CASE("an unmap of nothing, or past the end, is told what went: nothing", "[compat]") {
  fixture f;
  REQUIRE(f.map(0x10000, 0x4000) == "0");
  CHECK(f.unmap(0x10000, 0) == "EINVAL 0");
  CHECK(f.unmap(top, 0x1000) == "EOVERFLOW 0");
  CHECK(f.unmap(0, 4096, abi::unmap_all_flag) == "EINVAL 1");
  CHECK(f.unmap(0, 0, abi::unmap_all_flag) == "0 4");
  CHECK(f.unmap(0, 0, abi::unmap_all_flag) == "0 0");
}

TEST_CASE("an answer that cannot be written back is a bad address, and the memory is gone",
          "[compat]") {
  fixture f;
  REQUIRE(f.map(0x10000, 0x4000) == "0");
  f.copy.writable_bytes = 8;
  CHECK(f.unmap(0x10000, 0x4000).starts_with("EFAULT"));
  CHECK(f.table.area_count() == 0);
}

TEST_CASE("a map without flags is one without rights; alignment is the table's", "[compat]") {
  fixture f;
  CHECK(f.map(0x10001, 3, 0) == "0");
  CHECK(f.table.find({0x10002})->rights == access_rights::none);
  CHECK(f.map(0, 0) == "EINVAL");
  CHECK(f.map(top, 2) == "EOVERFLOW");
  CHECK(f.map(0x10000, 4096) == "EEXIST");
}

TEST_CASE("who may lock memory is not counted against a limit", "[compat]") {
  fixture f;
  mock::domain d;
  REQUIRE(f.table.attach(d));
  f.table.set_account_mode(account_mode::mm);
  REQUIRE(f.map(0x10000, 0x4000) == "0");
  CHECK(f.pinner.charged(f.pinner.current(), account_mode::none) == 4);
  f.may[static_cast<std::size_t>(capability::lock_memory)] = false;
  REQUIRE(f.map(0x20000, 0x4000) == "0");
  CHECK(f.pinner.charged(f.pinner.current(), account_mode::mm) == 4);
  CHECK(f.pinner.pinned_vm(f.pinner.current()) == 8);
  CHECK(f.unmap(0, 0x40000) == "0 8");
  f.table.detach(d);
}

TEST_CASE("holes are punched on an iommufd too, by a state that says so", "[compat]") {
  fixture f;
  mock::domain d;
  REQUIRE(f.table.attach(d));
  REQUIRE(f.map(0x10000, 0x8000) == "0");
  CHECK(f.unmap(0x12000, 0x1000) == "ENOENT 0");
  f.state.punches_holes = true;
  CHECK(f.unmap(0x12000, 0x1000) == "0 1");
  CHECK(f.unmap(0x12000, 0x1000) == "0 0");
  CHECK(f.unmap(0, 0x40000) == "0 7");
  f.table.detach(d);
}
