// iopt/backends/granular/refusal.hpp - why a kernel's table took no more, and what helps.
//
// Layer: backends. Includes: base, the standard library.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "iopt/base/error.hpp"

namespace iopt::granular {

/// refusal: the last map or split that failed, as the domain saw it.
///
/// Threads     A value.
/// Tested by   tests/backends/granular/domain_test.cpp
struct refusal {
  errc code{};
  bool predicted = false;               // no entry was asked for
  std::uint64_t entries = 0;            // that the request needs
  std::optional<std::uint64_t> left{};  // entries the table would have taken; nothing: unlimited

  /// What a caller, or its operator, can do about it.
  constexpr std::string_view advice() const noexcept {
    if (predicted && code == errc::not_enough_memory) return "no memory for the library itself";
    switch (code) {
      case errc::no_space_on_device:
        return "no entries are left: coarser granules, neighbours mapped as one, or a larger "
               "dma_entry_limit of vfio_iommu_type1";
      case errc::not_enough_memory:
        return "more memory than may be locked: a larger RLIMIT_MEMLOCK, CAP_IPC_LOCK, or less "
               "mapped (type1 counts what is mapped twice twice)";
      case errc::bad_address:
        return "memory that is not there, may not be written, or is a device's and unmappable";
      case errc::file_exists: return "something else maps there: another user of the descriptor";
      case errc::invalid_argument:
        return "not on a page, outside what the IOMMU translates, or inside an entry that cannot "
               "be cut: finer granules";
      case errc::io_error: return "the table did not take out what it was told to";
      case errc::device_or_resource_busy: return "the addresses of the memory are being changed";
      case errc::operation_not_permitted:
      case errc::permission_denied: return "the caller may not do that";
      default: return "";
    }
  }
};

}  // namespace iopt::granular
