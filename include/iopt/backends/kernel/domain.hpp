// iopt/backends/kernel/domain.hpp - a kernel's struct iommu_domain as an iommu_domain.
//
// It has the abilities that every driver of the kernel has: the least domain, gathered flushes and
// the question of cache coherency. Nothing splits, protects or replaces an entry in place there, and
// what a driver's dirty tracking fills is a bitmap of the caller's: areas that a domain holds can be cut
// once large pages are off, as in iommufd. The reserved regions belong to devices: who attaches one
// tells them to io_pagetable::reserve().
//
// Layer: backends. Includes: base, policy, backends/kernel.
#pragma once

#include <cstdint>
#include <optional>

#include "iopt/backends/kernel/operations.h"
#include "iopt/backends/kernel/pinner.hpp"
#include "iopt/base/access.hpp"
#include "iopt/base/address.hpp"
#include "iopt/base/error.hpp"
#include "iopt/base/page_sizes.hpp"
#include "iopt/base/range.hpp"
#include "iopt/policy/iommu_domain.hpp"

namespace iopt::kernel {

/// domain: one of a kernel's domains, through a table of its functions.
///
/// Model       T is what the kernel's domain translates. It has no byte at physical address 0, which the
///             kernel answers where nothing is mapped.
/// Ownership   Refers to the table and the kernel's domain, which outlive it. Not copyable: an engine
///             knows a domain by where it lies.
/// Errors      The kernel's.
/// Cost        A call of the kernel each. Of rights, read and write are told: the kernel maps user
///             memory without IOMMU_NOEXEC, and so does this.
/// Threads     As the table's functions.
/// Tested by   tests/backends/kernel/kernel_test.cpp
class domain {
 public:
  domain(const iopt_kernel_operations& operations, void* of_kernel) noexcept
      : operations_(&operations), domain_(of_kernel) {}
  domain(const domain&) = delete;
  domain& operator=(const domain&) = delete;

  void* of_kernel() const noexcept { return domain_; }

  result<void> map(iova_range r, physical p, attributes a) noexcept {
    return detail::answer(
        operations_->iommu_map(domain_, r.first.value, p.value, r.length(), prot_of(a)));
  }
  std::uint64_t unmap(iova_range r) noexcept {
    return operations_->iommu_unmap_fast(domain_, r.first.value, r.length());
  }
  void sync() noexcept { operations_->iommu_iotlb_sync(domain_); }
  std::optional<physical> translate(iova v) const noexcept {
    const std::uint64_t p = operations_->iova_to_phys(domain_, v.value);
    if (p == 0) return std::nullopt;
    return physical{p};
  }
  page_size_set page_sizes() const noexcept {
    return page_size_set::from_bitmap(operations_->pgsize_bitmap(domain_));
  }
  iova_range aperture() const noexcept {
    iova_range all{};
    operations_->geometry(domain_, &all.first.value, &all.last.value);
    return all;
  }
  bool enforce_cache_coherency() noexcept {
    return operations_->enforce_cache_coherency(domain_) != 0;
  }

 private:
  static constexpr int prot_of(attributes a) noexcept {
    return (allows(a.rights, access_rights::read) ? IOPT_KERNEL_IOMMU_READ : 0) |
           (allows(a.rights, access_rights::write) ? IOPT_KERNEL_IOMMU_WRITE : 0) |
           (a.type == memory_type::mmio ? IOPT_KERNEL_IOMMU_MMIO : IOPT_KERNEL_IOMMU_CACHE);
  }

  const iopt_kernel_operations* operations_;
  void* domain_;
};
static_assert(flushing_domain<domain> && coherency_enforcing_domain<domain>);

}  // namespace iopt::kernel
