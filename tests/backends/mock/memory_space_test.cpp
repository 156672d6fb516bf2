#include "iopt/backends/mock/memory_space.hpp"

#include <random>
#include <set>
#include <vector>

#include "tests/catch.hpp"

using namespace iopt;
using mock::memory_space;
using mock::range_set;

TEST_CASE("a range set holds what a set of numbers holds", "[model]") {
  const std::uint64_t seed = GENERATE(1u, 2u);
  CAPTURE(seed);
  std::mt19937_64 random(seed);
  range_set set;
  constexpr std::uint64_t base = top - 99;  // the last hundred numbers
  std::vector<bool> oracle(100);
  for (int step = 0; step < 2000; ++step) {
    const std::uint64_t first = random() % 100;
    const std::uint64_t last = first + random() % (100 - first);
    const bool on = random() % 2 == 0;
    for (std::uint64_t n = first; n <= last; ++n) oracle[n] = on;
    if (on) {
      set.insert(base + first, base + last);
    } else {
      set.remove(base + first, base + last);
    }
    bool any = false;
    for (std::uint64_t n = 100; n-- > 0;) {
      any = any || oracle[n];
      if (set.contains(base + n) != oracle[n]) FAIL("contains() at step " << step);
      const auto next = set.next(base + n);
      if (next.has_value() != any) FAIL("next() at step " << step);
      if (next && !oracle[*next - base]) FAIL("next() is no member at step " << step);
    }
    REQUIRE(set.empty() == !any);
  }
}

TEST_CASE("frames of a space are all different, and linear in a block") {
  for (const std::uint64_t page : {4 * kibibyte, 64 * kibibyte}) {
    for (const std::uint64_t block : {page, 256 * kibibyte, 2 * mebibyte, 16 * mebibyte}) {
      CAPTURE(page, block);
      memory_space s(3, gibibyte, page, block);
      std::set<std::uint64_t> seen;
      std::uint64_t blocks = 0;
      // A gibibyte is a window of the shuffle.
      for (std::uint64_t at = 0; at < gibibyte;) {
        const run r = s.run_at(at, gibibyte, memory_type::cached);
        REQUIRE(r.length_bytes == block);
        REQUIRE(s.frames().contains(physical_range::sized(r.first, block)));
        REQUIRE(seen.insert(r.first.value).second);
        if (at != 0) REQUIRE(s.where(at - 1).value + 1 != r.first.value);
        REQUIRE(s.where(at + block - 1) == r.first + (block - 1));
        at += block;
        if (++blocks > 20000) break;
      }
    }
  }
  memory_space whole(0, memory_space::largest, 4096, mock::contiguity::contiguous);
  CHECK(whole.run_at(0, memory_space::largest, memory_type::cached).length_bytes ==
        memory_space::largest);
  CHECK(whole.usable(memory_space::largest, false) == 0);
  CHECK(whole.usable(memory_space::largest - 1, true) == 1);
  memory_space other(memory_space::most_spaces - 1, 4096, 4096, 4096);
  CHECK(other.frames().last == physical{top});
  CHECK_FALSE(other.frames().overlaps(whole.frames()));
}
