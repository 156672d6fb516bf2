// tests/uapi/vfio/native_container_test.cpp - mapping and unmapping, rule by rule. What the golden
// vectors show is in native_vectors_test.cpp.
#include "iopt/uapi/vfio/native_container.hpp"

#include "tests/catch.hpp"
#include "tests/uapi/vfio/container_world.hpp"

using namespace iopt;
using namespace iopt::test;
namespace abi = vfio::abi;

namespace {

struct profile_6_18 : vfio::type1_profile {
  static constexpr kernel_level level = kernel_level::linux_6_18;
};

}  // namespace

TEST_CASE("an unmap of type1 does what its version does", "[native]") {
  struct row {
    const char* what;
    std::uint64_t first, pages;
    const char *v1, *v2, *hole;
  };
  // M = pages 16 to 23, N = page 32.
  const row rows[] = {{"exactly M", 16, 8, "0:8", "0:8", "0:8"},
                      {"head of M", 16, 1, "0:8", "EINVAL", "0:1"},
                      {"inside M", 17, 1, "0:0", "EINVAL", "0:1"},
                      {"tail of M", 23, 1, "0:0", "EINVAL", "0:1"},
                      {"before M and its head", 15, 2, "0:8", "EINVAL", "0:1"},
                      {"tail of M, and N", 20, 16, "0:0", "EINVAL", "0:5"},
                      {"M, N and around", 8, 32, "0:9", "0:9", "0:9"},
                      {"M, and nothing behind", 16, 10, "0:8", "0:8", "0:8"},
                      {"the gap", 24, 1, "0:0", "0:0", "0:0"}};
  for (const row& r : rows) {
    CAPTURE(r.what);
    const auto check = [&](auto&& w, std::uint64_t type, const char* expected) {
      w.start(type);
      REQUIRE(w.map(16, 8) == "0");
      REQUIRE(w.map(32, 1) == "0");
      CHECK(w.unmap(r.first, r.pages) == expected);
      CHECK(w.container.verify() == "");
    };
    check(container_world<>{}, abi::type1_iommu, r.v1);
    check(container_world<>{}, abi::type1v2_iommu, r.v2);
    check(container_world<vfio::hole_punching_profile>{}, abi::type1_iommu, r.hole);
    check(container_world<vfio::hole_punching_profile>{}, abi::type1v2_iommu, r.hole);
  }
}

TEST_CASE("a map is refused in the kernel's order", "[native]") {
  container_world<> w({.dma_entry_limit = 1});
  auto& c = w.container;
  CHECK(w.map(16, 1) == "EINVAL");  // no driver
  w.start(abi::type1v2_iommu);
  REQUIRE(w.map(16, 4) == "0");
  CHECK(text(c.map_dma(8, w.at(0), w.io(16), 4096)) == "EINVAL");
  CHECK(text(c.map_dma(0, w.at(0), w.io(16), 4096)) == "EINVAL");
  CHECK(text(c.map_dma(abi::map_read | abi::map_vaddr, w.at(0), w.io(16), 4096)) == "EINVAL");
  CHECK(text(c.map_dma(3, w.at(0), w.io(16), 0)) == "EINVAL");
  CHECK(text(c.map_dma(3, {1}, w.io(16), 4096)) == "EINVAL");
  CHECK(text(c.map_dma(3, w.at(0), {top - 4095}, 8192)) == "EINVAL");
  CHECK(text(c.map_dma(3, {top - 4095}, w.io(0), 8192)) == "EINVAL");
  // Something is there, before too many, before outside the ranges.
  CHECK(text(c.map_dma(3, w.at(0), w.io(18), 4096)) == "EEXIST");
  CHECK(text(c.map_dma(3, w.at(0), {0xfee00000}, 4096)) == "ENOSPC");
  REQUIRE(w.unmap(16, 4) == "0:4");
  CHECK(text(c.map_dma(3, w.at(0), {0xfee00000}, 4096)) == "EINVAL");
  CHECK(text(c.map_dma(3, w.at(0), {0x8000000000}, 4096)) == "EINVAL");
  w.pinner.set_hole(w.pinner.current(), user_range::sized(w.at(2), 4096));
  CHECK(w.map(0, 4) == "EFAULT");
  CHECK(w.pinner.is_idle());
}

TEST_CASE("from Linux 6.18 on a wrap is EOVERFLOW, and comes first", "[native]") {
  container_world<profile_6_18> w;
  w.start(abi::type1v2_iommu);
  auto& c = w.container;
  CHECK(text(c.map_dma(3, w.at(0), {top - 4095}, 8192)) == "EOVERFLOW");
  CHECK(text(c.map_dma(0, w.at(0), {top - 4095}, 8193)) == "EOVERFLOW");
  CHECK(text(c.map_dma(0, w.at(0), {top - 4095}, 0)) == "EINVAL");
  CHECK(text(c.unmap_dma(0, {top - 4095}, 8192)) == "EOVERFLOW");
  CHECK(c.check_extension(abi::type1_nesting_iommu) == 0);
}

TEST_CASE("before Linux 6.18 an unmap that ends at 2^64 finds nothing; then it finds", "[native]") {
  const auto unmapped = [](auto&& w) {
    w.start(abi::type1v2_iommu, {.iommu = &w.first_iommu});
    REQUIRE(w.map(16, 4) == "0");
    return w.said(w.container.unmap_dma(0, w.io(1), 0 - w.page));
  };
  CHECK(unmapped(container_world<>{}) == "0:0");
  CHECK(unmapped(container_world<profile_6_18>{}) == "0:4");
}

TEST_CASE("a mapping up to 2^64 is found, unmapped and counted", "[native]") {
  container_world<profile_6_18> w;
  w.start(abi::type1v2_iommu, {.iommu = &w.first_iommu});
  auto& c = w.container;
  REQUIRE(text(c.map_dma(3, w.at(0), {top - 4095}, 4096)) == "0");
  CHECK(text(c.map_dma(3, w.at(1), {top - 4095}, 4096)) == "EEXIST");
  CHECK(w.pins(0, 1) == counts{1});
  CHECK(w.said(c.unmap_dma(0, {top - 4095}, 4096)) == "0:1");
  CHECK(w.pinner.is_idle());
}

TEST_CASE("unmap-all takes everything, in either version, and names no range", "[native]") {
  for (const std::uint64_t type : {abi::type1_iommu, abi::type1v2_iommu}) {
    container_world<> w;
    w.start(type);
    REQUIRE(w.map(16, 4) == "0");
    REQUIRE(w.map(64, 4) == "0");
    CHECK(w.said(w.container.unmap_dma(abi::unmap_all_flag, {4096}, 0)) == "EINVAL");
    CHECK(w.said(w.container.unmap_dma(abi::unmap_all_flag, {0}, 4096)) == "EINVAL");
    CHECK(w.said(w.container.unmap_dma(abi::unmap_all_flag, {0}, 0)) == "0:8");
    CHECK(w.said(w.container.unmap_dma(abi::unmap_all_flag, {0}, 0)) == "0:0");
    CHECK(w.pinner.is_idle());
  }
}

TEST_CASE("mappings are counted against dma_entry_limit, and given back", "[native]") {
  container_world<> w({.dma_entry_limit = 2});
  w.start(abi::type1v2_iommu);
  CHECK(w.container.dma_avail() == 2);
  REQUIRE(w.map(0, 1) == "0");
  REQUIRE(w.map(2, 1) == "0");
  CHECK(w.container.dma_avail() == 0);
  CHECK(w.map(4, 1) == "ENOSPC");
  REQUIRE(w.unmap(0, 1) == "0:1");
  w.pinner.set_hole(w.pinner.current(), user_range::sized(w.at(4), 4096));
  CHECK(w.map(4, 1) == "EFAULT");
  CHECK(w.container.dma_avail() == 1);
  CHECK(w.map(6, 1) == "0");
}

TEST_CASE("a hole that would make one mapping too many is refused before anything goes",
          "[native]") {
  container_world<vfio::hole_punching_profile> w({.dma_entry_limit = 1});
  w.start(abi::type1_iommu);
  REQUIRE(w.map(0, 8) == "0");
  CHECK(w.unmap(3, 2) == "ENOSPC");
  CHECK(w.pins(0, 8) == counts(8, 1));
  CHECK(w.unmap(0, 2) == "0:2");
  CHECK(w.unmap(6, 2) == "0:2");
  CHECK(w.pins(0, 8) == counts{0, 0, 1, 1, 1, 1, 0, 0});
}

TEST_CASE("memory over the limit is told before a fault behind it, page by page", "[native]") {
  container_world<> w;
  w.may[static_cast<std::size_t>(capability::lock_memory)] = false;
  const mock::process me = w.pinner.current();
  w.pinner.set_limit(me, account_mode::mm, 6);
  w.start(abi::type1v2_iommu);
  REQUIRE(w.map(0, 2) == "0");
  CHECK(w.locked() == 2);
  w.pinner.set_hole(me, user_range::sized(w.at(20), 4096));
  CHECK(w.map(16, 6) == "EFAULT");  // page 20 is the fifth: the limit is not met before it
  CHECK(w.map(15, 6) == "ENOMEM");  // here it is the sixth, and the fifth is over the limit
  CHECK(w.locked() == 2);
  CHECK(w.map(8, 4) == "0");
  CHECK(w.map(12, 1) == "ENOMEM");
  CHECK(w.pinner.pinned_vm(me) == 0);  // iommufd's count is not touched
  REQUIRE(w.unmap(0, 32) == "0:6");
  CHECK(w.pinner.is_idle());
}

TEST_CASE("who may lock memory is counted, and not refused", "[native]") {
  container_world<> w;
  w.pinner.set_limit(w.pinner.current(), account_mode::mm, 1);
  w.start(abi::type1v2_iommu);
  CHECK(w.map(0, 8) == "0");
  CHECK(w.locked() == 8);
}

TEST_CASE("the same memory mapped twice counts twice", "[native]") {
  container_world<> w;
  w.start(abi::type1v2_iommu);
  REQUIRE(text(w.container.map_dma(3, w.at(0), w.io(0), 4 * w.page)) == "0");
  REQUIRE(text(w.container.map_dma(3, w.at(0), w.io(8), 4 * w.page)) == "0");
  CHECK(w.locked() == 8);
  CHECK(w.pins(0, 4) == counts(4, 2));
}

TEST_CASE("an address is taken away and given back, and devices go on", "[native]") {
  container_world<> w;
  mock::group& g = w.start(abi::type1v2_iommu);
  auto& c = w.container;
  REQUIRE(w.map(0, 4) == "0");
  REQUIRE(w.map(8, 4) == "0");
  CHECK(c.check_extension(abi::update_vaddr) == 1);
  CHECK(w.map(0, 4, abi::map_vaddr) == "EINVAL");  // its address is valid
  CHECK(w.unmap(0, 2, abi::unmap_vaddr) == "EINVAL");
  CHECK(w.unmap(0, 12, abi::unmap_vaddr) == "0:8");
  CHECK(g.attached()->translate(w.io(1)).has_value());
  CHECK(w.unmap(8, 4, abi::unmap_vaddr) == "EINVAL");  // it is invalid already
  mock::group& late = w.add();
  CHECK(text(c.join(late)) == "EBUSY");
  CHECK(w.map(20, 4, abi::map_vaddr) == "ENOENT");
  CHECK(w.map(0, 2, abi::map_vaddr) == "EINVAL");
  CHECK(text(c.map_dma(abi::map_vaddr, w.at(100), w.io(0), 4 * w.page)) == "0");
  CHECK(w.unmap(8, 4) == "0:4");  // an invalid one may go
  CHECK(text(c.join(late)) == "0");
  CHECK(w.pins(0, 4) == counts(4, 1));  // the pages stay those that were pinned
  CHECK(c.verify() == "");
}

TEST_CASE("another process takes memory over, and its charge", "[native]") {
  container_world<> w;
  w.start(abi::type1v2_iommu);
  const mock::process old = w.pinner.current();
  REQUIRE(w.map(0, 4) == "0");
  REQUIRE(w.unmap(0, 4, abi::unmap_vaddr) == "0:4");
  const mock::process next = w.pinner.create_process();
  w.pinner.set_current(next);
  w.may[static_cast<std::size_t>(capability::lock_memory)] = false;
  w.pinner.set_limit(next, account_mode::mm, 3);
  CHECK(w.map(0, 4, abi::map_vaddr) == "ENOMEM");
  CHECK(w.pinner.charged(old, account_mode::mm) == 4);
  CHECK(w.pinner.charged(next, account_mode::mm) == 0);
  w.pinner.set_limit(next, account_mode::mm, 4);
  CHECK(w.map(0, 4, abi::map_vaddr) == "0");
  CHECK(w.pinner.charged(old, account_mode::mm) == 0);
  CHECK(w.pinner.charged(next, account_mode::mm) == 4);
}

TEST_CASE("a peer's memory is mapped by its address, revoked, restored and outlived", "[native]") {
  container_world<> w;
  mock::group& g = w.start(abi::type1v2_iommu);
  auto& c = w.container;
  const mock::exporter bar = w.pinner.create_exporter(16 * w.page);
  w.pinner.map_device(w.pinner.current(), user_range::sized(w.at(64), 16 * w.page), bar, 0);
  REQUIRE(w.map(64, 8) == "0");
  REQUIRE(w.map(0, 2) == "0");
  CHECK(g.attached()->translate(w.io(65)) == w.pinner.frame_of(bar, 1 * w.page));
  CHECK(w.locked() == 2);  // it is neither pinned nor charged
  c.revoke(bar);
  w.pinner.set_revoked(bar, true);
  CHECK_FALSE(g.attached()->translate(w.io(65)).has_value());
  CHECK(g.attached()->translate(w.io(1)).has_value());
  CHECK(w.map(72, 4) == "ENODEV");  // nothing of it is mapped anew while it is away
  w.pinner.relocate(bar);
  w.pinner.set_revoked(bar, false);
  REQUIRE(text(c.restore(bar)) == "0");
  CHECK(g.attached()->translate(w.io(65)) == w.pinner.frame_of(bar, 1 * w.page));
  CHECK(w.map(72, 4) == "0");
  // The exporter goes for good: no frame of it outlives it, and the mapping can still be unmapped.
  c.revoke(bar);
  w.pinner.set_revoked(bar, true);
  CHECK(w.unmap(64, 12) == "0:12");
  CHECK(c.verify() == "");
}

TEST_CASE("memory that is part a peer's and part not has no page to be pinned", "[native]") {
  container_world<> w;
  w.start(abi::type1v2_iommu);
  const mock::exporter bar = w.pinner.create_exporter(16 * w.page);
  w.pinner.map_device(w.pinner.current(), user_range::sized(w.at(64), 16 * w.page), bar, 0);
  CHECK(w.map(60, 8) == "EFAULT");
  CHECK(w.pinner.is_idle());
}

TEST_CASE("ioctls fault where the argument does, and copy back only on success", "[native]") {
  struct narrow : world_profile<> {
    using copy = narrow_copy;
  };
  std::array<std::byte, 4096> bytes{};
  const std::array<bool, 3> may{true, true, true};
  mock::pinner pinner;
  mock::group group(container_world<>::usual());
  vfio::container<mock::pinner, mock::domain, narrow> c(pinner, {}, narrow_copy{&bytes},
                                                        settable_caller{&may});
  CHECK(text(c.ioctl(abi::iommu_map_dma, 0)) == "EINVAL");  // no driver: no argument is read
  REQUIRE(c.join(group));
  REQUIRE(c.ioctl(abi::set_iommu, abi::type1v2_iommu) == 0);
  CHECK(c.ioctl(abi::get_api_version, 0) == 0);
  for (const std::uint32_t request :
       {abi::iommu_get_info, abi::iommu_map_dma, abi::iommu_unmap_dma, abi::iommu_dirty_pages})
    CHECK(text(c.ioctl(request, 0)) == "EFAULT");
  CHECK(text(c.ioctl(abi::request(40), 0)) == "ENOTTY");
  const auto put = [&](const auto& what) { std::memcpy(bytes.data(), &what, sizeof what); };
  put(abi::dma_map{32, 3, 0x100000000, 0x1000, 0x4000});
  REQUIRE(c.ioctl(abi::iommu_map_dma, narrow_copy::base) == 0);
  put(abi::dma_unmap{24, 0, 0x2000, 0x1000});
  CHECK(text(c.ioctl(abi::iommu_unmap_dma, narrow_copy::base)) == "EINVAL");
  abi::dma_unmap u{};
  std::memcpy(&u, bytes.data(), sizeof u);
  CHECK(u.size == 0x1000);
  put(abi::dma_unmap{24, 0, 0, 0x8000});
  REQUIRE(c.ioctl(abi::iommu_unmap_dma, narrow_copy::base) == 0);
  std::memcpy(&u, bytes.data(), sizeof u);
  CHECK(u.size == 0x4000);
  REQUIRE(c.leave(group));
}
