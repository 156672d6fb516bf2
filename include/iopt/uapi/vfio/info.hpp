// iopt/uapi/vfio/info.hpp - what VFIO_IOMMU_GET_INFO answers, by type1 and by iommufd.
//
// Both tell page sizes and a chain of capabilities behind them. type1 writes all of the chain or
// none, and touches argsz only where it was too small; iommufd writes what fits, and always says how
// much it would have been.
//
// Layer: uapi. Includes: uapi/argument.hpp, uapi/vfio/abi.hpp.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "iopt/base/range.hpp"
#include "iopt/uapi/argument.hpp"
#include "iopt/uapi/vfio/abi.hpp"
#include "iopt/uapi/vfio/dirty_log.hpp"

namespace iopt::vfio {

/// The page sizes of domains together: `sizes` are those that all have; what is smaller than a page
/// of the CPU is told as such a page.
constexpr std::uint64_t folded_page_sizes(std::uint64_t sizes, std::uint64_t page_bytes) noexcept {
  const std::uint64_t small = page_bytes - 1;
  return (sizes & small) == 0 ? sizes : (sizes & ~small) | page_bytes;
}
static_assert(folded_page_sizes(0x200800, 4096) == 0x201000);
static_assert(folded_page_sizes(~std::uint64_t{0}, 4096) == 0xfffffffffffff000);

/// type1's answer. `table` is asked for its usable IOVA ranges, if `has_ranges`.
///
/// Errors    bad_address; invalid_argument for an argsz below 16.
/// Source    Linux 6.12 vfio_iommu_type1_get_info, as facts.
/// Tested by tests/uapi/vfio/info_test.cpp
template <class Table, user_copy Copy>
result<void> write_type1_info(Copy& copy, user_address argument, const Table& table,
                              bool has_ranges, std::uint64_t page_sizes, std::uint32_t dma_avail) {
  result<abi::type1_info> info =
      uapi::read_argument<abi::type1_info>(copy, argument, abi::type1_info_least);
  if (!info) return fail(info.error());
  std::uint32_t count = 0;
  if (has_ranges) table.for_each_usable([&](iova_range) { ++count; });

  constexpr std::uint32_t migration_at = sizeof(abi::type1_info);
  constexpr std::uint32_t avail_at = migration_at + sizeof(abi::migration_capability);
  constexpr std::uint32_t ranges_at = avail_at + sizeof(abi::dma_avail_capability) + 4;
  const std::uint64_t need =
      ranges_at + (count == 0 ? 0
                              : sizeof(abi::iova_ranges_capability) +
                                    std::uint64_t{count} * sizeof(abi::iova_range_entry));
  info->flags = abi::info_page_sizes | abi::info_capabilities;
  info->page_sizes = page_sizes;
  const std::size_t told = std::min<std::size_t>(info->argsz, sizeof(abi::type1_info));
  if (info->argsz < need) {
    info->argsz = static_cast<std::uint32_t>(need);
    return uapi::write_bytes(copy, argument, *info, told);
  }

  info->cap_offset = migration_at;
  const abi::migration_capability migration{{abi::capability_migration, 1, avail_at},
                                            0,
                                            0,
                                            page_sizes & (~page_sizes + 1),
                                            max_bitmap_bytes};
  struct {
    abi::dma_avail_capability is;
    std::uint32_t pad;
  } const avail{{{abi::capability_dma_avail, 1, count == 0 ? 0 : ranges_at}, dma_avail}, 0};
  result<void> done = uapi::write_bytes(copy, uapi::behind(argument, migration_at), migration);
  if (done) done = uapi::write_bytes(copy, uapi::behind(argument, avail_at), avail);
  if (done && count != 0) {
    const abi::iova_ranges_capability head{{abi::capability_iova_range, 1, 0}, count, 0};
    done = uapi::write_bytes(copy, uapi::behind(argument, ranges_at), head);
    std::uint64_t at = ranges_at + sizeof head;
    table.for_each_usable([&](iova_range r) {
      const abi::iova_range_entry entry{r.first.value, r.last.value};
      if (done) done = uapi::write_bytes(copy, uapi::behind(argument, at), entry);
      at += sizeof entry;
    });
  }
  if (done) done = uapi::write_bytes(copy, argument, *info, told);
  return done;
}

/// iommufd's answer.
///
/// Errors    bad_address; invalid_argument for an argsz below 16; no_such_device without a table.
/// Source    Linux 6.12 iommufd_vfio_iommu_get_info, as facts.
/// Tested by tests/uapi/vfio/info_test.cpp
template <class Table, user_copy Copy>
result<void> write_iommufd_info(Copy& copy, user_address argument, const Table* table) {
  result<abi::type1_info> info =
      uapi::read_argument<abi::type1_info>(copy, argument, abi::type1_info_least);
  if (!info) return fail(info.error());
  if (table == nullptr) return fail(errc::no_such_device);

  std::uint64_t sizes = ~std::uint64_t{0};
  table->for_each_domain([&](const auto& domain) { sizes &= domain.page_sizes().bitmap(); });
  info->page_sizes = std::max(folded_page_sizes(sizes, Table::page_bytes), table->alignment());
  info->flags = abi::info_page_sizes | abi::info_capabilities;

  constexpr std::uint32_t avail_at = sizeof(abi::type1_info);
  constexpr std::uint32_t ranges_at = avail_at + sizeof(abi::dma_avail_capability) + 4;
  const std::uint64_t given = info->argsz;
  result<void> done{};
  const auto put = [&](std::uint64_t at, const auto& what, std::uint64_t needed) {
    if (done && given >= needed) done = uapi::write_bytes(copy, uapi::behind(argument, at), what);
  };
  const abi::dma_avail_capability avail{{abi::capability_dma_avail, 1, 0}, ~std::uint32_t{0}};
  put(avail_at, avail, avail_at + sizeof avail);
  // Each range is written where it fits, and the head where all do.
  std::uint64_t end = ranges_at + sizeof(abi::iova_ranges_capability);
  std::uint32_t count = 0;
  table->for_each_usable([&](iova_range r) {
    const abi::iova_range_entry entry{r.first.value, r.last.value};
    put(end, entry, end + sizeof entry);
    end += sizeof entry;
    ++count;
  });
  put(ranges_at, abi::iova_ranges_capability{{abi::capability_iova_range, 1, 0}, count, 0}, end);
  put(avail_at + offsetof(abi::capability_header, next), ranges_at, ranges_at);

  info->cap_offset = given >= end ? avail_at : 0;
  info->argsz = static_cast<std::uint32_t>(end);
  if (done)
    done = uapi::write_bytes(copy, argument, *info,
                             std::min<std::size_t>(given, sizeof(abi::type1_info)));
  return done;
}

}  // namespace iopt::vfio
