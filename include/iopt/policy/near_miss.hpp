// iopt/policy/near_miss.hpp - an ability that is almost there does not compile.
//
// An ability of a domain or a pinner is a member with exactly the signature of its concept. One that
// lacks a noexcept or a const would pass for absent, and the engine would quietly do without: here it
// is an error instead, which says what it should look like. The engine checks its policies so.
//
// Layer: policy. Includes: policy/iommu_domain.hpp, policy/page_pinner.hpp.
#pragma once

#include <concepts>

#include "iopt/policy/iommu_domain.hpp"
#include "iopt/policy/page_pinner.hpp"

namespace iopt {

/// exact_domain: compiles when every ability that D seems to have, it has.
template <iommu_domain D>
struct exact_domain {
  static_assert(
      run_mapping_domain<D> || !requires { &D::map_runs; },
      "declare it: result<void> map_runs(iova, std::span<const run>, access_rights)");
  static_assert(
      run_returning_domain<D> || !requires { &D::unmap_runs; },
      "declare it: std::uint64_t unmap_runs(iova_range, run_list&) noexcept");
  static_assert(
      range_translating_domain<D> || !requires { &D::translate_range; },
      "declare it: std::uint64_t translate_range(iova_range, run_list&) const noexcept");
  static_assert(flushing_domain<D> || !requires { &D::sync; }, "declare it: void sync() noexcept");
  static_assert(
      dirty_tracking_domain<D> || !requires { &D::set_dirty_tracking; },
      "declare both: result<void> set_dirty_tracking(bool), and read_dirty(iova_range, "
      "dirty_read, any callable)");
  static_assert(
      splitting_domain<D> || !requires { &D::split; },
      "declare it: result<void> split(iova_range)");
  static_assert(
      protecting_domain<D> || !requires { &D::protect; },
      "declare it: result<void> protect(iova_range, access_rights)");
  static_assert(
      replacing_domain<D> || !requires { &D::replace; },
      "declare it: result<void> replace(iova, std::span<const run>, access_rights)");
  static_assert(
      reserved_regions_domain<D> || !requires { &D::reserved_regions; },
      "declare it: std::span<const reserved_region> reserved_regions() const");
  static_assert(
      coherency_enforcing_domain<D> || !requires { &D::enforce_cache_coherency; },
      "declare it: bool enforce_cache_coherency() noexcept");
  static_assert(
      !requires { &D::reads_back; } || requires { std::bool_constant<D::reads_back>(); },
      "declare it: static constexpr bool reads_back");
  static_assert(
      prefetching_domain<D> || !requires { &D::prefetch; },
      "declare it: void prefetch(iova_range) const noexcept");
  static_assert(
      !requires { &D::is_concurrent; } || requires { std::bool_constant<D::is_concurrent>(); },
      "declare it: static constexpr bool is_concurrent");
  static constexpr bool value = true;
};

/// exact_pinner: the same for a pinner.
template <page_pinner P>
struct exact_pinner {
  static_assert(
      file_pinner<P> || !requires { &P::pin_file; },
      "declare both: a type file, and result<void> pin_file(const file&, user_range, "
      "access_rights, run_list&)");
  static_assert(
      device_memory_pinner<P> || !requires { &P::resolve; },
      "declare both: a type exporter, and result<void> resolve(const exporter&, "
      "user_range, run_list&)");
  static_assert(
      copying_pinner<P> || !(
                               requires { &P::read; } || requires { &P::write; }),
      "declare both: result<void> read(const owner&, user_address, std::span<std::byte>), "
      "and write(const owner&, user_address, std::span<const std::byte>)");
  static_assert(frame_copying_pinner<P> ||
                    !(
                        requires { &P::read_frame; } || requires { &P::write_frame; }),
                "declare both: void read_frame(physical, std::span<std::byte>) noexcept, and "
                "write_frame(physical, std::span<const std::byte>) noexcept");
  static_assert(
      run_unpinning_pinner<P> || !requires { &P::unpin_runs; },
      "declare it: void unpin_runs(std::span<const run>, bool) noexcept");
  static constexpr bool value = true;
};

}  // namespace iopt
