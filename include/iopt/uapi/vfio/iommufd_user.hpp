// iopt/uapi/vfio/iommufd_user.hpp - a driver that pins memory of a container that is an iommufd.
//
// What vfio_pin_pages and its like do for a mediated device whose container is an iommufd: an access
// object, by VFIO's calls. Its rules are not type1's: no limit of pages, other errnos, writing needs no
// right to read.
//
// Layer: uapi. Includes: core/access_object.hpp, uapi/vfio/memory_user.hpp.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "iopt/core/access_object.hpp"
#include "iopt/core/io_pagetable.hpp"
#include "iopt/uapi/vfio/memory_user.hpp"

namespace iopt::vfio {

/// iommufd_user: one open mediated device.
///
/// Model       The pins of an access object, each a range of whole pages as it was pinned.
/// Ownership   Refers to the memory user and, between open() and close(), to the table.
/// Notification  The memory user is told of every mapping that goes while something in it is pinned,
///             by whomever, and of the whole space when it closes: it lets go of what it pinned there.
/// Errors      Those of access_object, and the wrappers' own: invalid_argument, no pages, or not open.
/// Threads     As access_object.
/// Source      Linux 6.12 drivers/vfio/vfio_main.c and iommufd.c, as facts.
/// Tested by   tests/uapi/vfio/iommufd_user_test.cpp
template <page_pinner Pinner, iommu_domain Domain, table_traits Traits = single_threaded>
class iommufd_user {
 public:
  using table_type = io_pagetable<Pinner, Domain, Traits>;
  static constexpr std::uint64_t page_bytes = Traits::page_bytes;

  explicit iommufd_user(memory_user& user) noexcept
      : access_([](void* who, iova_range gone) { static_cast<memory_user*>(who)->dma_unmap(gone); },
                &user) {}

  /// Errors: invalid_argument, it is open; address_in_use, a mapping is off page boundaries.
  result<void> open(table_type& table) { return access_.attach(table); }
  void close() noexcept { access_.detach(); }
  /// Goes over to another table; see access_object::replace().
  result<void> replace(table_type& table) { return access_.replace(table); }

  /// vfio_pin_pages: pins whole pages from the one that holds `first` on, and tells their frames.
  ///
  /// Errors   invalid_argument, no pages, or `out` too short, or not open, or the mapping is about to
  ///          go; value_too_large, past the end; no_such_file_or_directory, not mapped throughout;
  ///          operation_not_permitted, the right to write, or without `write` to read, is missing;
  ///          those of pinning. On error nothing is pinned.
  result<std::uint64_t> pin_pages(iova first, std::uint64_t pages, access_rights want,
                                  std::span<physical> out) {
    const result<iova_range> range = whole_pages(first, pages);
    if (!range || out.size() < pages || !access_.is_attached())
      return fail(range ? errc::invalid_argument : range.error().code);
    const access_rights right =
        allows(want, access_rights::write) ? access_rights::write : access_rights::read;
    std::size_t told = 0;
    const result<void> pinned = access_.pin(*range, right, [&](run r) {
      for (std::uint64_t at = 0; at < r.length_bytes; at += page_bytes) out[told++] = r.first + at;
    });
    if (!pinned) return fail(pinned.error());
    return pages;
  }
  /// vfio_unpin_pages: undoes one pin_pages() of the same pages; of others it does nothing.
  void unpin_pages(iova first, std::uint64_t pages) noexcept {
    const result<iova_range> range = whole_pages(first, pages);
    if (range && access_.is_pinned(*range)) access_.unpin(*range);
  }

  /// vfio_dma_rw. Errors: invalid_argument, nothing to copy, or not open; as access_object::read().
  result<void> dma_read(iova at, std::span<std::byte> to)
    requires copying_pinner<Pinner>
  {
    if (!access_.is_attached()) return fail(errc::invalid_argument);
    return access_.read(at, to);
  }
  result<void> dma_write(iova at, std::span<const std::byte> from)
    requires copying_pinner<Pinner>
  {
    if (!access_.is_attached()) return fail(errc::invalid_argument);
    return access_.write(at, from);
  }

 private:
  static result<iova_range> whole_pages(iova first, std::uint64_t pages) noexcept {
    const iova base = first - first.value % page_bytes;
    if (pages == 0) return fail(errc::invalid_argument);
    if (pages - 1 > (top - base.value) / page_bytes) return fail(errc::value_too_large);
    return iova_range{base, base + ((pages - 1) * page_bytes + (page_bytes - 1))};
  }

  access_object<Pinner, Domain, Traits> access_;
};

}  // namespace iopt::vfio
