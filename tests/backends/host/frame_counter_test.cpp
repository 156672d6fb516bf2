// tests/backends/host/frame_counter_test.cpp - counts of frames at the price of runs.
#include "iopt/backends/host/frame_counter.hpp"

#include <algorithm>
#include <random>
#include <vector>

#include "tests/catch.hpp"

namespace {

using namespace iopt;
using host::frame_counter;

physical_range pages(std::uint64_t first, std::uint64_t count) {
  return physical_range::sized({first * 4096}, count * 4096);
}

TEST_CASE("frame_counter: counts, and tells which frames begin and end to be counted") {
  frame_counter counter(8 * mebibyte);
  REQUIRE(counter.usable());
  std::vector<physical_range> told;
  const auto tell = [&](physical_range r) { told.push_back(r); };
  counter.add(pages(10, 5), tell);
  CHECK(told == std::vector{pages(10, 5)});
  told.clear();
  counter.add(pages(5, 1000), tell);
  CHECK(told == std::vector{pages(5, 5), pages(15, 990)});
  CHECK(counter.count({10 * 4096 + 3}) == 2);
  CHECK(counter.count({9 * 4096}) == 1);
  CHECK(counter.count({4 * 4096}) == 0);
  CHECK(counter.count({top}) == 0);
  CHECK(counter.total() == 1005);
  CHECK(counter.frames() == 1000);
  told.clear();
  counter.subtract(pages(0 + 5, 1000), tell);
  CHECK(told == std::vector{pages(5, 5), pages(15, 990)});
  told.clear();
  counter.subtract(pages(10, 5), tell);
  CHECK(told == std::vector{pages(10, 5)});
  CHECK(counter.total() == 0);
  CHECK(counter.frames() == 0);
  CHECK(counter.verify() == "");
}

TEST_CASE("frame_counter: model: one count a page") {
  const std::uint64_t seed = 21;
  CAPTURE(seed);
  std::mt19937_64 random(seed);
  constexpr std::uint64_t count = 5 * 512 + 100;
  frame_counter counter(count * 4096);
  std::vector<int> model(count, 0);
  std::vector<physical_range> told;
  for (int step = 0; step != 6000; ++step) {
    // Ends are often those of chunks, so that whole chunks meet pieces.
    std::uint64_t first = random() % count, end = random() % count + 1;
    if (random() % 2 == 0) first -= first % 512;
    if (random() % 2 == 0) end = std::min(count, end - end % 512 + 512);
    if (random() % 4 == 0) end = std::min(count, first + 1 + random() % 4);
    if (first >= end) continue;
    const bool add = random() % 2 == 0;
    if (!add && *std::min_element(model.begin() + static_cast<long>(first),
                                  model.begin() + static_cast<long>(end)) == 0)
      continue;
    std::vector<physical_range> expected;
    for (std::uint64_t n = first; n != end; ++n) {
      const int before = model[n];
      model[n] += add ? 1 : -1;
      if (before != (add ? 0 : 1)) continue;
      if (!expected.empty() && expected.back().last.value + 1 == n * 4096)
        expected.back().last.value += 4096;
      else
        expected.push_back(pages(n, 1));
    }
    told.clear();
    const auto tell = [&](physical_range r) { told.push_back(r); };
    if (add)
      counter.add(pages(first, end - first), tell);
    else
      counter.subtract(pages(first, end - first), tell);
    if (told != expected) FAIL("step " << step);
    if (step % 16 != 0) continue;
    std::uint64_t total = 0, frames = 0;
    for (std::uint64_t n = 0; n != count; ++n) {
      if (counter.count({n * 4096}) != static_cast<std::uint64_t>(model[n])) FAIL("step " << step);
      total += static_cast<std::uint64_t>(model[n]);
      frames += model[n] != 0 ? 1 : 0;
    }
    if (counter.total() != total || counter.frames() != frames) FAIL("step " << step);
    if (counter.verify() != "") FAIL("step " << step << ": " << counter.verify());
  }
}

TEST_CASE("frame_counter: cost: whole chunks are one step each") {
  for (std::uint64_t mebibytes = 2; mebibytes <= 16 * 1024; mebibytes *= 2) {
    frame_counter counter(32 * gibibyte);
    counter.add(pages(512, mebibytes * 256));
    CHECK(counter.steps() == mebibytes / 2);
    counter.subtract(pages(512, mebibytes * 256));
    CHECK(counter.steps() == mebibytes);
  }
}

TEST_CASE("frame_counter: cost: pieces that add up to a chunk do not make it dear for ever") {
  frame_counter counter(8 * mebibyte);
  for (int round = 0; round != 3; ++round) {
    counter.add(pages(512, 512));
    for (std::uint64_t n = 0; n != 512; ++n) counter.subtract(pages(512 + n, 1));
    CHECK(counter.total() == 0);
    CHECK(counter.verify() == "");
  }
  counter.add(pages(512, 512));  // finds all pages alike again
  const std::uint64_t before = counter.steps();
  counter.add(pages(512, 512));
  CHECK(counter.steps() - before == 1);
}

TEST_CASE("frame_counter: a machine of tebibytes") {
  frame_counter counter(std::uint64_t{16} << 40);
  REQUIRE(counter.usable());
  const std::uint64_t last = (std::uint64_t{16} << 40) / 4096 - 1;
  counter.add(pages(last, 1));
  CHECK(counter.count({last * 4096}) == 1);
  CHECK(counter.verify() == "");
}

}  // namespace
