// iopt/core/mapped_area.hpp - what every area has, and the area that has nothing more.
//
// Most mappings are never shared, cut or pinned by software, and their memory is one physically
// contiguous run: a ring, a buffer, a guest's bank on huge pages. Such an area is compact: its origin, its
// first frame and its state are all there is, 56 bytes in one allocation. What asks for more (a cut,
// a copy, a pin of an access object, memory in several runs) first makes a full area of it, with
// pages of its own (core/pages.hpp); that needs memory and can fail, so nothing that may not fail does.
//
// Layer: core. Includes: base, core/origin.hpp, core/traits.hpp.
#pragma once

#include <cstdint>

#include "iopt/base/access.hpp"
#include "iopt/base/address.hpp"
#include "iopt/base/range.hpp"
#include "iopt/base/run.hpp"
#include "iopt/core/origin.hpp"
#include "iopt/core/traits.hpp"

namespace iopt {

/// What may be done with an area. Only `present` areas are seen by anything but the table itself.
enum class area_state : std::uint8_t {
  in_flight,           // being made or taken away: its IOVA is taken, nothing more
  present,             // mapped
  under_notification,  // an unmap asked the holders of pins to let go: new pins are refused
};

/// Whether the domains of an area's table show it, and who fills it where they do not.
enum class fill_state : std::uint8_t {
  not_yet,    // who makes the area fills it, and nobody else
  done,       // every domain shows it; where there is none, the first to be attached will
  revoked,    // its exporter took the memory away: restore() fills it
  no_longer,  // the area goes: nobody fills it any more
};

/// mapped_area: an IOVA range with something behind it.
///
/// Threads     `where`, `chain`, `rights` and `suspended` are the table's areas_lock_'s; `state` is
///             read under it. Who holds a pin of the area, which so neither goes nor is cut, reads
///             `state`, `rights`, `suspended` and `where` without it. `filled`, `held` and `lost` change
///             in whoever moves the area, which is one thread at a time.
template <table_traits Traits>
struct mapped_area {
  iova_range where;
  mapped_area* chain = nullptr;  // links areas that one operation takes along
  typename Traits::template counter<area_state> state{area_state::in_flight};
  typename Traits::template counter<access_rights> rights;
  fill_state filled = fill_state::not_yet;
  typename Traits::template counter<bool> suspended{
      false};              // software access waits for a new origin
  bool held = false;       // compact: domains show it, so its pages are pinned
  bool lost = false;       // compact: a domain that came back short may still show it
  bool in_family = false;  // compact: it was part of a mapping that others are still part of
  const bool is_compact;

  mapped_area(iova_range w, access_rights r, bool compact) noexcept
      : where(w), rights(r), is_compact(compact) {}

  bool is_present() const noexcept { return state == area_state::present; }
  bool is_in_flight() const noexcept { return state == area_state::in_flight; }
};

/// compact_family: what is left of one mapping in which holes were punched. Its members are compact
/// areas, and as far as anybody can see they show one pages object.
///
/// Ownership   Its members'. Counts for one reference to the origin.
/// Threads     `references` is the table's areas_lock_'s; the rest does not change, but `pinned`.
template <page_pinner Pinner, table_traits Traits>
struct compact_family {
  origin<Pinner, Traits>* from;
  iova_range was;        // where the mapping was
  std::uint64_t offset;  // from an IOVA to what it shows at the origin, modulo 2^64
  typename Traits::template counter<std::uint64_t> pinned;  // pages of all members
  std::uint32_t references = 0;
};

/// compact_area: an area of user memory that nobody shares; filled, it is one run of ordinary memory.
///
/// Invariants  `frame` is the frame of the first page where `held`; the others follow it.
///             Nobody but its table knows it.
/// Ownership   The table's. Counts for one reference to its origin, or to its family.
template <page_pinner Pinner, table_traits Traits>
struct compact_area : mapped_area<Traits> {
  using origin_type = iopt::origin<Pinner, Traits>;
  using family_type = compact_family<Pinner, Traits>;

  union {
    origin_type* own;     // null until it is entered in the table
    family_type* family;  // where in_family
  };
  std::uint64_t first_byte;  // what where.first shows, at the origin
  physical frame{};

  /// At no IOVA yet. Requires: `length_bytes` > 0; the memory does not wrap.
  compact_area(std::uint64_t shown_first, std::uint64_t length_bytes, access_rights r) noexcept
      : mapped_area<Traits>(iova_range::sized({0}, length_bytes), r, true),
        own(nullptr),
        first_byte(shown_first) {}

  void show(iova_range w) noexcept { this->where = w; }

  /// Requires: it is entered in a table.
  origin_type& origin() const noexcept { return this->in_family ? *family->from : *own; }

  /// How far into its first page the area begins, in bytes.
  std::uint64_t page_offset() const noexcept { return first_byte % Traits::page_bytes; }
  std::uint64_t length() const noexcept { return this->where.length_minus_one() + 1; }
  std::uint64_t page_count() const noexcept {
    return (page_offset() + this->where.length_minus_one()) / Traits::page_bytes + 1;
  }
  user_range at_origin() const noexcept {
    return user_range::sized({first_byte - page_offset()}, page_count() * Traits::page_bytes);
  }
  bool writable() const noexcept { return allows(this->rights, access_rights::write); }
  access_rights pin_rights() const noexcept {
    return writable() ? access_rights::read_write : access_rights::read;
  }
  /// Its pages, and the bytes of them that it shows. Requires: held.
  run frames() const noexcept { return run(frame, page_count() * Traits::page_bytes); }
  run shown() const noexcept { return run(frame + page_offset(), length()); }

  /// Becomes the part of itself that is shown at `part`. Requires: `part` begins at a page, or where
  /// the area does.
  void narrow(iova_range part) noexcept {
    const std::uint64_t skip = part.first - this->where.first;
    if (skip != 0) frame += page_offset() + skip;
    first_byte += skip;
    this->where = part;
  }
};

}  // namespace iopt
