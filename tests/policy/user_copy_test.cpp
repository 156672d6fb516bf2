#include "iopt/policy/user_copy.hpp"

#include <array>

#include "tests/catch.hpp"

using namespace iopt;

namespace {

user_address address_of(const void* p) { return {reinterpret_cast<std::uintptr_t>(p)}; }

struct forgetful {  // its write says nothing
  bool read(user_address, std::span<std::byte>) noexcept { return true; }
  void write(user_address, std::span<const std::byte>) noexcept {}
  bool contains(user_address, std::uint64_t) const noexcept { return true; }
};

}  // namespace

TEST_CASE("a user_copy says whether it copied", "[user_copy]") {
  STATIC_REQUIRE(user_copy<trusted_caller>);
  STATIC_REQUIRE_FALSE(user_copy<forgetful>);
}

TEST_CASE("a trusted caller's bytes are copied both ways", "[user_copy]") {
  trusted_caller copy;
  std::array<std::byte, 3> theirs{std::byte{1}, std::byte{2}, std::byte{3}};
  std::array<std::byte, 3> ours{};
  REQUIRE(copy.read(address_of(theirs.data()), ours));
  CHECK(ours == theirs);
  ours[1] = std::byte{9};
  REQUIRE(copy.write(address_of(theirs.data()), ours));
  CHECK(theirs == ours);
}

TEST_CASE("what cannot be a caller's address is refused", "[user_copy]") {
  trusted_caller copy;
  std::array<std::byte, 8> ours{};
  CHECK_FALSE(copy.read({0}, ours));
  CHECK_FALSE(copy.write({0}, ours));
  CHECK_FALSE(copy.read({top - 3}, ours));
  CHECK_FALSE(copy.write({trusted_caller::end - 4}, ours));
  CHECK(copy.contains({trusted_caller::end - 8}, 8));
  CHECK_FALSE(copy.contains({trusted_caller::end - 8}, 9));
  CHECK_FALSE(copy.contains({8}, top));
  CHECK(copy.contains({0}, 0));
}
