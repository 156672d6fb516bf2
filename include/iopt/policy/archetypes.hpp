// iopt/policy/archetypes.hpp - the least models of the policies.
//
// They do nothing, and have no member that the concept does not ask for. The engine is instantiated
// with them in a test, so it cannot come to use more than the concepts grant.
//
// Layer: policy. Includes: policy/iommu_domain.hpp, policy/page_pinner.hpp.
#pragma once

#include "iopt/policy/iommu_domain.hpp"
#include "iopt/policy/page_pinner.hpp"

namespace iopt::archetype {

/// The least page_pinner: it has no memory to pin.
struct pinner {
  struct owner {
    friend bool operator==(owner, owner) noexcept = default;
  };
  pinner() = default;
  pinner(const pinner&) = delete;
  pinner& operator=(const pinner&) = delete;

  owner current() { return {}; }
  result<void> pin(const owner&, user_range, access_rights, run_list&) {
    return fail(errc::bad_address);
  }
  void unpin(run, bool) noexcept {}
  bool reachable(const owner&) noexcept { return false; }
  result<void> charge(const owner&, account_mode, std::uint64_t) { return {}; }
  void uncharge(const owner&, account_mode, std::uint64_t) noexcept {}
};

/// The least iommu_domain: it is full.
struct domain {
  domain() = default;
  domain(const domain&) = delete;
  domain& operator=(const domain&) = delete;

  result<void> map(iova_range, physical, attributes) { return fail(errc::no_space_on_device); }
  std::uint64_t unmap(iova_range) noexcept { return 0; }
  std::optional<physical> translate(iova) const { return std::nullopt; }
  page_size_set page_sizes() const { return {4096}; }
  iova_range aperture() const { return iova_range::whole(); }
};

static_assert(page_pinner<pinner> && !file_pinner<pinner> && !device_memory_pinner<pinner> &&
              !copying_pinner<pinner> && !frame_copying_pinner<pinner> &&
              !run_unpinning_pinner<pinner>);
static_assert(iommu_domain<domain> && !run_mapping_domain<domain> &&
              !run_returning_domain<domain> && !range_translating_domain<domain> &&
              !flushing_domain<domain> && !dirty_tracking_domain<domain> &&
              !splitting_domain<domain> && !protecting_domain<domain> &&
              !replacing_domain<domain> && !reserved_regions_domain<domain> &&
              !coherency_enforcing_domain<domain> && !unreadable_domain<domain> &&
              !concurrent_domain<domain> && !prefetching_domain<domain>);

}  // namespace iopt::archetype
