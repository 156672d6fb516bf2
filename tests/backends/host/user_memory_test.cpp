// tests/backends/host/user_memory_test.cpp - user memory on shuffled frames.
#include "iopt/backends/host/user_memory.hpp"

#include <algorithm>
#include <cstring>
#include <random>
#include <set>
#include <vector>

#include "tests/catch.hpp"

// A test below uses up the kernel's mappings. Clang's AddressSanitizer would want one more, to clear
// the shadow of a gibibyte; below this size it writes zeros instead.
extern "C" const char* __asan_default_options();
extern "C" const char* __asan_default_options() { return "clear_shadow_mmap_threshold=1073741824"; }

namespace {

using namespace iopt;
using host::block_order;
using host::physical_memory;
using host::user_memory;

/// Writes a tag into every page and reads it where frame_of() says that the device sees it.
void check_every_page(const physical_memory& memory, const user_memory& user, std::uint64_t salt) {
  std::set<std::uint64_t> frames;
  for (std::uint64_t at = 0; at != user.size_bytes(); at += 4096) {
    const std::uint64_t tag = at * 31 + salt;
    std::memcpy(user.data() + at + 8, &tag, sizeof tag);
  }
  for (std::uint64_t at = 0; at != user.size_bytes(); at += 4096) {
    const std::optional<physical> frame = user.frame_of(user.address(at) + 8);
    if (!frame || frame->value % 4096 != 8) FAIL("no frame at " << at);
    std::uint64_t tag = 0;
    std::memcpy(&tag, memory.bytes(*frame, 8).data(), sizeof tag);
    if (tag != at * 31 + salt) FAIL("another page's bytes at " << at);
    if (!frames.insert(frame->value).second) FAIL("a frame twice at " << at);
    if (*frame < memory.lowest()) FAIL("a frame below the lowest at " << at);
  }
}

TEST_CASE("user_memory: senseless requests are refused and take nothing") {
  physical_memory memory = physical_memory::create(16 * mebibyte).value();
  CHECK(user_memory::create(memory, 0).error() == errc::invalid_argument);
  CHECK(user_memory::create(memory, 4097).error() == errc::invalid_argument);
  for (const std::uint64_t block :
       {std::uint64_t{0}, std::uint64_t{2048}, std::uint64_t{12288}, 2 * gibibyte})
    CHECK(user_memory::create(memory, 4096, {.block_bytes = block}).error() ==
          errc::invalid_argument);
  CHECK(user_memory::create(memory, 16 * mebibyte).error() == errc::not_enough_memory);
  CHECK(user_memory::create_at(memory, {{0}, {4095}}).error() == errc::invalid_argument);
  CHECK(user_memory::create(memory, 14 * mebibyte).has_value());
  CHECK(user_memory::create_at(memory, {{2 * mebibyte}, {2 * mebibyte + 4095}}).error() ==
        errc::address_in_use);
  CHECK(memory.verify() == "");
}

TEST_CASE("user_memory: every byte is where frame_of says, in every order") {
  physical_memory memory = physical_memory::create(gibibyte).value();
  const std::vector<user_range> chosen = {{{5 * mebibyte}, {5 * mebibyte}},
                                          {{14 * mebibyte}, {17 * mebibyte}}};
  std::uint64_t salt = 0;
  for (const std::uint64_t size : {std::uint64_t{4096}, std::uint64_t{12288}, 2 * mebibyte,
                                   7 * mebibyte + 4096, 32 * mebibyte}) {
    for (const block_order& order :
         {block_order{}, block_order{.small_every = 1}, block_order{.small_every = 3, .seed = 5},
          block_order{.small = chosen}, block_order{.block_bytes = 4096},
          block_order{.block_bytes = 64 * kibibyte, .small_every = 2}}) {
      CAPTURE(size, order.block_bytes, order.small_every);
      const user_memory user = user_memory::create(memory, size, order).value();
      check_every_page(memory, user, ++salt);
      CHECK(user.verify() == "");
      CHECK(user.range().first.is_aligned(order.block_bytes));
    }
  }
}

TEST_CASE("user_memory: blocks are contiguous, and no neighbours") {
  physical_memory memory = physical_memory::create(256 * mebibyte).value();
  const user_memory user = user_memory::create(memory, 64 * mebibyte, {.small_every = 8}).value();
  // 28 blocks of 2 MiB, 4 of 512 pages each.
  CHECK(user.piece_count() >= 28 + 4 * 512 - 8);
  CHECK(user.piece_count() <= 28 + 4 * 512);
  std::uint64_t alone = 0;
  for (std::uint64_t block = 0; block != 32; ++block) {
    for (std::uint64_t at = 4096; at != 2 * mebibyte; at += 4096) {
      const physical before = *user.frame_of(user.address(block * 2 * mebibyte + at - 4096));
      const physical here = *user.frame_of(user.address(block * 2 * mebibyte + at));
      const bool joined = before.value + 4096 == here.value;
      if (block % 8 != 7 && !joined) FAIL("block " << block << " is torn");
      if (block % 8 == 7 && !joined) ++alone;
    }
  }
  CHECK(alone == 4 * 511);
}

TEST_CASE("user_memory: orders follow the seed") {
  physical_memory memory = physical_memory::create(256 * mebibyte).value();
  const auto order_of = [&](std::uint64_t seed) {
    const user_memory user = user_memory::create(memory, 32 * mebibyte, {.seed = seed}).value();
    std::vector<std::uint64_t> frames;
    for (std::uint64_t at = 0; at != 32 * mebibyte; at += 2 * mebibyte)
      frames.push_back(user.frame_of(user.address(at))->value);
    const std::uint64_t lowest = *std::min_element(frames.begin(), frames.end());
    for (std::uint64_t& frame : frames) frame -= lowest;
    return frames;
  };
  const std::vector<std::uint64_t> one = order_of(1);
  CHECK(one == order_of(1));
  CHECK(one != order_of(2));
  CHECK(!std::is_sorted(one.begin(), one.end()));
}

TEST_CASE("user_memory: three gibibytes with small parts stay below the kernel's mappings") {
  physical_memory memory = physical_memory::create(4 * gibibyte).value();
  const result<user_memory> user = user_memory::create(memory, 3 * gibibyte, {.small_every = 64});
  REQUIRE(user.has_value());
  CHECK(user->piece_count() <= 1536 + 24 * 512);
  CHECK(user->verify() == "");
}

TEST_CASE("user_memory: too many pieces are an error and take nothing") {
  physical_memory memory = physical_memory::create(2 * gibibyte).value();
  CHECK(user_memory::create(memory, gibibyte, {.block_bytes = 4096}).error() ==
        errc::not_enough_memory);
  CHECK(
      user_memory::create_at(memory, physical_range::sized({2 * mebibyte}, gibibyte)).has_value());
}

TEST_CASE("user_memory: on the frames of a trace, in a sparse machine") {
  const std::uint64_t size = std::uint64_t{8} << 40;
  physical_memory memory = physical_memory::create(size, {4096}).value();
  const user_memory user = user_memory::create_at(memory, {{4096}, {size - 1}}).value();
  for (const std::uint64_t frame : {std::uint64_t{0xa023000}, std::uint64_t{0x7fef5000},
                                    std::uint64_t{0x7'1234'5678'9000} % size, size - 4096}) {
    const user_address at = user.address(frame - 4096);
    CHECK(user.frame_of(at + 5) == physical{frame + 5});
    user.data()[frame - 4096] = std::byte{77};
    CHECK(memory.bytes({frame}, 1)[0] == std::byte{77});
  }
  CHECK(user.piece_count() == 1);
}

TEST_CASE("user_memory: nothing outside and nothing in holes") {
  physical_memory memory = physical_memory::create(64 * mebibyte).value();
  user_memory user = user_memory::create(memory, 8 * mebibyte, {.small_every = 2}).value();
  const user_address first = user.range().first;
  CHECK(!user.frame_of(first - 1));
  CHECK(!user.frame_of(user.range().last + 1));
  CHECK(!user.frame_of({0}));
  CHECK(!user.frame_of({top}));
  CHECK(user.unmap({first - 4096, first + 4095}).error() == errc::invalid_argument);
  CHECK(user.unmap({first, first + 4094}).error() == errc::invalid_argument);
  CHECK(user.protect({first + 1, first + 4095}, access_rights::read).error() ==
        errc::invalid_argument);

  std::vector<std::optional<physical>> model;
  for (std::uint64_t n = 0; n != 2048; ++n) model.push_back(user.frame_of(first + n * 4096));
  const std::uint64_t seed = 22;
  CAPTURE(seed);
  std::mt19937_64 random(seed);
  for (int step = 0; step != 60; ++step) {
    const std::uint64_t start = random() % 2048;
    const std::uint64_t end = std::min<std::uint64_t>(2048, start + 1 + random() % 40);
    const user_range where = {first + start * 4096, first + (end * 4096 - 1)};
    const bool holed = std::any_of(model.begin() + static_cast<long>(start),
                                   model.begin() + static_cast<long>(end),
                                   [](const auto& frame) { return !frame; });
    const result<void> protect = user.protect(where, access_rights::read_write);
    REQUIRE(protect.has_value() == !holed);
    if (holed) REQUIRE(protect.error() == errc::bad_address);
    REQUIRE(user.unmap(where).has_value());
    for (std::uint64_t n = start; n != end; ++n) model[n].reset();
    REQUIRE(user.verify() == "");
    for (std::uint64_t n = 0; n != 2048; ++n)
      if (user.frame_of(first + n * 4096) != model[n]) FAIL("page " << n << " step " << step);
  }
}

TEST_CASE("user_memory: holes that touch are one") {
  physical_memory memory = physical_memory::create(16 * mebibyte).value();
  user_memory user = user_memory::create(memory, mebibyte).value();
  const user_address first = user.range().first;
  for (const std::uint64_t n : {std::uint64_t{4}, std::uint64_t{3}, std::uint64_t{6},
                                std::uint64_t{5}, std::uint64_t{0}, std::uint64_t{255}}) {
    REQUIRE(user.unmap(user_range::sized(first + n * 4096, 4096)).has_value());
    CHECK(user.verify() == "");
  }
  for (std::uint64_t n = 0; n != 256; ++n)
    CHECK(user.frame_of(first + n * 4096).has_value() ==
          !(n == 0 || (n >= 3 && n <= 6) || n == 255));
  REQUIRE(user.unmap(user.range()).has_value());
  CHECK(user.verify() == "");
}

TEST_CASE("user_memory: moves with its memory, and gives its addresses back") {
  physical_memory memory = physical_memory::create(64 * mebibyte).value();
  user_memory one = user_memory::create(memory, 4 * mebibyte).value();
  one.data()[4095] = std::byte{3};
  const user_address place = one.range().first;
  const physical frame = *one.frame_of(place + 4095);
  user_memory two = std::move(one);
  CHECK(two.frame_of(place + 4095) == frame);
  user_memory other = user_memory::create(memory, 4 * mebibyte).value();
  const user_address gone = other.range().first;
  other = std::move(two);
  CHECK(other.frame_of(place + 4095) == frame);
  CHECK(other.verify() == "");
  CHECK(memory.machine().regions.size() == 1);
  unsigned char resident = 0;
  CHECK(::mincore(reinterpret_cast<void*>(gone.value), 4096, &resident) != 0);
  // Its frame keeps its bytes and is never another's.
  {
    const user_memory last = std::move(other);
  }
  CHECK(memory.machine().regions.size() == 0);
  CHECK(memory.bytes(frame, 1)[0] == std::byte{3});
  CHECK(memory.allocate_at({{frame.value / 4096 * 4096}, {frame.value / 4096 * 4096 + 4095}})
            .error() == errc::address_in_use);
}

TEST_CASE("user_memory: the machine knows each of its memories") {
  physical_memory memory = physical_memory::create(64 * mebibyte).value();
  std::vector<user_memory> all;
  for (int n = 0; n != 8; ++n) all.push_back(user_memory::create(memory, mebibyte).value());
  for (const user_memory& each : all) CHECK(each.verify() == "");
  std::swap(all.front(), all.back());
  all.pop_back();
  for (const user_memory& each : all) CHECK(each.verify() == "");
}

TEST_CASE("user_memory: a file is the same in every copy and outlives the memory") {
  physical_memory memory = physical_memory::create(64 * mebibyte).value();
  std::optional<user_memory> user = user_memory::create(memory, 4 * mebibyte).value();
  const user_memory stranger = user_memory::create(memory, 4 * mebibyte).value();
  host::file one = user->file();
  host::file two = stranger.file();
  CHECK(one == user->file());
  CHECK(one != two);
  two = one;
  const host::file& same = two;
  two = same;
  CHECK(one == two);
  user.reset();
  CHECK(two.size_bytes() == 4 * mebibyte);
}

}  // namespace
