// iopt/uapi/iommufd/absent_calls.hpp - context: the ioctls on objects of which there are none.
//
// Nested domains, queues of faults, virtual IOMMUs and what belongs to one are made by no context.
// Their ioctls are in the table, so that sizes and numbers are checked; then they answer as Linux
// does on a machine whose IOMMUs have none of it.
//
// Layer: uapi. Includes: uapi/iommufd/context.hpp.
#pragma once

#include "iopt/uapi/iommufd/context.hpp"

namespace iopt::iommufd {

namespace detail {

/// Why such an object is not made. A queue of faults would be, by Linux, whether there are faults or
/// not; the others need a virtual IOMMU, which is not found.
constexpr errc refusal_of(const abi::fault_alloc&) noexcept {
  return errc::operation_not_supported;
}
constexpr errc refusal_of(const abi::vdevice_alloc&) noexcept {
  return errc::no_such_file_or_directory;
}
constexpr errc refusal_of(const abi::veventq_alloc& said) noexcept {
  if (said.flags != 0 || said.reserved != 0 || said.type == 0) return errc::operation_not_supported;
  if (said.veventq_depth == 0) return errc::invalid_argument;
  return errc::no_such_file_or_directory;
}
constexpr errc refusal_of(const abi::hw_queue_alloc& said) noexcept {
  if (said.flags != 0 || said.type == 0) return errc::operation_not_supported;
  const auto where = iova_range::from_length({said.nesting_parent_iova}, said.length);
  return where ? errc::no_such_file_or_directory : where.error().code;
}

}  // namespace detail

template <page_pinner Pinner, iommu_domain Domain, uapi::front_end_profile Profile>
template <class T>
result<void> context<Pinner, Domain, Profile>::absent_call(const argument_type&, T& said) {
  return fail(detail::refusal_of(said));
}

/// What is reserved is not looked at.
template <page_pinner Pinner, iommu_domain Domain, uapi::front_end_profile Profile>
result<void> context<Pinner, Domain, Profile>::viommu_call(const argument_type&,
                                                           abi::viommu_alloc& said) {
  if (said.flags != 0 || said.type == 0) return fail(errc::operation_not_supported);
  const held<device_type> d(*this, find<device_type>(said.dev_id, object_kind::device));
  return fail(d ? errc::operation_not_supported : errc::no_such_file_or_directory);
}

/// Whatever the answer, the caller is told that no entry was done.
template <page_pinner Pinner, iommu_domain Domain, uapi::front_end_profile Profile>
result<void> context<Pinner, Domain, Profile>::invalidate_call(const argument_type& a,
                                                               abi::hwpt_invalidate& said) {
  const auto refused = [&] {
    if (said.reserved != 0) return errc::operation_not_supported;
    if (said.entry_num != 0 &&
        (said.data_uptr == 0 || said.entry_len == 0 || said.entry_len > page_bytes ||
         said.entry_num > abi::hwpt_invalidate_most))
      return errc::invalid_argument;
    // From Linux 6.13 on a virtual IOMMU may be meant too, and anything else is the wrong object.
    const held<object> o(*this, newer ? objects_.find(said.hwpt_id) : nullptr);
    return o ? errc::invalid_argument : errc::no_such_file_or_directory;
  }();
  said.entry_num = 0;
  const result<void> told = a.respond(said);
  return told ? fail(refused) : told;
}

}  // namespace iopt::iommufd
