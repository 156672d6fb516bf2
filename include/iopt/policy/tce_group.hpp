// iopt/policy/tce_group.hpp - the devices behind an SPAPR container, and its platform.
//
// On PowerPC servers devices translate through TCE tables: arrays of entries for pages of one size,
// each table behind a window of the bus. A group of devices (there: a table group) has a small
// window below 4 GiB, and where the platform can make windows (DDW), room for others, of other page
// sizes. The platform makes the tables; a window shows one table to a group. Beside
// policy/iommu_group.hpp, which knows domains and no windows.
//
// A class with virtual members and not a concept, because one container holds groups of several
// kinds at once.
//
// Layer: policy. Includes: policy/iommu_domain.hpp, policy/iommu_group.hpp, the standard library.
#pragma once

#include <cstddef>
#include <cstdint>

#include "iopt/base/error.hpp"
#include "iopt/base/range.hpp"
#include "iopt/policy/iommu_domain.hpp"
#include "iopt/policy/iommu_group.hpp"

namespace iopt {

/// A tce_table is an iommu_domain of one page size: T is an array of entries.
///
/// Meaning   As iommu_domain. t.page_sizes() has one member, of at least 4 KiB; t.aperture() is the
///           window, whole pages of it. Entries can be unmapped one by one (split() has nothing to
///           do), and changed in place.
/// Tested by tests/policy/iommu_domain_conformance.hpp
template <class T>
concept tce_table = iommu_domain<T> && splitting_domain<T> && replacing_domain<T>;

/// How many windows a group can have at once.
inline constexpr std::size_t tce_windows = 2;

/// tce_properties: what a group's platform can do.
struct tce_properties {
  std::uint32_t window32_start = 0;  // bytes
  std::uint32_t window32_size = 0;   // bytes; 0: no window below 4 GiB
  std::uint64_t page_sizes = 0;      // bit n: windows may have pages of 2^n bytes
  std::uint32_t max_windows = 0;     // that can be made; 0: none can
  std::uint32_t levels = 0;          // that a table may have
  bool makes_windows = true;         // has all of table_bytes, create_table, set_window
  bool removes_windows = true;       // has unset_window
};

/// tce_window: a window to be made.
struct tce_window {
  std::uint32_t page_lg2 = 12;
  std::uint32_t levels = 1;
  std::uint64_t length_bytes = 0;
};

/// pe_operation: what is asked of a group's error handling, in the words of VFIO_EEH_PE_OP.
struct pe_operation {
  std::uint32_t what = 0;
  std::uint32_t error_type = 0;  // of an injected error, as all that follows
  std::uint32_t error_function = 0;
  std::uint64_t error_address = 0;
  std::uint64_t error_mask = 0;
};

/// tce_group: devices that share their windows.
///
/// Model       A partial function from slots (0 to tce_windows - 1) to tables.
/// Ownership   The caller's; it outlives its stay in a container. A table is made by one group and
///             destroyed through any group of the same platform.
/// Threads     Calls on groups of one platform are serialised by the container that they are in.
/// Tested by   tests/backends/mock/tce_group_test.cpp
template <tce_table Table>
class tce_group {
 public:
  virtual group_kind kind() const noexcept { return group_kind::iommu; }
  /// What the platform can do; nullptr where the devices have no windows at all.
  virtual const tce_properties* properties() const noexcept = 0;
  /// Which platform this is: groups with the same may share tables.
  virtual const void* platform() const noexcept = 0;

  /// The memory that a table for such a window takes, in bytes; 0 where there can be none.
  virtual std::uint64_t table_bytes(const tce_window& window) const noexcept = 0;
  /// A new, empty table for the slot. The platform chooses where the window begins.
  /// Errors: any errno.
  virtual result<Table*> create_table(std::size_t slot, const tce_window& window) = 0;
  /// Requires: no group shows the table, and it is empty.
  virtual void destroy_table(Table& table) noexcept = 0;

  /// Makes the devices translate through the table, in this slot.
  /// Errors: any errno; the slot is then as before.
  virtual result<void> set_window(std::size_t slot, Table& table) = 0;
  /// The slot shows nothing; it may have shown nothing before.
  virtual void unset_window(std::size_t slot) noexcept = 0;

  /// Whether the platform handles errors of these devices (EEH).
  virtual bool handles_errors() const noexcept { return false; }
  /// What the operation answers: a number from 0 on. Errors: any errno.
  virtual result<std::int64_t> operate(const pe_operation&) { return fail(errc::no_such_device); }

 protected:
  ~tce_group() = default;
};

}  // namespace iopt
