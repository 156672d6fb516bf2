// iopt/core/claims.hpp - io_pagetable: who needs the list of domains to stay, and who changes it.
//
// A map and an unmap go through every domain, outside of the lock of the areas. A lock of its own
// for the list costs each of them two locked instructions, for what hardly ever happens. So an area
// in flight, which they have anyway, stands for it: whoever changes the list keeps new areas from
// being taken in flight, and waits until those that are have landed. He looks for them, and lets
// others run in between; nobody wakes him, for those who land do not know of him.
//
// Layer: core. Includes: core/io_pagetable.hpp.
#pragma once

#include "iopt/core/io_pagetable.hpp"

namespace iopt {

/// areas_lock_, for an operation that is about to make a claim, its first or another.
template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
class io_pagetable<Pinner, Domain, Traits>::domains_claimed {
 public:
  explicit domains_claimed(io_pagetable& t, bool first = true) : table_(t) {
    table_.areas_lock_.lock();
    while (Traits::concurrent && first && table_.closing_) {
      table_.areas_lock_.unlock();
      {
        detail::shared_lock until_changed(table_.domains_lock_);
      }
      table_.areas_lock_.lock();
    }
  }
  ~domains_claimed() { table_.areas_lock_.unlock(); }
  domains_claimed(const domains_claimed&) = delete;
  domains_claimed& operator=(const domains_claimed&) = delete;

 private:
  io_pagetable& table_;
};

/// domains_lock_ and areas_lock_, exclusively, with no area in flight.
template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
class io_pagetable<Pinner, Domain, Traits>::domains_mine {
 public:
  explicit domains_mine(io_pagetable& t) : table_(t) {
    table_.domains_lock_.lock();
    table_.areas_lock_.lock();
    table_.closing_ = true;
    while (Traits::concurrent && any_claim()) {
      table_.areas_lock_.unlock();
      Traits::yield();
      table_.areas_lock_.lock();
    }
  }
  ~domains_mine() {
    table_.closing_ = false;
    table_.areas_lock_.unlock();
    table_.domains_lock_.unlock();
  }
  domains_mine(const domains_mine&) = delete;
  domains_mine& operator=(const domains_mine&) = delete;

 private:
  bool any_claim() const noexcept {
    for (auto c = table_.areas_.begin(); c.valid(); c.next())
      if (c.value()->is_in_flight()) return true;
    return false;
  }

  io_pagetable& table_;
};

}  // namespace iopt
