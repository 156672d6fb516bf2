// tests/uapi/iommufd/devices_test.cpp - devices come, translate through something, go over, and go.
#include "iopt/uapi/iommufd/devices.hpp"

#include "tests/catch.hpp"
#include "tests/uapi/iommufd/context_fixture.hpp"

using namespace iopt;
using namespace iopt::test;
using fixture = context_fixture<>;
using kind = reserved_region::kind;

namespace {

std::string attach(fixture& f, iommufd::object_id device, iommufd::object_id to) {
  const std::string answer = said(f.context->attach(device, to));
  CHECK(f.context->verify() == "");
  return answer;
}
std::string replace(fixture& f, iommufd::object_id device, iommufd::object_id to) {
  const std::string answer = said(f.context->replace(device, to));
  CHECK(f.context->verify() == "");
  return answer;
}

}  // namespace

TEST_CASE("a driver binds what has an IOMMU, is coherent, and isolates its interrupts", "[bind]") {
  fixture f;
  emulated_group<mock::domain> software;
  CHECK(said(f.context->bind(software)) == "ENODEV");
  CHECK(said(f.context->bind(f.group({.isolates_msi = false, .is_coherent = false}))) == "EINVAL");
  CHECK(said(f.context->bind(f.group({.isolates_msi = false}))) == "EPERM");
  CHECK(f.context->size() == 0);
  CHECK(said(f.context->bind(f.group())) == "1");
  CHECK(f.destroy(1) == "EBUSY");  // its driver has it
  CHECK(said(f.context->unbind(7)) == "ENOENT");
  CHECK(said(f.context->unbind(1)) == "ok");
  CHECK(said(f.context->unbind(1)) == "ENOENT");
  fixture unsafe({.allow_unsafe_interrupts = true});
  CHECK(said(unsafe.context->bind(unsafe.group({.isolates_msi = false}))) == "1");
}

TEST_CASE("devices of one IOMMU share an automatic hardware page table, which goes with the last",
          "[attach]") {
  fixture f;
  const auto s = f.space();
  CHECK(f.map(s, 0x10000, 8) == "0");
  const auto a = f.device();
  const auto b = f.device();
  const auto c = f.device({.iommu = &s});
  CHECK(attach(f, a, s) == "5");
  CHECK(attach(f, b, s) == "5");
  CHECK(attach(f, c, s) == "6");  // another IOMMU
  CHECK(f.pinner.pinned_pages() == 8);
  CHECK(f.groups[0]->attached() == f.groups[1]->attached());
  CHECK(f.groups[2]->attached()->translate({0x10000}) ==
        f.groups[0]->attached()->translate({0x10000}));
  CHECK(attach(f, a, s) == "EINVAL");  // it is
  CHECK(said(f.context->unbind(a)) == "EBUSY");
  CHECK(f.destroy(5) == "EBUSY");
  CHECK(f.destroy(s) == "EBUSY");
  CHECK(said(f.context->detach(a)) == "ok");
  CHECK(said(f.context->detach(a)) == "EINVAL");
  CHECK(said(f.context->detach(9)) == "ENOENT");
  CHECK(f.destroy(5) == "EBUSY");
  CHECK(said(f.context->detach(b)) == "ok");
  CHECK(f.destroy(5) == "ENOENT");
  CHECK(said(f.context->detach(c)) == "ok");
  CHECK(f.pinner.pinned_pages() == 0);
  CHECK(f.destroy(s) == "0");
}

TEST_CASE("a device is attached to a space or a hardware page table", "[attach]") {
  fixture f;
  const auto s = f.space();
  const auto a = f.device();
  const auto b = f.device({.iommu = &s});
  CHECK(attach(f, a, 9) == "ENOENT");
  CHECK(attach(f, 9, s) == "ENOENT");
  CHECK(attach(f, s, s) == "ENOENT");  // a space is no device
  CHECK(attach(f, a, b) == "EINVAL");
  const auto h = f.context->create_hw_pagetable(a, s, false);
  CHECK(said(h) == "4");
  CHECK(attach(f, b, *h) == "EINVAL");  // of another IOMMU
  CHECK(attach(f, a, *h) == "4");
  CHECK(f.destroy(*h) == "EBUSY");
  const auto c = f.device();
  CHECK(attach(f, c, s) == "6");  // one made by hand is never chosen
  CHECK(said(f.context->detach(a)) == "ok");
  CHECK(f.destroy(*h) == "0");  // nor does it go by itself
}

TEST_CASE("the devices of one group translate through one domain", "[group]") {
  fixture f;
  const auto s = f.space();
  const auto other = f.space();
  mock::group& g = f.group({.reserved = {{{{0x20000}, {0x20fff}}, kind::msi}}});
  const auto a = f.bound(g);
  const auto b = f.bound(g);
  CHECK(attach(f, a, s) == "5");
  CHECK(attach(f, b, other) == "EINVAL");
  CHECK(attach(f, b, s) == "5");
  CHECK(said(f.context->detach(a)) == "ok");
  CHECK(g.attached() != nullptr);
  CHECK(f.map(s, 0x20000) == "EINVAL");  // b needs it free
  CHECK(said(f.context->unbind(a)) == "ok");
  CHECK(said(f.context->detach(b)) == "ok");
  CHECK(g.attached() == nullptr);
  CHECK(f.map(s, 0x20000) == "0");
  CHECK(attach(f, b, other) == "3");
}

TEST_CASE("what a device needs for itself must be free, and is kept so", "[reserved]") {
  fixture f;
  const auto s = f.space();
  const auto a = f.device({.reserved = {{{{0x20000}, {0x20fff}}, kind::msi},
                                        {{{0x30000}, {0x30fff}}, kind::direct_relaxable},
                                        {{{0x40000}, {0x40fff}}, kind::direct}}});
  CHECK(f.map(s, 0x30000) == "0");
  CHECK(f.map(s, 0x40000) == "0");
  CHECK(attach(f, a, s) == "EADDRINUSE");
  CHECK(f.map(s, 0x20000) == "0");  // the first region is not kept
  CHECK(f.unmap(s, 0x20000) == "0");
  CHECK(f.unmap(s, 0x40000) == "0");
  CHECK(attach(f, a, s) == "3");
  CHECK(f.map(s, 0x20000) == "EINVAL");
  CHECK(f.map(s, 0x40000) == "EINVAL");
  CHECK(said(f.context->detach(a)) == "ok");
  CHECK(f.map(s, 0x20000) == "0");

  const auto t = f.space();
  const auto two = f.device({.reserved = {{{{0}, {0xfff}}, kind::software_msi},
                                          {{{0x2000}, {0x2fff}}, kind::software_msi}}});
  const auto both = f.device(
      {.reserved = {{{{0}, {0xfff}}, kind::software_msi}, {{{0x2000}, {0x2fff}}, kind::msi}}});
  CHECK(attach(f, two, t) == "EINVAL");
  CHECK(attach(f, both, t) == "EINVAL");
  CHECK(f.map(t, 0) == "0");
  CHECK(f.context->size() == 5);
}

TEST_CASE("an attach that fails leaves nothing", "[attach]") {
  fixture f;
  const auto s = f.space();
  const auto a = f.device({.domains = {.aperture = {{0}, {0xfffff}}}});
  CHECK(f.map(s, 0x100000) == "0");
  CHECK(attach(f, a, s) == "EADDRINUSE");  // by the domain
  CHECK(f.context->size() == 2);
  CHECK(f.groups[0]->attached() == nullptr);
  const auto b = f.device({.domains = {.page_sizes = {16384}}});
  CHECK(attach(f, b, s) == "EINVAL");
  f.pinner.set_hole(f.pinner.current(), user_range::sized({0x10000}, 0x1000));
  const auto c = f.device();
  CHECK(attach(f, c, s) == "EFAULT");
  CHECK(f.context->size() == 4);
  CHECK(f.unmap(s, 0x100000) == "0");
  CHECK(attach(f, a, s) == "5");
}

TEST_CASE("a group goes over from one hardware page table to another", "[replace]") {
  fixture f;
  const auto s = f.space();
  const auto t = f.space();
  mock::group& g = f.group({.reserved = {{{{0x20000}, {0x20fff}}, kind::msi}}});
  const auto a = f.bound(g);
  const auto b = f.bound(g);
  CHECK(replace(f, a, s) == "EINVAL");  // not attached
  CHECK(attach(f, a, s) == "5");
  CHECK(replace(f, b, t) == "EINVAL");
  CHECK(attach(f, b, s) == "5");
  CHECK(replace(f, a, s) == "5");  // where it is
  CHECK(replace(f, a, 5) == "5");
  CHECK(replace(f, a, 9) == "ENOENT");
  CHECK(replace(f, a, b) == "EINVAL");
  CHECK(f.map(t, 0x20000) == "0");
  CHECK(replace(f, a, t) == "EADDRINUSE");
  CHECK(g.attached() != nullptr);
  CHECK(f.context->size() == 5);
  CHECK(f.unmap(t, 0x20000) == "0");
  CHECK(f.map(t, 0x10000, 4) == "0");
  CHECK(replace(f, a, t) == "6");  // both devices; 5 is gone
  CHECK(f.destroy(5) == "ENOENT");
  CHECK(f.pinner.pinned_pages() == 4);
  CHECK(f.map(s, 0x20000) == "0");
  CHECK(f.map(t, 0x20000) == "EINVAL");
  const auto h = f.context->create_hw_pagetable(b, t, false);
  CHECK(said(h) == "5");
  CHECK(replace(f, b, *h) == "5");  // in the same space: what is reserved stays
  CHECK(f.map(t, 0x20000) == "EINVAL");
  CHECK(f.destroy(6) == "ENOENT");
  CHECK(f.destroy(s) == "0");
  CHECK(said(f.context->detach(a)) == "ok");
  CHECK(said(f.context->detach(b)) == "ok");
  CHECK(f.destroy(*h) == "0");
}

TEST_CASE("a group that cannot go over stays as it was", "[replace]") {
  fixture f;
  const auto s = f.space();
  const auto t = f.space();
  mock::group& g =
      f.group({.reserved = {{{{0x20000}, {0x20fff}}, kind::msi}}, .shares_domains = true});
  const auto a = f.bound(g);
  const auto alien = f.device({.iommu = &s});
  const auto h = f.context->create_hw_pagetable(alien, t, false);
  REQUIRE(h);
  CHECK(attach(f, a, s) == "6");
  const mock::domain* const before = g.attached();
  CHECK(replace(f, a, *h) == "EINVAL");  // of another IOMMU
  CHECK(g.attached() == before);
  CHECK(f.map(t, 0x20000) == "0");  // not kept for it
  CHECK(f.map(s, 0x20000) == "EINVAL");
}
