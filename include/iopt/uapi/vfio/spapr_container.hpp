// iopt/uapi/vfio/spapr_container.hpp - a VFIO container with the SPAPR TCE driver, v1 and v2.
//
// On PowerPC a container maps through windows, each with a table of entries (policy/tce_group.hpp).
// There is no list of mappings: a MAP_DMA overwrites entries, an UNMAP_DMA clears them.
//
// How the engine carries that. Each window is an io_pagetable of which a page is an entry, so that
// IOMMU pages of 4 KiB to 16 MiB and beyond are alike (uapi/vfio/spapr_entries.hpp); what is mapped
// over goes by remap() and by unmapping with holes (spapr_window.hpp). In v1 the engine pins one CPU
// page an entry, and nothing is charged for it: the window was, by ENABLE. In v2 it pins nothing: it
// uses registered memory, each region of which is an io_pagetable too (spapr_memory.hpp), pinned and
// charged by REGISTER_MEMORY.
//
// Nothing here was compared with hardware: it follows the driver's source. What is only [inferred]
// from it, and looks like a defect: a region of no bytes is ENOMEM; UNREGISTER_MEMORY of a region that
// entries still use answers 0; window checks that fail answer +1 and not EINVAL, because two error
// codes are or-ed to one truth value. In v2 an entry larger than the page behind it is EINVAL: the
// driver's EPERM, which comes after, is never reached.
//
// Otherwise than the driver:
//   - A MAP_DMA past the end of its window is EINVAL, with nothing changed: there it is up to the
//     platform. Memory that wraps is the error of memory that is not there, with nothing changed.
//   - Out of memory is ENOMEM in calls that allocate nothing there: MAP_DMA; an UNMAP_DMA that cuts a
//     mapping in two, with nothing changed; binding to a process.
//   - Where the table refuses an entry, see spapr_window.hpp for which entries are cleared. All
//     memory of a piece is asked for before its first entry is written.
//   - A page in v1 that does not lie on the boundary of an entry larger than the CPU's pages is EPERM.
//   - Leaving takes the windows from the group also where the platform cannot remove them.
//   - The driver's leaks are not reproduced: the pin of a page smaller than its entry; the charge of a
//     table that the platform then refuses, or makes smaller than it said; the use counts of regions
//     behind an entry that the table refuses to write; regions unregistered while in use, which here
//     go with the last entry that shows them.
//   - The driver stops with success at a region that is just going. Here calls come one at a time.
// What cannot be: a driver without a group, and a group in it without a table group, so ENODEV, ENXIO
// and EFAULT for these are never answered after SET_IOMMU. Containers without an IOMMU (noiommu) are
// native_container's.
//
// The members are defined by theme: uapi/vfio/spapr_groups.hpp, uapi/vfio/spapr_calls.hpp.
//
// Layer: uapi. Includes: core, policy, uapi.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <new>
#include <optional>
#include <string_view>
#include <utility>

#include "iopt/policy/tce_group.hpp"
#include "iopt/uapi/argument.hpp"
#include "iopt/uapi/vfio/profile.hpp"
#include "iopt/uapi/vfio/spapr_abi.hpp"
#include "iopt/uapi/vfio/spapr_memory.hpp"
#include "iopt/uapi/vfio/spapr_window.hpp"

namespace iopt::vfio {

/// spapr_options: what the platform says.
struct spapr_options {
  std::int64_t handles_errors = 0;  // what VFIO_CHECK_EXTENSION answers to VFIO_EEH
};

/// spapr_container: what a descriptor of /dev/vfio/vfio is on PowerPC.
///
/// Model       A list of groups. Without a driver, nothing more. With one: the process it is bound
///             to, or none yet; up to two windows, each a spapr_window shown to every group; whether
///             it is enabled; in v2, a set of registrations.
/// Ownership   Refers to the registered memory, which every container of the machine shares, and to
///             the groups, which outlive their stay. Tables are made and destroyed through the groups.
///             Not movable.
/// Errors      Typed members answer what the ioctl of the name does, in the order of its checks. On
///             error nothing changed, but for map_dma(), and that the container may be bound now.
/// Cost        As io_pagetable.
/// Threads     One lock over it all.
/// Source      Linux 6.12 vfio_iommu_spapr_tce.c and container.c, as facts.
/// Tested by   tests/uapi/vfio/spapr_container_test.cpp
template <page_pinner Pinner, tce_table Domain,
          uapi::front_end_profile Profile = uapi::default_profile>
class spapr_container {
 public:
  using traits = typename Profile::traits;
  using group_type = tce_group<Domain>;
  using memory_type = spapr_memory<Pinner, traits>;
  using window_type = spapr_window<Pinner, Domain, traits>;
  using owner_type = typename Pinner::owner;
  using copy_type = typename Profile::copy;
  using caller_type = typename Profile::caller;
  static constexpr std::uint64_t page_bytes = traits::page_bytes;

  explicit spapr_container(memory_type& memory, spapr_options options = {}, copy_type copy = {},
                           caller_type caller = {}, typename traits::memory source = {})
      : registered_(memory),
        options_(options),
        copy_(std::move(copy)),
        caller_(std::move(caller)),
        memory_(source) {}
  spapr_container(const spapr_container&) = delete;
  spapr_container& operator=(const spapr_container&) = delete;
  /// Every group has left.
  ~spapr_container() {
    while (groups_ != nullptr) static_cast<void>(leave(*groups_->group));
  }

  /// VFIO_* on the container's descriptor: what the ioctl returns, or an errno, negative.
  uapi::answer ioctl(std::uint32_t request, std::uint64_t argument);

  // --- Groups, the driver, windows: uapi/vfio/spapr_groups.hpp ---

  /// VFIO_GROUP_SET_CONTAINER. Errors: invalid_argument, it is here already; with a driver, in this
  /// order: invalid_argument, it is emulated; no_such_device, it has no table group;
  /// invalid_argument, v2 and the platform makes no windows; device_or_resource_busy, v1 and there
  /// is a group; operation_not_permitted, another platform; those of setting the windows.
  /// not_enough_memory.
  result<void> join(group_type& group);
  /// VFIO_GROUP_UNSET_CONTAINER. Clears every entry of every window, whoever else uses them; the
  /// last group takes the driver with it. Errors: invalid_argument, it is not here.
  result<void> leave(group_type& group) noexcept;

  /// VFIO_CHECK_EXTENSION: a number, 0 for no.
  std::int64_t check_extension(std::uint64_t extension) const noexcept;
  /// VFIO_SET_IOMMU. Errors: invalid_argument without groups, or with a driver; no_such_device for
  /// a type that nobody knows; those of joining each group.
  result<void> set_iommu(std::uint64_t type);

  /// VFIO_IOMMU_SPAPR_TCE_CREATE: where the window begins.
  /// Errors: invalid_argument without a driver; operation_not_permitted, bound to another process
  /// (as all that follow); inappropriate_io_control_operation in v1; those of making the default
  /// window, if none was made; no_space_on_device, there are two; invalid_argument, a page size that
  /// the platform has not; operation_not_permitted, it makes no windows; invalid_argument, a size or
  /// levels that it has not; not_enough_memory, over the limit; any errno of the platform.
  result<iova> create_window(const tce_window& window);
  /// VFIO_IOMMU_SPAPR_TCE_REMOVE of the window that has the address. 0, while no default window was
  /// made, forgets that one is wanted. Errors: invalid_argument, no window;
  /// operation_not_permitted, the platform removes none: its entries are cleared then.
  result<void> remove_window(iova inside);

  // --- The rest: uapi/vfio/spapr_calls.hpp ---

  /// VFIO_IOMMU_ENABLE (v1). Errors: device_or_resource_busy, it is; operation_not_permitted, there
  /// is no window below 4 GiB; not_enough_memory, over the limit.
  result<void> enable();
  /// VFIO_IOMMU_DISABLE (v1). Mappings stay.
  result<void> disable();

  /// VFIO_IOMMU_SPAPR_REGISTER_MEMORY (v2). Errors: invalid_argument, not whole pages, or a wrap;
  /// device_or_resource_busy, this container has the very region; those of spapr_memory::add().
  result<void> register_memory(user_address first, std::uint64_t length_bytes);
  /// VFIO_IOMMU_SPAPR_UNREGISTER_MEMORY (v2). Errors: operation_not_permitted, not bound;
  /// invalid_argument, not whole pages; no_such_file_or_directory, it is no region of this
  /// container. Succeeds while entries use it.
  result<void> unregister_memory(user_address first, std::uint64_t length_bytes);

  /// VFIO_IOMMU_MAP_DMA. Tells 0; or 1, the IOVA is not on the boundary of an entry.
  ///
  /// Errors   In this order: operation_not_permitted, not enabled; invalid_argument, unknown flags;
  ///          those of making the default window, if none was made; no_such_device_or_address, no
  ///          window has the IOVA; invalid_argument, the length or the address is no multiple of the
  ///          window's page, or no right is asked for, or the range passes the window's end; those
  ///          of spapr_window::put(), with which the entries before the failing one are cleared.
  result<uapi::answer> map_dma(std::uint32_t flags, user_address vaddr, iova at,
                               std::uint64_t size_bytes);
  /// VFIO_IOMMU_UNMAP_DMA. Tells 0; or 1, the IOVA is not on the boundary of an entry, or the range
  /// passes the window's end.
  /// Errors: operation_not_permitted, not enabled; invalid_argument, flags; as map_dma() up to the
  /// length; those of spapr_window::clear().
  result<uapi::answer> unmap_dma(std::uint32_t flags, iova first, std::uint64_t size_bytes);

  /// The windows, to look at. Requires: no other thread calls.
  const window_type* window(std::size_t slot) const noexcept {
    return slot < tce_windows && windows_[slot] != nullptr ? &windows_[slot]->shows : nullptr;
  }
  bool is_enabled() const noexcept { return enabled_; }
  /// Empty when all is sound, else what is not.
  std::string_view verify() const;

 private:
  using guard = detail::exclusive_lock<typename traits::mutex>;
  using region_type = typename memory_type::region;
  using space_type = typename memory_type::space;

  enum class driver : std::uint8_t { none, v1, v2 };
  struct member {
    group_type* group;
    member* next = nullptr;
    member* next_attached = nullptr;  // the last that came is the first
    bool attached = false;
  };
  struct window_record {
    window_record(memory_type& memory, space_type* space, Domain& table,
                  typename traits::memory source)
        : shows(memory, space, table, source) {}
    window_type shows;
    std::uint64_t charged_pages = 0;
    account_mode mode{};
  };
  struct registration {
    region_type* region;
    registration* next;
  };

  Pinner& pinner() noexcept { return registered_.pinner(); }
  account_mode mode() noexcept { return locked_by(caller_); }

  // spapr_groups.hpp
  member* find(const group_type& group) noexcept;
  group_type& first_group() const noexcept { return *attached_->group; }
  result<void> attach(member& m);
  void detach(member& m) noexcept;
  void release_driver(group_type& last) noexcept;
  result<iova> add_window(const tce_window& wanted);
  result<window_record*> new_window(const tce_window& wanted, std::size_t slot);
  void free_window(window_record* w, group_type& through) noexcept;
  result<void> add_default_window();
  result<window_record*> window_at(iova at);

  // spapr_calls.hpp: what every call asks first; with the lock held.
  result<void> enter() const;
  result<void> enter(driver wanted) const;
  result<void> enter_enabled() const;
  result<void> enter_bound(driver wanted);
  result<void> bind();
  template <class F>
  auto locked(F f) {
    guard held(lock_);
    return f();
  }

  result<uapi::answer> info_ioctl(user_address argument);
  result<uapi::answer> map_ioctl(user_address argument);
  result<uapi::answer> unmap_ioctl(user_address argument);
  result<uapi::answer> register_ioctl(user_address argument);
  result<uapi::answer> unregister_ioctl(user_address argument);
  result<uapi::answer> create_ioctl(user_address argument);
  result<uapi::answer> remove_ioctl(user_address argument);
  result<uapi::answer> errors_ioctl(user_address argument);
  result<uapi::answer> operate(group_type& group, user_address argument);

  memory_type& registered_;
  spapr_options options_;
  [[no_unique_address]] copy_type copy_;
  [[no_unique_address]] caller_type caller_;
  [[no_unique_address]] typename traits::memory memory_{};
  mutable typename traits::mutex lock_{};  // over all that follows

  member* groups_ = nullptr;    // the last that joined is the first
  member* attached_ = nullptr;  // to the driver
  driver driver_ = driver::none;
  bool enabled_ = false;
  bool default_window_pending_ = false;
  std::optional<owner_type> owner_;  // whom it is bound to
  space_type* space_ = nullptr;      // his registered memory, in v2
  std::uint64_t enabled_pages_ = 0;  // charged by enable()
  account_mode enabled_mode_{};
  std::array<window_record*, tce_windows> windows_{};
  registration* registrations_ = nullptr;
};

}  // namespace iopt::vfio

#include "iopt/uapi/vfio/spapr_calls.hpp"   // IWYU pragma: export
#include "iopt/uapi/vfio/spapr_groups.hpp"  // IWYU pragma: export
