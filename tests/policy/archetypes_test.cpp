#include "iopt/policy/archetypes.hpp"

#include "iopt/base/page_sizes.hpp"
#include "tests/catch.hpp"

using namespace iopt;

TEST_CASE("the archetypes do what the least models may") {
  archetype::pinner p;
  run storage[1];
  run_list out{storage};
  CHECK(p.pin(p.current(), user_range::sized({0}, 4096), access_rights::read, out).error() ==
        errc::bad_address);
  CHECK(out.empty());
  CHECK_FALSE(p.reachable(p.current()));
  CHECK(p.charge(p.current(), account_mode::user, 1).has_value());

  archetype::domain d;
  CHECK_FALSE(d.page_sizes().empty());
  CHECK(d.map(iova_range::sized({0}, 4096), {0}, {}).error() == errc::no_space_on_device);
  CHECK(d.translate({0}) == std::nullopt);
  CHECK(d.unmap(iova_range::sized({0}, 4096)) == 0);
}

namespace {

// A type that lacks one member each is no model; so no clause of the concept is idle.
struct no_unmap {
  result<void> map(iova_range, physical, attributes) { return {}; }
  std::optional<physical> translate(iova) const { return {}; }
  page_size_set page_sizes() const { return {4096}; }
  iova_range aperture() const { return iova_range::whole(); }
};
struct unmap_may_throw : no_unmap {
  std::uint64_t unmap(iova_range) { return 0; }
};
struct whole : no_unmap {
  std::uint64_t unmap(iova_range) noexcept { return 0; }
};
struct cannot_be_read : whole {
  static constexpr bool reads_back = false;
};
struct can_be_read : whole {
  static constexpr bool reads_back = true;
};
static_assert(!iommu_domain<no_unmap> && !iommu_domain<unmap_may_throw> && iommu_domain<whole>);
static_assert(unreadable_domain<cannot_be_read> && !unreadable_domain<can_be_read> &&
              !unreadable_domain<whole>);

struct unpin_may_throw : archetype::pinner {
  void unpin(run, bool) {}
};
struct owners_do_not_compare : archetype::pinner {
  struct owner {};
  owner current() { return {}; }
};
static_assert(!page_pinner<unpin_may_throw> && !page_pinner<owners_do_not_compare>);

}  // namespace
