#include "iopt/backends/mock/group.hpp"

#include <array>
#include <cstddef>
#include <span>

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

TEST_CASE("a mock group makes domains as they are described", "[group]") {
  mock::group_options o;
  o.described = {7, 2, [](mock::domain_options usual, std::span<const std::byte> said) {
                   result<mock::domain_options> what = usual;
                   what->tracks_dirty = said.size() == 2;
                   if (said.empty()) what = fail(errc::invalid_argument);
                   return what;
                 }};
  mock::group g(o);
  CHECK(g.description_bytes(7) == 2);
  CHECK(g.description_bytes(8) == 0);
  CHECK(mock::group().description_bytes(7) == 0);
  const std::array<std::byte, 2> said{};
  const auto d = g.create_domain(7, said);
  REQUIRE(d);
  CHECK((*d)->set_dirty_tracking(true));
  const auto e = g.create_domain(7, std::span(said).first(1));
  REQUIRE(e);
  CHECK_FALSE((*e)->set_dirty_tracking(true));
  CHECK(g.create_domain(7, {}).error() == errc::invalid_argument);
  g.destroy_domain(**d);
  g.destroy_domain(**e);
}

TEST_CASE("an emulated group has no IOMMU", "[group]") {
  emulated_group<mock::domain> g;
  CHECK(g.kind() == group_kind::emulated);
  CHECK(g.iommu() == nullptr);
  CHECK(g.create_domain().error() == errc::no_such_device);
  CHECK(g.reserved_regions().empty());
}
