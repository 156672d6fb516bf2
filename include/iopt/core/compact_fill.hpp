// iopt/core/compact_fill.hpp - a compact area into domains, and out again.
//
// What core/fill.hpp does, in the same order and with the same errors, for an area whose memory
// nobody else shares and is one run. No lock of pages is needed, for there are none.
//
// Layer: core. Includes: base, core/attachment.hpp, core/mapped_area.hpp.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "iopt/base/error.hpp"
#include "iopt/base/run.hpp"
#include "iopt/core/attachment.hpp"
#include "iopt/core/mapped_area.hpp"

namespace iopt::detail {

/// compact_transfer: the moves between one compact area and the domains of its table.
template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
class compact_transfer {
 public:
  using area_type = compact_area<Pinner, Traits>;
  using attachment_type = attachment<Domain, Traits>;
  using attachment_list = std::span<attachment_type* const>;

  compact_transfer(area_type& a, typename Traits::readers& readers, bool large_pages) noexcept
      : area_(a), readers_(readers), page_by_page_(large_pages ? 0 : Traits::page_bytes) {}

  /// Pins pages of the area, from the first on, until done, or a second run begins, or `out` is full;
  /// charged where that is done while pinning. Requires: `out` is empty and has room.
  /// Errors: those of the pinner, with the byte of the area. On error nothing is pinned.
  result<void> take(run_list& out) {
    const user_range all = area_.at_origin();
    std::uint64_t charged = 0;
    do {
      const std::uint64_t before = out.bytes();
      user_range rest = all;
      rest.first += before;
      result<void> done = area_.origin().take(rest, area_.pin_rights(), out);
      if (done && out.bytes() == before) done = fail(errc::bad_address);  // as the kernel has it
      if (done && charges_while_pinning(area_.origin().is.mode)) {
        const std::uint64_t fresh = pinned_pages(out.view()) - charged;
        done = area_.origin().charge(fresh);
        if (done) charged += fresh;
      }
      if (!done) {
        unpin(out.view());
        area_.origin().uncharge(charged);
        const std::uint64_t byte = before == 0 ? 0 : before - area_.page_offset();
        return fail({done.error().code, error_place::request_byte, byte});
      }
    } while (out.size() == 1 && out.bytes() < all.length() && !out.full());
    return {};
  }
  /// Gives back what take() gave.
  void forgo(std::span<const run> taken) noexcept {
    unpin(taken);
    if (charges_while_pinning(area_.origin().is.mode)) area_.origin().uncharge(pinned_pages(taken));
  }
  /// Whether what take() gave is all that a compact area can be.
  bool is_whole(const run_list& taken) const noexcept {
    return taken.size() == 1 && taken.begin()->type() == memory_type::cached &&
           taken.bytes() == area_.page_count() * Traits::page_bytes;
  }

  /// Shows what take() gave, which is whole, in domains that do not show the area yet.
  /// Errors: those of the domains, with the number of the domain and the byte; over the account's
  /// limit. On error nothing is pinned and no domain shows it.
  result<void> show(const run_list& first, attachment_list domains) {
    area_.frame = first.begin()->first;
    // The account is asked before the domains, whose answer comes first nevertheless: what they write is
    // on its way to memory then, with no locked instruction behind it that would wait.
    result<void> charged{};
    if (!charges_while_pinning(area_.origin().is.mode))
      charged = area_.origin().charge(area_.page_count());
    const result<void> mapped = put_in(domains);
    if (mapped && charged) {
      area_.held = true;
      area_.filled = fill_state::done;
      if (area_.in_family) area_.family->pinned += area_.page_count();
      return {};
    }
    if (mapped) {
      take_out(domains);
      flush(domains);
    }
    if (charged) area_.origin().uncharge(area_.page_count());
    readers_.wait();
    if (!area_.lost) area_.origin().is.pinner->unpin(area_.frames(), area_.writable());
    return mapped ? charged : mapped;
  }

  /// Shows an area that other domains hold in these as well, all or none.
  result<void> put_in(attachment_list domains) {
    const run shown = area_.shown();
    for (std::size_t n = 0; n < domains.size(); ++n) {
      const result<void> mapped =
          domains[n]->put_in(area_.where.first, {&shown, 1}, area_.rights, page_by_page_);
      if (mapped) continue;
      take_out(domains.first(n));
      flush(domains.first(n));
      return fail({mapped.error().code, error_place::domain, mapped.error().at,
                   static_cast<std::uint32_t>(n)});
    }
    return {};
  }

  /// Takes the area out of domains, which the caller flushes. False: one came back short, and the
  /// pages stay pinned for ever.
  bool take_out(attachment_list domains) noexcept {
    bool complete = true;
    for (attachment_type* d : domains) complete = d->take_out(area_.where) && complete;
    area_.lost = area_.lost || !complete;
    return complete;
  }

  /// Gives the pages back, when no device uses them any more.
  void give_back() noexcept {
    if (area_.held && !area_.lost) {
      area_.origin().is.pinner->unpin(area_.frames(), area_.writable());
      area_.origin().uncharge(area_.page_count());
      if (area_.in_family) area_.family->pinned -= area_.page_count();
    }
    area_.held = false;
  }

 private:
  static std::uint64_t pinned_pages(std::span<const run> runs) noexcept {
    std::uint64_t bytes = 0;
    for (const run& r : runs) bytes += r.type() == memory_type::cached ? r.length_bytes : 0;
    return bytes / Traits::page_bytes;
  }
  void unpin(std::span<const run> runs) noexcept {
    for (const run& r : runs)
      if (r.type() == memory_type::cached) area_.origin().is.pinner->unpin(r, area_.writable());
  }
  static void flush(attachment_list domains) noexcept { attachment_type::flush_all(domains); }

  area_type& area_;
  typename Traits::readers& readers_;
  std::uint64_t page_by_page_;  // 0: large entries are welcome
};

}  // namespace iopt::detail
