// iopt/uapi/iommufd/objects.hpp - what a context keeps of each kind of object.
//
// Layer: uapi. Includes: core, policy/iommu_group.hpp, uapi/iommufd/object_table.hpp.
#pragma once

#include <cstddef>
#include <cstdint>

#include "iopt/core/access_object.hpp"
#include "iopt/core/io_pagetable.hpp"
#include "iopt/policy/iommu_group.hpp"
#include "iopt/uapi/iommufd/object_table.hpp"

namespace iopt::iommufd {

/// foreign_object: an object of a front end, which shares the numbers of the context's own.
///
/// Ownership   The front end's, from context::reserve() until destroyed(), which a caller's DESTROY
///             or the end of the context brings about.
/// Tested by   tests/uapi/iommufd/foreign_object_test.cpp
class foreign_object : public object {
 public:
  foreign_object() noexcept : object(object_kind::foreign) {}

  /// It is out of the table. May use the context, and end the object.
  virtual void destroyed() noexcept = 0;

 protected:
  ~foreign_object() = default;
};

namespace detail {

template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
struct hw_pagetable;

/// An I/O address space, and the domains that it fills.
template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
struct space : object {
  space(Pinner& pinner, typename Traits::memory memory) noexcept
      : object(object_kind::space), table(pinner, memory) {}

  io_pagetable<Pinner, Domain, Traits> table;
  hw_pagetable<Pinner, Domain, Traits>* pagetables = nullptr;  // the oldest first
  space* next = nullptr;                                       // of those that change their owner
};

/// A domain, which uses its space.
template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
struct hw_pagetable : object {
  hw_pagetable(space<Pinner, Domain, Traits>& of, iommu_group<Domain>& group) noexcept
      : object(object_kind::hw_pagetable), shows(&of), maker(&group) {}

  space<Pinner, Domain, Traits>* shows;
  iommu_group<Domain>* maker;
  Domain* domain = nullptr;
  std::size_t devices = 0;    // attached to it
  bool automatic = false;     // comes with the first device and goes with the last
  bool leaving = false;       // went with it, but for an ioctl at work
  bool tracks_dirty = false;  // its caller asked for that
  bool nests = false;         // likewise: others may be on top of it
  hw_pagetable* next = nullptr;
};

template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
struct device;

/// A group that devices are bound of: those that are attached translate through one domain.
template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
struct bound_group {
  iommu_group<Domain>* group;
  hw_pagetable<Pinner, Domain, Traits>* at = nullptr;
  device<Pinner, Domain, Traits>* attached = nullptr;
  std::size_t bound = 0;
  bound_group* next = nullptr;
};

/// A device, by the driver that bound it. Attached, it uses the group's hardware page table.
template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
struct device : object {
  explicit device(bound_group<Pinner, Domain, Traits>& group) noexcept
      : object(object_kind::device), of(&group) {}

  bound_group<Pinner, Domain, Traits>* of;
  bool attached = false;
  device* next = nullptr;  // of those attached
};

/// An access object. Attached, it uses its space.
template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
struct access : object {
  using user_type = access_object<Pinner, Domain, Traits>;

  access(typename user_type::unmap_callback on_unmap, void* context, bool pins_pages) noexcept
      : object(object_kind::access), user(on_unmap, context, pins_pages) {}

  user_type user;
  space<Pinner, Domain, Traits>* at = nullptr;
};

}  // namespace detail

}  // namespace iopt::iommufd
