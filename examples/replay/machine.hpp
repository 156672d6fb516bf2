// examples/replay/machine.hpp - the host of the replay: an io_pagetable, its domains and its
// pinner.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "examples/replay/guest_memory.hpp"
#include "examples/replay/live_map.hpp"
#include "examples/replay/trace.hpp"
#include "iopt/backends/host/pinner.hpp"
#include "iopt/backends/mock/domain.hpp"
#include "iopt/core/io_pagetable.hpp"

namespace replay {

using clock = std::chrono::steady_clock;

/// counting_pinner: the host's pinner, counting what it is asked for and how long it takes.
class counting_pinner : public iopt::host::pinner {
 public:
  using pinner::pinner;

  iopt::result<void> pin(const owner& who, iopt::user_range where, iopt::access_rights rights,
                         iopt::run_list& out) noexcept {
    const std::uint64_t bytes = out.bytes();
    const clock::time_point start = clock::now();
    const iopt::result<void> done = pinner::pin(who, where, rights, out);
    busy_ += clock::now() - start;
    ++pin_calls_;
    pages_ += (out.bytes() - bytes) / page_bytes;
    return done;
  }
  void unpin(iopt::run r, bool dirty) noexcept {
    const clock::time_point start = clock::now();
    pinner::unpin(r, dirty);
    busy_ += clock::now() - start;
    ++unpin_calls_;
  }

  std::uint64_t pin_calls() const noexcept { return pin_calls_; }
  std::uint64_t unpin_calls() const noexcept { return unpin_calls_; }
  std::uint64_t pages_ever_pinned() const noexcept { return pages_; }
  clock::duration busy() const noexcept { return busy_; }

 private:
  std::uint64_t pin_calls_ = 0, unpin_calls_ = 0, pages_ = 0;
  clock::duration busy_{};
};

/// The table finds memory that it shows already by its user address.
struct replay_traits : iopt::single_threaded {
  static constexpr bool reverse_index = true;
};
using page_table = iopt::io_pagetable<counting_pinner, iopt::mock::domain, replay_traits>;

/// What an x86 IOMMU keeps for itself: writes there are interrupts.
inline constexpr iopt::iova_range interrupt_window{{0xfee00000}, {0xfeefffff}};

/// machine_options: what kind of host.
struct machine_options {
  std::size_t domains = 2;
  iopt::unmap_profile profile = iopt::unmap_profile::type1_v2;
  bool reserve_interrupts = true;  // the interrupt window is no IOVA
};

/// usage: a figure now, and the highest that it ever was.
struct usage {
  std::uint64_t now = 0, peak = 0;
  void is(std::uint64_t value) noexcept { now = value, peak = std::max(peak, value); }
};

/// lifetime: when a mapping was made and unmade, as event numbers, for the picture.
struct lifetime {
  iopt::iova_range where{};
  std::uint64_t source = 0;
  std::size_t born = 0, gone = 0;
};

/// machine: replays events on a table and keeps account.
///
/// Model       live() is what the events so far have mapped, kept without the library.
/// Invariants  Memory that the table shows already is shown again by copy(), so that each page is
///             pinned once, however many IOVAs and domains show it.
class machine {
 public:
  static constexpr std::uint64_t entry_sizes[3] = {4 * iopt::kibibyte, 2 * iopt::mebibyte,
                                                   iopt::gibibyte};

  /// The domains are attached to the empty table. Requires: at least one.
  machine(guest_memory& memory, const machine_options& options);
  ~machine();
  machine(const machine&) = delete;
  machine& operator=(const machine&) = delete;

  /// Carries out one event of a guest whose address space begins at `base`. An error is a reason in
  /// words; then the replay is over.
  std::string replay(const event& e, std::size_t guest, std::uint64_t base);

  /// Detaches the last domain and attaches it again, as a device that is plugged in late would be.
  /// An error is a reason in words.
  std::string plug_in_again();

  /// Unmaps everything and detaches every domain. What is then still held is told in words.
  std::string close();

  page_table& table() noexcept { return table_; }
  counting_pinner& pinner() noexcept { return pinner_; }
  const guest_memory& memory() const noexcept { return *memory_; }
  const live_map& live() const noexcept { return live_; }
  std::size_t domain_count() const noexcept { return domains_.size(); }
  iopt::mock::domain& domain(std::size_t n) noexcept { return *domains_[n]; }

  /// Distinct pages of memory that are shown, and whether one is.
  std::uint64_t shown_pages() const noexcept { return shown_pages_.now; }

  struct statistics {
    usage mappings, areas, bytes, pages;
    usage entries[3];                // in the first domain, by size
    usage pages_shown_again;         // IOVA pages that show a page which another IOVA shows too
    std::uint64_t reused_pages = 0;  // mapped without a pin, since they were shown already
    std::uint64_t second_domain_pages = 0;  // filled into further domains, without a pin
    std::vector<clock::duration> map_times, unmap_times;          // of the whole operation
    std::vector<clock::duration> map_own_times, unmap_own_times;  // without the pinner
    clock::duration plug_in_time{};
    std::uint64_t plug_in_pages = 0, plug_in_pins = 0, plug_in_calls = 0;
  };
  const statistics& stats() const noexcept { return stats_; }
  const std::vector<lifetime>& lifetimes() const noexcept { return lifetimes_; }
  /// How many events have been replayed.
  std::size_t events() const noexcept { return events_; }

 private:
  iopt::result<void> map(iopt::iova_range where, std::size_t guest, std::uint64_t source);
  iopt::unmap_report unmap(iopt::iova_range where);
  iopt::result<void> show(iopt::iova_range where, iopt::user_address from);
  void count(const mapping& m, bool mapped);
  void take_stock();

  struct view {
    iopt::user_range shown;
    iopt::iova at;
  };

  guest_memory* memory_;
  machine_options options_;
  std::vector<std::unique_ptr<iopt::mock::domain>> domains_;
  counting_pinner pinner_;
  page_table table_;
  live_map live_;
  std::vector<std::uint32_t> times_shown_;  // by page number
  std::vector<view> views_;
  usage shown_pages_;
  statistics stats_;
  std::vector<lifetime> lifetimes_;
  std::size_t events_ = 0;
};

}  // namespace replay
