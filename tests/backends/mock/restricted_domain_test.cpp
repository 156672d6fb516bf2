#include "iopt/backends/mock/restricted_domain.hpp"

#include "tests/catch.hpp"

using namespace iopt;
using mock::ability;

// Each ability is one refinement, and taking it away takes that one alone.
static_assert(!run_mapping_domain<mock::without<ability::map_runs>> &&
              run_returning_domain<mock::without<ability::map_runs>>);
static_assert(!run_returning_domain<mock::without<ability::unmap_runs>> &&
              run_mapping_domain<mock::without<ability::unmap_runs>>);
static_assert(!range_translating_domain<mock::without<ability::translate_range>>);
static_assert(!flushing_domain<mock::without<ability::sync>>);
static_assert(!dirty_tracking_domain<mock::without<ability::dirty>>);
static_assert(!splitting_domain<mock::without<ability::split>>);
static_assert(!protecting_domain<mock::without<ability::protect>>);
static_assert(!replacing_domain<mock::without<ability::replace>>);
static_assert(!reserved_regions_domain<mock::without<ability::reserved_regions>>);
static_assert(!coherency_enforcing_domain<mock::without<ability::coherency>>);
static_assert(unreadable_domain<mock::without<ability::read_back>>);
static_assert(splitting_domain<mock::restricted_domain<mock::domain, ability::split>>);

TEST_CASE("a domain without sync flushes in unmap") {
  mock::plain<> d;
  REQUIRE(d.map(iova_range::sized({0}, 4096), {0}, {}).has_value());
  CHECK(d.unmap(iova_range::sized({0}, 4096)) == 4096);
  CHECK(d.inner().unsynced_bytes() == 0);
  CHECK(d.inner().calls().sync == 1);

  mock::without_split<> e;
  REQUIRE(e.map(iova_range::sized({0}, 4096), {0}, {}).has_value());
  CHECK(e.unmap(iova_range::sized({0}, 4096)) == 4096);
  CHECK(e.inner().unsynced_bytes() == 4096);
  e.sync();
  CHECK(e.inner().unsynced_bytes() == 0);
}

TEST_CASE("asking an unreadable domain is a violation") {
  mock::unreadable<> d;
  d.inner().record_violations();
  REQUIRE(d.map(iova_range::sized({0}, 4096), {0}, {}).has_value());
  CHECK(d.inner().violations() == 0);
  (void)d.translate({0});
  CHECK(d.inner().violations() == 1);
}

TEST_CASE("options reach the domain inside") {
  const mock::plain<> d(mock::domain_options::kernel_selftest());
  CHECK(d.page_sizes() == page_size_set{2048});
  CHECK(d.aperture().first == iova{1 << 24});
}
