// iopt/uapi/vfio/spapr_entries.hpp - TCE entries as pages of the engine.
//
// An IOMMU page of a TCE table may be smaller than the CPU's page (4 KiB in 64 KiB) or larger (16
// MiB), and the kernel pins one CPU page an entry, in either case. So a window's io_pagetable does
// not count in bytes: one of its pages is one entry, whatever that is. Both policies it is given are
// adapters that scale the addresses, 4 KiB of the engine's to 2^n of the real ones:
//
//   tce_pinner   v1: pins one CPU page an entry, always to write; its frames are the entries' targets.
//                v2: pins nothing, and uses registered memory; its "frames" are the user's addresses,
//                    so that a mapping is one run however its memory lies, and can be given back.
//   tce_view     writes the entries: in v2 it looks up where the registered memory is.
//
// The view cannot be read back, so the engine keeps what an entry shows. That is the mirror of user
// addresses that the kernel keeps beside a table in v2; in v1, where the kernel asks the table, it is
// 16 bytes for each contiguous piece more.
//
// Layer: uapi. Includes: base, core, policy, uapi/vfio/spapr_memory.hpp.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <span>

#include "iopt/core/domain_calls.hpp"
#include "iopt/policy/backing_page.hpp"
#include "iopt/policy/page_pinner.hpp"
#include "iopt/policy/tce_group.hpp"
#include "iopt/uapi/vfio/spapr_memory.hpp"

namespace iopt::vfio {

/// entry_scale: real addresses, and the engine's: of an entry's first byte, the entry's number times
/// 4 KiB.
struct entry_scale {
  static constexpr unsigned page_lg2 = 12;
  static constexpr std::uint64_t page_bytes = std::uint64_t{1} << page_lg2;

  unsigned entry_lg2;  // at least page_lg2

  std::uint64_t entry_bytes() const noexcept { return std::uint64_t{1} << entry_lg2; }
  /// Of whole entries.
  std::uint64_t scaled(std::uint64_t real) const noexcept { return real >> entry_lg2 << page_lg2; }
  std::uint64_t real(std::uint64_t scaled_bytes) const noexcept {
    return scaled_bytes >> page_lg2 << entry_lg2;
  }
  template <class Address>
  closed_range<Address> scaled(closed_range<Address> r) const noexcept {
    return {{scaled(r.first.value)}, {scaled(r.last.value) | (page_bytes - 1)}};
  }
  template <class Address>
  closed_range<Address> real(closed_range<Address> r) const noexcept {
    return {{real(r.first.value)}, {real(r.last.value) | (entry_bytes() - 1)}};
  }
};

/// tce_pinner: the page_pinner of one window.
///
/// Model       As page_pinner, of pages that are entries. With a space, pins are uses of registered
///             memory, and frames are user addresses.
/// Errors      pin(): v1 bad_address; operation_not_permitted, the entry shows more than the page
///             behind it, or does not lie as it does. v2 invalid_argument, nothing is registered.
/// Tested by   tests/uapi/vfio/spapr_entries_test.cpp
template <page_pinner Pinner, table_traits Traits>
class tce_pinner {
 public:
  using owner = typename Pinner::owner;
  using memory_type = spapr_memory<Pinner, Traits>;
  using space_type = typename memory_type::space;

  tce_pinner(memory_type& memory, space_type* space, entry_scale scale) noexcept
      : memory_(memory), space_(space), scale_(scale) {}

  owner current() { return inner().current(); }
  result<void> pin(const owner& who, user_range where, access_rights, run_list& out) {
    const user_range real = scale_.real(where);
    if (space_ != nullptr) return use(real, out);
    return scale_.entry_bytes() == cpu_page ? pin_pages(who, real, out) : pin_each(who, real, out);
  }
  void unpin(run r, bool dirty) noexcept {
    const std::uint64_t first = scale_.real(r.first.value);
    const std::uint64_t bytes = scale_.real(r.length_bytes);
    if (space_ != nullptr)
      return memory_.unuse(*space_, user_range::sized({first}, bytes), scale_.entry_lg2);
    if (scale_.entry_bytes() == cpu_page) return inner().unpin(run({first}, bytes), dirty);
    for (std::uint64_t done = 0; done < bytes; done += scale_.entry_bytes())
      inner().unpin(run({align_down(first + done, cpu_page)}, cpu_page), dirty);
  }
  bool reachable(const owner& who) noexcept { return inner().reachable(who); }
  /// The window was charged for as a whole, or the memory when it was registered.
  result<void> charge(const owner&, account_mode, std::uint64_t) { return {}; }
  void uncharge(const owner&, account_mode, std::uint64_t) noexcept {}

 private:
  static constexpr std::uint64_t cpu_page = Traits::page_bytes;

  Pinner& inner() noexcept { return memory_.pinner(); }
  run entry(std::uint64_t real) const noexcept {
    return run({scale_.scaled(real)}, entry_scale::page_bytes);
  }

  result<void> use(user_range real, run_list& out) {
    constexpr std::uint64_t most = std::uint64_t{1} << 58;  // of one run
    if (real.length_minus_one() >= most) real.last = real.first + (most - 1);
    const result<std::uint64_t> bytes = memory_.use(*space_, real, scale_.entry_lg2);
    if (!bytes) return fail(bytes.error());
    out.append_fitting(run({scale_.scaled(real.first.value)}, scale_.scaled(*bytes)));
    return {};
  }

  /// Entries that are pages of the CPU: many in one call.
  result<void> pin_pages(const owner& who, user_range real, run_list& out) {
    run place[32];
    run_list some{std::span(place).first(std::min<std::size_t>(32, out.capacity() - out.size()))};
    if (!inner().pin(who, real, access_rights::read_write, some)) return fail(errc::bad_address);
    bool good = true;
    bool any = false;
    for (const run& r : some) {
      // Memory that is kept apart has no page to be pinned.
      if (r.type() != memory_type_of_pages) {
        good = false;
      } else if (good) {
        any = out.append(run({scale_.scaled(r.first.value)}, scale_.scaled(r.length_bytes)));
      } else {
        inner().unpin(r, false);
      }
    }
    if (!any) return fail(errc::bad_address);
    return {};
  }

  /// Entries of another size: a page of the CPU for each.
  result<void> pin_each(const owner& who, user_range real, run_list& out) {
    const std::uint64_t bytes = scale_.entry_bytes();
    for (user_address at = real.first; !out.full(); at += bytes) {
      const result<std::uint64_t> target = pin_one(who, at);
      if (!target) return at == real.first ? result<void>(fail(target.error())) : result<void>{};
      out.append_fitting(entry(*target));
      if (real.last - at == bytes - 1) break;
    }
    return {};
  }
  /// Where the entry for `at` points.
  result<std::uint64_t> pin_one(const owner& who, user_address at) {
    run place[1];
    run_list one{place};
    const user_range page = user_range::sized({align_down(at.value, cpu_page)}, cpu_page);
    if (!inner().pin(who, page, access_rights::read_write, one) ||
        one[0].type() != memory_type_of_pages)
      return fail(errc::bad_address);
    const run frame = one[0];
    const std::uint64_t bytes = scale_.entry_bytes();
    if (bytes > cpu_page) {
      const backing_page behind = backing_page_of(inner(), frame.first, cpu_page);
      if (behind.length_bytes < bytes || !frame.first.is_aligned(bytes)) {
        inner().unpin(frame, false);
        return fail(errc::operation_not_permitted);
      }
    }
    return frame.first.value + at.value % cpu_page;
  }

  static constexpr iopt::memory_type memory_type_of_pages = iopt::memory_type::cached;

  memory_type& memory_;
  space_type* space_;  // null: v1
  entry_scale scale_;
};

/// tce_view: the iommu_domain of one window, over its table.
///
/// Model       T of the table, by entries.
/// Errors      Those of the table. A refused replace() may have replaced what comes before the
///             refusal, which the engine then takes back.
/// Cost        A call of the table for 32 runs.
/// Tested by   tests/uapi/vfio/spapr_entries_test.cpp
template <page_pinner Pinner, tce_table Table, table_traits Traits>
class tce_view {
 public:
  using memory_type = spapr_memory<Pinner, Traits>;
  using space_type = typename memory_type::space;
  static constexpr bool reads_back = false;

  tce_view(memory_type& memory, space_type* space, Table& table, entry_scale scale) noexcept
      : memory_(memory), space_(space), table_(table), scale_(scale) {}

  result<void> map(iova_range r, physical p, attributes a) {
    // A run may be shorter than a range.
    constexpr std::uint64_t most = std::uint64_t{1} << 58;
    for (std::uint64_t done = 0, left = r.length_minus_one();; done += most, left -= most) {
      const run one(p + done, std::min(left, most - 1) + 1, a.type);
      if (const result<void> shown = show<false>(r.first + done, {&one, 1}, a.rights); !shown) {
        if (done != 0) unmap(iova_range::sized(r.first, done));
        return shown;
      }
      if (left < most) return {};
    }
  }
  result<void> map_runs(iova at, std::span<const run> runs, access_rights rights) {
    return show<false>(at, runs, rights);
  }
  std::uint64_t unmap(iova_range r) noexcept { return scale_.scaled(table_.unmap(scale_.real(r))); }
  std::optional<physical> translate(iova) const { return std::nullopt; }
  page_size_set page_sizes() const { return {entry_scale::page_bytes}; }
  iova_range aperture() const { return scale_.scaled(table_.aperture()); }
  result<void> split(iova_range r) { return table_.split(scale_.real(r)); }
  result<void> replace(iova at, std::span<const run> runs, access_rights rights) {
    return show<true>(at, runs, rights);
  }
  void sync() noexcept
    requires flushing_domain<Table>
  {
    table_.sync();
  }

  /// The IOVA of the first entry that the last refused call did not write.
  iova refused_at() const noexcept { return refused_at_; }
  /// Until then, what refused_at() answers.
  void expect_refusal_at(iova at) noexcept { refused_at_ = at; }

 private:
  template <bool Replaces>
  result<void> show(iova at, std::span<const run> runs, access_rights rights) {
    const iova first{scale_.real(at.value)};
    std::uint64_t done = 0;
    const auto write = [&](const run_list& some) {
      result<void> written{};
      if constexpr (Replaces) {
        written = table_.replace(first + done, some.view(), rights);
      } else {
        written = detail::map_runs(table_, first + done, some.view(), rights, 0);
      }
      if (written) done += some.bytes();
      return written;
    };
    run place[32];
    result<void> written{};
    while (written && !runs.empty()) {
      run_list some{place};
      if (space_ == nullptr) {
        while (!runs.empty() && some.append(run({scale_.real(runs.front().first.value)},
                                                scale_.real(runs.front().length_bytes))))
          runs = runs.subspan(1);
        written = write(some);
        continue;
      }
      const user_range shown = user_range::sized({scale_.real(runs.front().first.value)},
                                                 scale_.real(runs.front().length_bytes));
      for (user_address next = shown.first;;) {
        some = run_list{place};
        memory_.read(*space_, {next, shown.last}, some);
        IOPT_ASSERT(!some.empty());
        written = write(some);
        if (!written || shown.last - next < some.bytes()) break;
        next += some.bytes();
      }
      runs = runs.subspan(1);
    }
    if (written) return {};
    refused_at_ = first + done;
    if (!Replaces && done != 0) {
      detail::unmap_whole(table_, iova_range::sized(first, done));
      detail::sync(table_);
    }
    return written;
  }

  memory_type& memory_;
  space_type* space_;
  Table& table_;
  entry_scale scale_;
  iova refused_at_{};
};

}  // namespace iopt::vfio
