// tests/uapi/vfio/native_groups_test.cpp - groups, drivers and domains of a native container.
#include "iopt/uapi/vfio/native_groups.hpp"

#include "tests/catch.hpp"
#include "tests/uapi/vfio/container_world.hpp"

using namespace iopt;
using namespace iopt::test;
namespace abi = vfio::abi;

TEST_CASE("without a driver a container knows its version, its extensions, and nothing else",
          "[groups]") {
  container_world<> w;
  auto& c = w.container;
  CHECK(c.ioctl(abi::get_api_version, 0) == 0);
  for (const std::uint64_t yes : {1U, 3U, 6U, 9U}) CHECK(c.check_extension(yes) == 1);
  for (const std::uint64_t no : {0U, 2U, 4U, 5U, 7U, 8U, 10U, 11U, 99U})
    CHECK(c.check_extension(no) == 0);
  CHECK(text(c.ioctl(abi::iommu_get_info, 0)) == "EINVAL");
  CHECK(text(c.ioctl(abi::request(99), 0)) == "EINVAL");
  CHECK(text(c.set_iommu(1)) == "EINVAL");  // no group
}

TEST_CASE("a driver is chosen once, with a group, by a type that it has", "[groups]") {
  container_world<> w;
  auto& c = w.container;
  REQUIRE(c.join(w.add()));
  CHECK(text(c.set_iommu(2)) == "ENODEV");
  CHECK(text(c.set_iommu(8)) == "ENODEV");
  CHECK(text(c.set_iommu(42)) == "ENODEV");
  CHECK(text(c.set_iommu(6)) == "EINVAL");  // the IOMMU has one stage
  CHECK(w.groups.front().domains() == 0);
  REQUIRE(text(c.set_iommu(3)) == "0");
  CHECK(text(c.set_iommu(3)) == "EINVAL");
  CHECK(text(c.ioctl(abi::request(99), 0)) == "ENOTTY");
}

TEST_CASE("where the IOMMU nests, type 6 is type1 v2", "[groups]") {
  container_world<> w;
  mock::group_options o = w.usual();
  o.nests = true;
  w.start(abi::type1_nesting_iommu, o);
  REQUIRE(w.map(0, 4) == "0");
  CHECK(w.unmap(0, 1) == "EINVAL");
}

TEST_CASE("the last group takes the driver and all mappings with it", "[groups]") {
  container_world<> w;
  mock::group& first = w.start(abi::type1v2_iommu);
  mock::group& second = w.add();
  REQUIRE(w.map(0, 4) == "0");
  REQUIRE(w.container.join(second));
  CHECK(text(w.container.join(second)) == "EINVAL");
  REQUIRE(w.container.leave(first));
  CHECK(w.pins(0, 4) == counts(4, 1));
  REQUIRE(w.container.leave(second));
  CHECK(text(w.container.leave(second)) == "EINVAL");
  CHECK(w.pinner.is_idle());
  CHECK(first.domains() + second.domains() == 0);
  CHECK(w.map(0, 4) == "EINVAL");  // blank again
  REQUIRE(w.container.join(first));
  REQUIRE(w.container.set_iommu(abi::type1_iommu));
  CHECK(w.map(0, 4) == "0");
}

TEST_CASE("groups behind one IOMMU share a domain, others get one that is filled", "[groups]") {
  container_world<> w;
  mock::group& first = w.start(abi::type1v2_iommu);
  REQUIRE(w.map(0, 4) == "0");
  mock::group& same = w.add();
  REQUIRE(w.container.join(same));
  CHECK(same.attached() == first.attached());
  mock::group_options o = w.usual();
  o.iommu = &w.second_iommu;
  mock::group& other = w.add(o);
  REQUIRE(w.container.join(other));
  REQUIRE(other.attached() != first.attached());
  CHECK(other.attached()->translate(w.io(2)) == first.attached()->translate(w.io(2)));
  CHECK(w.pins(0, 4) == counts(4, 1));  // pinned once, charged once
  CHECK(w.locked() == 4);
  o.iommu = &w.first_iommu;
  o.domains.enforces_coherency = true;
  mock::group& coherent = w.add(o);
  REQUIRE(w.container.join(coherent));
  CHECK(coherent.attached() != first.attached());
  o.domains.enforces_coherency = false;
  o.shares_domains = false;
  mock::group& lonely = w.add(o);
  REQUIRE(w.container.join(lonely));
  CHECK(lonely.attached() != first.attached());
  // The maker of a domain may leave before those who share it.
  REQUIRE(w.container.leave(first));
  CHECK(same.attached()->translate(w.io(2)).has_value());
  CHECK(w.container.verify() == "");
}

TEST_CASE("page sizes are those that all domains have, and small ones are told as a page",
          "[groups]") {
  container_world<> w;
  CHECK(w.container.page_sizes() == 0xfffffffffffff000);
  mock::group_options o = w.usual();
  o.domains.page_sizes = {2 * kibibyte, 2 * mebibyte};
  mock::group& small = w.start(abi::type1v2_iommu, o);
  CHECK(w.container.page_sizes() == 0x201000);
  REQUIRE(w.map(0, 3) == "0");
  CHECK(text(w.container.map_dma(3, w.at(8), {0x8800}, 0x800)) == "EINVAL");
  o.domains.page_sizes = {4 * kibibyte, gibibyte};
  o.iommu = &w.second_iommu;
  mock::group& large = w.add(o);
  REQUIRE(w.container.join(large));
  CHECK(w.container.page_sizes() == 0x1000);
  REQUIRE(w.container.leave(small));
  CHECK(w.container.page_sizes() == 0x40001000);
}

TEST_CASE("a group that does not suit what is mapped is refused, and leaves no trace", "[groups]") {
  container_world<> w;
  w.start(abi::type1v2_iommu);
  REQUIRE(w.map(0x1000, 4) == "0");
  const auto refused = [&](auto change) {
    mock::group_options o = w.usual();
    o.iommu = &w.second_iommu;
    change(o);
    mock::group& g = w.add(o);
    const std::string answer = text(w.container.join(g));
    if (answer != "0") {
      CHECK(g.domains() == 0);
      CHECK(g.attached() == nullptr);
    }
    CHECK(w.container.verify() == "");
    return answer;
  };
  CHECK(refused([&](auto& o) { o.domains.aperture = {w.io(0x2000), w.io(0x9000) - 1}; }) ==
        "EINVAL");
  CHECK(refused([&](auto& o) { o.domains.aperture = {{0}, w.io(0x1002) - 1}; }) == "EINVAL");
  CHECK(refused([&](auto& o) {
          o.reserved = {{{w.io(0x1003), w.io(0x1003)}, reserved_region::kind::direct}};
        }) == "EINVAL");
  CHECK(refused([](auto& o) { o.domains.page_sizes = {64 * kibibyte}; }) == "EINVAL");
  CHECK(refused([](auto& o) { o.isolates_msi = false; }) == "EPERM");
  CHECK(refused([&](auto& o) {
          o.domains.aperture = {w.io(0), w.io(0x10000) - 1};
          o.reserved = {{{w.io(0), w.io(0xfff)}, reserved_region::kind::reserved}};
        }) == "0");
  // The ranges are those that suit all; a relaxable region is in nobody's way.
  CHECK(w.map(0x10, 1) == "EINVAL");
  CHECK(w.map(0x10000, 1) == "EINVAL");
  CHECK(w.map(0x2000, 1) == "0");
  REQUIRE(w.container.leave(w.groups.back()));
  CHECK(w.map(0x10, 1) == "0");
  CHECK(w.map(0x10000, 1) == "0");
  CHECK(refused([&](auto& o) {
          o.reserved = {{{w.io(0x2000), w.io(0x2000)}, reserved_region::kind::direct_relaxable}};
        }) == "0");
}

TEST_CASE("where nothing is left to map, the first group is refused", "[groups]") {
  container_world<> w;
  mock::group_options o = w.usual();
  o.domains.aperture = w.msi;
  REQUIRE(w.container.join(w.add(o)));
  CHECK(text(w.container.set_iommu(abi::type1v2_iommu)) == "EINVAL");
  CHECK(text(w.container.ioctl(abi::iommu_get_info, 0)) == "EINVAL");  // still no driver
}

TEST_CASE("unsafe interrupts are allowed by an option", "[groups]") {
  container_world<> w({.allow_unsafe_interrupts = true});
  mock::group_options o = w.usual();
  o.isolates_msi = false;
  w.start(abi::type1v2_iommu, o);
  CHECK(w.map(0, 1) == "0");
}

TEST_CASE("coherency is an extension while every domain enforces it", "[groups]") {
  container_world<> w;
  mock::group_options o = w.usual();
  o.domains.enforces_coherency = true;
  w.start(abi::type1v2_iommu, o);
  CHECK(w.container.check_extension(abi::dma_cc_iommu) == 1);
  mock::group& other = w.add();
  REQUIRE(w.container.join(other));
  CHECK(w.container.check_extension(abi::dma_cc_iommu) == 0);
  REQUIRE(w.container.leave(other));
  CHECK(w.container.check_extension(abi::dma_cc_iommu) == 1);
}

TEST_CASE("an emulated group maps without pinning, and without ranges", "[groups]") {
  container_world<> w;
  emulated_group<mock::domain> software;
  REQUIRE(w.container.join(software));
  REQUIRE(w.container.set_iommu(abi::type1v2_iommu));
  CHECK(w.container.check_extension(abi::dma_cc_iommu) == 1);  // of no domain at all
  CHECK(w.container.check_extension(abi::update_vaddr) == 0);
  std::size_t ranges = 0;
  w.container.for_each_usable([&](iova_range) { ++ranges; });
  CHECK(ranges == 0);
  REQUIRE(w.map(0, 4) == "0");
  REQUIRE(text(w.container.map_dma(3, {0x1000}, {0xfee00000}, 4096)) == "0");
  CHECK(w.pinner.is_idle());
  CHECK(w.unmap(0, 4, abi::unmap_vaddr) == "EBUSY");
  // An IOMMU joins: what is mapped where it cannot translate is in its way.
  mock::group& late = w.add();
  CHECK(text(w.container.join(late)) == "EINVAL");
  REQUIRE(w.said(w.container.unmap_dma(0, {0xfee00000}, 4096)) == "0:1");
  REQUIRE(text(w.container.join(late)) == "0");
  CHECK(w.pins(0, 4) == counts(4, 1));
  // It leaves: the mappings stay, unpinned, for the software.
  REQUIRE(w.container.leave(late));
  CHECK(w.pinner.is_idle());
  CHECK(w.unmap(0, 4) == "0:4");
  REQUIRE(w.map(0, 4) == "0");
  REQUIRE(w.container.leave(software));
}

TEST_CASE("the last emulated group takes the mappings, unless an IOMMU shows them", "[groups]") {
  container_world<> w;
  emulated_group<mock::domain> software;
  mock::group& hard = w.start(abi::type1v2_iommu);
  REQUIRE(w.container.join(software));
  REQUIRE(w.map(0, 4) == "0");
  REQUIRE(w.container.leave(software));
  CHECK(w.pins(0, 4) == counts(4, 1));
  CHECK(w.unmap(0, 4) == "0:4");
  REQUIRE(w.container.leave(hard));
}

TEST_CASE("devices without an IOMMU need a right, an option, and a container of their own",
          "[groups]") {
  group_without_iommu group;
  container_world<> w({.allow_noiommu = true});
  auto& c = w.container;
  CHECK(c.check_extension(abi::noiommu_iommu) == 1);
  w.may[static_cast<std::size_t>(capability::raw_io)] = false;
  CHECK(text(c.join(group)) == "EPERM");
  w.may[static_cast<std::size_t>(capability::raw_io)] = true;
  mock::group& real = w.add();
  REQUIRE(c.join(real));
  CHECK(c.check_extension(abi::noiommu_iommu) == 0);
  CHECK(text(c.join(group)) == "EPERM");
  CHECK(text(c.set_iommu(abi::noiommu_iommu)) == "ENODEV");
  REQUIRE(c.leave(real));
  REQUIRE(c.join(group));
  CHECK(text(c.join(real)) == "EPERM");
  CHECK(c.check_extension(abi::type1_iommu) == 0);
  CHECK(c.check_extension(abi::noiommu_iommu) == 1);
  CHECK(text(c.set_iommu(abi::type1_iommu)) == "ENODEV");
  w.may[static_cast<std::size_t>(capability::raw_io)] = false;
  CHECK(text(c.set_iommu(abi::noiommu_iommu)) == "EPERM");
  w.may[static_cast<std::size_t>(capability::raw_io)] = true;
  REQUIRE(text(c.set_iommu(abi::noiommu_iommu)) == "0");
  CHECK(c.check_extension(abi::noiommu_iommu) == 1);
  CHECK(w.map(0, 1) == "ENOTTY");
  CHECK(text(c.ioctl(abi::iommu_get_info, 0)) == "ENOTTY");
  REQUIRE(c.leave(group));
}

TEST_CASE("attaching fails at every point without a trace", "[groups][sweep]") {
  for (std::uint64_t n = 0;; ++n) {
    container_world<> w;
    w.start(abi::type1v2_iommu);
    REQUIRE(w.map(0, 4) == "0");
    REQUIRE(w.map(16, 4) == "0");
    mock::fault_injector faults;
    mock::group_options o = w.usual();
    o.iommu = &w.second_iommu;
    o.domains.faults = &faults;
    mock::group& g = w.add(o);
    faults.arm(n);
    const std::string answer = text(w.container.join(g));
    faults.disarm();
    CHECK(w.container.verify() == "");
    CHECK(w.pins(0, 4) == counts(4, 1));
    CHECK(w.locked() == 8);
    if (answer == "0") {
      CHECK(n > 0);
      break;
    }
    CHECK(g.domains() == 0);
    CHECK(g.attached() == nullptr);
    REQUIRE(text(w.container.join(g)) == "0");
  }
}
