// iopt/backends/iommufd/ioas_table.hpp - an address space of /dev/iommu as an entry_table; and the domain.
//
//   dev_iommu::ioas_table::open(fd, ioas)         of an IOAS, with its devices attached
//   dev_iommu::domain                             the iommu_domain over it, with granules
//   dev_iommu::tracking_table, tracking_domain    the same, and the writes of a hardware page table
//
// The namespace is that of the device and not of uapi/iommufd, which answers these ioctls.
//
// Layer: backends. Includes: base, policy, backends/granular, backends/host, backends/iommufd,
// uapi/iommufd/abi.hpp.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <memory>
#include <new>
#include <optional>
#include <span>
#include <utility>

#include "iopt/backends/granular/domain.hpp"
#include "iopt/backends/granular/entry_table.hpp"
#include "iopt/backends/host/device_file.hpp"
#include "iopt/backends/iommufd/file_frames.hpp"
#include "iopt/backends/iommufd/iova_ranges.hpp"
#include "iopt/backends/iommufd/sharing.hpp"
#include "iopt/base/access.hpp"
#include "iopt/base/error.hpp"
#include "iopt/base/page_sizes.hpp"
#include "iopt/base/range.hpp"
#include "iopt/policy/iommu_domain.hpp"
#include "iopt/uapi/iommufd/abi.hpp"

namespace iopt::dev_iommu {

namespace abi = iommufd::abi;

/// What an ioas_table may have beside.
struct ioas_options {
  sharing* shared = nullptr;           // nothing: every mapping pins for itself
  const file_frames* files = nullptr;  // nothing: all frames are addresses
};

/// ioas_table: the mappings of an IOAS.
///
/// Model       As entry_table; memory is an address of this process, or a frame of a file. What the IOAS
///             said when it was opened holds while no device comes or goes; open it anew then.
/// Ownership   Refers to the descriptor, which is open longer, and to what the options name.
/// Errors      map(): file_exists, invalid_argument outside the usable IOVAs, bad_address,
///             not_enough_memory over RLIMIT_MEMLOCK; operation_not_supported for a file on a kernel before
///             6.13. Without a device nothing is pinned, and memory need not be there.
///             open(): those of IOMMU_IOAS_IOVA_RANGES; not_enough_memory.
/// Cost        One ioctl a call; with sharing up to one more for each member.
/// Threads     As entry_table.
/// Source      Linux 6.12 drivers/iommu/iommufd, as facts.
/// Tested by   tests/backends/iommufd/ioas_table_test.cpp
class ioas_table {
 public:
  static result<ioas_table> open(int iommufd, std::uint32_t ioas, ioas_options options = {}) {
    result<iova_ranges> ranges = iova_ranges::read(iommufd, ioas);
    if (!ranges) return std::unexpected(ranges.error());
    ioas_table table(iommufd, ioas, options, std::move(*ranges));
    if (options.shared != nullptr) {
      table.member_.reset(new (std::nothrow) sharing::member(*options.shared, ioas));
      if (!table.member_) return fail(errc::not_enough_memory);
    }
    return table;
  }

  result<void> map(iova_range r, physical memory, access_rights rights) {
    if (!member_) return map_anew(r, memory, rights);
    if (const result<void> room = member_->reserve(); !room) return room;
    const bool copied = member_->copied(
        r, memory.value, [&](std::uint32_t from) { return copy(from, r, rights).has_value(); });
    if (!copied)
      if (const result<void> mapped = map_anew(r, memory, rights); !mapped) return mapped;
    member_->keep(r, memory.value);
    return {};
  }
  std::uint64_t unmap(iova_range r) noexcept {
    if (member_) member_->forget(r);
    abi::ioas_unmap request{sizeof request, ioas_, r.first.value, r.length()};
    return ask(abi::request::ioas_unmap, request) ? request.length : 0;
  }
  /// An IOAS has no limit but memory.
  std::optional<std::uint64_t> entries_left() const noexcept { return std::nullopt; }

  page_size_set page_sizes() const noexcept {
    return {std::max<std::uint64_t>(std::bit_floor(ranges_.alignment_bytes), host::page_bytes)};
  }
  iova_range aperture() const noexcept { return ranges_.aperture; }
  std::span<const reserved_region> reserved_regions() const noexcept { return ranges_.reserved; }
  int descriptor() const noexcept { return iommufd_; }
  std::uint32_t ioas() const noexcept { return ioas_; }
  /// Mappings that were shared and not pinned anew.
  std::uint64_t copies() const noexcept { return copies_; }

 protected:
  template <class Argument>
  result<void> ask(abi::request request, Argument& argument) const noexcept {
    const result<int> answer = host::call(iommufd_, static_cast<std::uint32_t>(request), &argument);
    if (!answer) return std::unexpected(answer.error());
    return {};
  }

 private:
  ioas_table(int iommufd, std::uint32_t ioas, ioas_options options, iova_ranges ranges) noexcept
      : iommufd_(iommufd), ioas_(ioas), files_(options.files), ranges_(std::move(ranges)) {}

  static std::uint32_t flags_of(access_rights rights) noexcept {
    return abi::map_fixed_iova | (allows(rights, access_rights::read) ? abi::map_readable : 0) |
           (allows(rights, access_rights::write) ? abi::map_writeable : 0);
  }
  result<void> map_anew(iova_range r, physical memory, access_rights rights) noexcept {
    const std::uint32_t flags = flags_of(rights);
    const auto file = files_ == nullptr ? std::nullopt : files_->find(memory);
    if (!file) {
      abi::ioas_map request{sizeof request, flags,      ioas_,        0,
                            memory.value,   r.length(), r.first.value};
      return ask(abi::request::ioas_map, request);
    }
    abi::ioas_map_file request{sizeof request, flags,      ioas_,        file->descriptor,
                               file->offset,   r.length(), r.first.value};
    const result<void> mapped = ask(abi::request::ioas_map_file, request);
    if (!mapped && mapped.error() == errc::inappropriate_io_control_operation)
      return fail(errc::operation_not_supported);
    return mapped;
  }
  result<void> copy(std::uint32_t from, iova_range r, access_rights rights) noexcept {
    abi::ioas_copy request{sizeof request, flags_of(rights), ioas_,        from,
                           r.length(),     r.first.value,    r.first.value};
    const result<void> done = ask(abi::request::ioas_copy, request);
    if (done) ++copies_;
    return done;
  }

  int iommufd_;
  std::uint32_t ioas_;
  const file_frames* files_;
  iova_ranges ranges_;
  std::unique_ptr<sharing::member> member_;
  std::uint64_t copies_ = 0;
};
static_assert(granular::entry_table<ioas_table> && !granular::dirty_entry_table<ioas_table>);

/// tracking_table: an ioas_table and a hardware page table of it that records writes.
///
/// Model       As dirty_entry_table. The page table was made with IOMMU_HWPT_ALLOC_DIRTY_TRACKING from the
///             same IOAS.
/// Errors      set_dirty_tracking(): operation_not_supported, another kind of page table. read_dirty(): as
///             the ioctl, which drops what fails inside a page table.
/// Cost        read_dirty(): one ioctl for 128 MiB of pages of 4 KiB.
/// Threads     As entry_table.
/// Tested by   tests/backends/iommufd/ioas_table_test.cpp
class tracking_table : public ioas_table {
 public:
  tracking_table(ioas_table table, std::uint32_t hw_pagetable) noexcept
      : ioas_table(std::move(table)), hw_pagetable_(hw_pagetable) {}

  result<void> set_dirty_tracking(bool on) noexcept {
    abi::hwpt_set_dirty_tracking request{sizeof request, on ? abi::dirty_tracking_enable : 0,
                                         hw_pagetable_, 0};
    return ask(abi::request::hwpt_set_dirty_tracking, request);
  }

  template <class Record>
  result<void> read_dirty(iova_range r, dirty_read mode, Record&& record) {
    const std::uint64_t page = page_sizes().smallest();
    std::array<std::uint64_t, 512> bits;
    const std::uint64_t most = bits.size() * 64 * page;
    for (iova at = r.first;;) {
      const std::uint64_t more = std::min(r.last - at, most - 1);
      bits.fill(0);
      abi::hwpt_get_dirty_bitmap request{sizeof request,
                                         hw_pagetable_,
                                         mode == dirty_read::keep ? abi::dirty_bitmap_no_clear : 0,
                                         0,
                                         at.value,
                                         more + 1,
                                         page,
                                         reinterpret_cast<std::uintptr_t>(bits.data())};
      if (const result<void> read = ask(abi::request::hwpt_get_dirty_bitmap, request); !read)
        return read;
      tell(bits, {at, at + more}, page, record);
      if (at + more == r.last) return {};
      at += more + 1;
    }
  }

 private:
  /// Calls record() for each maximal run of bits.
  template <class Record>
  static void tell(std::span<const std::uint64_t> bits, iova_range all, std::uint64_t page,
                   Record& record) {
    const std::uint64_t pages = all.length_minus_one() / page + 1;
    for (std::uint64_t n = 0; n < pages;) {
      const std::uint64_t word = bits[n / 64] >> (n % 64);
      if (word == 0) {
        n = (n / 64 + 1) * 64;
        continue;
      }
      n += static_cast<std::uint64_t>(std::countr_zero(word));
      std::uint64_t end = n;
      while (end < pages && (bits[end / 64] >> (end % 64) & 1) != 0) ++end;
      if (n >= pages) return;
      record(iova_range{all.first + n * page, std::min(all.last, all.first + (end * page - 1))});
      n = end;
    }
  }

  std::uint32_t hw_pagetable_;
};
static_assert(granular::dirty_entry_table<tracking_table>);

/// Iommu_domains on an IOAS.
using domain = granular::domain<ioas_table>;
using tracking_domain = granular::domain<tracking_table>;
static_assert(dirty_tracking_domain<tracking_domain> && !dirty_tracking_domain<domain>);

}  // namespace iopt::dev_iommu
