// iopt/backends/granular/domain.hpp - an iommu_domain over a kernel's table that cannot cut.
//
// What is mapped in one call is a stretch, and is told to the table in pieces: policy/granules.hpp
// says which. A stretch is what the domain remembers, 16 bytes and an address of it; its pieces it
// recomputes. A hole that begins and ends where pieces do is made at once. One that does not, is
// refused; or, where the options say so by name, its piece is taken out and put back in two parts,
// and a device that reaches there meanwhile faults.
//
// Entries are counted before the table is asked for the first: what does not fit is refused with no
// call made, or mapped in coarser pieces, as the options say.
//
// Layer: backends. Includes: base, containers, policy, backends/granular.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <utility>

#include "iopt/backends/granular/entry_table.hpp"
#include "iopt/backends/granular/refusal.hpp"
#include "iopt/base/access.hpp"
#include "iopt/base/address.hpp"
#include "iopt/base/assert.hpp"
#include "iopt/base/error.hpp"
#include "iopt/base/log2.hpp"
#include "iopt/base/memory_source.hpp"
#include "iopt/base/page_sizes.hpp"
#include "iopt/base/range.hpp"
#include "iopt/base/run.hpp"
#include "iopt/containers/area_map.hpp"
#include "iopt/policy/granules.hpp"
#include "iopt/policy/iommu_domain.hpp"

namespace iopt::granular {

/// What happens where pieces are more than the table takes.
enum class when_full : std::uint8_t {
  refuse,   // no_space_on_device, and the table is not asked
  coarsen,  // coarser pieces are mapped, with fewer holes to be made in them
};

/// What happens where a hole would begin or end inside a piece.
enum class inside_piece : std::uint8_t {
  refuse,           // invalid_argument
  unmap_and_remap,  // the piece goes and comes back as two: a device may fault in between
};

struct options {
  granules pieces = granules::whole();
  when_full full = when_full::refuse;
  inside_piece inside = inside_piece::refuse;
};

/// domain: an iommu_domain that cannot be read back, on an entry_table.
///
/// Model       The set of stretches (range, memory, rights, granules). The table's entries are their
///             pieces.
/// Invariants  disjoint, by area_map's own. memory: a stretch shows whole smallest pages. entries():
///             the sum of the stretches' pieces. verify() checks them in this order.
/// Ownership   Owns the table. What is mapped when it is destroyed, it unmaps.
/// Errors      map(), map_runs(): not_enough_memory, of the library's own, before the table is asked;
///             no_space_on_device, predicted; invalid_argument, rights are none or execute; else those of
///             the table. split(): invalid_argument, inside a piece, with the first IOVA of the piece;
///             not_enough_memory; with unmap_and_remap those of the table. last_refusal() tells more.
///             Where a piece that was taken out does not come back, or an unmap comes back short,
///             poisoned() is true from then on.
/// Cost        n stretches: map() one call of the table a piece, and one to count where what is known to
///             be left does not suffice; unmap() one call; O(log n) beside.
/// Threads     As iommu_domain; what else there is to know is asked while no call runs.
/// Tested by   tests/backends/granular/domain_test.cpp, tests/policy/iommu_domain_conformance.hpp
template <entry_table Table, memory_source Memory = heap_memory>
class domain {
 public:
  /// A kernel does not tell what it holds.
  static constexpr bool reads_back = false;

  explicit domain(Table table, options how = {}, Memory memory = {})
      : table_(std::move(table)), how_(how), stretches_(memory) {}
  domain(const domain&) = delete;
  domain& operator=(const domain&) = delete;
  ~domain() {
    while (!stretches_.empty()) unmap(stretches_.begin().range());
  }

  // --- iommu_domain ---

  result<void> map(iova_range r, physical p, attributes a) {
    const run only(p, r.length());
    return map_runs(r.first, {&only, 1}, a.rights);
  }

  result<void> map_runs(iova at, std::span<const run> runs, access_rights rights) {
    if ((rights & access_rights::read_write) == access_rights::none ||
        (rights & access_rights::execute) != access_rights::none)
      return refuse({errc::invalid_argument, true});
    if (!stretches_.reserve(runs.size())) return refuse({errc::not_enough_memory, true});
    const result<granules> pieces = fitting(at, runs);
    if (!pieces) return std::unexpected(pieces.error());
    iova next = at;
    for (const run& r : runs) {
      const iova_range where = iova_range::sized(next, r.length_bytes);
      if (const result<void> mapped = map_pieces(where, r.first, rights, *pieces); !mapped) {
        if (next != at) unmap({at, next - 1});
        return mapped;
      }
      insert(where, {r.first.value, rights, *pieces});
      if (where.last.value != top) next = where.last + 1;
    }
    return {};
  }

  std::uint64_t unmap(iova_range r) noexcept {
    const std::uint64_t bytes = table_.unmap(r);
    std::uint64_t known = 0;
    for (auto c = stretches_.first_overlap(r); c && c.range().first <= r.last;) {
      IOPT_ASSERT(r.contains(c.range()));
      known += c.range().length_minus_one() + 1;
      count_down(c);
      stretches_.erase(c);
    }
    if (bytes != known) poisoned_ = true;
    return bytes;
  }

  /// Never called: the domain cannot be read back.
  std::optional<physical> translate(iova) const { return std::nullopt; }
  page_size_set page_sizes() const { return table_.page_sizes(); }
  iova_range aperture() const { return table_.aperture(); }

  // --- Refinements ---

  result<void> split(iova_range r) {
    const bool to_the_end = r.last.value == top;
    if (const result<void> may = may_begin(r.first); !may) return may;
    if (!to_the_end)
      if (const result<void> may = may_begin(r.last + 1); !may) return may;
    if (!stretches_.reserve(2)) return refuse({errc::not_enough_memory, true});
    if (const result<void> done = begin_piece(r.first); !done) return done;
    return to_the_end ? result<void>{} : begin_piece(r.last + 1);
  }

  std::span<const reserved_region> reserved_regions() const { return table_.reserved_regions(); }

  result<void> set_dirty_tracking(bool on)
    requires dirty_entry_table<Table>
  {
    const result<void> set = table_.set_dirty_tracking(on);
    if (set) tracking_ = on;
    return set;
  }
  template <class Record>
    requires dirty_entry_table<Table>
  result<void> read_dirty(iova_range r, dirty_read mode, Record&& record) {
    if (!tracking_) return fail(errc::invalid_argument);
    for (cursor c = stretches_.first_overlap(r); c && c.range().first <= r.last; c.next()) {
      const result<void> read = table_.read_dirty(*c.range().intersection(r), mode, record);
      if (!read) return read;
    }
    return {};
  }

  // --- What else there is to know ---

  /// Entries that the domain holds in the table.
  std::uint64_t entries() const noexcept { return entries_; }
  /// Entries that the table would still take, asked now; nothing: no limit is known.
  std::optional<std::uint64_t> entries_left() const noexcept { return table_.entries_left(); }
  /// Stretches: what is remembered.
  std::size_t stretches() const noexcept { return stretches_.size(); }
  /// The last map or split that failed, and what helps.
  const refusal& last_refusal() const noexcept { return refusal_; }
  /// Whether the table once did other than it was told: T is then not what the caller thinks.
  bool poisoned() const noexcept { return poisoned_; }

  const options& how() const noexcept { return how_; }
  /// For what is mapped from now on.
  void set_pieces(granules pieces) noexcept { how_.pieces = pieces; }

  Table& table() noexcept { return table_; }
  const Table& table() const noexcept { return table_; }

  /// The first invariant that does not hold, or nothing. Cost: O(n).
  std::string_view verify() const noexcept {
    if (const std::string_view wrong = stretches_.verify(); !wrong.empty()) return wrong;
    const std::uint64_t page = page_sizes().smallest();
    std::uint64_t pieces = 0;
    for (auto c = stretches_.begin(); c; c.next()) {
      const stretch s(c.value());
      if (!c.range().is_aligned(page) || s.address() % page != 0) return "memory";
      pieces += s.pieces().count(c.range());
    }
    return pieces == entries_ ? "" : "entries";
  }

 private:
  /// A stretch, but for its range: the address of its memory, whose low bits are free. In them:
  /// rights in two bits, the granules' shape in two, the exponent of their size in six.
  struct stretch {
    std::uint64_t word;

    explicit stretch(std::uint64_t w) noexcept : word(w) {}
    stretch(std::uint64_t address, access_rights rights, granules pieces) noexcept
        : word(address | static_cast<std::uint64_t>(rights) |
               static_cast<std::uint64_t>(pieces.shape()) << 2 |
               std::uint64_t{log2_exact(pieces.size_bytes())} << 4) {
      IOPT_ASSERT(address % 4096 == 0);
    }
    std::uint64_t address() const noexcept { return word & ~std::uint64_t{4095}; }
    access_rights rights() const noexcept { return static_cast<access_rights>(word & 3); }
    granules pieces() const noexcept {
      const std::uint64_t size = std::uint64_t{1} << (word >> 4 & 63);
      switch (static_cast<granule_shape>(word >> 2 & 3)) {
        case granule_shape::fixed: return granules::fixed(size);
        case granule_shape::power_of_two: return granules::power_of_two(size);
        case granule_shape::whole: break;
      }
      return granules::whole();
    }
    stretch moved(std::uint64_t bytes) const noexcept { return stretch(word + bytes); }
  };
  using map_type = area_map<iova, std::uint64_t, Memory>;
  using cursor = typename map_type::cursor;

  std::unexpected<error> refuse(refusal why, error_place place = error_place::unspecified,
                                std::uint64_t at = 0) noexcept {
    refusal_ = why;
    return fail({why.code, place, at});
  }

  /// Granules in which all runs together fit into the table.
  result<granules> fitting(iova at, std::span<const run> runs) {
    granules pieces = how_.pieces;
    std::uint64_t needed = count(at, runs, pieces);
    if (!left_ || needed > *left_) left_ = table_.entries_left();  // others may use the table too
    if (!left_) return pieces;
    if (how_.full == when_full::coarsen) {
      while (needed > *left_ && pieces.shape() != granule_shape::whole) {
        pieces = pieces.coarser();
        needed = count(at, runs, pieces);
      }
    }
    if (needed <= *left_) return pieces;
    return refuse({errc::no_space_on_device, true, needed, left_});
  }
  static std::uint64_t count(iova at, std::span<const run> runs, granules pieces) noexcept {
    std::uint64_t needed = 0;
    for (const run& r : runs) {
      const iova_range where = iova_range::sized(at, r.length_bytes);
      needed = checked_add(needed, pieces.count(where)).value_or(top);
      if (where.last.value != top) at = where.last + 1;
    }
    return needed;
  }

  /// Maps a range piece by piece, all or nothing, and remembers nothing.
  result<void> map_pieces(iova_range all, physical p, access_rights rights, granules pieces) {
    for (iova at = all.first;;) {
      const iova_range piece = pieces.piece_at(all, at);
      if (const result<void> mapped = table_.map(piece, p + (at - all.first), rights); !mapped) {
        if (at != all.first) take_out({all.first, at - 1});
        left_.reset();
        return refuse({mapped.error().code, false, pieces.count(all), table_.entries_left()},
                      mapped.error().place, mapped.error().at);
      }
      if (piece.last == all.last) return {};
      at = piece.last + 1;
    }
  }
  /// Takes out entries that are no stretch (yet, or any more). False: not all of them went.
  bool take_out(iova_range r) noexcept {
    const bool complete = table_.unmap(r) == r.length_minus_one() + 1;
    if (!complete) poisoned_ = true;
    return complete;
  }

  void insert(iova_range where, stretch s) noexcept {
    const result<void> inserted = stretches_.insert(where, s.word);  // reserved: cannot fail
    IOPT_ASSERT(inserted.has_value());
    static_cast<void>(inserted);
    const std::uint64_t pieces = s.pieces().count(where);
    entries_ += pieces;
    if (left_) *left_ -= std::min(*left_, pieces);
  }
  void count_down(cursor c) noexcept {
    const std::uint64_t pieces = stretch(c.value()).pieces().count(c.range());
    entries_ -= pieces;
    if (left_) *left_ += pieces;
  }

  /// Whether `at` begins a piece, or can be made to. Nothing is there: it can.
  result<void> may_begin(iova at) {
    const cursor c = stretches_.find(at);
    if (!c || how_.inside == inside_piece::unmap_and_remap) return {};
    const iova_range piece = stretch(c.value()).pieces().piece_at(c.range(), at);
    if (piece.first == at) return {};
    return refuse({errc::invalid_argument, true}, error_place::area, piece.first.value);
  }
  /// Makes `at` the first byte of a stretch, if it is in one. Requires: reserved, and may_begin().
  result<void> begin_piece(iova at) {
    const cursor c = stretches_.find(at);
    if (!c || c.range().first == at) return {};
    const stretch s(c.value());
    const iova_range all = c.range();
    const iova_range piece = s.pieces().piece_at(all, at);
    if (piece.first != at) {
      const std::uint64_t before = s.pieces().count(all);
      const physical p{s.address() + (piece.first - all.first)};
      if (const result<void> done = remap_in_two(piece, at, p, s); !done) return done;
      const std::uint64_t after =
          s.pieces().count({all.first, at - 1}) + s.pieces().count({at, all.last});
      entries_ += after - before;
      if (left_) *left_ -= std::min(*left_, after - before);
    }
    const result<void> cut = stretches_.split(c, at - 1, s.moved(at - all.first).word);
    IOPT_ASSERT(cut.has_value());
    static_cast<void>(cut);
    return {};
  }
  /// Takes a piece out and maps it again as [first, at - 1] and [at, last].
  result<void> remap_in_two(iova_range piece, iova at, physical p, stretch s) {
    const granules pieces = s.pieces();
    const iova_range left{piece.first, at - 1}, right{at, piece.last};
    const std::uint64_t more = pieces.count(left) + pieces.count(right) - 1;
    if (!left_ || more > *left_) left_ = table_.entries_left();
    if (left_ && more > *left_) return refuse({errc::no_space_on_device, true, more, left_});
    if (!take_out(piece)) return refuse({errc::io_error});
    result<void> mapped = map_pieces(left, p, s.rights(), pieces);
    if (mapped) {
      mapped = map_pieces(right, p + (at - piece.first), s.rights(), pieces);
      if (mapped) return mapped;
      take_out(left);
    }
    if (!table_.map(piece, p, s.rights())) poisoned_ = true;
    return mapped;
  }

  Table table_;
  options how_;
  map_type stretches_;
  std::uint64_t entries_ = 0;
  std::optional<std::uint64_t> left_{};  // what the table would take, as far as this domain knows
  refusal refusal_{};
  bool poisoned_ = false;
  bool tracking_ = false;
};

}  // namespace iopt::granular
