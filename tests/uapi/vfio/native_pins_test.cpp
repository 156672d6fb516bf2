// tests/uapi/vfio/native_pins_test.cpp - what drivers of mediated devices may do, rule by rule.
#include "iopt/uapi/vfio/native_pins.hpp"

#include <array>
#include <cstring>

#include "tests/catch.hpp"
#include "tests/uapi/vfio/container_world.hpp"

using namespace iopt;
using namespace iopt::test;
namespace abi = vfio::abi;

namespace {

constexpr access_rights r = access_rights::read;
constexpr access_rights wr = access_rights::write;
constexpr access_rights rw = access_rights::read_write;

/// A driver that lets go of what it pinned when it is told, or does not.
struct driver final : vfio::memory_user {
  container_world<>& w;
  bool lets_go = true;
  std::vector<iova_range> heard{};
  std::array<physical, 1024> frames{};

  explicit driver(container_world<>& world) : w(world) {}
  std::string pin(std::uint64_t first, std::uint64_t pages, access_rights want = r,
                  const mock::group* group = nullptr) {
    return text(w.container.pin_pages(group, w.io(first), pages, want, frames));
  }
  void dma_unmap(iova_range gone) noexcept override {
    heard.push_back(gone);
    if (lets_go) w.container.unpin_pages(gone.first, gone.length() / 4096);
  }
};

struct pin_world : container_world<> {
  emulated_group<mock::domain> software;
  driver d{*this};
  explicit pin_world(std::uint64_t type = abi::type1v2_iommu) {
    REQUIRE(container.join(software));
    REQUIRE(container.set_iommu(type));
  }
  ~pin_world() {
    container.unregister_user(d);
    static_cast<void>(container.leave(software));
  }
};

}  // namespace

TEST_CASE("pages are pinned one by one, and counted where no IOMMU pins them", "[pins]") {
  pin_world w;
  REQUIRE(w.container.register_user(w.d));
  REQUIRE(w.map(0, 8) == "0");
  CHECK(w.d.pin(1, 3) == "0");
  CHECK(w.d.frames[0] == w.pinner.frame_of(w.pinner.current(), w.at(1)));
  CHECK(w.d.frames[2] == w.pinner.frame_of(w.pinner.current(), w.at(3)));
  CHECK(w.pins(0, 8) == counts{0, 1, 1, 1, 0, 0, 0, 0});
  CHECK(w.locked() == 3);
  CHECK(w.d.pin(2, 4) == "0");  // the pages pinned already are not pinned again
  CHECK(w.locked() == 5);
  w.container.unpin_pages(w.io(1), 3);
  CHECK(w.pins(0, 8) == counts{0, 0, 1, 1, 1, 1, 0, 0});
  w.container.unpin_pages(w.io(0), 8);  // what is not pinned is passed over
  CHECK(w.pinner.is_idle());
}

TEST_CASE("where an IOMMU pins them, a driver's pins are not counted again", "[pins]") {
  pin_world w;
  REQUIRE(w.container.register_user(w.d));
  REQUIRE(w.map(0, 4) == "0");
  REQUIRE(w.d.pin(0, 2) == "0");
  mock::group& hard = w.add();
  REQUIRE(w.container.join(hard));
  CHECK(w.locked() == 4);
  CHECK(w.pins(0, 4) == counts(4, 1));
  REQUIRE(w.container.leave(hard));  // what the driver pinned stays, and counts
  CHECK(w.pins(0, 4) == counts{1, 1, 0, 0});
  CHECK(w.locked() == 2);
}

TEST_CASE("a pin is refused in the kernel's order", "[pins]") {
  pin_world w;
  auto& c = w.container;
  CHECK(w.d.pin(0, 0) == "EINVAL");
  CHECK(w.d.pin(0, 513) == "E2BIG");
  CHECK(w.d.pin(0, 1) == "EINVAL");  // nobody is registered
  REQUIRE(c.register_user(w.d));
  CHECK(text(c.register_user(w.d)) == "EINVAL");
  CHECK(w.d.pin(0, 1) == "EINVAL");  // nothing is mapped
  REQUIRE(w.map(0, 4, abi::map_read) == "0");
  REQUIRE(w.map(4, 4, abi::map_write) == "0");
  CHECK(w.d.pin(0, 1, rw) == "EPERM");
  CHECK(w.d.pin(4, 1, rw) == "EPERM");
  CHECK(w.d.pin(4, 1, wr) == "0");
  CHECK(w.d.pin(2, 4, r) == "EPERM");  // the pages before the refused one are let go again
  CHECK(w.pins(0, 4) == counts(4, 0));
  w.container.unpin_pages(w.io(4), 1);
  w.pinner.set_hole(w.pinner.current(), user_range::sized(w.at(2), 4096));
  CHECK(w.d.pin(0, 4) == "EFAULT");
  CHECK(w.pinner.is_idle());
  w.may[static_cast<std::size_t>(capability::lock_memory)] = false;
  w.pinner.set_limit(w.pinner.current(), account_mode::mm, 1);
  REQUIRE(w.map(16, 4) == "0");
  CHECK(w.d.pin(16, 2) == "ENOMEM");
  CHECK(w.pinner.is_idle());
  CHECK(w.d.pin(16, 1) == "0");
}

TEST_CASE("type1 v1 has no pins", "[pins]") {
  pin_world w(abi::type1_iommu);
  REQUIRE(w.container.register_user(w.d));
  REQUIRE(w.map(0, 4) == "0");
  CHECK(w.d.pin(0, 1) == "EACCES");
}

TEST_CASE("drivers are told of an unmap, and let go of what is in the way", "[pins]") {
  pin_world w;
  driver other(w);
  REQUIRE(w.container.register_user(w.d));
  REQUIRE(w.container.register_user(other));
  REQUIRE(w.map(0, 4) == "0");
  REQUIRE(w.map(8, 4) == "0");
  REQUIRE(w.d.pin(1, 2) == "0");
  CHECK(w.unmap(0, 16) == "0:8");
  CHECK(w.d.heard == std::vector<iova_range>{{w.io(0), w.io(4) - 1}});  // that mapping, whole
  CHECK(other.heard.size() == 1);
  CHECK(w.pinner.is_idle());
  w.container.unregister_user(other);
}

TEST_CASE("who does not let go is asked again, and then the unmap gives up and loses nothing",
          "[pins]") {
  pin_world w;
  w.d.lets_go = false;
  REQUIRE(w.container.register_user(w.d));
  REQUIRE(w.map(0, 4) == "0");
  REQUIRE(w.d.pin(0, 1) == "0");
  CHECK(w.unmap(0, 4) == "EDEADLK");
  CHECK(w.pins(0, 4) == counts{1, 0, 0, 0});
  w.d.lets_go = true;
  CHECK(w.d.pin(1, 1) == "0");  // the mapping can be used as before
  CHECK(w.unmap(0, 4) == "0:4");
  CHECK(w.pinner.is_idle());
}

TEST_CASE("nothing is pinned, read or written while an address is invalid", "[pins]") {
  container_world<> w;
  w.start(abi::type1v2_iommu);
  driver d(w);
  REQUIRE(w.container.register_user(d));
  REQUIRE(w.map(0, 4) == "0");
  REQUIRE(w.map(8, 4) == "0");
  REQUIRE(w.unmap(0, 4, abi::unmap_vaddr) == "0:4");
  std::array<std::byte, 8> bytes{};
  CHECK(d.pin(8, 1) == "EBUSY");
  CHECK(text(w.container.dma_read(w.io(8), bytes)) == "EBUSY");
  CHECK(text(w.container.dma_write(w.io(8), bytes)) == "EBUSY");
  REQUIRE(w.map(0, 4, abi::map_vaddr) == "0");
  CHECK(d.pin(0, 1) == "0");
  w.container.unpin_pages(w.io(0), 1);
  w.container.unregister_user(d);
}

TEST_CASE("vfio_dma_rw copies over mappings, by their rights", "[pins]") {
  pin_world w;
  REQUIRE(w.map(0, 1) == "0");
  REQUIRE(w.map(1, 1) == "0");
  REQUIRE(w.map(2, 1, abi::map_read) == "0");
  REQUIRE(w.map(3, 1, abi::map_write) == "0");
  auto& c = w.container;
  std::array<std::byte, 16> out{};
  out.fill(std::byte{7});
  std::array<std::byte, 16> in{};
  CHECK(text(c.dma_write(w.io(1) - 8, out)) == "0");
  CHECK(text(c.dma_read(w.io(1) - 8, in)) == "0");
  CHECK(in == out);
  CHECK(text(c.dma_read(w.io(1), std::span<std::byte>{})) == "EINVAL");
  CHECK(text(c.dma_write(w.io(2), out)) == "EPERM");
  CHECK(text(c.dma_write(w.io(3), out)) == "EPERM");  // writing needs the right to read as well
  CHECK(text(c.dma_read(w.io(3), in)) == "EPERM");
  CHECK(text(c.dma_read(w.io(4), in)) == "EINVAL");
  const mock::process owner = w.pinner.current();
  w.pinner.set_current(w.pinner.create_process());
  CHECK(text(c.dma_read(w.io(0), in)) == "EFAULT");
  w.pinner.kill(owner);
  CHECK(text(c.dma_read(w.io(0), in)) == "EPERM");
}

TEST_CASE("a hole has the mappings inside it let go of, and is refused where it cuts pinned ones",
          "[pins]") {
  using world = container_world<vfio::hole_punching_profile>;
  struct quiet final : vfio::memory_user {
    world& w;
    explicit quiet(world& of) : w(of) {}
    void dma_unmap(iova_range gone) noexcept override {
      w.container.unpin_pages(gone.first, gone.length() / 4096);
    }
  };
  world w;
  mock::group& g = w.start(abi::type1v2_iommu);
  quiet user(w);
  REQUIRE(w.container.register_user(user));
  REQUIRE(w.map(0, 8) == "0");
  REQUIRE(w.map(8, 4) == "0");
  std::array<physical, 1> frame{};
  REQUIRE(w.container.pin_pages(&g, w.io(9), 1, r, frame));
  CHECK(w.unmap(4, 5) == "EINVAL");  // page 9 is of a mapping that would be cut
  CHECK(w.unmap(4, 8) == "0:8");     // and here it goes whole
  CHECK(w.pins(0, 12) == counts{1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0});
  w.container.unregister_user(user);
}

TEST_CASE("a container that dies lets go of what drivers left pinned", "[pins]") {
  container_world<> w;
  mock::group& g = w.start(abi::type1v2_iommu);
  driver d(w);
  REQUIRE(w.container.register_user(d));
  REQUIRE(w.map(0, 4) == "0");
  REQUIRE(d.pin(0, 2) == "0");
  REQUIRE(d.pin(1, 1) == "0");
  w.container.unregister_user(d);
  REQUIRE(w.container.leave(g));
  CHECK(w.pinner.is_idle());
}

TEST_CASE("an unpin ends at the first page that is not mapped, however long it is", "[pins]") {
  pin_world w;
  REQUIRE(w.container.register_user(w.d));
  REQUIRE(w.map(0, 4) == "0");
  REQUIRE(w.map(4, 4) == "0");
  REQUIRE(w.map(16, 4) == "0");
  REQUIRE(w.d.pin(2, 4) == "0");
  REQUIRE(w.d.pin(16, 1) == "0");
  w.container.unpin_pages(w.io(0), top);
  CHECK(w.pins(0, 8) == counts(8, 0));
  CHECK(w.pins(16, 1) == counts{1});
  w.container.unpin_pages(w.io(8), 16);
  CHECK(w.pins(16, 1) == counts{1});
  w.container.unpin_pages(w.io(16), 1);
}

TEST_CASE("nobody is told of unmaps when the last group leaves", "[pins]") {
  container_world<> w;
  mock::group& g = w.start(abi::type1v2_iommu);
  driver d(w);
  REQUIRE(w.container.register_user(d));
  REQUIRE(w.map(0, 4) == "0");
  REQUIRE(d.pin(0, 2) == "0");
  REQUIRE(w.container.leave(g));
  CHECK(d.heard.empty());
  w.container.unregister_user(d);
}
