// tests/containers/double_span_test.cpp - two trees at once, against two Boost.ICL maps.
#include "iopt/containers/double_span.hpp"

#include <algorithm>
#include <bit>
#include <boost/icl/closed_interval.hpp>
#include <boost/icl/interval_map.hpp>
#include <deque>
#include <random>
#include <utility>
#include <vector>

#include "iopt/containers/interval_tree.hpp"
#include "tests/catch.hpp"

using namespace iopt;

namespace {

struct counted {
  static inline std::uint64_t steps = 0;
  static void visit() noexcept { ++steps; }
};
struct area : interval_node<page_index> {
  int pages = 0;
};
struct user : interval_node<page_index> {
  double users = 0;
};
using areas = interval_tree<area>;
using users = interval_tree<user>;
using span = owned_span<page_index>;
namespace icl = boost::icl;
using interval = icl::closed_interval<std::uint64_t>;
using depths = icl::interval_map<std::uint64_t, int, icl::partial_absorber, std::less,
                                 icl::inplace_plus, icl::inter_section, interval>;

page_range range(std::uint64_t first, std::uint64_t last) { return {{first}, {last}}; }

template <class First, class Second>
std::vector<span> spans_of(const First* a, const Second* b, page_range window) {
  std::vector<span> out;
  for (double_span walk(a, b, window); walk.valid(); walk.next()) out.push_back(*walk);
  return out;
}

/// The same from the segments of both maps: cut at every end, ask each piece, join equals.
std::vector<span> expected_spans(const depths& a, const depths& b, page_range window) {
  std::vector<std::uint64_t> starts{window.first.value};
  for (const depths* each : {&a, &b}) {
    for (const auto& [segment, depth] : *each) {
      if (window.contains(page_index{segment.lower()})) starts.push_back(segment.lower());
      if (segment.upper() < window.last.value && segment.upper() >= window.first.value) {
        starts.push_back(segment.upper() + 1);
      }
    }
  }
  std::sort(starts.begin(), starts.end());
  starts.erase(std::unique(starts.begin(), starts.end()), starts.end());
  std::vector<span> out;
  for (std::size_t i = 0; i < starts.size(); ++i) {
    const std::uint64_t last = i + 1 < starts.size() ? starts[i + 1] - 1 : window.last.value;
    const span_owner owner = a.find(starts[i]) != a.end()   ? span_owner::first
                             : b.find(starts[i]) != b.end() ? span_owner::second
                                                            : span_owner::none;
    if (!out.empty() && out.back().owner == owner) {
      out.back().range.last = {last};
    } else {
      out.push_back({range(starts[i], last), owner});
    }
  }
  return out;
}

std::uint64_t near(std::mt19937_64& engine) {
  switch (engine() % 4) {
    case 0: return engine() % 60;
    case 1: return top - engine() % 60;
    case 2: return 5000 + engine() % 200;
    default: return engine();
  }
}

template <class Tree, class Records>
void change(Tree& t, Records& records, depths& coverage, std::mt19937_64& engine) {
  auto& r = records[engine() % records.size()];
  if (r.is_linked()) {
    t.erase(r);
    coverage -= std::make_pair(interval(r.range.first.value, r.range.last.value), 1);
    return;
  }
  const std::uint64_t a = near(engine);
  const std::uint64_t b = engine() % 3 == 0 ? near(engine) : a + engine() % 12;
  r.range = range(std::min(a, b), std::max(a, b));
  if (engine() % 8 != 0 && r.range.length_minus_one() > 4000) r.range.last = r.range.first;
  t.insert(r);
  coverage += std::make_pair(interval(r.range.first.value, r.range.last.value), 1);
}

}  // namespace

TEST_CASE("double_span: model", "[double_span][model]") {
  for (const std::uint64_t seed : {21u, 22u, 23u}) {
    CAPTURE(seed);
    std::mt19937_64 engine(seed);
    const std::size_t most = seed == 21 ? 5 : seed == 22 ? 16 : 40;
    std::deque<area> area_records(most);
    std::deque<user> user_records(most / 2 + 1);
    areas a;
    users u;
    depths area_depths;
    depths user_depths;
    for (int step = 0; step < 40'000; ++step) {
      if (engine() % 2 == 0) {
        change(a, area_records, area_depths, engine);
      } else {
        change(u, user_records, user_depths, engine);
      }
      const std::uint64_t x = near(engine);
      const std::uint64_t y = near(engine);
      const page_range window =
          step % 5 == 0 ? page_range::whole() : range(std::min(x, y), std::max(x, y));
      const bool same =
          step % 2 == 0
              ? spans_of(&a, &u, window) == expected_spans(area_depths, user_depths, window)
              : spans_of(&u, &a, window) == expected_spans(user_depths, area_depths, window);
      if (!same) {
        CAPTURE(step);
        FAIL("spans differ");
      }
    }
    a.clear();
    u.clear();
  }
}

TEST_CASE("double_span: the first has precedence", "[double_span]") {
  areas a;
  users u;
  area area1, area2;
  user user1, user2;
  area1.range = range(10, 19);
  area2.range = range(40, top);
  user1.range = range(5, 24);
  user2.range = range(25, 29);
  a.insert(area1), a.insert(area2), u.insert(user1), u.insert(user2);
  REQUIRE(spans_of(&a, &u, page_range::whole()) ==
          std::vector<span>{{range(0, 4), span_owner::none},
                            {range(5, 9), span_owner::second},
                            {range(10, 19), span_owner::first},
                            {range(20, 29), span_owner::second},
                            {range(30, 39), span_owner::none},
                            {range(40, top), span_owner::first}});
  REQUIRE(spans_of(&u, &a, range(8, 41)) == std::vector<span>{{range(8, 29), span_owner::first},
                                                              {range(30, 39), span_owner::none},
                                                              {range(40, 41), span_owner::second}});
  REQUIRE(spans_of<areas, users>(nullptr, nullptr, page_range::whole()) ==
          std::vector<span>{{page_range::whole(), span_owner::none}});
  REQUIRE(
      spans_of<areas, users>(nullptr, &u, range(29, 30)) ==
      std::vector<span>{{range(29, 29), span_owner::second}, {range(30, 30), span_owner::none}});
  REQUIRE(spans_of<areas, users>(&a, nullptr, range(15, 15)) ==
          std::vector<span>{{range(15, 15), span_owner::first}});
  a.clear();
  u.clear();
}

TEST_CASE("double_span: the trees may change after the walk", "[double_span][regression]") {
  areas a;
  users u;
  {
    area gone;
    gone.range = range(0, 9);
    a.insert(gone);
    double_span walk(&a, &u, range(0, 9));
    walk.next();
    REQUIRE(!walk.valid());
    a.erase(gone);
    REQUIRE(!walk.valid());
  }
  REQUIRE(spans_of(&a, &u, range(0, 9)).size() == 1);
}

TEST_CASE("double_span: cost", "[double_span][cost]") {
  using counted_areas = interval_tree<area, page_index, counted>;
  using counted_users = interval_tree<user, page_index, counted>;
  for (std::uint64_t n = 4; n <= 65536; n *= 4) {
    CAPTURE(n);
    std::deque<area> area_records(n);
    std::deque<user> user_records(n);
    counted_areas a;
    counted_users u;
    for (std::uint64_t i = 0; i < n; ++i) {
      area_records[i].range = range(i * 10, i * 10 + 3);
      user_records[i].range = range(i * 10 + 2, i * 10 + 7);
      a.insert(area_records[i]);
      u.insert(user_records[i]);
    }
    const std::uint64_t height = 2 * static_cast<std::uint64_t>(std::bit_width(n)) + 1;
    counted::steps = 0;
    double_span lazy(&a, &u, range(n * 5, top));
    REQUIRE(counted::steps <= 4 * height);
    counted::steps = 0;
    std::size_t spans = 0;
    for (double_span walk(&a, &u, page_range::whole()); walk.valid(); walk.next()) ++spans;
    REQUIRE(spans == 3 * n);
    REQUIRE(counted::steps <= 10 * n + 4 * height);
    // What one area covers is not looked at in the other tree.
    area cover;
    cover.range = range(0, n * 10);
    a.insert(cover);
    counted::steps = 0;
    REQUIRE(spans_of(&a, &u, page_range::whole()).size() == 2);
    REQUIRE(counted::steps <= 8 * height);
    // Nor where it is one long span of many nodes.
    u.clear();
    for (std::uint64_t i = 0; i < n; ++i) {
      user_records[i].range = range(i * 10 + 5, i * 10 + 14);
      u.insert(user_records[i]);
    }
    a.erase(cover);
    cover.range = range(6, n * 10 - 5);
    a.insert(cover);
    a.erase(area_records[0]);
    counted::steps = 0;
    REQUIRE(spans_of(&u, &a, page_range::whole()).size() == 2 + 1);
    counted::steps = 0;
    REQUIRE(spans_of(&a, &u, range(0, n * 10 + 20)) ==
            std::vector<span>{{range(0, 4), span_owner::none},
                              {range(5, 5), span_owner::second},
                              {range(6, n * 10 - 5), span_owner::first},
                              {range(n * 10 - 4, n * 10 + 4), span_owner::second},
                              {range(n * 10 + 5, n * 10 + 20), span_owner::none}});
    CHECK(counted::steps <= 12 * height);
    a.clear();
    u.clear();
  }
}
