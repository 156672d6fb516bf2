// iopt/policy/account.hpp - against whom pinned pages are counted.
//
// Layer: policy. Includes: base, the standard library.
#pragma once

#include <cstdint>
#include <string_view>

namespace iopt {

/// account_mode: which counter a pages object charges. Chosen when its memory is mapped for the
/// first time, and kept by every area that shares the pages later.
///
/// Source   Linux 6.12 iommufd: IOPT_PAGES_ACCOUNT_NONE, _USER, _MM.
enum class account_mode : std::uint8_t {
  none,    // nothing limited: the caller may lock memory at will
  user,    // the user's counter: every process of the user shares one limit
  mm,      // the address space's counter: what VFIO type1 does, and libvirt expects
  custom,  // whatever the pinner makes of it: a memory controller group, a tenant's budget
};

constexpr std::string_view name(account_mode mode) noexcept {
  switch (mode) {
    case account_mode::none: return "none";
    case account_mode::user: return "user";
    case account_mode::mm: return "mm";
    case account_mode::custom: return "custom";
  }
  return "?";
}

}  // namespace iopt
