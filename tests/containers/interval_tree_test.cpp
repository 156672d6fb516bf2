// tests/containers/interval_tree_test.cpp - interval_tree against Boost.ICL and an ordered list.
#include "iopt/containers/interval_tree.hpp"

#include <algorithm>
#include <bit>
#include <boost/icl/closed_interval.hpp>
#include <boost/icl/interval_map.hpp>
#include <deque>
#include <map>
#include <memory>
#include <random>
#include <string_view>
#include <utility>
#include <vector>

#include "tests/catch.hpp"

using namespace iopt;

namespace {

struct counted {
  static inline std::uint64_t steps = 0;
  static void visit() noexcept { ++steps; }
};

struct record : interval_node<iova> {
  record() = default;
  record(iova_range covers, int n) : interval_node<iova>(covers), number(n) {}
  int number = 0;
};
using tree = interval_tree<record>;
using counted_tree = interval_tree<record, iova, counted>;

/// Every node in order.
template <class Tree>
std::vector<const record*> listed(const Tree& t) {
  std::vector<const record*> out;
  for (const record* at = t.first(); at != nullptr; at = t.next(*at)) out.push_back(at);
  return out;
}

iova_range range(std::uint64_t first, std::uint64_t last) { return {{first}, {last}}; }

/// Draws near 0, near 2^64 - 1, in a small middle, and near ends drawn before.
class draws {
 public:
  explicit draws(std::uint64_t seed) : engine_(seed) {}
  std::uint64_t below(std::uint64_t n) { return engine_() % n; }
  std::uint64_t address() {
    std::uint64_t a = 0;
    switch (below(5)) {
      case 0: a = below(64); break;
      case 1: a = top - below(64); break;
      case 2: a = engine_(); break;
      case 3: a = 1'000'000 + below(400); break;
      default: a = ends_[below(std::size(ends_))] + below(3) - 1; break;
    }
    return ends_[below(std::size(ends_))] = a;
  }
  iova_range any_range() {
    const std::uint64_t a = address();
    if (below(4) == 0) {
      const std::uint64_t length = below(20);
      return range(a, length > top - a ? top : a + length);
    }
    const std::uint64_t b = address();
    return range(std::min(a, b), std::max(a, b));
  }

 private:
  std::mt19937_64 engine_;
  std::uint64_t ends_[16] = {};
};

namespace icl = boost::icl;
using interval = icl::closed_interval<std::uint64_t>;
using depths = icl::interval_map<std::uint64_t, int, icl::partial_absorber, std::less,
                                 icl::inplace_plus, icl::inter_section, interval>;

int depth_at(const depths& d, std::uint64_t a) {
  const auto found = d.find(a);
  return found == d.end() ? 0 : found->second;
}

void model(std::uint64_t seed, int steps, std::size_t most) {
  CAPTURE(seed);
  draws draw(seed);
  std::deque<record> records(most);
  std::vector<record*> free;
  for (record& r : records) free.push_back(&r);
  tree subject;
  depths coverage;
  std::multimap<std::uint64_t, record*> ordered;  // ties stay in insertion order
  const auto erase = [&](std::multimap<std::uint64_t, record*>::iterator at) {
    record* const gone = at->second;
    ordered.erase(at);
    subject.erase(*gone);
    coverage -= std::make_pair(interval(gone->range.first.value, gone->range.last.value), 1);
    if (gone->is_linked()) FAIL("linked after erase");
    free.push_back(gone);
  };
  for (int step = 0; step < steps; ++step) {
    CAPTURE(step);
    // Waves of growth and shrinking, so that the tree is often empty and often full.
    const bool grows = draw.below(8) < ((step / 2048) % 2 == 0 ? 5u : 3u);
    if (grows && !free.empty()) {
      const std::size_t pick = draw.below(free.size());
      std::swap(free[pick], free.back());
      record* const added = free.back();
      free.pop_back();
      added->range = draw.any_range();
      if (!ordered.empty() && draw.below(8) == 0) {  // a tie, or the same range again
        const auto twin = std::next(ordered.begin(), static_cast<long>(draw.below(ordered.size())));
        added->range.first = twin->second->range.first;
        if (draw.below(2) == 0 || added->range.last < added->range.first) {
          added->range.last = twin->second->range.last;
        }
      }
      subject.insert(*added);
      if (!added->is_linked()) FAIL("not linked after insert");
      ordered.emplace(added->range.first.value, added);
      coverage += std::make_pair(interval(added->range.first.value, added->range.last.value), 1);
    } else if (!ordered.empty()) {
      erase(std::next(ordered.begin(), static_cast<long>(draw.below(ordered.size()))));
    }
    if (const std::string_view broken = subject.verify(); !broken.empty()) FAIL(broken);
    if (subject.empty() != ordered.empty()) FAIL("empty");

    // What overlaps a range, in order, against the list.
    const iova_range asked = draw.any_range();
    const record* at = subject.first_overlap(asked);
    const record* before = nullptr;
    record* exact = nullptr;
    for (const auto& [first, each] : ordered) {
      if (exact == nullptr && each->range == asked) exact = each;
      if (each->range.overlaps(asked)) {
        if (at != each) FAIL("first_overlap or next_overlap");
        at = subject.next_overlap(*at, asked);
      } else if (before != nullptr && draw.below(16) == 0) {
        // from a node that does not overlap itself
        const record* const later = subject.next_overlap(*each, asked);
        if (later != at) FAIL("next_overlap from outside");
      }
      before = each;
    }
    if (at != nullptr) FAIL("one overlap too many");
    if (subject.find_exact(asked) != exact) FAIL("find_exact misses");
    if (!ordered.empty()) {
      const iova_range held =
          std::next(ordered.begin(), static_cast<long>(draw.below(ordered.size())))->second->range;
      const auto same = std::find_if(ordered.begin(), ordered.end(),
                                     [&](const auto& e) { return e.second->range == held; });
      if (subject.find_exact(held) != same->second) FAIL("find_exact hits");
    }
    // How deep one address is covered, against ICL.
    const std::uint64_t stabbed = draw.address();
    int depth = 0;
    subject.for_each_overlap(range(stabbed, stabbed), [&](record&) { ++depth; });
    if (depth != depth_at(coverage, stabbed)) FAIL("depth at " << stabbed);
    if (step % 16 == 0) {
      std::size_t count = 0;
      auto expected = ordered.begin();
      for (const record* r : listed(subject)) {
        if (expected == ordered.end() || expected->second != r) FAIL("order");
        ++expected, ++count;
      }
      if (count != ordered.size()) FAIL("in-order walk ends early");
    }
  }
  while (!ordered.empty()) erase(ordered.begin());
  REQUIRE(subject.empty());
}

}  // namespace

TEST_CASE("interval_tree: model", "[interval_tree][model]") {
  model(1, 150'000, 24);
  model(2, 120'000, 60);
  model(3, 40'000, 250);
}

TEST_CASE("interval_tree: ties keep the order of insertion", "[interval_tree][regression]") {
  std::deque<record> records;
  tree t;
  for (int n = 0; n < 1000; ++n) {
    records.emplace_back(range(10, 10 + static_cast<std::uint64_t>(n * 37 % 11)), n);
    t.insert(records.back());
  }
  int expected = 0;
  for (const record* r : listed(t)) REQUIRE(r->number == expected++);
  REQUIRE(expected == 1000);
  REQUIRE(t.find_exact(range(10, 10))->number == 0);
  // One that leaves and comes back is the last of its kind.
  t.erase(records[0]);
  t.insert(records[0]);
  REQUIRE(t.find_exact(range(10, 10))->number == 11);
  REQUIRE(listed(t).back()->number == 0);
  REQUIRE(t.verify() == "");
  t.clear();
  REQUIRE(t.empty());
  for (const record& r : records) REQUIRE(!r.is_linked());
}

TEST_CASE("interval_tree: the whole space and its ends", "[interval_tree][regression]") {
  record all(iova_range::whole(), 0), low(range(0, 0), 1), high(range(top, top), 2);
  tree t;
  REQUIRE(t.first() == nullptr);
  REQUIRE(t.first_overlap(iova_range::whole()) == nullptr);
  REQUIRE(t.find_exact(range(0, 0)) == nullptr);
  t.insert(high);
  t.insert(all);
  t.insert(low);
  REQUIRE(t.first() == &all);
  REQUIRE(t.next(all) == &low);
  REQUIRE(t.next(low) == &high);
  REQUIRE(t.next(high) == nullptr);
  REQUIRE(t.find_exact(iova_range::whole()) == &all);
  REQUIRE(t.next_overlap(all, range(top, top)) == &high);
  REQUIRE(t.next_overlap(all, range(5, top - 1)) == nullptr);
  t.erase(all);
  REQUIRE(t.first_overlap(range(1, top - 1)) == nullptr);
  REQUIRE(t.first_overlap(range(1, top)) == &high);
  t.clear();
}

TEST_CASE("interval_tree: for_each_overlap lets f erase its node", "[interval_tree]") {
  std::deque<record> records;
  tree t;
  for (int n = 0; n < 300; ++n) {
    const auto first = static_cast<std::uint64_t>(n * 7 % 300);
    records.emplace_back(range(first, first + 20), n);
    t.insert(records.back());
  }
  int erased = 0;
  t.for_each_overlap(range(100, 200), [&](record& r) { t.erase(r), ++erased; });
  REQUIRE(erased == 121);
  REQUIRE(t.first_overlap(range(100, 200)) == nullptr);
  REQUIRE(t.verify() == "");
  t.clear();
}

TEST_CASE("interval_tree: moving takes the nodes along", "[interval_tree]") {
  record a(range(1, 2), 0), b(range(2, 3), 1);
  tree t;
  t.insert(a);
  t.insert(b);
  tree u = std::move(t);
  REQUIRE(t.empty());
  REQUIRE(u.next(a) == &b);
  t = std::move(u);
  REQUIRE(u.empty());
  REQUIRE(t.verify() == "");
  t.erase(a);
  t.erase(b);
  static_assert(!std::is_copy_constructible_v<tree> && !std::is_copy_assignable_v<tree>);
  static_assert(std::is_nothrow_move_constructible_v<tree> && sizeof(tree) == sizeof(void*));
  static_assert(sizeof(interval_node<iova>) == 48);
}

TEST_CASE("interval_tree: verify names what is broken", "[interval_tree]") {
  std::deque<record> records;
  tree t;
  for (int n = 0; n < 100; ++n) {
    records.emplace_back(
        range(static_cast<std::uint64_t>(n) * 10, static_cast<std::uint64_t>(n) * 10 + 5), n);
    t.insert(records.back());
  }
  REQUIRE(t.verify() == "");
  const auto broken = [&](record& r, iova_range as) {
    const iova_range was = std::exchange(r.range, as);
    const std::string_view found = t.verify();
    r.range = was;
    return found;
  };
  REQUIRE(broken(records[50], range(500, 499)) == "range");
  REQUIRE(broken(records[50], range(489, 505)) == "order");
  REQUIRE(broken(records[50], range(500, 2000)) == "subtree_last");
  records[50].subtree_last += 1;
  REQUIRE(t.verify() == "subtree_last");
  records[50].subtree_last -= 1;
  REQUIRE(t.verify() == "");
  t.clear();
}

namespace {
// A record in two trees, one of which is named before the record is complete.
struct shelf;
struct shelved;
struct shelf {
  interval_tree<shelved, page_index> by_page;
};
struct shelved : interval_node<page_index>, interval_node<iova> {
  int filler = 7;
};
}  // namespace

TEST_CASE("interval_tree: a record in two trees, named before it is complete", "[interval_tree]") {
  shelf s;
  interval_tree<shelved, iova> by_iova;
  shelved one;
  static_cast<interval_node<page_index>&>(one).range = {{3}, {4}};
  static_cast<interval_node<iova>&>(one).range = range(4096, 8191);
  s.by_page.insert(one);
  by_iova.insert(one);
  REQUIRE(s.by_page.first_overlap({{4}, {9}}) == &one);
  REQUIRE(by_iova.first_overlap(range(8191, 8191))->filler == 7);
  auto walk = by_iova.spans(range(0, 9000));
  walk.next();
  REQUIRE(walk.range() == range(4096, 8191));
  s.by_page.erase(one);
  by_iova.erase(one);
}

TEST_CASE("interval_tree: cost", "[interval_tree][cost]") {
  for (std::size_t n = 1; n <= 65536; n *= 4) {
    for (const int shape : {0, 1, 2}) {  // ascending, descending, random
      CAPTURE(n, shape);
      std::mt19937_64 engine(n + static_cast<std::size_t>(shape));
      std::vector<std::unique_ptr<record>> records;
      for (std::size_t i = 0; i < n; ++i) {
        const std::uint64_t place = shape == 0 ? i : shape == 1 ? n - i : engine() % (4 * n);
        const std::uint64_t long_one = i % 64 == 0 ? 5000 : 0;
        records.push_back(
            std::make_unique<record>(range(place * 10, place * 10 + 5 + long_one), 0));
      }
      const std::uint64_t lg = std::bit_width(n);
      const std::uint64_t height = 2 * lg + 1;
      counted_tree t;
      std::uint64_t worst = 0;
      std::uint64_t sum = 0;
      const auto cost = [&](auto&& operation) {
        counted::steps = 0;
        operation();
        worst = std::max(worst, counted::steps);
        sum += counted::steps;
      };
      const auto settle = [&](std::uint64_t most) {
        if (worst > most) FAIL(worst << " steps, at most " << most << " expected");
        const std::uint64_t total = sum;
        worst = sum = 0;
        return total;
      };
      for (const auto& r : records) cost([&] { t.insert(*r); });
      settle(2 * height + 4);
      REQUIRE(t.verify() == "");
      for (int i = 0; i < 2000; ++i) {
        const std::uint64_t at = engine() % (50 * n);
        cost([&] { (void)t.first_overlap(range(at, at)); });
      }
      settle(height);
      for (int i = 0; i < 300; ++i) {
        const std::uint64_t at = engine() % (50 * n);
        std::uint64_t results = 0;
        counted::steps = 0;
        t.for_each_overlap(range(at, at + 100), [&](record&) { ++results; });
        if (counted::steps > (results + 1) * 2 * height) FAIL("overlaps: " << counted::steps);
        if (counted::steps > 4 * n + height) FAIL("overlaps beyond n: " << counted::steps);
      }
      record* at = nullptr;
      for (cost([&] { at = t.first(); }); at != nullptr; cost([&] { at = t.next(*at); })) continue;
      REQUIRE(settle(height) <= 2 * n + height);  // amortised O(1)
      for (int i = 0; i < 500; ++i) {
        const iova_range held = records[engine() % n]->range;
        cost([&] { (void)t.find_exact(held); });
      }
      settle(shape == 2 ? 16 * height : 3 * height);
      std::shuffle(records.begin(), records.end(), engine);
      for (const auto& r : records) cost([&] { t.erase(*r); });
      const std::uint64_t erased = settle(4 * height + 8);
      CAPTURE(erased);
      REQUIRE(erased <= n * (2 * lg + 12));
      REQUIRE(t.empty());
    }
  }
}
