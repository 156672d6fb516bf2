// tests/containers/sparse_frames_test.cpp - sparse_frames against a std::map, page by page.
#include "iopt/containers/sparse_frames.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <map>
#include <optional>
#include <random>
#include <utility>
#include <vector>

#include "tests/catch.hpp"
#include "tests/counted_memory.hpp"

namespace {

using iopt::memory_type;
using iopt::page_index;
using iopt::page_range;
using iopt::physical;
using iopt::run;
using iopt::run_list;
using iopt::top;

using iopt::test::counting_memory;
using iopt::test::counting_probe;
using iopt::test::ledger;
using frames = iopt::sparse_frames<counting_memory, counting_probe>;

constexpr std::uint64_t page = 4096;

struct frame {
  std::uint64_t at;
  memory_type type;
  bool operator==(const frame&) const = default;
};
using oracle = std::map<std::uint64_t, frame>;

/// The number of fragments that the oracle's frames make.
std::size_t fragments(const oracle& o) {
  std::size_t count = 0;
  const std::pair<const std::uint64_t, frame>* before = nullptr;
  for (const auto& entry : o) {
    const bool joins = before != nullptr && before->first + 1 == entry.first &&
                       before->second.at + page == entry.second.at && entry.second.at != 0 &&
                       before->second.type == entry.second.type;
    count += joins ? 0 : 1;
    before = &entry;
  }
  return count;
}

std::vector<std::pair<page_range, run>> snapshot(const frames& f) {
  std::vector<std::pair<page_range, run>> all;
  f.for_each(page_range::whole(), [&](page_range r, run part) { all.emplace_back(r, part); });
  return all;
}

/// A walk in a window of `pages` indices from `base`, where a frame is mostly its index plus one of
/// two offsets, so that neighbours often join.
void walk(std::uint64_t seed, std::uint64_t base, std::uint64_t pages, int steps) {
  std::mt19937_64 random(seed);
  ledger book;
  oracle model;
  {
    frames subject(12, counting_memory{&book});
    const auto check = [&](bool holds, int step, const char* what) {
      if (!holds) FAIL("seed " << seed << ", step " << step << ": " << what);
    };
    for (int step = 0; step < steps; ++step) {
      const std::uint64_t first = random() % pages;
      const std::uint64_t last = std::min(pages - 1, first + random() % (random() % 4 ? 6 : 200));
      const page_range r{{base + first}, {base + last}};
      const auto lowest = model.lower_bound(r.first.value);
      const bool any = lowest != model.end() && lowest->first <= r.last.value;
      switch (random() % 8) {
        case 0:
        case 1:
        case 2: {  // store what fits before the next stored page, as one or several runs
          if (any && lowest->first == r.first.value) break;
          std::uint64_t left =
              any ? lowest->first - r.first.value : r.last.value - r.first.value + 1;
          std::vector<run> runs;
          oracle stored;
          std::uint64_t index = first;
          while (left != 0 && runs.size() < 6) {
            const std::uint64_t count = 1 + random() % left;
            const std::uint64_t offset = random() % 3 == 0    ? 1000000
                                         : random() % 16 == 0 ? random() % 99
                                                              : 1;
            const auto type = random() % 8 == 0 ? memory_type::mmio : memory_type::cached;
            runs.emplace_back(physical{(index + offset) * page}, count * page, type);
            for (std::uint64_t n = 0; n < count; ++n)
              stored[base + index + n] = {(index + offset + n) * page, type};
            index += count, left -= count;
          }
          if (random() % 8 == 0) book.refuse_from = book.calls + random() % 3;
          const auto before = snapshot(subject);
          const auto got = runs.size() == 1 ? subject.store(r.first, runs[0])
                                            : subject.store(r.first, std::span<const run>(runs));
          book.refuse_from = ~std::size_t{0};
          if (got) {
            model.insert(stored.begin(), stored.end());
          } else {
            check(got.error() == iopt::errc::not_enough_memory, step, "error");
            check(snapshot(subject) == before, step, "a refused store has changed something");
          }
          break;
        }
        case 3:
        case 4: {
          subject.erase(r);
          model.erase(lowest, model.upper_bound(r.last.value));
          break;
        }
        case 5: {
          std::array<run, 5> storage;
          run_list out(std::span<run>(storage).first(1 + random() % 5));
          const std::uint64_t got = subject.read(r, out);
          check(out.bytes() == got * page, step, "read's count");
          std::vector<frame> expected, read;
          for (auto at = lowest; at != model.end() && at->first <= r.last.value &&
                                 at->first == r.first.value + expected.size();
               ++at)
            expected.push_back(at->second);
          for (const run part : out)
            for (std::uint64_t n = 0; n < part.length_bytes; n += page)
              read.push_back({part.first.value + n, part.type()});
          check(read.size() <= expected.size(), step, "read too much");
          check(std::equal(read.begin(), read.end(), expected.begin()), step, "read");
          check(read.size() == expected.size() || out.full(), step, "read stops early");
          break;
        }
        case 6: {
          const auto got = subject.first_stored(r);
          check(got.has_value() == any, step, "first_stored");
          if (!any) break;
          std::uint64_t end = lowest->first;
          for (auto at = lowest; at != model.end() && at->first == end && end <= r.last.value; ++at)
            ++end;
          check(*got == page_range{{lowest->first}, {end - 1}}, step, "first_stored's range");
          check(subject.contains(*got) && subject.contains(r) == (*got == r), step, "contains");
          break;
        }
        default: {
          const auto at = model.find(r.first.value);
          const auto got = subject.find(r.first);
          const auto as_run = subject.find_run(r.first);
          check(got.has_value() == (at != model.end()), step, "find");
          if (!got) break;
          check(got->value == at->second.at && as_run->type() == at->second.type, step, "frame");
          break;
        }
      }
      if (step % 8 == 0) {
        const auto wrong = subject.verify();
        if (!wrong.empty()) FAIL("seed " << seed << ", step " << step << ": " << wrong);
      }
      if (step % 64 == 0) {
        check(subject.fragments() == fragments(model), step, "fragments");
        check(subject.empty() == model.empty(), step, "empty");
        oracle all;
        subject.for_each(page_range::whole(), [&](page_range part, run f) {
          for (std::uint64_t n = 0; n <= part.length_minus_one(); ++n)
            all[part.first.value + n] = {f.first.value + n * page, f.type()};
        });
        check(all == model, step, "for_each");
      }
      if (step % 1024 == 0) {
        frames other(std::move(subject));
        check(subject.empty() && subject.verify().empty(), step, "moved from");
        subject = std::move(other);
      }
      if (random() % 4096 == 0) subject.clear(), model.clear();
    }
  }
  if (book.blocks != 0) FAIL("seed " << seed << ": leak");
}

}  // namespace

TEST_CASE("sparse_frames is a partial function from pages to frames", "[sparse_frames][model]") {
  for (std::uint64_t seed = 1; seed <= 4; ++seed) walk(seed, 0, 40, 10000);
  for (std::uint64_t seed = 5; seed <= 8; ++seed) walk(seed, top - 4095, 4096, 20000);
  walk(9, std::uint64_t{1} << 40, 100, 10000);
}

TEST_CASE("one fragment and two holders take no memory", "[sparse_frames]") {
  ledger book;
  book.refuse_from = 0;
  frames f(12, counting_memory{&book});
  REQUIRE(f.add_holder().has_value());
  REQUIRE(f.add_holder().has_value());
  REQUIRE(f.store({10}, run({page * 100}, page * 20)).has_value());
  REQUIRE(f.store({30}, run({page * 120}, page)).has_value());
  REQUIRE(f.store({9}, run({page * 99}, page)).has_value());
  CHECK(f.fragments() == 1);
  CHECK(f.store({50}, run({page * 7}, page)).error() == iopt::errc::not_enough_memory);
  CHECK(f.add_holder().error() == iopt::errc::not_enough_memory);
  CHECK(f.holders() == 2);
  f.erase({{0}, {12}});
  f.erase({{25}, {99}});
  CHECK(f.first_stored(page_range::whole()) == page_range{{13}, {24}});
  CHECK(f.find({13}) == physical{page * 103});
  f.drop_holder();
  f.drop_holder();
  f.clear();
  CHECK(f.empty());
}

TEST_CASE("an erasure has its room in a full leaf, whichever of holder and frames came last",
          "[sparse_frames]") {
  for (const bool holders_first : {true, false}) {
    ledger book;
    frames f(12, counting_memory{&book});
    const auto hold = [&] {
      for (int n = 0; n != 3; ++n) REQUIRE(f.add_holder().has_value());
    };
    if (holders_first) hold();
    for (std::uint64_t n = 0; n != 48; ++n)
      REQUIRE(f.store({n * 8}, run({(1000 - n * 10) * page}, 3 * page)).has_value());
    if (!holders_first) hold();
    book.refuse_from = 0;
    f.erase({{16 * 8 + 1}, {16 * 8 + 1}});
    CHECK(f.fragments() == 49);
    CHECK(f.find({16 * 8 + 2}) == physical{842 * page});
    CHECK(f.verify() == "");
  }
}

TEST_CASE("runs of another type, of frame 0 and at the top do not join by mistake",
          "[sparse_frames]") {
  iopt::sparse_frames<> f(12);
  REQUIRE(f.store({0}, run({top - (page - 1)}, page)).has_value());
  REQUIRE(f.store({1}, run({0}, page)).has_value());  // the address wraps: no neighbour
  CHECK(f.fragments() == 2);
  REQUIRE(f.store({2}, run({page}, page, memory_type::mmio)).has_value());
  CHECK(f.fragments() == 3);
  REQUIRE(f.store({top}, run({0}, page)).has_value());  // nor do the indices wrap
  CHECK(f.fragments() == 4);
  CHECK(f.contains({{0}, {2}}));
  CHECK_FALSE(f.contains({{0}, {3}}));
  CHECK(f.find_run({2}) == run({page}, page, memory_type::mmio));
  CHECK(f.verify().empty());
}

TEST_CASE("a fragment may be longer than the longest run", "[sparse_frames]") {
  iopt::sparse_frames<> f(30);
  const std::uint64_t giant = std::uint64_t{1} << 30;
  const std::uint64_t most = run::longest / giant;  // pages of the longest run
  for (std::uint64_t n = 0; n < 3; ++n)
    REQUIRE(f.store({n * most}, run({n * most * giant}, most * giant)).has_value());
  CHECK(f.fragments() == 1);
  std::array<run, 4> storage;
  run_list out(storage);
  CHECK(f.read(page_range::whole(), out) == 3 * most);
  CHECK(out.size() == 3);
  run_list two(std::span<run>(storage).first(2));
  CHECK(f.read({{1}, {top}}, two) == 2 * most);
}

TEST_CASE("a store of many runs that is refused memory has changed nothing",
          "[sparse_frames][sweep]") {
  std::vector<run> runs;
  for (std::uint64_t n = 0; n < 200; ++n) runs.emplace_back(physical{n * 2 * page + page}, page);
  for (const int around : {0, 1, 2, 3}) {  // which neighbours are there, both of them contiguous
    for (std::size_t fault = 0;; ++fault) {
      ledger book;
      {
        frames f(12, counting_memory{&book});
        if (around & 1) REQUIRE(f.store({999}, run({0}, page)).has_value());
        if (around & 2) REQUIRE(f.store({1200}, run({400 * page}, page)).has_value());
        const auto before = snapshot(f);
        book.refuse_from = book.calls + fault;
        const auto got = f.store({1000}, std::span<const run>(runs));
        REQUIRE(f.verify().empty());
        if (got) {
          CHECK(f.fragments() == 200);
          break;
        }
        REQUIRE(snapshot(f) == before);
      }
      REQUIRE(book.blocks == 0);
    }
  }
}

TEST_CASE("a run that joins two fragments, and is refused memory, has changed nothing",
          "[sparse_frames][sweep]") {
  // The first of them lies in a leaf that has to be split before it can reach over 2^32 pages.
  constexpr std::uint64_t window = std::uint64_t{1} << 32;
  for (std::size_t fault = 0;; ++fault) {
    ledger book;
    {
      frames f(12, counting_memory{&book});
      for (std::uint64_t n = 40; n > 0; --n)
        REQUIRE(f.store({window - 2 * n}, run({(5000 - 9 * n) * page}, page)).has_value());
      for (std::uint64_t n = 0; n < 10; ++n)
        REQUIRE(f.store({window + 2 * n}, run({(4993 + 9 * n) * page}, page)).has_value());
      const auto before = snapshot(f);
      book.refuse_from = book.calls + fault;
      const auto got = f.store({window - 1}, run({4992 * page}, page));
      REQUIRE(f.verify() == "");
      if (got) {
        CHECK(f.fragments() == 49);
        CHECK(f.contains({{window - 2}, {window}}));
        break;
      }
      REQUIRE(snapshot(f) == before);
    }
    REQUIRE(book.blocks == 0);
  }
}

TEST_CASE("holders go in any order without any memory", "[sparse_frames][sweep]") {
  // Each holder needs a range of pages. What is stored is their union; the physical runs vary.
  for (std::uint64_t seed = 1; seed <= 100; ++seed) {
    std::mt19937_64 random(seed);
    const std::uint64_t pages = seed % 2 ? 60 : 3000;
    ledger book;
    frames f(12, counting_memory{&book});
    std::vector<std::uint16_t> needed(pages, 0);
    std::vector<page_range> holders;
    const auto frame_of = [&](std::uint64_t n) { return (n + n / 500 * 10 + 1) * page; };
    std::size_t physical_runs = pages / 500 + 1;
    for (int round = 0; round < 40; ++round) {
      const std::size_t grow = random() % 20;
      for (std::size_t n = 0; n < grow; ++n) {
        const std::uint64_t first = random() % pages;
        const std::uint64_t last =
            std::min(pages - 1, first + random() % (random() % 4 ? pages / 16 + 2 : pages));
        if (!f.add_holder()) FAIL("add_holder");
        for (std::uint64_t p = first; p <= last; ++p)
          if (needed[p]++ == 0 && !f.store({p}, run({frame_of(p)}, page))) FAIL("store");
        holders.push_back({{first}, {last}});
      }
      book.refuse_from = 0;
      const std::size_t calls = book.calls;
      std::shuffle(holders.begin(), holders.end(), random);
      const std::size_t keep = random() % 3 ? random() % (holders.size() + 1) : 0;
      while (holders.size() > keep) {
        const page_range r = holders.back();
        holders.pop_back();
        const bool early = random() % 2;  // drop_holder() before or after the erasures
        if (early) f.drop_holder();
        std::uint64_t begin = top;
        for (std::uint64_t p = r.first.value; p <= r.last.value + 1; ++p) {
          const bool gone = p <= r.last.value && --needed[p] == 0;
          if (gone && begin == top) begin = p;
          if (!gone && begin != top) f.erase({{begin}, {p - 1}}), begin = top;
        }
        if (!early) f.drop_holder();
        if (f.fragments() > physical_runs + holders.size()) FAIL("fragments, seed " << seed);
      }
      if (book.calls != calls) FAIL("erase asked for memory, seed " << seed);
      book.refuse_from = ~std::size_t{0};
      if (const auto wrong = f.verify(); !wrong.empty()) FAIL("seed " << seed << ": " << wrong);
      for (std::uint64_t p = 0; p < pages; ++p)
        if (f.find({p}).has_value() != (needed[p] != 0)) FAIL("seed " << seed << " page " << p);
    }
  }
}

TEST_CASE("the cost is in fragments, not in pages", "[sparse_frames][cost]") {
  for (std::uint64_t n = 4; n <= 1 << 16; n *= 8) {
    ledger book;
    frames f(12, counting_memory{&book});
    // n fragments of 2^20 pages, no two contiguous.
    const std::uint64_t length = std::uint64_t{1} << 20;
    std::size_t worst = 0;
    const std::size_t levels = 2 + static_cast<std::size_t>(std::bit_width(n)) / 3;
    const auto count = [&](auto&& act) {
      counting_probe::visits = 0;
      act();
      worst = std::max(worst, counting_probe::visits);
    };
    for (std::uint64_t i = 0; i < n; ++i)
      count([&] { (void)f.store({i * length * 2}, run({i * 4096}, length * page)); });
    CHECK(f.fragments() == n);
    CHECK(worst <= 12 * levels);
    worst = 0;
    for (std::uint64_t i = 0; i < n; i += 17) {
      count([&] { (void)f.find({i * length * 2 + 7}); });
      count([&] { (void)f.first_stored({{i * length * 2 + 7}, {top}}); });
    }
    CHECK(worst <= levels);
    worst = 0;
    for (std::uint64_t i = 0; i < n; i += 17)
      count([&] { f.erase({{i * length * 2 + 5}, {i * length * 2 + length - 5}}); });
    CHECK(worst <= 16 * levels);
    CHECK(f.verify().empty());
    counting_probe::visits = 0;
    f.clear();
    CHECK(counting_probe::visits <= 4 * levels);
  }
}
