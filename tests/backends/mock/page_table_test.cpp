#include "iopt/backends/mock/page_table.hpp"

#include <map>
#include <random>
#include <utility>
#include <vector>

#include "tests/catch.hpp"

using namespace iopt;
using mock::page_table;
using mock::table_word;
using outcome = page_table::outcome;

namespace {

// The oracle: T page by page, with the edges of ranges.
struct model {
  struct page {
    std::uint64_t to;
    bool starts;
    bool ends;
  };
  std::uint64_t granule;
  std::map<std::uint64_t, page> pages;

  std::uint64_t page_of(iova v) const { return v.value / granule; }
  bool overlaps(iova_range r) const {
    const auto at = pages.lower_bound(page_of(r.first));
    return at != pages.end() && at->first <= page_of(r.last);
  }
  void write(iova_range r, physical p) {
    for (std::uint64_t n = page_of(r.first); n <= page_of(r.last); ++n) {
      const bool starts = n == page_of(r.first);
      const bool ends = n == page_of(r.last);
      pages[n] = {p.value + (n - page_of(r.first)) * granule, starts, ends};
    }
  }
};

table_word word(physical p) {
  return table_word(p, {access_rights::read_write, memory_type::cached});
}

struct shape {
  page_size_set sizes;
  std::uint64_t spread;  // of addresses, in granules
};

}  // namespace

TEST_CASE("a page table holds what a map of pages holds", "[model]") {
  const shape shapes[] = {{{4096}, 4096},
                          {{2048}, 2048},
                          {{4096, 2 * mebibyte, gibibyte}, 3 << 18},
                          {{4096, 16384, 65536, 2 * mebibyte}, 2048},
                          {{2048, mebibyte}, 4096},
                          {{512, 4096, 32768}, 1024},
                          {{65536, 512 * mebibyte}, 40000},
                          {{4096, 8 * mebibyte}, 8192}};
  const std::uint64_t seed = GENERATE(1u, 2u, 3u);
  for (const shape& s : shapes) {
    const std::uint64_t granule = s.sizes.smallest();
    CAPTURE(seed, s.sizes.bitmap());
    std::mt19937_64 random(seed);
    page_table table(s.sizes);
    model oracle{granule, {}};
    // Around an address that makes the table grow, or at the very end of the space.
    const std::uint64_t bases[] = {0, std::uint64_t{1} << 40, top - s.spread * granule + 1};
    for (int step = 0; step < 250; ++step) {
      CAPTURE(step);
      const std::uint64_t base = bases[random() % 3];
      const std::uint64_t start = random() % s.spread;
      const std::uint64_t most = random() % 3 == 0 ? s.spread : 40;
      std::uint64_t pages = 1 + random() % most;
      pages = std::min(pages, s.spread - start);
      if (pages > 4096 && random() % 8 != 0) pages = 512;
      const iova_range r = iova_range::sized({base + start * granule}, pages * granule);
      // Often congruent to a large size, so that large entries come about.
      physical p{(random() % 4096) * 2 * mebibyte};
      if (random() % 2 == 0) p.value += r.first.value % gibibyte;
      if (random() % 4 == 0) p.value += granule;
      const unsigned what = static_cast<unsigned>(random() % 4);
      if (what <= 1) {
        const outcome expected = oracle.overlaps(r) ? outcome::occupied : outcome::done;
        REQUIRE(table.write(r, word(p)) == expected);
        if (expected == outcome::done) oracle.write(r, p);
      } else if (what == 2 && !oracle.pages.empty()) {
        // Erase from a start to an end, without a hole.
        auto at = oracle.pages.lower_bound(oracle.page_of(r.first));
        if (at == oracle.pages.end()) at = oracle.pages.begin();
        while (!at->second.starts) --at;
        auto end = at;
        for (std::uint64_t n = random() % 4;;) {
          if (end->second.ends && n-- == 0) break;
          const auto after = std::next(end);
          if (after == oracle.pages.end() || after->first != end->first + 1) break;
          end = after;
        }
        while (!end->second.ends) --end;
        const iova_range gone{{at->first * granule}, {end->first * granule + (granule - 1)}};
        std::vector<run> storage(1 + random() % 8);
        run_list out{storage};
        const std::uint64_t bytes = table.erase(gone, &out, [](run) {});
        REQUIRE(bytes == out.bytes());
        REQUIRE((bytes - 1 == gone.length_minus_one() || (out.full() && bytes != 0)));
        std::uint64_t done = 0;
        for (const run& piece : out) {
          for (std::uint64_t i = 0; i < piece.length_bytes; i += granule, done += granule) {
            const auto page = oracle.pages.find((gone.first.value + done) / granule);
            if (page == oracle.pages.end() || page->second.to != piece.first.value + i)
              FAIL("erased runs tell another target");
            oracle.pages.erase(page);
          }
        }
        // What is left must start a range, for the oracle.
        const auto rest = oracle.pages.find((gone.first.value + (bytes - 1)) / granule + 1);
        if (bytes - 1 != gone.length_minus_one()) {
          REQUIRE(rest != oracle.pages.end());
          rest->second.starts = true;
        }
      } else {
        const iova b = r.first.value == 0 ? r.last - (granule - 1) : r.first;
        if (b.value == 0) continue;
        const auto entry_before = table.entry_at(b);
        REQUIRE(table.split_at(b) == outcome::done);
        const auto right = oracle.pages.find(oracle.page_of(b));
        const auto left = oracle.pages.find(oracle.page_of(b) - 1);
        if (right != oracle.pages.end()) right->second.starts = true;
        if (left != oracle.pages.end()) left->second.ends = true;
        if (right != oracle.pages.end()) REQUIRE(table.entry_at(b)->first == b);
        if (entry_before && left != oracle.pages.end()) {
          REQUIRE(table.entry_at(b - 1)->last == b - 1);
        }
      }
      REQUIRE(table.verify() == "");
      REQUIRE(table.bytes() == oracle.pages.size() * granule);
      if (step % 16 != 0) continue;
      std::uint64_t seen = 0;
      auto at = oracle.pages.begin();
      table.for_each(iova_range::whole(), [&](page_table::place slot) {
        const std::uint64_t pages_here = slot.slot_bytes / granule;
        for (std::uint64_t i = 0; i < pages_here; ++i, ++at, ++seen) {
          if (at == oracle.pages.end() || at->first != slot.first / granule + i ||
              at->second.to != slot.get().where().value + i * granule)
            FAIL("another target");
          // Edges of ranges are remembered where they are edges of slots, as they must be.
          if (at->second.starts != (i == 0 && slot.get().has(table_word::starts)) ||
              at->second.ends != (i + 1 == pages_here && slot.get().has(table_word::ends)))
            FAIL("another edge");
        }
        return true;
      });
      REQUIRE(seen == oracle.pages.size());
      for (int i = 0; i < 20; ++i) {
        const std::uint64_t near = bases[random() % 3];
        const iova v{near + random() % (s.spread * granule)};
        const auto page = oracle.pages.find(oracle.page_of(v));
        const auto answer = table.translate(v);
        REQUIRE(answer.has_value() == (page != oracle.pages.end()));
        if (answer) REQUIRE(answer->value == page->second.to + v.value % granule);
      }
    }
  }
}

TEST_CASE("a page table chooses the largest entries that fit") {
  page_table table({4 * kibibyte, 2 * mebibyte, gibibyte});
  REQUIRE(table.write(iova_range::sized({gibibyte}, gibibyte), word({4 * gibibyte})) ==
          outcome::done);
  CHECK(table.entries(gibibyte) == 1);
  // A page before and after two large ones.
  REQUIRE(table.write(iova_range::sized({8 * mebibyte - 4096}, 4 * mebibyte + 8192),
                      word({32 * mebibyte - 4096})) == outcome::done);
  CHECK(table.entries(2 * mebibyte) == 2);
  CHECK(table.entries(4096) == 2);
  // Not congruent: small ones only.
  REQUIRE(table.write(iova_range::sized({16 * mebibyte}, 2 * mebibyte),
                      word({64 * mebibyte + 4096})) == outcome::done);
  CHECK(table.entries(2 * mebibyte) == 2);
  CHECK(table.entries(4096) == 2 + 512);
  CHECK(table.verify() == "");
}

TEST_CASE("splitting a gibibyte leaves all but its surroundings large") {
  page_table table({4 * kibibyte, 2 * mebibyte, gibibyte});
  REQUIRE(table.write(iova_range::sized({0}, gibibyte), word({gibibyte})) == outcome::done);
  REQUIRE(table.split_at({7 * mebibyte + 4096}) == outcome::done);
  CHECK(table.entries(gibibyte) == 0);
  CHECK(table.entries(2 * mebibyte) == 511);
  CHECK(table.entries(4096) == 512);
  CHECK(table.translate({7 * mebibyte + 5000}) == physical{gibibyte + 7 * mebibyte + 5000});
  CHECK(table.find({7 * mebibyte + 4096})->get().has(table_word::starts));
  CHECK(table.find({7 * mebibyte})->get().has(table_word::ends));
  CHECK(table.find({0})->get().has(table_word::starts));
  CHECK(table.find({gibibyte - 1})->get().has(table_word::ends));
  CHECK(table.verify() == "");
}

TEST_CASE("splitting keeps an entry's dirt") {
  page_table table({4096, 65536});
  REQUIRE(table.write(iova_range::sized({65536}, 65536), word({65536})) == outcome::done);
  table.set_flag(*table.find({65536 + 5 * 4096}), table_word::dirty, true);
  REQUIRE(table.split_at({65536 + 8192}) == outcome::done);
  CHECK(table.entries(4096) == 16);
  std::uint64_t dirty = 0;
  table.for_each(iova_range::whole(), [&](page_table::place at) {
    dirty += at.get().has(table_word::dirty) ? at.slot_bytes : 0;
    return true;
  });
  CHECK(dirty == 65536);
}

TEST_CASE("reading takes any range and tells its runs") {
  page_table table({4096, 2 * mebibyte});
  REQUIRE(table.write(iova_range::sized({2 * mebibyte}, 2 * mebibyte), word({8 * mebibyte})) ==
          outcome::done);
  REQUIRE(table.write(iova_range::sized({4 * mebibyte}, 8192), word({10 * mebibyte})) ==
          outcome::done);
  REQUIRE(table.write(iova_range::sized({4 * mebibyte + 8192}, 4096), word({4096})) ==
          outcome::done);
  run storage[4];
  run_list out{storage};
  CHECK(table.read({{3 * mebibyte + 1}, {5 * mebibyte}}, out) == mebibyte - 1 + 3 * 4096);
  REQUIRE(out.size() == 2);
  CHECK(out[0] == run({9 * mebibyte + 1}, mebibyte - 1 + 8192));
  CHECK(out[1] == run({4096}, 4096));
}

TEST_CASE("a word at the lowest level is an entry or nothing") {
  page_table table({4096});
  REQUIRE(table.write(iova_range::sized({0}, 8192), word({65536})) == outcome::done);
  CHECK(table.verify() == "");
  std::uint64_t& first = *table.find({0})->word;
  const std::uint64_t kept = std::exchange(first, std::uint64_t{1} << 12);
  CHECK(table.verify() == "1: a node below the lowest level");
  first = kept;
  CHECK(table.verify() == "");
}
