// tests/containers/shared_ranges_test.cpp - shared_ranges against a std::map, its memory, its cost.
#include "iopt/containers/shared_ranges.hpp"

#include <bit>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <random>
#include <vector>

#include "tests/catch.hpp"
#include "tests/counted_memory.hpp"

namespace {

using iopt::top;
using number = std::uint64_t;
using random_bits = std::mt19937_64;

using iopt::test::counting_memory;
using iopt::test::counting_probe;
struct ledger : iopt::test::ledger {
  ~ledger() {
    if (blocks != 0) std::abort();  // something was lost
  }
};
using tree = iopt::shared_ranges<counting_memory, counting_probe>;
constexpr auto ignore = [](const tree::entry&) {};

struct subject {
  ledger book;
  iopt::reader_sections<counting_memory> readers{counting_memory{&book}};
  iopt::deferred_memory<counting_memory> blocks{readers, counting_memory{&book}, tree::usual_bytes};
  tree ranges{blocks};
};

struct known {
  number last, offset;
  bool live;
};
using model = std::map<number, known>;  // by first

bool free_in(const model& m, number first, number last) {
  auto i = m.upper_bound(last);
  return i == m.begin() || std::prev(i)->second.last < first;
}

void check_number(const tree& t, const model& m, number x) {
  tree::entry e{};
  const bool found = t.find(x, e);
  auto i = m.upper_bound(x);
  const bool expected =
      i != m.begin() && std::prev(i)->second.last >= x && std::prev(i)->second.live;
  REQUIRE(found == expected);
  if (!found) return;
  --i;
  REQUIRE(e.first == i->first);
  REQUIRE(e.last == i->second.last);
  REQUIRE(e.offset == i->second.offset);
}

void check_all(const tree& t, const model& m) {
  REQUIRE(t.verify() == "");
  REQUIRE(t.size() == m.size());
  auto i = m.begin();
  t.for_each([&](const tree::entry& e, bool live) {
    REQUIRE(i != m.end());
    REQUIRE((e.first == i->first && e.last == i->second.last && e.offset == i->second.offset &&
             live == i->second.live));
    ++i;
  });
  REQUIRE(i == m.end());
}

/// Numbers near 0, near the top, and near each other; short ranges and very long ones.
number draw(random_bits& bits, number space) {
  const number x = bits() % space;
  switch (bits() % 8) {
    case 0: return x;
    case 1: return top - x;
    default: return (number{1} << 40) + x * 16;
  }
}

void run_model(number seed, number space, unsigned steps, unsigned fill) {
  CAPTURE(seed, space);
  random_bits bits(seed);
  subject s;
  tree& t = s.ranges;
  model m;
  for (unsigned step = 0; step < steps; ++step) {
    const number first = draw(bits, space);
    number length = bits() % 24;
    if (bits() % 64 == 0) length = bits() % (space * 16);
    const number last = length > top - first ? top : first + length;
    auto i = m.upper_bound(first);
    const bool hit = i != m.begin() && std::prev(i)->second.last >= first;
    if (hit) --i;
    switch (bits() % 8) {
      case 0:
      case 1:
      case 2:
        if (m.size() > fill || !free_in(m, first, last)) break;
        REQUIRE(t.prepare(first, last, first * 3));
        m[first] = {last, first * 3, false};
        if (bits() % 4 == 0) break;
        t.show(first, last, ignore);
        m[first].live = true;
        break;
      case 3:
        REQUIRE(t.cut(first));
        if (!hit || i->second.last == first) break;
        m[first + 1] = i->second;
        i->second.last = first;
        break;
      case 4:
        if (hit) {
          t.show(i->first, i->second.last, ignore);
          i->second.live = true;
        }
        break;
      case 5:
        if (hit) {
          t.assign(i->first, i->second.last, step, ignore);
          i->second.offset = step;
        }
        break;
      default: {  // one entry, or all of a range
        number from = first, to = first;
        if (hit) from = i->first, to = i->second.last;
        if (bits() % 16 == 0) {
          to = space * 8 > top - to ? top : to + space * 8;
          REQUIRE(t.cut(to));
          auto j = m.upper_bound(to);
          if (j != m.begin() && (--j)->second.last > to) {
            m[to + 1] = j->second;
            j->second.last = to;
          }
        }
        std::size_t told = 0, were_live = 0, gone = 0;
        for (auto j = m.lower_bound(from); j != m.end() && j->first <= to; ++j)
          were_live += j->second.live ? 1u : 0u;
        t.hide(from, to, [&](const tree::entry&) { ++told; });
        REQUIRE(told == were_live);
        if (bits() % 2 == 0) {
          told = 0;
          t.erase(from, to, [&](const tree::entry&) { ++told; });
          for (auto j = m.lower_bound(from); j != m.end() && j->first <= to; j = m.erase(j)) ++gone;
          REQUIRE(told == gone);
        } else {
          for (auto j = m.lower_bound(from); j != m.end() && j->first <= to; ++j)
            j->second.live = false;
        }
      }
    }
    check_number(t, m, first);
    check_number(t, m, last);
    check_number(t, m, draw(bits, space));
    if (step % 16 == 0 || step + 1 == steps) check_all(t, m);
  }
  t.hide(0, top, ignore);
  t.erase(0, top, ignore);
  CHECK(t.size() == 0);
  CHECK(t.verify() == "");
  s.blocks.collect();
  CHECK(s.book.blocks <= decltype(s.blocks)::batch);  // what is kept for the next
}

TEST_CASE("random operations are what a std::map says", "[model]") {
  for (number seed = 1; seed <= 12; ++seed) run_model(seed, seed % 3 == 0 ? 200 : 4000, 4000, 400);
  for (number seed = 100; seed <= 102; ++seed) run_model(seed, 100000, 12000, 3000);
}

TEST_CASE("the last number is an ordinary one, and so is the whole space") {
  subject s;
  tree& t = s.ranges;
  tree::entry e{};
  REQUIRE(t.prepare(top, top, 5));
  CHECK_FALSE(t.find(top, e));
  t.show(0, top, ignore);
  CHECK((t.find(top, e) && e.first == top));
  REQUIRE(t.prepare(0, 0, 5));
  REQUIRE(t.prepare(1, top - 1, 5));
  t.show(0, top, ignore);
  CHECK((t.find(7, e) && e.first == 1 && e.last == top - 1));
  t.hide(0, top, ignore);
  t.erase(0, top, ignore);
  REQUIRE(t.prepare(0, top, 5));
  t.show(0, top, ignore);
  CHECK((t.find(top, e) && e.first == 0));
  CHECK(t.verify() == "");
}

TEST_CASE("a wide range goes where many narrow ones were", "[regression]") {
  subject s;
  tree& t = s.ranges;
  constexpr number n = 40000;
  for (number k = 0; k < n; ++k) REQUIRE(t.prepare(k * 16, k * 16 + 7, k));
  for (const auto& [from, to] : {std::pair<number, number>{5, n - 5}, {100, 20000}, {33, 66}}) {
    t.erase(from * 16, to * 16 + 7, ignore);
    REQUIRE(t.prepare(from * 16, to * 16 + 7, 1));
    REQUIRE(t.verify() == "");
    t.erase(from * 16, to * 16 + 7, ignore);
    for (number k = from; k <= to; ++k) REQUIRE(t.prepare(k * 16, k * 16 + 7, k));
    REQUIRE(t.verify() == "");
  }
  CHECK(t.size() == n);
}

TEST_CASE("a refused insertion or cut has changed nothing", "[sweep]") {
  for (const number n : {0u, 5u, 31u, 32u, 33u, 1000u, 1056u, 40000u}) {
    subject s;
    tree& t = s.ranges;
    model m;
    random_bits bits(n);
    for (number k = 0; k < n; ++k) {
      const number first = bits() % (n * 4) * 64;
      if (!free_in(m, first, first + 31)) continue;
      REQUIRE(t.prepare(first, first + 31, k));
      m[first] = {first + 31, k, false};
    }
    for (int round = 0; round < 40; ++round) {
      const bool cuts = round % 2 == 0 && !m.empty();
      const number first = cuts ? std::next(m.begin(), static_cast<long>(bits() % m.size()))->first
                                : bits() % (n * 4 + 4) * 64 + 32;
      if (!cuts && !free_in(m, first, first + 15)) continue;
      for (std::size_t fault = 0;; ++fault) {
        // Spares would hide the refusal.
        std::vector<iopt::detail::shared_leaf*> spares;
        s.book.refuse_from = s.book.calls;
        while (auto* spare = s.blocks.create<iopt::detail::shared_leaf>()) spares.push_back(spare);
        s.book.refuse_from = s.book.calls + fault;
        const bool done = cuts ? t.cut(first + 8) : t.prepare(first, first + 15, 9);
        s.book.refuse_from = ~std::size_t{0};
        for (auto* spare : spares) s.blocks.free(spare);
        if (done) break;
        if (n < 2000) check_all(t, m);
        REQUIRE(t.verify() == "");
      }
      if (!cuts) {
        m[first] = {first + 15, 9, false};
      } else if (m[first].last > first + 8) {
        m[first + 9] = {m[first].last, m[first].offset, false};
        m[first].last = first + 8;
      }
      check_all(t, m);
    }
  }
}

TEST_CASE("what takes away needs no memory", "[sweep]") {
  subject s;
  tree& t = s.ranges;
  constexpr number n = 20000;
  for (number k = 0; k < n; ++k) REQUIRE(t.prepare(k * 16, k * 16 + 7, k));
  s.book.refuse_from = 0;
  t.show(0, top, ignore);
  t.assign(160, 167, 5, ignore);
  t.hide(0, top, ignore);
  random_bits bits(1);
  std::vector<number> order;
  for (number k = 0; k < n; ++k) order.push_back(k);
  std::shuffle(order.begin(), order.end(), bits);
  std::size_t left = n;
  for (const number k : order) {
    t.erase(k * 16, k * 16 + 7, ignore);
    REQUIRE(t.size() == --left);
    if (k % 512 == 0) REQUIRE(t.verify() == "");
  }
  CHECK(t.verify() == "");
}

TEST_CASE("a search visits a node a level, and there are O(log n) levels", "[cost]") {
  for (const bool ascending : {true, false}) {
    subject s;
    tree& t = s.ranges;
    random_bits bits(3);
    std::map<number, bool> there;
    for (std::size_t n = 1; n <= 65536; ++n) {
      number first = n * 64;
      if (!ascending) do
          first = bits() % (number{1} << 40) * 64;
        while (!there.emplace(first, true).second);
      REQUIRE(t.prepare(first, first + 31, n));
      if (!std::has_single_bit(n)) continue;
      t.show(first, first + 31, ignore);
      // Nodes have at least 16 of 32 where they were split in the middle.
      const std::size_t levels = 2 + static_cast<std::size_t>(std::bit_width(n)) / 4;
      tree::entry e{};
      counting_probe::visits = 0;
      REQUIRE(t.find(first, e));
      CHECK(counting_probe::visits <= levels);
      counting_probe::visits = 0;
      t.hide(first, first + 31, ignore);
      CHECK(counting_probe::visits <= levels);
    }
  }
}

TEST_CASE("an insertion takes two nodes a level at most, and on average hardly more than one",
          "[cost]") {
  subject s;
  tree& t = s.ranges;
  random_bits bits(4);
  std::size_t most = 0, before = s.book.calls;
  constexpr std::size_t n = 20000;
  for (std::size_t k = 0; k < n; ++k) {
    const number first = bits() % (number{1} << 40) * 64;
    if (t.any_in(first, first + 31)) continue;
    const std::size_t calls = s.book.calls;
    REQUIRE(t.prepare(first, first + 31, k));
    most = std::max(most, s.book.calls - calls);
  }
  CHECK(most <= 2 * 5);
  CHECK(s.book.calls - before < n + n / 4);
}

TEST_CASE("the same range again takes no memory", "[cost]") {
  subject s;
  tree& t = s.ranges;
  for (number k = 0; k < 1000; ++k) REQUIRE(t.prepare(k * 16, k * 16 + 7, k));
  const std::size_t calls = s.book.calls;
  for (number k = 0; k < 1000; ++k) {
    t.erase(k * 16, k * 16 + 7, ignore);
    REQUIRE(t.prepare(k * 16, k * 16 + 7, k + 1));
  }
  CHECK(s.book.calls == calls);
  CHECK(t.verify() == "");
}

TEST_CASE("what is nearly empty shrinks", "[cost]") {
  subject s;
  tree& t = s.ranges;
  constexpr number n = 65536;
  for (number k = 0; k < n; ++k) REQUIRE(t.prepare(k * 16, k * 16 + 7, k));
  for (number k = 0; k < n; ++k)
    if (k % 64 != 0) t.erase(k * 16, k * 16 + 7, ignore);
  s.blocks.collect(), s.blocks.collect();
  CHECK(t.size() == n / 64);
  CHECK(t.verify() == "");
  // A leaf for eight entries, and something above; the rest is kept to be used again.
  CHECK(s.book.blocks <= n / 64 / 6 + decltype(s.blocks)::batch);
}

}  // namespace
