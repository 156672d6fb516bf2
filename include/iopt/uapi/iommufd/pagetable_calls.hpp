// iopt/uapi/iommufd/pagetable_calls.hpp - context: the ioctls on hardware page tables and devices.
//
// Layer: uapi. Includes: uapi/iommufd/context.hpp, uapi/user_bitmap.hpp.
#pragma once

#include <algorithm>
#include <array>
#include <bit>

#include "iopt/uapi/iommufd/context.hpp"
#include "iopt/uapi/user_bitmap.hpp"

namespace iopt::iommufd {

template <page_pinner Pinner, iommu_domain Domain, uapi::front_end_profile Profile>
result<void> context<Pinner, Domain, Profile>::hwpt_alloc_call(const argument_type& a,
                                                               abi::hwpt_alloc& said) {
  if (said.reserved != 0) return fail(errc::operation_not_supported);
  const bool has_data = said.data_len != 0;
  if ((said.data_type != abi::hwpt_data_none) != has_data) return fail(errc::invalid_argument);
  const result<object_id> made =
      create_hw_pagetable(said.dev_id, said.pt_id, said, [&](object_id id) {
        said.out_hwpt_id = id;
        return a.respond(said);
      });
  if (!made) return fail(made.error());
  return {};
}

/// A caller may name the type that it knows (Linux 6.17; the tests that came with 6.12.117 do too).
template <page_pinner Pinner, iommu_domain Domain, uapi::front_end_profile Profile>
result<void> context<Pinner, Domain, Profile>::hw_info_call(const argument_type& a,
                                                            abi::hw_info& said) {
  const bool wants_type = said.flags == abi::hw_info_input_type;
  if ((said.flags != 0 && !wants_type) ||
      std::ranges::any_of(said.reserved, [](auto r) { return r != 0; }))
    return fail(errc::operation_not_supported);
  guard stable(devices_lock_);
  const held<device_type> d(*this, find<device_type>(said.dev_id, object_kind::device));
  if (!d)
    return fail(wants_type && !newer ? errc::operation_not_supported
                                     : errc::no_such_file_or_directory);
  const hardware_info is = d->of->group->hardware();
  const std::uint32_t any_type = newer ? 0 : is.type;
  if (wants_type && said.out_data_type != is.type && said.out_data_type != any_type)
    return fail(errc::operation_not_supported);
  const auto told = is.bytes.first(std::min<std::size_t>(said.data_len, is.bytes.size()));
  if (!told.empty() && !copy_.write({said.data_uptr}, told)) return fail(errc::bad_address);
  constexpr std::array<std::byte, 64> zeroes{};
  for (std::uint64_t at = told.size(); at < said.data_len; at += zeroes.size()) {
    const auto part = std::span(zeroes).first(
        static_cast<std::size_t>(std::min<std::uint64_t>(zeroes.size(), said.data_len - at)));
    if (!copy_.write(uapi::behind({said.data_uptr}, at), part)) return fail(errc::bad_address);
  }
  said.data_len = static_cast<std::uint32_t>(is.bytes.size());
  said.out_data_type = is.type;
  said.out_max_pasid_log2 = is.pasid_bits;
  said.out_capabilities = d->of->group->tracks_dirty() ? abi::hw_cap_dirty_tracking : 0;
  return a.respond(said);
}

template <page_pinner Pinner, iommu_domain Domain, uapi::front_end_profile Profile>
result<void> context<Pinner, Domain, Profile>::set_dirty_call(const argument_type&,
                                                              abi::hwpt_set_dirty_tracking& said) {
  if ((said.flags & ~abi::dirty_tracking_enable) != 0) return fail(errc::operation_not_supported);
  const held<pagetable_type> p(*this,
                               find<pagetable_type>(said.hwpt_id, object_kind::hw_pagetable));
  if (!p) return fail(errc::no_such_file_or_directory);
  if (!p->tracks_dirty) return fail(errc::operation_not_supported);
  return p->shows->table.set_dirty_tracking(*p->domain,
                                            (said.flags & abi::dirty_tracking_enable) != 0);
}

/// Once the range and the page size make sense, the call succeeds, whatever was in the way of bits:
/// tracking that is off, a gap, memory out of reach.
template <page_pinner Pinner, iommu_domain Domain, uapi::front_end_profile Profile>
result<void> context<Pinner, Domain, Profile>::get_dirty_call(const argument_type&,
                                                              abi::hwpt_get_dirty_bitmap& said) {
  if ((said.flags & ~abi::dirty_bitmap_no_clear) != 0 || said.reserved != 0)
    return fail(errc::operation_not_supported);
  const held<pagetable_type> p(*this,
                               find<pagetable_type>(said.hwpt_id, object_kind::hw_pagetable));
  if (!p) return fail(errc::no_such_file_or_directory);
  const result<iova_range> range = iova_range::from_length({said.iova}, said.length);
  if (!range) return fail(range.error());
  const std::uint64_t ends = said.iova | (range->last.value + 1);
  if ((ends & (p->shows->table.alignment() - 1)) != 0 || said.page_size == 0 ||
      (ends & (said.page_size - 1)) != 0)
    return fail(errc::invalid_argument);
  if (!p->tracks_dirty) return fail(errc::operation_not_supported);
  uapi::user_bitmap bitmap(copy_, {said.data});
  const int page_lg2 = std::countr_zero(said.page_size);
  bool in_reach = true;
  const auto mode =
      (said.flags & abi::dirty_bitmap_no_clear) != 0 ? dirty_read::keep : dirty_read::clear;
  static_cast<void>(p->shows->table.read_dirty(*p->domain, *range, mode, [&](iova_range written) {
    in_reach = in_reach && bitmap.set((written.first - range->first) >> page_lg2,
                                      (written.last - range->first) >> page_lg2);
  }));
  return {};
}

}  // namespace iopt::iommufd
