// tests/uapi/gated_copy.hpp - a user_copy that finds some memory out of reach.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>

#include "iopt/base/range.hpp"
#include "iopt/policy/user_copy.hpp"

namespace iopt::test {

/// What a gated_copy may not touch, in real memory of the program.
struct gate {
  std::optional<user_range> unreadable{};
  std::optional<user_range> unwritable{};
  std::uint64_t reads = 0;

  /// So many bytes from `offset` in an object on.
  template <class T>
  static user_range bytes_of(const T& object, std::uint64_t offset = 0,
                             std::uint64_t bytes = sizeof(T)) {
    return user_range::sized({reinterpret_cast<std::uintptr_t>(&object) + offset}, bytes);
  }
};

struct gated_copy {
  gate* at = nullptr;

  bool read(user_address from, std::span<std::byte> to) noexcept {
    ++at->reads;
    if (hits(at->unreadable, from, to.size())) return false;
    return trusted_caller{}.read(from, to);
  }
  bool write(user_address to, std::span<const std::byte> from) noexcept {
    if (hits(at->unwritable, to, from.size())) return false;
    return trusted_caller{}.write(to, from);
  }
  bool contains(user_address from, std::uint64_t bytes) const noexcept {
    return trusted_caller{}.contains(from, bytes);
  }

 private:
  static bool hits(const std::optional<user_range>& r, user_address from, std::size_t bytes) {
    return r && bytes != 0 && r->overlaps(user_range::sized(from, bytes));
  }
};
static_assert(user_copy<gated_copy>);

}  // namespace iopt::test
