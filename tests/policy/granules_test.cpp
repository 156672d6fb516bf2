// tests/policy/granules_test.cpp - pieces of a range, against a walk that tries every block.
#include "iopt/policy/granules.hpp"

#include <random>
#include <vector>

#include "iopt/base/page_sizes.hpp"
#include "tests/catch.hpp"

namespace {

using namespace iopt;

/// Every piece, by its rule as it is told: from the left, the largest that may stand there.
std::vector<iova_range> walk(granules g, iova_range all) {
  std::vector<iova_range> pieces;
  std::uint64_t at = all.first.value;
  for (;;) {
    std::uint64_t last = all.last.value;
    if (g.shape() == granule_shape::fixed) last = std::min(last, at | (g.size_bytes() - 1));
    if (g.shape() == granule_shape::power_of_two) {
      std::uint64_t size = g.size_bytes();
      while (at % size != 0 || all.last.value - at < size - 1) size /= 2;
      last = at + (size - 1);
    }
    pieces.push_back({{at}, {last}});
    if (last == all.last.value) return pieces;
    at = last + 1;
  }
}

granules any(std::mt19937_64& random) {
  const std::uint64_t size = std::uint64_t{1} << random() % 9;
  switch (random() % 3) {
    case 0: return granules::whole();
    case 1: return granules::fixed(size);
    default: return granules::power_of_two(random() % 4 == 0 ? std::uint64_t{1} << 63 : size);
  }
}

TEST_CASE("granules: the pieces of a range, one by one", "[model]") {
  const std::uint64_t seed = 11;
  CAPTURE(seed);
  std::mt19937_64 random(seed);
  for (int step = 0; step < 3000; ++step) {
    const granules g = any(random);
    const std::uint64_t length = 1 + random() % 1500;
    const std::uint64_t first = step % 3 == 0   ? top - (length - 1) - random() % 700
                                : step % 3 == 1 ? random() % 700
                                                : (random() >> 1) - length;
    const iova_range all = iova_range::sized({first}, length);
    CAPTURE(step, int(g.shape()), g.size_bytes(), first, length);
    const std::vector<iova_range> pieces = walk(g, all);
    REQUIRE(g.count(all) == pieces.size());
    for (const iova_range piece : pieces) {
      REQUIRE(g.piece_at(all, piece.first) == piece);
      REQUIRE(g.piece_at(all, piece.last) == piece);
      REQUIRE(g.begins_at(all, piece.first));
      REQUIRE((piece.first == piece.last || !g.begins_at(all, piece.last)));
    }
    REQUIRE(g.coarser().count(all) <= pieces.size());
    // Cut where a piece ends, both parts have the pieces they had.
    const std::size_t cut = random() % pieces.size();
    if (cut == 0) continue;
    const iova_range left{all.first, pieces[cut - 1].last}, right{pieces[cut].first, all.last};
    REQUIRE(walk(g, left) == std::vector(pieces.begin(), pieces.begin() + std::ptrdiff_t(cut)));
    REQUIRE(walk(g, right) == std::vector(pieces.begin() + std::ptrdiff_t(cut), pieces.end()));
  }
}

TEST_CASE("granules: sizes of real machines") {
  const iova_range large = iova_range::sized({0}, 256 * gibibyte);
  CHECK(granules::whole().count(large) == 1);
  CHECK(granules::fixed(4096).count(large) == std::uint64_t{64} << 20);
  CHECK(granules::fixed(2 * mebibyte).count(large) == 131072);
  CHECK(granules::power_of_two().count(large) == 1);
  CHECK(granules::power_of_two(gibibyte).count({{4096}, large.last}) == 255 + 18);
  CHECK(granules::fixed(1).count(iova_range::whole()) == top);
  CHECK(granules::power_of_two(1).count(iova_range::whole()) == top);
  CHECK(granules::power_of_two().count(iova_range::whole()) == 2);
  granules g = granules::fixed(4096);
  int steps = 0;
  while (g.shape() != granule_shape::whole) g = g.coarser(), ++steps;
  CHECK(steps == 52);
}

}  // namespace
