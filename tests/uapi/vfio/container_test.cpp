// tests/uapi/vfio/container_test.cpp - one name for every container, and holes where the kernel
// refuses.
#include "iopt/uapi/vfio/container.hpp"

#include <random>
#include <type_traits>
#include <vector>

#include "iopt/policy/archetypes.hpp"
#include "tests/catch.hpp"
#include "tests/uapi/vfio/container_world.hpp"

using namespace iopt;
using namespace iopt::test;
namespace abi = vfio::abi;

TEST_CASE("the profile chooses who answers", "[container]") {
  using pinner = archetype::pinner;
  using domain = archetype::domain;
  STATIC_REQUIRE(std::is_same_v<vfio::container<pinner, domain>,
                                vfio::native_container<pinner, domain, vfio::type1_profile>>);
  STATIC_REQUIRE(std::is_same_v<vfio::container<pinner, domain, vfio::iommufd_profile>,
                                vfio::iommufd_container<pinner, domain, vfio::iommufd_profile>>);
}

TEST_CASE("a container asks no more of its policies than their concepts grant", "[container]") {
  archetype::pinner pinner;
  vfio::container<archetype::pinner, archetype::domain> native(pinner);
  CHECK(text(native.map_dma(3, {0}, {0}, 4096)) == "EINVAL");
  CHECK(text(native.ioctl(abi::iommu_get_info, 0)) == "EINVAL");
  vfio::container<archetype::pinner, archetype::domain, vfio::iommufd_profile> compat(pinner);
  CHECK(text(compat.map_dma(3, {0}, {0}, 4096)) == "ENODEV");
}

namespace {

/// Punches random pages in a gibibyte and checks each, by the ioctl's typed call.
void punch(std::uint64_t contiguity, std::uint64_t large) {
  constexpr std::uint64_t pages = gibibyte / 4096;
  container_world<vfio::hole_punching_profile> w({}, {.contiguity_bytes = contiguity});
  mock::group& g = w.start(abi::type1_iommu);
  const iova base{gibibyte};
  const user_address memory{gibibyte};
  REQUIRE(text(w.container.map_dma(3, memory, base, gibibyte)) == "0");
  const mock::domain& d = *g.attached();
  const std::uint64_t whole = gibibyte / large;
  REQUIRE(d.entries(large) == whole);
  std::mt19937_64 random(large);
  std::vector<bool> hole(pages);
  std::vector<bool> split(whole);
  std::uint64_t punched = 0;
  const mock::process me = w.pinner.current();
  for (int step = 0; step < 200; ++step) {
    const std::uint64_t n = random() % pages;
    CAPTURE(step, n);
    const auto gone = w.container.unmap_dma(0, base + n * 4096, 4096);
    REQUIRE(gone);
    CHECK(*gone == (hole[n] ? 0 : 4096));
    punched += hole[n] ? 0 : 1;
    hole[n] = true;
    split[n * 4096 / large] = true;
    CHECK_FALSE(d.translate(base + n * 4096).has_value());
    CHECK(w.pinner.pins(me, memory + n * 4096) == 0);  // given back at once
    for (const std::uint64_t near : {n - 1, n + 1, random() % pages}) {
      if (near >= pages || hole[near]) continue;
      CHECK(d.translate(base + near * 4096) == w.pinner.frame_of(me, memory + near * 4096));
      CHECK(w.pinner.pins(me, memory + near * 4096) == 1);
    }
    CHECK(w.locked() == pages - punched);
    // Entries outside the holes are as large as they were.
    std::uint64_t kept = 0;
    for (std::size_t m = 0; m < split.size(); ++m) kept += split[m] ? 0 : 1;
    CHECK(d.entries(large) >= kept);
  }
  CHECK(w.container.verify() == "");
  CHECK(d.verify() == "");
  const auto rest = w.container.unmap_dma(abi::unmap_all_flag, {0}, 0);
  REQUIRE(rest);
  CHECK(*rest == (pages - punched) * 4096);
  CHECK(w.pinner.is_idle());
}

}  // namespace

TEST_CASE("random pages are punched out of a gibibyte of 2 MiB entries", "[container]") {
  punch(2 * mebibyte, 2 * mebibyte);
}

TEST_CASE("random pages are punched out of one entry of a gibibyte", "[container]") {
  punch(gibibyte, gibibyte);
}

TEST_CASE("a hole that fails at any point leaves mapping, pins and translation as they were",
          "[container][sweep]") {
  for (std::uint64_t n = 0;; ++n) {
    CAPTURE(n);
    mock::fault_injector faults;
    container_world<vfio::hole_punching_profile> w({}, {.contiguity_bytes = 2 * mebibyte});
    mock::group_options o = w.usual();
    o.domains.faults = &faults;
    mock::group& g = w.start(abi::type1v2_iommu, o);
    REQUIRE(text(w.container.map_dma(3, {gibibyte}, {gibibyte}, 4 * mebibyte)) == "0");
    REQUIRE(text(w.container.track_dirty_pages(true)) == "0");
    faults.arm(n);
    const auto gone = w.container.unmap_dma(0, {gibibyte + 0x5000}, 0x3000);
    faults.disarm();
    const mock::domain& d = *g.attached();
    CHECK(w.container.verify() == "");
    if (!gone) {
      CHECK(w.container.table()->area_count() == 1);
      CHECK(w.locked() == 1024);
      for (std::uint64_t page = 0; page < 16; ++page)
        CHECK(d.translate({gibibyte + page * 4096}) ==
              w.pinner.frame_of(w.pinner.current(), user_address{gibibyte + page * 4096}));
      continue;
    }
    CHECK(w.locked() == 1021);
    CHECK(w.container.table()->area_count() == 2);
    CHECK(n > 0);
    break;
  }
}
