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

TEST_CASE("a mock group's calls fail on command, and where it was it stays", "[group]") {
  mock::fault_injector faults;
  mock::group g({.domains = {.faults = &faults}, .nests = true});
  using point = mock::fault_point;
  faults.arm(0);
  CHECK(g.create_domain().error() == faults.error_of(point::create_domain));
  CHECK(g.domains() == 0);
  const result<mock::domain*> from = g.create_domain();
  const result<mock::domain*> to = g.create_domain();
  REQUIRE((from && to));
  faults.arm(0);
  CHECK(g.enable_nesting(**from).error() == faults.error_of(point::enable_nesting));
  faults.arm(0);
  CHECK(g.attach(**from).error() == faults.error_of(point::attach_group));
  CHECK(g.attached() == nullptr);
  REQUIRE(g.attach(**from));
  faults.arm(0);
  CHECK(g.replace(**from, **to).error() == faults.error_of(point::attach_group));
  CHECK(g.attached() == *from);
  REQUIRE(g.replace(**from, **to));
  CHECK(g.attached() == *to);
  g.detach(**to);
  g.destroy_domain(**from);
  g.destroy_domain(**to);
}

TEST_CASE("a group that can only attach and detach goes back where a replacement fails",
          "[group]") {
  struct plain_group final : iommu_group<mock::domain> {
    result<mock::domain*> create_domain() override { return fail(errc::no_such_device); }
    void destroy_domain(mock::domain&) noexcept override {}
    result<void> attach(mock::domain& d) override {
      if (&d == refused) return fail(errc::io_error);
      at = &d;
      return {};
    }
    void detach(mock::domain&) noexcept override { at = nullptr; }
    const void* iommu() const noexcept override { return nullptr; }
    mock::domain* at = nullptr;
    const mock::domain* refused = nullptr;
  };
  mock::domain from, to;
  plain_group g;
  REQUIRE(g.attach(from));
  g.refused = &to;
  CHECK(g.replace(from, to).error() == errc::io_error);
  CHECK(g.at == &from);
  g.refused = nullptr;
  CHECK(g.replace(from, to));
  CHECK(g.at == &to);
}

TEST_CASE("an emulated group has no IOMMU", "[group]") {
  emulated_group<mock::domain> g;
  CHECK(g.kind() == group_kind::emulated);
  CHECK(g.iommu() == nullptr);
  CHECK(g.create_domain().error() == errc::no_such_device);
  CHECK(g.reserved_regions().empty());
}
