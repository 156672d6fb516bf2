// iopt/base/access.hpp - what a device may do with memory, and what kind of memory it is.
//
// Layer: base. Includes: the standard library.
#pragma once

#include <cstdint>

namespace iopt {

/// access_rights: the rights of a mapping. A mapping may have none (it only holds the address).
enum class access_rights : std::uint8_t {
  none = 0,
  read = 1,
  write = 2,
  read_write = 3,
  execute = 4
};

constexpr access_rights operator|(access_rights a, access_rights b) noexcept {
  return static_cast<access_rights>(static_cast<std::uint8_t>(a) | static_cast<std::uint8_t>(b));
}
constexpr access_rights operator&(access_rights a, access_rights b) noexcept {
  return static_cast<access_rights>(static_cast<std::uint8_t>(a) & static_cast<std::uint8_t>(b));
}
/// Whether `have` includes every right in `want`.
constexpr bool allows(access_rights have, access_rights want) noexcept {
  return (have & want) == want;
}

/// memory_type: how the bytes behave.
enum class memory_type : std::uint8_t {
  cached,    // ordinary memory: pinned and accounted
  mmio,      // registers of a device: never pinned, never accounted
  reserved,  // memory that the kernel keeps apart: mapped, neither pinned nor accounted
};

/// attributes: all that an I/O page table entry says beside the address.
struct attributes {
  access_rights rights = access_rights::none;
  memory_type type = memory_type::cached;

  friend constexpr bool operator==(attributes, attributes) noexcept = default;
};

static_assert(allows(access_rights::read_write, access_rights::write) &&
              !allows(access_rights::read, access_rights::write));
static_assert(allows(access_rights::none, access_rights::none));

}  // namespace iopt
