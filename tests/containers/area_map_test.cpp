// tests/containers/area_map_test.cpp - area_map against Boost.ICL, its memory and its cost.
#include "iopt/containers/area_map.hpp"

#include <algorithm>
#include <bit>
#include <boost/icl/closed_interval.hpp>
#include <boost/icl/interval_map.hpp>
#include <cstdint>
#include <memory>
#include <optional>
#include <random>
#include <utility>
#include <vector>

#include "iopt/base/address.hpp"
#include "iopt/base/range.hpp"
#include "tests/catch.hpp"
#include "tests/counted_memory.hpp"

namespace {

using iopt::iova;
using iopt::iova_range;
using iopt::top;
using random_bits = std::mt19937_64;

// ---- memory that refuses, and a probe --------------------------------------------------------

using iopt::test::counting_memory;
using iopt::test::counting_probe;
using iopt::test::ledger;

using map = iopt::area_map<iova, std::uint64_t, counting_memory, counting_probe>;

std::vector<std::pair<iova_range, std::uint64_t>> snapshot(const map& m) {
  std::vector<std::pair<iova_range, std::uint64_t>> all;
  for (auto c = m.begin(); c; c.next()) all.emplace_back(c.range(), c.value());
  return all;
}

// ---- the oracle ------------------------------------------------------------------------------

using interval = boost::icl::closed_interval<std::uint64_t>;
using oracle =
    boost::icl::interval_map<std::uint64_t, std::uint64_t, boost::icl::partial_enricher, std::less,
                             boost::icl::inplace_plus, boost::icl::inter_section, interval>;

interval to_icl(iova_range r) { return interval(r.first.value, r.last.value); }
iova_range from_icl(const interval& i) { return {{i.lower()}, {i.upper()}}; }

/// The holes of the oracle, clipped to a window.
std::vector<iova_range> holes(const oracle& o, iova_range window) {
  std::vector<iova_range> all;
  std::uint64_t from = 0;
  bool room = true;
  const auto add = [&](std::uint64_t first, std::uint64_t last) {
    if (const auto part = iova_range{{first}, {last}}.intersection(window)) all.push_back(*part);
  };
  for (const auto& [i, value] : o) {
    if (i.lower() > from) add(from, i.lower() - 1);
    from = i.upper() + 1;
    room = i.upper() != top;
  }
  if (room) add(from, top);
  return all;
}

/// One long random walk over both. Small spans of addresses make full ranges and short holes.
class walk {
 public:
  walk(std::uint64_t seed, std::size_t most_entries, std::uint64_t spread)
      : random_(seed), seed_(seed), most_(most_entries), spread_(spread) {}
  ~walk() { subject_.reset(); }

  void run(int steps, int verify_every) {
    for (int n = 0; n < steps; ++n) {
      step_ = n;
      step();
      if (n % verify_every == 0) verify();
    }
    verify();
    compare();
    subject_->clear();
    check(subject_->empty() && subject_->begin() == map::cursor() && subject_->verify().empty());
    subject_.reset();
    check(book_.blocks == 0);
  }

 private:
  void check(bool holds, const char* what = "") {
    if (!holds) FAIL("seed " << seed_ << ", step " << step_ << " " << what);
  }
  void verify() {
    const auto text = subject_->verify();
    if (!text.empty()) FAIL("seed " << seed_ << ", step " << step_ << ": " << text);
  }

  std::uint64_t draw() {
    std::uint64_t a = 0;
    switch (random_() % 8) {
      case 0: a = random_() % 64; break;
      case 1: a = top - random_() % 64; break;
      case 2:
      case 3:
      case 4: a = ends_[random_() % ends_.size()] + random_() % 3 - 1; break;
      case 5: a = random_(); break;
      default: a = random_() % spread_; break;
    }
    ends_[random_() % ends_.size()] = a;
    return a;
  }
  iova_range draw_range() {
    std::uint64_t a = draw();
    std::uint64_t b = random_() % 4 ? a + random_() % 16 : draw();
    if (random_() % 512 == 0) a = 0, b = top;
    return {{std::min(a, b)}, {std::max(a, b)}};
  }
  /// An entry near a random address, or none.
  oracle::iterator entry() {
    auto at = model_.lower_bound(interval(draw()));
    return at == model_.end() ? model_.begin() : at;
  }
  map::cursor cursor_of(const interval& i) {
    const auto c = subject_->find({i.lower()});
    check(c && c.range() == from_icl(i), "entry missing");
    return c;
  }

  void step() {
    switch (random_() % 24) {
      case 0: return split();
      case 1: return narrow();
      case 2: return widen();
      case 3: return lookups();
      case 4: return batch();
      case 5: return lowest_hole();
      case 6: return spans();
      case 7: return neighbours();
      case 8:
        if (random_() % 500 == 0) move();
        return;
      case 9:
        if (random_() % 2000 == 0) return subject_->clear(), model_.clear();
        if (random_() % 64 == 0) compare();
        return;
      case 10:
      case 11: return modify_value();
      case 12: return carve();
      default: break;
    }
    // The tide turns: the walk fills the map, then empties it.
    if (model_.iterative_size() >= most_) filling_ = false;
    if (model_.iterative_size() == 0) filling_ = true;
    const bool insert = filling_ ? random_() % 4 != 0 : random_() % 4 == 0;
    insert ? this->insert() : erase();
  }

  void insert() {
    const iova_range r = draw_range();
    const auto hit = model_.find(to_icl(r));
    if (random_() % 2) subject_->approach(r.first);
    const auto got = subject_->insert_at(r, ++value_);
    if (hit != model_.end()) {
      check(!got && got.error() == iopt::errc::file_exists &&
                got.error().place == iopt::error_place::area &&
                got.error().at == hit->first.lower(),
            "insert over an entry");
      return;
    }
    check(got && got->range() == r && got->value() == value_, "insert");
    check(subject_->seek(r.first) == *got, "what was approached is looked for anew");
    model_.set({to_icl(r), value_});
  }

  void erase() {
    if (random_() % 8 == 0) {
      const iova_range r = draw_range();
      const auto at = model_.find(to_icl(r));
      const bool exact = at != model_.end() && from_icl(at->first) == r;
      const auto got = subject_->erase(r);
      check(got.has_value() == exact, "erase of a range");
      if (exact) check(*got == at->second), model_.erase(to_icl(r));
      return;
    }
    const auto at = entry();
    if (at == model_.end()) return;
    if (random_() % 2) {
      const iova_range r = from_icl(at->first);
      if (random_() % 2) check(subject_->seek(r.first) == subject_->find(r.first), "seek");
      check(subject_->erase(r) == at->second, "erase");
      check(!subject_->seek(r.first), "what was sought is looked for anew");
      model_.erase(at);
      return;
    }
    auto c = cursor_of(at->first);
    check(subject_->erase(c) == at->second, "erase by cursor");
    const auto next = std::next(at);
    model_.erase(at);
    check(c.valid() == (next != model_.end()), "the cursor after erase");
    if (c) check(c.range() == from_icl(next->first) && c.value() == next->second, "moved on");
  }

  void split() {
    const auto at = entry();
    if (at == model_.end()) return;
    const iova_range r = from_icl(at->first);
    if (r.first == r.last) return;
    const std::uint64_t length = r.last.value - r.first.value;
    const iova left_last{r.first.value +
                         (random_() % 2 ? random_() % length : random_() % 2 * (length - 1))};
    check(subject_->split(cursor_of(at->first), left_last, ++value_).has_value(), "split");
    model_.set({interval(left_last.value + 1, r.last.value), value_});
  }

  void carve() {
    const auto at = entry();
    if (at == model_.end()) return;
    const iova_range all = from_icl(at->first), part = within(all);
    const std::uint64_t inner = ++value_, right = ++value_;
    if (random_() % 2) subject_->seek(part.first);
    check(subject_->carve(part, inner, right).has_value(), "carve");
    check(subject_->find(part.first).range() == part, "carved");
    model_.set({to_icl(part), inner});
    if (part.last < all.last) model_.set({interval(part.last.value + 1, all.last.value), right});
  }

  iova_range within(iova_range r) {
    const std::uint64_t length = r.last.value - r.first.value;
    const auto some = [&](std::uint64_t most) {
      return most == top ? random_() : random_() % 2 ? 0 : random_() % (most + 1);
    };
    const std::uint64_t front = some(length);
    return {{r.first.value + front}, {r.last.value - some(length - front)}};
  }
  void narrow() {
    const auto at = entry();
    if (at == model_.end()) return;
    const iova_range r = within(from_icl(at->first));
    const std::uint64_t value = at->second;
    if (random_() % 2) subject_->seek(r.first);
    const auto c = cursor_of(at->first);
    subject_->narrow(c, r);
    if (r.last.value != top) check(subject_->seek(r.first) == c, "sought after narrow");
    check(c.range() == r && c.value() == value, "narrow");
    model_.erase(at);
    model_.set({to_icl(r), value});
  }
  void widen() {
    const auto at = entry();
    if (at == model_.end()) return;
    const iova_range old = from_icl(at->first);
    iova_range r = old;
    if (random_() % 2) r.first.value -= std::min(r.first.value, random_() % 40);
    if (random_() % 2) r.last.value += std::min(top - r.last.value, random_() % 40);
    if (random_() % 4 == 0) {  // up to the neighbours, and sometimes one further
      const auto free = holes(model_, iova_range::whole());
      for (const iova_range& hole : free) {
        if (hole.last.value + 1 == old.first.value && hole.last.value != top)
          r.first.value = hole.first.value - (hole.first.value && random_() % 4 == 0 ? 1 : 0);
        if (old.last.value != top && hole.first.value == old.last.value + 1)
          r.last.value = hole.last.value + (hole.last.value != top && random_() % 4 == 0 ? 1 : 0);
      }
    }
    const std::uint64_t value = at->second;
    const auto next = std::next(at);
    const bool before = at != model_.begin() && std::prev(at)->first.upper() >= r.first.value;
    const bool fits = !before && (next == model_.end() || next->first.lower() > r.last.value);
    const auto c = subject_->widen(cursor_of(at->first), r);
    check(c.has_value() == fits, "widen");
    if (c) check(c->range() == r && c->value() == value, "the cursor after widen");
    if (!c) check(c.error() == iopt::errc::file_exists && cursor_of(at->first).value() == value);
    if (fits) model_.erase(at), model_.set({to_icl(r), value});
  }
  void modify_value() {
    const auto at = entry();
    if (at == model_.end()) return;
    cursor_of(at->first).set_value(++value_);
    at->second = value_;
  }

  void same(map::cursor c, oracle::const_iterator at, const char* what) {
    check(c.valid() == (at != model_.end()), what);
    if (c) check(c.range() == from_icl(at->first) && c.value() == at->second, what);
  }
  void lookups() {
    const iova_range r = draw_range();
    const std::uint64_t a = draw();
    same(subject_->find({a}), model_.find(a), "find");
    same(subject_->first_overlap(r), model_.find(to_icl(r)), "first_overlap");
    const auto at = model_.lower_bound(interval(a));
    same(subject_->lower_bound({a}), at, "lower_bound");
    same(subject_->begin(), model_.begin(), "begin");
    same(subject_->last(), model_.begin() == model_.end() ? model_.end() : std::prev(model_.end()),
         "last");
  }
  void batch() {
    std::vector<iova> keys(random_() % 40);
    for (iova& key : keys) key = {draw()};
    std::vector<std::uint64_t> values(keys.size(), 1);
    const std::size_t found = subject_->find_batch(keys, values, ~std::uint64_t{0});
    std::size_t expected = 0;
    for (std::size_t n = 0; n < keys.size(); ++n) {
      const auto c = subject_->find(keys[n]);
      check(values[n] == (c ? c.value() : ~std::uint64_t{0}), "find_batch");
      expected += c ? 1u : 0u;
    }
    check(found == expected, "find_batch's count");
  }
  void lowest_hole() {
    const iova_range window = random_() % 2 ? iova_range::whole() : iova_range{draw_range()};
    const std::uint64_t length = 1 + (random_() % 4 ? random_() % 32 : random_());
    if (length == 0) return;
    const auto free = holes(model_, window);
    std::vector<iova_range> wanted, offered;
    for (const iova_range& hole : free)
      if (hole.length_minus_one() >= length - 1) wanted.push_back(hole);
    const std::size_t stop = random_() % 2 ? 0 : random_() % 8;
    const auto got = subject_->lowest_hole(window, length, [&](iova_range hole) {
      offered.push_back(hole);
      return offered.size() > stop ? std::optional<iova>(hole.first) : std::nullopt;
    });
    if (wanted.size() > stop + 1) wanted.resize(stop + 1);
    check(offered == wanted, "the holes that are offered");
    check(got.has_value() == (wanted.size() > stop), "the answer");

    // The request form, aligned and with ranges excluded, against a search without cleverness.
    std::vector<iova_range> excluded;
    for (std::uint64_t at = draw(); excluded.size() < random_() % 4;) {
      const std::uint64_t last = std::max(at, at + random_() % 32);
      excluded.push_back({{at}, {last}});
      const std::uint64_t gap = 1 + random_() % 64;
      if (last > top - gap) break;
      at = last + gap;
    }
    const iopt::hole_request<iova> request{length, std::uint64_t{1} << random_() % 8, window,
                                           excluded};
    std::optional<iova> expected;
    for (const iova_range& hole : holes(model_, window)) {
      // The candidates: the hole's start, and one behind each excluded range.
      std::vector<std::uint64_t> from{hole.first.value};
      for (const iova_range& e : excluded)
        if (e.last.value != top) from.push_back(e.last.value + 1);
      for (std::uint64_t a : from) {
        if (a < hole.first.value) continue;
        const auto first = iopt::align_up(a, request.alignment);
        if (!first || *first > hole.last.value || hole.last.value - *first < length - 1) continue;
        const iova_range r = iova_range::sized({*first}, length);
        if (std::any_of(excluded.begin(), excluded.end(), [&](auto e) { return e.overlaps(r); }))
          continue;
        if (!expected || *first < expected->value) expected = iova{*first};
      }
    }
    check(subject_->lowest_hole(request) == expected, "lowest_hole(hole_request)");
  }
  void spans() {
    const iova_range window = draw_range();
    std::vector<std::pair<iova_range, std::uint64_t>> expected, got;
    for (const iova_range& hole : holes(model_, window)) expected.emplace_back(hole, 0);
    for (auto at = model_.find(to_icl(window));
         at != model_.end() && at->first.lower() <= window.last.value; ++at)
      expected.emplace_back(*from_icl(at->first).intersection(window), at->second);
    std::sort(expected.begin(), expected.end(),
              [](const auto& a, const auto& b) { return a.first.first < b.first.first; });
    const std::size_t stop = random_() % 2 ? expected.size() : 1 + random_() % 4;
    if (expected.size() > stop) expected.resize(stop);
    subject_->for_each_span(window, [&](iova_range r, map::cursor c) {
      got.emplace_back(r, c ? c.value() : 0);
      return got.size() < stop;
    });
    check(got == expected, "for_each_span");
    used_spans(window);
    overlaps(window);
  }
  void overlaps(iova_range window) {
    std::vector<std::pair<iova_range, std::uint64_t>> expected, got;
    for (auto at = model_.find(to_icl(window));
         at != model_.end() && at->first.lower() <= window.last.value; ++at)
      expected.emplace_back(from_icl(at->first), at->second);
    const std::size_t stop = random_() % 2 ? ~std::size_t{0} : 1 + random_() % 4;
    if (expected.size() > stop) expected.resize(stop);
    subject_->for_each_overlap(window, [&](iova_range r, std::uint64_t value) {
      got.emplace_back(r, value);
      return got.size() < stop;
    });
    check(got == expected, "for_each_overlap");
  }
  void used_spans(iova_range window) {
    std::vector<iova_range> expected, got;
    for (auto at = model_.find(to_icl(window));
         at != model_.end() && at->first.lower() <= window.last.value; ++at) {
      const iova_range part = *from_icl(at->first).intersection(window);
      if (!expected.empty() && expected.back().last.value + 1 == part.first.value)
        expected.back().last = part.last;
      else
        expected.push_back(part);
    }
    const std::size_t stop = random_() % 2 ? ~std::size_t{0} : 1 + random_() % 4;
    if (expected.size() > stop) expected.resize(stop);
    subject_->for_each_used_span(window, [&](iova_range r) {
      got.push_back(r);
      return got.size() < stop;
    });
    check(got == expected, "for_each_used_span");
  }
  void neighbours() {
    const auto at = entry();
    if (at == model_.end()) return;
    auto c = cursor_of(at->first);
    same(c.next(), std::next(at), "next");
    c = cursor_of(at->first);
    same(c.prev(), at == model_.begin() ? model_.end() : std::prev(at), "prev");
  }
  void move() {
    map other(std::move(*subject_));
    check(subject_->empty() && subject_->size() == 0 && subject_->verify().empty(), "moved from");
    check(subject_->insert({{5}, {7}}, 1).has_value(), "use after move");
    check(other.verify().empty(), "moved to");
    *subject_ = std::move(other);
    check(other.empty() && !other.begin() && !other.last(), "moved from");
  }
  void compare() {
    check(subject_->size() == model_.iterative_size(), "size");
    auto c = subject_->begin();
    for (auto at = model_.begin(); at != model_.end(); ++at, c.next()) same(c, at, "iteration");
    check(!c, "iteration ends");
    c = subject_->last();
    for (auto at = model_.end(); at != model_.begin(); c.prev()) same(c, --at, "backwards");
    check(!c, "iteration backwards ends");
    const std::size_t nodes = subject_->node_bytes() / 832;
    check(nodes <= subject_->size() / 4 + 40, "nodes");
  }

  random_bits random_;
  std::uint64_t seed_;
  std::size_t most_;
  std::uint64_t spread_;
  int step_ = 0;
  ledger book_;
  std::unique_ptr<map> subject_ = std::make_unique<map>(counting_memory{&book_});
  oracle model_;
  std::vector<std::uint64_t> ends_ = std::vector<std::uint64_t>(64, 1000);
  std::uint64_t value_ = 0;
  bool filling_ = true;
};

iova_range nth(std::uint64_t n) { return {{n * 16}, {n * 16 + 7}}; }

/// 0 ... n - 1 in a random order.
std::vector<std::uint64_t> shuffled(std::uint64_t n, std::uint64_t seed) {
  std::vector<std::uint64_t> order(n);
  for (std::uint64_t i = 0; i < n; ++i) order[i] = i;
  std::shuffle(order.begin(), order.end(), random_bits(seed));
  return order;
}

}  // namespace

TEST_CASE("area_map is a map of disjoint ranges: small maps", "[area_map][model]") {
  for (std::uint64_t seed = 1; seed <= 10; ++seed) walk(seed, 4 + 10 * seed, 2000).run(15000, 1);
}
TEST_CASE("area_map is a map of disjoint ranges: some levels", "[area_map][model]") {
  for (std::uint64_t seed = 20; seed < 24; ++seed) walk(seed, 3000, 1 << 20).run(50000, 499);
  walk(30, 200, top).run(100000, 37);
}
TEST_CASE("area_map is a map of disjoint ranges: leaves of both forms", "[area_map][model]") {
  for (int spread = 30; spread < 44; ++spread)
    walk(static_cast<std::uint64_t>(spread), 2000, std::uint64_t{1} << spread).run(20000, 199);
}

TEST_CASE("the whole space is one entry or one hole", "[area_map]") {
  ledger book;
  map m{counting_memory{&book}};
  const auto take = [](iova_range hole) { return std::optional(hole.first); };
  CHECK(m.lowest_hole(iova_range::whole(), top, take) == iova{0});
  int spans = 0;
  m.for_each_span(iova_range::whole(), [&](iova_range r, map::cursor c) {
    spans += r == iova_range::whole() && !c ? 1 : 100;
  });
  CHECK(spans == 1);
  REQUIRE(m.insert(iova_range::whole(), 9).has_value());
  CHECK(m.verify().empty());
  CHECK(m.lowest_hole(iova_range::whole(), 1, take) == std::nullopt);
  CHECK(m.find({top}).value() == 9);
  CHECK(m.insert({{top}, {top}}, 1).error().at == 0);
  REQUIRE(m.split(m.find({0}), {top - 1}, 10).has_value());
  CHECK(m.find({top}).range() == iova_range{{top}, {top}});
  CHECK(m.find({top - 1}).value() == 9);
  CHECK(m.erase(iova_range{{0}, {top - 1}}) == 9);
  CHECK(m.lowest_hole(iova_range::whole(), top, take) == iova{0});
  CHECK(m.verify().empty());
  CHECK(m.erase(iova_range{{top}, {top}}) == 10);
  CHECK(m.empty());
}

TEST_CASE("where an address belonged is forgotten when the map is modified", "[area_map]") {
  ledger book;
  const auto filled = [&](std::uint64_t n) {
    map m{counting_memory{&book}};
    for (std::uint64_t i = 0; i < n; ++i)
      if (!m.insert(nth(i), i)) FAIL("insert " << i);
    return m;
  };
  const iova in_5{5 * 16 + 4};
  map m = filled(20);
  CHECK(m.seek(in_5).value() == 5);
  CHECK(m.find({6 * 16}).value() == 6);
  REQUIRE(m.insert({{9}, {9}}, 100).has_value());
  CHECK(m.seek(in_5).value() == 5);
  m.seek(in_5);
  CHECK(m.erase(nth(0)) == 0);
  CHECK(m.seek(in_5).value() == 5);
  m.seek(in_5);
  REQUIRE(m.split(m.find({16}), {17}, 100).has_value());
  CHECK(m.seek(in_5).value() == 5);
  m.seek(in_5);
  m.narrow(m.find({5 * 16}), {{5 * 16}, {5 * 16 + 3}});
  CHECK_FALSE(m.seek(in_5));
  m.seek(in_5);
  REQUIRE(m.widen(m.find({5 * 16}), nth(5)).has_value());
  CHECK(m.seek(in_5).value() == 5);

  // The other entries begin behind, so that it belongs nowhere there.
  const auto far = [&](map& to) { REQUIRE(to.insert(nth(99), 99).has_value()); };
  m.seek(in_5);
  m.clear(), far(m);
  CHECK_FALSE(m.seek(in_5));

  map from = filled(20);
  from.seek(in_5);
  map to = std::move(from);
  far(from);
  CHECK_FALSE(from.seek(in_5));
  to.seek(in_5);
  from = std::move(to);
  CHECK_FALSE(from.seek({99 * 16}));
  CHECK(from.seek(in_5) == from.find(in_5));
  far(to);
  CHECK_FALSE(to.seek(in_5));
  from = std::move(to);
  CHECK_FALSE(from.seek(in_5));

  // A full leaf is split when its half behind has been approached.
  map full = filled(1000);
  for (std::uint64_t i = 1000; i-- > 0;) {
    const iova_range r{{i * 16 + 9}, {i * 16 + 9}};
    full.approach(r.first);
    REQUIRE(full.insert(r, i).has_value());
    if (full.seek(r.first).range() != r) FAIL("insert " << i);
  }
  CHECK(full.verify().empty());
}

TEST_CASE("an entry is widened out of its leaf's window with memory, or stays as it was",
          "[area_map][sweep]") {
  constexpr std::uint64_t window = std::uint64_t{1} << 32;
  // The entry is the first or the last of a leaf, which has entries behind and before it.
  for (const std::uint64_t n : {1u, 32u, 33u, 40u, 48u, 2000u}) {
    for (const bool down : {false, true}) {
      for (std::size_t fault = 0;; ++fault) {
        ledger book;
        {
          map m{counting_memory{&book}};
          for (std::uint64_t i = 0; i < n; ++i) {
            const std::uint64_t first = down ? window + i * 16 : 2 * window - (n - i) * 16;
            if (!m.insert({{first}, {first + 7}}, i)) FAIL("insert " << i);
          }
          REQUIRE(m.insert({{4 * window}, {4 * window}}, n).has_value());
          const iova_range old = down ? iova_range{{window}, {window + 7}}
                                      : iova_range{{2 * window - 16}, {2 * window - 9}};
          const iova_range r = down ? iova_range{{window - 1}, {window + 8}}
                                    : iova_range{{2 * window - 16}, {2 * window}};
          const std::uint64_t value = m.find(old.first).value();
          const auto before = snapshot(m);
          book.refuse_from = book.calls + fault;
          const auto got = m.widen(m.find(old.first), r);
          REQUIRE(m.verify() == "");
          if (got) {
            CHECK(got->range() == r);
            CHECK(got->value() == value);
            CHECK(m.size() == n + 1);
            break;
          }
          CHECK(got.error() == iopt::errc::not_enough_memory);
          REQUIRE(snapshot(m) == before);
        }
        REQUIRE(book.blocks == 0);
      }
    }
  }
}

TEST_CASE("what is refused memory has changed nothing", "[area_map][sweep]") {
  // Full leaves and full inner nodes: ascending insertion makes both.
  for (const std::uint64_t n : {0u, 1u, 33u, 48u, 500u, 48u * 31, 48u * 32, 60000u}) {
    for (int what = 0; what < (n == 0 ? 2 : 6); ++what) {
      for (std::size_t fault = 0;; ++fault) {
        ledger book;
        {
          map m{counting_memory{&book}};
          for (std::uint64_t i = 0; i < n; ++i)
            if (!m.insert(nth(i), i)) FAIL("insert " << i);
          const auto before = snapshot(m);
          const std::size_t blocks = book.blocks;
          book.refuse_from = book.calls + fault;
          const std::uint64_t middle = n / 2;
          const iova far{std::uint64_t{1} << 40};  // no packed leaf holds this and another
          iopt::result<void> got;
          std::uint64_t more = 1;
          if (what == 0) got = m.insert({{n * 16 + 3}, {n * 16 + 4}}, 1);
          if (what == 1) got = m.insert({{middle * 16 + 8}, {middle * 16 + 9}}, 1);
          if (what == 2) got = m.split(m.find({middle * 16}), {middle * 16 + 2}, 1);
          if (what == 3) got = m.carve({{middle * 16 + 2}, {middle * 16 + 4}}, 1, 2), more = 2;
          if (what == 4) got = m.insert({far, far}, 1);
          if (what == 5) {
            const iova_range last = m.last().range();
            const auto wider = m.widen(m.last(), {last.first, far});
            if (wider) CHECK((*wider == m.last() && wider->range().last == far));
            if (!wider) got = iopt::fail(wider.error());
            more = 0;
          }
          REQUIRE(m.verify().empty());
          if (got) {
            CHECK(m.size() == n + more);
            break;
          }
          CHECK(got.error() == iopt::errc::not_enough_memory);
          CHECK(book.blocks == blocks);
          REQUIRE(snapshot(m) == before);
        }
        REQUIRE(book.blocks == 0);
      }
    }
  }
}

TEST_CASE("what reserve() promised needs no memory", "[area_map][sweep]") {
  for (const std::uint64_t n : {0u, 1u, 47u, 48u, 49u, 48u * 31, 48u * 32, 5000u, 60000u}) {
    for (const std::size_t inserts : {1u, 2u, 3u, 40u, 500u, 3000u}) {
      ledger book;
      {
        map m{counting_memory{&book}};
        for (std::uint64_t i = 0; i < n; ++i)
          if (!m.insert(nth(i), i)) FAIL("insert " << i);
        {  // refused: nothing taken
          const std::size_t blocks = book.blocks;
          book.refuse_from = book.calls + 1;
          const auto got = m.reserve(inserts);
          if (!got) CHECK(book.blocks == blocks);
          book.refuse_from = ~std::size_t{0};
        }
        REQUIRE(m.reserve(inserts).has_value());
        book.refuse_from = 0;
        random_bits random(n + inserts);
        std::size_t done = 0;
        // The worst for the nodes: each insertion into another full leaf.
        for (std::uint64_t i = 5; i < n && done < inserts / 2; i += 48, ++done) {
          if (done + 2 <= inserts && random() % 4 == 0) {
            if (!m.carve({{i * 16 + 2}, {i * 16 + 4}}, 1, 2)) FAIL("carve " << n << " " << inserts);
            ++done;
          } else if (random() % 2) {
            if (!m.insert({{i * 16 + 8}, {i * 16 + 8}}, 1)) FAIL("insert " << n << " " << inserts);
          } else if (!m.split(m.find({i * 16}), {i * 16 + 2}, 1)) {
            FAIL("split " << n << " " << inserts);
          }
          if (random() % 4 == 0) (void)m.erase(nth((i + 7) % (n + 1)));
        }
        for (std::uint64_t i = n; done < inserts; ++i, ++done) {
          iova_range r = nth(i);
          if (i % 3 == 0) r.first.value += i << 32, r.last.value += i << 32;  // a plain leaf
          if (!m.insert(r, i)) FAIL("append " << n << " " << inserts);
        }
        CHECK(m.verify().empty());
        m.trim();
        CHECK(m.kept_bytes() == 0);
      }
      REQUIRE(book.blocks == 0);
    }
  }
}

TEST_CASE("a carve that was reserved needs no memory, and is remembered", "[area_map][sweep]") {
  for (const std::uint64_t n : {1u, 46u, 47u, 48u, 48u * 31, 48u * 32, 5000u}) {
    const std::uint64_t first = n / 2 * 16;
    for (const iova_range part :
         {iova_range{{first}, {first + 7}}, iova_range{{first}, {first + 2}},
          iova_range{{first + 3}, {first + 7}}, iova_range{{first + 3}, {first + 4}}}) {
      for (std::size_t fault = 0;; ++fault) {
        ledger book;
        {
          map m{counting_memory{&book}};
          for (std::uint64_t i = 0; i < n; ++i)
            if (!m.insert(nth(i), i)) FAIL("insert " << i);
          const std::size_t blocks = book.blocks;
          book.refuse_from = book.calls + fault;
          const auto got = m.reserve_carve(part);
          if (got) {
            book.refuse_from = 0;
            REQUIRE(m.carve(part, n, n + 1).has_value());
            CHECK(m.seek(part.first) == m.find(part.first));
            CHECK(m.verify() == "");
            for (std::uint64_t a = first; a < first + 8; ++a) {
              const std::uint64_t value = a < part.first.value ? n / 2 : n + (a > part.last.value);
              if (m.find({a}).value() != value) FAIL("n " << n << " at " << a);
            }
            break;
          }
          CHECK(got.error() == iopt::errc::not_enough_memory);
          CHECK(book.blocks == blocks);
        }
        REQUIRE(book.blocks == 0);
      }
    }
  }
}

TEST_CASE("erasing allocates nothing, and a pair of insert and erase keeps its node",
          "[area_map][sweep]") {
  ledger book;
  map m{counting_memory{&book}};
  for (const std::uint64_t i : shuffled(20000, 7))
    if (!m.insert(nth(i), i)) FAIL("insert " << i);
  book.refuse_from = 0;
  for (const std::uint64_t i : shuffled(20000, 8))
    if (m.erase(nth(i)) != i) FAIL("erase " << i);
  CHECK(m.empty());
  CHECK(m.node_bytes() == 0);
  const std::size_t calls = book.calls;
  for (int n = 0; n < 100; ++n) {
    REQUIRE(m.insert(nth(1), 1).has_value());
    REQUIRE(m.erase(nth(1)) == 1);
  }
  CHECK(book.calls == calls);
  CHECK(book.blocks <= 4);
}

TEST_CASE("one descent inserts, erases and finds", "[area_map][cost]") {
  for (std::uint64_t n = 1; n <= 1 << 16; n *= 4) {
    for (int order = 0; order < 3; ++order) {
      ledger book;
      map m{counting_memory{&book}};
      std::vector<std::uint64_t> keys = shuffled(n, n);
      if (order == 1) std::sort(keys.begin(), keys.end());
      if (order == 2) std::sort(keys.begin(), keys.end(), std::greater<>());
      // Levels: nodes have 8 entries or more, but at the ends of the tree.
      const std::size_t levels = 2 + static_cast<std::size_t>(std::bit_width(n)) / 3;
      std::size_t total = 0, worst = 0;
      const auto count = [&](auto&& act) {
        counting_probe::visits = 0;
        act();
        total += counting_probe::visits;
        worst = std::max(worst, counting_probe::visits);
      };
      const auto report = [&](std::size_t average, std::size_t most) {
        if (total > average * levels * n || worst > most * levels)
          FAIL("n " << n << " order " << order << " total " << total << " worst " << worst);
        total = worst = 0;
      };
      for (const std::uint64_t k : keys) count([&] { (void)m.insert(nth(k), k); });
      report(2, 5);
      for (const std::uint64_t k : keys) count([&] { (void)m.find({k * 16}); });
      report(1, 1);
      for (const std::uint64_t k : keys) count([&] { (void)m.insert(nth(k), k); });
      report(1, 1);  // refused by the same descent
      for (const std::uint64_t k : keys) count([&] { (void)m.lower_bound({k * 16 + 9}); });
      report(1, 1);
      for (const std::uint64_t k : keys)
        count([&] { m.narrow(m.find({k * 16}), {{k * 16 + 1}, {k * 16 + 6}}); });
      report(4, 8);
      for (const std::uint64_t k : keys)
        count([&] { (void)m.erase(iova_range{{k * 16 + 1}, {k * 16 + 6}}); });
      report(3, 10);
      CHECK(m.empty());
    }
  }
}

TEST_CASE("what was approached or sought is not looked for again", "[area_map][cost]") {
  ledger book;
  map m{counting_memory{&book}};
  for (std::uint64_t i = 0; i < 5000; ++i)
    if (!m.insert(nth(i), i)) FAIL("insert " << i);
  for (std::uint64_t i = 0; i < 5000; i += 7) {
    m.approach({i * 16});
    counting_probe::visits = 0;
    CHECK(m.seek({i * 16}).value() == i);
    CHECK(counting_probe::visits == 1);
    CHECK(m.seek({i * 16}).value() == i);
    counting_probe::visits = 0;
    CHECK(m.seek({i * 16}).value() == i);
    CHECK(counting_probe::visits == 0);
  }
}

TEST_CASE("the lowest hole is found past any number of short ones", "[area_map][cost]") {
  for (std::uint64_t n = 16; n <= 1 << 16; n *= 4) {
    ledger book;
    map m{counting_memory{&book}};
    for (const std::uint64_t k : shuffled(n, n))
      if (!m.insert(nth(k), k)) FAIL("insert " << k);
    const std::size_t levels = 2 + static_cast<std::size_t>(std::bit_width(n)) / 3;
    const auto take = [](iova_range hole) { return std::optional(hole.first); };
    counting_probe::visits = 0;
    CHECK(m.lowest_hole(iova_range::whole(), 9, take) == iova{n * 16 - 8});
    CHECK(m.lowest_hole({{0}, {n * 16}}, 10, take) == std::nullopt);
    CHECK(counting_probe::visits <= 4 * levels);
    // Some holes are long enough: each costs a descent at most.
    std::size_t longer = 0;
    for (std::uint64_t k = 5; k < n; k += 97, ++longer) (void)m.erase(nth(k));
    counting_probe::visits = 0;
    std::size_t refused = 0;
    CHECK(m.lowest_hole({{0}, {n * 16 - 9}}, 9, [&](iova_range) {
      return ++refused, std::optional<iova>();
    }) == std::nullopt);
    CHECK(refused == longer);
    CHECK(counting_probe::visits <= (refused + 2) * 2 * levels);
  }
}

TEST_CASE("values are small and trivially copyable, keys of any kind", "[area_map]") {
  iopt::area_map<iopt::page_index, const char*> pointers;
  const char* text = "text";
  REQUIRE(pointers.insert({{3}, {5}}, text).has_value());
  CHECK(pointers.find({4}).value() == text);
  iopt::area_map<iopt::physical, std::uint16_t> numbers;
  REQUIRE(numbers.insert({{0}, {top}}, 65535).has_value());
  const auto copy = numbers.find({1 << 20});
  CHECK(copy.value() == 65535);
  CHECK(numbers.kept_bytes() == 0);
  CHECK(iopt::area_map<iova, int>(iopt::heap_memory{}).verify().empty());
}
