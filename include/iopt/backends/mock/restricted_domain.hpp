// iopt/backends/mock/restricted_domain.hpp - a domain with abilities taken away.
//
// An ability is a refined concept, and a member that is not there does not fulfil it. So one mock
// domain serves as every lesser one, and the engine is tested with and without each refinement:
//
//   mock::plain<mock::domain> d{{.page_sizes = {4096}}};          // the five members, no more
//   mock::without<mock::ability::split> e;                         // all but split()
//
// Layer: backends/mock. Includes: policy, backends/mock/domain.hpp, the standard library.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <utility>

#include "iopt/backends/mock/domain.hpp"
#include "iopt/policy/iommu_domain.hpp"

namespace iopt::mock {

/// ability: the refinements of iommu_domain, as a set.
enum class ability : std::uint32_t {
  none = 0,
  map_runs = 1,
  unmap_runs = 2,
  translate_range = 4,
  sync = 8,
  dirty = 16,
  split = 32,
  protect = 64,
  replace = 128,
  reserved_regions = 256,
  coherency = 512,
  read_back = 1024,
  all = 2047,
};
constexpr ability operator|(ability a, ability b) noexcept {
  return static_cast<ability>(static_cast<std::uint32_t>(a) | static_cast<std::uint32_t>(b));
}
constexpr ability operator&(ability a, ability b) noexcept {
  return static_cast<ability>(static_cast<std::uint32_t>(a) & static_cast<std::uint32_t>(b));
}
constexpr ability operator-(ability a, ability b) noexcept {
  return static_cast<ability>(static_cast<std::uint32_t>(a) & ~static_cast<std::uint32_t>(b));
}
/// Whether `set` has every ability in `wanted`.
constexpr bool has(ability set, ability wanted) noexcept { return (set & wanted) == wanted; }

/// restricted_domain: a Domain that shows only the abilities in Abilities.
///
/// Model    The Domain inside. Without sync, unmap() flushes itself. Without read_back it is an
///          unreadable_domain, and translate() is a violation.
/// Errors   Those of Domain.
/// Cost     That of Domain.
/// Threads  Those of Domain.
/// Tested by tests/backends/mock/restricted_domain_test.cpp
template <class Domain, ability Abilities>
class restricted_domain {
 public:
  static constexpr bool reads_back = has(Abilities, ability::read_back);

  restricted_domain() = default;
  explicit restricted_domain(domain_options options) : inner_(std::move(options)) {}

  /// The domain with all its abilities, for what a test asks.
  Domain& inner() noexcept { return inner_; }
  const Domain& inner() const noexcept { return inner_; }

  result<void> map(iova_range r, physical p, attributes a) { return inner_.map(r, p, a); }
  std::uint64_t unmap(iova_range r) noexcept {
    const std::uint64_t bytes = inner_.unmap(r);
    flush();
    return bytes;
  }
  std::optional<physical> translate(iova v) const {
    if constexpr (!reads_back) inner_.violated("translate: cannot be read back", v.value, v.value);
    return inner_.translate(v);
  }
  page_size_set page_sizes() const { return inner_.page_sizes(); }
  iova_range aperture() const { return inner_.aperture(); }

  result<void> map_runs(iova at, std::span<const run> runs, access_rights rights)
    requires(has(Abilities, ability::map_runs))
  {
    return inner_.map_runs(at, runs, rights);
  }
  std::uint64_t unmap_runs(iova_range r, run_list& out) noexcept
    requires(has(Abilities, ability::unmap_runs))
  {
    const std::uint64_t bytes = inner_.unmap_runs(r, out);
    flush();
    return bytes;
  }
  std::uint64_t translate_range(iova_range r, run_list& out) const noexcept
    requires(has(Abilities, ability::translate_range))
  {
    return inner_.translate_range(r, out);
  }
  void sync() noexcept
    requires(has(Abilities, ability::sync))
  {
    inner_.sync();
  }
  result<void> set_dirty_tracking(bool on)
    requires(has(Abilities, ability::dirty))
  {
    return inner_.set_dirty_tracking(on);
  }
  template <class Record>
    requires(has(Abilities, ability::dirty))
  result<void> read_dirty(iova_range r, dirty_read mode, Record&& record) {
    return inner_.read_dirty(r, mode, std::forward<Record>(record));
  }
  result<void> split(iova_range r)
    requires(has(Abilities, ability::split))
  {
    return inner_.split(r);
  }
  result<void> protect(iova_range r, access_rights rights)
    requires(has(Abilities, ability::protect))
  {
    return inner_.protect(r, rights);
  }
  result<void> replace(iova at, std::span<const run> runs, access_rights rights)
    requires(has(Abilities, ability::replace))
  {
    return inner_.replace(at, runs, rights);
  }
  std::span<const reserved_region> reserved_regions() const noexcept
    requires(has(Abilities, ability::reserved_regions))
  {
    return inner_.reserved_regions();
  }
  bool enforce_cache_coherency() noexcept
    requires(has(Abilities, ability::coherency))
  {
    return inner_.enforce_cache_coherency();
  }

 private:
  void flush() noexcept {
    if constexpr (!has(Abilities, ability::sync)) inner_.sync();
  }

  Domain inner_;
};

/// plain: the five members of iommu_domain and nothing else.
template <class Domain = domain>
using plain = restricted_domain<Domain, ability::read_back>;

/// without: every ability but those taken away.
template <ability Taken, class Domain = domain>
using without = restricted_domain<Domain, ability::all - Taken>;

/// without_split: areas with entries cannot be cut.
template <class Domain = domain>
using without_split = without<ability::split, Domain>;

/// unreadable: a domain that cannot be asked what it holds, as a VFIO container.
template <class Domain = domain>
using unreadable =
    without<ability::read_back | ability::unmap_runs | ability::translate_range, Domain>;

static_assert(iommu_domain<plain<>> && !run_mapping_domain<plain<>> &&
              !run_returning_domain<plain<>> && !range_translating_domain<plain<>> &&
              !flushing_domain<plain<>> && !dirty_tracking_domain<plain<>> &&
              !splitting_domain<plain<>> && !protecting_domain<plain<>> &&
              !replacing_domain<plain<>> && !reserved_regions_domain<plain<>> &&
              !coherency_enforcing_domain<plain<>> && !unreadable_domain<plain<>>);
static_assert(splitting_domain<without<ability::none>> && !splitting_domain<without_split<>> &&
              protecting_domain<without_split<>> && dirty_tracking_domain<without_split<>>);
static_assert(unreadable_domain<unreadable<>> && !run_returning_domain<unreadable<>>);

}  // namespace iopt::mock
