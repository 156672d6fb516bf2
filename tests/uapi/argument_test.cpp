#include "iopt/uapi/argument.hpp"

#include <cstdint>

#include "tests/catch.hpp"

using namespace iopt;

namespace {

struct argument {
  std::uint32_t argsz;
  std::uint32_t flags;
  std::uint64_t value;
};
user_address address_of(const void* p) { return {reinterpret_cast<std::uintptr_t>(p)}; }

}  // namespace

TEST_CASE("an argument is read as far as it must be, and the rest is zero", "[argument]") {
  trusted_caller copy;
  const argument theirs{16, 2, 3};
  const auto head = uapi::read_argument<argument>(copy, address_of(&theirs), 8);
  REQUIRE(head);
  CHECK(head->flags == 2);
  CHECK(head->value == 0);
  CHECK(uapi::read_argument<argument>(copy, address_of(&theirs))->value == 3);
}

TEST_CASE("a bad address comes before an argument that is too short", "[argument]") {
  trusted_caller copy;
  CHECK(uapi::read_argument<argument>(copy, {0}).error() == errc::bad_address);
  const argument short_one{15, 0, 0};
  CHECK(uapi::read_argument<argument>(copy, address_of(&short_one)).error() ==
        errc::invalid_argument);
}

TEST_CASE("answers are numbers from 0 on, or an errno below", "[argument]") {
  CHECK(uapi::answer_of(result<void>{}) == 0);
  CHECK(uapi::answer_of(result<void>(fail(errc::bad_address))) == -14);
  CHECK(uapi::answer_of(result<uapi::answer>(7)) == 7);
  CHECK(uapi::answer_of(result<uapi::answer>(fail(errc::file_exists))) == -17);
  CHECK(uapi::refusal(errc::invalid_argument) == -22);
}

TEST_CASE("what lies behind the end of the address space faults", "[argument]") {
  trusted_caller copy;
  CHECK(uapi::behind({16}, 8).value == 24);
  CHECK(uapi::behind({top - 4}, 8).value == top);
  CHECK(uapi::write_bytes(copy, uapi::behind({top - 4}, 8), argument{}).error() ==
        errc::bad_address);
}
