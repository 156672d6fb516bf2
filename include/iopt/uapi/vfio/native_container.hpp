// iopt/uapi/vfio/native_container.hpp - a VFIO container with the type1 driver, on an io_pagetable.
//
// /dev/vfio/vfio: a shell that groups join, and behind it, once an IOMMU type is chosen, a table of
// mappings. Every rule, errno and order of checks is type1's (Linux 6.12); what type1 cannot do and
// this can, it does only by a profile or an option that says so: punch holes, read dirty bits.
//
// The members are defined by theme: uapi/vfio/native_groups.hpp, native_mappings.hpp,
// native_dirty.hpp, native_pins.hpp.
// Include uapi/vfio/container.hpp, which chooses between this and the container of an iommufd.
//
// Layer: uapi. Includes: core, policy, uapi.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <new>
#include <optional>
#include <span>
#include <utility>

#include "iopt/core/access_object.hpp"
#include "iopt/core/io_pagetable.hpp"
#include "iopt/policy/iommu_group.hpp"
#include "iopt/uapi/argument.hpp"
#include "iopt/uapi/vfio/abi.hpp"
#include "iopt/uapi/vfio/dirty_log.hpp"
#include "iopt/uapi/vfio/info.hpp"
#include "iopt/uapi/vfio/memory_user.hpp"
#include "iopt/uapi/vfio/profile.hpp"

namespace iopt::vfio {

/// native_container: what a descriptor of /dev/vfio/vfio is.
///
/// Model       A list of groups. Without a driver, nothing more. With one: an io_pagetable whose
///             areas are the mappings, all of them in every domain of the groups; for each mapping
///             a dirty_log while pages are tracked; the set of registered memory users.
/// Ownership   Refers to the pinner and the groups, which outlive their stay. Domains are made and
///             destroyed through the groups. Not movable.
/// Errors      Typed members answer what the ioctl of the name does, in the order of its checks.
///             A failed call changes nothing, but where type1 itself loses what came before the
///             error (an unmap that copies dirty bits).
/// Cost        As io_pagetable. With pages tracked, a mapping takes a bit a page more.
/// Threads     One lock over it all, as in the kernel; dropped while memory users are told of an
///             unmap, who may then map, pin, unpin, read and write, and nothing else. Without locks
///             where the traits have none.
/// Source      Linux 6.12 vfio_iommu_type1.c and container.c, as facts.
/// Tested by   tests/uapi/vfio/
template <page_pinner Pinner, iommu_domain Domain, container_profile Profile = type1_profile>
class native_container {
 public:
  using traits = typename Profile::traits;
  using table_type = io_pagetable<Pinner, Domain, traits>;
  using group_type = iommu_group<Domain>;
  using copy_type = typename Profile::copy;
  using caller_type = typename Profile::caller;
  using memory_source_type = typename traits::memory;
  static constexpr std::uint64_t page_bytes = traits::page_bytes;

  explicit native_container(Pinner& pinner, container_options options = {}, copy_type copy = {},
                            caller_type caller = {}, memory_source_type memory = {})
      : pinner_(pinner),
        options_(options),
        copy_(std::move(copy)),
        caller_(std::move(caller)),
        memory_(std::move(memory)) {}
  native_container(const native_container&) = delete;
  native_container& operator=(const native_container&) = delete;
  /// Every group has left.
  ~native_container() {
    while (groups_ != nullptr) leave(*groups_->group);
  }

  /// VFIO_* on the container's descriptor: what the ioctl returns, or an errno, negative.
  uapi::answer ioctl(std::uint32_t request, std::uint64_t argument);

  // --- Groups and the driver: uapi/vfio/native_groups.hpp ---

  /// VFIO_GROUP_SET_CONTAINER. Errors: operation_not_permitted, a group without an IOMMU and the
  /// caller may not, or groups of both kinds; with a driver those of attaching:
  /// device_or_resource_busy while an address is invalid; invalid_argument, it is here already, or
  /// a mapping is where it cannot translate, or nothing is left that it can; not_enough_memory;
  /// operation_not_permitted, it does not isolate interrupts; any errno of the group, the domain or
  /// of filling it.
  result<void> join(group_type& group);
  /// VFIO_GROUP_UNSET_CONTAINER. The last group takes the driver and all mappings with it.
  /// Errors: invalid_argument, it is not here.
  result<void> leave(group_type& group) noexcept;

  /// VFIO_CHECK_EXTENSION: a number, 0 for no.
  std::int64_t check_extension(std::uint64_t extension);
  /// VFIO_SET_IOMMU. Errors: invalid_argument without groups, or with a driver; no_such_device for
  /// a type that nobody knows; those of attaching each group.
  result<void> set_iommu(std::uint64_t type);

  // --- Mappings: uapi/vfio/native_mappings.hpp ---

  /// VFIO_IOMMU_MAP_DMA, with its flags.
  ///
  /// Errors   In this order: invalid_argument, flags that are unknown or do not go together, or a
  ///          length of 0, or off page boundaries, or a wrap (value_too_large from Linux 6.18 on,
  ///          before the others); file_exists, something is mapped there; no_space_on_device, there
  ///          are too many mappings; invalid_argument, outside the IOVA ranges; then those of
  ///          pinning and of the domains. With map_vaddr: no_such_file_or_directory, nothing is
  ///          mapped there; invalid_argument, not exactly a mapping whose address is invalid.
  result<void> map_dma(std::uint32_t flags, user_address vaddr, iova at, std::uint64_t size_bytes);

  /// VFIO_IOMMU_UNMAP_DMA, with its flags but for unmap_get_dirty_bitmap; tells how many bytes went
  /// or, with unmap_vaddr, lost their address.
  ///
  /// Errors   In this order: invalid_argument for unknown flags; device_or_resource_busy, unmap_vaddr
  ///          with an emulated group; invalid_argument, off page boundaries, a length of 0, a wrap
  ///          (value_too_large from Linux 6.18 on); for type1 v2, a mapping is cut;
  ///          with unmap_vaddr, an address is invalid already. resource_deadlock_would_occur: a
  ///          memory user does not let go.
  result<std::uint64_t> unmap_dma(std::uint32_t flags, iova first, std::uint64_t size_bytes);
  /// The same with a caller's bitmap, which gets what was written in the mappings that go.
  /// Errors: as above; invalid_argument, pages are not tracked, or the bitmap is of other pages or
  /// too small; bad_address, with which some mappings may be gone.
  result<std::uint64_t> unmap_dma_with_bitmap(iova first, std::uint64_t size_bytes,
                                              const abi::bitmap& bits);

  /// The IOVA ranges that may be mapped: calls f(iova_range). Nothing where everything may be.
  template <class F>
  void for_each_usable(F f) {
    guard held(lock_);
    if (table_ && first_domain_ != nullptr) table_->for_each_usable(f);
  }
  /// The page sizes told by VFIO_IOMMU_GET_INFO.
  std::uint64_t page_sizes() {
    guard held(lock_);
    return common_page_sizes();
  }
  /// How many mappings may still be made.
  std::uint32_t dma_avail() {
    guard held(lock_);
    return avail();
  }

  // --- Dirty pages: uapi/vfio/native_dirty.hpp ---

  /// VFIO_IOMMU_DIRTY_PAGES with START or STOP. Errors: permission_denied in type1 v1;
  /// invalid_argument, a mapping has too many pages; not_enough_memory.
  result<void> track_dirty_pages(bool on);
  /// The same with GET_BITMAP. Errors: permission_denied in type1 v1; invalid_argument, a range or a
  /// bitmap that is none, tracking is off, a mapping is cut; bad_address.
  result<void> read_dirty_pages(iova first, std::uint64_t size_bytes, const abi::bitmap& bits);

  // --- Mediated devices: uapi/vfio/native_pins.hpp ---

  result<void> register_user(memory_user& user);
  void unregister_user(memory_user& user) noexcept;

  /// vfio_pin_pages: pins the pages at `first` and behind it, and tells their frames.
  /// Errors: argument_list_too_long, more than max_pin_pages; invalid_argument, none, or `out` is
  /// too short, or nobody is registered, or nothing is mapped there; permission_denied in type1 v1;
  /// device_or_resource_busy while an address is invalid (or it waits, by the profile);
  /// operation_not_permitted, the mapping lacks a right; those of pinning. On error nothing is pinned.
  result<std::uint64_t> pin_pages(const group_type* group, iova first, std::uint64_t pages,
                                  access_rights want, std::span<physical> out);
  /// vfio_unpin_pages: undoes pin_pages(), page by page; what is not pinned is passed over.
  void unpin_pages(iova first, std::uint64_t pages) noexcept;
  /// vfio_dma_rw. Errors: invalid_argument, nothing to copy, or not mapped;
  /// device_or_resource_busy while an address is invalid; operation_not_permitted, the mapping lacks
  /// a right (writing needs both), or its process is gone; bad_address.
  result<void> dma_read(iova at, std::span<std::byte> to)
    requires copying_pinner<Pinner>
  {
    return dma_copy<access_rights::read>(at, to);
  }
  result<void> dma_write(iova at, std::span<const std::byte> from)
    requires copying_pinner<Pinner>
  {
    return dma_copy<access_rights::read_write>(at, from);
  }

  // --- Peers' memory ---

  /// An exporter takes its device memory away; see io_pagetable::revoke().
  template <class Exporter>
  void revoke(const Exporter& exporter) noexcept
    requires device_memory_pinner<Pinner>
  {
    guard held(lock_);
    if (table_) table_->revoke(exporter);
  }
  template <class Exporter>
  result<void> restore(const Exporter& exporter)
    requires device_memory_pinner<Pinner>
  {
    guard held(lock_);
    return table_ ? table_->restore(exporter) : result<void>{};
  }

  /// The table behind the driver, to look at; nullptr without one. Requires: no other thread calls.
  const table_type* table() const noexcept { return table_ ? &*table_ : nullptr; }
  /// Empty when all is sound, else what is not.
  std::string_view verify() const;

 private:
  using guard = detail::exclusive_lock<typename traits::mutex>;
  using access_type = access_object<Pinner, Domain, traits>;
  using memory_type = typename table_type::memory;

  enum class driver : std::uint8_t { none, type1, noiommu };

  struct domain_record {
    group_type* maker;  // whose destroy_domain() takes it
    Domain* domain;
    const void* iommu;
    bool coherent;
    std::size_t users = 0;
    domain_record* next = nullptr;
  };
  struct member {
    group_type* group;
    domain_record* at = nullptr;
    bool attached = false;   // to the driver
    bool pins_only = false;  // it reaches only what it pinned, so that nothing else is dirty
    member* next = nullptr;
  };

  bool is_v1() const noexcept { return version_ == abi::type1_iommu; }
  result<void> needs_type1() const {
    if (driver_ == driver::none) return fail(errc::invalid_argument);
    if (driver_ == driver::noiommu) return fail(errc::inappropriate_io_control_operation);
    return {};
  }
  /// Where domains have no size in common type1 is left with none, and divides by it; they all can
  /// do pages of the CPU.
  std::uint64_t common_page_sizes() const {
    std::uint64_t sizes = ~std::uint64_t{0};
    std::uint64_t folded = sizes;
    for (const domain_record* d = first_domain_; d != nullptr; d = d->next) {
      sizes &= d->domain->page_sizes().bitmap();
      folded &= folded_page_sizes(d->domain->page_sizes().bitmap(), page_bytes);
    }
    return folded_page_sizes(sizes == 0 ? folded : sizes, page_bytes);
  }
  /// The unit of every request, in bytes.
  std::uint64_t granule() const { return lowest_bit(common_page_sizes()); }
  std::uint32_t avail() const {
    const std::uint64_t used = table_ ? table_->area_count() : 0;
    return used >= options_.dma_entry_limit
               ? 0
               : options_.dma_entry_limit - static_cast<std::uint32_t>(used);
  }

  /// Until Linux 6.18 type1 looks mappings up by one past the last byte, which for a range that ends
  /// at 2^64 is 0: it finds none.
  static bool is_blind_to(iova_range range) noexcept {
    return Profile::level != kernel_level::linux_6_18 && range.last.value == top;
  }
  errc wrap_error() const noexcept {
    return Profile::level == kernel_level::linux_6_18 ? errc::value_too_large
                                                      : errc::invalid_argument;
  }
  memory_type memory_for(user_address vaddr, std::uint64_t size_bytes);
  result<void> give_new_address(iova_range where, user_address vaddr);
  bool any_address_invalid();
  result<void> need_addresses();
  void addresses_changed() noexcept;

  result<iova_range> unmap_range(std::uint32_t flags, iova first, std::uint64_t size_bytes) const;
  result<void> check_bisected(iova_range range) const;
  template <class F>
  void for_each_mapping(iova_range range, bool stops, F f) const;
  result<std::uint64_t> invalidate_addresses(iova_range range);
  result<std::uint64_t> remove(iova_range range, bool all);
  result<std::uint64_t> take(iova_range range, bool all);

  // native_groups.hpp
  member* find(const group_type& group) noexcept;
  bool allowed(driver d) const noexcept;
  bool has_emulated() const noexcept;
  result<void> attach(member& m);
  result<void> attach_to_iommu(member& m);
  result<void> reserve_for(member& m);
  result<void> fits(iova_range aperture) const;
  result<domain_record*> shareable(member& m, domain_record& fresh);
  void detach(member& m) noexcept;
  void release_driver() noexcept;

  // native_dirty.hpp
  struct log_cuts {
    dirty_log* left = nullptr;   // what stays of the mapping that the range begins in
    dirty_log* right = nullptr;  // and of the one it ends in
  };
  result<dirty_log*> new_log(iova_range where);
  void add_log(dirty_log* log) noexcept;
  void drop_log(dirty_log* log) noexcept;
  void drop_logs() noexcept;
  result<log_cuts> prepare_log_cuts(iova_range range);
  void abandon(log_cuts cuts) noexcept;
  void forget_logs(iova_range range, log_cuts cuts) noexcept;
  void collect(dirty_log& log);
  void note_pinned(dirty_log& log);
  result<void> tell(dirty_log& log, iova_range part, user_address bitmap, iova base);
  result<void> check_bitmap(std::uint64_t size_bytes, const abi::bitmap& bits) const;
  void track_in_hardware(bool on) noexcept;
  void lose_untracked(const member& m) noexcept;
  result<uapi::answer> dirty_ioctl(user_address argument);

  // native_pins.hpp
  result<void> let_go(iova_range range, bool all);
  void drop_pins() noexcept;
  template <access_rights Want, class Bytes>
  result<void> dma_copy(iova at, Bytes bytes);

  result<uapi::answer> map_ioctl(user_address argument);
  result<uapi::answer> unmap_ioctl(user_address argument);

  Pinner& pinner_;
  container_options options_;
  [[no_unique_address]] copy_type copy_;
  [[no_unique_address]] caller_type caller_;
  [[no_unique_address]] memory_source_type memory_;
  typename traits::mutex users_lock_{};  // before lock_; held while users are told
  memory_user_list users_;
  mutable typename traits::mutex lock_{};  // over all that follows

  member* groups_ = nullptr;
  domain_record* first_domain_ = nullptr;
  driver driver_ = driver::none;
  std::uint64_t version_ = 0;  // of the driver: what VFIO_SET_IOMMU chose
  std::optional<table_type> table_;
  std::optional<access_type> pins_;  // through which memory users pin
  std::size_t user_count_ = 0;
  interval_tree<dirty_log> logs_;  // by IOVA: one for each mapping, while tracking
  bool tracking_ = false;
  bool in_hardware_ = false;     // every domain records what is written
  bool may_be_invalid_ = false;  // an address may be
  typename traits::template counter<std::uint32_t> address_changes_{0};
  std::size_t untracked_groups_ = 0;  // that reach all memory, and do not tell what they write
};

}  // namespace iopt::vfio

#include "iopt/uapi/vfio/native_dirty.hpp"     // IWYU pragma: export
#include "iopt/uapi/vfio/native_groups.hpp"    // IWYU pragma: export
#include "iopt/uapi/vfio/native_mappings.hpp"  // IWYU pragma: export
#include "iopt/uapi/vfio/native_pins.hpp"      // IWYU pragma: export
