// tests/uapi/vfio/iommufd_container_test.cpp - groups of a container that is an iommufd.
#include "iopt/uapi/vfio/iommufd_container.hpp"

#include "tests/catch.hpp"
#include "tests/uapi/vfio/container_world.hpp"

using namespace iopt;
using namespace iopt::test;
namespace abi = vfio::abi;

namespace {

struct world : container_world<vfio::iommufd_profile> {
  ~world() {
    for (auto& g : groups) static_cast<void>(container.close(g));
  }
  std::string unmap(std::uint64_t at_page, std::uint64_t pages) {
    const vfio::compat_unmapped gone = container.unmap_dma(0, io(at_page), pages * page);
    return text(gone.outcome) + ":" + std::to_string(gone.bytes / page);
  }
};

}  // namespace

TEST_CASE("the space exists with the first group, and pins nothing before a device is open",
          "[iommufd_container]") {
  world w;
  auto& c = w.container;
  CHECK(w.map(0, 4) == "ENODEV");
  CHECK(text(c.set_iommu(3)) == "ENODEV");
  mock::group& g = w.add();
  REQUIRE(c.join(g));
  CHECK(text(c.join(g)) == "EINVAL");
  REQUIRE(text(c.set_iommu(3)) == "0");
  REQUIRE(text(c.set_iommu(3)) == "0");  // as often as one likes
  REQUIRE(w.map(0, 4) == "0");
  CHECK(w.pinner.is_idle());
  REQUIRE(text(c.open(g)) == "0");
  CHECK(text(c.open(g)) == "EINVAL");
  CHECK(text(c.leave(g)) == "EBUSY");
  CHECK(w.pins(0, 4) == counts(4, 1));
  CHECK(w.pinner.pinned_vm(w.pinner.current()) == 4);
  REQUIRE(text(c.close(g)) == "0");
  CHECK(text(c.close(g)) == "EINVAL");
  CHECK(w.pinner.is_idle());
  REQUIRE(text(c.leave(g)) == "0");
  CHECK(text(c.leave(g)) == "EINVAL");
  CHECK(w.unmap(0, 4) == "0:4");  // mappings outlive the groups
}

TEST_CASE("what does not suit is refused when a device is opened", "[iommufd_container]") {
  world w;
  auto& c = w.container;
  mock::group& g = w.add();
  REQUIRE(c.join(g));
  REQUIRE(text(c.map_dma(3, w.at(0), w.msi.first, 4096)) == "0");
  CHECK(text(c.open(g)) == "EADDRINUSE");
  CHECK(g.domains() == 0);
  CHECK(c.context().size() == 1);  // the space
  CHECK(c.verify() == "");
  REQUIRE(w.unmap(0xfee00, 1) == "0:1");
  REQUIRE(text(c.map_dma(3, w.at(0), {0x8000000000}, 4096)) == "0");
  CHECK(text(c.open(g)) == "EADDRINUSE");
  CHECK(c.verify() == "");
  REQUIRE(w.unmap(0x8000000, 1) == "0:1");
  w.pinner.set_hole(w.pinner.current(), user_range::sized(w.at(0), 4096));
  REQUIRE(w.map(0, 1) == "0");
  CHECK(text(c.open(g)) == "EFAULT");
  CHECK(g.domains() == 0);
  w.pinner.set_hole(w.pinner.current(), user_range::sized(w.at(0), 4096), false);
  CHECK(text(c.open(g)) == "0");
  mock::group_options o = w.usual();
  o.isolates_msi = false;
  mock::group& loud = w.add(o);
  REQUIRE(c.join(loud));
  CHECK(text(c.open(loud)) == "EPERM");
}

TEST_CASE("devices behind one IOMMU share a domain; one that cannot has its own",
          "[iommufd_container]") {
  world w;
  auto& c = w.container;
  mock::group& first = w.add();
  mock::group& same = w.add();
  mock::group_options o = w.usual();
  o.shares_domains = false;
  mock::group& lonely = w.add(o);
  for (mock::group* g : {&first, &same, &lonely}) {
    REQUIRE(c.join(*g));
    REQUIRE(c.open(*g));
  }
  CHECK(same.attached() == first.attached());
  CHECK(lonely.attached() != first.attached());
  CHECK(c.table()->domain_count() == 2);
  REQUIRE(w.map(0, 4) == "0");
  CHECK(w.pins(0, 4) == counts(4, 1));
  REQUIRE(c.close(first));
  CHECK(same.attached()->translate(w.io(1)).has_value());
  REQUIRE(c.close(same));
  CHECK(c.table()->domain_count() == 1);
}

TEST_CASE("groups with and without an IOMMU do not mix", "[iommufd_container]") {
  group_without_iommu group;
  world with;
  mock::group& real = with.add();
  REQUIRE(with.container.join(real));
  CHECK(text(with.container.join(group)) == "EINVAL");
  world without;
  mock::group& late = without.add();
  REQUIRE(without.container.join(group));
  CHECK(text(without.container.join(late)) == "EINVAL");
  CHECK(text(without.container.set_iommu(1)) == "EINVAL");
  REQUIRE(without.container.open(group));
  REQUIRE(without.container.close(group));
  REQUIRE(without.container.leave(group));
}

TEST_CASE("an emulated device is an access object of the space", "[iommufd_container]") {
  world w;
  emulated_group<mock::domain> software;
  REQUIRE(w.container.join(software));
  REQUIRE(w.container.open(software));
  REQUIRE(w.map(0, 4) == "0");
  using access = access_object<mock::pinner, mock::domain, single_threaded>;
  struct user {
    access* pins = nullptr;
    iova_range pinned{};
  } u;
  access pins(
      [](void* context, iova_range) {
        user& who = *static_cast<user*>(context);
        if (who.pins != nullptr) std::exchange(who.pins, nullptr)->unpin(who.pinned);
      },
      &u);
  REQUIRE(pins.attach(*w.container.table()));
  u = {&pins, {w.io(1), w.io(2) - 1}};
  REQUIRE(pins.pin(u.pinned, access_rights::read, [](run) {}));
  CHECK(w.pins(0, 4) == counts{0, 1, 0, 0});
  CHECK(w.unmap(0, 4) == "0:4");
  CHECK(w.pinner.is_idle());
  pins.detach();
  REQUIRE(w.container.close(software));
  REQUIRE(w.container.leave(software));
}
