// tests/backends/host/device_file_test.cpp - descriptors and ioctls as results.
#include "iopt/backends/host/device_file.hpp"

#include <sys/ioctl.h>

#include "tests/catch.hpp"

namespace {

using namespace iopt;

TEST_CASE("device_file: opened, moved and closed once") {
  int number = -1;
  {
    auto file = host::device_file::open("/dev/null");
    REQUIRE(file.has_value());
    number = file->descriptor();
    host::device_file taken(std::move(*file));
    CHECK_FALSE(file->is_open());
    CHECK(taken.descriptor() == number);
    host::device_file other;
    other = std::move(taken);
    CHECK(other.descriptor() == number);
    CHECK(::fcntl(number, F_GETFD) == FD_CLOEXEC);
  }
  CHECK(::fcntl(number, F_GETFD) == -1);
}

TEST_CASE("device_file: errors are the system's") {
  CHECK(host::device_file::open("/dev/null/nothing").error() == error(static_cast<errc>(ENOTDIR)));
  CHECK(host::device_file::open("/no such file").error() == errc::no_such_file_or_directory);
  int bytes = 0;
  CHECK(host::call(-1, FIONREAD, &bytes).error() == errc::bad_file_descriptor);
  const auto null = host::device_file::open("/dev/null");
  REQUIRE(null.has_value());
  CHECK(host::call_with(null->descriptor(), 0x3b64, 0).error() ==
        errc::inappropriate_io_control_operation);
}

}  // namespace
