// tests/containers/coverage_spans_test.cpp - spans of an interval tree against Boost.ICL.
#include "iopt/containers/coverage_spans.hpp"

#include <algorithm>
#include <bit>
#include <boost/icl/closed_interval.hpp>
#include <boost/icl/interval_map.hpp>
#include <deque>
#include <random>
#include <vector>

#include "iopt/containers/interval_tree.hpp"
#include "tests/catch.hpp"

using namespace iopt;

namespace {

struct counted {
  static inline std::uint64_t steps = 0;
  static void visit() noexcept { ++steps; }
};
using record = interval_node<iova>;
using tree = interval_tree<record>;
using span = coverage_span<iova>;
namespace icl = boost::icl;
using interval = icl::closed_interval<std::uint64_t>;
using depths = icl::interval_map<std::uint64_t, int, icl::partial_absorber, std::less,
                                 icl::inplace_plus, icl::inter_section, interval>;

iova_range range(std::uint64_t first, std::uint64_t last) { return {{first}, {last}}; }

template <class Tree>
std::vector<span> spans_of(const Tree* t, iova_range window) {
  std::vector<span> out;
  for (coverage_spans<Tree> walk(t, window); walk.valid(); walk.next()) out.push_back(*walk);
  return out;
}

/// The same from ICL's segments, which are disjoint and in order.
std::vector<span> expected_spans(const depths& coverage, iova_range window) {
  std::vector<span> out;
  std::uint64_t at = window.first.value;
  bool done = false;
  for (const auto& [segment, depth] : coverage) {
    if (segment.upper() < at) continue;
    if (done || segment.lower() > window.last.value) break;
    const std::uint64_t first = std::max(segment.lower(), at);
    const std::uint64_t last = std::min(segment.upper(), window.last.value);
    if (first > at) out.push_back({range(at, first - 1), false});
    if (!out.empty() && out.back().used) {
      out.back().range.last = {last};
    } else {
      out.push_back({range(first, last), true});
    }
    done = last == window.last.value;
    at = last + 1;
  }
  if (!done) out.push_back({range(at, window.last.value), false});
  return out;
}

std::uint64_t near(std::mt19937_64& engine) {
  switch (engine() % 4) {
    case 0: return engine() % 80;
    case 1: return top - engine() % 80;
    case 2: return 5000 + engine() % 300;
    default: return engine();
  }
}

}  // namespace

TEST_CASE("coverage_spans: model", "[coverage_spans][model]") {
  for (const std::uint64_t seed : {11u, 12u, 13u}) {
    CAPTURE(seed);
    std::mt19937_64 engine(seed);
    const std::size_t most = seed == 11 ? 6 : seed == 12 ? 20 : 60;
    std::deque<record> records(most);
    tree t;
    depths coverage;
    for (int step = 0; step < 40'000; ++step) {
      record& r = records[engine() % most];
      if (r.is_linked()) {
        t.erase(r);
        coverage -= std::make_pair(interval(r.range.first.value, r.range.last.value), 1);
      } else {
        const std::uint64_t a = near(engine);
        const std::uint64_t b = engine() % 3 == 0 ? near(engine) : a + engine() % 12;
        r.range = range(std::min(a, b), std::max(a, b));
        if (engine() % 8 != 0 && r.range.length_minus_one() > 4000) r.range.last = r.range.first;
        t.insert(r);
        coverage += std::make_pair(interval(r.range.first.value, r.range.last.value), 1);
      }
      const std::uint64_t a = near(engine);
      const std::uint64_t b = near(engine);
      const iova_range window =
          step % 5 == 0 ? iova_range::whole() : range(std::min(a, b), std::max(a, b));
      if (spans_of(&t, window) != expected_spans(coverage, window)) {
        CAPTURE(step);
        FAIL("spans differ");
      }
      // A walk that goes from window to window is a new walk of each.
      coverage_spans<tree> walk(&t);
      for (std::uint64_t from = 0;;) {
        const std::uint64_t left = top - from;
        const std::uint64_t first = from + engine() % (engine() % 4 == 0 ? left / 2 + 1 : 40);
        const std::uint64_t last =
            first + engine() % std::min<std::uint64_t>(top - first + (first > 0), 50);
        const iova_range part = range(first, engine() % 8 == 0 ? std::max(last, top - 60) : last);
        walk.restart(part);
        std::vector<span> found;
        for (; walk.valid(); walk.next()) {
          found.push_back(*walk);
          if (engine() % 4 == 0) break;
        }
        std::vector<span> expected = expected_spans(coverage, part);
        if (found.size() < expected.size()) expected.resize(found.size());
        if (found != expected) FAIL("spans of a window after others differ");
        from = part.last.value;
        if (top - from < 50 || engine() % 16 == 0) break;
        ++from;
      }
    }
    t.clear();
  }
}

TEST_CASE("coverage_spans: examples", "[coverage_spans]") {
  tree t;
  REQUIRE(spans_of(&t, iova_range::whole()) == std::vector<span>{{iova_range::whole(), false}});
  REQUIRE(spans_of<tree>(nullptr, range(3, 9)) == std::vector<span>{{range(3, 9), false}});
  record a(range(10, 19)), b(range(20, 29)), c(range(12, 14)), d(range(top, top));
  for (record* r : {&a, &b, &c, &d}) t.insert(*r);
  REQUIRE(spans_of(&t, iova_range::whole()) == std::vector<span>{{range(0, 9), false},
                                                                 {range(10, 29), true},
                                                                 {range(30, top - 1), false},
                                                                 {range(top, top), true}});
  REQUIRE(spans_of(&t, range(13, 13)) == std::vector<span>{{range(13, 13), true}});
  REQUIRE(spans_of(&t, range(29, 30)) ==
          std::vector<span>{{range(29, 29), true}, {range(30, 30), false}});
  t.clear();
}

TEST_CASE("coverage_spans: cost", "[coverage_spans][cost]") {
  using counted_tree = interval_tree<record, iova, counted>;
  for (std::uint64_t n = 4; n <= 65536; n *= 4) {
    CAPTURE(n);
    std::deque<record> records;
    counted_tree t;
    for (std::uint64_t i = 0; i < n; ++i) t.insert(records.emplace_back(range(i * 10, i * 10 + 4)));
    const std::uint64_t height = 2 * static_cast<std::uint64_t>(std::bit_width(n)) + 1;
    // Lazy: the first span of many costs a descent.
    counted::steps = 0;
    auto walk = t.spans(range(n * 5, top));
    REQUIRE(counted::steps <= 2 * height);
    walk.next();
    REQUIRE(counted::steps <= 4 * height);
    // The whole costs O(n), not O(n log n).
    counted::steps = 0;
    std::size_t spans = 0;
    for (auto all = t.spans(iova_range::whole()); all.valid(); all.next()) ++spans;
    REQUIRE(spans == 2 * n);
    REQUIRE(counted::steps <= 4 * n + height);
    // Nodes below one that covers them all cost a climb, together.
    record cover(range(0, n * 10));
    t.insert(cover);
    counted::steps = 0;
    REQUIRE(spans_of(&t, iova_range::whole()).size() == 2);
    REQUIRE(counted::steps <= 3 * height);
    t.clear();
  }
}
