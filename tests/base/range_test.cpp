#include "iopt/base/range.hpp"

#include <array>

#include "tests/catch.hpp"

using namespace iopt;

TEST_CASE("a range from a length refuses what cannot be") {
  CHECK(iova_range::from_length({0}, 0).error() == errc::invalid_argument);
  CHECK(iova_range::from_length({top}, 0).error() == errc::invalid_argument);
  CHECK(iova_range::from_length({top}, 1) == iova_range{{top}, {top}});
  CHECK(iova_range::from_length({top}, 2).error() == errc::value_too_large);
  CHECK(iova_range::from_length({1}, top) == iova_range{{1}, {top}});
  CHECK(iova_range::from_length({2}, top).error() == errc::value_too_large);
  CHECK(iova_range::from_length({0}, top) == iova_range{{0}, {top - 1}});
  CHECK(iova_range::sized({4096}, 4096) == iova_range{{4096}, {8191}});
}

TEST_CASE("the whole space has a length less one") {
  CHECK(iova_range::whole().length_minus_one() == top);
  CHECK(iova_range{{1}, {top}}.length() == top);
  CHECK(iova_range{{7}, {7}}.length() == 1);
}

// Against the definition, for all ranges over a few numbers at both ends of the space.
TEST_CASE("overlap, containment and intersection agree with the members", "[model]") {
  const std::array<std::uint64_t, 7> numbers{0, 1, 2, 3, top - 2, top - 1, top};
  std::array<iova_range, 28> ranges;
  std::size_t count = 0;
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    for (std::size_t j = i; j < numbers.size(); ++j) ranges[count++] = {{numbers[i]}, {numbers[j]}};
  }
  REQUIRE(count == ranges.size());
  for (const iova_range a : ranges) {
    for (const iova_range b : ranges) {
      bool common = false;
      bool all = true;
      std::uint64_t first = 0;
      std::uint64_t last = 0;
      for (const std::uint64_t n : numbers) {
        const bool in_a = a.first.value <= n && n <= a.last.value;
        const bool in_b = b.first.value <= n && n <= b.last.value;
        if (a.contains(iova{n}) != in_a) FAIL("contains(address)");
        if (in_a && in_b) {
          if (!common) first = n;
          last = n;
          common = true;
        }
        all = all && (!in_b || in_a);
      }
      if (a.overlaps(b) != common) FAIL("overlaps()");
      if (a.contains(b) != all) FAIL("contains(range)");
      const std::optional<iova_range> both = a.intersection(b);
      if (both.has_value() != common) FAIL("intersection()");
      if (both && *both != iova_range{{first}, {last}}) FAIL("intersection()");
    }
  }
}

TEST_CASE("a range is aligned when both ends are") {
  CHECK(iova_range{{4096}, {8191}}.is_aligned(4096));
  CHECK_FALSE(iova_range{{4096}, {8190}}.is_aligned(4096));
  CHECK_FALSE(iova_range{{4097}, {8191}}.is_aligned(4096));
  CHECK(iova_range{{top - 4095}, {top}}.is_aligned(4096));
  CHECK(iova_range::whole().is_aligned(std::uint64_t{1} << 63));
}
