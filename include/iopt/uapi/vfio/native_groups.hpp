// iopt/uapi/vfio/native_groups.hpp - native_container: groups, the driver, domains.
//
// Layer: uapi. Includes: uapi/vfio/native_container.hpp.
#pragma once

#include "iopt/uapi/vfio/native_container.hpp"

namespace iopt::vfio {

template <page_pinner Pinner, iommu_domain Domain, container_profile Profile>
auto native_container<Pinner, Domain, Profile>::find(const group_type& group) noexcept -> member* {
  for (member* m = groups_; m != nullptr; m = m->next)
    if (m->group == &group) return m;
  return nullptr;
}

template <page_pinner Pinner, iommu_domain Domain, container_profile Profile>
bool native_container<Pinner, Domain, Profile>::has_emulated() const noexcept {
  for (const member* m = groups_; m != nullptr; m = m->next)
    if (m->attached && m->group->kind() == group_kind::emulated) return true;
  return false;
}

/// Groups without an IOMMU, and only they, go with the driver that does nothing.
template <page_pinner Pinner, iommu_domain Domain, container_profile Profile>
bool native_container<Pinner, Domain, Profile>::allowed(driver d) const noexcept {
  if (groups_ == nullptr) return true;
  return (groups_->group->kind() == group_kind::none) == (d == driver::noiommu);
}

template <page_pinner Pinner, iommu_domain Domain, container_profile Profile>
std::int64_t native_container<Pinner, Domain, Profile>::check_extension(std::uint64_t extension) {
  guard held(lock_);
  const bool by_noiommu =
      driver_ == driver::none ? allowed(driver::noiommu) : driver_ == driver::noiommu;
  if (by_noiommu && options_.allow_noiommu && extension == abi::noiommu_iommu) return 1;
  if (driver_ == driver::noiommu || !allowed(driver::type1)) return 0;
  switch (extension) {
    case abi::type1_iommu:
    case abi::type1v2_iommu:
    case abi::unmap_all: return 1;
    // Nesting went with Linux 6.13.
    case abi::type1_nesting_iommu: return Profile::level == kernel_level::linux_6_18 ? 0 : 1;
    case abi::update_vaddr: return driver_ == driver::type1 && !has_emulated() ? 1 : 0;
    case abi::dma_cc_iommu: {
      bool all = driver_ == driver::type1;
      for (const domain_record* d = first_domain_; d != nullptr; d = d->next)
        all = all && d->coherent;
      return all ? 1 : 0;
    }
    default: return 0;
  }
}

template <page_pinner Pinner, iommu_domain Domain, container_profile Profile>
result<void> native_container<Pinner, Domain, Profile>::join(group_type& group) {
  guard held(lock_);
  const bool bare = group.kind() == group_kind::none;
  if (bare && !caller_.has(capability::raw_io)) return fail(errc::operation_not_permitted);
  if (groups_ != nullptr && (groups_->group->kind() == group_kind::none) != bare)
    return fail(errc::operation_not_permitted);
  if (driver_ == driver::type1 && any_address_invalid()) return fail(errc::device_or_resource_busy);
  if (find(group) != nullptr) return fail(errc::invalid_argument);
  member* const m = create_in<member>(memory_, &group);
  if (m == nullptr) return fail(errc::not_enough_memory);
  if (driver_ == driver::type1) {
    if (const result<void> done = attach(*m); !done) {
      destroy_in(memory_, m);
      return done;
    }
  }
  m->next = std::exchange(groups_, m);
  return {};
}

template <page_pinner Pinner, iommu_domain Domain, container_profile Profile>
result<void> native_container<Pinner, Domain, Profile>::leave(group_type& group) noexcept {
  guard held(lock_);
  member* const m = find(group);
  if (m == nullptr) return fail(errc::invalid_argument);
  if (driver_ == driver::type1) detach(*m);
  member** link = &groups_;
  while (*link != m) link = &(*link)->next;
  *link = m->next;
  destroy_in(memory_, m);
  if (groups_ == nullptr) release_driver();
  return {};
}

template <page_pinner Pinner, iommu_domain Domain, container_profile Profile>
result<void> native_container<Pinner, Domain, Profile>::set_iommu(std::uint64_t type) {
  guard held(lock_);
  if (groups_ == nullptr || driver_ != driver::none) return fail(errc::invalid_argument);
  if (type == abi::noiommu_iommu && allowed(driver::noiommu) && options_.allow_noiommu) {
    if (!caller_.has(capability::raw_io)) return fail(errc::operation_not_permitted);
    driver_ = driver::noiommu;
    return {};
  }
  const bool nests = type == abi::type1_nesting_iommu && Profile::level != kernel_level::linux_6_18;
  if (!allowed(driver::type1) || (type != abi::type1_iommu && type != abi::type1v2_iommu && !nests))
    return fail(errc::no_such_device);
  table_.emplace(pinner_, memory_);
  pins_.emplace([](void*, iova_range) {});  // users let go before the table hears of an unmap
  version_ = type;
  driver_ = driver::type1;
  result<void> done = pins_->attach(*table_);
  for (member* m = groups_; done && m != nullptr; m = m->next) done = attach(*m);
  if (done) return {};
  for (member* m = groups_; m != nullptr; m = m->next)
    if (m->attached) detach(*m);
  release_driver();
  return done;
}

/// Forgets the driver, and whatever is mapped.
template <page_pinner Pinner, iommu_domain Domain, container_profile Profile>
void native_container<Pinner, Domain, Profile>::release_driver() noexcept {
  if (std::exchange(driver_, driver::none) == driver::type1) {
    drop_pins();
    drop_logs();
    pins_->detach();
    pins_.reset();
    table_.reset();
    addresses_changed();
  }
  version_ = 0;
  tracking_ = in_hardware_ = may_be_invalid_ = false;
  untracked_groups_ = 0;
}

template <page_pinner Pinner, iommu_domain Domain, container_profile Profile>
result<void> native_container<Pinner, Domain, Profile>::attach(member& m) {
  if (m.group->kind() == group_kind::emulated) {
    m.pins_only = true;  // it reaches nothing but what it pins
  } else {
    if (const result<void> done = attach_to_iommu(m); !done) return done;
    ++untracked_groups_;
  }
  m.attached = true;
  return {};
}

/// Whether what is mapped can be translated.
template <page_pinner Pinner, iommu_domain Domain, container_profile Profile>
result<void> native_container<Pinner, Domain, Profile>::fits(iova_range aperture) const {
  const bool below = aperture.first.value != 0 && table_->first_in({{0}, aperture.first - 1});
  const bool above = aperture.last.value != top && table_->first_in({aperture.last + 1, {top}});
  if (below || above) return fail(errc::invalid_argument);
  return {};
}

/// Keeps what the group's devices need for themselves free, if nothing is mapped there. The member is
/// who reserved it.
template <page_pinner Pinner, iommu_domain Domain, container_profile Profile>
result<void> native_container<Pinner, Domain, Profile>::reserve_for(member& m) {
  result<void> done{};
  for (const reserved_region& r : m.group->reserved_regions()) {
    if (done && r.what != reserved_region::kind::direct_relaxable)
      done = table_->reserve(r.range, &m);
  }
  if (done) return {};
  table_->unreserve(&m);
  if (done.error() == errc::address_in_use) return fail(errc::invalid_argument);
  return done;
}

template <page_pinner Pinner, iommu_domain Domain, container_profile Profile>
result<void> native_container<Pinner, Domain, Profile>::attach_to_iommu(member& m) {
  group_type& group = *m.group;
  domain_record* const fresh = create_in<domain_record>(memory_);
  if (fresh == nullptr) return fail(errc::not_enough_memory);
  const result<Domain*> made = group.create_domain();
  if (!made) {
    destroy_in(memory_, fresh);
    return fail(made.error());
  }
  *fresh = {&group, *made, group.iommu(), false};
  bool attached = false;
  bool reserved = false;
  const auto give_up = [&](result<void> why) {
    if (reserved) table_->unreserve(&m);
    if (attached) group.detach(**made);
    group.destroy_domain(**made);
    destroy_in(memory_, fresh);
    return why;
  };

  result<void> done{};
  if (version_ == abi::type1_nesting_iommu) done = group.enable_nesting(**made);
  if (done) done = group.attach(**made);
  attached = done.has_value();
  if (done) done = fits((*made)->aperture());
  if (done) done = reserve_for(m);
  reserved = done.has_value();
  if (done) {
    const iova_range aperture = (*made)->aperture();
    bool some = false;
    table_->for_each_usable([&](iova_range r) { some = some || r.overlaps(aperture); });
    if (!some) done = fail(errc::invalid_argument);
  }
  if (done && !group.isolates_msi() && !options_.allow_unsafe_interrupts)
    done = fail(errc::operation_not_permitted);
  if (!done) return give_up(done);

  if constexpr (coherency_enforcing_domain<Domain>)
    fresh->coherent = (*made)->enforce_cache_coherency();
  const result<domain_record*> shared = shareable(m, *fresh);
  if (!shared) {
    attached = false;
    return give_up(fail(shared.error()));
  }
  if (*shared != nullptr) {
    group.destroy_domain(**made);
    destroy_in(memory_, fresh);
    ++(*shared)->users;
    m.at = *shared;
    return {};
  }
  done = table_->attach(**made);
  if (!done) {
    // What does not suit is an invalid argument to type1, whatever it is to the table.
    if (done.error() == errc::address_in_use) done = fail(errc::invalid_argument);
    return give_up(done);
  }
  fresh->users = 1;
  fresh->next = std::exchange(first_domain_, fresh);
  m.at = fresh;
  // The others go on; were they switched on again, what they have recorded would be dropped.
  if (tracking_ && in_hardware_ && !table_->set_dirty_tracking(**made, true))
    track_in_hardware(false);
  return {};
}

/// A domain here that the group can use in place of its own, and is attached to now; or nullptr, and
/// it is attached to its own. Errors: it cannot go back to its own, and is attached to none.
template <page_pinner Pinner, iommu_domain Domain, container_profile Profile>
auto native_container<Pinner, Domain, Profile>::shareable(member& m, domain_record& fresh)
    -> result<domain_record*> {
  for (domain_record* d = first_domain_; d != nullptr; d = d->next) {
    if (d->iommu != fresh.iommu || d->coherent != fresh.coherent) continue;
    m.group->detach(*fresh.domain);
    if (m.group->attach(*d->domain)) return d;
    if (const result<void> back = m.group->attach(*fresh.domain); !back) return fail(back.error());
  }
  return nullptr;
}

template <page_pinner Pinner, iommu_domain Domain, container_profile Profile>
void native_container<Pinner, Domain, Profile>::detach(member& m) noexcept {
  m.attached = false;
  if (m.group->kind() == group_kind::iommu) {
    domain_record& d = *m.at;
    m.group->detach(*d.domain);
    m.at = nullptr;
    if (--d.users == 0) {
      // With the last of the IOMMUs everything goes, unless software still reaches it.
      if (first_domain_ == &d && d.next == nullptr && !has_emulated()) {
        drop_pins();
        drop_logs();
        static_cast<void>(table_->unmap_all());
      }
      table_->detach(*d.domain);
      domain_record** link = &first_domain_;
      while (*link != &d) link = &(*link)->next;
      *link = d.next;
      d.maker->destroy_domain(*d.domain);
      destroy_in(memory_, &d);
    }
    table_->unreserve(&m);
    lose_untracked(m);
  } else if (first_domain_ == nullptr && !has_emulated()) {
    drop_pins();
    drop_logs();
    static_cast<void>(table_->unmap_all());
  }
}

template <page_pinner Pinner, iommu_domain Domain, container_profile Profile>
std::string_view native_container<Pinner, Domain, Profile>::verify() const {
  guard held(lock_);
  if (!table_) return logs_.empty() ? "" : "logs are of mappings";
  if (const std::string_view text = table_->verify(); !text.empty()) return text;
  if (const std::string_view text = logs_.verify(); !text.empty()) return text;
  std::uint64_t logs = 0;
  for (const dirty_log* log = logs_.first(); log != nullptr; log = logs_.next(*log), ++logs) {
    const auto there = table_->find(log->range.first);
    if (!there || there->where != log->range) return "logs are of mappings";
  }
  if (tracking_ && logs != table_->area_count()) return "each mapping has a log while tracking";
  std::size_t untracked = 0;
  std::size_t attached = 0;
  for (const member* m = groups_; m != nullptr; m = m->next) {
    untracked += m->attached && !m->pins_only ? 1 : 0;
    attached += m->at != nullptr ? 1 : 0;
  }
  if (untracked != untracked_groups_) return "groups that do not tell are counted";
  for (const domain_record* d = first_domain_; d != nullptr; d = d->next) attached -= d->users;
  return attached == 0 ? "" : "domains are counted by their groups";
}

}  // namespace iopt::vfio
