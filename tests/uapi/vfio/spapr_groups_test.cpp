// tests/uapi/vfio/spapr_groups_test.cpp - SPAPR container: groups, the driver, windows; rule by rule.
//
// unverified: from the sheet, not from hardware.
#include "iopt/uapi/vfio/spapr_groups.hpp"

#include <array>

#include "iopt/uapi/vfio/group_file.hpp"
#include "tests/catch.hpp"
#include "tests/uapi/vfio/spapr_fixture.hpp"

using namespace iopt;
using namespace iopt::test;
using namespace iopt::test::spapr;

namespace {

constexpr std::uint64_t g = gibibyte;

tce_properties usual() { return *mock::tce_group_options{}.properties; }

}  // namespace

// --- The shell --------------------------------------------------------------------------------------

TEST_CASE("CHECK_EXTENSION: both versions, and error handling as the platform says") {
  spapr_machine<> m;
  const auto c = m.container(1);
  CHECK(ask(*c, abi::check_extension, v1) == "1");
  CHECK(ask(*c, abi::check_extension, v2) == "1");
  CHECK(ask(*c, abi::check_extension, abi::eeh) == "1");
  CHECK(ask(*c, abi::check_extension, abi::type1_iommu) == "0");
  CHECK(ask(*c, abi::check_extension, abi::unmap_all) == "0");
  CHECK(ask(*m.container(), abi::check_extension, abi::eeh) == "0");
}

TEST_CASE("before SET_IOMMU everything else is EINVAL") {
  spapr_machine<> m;
  mock::tce_group group(m.platform);
  const auto c = m.container();
  CHECK(ask(*c, abi::get_api_version) == "0");
  CHECK(ask(*c, abi::set_iommu, v2) == "EINVAL");  // no group
  REQUIRE(c->join(group));
  CHECK(ask(*c, abi::iommu_get_info) == "EINVAL");
  CHECK(ask(*c, abi::iommu_enable) == "EINVAL");
  CHECK(ask(*c, abi::eeh_pe_op) == "EINVAL");
  CHECK(ask(*c, 12345) == "EINVAL");
  CHECK(map(*c, arena, 0, 4 * k) == "EINVAL");
}

TEST_CASE("SET_IOMMU takes the two types, once") {
  spapr_machine<> m;
  mock::tce_group group(m.platform);
  const auto c = m.container();
  REQUIRE(c->join(group));
  CHECK(ask(*c, abi::set_iommu, abi::type1_iommu) == "ENODEV");
  CHECK(ask(*c, abi::set_iommu, abi::eeh) == "ENODEV");
  CHECK(ask(*c, abi::set_iommu, v1) == "0");
  CHECK(ask(*c, abi::set_iommu, v1) == "EINVAL");
  CHECK(ask(*c, 12345) == "ENOTTY");
  // Where there is error handling, its extension is claimed, and opening it is refused.
  mock::tce_group another(m.platform);
  const auto d = m.container(1);
  REQUIRE(d->join(another));
  CHECK(ask(*d, abi::set_iommu, abi::eeh) == "EINVAL");
}

TEST_CASE("the last group takes the driver with it, and everything else") {
  spapr_machine<> m;
  mock::tce_group group(m.platform);
  const auto c = m.container(group, v2);
  CHECK(enroll(*c, arena, 64 * k) == "0");
  CHECK(map(*c, arena, 0, 64 * k) == "0");
  CHECK(create(*c, 16, g) == hex(std::uint64_t{1} << 59));
  CHECK(m.platform.tables().size() == 2);
  REQUIRE(c->leave(group));
  REQUIRE(c->verify() == "");
  CHECK(m.is_idle());
  CHECK(said(c->leave(group)) == "EINVAL");
  CHECK(ask(*c, abi::iommu_get_info) == "EINVAL");
  // It is blank again: for another version, and another process.
  REQUIRE(c->join(group));
  m.pinner.set_current(m.pinner.create_process());
  CHECK(ask(*c, abi::set_iommu, v1) == "0");
  CHECK(ask(*c, abi::iommu_enable) == "0");
}

TEST_CASE("a group joins by its descriptor") {
  spapr_machine<> m;
  using container_type = spapr_machine<>::container_type;
  mock::tce_group group(m.platform);
  const auto c = std::shared_ptr<container_type>(m.container());
  vfio::group_file<std::shared_ptr<container_type>> file(group);
  REQUIRE(file.open());
  REQUIRE(file.set_container(c));
  CHECK(said(file.set_container(c)) == "EINVAL");
  CHECK(said(c->join(group)) == "EINVAL");
  CHECK(ask(*c, abi::set_iommu, v2) == "0");
  file.close();
  CHECK(said(c->set_iommu(v2)) == "EINVAL");
}

// --- Attaching --------------------------------------------------------------------------------------

TEST_CASE("attaching is refused in this order") {
  spapr_machine<> m;
  mock::tce_platform elsewhere;
  mock::tce_group first(m.platform);
  mock::tce_group emulated(m.platform, {.properties = {}, .kind = group_kind::emulated});
  mock::tce_group bare(elsewhere, {.properties = {}});
  tce_properties small = usual();
  small.max_windows = 0;
  mock::tce_group fixed(elsewhere, {.properties = small});
  mock::tce_group foreign(elsewhere);
  const auto c2 = m.container(first, v2);
  CHECK(said(c2->join(emulated)) == "EINVAL");
  CHECK(said(c2->join(bare)) == "ENODEV");
  CHECK(said(c2->join(fixed)) == "EINVAL");
  CHECK(said(c2->join(foreign)) == "EPERM");
  REQUIRE(c2->leave(first));

  const auto c1 = m.container(first, v1);
  CHECK(said(c1->join(emulated)) == "EINVAL");
  CHECK(said(c1->join(bare)) == "ENODEV");
  CHECK(said(c1->join(foreign)) == "EBUSY");
  mock::tce_group second(m.platform);
  CHECK(said(c1->join(second)) == "EBUSY");
  REQUIRE(c1->leave(first));

  // By SET_IOMMU the same: nobody is attached then.
  REQUIRE(c1->join(first));
  REQUIRE(c1->join(foreign));
  CHECK(ask(*c1, abi::set_iommu, v1) == "EBUSY");
  REQUIRE(c1->verify() == "");
  CHECK(ask(*c1, abi::set_iommu, v2) == "EPERM");
  REQUIRE(c1->verify() == "");
  CHECK(ask(*c1, abi::iommu_get_info) == "EINVAL");
  REQUIRE(c1->leave(foreign));
  CHECK(ask(*c1, abi::set_iommu, v2) == "0");
}

TEST_CASE("a platform without dynamic windows is for v1") {
  spapr_machine<> m;
  tce_properties small = usual();
  small.max_windows = 0;
  mock::tce_group group(m.platform, {.properties = small});
  const auto c = m.container();
  REQUIRE(c->join(group));
  CHECK(ask(*c, abi::set_iommu, v2) == "EINVAL");
  CHECK(ask(*c, abi::set_iommu, v1) == "0");
}

TEST_CASE("a group that joins sees every window; where it cannot, none") {
  spapr_machine<> m;
  mock::tce_group first(m.platform);
  mock::tce_group second(m.platform);
  const auto c = m.container(first, v2);
  CHECK(create(*c, 16, g) == hex(std::uint64_t{1} << 59));  // and the default window
  m.faults.arm(mock::fault_point::set_window, 1);
  CHECK(said(c->join(second)) == "EIO");
  CHECK(second.shown(0) == nullptr);
  CHECK(c->verify() == "");
  REQUIRE(c->join(second));
  CHECK(second.shown(0) == first.shown(0));
  CHECK(second.shown(1) == first.shown(1));
}

TEST_CASE("a group that leaves clears every entry, whoever else uses them") {
  spapr_machine<> m;
  mock::tce_group first(m.platform);
  mock::tce_group second(m.platform);
  const auto c = m.container(first, v2);
  REQUIRE(c->join(second));
  CHECK(enroll(*c, arena, 64 * k) == "0");
  CHECK(map(*c, arena, 0, 64 * k) == "0");
  REQUIRE(c->leave(first));  // which made the table
  REQUIRE(second.shown(0) != nullptr);
  CHECK(second.shown(0)->bytes_mapped() == 0);
  CHECK(first.shown(0) == nullptr);
  CHECK(map(*c, arena, 0, 64 * k) == "0");
  CHECK(second.shown(0)->bytes_mapped() == 64 * k);
}

// --- TCE_CREATE -------------------------------------------------------------------------------------

TEST_CASE("TCE_CREATE is refused in this order") {
  spapr_machine<> m;
  tce_properties can = usual();
  mock::tce_group group(m.platform, {.properties = can});
  const auto c = m.container(group, v2);
  m.limit(1000);
  CHECK(ask(*c, abi::spapr_tce_create, 0) == "EFAULT");
  abi::spapr_create a{39, 1, 13, 0, 0, 0, 0, 0};
  CHECK(ask(*c, abi::spapr_tce_create, a) == "EINVAL");
  a.argsz = 40;
  CHECK(ask(*c, abi::spapr_tce_create, a) == "EINVAL");
  CHECK(m.platform.tables().empty());
  a.flags = 0;
  m.limit(511);  // the default window's table takes 512 pages
  CHECK(ask(*c, abi::spapr_tce_create, a) == "ENOMEM");
  m.limit(1000);
  CHECK(ask(*c, abi::spapr_tce_create, a) == "EINVAL");  // the page size
  CHECK(m.platform.tables().size() == 1);                // and the default window is there
  CHECK(m.charged() == 512);
  a.page_shift = 64 + 12;
  CHECK(ask(*c, abi::spapr_tce_create, a) == "EINVAL");
  a.page_shift = 16;
  group.options().properties->makes_windows = false;
  CHECK(ask(*c, abi::spapr_tce_create, a) == "EPERM");
  group.options().properties->makes_windows = true;
  group.options().properties->removes_windows = false;
  CHECK(ask(*c, abi::spapr_tce_create, a) == "EPERM");
  group.options().properties->removes_windows = true;
  CHECK(ask(*c, abi::spapr_tce_create, a) == "EINVAL");  // size and levels
  a.window_size = 8 * g;
  a.levels = 1;
  m.limit(512 + 255);
  CHECK(ask(*c, abi::spapr_tce_create, a) == "ENOMEM");
  m.limit(512 + 256);
  m.faults.arm(mock::fault_point::create_table, 0);
  CHECK(ask(*c, abi::spapr_tce_create, a) == "EIO");
  CHECK(m.charged() == 512);  // the charge is no leak
  m.faults.arm(mock::fault_point::set_window, 0);
  CHECK(ask(*c, abi::spapr_tce_create, a) == "EIO");
  CHECK(m.platform.tables().size() == 1);
  CHECK(m.charged() == 512);
  CHECK(ask(*c, abi::spapr_tce_create, a) == "0");
  CHECK(a.start == std::uint64_t{1} << 59);
  CHECK(m.charged() == 512 + 256);
  a.page_shift = 13;
  CHECK(ask(*c, abi::spapr_tce_create, a) == "ENOSPC");  // before the page size
}

TEST_CASE("a window that one group cannot see is seen by none") {
  spapr_machine<> m;
  mock::tce_group first(m.platform);
  mock::tce_group second(m.platform);
  const auto c = m.container(first, v2);
  REQUIRE(c->join(second));
  CHECK(remove(*c, 0) == "0");  // no default window
  m.faults.arm(mock::fault_point::set_window, 1);
  CHECK(create(*c, 16, g) == "EIO");
  CHECK(first.shown(0) == nullptr);
  CHECK(second.shown(0) == nullptr);
  CHECK(m.platform.tables().empty());
  CHECK(create(*c, 16, g) == "0");
  CHECK(first.shown(0) == second.shown(0));
}

TEST_CASE("who may lock at will is charged for tables, and not limited") {
  spapr_machine<> m;
  mock::tce_group group(m.platform);
  const auto c = m.container(group, v2);
  m.limit(0);
  CHECK(create(*c, 16, g) == "ENOMEM");
  m.privileged = true;
  CHECK(create(*c, 16, g) == hex(std::uint64_t{1} << 59));
  CHECK(m.charged() == 512 + 32);
  m.privileged = false;
  REQUIRE(c->leave(group));
  CHECK(m.is_idle());
}

TEST_CASE("TCE_CREATE whose answer cannot be told leaves the window") {
  spapr_machine<> m;
  mock::tce_group group(m.platform);
  // The argument can be read and not written.
  struct read_only : trusted_caller {
    bool write(user_address, std::span<const std::byte>) noexcept { return false; }
  };
  struct profile : spapr_test_profile<spapr_traits> {
    using copy = read_only;
  };
  vfio::spapr_container<mock::huge_page_pinner, mock::domain, profile> c(m.registry, {}, {},
                                                                         {&m.privileged}, m.source);
  REQUIRE(c.join(group));
  REQUIRE(c.set_iommu(v2));
  CHECK(create(c, 16, g) == "EFAULT");
  CHECK(m.platform.tables().size() == 2);
}

// --- TCE_REMOVE -------------------------------------------------------------------------------------

TEST_CASE("TCE_REMOVE is refused in this order") {
  spapr_machine<> m;
  mock::tce_group group(m.platform);
  const auto c = m.container(group, v2);
  CHECK(ask(*c, abi::spapr_tce_remove, 0) == "EFAULT");
  abi::spapr_remove a{15, 1, 0};
  CHECK(ask(*c, abi::spapr_tce_remove, a) == "EINVAL");
  a.argsz = 16;
  CHECK(ask(*c, abi::spapr_tce_remove, a) == "EINVAL");
  a.flags = 0;
  a.start = 4 * k;
  CHECK(ask(*c, abi::spapr_tce_remove, a) == "EINVAL");  // no window
  CHECK(m.platform.tables().empty());                    // and none was made
  a.start = 0;
  CHECK(ask(*c, abi::spapr_tce_remove, a) == "0");  // forgets that one is wanted
  CHECK(ask(*c, abi::spapr_tce_remove, a) == "EINVAL");
}

TEST_CASE("a window is removed by any address in it, with its entries and its charge") {
  spapr_machine<> m;
  mock::tce_group first(m.platform);
  mock::tce_group second(m.platform);
  const auto c = m.container(first, v2);
  REQUIRE(c->join(second));
  CHECK(enroll(*c, arena, 64 * k) == "0");
  CHECK(map(*c, arena, 0, 64 * k) == "0");
  CHECK(remove(*c, g - 1) == "0");
  CHECK(first.shown(0) == nullptr);
  CHECK(second.shown(0) == nullptr);
  CHECK(m.charged() == 16);                    // what is registered
  CHECK(map(*c, arena, 0, 4 * k) == "ENXIO");  // it is not made again
  CHECK(create(*c, 16, 2 * g) == "0");         // the slot is free
}

TEST_CASE("a platform that removes no windows: EPERM, and the entries are cleared") {
  spapr_machine<> m;
  mock::tce_group group(m.platform);
  const auto c = m.container(group, v2);
  CHECK(enroll(*c, arena, 64 * k) == "0");
  CHECK(map(*c, arena, 0, 64 * k) == "0");
  group.options().properties->removes_windows = false;
  CHECK(remove(*c, 0) == "EPERM");
  CHECK(group.shown(0)->bytes_mapped() == 0);
  CHECK(map(*c, arena, 0, 64 * k) == "0");  // the window is still there
}

TEST_CASE(
    "the default window is made by the first that needs one, from the last group's properties") {
  spapr_machine<> m;
  tce_properties small = usual();
  small.window32_size = 1 << 28;
  mock::tce_group first(m.platform);
  mock::tce_group last(m.platform, {.properties = small});
  const auto c = m.container();
  REQUIRE(c->join(last));
  REQUIRE(c->join(first));
  // SET_IOMMU attaches the last that joined first, so the first is the last that was attached.
  CHECK(ask(*c, abi::set_iommu, v2) == "0");
  CHECK(enroll(*c, arena, 64 * k) == "0");
  CHECK(c->window(0) == nullptr);
  CHECK(unmap(*c, 0, 4 * k) == "0");
  REQUIRE(c->window(0) != nullptr);
  CHECK(c->window(0)->range() == iova_range::sized({0}, 1 << 28));
  CHECK(c->window(0)->page_bytes() == 4 * k);
}
