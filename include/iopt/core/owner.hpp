// iopt/core/owner.hpp - io_pagetable: files go over to another owner, in one table or several.
//
// Tables may show the same pages: these are charged once. While both accounts are charged,
// pages::next_from names the second, and who pins or unpins meanwhile tells both.
//
// Layer: core. Includes: core/io_pagetable.hpp.
#pragma once

#include <functional>
#include <utility>

#include "iopt/core/io_pagetable.hpp"

namespace iopt {

namespace detail {

/// Holds mutexes for a scope, whose number varies: each(f) calls f(mutex) for one after the other.
/// (Clang's thread-safety analysis has no words for that; it does not look through std::invoke.)
template <class Mutex, class Each>
class all_locks {
 public:
  explicit all_locks(const Each& each) : each_(each) {
    each_([](Mutex& m) { std::invoke(&Mutex::lock, m); });
  }
  ~all_locks() {
    each_([](Mutex& m) { std::invoke(&Mutex::unlock, m); });
  }
  all_locks(const all_locks&) = delete;
  all_locks& operator=(const all_locks&) = delete;

 private:
  const Each& each_;
};

}  // namespace detail

template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
result<void> io_pagetable<Pinner, Domain, Traits>::change_owner(const owner_type& owner) {
  return change_owner_of([this](auto f) { f(*this); }, owner);
}

/// Every account is charged before any is uncharged, and all areas are looked at before that.
template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
template <class Each>
result<void> io_pagetable<Pinner, Domain, Traits>::change_owner_of(Each each,
                                                                   const owner_type& owner) {
  const auto each_lock = [&](auto f) { each([&](io_pagetable& t) { f(t.areas_lock_); }); };
  const detail::all_locks<typename Traits::shared_mutex, decltype(each_lock)> guard(each_lock);
  result<void> done{};
  each([&](const io_pagetable& t) {
    if (done) done = t.check_files();
  });
  if (!done) return done;
  each([&](io_pagetable& t) {
    if (done) done = t.charge_next(owner);
  });
  each([&](io_pagetable& t) { t.leave_one_account(done.has_value()); });
  return done;
}

/// Requires: areas_lock_.
template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
result<void> io_pagetable<Pinner, Domain, Traits>::check_files() const {
  for (auto c = areas_.begin(); c.valid(); c.next()) {
    if (c.value()->is_in_flight())
      return fail({errc::device_or_resource_busy, error_place::area, c.range().first.value});
    if (is_compact(*c.value()))  // it is of user memory
      return fail({errc::invalid_argument, error_place::area, c.range().first.value});
    const pages_type& p = *full(*c.value()).source;
    detail::exclusive_lock inner(p.mutex);
    if (p.from->is.kind != origin_kind::file)
      return fail({errc::invalid_argument, error_place::area, c.range().first.value});
  }
  return {};
}

/// Charges the pages of every area to a new owner too, but for those that are already charged so,
/// by another area or for good. On error some are: leave_one_account() ends that. Requires:
/// areas_lock_, exclusively.
template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
result<void> io_pagetable<Pinner, Domain, Traits>::charge_next(const owner_type& owner) {
  for (auto c = areas_.begin(); c.valid(); c.next()) {
    pages_type& p = *full(*c.value()).source;
    detail::exclusive_lock inner(p.mutex);
    if (p.next_from != nullptr || p.from->is.owner == owner) continue;
    typename origin_type::key key = p.from->is;
    key.owner = owner;
    const result<origin_type*> to = intern_locked(key);
    if (!to) return fail(to.error());
    if (const result<void> charged = (*to)->charge(p.pinned); !charged) {
      (*to)->release();
      return charged;
    }
    p.next_from = *to;
  }
  return {};
}

/// Ends what charge_next() began: for pages that two accounts are charged for, the one that they
/// were charged to first is no more, or the other. Requires: areas_lock_, exclusively.
template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
void io_pagetable<Pinner, Domain, Traits>::leave_one_account(bool the_new) noexcept {
  for (auto c = areas_.begin(); c.valid(); c.next()) {
    if (is_compact(*c.value())) continue;
    pages_type& p = *full(*c.value()).source;
    detail::exclusive_lock inner(p.mutex);
    if (p.next_from == nullptr) continue;
    if (the_new) std::swap(p.from, p.next_from);
    origin_type* const left = std::exchange(p.next_from, nullptr);
    left->uncharge(p.pinned);
    left->release();
  }
}

}  // namespace iopt
