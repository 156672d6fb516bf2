// iopt/uapi/vfio/iommufd_container.hpp - a VFIO container that is an iommufd.
//
// The first group makes the compatible I/O address space; devices reach it when they are opened, not
// before, so that is where memory is pinned and where what does not suit is refused. Mappings stay
// when the last group leaves.
//
// Layer: uapi. Includes: core, policy, uapi.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>

#include "iopt/core/io_pagetable.hpp"
#include "iopt/policy/iommu_group.hpp"
#include "iopt/uapi/iommufd/context.hpp"
#include "iopt/uapi/vfio/compat_calls.hpp"
#include "iopt/uapi/vfio/profile.hpp"

namespace iopt::vfio {

/// iommufd_container: an iommufd that was opened as /dev/vfio/vfio, and the groups that use its compatible
/// space.
///
/// Model       An iommufd::context; the groups; for each that is open and has an IOMMU, a device of the
///             context, which is attached to the compatible space.
/// Ownership   Refers to the pinner and the groups, which outlive their stay. Not movable.
/// Errors      Typed members answer what the ioctl of the name does, in the order of its checks.
/// Threads     As the context; joining, opening, closing and leaving are one at a time.
/// Source      Linux 6.12 drivers/vfio/iommufd.c, drivers/iommu/iommufd/device.c, as facts.
/// Tested by   tests/uapi/vfio/iommufd_container_test.cpp
template <page_pinner Pinner, iommu_domain Domain, container_profile Profile = iommufd_profile>
class iommufd_container {
 public:
  using context_type = iommufd::context<Pinner, Domain, Profile>;
  using traits = typename Profile::traits;
  using table_type = typename context_type::table_type;
  using group_type = typename context_type::group_type;
  using copy_type = typename Profile::copy;
  using caller_type = typename Profile::caller;
  using memory_source_type = typename traits::memory;
  static constexpr std::uint64_t page_bytes = traits::page_bytes;

  explicit iommufd_container(Pinner& pinner, container_options options = {}, copy_type copy = {},
                             caller_type caller = {}, memory_source_type memory = {})
      : memory_(memory),
        context_(pinner, context_options(options), std::move(copy), std::move(caller), memory) {}
  iommufd_container(const iommufd_container&) = delete;
  iommufd_container& operator=(const iommufd_container&) = delete;
  ~iommufd_container() {
    while (groups_ != nullptr) {
      static_cast<void>(close(*groups_->group));
      static_cast<void>(leave(*groups_->group));
    }
  }

  /// The iommufd that it is.
  context_type& context() noexcept { return context_; }

  /// VFIO_* and IOMMU_* on the descriptor: what the ioctl returns, or an errno, negative.
  uapi::answer ioctl(std::uint32_t request, std::uint64_t argument) {
    return context_.ioctl(request, argument);
  }

  /// VFIO_GROUP_SET_CONTAINER. Errors: invalid_argument, it is here already, or groups with and
  /// without an IOMMU; not_enough_memory.
  result<void> join(group_type& group) {
    guard held(lock_);
    if (find(group) != nullptr) return fail(errc::invalid_argument);
    member* const m = create_in<member>(memory_, &group);
    if (m == nullptr) return fail(errc::not_enough_memory);
    const result<void> done = group.kind() == group_kind::none ? context_.need_no_iommu()
                                                               : context_.need_compatible_space();
    if (!done) {
      destroy_in(memory_, m);
      return done;
    }
    m->next = std::exchange(groups_, m);
    return {};
  }
  /// VFIO_GROUP_UNSET_CONTAINER. Errors: invalid_argument, it is not here; device_or_resource_busy,
  /// it is open.
  result<void> leave(group_type& group) {
    guard held(lock_);
    member* const m = find(group);
    if (m == nullptr) return fail(errc::invalid_argument);
    if (m->open) return fail(errc::device_or_resource_busy);
    member** link = &groups_;
    while (*link != m) link = &(*link)->next;
    *link = m->next;
    destroy_in(memory_, m);
    return {};
  }

  /// What VFIO_GROUP_GET_DEVICE_FD does first: the group's devices translate through the space.
  ///
  /// Errors   invalid_argument, not here, or open already; no_such_device, the space is destroyed; those
  ///          of iommufd::context::bind() and attach().
  result<void> open(group_type& group) {
    guard held(lock_);
    member* const m = find(group);
    if (m == nullptr || m->open) return fail(errc::invalid_argument);
    if (group.kind() == group_kind::iommu) {
      const result<iommufd::object_id> space = context_.compatible_space();
      if (!space) return fail(space.error());
      const result<iommufd::object_id> device = context_.bind(group);
      if (!device) return fail(device.error());
      if (const auto at = context_.attach(*device, *space); !at) {
        static_cast<void>(context_.unbind(*device));
        return fail(at.error());
      }
      m->device = *device;
    }
    m->open = true;
    return {};
  }
  /// The last of its devices is closed. Errors: invalid_argument, it is not open.
  result<void> close(group_type& group) noexcept {
    guard held(lock_);
    member* const m = find(group);
    if (m == nullptr || !m->open) return fail(errc::invalid_argument);
    if (m->device != 0) {
      static_cast<void>(context_.detach(m->device));
      static_cast<void>(context_.unbind(std::exchange(m->device, 0)));
    }
    m->open = false;
    return {};
  }

  result<std::int64_t> check_extension(std::uint64_t extension) {
    return context_.with_compatible([&](auto& calls) { return calls.check_extension(extension); });
  }
  result<void> set_iommu(std::uint64_t type) {
    return context_.with_compatible([&](auto& calls) { return calls.set_iommu(type); });
  }
  result<void> map_dma(std::uint32_t flags, user_address vaddr, iova at, std::uint64_t size_bytes) {
    return context_.with_compatible(
        [&](auto& calls) { return calls.map_dma(flags, vaddr, at, size_bytes); });
  }
  compat_unmapped unmap_dma(std::uint32_t flags, iova first, std::uint64_t size_bytes) {
    return context_.with_compatible(
        [&](auto& calls) { return calls.unmap_dma(flags, first, size_bytes); });
  }

  /// The compatible space, in which access objects take part as emulated devices do, as long as nobody
  /// destroys it; nullptr before the first group.
  table_type* table() noexcept {
    table_type* found = nullptr;
    if (const auto space = context_.compatible_space())
      static_cast<void>(context_.with_space(*space, [&](table_type& t) {
        found = &t;
        return result<void>{};
      }));
    return found;
  }
  std::string_view verify() const { return context_.verify(); }

 private:
  using guard = detail::exclusive_lock<typename traits::mutex>;

  struct member {
    group_type* group;
    iommufd::object_id device = 0;  // while it is open, if it has an IOMMU
    bool open = false;
    member* next = nullptr;
  };

  /// Who opens /dev/vfio/vfio counts as type1 did.
  static iommufd::context_options context_options(const container_options& said) noexcept {
    return {said.allow_unsafe_interrupts, said.allow_noiommu, account_mode::mm};
  }
  member* find(const group_type& group) noexcept {
    for (member* m = groups_; m != nullptr; m = m->next)
      if (m->group == &group) return m;
    return nullptr;
  }

  [[no_unique_address]] memory_source_type memory_;
  context_type context_;
  mutable typename traits::mutex lock_{};  // over the groups
  member* groups_ = nullptr;
};

}  // namespace iopt::vfio
