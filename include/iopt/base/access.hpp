// iopt/base/access.hpp - what a device may do with memory, and what kind of memory it is.
//
// Layer: base. Includes: the standard library.
#pragma once

#include <cstdint>

namespace iopt {

/// access: the rights of a mapping. A mapping may have none (it only holds the address).
enum class access : std::uint8_t { none = 0, read = 1, write = 2, read_write = 3, execute = 4 };

constexpr access operator|(access a, access b) noexcept {
  return static_cast<access>(static_cast<std::uint8_t>(a) | static_cast<std::uint8_t>(b));
}
constexpr access operator&(access a, access b) noexcept {
  return static_cast<access>(static_cast<std::uint8_t>(a) & static_cast<std::uint8_t>(b));
}
/// Whether `have` includes every right in `want`.
constexpr bool allows(access have, access want) noexcept { return (have & want) == want; }

/// memory_type: how the bytes behave.
enum class memory_type : std::uint8_t {
  cached,    // ordinary memory: pinned and accounted
  mmio,      // registers of a device: never pinned, never accounted
  reserved,  // memory that the kernel keeps apart: mapped, neither pinned nor accounted
};

/// attributes: all that an I/O page table entry says beside the address.
struct attributes {
  access rights = access::none;
  memory_type type = memory_type::cached;

  friend constexpr bool operator==(attributes, attributes) noexcept = default;
};

static_assert(allows(access::read_write, access::write) && !allows(access::read, access::write));
static_assert(allows(access::none, access::none));

}  // namespace iopt
