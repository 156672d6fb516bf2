#include "iopt/base/page_sizes.hpp"

#include <random>

#include "tests/catch.hpp"

using namespace iopt;

TEST_CASE("a page size set is the kernel's bitmap") {
  const page_size_set x86{4 * kibibyte, 2 * mebibyte, gibibyte};
  CHECK(x86.bitmap() == 0x40201000);
  CHECK(page_size_set::from_bitmap(0x40201000) == x86);
  CHECK(x86.contains(4096));
  CHECK_FALSE(x86.contains(8192));
  CHECK_FALSE(x86.contains(0x201000));
  CHECK_FALSE(x86.contains(0));
  CHECK(x86.smallest() == 4096);
  CHECK(x86.largest() == gibibyte);
  CHECK_FALSE(x86.empty());
  CHECK(page_size_set{}.empty());
  CHECK((x86 & page_size_set{2 * mebibyte, 64 * kibibyte}) == page_size_set{2 * mebibyte});
}

TEST_CASE("the best fit is the largest size that divides and does not pass", "[model]") {
  const std::uint64_t seed = 11;
  CAPTURE(seed);
  std::mt19937_64 random(seed);
  for (int step = 0; step < 20000; ++step) {
    const page_size_set sizes = page_size_set::from_bitmap(random() & random() & random());
    const std::uint64_t zeros = random() % 64;
    const std::uint64_t addresses = random() << zeros;
    const std::uint64_t shorter = random() % 64;
    const std::uint64_t length = random() >> shorter;
    std::uint64_t best = 0;
    for (unsigned n = 0; n < 64; ++n) {
      const std::uint64_t size = std::uint64_t{1} << n;
      if (sizes.contains(size) && addresses % size == 0 && size <= length) best = size;
    }
    if (sizes.best_fit(addresses, length) != best) {
      CAPTURE(step, sizes.bitmap(), addresses, length);
      REQUIRE(sizes.best_fit(addresses, length) == best);
    }
  }
  CHECK(page_size_set{4096}.best_fit(0, 0) == 0);
  CHECK(page_size_set{4096, gibibyte}.best_fit(0, gibibyte) == gibibyte);
}
