#include "iopt/backends/mock/domain.hpp"

#include <thread>
#include <vector>

#include "tests/catch.hpp"

using namespace iopt;

namespace {

constexpr attributes rw{iopt::access_rights::read_write, memory_type::cached};
constexpr std::uint64_t page = 4096;

iova_range pages(std::uint64_t first, std::uint64_t count) {
  return iova_range::sized({first * page}, count * page);
}

}  // namespace

TEST_CASE("the mock domain counts calls and entries") {
  mock::domain d;
  REQUIRE(d.map(iova_range::sized({gibibyte}, 2 * gibibyte), {8 * gibibyte}, rw).has_value());
  CHECK(d.entries(gibibyte) == 2);
  CHECK(d.entries() == 2);
  CHECK(d.bytes_mapped() == 2 * gibibyte);
  const run runs[] = {{{page}, page}, {{64 * page}, 3 * page}};
  REQUIRE(d.map_runs({0}, runs, iopt::access_rights::read).has_value());
  CHECK(d.entries(page) == 4);
  CHECK(d.translate({5}) == physical{page + 5});
  d.sync();
  mock::domain_calls expected;
  expected.map = 1;
  expected.map_runs = 1;
  expected.runs = 2;
  expected.translate = 1;
  expected.sync = 1;
  CHECK(d.calls() == expected);
  CHECK(d.calls().writes() == 3);
  d.reset_calls();
  CHECK(d.calls() == mock::domain_calls{});

  const std::vector<mock::domain::mapping> t = d.contents();
  REQUIRE(t.size() == 3);
  CHECK(t[0] == mock::domain::mapping{pages(0, 1), {page}, {iopt::access_rights::read, {}}});
  CHECK(t[1] == mock::domain::mapping{pages(1, 3), {64 * page}, {iopt::access_rights::read, {}}});
  CHECK(t[2].range == iova_range::sized({gibibyte}, 2 * gibibyte));
  CHECK(d.verify() == "");
}

// Each broken precondition is noticed, and the call does nothing.
TEST_CASE("the mock domain notices broken preconditions") {
  mock::domain_options options;
  options.aperture = {{page}, {gibibyte - 1}};
  mock::domain d(options);
  d.record_violations();
  run storage[2];
  run_list list{storage};
  const auto noticed = [&](const char* text) {
    const bool good = d.violations() == 1 && d.last_violation().find(text) != std::string::npos;
    if (!good) UNSCOPED_INFO(d.last_violation());
    d.forget_violations();
    return good;
  };
  CHECK(!d.map(iova_range::sized({page + 512}, page), {0}, rw));
  CHECK(noticed("not aligned"));
  CHECK(!d.map(pages(1, 1), {512}, rw));
  CHECK(noticed("not aligned"));
  CHECK(!d.map(iova_range::sized({page}, 512), {0}, rw));
  CHECK(noticed("not aligned"));
  CHECK(!d.map(pages(0, 2), {0}, rw));
  CHECK(noticed("aperture"));
  CHECK(!d.map(iova_range::sized({gibibyte - page}, 2 * page), {0}, rw));
  CHECK(noticed("aperture"));
  CHECK(!d.map(pages(1, 2), {top - page + 1}, rw));
  CHECK(noticed("physical"));
  CHECK(!d.map_runs({page}, {}, iopt::access_rights::read));
  CHECK(noticed("no run"));

  REQUIRE(d.map(pages(4, 4), {0}, rw).has_value());
  CHECK(d.map(pages(6, 1), {0}, rw).error() == errc::file_exists);
  CHECK(noticed("something is mapped"));
  // In the middle of a call: what came before it is undone.
  CHECK(!d.map(pages(2, 3), {0}, rw));
  CHECK(noticed("something is mapped"));
  const run runs[] = {{{page}, page}, {{0}, 3 * page}};
  CHECK(!d.map_runs({2 * page}, runs, iopt::access_rights::read));
  CHECK(noticed("something is mapped"));
  CHECK(d.bytes_mapped() == 4 * page);

  // Not from a start, not to an end, nothing there, a hole inside.
  for (const iova_range r : {pages(5, 3), pages(4, 3), pages(20, 1), pages(3, 5), pages(4, 5)}) {
    CAPTURE(r.first.value);
    CHECK(d.unmap(r) == 0);
    CHECK(noticed("not a union"));
    CHECK(d.unmap_runs(r, list) == 0);
    CHECK(noticed("not a union"));
  }
  REQUIRE(d.map(pages(9, 1), {0}, rw).has_value());
  CHECK(d.unmap(pages(4, 6)) == 4 * page);
  CHECK(noticed("a hole"));
  CHECK(d.bytes_mapped() == page);

  run_list full;
  CHECK(d.unmap_runs(pages(9, 1), full) == 0);
  CHECK(noticed("full"));
  CHECK(!d.split({{9 * page + 1}, {10 * page - 1}}));
  CHECK(noticed("split"));
  CHECK(!d.protect(pages(9, 2), iopt::access_rights::read));
  CHECK(noticed("protect"));
  CHECK(!d.replace({10 * page}, std::span(runs).first(1), iopt::access_rights::read));
  CHECK(noticed("replace"));
  CHECK(d.unmap(pages(9, 1)) == page);
  CHECK(d.violations() == 0);
}

TEST_CASE("the mock domain notices calls that overlap") {
  mock::domain d;
  d.record_violations();
  REQUIRE(d.map(pages(0, 1), {0}, rw).has_value());
  REQUIRE(d.set_dirty_tracking(true).has_value());
  d.mark_dirty(pages(0, 1));
  REQUIRE(d.read_dirty(pages(0, 1), dirty_read::keep, [&](iova_range) {
             d.sync();
             (void)d.translate({0});
           }).has_value());
  CHECK(d.violations() >= 1);
}

TEST_CASE("every fault point of the mock domain leaves T unchanged", "[sweep]") {
  mock::fault_injector faults;
  mock::domain_options options;
  options.faults = &faults;
  mock::domain d(options);
  REQUIRE(d.map(iova_range::sized({gibibyte}, gibibyte), {gibibyte}, rw).has_value());
  const auto before = d.contents();
  const run runs[] = {{{0}, page}, {{8 * page}, page}};
  const run other[] = {{{4 * gibibyte}, gibibyte}};
  const auto operation = [&](int n) -> result<void> {
    switch (n) {
      case 0: return d.map(pages(0, 1), {0}, rw);
      case 1: return d.map_runs({0}, runs, iopt::access_rights::read);
      case 2: return d.split(iova_range::sized({gibibyte + page}, page));
      case 3: return d.protect(iova_range::sized({gibibyte}, gibibyte), iopt::access_rights::read);
      case 4: return d.replace({gibibyte}, other, iopt::access_rights::read);
      default: return d.set_dirty_tracking(true);
    }
  };
  for (int n = 0; n < 6; ++n) {
    CAPTURE(n);
    faults.arm(0);
    const result<void> answer = operation(n);
    REQUIRE_FALSE(answer.has_value());
    CHECK(faults.fired());
    CHECK(answer.error() == faults.error_of(faults.fired_at()));
    CHECK(d.contents() == before);
    CHECK(d.verify() == "");
  }
}

TEST_CASE("giving back the rights of just before does not fail") {
  mock::fault_injector faults;
  mock::domain_options options;
  options.faults = &faults;
  mock::domain d(options);
  REQUIRE(d.map(pages(0, 2), {0}, rw).has_value());
  REQUIRE(d.map(pages(2, 2), {0}, rw).has_value());
  REQUIRE(d.protect(pages(0, 2), iopt::access_rights::read).has_value());
  REQUIRE(d.protect(pages(2, 2), iopt::access_rights::read).has_value());
  faults.arm(0);
  CHECK(d.protect(pages(2, 2), iopt::access_rights::read_write).has_value());
  CHECK(d.protect(pages(0, 2), iopt::access_rights::read_write).has_value());
  CHECK_FALSE(faults.fired());
  CHECK_FALSE(d.protect(pages(0, 4), iopt::access_rights::read_write).has_value());
  CHECK(d.attributes_at({3 * page}) == rw);
}

TEST_CASE("a device faults where its rights end") {
  mock::domain d;
  REQUIRE(d.map(pages(1, 2), {0}, rw).has_value());
  REQUIRE(d.map(pages(3, 1), {0}, {iopt::access_rights::read, {}}).has_value());
  CHECK(d.device_reads(pages(1, 3)));
  CHECK_FALSE(d.device_reads(pages(1, 4)));
  CHECK_FALSE(d.device_reads(pages(0, 2)));
  CHECK(d.device_writes(pages(1, 2)));
  CHECK_FALSE(d.device_writes(pages(2, 2)));
  CHECK(d.device_reads({{page + 7}, {page + 7}}));
  CHECK_FALSE(d.device_reads(pages(8, 1)));
  REQUIRE(d.map({{top - 4095}, {top}}, {0}, rw).has_value());
  CHECK(d.device_writes({{top - 10}, {top}}));
}

TEST_CASE("dirt is told once, joined, for whole entries") {
  mock::domain d({.page_sizes = {page, 16 * page, 2 * mebibyte}});
  REQUIRE(d.map(iova_range::sized({0}, 2 * mebibyte), {0}, rw).has_value());
  REQUIRE(d.map(iova_range::sized({2 * mebibyte}, 16 * page), {page * 16}, rw).has_value());
  REQUIRE(d.map(iova_range::sized({2 * mebibyte + 16 * page}, 2 * page), {page}, rw).has_value());
  REQUIRE(d.entries(16 * page) == 1);
  std::vector<iova_range> seen;
  const auto read = [&](iova_range r, dirty_read mode) {
    seen.clear();
    return d.read_dirty(r, mode, [&](iova_range part) { seen.push_back(part); });
  };
  const iova_range all = iova_range::sized({0}, 2 * mebibyte + 18 * page);
  CHECK(read(all, dirty_read::keep).error() == errc::invalid_argument);
  CHECK(d.device_writes({{100}, {100}}));  // tracking is off: not told
  REQUIRE(d.set_dirty_tracking(true).has_value());
  REQUIRE(read(all, dirty_read::keep).has_value());
  CHECK(seen.empty());
  // One byte in the middle of a group; one in the last page.
  CHECK(d.device_writes({{2 * mebibyte + 5 * page}, {2 * mebibyte + 5 * page}}));
  CHECK(d.device_writes({{2 * mebibyte + 17 * page}, {2 * mebibyte + 17 * page}}));
  REQUIRE(read(all, dirty_read::keep).has_value());
  REQUIRE(seen.size() == 2);
  CHECK(seen[0] == iova_range::sized({2 * mebibyte}, 16 * page));
  CHECK(seen[1] == iova_range::sized({2 * mebibyte + 17 * page}, page));
  // Clearing a part of an entry clears the entry.
  const iova_range part = iova_range::sized({2 * mebibyte + 2 * page}, 3 * page);
  REQUIRE(read(part, dirty_read::clear).has_value());
  REQUIRE(seen.size() == 1);
  CHECK(seen[0] == part);
  REQUIRE(read(all, dirty_read::clear).has_value());
  CHECK(seen.size() == 1);
  REQUIRE(read(all, dirty_read::clear).has_value());
  CHECK(seen.empty());
  CHECK(mock::domain({.tracks_dirty = false}).set_dirty_tracking(true).error() ==
        errc::operation_not_supported);
}

TEST_CASE("replaced entries stay written") {
  mock::domain d;
  REQUIRE(d.set_dirty_tracking(true).has_value());
  REQUIRE(d.map(pages(0, 4), {0}, rw).has_value());
  CHECK(d.device_writes(pages(2, 1)));
  const run there[] = {{{64 * page}, 4 * page}};
  REQUIRE(d.replace({0}, there, iopt::access_rights::read_write).has_value());
  std::uint64_t dirty = 0;
  REQUIRE(d.read_dirty(pages(0, 4), dirty_read::keep, [&](iova_range r) {
             dirty += r.length();
           }).has_value());
  CHECK(dirty == page);
}

TEST_CASE("a table that comes back short stays short until it is healed") {
  mock::domain d;
  for (std::uint64_t n = 0; n < 4; ++n) REQUIRE(d.map(pages(n, 1), {n * page}, rw));
  d.short_unmap_after(1);
  CHECK(d.unmap(pages(0, 1)) == page);
  CHECK(d.unmap(pages(1, 3)) == page);
  CHECK(d.stuck_at() == iova{2 * page});
  CHECK(d.unmap(pages(2, 2)) == 0);
  CHECK(d.translate({2 * page}).has_value());
  CHECK(d.unsynced_bytes() == 2 * page);
  d.heal();
  CHECK(d.unmap(pages(2, 2)) == 2 * page);
  d.sync();
  CHECK(d.unsynced_bytes() == 0);
  CHECK(d.violations() == 0);

  // One large entry, through unmap_runs(): nothing goes.
  REQUIRE(d.map(iova_range::sized({0}, gibibyte), {0}, rw).has_value());
  d.short_unmap_after(0);
  run storage[1];
  run_list out{storage};
  CHECK(d.unmap_runs(iova_range::sized({0}, gibibyte), out) == 0);
  CHECK(out.empty());
}

TEST_CASE("mapping a gibibyte writes as few entries as there can be", "[cost]") {
  mock::domain d;
  for (const std::uint64_t n : {1u, 2u, 64u}) {
    REQUIRE(d.map(iova_range::sized({0}, n * gibibyte), {0}, rw).has_value());
    CHECK(d.entries() == n);
    CHECK(d.unmap(iova_range::sized({0}, n * gibibyte)) == n * gibibyte);
  }
  // A gibibyte that starts 2 MiB late: 511 large entries on either side.
  REQUIRE(d.map(iova_range::sized({2 * mebibyte}, 2 * gibibyte - 4 * mebibyte), {2 * mebibyte}, rw)
              .has_value());
  CHECK(d.entries() == 2 * 511);
}

TEST_CASE("the mock domain is the one of the kernel's tests") {
  mock::domain d(mock::domain_options::kernel_selftest());
  CHECK(d.page_sizes() == page_size_set{2048});
  CHECK(d.aperture() == iova_range{{1 << 24}, {(std::uint64_t{1} << 31) - 1}});
  CHECK(d.reserved_regions().empty());
  CHECK_FALSE(d.enforce_cache_coherency());
  CHECK(mock::domain().enforce_cache_coherency());
}

TEST_CASE("translate() may be called by several threads") {
  mock::domain d;
  REQUIRE(d.map(pages(0, 8), {0}, rw).has_value());
  std::vector<std::thread> threads;
  for (int t = 0; t < 2; ++t) {
    threads.emplace_back([&d] {
      for (std::uint64_t i = 0; i < 10000; ++i) {
        if (d.translate({i % (8 * page)}) != physical{i % (8 * page)}) std::abort();
      }
    });
  }
  for (std::thread& t : threads) t.join();
  CHECK(d.violations() == 0);
}

TEST_CASE("replacing takes as many entries as it must, and any number of nodes") {
  mock::domain d({.page_sizes = {page, gibibyte}});
  REQUIRE(d.map(iova_range::sized({0}, 4 * gibibyte), {0}, rw).has_value());
  CHECK(d.entries() == 4);
  // No longer congruent: 2^20 small entries in 2048 nodes, and back.
  const run small[] = {{{page}, 4 * gibibyte}};
  REQUIRE(d.replace({0}, small, iopt::access_rights::read_write).has_value());
  CHECK(d.entries(page) == 4 * gibibyte / page);
  CHECK(d.translate({gibibyte + 5}) == physical{gibibyte + page + 5});
  const run large[] = {{{8 * gibibyte}, 4 * gibibyte}};
  REQUIRE(d.replace({0}, large, iopt::access_rights::read_write).has_value());
  CHECK(d.entries() == 4);
  CHECK(d.verify() == "");
}
