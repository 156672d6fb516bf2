#include "iopt/base/error.hpp"

#include <cerrno>
#include <string_view>

#include "tests/catch.hpp"

using namespace iopt;

// On Linux the numbers are the system's own.
TEST_CASE("errc is the system's errno") {
  struct row {
    errc code;
    int number;
    std::string_view name;
  };
  const row rows[] = {
      {errc::operation_not_permitted, EPERM, "EPERM"},
      {errc::no_such_file_or_directory, ENOENT, "ENOENT"},
      {errc::interrupted, EINTR, "EINTR"},
      {errc::io_error, EIO, "EIO"},
      {errc::no_such_device_or_address, ENXIO, "ENXIO"},
      {errc::argument_list_too_long, E2BIG, "E2BIG"},
      {errc::bad_file_descriptor, EBADF, "EBADF"},
      {errc::resource_unavailable_try_again, EAGAIN, "EAGAIN"},
      {errc::not_enough_memory, ENOMEM, "ENOMEM"},
      {errc::permission_denied, EACCES, "EACCES"},
      {errc::bad_address, EFAULT, "EFAULT"},
      {errc::device_or_resource_busy, EBUSY, "EBUSY"},
      {errc::file_exists, EEXIST, "EEXIST"},
      {errc::no_such_device, ENODEV, "ENODEV"},
      {errc::invalid_argument, EINVAL, "EINVAL"},
      {errc::inappropriate_io_control_operation, ENOTTY, "ENOTTY"},
      {errc::no_space_on_device, ENOSPC, "ENOSPC"},
      {errc::result_out_of_range, ERANGE, "ERANGE"},
      {errc::resource_deadlock_would_occur, EDEADLK, "EDEADLK"},
      {errc::value_too_large, EOVERFLOW, "EOVERFLOW"},
      {errc::descriptor_in_bad_state, EBADFD, "EBADFD"},
      {errc::message_size, EMSGSIZE, "EMSGSIZE"},
      {errc::operation_not_supported, EOPNOTSUPP, "EOPNOTSUPP"},
      {errc::address_in_use, EADDRINUSE, "EADDRINUSE"},
      {errc::address_not_available, EADDRNOTAVAIL, "EADDRNOTAVAIL"},
  };
  for (const row& r : rows) {
    CAPTURE(r.name);
    CHECK(error(r.code).number() == r.number);
    CHECK(name(r.code) == r.name);
  }
  CHECK(name(static_cast<errc>(4000)) == "E?");
}

TEST_CASE("errors are equal by code, wherever they struck") {
  const error here(errc::file_exists, error_place::area, 4096, 3);
  CHECK(here == errc::file_exists);
  CHECK(here == error(errc::file_exists));
  CHECK_FALSE(here == errc::bad_address);
  CHECK(here.at == 4096);
  CHECK(here.domain == 3);
  CHECK(error(errc::io_error).place == error_place::unspecified);
}

TEST_CASE("a result is a value or an error") {
  const auto half = [](int n) -> result<int> {
    if (n % 2 != 0) return fail(errc::invalid_argument);
    return n / 2;
  };
  CHECK(half(4) == 2);
  CHECK(half(3).error() == errc::invalid_argument);
  const result<void> none = fail({errc::bad_address, error_place::request_byte, 7});
  REQUIRE_FALSE(none.has_value());
  CHECK(none.error().at == 7);
}
