// tests/core/translation_index_test.cpp - translation_index against a std::map, with readers beside
// its writer, and when memory is refused. Built with -fsanitize=thread it also shows data races.
#include "iopt/core/translation_index.hpp"

#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "tests/catch.hpp"
#include "tests/counted_memory.hpp"

namespace {

using iopt::host_run;
using iopt::host_run_list;
using iopt::iova;
using iopt::iova_range;
using iopt::top;
using number = std::uint64_t;
using random_bits = std::mt19937_64;
constexpr number page = 4096, granule = 2 << 20;

using ledger = iopt::test::basic_ledger<std::atomic<std::size_t>>;
using counting_memory = iopt::test::counted_by<ledger>;
template <number Window>
using index_of = iopt::translation_index<counting_memory, Window>;

iova_range range(number first, number last) { return {{first}, {last}}; }

// ---- Against a model -------------------------------------------------------------------------------

struct known {
  number last, host;
  bool live;
};
using model = std::map<number, known>;  // by first

/// Where x is in the model, or nothing.
const known* at(const model& m, number x, number& first) {
  auto i = m.upper_bound(x);
  if (i == m.begin()) return nullptr;
  --i;
  first = i->first;
  return i->second.last >= x ? &i->second : nullptr;
}

template <class Reader>
void check_translation(Reader& r, const model& m, number x, number length) {
  std::array<host_run, 64> storage;
  host_run_list runs(storage);
  const number done = r.translate({x}, length, runs);
  REQUIRE(done <= length);
  number next = x, sum = 0;
  for (const host_run& run : runs.view()) {
    sum += run.length_bytes;
    for (number n = 0; n < run.length_bytes;) {
      number first = 0;
      const known* const k = at(m, next, first);
      REQUIRE((k != nullptr && k->live));
      REQUIRE(run.first.value + n == k->host + (next - first));
      const number step = std::min(k->last - next, run.length_bytes - n - 1) + 1;
      n += step, next += step;
    }
  }
  REQUIRE(sum == done);
  for (std::size_t n = 1; n < runs.size(); ++n) {
    const host_run& before = runs.view()[n - 1];
    REQUIRE(before.first.value + before.length_bytes != runs.view()[n].first.value);
  }
  number first = 0;
  const known* const k = done == length || (done != 0 && next == 0) ? nullptr : at(m, next, first);
  REQUIRE((k == nullptr || !k->live || runs.size() == storage.size()));
}

template <number Window>
void run_model(number seed, number unit, unsigned steps) {
  CAPTURE(Window, seed, unit);
  random_bits bits(seed);
  ledger book;
  {
    index_of<Window> index(counting_memory{&book});
    auto r = index.attach();
    REQUIRE(r);
    model m;
    const auto draw = [&] {
      const number x = bits() % (6 * granule / unit) * unit;
      return bits() % 16 == 0 ? top - x : x;
    };
    for (unsigned step = 0; step < steps; ++step) {
      const number first = draw() / unit * unit;
      number length = (bits() % 8 + 1) * unit;
      if (bits() % 8 == 0) length = (bits() % 3 + 1) * granule;
      const number last = length - 1 > top - first ? top : first + length - 1;
      number there = 0;
      const known* const hit = at(m, first, there);
      switch (bits() % 6) {
        case 0:
        case 1: {
          auto i = m.upper_bound(last);
          if (i != m.begin() && std::prev(i)->second.last >= first) break;
          number host = bits() % 64 * granule + first % granule;
          if (bits() % 8 == 0) host += 12;
          REQUIRE(index.prepare(range(first, last), {host}));
          m[first] = {last, host, false};
          if (bits() % 4 == 0) break;
          index.show(range(first, last));
          m[first].live = true;
          break;
        }
        case 2:
          REQUIRE(index.cut({first}));
          if (hit == nullptr || hit->last == first) break;
          m[first + 1] = {hit->last, hit->host + (first + 1 - there), hit->live};
          m[there].last = first;
          break;
        case 3:
          if (hit == nullptr) break;
          index.show(range(there, hit->last));
          m[there].live = true;
          break;
        case 4:
          if (hit == nullptr) break;
          m[there].host = bits() % 64 * granule + there % granule;
          index.assign(range(there, hit->last), {m[there].host});
          break;
        default:
          if (hit == nullptr) break;
          index.hide(range(there, hit->last));
          m[there].live = false;
          index.wait();
          if (bits() % 4 == 0) break;
          index.erase(range(there, hit->last));
          m.erase(there);
      }
      {
        const typename index_of<Window>::section inside(*r);
        for (int n = 0; n < 4; ++n) {
          const number x = bits() % 2 == 0 ? first : draw();
          check_translation(*r, m, x, n % 2 == 0 ? bits() % (4 * unit) + 1 : 2 * granule);
          check_translation(*r, m, x + unit, 1);
        }
      }
      if (step % 32 == 0) REQUIRE(index.verify() == "");
      REQUIRE(index.size() == m.size());
    }
    index.hide(iova_range::whole());
    index.erase(iova_range::whole());
    CHECK(index.verify() == "");
    CHECK(index.size() == 0);
    index.collect();
    CHECK(book.blocks <= 64 + 2);
  }
  CHECK(book.blocks == 0);
}

TEST_CASE("random operations are what a std::map says", "[model]") {
  for (number seed = 1; seed <= 3; ++seed) {
    run_model<0>(seed, page, 1500);
    run_model<0>(seed, 100, 1500);
    run_model<4 * granule>(seed, page, 1500);
    run_model<4 * granule>(seed, 100, 1500);
    run_model<4 * granule>(seed, granule / 2, 1500);
  }
}

TEST_CASE("a list that is full, a gap, and the last address end a translation") {
  iopt::translation_index<> index;
  auto r = index.attach();
  const auto add = [&](number first, number last, number host) {
    REQUIRE(index.prepare(range(first, last), {host}));
    index.show(range(first, last));
  };
  add(0, page - 1, 10 * page);
  add(page, 2 * page - 1, 11 * page);
  add(2 * page, 3 * page - 1, 20 * page);
  add(top - page + 1, top, 30 * page);
  const iopt::translation_index<>::section inside(*r);
  std::array<host_run, 1> one;
  host_run_list runs(one);
  CHECK(r->translate({page / 2}, 10 * page, runs) == page + page / 2);
  CHECK(one[0] == host_run{{10 * page + page / 2}, page + page / 2});
  runs.clear();
  CHECK(r->translate({2 * page + 1}, 10 * page, runs) == page - 1);
  runs.clear();
  CHECK(r->translate({top - 1}, 7, runs) == 2);
  runs.clear();
  CHECK(r->translate({4 * page}, 1, runs) == 0);
  CHECK(r->find({top}) == host_run{{31 * page - 1}, 1});
  CHECK_FALSE(r->find({3 * page}));
}

TEST_CASE("what an earlier section found is not believed where something was taken away since") {
  iopt::translation_index<> index;
  auto r = index.attach();
  REQUIRE(index.prepare(range(0, 9), {100}));
  index.show(range(0, 9));
  for (int n = 0; n < 2; ++n) {
    const iopt::translation_index<>::section inside(*r);
    CHECK(r->find({5}));
  }
  index.hide(range(0, 9));
  index.wait();
  {
    const iopt::translation_index<>::section inside(*r);
    CHECK_FALSE(r->find({5}));
  }
  index.erase(range(0, 9));
  REQUIRE(index.prepare(range(0, 9), {200}));
  index.show(range(0, 9));
  {
    const iopt::translation_index<>::section inside(*r);
    CHECK(r->find({5})->first.value == 205);
    index.assign(range(0, 9), {300});
    CHECK(r->find({5})->first.value == 205);  // good until the section is left
  }
  const iopt::translation_index<>::section inside(*r);
  CHECK(r->find({5})->first.value == 305);
}

TEST_CASE("an index takes over what another has") {
  const auto run = [](auto& from, auto& to) {
    REQUIRE(from.prepare(range(page, 2 * page - 1), {page}));
    from.show(range(page, 2 * page - 1));
    to.take_over(from);
    CHECK(from.size() == 0);
    CHECK((from.verify() == "" && to.verify() == ""));
    auto r = to.attach();
    r->enter();
    CHECK(r->find({page})->first.value == page);
    r->leave();
  };
  iopt::translation_index<> a, b;
  run(a, b);
  iopt::translation_index<iopt::heap_memory, granule> c, d;
  run(c, d);
}

// ---- Refused memory --------------------------------------------------------------------------------

template <number Window>
void sweep() {
  ledger book;
  index_of<Window> index(counting_memory{&book});
  random_bits bits(Window);
  const auto snapshot = [&] {
    std::vector<std::array<number, 4>> all;
    index.for_each([&](iova_range r, iopt::user_address host, bool shown) {
      all.push_back({r.first.value, r.last.value, host.value, shown ? 1u : 0u});
    });
    return all;
  };
  for (int round = 0; round < 400; ++round) {
    const number first = bits() % 2000 * 8 * page + bits() % 2 * page / 2;
    const number last = first + (bits() % 3 == 0 ? 3 * granule : 4 * page) - 1;
    const auto before = snapshot();
    const bool adds = std::none_of(before.begin(), before.end(),
                                   [&](const auto& e) { return e[0] <= last && e[1] >= first; });
    for (std::size_t fault = 0;; ++fault) {
      book.refuse_from = book.calls + fault;
      const auto done =
          adds ? index.prepare(range(first, last), {first}) : index.cut({last - page});
      book.refuse_from = ~std::size_t{0};
      if (done) break;
      REQUIRE(done.error() == iopt::errc::not_enough_memory);
      REQUIRE(snapshot() == before);
      REQUIRE(index.verify() == "");
    }
    book.refuse_from = 0;  // nothing below may need memory
    if (adds) index.show(range(first, last));
    book.refuse_from = ~std::size_t{0};
    REQUIRE(index.verify() == "");
  }
  book.refuse_from = 0;
  index.assign(iova_range::whole(), {5 * granule});
  REQUIRE(index.verify() == "");
  index.hide(iova_range::whole());
  index.wait();
  index.erase(iova_range::whole());
  CHECK(index.size() == 0);
  CHECK(index.verify() == "");
}

TEST_CASE("a refused change has changed nothing, and what takes away needs no memory", "[sweep]") {
  sweep<0>();
  sweep<16 * granule>();
}

// ---- Readers beside a writer -----------------------------------------------------------------------

/// Memory whose pages tell whether they are lent out ("pinned"), and to which IOVA. Reading a page
/// that is not, or is another's, is what must not happen.
struct lent_pages {
  static constexpr std::size_t count = 64;
  struct one {
    std::array<std::atomic<number>, 4> words{};  // the IOVA it is lent to, or `given_back`
  };
  static constexpr number given_back = top;
  std::array<one, count> all;

  number address(std::size_t n) const { return reinterpret_cast<number>(&all[n]); }
  void lend(std::size_t n, number to) {
    for (auto& w : all[n].words) w.store(to, std::memory_order_relaxed);
  }
  void take_back(std::size_t n) { lend(n, given_back); }
};

/// The writer maps 16 places of 32 bytes to pages of a pool, unmaps, and re-uses both all the while.
template <number Window, bool Waits = true>
number stress(iopt::fence_kind kind, unsigned rounds) {
  iopt::translation_index<iopt::heap_memory, Window> index({}, kind);
  constexpr number bytes = sizeof(lent_pages::one);
  constexpr std::size_t places = 16;
  // Apart by a page, so that the radix table answers for none alone; with a window some lie in whole
  // pages below, which a table of its own shows.
  const auto place = [](std::size_t n) { return n * page * (Window != 0 ? 1 : 3); };
  const number span = Window != 0 ? page : bytes;
  auto pages = std::make_unique<lent_pages>();
  for (std::size_t n = 0; n < lent_pages::count; ++n) pages->take_back(n);
  std::atomic<bool> stop{false};
  std::atomic<number> bad{0}, good{0};
  std::vector<std::thread> readers;
  for (int t = 0; t < 2; ++t)
    readers.emplace_back([&, t] {
      auto me = index.attach();
      random_bits bits(static_cast<number>(t));
      while (!stop.load(std::memory_order_relaxed)) {
        me->enter();
        // A burst is translated, and only then used: all of it is good until the section is left.
        std::array<std::pair<number, number>, 16> burst;
        std::size_t count = 0;
        for (int n = 0; n < 16; ++n) {
          const number x = place(bits() % places);
          if (const auto run = me->find({x})) burst[count++] = {x, run->first.value};
        }
        if (bits() % 8 == 0) std::this_thread::yield();
        for (std::size_t n = 0; n < count; ++n) {
          const auto* const p = reinterpret_cast<const lent_pages::one*>(burst[n].second);
          for (const auto& w : p->words)
            if (w.load(std::memory_order_relaxed) != burst[n].first) ++bad;
        }
        good.fetch_add(count, std::memory_order_relaxed);
        me->leave();
        std::this_thread::yield();  // out of a section, or the writer waits for the scheduler
      }
    });
  while (index.readers() != 2) std::this_thread::yield();
  random_bits bits(99);
  std::array<int, places> shows;
  shows.fill(-1);
  std::vector<std::size_t> free_pages;
  for (std::size_t n = 0; n < lent_pages::count; ++n) free_pages.push_back(n);
  const auto unmap = [&](std::size_t n) {
    const iova_range where = range(place(n), place(n) + span - 1);
    index.hide(where);
    if constexpr (Waits) index.wait();
    index.erase(where);
    pages->take_back(static_cast<std::size_t>(shows[n]));
    free_pages.push_back(static_cast<std::size_t>(shows[n]));
    shows[n] = -1;
  };
  const auto take_page = [&](std::size_t n) {
    std::swap(free_pages[bits() % free_pages.size()], free_pages.back());
    const std::size_t p = free_pages.back();
    free_pages.pop_back();
    pages->lend(p, place(n));
    return p;
  };
  // At least so many rounds, and until the readers have found something often.
  for (unsigned round = 0; round < rounds || (good < 5000 && round < 1000 * rounds); ++round) {
    if (round % 8 == 0) std::this_thread::yield();
    const std::size_t n = bits() % places;
    const iova_range where = range(place(n), place(n) + span - 1);
    if (shows[n] < 0) {
      const std::size_t p = take_page(n);
      shows[n] = static_cast<int>(p);
      REQUIRE(index.prepare(where, {pages->address(p)}));
      index.show(where);
    } else if (bits() % 4 == 0) {  // shown elsewhere, with no gap
      const std::size_t p = take_page(n);
      index.assign(where, {pages->address(p)});
      if constexpr (Waits) index.wait();
      pages->take_back(static_cast<std::size_t>(shows[n]));
      free_pages.push_back(static_cast<std::size_t>(shows[n]));
      shows[n] = static_cast<int>(p);
    } else {
      unmap(n);
    }
  }
  stop = true;
  for (auto& r : readers) r.join();
  for (std::size_t n = 0; n < places; ++n)
    if (shows[n] >= 0) unmap(n);
  CHECK(index.verify() == "");
  CHECK(good > 0);
  return bad;
}

TEST_CASE("readers never see a page that was given back, or another's", "[stress]") {
  for (const iopt::fence_kind kind : {iopt::fence_kind::symmetric, iopt::fence_kind::asymmetric}) {
    CHECK(stress<0>(kind, 1500) == 0);
    CHECK(stress<granule>(kind, 1500) == 0);
  }
}

TEST_CASE("the same readers do see it where the writer does not wait", "[stress]") {
  number seen = 0;
  for (int tries = 0; tries < 100 && seen == 0; ++tries)
    seen = stress<0, false>(iopt::fence_kind::asymmetric, 500);
  CHECK(seen > 0);
}

TEST_CASE("readers find what stays, while the tree around it is rebuilt", "[stress]") {
  ledger book;
  {
    index_of<0> index(counting_memory{&book});
    constexpr number stays = 1000;
    // Entry n lies at n * 64; in between others come and go, and make leaves split, join and vanish.
    for (number n = 0; n < stays; n += 10) {
      REQUIRE(index.prepare(range(n * 64, n * 64 + 7), {n}));
      index.show(range(n * 64, n * 64 + 7));
    }
    std::atomic<bool> stop{false};
    std::atomic<number> lost{0};
    std::vector<std::thread> readers;
    for (int t = 0; t < 2; ++t)
      readers.emplace_back([&, t] {
        auto me = index.attach();
        random_bits bits(static_cast<number>(t));
        while (!stop.load(std::memory_order_relaxed)) {
          const index_of<0>::section inside(*me);
          for (int k = 0; k < 32; ++k) {
            const number n = bits() % (stays / 10) * 10;
            const auto run = me->find({n * 64 + 3});
            if (!run || run->first.value != n + 3) ++lost;
          }
          if (bits() % 4 == 0) std::this_thread::yield();
        }
      });
    while (index.readers() != 2) std::this_thread::yield();
    for (int round = 0; round < 10; ++round) {
      for (number n = 0; n < stays; ++n) {
        if (n % 10 == 0) continue;
        for (number part = 0; part < 4; ++part) {
          const iova_range where = range(n * 64 + part * 16, n * 64 + part * 16 + 7);
          REQUIRE(index.prepare(where, {1}));
          index.show(where);
        }
      }
      for (number n = 0; n < stays; n += 10) {
        const iova_range where = range((n + 1) * 64, (n + 10) * 64 - 1);
        index.hide(where);
        if (n % 500 == 0) index.wait();
      }
      index.wait();
      for (number n = 0; n < stays; n += 10) index.erase(range((n + 1) * 64, (n + 10) * 64 - 1));
    }
    stop = true;
    for (auto& r : readers) r.join();
    CHECK(lost == 0);
    CHECK(index.verify() == "");
  }
  CHECK(book.blocks == 0);
}

}  // namespace
