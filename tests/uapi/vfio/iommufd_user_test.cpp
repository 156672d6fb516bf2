// tests/uapi/vfio/iommufd_user_test.cpp - what drivers of mediated devices may do in a container that is
// an iommufd: the right column of the wrappers' rules.
#include "iopt/uapi/vfio/iommufd_user.hpp"

#include <array>

#include "tests/catch.hpp"
#include "tests/uapi/vfio/container_world.hpp"

using namespace iopt;
using namespace iopt::test;
namespace abi = vfio::abi;

namespace {

constexpr access_rights r = access_rights::read;
constexpr access_rights wr = access_rights::write;

struct stage : container_world<vfio::iommufd_profile> {
  using user_type = vfio::iommufd_user<mock::pinner, mock::domain>;
  struct driver final : vfio::memory_user {
    user_type* pins = nullptr;
    std::uint64_t first = 0, pages = 0;
    bool lets_go = true;
    std::vector<iova_range> heard{};
    void dma_unmap(iova_range gone) noexcept override {
      heard.push_back(gone);
      if (lets_go) pins->unpin_pages(io(first), pages);
    }
  };
  emulated_group<mock::domain> software;
  driver d;
  user_type pins{d};
  std::array<physical, 1024> frames{};

  stage() {
    d.pins = &pins;
    REQUIRE(container.join(software));
    REQUIRE(container.open(software));
  }
  ~stage() {
    pins.close();
    static_cast<void>(container.close(software));
    static_cast<void>(container.leave(software));
  }
  counts pins_of(std::uint64_t first, std::uint64_t count) const {
    return container_world::pins(first, count);
  }
  std::string unmap_all() {
    const auto gone = container.unmap_dma(abi::unmap_all_flag, {0}, 0);
    return text(gone.outcome) + ":" + std::to_string(gone.bytes / page);
  }
  std::string pin(std::uint64_t first, std::uint64_t pages, access_rights want = r) {
    d.first = first, d.pages = pages;
    return text(pins.pin_pages(io(first), pages, want, frames));
  }
};

}  // namespace

TEST_CASE("an iommufd pins any number of pages at once, from the page that holds the address",
          "[iommufd_user]") {
  stage s;
  CHECK(s.pin(0, 1) == "EINVAL");  // not open
  REQUIRE(s.pins.open(*s.container.table()));
  CHECK(text(s.pins.open(*s.container.table())) == "EINVAL");
  REQUIRE(s.map(0, 600) == "0");
  CHECK(s.pin(0, 0) == "EINVAL");
  CHECK(text(s.pins.pin_pages({0}, 4, r, std::span(s.frames).first(3))) == "EINVAL");
  REQUIRE(text(s.pins.pin_pages({2 * 4096 + 17}, 3, r, s.frames)) == "0");
  CHECK(s.frames[2] == s.pinner.frame_of(s.pinner.current(), s.at(4)));
  CHECK(s.pins_of(2, 3) == counts(3, 1));
  s.pins.unpin_pages({2 * 4096}, 2);  // not what was pinned
  CHECK(s.pins_of(2, 3) == counts(3, 1));
  s.pins.unpin_pages({2 * 4096 + 5}, 3);
  CHECK(s.pinner.is_idle());
  CHECK(s.pin(0, 600) == "0");
  CHECK(s.unmap_all() == "0:600");
  CHECK(s.pinner.is_idle());
  CHECK(text(s.pins.pin_pages({top - 4095}, 2, r, s.frames)) == "EOVERFLOW");
  CHECK(text(s.pins.pin_pages({top - 4095}, 1, r, s.frames)) == "ENOENT");
}

TEST_CASE("an iommufd asks for the right to write alone, and answers ENOENT for what is not mapped",
          "[iommufd_user]") {
  stage s;
  REQUIRE(s.pins.open(*s.container.table()));
  REQUIRE(s.map(0, 2, abi::map_write) == "0");
  REQUIRE(s.map(2, 2, abi::map_read) == "0");
  CHECK(s.pin(0, 1, r) == "EPERM");
  CHECK(s.pin(0, 2, access_rights::read_write) == "0");
  s.pins.unpin_pages(s.io(0), 2);
  CHECK(s.pin(2, 1, wr) == "EPERM");
  CHECK(s.pin(2, 3) == "ENOENT");
  CHECK(s.pinner.is_idle());
  std::array<std::byte, 8> bytes{};
  CHECK(text(s.pins.dma_write(s.io(0), bytes)) == "0");
  CHECK(text(s.pins.dma_read(s.io(0), bytes)) == "EPERM");
  CHECK(text(s.pins.dma_read(s.io(2), bytes)) == "0");
  CHECK(text(s.pins.dma_read(s.io(4), bytes)) == "ENOENT");
  CHECK(text(s.pins.dma_read(s.io(0), std::span<std::byte>{})) == "EINVAL");
}

TEST_CASE("a driver on an iommufd is told of an unmap, and of its own end", "[iommufd_user]") {
  stage s;
  REQUIRE(s.pins.open(*s.container.table()));
  REQUIRE(s.map(0, 4) == "0");
  REQUIRE(s.pin(1, 2) == "0");
  s.d.lets_go = false;
  CHECK(s.unmap_all() == "EDEADLK:0");
  CHECK(s.d.heard.size() == 100);
  s.d.lets_go = true;
  CHECK(s.unmap_all() == "0:4");
  REQUIRE(s.map(0, 4) == "0");
  REQUIRE(s.pin(1, 2) == "0");
  s.d.heard.clear();
  s.pins.close();
  CHECK(s.d.heard == std::vector<iova_range>{iova_range::whole()});
  CHECK(s.pinner.is_idle());
  std::array<std::byte, 8> bytes{};
  CHECK(text(s.pins.dma_read(s.io(0), bytes)) == "EINVAL");
}
