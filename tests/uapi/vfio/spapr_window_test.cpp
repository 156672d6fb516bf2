// tests/uapi/vfio/spapr_window_test.cpp - a window against a map from entries to pages.
//
// unverified: from the sheet, not from hardware.
#include "iopt/uapi/vfio/spapr_window.hpp"

#include <map>
#include <random>
#include <set>
#include <utility>

#include "tests/catch.hpp"
#include "tests/uapi/vfio/spapr_fixture.hpp"

using namespace iopt;
using namespace iopt::test;
using namespace iopt::test::spapr;

namespace {

constexpr access_rights rw = access_rights::read_write;

/// One window, without a container.
template <class Traits = spapr_traits>
struct window_fixture : spapr_machine<Traits> {
  using base = spapr_machine<Traits>;
  using window_type = vfio::spapr_window<mock::huge_page_pinner, mock::domain, Traits>;
  using space_type = typename base::registry_type::space;

  mock::domain table;
  space_type* space = nullptr;
  typename base::registry_type::region* region = nullptr;
  std::optional<window_type> w;

  explicit window_fixture(unsigned entry_lg2, bool is_v2 = false, std::uint64_t entries = 256)
      : table({.page_sizes = {std::uint64_t{1} << entry_lg2},
               .aperture = iova_range::sized({start}, entries << entry_lg2),
               .faults = &this->faults}) {
    this->pinner.watch(table);
    if (is_v2) {
      space = *this->registry.bind(this->me);
      region = *this->registry.add(*space, {arena}, entries << entry_lg2, account_mode::type1);
    }
    w.emplace(this->registry, space, table, this->source);
    IOPT_ASSERT(w->open().has_value());
  }
  ~window_fixture() { close(); }
  void close() {
    if (!w) return;
    w.reset();
    if (space != nullptr) {
      this->registry.remove(*space, *region);
      this->registry.unbind(*space);
    }
    CHECK(this->is_idle());
    CHECK(table.bytes_mapped() == 0);
  }

  static constexpr std::uint64_t start = std::uint64_t{1} << 40;

  std::uint64_t bytes() const { return w->page_bytes(); }
  iova_range at(std::uint64_t entry, std::uint64_t count) const {
    return iova_range::sized({start + entry * bytes()}, count * bytes());
  }
  std::uint64_t vaddr(std::uint64_t number) const { return arena + number * bytes(); }
  result<void> put(std::uint64_t entry, std::uint64_t count, std::uint64_t from,
                   access_rights rights = rw) {
    return w->put(this->me, at(entry, count), {vaddr(from)}, rights);
  }
  result<void> clear(std::uint64_t entry, std::uint64_t count) {
    return w->clear(at(entry, count));
  }
  /// Which page an entry shows, or nothing.
  std::optional<std::uint64_t> shown(std::uint64_t entry) const {
    const auto to = table.translate({start + entry * bytes()});
    if (!to) return std::nullopt;
    return (to->value - this->frame(vaddr(0)).value) / bytes();
  }
};

}  // namespace

TEST_CASE("what is shown is replaced, in part or in whole, and the old page is given back") {
  window_fixture<> f(12);
  REQUIRE(f.put(0, 16, 0));
  REQUIRE(f.put(4, 4, 100));
  CHECK(f.shown(3) == 3);
  CHECK(f.shown(4) == 100);
  CHECK(f.shown(8) == 8);
  CHECK(f.pins(f.vaddr(4)) == 0);
  CHECK(f.pins(f.vaddr(100)) == 1);
  REQUIRE(f.put(10, 20, 50));  // something and nothing
  CHECK(f.shown(10) == 50);
  CHECK(f.shown(29) == 69);
  REQUIRE(f.put(0, 30, 200));  // several, at once
  CHECK(f.w->entries().area_count() == 1);
  CHECK(f.pinner.pinned_pages() == 30);
  CHECK(f.table.calls().unmap + f.table.calls().unmap_runs == 0);  // with no moment in between
  CHECK(f.w->verify() == "");
}

TEST_CASE("the same page shown by two entries is pinned twice") {
  window_fixture<> f(12);
  REQUIRE(f.put(0, 1, 7));
  REQUIRE(f.put(9, 1, 7));
  CHECK(f.pins(f.vaddr(7)) == 2);
  REQUIRE(f.put(9, 1, 7));  // over itself
  CHECK(f.pins(f.vaddr(7)) == 2);
}

TEST_CASE("entries are cleared in any part of what was put; nothing there is no error") {
  window_fixture<> f(12);
  REQUIRE(f.put(0, 16, 0));
  REQUIRE(f.clear(4, 2));
  REQUIRE(f.clear(4, 2));
  REQUIRE(f.clear(100, 8));
  CHECK(f.shown(3) == 3);
  CHECK_FALSE(f.shown(4).has_value());
  CHECK_FALSE(f.shown(5).has_value());
  CHECK(f.shown(6) == 6);
  CHECK(f.pinner.pinned_pages() == 14);
}

TEST_CASE("where memory is missing, what comes before it is cleared, replaced or not") {
  window_fixture<> f(12);
  REQUIRE(f.put(2, 4, 0));
  REQUIRE(f.put(10, 4, 10));
  f.pinner.set_hole(f.me, user_range::sized({f.vaddr(108)}, 4 * k));
  // The hole is at entry 8, where nothing was: entries 0 to 7 are cleared.
  CHECK(f.put(0, 16, 100).error() == errc::bad_address);
  for (std::uint64_t n = 0; n < 10; ++n) CHECK_FALSE(f.shown(n).has_value());
  CHECK(f.shown(10) == 10);
  CHECK(f.pinner.pinned_pages() == 4);
  // It is in something: entry 12 shows what it did.
  CHECK(f.put(10, 4, 106).error() == errc::bad_address);
  CHECK_FALSE(f.shown(11).has_value());
  CHECK(f.shown(12) == 12);
  CHECK(f.pinner.pinned_pages() == 2);
  // The first entry fails: nothing changes.
  CHECK(f.put(12, 2, 108).error() == errc::bad_address);
  CHECK(f.shown(12) == 12);
}

TEST_CASE("where the table refuses, what was written before the refused call is cleared") {
  window_fixture<> f(12, true);
  f.close();
  window_fixture<> g(12);
  REQUIRE(g.put(4, 4, 0));
  g.faults.arm(mock::fault_point::replace, 0);
  CHECK_FALSE(g.put(0, 8, 100).has_value());
  CHECK_FALSE(g.shown(0).has_value());
  CHECK(g.shown(4) == 0);
  CHECK(g.pinner.pinned_pages() == 4);
  g.faults.arm(mock::fault_point::map, 0);
  CHECK_FALSE(g.put(4, 8, 100).has_value());
  CHECK_FALSE(g.shown(4).has_value());
  CHECK(g.pinner.pinned_pages() == 0);
}

TEST_CASE("a mapping is one area and one run of user addresses, however its memory lies") {
  window_fixture<> f(12, true);
  REQUIRE(f.put(0, 256, 0));
  CHECK(f.w->entries().area_count() == 1);
  CHECK(f.region->uses == 256);
  REQUIRE(f.put(10, 1, 20));
  CHECK(f.region->uses == 256);
  CHECK(f.pinner.pinned_pages() == 256);  // by its registration
  REQUIRE(f.clear(0, 200));
  CHECK(f.region->uses == 56);
}

TEST_CASE("entries of 16 MiB are entries as any other") {
  window_fixture<> f(24);
  f.pinner.set_huge(f.me, user_range::sized({f.vaddr(0)}, 64 * f.bytes()), f.bytes());
  REQUIRE(f.put(0, 16, 0));
  REQUIRE(f.put(3, 2, 40));
  CHECK(f.shown(2) == 2);
  CHECK(f.shown(4) == 41);
  CHECK(f.pinner.pinned_pages() == 16);
  CHECK(f.put(8, 2, 63).error() == errc::operation_not_permitted);  // page 64 is not huge
  CHECK_FALSE(f.shown(8).has_value());
  CHECK(f.shown(9) == 9);
}

TEST_CASE("clearing all needs no memory") {
  for (const bool is_v2 : {false, true}) {
    window_fixture<> f(12, is_v2);
    for (std::uint64_t n = 0; n < 64; ++n) REQUIRE(f.put(n * 3, 1 + n % 3, n));
    f.account.refuse_all();
    f.w->clear_all();
    CHECK(f.table.bytes_mapped() == 0);
    f.account.refuse_all(false);
  }
}

TEST_CASE("clearing part of a mapping without memory changes nothing") {
  window_fixture<> f(12);
  REQUIRE(f.put(0, 16, 0));
  f.account.refuse_all();
  CHECK(f.clear(4, 2).error() == errc::not_enough_memory);
  CHECK(f.shown(4) == 4);
  CHECK(f.pinner.pinned_pages() == 16);
  f.account.refuse_all(false);
}

TEST_CASE("the table may end at 2^64 - 1") {
  spapr_machine<> m;
  mock::domain table{{.page_sizes = {4 * k}, .aperture = {{top - 0xffff}, {top}}}};
  vfio::spapr_window<mock::huge_page_pinner, mock::domain, spapr_traits> w(m.registry, nullptr,
                                                                           table, m.source);
  REQUIRE(w.open());
  REQUIRE(w.put(m.me, {{top - 0xfff}, {top}}, {arena}, rw));
  REQUIRE(w.put(m.me, w.range(), {arena}, access_rights::read));
  CHECK(table.translate({top}) == m.frame(arena + 0xffff));
  REQUIRE(w.clear({{top - 0xfff}, {top}}));
  CHECK(m.pinner.pinned_pages() == 15);
  w.clear_all();
  CHECK(m.pinner.is_idle());
}

TEST_CASE("the least table will do: it takes one run at a time") {
  using least =
      mock::restricted_domain<mock::domain, mock::ability::split | mock::ability::replace |
                                                mock::ability::read_back>;
  static_assert(tce_table<least> && !run_mapping_domain<least> && !flushing_domain<least>);
  spapr_machine<> m;
  m.pinner.set_contiguity(m.me, 4 * k);
  least table{{.page_sizes = {4 * k}, .aperture = {{0}, {mebibyte - 1}}}};
  m.pinner.watch(table.inner());
  vfio::spapr_window<mock::huge_page_pinner, least, spapr_traits> w(m.registry, nullptr, table,
                                                                    m.source);
  REQUIRE(w.open());
  REQUIRE(w.put(m.me, w.range(), {arena}, rw));
  REQUIRE(w.put(m.me, {{64 * k}, {512 * k - 1}}, {arena}, rw));
  CHECK(table.translate({64 * k}) == m.frame(arena));
  REQUIRE(w.clear({{8 * k}, {128 * k - 1}}));
  CHECK(m.pinner.pinned_pages() == 256 - 30);
  w.clear_all();
  CHECK(m.pinner.is_idle());
}

TEST_CASE("what a table that comes back short may still show is never given back") {
  for (const bool is_v2 : {false, true}) {
    auto machine = std::make_unique<spapr_machine<>>();
    spapr_machine<>& m = *machine;
    mock::domain table{{.page_sizes = {4 * k}, .aperture = {{0}, {mebibyte - 1}}}};
    auto* const s = *m.registry.bind(m.me);
    auto* const r = *m.registry.add(*s, {arena}, 64 * k, account_mode::type1);
    {
      vfio::spapr_window<mock::huge_page_pinner, mock::domain, spapr_traits> w(
          m.registry, is_v2 ? s : nullptr, table, m.source);
      REQUIRE(w.open());
      REQUIRE(w.put(m.me, {{0}, {64 * k - 1}}, {arena}, rw));
      table.short_unmap_after(0);
      CHECK(w.clear({{0}, {64 * k - 1}}).error() == errc::io_error);
      CHECK(w.put(m.me, {{mebibyte / 2}, {mebibyte / 2 + 4 * k - 1}}, {arena}, rw).error() ==
            errc::io_error);
    }
    m.registry.remove(*s, *r);
    m.registry.unbind(*s);
    CHECK(m.pinner.pinned_pages() == 16);
    if (is_v2) {
      // Another container of the process finds it.
      auto* const again = *m.registry.bind(m.me);
      CHECK(m.registry.region_count(*again) == 1);
      CHECK(m.registry.find(*again, {arena}, 64 * k) != nullptr);
      m.registry.unbind(*again);
    }
  }
}

// --- Model ----------------------------------------------------------------------------------------

namespace {

/// Random puts and clears on a window and on a map from entries to pages. Some memory is missing, so
/// that some puts fail and clear what comes before.
template <class Traits>
void play(std::uint64_t seed, unsigned entry_lg2, bool is_v2, bool faulty) {
  CAPTURE(seed, entry_lg2, is_v2, faulty);
  constexpr std::uint64_t entries = 96;
  window_fixture<Traits> f(entry_lg2, is_v2, entries);
  std::mt19937_64 random(seed);
  const auto below = [&](std::uint64_t n) { return random() % n; };
  const std::uint64_t cpu = Traits::page_bytes;

  std::set<std::uint64_t> missing;  // pages of the process
  if (is_v2) {                      // what is behind the region
    for (std::uint64_t n = entries; n < entries + 32; ++n) missing.insert(n);
  } else {
    if (f.bytes() > cpu)
      f.pinner.set_huge(f.me, user_range::sized({f.vaddr(0)}, (entries + 32) * f.bytes()),
                        f.bytes());
    for (int n = 0; n < 6; ++n) {
      const std::uint64_t lost = below(entries + 32);
      const std::uint64_t first = align_down(f.vaddr(lost), cpu);
      f.pinner.set_hole(f.me, user_range::sized({first}, cpu));
      for (std::uint64_t page = 0; page < entries + 32; ++page)
        if (align_down(f.vaddr(page), cpu) == first) missing.insert(page);
    }
  }

  struct entry {
    std::uint64_t page;
    access_rights rights;
  };
  std::map<std::uint64_t, entry> model;
  for (int step = 0; step < 300; ++step) {
    CAPTURE(step);
    const std::uint64_t first = below(entries);
    const std::uint64_t count = 1 + below(std::min<std::uint64_t>(entries - first, 24));
    if (faulty) f.faults.arm(below(12));
    if (below(3) != 0) {
      const std::uint64_t page = below(entries + 8);
      const access_rights rights = below(2) == 0 ? rw : access_rights::read;
      const result<void> done = f.put(first, count, page, rights);
      const bool fired = faulty && f.faults.fired();
      f.faults.disarm();
      std::uint64_t good = 0;
      while (good < count && !missing.contains(page + good)) ++good;
      if (!fired) {
        REQUIRE(done.has_value() == (good == count));
        if (!done) REQUIRE(done.error() == (is_v2 ? errc::invalid_argument : errc::bad_address));
        for (std::uint64_t n = 0; n < (done ? count : good); ++n) {
          model.erase(first + n);
          if (done) model[first + n] = {page + n, rights};
        }
      } else if (done) {  // a fault that was got over
        for (std::uint64_t n = 0; n < count; ++n) model[first + n] = {page + n, rights};
      } else {
        // Some of the first entries are cleared, and the others are as they were.
        std::uint64_t cleared = 0;
        while (cleared < count && !f.shown(first + cleared)) ++cleared;
        for (std::uint64_t n = 0; n < cleared; ++n) model.erase(first + n);
      }
    } else {
      const result<void> done = f.clear(first, count);
      const bool fired = faulty && f.faults.fired();
      f.faults.disarm();
      REQUIRE((done.has_value() || fired));
      if (done)
        for (std::uint64_t n = 0; n < count; ++n) model.erase(first + n);
    }
    for (std::uint64_t n = 0; n < entries; ++n) {
      const auto expected = model.find(n);
      const auto seen = f.shown(n);
      if (seen.has_value() != (expected != model.end()) ||
          (seen &&
           (*seen != expected->second.page ||
            f.table.attributes_at({f.start + n * f.bytes()})->rights != expected->second.rights)))
        FAIL("entry " << n);
    }
    if (is_v2) {
      REQUIRE(f.region->uses == model.size());
    } else {
      REQUIRE(f.pinner.pinned_pages() == model.size());
    }
    REQUIRE(f.w->verify() == "");
    REQUIRE(f.registry.verify() == "");
    REQUIRE(f.table.unsynced_bytes() == 0);
  }
}

}  // namespace

TEST_CASE("model: entries of the CPU's page", "[model]") {
  for (std::uint64_t seed = 0; seed < 12; ++seed)
    play<spapr_traits>(seed, 12, false, seed % 3 == 2);
}
TEST_CASE("model: entries that share a CPU page", "[model]") {
  for (std::uint64_t seed = 20; seed < 28; ++seed)
    play<spapr_traits_64k>(seed, 12, false, seed % 3 == 2);
}
TEST_CASE("model: entries of many CPU pages", "[model]") {
  for (std::uint64_t seed = 40; seed < 48; ++seed)
    play<spapr_traits>(seed, 24, false, seed % 3 == 2);
}
TEST_CASE("model: registered memory", "[model]") {
  for (std::uint64_t seed = 60; seed < 72; ++seed)
    play<spapr_traits>(seed, 12, true, seed % 3 == 2);
}
TEST_CASE("model: registered memory, entries that share a CPU page", "[model]") {
  for (std::uint64_t seed = 80; seed < 88; ++seed)
    play<spapr_traits_64k>(seed, 12, true, seed % 3 == 2);
}
