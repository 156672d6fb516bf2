// iopt/base/error.hpp - errors are values: a kernel's errno, and where it struck.
//
// Every call that can fail returns result<T>. Its error holds the code that Linux answers for the
// same request, and, where a caller can use it, the byte of the request, the area or the domain
// that the rule tripped over. The numbers are those of the Linux uAPI on x86 and arm64, whatever
// libc the program is built with.
//
// Layer: base. Includes: the standard library.
#pragma once

#include <cstdint>
#include <expected>
#include <string_view>

namespace iopt {

/// errc: an errno of Linux, by the name that std::errc gives it.
enum class errc : std::uint16_t {
  operation_not_permitted = 1,              // EPERM
  no_such_file_or_directory = 2,            // ENOENT
  interrupted = 4,                          // EINTR
  io_error = 5,                             // EIO
  no_such_device_or_address = 6,            // ENXIO
  argument_list_too_long = 7,               // E2BIG
  bad_file_descriptor = 9,                  // EBADF
  resource_unavailable_try_again = 11,      // EAGAIN
  not_enough_memory = 12,                   // ENOMEM
  permission_denied = 13,                   // EACCES
  bad_address = 14,                         // EFAULT
  device_or_resource_busy = 16,             // EBUSY
  file_exists = 17,                         // EEXIST
  no_such_device = 19,                      // ENODEV
  invalid_argument = 22,                    // EINVAL
  inappropriate_io_control_operation = 25,  // ENOTTY
  no_space_on_device = 28,                  // ENOSPC
  result_out_of_range = 34,                 // ERANGE
  resource_deadlock_would_occur = 35,       // EDEADLK, which Linux also spells EDEADLOCK
  value_too_large = 75,                     // EOVERFLOW
  descriptor_in_bad_state = 77,             // EBADFD: not that kind of file
  message_size = 90,                        // EMSGSIZE
  operation_not_supported = 95,             // EOPNOTSUPP
  address_in_use = 98,                      // EADDRINUSE
  address_not_available = 99,               // EADDRNOTAVAIL
};

/// The errno's usual short name ("EINVAL"), or "E?" for a number that errc does not name.
constexpr std::string_view name(errc code) noexcept {
  switch (code) {
    case errc::operation_not_permitted: return "EPERM";
    case errc::no_such_file_or_directory: return "ENOENT";
    case errc::interrupted: return "EINTR";
    case errc::io_error: return "EIO";
    case errc::no_such_device_or_address: return "ENXIO";
    case errc::argument_list_too_long: return "E2BIG";
    case errc::bad_file_descriptor: return "EBADF";
    case errc::resource_unavailable_try_again: return "EAGAIN";
    case errc::not_enough_memory: return "ENOMEM";
    case errc::permission_denied: return "EACCES";
    case errc::bad_address: return "EFAULT";
    case errc::device_or_resource_busy: return "EBUSY";
    case errc::file_exists: return "EEXIST";
    case errc::no_such_device: return "ENODEV";
    case errc::invalid_argument: return "EINVAL";
    case errc::inappropriate_io_control_operation: return "ENOTTY";
    case errc::no_space_on_device: return "ENOSPC";
    case errc::result_out_of_range: return "ERANGE";
    case errc::resource_deadlock_would_occur: return "EDEADLK";
    case errc::value_too_large: return "EOVERFLOW";
    case errc::descriptor_in_bad_state: return "EBADFD";
    case errc::message_size: return "EMSGSIZE";
    case errc::operation_not_supported: return "EOPNOTSUPP";
    case errc::address_in_use: return "EADDRINUSE";
    case errc::address_not_available: return "EADDRNOTAVAIL";
  }
  return "E?";
}

/// What `error::at` tells of.
enum class error_place : std::uint8_t {
  unspecified,   // the code says it all
  request_byte,  // `at` is the offset in the request of the first byte that failed, in bytes
  area,          // `at` is the first IOVA of the area in the way
  domain,        // `domain` is the number of the domain that refused; `at` the offset, in bytes
  element,       // `at` is the index of the element of a vector call that failed
};

/// error: a code and, where known, the place.
///
/// Two errors are compared by code alone, since a place is advice and not a rule:
/// `r.error() == errc::file_exists`.
struct error {
  errc code{};
  error_place place = error_place::unspecified;
  std::uint32_t domain = 0;
  std::uint64_t at = 0;

  constexpr error(errc c) noexcept : code(c) {}
  constexpr error(errc c, error_place p, std::uint64_t where, std::uint32_t d = 0) noexcept
      : code(c), place(p), domain(d), at(where) {}

  friend constexpr bool operator==(const error& a, const error& b) noexcept {
    return a.code == b.code;
  }
  friend constexpr bool operator==(const error& a, errc b) noexcept { return a.code == b; }

  /// The errno, positive.
  constexpr int number() const noexcept { return static_cast<int>(code); }
};

/// result: a T, or the error that kept it from being.
template <class T>
using result = std::expected<T, error>;

/// fail: `return fail(errc::file_exists);` from any function that returns a result.
constexpr std::unexpected<error> fail(error e) noexcept { return std::unexpected<error>(e); }

static_assert(sizeof(error) == 16);
static_assert(error(errc::file_exists, error_place::area, 4096) == errc::file_exists);

}  // namespace iopt
