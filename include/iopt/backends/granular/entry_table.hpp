// iopt/backends/granular/entry_table.hpp - a kernel's table of mappings: entries that cannot be cut.
//
// VFIO's type1 container and iommufd's address space have this in common: a call makes an entry, a
// call removes whole entries, and an entry is not cut. Neither tells what it holds.
// granular/domain.hpp makes an iommu_domain of one.
//
// Layer: backends. Includes: base, policy, the standard library.
#pragma once

#include <concepts>
#include <cstdint>
#include <optional>
#include <span>

#include "iopt/base/access.hpp"
#include "iopt/base/address.hpp"
#include "iopt/base/error.hpp"
#include "iopt/base/page_sizes.hpp"
#include "iopt/base/range.hpp"
#include "iopt/policy/iommu_domain.hpp"

namespace iopt::granular {

/// An entry_table holds entries, each of which shows a range of IOVAs contiguous memory.
///
/// Meaning   t.map(r, p, rights)     one new entry: r shows the memory that p names. Requires: rights
///                                   has read or write and nothing else; r does not touch an entry.
///                                   Errors: any errno; on error the table is as before.
///           t.unmap(r)              removes the entries in r, which is a union of entries; returns
///                                   how many bytes they had. No device uses them any more.
///           t.entries_left()        how many more entries it takes; nothing: no limit is known.
///           t.page_sizes(), t.aperture(), t.reserved_regions()   as iommu_domain.
/// Threads   Calls on one table are serialised by the caller.
/// Tested by tests/backends/granular/domain_test.cpp, with a table in memory
template <class T>
concept entry_table =
    std::movable<T> && requires(T& t, const T& c, iova_range r, physical p, access_rights rights) {
      { t.map(r, p, rights) } -> std::same_as<result<void>>;
      { t.unmap(r) } noexcept -> std::same_as<std::uint64_t>;
      { c.entries_left() } noexcept -> std::same_as<std::optional<std::uint64_t>>;
      { c.page_sizes() } -> std::same_as<page_size_set>;
      { c.aperture() } -> std::same_as<iova_range>;
      { c.reserved_regions() } -> std::convertible_to<std::span<const reserved_region>>;
    };

/// An entry_table that knows which pages a device wrote; as dirty_tracking_domain, for ranges in
/// which every byte is mapped.
template <class T>
concept dirty_entry_table = entry_table<T> && requires(T& t, iova_range r, bool on, dirty_read mode,
                                                       detail::any_record record) {
  { t.set_dirty_tracking(on) } -> std::same_as<result<void>>;
  { t.read_dirty(r, mode, record) } -> std::same_as<result<void>>;
};

}  // namespace iopt::granular
