// iopt/uapi/sized_argument.hpp - an ioctl's argument that begins with its own size.
//
// Such a struct grows at its end from kernel to kernel. A caller says how long the struct is that it
// knows: what is missing is zero, what is more must be zero, and no more is written back than the
// caller knows of.
//
// Layer: uapi. Includes: base, uapi/argument.hpp, the standard library.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "iopt/base/error.hpp"
#include "iopt/policy/user_copy.hpp"
#include "iopt/uapi/argument.hpp"

namespace iopt::uapi {

/// Whether what a caller knows more is zero; it is looked at from its beginning, a word at a time.
/// Errors: bad_address; argument_list_too_long.
template <user_copy Copy>
result<void> check_zero(Copy& copy, user_address first, std::uint64_t left) {
  if (!copy.contains(first, left)) return fail(errc::bad_address);
  for (user_address at = first; left != 0;) {
    std::byte word[8];
    const std::uint64_t bytes = std::min<std::uint64_t>(left, 8 - at.value % 8);
    if (!copy.read(at, std::span(word).first(static_cast<std::size_t>(bytes))))
      return fail(errc::bad_address);
    for (std::size_t n = 0; n < bytes; ++n)
      if (word[n] != std::byte{0}) return fail(errc::argument_list_too_long);
    at += bytes;
    left -= bytes;
  }
  return {};
}

/// sized_argument: one ioctl under way: which it is, where its argument is, and how long the caller
/// says that is.
///
/// Model       A struct in the caller's memory, read once.
/// Ownership   Refers to the user_copy.
/// Errors      begin(): bad_address, the size cannot be read. read(), in this order:
///             invalid_argument, the caller knows less than must be there; bad_address or
///             argument_list_too_long, what the caller knows more is out of reach, or not zero,
///             whichever comes first; bad_address. respond(): bad_address.
/// Source      Linux 6.12 copy_struct_from_user, as facts.
/// Tested by   tests/uapi/sized_argument_test.cpp
template <user_copy Copy>
class sized_argument {
 public:
  static result<sized_argument> begin(Copy& copy, std::uint32_t request, user_address at) {
    const result<std::uint32_t> size = read_bytes<std::uint32_t>(copy, at);
    if (!size) return fail(size.error());
    return sized_argument(copy, request, at, *size);
  }

  std::uint32_t request() const noexcept { return request_; }
  user_address address() const noexcept { return at_; }
  std::uint32_t size_bytes() const noexcept { return size_; }
  Copy& copy() const noexcept { return *copy_; }

  /// The struct, of which at least `least` bytes must be there.
  template <class T>
  result<T> read(std::size_t least = sizeof(T)) const {
    if (size_ < least) return fail(errc::invalid_argument);
    if (size_ > sizeof(T)) {
      const result<void> zero = check_zero(*copy_, behind(at_, sizeof(T)), size_ - sizeof(T));
      if (!zero) return fail(zero.error());
    }
    return read_bytes<T>(*copy_, at_, std::min<std::size_t>(size_, sizeof(T)));
  }
  /// Writes back as much as the caller knows of.
  template <class T>
  result<void> respond(const T& value) const {
    return write_bytes(*copy_, at_, value, std::min<std::size_t>(size_, sizeof(T)));
  }

 private:
  sized_argument(Copy& copy, std::uint32_t request, user_address at, std::uint32_t size) noexcept
      : copy_(&copy), at_(at), request_(request), size_(size) {}

  Copy* copy_;
  user_address at_;
  std::uint32_t request_;
  std::uint32_t size_;
};

}  // namespace iopt::uapi
