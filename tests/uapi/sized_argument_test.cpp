// tests/uapi/sized_argument_test.cpp - arguments that are longer or shorter than the library knows.
#include "iopt/uapi/sized_argument.hpp"

#include <array>
#include <cstring>
#include <string>

#include "tests/catch.hpp"
#include "tests/uapi/gated_copy.hpp"

using namespace iopt;
using test::gate;

namespace {

struct known {
  std::uint32_t size;
  std::uint32_t id;
  std::uint64_t more;
};
constexpr std::size_t least = 8;

struct caller {
  alignas(8) std::array<unsigned char, 1024> bytes{};
  gate g;
  test::gated_copy copy{&g};

  explicit caller(std::uint32_t size) {
    std::memcpy(bytes.data(), &size, sizeof size);
    const known k{size, 7, 9};
    std::memcpy(bytes.data() + 4, reinterpret_cast<const unsigned char*>(&k) + 4, sizeof k - 4);
  }
  user_address at() const { return {reinterpret_cast<std::uintptr_t>(bytes.data())}; }
  auto argument() { return *uapi::sized_argument<test::gated_copy>::begin(copy, 0x3b80, at()); }
  result<known> read() { return argument().read<known>(least); }
  std::string refused() {
    const auto r = read();
    return r ? "ok" : std::string(name(r.error().code));
  }
};

}  // namespace

TEST_CASE("the size must be readable", "[argument]") {
  caller c(16);
  c.g.unreadable = gate::bytes_of(c.bytes, 3, 1);
  const auto a = uapi::sized_argument<test::gated_copy>::begin(c.copy, 0x3b80, c.at());
  CHECK(a.error() == errc::bad_address);
  CHECK(uapi::sized_argument<test::gated_copy>::begin(c.copy, 0x3b80, {0}).error() ==
        errc::bad_address);
}

TEST_CASE("what the caller does not know of is zero", "[argument]") {
  caller c(8);
  c.g.unreadable = gate::bytes_of(c.bytes, 8, 100);  // nor is it looked at
  const auto r = c.read();
  REQUIRE(r);
  CHECK(r->size == 8);
  CHECK(r->id == 7);
  CHECK(r->more == 0);
  CHECK(caller(12).read()->more == 9);  // the lower half
}

TEST_CASE("less than there must be is EINVAL, before anything else is read", "[argument]") {
  for (const std::uint32_t size : {0U, 4U, 7U}) {
    caller c(size);
    c.g.unreadable = gate::bytes_of(c.bytes, 4, 100);
    CHECK(c.refused() == "EINVAL");
  }
}

TEST_CASE("what the library does not know of must be zero", "[argument]") {
  for (const std::uint32_t size : {17U, 24U, 25U, 40U, 1000U}) {
    CAPTURE(size);
    CHECK(caller(size).refused() == "ok");
    for (const std::size_t at : {std::size_t{16}, std::size_t{size - 1}}) {
      caller c(size);
      c.bytes[at] = 1;
      CHECK(c.refused() == "E2BIG");
    }
    caller beyond(size);
    beyond.bytes[size] = 1;
    CHECK(beyond.refused() == "ok");
  }
}

TEST_CASE("of what is not zero and what is out of reach, the first word counts", "[argument]") {
  caller c(64);
  c.g.unreadable = gate::bytes_of(c.bytes, 40, 1);
  CHECK(c.refused() == "EFAULT");
  c.bytes[32] = 1;
  CHECK(c.refused() == "E2BIG");
  c.bytes[32] = 0;
  c.bytes[48] = 1;
  CHECK(c.refused() == "EFAULT");
  // And both come before the part that is known.
  c.g.unreadable = gate::bytes_of(c.bytes, 8, 1);
  CHECK(c.refused() == "E2BIG");
  c.bytes[48] = 0;
  CHECK(c.refused() == "EFAULT");
}

TEST_CASE("an argument that reaches past the caller's memory is out of reach", "[argument]") {
  caller c(0xffffffff);
  struct near_end : test::gated_copy {
    bool contains(user_address, std::uint64_t) const noexcept { return false; }
  } copy{{&c.g}};
  const auto a = uapi::sized_argument<near_end>::begin(copy, 0, c.at());
  CHECK(a->read<known>(least).error() == errc::bad_address);
  CHECK(c.g.reads == 1);  // and is not looked through
}

TEST_CASE("no more is written back than the caller knows of", "[argument]") {
  for (const std::uint32_t size : {8U, 12U, 16U, 40U}) {
    caller c(size);
    c.bytes.fill(0xaa);
    std::memcpy(c.bytes.data(), &size, sizeof size);
    known k;
    std::memset(&k, 0x55, sizeof k);
    REQUIRE(c.argument().respond(k));
    const std::size_t written = std::min<std::size_t>(size, sizeof k);
    CHECK(c.bytes[written - 1] == 0x55);
    CHECK(c.bytes[written] == 0xaa);
  }
  caller c(16);
  c.g.unwritable = gate::bytes_of(c.bytes, 15, 1);
  CHECK(c.argument().respond(known{}).error() == errc::bad_address);
  CHECK(c.argument().request() == 0x3b80);
  CHECK(c.argument().address() == c.at());
  CHECK(c.argument().size_bytes() == 16);
}
