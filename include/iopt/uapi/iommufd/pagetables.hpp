// iopt/uapi/iommufd/pagetables.hpp - context: how hardware page tables begin and end.
//
// Layer: uapi. Includes: uapi/iommufd/context.hpp.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>

#include "iopt/uapi/iommufd/context.hpp"

namespace iopt::iommufd {

/// A hardware page table with a number, not to be found yet, whose domain is empty and in no table.
template <page_pinner Pinner, iommu_domain Domain, uapi::front_end_profile Profile>
template <class Make>
auto context<Pinner, Domain, Profile>::reserve_pagetable(space_type& in, group_type& group,
                                                         Make make) -> result<pagetable_type*> {
  const result<pagetable_type*> p = reserve_new<pagetable_type>(in, group);
  if (!p) return p;
  objects_.hold(in);
  const result<Domain*> made = make();
  if (!made) {
    give_back(**p);
    put_needed(in);
    return fail(made.error());
  }
  (*p)->domain = *made;
  // Before anything is mapped: some IOMMUs have a bit for it in every entry.
  if constexpr (coherency_enforcing_domain<Domain>)
    static_cast<void>((*made)->enforce_cache_coherency());
  return p;
}

/// Ends what reserve_pagetable() began. Where all is `done`, and the domain filled, the page table is found
/// from here on, the last of its space. Otherwise it goes; no device is attached then, and the domain is in
/// no table.
template <page_pinner Pinner, iommu_domain Domain, uapi::front_end_profile Profile>
result<object_id> context<Pinner, Domain, Profile>::settle(pagetable_type& p,
                                                           result<void> done) noexcept {
  if (!done) {
    space_type& shown = *p.shows;
    p.maker->destroy_domain(*p.domain);
    give_back(p);
    put_needed(shown);
    return fail(done.error());
  }
  pagetable_type** end = &p.shows->pagetables;
  while (*end != nullptr) end = &(*end)->next;
  *end = &p;
  const object_id id = p.id();
  objects_.publish(p);
  return id;
}

/// A device needs it no more. An automatic one goes with its last device; where an ioctl is at work
/// on it, after that. The device's use ends as it goes: before, a DESTROY would find it unused.
template <page_pinner Pinner, iommu_domain Domain, uapi::front_end_profile Profile>
void context<Pinner, Domain, Profile>::let_go(pagetable_type& p) noexcept {
  if (--p.devices != 0 || !p.automatic) return put_needed(p);
  p.leaving = true;
  if (objects_.retire(p, 1)) end_pagetable(p);
}

/// Destroys one that is out of the table of objects.
template <page_pinner Pinner, iommu_domain Domain, uapi::front_end_profile Profile>
void context<Pinner, Domain, Profile>::end_pagetable(pagetable_type& p) noexcept {
  pagetable_type** link = &p.shows->pagetables;
  while (*link != &p) link = &(*link)->next;
  *link = p.next;
  p.shows->table.detach(*p.domain);
  p.maker->destroy_domain(*p.domain);
  put_needed(*p.shows);
  destroy_in(memory_, &p);
}

/// A domain as the caller describes it, if it does.
template <page_pinner Pinner, iommu_domain Domain, uapi::front_end_profile Profile>
result<Domain*> context<Pinner, Domain, Profile>::create_domain(group_type& group,
                                                                const abi::hwpt_alloc& said) {
  if (said.data_len == 0) return group.create_domain();
  std::array<std::byte, abi::hwpt_data_most> bytes{};
  const std::size_t known = std::min(group.description_bytes(said.data_type), bytes.size());
  const std::size_t given = std::min<std::size_t>(said.data_len, known);
  if (!copy_.read({said.data_uptr}, std::span(bytes).first(given))) return fail(errc::bad_address);
  if (const result<void> rest =
          uapi::check_zero(copy_, uapi::behind({said.data_uptr}, given), said.data_len - given);
      !rest)
    return fail(rest.error());
  return group.create_domain(said.data_type, std::span(bytes).first(given));
}

/// `told` is called with its number before it is found; what it answers may still undo all.
template <page_pinner Pinner, iommu_domain Domain, uapi::front_end_profile Profile>
template <class Told>
result<object_id> context<Pinner, Domain, Profile>::create_hw_pagetable(object_id device,
                                                                        object_id to,
                                                                        const abi::hwpt_alloc& said,
                                                                        Told told) {
  const std::uint32_t flags = said.flags;
  const bool has_data = said.data_len != 0;
  const held<object> target(*this, objects_.find(to));
  guard stable(devices_lock_);
  const held<device_type> d(*this, find<device_type>(device, object_kind::device));
  if (!d) return fail(errc::no_such_file_or_directory);
  if (!target) return fail(errc::invalid_argument);
  if (target->kind() == object_kind::hw_pagetable &&
      ((flags & ~abi::hwpt_fault_id_valid) != 0 || !has_data))
    return fail(errc::operation_not_supported);
  // One on top of another: whose caller knew that it would be, or not. No kind of it is known here.
  if (target->kind() == object_kind::hw_pagetable &&
      static_cast<const pagetable_type&>(*target).nests)
    return fail(errc::operation_not_supported);
  if (target->kind() != object_kind::space) return fail(errc::invalid_argument);
  const bool tracks_dirty = (flags & abi::hwpt_dirty_tracking) != 0;
  const bool nests = (flags & abi::hwpt_nest_parent) != 0;
  group_type& group = *d->of->group;
  if ((flags & ~(abi::hwpt_dirty_tracking | abi::hwpt_nest_parent)) != 0 ||
      (has_data && group.description_bytes(said.data_type) == 0) ||
      (tracks_dirty && !group.tracks_dirty()))
    return fail(errc::operation_not_supported);
  auto& s = static_cast<space_type&>(*target);
  const result<pagetable_type*> p =
      reserve_pagetable(s, group, [&] { return create_domain(group, said); });
  if (!p) return fail(p.error());
  (*p)->tracks_dirty = tracks_dirty;
  (*p)->nests = nests;
  result<void> done{};
  if (nests) done = group.enable_nesting(*(*p)->domain);
  if (!done && done.error() == errc::invalid_argument) done = fail(errc::operation_not_supported);
  if (done) done = s.table.attach(*(*p)->domain);
  if (done) {
    done = told((*p)->id());
    if (!done) s.table.detach(*(*p)->domain);
  }
  return settle(**p, done);
}

}  // namespace iopt::iommufd
