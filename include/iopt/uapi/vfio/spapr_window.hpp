// iopt/uapi/vfio/spapr_window.hpp - what a DMA window shows: an io_pagetable of TCE entries.
//
// One mapping, as the container's ioctl has it, overwrites whatever its entries showed. To the engine
// that is, piece by piece from the left, a map where nothing is and a remap where something is: the
// old pages are given back when the new ones are shown, with no moment in between.
//
// Each piece is all or nothing. Where one fails, the entries before the failing one are cleared, and
// so is lost what they showed before the call: that is what the kernel does. Where the table itself
// refuses, the first entry of the refused call (of up to 32 runs) counts as the failing one.
//
// Layer: uapi. Includes: core, policy, uapi/vfio/spapr_entries.hpp.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string_view>

#include "iopt/core/io_pagetable.hpp"
#include "iopt/uapi/vfio/spapr_entries.hpp"

namespace iopt::vfio {

/// spapr_window: the entries of one TCE table.
///
/// Model       A partial function from entries to pages of user memory, with rights.
/// Ownership   Refers to the table and the registered memory.
/// Errors      A failed put() clears what comes before the failing entry.
/// Cost        As io_pagetable: a mapping is one area, however many entries it has. A clear() that
///             cuts a mapping needs memory, which the kernel does not.
/// Threads     As io_pagetable, but for put(): one at a time.
/// Tested by   tests/uapi/vfio/spapr_window_test.cpp
template <page_pinner Pinner, tce_table Table, table_traits Traits = single_threaded>
class spapr_window {
  /// A page of the engine is an entry.
  struct entry_traits : Traits {
    static constexpr std::uint64_t page_bytes = entry_scale::page_bytes;
    static constexpr std::uint64_t huge_page_bytes = page_bytes;
  };

 public:
  using pinner_type = tce_pinner<Pinner, Traits>;
  using view_type = tce_view<Pinner, Table, Traits>;
  using table_type = io_pagetable<pinner_type, view_type, entry_traits>;
  using memory_type = spapr_memory<Pinner, Traits>;
  using space_type = typename memory_type::space;
  using owner_type = typename Pinner::owner;

  /// With a space, entries show registered memory of it.
  spapr_window(memory_type& memory, space_type* space, Table& table,
               typename Traits::memory source = {})
      : table_(table),
        scale_{log2_exact(table.page_sizes().smallest())},
        pinner_(memory, space, scale_),
        view_(memory, space, table, scale_),
        entries_(pinner_, source) {
    entries_.set_account_mode(account_mode::none);
  }
  spapr_window(const spapr_window&) = delete;
  spapr_window& operator=(const spapr_window&) = delete;

  /// To be called once, before anything else. Errors: not_enough_memory.
  result<void> open() { return entries_.attach(view_); }

  Table& table() const noexcept { return table_; }
  iova_range range() const { return table_.aperture(); }
  std::uint64_t page_bytes() const noexcept { return scale_.entry_bytes(); }

  /// Shows memory, whatever was shown there. Requires: whole entries inside the range, of memory
  /// that does not wrap.
  /// Errors: those of tce_pinner and of the table; not_enough_memory.
  result<void> put(const owner_type& owner, iova_range where, user_address from,
                   access_rights rights) {
    const iova_range all = scale_.scaled(where);
    const user_address memory{scale_.scaled(from.value)};
    for (iova next = all.first;;) {
      const iova last = last_of_piece({next, all.last});
      const auto what = entries_.user_memory(owner, memory + (next - all.first));
      view_.expect_refusal_at({scale_.real(next.value)});
      result<void> done{};
      if (is_shown(next)) {
        done = entries_.remap({next, last}, what, rights);
      } else {
        const result<iova> mapped = entries_.map(what, last - next + 1, rights, next);
        if (!mapped) done = fail(mapped.error());
      }
      if (!done) {
        forget({all.first, all.last}, next, done.error());
        return fail(done.error().code);
      }
      if (last == all.last) return {};
      next = last + 1;
    }
  }

  /// The entries show nothing. Requires: as put().
  /// Errors: not_enough_memory, a mapping would have to be cut in two; those of the table's split();
  /// io_error, the table came back short. On the first two nothing changed.
  result<void> clear(iova_range where) {
    const iova_range r = scale_.scaled(where);
    return entries_.unmap(r.first, r.length(), unmap_profile::hole_punching).outcome;
  }
  void clear_all() noexcept { static_cast<void>(entries_.unmap_all()); }

  /// The engine's table, to look at.
  const table_type& entries() const noexcept { return entries_; }
  std::string_view verify() const { return entries_.verify(); }

 private:
  bool is_shown(iova at) const { return entries_.find(at).has_value(); }

  /// How far what is at r.first goes on, something or nothing.
  iova last_of_piece(iova_range r) const {
    iova next = r.first;
    for (;;) {
      const auto there = entries_.first_in({next, r.last});
      if (!there) return next == r.first ? r.last : next - 1;
      if (there->where.first > next) return next == r.first ? there->where.first - 1 : next - 1;
      if (there->where.last >= r.last) return r.last;
      next = there->where.last + 1;
    }
  }

  /// Clears what comes before the entry that failed in the piece from `piece` on.
  void forget(iova_range all, iova piece, const error& why) noexcept {
    iova end = piece;
    if (why.place == error_place::request_byte) {
      end += align_down(why.at, entry_scale::page_bytes);
    } else if (why.place == error_place::domain) {
      end = std::clamp(iova{scale_.scaled(view_.refused_at().value)}, piece, all.last);
    }
    const auto drop = [&](iova first, iova beyond) {
      if (first != beyond)
        static_cast<void>(entries_.unmap(first, beyond - first, unmap_profile::hole_punching));
    };
    drop(all.first, piece);  // whole mappings of this call: that needs no memory
    drop(piece, end);        // where there is none to cut an older mapping with, that stays
  }

  Table& table_;
  entry_scale scale_;
  pinner_type pinner_;
  view_type view_;
  table_type entries_;
};

}  // namespace iopt::vfio
