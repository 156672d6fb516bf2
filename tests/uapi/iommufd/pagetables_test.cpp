// tests/uapi/iommufd/pagetables_test.cpp - hardware page tables, made by hand.
#include "iopt/uapi/iommufd/pagetables.hpp"

#include "tests/catch.hpp"
#include "tests/uapi/iommufd/context_fixture.hpp"

using namespace iopt;
using namespace iopt::test;
using fixture = context_fixture<>;

TEST_CASE("a hardware page table is filled as soon as it is there", "[pagetable]") {
  fixture f;
  const auto s = f.space();
  const auto d = f.device();
  CHECK(f.map(s, 0x10000, 4) == "0");
  const auto h = f.context->create_hw_pagetable(d, s, false);
  CHECK(said(h) == "3");
  CHECK(f.pinner.pinned_pages() == 4);
  CHECK(f.groups[0]->attached() == nullptr);  // nothing translates through it
  std::optional<physical> at;
  REQUIRE(f.context->with_hw_pagetable(3, [&](auto& table, mock::domain& domain) {
    CHECK(table.domain_count() == 1);
    at = domain.translate({0x13000});
    return result<int>(0);
  }));
  CHECK(at.has_value());
  CHECK(said(f.context->with_hw_pagetable(1, [](auto&, auto&) { return result<int>(0); })) ==
        "ENOENT");
  CHECK(f.destroy(s) == "EBUSY");
  CHECK(said(f.context->unbind(d)) == "ok");  // it needs the device no more
  CHECK(f.unmap(s, 0x10000, 4) == "0");
  CHECK(f.destroy(3) == "0");
  CHECK(f.destroy(s) == "0");
}

TEST_CASE("a hardware page table that an ioctl is at work on goes after it", "[pagetable]") {
  fixture f;
  const auto s = f.space();
  const auto d = f.device();
  const auto h = f.context->attach(d, s);
  REQUIRE(h);
  CHECK(f.map(s, 0x10000, 4) == "0");
  REQUIRE(f.context->with_hw_pagetable(*h, [&](auto&, mock::domain& domain) {
    REQUIRE(f.context->detach(d));
    CHECK(f.destroy(*h) == "ENOENT");  // it cannot be found
    CHECK(said(f.context->attach(d, *h)) == "ENOENT");
    CHECK(f.destroy(s) == "EBUSY");
    CHECK(domain.translate({0x10000}).has_value());  // but is still there
    CHECK(said(f.context->attach(d, s)) == "4");     // nor is it chosen
    REQUIRE(f.context->detach(d));
    return result<int>(0);
  }));
  CHECK(f.pinner.pinned_pages() == 0);
  CHECK(f.destroy(s) == "0");
}
