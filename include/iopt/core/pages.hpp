// iopt/core/pages.hpp - areas, and the pages that they show.
//
// A pages object is a zero-based array of page frames with one origin. Areas bind IOVA ranges to
// slices of it; several areas, of several tables, may show the same pages. Each page is pinned
// while at least one holder covers it, and pinned once, however many do. Holders are
//
//   areas that are filled into domains  (holders, by page index)
//   pins of access objects              (pins, by page index)
//
// Where a frame can be read: from `stored`, else from the domain of an area that holds the page.
// Three storage tiers follow, as in the kernel:
//
//   nobody holds the page    not pinned; only the origin knows it
//   a domain holds it        pinned; the domain is asked. Where the domain cannot be read back, or
//                            where one run says it all, `stored` has it as well
//   an access holds it       pinned; `stored` has it, so that losing the domain needs no memory
//
// Layer: core. Includes: base, containers, policy, core/attachment.hpp, core/mapped_area.hpp,
// core/origin.hpp, core/traits.hpp.
#pragma once

#include <cstdint>
#include <new>

#include "iopt/base/access.hpp"
#include "iopt/base/address.hpp"
#include "iopt/base/log2.hpp"
#include "iopt/base/range.hpp"
#include "iopt/containers/interval_tree.hpp"
#include "iopt/containers/sparse_frames.hpp"
#include "iopt/core/attachment.hpp"
#include "iopt/core/mapped_area.hpp"
#include "iopt/core/origin.hpp"
#include "iopt/core/traits.hpp"
#include "iopt/policy/iommu_domain.hpp"

namespace iopt {

template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
struct pages;

/// user_view: an area by the user addresses that it shows. Nothing without Traits::reverse_index.
template <class Area, bool Indexed>
struct user_view : interval_node<user_address> {
  Area* shows = nullptr;
};
template <class Area>
struct user_view<Area, false> {};

template <class Area, bool Indexed>
struct user_view_tree : interval_tree<user_view<Area, true>> {};
template <class Area>
struct user_view_tree<Area, false> {};

/// area: a full area: an IOVA range bound to a slice of pages. Its node is by page index, and is
/// linked in pages::holders while domains hold the area.
///
/// Ownership   The table's. The address is stable until the area is unmapped.
template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
struct area : mapped_area<Traits>, interval_node<page_index> {
  using view_type = user_view<area, Traits::reverse_index>;
  using mapped_area<Traits>::where;

  pages<Pinner, Domain, Traits>* source;
  std::uint64_t start_byte;                       // of `source`, shown at where.first
  attachment<Domain, Traits>* storage = nullptr;  // whom to ask for frames; null: unfilled
  [[no_unique_address]] view_type view{};
  typename Traits::template counter<std::uint32_t> pin_calls{0};  // held_pins, by our mutex
  typename Traits::template counter<std::uint32_t> more_pin_calls{
      0};  // of the same ranges, as told

  area(iova_range w, pages<Pinner, Domain, Traits>& p, std::uint64_t start,
       access_rights r) noexcept
      : mapped_area<Traits>(w, r, false), source(&p), start_byte(start) {
    show(w, start);
  }

  /// Rebinds to IOVAs `w`, shown from byte `start` of the pages on. Requires: not linked.
  void show(iova_range w, std::uint64_t start) noexcept {
    where = w;
    start_byte = start;
    this->range = {index_of(w.first), index_of(w.last)};
  }

  std::uint64_t byte_of(iova at) const noexcept { return start_byte + (at - where.first); }
  page_index index_of(iova at) const noexcept { return {byte_of(at) / Traits::page_bytes}; }
  page_range indices_of(iova_range part) const noexcept {
    return {index_of(part.first), index_of(part.last)};
  }
  /// How far into its first page the area begins, in bytes.
  std::uint64_t page_offset() const noexcept { return start_byte % Traits::page_bytes; }

  /// The IOVAs that show pages `part`. Requires: part is inside this area's indices.
  iova_range shown(page_range part) const noexcept {
    const iova first = part.first == this->range.first
                           ? where.first
                           : where.first + (part.first.value * Traits::page_bytes - start_byte);
    const iova last =
        part.last == this->range.last
            ? where.last
            : where.first + ((part.last.value + 1) * Traits::page_bytes - 1 - start_byte);
    return {first, last};
  }
};

/// pin_record: pages that an access object holds, or an operation while it lasts.
struct pin_record : interval_node<page_index> {
  pin_record* chain = nullptr;  // links those of one operation
  run frames{};                 // all of them, where they are one run; else empty

  pin_record() noexcept {}  // (so that nobody fills it with zeros first)
};

/// held_pin: the pins that one access object made of one range, which lies in one area.
///
/// Invariants  users > 0. The area's pin_calls count the record, so that the area stays as it is; its
///             more_pin_calls count `told` users more, which are all but one unless it is_changed.
/// Ownership   The access object's, which knows it by IOVA; its pages know it by index.
template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
struct held_pin : pin_record, interval_node<iova> {
  area<Pinner, Domain, Traits>* of = nullptr;
  std::uint32_t users = 1;
  std::uint32_t told = 0;
  held_pin* changed_before = nullptr;
  bool is_changed = false;

  held_pin() noexcept {}
};

/// pages: a zero-based array of page frames with one origin.
///
/// Invariants  pinned == number of pages that a holder covers and the pinner pinned.
///             stored is defined only on pages that a holder covers, and on all that a pin covers.
///             references == number of areas whose source this is.
///             The accounts of `from`, and of `next_from`, are charged `pinned` pages.
/// Ownership   Counted by areas. It lives in one block with the area it was made for.
template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
struct pages {
  using origin_type = origin<Pinner, Traits>;
  using area_type = area<Pinner, Domain, Traits>;

  origin_type* from;         // counted
  std::uint64_t start;       // where page 0 is at the origin, in bytes, page aligned
  std::uint64_t count;       // pages
  std::uint64_t pinned = 0;  // pages pinned, and charged
  typename Traits::template counter<std::uint32_t> references{1};
  bool writable;
  bool device;                       // neither pinned nor charged
  bool revoked = false;              // device memory that its exporter took away
  origin_type* next_from = nullptr;  // while an operation changes the origin: what it will be
  std::uint32_t generation = 0;      // counts revocations
  std::uint32_t leaving = 0;  // areas that no domain shows any more, and that still hold pages
  bool lost = false;  // a domain that came back short may still show a page: none is unpinned
  [[no_unique_address]] typename Traits::memory memory;  // what the block came from
  [[no_unique_address]] mutable typename Traits::mutex mutex{};
  interval_tree<area_type> holders;
  interval_tree<pin_record> pins;
  sparse_frames<typename Traits::memory> stored;

  pages(origin_type& o, std::uint64_t first_byte, std::uint64_t page_count, bool may_write) noexcept
      : from(&o),
        start(first_byte),
        count(page_count),
        writable(may_write),
        device(o.is.kind == origin_kind::device),
        memory(o.memory),
        stored(log2_exact(Traits::page_bytes), o.memory) {
    static_cast<void>(stored.add_holder());  // the first area; the first holder needs no memory
  }

  /// Counts pages that are pinned now against the account; while an operation changes the origin,
  /// against both accounts.
  result<void> charge(std::uint64_t more) {
    result<void> done = from->charge(more);
    if (done && next_from != nullptr) {
      done = next_from->charge(more);
      if (!done) from->uncharge(more);
    }
    return done;
  }
  void uncharge(std::uint64_t fewer) noexcept {
    from->uncharge(fewer);
    if (next_from != nullptr) next_from->uncharge(fewer);
  }

  bool is_pinnable() const noexcept { return !device; }
  access_rights pin_rights() const noexcept {
    return writable ? access_rights::read_write : access_rights::read;
  }
  user_range at_origin(page_range part) const noexcept {
    return user_range::sized({start + part.first.value * Traits::page_bytes},
                             part.length() * Traits::page_bytes);
  }
};

namespace detail {

/// A mapping as it is made: the area, its pages, and their first run, in one allocation. The memory
/// goes when the pages go; the area may have gone before.
template <class Pinner, class Domain, class Traits>
struct mapping_block {
  using area_type = area<Pinner, Domain, Traits>;
  using pages_type = pages<Pinner, Domain, Traits>;

  union {
    area_type first;
  };
  pages_type contents;

  mapping_block(iova_range where, origin<Pinner, Traits>& o, std::uint64_t first_byte,
                std::uint64_t page_count, bool writable, std::uint64_t start_byte,
                access_rights rights) noexcept
      : contents(o, first_byte, page_count, writable) {
    new (&first) area_type(where, contents, start_byte, rights);
  }
  ~mapping_block() {}

  static mapping_block& of(pages_type& p) noexcept {
    // The block is standard enough for this: `contents` lies at a fixed offset.
    return *reinterpret_cast<mapping_block*>(reinterpret_cast<std::byte*>(&p) - contents_offset());
  }

 private:
  static std::size_t contents_offset() noexcept {
    constexpr std::size_t a = alignof(pages_type);
    return (sizeof(area_type) + a - 1) / a * a;
  }
};

/// Drops an area's share of its pages; the last one frees them.
template <class Pinner, class Domain, class Traits>
void release_pages(pages<Pinner, Domain, Traits>& p) noexcept {
  using block = mapping_block<Pinner, Domain, Traits>;
  {
    detail::exclusive_lock guard(p.mutex);
    if (--p.references != 0) return p.stored.drop_holder();
  }
  IOPT_ASSERT(p.holders.empty() && p.pins.empty());
  origin<Pinner, Traits>* from = p.from;
  typename Traits::memory memory = p.memory;
  block& b = block::of(p);
  b.~block();
  memory.deallocate(&b, sizeof(block), alignof(block));
  from->release();
}

/// Frees a full area that no structure refers to any more, and its share of the pages. (Out of line, as
/// io_pagetable::begin_take_down().)
template <class Pinner, class Domain, class Traits>
[[gnu::noinline]] void destroy_area(area<Pinner, Domain, Traits>& a) noexcept {
  using area_type = area<Pinner, Domain, Traits>;
  using block = mapping_block<Pinner, Domain, Traits>;
  pages<Pinner, Domain, Traits>& p = *a.source;
  typename Traits::memory memory = p.memory;
  const bool in_block = &a == &block::of(p).first;
  a.~area_type();
  if (!in_block) memory.deallocate(&a, sizeof(area_type), alignof(area_type));
  release_pages(p);
}

}  // namespace detail

}  // namespace iopt
