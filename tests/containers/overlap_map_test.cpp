// tests/containers/overlap_map_test.cpp - overlap_map against Boost.ICL and an ordered list.
#include "iopt/containers/overlap_map.hpp"

#include <algorithm>
#include <bit>
#include <boost/icl/closed_interval.hpp>
#include <boost/icl/interval_map.hpp>
#include <cstdint>
#include <map>
#include <memory>
#include <random>
#include <string_view>
#include <utility>
#include <vector>

#include "tests/catch.hpp"
#include "tests/counted_memory.hpp"

namespace {

using iopt::iova;
using iopt::iova_range;
using iopt::top;

using iopt::test::counting_memory;
using iopt::test::counting_probe;
using iopt::test::ledger;
using map = iopt::overlap_map<iova, std::uint64_t, counting_memory, counting_probe>;
using plain_map = iopt::overlap_map<iova, std::uint64_t>;
using pairs = std::vector<std::pair<iova_range, std::uint64_t>>;

iova_range range(std::uint64_t first, std::uint64_t last) { return {{first}, {last}}; }

using interval = boost::icl::closed_interval<std::uint64_t>;
using depths =
    boost::icl::interval_map<std::uint64_t, int, boost::icl::partial_absorber, std::less,
                             boost::icl::inplace_plus, boost::icl::inter_section, interval>;

/// A random walk over the map, a list in order (ties in insertion order), and how deep each address
/// is covered.
class walk {
 public:
  walk(std::uint64_t seed, std::size_t most, std::uint64_t spread)
      : random_(seed), seed_(seed), most_(most), spread_(spread) {}

  void run(int steps) {
    for (step_ = 0; step_ < steps; ++step_) {
      if (model_.size() >= most_) filling_ = false;
      if (model_.empty()) filling_ = true;
      (random_() % 4 == 0) == filling_ ? erase() : insert();
      if (const auto wrong = subject_.verify(); !wrong.empty()) check(false, wrong);
      look();
      if (step_ % 64 == 0) compare();
      if (random_() % 4096 == 0) {
        map taken(std::move(subject_));
        check(subject_.empty() && subject_.verify().empty(), "moved from");
        subject_ = std::move(taken);
      }
    }
    compare();
    subject_.clear();
    check(subject_.empty() && !subject_.begin() && subject_.verify().empty(), "clear");
    subject_.trim();
    check(book_.blocks == 0, "blocks");
  }

 private:
  using list = std::multimap<std::uint64_t, std::pair<std::uint64_t, std::uint64_t>>;

  void check(bool holds, std::string_view what) {
    if (!holds) FAIL("seed " << seed_ << ", step " << step_ << ": " << what);
  }
  std::uint64_t draw() {
    std::uint64_t a = 0;
    switch (random_() % 9) {
      case 0: a = random_() % 64; break;
      case 1: a = top - random_() % 64; break;
      case 2:
      case 3: a = ends_[random_() % std::size(ends_)] + random_() % 3 - 1; break;
      case 4: a = random_(); break;
      case 5: a = ((1 + random_() % 4) << 32) + random_() % 64 - 32; break;  // a window's edge
      default: a = random_() % spread_; break;
    }
    return ends_[random_() % std::size(ends_)] = a;
  }
  iova_range draw_range() {
    const std::uint64_t a = draw();
    const std::uint64_t b = random_() % 4 == 0 ? draw() : a + std::min(top - a, random_() % 40);
    if (random_() % 256 == 0) return iova_range::whole();
    return range(std::min(a, b), std::max(a, b));
  }
  void insert() {
    iova_range r = draw_range();
    if (!model_.empty() && random_() % 4 == 0) {  // a tie, which may be the same range
      const auto at = some();
      r.first.value = at->first;
      r.last.value = std::max(at->first, random_() % 2 ? at->second.first : r.last.value);
    }
    const auto got = subject_.insert_at(r, ++value_);
    check(got && got->range() == r && got->value() == value_, "insert");
    model_.emplace(r.first.value, std::pair{r.last.value, value_});
    coverage_ += std::pair{interval(r.first.value, r.last.value), 1};
  }
  list::iterator some() {
    auto at = model_.lower_bound(draw());
    if (at == model_.end()) at = model_.begin();
    for (auto n = random_() % 8; n != 0 && std::next(at) != model_.end(); --n) ++at;
    return at;
  }
  void erase() {
    if (model_.empty()) return;
    const auto at = some();
    const iova_range r = range(at->first, at->second.first);
    check(!subject_.erase(r, top), "erase of a value that is not there");
    if (random_() % 2) {
      check(subject_.erase(r, at->second.second), "erase");
    } else {
      auto c = subject_.lower_bound(r.first);
      while (c && c.value() != at->second.second) c.next();
      check(c && c.range() == r, "entry missing");
      check(subject_.erase(c) == at->second.second, "erased value");
      const auto next = std::next(at);
      check(next == model_.end() ? !c : c && c.value() == next->second.second, "erase moves on");
    }
    coverage_ -= std::pair{interval(r.first.value, r.last.value), 1};
    model_.erase(at);
  }
  void look() {
    const iova_range asked = draw_range();
    pairs expected, got;
    for (const auto& [first, rest] : model_)
      if (asked.overlaps(range(first, rest.first)))
        expected.emplace_back(range(first, rest.first), rest.second);
    const std::size_t stop = random_() % 4 ? ~std::size_t{0} : 1 + random_() % 4;
    std::vector<std::uint64_t> copied(random_() % 2 ? random_() % 200 : expected.size() + 64);
    const std::size_t copies = subject_.copy_overlaps(asked, copied);
    check(copies == expected.size(), "copy_overlaps");
    for (std::size_t n = 0; n < std::min(copies, copied.size()); ++n)
      check(copied[n] == expected[n].second, "copied value");
    if (expected.size() > stop) expected.resize(stop);
    subject_.for_each_overlap(asked, [&](iova_range r, std::uint64_t v) {
      got.emplace_back(r, v);
      return got.size() < stop;
    });
    check(got == expected, "for_each_overlap");

    const std::uint64_t stabbed = draw();
    int depth = 0;
    subject_.for_each_overlap(range(stabbed, stabbed), [&](auto, auto) { ++depth; });
    const auto covered = coverage_.find(stabbed);
    check(depth == (covered == coverage_.end() ? 0 : covered->second), "depth");

    // Spans alternate, are the window, and are used exactly where the depth is not 0.
    std::uint64_t at = asked.first.value;
    bool before = false, begun = false;
    subject_.for_each_span(asked, [&](iova_range r, bool used) {
      check(r.first.value == at && r.first <= r.last && r.last <= asked.last, "span");
      check(!begun || before != used, "spans alternate");
      if (used) {
        std::uint64_t from = r.first.value;
        for (auto i = coverage_.find(from);; ++i) {
          check(i != coverage_.end() && i->first.lower() <= from, "a used span has a hole");
          if (i->first.upper() >= r.last.value) break;
          from = i->first.upper() + 1;
        }
      } else {
        check(coverage_.find(interval(r.first.value, r.last.value)) == coverage_.end(), "unused");
      }
      at = r.last.value + 1, before = used, begun = true;
    });
    check(at == asked.last.value + 1, "the last span ends with the window");
  }
  void compare() {
    check(subject_.size() == model_.size() && subject_.empty() == model_.empty(), "size");
    auto c = subject_.begin();
    for (auto& [first, rest] : model_) {
      check(c && c.range() == range(first, rest.first) && c.value() == rest.second, "order");
      if (random_() % 8 == 0) check((coverage_.find(first) != coverage_.end()), "coverage");
      c.next();
    }
    check(!c, "an entry too many");
    c = subject_.last();
    for (auto at = model_.rbegin(); at != model_.rend(); ++at, c.prev())
      check(c && c.value() == at->second.second, "backwards");
    const std::uint64_t a = draw();
    const auto lower = model_.lower_bound(a);
    c = subject_.lower_bound({a});
    check(lower == model_.end() ? !c : c && c.value() == lower->second.second, "lower_bound");
  }

  std::mt19937_64 random_;
  std::uint64_t seed_;
  std::size_t most_;
  std::uint64_t spread_;
  int step_ = 0;
  bool filling_ = true;
  std::uint64_t value_ = 0;
  std::uint64_t ends_[16] = {};
  ledger book_;
  map subject_{counting_memory{&book_}};
  list model_;
  depths coverage_;
};

}  // namespace

TEST_CASE("a random walk agrees with ICL and a list", "[overlap_map][model]") {
  walk(1, 20, 200).run(20000);
  walk(2, 150, 2000).run(10000);
  walk(3, 2500, 60000).run(12000);
  walk(4, 2500, std::uint64_t{1} << 36).run(8000);
}

TEST_CASE("any number of ties keep the order of insertion", "[overlap_map][regression]") {
  plain_map m;
  for (std::uint64_t n = 0; n < 3000; ++n) REQUIRE(m.insert(range(9, 9 + n * 37 % 11), n));
  REQUIRE(m.verify() == "");
  std::uint64_t expected = 0;
  for (auto c = m.begin(); c; c.next()) REQUIRE(c.value() == expected++);
  REQUIRE(expected == 3000);
  REQUIRE(m.erase(range(9, 9), 0));
  REQUIRE(m.insert(range(9, 9), 0));
  REQUIRE(m.last().value() == 0);
  for (std::uint64_t n = 0; n < 3000; ++n) REQUIRE(m.erase(range(9, 9 + n * 37 % 11), n));
  REQUIRE(m.empty());
}

TEST_CASE("an insertion without memory changes nothing", "[overlap_map][sweep]") {
  for (std::size_t allowed = 0; allowed < 120; ++allowed) {
    const unsigned shift = allowed % 2 == 0 ? 0 : 20;  // in a window, or over many
    ledger book{.refuse_from = allowed / 2};
    map m{counting_memory{&book}};
    std::mt19937_64 random(allowed);
    pairs before;
    for (std::uint64_t n = 0;; ++n) {
      const std::uint64_t first = random() % 100000 << shift;
      const iova_range r = range(first, first + (random() % 5000 << random() % (shift + 1)));
      if (!m.insert(r, n)) break;
      before.emplace_back(r, n);
    }
    REQUIRE(m.verify() == "");
    REQUIRE(m.size() == before.size());
    std::size_t found = 0;
    m.for_each_overlap(iova_range::whole(), [&](auto, auto) { ++found; });
    REQUIRE(found == before.size());
    book.refuse_from = 0;
    for (const auto& [r, v] : before) REQUIRE(m.erase(r, v));
    m.trim();
    REQUIRE(book.blocks == 0);
  }
}

TEST_CASE("what was reserved can be inserted, and erasing allocates nothing", "[overlap_map]") {
  ledger book;
  map m{counting_memory{&book}};
  std::mt19937_64 random(3);
  pairs in;
  for (int round = 0; round < 30; ++round) {
    REQUIRE(m.reserve(400));
    book.refuse_from = 0;
    for (int n = 0; n < 400; ++n) {
      const std::uint64_t first = round % 3 == 0   ? random() % 50
                                  : round % 3 == 1 ? random() % 1000000
                                                   : random() % 1000000 << 16;
      const std::uint64_t longest = random() % 8 == 0 ? std::uint64_t{1} << 34 : 500;
      in.emplace_back(range(first, first + random() % longest), random());
      REQUIRE(m.insert(in.back().first, in.back().second));
    }
    std::shuffle(in.begin(), in.end(), random);
    for (auto n = random() % in.size(); n != 0; --n, in.pop_back())
      REQUIRE(m.erase(in.back().first, in.back().second));
    book.refuse_from = ~std::size_t{0};
    REQUIRE(m.verify() == "");
  }
}

TEST_CASE("costs are as documented", "[overlap_map][cost]") {
  for (std::size_t n = 1; n <= 65536; n *= 4) {
    for (const int shape : {0, 1, 2}) {  // ascending, descending, random
      CAPTURE(n, shape);
      std::mt19937_64 random(n + static_cast<std::size_t>(shape));
      ledger book;
      map m{counting_memory{&book}};
      const std::size_t lg = std::bit_width(n), height = lg / 3 + 2;
      pairs in;
      const auto cost = [](auto&& operation) {
        counting_probe::visits = 0;
        operation();
        return counting_probe::visits;
      };
      for (std::size_t i = 0; i < n; ++i) {
        const std::uint64_t first = 10 * (shape == 0 ? i : shape == 1 ? n - i : random() % (4 * n));
        in.emplace_back(range(first, first + (i % 64 == 0 ? 5000 : 5)), i);
        std::size_t visits = cost([&] { REQUIRE(m.insert(in.back().first, i)); });
        if (visits > 4 * height) FAIL("insert " << visits);
      }
      REQUIRE(m.verify() == "");
      REQUIRE(m.node_bytes() / 832 <= n / 4 + 40);
      std::vector<std::uint64_t> room(n);
      for (int i = 0; i < 300; ++i) {
        const std::uint64_t at = random() % (50 * n);
        std::size_t found = 0;
        std::size_t visits = cost([&] { found = m.copy_overlaps(range(at, at + 100), room); });
        if (visits > (found + 1) * 2 * height + 2 || visits > 2 * (n / 4 + 40))
          FAIL("query " << visits);
        visits = cost([&] { m.for_each_span(range(at, at + 100), [](auto, bool) {}); });
        if (visits > height + found + 2) FAIL("span " << visits);
      }
      std::shuffle(in.begin(), in.end(), random);
      for (const auto& [r, v] : in) {
        std::size_t visits = cost([&] { REQUIRE(m.erase(r, v)); });
        if (visits > 6 * height) FAIL("erase " << visits);
      }
      REQUIRE(m.empty());
    }
  }
}
