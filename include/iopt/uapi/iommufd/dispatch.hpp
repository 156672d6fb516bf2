// iopt/uapi/iommufd/dispatch.hpp - context: which ioctl is meant.
//
// Tested by tests/uapi/iommufd/context_test.cpp
//
// Layer: uapi. Includes: uapi/iommufd/context.hpp, uapi/vfio/compat_calls.hpp.
#pragma once

#include <algorithm>
#include <type_traits>

#include "iopt/uapi/iommufd/context.hpp"
#include "iopt/uapi/vfio/compat_calls.hpp"

namespace iopt::iommufd {

template <page_pinner Pinner, iommu_domain Domain, uapi::front_end_profile Profile>
template <class More>
uapi::answer context<Pinner, Domain, Profile>::ioctl(std::uint32_t request, std::uint64_t argument,
                                                     More&& more) {
  const std::uint32_t number = abi::number_of(request);
  constexpr std::uint32_t last = std::max(last_number, std::remove_cvref_t<More>::last_number);
  if (number < abi::first_number || number > last)
    return with_compatible([&](auto& calls) { return calls.ioctl(request, argument); });
  const result<argument_type> a = argument_type::begin(copy_, request, {argument});
  if (!a) return uapi::refusal(a.error().code);
  using enum abi::request;
  switch (abi::request{request}) {
    case abi::request::destroy: return run(*a, &context::destroy_call);
    case ioas_alloc: return run(*a, &context::alloc_call);
    case ioas_allow_iovas: return run(*a, &context::allow_call);
    case ioas_copy: return run(*a, &context::copy_call);
    case ioas_iova_ranges: return run(*a, &context::ranges_call);
    case ioas_map: return run(*a, &context::map_call);
    case ioas_unmap: return run(*a, &context::unmap_call);
    case option: return run(*a, &context::option_call);
    case vfio_ioas: return run(*a, &context::vfio_ioas_call);
    case hwpt_alloc: return run(*a, &context::hwpt_alloc_call, abi::hwpt_alloc_least);
    case get_hw_info: return run(*a, &context::hw_info_call, abi::hw_info_least);
    case hwpt_set_dirty_tracking: return run(*a, &context::set_dirty_call);
    case hwpt_get_dirty_bitmap: return run(*a, &context::get_dirty_call);
    case hwpt_invalidate: return run(*a, &context::invalidate_call);
    case fault_queue_alloc: return run(*a, &context::absent_call<abi::fault_alloc>);
    default: break;
  }
  if constexpr (newer) {
    switch (abi::request{request}) {
      case ioas_map_file:
        if constexpr (finds_files<Profile, Pinner>) return run(*a, &context::map_file_call);
        break;
      case viommu_alloc: return run(*a, &context::viommu_call, abi::viommu_alloc_least);
      case vdevice_alloc: return run(*a, &context::absent_call<abi::vdevice_alloc>);
      case ioas_change_process: return run(*a, &context::change_process_call);
      case veventq_alloc:
        return run(*a, &context::absent_call<abi::veventq_alloc>, abi::veventq_alloc_least);
      case hw_queue_alloc: return run(*a, &context::absent_call<abi::hw_queue_alloc>);
      default: break;
    }
  }
  if (request != abi::request_of(number))
    return uapi::refusal(errc::inappropriate_io_control_operation);
  return more(*a);
}

template <page_pinner Pinner, iommu_domain Domain, uapi::front_end_profile Profile>
template <class F>
auto context<Pinner, Domain, Profile>::with_compatible(F f) {
  bool noiommu = false;
  const held<space_type> s(*this, static_cast<space_type*>(objects_.find_chosen([&] {
    noiommu = noiommu_;
    return compatible_;
  })));
  vfio::compat_calls<table_type, copy_type, caller_type> calls(
      s ? &s->table : nullptr,
      {noiommu, options_.allow_noiommu, Profile::punches_holes, Profile::level}, copy_, caller_);
  return f(calls);
}

}  // namespace iopt::iommufd
