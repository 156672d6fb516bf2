// iopt/backends/mock/tce_group.hpp - a PowerPC platform and its groups, which exist in name only.
//
// Layer: backends/mock. Includes: backends/mock/domain.hpp, policy/tce_group.hpp.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <new>
#include <optional>
#include <utility>
#include <vector>

#include "iopt/backends/mock/domain.hpp"
#include "iopt/backends/mock/domain_options.hpp"
#include "iopt/backends/mock/fault_injector.hpp"
#include "iopt/backends/mock/strictness.hpp"
#include "iopt/policy/tce_group.hpp"

namespace iopt::mock {

/// tce_platform: what makes tables: mock domains of one page size.
///
/// Model       The tables that are alive.
/// Invariants  A table that goes is one that it made, empty, and shown to nobody.
/// Errors      create(): not_enough_memory, and what a fault_injector makes fail.
/// Tested by   tests/backends/mock/tce_group_test.cpp
class tce_platform : public strictness {
 public:
  using seen = std::function<void(domain&)>;

  /// `made` is told of each new table: a pinner that watches it, for one.
  explicit tce_platform(fault_injector* faults = nullptr, seen made = {})
      : strictness("mock::tce_platform"), faults_(faults), made_(std::move(made)) {}
  ~tce_platform() { IOPT_ASSERT(tables_.empty()); }

  bool fails(fault_point point) noexcept { return faults_ != nullptr && faults_->fails(point); }
  error error_of(fault_point point) const noexcept { return faults_->error_of(point); }

  result<domain*> create(iova first, const tce_window& window) {
    if (fails(fault_point::create_table)) return fail(error_of(fault_point::create_table));
    domain_options o;
    o.page_sizes = {std::uint64_t{1} << window.page_lg2};
    o.aperture = iova_range::sized(first, window.length_bytes);
    o.tracks_dirty = false;
    o.faults = faults_;
    domain* const fresh = new (std::nothrow) domain(o);
    if (fresh == nullptr) return fail(errc::not_enough_memory);
    tables_.push_back(fresh);
    if (made_) made_(*fresh);
    return fresh;
  }
  void destroy(domain& d) noexcept {
    const auto at = std::find(tables_.begin(), tables_.end(), &d);
    if (at == tables_.end()) return violated("destroy_table: not a table");
    if (d.bytes_mapped() != 0) violated("destroy_table: not empty", d.bytes_mapped());
    if (std::count(shown_.begin(), shown_.end(), &d) != 0)
      violated("destroy_table: a group shows it");
    tables_.erase(at);
    delete &d;
  }
  void show(domain& d) { shown_.push_back(&d); }
  void hide(domain& d) noexcept { shown_.erase(std::find(shown_.begin(), shown_.end(), &d)); }

  const std::vector<domain*>& tables() const noexcept { return tables_; }

 private:
  fault_injector* faults_;
  seen made_;
  std::vector<domain*> tables_;
  std::vector<domain*> shown_;  // once for each group that shows it
};

/// tce_group_options: what a group's devices are like.
struct tce_group_options {
  /// Nothing: there is no table group behind the devices.
  std::optional<tce_properties> properties = tce_properties{
      .window32_start = 0,
      .window32_size = std::uint32_t{1} << 30,
      .page_sizes = (1U << 12) | (1U << 16) | (1U << 24),
      .max_windows = 2,
      .levels = 5,
  };
  group_kind kind = group_kind::iommu;
  iova second_window{std::uint64_t{1} << 59};  // where the window of slot 1 begins
  bool handles_errors = false;
  std::int64_t error_state = 0;  // what asking for the state answers
};

/// tce_group: a tce_group whose tables are mock domains.
///
/// Model       A partial function from slots to tables; the operations that were asked of it.
/// Errors      set_window(): what a fault_injector makes fail.
/// Threads     Thread-compatible.
/// Tested by   tests/backends/mock/tce_group_test.cpp
class tce_group final : public iopt::tce_group<domain> {
 public:
  explicit tce_group(tce_platform& platform, tce_group_options options = {})
      : platform_(platform), options_(std::move(options)) {}
  tce_group(const tce_group&) = delete;
  tce_group& operator=(const tce_group&) = delete;
  ~tce_group() { IOPT_ASSERT(shown(0) == nullptr && shown(1) == nullptr); }

  group_kind kind() const noexcept override { return options_.kind; }
  const tce_properties* properties() const noexcept override {
    return options_.properties ? &*options_.properties : nullptr;
  }
  const void* platform() const noexcept override { return &platform_; }

  /// Eight bytes an entry, in whole pages; a window is a power of two, of at least a page.
  std::uint64_t table_bytes(const tce_window& w) const noexcept override {
    if (!std::has_single_bit(w.length_bytes) || w.length_bytes >> w.page_lg2 == 0) return 0;
    if (w.levels == 0 || w.levels > options_.properties->levels) return 0;
    return std::max<std::uint64_t>((w.length_bytes >> w.page_lg2) * 8, 64 * kibibyte) * w.levels;
  }
  result<domain*> create_table(std::size_t slot, const tce_window& w) override {
    return platform_.create(
        slot == 0 ? iova{options_.properties->window32_start} : options_.second_window, w);
  }
  void destroy_table(domain& table) noexcept override { platform_.destroy(table); }
  result<void> set_window(std::size_t slot, domain& table) override {
    if (platform_.fails(fault_point::set_window))
      return fail(platform_.error_of(fault_point::set_window));
    IOPT_ASSERT(shown(slot) == nullptr);
    shown_[slot] = &table;
    platform_.show(table);
    return {};
  }
  void unset_window(std::size_t slot) noexcept override {
    if (shown(slot) != nullptr) platform_.hide(*std::exchange(shown_[slot], nullptr));
  }

  bool handles_errors() const noexcept override { return options_.handles_errors; }
  result<std::int64_t> operate(const pe_operation& what) override {
    operations_.push_back(what);
    return what.what == 4 ? options_.error_state : 0;
  }

  /// What the devices see in a slot.
  domain* shown(std::size_t slot) const noexcept { return shown_.at(slot); }
  const std::vector<pe_operation>& operations() const noexcept { return operations_; }
  tce_group_options& options() noexcept { return options_; }

 private:
  tce_platform& platform_;
  tce_group_options options_;
  std::array<domain*, tce_windows> shown_{};
  std::vector<pe_operation> operations_;
};

}  // namespace iopt::mock
