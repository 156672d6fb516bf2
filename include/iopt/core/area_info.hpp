// iopt/core/area_info.hpp - what a table tells of its areas, and how they may be cut.
//
// Layer: core. Includes: base, core/origin.hpp, core/pages.hpp.
#pragma once

#include <cstdint>

#include "iopt/base/access.hpp"
#include "iopt/base/address.hpp"
#include "iopt/base/range.hpp"
#include "iopt/core/origin.hpp"
#include "iopt/core/pages.hpp"

namespace iopt {

/// How a cut treats entries of a domain.
enum class cut_rule : std::uint8_t {
  as_iommufd,  // refused while a domain holds the area and large pages are on
  split,       // large entries are split where the domain can; refused where it cannot
};

/// area_info: what there is to say of one mapping.
struct area_info {
  iova_range where{};
  access_rights rights = access_rights::none;
  area_state state = area_state::present;
  origin_kind kind = origin_kind::user;
  user_address from{};             // what where.first shows: an address, or an offset
  std::uint64_t pages_id = 0;      // equal, in one look, for areas that show one pages object
  std::uint64_t pinned_pages = 0;  // of the whole pages object
  std::uint64_t pin_calls = 0;     // pins of access objects not yet undone
  bool filled = false;             // domains hold it
  bool suspended = false;
  bool revoked = false;

  friend bool operator==(const area_info&, const area_info&) = default;
};

}  // namespace iopt
