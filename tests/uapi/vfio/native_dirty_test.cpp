// tests/uapi/vfio/native_dirty_test.cpp - what a container tells of written pages, rule by rule.
#include "iopt/uapi/vfio/native_dirty.hpp"

#include <array>
#include <bit>
#include <random>
#include <vector>

#include "tests/catch.hpp"
#include "tests/uapi/vfio/container_world.hpp"

using namespace iopt;
using namespace iopt::test;
namespace abi = vfio::abi;

namespace {

template <class World>
struct bits_of {
  World& w;
  std::vector<std::uint64_t> words = std::vector<std::uint64_t>(64);

  abi::bitmap told(std::uint64_t pages) {
    return {4096, vfio::bitmap_bytes(pages), reinterpret_cast<std::uintptr_t>(words.data())};
  }
  /// The pages from `first` on that are told, as numbers from `first`, or an errno.
  std::string read(std::uint64_t first, std::uint64_t pages) {
    words.assign(words.size(), 0);
    const result<void> done = w.container.read_dirty_pages(w.io(first), pages * 4096, told(pages));
    return done ? list() : text(done);
  }
  std::string unmap(std::uint64_t first, std::uint64_t pages) {
    words.assign(words.size(), 0);
    const auto done = w.container.unmap_dma_with_bitmap(w.io(first), pages * 4096, told(pages));
    return done ? std::to_string(*done / 4096) + ":" + list() : text(done);
  }
  std::string list() const {
    std::string all;
    for (std::size_t n = 0; n < words.size() * 64; ++n)
      if ((words[n / 64] >> (n % 64) & 1) != 0) all += (all.empty() ? "" : " ") + std::to_string(n);
    return all;
  }
};

struct no_driver final : vfio::memory_user {
  void dma_unmap(iova_range) noexcept override {}
};

}  // namespace

TEST_CASE("where a group reaches everything, everything is dirty", "[dirty]") {
  container_world<> w;
  w.start(abi::type1v2_iommu);
  bits_of<container_world<>> bits{w};
  REQUIRE(w.map(0, 3) == "0");
  CHECK(bits.read(0, 128) == "EINVAL");  // not tracked yet
  REQUIRE(text(w.container.track_dirty_pages(true)) == "0");
  REQUIRE(text(w.container.track_dirty_pages(true)) == "0");
  REQUIRE(w.map(64, 1) == "0");
  CHECK(bits.read(0, 128) == "0 1 2 64");
  CHECK(bits.read(0, 128) == "0 1 2 64");  // and stays so
  CHECK(bits.read(1, 64) == "EINVAL");     // a mapping is cut
  CHECK(bits.unmap(0, 2) == "EINVAL");
  CHECK(bits.unmap(0, 3) == "3:0 1 2");
  CHECK(bits.read(0, 128) == "64");
  REQUIRE(text(w.container.track_dirty_pages(false)) == "0");
  CHECK(bits.unmap(0, 8) == "EINVAL");
  CHECK(w.container.verify() == "");
}

TEST_CASE("bits shifted past the end of a mapping come out with its next read, as the kernel's do",
          "[dirty]") {
  container_world<> w;
  w.start(abi::type1v2_iommu);
  bits_of<container_world<>> bits{w};
  REQUIRE(w.map(2, 3) == "0");
  REQUIRE(w.container.track_dirty_pages(true));
  CHECK(bits.read(0, 8) == "2 3 4");
  CHECK(bits.read(0, 8) == "2 3 4 5 6");  // 3 and 4 were not cleared, and are shifted again
  REQUIRE(w.container.track_dirty_pages(false));
  REQUIRE(w.container.track_dirty_pages(true));
  CHECK(bits.read(0, 8) == "2 3 4");
}

TEST_CASE("where only software reaches it, what was pinned or written through is dirty",
          "[dirty]") {
  container_world<> w;
  emulated_group<mock::domain> software;
  no_driver driver;
  REQUIRE(w.container.join(software));
  REQUIRE(w.container.set_iommu(abi::type1v2_iommu));
  REQUIRE(w.container.register_user(driver));
  bits_of<container_world<>> bits{w};
  REQUIRE(w.map(0, 16) == "0");
  std::array<physical, 4> frames{};
  REQUIRE(w.container.pin_pages(&software, w.io(3), 2, access_rights::read, frames));
  REQUIRE(w.container.track_dirty_pages(true));
  CHECK(bits.read(0, 16) == "3 4");  // pinned when tracking began
  REQUIRE(w.container.pin_pages(&software, w.io(7), 1, access_rights::read, frames));
  w.container.unpin_pages(w.io(3), 1);
  CHECK(bits.read(0, 16) == "3 4 7");  // unpinned since, and told a last time
  CHECK(bits.read(0, 16) == "4 7");
  const std::array<std::byte, 4> byte{};
  REQUIRE(w.container.dma_write(w.io(10) - 2, byte));
  std::array<std::byte, 4> in{};
  REQUIRE(w.container.dma_read(w.io(12), in));
  CHECK(bits.read(0, 16) == "4 7 9 10");
  CHECK(bits.read(0, 16) == "4 7");
  w.container.unpin_pages(w.io(0), 16);
  CHECK(bits.read(0, 16) == "4 7");
  CHECK(bits.read(0, 16) == "");
  // An IOMMU joins, and may write anywhere; it leaves, and may have.
  mock::group& hard = w.add();
  REQUIRE(w.container.join(hard));
  CHECK(bits.unmap(0, 16) == "16:0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15");
  REQUIRE(w.map(0, 4) == "0");
  REQUIRE(w.container.leave(hard));
  CHECK(bits.read(0, 4) == "0 1 2 3");
  CHECK(bits.read(0, 4) == "");
  w.container.unregister_user(driver);
  REQUIRE(w.container.leave(software));
}

TEST_CASE("a group that pins has declared what it reaches", "[dirty]") {
  container_world<> w;
  mock::group& g = w.start(abi::type1v2_iommu);
  no_driver driver;
  REQUIRE(w.container.register_user(driver));
  bits_of<container_world<>> bits{w};
  REQUIRE(w.map(0, 4) == "0");
  REQUIRE(w.container.track_dirty_pages(true));
  CHECK(bits.read(0, 4) == "0 1 2 3");
  std::array<physical, 1> frame{};
  REQUIRE(w.container.pin_pages(&g, w.io(1), 1, access_rights::read, frame));
  CHECK(bits.read(0, 4) == "1");
  CHECK(w.container.verify() == "");
  w.container.unpin_pages(w.io(1), 1);
  w.container.unregister_user(driver);
}

TEST_CASE("with an option, the domains' own bits are asked", "[dirty]") {
  container_world<> w({.reads_dirty_bits = true}, {.contiguity_bytes = 4096});
  mock::group& g = w.start(abi::type1v2_iommu);
  bits_of<container_world<>> bits{w};
  REQUIRE(w.map(0, 8) == "0");
  REQUIRE(w.container.track_dirty_pages(true));
  CHECK(bits.read(0, 8) == "");
  REQUIRE(g.attached()->device_writes(iova_range::sized(w.io(2), 1)));
  REQUIRE(g.attached()->device_writes(iova_range::sized(w.io(5), 4096)));
  CHECK(bits.read(0, 8) == "2 5");
  CHECK(bits.read(0, 8) == "");
  REQUIRE(g.attached()->device_writes(iova_range::sized(w.io(6), 1)));
  CHECK(bits.unmap(0, 8) == "8:6");
  REQUIRE(w.map(0, 2) == "0");
  // A domain without such bits joins: then everything is dirty again.
  mock::group_options o = w.usual();
  o.iommu = &w.second_iommu;
  o.domains.tracks_dirty = false;
  mock::group& blind = w.add(o);
  REQUIRE(w.container.join(blind));
  CHECK(bits.read(0, 2) == "0 1");
}

TEST_CASE("a group that joins takes nothing of what others have written", "[dirty]") {
  for (const bool fails : {false, true}) {
    mock::fault_injector faults;
    container_world<> w({.reads_dirty_bits = true}, {.contiguity_bytes = 4096});
    mock::group_options o = w.usual();
    o.domains.faults = &faults;
    mock::group& first = w.start(abi::type1v2_iommu, o);
    bits_of<container_world<>> bits{w};
    REQUIRE(w.map(0, 4) == "0");
    REQUIRE(w.container.track_dirty_pages(true));
    REQUIRE(bits.read(0, 64).empty());
    REQUIRE(first.attached()->device_writes({w.io(1), w.io(2) - 1}));
    o.iommu = &w.second_iommu;
    if (fails) faults.arm(mock::fault_point::set_dirty_tracking, 0);
    REQUIRE(w.container.join(w.add(o)));
    CHECK(faults.fired() == fails);
    CHECK(bits.read(0, 64) == (fails ? "0 1 2 3" : "1"));  // nobody is asked where one cannot
  }
}

TEST_CASE("what a domain cannot tell is dirty", "[dirty]") {
  mock::fault_injector faults;
  container_world<> w({.reads_dirty_bits = true}, {.contiguity_bytes = 4096});
  mock::group_options o = w.usual();
  o.domains.faults = &faults;
  mock::group& g = w.start(abi::type1v2_iommu, o);
  bits_of<container_world<>> bits{w};
  REQUIRE(w.map(0, 4) == "0");
  REQUIRE(w.map(8, 2) == "0");
  REQUIRE(w.container.track_dirty_pages(true));
  REQUIRE(g.attached()->device_writes({w.io(1), w.io(2) - 1}));
  faults.arm(mock::fault_point::read_dirty, 0);
  CHECK(bits.read(0, 8) == "0 1 2 3");
  faults.arm(mock::fault_point::read_dirty, 0);
  CHECK(bits.unmap(8, 2) == "2:0 1");
  CHECK(faults.fired());
}

TEST_CASE("a hole takes its pages' bits, and leaves the others'", "[dirty]") {
  container_world<vfio::hole_punching_profile> w({.reads_dirty_bits = true},
                                                 {.contiguity_bytes = 4096});
  mock::group& g = w.start(abi::type1v2_iommu);
  bits_of<container_world<vfio::hole_punching_profile>> bits{w};
  REQUIRE(w.map(0, 16) == "0");
  REQUIRE(w.container.track_dirty_pages(true));
  for (const std::uint64_t n : {1U, 6U, 7U, 12U})
    REQUIRE(g.attached()->device_writes(iova_range::sized(w.io(n), 1)));
  CHECK(bits.unmap(5, 4) == "4:1 2");
  CHECK(w.container.verify() == "");
  CHECK(w.container.table()->area_count() == 2);
  CHECK(bits.read(0, 16) == "1 12");
  REQUIRE(w.map(6, 2) == "0");
  CHECK(w.unmap(7, 1) == "0:1");
  CHECK(w.container.verify() == "");
}

TEST_CASE("a range or a bitmap that is none is refused, in both calls", "[dirty]") {
  container_world<> w;
  w.start(abi::type1v2_iommu);
  bits_of<container_world<>> bits{w};
  REQUIRE(w.map(0, 128) == "0");
  REQUIRE(w.container.track_dirty_pages(true));
  auto& c = w.container;
  const abi::bitmap good = bits.told(128);
  const auto both = [&](iova first, std::uint64_t size, abi::bitmap b) {
    const std::string read = text(c.read_dirty_pages(first, size, b));
    CHECK(text(c.unmap_dma_with_bitmap(first, size, b)) == read);
    return read;
  };
  constexpr std::uint64_t size = 128 * 4096;
  CHECK(both({0}, size, {4096, 15, good.data}) == "EINVAL");
  CHECK(both({0}, size, {4096, 0, good.data}) == "EINVAL");
  CHECK(both({0}, size, {4096, vfio::max_bitmap_bytes + 8, good.data}) == "EINVAL");
  CHECK(both({0}, size, {0, 16, good.data}) == "EINVAL");
  CHECK(both({0}, size, {8192, 16, good.data}) == "EINVAL");
  CHECK(both({0}, size, {4096, 16, top - 7}) == "EINVAL");
  CHECK(both({1}, size, good) == "EINVAL");
  CHECK(both({0}, 0, good) == "EINVAL");
  CHECK(both({0}, size - 1, good) == "EINVAL");
  CHECK(both({top - 4095}, 8192, good) == "EINVAL");
  CHECK(text(c.read_dirty_pages({top - 4095}, 4096, good)) == "EINVAL");  // ends at 2^64
  CHECK(both({0}, size, {4096, 16, 0}) == "EFAULT");
  CHECK(w.pins(0, 128) == counts(128, 1));  // the bits come first: nothing went
}

TEST_CASE("type1 v1 does not track", "[dirty]") {
  container_world<> w;
  w.start(abi::type1_iommu);
  CHECK(text(w.container.track_dirty_pages(true)) == "EACCES");
  CHECK(text(w.container.read_dirty_pages({0}, 4096, {})) == "EACCES");
  CHECK(text(w.container.ioctl(abi::iommu_dirty_pages, 0)) == "EACCES");  // before it is read
}

TEST_CASE("a mapping of too many pages cannot be tracked, and is not left behind", "[dirty]") {
  container_world<> w;
  emulated_group<mock::domain> software;
  REQUIRE(w.container.join(software));
  REQUIRE(w.container.set_iommu(abi::type1v2_iommu));
  constexpr std::uint64_t huge = vfio::max_bitmap_pages * 4096 + 4096;
  REQUIRE(w.container.track_dirty_pages(true));
  CHECK(text(w.container.map_dma(3, w.at(0), {0}, huge)) == "EINVAL");
  CHECK(w.container.table()->area_count() == 0);
  REQUIRE(w.container.track_dirty_pages(false));
  REQUIRE(text(w.container.map_dma(3, w.at(0), {0}, huge)) == "0");
  CHECK(text(w.container.track_dirty_pages(true)) == "EINVAL");
  CHECK(w.container.verify() == "");
  REQUIRE(w.container.leave(software));
}
