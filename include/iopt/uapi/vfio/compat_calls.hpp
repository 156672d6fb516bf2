// iopt/uapi/vfio/compat_calls.hpp - the VFIO container ioctls of an iommufd.
//
// iommufd answers type1's ioctls on one of its I/O address spaces, the compatible one. It is no
// state of its own: a descriptor of /dev/iommu makes one of these for each call, with whatever
// table is the compatible one then, or none.
//
// Layer: uapi. Includes: core, policy, uapi.
#pragma once

#include <cstdint>

#include "iopt/core/io_pagetable.hpp"
#include "iopt/policy/credentials.hpp"
#include "iopt/policy/user_copy.hpp"
#include "iopt/uapi/argument.hpp"
#include "iopt/uapi/vfio/abi.hpp"
#include "iopt/uapi/vfio/info.hpp"

namespace iopt::vfio {

/// What of a context, beside its table, the answers depend on.
struct compat_state {
  bool noiommu = false;        // a group without an IOMMU joined
  bool allow_noiommu = false;  // groups without an IOMMU are known at all
  bool punches_holes = false;  // unmaps are exact in either version
  kernel_level level = kernel_level::linux_6_12;
};

/// compat_unmapped: how an unmap ended, and whether its size is told to the caller.
struct compat_unmapped {
  result<void> outcome{};
  std::uint64_t bytes = 0;
  bool tells = false;
};

/// compat_calls: type1 by iommufd's rules.
///
/// Model       None of its own; see io_pagetable.
/// Ownership   Refers to all it is given.
/// Errors      Typed members answer what the ioctl of the name does, in the order of its checks.
///             An unmap is not all or nothing, and says how much went also where it fails.
/// Threads     As the table.
/// Source      Linux 6.12 drivers/iommu/iommufd/vfio_compat.c, as facts.
/// Tested by   tests/uapi/vfio/compat_calls_test.cpp
template <class Table, user_copy Copy, credentials Caller>
class compat_calls {
 public:
  /// `table` may be null: then there is no compatible space.
  compat_calls(Table* table, compat_state state, Copy& copy, Caller& caller) noexcept
      : table_(table), state_(state), copy_(copy), caller_(caller) {}

  /// What the ioctl returns, or an errno, negative; ENOTTY for what is not one of these.
  uapi::answer ioctl(std::uint32_t request, std::uint64_t argument) {
    switch (request) {
      case abi::get_api_version: return abi::api_version;
      case abi::check_extension: return uapi::answer_of(check_extension(argument));
      case abi::set_iommu: return uapi::answer_of(set_iommu(argument));
      case abi::iommu_get_info:
        return uapi::answer_of(write_iommufd_info(copy_, {argument}, table_));
      case abi::iommu_map_dma: {
        const auto request_in = uapi::read_argument<abi::dma_map>(copy_, {argument});
        if (!request_in) return uapi::refusal(request_in.error().code);
        return uapi::answer_of(
            map_dma(request_in->flags, {request_in->vaddr}, {request_in->iova}, request_in->size));
      }
      case abi::iommu_unmap_dma: return unmap_ioctl({argument});
      default: return uapi::refusal(errc::inappropriate_io_control_operation);
    }
  }

  /// VFIO_CHECK_EXTENSION. Errors: no_such_device, dma_cc_iommu without a table.
  result<uapi::answer> check_extension(std::uint64_t extension) {
    switch (extension) {
      case abi::type1_iommu:
      case abi::type1v2_iommu:
      case abi::unmap_all: return state_.noiommu ? 0 : 1;
      case abi::noiommu_iommu: return state_.allow_noiommu ? 1 : 0;
      case abi::dma_cc_iommu:
        if (table_ == nullptr) return fail(errc::no_such_device);
        return table_->enforce_cache_coherency() ? 1 : 0;
      default: return 0;
    }
  }

  /// VFIO_SET_IOMMU: type1 v1 switches large pages off, v2 leaves them as they are.
  /// Errors: operation_not_permitted, no IOMMU and the caller may not; invalid_argument, no such
  /// type; no_such_device without a table; those of io_pagetable::disable_large_pages().
  result<void> set_iommu(std::uint64_t type) {
    if (state_.allow_noiommu && type == abi::noiommu_iommu && state_.noiommu) {
      if (!caller_.has(capability::raw_io)) return fail(errc::operation_not_permitted);
      return {};
    }
    if ((type != abi::type1_iommu && type != abi::type1v2_iommu) || state_.noiommu)
      return fail(errc::invalid_argument);
    if (table_ == nullptr) return fail(errc::no_such_device);
    return type == abi::type1_iommu ? table_->disable_large_pages() : result<void>{};
  }

  /// VFIO_IOMMU_MAP_DMA. Errors: invalid_argument for unknown flags; no_such_device without a table;
  /// those of io_pagetable::map() at a fixed IOVA. No flags at all map memory without rights.
  result<void> map_dma(std::uint32_t flags, user_address vaddr, iova at, std::uint64_t size_bytes) {
    if ((flags & ~(abi::map_read | abi::map_write)) != 0) return fail(errc::invalid_argument);
    if (table_ == nullptr) return fail(errc::no_such_device);
    const access_rights rights = abi::rights_of(flags);
    typename Table::memory from = table_->user_memory(vaddr);
    if (caller_.has(capability::lock_memory)) from.of.mode = account_mode::none;
    const result<iova> mapped = table_->map(from, size_bytes, rights, at);
    if (!mapped) return fail(mapped.error());
    return {};
  }

  /// VFIO_IOMMU_UNMAP_DMA. Errors: invalid_argument, unknown flags, or unmap_all_flag with a range;
  /// no_such_device without a table; those of cutting, in type1 v1; those of io_pagetable::unmap().
  compat_unmapped unmap_dma(std::uint32_t flags, iova first, std::uint64_t size_bytes) {
    if ((flags & ~abi::unmap_all_flag) != 0) return {fail(errc::invalid_argument)};
    if (table_ == nullptr) return {fail(errc::no_such_device)};
    unmap_report gone;
    if ((flags & abi::unmap_all_flag) != 0) {
      if (first.value != 0 || size_bytes != 0) return {fail(errc::invalid_argument)};
      gone = table_->unmap_all();
    } else if (state_.punches_holes) {
      gone = table_->unmap(first, size_bytes, unmap_profile::hole_punching, state_.level);
      if (!gone && gone.bytes == 0) return {gone.outcome};
    } else {
      if (!table_->large_pages()) {
        // The cuts come before the range is looked at: a wrap, or nothing, cuts too.
        const iova ends[] = {{first.value + size_bytes - 1}, {first.value - 1}};
        for (const iova last : std::span(ends).first(first.value != 0 ? 2 : 1))
          if (const result<void> cut = table_->cut(last, cut_rule::as_iommufd); !cut) return {cut};
      }
      gone = table_->unmap(first, size_bytes, unmap_profile::iommufd_compat_v2, state_.level);
    }
    return {gone.outcome, gone.bytes, true};
  }

 private:
  uapi::answer unmap_ioctl(user_address argument) {
    result<abi::dma_unmap> request = uapi::read_argument<abi::dma_unmap>(copy_, argument);
    if (!request) return uapi::refusal(request.error().code);
    const compat_unmapped gone = unmap_dma(request->flags, {request->iova}, request->size);
    if (!gone.tells) return uapi::answer_of(gone.outcome);
    request->size = gone.bytes;
    const result<void> told = uapi::write_bytes(copy_, argument, *request);
    return uapi::answer_of(told ? gone.outcome : told);
  }

  Table* table_;
  compat_state state_;
  Copy& copy_;
  Caller& caller_;
};

}  // namespace iopt::vfio
