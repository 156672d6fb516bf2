// tests/uapi/vfio/spapr_container_test.cpp - SPAPR containers as a whole: every call that may fail fails
// once, and two containers of a process against an oracle.
//
// unverified: from the sheet, not from hardware. Rule by rule: spapr_groups_test.cpp,
// spapr_calls_test.cpp.
#include "iopt/uapi/vfio/spapr_container.hpp"

#include <array>
#include <functional>
#include <map>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "iopt/core/multi_threaded.hpp"
#include "tests/catch.hpp"
#include "tests/fault_report.hpp"
#include "tests/uapi/vfio/spapr_fixture.hpp"

using namespace iopt;
using namespace iopt::test;
using namespace iopt::test::spapr;

namespace {

using machine = spapr_machine<>;
using container_type = machine::container_type;

/// A machine with one container, and what shows of it.
struct stage : machine {
  std::array<mock::tce_group, 3> groups{mock::tce_group(platform), mock::tce_group(platform),
                                        mock::tce_group(platform)};
  std::unique_ptr<container_type> c = container();

  stage() { pinner.set_contiguity(me, 4 * k); }

  struct picture {
    std::vector<std::vector<mock::domain::mapping>> tables;
    std::uint64_t pinned_pages;
    std::uint64_t charged_pages;
    bool enabled;
    friend bool operator==(const picture&, const picture&) = default;
  };
  picture look() const {
    picture p{{}, pinner.pinned_pages(), pinner.charged(), c->is_enabled()};
    for (const mock::domain* d : platform.tables()) p.tables.push_back(d->contents());
    return p;
  }
};

struct operation {
  const char* call;
  std::function<std::string(stage&)> run;
  bool clears = false;  // a failure may clear entries
};

/// Each operation, with those before it done, with the n-th fallible call failing.
void sweep(const std::vector<operation>& operations) {
  fault_report report;
  std::size_t faults = 0;
  for (std::size_t which = 0; which < operations.size(); ++which) {
    for (std::uint64_t n = 0;; ++n) {
      CAPTURE(which, n);
      stage s;
      for (std::size_t before = 0; before < which; ++before)
        REQUIRE(operations[before].run(s) == "0");
      const stage::picture was = s.look();
      const std::string answer =
          report.run(operations[which].call, s.faults, n, [&] { return operations[which].run(s); });
      const bool fired = s.faults.fired();
      REQUIRE(s.c->verify() == "");
      REQUIRE(s.registry.verify() == "");
      if (!fired) {
        REQUIRE(answer == "0");
        break;
      }
      ++faults;
      if (answer != "0") {
        if (!operations[which].clears) REQUIRE((s.look() == was));
        REQUIRE(operations[which].run(s) == "0");
      }
      for (std::size_t after = which + 1; after < operations.size(); ++after)
        REQUIRE(operations[after].run(s) == "0");
      s.c.reset();
      REQUIRE(s.is_idle());
    }
  }
  CHECK(faults > operations.size());
  using enum mock::fault_point;
  CHECK(report.not_fired({allocation, pin, charge, map_runs, replace, create_table, set_window}) ==
        "");
  report.print("an SPAPR container");
}

}  // namespace

TEST_CASE("v1: whatever fails, nothing leaks, and it can be done again") {
  sweep({
      {"join", [](stage& s) { return said(s.c->join(s.groups[0])); }},
      {"set_iommu", [](stage& s) { return said(s.c->set_iommu(v1)); }},
      {"enable", [](stage& s) { return said(s.c->enable()); }},
      {"window", [](stage& s) { return unmap(*s.c, 0, 0); }},
      {"map", [](stage& s) { return map(*s.c, arena, 0, 64 * k); }, true},
      {"map", [](stage& s) { return map(*s.c, arena + mebibyte, 48 * k, 200 * k); }, true},
      {"unmap", [](stage& s) { return unmap(*s.c, 8 * k, 8 * k); }},
      {"map", [](stage& s) { return map(*s.c, arena, 0, 300 * k); }, true},
      {"disable", [](stage& s) { return said(s.c->disable()); }},
  });
}

TEST_CASE("v2: whatever fails, nothing leaks, and it can be done again") {
  sweep({
      {"join", [](stage& s) { return said(s.c->join(s.groups[0])); }},
      {"join", [](stage& s) { return said(s.c->join(s.groups[1])); }},
      {"set_iommu", [](stage& s) { return said(s.c->set_iommu(v2)); }},
      {"enroll", [](stage& s) { return enroll(*s.c, arena, 512 * k); }},
      {"window", [](stage& s) { return unmap(*s.c, 0, 0); }},
      {"map", [](stage& s) { return map(*s.c, arena, 0, 64 * k); }, true},
      {"map", [](stage& s) { return map(*s.c, arena + 64 * k, 48 * k, 200 * k); }, true},
      {"create",
       [](stage& s) { return create(*s.c, 12, mebibyte) == "0x800000000000000" ? "0" : "failed"; }},
      {"enroll", [](stage& s) { return enroll(*s.c, arena + mebibyte, 64 * k); }},
      {"map", [](stage& s) { return map(*s.c, arena + mebibyte, 1ULL << 59, 64 * k); }, true},
      {"unmap", [](stage& s) { return unmap(*s.c, 8 * k, 100 * k); }},
      {"withdraw", [](stage& s) { return withdraw(*s.c, arena + mebibyte, 64 * k); }},
      {"join", [](stage& s) { return said(s.c->join(s.groups[2])); }},
      {"remove", [](stage& s) { return remove(*s.c, 1ULL << 59); }},
  });
}

// --- Oracle -----------------------------------------------------------------------------------------

namespace {

/// Two containers of one process and some regions, of which some overlap.
void play(std::uint64_t seed) {
  CAPTURE(seed);
  machine m;
  m.pinner.set_contiguity(m.me, 8 * k);
  mock::tce_group one(m.platform);
  mock::tce_group two(m.platform);
  const auto a = m.container(one, v2);
  const auto b = m.container(two, v2);
  container_type* const c[] = {a.get(), b.get()};
  mock::tce_group* const group[] = {&one, &two};
  std::mt19937_64 random(seed);
  const auto below = [&](std::uint64_t n) { return random() % n; };

  struct region {
    std::uint64_t first, pages;
    bool held[2] = {};
    std::uint64_t uses = 0;
    bool alive() const { return held[0] || held[1] || uses != 0; }
    bool has(std::uint64_t page) const { return first <= page && page < first + pages; }
  };
  std::array<region, 6> regions{{{0, 16}, {16, 8}, {24, 40}, {12, 8}, {60, 20}, {90, 6}}};
  std::map<std::uint64_t, std::uint64_t> shown[2];
  const auto owner_of = [&](std::uint64_t page) -> region* {
    for (region& r : regions)
      if (r.alive() && r.has(page)) return &r;
    return nullptr;
  };
  const auto forget = [&](std::size_t who, std::uint64_t entry) {
    const auto at = shown[who].find(entry);
    if (at == shown[who].end()) return;
    --owner_of(at->second)->uses;
    shown[who].erase(at);
  };
  bool enabled[2] = {};
  bool has_window[2] = {};

  for (int step = 0; step < 400; ++step) {
    CAPTURE(step);
    const std::size_t who = below(2);
    region& r = regions[below(regions.size())];
    const std::uint64_t first = below(100), count = 1 + below(20);
    switch (below(6)) {
      case 0: {
        bool overlaps = false;
        for (const region& other : regions)
          overlaps =
              overlaps || (&other != &r && other.alive() && other.first < r.first + r.pages &&
                           r.first < other.first + other.pages);
        const std::string expected =
            r.alive() ? (r.held[who] ? "EBUSY" : "0") : (overlaps ? "EINVAL" : "0");
        REQUIRE(enroll(*c[who], arena + r.first * 4 * k, r.pages * 4 * k) == expected);
        if (expected == "0") r.held[who] = enabled[who] = true;
        break;
      }
      case 1: {
        if (!enabled[who]) break;
        REQUIRE(withdraw(*c[who], arena + r.first * 4 * k, r.pages * 4 * k) ==
                (r.held[who] ? "0" : "ENOENT"));
        r.held[who] = false;
        break;
      }
      case 2: {
        REQUIRE(unmap(*c[who], first * 4 * k, count * 4 * k) == (enabled[who] ? "0" : "EPERM"));
        has_window[who] = has_window[who] || enabled[who];
        for (std::uint64_t n = 0; n < count; ++n) forget(who, first + n);
        break;
      }
      default: {
        const std::uint64_t page = below(100);
        std::uint64_t good = 0;
        bool fades = false;  // a region that goes while the call is at it
        for (; good < count; ++good) {
          const region* const from = owner_of(page + good);
          if (from == nullptr) break;
          fades = fades || !(from->held[0] || from->held[1]);
        }
        if (fades) break;
        const std::string expected = !enabled[who] ? "EPERM" : good == count ? "0" : "EINVAL";
        REQUIRE(map(*c[who], arena + page * 4 * k, first * 4 * k, count * 4 * k) == expected);
        if (!enabled[who]) break;
        has_window[who] = true;
        for (std::uint64_t n = 0; n < good; ++n) {
          forget(who, first + n);
          if (good != count) continue;
          shown[who][first + n] = page + n;
          ++owner_of(page + n)->uses;
        }
      }
    }
    std::uint64_t pages = 0;
    for (const region& each : regions) pages += each.alive() ? each.pages : 0;
    REQUIRE(m.pinner.pinned_pages() == pages);
    REQUIRE(m.charged() == pages + 512 * (std::uint64_t{has_window[0]} + has_window[1]));
    for (std::size_t n = 0; n < 2; ++n) {
      if (!has_window[n]) continue;
      REQUIRE(group[n]->shown(0)->bytes_mapped() == shown[n].size() * 4 * k);
      for (const auto& [entry, page] : shown[n])
        if (group[n]->shown(0)->translate({entry * 4 * k}) != m.frame(arena + page * 4 * k))
          FAIL("entry " << entry);
    }
    REQUIRE(m.registry.verify() == "");
    REQUIRE(c[who]->verify() == "");
  }
  REQUIRE(a->leave(one));
  REQUIRE(b->leave(two));
  REQUIRE(m.is_idle());
}

}  // namespace

TEST_CASE("oracle: two containers of a process", "[model]") {
  for (std::uint64_t seed = 0; seed < 24; ++seed) play(seed);
}

// --- Kinds ------------------------------------------------------------------------------------------

namespace {
struct threads : multi_threaded {
  using memory = mock::failing_memory;
};
}  // namespace

TEST_CASE("the same with locks, and with CPU pages of 64 KiB") {
  const auto use = []<class Traits>(Traits) {
    spapr_machine<Traits> m;
    mock::tce_group group(m.platform);
    const auto c = m.container(group, v2);
    REQUIRE(enroll(*c, arena, mebibyte) == "0");
    REQUIRE(map(*c, arena + 4 * k, 0, 32 * k) == "0");
    REQUIRE(group.shown(0)->translate({5 * k}) == m.frame(arena + 9 * k));
    REQUIRE(create(*c, 16, gibibyte) == hex(1ULL << 59));
    REQUIRE(map(*c, arena, 1ULL << 59, mebibyte) == (m.page == 64 * k ? "0" : "EINVAL"));
    REQUIRE(m.charged() == mebibyte / m.page + (2 * mebibyte + 128 * k) / m.page);
    REQUIRE(c->verify() == "");
    REQUIRE(c->leave(group));
    REQUIRE(m.is_idle());
  };
  use(threads{});
  use(spapr_traits_64k{});
}

TEST_CASE("containers of a process on two threads share a region", "[threads]") {
  spapr_machine<threads> m;
  mock::tce_group groups[2] = {mock::tce_group(m.platform), mock::tce_group(m.platform)};
  std::unique_ptr<spapr_machine<threads>::container_type> c[2];
  for (int n = 0; n < 2; ++n) {
    c[n] = m.container(groups[n], v2);
    REQUIRE(enroll(*c[n], arena + mebibyte, 4 * k) == "0");
    REQUIRE(unmap(*c[n], 0, 0) == "0");  // the default window
  }
  int failures[2] = {};
  const auto work = [&](int n) {
    for (int step = 0; step < 200; ++step) {
      failures[n] += enroll(*c[n], arena, 64 * k) != "0";
      failures[n] += map(*c[n], arena, 0, 64 * k) != "0";
      failures[n] += map(*c[n], arena + 32 * k, 4 * k, 16 * k) != "0";
      failures[n] += withdraw(*c[n], arena, 64 * k) != "0";
      failures[n] += unmap(*c[n], 0, 64 * k) != "0";
    }
  };
  std::thread other(work, 1);
  work(0);
  other.join();
  CHECK(failures[0] == 0);
  CHECK(failures[1] == 0);
  CHECK(m.registry.verify() == "");
  CHECK(m.pinner.pinned_pages() == 1);
  for (int n = 0; n < 2; ++n) REQUIRE(c[n]->leave(groups[n]));
  CHECK(m.is_idle());
}

TEST_CASE("typed calls answer as the ioctls do") {
  machine m;
  mock::tce_group group(m.platform);
  const auto c = m.container(group, v2);
  CHECK(said(c->enable()) == "ENOTTY");
  CHECK(said(c->register_memory({arena}, 64 * k)) == "0");
  CHECK(said(c->map_dma(abi::map_read, {arena}, {0}, 8 * k)) == "0");
  CHECK(said(c->map_dma(abi::map_read, {arena}, {1}, 8 * k)) == "1");
  CHECK(said(c->unmap_dma(0, {0}, 4 * k)) == "0");
  CHECK(said(c->create_window({.page_lg2 = 16, .levels = 2, .length_bytes = 1 << 30})) ==
        hex(1ULL << 59));
  CHECK(said(c->remove_window({1ULL << 59})) == "0");
  CHECK(said(c->unregister_memory({arena}, 64 * k)) == "0");
  CHECK(c->window(0)->entries().area_count() == 1);
  CHECK(c->window(1) == nullptr);
}
