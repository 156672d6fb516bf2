// iopt/uapi/iommufd/accesses.hpp - context: access objects with a number.
//
// Layer: uapi. Includes: uapi/iommufd/context.hpp.
#pragma once

#include <utility>

#include "iopt/uapi/iommufd/context.hpp"

namespace iopt::iommufd {

template <page_pinner Pinner, iommu_domain Domain, uapi::front_end_profile Profile>
result<object_id> context<Pinner, Domain, Profile>::create_access(
    typename access_type::unmap_callback on_unmap, void* context_of_callback, bool pins_pages) {
  const result<access_record*> a =
      reserve_new<access_record>(on_unmap, context_of_callback, pins_pages);
  if (!a) return fail(a.error());
  objects_.hold(**a);  // by its user
  const object_id id = (*a)->id();
  objects_.publish(**a);
  return id;
}

template <page_pinner Pinner, iommu_domain Domain, uapi::front_end_profile Profile>
result<void> context<Pinner, Domain, Profile>::attach_access(object_id access, object_id space) {
  const held<access_record> a(*this, find<access_record>(access, object_kind::access));
  if (!a) return fail(errc::no_such_file_or_directory);
  if (a->at != nullptr) return fail(errc::invalid_argument);
  const held<space_type> s(*this, find<space_type>(space, object_kind::space));
  if (!s) return fail(errc::no_such_file_or_directory);
  if (const result<void> done = a->user.attach(s->table); !done) return done;
  objects_.hold(*s);
  a->at = &*s;
  return {};
}

template <page_pinner Pinner, iommu_domain Domain, uapi::front_end_profile Profile>
result<void> context<Pinner, Domain, Profile>::replace_access(object_id access, object_id space) {
  const held<access_record> a(*this, find<access_record>(access, object_kind::access));
  if (!a || a->at == nullptr) return fail(errc::no_such_file_or_directory);
  const held<space_type> s(*this, find<space_type>(space, object_kind::space));
  if (!s) return fail(errc::no_such_file_or_directory);
  if (a->at == &*s) return {};
  const result<void> done = a->user.replace(s->table);
  if (!done && a->user.is_attached()) return done;
  if (done) objects_.hold(*s);
  put_needed(*std::exchange(a->at, done ? &*s : nullptr));
  return done;
}

template <page_pinner Pinner, iommu_domain Domain, uapi::front_end_profile Profile>
result<void> context<Pinner, Domain, Profile>::detach_access(object_id access) noexcept {
  const held<access_record> a(*this, find<access_record>(access, object_kind::access));
  if (!a) return fail(errc::no_such_file_or_directory);
  if (a->at == nullptr) return {};
  a->user.detach();
  put_needed(*std::exchange(a->at, nullptr));
  return {};
}

template <page_pinner Pinner, iommu_domain Domain, uapi::front_end_profile Profile>
result<void> context<Pinner, Domain, Profile>::destroy_access(object_id access) noexcept {
  if (const result<void> done = detach_access(access); !done) return done;
  access_record* const a = find<access_record>(access, object_kind::access);
  if (a == nullptr) return fail(errc::no_such_file_or_directory);
  if (objects_.retire(*a, 2)) destroy_in(memory_, a);  // its user, and the look-up above
  return {};
}

template <page_pinner Pinner, iommu_domain Domain, uapi::front_end_profile Profile>
auto context<Pinner, Domain, Profile>::access(object_id id) noexcept -> access_type* {
  const held<access_record> a(*this, find<access_record>(id, object_kind::access));
  return a ? &a->user : nullptr;
}

}  // namespace iopt::iommufd
