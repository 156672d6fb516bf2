// iopt/backends/mock/domain.hpp - an I/O page table in memory that checks how it is used.
//
// It has every refinement of iommu_domain, counts every call, fails on command, and stops the
// program where a caller breaks a precondition. restricted_domain.hpp takes abilities away.
//
// Layer: backends/mock. Includes: base, policy, the standard library.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "iopt/backends/mock/contents.hpp"
#include "iopt/backends/mock/domain_options.hpp"
#include "iopt/backends/mock/earlier_rights.hpp"
#include "iopt/backends/mock/fault_injector.hpp"
#include "iopt/backends/mock/frame_watch.hpp"
#include "iopt/backends/mock/page_table.hpp"
#include "iopt/backends/mock/strictness.hpp"
#include "iopt/base/access.hpp"
#include "iopt/base/error.hpp"
#include "iopt/base/page_sizes.hpp"
#include "iopt/base/range.hpp"
#include "iopt/base/run.hpp"
#include "iopt/policy/iommu_domain.hpp"

namespace iopt::mock {

/// domain: a strict iommu_domain with all refinements.
///
/// Model       The T and W of the concepts, in a page_table; and what has been unmapped since the
///             last sync().
/// Invariants  Those of page_table; see verify().
/// Errors      What a fault_injector makes fail; not_enough_memory; operation_not_supported for
///             dirty tracking where the options say no. A broken precondition is a violation
///             (strictness), never an errno.
/// Cost        map: a store an entry, in the largest entries that fit; 1 GiB is one store where
///             that size is given. unmap: a load and a store an entry.
/// Threads     As the concept says; calls that overlap are a violation when they are noticed.
/// Tested by   tests/backends/mock/domain_test.cpp, tests/policy/iommu_domain_test.cpp
class domain : public strictness {
 public:
  explicit domain(domain_options options = {})
      : strictness("mock::domain"), options_(std::move(options)), table_(options_.page_sizes) {}
  ~domain() {
    if (watch_ != nullptr) watch_->clear();
  }

  // iommu_domain

  result<void> map(iova_range r, physical p, attributes a) {
    const single_call now(*this, busy_);
    ++calls_.map;
    if (fails(fault_point::map)) return fail(options_.faults->error_of(fault_point::map));
    if (!may_write(r, p)) return fail(errc::invalid_argument);
    return write(r, p, a);
  }
  std::uint64_t unmap(iova_range r) noexcept {
    const single_call now(*this, busy_);
    ++calls_.unmap;
    return take(r, nullptr);
  }
  std::optional<physical> translate(iova v) const noexcept {
    count_translation(translations_);
    return table_.translate(v);
  }
  page_size_set page_sizes() const noexcept { return options_.page_sizes; }
  iova_range aperture() const noexcept { return options_.aperture; }

  // run_mapping_domain, run_returning_domain, range_translating_domain, flushing_domain

  result<void> map_runs(iova at, std::span<const run> runs, access_rights rights) {
    const single_call now(*this, busy_);
    ++calls_.map_runs;
    calls_.runs += runs.size();
    if (fails(fault_point::map_runs)) return fail(options_.faults->error_of(fault_point::map_runs));
    const std::optional<iova_range> all = may_write(at, runs);
    if (!all) return fail(errc::invalid_argument);
    return write(*all, runs, rights);
  }
  std::uint64_t unmap_runs(iova_range r, run_list& out) noexcept {
    const single_call now(*this, busy_);
    ++calls_.unmap_runs;
    if (out.full()) return violated("unmap_runs: the list is full", r.first.value, r.last.value), 0;
    return take(r, &out);
  }
  std::uint64_t translate_range(iova_range r, run_list& out) const noexcept {
    count_translation(range_translations_);
    return table_.read(r, out);
  }
  void sync() noexcept {
    const single_call now(*this, busy_);
    ++calls_.sync;
    unsynced_bytes_ = 0;
    if (watch_ != nullptr) watch_->flushed();
  }

  // dirty_tracking_domain

  result<void> set_dirty_tracking(bool on) {
    const single_call now(*this, busy_);
    if (!options_.tracks_dirty) return fail(errc::operation_not_supported);
    if (fails(fault_point::set_dirty_tracking))
      return fail(options_.faults->error_of(fault_point::set_dirty_tracking));
    tracking_ = on;
    return {};
  }
  template <class Record>
  result<void> read_dirty(iova_range r, dirty_read mode, Record&& record) {
    const single_call now(*this, busy_);
    ++calls_.read_dirty;
    if (!tracking_) return fail(errc::invalid_argument);
    if (fails(fault_point::read_dirty))
      return fail(options_.faults->error_of(fault_point::read_dirty));
    std::optional<iova_range> joined;
    table_.for_each(r, [&](page_table::place at) {
      if (!at.get().has(table_word::dirty)) return true;
      const iova_range slot = iova_range::sized({at.first}, at.slot_bytes);
      const iova_range part = *slot.intersection(r);
      if (joined && joined->last + 1 == part.first) {
        joined->last = part.last;
      } else {
        if (joined) record(*joined);
        joined = part;
      }
      if (mode == dirty_read::clear) *at.word &= ~table_word::dirty;
      return true;
    });
    if (joined) record(*joined);
    // An entry of several words may stick out of r: it leaves W as a whole.
    if (joined && mode == dirty_read::clear) {
      for (const iova end : {r.first, r.last}) {
        if (const auto at = table_.find(end)) table_.set_flag(*at, table_word::dirty, false);
      }
    }
    return {};
  }

  // splitting_domain, protecting_domain, replacing_domain: backends/mock/domain_changes.hpp

  result<void> split(iova_range r);
  result<void> protect(iova_range r, access_rights rights);
  result<void> replace(iova at, std::span<const run> runs, access_rights rights);

  // reserved_regions_domain, coherency_enforcing_domain

  std::span<const reserved_region> reserved_regions() const noexcept { return options_.reserved; }
  bool enforce_cache_coherency() noexcept {
    return coherent_ = coherent_ || options_.enforces_coherency;
  }
  bool is_coherent() const noexcept { return coherent_; }

  // What a device does.

  /// A device reads all of r. Whether it may; false is a fault.
  bool device_reads(iova_range r) const { return device_uses(r, access_rights::read); }
  /// A device writes all of r: with tracking on, each entry it meets joins W. False is a fault.
  bool device_writes(iova_range r) {
    if (!device_uses(r, access_rights::write)) return false;
    mark_dirty(r);
    return true;
  }
  /// Each entry that has a byte in r joins W, if tracking is on. Rights are not asked.
  void mark_dirty(iova_range r) {
    if (!tracking_) return;
    table_.for_each(r, [&](page_table::place at) {
      table_.set_flag(at, table_word::dirty, true);
      return true;
    });
  }

  // What a test asks.

  /// How often each member was called, since the last reset_calls().
  domain_calls calls() const noexcept {
    domain_calls c = calls_;
    c.translate = translations_.load(std::memory_order_relaxed);
    c.translate_range = range_translations_.load(std::memory_order_relaxed);
    return c;
  }
  void reset_calls() noexcept { calls_ = {}, translations_ = 0, range_translations_ = 0; }
  /// How many entries of a size there are.
  std::uint64_t entries(std::uint64_t size_bytes) const noexcept {
    return table_.entries(size_bytes);
  }
  std::uint64_t entries() const noexcept {
    std::uint64_t sum = 0;
    for (std::uint64_t left = page_sizes().bitmap(); left != 0; left &= left - 1)
      sum += table_.entries(lowest_bit(left));
    return sum;
  }
  std::uint64_t bytes_mapped() const noexcept { return table_.bytes(); }
  /// Bytes that were unmapped and that no sync() has followed.
  std::uint64_t unsynced_bytes() const noexcept { return unsynced_bytes_; }
  bool is_tracking() const noexcept { return tracking_; }
  std::optional<iova_range> entry_at(iova v) const noexcept { return table_.entry_at(v); }
  std::optional<attributes> attributes_at(iova v) const noexcept {
    const auto at = table_.find(v);
    return at ? std::optional(at->get().how()) : std::nullopt;
  }

  using mapping = mock::mapping;
  /// T as the fewest pieces: equal exactly where two T are. Entry sizes and ranges do not show.
  std::vector<mapping> contents(iova_range r = iova_range::whole()) const {
    return contents_of(table_, r);
  }

  /// The n-th unmap() or unmap_runs() from now, counted from 0, meets a table that will not let go:
  /// the second half of its range cannot be unmapped from then on, until heal().
  void short_unmap_after(std::uint64_t n) noexcept { short_after_ = n; }
  void heal() noexcept {
    stuck_.reset();
    short_after_.reset();
  }
  /// From where on the table will not let go, once it has begun to.
  std::optional<iova> stuck_at() const noexcept { return stuck_; }

  /// The reverse of this table, kept from now on. mock::pinner::watch() asks for it.
  std::shared_ptr<const frame_watch> watch() {
    if (watch_ == nullptr) {
      watch_ = std::make_shared<frame_watch>(table_.granule());
      for (const mapping& m : contents())
        watch_->mapped(run(m.first, m.range.length(), m.how.type));
    }
    return watch_;
  }

  /// Empty when the invariants of the table hold, else the one that does not.
  std::string_view verify() const { return table_.verify(); }

 private:
  bool fails(fault_point point) const noexcept {
    return options_.faults != nullptr && options_.faults->fails(point);
  }
  void count_translation(std::atomic<std::uint64_t>& counter) const noexcept {
    if (busy_.is_set()) violated("translate: while the table changes");
    counter.store(counter.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  }

  bool may_write(iova_range r, physical p) const noexcept {
    const char* wrong = nullptr;
    if (r.last < r.first) {
      wrong = "map: not a range";
    } else if (!r.is_aligned(table_.granule()) || !p.is_aligned(table_.granule())) {
      wrong = "map: not aligned to the smallest page size";
    } else if (!options_.aperture.contains(r)) {
      wrong = "map: outside the aperture";
    } else if (r.length_minus_one() > top - p.value) {
      wrong = "map: beyond the last physical address";
    }
    if (wrong != nullptr) violated(wrong, r.first.value, r.last.value);
    return wrong == nullptr;
  }
  // The range that the runs cover, where all of them may be written.
  std::optional<iova_range> may_write(iova at, std::span<const run> runs) const noexcept {
    std::uint64_t offset = 0;
    for (const run& r : runs) {
      if (r.length_bytes == 0 || offset > top - at.value ||
          r.length_bytes - 1 > top - at.value - offset) {
        violated("map_runs: an empty run, or beyond the last IOVA", at.value, at.value + offset);
        return std::nullopt;
      }
      if (!may_write(iova_range::sized(at + offset, r.length_bytes), r.first)) return std::nullopt;
      offset += r.length_bytes;
    }
    if (runs.empty()) {
      violated("map_runs: no run", at.value, at.value);
      return std::nullopt;
    }
    return iova_range::sized(at, offset);
  }

  result<void> write(iova_range r, physical p, attributes a) {
    earlier_.forget();
    const page_table::outcome answer = table_.write(r, table_word{p, a});
    if (answer == page_table::outcome::occupied) {
      violated("map: something is mapped there", r.first.value, r.last.value);
      return fail(errc::file_exists);
    }
    if (answer == page_table::outcome::no_memory) return fail(errc::not_enough_memory);
    if (watch_ != nullptr) {
      // A run is shorter than a range may be.
      for (std::uint64_t done = 0, left = r.length_minus_one();;) {
        const std::uint64_t piece = std::min(left, run::longest - 1) + 1;
        watch_->mapped(run(p + done, piece, a.type));
        if (piece - 1 == left) break;
        done += piece;
        left -= piece;
      }
    }
    return {};
  }
  // All of the runs, or none.
  result<void> write(iova_range all, std::span<const run> runs, access_rights rights) {
    std::uint64_t offset = 0;
    for (const run& r : runs) {
      const result<void> written = write(iova_range::sized(all.first + offset, r.length_bytes),
                                         r.first, attributes{rights, r.type()});
      if (!written) {
        if (offset != 0) {
          table_.erase(iova_range::sized(all.first, offset), nullptr, [&](run gone) {
            if (watch_ != nullptr) watch_->replaced(gone);
          });
        }
        return written;
      }
      offset += r.length_bytes;
    }
    return {};
  }

  bool split_ends(iova_range r) noexcept;

  // Whether r is a union of ranges that were mapped, as far as its two ends tell; holes are met on
  // the way.
  bool is_union(iova_range r, const char* what) const noexcept {
    const auto first = table_.find(r.first);
    const bool one_slot = first && first->slot_bytes - 1 == r.length_minus_one();
    const auto last = one_slot ? first : table_.find(r.last);
    const bool good =
        first && last && first->first == r.first.value && first->get().has(table_word::starts) &&
        last->first + (last->slot_bytes - 1) == r.last.value && last->get().has(table_word::ends);
    if (!good) violated(what, r.first.value, r.last.value);
    return good;
  }

  std::uint64_t take(iova_range r, run_list* out) noexcept {
    if (!is_union(r, "unmap: not a union of ranges that were mapped")) return 0;
    if (short_after_ && (*short_after_)-- == 0) {
      short_after_.reset();
      stuck_ = table_.entry_at({r.first.value + r.length_minus_one() / 2})->first;
    }
    iova_range part = r;
    if (stuck_ && r.contains(*stuck_)) {
      if (*stuck_ == r.first) return 0;
      part.last = *stuck_ - 1;
    }
    earlier_.forget();
    std::uint64_t bytes = 0;
    if (watch_ == nullptr) {
      bytes = table_.erase(part, out, [](run) {});
    } else {
      bytes = table_.erase(part, out, [&](run gone) { watch_->unmapped(gone); });
    }
    unsynced_bytes_ += bytes;
    if (bytes - 1 == r.length_minus_one()) return bytes;
    // What is left starts a range of its own, so that the rest can be asked for.
    if (const auto next = table_.find(r.first + bytes)) {
      *next->word |= table_word::starts;
    } else {
      violated("unmap: a hole in the range", r.first.value, r.last.value);
    }
    return bytes;
  }

  bool device_uses(iova_range r, access_rights wanted) const {
    std::uint64_t next = r.first.value;
    bool good = true;
    table_.for_each(r, [&](page_table::place at) {
      good = at.first <= next && allows(at.get().how().rights, wanted);
      next = at.first + at.slot_bytes;  // 0 past the last address, where nothing follows
      return good;
    });
    return good && next - 1 >= r.last.value && next != r.first.value;
  }

  domain_options options_;
  page_table table_;
  domain_calls calls_;
  mutable std::atomic<std::uint64_t> translations_ = 0;
  mutable std::atomic<std::uint64_t> range_translations_ = 0;
  call_in_progress busy_;
  std::uint64_t unsynced_bytes_ = 0;
  bool tracking_ = false;
  bool coherent_ = false;
  std::optional<std::uint64_t> short_after_;
  std::optional<iova> stuck_;
  earlier_rights earlier_;
  std::shared_ptr<frame_watch> watch_;
};

static_assert(iommu_domain<domain> && run_mapping_domain<domain> && run_returning_domain<domain> &&
              range_translating_domain<domain> && flushing_domain<domain> &&
              dirty_tracking_domain<domain> && splitting_domain<domain> &&
              protecting_domain<domain> && replacing_domain<domain> &&
              reserved_regions_domain<domain> && coherency_enforcing_domain<domain> &&
              !unreadable_domain<domain>);

}  // namespace iopt::mock

#include "iopt/backends/mock/domain_changes.hpp"  // IWYU pragma: export
