// tests/backends/host/physical_memory_test.cpp - the memfd that plays physical memory.
#include "iopt/backends/host/physical_memory.hpp"

#include <cstring>
#include <random>
#include <vector>

#include "tests/catch.hpp"

namespace {

using namespace iopt;
using host::physical_memory;

TEST_CASE("physical_memory: sizes and starts that make no sense are refused") {
  CHECK(physical_memory::create(0).error() == errc::invalid_argument);
  CHECK(physical_memory::create(4 * mebibyte + 1).error() == errc::invalid_argument);
  CHECK(physical_memory::create(4 * mebibyte, {0}).error() == errc::invalid_argument);
  CHECK(physical_memory::create(4 * mebibyte, {4097}).error() == errc::invalid_argument);
  CHECK(physical_memory::create(4 * mebibyte, {4 * mebibyte}).error() == errc::invalid_argument);
  CHECK(physical_memory::create(physical_memory::largest_bytes + 4096).error() ==
        errc::value_too_large);
  CHECK(physical_memory::create(4 * mebibyte, {4 * mebibyte - 4096}).has_value());
}

TEST_CASE("physical_memory: the device's view shows zeros, and what was written") {
  physical_memory memory = physical_memory::create(8 * mebibyte).value();
  CHECK(memory.size_bytes() == 8 * mebibyte);
  CHECK(memory.lowest() == physical{2 * mebibyte});
  const std::span<std::byte> bytes = memory.bytes({5 * mebibyte}, 4096);
  CHECK(bytes.data() == memory.device_view() + 5 * mebibyte);
  CHECK(bytes[17] == std::byte{0});
  bytes[17] = std::byte{9};
  std::byte read{};
  CHECK(::pread(memory.descriptor(), &read, 1, 5 * mebibyte + 17) == 1);
  CHECK(read == std::byte{9});
  CHECK(memory.bytes({8 * mebibyte}, 0).empty());
}

TEST_CASE("physical_memory: may be moved while others refer to its machine") {
  physical_memory memory = physical_memory::create(8 * mebibyte).value();
  detail::host_machine* const machine = &memory.machine();
  std::byte* const view = memory.device_view();
  const physical_memory moved = std::move(memory);
  CHECK(&moved.machine() == machine);
  CHECK(moved.device_view() == view);
}

TEST_CASE("physical_memory: frames are the lowest that fit, and handed out once") {
  physical_memory memory = physical_memory::create(16 * mebibyte, {4096}).value();
  CHECK(memory.allocate(0).error() == errc::invalid_argument);
  CHECK(memory.allocate(1).error() == errc::invalid_argument);
  CHECK(memory.allocate(4096, 2048).error() == errc::invalid_argument);
  CHECK(memory.allocate(4096, 12288).error() == errc::invalid_argument);

  CHECK(memory.allocate(4096).value() == physical_range{{4096}, {8191}});
  CHECK(memory.allocate(2 * mebibyte, 2 * mebibyte).value().first == physical{2 * mebibyte});
  CHECK(memory.allocate(8192).value().first == physical{8192});
  CHECK(memory.allocate_at({{8192}, {12287}}).error() == errc::address_in_use);
  CHECK(memory.allocate_at({{0}, {4095}}).error() == errc::invalid_argument);
  CHECK(memory.allocate_at({{12288}, {12289}}).error() == errc::invalid_argument);
  CHECK(memory.allocate_at({{16 * mebibyte}, {16 * mebibyte + 4095}}).error() ==
        errc::invalid_argument);
  CHECK(memory.allocate_at({{15 * mebibyte}, {16 * mebibyte - 1}}).has_value());
  CHECK(memory.allocate(16 * mebibyte).error() == errc::not_enough_memory);
  CHECK(memory.allocate(11 * mebibyte).value().first == physical{4 * mebibyte});
  CHECK(memory.allocate(2 * mebibyte).error() == errc::not_enough_memory);
  CHECK(memory.verify() == "");
}

TEST_CASE("physical_memory: model: first fit against one flag a page") {
  const std::uint64_t seed = 20;
  CAPTURE(seed);
  std::mt19937_64 random(seed);
  for (int round = 0; round != 20; ++round) {
    constexpr std::uint64_t pages = 512;
    physical_memory memory = physical_memory::create(pages * 4096, {3 * 4096}).value();
    std::vector<bool> taken(pages, false);
    taken[0] = taken[1] = taken[2] = true;
    for (int step = 0; step != 100; ++step) {
      const std::uint64_t length = 1 + random() % 12;
      const std::uint64_t alignment = std::uint64_t{1} << (random() % 5);
      const auto free = [&](std::uint64_t first) {
        for (std::uint64_t n = first; n != first + length; ++n)
          if (n >= pages || taken[n]) return false;
        return true;
      };
      std::optional<std::uint64_t> expected;
      if (random() % 2 == 0) {
        for (std::uint64_t n = 0; n < pages && !expected; n += alignment)
          if (free(n)) expected = n;
        const result<physical_range> answer = memory.allocate(length * 4096, alignment * 4096);
        REQUIRE(answer.has_value() == expected.has_value());
        if (expected) REQUIRE(answer->first == physical{*expected * 4096});
      } else {
        const std::uint64_t first = 3 + random() % (pages - 16);
        if (free(first)) expected = first;
        const bool given =
            memory.allocate_at(physical_range::sized({first * 4096}, length * 4096)).has_value();
        REQUIRE(given == expected.has_value());
      }
      if (expected)
        for (std::uint64_t n = *expected; n != *expected + length; ++n) taken[n] = true;
      REQUIRE(memory.verify() == "");
    }
  }
}

TEST_CASE("physical_memory: a machine of tebibytes costs only what is touched") {
  const std::uint64_t size = std::uint64_t{16} << 40;
  result<physical_memory> memory = physical_memory::create(size);
  REQUIRE(memory.has_value());
  memory->bytes({size - 1}, 1)[0] = std::byte{1};
  memory->bytes({size / 2}, 1)[0] = std::byte{2};
  CHECK(memory->allocate_at({{size - 4096}, {size - 1}}).has_value());
  CHECK(memory->bytes({size - 4096}, 4096)[4095] == std::byte{1});
}

TEST_CASE("physical_memory: too little address space is an error, not a crash") {
  // 64 TiB each: at most one of four fits in the 128 TiB that a process has.
  std::vector<physical_memory> held;
  errc code{};
  for (int n = 0; n != 4 && code == errc{}; ++n) {
    result<physical_memory> memory = physical_memory::create(physical_memory::largest_bytes);
    if (memory)
      held.push_back(std::move(*memory));
    else
      code = memory.error().code;
  }
  CHECK(code == errc::not_enough_memory);
}

}  // namespace
