// iopt/core/access_object.hpp - software that uses an I/O address space as a device would.
//
// A mediated device, an emulated one, a command parser: it reads and writes at IOVAs, and pins
// pages to keep their frames. Whoever pins is told before an area goes, and must let go.
//
// While an area has pins it is neither cut nor replaced and does not go. So what an object holds, it
// keeps a record of, by IOVA, under a lock of its own; and pins that again, or undoes it, without the
// table's locks.
//
// Layer: core. Includes: base, core/io_pagetable.hpp.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>

#include "iopt/core/io_pagetable.hpp"

namespace iopt {

/// access_object: one user of a table's memory.
///
/// Model       A multiset of pins, each a range as it was pinned, on the table it is attached to.
/// Invariants  No two records of one range, but where two threads first pin it at once.
/// Ownership   The user's. It outlives its stay: detach() before destruction. Not movable.
/// Notification  Before a pinned area goes, on_unmap(context, iovas of the area) is called on every
///             attached access object, without locks, from the thread that unmaps. It must unpin
///             whatever it pinned there before it returns, may call any member but attach, replace
///             and detach, and may be called for areas that it did not pin. It may not attach or detach a
///             domain of the table, nor wait for who does: that waits for the unmap.
/// Threads     As the table. unpin() may be called from any thread.
/// Source      Linux 6.12 drivers/iommu/iommufd/device.c, iommufd_access, as facts.
/// Tested by   tests/core/access_object_test.cpp
template <page_pinner Pinner, iommu_domain Domain, table_traits Traits = single_threaded>
class access_object {
 public:
  using table_type = io_pagetable<Pinner, Domain, Traits>;
  using unmap_callback = void (*)(void* context, iova_range gone);

  /// With pins_pages, the table takes only IOVAs on page boundaries while this is attached.
  explicit access_object(unmap_callback on_unmap = nullptr, void* context = nullptr,
                         bool pins_pages = true) noexcept
      : on_unmap_(on_unmap == nullptr ? +[](void*, iova_range) {} : on_unmap),
        context_(context),
        pins_pages_(pins_pages && on_unmap != nullptr) {}
  access_object(const access_object&) = delete;
  access_object& operator=(const access_object&) = delete;
  ~access_object() { IOPT_ASSERT(table_ == nullptr && pins_.empty()); }

  /// Joins a table.
  /// Errors: invalid_argument, attached already; address_in_use, an area is off page boundaries.
  result<void> attach(table_type& table) {
    if (table_ != nullptr) return fail(errc::invalid_argument);
    if (const result<void> joined = join(table); !joined) return joined;
    table_ = &table;
    return {};
  }

  /// Leaves the table; on_unmap is called for the whole space first. No pin may be left after it.
  void detach() noexcept {
    table_type* const old = table_;
    if (old == nullptr) return;
    leaving_ = 1;
    on_unmap_(context_, iova_range::whole());
    leave(*old);
    table_ = nullptr;
    leaving_ = 0;
  }

  /// Moves to another table: joins it, has the pins in the old one let go, and leaves that.
  /// Errors: no_such_file_or_directory, not attached; as attach(). On error it stays where it was.
  result<void> replace(table_type& next) {
    table_type* const old = table_;
    if (old == nullptr) return fail(errc::no_such_file_or_directory);
    if (old == &next) return {};
    leaving_ = 1;
    // `next_` can be in one list at a time. Until the old one is left somebody stands in, so that
    // nothing is mapped meanwhile that would keep this out.
    access_object stand_in(+[](void*, iova_range) {}, nullptr, pins_pages_);
    if (const result<void> joined = stand_in.join(next); !joined) {
      leaving_ = 0;
      return joined;
    }
    on_unmap_(context_, iova_range::whole());
    leave(*old);  // and nobody there calls it any more
    table_ = &next;
    const result<void> joined = join(next);
    IOPT_ASSERT(joined.has_value());
    static_cast<void>(joined);
    stand_in.leave(next);
    leaving_ = 0;
    return {};
  }

  bool is_attached() const noexcept { return usable() != nullptr; }

  /// Pins the pages that show the range, and calls frames(run) for their frames, whole pages in
  /// order, once all are pinned.
  ///
  /// Errors   In this order: invalid_argument, the access object cannot be told of unmaps;
  ///          no_such_file_or_directory, not attached. Then for each area: invalid_argument, it is
  ///          under notification, or the range begins, or the area ends, inside a page;
  ///          device_or_resource_busy, suspended; operation_not_permitted, the area or its memory
  ///          lacks the right; operation_not_supported, device memory; those of pinning.
  ///          no_such_file_or_directory, a gap. On error nothing is pinned.
  /// Cost     O(log n) an area, and what is pinned now; where this object holds the same range of one
  ///          area already, O(log n) for the ranges it holds: one lock, of its own, and no allocation.
  template <class Frames>
  result<void> pin(iova_range range, access_rights want, Frames frames) {
    if (!pins_pages_) return fail(errc::invalid_argument);
    table_type* const in = usable();
    if (in == nullptr) return fail(errc::no_such_file_or_directory);
    result<void> refused{};
    pinned_part is{};
    if (pin_again(range, rights_of(want), is, refused)) {
      if (!refused) return refused;
      tell(is, range, frames);
      return {};
    }
    table_type& t = *in;
    for (;;) {
      bool any_compact = false;
      {
        detail::shared_lock guard(t.areas_lock_);
        if (const result<void> done = pin_full(t, range, rights_of(want), any_compact, is); !done)
          return done;
        if (!any_compact) {
          is.of != nullptr ? tell(is, range, frames) : tell(t, range, frames);
          return {};
        }
      }
      detail::exclusive_lock guard(t.areas_lock_);
      if (const result<void> grown = t.expand_in(range); !grown) return grown;
    }
  }

  /// Undoes one pin() of the same range. Does not fail and allocates nothing. A range that was not
  /// pinned so is a bug: it is asserted, and without assertions ignored.
  void unpin(iova_range range) noexcept {
    table_type* const t = table_;
    IOPT_ASSERT(t != nullptr);
    if (t == nullptr) return;
    if (unpin_held(*t, range)) return;
    detail::shared_lock guard(t->areas_lock_);
    unpin_areas(*t, range);
  }

  /// Whether this object has pinned pages just so, as this range. Cost: as unpin().
  bool is_pinned(iova_range range) const {
    const table_type* const t = table_;
    if (t == nullptr) return false;
    if (holds(range)) return true;
    detail::shared_lock guard(t->areas_lock_);
    iova next = range.first;
    for (auto c = t->areas_.find(next); c.valid() && c.range().contains(next); c.next()) {
      const iova last = std::min(c.range().last, range.last);
      if (!holds({next, last})) return false;
      if (last == range.last) return true;
      next = last + 1;
    }
    return false;
  }

  /// Copies to.size() bytes from `at` on.
  ///
  /// Errors   invalid_argument, nothing to copy; value_too_large, it wraps;
  ///          no_such_file_or_directory, not attached, or a gap: what comes before it has been
  ///          copied; for each area as pin(), but for alignment; bad_address.
  result<void> read(iova at, std::span<std::byte> to)
    requires copying_pinner<Pinner>
  {
    return copy<access_rights::read>(at, to);
  }
  result<void> write(iova at, std::span<const std::byte> from)
    requires copying_pinner<Pinner>
  {
    return copy<access_rights::write>(at, from);
  }

 private:
  friend class io_pagetable<Pinner, Domain, Traits>;
  using any_area = mapped_area<Traits>;
  using area_type = area<Pinner, Domain, Traits>;
  using pages_type = pages<Pinner, Domain, Traits>;
  using held_type = held_pin<Pinner, Domain, Traits>;

  static access_rights rights_of(access_rights want) noexcept {
    return allows(want, access_rights::write) ? access_rights::write : access_rights::read;
  }

  table_type* usable() const noexcept {
    return leaving_ != 0 ? nullptr : static_cast<table_type*>(table_);
  }

  std::uint64_t alignment() const noexcept { return pins_pages_ ? Traits::page_bytes : 1; }

  result<void> join(table_type& t) {
    detail::exclusive_lock outer(t.accesses_lock_);
    detail::exclusive_lock stable(t.domains_lock_);
    detail::exclusive_lock guard(t.areas_lock_);
    if (const result<void> suits = t.check_alignment(alignment()); !suits) return suits;
    next_ = std::exchange(t.accesses_, this);
    t.update_alignment();
    return {};
  }
  void leave(table_type& t) noexcept {
    detail::exclusive_lock outer(t.accesses_lock_);
    detail::exclusive_lock stable(t.domains_lock_);
    detail::exclusive_lock guard(t.areas_lock_);
    access_object** link = &t.accesses_;
    while (*link != this) link = &(*link)->next_;
    *link = std::exchange(next_, nullptr);
    t.update_alignment();
  }

  /// What every use of an area asks first.
  static result<void> may_use(const any_area& a, access_rights want) {
    const auto refuse = [&](errc code) {
      return fail({code, error_place::area, a.where.first.value});
    };
    if (a.state == area_state::under_notification) return refuse(errc::invalid_argument);
    if (a.suspended) return refuse(errc::device_or_resource_busy);
    if (!allows(a.rights, want)) return refuse(errc::operation_not_permitted);
    if (allows(want, access_rights::write) && !table_type::is_writable(a))
      return refuse(errc::operation_not_permitted);
    if (!table_type::is_compact(a) && !table_type::full(a).source->is_pinnable())
      return refuse(errc::operation_not_supported);
    return {};
  }

  bool holds(iova_range range) const noexcept {
    detail::exclusive_lock mine(lock_);
    return pins_.find_exact(range) != nullptr;
  }

  /// pinned_part: what is told of a range of one area that was pinned: the area, and the frames if they
  /// are one run. A copy, for the record may go before it is told: two threads that pin a range for the
  /// first time at the same time make a record each, and who unpins takes any of them.
  struct pinned_part {
    area_type* of = nullptr;
    run frames{};
  };

  /// Pins once more what this object holds, `is`; false, it does not. Where `refused` becomes an error it
  /// has not been pinned.
  bool pin_again(iova_range range, access_rights rights, pinned_part& is,
                 result<void>& refused) noexcept {
    if (!holds_any_)
      return false;  // who has just been given a pin by another thread misses it: no harm
    detail::exclusive_lock mine(lock_);
    held_type* const held = pins_.find_exact(range);
    if (held == nullptr) return false;
    if (const result<void> ok = may_use(*held->of, rights); !ok) {
      refused = fail(ok.error());
    } else {
      ++held->users;
      note_change(*held);
      is = {held->of, held->frames};
    }
    return true;
  }

  // What pins again, or undoes that, has changed a record and tells its area only when somebody asks, or
  // when the record goes: that is once for any number of changes.
  void note_change(held_type& held) noexcept {
    if (held.is_changed) return;
    held.is_changed = true;
    held.changed_before = std::exchange(changed_, &held);
  }
  /// Tells the areas. Requires: lock_.
  void tell_changes() noexcept {
    while (changed_ != nullptr) {
      held_type& held = *std::exchange(changed_, changed_->changed_before);
      held.is_changed = false;
      held.of->more_pin_calls += held.users - 1 - std::exchange(held.told, held.users - 1);
    }
  }
  void tell_areas() noexcept {
    detail::exclusive_lock mine(lock_);
    tell_changes();
  }

  /// One record of an area more, or less. Requires: the mutex of its pages.
  static void note_pin(area_type& a, int more) noexcept {
    const std::uint32_t before = a.pin_calls;
    detail::release_into(a.pin_calls, before + static_cast<std::uint32_t>(more));
  }

  // core/access_pin.hpp
  result<void> pin_full(table_type& t, iova_range range, access_rights rights, bool& any_compact,
                        pinned_part& only);
  result<void> pin_part(table_type& t, any_area& any, iova_range part, bool ends_here,
                        access_rights rights, bool looked, bool& any_compact, pinned_part& is);

  /// Undoes one pin of a range that lies in one area. False: this object has not pinned it so.
  bool unpin_held(table_type& t, iova_range range) noexcept {
    held_type* held = nullptr;
    {
      detail::exclusive_lock mine(lock_);
      held = pins_.find_exact(range);
      if (held == nullptr) return false;
      if (held->users > 1) {
        --held->users;
        note_change(*held);
        return true;
      }
      if (held->is_changed) tell_changes();
      pins_.erase(*held);
      if (pins_.empty()) detail::release_into(holds_any_, false);
    }
    area_type& a = *held->of;
    {
      detail::exclusive_lock guard(a.source->mutex);
      t.unpin_pages(*a.source, *held);
      note_pin(a, -1);  // who unmaps may go on, and waits for the mutex
    }
    t.destroy(held);
    return true;
  }

  void unpin_areas(table_type& t, iova_range range) noexcept {
    iova next = range.first;
    for (auto c = t.areas_.find(next); c.valid() && c.range().contains(next); c.next()) {
      const iova last = std::min(c.range().last, range.last);
      [[maybe_unused]] const bool was_held = unpin_held(t, {next, last});
      IOPT_ASSERT(was_held);
      if (last == range.last) return;
      next = last + 1;
    }
  }

  /// Tells the frames of a range of one area that this object holds.
  template <class Frames>
  static void tell(const pinned_part& is, iova_range range, Frames& frames) {
    if (is.frames.length_bytes != 0) return frames(is.frames);
    area_type& a = *is.of;
    tell(*a.source, a.indices_of(range), frames);
  }
  /// Tells the frames of a range that is pinned.
  template <class Frames>
  static void tell(table_type& t, iova_range range, Frames& frames) {
    iova next = range.first;
    for (auto c = t.areas_.find(next);; c.next()) {
      area_type& a = table_type::full(*c.value());
      const iova last = std::min(a.where.last, range.last);
      tell(*a.source, a.indices_of({next, last}), frames);
      if (last == range.last) return;
      next = last + 1;
    }
  }
  template <class Frames>
  static void tell(pages_type& p, page_range indices, Frames& frames) {
    detail::exclusive_lock guard(p.mutex);
    run place[32];
    while (indices.first <= indices.last) {
      run_list some{place};
      const std::uint64_t got = p.stored.read(indices, some);
      IOPT_ASSERT(got != 0);
      for (const run& r : some) frames(r);
      indices.first += got;
    }
  }

  // core/access_copy.hpp
  template <access_rights Want, class Bytes>
  result<void> copy(iova at, Bytes bytes);
  template <access_rights Want, class Bytes>
  static result<void> copy_from(table_type& t, iova at, iova end, Bytes bytes, iova& next,
                                std::optional<iova_range>& any_compact);
  template <access_rights Want, class Bytes>
  static result<void> copy_frames(table_type& t, pages_type& p, std::uint64_t byte, Bytes bytes);

  unmap_callback on_unmap_;
  void* context_;
  bool pins_pages_;
  // Unpins come from threads that unmap, also while this leaves: where the pins are is known until
  // nobody can call any more, and no new ones are made meanwhile.
  typename Traits::template counter<table_type*> table_{nullptr};
  typename Traits::template counter<std::uint32_t> leaving_{0};
  access_object* next_ = nullptr;
  mutable typename Traits::shared_mutex lock_{};  // after every other; exclusive is the cheap way
  interval_tree<held_type, iova> pins_;           // one for each range held, that lies in one area
  typename Traits::template counter<bool> holds_any_{false};  // for who does not have the lock
  held_type* changed_ = nullptr;  // those whose areas have not been told all
};

}  // namespace iopt

#include "iopt/core/access_copy.hpp"  // IWYU pragma: export
#include "iopt/core/access_pin.hpp"   // IWYU pragma: export
