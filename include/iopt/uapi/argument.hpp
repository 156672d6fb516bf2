// iopt/uapi/argument.hpp - what every ioctl does with its argument and its answer.
//
// Layer: uapi. Includes: base, policy/user_copy.hpp, the standard library.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <type_traits>

#include "iopt/base/address.hpp"
#include "iopt/base/error.hpp"
#include "iopt/policy/user_copy.hpp"

namespace iopt::uapi {

/// What an ioctl returns to its caller: a number from 0 on, or an errno, negative.
using answer = std::int64_t;

constexpr answer refusal(errc code) noexcept { return -static_cast<answer>(code); }
constexpr answer answer_of(const result<void>& r) noexcept {
  return r ? 0 : refusal(r.error().code);
}
constexpr answer answer_of(const result<answer>& r) noexcept {
  return r ? *r : refusal(r.error().code);
}

/// The address `bytes` behind another; one past the end of the address space faults where it is
/// used.
constexpr user_address behind(user_address at, std::uint64_t bytes) noexcept {
  return {bytes > top - at.value ? top : at.value + bytes};
}

/// Copies the first `bytes` bytes of a T in; the rest is zero. Errors: bad_address.
template <class T, user_copy Copy>
result<T> read_bytes(Copy& copy, user_address at, std::size_t bytes = sizeof(T)) {
  static_assert(std::is_trivially_copyable_v<T>);
  T value;
  std::memset(&value, 0, sizeof value);
  if (!copy.read(at, std::as_writable_bytes(std::span(&value, 1)).first(bytes)))
    return fail(errc::bad_address);
  return value;
}

/// Copies the first `bytes` bytes of a T out. Errors: bad_address.
template <class T, user_copy Copy>
result<void> write_bytes(Copy& copy, user_address at, const T& value,
                         std::size_t bytes = sizeof(T)) {
  static_assert(std::is_trivially_copyable_v<T>);
  if (!copy.write(at, std::as_bytes(std::span(&value, 1)).first(bytes)))
    return fail(errc::bad_address);
  return {};
}

/// Reads an argument that says how long it is (VFIO: `argsz`, first).
/// Errors: bad_address; invalid_argument where it says less than `least` bytes.
template <class T, user_copy Copy>
result<T> read_argument(Copy& copy, user_address at, std::size_t least = sizeof(T)) {
  const result<T> value = read_bytes<T>(copy, at, least);
  if (value && value->argsz < least) return fail(errc::invalid_argument);
  return value;
}

}  // namespace iopt::uapi
