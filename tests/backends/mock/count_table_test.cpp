#include "iopt/backends/mock/count_table.hpp"

#include <map>
#include <random>

#include "tests/catch.hpp"

using iopt::mock::count_table;

TEST_CASE("a count table counts what a map of units counts", "[model]") {
  const std::uint64_t seed = GENERATE(1u, 2u, 3u, 4u);
  CAPTURE(seed);
  std::mt19937_64 random(seed);
  count_table table;
  struct cell {
    std::uint64_t count = 0;
    bool mark = false;
  };
  std::map<std::uint64_t, cell> oracle;
  constexpr std::uint64_t spread = 3000;
  const std::uint64_t bases[] = {0, 512 * 512 - 700, std::uint64_t{1} << 50,
                                 ~std::uint64_t{0} - spread};
  std::uint64_t total = 0;
  for (int step = 0; step < 3000; ++step) {
    CAPTURE(step);
    const std::uint64_t base = bases[random() % 4];
    const std::uint64_t start = random() % spread;
    const std::uint64_t first = base + start;
    const std::uint64_t most = random() % 2 == 0 ? 3 : spread;
    const std::uint64_t last = first + random() % std::min(spread - start, most);
    const unsigned what = static_cast<unsigned>(random() % 5);
    if (what <= 1) {
      table.add(first, last);
      total += last - first + 1;
      for (std::uint64_t u = first;; ++u) {
        ++oracle[u].count;
        if (u == last) break;
      }
    } else if (what <= 3) {
      bool possible = true;
      for (std::uint64_t u = first;; ++u) {
        possible = possible && oracle.contains(u) && oracle[u].count != 0;
        if (u == last || !possible) break;
      }
      const bool mark = random() % 4 == 0;
      REQUIRE(table.subtract(first, last, mark) == possible);
      if (possible) {
        total -= last - first + 1;
        for (std::uint64_t u = first;; ++u) {
          --oracle[u].count;
          oracle[u].mark = oracle[u].mark || mark;
          if (u == last) break;
        }
      }
    } else {
      const bool on = random() % 2 == 0;
      table.set_mark(first, last, on);
      for (std::uint64_t u = first;; ++u) {
        oracle[u].mark = on;
        if (u == last) break;
      }
    }
    REQUIRE(table.total() == total);
    REQUIRE(table.verify() == "");
    if (step % 10 != 0) continue;
    bool any = false;
    std::uint64_t least = ~std::uint64_t{0};
    std::uint64_t next = first;
    table.for_each(first, last, [&](auto from, auto to, std::uint64_t count, bool mark) {
      if (from != next) FAIL("a piece is missing");
      next = to + 1;
      for (std::uint64_t u = from;; ++u) {
        const auto at = oracle.find(u);
        const cell c = at == oracle.end() ? cell{} : at->second;
        if (c.count != count || c.mark != mark) FAIL("another count");
        if (u == to) break;
      }
      any = any || count != 0 || mark;
      least = std::min(least, count);
      return true;
    });
    REQUIRE(next == last + 1);
    REQUIRE(table.any(first, last) == any);
    REQUIRE(table.least(first, last) == least);
    REQUIRE(table.count(first) == (oracle.contains(first) ? oracle[first].count : 0));
    REQUIRE(table.is_marked(last) == (oracle.contains(last) && oracle[last].mark));
  }
  table.clear();
  CHECK(table.empty());
  CHECK(table.verify() == "");
}

TEST_CASE("a count table that counts nothing holds nothing") {
  count_table table;
  table.add(0, (std::uint64_t{1} << 40) - 1);
  table.add(12345, 12345);
  CHECK(table.count(12345) == 2);
  CHECK(table.count(12346) == 1);
  CHECK(table.total() == (std::uint64_t{1} << 40) + 1);
  CHECK(table.subtract(12345, 12345));
  CHECK(table.subtract(0, (std::uint64_t{1} << 40) - 1));
  CHECK(table.empty());
  CHECK_FALSE(table.subtract(0, 0));
}
