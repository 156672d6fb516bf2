// tests/uapi/vfio/info_test.cpp - VFIO_IOMMU_GET_INFO for every argsz. What is written where is in
// the golden vectors too; here is what lies past argsz, and what faults.
#include "iopt/uapi/vfio/info.hpp"

#include <array>
#include <cstring>

#include "tests/catch.hpp"
#include "tests/uapi/vfio/container_world.hpp"

using namespace iopt;
using namespace iopt::test;
namespace abi = vfio::abi;

namespace {

using table_type = io_pagetable<mock::pinner, mock::domain>;

struct fixture {
  mock::pinner pinner;
  table_type table{pinner};
  std::array<std::byte, 4096> bytes{};
  narrow_copy copy{&bytes};

  fixture() {
    REQUIRE(table.reserve({{0x1000}, {0x1fff}}));
    REQUIRE(table.reserve({{0x8000000000}, {top}}));
  }
  void ask(std::uint32_t argsz) {
    bytes.fill(std::byte{0xee});
    std::memcpy(bytes.data(), &argsz, 4);
  }
  template <class T>
  T at(std::size_t offset) const {
    T value;
    std::memcpy(&value, bytes.data() + offset, sizeof value);
    return value;
  }
  bool untouched_from(std::size_t offset) const {
    for (std::size_t n = offset; n < bytes.size(); ++n)
      if (bytes[n] != std::byte{0xee}) return false;
    return true;
  }
  result<void> type1() {
    return vfio::write_type1_info(copy, {narrow_copy::base}, table, true, 0x40201000, 77);
  }
  result<void> compat() { return vfio::write_iommufd_info(copy, {narrow_copy::base}, &table); }
};

constexpr std::uint32_t type1_need = 24 + 32 + 16 + 16 + 2 * 16;
constexpr std::uint32_t compat_need = 24 + 16 + 16 + 2 * 16;

}  // namespace

TEST_CASE("type1 writes all of its capabilities or none, and never past argsz", "[info]") {
  fixture f;
  for (std::uint32_t argsz = 0; argsz < 200; ++argsz) {
    CAPTURE(argsz);
    f.ask(argsz);
    const result<void> done = f.type1();
    if (argsz < 16) {
      CHECK(done.error() == errc::invalid_argument);
      CHECK(f.untouched_from(4));
      continue;
    }
    REQUIRE(done);
    const bool fits = argsz >= type1_need;
    CHECK(f.at<std::uint32_t>(0) == (fits ? argsz : type1_need));
    CHECK(f.at<std::uint32_t>(4) == 3);
    if (argsz >= 24) CHECK(f.at<abi::type1_info>(0).cap_offset == (fits ? 24 : 0));
    CHECK(f.untouched_from(fits ? type1_need : std::min<std::size_t>(argsz, 24)));
    if (!fits) continue;
    const auto migration = f.at<abi::migration_capability>(24);
    CHECK(migration.header.id == abi::capability_migration);
    CHECK(migration.page_sizes == 0x1000);
    CHECK(f.at<abi::dma_avail_capability>(56).avail == 77);
    CHECK(f.at<abi::dma_avail_capability>(56).header.next == 72);
    CHECK(f.at<abi::iova_ranges_capability>(72).count == 2);
    CHECK(f.at<abi::iova_ranges_capability>(72).header.next == 0);
    CHECK(f.at<abi::iova_range_entry>(104).last == 0x7fffffffff);
  }
}

TEST_CASE("without ranges type1's chain ends before them", "[info]") {
  fixture f;
  f.ask(4096);
  REQUIRE(vfio::write_type1_info(f.copy, {narrow_copy::base}, f.table, false, 0x1000, 1));
  CHECK(f.at<abi::dma_avail_capability>(56).header.next == 0);
  CHECK(f.untouched_from(72));
}

TEST_CASE("iommufd writes what fits, tells what would, and never writes past argsz", "[info]") {
  fixture f;
  for (std::uint32_t argsz = 0; argsz < 200; ++argsz) {
    CAPTURE(argsz);
    f.ask(argsz);
    const result<void> done = f.compat();
    if (argsz < 16) {
      CHECK(done.error() == errc::invalid_argument);
      continue;
    }
    REQUIRE(done);
    CHECK(f.at<std::uint32_t>(0) == compat_need);
    const bool fits = argsz >= compat_need;
    if (argsz >= 24) CHECK(f.at<abi::type1_info>(0).cap_offset == (fits ? 24 : 0));
    CHECK(f.untouched_from(std::min<std::size_t>(argsz, compat_need)));
    if (argsz >= 36) CHECK(f.at<abi::dma_avail_capability>(24).avail == 0xffffffff);
    if (argsz >= 40) CHECK(f.at<abi::capability_header>(24).next == 40);
    if (argsz >= 72) CHECK(f.at<abi::iova_range_entry>(56).last == 0xfff);
    CHECK((f.at<std::uint16_t>(40) == abi::capability_iova_range) == fits);
  }
}

TEST_CASE("whatever cannot be written is a bad address, in both", "[info]") {
  fixture f;
  for (std::uint64_t writable = 0; writable < type1_need; ++writable) {
    f.copy.writable_bytes = writable;
    f.ask(4096);
    CHECK(f.type1().error() == errc::bad_address);
    if (writable < compat_need) {
      f.ask(4096);
      CHECK(f.compat().error() == errc::bad_address);
    }
  }
  f.copy.writable_bytes = 4096;
  f.ask(4096);
  CHECK(f.type1().has_value());
  CHECK(vfio::write_type1_info(f.copy, {0}, f.table, true, 0, 0).error() == errc::bad_address);
}

TEST_CASE("without a space iommufd has no device, but looks at the argument first", "[info]") {
  fixture f;
  const table_type* none = nullptr;
  CHECK(vfio::write_iommufd_info(f.copy, {0}, none).error() == errc::bad_address);
  f.ask(15);
  CHECK(vfio::write_iommufd_info(f.copy, {narrow_copy::base}, none).error() ==
        errc::invalid_argument);
  f.ask(16);
  CHECK(vfio::write_iommufd_info(f.copy, {narrow_copy::base}, none).error() ==
        errc::no_such_device);
}

TEST_CASE("iommufd tells page sizes that all domains have, and its alignment", "[info]") {
  fixture f;
  f.ask(24);
  REQUIRE(f.compat());
  CHECK(f.at<std::uint64_t>(8) == 0xfffffffffffff000);
  mock::domain small({.page_sizes = {2 * kibibyte, 2 * mebibyte}});
  REQUIRE(f.table.attach(small));
  f.ask(24);
  REQUIRE(f.compat());
  CHECK(f.at<std::uint64_t>(8) == 0x201000);
  f.table.detach(small);
}
