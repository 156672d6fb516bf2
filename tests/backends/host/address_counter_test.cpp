// tests/backends/host/address_counter_test.cpp - counts of the pages of an address space.
#include "iopt/backends/host/address_counter.hpp"

#include <map>
#include <random>

#include "tests/catch.hpp"

namespace {

using namespace iopt;
using host::address_counter;

user_range pages(std::uint64_t first, std::uint64_t count) {
  return user_range::sized({first * 4096}, count * 4096);
}
constexpr std::uint64_t block_pages = address_counter::block_bytes / 4096;

TEST_CASE("address_counter: counts across blocks and at the end of the address space") {
  address_counter counter;
  CHECK(counter.total() == 0);
  CHECK(counter.count({top}) == 0);
  REQUIRE(counter.add(pages(3 * block_pages - 2, 2 * block_pages + 4)).has_value());
  REQUIRE(counter.add(pages(3 * block_pages - 1, 2)).has_value());
  REQUIRE(counter.add({{top - 8191}, {top}}).has_value());
  CHECK(counter.count({(3 * block_pages - 3) * 4096}) == 0);
  CHECK(counter.count({(3 * block_pages - 2) * 4096 + 7}) == 1);
  CHECK(counter.count({(3 * block_pages - 1) * 4096}) == 2);
  CHECK(counter.count({3 * block_pages * 4096}) == 2);
  CHECK(counter.count({(5 * block_pages + 1) * 4096}) == 1);
  CHECK(counter.count({(5 * block_pages + 2) * 4096}) == 0);
  CHECK(counter.count({top}) == 1);
  CHECK(counter.count({top - 8192}) == 0);
  CHECK(counter.total() == 2 * block_pages + 8);
  CHECK(counter.pages() == 2 * block_pages + 6);
  CHECK(counter.verify() == "");
  counter.subtract(pages(3 * block_pages - 2, 2 * block_pages + 4));
  counter.subtract({{top - 4095}, {top}});
  CHECK(counter.total() == 3);
  CHECK(counter.pages() == 3);
  CHECK(counter.verify() == "");
}

TEST_CASE("address_counter: model: one count a page") {
  const std::uint64_t seed = 5;
  CAPTURE(seed);
  std::mt19937_64 random(seed);
  address_counter counter;
  std::map<std::uint64_t, int> model;
  // Around the ends of four blocks, far from each other.
  const std::uint64_t corners[] = {block_pages, 2 * block_pages, 0x55555 * block_pages / 8,
                                   (std::uint64_t{1} << 35) - block_pages};
  for (int step = 0; step != 4000; ++step) {
    const std::uint64_t first = corners[random() % 4] - 600 + random() % 1200;
    const std::uint64_t count = 1 + random() % 700;
    bool all = true;
    for (std::uint64_t n = first; n != first + count; ++n) all = all && model[n] > 0;
    if (all && random() % 4 != 0) {
      counter.subtract(pages(first, count));
      for (std::uint64_t n = first; n != first + count; ++n) --model[n];
    } else {
      REQUIRE(counter.add(pages(first, count)).has_value());
      for (std::uint64_t n = first; n != first + count; ++n) ++model[n];
    }
    if (step % 100 != 0) continue;
    std::uint64_t total = 0, used = 0;
    for (const auto& [page, pins] : model) {
      total += static_cast<std::uint64_t>(pins);
      used += pins > 0 ? 1 : 0;
      if (counter.count({page * 4096 + page % 4096}) != static_cast<std::uint64_t>(pins))
        FAIL("page " << page);
    }
    REQUIRE(counter.total() == total);
    REQUIRE(counter.pages() == used);
    REQUIRE(counter.verify() == "");
  }
}

}  // namespace
