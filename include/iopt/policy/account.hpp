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
/// Source   Linux 6.12 iommufd: IOPT_PAGES_ACCOUNT_NONE, _USER, _MM; VFIO type1: vfio_lock_acct.
enum class account_mode : std::uint8_t {
  none,             // nothing limited: the caller may lock memory at will
  user,             // the user's counter: every process of the user shares one limit
  mm,               // the address space's counter, and its count of pinned pages
  custom,           // whatever the pinner makes of it: a memory controller group, a tenant's budget
  type1,            // the address space's counter alone: what VFIO type1 does, and libvirt expects
  type1_unlimited,  // the same counter, which then never refuses: the caller may lock at will
};

/// Whether pages are charged as they are pinned, so that the one over the limit is told before any
/// fault behind it. In the other modes an operation charges at its end, all it pinned.
constexpr bool charges_while_pinning(account_mode mode) noexcept {
  return mode == account_mode::type1 || mode == account_mode::type1_unlimited;
}

constexpr std::string_view name(account_mode mode) noexcept {
  switch (mode) {
    case account_mode::none: return "none";
    case account_mode::user: return "user";
    case account_mode::mm: return "mm";
    case account_mode::custom: return "custom";
    case account_mode::type1: return "type1";
    case account_mode::type1_unlimited: return "type1_unlimited";
  }
  return "?";
}

}  // namespace iopt
