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
#include <new>
#include <optional>
#include <span>
#include <utility>

#include "iopt/core/access_object.hpp"
#include "iopt/core/io_pagetable.hpp"
#include "iopt/policy/iommu_group.hpp"
#include "iopt/uapi/vfio/compat_calls.hpp"
#include "iopt/uapi/vfio/profile.hpp"

namespace iopt::vfio {

/// iommufd_container: the compatible space of an iommufd, and the groups that use it.
///
/// Model       A table, once a group has joined; the groups; for each group that is open, a domain in
///             the table, which groups behind one IOMMU share.
/// Ownership   Refers to the pinner and the groups, which outlive their stay. Not movable.
/// Errors      Typed members answer what the ioctl of the name does, in the order of its checks.
/// Threads     Mapping and unmapping run together where the traits have locks; joining, opening,
///             closing and leaving are one at a time, and not beside a first join.
/// Source      Linux 6.12 drivers/vfio/iommufd.c, drivers/iommu/iommufd/device.c, as facts.
/// Tested by   tests/uapi/vfio/iommufd_container_test.cpp
template <page_pinner Pinner, iommu_domain Domain, container_profile Profile = iommufd_profile>
class iommufd_container {
 public:
  using traits = typename Profile::traits;
  using table_type = io_pagetable<Pinner, Domain, traits>;
  using group_type = iommu_group<Domain>;
  using copy_type = typename Profile::copy;
  using caller_type = typename Profile::caller;
  using memory_source_type = typename traits::memory;
  static constexpr std::uint64_t page_bytes = traits::page_bytes;

  explicit iommufd_container(Pinner& pinner, container_options options = {}, copy_type copy = {},
                             caller_type caller = {}, memory_source_type memory = {})
      : pinner_(pinner),
        options_(options),
        copy_(std::move(copy)),
        caller_(std::move(caller)),
        memory_(std::move(memory)) {}
  iommufd_container(const iommufd_container&) = delete;
  iommufd_container& operator=(const iommufd_container&) = delete;
  ~iommufd_container() {
    while (groups_ != nullptr) {
      static_cast<void>(close(*groups_->group));
      static_cast<void>(leave(*groups_->group));
    }
  }

  /// VFIO_* on the descriptor: what the ioctl returns, or an errno, negative.
  uapi::answer ioctl(std::uint32_t request, std::uint64_t argument) {
    return calls().ioctl(request, argument);
  }

  /// VFIO_GROUP_SET_CONTAINER. Errors: invalid_argument, it is here already, or groups with and
  /// without an IOMMU; not_enough_memory.
  result<void> join(group_type& group) {
    guard held(lock_);
    if (find(group) != nullptr) return fail(errc::invalid_argument);
    const bool bare = group.kind() == group_kind::none;
    if (bare ? table_.has_value() : noiommu_) return fail(errc::invalid_argument);
    member* const m = create_in<member>(memory_, &group);
    if (m == nullptr) return fail(errc::not_enough_memory);
    if (bare) {
      noiommu_ = true;
    } else if (!table_) {
      table_.emplace(pinner_, memory_);
      table_->set_account_mode(account_mode::mm);  // who opens /dev/vfio/vfio counts as type1 did
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

  /// What VFIO_GROUP_GET_DEVICE_FD does first: the group's devices translate through the table.
  ///
  /// Errors   invalid_argument, not here, or open already, or the IOMMU's pages are too large;
  ///          operation_not_permitted, it does not isolate interrupts; address_in_use, a mapping is
  ///          where it cannot translate, or off its alignment; those of filling a domain.
  result<void> open(group_type& group) {
    guard held(lock_);
    member* const m = find(group);
    if (m == nullptr || m->open) return fail(errc::invalid_argument);
    if (group.kind() == group_kind::iommu) {
      if (const result<void> done = attach(*m); !done) return done;
    }
    m->open = true;
    return {};
  }
  /// The last of its devices is closed. Errors: invalid_argument, it is not open.
  result<void> close(group_type& group) noexcept {
    guard held(lock_);
    member* const m = find(group);
    if (m == nullptr || !m->open) return fail(errc::invalid_argument);
    if (group.kind() == group_kind::iommu) detach(*m);
    m->open = false;
    return {};
  }

  result<std::int64_t> check_extension(std::uint64_t extension) {
    return calls().check_extension(extension);
  }
  result<void> set_iommu(std::uint64_t type) { return calls().set_iommu(type); }
  result<void> map_dma(std::uint32_t flags, user_address vaddr, iova at, std::uint64_t size_bytes) {
    return calls().map_dma(flags, vaddr, at, size_bytes);
  }
  compat_unmapped unmap_dma(std::uint32_t flags, iova first, std::uint64_t size_bytes) {
    return calls().unmap_dma(flags, first, size_bytes);
  }

  /// The compatible space, in which access objects take part as emulated devices do; nullptr before
  /// the first group.
  table_type* table() noexcept { return table_ ? &*table_ : nullptr; }
  const table_type* table() const noexcept { return table_ ? &*table_ : nullptr; }
  std::string_view verify() const { return table_ ? table_->verify() : ""; }

 private:
  using guard = detail::exclusive_lock<typename traits::mutex>;

  struct domain_record {
    group_type* maker;
    Domain* domain;
    const void* iommu;
    std::size_t users = 0;
    domain_record* next = nullptr;
  };
  struct member {
    group_type* group;
    domain_record* at = nullptr;
    bool open = false;
    member* next = nullptr;
  };

  compat_calls<table_type, copy_type, caller_type> calls() noexcept {
    return {table(),
            {noiommu_, options_.allow_noiommu, Profile::punches_holes, Profile::level},
            copy_,
            caller_};
  }
  member* find(const group_type& group) noexcept {
    for (member* m = groups_; m != nullptr; m = m->next)
      if (m->group == &group) return m;
    return nullptr;
  }

  result<void> attach(member& m) {
    group_type& group = *m.group;
    if (!group.isolates_msi() && !options_.allow_unsafe_interrupts)
      return fail(errc::operation_not_permitted);
    result<void> done{};
    for (const reserved_region& r : group.reserved_regions()) {
      if (done && r.what != reserved_region::kind::direct_relaxable)
        done = table_->reserve(r.range, &m);
    }
    if (done) done = attach_to_domain(m);
    if (!done) table_->unreserve(&m);
    return done;
  }
  /// To a domain that is here already, if the group can use it; else to one of its own.
  result<void> attach_to_domain(member& m) {
    group_type& group = *m.group;
    for (domain_record* d = first_domain_; d != nullptr; d = d->next) {
      if (d->iommu != group.iommu()) continue;
      const result<void> joined = group.attach(*d->domain);
      if (joined) {
        ++d->users;
        m.at = d;
        return {};
      }
      // One that does not suit is passed over: the next may.
      if (joined.error() != errc::invalid_argument) return joined;
    }
    domain_record* const fresh = create_in<domain_record>(memory_);
    if (fresh == nullptr) return fail(errc::not_enough_memory);
    const result<Domain*> made = group.create_domain();
    if (!made) {
      destroy_in(memory_, fresh);
      return fail(made.error());
    }
    result<void> done = group.attach(**made);
    if (done) {
      if constexpr (coherency_enforcing_domain<Domain>)
        static_cast<void>((*made)->enforce_cache_coherency());
      done = table_->attach(**made);
      if (!done) group.detach(**made);
    }
    if (!done) {
      group.destroy_domain(**made);
      destroy_in(memory_, fresh);
      return done;
    }
    *fresh = {&group, *made, group.iommu(), 1, std::exchange(first_domain_, fresh)};
    m.at = fresh;
    return {};
  }
  void detach(member& m) noexcept {
    domain_record& d = *std::exchange(m.at, nullptr);
    m.group->detach(*d.domain);
    table_->unreserve(&m);
    if (--d.users != 0) return;
    table_->detach(*d.domain);
    domain_record** link = &first_domain_;
    while (*link != &d) link = &(*link)->next;
    *link = d.next;
    d.maker->destroy_domain(*d.domain);
    destroy_in(memory_, &d);
  }

  Pinner& pinner_;
  container_options options_;
  [[no_unique_address]] copy_type copy_;
  [[no_unique_address]] caller_type caller_;
  [[no_unique_address]] memory_source_type memory_;
  mutable typename traits::mutex lock_{};  // over the groups and domains
  member* groups_ = nullptr;
  domain_record* first_domain_ = nullptr;
  bool noiommu_ = false;
  std::optional<table_type> table_;
};

}  // namespace iopt::vfio
