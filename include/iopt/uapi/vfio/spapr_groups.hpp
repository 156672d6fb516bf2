// iopt/uapi/vfio/spapr_groups.hpp - spapr_container: groups, the driver, windows.
//
// Layer: uapi. Includes: uapi/vfio/spapr_container.hpp.
#pragma once

#include "iopt/uapi/vfio/spapr_container.hpp"

namespace iopt::vfio {

template <page_pinner Pinner, tce_table Domain, uapi::front_end_profile Profile>
auto spapr_container<Pinner, Domain, Profile>::find(const group_type& group) noexcept -> member* {
  for (member* m = groups_; m != nullptr; m = m->next)
    if (m->group == &group) return m;
  return nullptr;
}

template <page_pinner Pinner, tce_table Domain, uapi::front_end_profile Profile>
std::int64_t spapr_container<Pinner, Domain, Profile>::check_extension(
    std::uint64_t extension) const noexcept {
  switch (extension) {
    case abi::spapr_tce_iommu:
    case abi::spapr_tce_v2_iommu: return 1;
    case abi::eeh: return options_.handles_errors;
    default: return 0;
  }
}

template <page_pinner Pinner, tce_table Domain, uapi::front_end_profile Profile>
result<void> spapr_container<Pinner, Domain, Profile>::join(group_type& group) {
  guard held(lock_);
  if (find(group) != nullptr) return fail(errc::invalid_argument);
  member* const m = create_in<member>(memory_, &group);
  if (m == nullptr) return fail(errc::not_enough_memory);
  if (driver_ != driver::none) {
    if (const result<void> done = attach(*m); !done) {
      destroy_in(memory_, m);
      return done;
    }
  }
  m->next = std::exchange(groups_, m);
  return {};
}

template <page_pinner Pinner, tce_table Domain, uapi::front_end_profile Profile>
result<void> spapr_container<Pinner, Domain, Profile>::leave(group_type& group) noexcept {
  guard held(lock_);
  member* const m = find(group);
  if (m == nullptr) return fail(errc::invalid_argument);
  if (m->attached) detach(*m);
  member** link = &groups_;
  while (*link != m) link = &(*link)->next;
  *link = m->next;
  destroy_in(memory_, m);
  if (groups_ == nullptr && driver_ != driver::none) release_driver(group);
  return {};
}

template <page_pinner Pinner, tce_table Domain, uapi::front_end_profile Profile>
result<void> spapr_container<Pinner, Domain, Profile>::set_iommu(std::uint64_t type) {
  guard held(lock_);
  if (groups_ == nullptr || driver_ != driver::none) return fail(errc::invalid_argument);
  if (check_extension(type) <= 0) return fail(errc::no_such_device);
  // The driver claims its error handling as a type as well, but is none.
  if (type != abi::spapr_tce_iommu && type != abi::spapr_tce_v2_iommu)
    return fail(errc::invalid_argument);
  driver_ = type == abi::spapr_tce_v2_iommu ? driver::v2 : driver::v1;
  result<void> done{};
  for (member* m = groups_; done && m != nullptr; m = m->next) done = attach(*m);
  if (done) return {};
  while (attached_ != nullptr) detach(*attached_);
  release_driver(*groups_->group);
  return done;
}

template <page_pinner Pinner, tce_table Domain, uapi::front_end_profile Profile>
result<void> spapr_container<Pinner, Domain, Profile>::attach(member& m) {
  group_type& group = *m.group;
  if (group.kind() != group_kind::iommu) return fail(errc::invalid_argument);
  const tce_properties* const can = group.properties();
  if (can == nullptr) return fail(errc::no_such_device);
  if (driver_ == driver::v2 && can->max_windows == 0) return fail(errc::invalid_argument);
  if (driver_ == driver::v1 && attached_ != nullptr) return fail(errc::device_or_resource_busy);
  if (attached_ != nullptr && first_group().platform() != group.platform())
    return fail(errc::operation_not_permitted);
  for (std::size_t slot = 0; slot < tce_windows; ++slot) {
    if (windows_[slot] == nullptr) continue;
    if (const result<void> set = group.set_window(slot, windows_[slot]->shows.table()); !set) {
      for (std::size_t undo = 0; undo < tce_windows; ++undo) group.unset_window(undo);
      return set;
    }
  }
  if (attached_ == nullptr && windows_[0] == nullptr) default_window_pending_ = true;
  m.next_attached = std::exchange(attached_, &m);
  m.attached = true;
  return {};
}

/// Every entry of every window goes, whoever else uses them.
template <page_pinner Pinner, tce_table Domain, uapi::front_end_profile Profile>
void spapr_container<Pinner, Domain, Profile>::detach(member& m) noexcept {
  member** link = &attached_;
  while (*link != &m) link = &(*link)->next_attached;
  *link = m.next_attached;
  m.attached = false;
  for (std::size_t slot = 0; slot < tce_windows; ++slot) {
    if (windows_[slot] == nullptr) continue;
    windows_[slot]->shows.clear_all();
    m.group->unset_window(slot);
  }
}

/// The driver goes, with all it has. Requires: no group is attached.
template <page_pinner Pinner, tce_table Domain, uapi::front_end_profile Profile>
void spapr_container<Pinner, Domain, Profile>::release_driver(group_type& last) noexcept {
  for (window_record*& w : windows_)
    if (w != nullptr) free_window(std::exchange(w, nullptr), last);
  while (registrations_ != nullptr) {
    registration* const r = std::exchange(registrations_, registrations_->next);
    registered_.remove(*space_, *r->region);
    destroy_in(memory_, r);
  }
  if (enabled_pages_ != 0) pinner().uncharge(*owner_, enabled_mode_, enabled_pages_);
  if (space_ != nullptr) registered_.unbind(*std::exchange(space_, nullptr));
  owner_.reset();
  enabled_ = default_window_pending_ = false;
  enabled_pages_ = 0;
  driver_ = driver::none;
}

/// A window that no group sees yet. Requires: bound.
template <page_pinner Pinner, tce_table Domain, uapi::front_end_profile Profile>
auto spapr_container<Pinner, Domain, Profile>::new_window(const tce_window& wanted,
                                                          std::size_t slot)
    -> result<window_record*> {
  group_type& group = first_group();
  const tce_properties& can = *group.properties();
  if (wanted.page_lg2 < entry_scale::page_lg2 || wanted.page_lg2 >= 64 ||
      (can.page_sizes >> wanted.page_lg2 & 1) == 0)
    return fail(errc::invalid_argument);
  if (!can.makes_windows || !can.removes_windows) return fail(errc::operation_not_permitted);
  const std::uint64_t bytes = group.table_bytes(wanted);
  if (bytes == 0) return fail(errc::invalid_argument);
  const std::uint64_t pages = bytes / page_bytes;
  const account_mode how = mode();
  if (const result<void> charged = pinner().charge(*owner_, how, pages); !charged)
    return fail(charged.error());
  const result<Domain*> table = group.create_table(slot, wanted);
  if (!table) {
    pinner().uncharge(*owner_, how, pages);
    return fail(table.error());
  }
  window_record* const w = create_in<window_record>(memory_, registered_, space_, **table, memory_);
  if (w == nullptr) {
    group.destroy_table(**table);
    pinner().uncharge(*owner_, how, pages);
    return fail(errc::not_enough_memory);
  }
  w->charged_pages = pages;
  w->mode = how;
  if (const result<void> opened = w->shows.open(); !opened) {
    free_window(w, group);
    return fail(opened.error());
  }
  return w;
}

/// Requires: its entries are cleared, and no group sees it.
template <page_pinner Pinner, tce_table Domain, uapi::front_end_profile Profile>
void spapr_container<Pinner, Domain, Profile>::free_window(window_record* w,
                                                           group_type& through) noexcept {
  Domain& table = w->shows.table();
  const std::uint64_t pages = w->charged_pages;
  const account_mode how = w->mode;
  destroy_in(memory_, w);
  through.destroy_table(table);
  pinner().uncharge(*owner_, how, pages);
}

template <page_pinner Pinner, tce_table Domain, uapi::front_end_profile Profile>
result<iova> spapr_container<Pinner, Domain, Profile>::add_window(const tce_window& wanted) {
  std::size_t slot = 0;
  while (slot < tce_windows && windows_[slot] != nullptr) ++slot;
  if (slot == tce_windows) return fail(errc::no_space_on_device);
  const result<window_record*> made = new_window(wanted, slot);
  if (!made) return fail(made.error());
  for (member* m = attached_; m != nullptr; m = m->next_attached) {
    const result<void> set = m->group->set_window(slot, (*made)->shows.table());
    if (set) continue;
    for (member* undo = attached_; undo != nullptr; undo = undo->next_attached)
      undo->group->unset_window(slot);
    free_window(*made, first_group());
    return fail(set.error());
  }
  windows_[slot] = *made;
  return (*made)->shows.range().first;
}

/// The window below 4 GiB is made when it is first needed.
template <page_pinner Pinner, tce_table Domain, uapi::front_end_profile Profile>
result<void> spapr_container<Pinner, Domain, Profile>::add_default_window() {
  if (!default_window_pending_) return {};
  const result<iova> made = add_window(
      {.page_lg2 = 12, .levels = 1, .length_bytes = first_group().properties()->window32_size});
  if (!made) return fail(made.error());
  default_window_pending_ = false;
  return {};
}

template <page_pinner Pinner, tce_table Domain, uapi::front_end_profile Profile>
auto spapr_container<Pinner, Domain, Profile>::window_at(iova at) -> result<window_record*> {
  for (window_record* w : windows_)
    if (w != nullptr && w->shows.range().contains(at)) return w;
  return fail(errc::no_such_device_or_address);
}

template <page_pinner Pinner, tce_table Domain, uapi::front_end_profile Profile>
result<iova> spapr_container<Pinner, Domain, Profile>::create_window(const tce_window& window) {
  guard held(lock_);
  if (const result<void> ok = enter_bound(driver::v2); !ok) return fail(ok.error());
  if (const result<void> made = add_default_window(); !made) return fail(made.error());
  return add_window(window);
}

template <page_pinner Pinner, tce_table Domain, uapi::front_end_profile Profile>
result<void> spapr_container<Pinner, Domain, Profile>::remove_window(iova inside) {
  guard held(lock_);
  if (const result<void> ok = enter_bound(driver::v2); !ok) return ok;
  if (default_window_pending_ && inside.value == 0) {
    default_window_pending_ = false;
    return {};
  }
  const result<window_record*> found = window_at(inside);
  if (!found) return fail(errc::invalid_argument);
  window_record* const w = *found;
  const std::size_t slot = w == windows_[0] ? 0 : 1;
  w->shows.clear_all();
  for (member* m = attached_; m != nullptr; m = m->next_attached)
    if (!m->group->properties()->removes_windows) return fail(errc::operation_not_permitted);
  for (member* m = attached_; m != nullptr; m = m->next_attached) m->group->unset_window(slot);
  windows_[slot] = nullptr;
  free_window(w, first_group());
  return {};
}

template <page_pinner Pinner, tce_table Domain, uapi::front_end_profile Profile>
std::string_view spapr_container<Pinner, Domain, Profile>::verify() const {
  guard held(lock_);
  for (const window_record* w : windows_) {
    if (w == nullptr) continue;
    if (driver_ == driver::none) return "windows are a driver's";
    if (const std::string_view text = w->shows.verify(); !text.empty()) return text;
  }
  std::size_t attached = 0;
  for (const member* m = groups_; m != nullptr; m = m->next) attached += m->attached ? 1 : 0;
  for (const member* m = attached_; m != nullptr; m = m->next_attached) --attached;
  if (attached != 0) return "attached groups are in one list";
  if ((driver_ == driver::none) != (attached_ == nullptr)) return "a driver has a group";
  if (space_ == nullptr && registrations_ != nullptr) return "registrations are of a process";
  return "";
}

}  // namespace iopt::vfio
