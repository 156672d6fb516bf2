// iopt/backends/mock/pinner.hpp - processes, files and devices that exist in name only.
//
// The pinner of tests: it makes owners, says how contiguous their memory is, where it has holes and
// where it is read-only; it counts every pin and every charge; and it stops the program when a
// frame is given back that was not taken, or that a watched domain still shows to a device.
//
// Layer: backends/mock. Includes: base, policy, the standard library.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include "iopt/backends/mock/accounts.hpp"
#include "iopt/backends/mock/count_table.hpp"
#include "iopt/backends/mock/domain.hpp"
#include "iopt/backends/mock/fault_injector.hpp"
#include "iopt/backends/mock/frame_contents.hpp"
#include "iopt/backends/mock/frame_watch.hpp"
#include "iopt/backends/mock/memory_space.hpp"
#include "iopt/backends/mock/pinner_options.hpp"
#include "iopt/backends/mock/strictness.hpp"
#include "iopt/policy/page_pinner.hpp"

namespace iopt::mock {

/// pinner: a strict page_pinner that also pins files, resolves device memory, and copies.
///
/// Model       Every process has 2^47 bytes, all of them present and writable until a test says
///             otherwise; frames of different pages, files and exporters are different. pins(f) as
///             in the concept; the bytes of a page are 0 until written.
/// Invariants  pinned_pages() is the sum of pins(f); a frame is unpinned for the last time only when
///             no watched domain shows it, nor has shown it since its last sync().
/// Errors      Those of the concepts, the limits set, and what a fault_injector makes fail. Broken
///             preconditions are violations (strictness).
/// Cost        A pin takes O(1) for each block of the contiguity; pins are counted by runs.
/// Threads     All calls may run together: one lock.
/// Tested by   tests/backends/mock/pinner_test.cpp, tests/policy/page_pinner_test.cpp
class pinner : public strictness {
 public:
  using owner = mock::process;
  using file = mock::file;
  using exporter = mock::exporter;

  explicit pinner(pinner_options options = {})
      : strictness("mock::pinner"), options_(options), contents_(options.page_bytes) {
    IOPT_ASSERT(is_power_of_two(options.page_bytes));
    current_ = create_process();
  }

  // What there is.

  /// A process of the user, with memory of its own.
  owner create_process(std::uint32_t user = 0) {
    const std::lock_guard hold(mutex_);
    const owner made{add_space(memory_space::largest)};
    accounts_.set_user(made.id, user);
    return made;
  }
  /// The process is gone: its memory cannot be pinned or copied any more. Its pins stay.
  void kill(owner w) {
    const std::lock_guard hold(mutex_);
    alive_.at(w.id) = false;
  }
  void set_current(owner w) {
    const std::lock_guard hold(mutex_);
    current_ = w;
  }
  file create_file(std::uint64_t size_bytes) {
    const std::lock_guard hold(mutex_);
    return {add_space(size_bytes)};
  }
  void set_size(file f, std::uint64_t size_bytes) {
    const std::lock_guard hold(mutex_);
    space(f.id).set_size(size_bytes);
  }
  exporter create_exporter(std::uint64_t size_bytes) {
    const std::lock_guard hold(mutex_);
    const exporter made{add_space(size_bytes)};
    revoked_[made.id] = false;
    return made;
  }
  /// Takes the exporter's memory away, or gives it back. Requires: no watched domain shows it.
  void set_revoked(exporter e, bool revoked) {
    const std::lock_guard hold(mutex_);
    revoked_.at(e.id) = revoked;
    const physical_range all = space(e.id).frames();
    if (revoked) check_hidden(run(all.first, all.length()), "set_revoked: still mapped");
  }
  /// The exporter's memory is elsewhere when it comes back. Requires: it is revoked.
  void relocate(exporter e) {
    const std::lock_guard hold(mutex_);
    if (!revoked_.at(e.id)) violated("relocate: not revoked", e.id);
    space(e.id).move_to(windows_++);
  }

  /// Process w shows bytes of e, from `offset` on, at these addresses, as a VMM shows a BAR: it has no
  /// memory there that could be pinned.
  void map_device(owner w, user_range r, exporter e, std::uint64_t offset) {
    const std::lock_guard hold(mutex_);
    set(space(w.id).holes, r, true);
    shown_.push_back({w, r, e, offset});
  }

  // How memory is.

  /// Nothing is there (true), or memory again (false).
  void set_hole(owner w, user_range r, bool on = true) {
    const std::lock_guard hold(mutex_);
    set(space(w.id).holes, r, on);
  }
  void set_read_only(owner w, user_range r, bool on = true) {
    const std::lock_guard hold(mutex_);
    set(space(w.id).read_only, r, on);
  }
  /// How the frames of a process, a file or an exporter lie. Requires: nothing is pinned.
  template <class Handle>
  void set_contiguity(Handle h, std::uint64_t bytes) {
    const std::lock_guard hold(mutex_);
    if (pins_.total() != 0) violated("set_contiguity: pages are pinned", h.id);
    space(h.id).set_contiguity(std::max(bytes, options_.page_bytes));
  }
  /// A pin() takes at most that many pages; 0 for no limit.
  void set_longest_pin(std::uint64_t pages) {
    const std::lock_guard hold(mutex_);
    longest_pin_pages_ = pages;
  }
  /// The account that w has in this mode holds at most that many pages.
  void set_limit(owner w, account_mode mode, std::uint64_t pages) {
    const std::lock_guard hold(mutex_);
    accounts_.of(w.id, mode).limit_pages = pages;
  }

  // page_pinner

  owner current() const {
    const std::lock_guard hold(mutex_);
    return current_;
  }
  result<void> pin(const owner& w, user_range r, access_rights a, run_list& out) {
    const std::lock_guard hold(mutex_);
    ++calls_.pin;
    if (fails(fault_point::pin)) return fail(options_.faults->error_of(fault_point::pin));
    if (!may_pin(r, out)) return fail(errc::invalid_argument);
    if (!alive_.at(w.id)) return fail(errc::bad_address);
    return take(space(w.id), r, a, out, errc::bad_address);
  }
  void unpin(run r, bool dirty) noexcept {
    const std::lock_guard hold(mutex_);
    ++calls_.unpin;
    if (r.length_bytes == 0 ||
        !physical_range::sized(r.first, r.length_bytes).is_aligned(options_.page_bytes) ||
        r.type() != memory_type::cached) {
      return violated("unpin: not whole pages of memory", r.first.value, r.length_bytes);
    }
    const std::uint64_t first = page_of(r.first);
    const std::uint64_t last = first + (r.length_bytes / options_.page_bytes - 1);
    if (!pins_.subtract(first, last, dirty))
      return violated("unpin: a page that is not pinned", r.first.value,
                      r.first.value + (r.length_bytes - 1));
    calls_.pages_unpinned += last - first + 1;
    if (watches_.empty()) return;
    pins_.for_each(first, last, [&](auto from, auto to, std::uint64_t count, bool) {
      if (count != 0) return true;
      check_hidden(run({from * options_.page_bytes}, (to - from + 1) * options_.page_bytes),
                   "unpin: a device can still reach the page");
      return true;
    });
  }
  bool reachable(const owner& w) noexcept {
    const std::lock_guard hold(mutex_);
    return alive_.at(w.id);
  }
  result<void> charge(const owner& w, account_mode mode, std::uint64_t pages) {
    const std::lock_guard hold(mutex_);
    ++calls_.charge;
    if (fails(fault_point::charge)) return fail(options_.faults->error_of(fault_point::charge));
    if (mode == account_mode::mm && !alive_.at(w.id)) return fail(errc::invalid_argument);
    if (!accounts_.charge(w.id, mode, pages)) return fail(errc::not_enough_memory);
    return {};
  }
  void uncharge(const owner& w, account_mode mode, std::uint64_t pages) noexcept {
    const std::lock_guard hold(mutex_);
    ++calls_.uncharge;
    if (!accounts_.uncharge(w.id, mode, pages)) violated("uncharge: more than was charged", pages);
  }

  // file_pinner, device_memory_pinner

  result<void> pin_file(const file& f, user_range r, access_rights a, run_list& out) {
    const std::lock_guard hold(mutex_);
    ++calls_.pin_file;
    if (fails(fault_point::pin_file)) return fail(options_.faults->error_of(fault_point::pin_file));
    if (!may_pin(r, out)) return fail(errc::invalid_argument);
    return take(space(f.id), r, a, out, errc::invalid_argument);
  }
  result<void> resolve(const exporter& e, user_range r, run_list& out) {
    const std::lock_guard hold(mutex_);
    ++calls_.resolve;
    if (fails(fault_point::resolve)) return fail(options_.faults->error_of(fault_point::resolve));
    if (!may_pin(r, out)) return fail(errc::invalid_argument);
    if (revoked_.at(e.id)) return fail(errc::no_such_device);
    return take(space(e.id), r, access_rights::none, out, errc::result_out_of_range,
                memory_type::mmio);
  }

  std::optional<device_view<exporter>> device_memory_at(const owner& w, user_range r) const {
    const std::lock_guard hold(mutex_);
    for (const device_window& d : shown_)
      if (d.process == w && d.where.contains(r))
        return device_view<exporter>{d.shows, d.offset + (r.first - d.where.first)};
    return std::nullopt;
  }

  // copying_pinner, frame_copying_pinner

  result<void> read(const owner& w, user_address at, std::span<std::byte> to) {
    const std::lock_guard hold(mutex_);
    ++calls_.read;
    return copy(w, at, to,
                [this](std::uint64_t p, std::span<std::byte> part) { contents_.load({p}, part); });
  }
  result<void> write(const owner& w, user_address at, std::span<const std::byte> from) {
    const std::lock_guard hold(mutex_);
    ++calls_.write;
    return copy(w, at, from, [this](std::uint64_t p, std::span<const std::byte> part) {
      contents_.store({p}, part);
    });
  }
  void read_frame(physical at, std::span<std::byte> to) noexcept {
    const std::lock_guard hold(mutex_);
    if (check_pinned(at, to.size())) contents_.load(at, to);
  }
  void write_frame(physical at, std::span<const std::byte> from) noexcept {
    const std::lock_guard hold(mutex_);
    if (check_pinned(at, from.size())) contents_.store(at, from);
  }

  // What a test asks.

  std::uint64_t page_bytes() const noexcept { return options_.page_bytes; }
  /// Where a byte of a process, a file or an exporter is, pinned or not.
  physical frame_of(owner w, user_address at) const { return frame(w.id, at.value); }
  physical frame_of(file f, std::uint64_t offset) const { return frame(f.id, offset); }
  physical frame_of(exporter e, std::uint64_t offset) const { return frame(e.id, offset); }

  std::uint64_t pins(physical at) const {
    const std::lock_guard hold(mutex_);
    return pins_.count(page_of(at));
  }
  std::uint64_t pins(owner w, user_address at) const { return pins(frame_of(w, at)); }
  /// The sum of pins(f) over all frames.
  std::uint64_t pinned_pages() const {
    const std::lock_guard hold(mutex_);
    return pins_.total();
  }
  /// Whether the page was ever unpinned as dirty.
  bool was_dirtied(physical at) const {
    const std::lock_guard hold(mutex_);
    return pins_.is_marked(page_of(at));
  }
  std::uint64_t charged(owner w, account_mode mode) const {
    const std::lock_guard hold(mutex_);
    return accounts_.of(w.id, mode).pages;
  }
  /// What is charged in all accounts together.
  std::uint64_t charged() const {
    const std::lock_guard hold(mutex_);
    return accounts_.total();
  }
  /// The pages charged for the process in whatever mode: the kernel's pinned_vm.
  std::uint64_t pinned_vm(owner w) const {
    const std::lock_guard hold(mutex_);
    return accounts_.pinned_vm(w.id);
  }
  /// Whether nothing is pinned and nothing is charged.
  bool is_idle() const {
    const std::lock_guard hold(mutex_);
    return pins_.total() == 0 && accounts_.total() == 0;
  }
  pinner_calls calls() const {
    const std::lock_guard hold(mutex_);
    return calls_;
  }
  void reset_calls() {
    const std::lock_guard hold(mutex_);
    calls_ = {};
  }

  /// From now on, a frame whose last pin goes while this domain still maps it, or has unmapped it
  /// and not flushed, is a violation. The domain may die before the pinner.
  void watch(domain& d) {
    const std::lock_guard hold(mutex_);
    std::erase_if(watches_, [](const auto& w) { return w.use_count() == 1; });
    watches_.push_back(d.watch());
  }

  /// Empty when the invariants hold, else the one that does not.
  std::string_view verify() const {
    const std::lock_guard hold(mutex_);
    const std::string_view fault = accounts_.verify();
    if (!fault.empty()) return fault;
    return pins_.verify();
  }

 private:
  bool fails(fault_point point) const noexcept {
    return options_.faults != nullptr && options_.faults->fails(point);
  }
  std::uint64_t page_of(physical at) const noexcept { return at.value / options_.page_bytes; }

  std::uint32_t add_space(std::uint64_t size_bytes) {
    spaces_.emplace_back(windows_++, size_bytes, options_.page_bytes, options_.contiguity_bytes);
    accounts_.add_process();
    alive_.push_back(true);
    return static_cast<std::uint32_t>(spaces_.size() - 1);
  }
  memory_space& space(std::uint32_t id) { return spaces_.at(id); }
  physical frame(std::uint32_t id, std::uint64_t at) const {
    const std::lock_guard hold(mutex_);
    return spaces_.at(id).where(at);
  }
  static void set(range_set& s, user_range r, bool on) {
    if (on) return s.insert(r.first.value, r.last.value);
    s.remove(r.first.value, r.last.value);
  }

  bool may_pin(user_range r, const run_list& out) const noexcept {
    if (r.last < r.first || !r.is_aligned(options_.page_bytes))
      return violated("pin: not whole pages", r.first.value, r.last.value), false;
    if (out.full()) return violated("pin: the list is full", r.first.value, r.last.value), false;
    return true;
  }
  result<void> take(const memory_space& s, user_range r, access_rights a, run_list& out,
                    errc nothing, memory_type type = memory_type::cached) {
    std::uint64_t left = s.usable(r.first.value, allows(a, access_rights::write));
    left = align_down(left, options_.page_bytes);
    if (left == 0) return fail({nothing, error_place::request_byte, 0});
    left = std::min(left - 1, r.length_minus_one()) + 1;
    if (longest_pin_pages_ != 0) left = std::min(left, longest_pin_pages_ * options_.page_bytes);
    for (std::uint64_t at = r.first.value; left != 0;) {
      const run piece = s.run_at(at, left, type);
      if (!out.append(piece)) break;
      if (type == memory_type::cached) {
        const std::uint64_t pages = piece.length_bytes / options_.page_bytes;
        pins_.add(page_of(piece.first), page_of(piece.first) + (pages - 1));
        calls_.pages_pinned += pages;
      }
      at += piece.length_bytes;
      left -= piece.length_bytes;
    }
    return {};
  }

  void check_hidden(run r, const char* text) const noexcept {
    for (const auto& watch : watches_) {
      if (watch->reaches(r)) violated(text, r.first.value, r.first.value + (r.length_bytes - 1));
    }
  }
  bool check_pinned(physical at, std::size_t bytes) const noexcept {
    if (bytes == 0) return false;
    const std::uint64_t last = at.value + (bytes - 1);
    if (pins_.least(page_of(at), page_of({last})) != 0) return true;
    return violated("copy: a frame that is not pinned", at.value, last), false;
  }

  // Copies page by page; `each` gets a physical address and the part for it.
  template <class Byte, class Each>
  result<void> copy(owner w, user_address at, std::span<Byte> bytes, Each each) {
    if (fails(fault_point::copy)) return fail(options_.faults->error_of(fault_point::copy));
    constexpr bool to_write = std::is_const_v<Byte>;
    for (std::size_t done = 0; done < bytes.size();) {
      if (!alive_.at(w.id) || done > top - at.value) return fail(errc::bad_address);
      const std::uint64_t from = at.value + done;
      std::uint64_t step = space(w.id).usable(from, to_write);
      if (step == 0) return fail({errc::bad_address, error_place::request_byte, done});
      step = std::min(
          {step, bytes.size() - done, options_.page_bytes - (from & (options_.page_bytes - 1))});
      each(space(w.id).where(from).value, bytes.subspan(done, step));
      done += step;
    }
    return {};
  }
  struct device_window {
    owner process;
    user_range where;
    exporter shows;
    std::uint64_t offset;
  };

  pinner_options options_;
  mutable std::mutex mutex_;
  std::vector<memory_space> spaces_;
  std::vector<bool> alive_;  // by the same number; files and exporters too
  std::unordered_map<std::uint32_t, bool> revoked_;
  std::vector<device_window> shown_;
  mutable accounts accounts_;
  std::uint64_t windows_ = 0;
  std::uint64_t longest_pin_pages_ = 0;
  owner current_{};
  count_table pins_;
  pinner_calls calls_;
  std::vector<std::shared_ptr<const frame_watch>> watches_;
  frame_contents contents_;
};

static_assert(page_pinner<pinner> && file_pinner<pinner> && device_showing_pinner<pinner> &&
              copying_pinner<pinner> && frame_copying_pinner<pinner>);

}  // namespace iopt::mock
