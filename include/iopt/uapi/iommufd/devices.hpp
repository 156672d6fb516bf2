// iopt/uapi/iommufd/devices.hpp - context: devices, and what they translate through.
//
// Layer: uapi. Includes: uapi/iommufd/context.hpp.
#pragma once

#include <utility>

#include "iopt/uapi/iommufd/context.hpp"

namespace iopt::iommufd {

template <page_pinner Pinner, iommu_domain Domain, uapi::front_end_profile Profile>
result<object_id> context<Pinner, Domain, Profile>::bind(group_type& group) {
  if (group.kind() != group_kind::iommu) return fail(errc::no_such_device);
  if (!group.is_coherent()) return fail(errc::invalid_argument);
  guard stable(devices_lock_);
  bound_type* of = groups_;
  while (of != nullptr && of->group != &group) of = of->next;
  if (of == nullptr) {
    of = create_in<bound_type>(memory_, &group);
    if (of == nullptr) return fail(errc::not_enough_memory);
    of->next = std::exchange(groups_, of);
  }
  ++of->bound;
  const result<device_type*> d = group.isolates_msi() || options_.allow_unsafe_interrupts
                                     ? reserve_new<device_type>(*of)
                                     : fail(errc::operation_not_permitted);
  if (!d) {
    leave_group(*of);
    return fail(d.error());
  }
  objects_.hold(**d);  // by the driver
  const object_id id = (*d)->id();
  objects_.publish(**d);
  return id;
}

template <page_pinner Pinner, iommu_domain Domain, uapi::front_end_profile Profile>
void context<Pinner, Domain, Profile>::leave_group(bound_type& of) noexcept {
  if (--of.bound != 0) return;
  bound_type** link = &groups_;
  while (*link != &of) link = &(*link)->next;
  *link = of.next;
  destroy_in(memory_, &of);
}

template <page_pinner Pinner, iommu_domain Domain, uapi::front_end_profile Profile>
result<void> context<Pinner, Domain, Profile>::unbind(object_id device) noexcept {
  guard stable(devices_lock_);
  device_type* const d = find<device_type>(device, object_kind::device);
  if (d == nullptr) return fail(errc::no_such_file_or_directory);
  if (d->attached) {
    put_needed(*d);
    return fail(errc::device_or_resource_busy);
  }
  leave_group(*d->of);
  if (objects_.retire(*d, 2)) destroy_in(memory_, d);  // the driver, and the look-up above
  return {};
}

/// Keeps free what the device needs for itself.
template <page_pinner Pinner, iommu_domain Domain, uapi::front_end_profile Profile>
result<void> context<Pinner, Domain, Profile>::reserve_regions(device_type& d, table_type& in) {
  using kind = reserved_region::kind;
  result<void> done{};
  std::size_t hardware_msi = 0;
  std::size_t software_msi = 0;
  for (const reserved_region& r : d.of->group->reserved_regions()) {
    if (!done || r.what == kind::direct_relaxable) continue;
    if (r.what == kind::msi) ++hardware_msi;
    if (r.what == kind::software_msi) ++software_msi;
    done = in.reserve(r.range, &d);
  }
  if (done && (software_msi > 1 || (software_msi != 0 && hardware_msi != 0)))
    done = fail(errc::invalid_argument);  // no sane device says so
  if (!done) in.unreserve(&d);
  return done;
}

/// Whether the group's devices may translate through it: one IOMMU, which can do what it must.
template <page_pinner Pinner, iommu_domain Domain, uapi::front_end_profile Profile>
bool context<Pinner, Domain, Profile>::suits(const pagetable_type& p,
                                             const bound_type& group) noexcept {
  return p.maker->iommu() == group.group->iommu() &&
         (!p.tracks_dirty || group.group->tracks_dirty());
}

/// The first device of a group brings the group with it.
template <page_pinner Pinner, iommu_domain Domain, uapi::front_end_profile Profile>
result<void> context<Pinner, Domain, Profile>::attach_to(device_type& d, pagetable_type& p) {
  bound_type& group = *d.of;
  if (d.attached || (group.at != nullptr && group.at != &p)) return fail(errc::invalid_argument);
  if (const result<void> done = reserve_regions(d, p.shows->table); !done) return done;
  if (group.at == nullptr) {
    const result<void> done =
        suits(p, group) ? group.group->attach(*p.domain) : fail(errc::invalid_argument);
    if (!done) {
      p.shows->table.unreserve(&d);
      return done;
    }
    group.at = &p;
  }
  objects_.hold(p);
  ++p.devices;
  d.attached = true;
  d.next = std::exchange(group.attached, &d);
  return {};
}

template <page_pinner Pinner, iommu_domain Domain, uapi::front_end_profile Profile>
void context<Pinner, Domain, Profile>::detach_from(device_type& d, pagetable_type& p) noexcept {
  bound_type& group = *d.of;
  device_type** link = &group.attached;
  while (*link != &d) link = &(*link)->next;
  *link = std::exchange(d.next, nullptr);
  d.attached = false;
  if (group.attached == nullptr) {
    group.group->detach(*p.domain);
    group.at = nullptr;
  }
  p.shows->table.unreserve(&d);
  let_go(p);
}

template <page_pinner Pinner, iommu_domain Domain, uapi::front_end_profile Profile>
result<object_id> context<Pinner, Domain, Profile>::attach_to_new(device_type& d, space_type& to) {
  const result<pagetable_type*> p =
      reserve_pagetable(to, *d.of->group, [&] { return d.of->group->create_domain(); });
  if (!p) return fail(p.error());
  result<void> done = attach_to(d, **p);
  if (done) {
    done = to.table.attach(*(*p)->domain);
    if (!done) detach_from(d, **p);
  }
  (*p)->automatic = true;  // where it stays
  return settle(**p, done);
}

/// The group's attached devices go over at once.
template <page_pinner Pinner, iommu_domain Domain, uapi::front_end_profile Profile>
result<void> context<Pinner, Domain, Profile>::replace_by(device_type& d, pagetable_type& p) {
  if (!d.attached) return fail(errc::invalid_argument);
  bound_type& group = *d.of;
  pagetable_type& old = *group.at;
  if (&old == &p) return {};
  const bool moves = p.shows != old.shows;
  result<void> done{};
  device_type* end = group.attached;  // those before it have their regions kept free
  for (; moves && end != nullptr && done; end = done ? end->next : end)
    done = reserve_regions(*end, p.shows->table);
  if (done)
    done = suits(p, group) ? group.group->replace(*old.domain, *p.domain)
                           : fail(errc::invalid_argument);
  if (!done) {
    for (device_type* u = group.attached; moves && u != end; u = u->next)
      p.shows->table.unreserve(u);
    return done;
  }
  group.at = &p;
  for (device_type* m = group.attached; m != nullptr; m = m->next) {
    if (moves) old.shows->table.unreserve(m);
    objects_.hold(p);
    ++p.devices;
    let_go(old);
  }
  return {};
}

template <page_pinner Pinner, iommu_domain Domain, uapi::front_end_profile Profile>
result<object_id> context<Pinner, Domain, Profile>::replace_by_new(device_type& d, space_type& to) {
  if (!d.attached) return fail(errc::invalid_argument);
  const result<pagetable_type*> p =
      reserve_pagetable(to, *d.of->group, [&] { return d.of->group->create_domain(); });
  if (!p) return fail(p.error());
  result<void> done = to.table.attach(*(*p)->domain);
  if (done) {
    done = replace_by(d, **p);
    if (!done) to.table.detach(*(*p)->domain);
  }
  (*p)->automatic = true;  // where it stays
  return settle(**p, done);
}

/// Where a device is to be: an old hardware page table, or a new one.
template <page_pinner Pinner, iommu_domain Domain, uapi::front_end_profile Profile>
template <class Old, class New>
result<object_id> context<Pinner, Domain, Profile>::change(object_id device, object_id to,
                                                           Old to_old, New to_new) {
  const held<object> target(*this, objects_.find(to));
  guard stable(devices_lock_);
  const held<device_type> d(*this, find<device_type>(device, object_kind::device));
  if (!d || !target) return fail(errc::no_such_file_or_directory);
  switch (target->kind()) {
    case object_kind::hw_pagetable: {
      auto& p = static_cast<pagetable_type&>(*target);
      if (p.leaving) return fail(errc::no_such_file_or_directory);
      if (const result<void> done = (this->*to_old)(*d, p); !done) return fail(done.error());
      return p.id();
    }
    case object_kind::space: {
      // Any automatic one that suits; one made by hand is never chosen.
      auto& s = static_cast<space_type&>(*target);
      for (pagetable_type* p = s.pagetables; p != nullptr; p = p->next) {
        if (!p->automatic || p->leaving) continue;
        const object_id id = p->id();
        const result<void> done = (this->*to_old)(*d, *p);
        if (done) return id;
        if (done.error() != errc::invalid_argument) return fail(done.error());
      }
      return (this->*to_new)(*d, s);
    }
    default: return fail(errc::invalid_argument);
  }
}

template <page_pinner Pinner, iommu_domain Domain, uapi::front_end_profile Profile>
result<object_id> context<Pinner, Domain, Profile>::attach(object_id device, object_id to) {
  return change(device, to, &context::attach_to, &context::attach_to_new);
}

template <page_pinner Pinner, iommu_domain Domain, uapi::front_end_profile Profile>
result<object_id> context<Pinner, Domain, Profile>::replace(object_id device, object_id to) {
  return change(device, to, &context::replace_by, &context::replace_by_new);
}

template <page_pinner Pinner, iommu_domain Domain, uapi::front_end_profile Profile>
result<void> context<Pinner, Domain, Profile>::detach(object_id device) noexcept {
  guard stable(devices_lock_);
  const held<device_type> d(*this, find<device_type>(device, object_kind::device));
  if (!d) return fail(errc::no_such_file_or_directory);
  if (!d->attached) return fail(errc::invalid_argument);
  detach_from(*d, *d->of->at);
  return {};
}

}  // namespace iopt::iommufd
