// iopt/core/attachment.hpp - a domain in a table.
//
// What goes into a domain and comes out of it passes here: one call at a time, unless the domain
// says that it serialises by itself; nothing more goes into one that has come back short.
//
// Layer: core. Includes: base, core/domain_calls.hpp, core/traits.hpp, policy/iommu_domain.hpp.
#pragma once

#include <cstdint>
#include <span>
#include <utility>

#include "iopt/base/error.hpp"
#include "iopt/base/range.hpp"
#include "iopt/base/run.hpp"
#include "iopt/core/domain_calls.hpp"
#include "iopt/core/traits.hpp"
#include "iopt/policy/iommu_domain.hpp"

namespace iopt {

/// attachment: a domain in a table, and what its removal will need.
template <iommu_domain Domain, table_traits Traits>
struct attachment {
  Domain* domain;
  [[no_unique_address]] typename Traits::mutex mutex{};
  typename Traits::template counter<bool> poisoned{false};  // it came back short: it takes no more
  bool stale = false;     // something was taken out of it since its last flush
  bool tracking = false;  // dirty tracking is on

  explicit attachment(Domain& d) noexcept : domain(&d) {}

  /// Held while one of the domain's functions runs.
  class call {
   public:
    explicit call(attachment& to) : to_(to) {
      if constexpr (!concurrent_domain<Domain>) to_.mutex.lock();
    }
    ~call() {
      if constexpr (!concurrent_domain<Domain>) to_.mutex.unlock();
    }
    call(const call&) = delete;
    call& operator=(const call&) = delete;

   private:
    attachment& to_;
  };

  /// Maps runs, one behind the other, from `at` on. Errors: io_error, it has come back short; those
  /// of detail::map_runs(). On error none is mapped.
  result<void> put_in(iova at, std::span<const run> runs, access_rights rights,
                      std::uint64_t page_by_page) {
    call guard(*this);
    if (poisoned) return fail({errc::io_error, error_place::domain, 0});
    return detail::map_runs(*domain, at, runs, rights, page_by_page);
  }

  /// Unmaps, and leaves it to the caller to flush. False: the domain came back short.
  bool take_out(iova_range where) noexcept {
    call guard(*this);
    mark_stale();
    const bool complete = detail::unmap_whole(*domain, where);
    if (!complete) poisoned = true;
    return complete;
  }

  /// Requires: in a call. (Others flush a concurrent_domain at any time, so there a mark says nothing.)
  void mark_stale() noexcept {
    if constexpr (!concurrent_domain<Domain>) stale = true;
  }

  /// No device uses what was taken out before.
  void flush() noexcept {
    if constexpr (flushing_domain<Domain>) {
      call guard(*this);
      if constexpr (concurrent_domain<Domain>) {
        domain->sync();
      } else if (std::exchange(stale, false)) {
        domain->sync();
      }
    }
  }
  static void flush_all(std::span<attachment* const> domains) noexcept {
    if constexpr (flushing_domain<Domain>)
      for (attachment* d : domains) d->flush();
  }
};

}  // namespace iopt
