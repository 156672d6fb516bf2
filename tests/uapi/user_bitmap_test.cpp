// tests/uapi/user_bitmap_test.cpp - bits set in a caller's memory.
#include "iopt/uapi/user_bitmap.hpp"

#include <array>
#include <random>
#include <vector>

#include "tests/catch.hpp"
#include "tests/uapi/gated_copy.hpp"

using namespace iopt;

TEST_CASE("bits are set, and no other byte is touched", "[bitmap]") {
  // Model: a vector of bits.
  for (unsigned seed = 0; seed < 200; ++seed) {
    CAPTURE(seed);
    std::mt19937 random(seed);
    std::vector<unsigned char> bytes(600);
    std::vector<bool> model(bytes.size() * 8);
    for (std::size_t n = 0; n < model.size(); ++n) {
      model[n] = random() % 8 == 0;
      if (model[n]) bytes[n / 8] = static_cast<unsigned char>(bytes[n / 8] | 1U << n % 8);
    }
    test::gate g;
    test::gated_copy copy{&g};
    const std::size_t skip = random() % 9;  // at any byte
    const std::uint64_t first = random() % 4000;
    const std::uint64_t last = first + random() % (seed % 2 != 0 ? 20 : 700);
    const std::uint64_t end = last / 8 + 1;
    const auto base = reinterpret_cast<std::uintptr_t>(bytes.data());
    g.unreadable = g.unwritable = user_range{{base + skip + end}, {base + bytes.size() + 100}};
    REQUIRE(uapi::user_bitmap(copy, {base + skip}).set(first, last));
    for (std::uint64_t n = first; n <= last; ++n) model[8 * skip + n] = true;
    bool same = true;
    for (std::size_t n = 0; n < model.size(); ++n)
      same = same && ((bytes[n / 8] >> n % 8 & 1) != 0) == model[n];
    REQUIRE(same);
  }
}

TEST_CASE("memory out of reach is told, and what comes before is set", "[bitmap]") {
  std::array<unsigned char, 256> bytes{};
  test::gate g;
  test::gated_copy copy{&g};
  const user_address at{reinterpret_cast<std::uintptr_t>(bytes.data())};
  g.unreadable = test::gate::bytes_of(bytes, 200, 1);
  CHECK(!uapi::user_bitmap(copy, at).set(0, 2047));
  CHECK(bytes[0] == 0xff);
  CHECK(bytes[200] == 0);
  g.unreadable.reset();
  g.unwritable = test::gate::bytes_of(bytes, 200, 1);
  CHECK(!uapi::user_bitmap(copy, at).set(1600, 1600));
  CHECK(!uapi::user_bitmap(copy, {top - 3}).set(0, 500));  // past the end of all memory
}

TEST_CASE("64 bytes are one copy", "[bitmap]") {
  std::array<unsigned char, 64 * 64> bytes{};
  test::gate g;
  test::gated_copy copy{&g};
  const user_address at{reinterpret_cast<std::uintptr_t>(bytes.data())};
  REQUIRE(uapi::user_bitmap(copy, at).set(0, 64 * 512 - 1));
  CHECK(g.reads == 64);
}
