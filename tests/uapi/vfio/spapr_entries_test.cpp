// tests/uapi/vfio/spapr_entries_test.cpp - an entry is a page of the engine, whatever its size.
//
// unverified: from the sheet, not from hardware.
#include "iopt/uapi/vfio/spapr_entries.hpp"

#include "iopt/policy/near_miss.hpp"
#include "tests/catch.hpp"
#include "tests/uapi/vfio/spapr_fixture.hpp"

using namespace iopt;
using namespace iopt::test;
using namespace iopt::test::spapr;

namespace {

constexpr std::uint64_t big = 16 * mebibyte;
constexpr access_rights rw = access_rights::read_write;

template <class Traits>
using pinner_of = vfio::tce_pinner<mock::huge_page_pinner, Traits>;
template <class Traits>
using view_of = vfio::tce_view<mock::huge_page_pinner, mock::domain, Traits>;

static_assert(page_pinner<pinner_of<spapr_traits>> && exact_pinner<pinner_of<spapr_traits>>::value);
static_assert(iommu_domain<view_of<spapr_traits>> && exact_domain<view_of<spapr_traits>>::value);
static_assert(unreadable_domain<view_of<spapr_traits>> && replacing_domain<view_of<spapr_traits>> &&
              splitting_domain<view_of<spapr_traits>> && flushing_domain<view_of<spapr_traits>>);

}  // namespace

TEST_CASE("addresses are scaled by entries") {
  const vfio::entry_scale s{24};
  CHECK(s.scaled(3 * big) == 3 * 4 * k);
  CHECK(s.real(3 * 4 * k) == 3 * big);
  CHECK(s.scaled(iova_range::sized({2 * big}, 2 * big)) == iova_range::sized({8 * k}, 8 * k));
  CHECK(s.real(iova_range::sized({8 * k}, 8 * k)) == iova_range::sized({2 * big}, 2 * big));
}

TEST_CASE("v1 pins one CPU page an entry, always to write") {
  spapr_machine<> m;
  run place[4];
  SECTION("entries of the CPU's page") {
    pinner_of<spapr_traits> p(m.registry, nullptr, {12});
    run_list out{place};
    REQUIRE(p.pin(m.me, user_range::sized({arena}, 16 * k), access_rights::read, out));
    REQUIRE(out.size() == 1);
    CHECK(out[0] == run(m.frame(arena), 16 * k));
    CHECK(m.pinner.pinned_pages() == 4);
    p.unpin(out[0], true);
    // A hole ends it; at the hole it fails.
    m.pinner.set_hole(m.me, user_range::sized({arena + 8 * k}, 4 * k));
    out.clear();
    REQUIRE(p.pin(m.me, user_range::sized({arena}, 16 * k), rw, out));
    CHECK(out.bytes() == 8 * k);
    p.unpin(out[0], false);
    CHECK(p.pin(m.me, user_range::sized({arena + 8 * k}, 8 * k), rw, out).error() ==
          errc::bad_address);
    m.pinner.set_read_only(m.me, user_range::sized({arena}, 4 * k));
    CHECK(p.pin(m.me, user_range::sized({arena}, 4 * k), access_rights::read, out).error() ==
          errc::bad_address);
  }
  SECTION("larger entries: their first page, of a page as large") {
    pinner_of<spapr_traits> p(m.registry, nullptr, {24});
    m.pinner.set_huge(m.me, user_range::sized({arena}, 2 * big), big);
    run_list out{place};
    const user_range three = user_range::sized({arena >> 12}, 12 * k);
    REQUIRE(p.pin(m.me, three, rw, out));
    REQUIRE(out.size() == 1);
    CHECK(out[0] == run({m.frame(arena).value >> 12}, 8 * k));
    CHECK(m.pinner.pinned_pages() == 2);
    CHECK(m.pins(arena + big) == 1);
    CHECK(p.pin(m.me, user_range::sized({(arena + 2 * big) >> 12}, 4 * k), rw, out).error() ==
          errc::operation_not_permitted);
    CHECK(m.pinner.pinned_pages() == 2);  // the pin of the page that will not do is no leak
    p.unpin(out[0], true);
  }
  CHECK(m.is_idle());
}

TEST_CASE("v1 pins a CPU page for each of the entries that are in it") {
  spapr_machine<spapr_traits_64k> m;
  pinner_of<spapr_traits_64k> p(m.registry, nullptr, {12});
  run place[4];
  run_list out{place};
  REQUIRE(p.pin(m.me, user_range::sized({arena + 60 * k}, 12 * k), rw, out));
  REQUIRE(out.size() == 1);
  CHECK(out[0] == run(m.frame(arena + 60 * k), 12 * k));
  CHECK(m.pins(arena) == 1);
  CHECK(m.pins(arena + 64 * k) == 2);
  p.unpin(out[0], true);
  CHECK(m.is_idle());
}

namespace {

/// A pinner with memory that is kept apart from 1 MiB up: it is told, and not pinned.
struct apart_pinner {
  using owner = int;
  owner current() { return 0; }
  result<void> pin(owner, user_range r, access_rights, run_list& out) {
    for (user_address at = r.first; !out.full(); at += 4096) {
      const bool apart = at.value >= mebibyte;
      out.append(run({at.value}, 4096, apart ? memory_type::reserved : memory_type::cached));
      if (!apart) ++pinned;
      if (r.last - at == 4095) break;
    }
    return {};
  }
  void unpin(run r, bool) noexcept { pinned -= r.length_bytes / 4096; }
  bool reachable(owner) noexcept { return true; }
  result<void> charge(owner, account_mode, std::uint64_t) { return {}; }
  void uncharge(owner, account_mode, std::uint64_t) noexcept {}
  std::uint64_t pinned = 0;
};

}  // namespace

TEST_CASE("v1 takes memory that is kept apart for no memory") {
  apart_pinner inner;
  vfio::spapr_memory<apart_pinner> registry(inner);
  vfio::tce_pinner<apart_pinner, single_threaded> p(registry, nullptr, {12});
  run place[4];
  run_list out{place};
  REQUIRE(p.pin(0, user_range::sized({mebibyte - 8 * k}, 16 * k), rw, out));
  CHECK(out.bytes() == 8 * k);
  CHECK(inner.pinned == 2);
  p.unpin(out[0], false);
  CHECK(p.pin(0, user_range::sized({mebibyte}, 4 * k), rw, out).error() == errc::bad_address);
  vfio::tce_pinner<apart_pinner, single_threaded> large(registry, nullptr, {16});
  CHECK(large.pin(0, user_range::sized({mebibyte >> 4}, 4 * k), rw, out).error() ==
        errc::bad_address);
  CHECK(inner.pinned == 0);
}

TEST_CASE("v1 pins no more than it can tell") {
  spapr_machine<> m;
  pinner_of<spapr_traits> p(m.registry, nullptr, {12});
  m.pinner.set_contiguity(m.me, 4 * k);
  run place[2];
  run_list out{place};
  REQUIRE(p.pin(m.me, user_range::sized({arena}, 64 * k), rw, out));
  CHECK(out.full());  // no more is pinned than can be told
  CHECK(m.pinner.pinned_pages() == 2);
  for (const run& r : out) p.unpin(r, false);
  CHECK(m.is_idle());
}

TEST_CASE("v2 pins nothing: frames are user addresses, and pins are uses") {
  spapr_machine<> m;
  auto* const s = *m.registry.bind(m.me);
  auto* const r = *m.registry.add(*s, {arena}, 64 * k, account_mode::type1);
  const auto calls = m.pinner.calls();
  pinner_of<spapr_traits> p(m.registry, s, {12});
  run place[2];
  run_list out{place};
  REQUIRE(p.pin(m.me, user_range::sized({arena + 48 * k}, 32 * k), rw, out));
  REQUIRE(out.size() == 1);
  CHECK(out[0] == run({arena + 48 * k}, 16 * k));
  CHECK(r->uses == 4);
  CHECK(p.pin(m.me, user_range::sized({arena + 64 * k}, 4 * k), rw, out).error() ==
        errc::invalid_argument);
  p.unpin(run({arena + 52 * k}, 12 * k), true);
  CHECK(r->uses == 1);
  p.unpin(run({arena + 48 * k}, 4 * k), true);
  CHECK(m.pinner.calls() == calls);
  m.registry.remove(*s, *r);
  m.registry.unbind(*s);
  CHECK(m.is_idle());
}

TEST_CASE("the view writes entries of the table, and of registered memory where it is") {
  spapr_machine<> m;
  m.pinner.set_contiguity(m.me, 4 * k);
  auto* const s = *m.registry.bind(m.me);
  auto* const r = *m.registry.add(*s, {arena}, 400 * k, account_mode::type1);
  mock::domain table{{.page_sizes = {4 * k},
                      .aperture = iova_range::sized({mebibyte}, mebibyte),
                      .faults = &m.faults}};
  view_of<spapr_traits> v(m.registry, s, table, {12});
  CHECK(v.aperture() == table.aperture());
  CHECK_FALSE(v.translate({mebibyte}).has_value());
  const iova_range where = iova_range::sized({mebibyte}, 400 * k);
  REQUIRE(v.map(where, {arena}, {rw}));
  for (std::uint64_t n = 0; n < 100; ++n)
    if (table.translate(where.first + n * 4 * k) != m.frame(arena + n * 4 * k)) FAIL("entry " << n);
  CHECK(table.calls().map_runs == 4);  // of 32 runs and less
  REQUIRE(v.split(iova_range::sized({mebibyte}, 8 * k)));
  const run back({arena + 396 * k}, 4 * k);
  REQUIRE(v.replace({mebibyte + 4 * k}, {&back, 1}, access_rights::read));
  CHECK(table.translate({mebibyte + 4 * k}) == m.frame(arena + 396 * k));
  CHECK(v.unmap(where) == 400 * k);
  v.sync();
  // A refusal in the third call takes back the first two.
  m.faults.arm(mock::fault_point::map_runs, 2);
  CHECK_FALSE(v.map(where, {arena}, {rw}).has_value());
  CHECK(v.refused_at() == where.first + 64 * 4 * k);
  CHECK(table.bytes_mapped() == 0);
  CHECK(table.unsynced_bytes() == 0);
  m.registry.remove(*s, *r);
  m.registry.unbind(*s);
}

TEST_CASE("the view of large entries takes the engine's pages for them") {
  spapr_machine<> m;
  mock::domain table{{.page_sizes = {big}, .aperture = iova_range::sized({0}, 64 * big)}};
  view_of<spapr_traits> v(m.registry, nullptr, table, {24});
  CHECK(v.aperture() == iova_range::sized({0}, 64 * 4 * k));
  const run two[] = {{{8 * 4 * k}, 4 * k}, {{3 * 4 * k}, 8 * k}};
  REQUIRE(v.map_runs({4 * k}, two, rw));
  CHECK(table.translate({big}) == physical{8 * big});
  CHECK(table.translate({3 * big + 5}) == physical{4 * big + 5});
  CHECK(v.unmap(iova_range::sized({4 * k}, 12 * k)) == 12 * k);
}
