#include "iopt/backends/mock/group.hpp"

#include "tests/catch.hpp"

using namespace iopt;

TEST_CASE("a mock group makes domains of its kind and counts them", "[group]") {
  static const int iommu = 0;
  int told = 0;
  mock::group_options o;
  o.domains.page_sizes = {64 * kibibyte};
  o.iommu = &iommu;
  mock::group g(o, [&](mock::domain&) { ++told; });
  CHECK(g.kind() == group_kind::iommu);
  CHECK(g.iommu() == &iommu);
  const result<mock::domain*> d = g.create_domain();
  REQUIRE(d);
  CHECK(told == 1);
  CHECK(g.domains() == 1);
  CHECK((*d)->page_sizes().smallest() == 64 * kibibyte);
  REQUIRE(g.attach(**d));
  CHECK(g.attached() == *d);
  g.detach(**d);
  CHECK(g.attached() == nullptr);
  g.destroy_domain(**d);
  CHECK(g.domains() == 0);
}

TEST_CASE("a mock group shares domains, nests and isolates as it is told", "[group]") {
  mock::group maker;
  const result<mock::domain*> d = maker.create_domain();
  REQUIRE(d);
  mock::group lonely({.shares_domains = false, .nests = true});
  CHECK(lonely.attach(**d).error() == errc::invalid_argument);
  CHECK(lonely.enable_nesting(**d));
  CHECK(maker.enable_nesting(**d).error() == errc::invalid_argument);
  CHECK(maker.isolates_msi());
  CHECK_FALSE(mock::group({.isolates_msi = false}).isolates_msi());
  maker.destroy_domain(**d);
}

TEST_CASE("an emulated group has no IOMMU", "[group]") {
  emulated_group<mock::domain> g;
  CHECK(g.kind() == group_kind::emulated);
  CHECK(g.iommu() == nullptr);
  CHECK(g.create_domain().error() == errc::no_such_device);
  CHECK(g.reserved_regions().empty());
}
