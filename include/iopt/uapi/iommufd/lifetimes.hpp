// iopt/uapi/iommufd/lifetimes.hpp - context: how objects, and the context itself, begin and end.
//
// Tested by tests/uapi/iommufd/context_test.cpp
//
// Layer: uapi. Includes: uapi/iommufd/context.hpp.
#pragma once

#include "iopt/uapi/iommufd/context.hpp"

namespace iopt::iommufd {

template <page_pinner Pinner, iommu_domain Domain, uapi::front_end_profile Profile>
context<Pinner, Domain, Profile>::~context() {
  // What uses others goes first.
  for (const object_kind kind : {object_kind::foreign, object_kind::access, object_kind::device,
                                 object_kind::hw_pagetable, object_kind::space}) {
    while (object* const o = objects_.first(kind)) {
      if (kind == object_kind::access) {
        static_cast<void>(destroy_access(o->id()));
      } else if (kind == object_kind::device) {
        static_cast<void>(detach(o->id()));
        static_cast<void>(unbind(o->id()));
      } else {
        const result<void> gone = destroy(o->id());
        IOPT_ASSERT(gone.has_value());
        if (!gone) return;
      }
    }
  }
}

/// An object with a number, under which it is not found before objects_.publish().
template <page_pinner Pinner, iommu_domain Domain, uapi::front_end_profile Profile>
template <class T, class... Arguments>
result<T*> context<Pinner, Domain, Profile>::reserve_new(Arguments&&... arguments) {
  T* const o = create_in<T>(memory_, std::forward<Arguments>(arguments)...);
  if (o == nullptr) return fail(errc::not_enough_memory);
  if (const result<void> done = objects_.reserve(*o); !done) {
    destroy_in(memory_, o);
    return fail(done.error());
  }
  return o;
}
/// Undoes reserve_new().
template <page_pinner Pinner, iommu_domain Domain, uapi::front_end_profile Profile>
template <class T>
void context<Pinner, Domain, Profile>::give_back(T& o) noexcept {
  objects_.abandon(o);
  destroy_in(memory_, &o);
}

/// A space, likewise: it has a number and is not found yet.
template <page_pinner Pinner, iommu_domain Domain, uapi::front_end_profile Profile>
auto context<Pinner, Domain, Profile>::reserve_space() -> result<space_type*> {
  const result<space_type*> s = reserve_new<space_type>(pinner_, memory_);
  if (s) (*s)->table.set_account_mode(mode_);  // which does not change while there are objects
  return s;
}

template <page_pinner Pinner, iommu_domain Domain, uapi::front_end_profile Profile>
result<object_id> context<Pinner, Domain, Profile>::create_space() {
  const result<space_type*> s = reserve_space();
  if (!s) return fail(s.error());
  const object_id id = (*s)->id();
  publish(**s);
  return id;
}

template <page_pinner Pinner, iommu_domain Domain, uapi::front_end_profile Profile>
template <class F>
auto context<Pinner, Domain, Profile>::with_all_spaces(F f) {
  guard alone(spaces_lock_);  // space::next is of one caller
  struct list {
    explicit list(context& of) : of_(of) {
      space_type** end = &first;
      of_.objects_.find_each(object_kind::space, [&end](object& o) {
        *end = &static_cast<space_type&>(o);
        end = &(*end)->next;
      });
    }
    list(const list&) = delete;
    list& operator=(const list&) = delete;
    ~list() {
      while (first != nullptr) {
        space_type& s = *first;
        first = std::exchange(s.next, nullptr);
        of_.put_needed(s);
      }
    }
    context& of_;
    space_type* first = nullptr;
  } const all(*this);
  return f([&all](auto g) {
    for (space_type* s = all.first; s != nullptr; s = s->next) g(s->table);
  });
}

template <page_pinner Pinner, iommu_domain Domain, uapi::front_end_profile Profile>
template <class Exporter>
void context<Pinner, Domain, Profile>::revoke(const Exporter& exporter)
  requires device_memory_pinner<Pinner>
{
  with_all_spaces([&](auto each) { each([&](table_type& t) { t.revoke(exporter); }); });
}

template <page_pinner Pinner, iommu_domain Domain, uapi::front_end_profile Profile>
template <class Exporter>
result<void> context<Pinner, Domain, Profile>::restore(const Exporter& exporter)
  requires device_memory_pinner<Pinner>
{
  return with_all_spaces([&](auto each) {
    result<void> done{};
    each([&](table_type& t) {
      if (done) done = t.restore(exporter);
    });
    if (!done) each([&](table_type& t) { t.revoke(exporter); });
    return done;
  });
}

template <page_pinner Pinner, iommu_domain Domain, uapi::front_end_profile Profile>
result<void> context<Pinner, Domain, Profile>::need_compatible_space() {
  const result<space_type*> s = reserve_space();
  if (!s) return fail(s.error());
  bool used = false;
  result<void> done{};
  {
    guard alone(spaces_lock_);  // VFIO's ioctls find it as soon as it is the compatible one
    done = objects_.locked([&](bool) -> result<void> {
      if (noiommu_) return fail(errc::invalid_argument);
      if (compatible_ == nullptr) {
        compatible_ = *s;
        used = true;
      }
      return {};
    });
    if (used) objects_.publish(**s);
  }
  if (!used) give_back(**s);
  return done;
}

template <page_pinner Pinner, iommu_domain Domain, uapi::front_end_profile Profile>
result<void> context<Pinner, Domain, Profile>::destroy(object_id id) {
  const result<object*> o = objects_.remove(id, [this](object& gone) {
    if (compatible_ == &gone) compatible_ = nullptr;
  });
  if (!o) return fail(o.error());
  end(**o);
  return {};
}

/// Destroys an object that is out of the table.
template <page_pinner Pinner, iommu_domain Domain, uapi::front_end_profile Profile>
void context<Pinner, Domain, Profile>::end(object& o) noexcept {
  switch (o.kind()) {
    case object_kind::space: destroy_in(memory_, &static_cast<space_type&>(o)); break;
    case object_kind::hw_pagetable: {
      guard stable(devices_lock_);
      end_pagetable(static_cast<pagetable_type&>(o));
      break;
    }
    case object_kind::device: destroy_in(memory_, &static_cast<device_type&>(o)); break;
    case object_kind::access: destroy_in(memory_, &static_cast<access_record&>(o)); break;
    case object_kind::foreign: static_cast<foreign_object&>(o).destroyed(); break;
  }
}

template <page_pinner Pinner, iommu_domain Domain, uapi::front_end_profile Profile>
std::string_view context<Pinner, Domain, Profile>::verify() const {
  std::string_view fault = objects_.verify();
  const auto of_space = [](const space_type& s) -> std::string_view {
    std::size_t domains = 0;
    for (const pagetable_type* p = s.pagetables; p != nullptr; p = p->next) ++domains;
    if (domains != s.table.domain_count()) return "a domain is in the table of its space";
    return s.table.verify();
  };
  objects_.for_each([&](const object& o) {
    if (fault.empty() && o.kind() == object_kind::space)
      fault = of_space(static_cast<const space_type&>(o));
  });
  return fault;
}

}  // namespace iopt::iommufd
