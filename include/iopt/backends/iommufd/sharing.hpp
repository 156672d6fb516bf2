// iopt/backends/iommufd/sharing.hpp - address spaces that show the same memory, pinned once.
//
// Each IOAS that maps an address pins the pages there anew, and counts them anew. IOMMU_IOAS_COPY shares
// them instead. A table with two domains tells each of them to map the same memory at the same IOVA:
// members of one `sharing` notice, and the second copies from the first.
//
// Layer: backends. Includes: base, containers.
#pragma once

#include <cstdint>
#include <mutex>
#include <utility>

#include "iopt/base/address.hpp"
#include "iopt/base/assert.hpp"
#include "iopt/base/error.hpp"
#include "iopt/base/range.hpp"
#include "iopt/containers/area_map.hpp"

namespace iopt::dev_iommu {

/// sharing: what each address space of an iommufd has mapped where.
///
/// Model       For each member a set of (range, memory). Requires: what members show at the same IOVA from
///             the same address is the same memory: the domains of one table, or memory that stays.
/// Ownership   Members register in it; it outlives them.
/// Cost        n entries of a member, m members: O(m log n) a map, O(log n) an unmap; 24 bytes an entry.
/// Threads     Any.
/// Tested by   tests/backends/iommufd/sharing_test.cpp
class sharing {
 public:
  sharing() = default;
  sharing(const sharing&) = delete;
  sharing& operator=(const sharing&) = delete;

  /// member: one address space's part.
  class member {
   public:
    member(sharing& in, std::uint32_t ioas) : in_(&in), ioas_(ioas) {
      const std::lock_guard guard(in_->lock_);
      next_ = std::exchange(in_->first_, this);
    }
    member(const member&) = delete;
    member& operator=(const member&) = delete;
    ~member() {
      const std::lock_guard guard(in_->lock_);
      member** at = &in_->first_;
      while (*at != this) at = &(*at)->next_;
      *at = next_;
    }

    /// Afterwards a keep() cannot fail.
    result<void> reserve() {
      const std::lock_guard guard(in_->lock_);
      return entries_.reserve(1);
    }
    /// Calls copy(ioas) for each other member that shows `memory` in all of r, until one answers true.
    /// Nothing that is copied goes away meanwhile.
    template <class Copy>
    bool copied(iova_range r, std::uint64_t memory, Copy copy) {
      const std::lock_guard guard(in_->lock_);
      for (const member* other = in_->first_; other != nullptr; other = other->next_) {
        if (other == this) continue;
        const auto c = other->entries_.find(r.first);
        if (c && c.range().contains(r) && c.value() + (r.first - c.range().first) == memory &&
            copy(other->ioas_))
          return true;
      }
      return false;
    }
    void keep(iova_range r, std::uint64_t memory) noexcept {
      const std::lock_guard guard(in_->lock_);
      const result<void> kept = entries_.insert(r, memory);
      IOPT_ASSERT(kept.has_value());
      static_cast<void>(kept);
    }
    /// Nobody copies from r any more. To be called before it is unmapped.
    void forget(iova_range r) noexcept {
      const std::lock_guard guard(in_->lock_);
      for (auto c = entries_.first_overlap(r); c && c.range().first <= r.last;) entries_.erase(c);
    }

   private:
    sharing* in_;
    std::uint32_t ioas_;
    area_map<iova, std::uint64_t> entries_;
    member* next_ = nullptr;
  };

 private:
  std::mutex lock_;
  member* first_ = nullptr;
};

}  // namespace iopt::dev_iommu
