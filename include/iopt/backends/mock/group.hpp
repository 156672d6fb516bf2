// iopt/backends/mock/group.hpp - a group of devices that exist in name only.
//
// Layer: backends/mock. Includes: backends/mock/domain.hpp, policy/iommu_group.hpp.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <functional>
#include <new>
#include <span>
#include <utility>
#include <vector>

#include "iopt/backends/mock/domain.hpp"
#include "iopt/backends/mock/domain_options.hpp"
#include "iopt/base/assert.hpp"
#include "iopt/policy/iommu_group.hpp"

namespace iopt::mock {

/// domain_description: a type of description that a group knows: how long it is, and how it changes what
/// domains are like.
struct domain_description {
  std::uint32_t type = 0;
  std::size_t bytes = 0;
  result<domain_options> (*apply)(domain_options usual, std::span<const std::byte> said) = nullptr;
};

/// group_options: what a group's devices are like.
struct group_options {
  domain_options domains{};  // what domains they translate through
  std::vector<reserved_region> reserved{};
  const void* iommu = nullptr;  // groups with the same may share a domain
  bool isolates_msi = true;
  bool shares_domains = true;  // whether it attaches to another group's domain
  bool nests = false;
  bool is_coherent = true;
  hardware_info hardware{};
  domain_description described{};
};

/// basic_group: an iommu_group whose domains are mock domains, or less than that
/// (backends/mock/restricted_domain.hpp).
///
/// Model       The domains that it made and that are not destroyed, and the one it is attached to.
/// Invariants  Attached to at most one. Destroyed domains are ones that it made. A group that dies
///             has destroyed every domain and is attached to none.
/// Errors      attach(), replace(): invalid_argument for a domain of another group where it does not
///             share. And what the fault_injector of its domains makes fail.
/// Threads     Thread-compatible.
/// Tested by   tests/backends/mock/group_test.cpp
template <class Domain>
class basic_group final : public iommu_group<Domain> {
 public:
  using seen = std::function<void(Domain&)>;

  /// `made` is told of each new domain: a pinner that watches it, for one.
  explicit basic_group(group_options options = {}, seen made = {})
      : options_(std::move(options)), made_(std::move(made)) {}
  basic_group(const basic_group&) = delete;
  basic_group& operator=(const basic_group&) = delete;
  ~basic_group() { IOPT_ASSERT(domains_.empty() && at_ == nullptr); }

  result<Domain*> create_domain() override { return create_domain(options_.domains); }
  std::size_t description_bytes(std::uint32_t type) const noexcept override {
    return type == options_.described.type ? options_.described.bytes : 0;
  }
  result<Domain*> create_domain(std::uint32_t type, std::span<const std::byte> said) override {
    IOPT_ASSERT(description_bytes(type) != 0);
    const result<domain_options> what = options_.described.apply(options_.domains, said);
    return what ? create_domain(*what) : fail(what.error());
  }
  void destroy_domain(Domain& d) noexcept override {
    IOPT_ASSERT(made(d) && at_ != &d);
    std::erase(domains_, &d);
    delete &d;
  }
  result<void> attach(Domain& d) override {
    IOPT_ASSERT(at_ == nullptr);
    return go_to(d);
  }
  void detach(Domain& d) noexcept override {
    IOPT_ASSERT(at_ == &d);
    at_ = nullptr;
  }
  result<void> replace(Domain& from, Domain& to) override {
    IOPT_ASSERT(at_ == &from);
    return go_to(to);
  }
  result<void> enable_nesting(Domain&) override {
    if (!options_.nests) return fail(errc::invalid_argument);
    if (fails(fault_point::enable_nesting)) return refused(fault_point::enable_nesting);
    return {};
  }
  std::span<const reserved_region> reserved_regions() const noexcept override {
    return options_.reserved;
  }
  const void* iommu() const noexcept override { return options_.iommu; }
  bool isolates_msi() const noexcept override { return options_.isolates_msi; }
  bool is_coherent() const noexcept override { return options_.is_coherent; }
  bool tracks_dirty() const noexcept override {
    return dirty_tracking_domain<Domain> && options_.domains.tracks_dirty;
  }
  hardware_info hardware() const noexcept override { return options_.hardware; }

  /// The domain that the devices translate through.
  Domain* attached() const noexcept { return at_; }
  /// How many domains it made that are alive.
  std::size_t domains() const noexcept { return domains_.size(); }

 private:
  result<Domain*> create_domain(const domain_options& what) {
    if (fails(fault_point::create_domain)) return refused(fault_point::create_domain);
    Domain* const fresh = new (std::nothrow) Domain(what);
    if (fresh == nullptr) return fail(errc::not_enough_memory);
    domains_.push_back(fresh);
    if (made_) made_(*fresh);
    return fresh;
  }
  bool fails(fault_point point) const noexcept {
    return options_.domains.faults != nullptr && options_.domains.faults->fails(point);
  }
  std::unexpected<error> refused(fault_point point) const noexcept {
    return fail(options_.domains.faults->error_of(point));
  }
  result<void> go_to(Domain& d) {
    if (!made(d) && !options_.shares_domains) return fail(errc::invalid_argument);
    if (fails(fault_point::attach_group)) return refused(fault_point::attach_group);
    at_ = &d;
    return {};
  }
  bool made(const Domain& d) const noexcept {
    return std::find(domains_.begin(), domains_.end(), &d) != domains_.end();
  }

  group_options options_;
  seen made_;
  std::vector<Domain*> domains_;
  Domain* at_ = nullptr;
};

/// group: the usual one.
using group = basic_group<domain>;

}  // namespace iopt::mock
