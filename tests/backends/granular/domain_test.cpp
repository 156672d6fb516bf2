// tests/backends/granular/domain_test.cpp - a domain over a table that cannot cut.
#include "iopt/backends/granular/domain.hpp"

#include <array>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "iopt/backends/mock/fault_injector.hpp"
#include "iopt/backends/mock/mock.hpp"
#include "iopt/core/io_pagetable.hpp"
#include "tests/backends/granular/memory_table.hpp"
#include "tests/catch.hpp"
#include "tests/policy/iommu_domain_conformance.hpp"

namespace {

using namespace iopt;
using test::memory_table;
using test::table_state;

using domain = granular::domain<memory_table>;
static_assert(iommu_domain<domain> && run_mapping_domain<domain> && splitting_domain<domain> &&
              reserved_regions_domain<domain> && unreadable_domain<domain> &&
              !dirty_tracking_domain<domain> && !run_returning_domain<domain> &&
              exact_domain<domain>::value);

constexpr std::uint64_t page = 4096;
constexpr physical memory{std::uint64_t{1} << 40};
constexpr attributes usual{access_rights::read_write, memory_type::cached};

iova_range pages(std::uint64_t first, std::uint64_t count) {
  return iova_range::sized({first * page}, count * page);
}

/// A domain and the table below it, which must never see a misuse.
struct rig {
  std::shared_ptr<table_state> table = std::make_shared<table_state>();
  domain d;
  explicit rig(granular::options how, std::optional<std::uint64_t> limit = std::nullopt)
      : d(memory_table((table->limit = limit, table)), how) {}
  ~rig() { check(); }
  void check() const {
    CHECK(std::string(d.verify()) == "");
    if (table->wrong != nullptr) FAIL(table->wrong);
    CHECK(d.entries() == table->entries.size());
  }
};

TEST_CASE("a granular domain keeps the contract of iommu_domain", "[conformance]") {
  const int n = GENERATE(0, 1, 2, 3);
  CAPTURE(n);
  const granular::options all[] = {
      {granules::fixed(page)},
      {granules::power_of_two(page)},
      {.pieces = granules::whole(), .inside = granular::inside_piece::unmap_and_remap},
      {.pieces = granules::power_of_two(), .inside = granular::inside_piece::unmap_and_remap}};
  const auto table = std::make_shared<table_state>();
  struct small : iopt_conformance::imaginary_memory {
    std::uint64_t largest_bytes() const { return 8 * mebibyte; }
  };
  iopt_conformance::check_domain<domain>([&] { return domain(memory_table(table), all[n]); },
                                         small{});
  CHECK(table->entries.empty());
  if (table->wrong != nullptr) FAIL(table->wrong);
}

TEST_CASE("granular: a hole is made at once where pieces end, and elsewhere refused") {
  rig w({granules::fixed(4 * page)});
  REQUIRE(w.d.map(pages(1, 30), memory, usual).has_value());
  CHECK(w.d.entries() == 8);
  CHECK(w.d.stretches() == 1);
  const result<void> inside = w.d.split(pages(6, 4));
  REQUIRE_FALSE(inside.has_value());
  CHECK(inside.error() == errc::invalid_argument);
  CHECK(inside.error().place == error_place::area);
  CHECK(inside.error().at == 4 * page);
  CHECK(w.d.last_refusal().predicted);
  CHECK(w.d.stretches() == 1);
  const std::uint64_t unmaps = w.table->unmaps;
  REQUIRE(w.d.split(pages(8, 4)).has_value());
  CHECK(w.table->unmaps == unmaps);  // no device sees a fault
  CHECK(w.d.stretches() == 3);
  CHECK(w.d.entries() == 8);
  CHECK(w.d.unmap(pages(8, 4)) == 4 * page);
  CHECK(w.d.entries() == 7);
  CHECK_FALSE(w.table->at({8 * page}).has_value());
  CHECK(w.table->at({12 * page}) == memory.value + 11 * page);
  w.check();
}

TEST_CASE("granular: by the policy named for it, a piece is taken out and comes back in two") {
  rig w({.pieces = granules::power_of_two(), .inside = granular::inside_piece::unmap_and_remap},
        20);
  REQUIRE(w.d.map(pages(16, 16), memory, usual).has_value());
  CHECK(w.d.entries() == 1);
  REQUIRE(w.d.split(pages(21, 1)).has_value());
  CHECK(w.d.entries() == 5);  // 16-19 20 | 21 | 22-23 24-31
  w.check();
  CHECK(w.table->at({21 * page + 5}) == memory.value + 5 * page + 5);
  CHECK(w.d.unmap(pages(21, 1)) == page);
  w.check();

  // Each failure on the way leaves all as it was.
  for (std::uint64_t n = 0;; ++n) {
    rig r({.inside = granular::inside_piece::unmap_and_remap});
    REQUIRE(r.d.map(pages(16, 16), memory, usual).has_value());
    const auto before = r.table->entries;
    r.table->fail_map_in = n;
    const result<void> done = r.d.split(pages(16, 4));
    if (done) {
      CHECK(n == 2);
      break;
    }
    CHECK(done.error() == errc::bad_address);
    CHECK(r.table->entries == before);
    CHECK_FALSE(r.d.poisoned());
    r.check();
  }

  // No entry for the second part: told before the piece is taken out.
  rig full({.inside = granular::inside_piece::unmap_and_remap}, 1);
  REQUIRE(full.d.map(pages(16, 16), memory, usual).has_value());
  CHECK(full.d.split(pages(16, 4)) == result<void>(fail(errc::no_space_on_device)));
  CHECK(full.table->unmaps == 0);
}

TEST_CASE("granular: what does not fit is told before the first entry is made") {
  rig w({granules::fixed(page)}, 10);
  CHECK(w.d.map(pages(0, 11), memory, usual) == result<void>(fail(errc::no_space_on_device)));
  CHECK(w.table->maps == 0);
  CHECK(w.d.last_refusal().predicted);
  CHECK(w.d.last_refusal().entries == 11);
  CHECK(w.d.last_refusal().left == 10);
  CHECK(w.d.last_refusal().advice().find("dma_entry_limit") != std::string::npos);
  REQUIRE(w.d.map(pages(0, 6), memory, usual).has_value());
  const std::uint64_t asked = w.table->asked;
  REQUIRE(w.d.map(pages(20, 4), memory, usual).has_value());
  CHECK(w.table->asked == asked);  // what it said before suffices
  CHECK(w.d.entries_left() == 0);
  // A vector of runs is counted as one.
  w.d.unmap(pages(0, 6));
  const run runs[] = {{memory, 3 * page}, {memory + 8 * page, 4 * page}};
  CHECK_FALSE(w.d.map_runs({0}, runs, access_rights::read).has_value());
  CHECK(w.d.last_refusal().entries == 7);
  CHECK(w.table->maps == 10);

  rig other({granules::fixed(page), granular::when_full::coarsen}, 10);
  REQUIRE(other.d.map(pages(0, 16), memory, usual).has_value());
  CHECK(other.d.entries() == 8);
  REQUIRE(other.d.map(pages(100, 16), memory, usual).has_value());
  CHECK(other.d.entries() == 10);
  CHECK_FALSE(other.d.map(pages(200, 1), memory, usual).has_value());
  CHECK(other.d.split(pages(2, 2)).has_value());
  CHECK_FALSE(other.d.split(pages(3, 1)).has_value());
}

TEST_CASE("granular: others who use the table are noticed, at the latest when it refuses") {
  rig w({granules::fixed(page)}, 10);
  REQUIRE(w.d.map(pages(0, 2), memory, usual).has_value());
  memory_table beside(w.table);
  for (std::uint64_t n = 0; n < 7; ++n)
    REQUIRE(beside.map(pages(100 + n, 1), memory, access_rights::read).has_value());
  CHECK(w.d.map(pages(4, 3), memory, usual) == result<void>(fail(errc::no_space_on_device)));
  CHECK_FALSE(w.d.last_refusal().predicted);
  CHECK(w.table->entries.size() == 9);  // and what went well is taken back
  CHECK(w.d.map(pages(4, 3), memory, usual) == result<void>(fail(errc::no_space_on_device)));
  CHECK(w.d.last_refusal().predicted);
  CHECK(beside.unmap(pages(100, 7)) == 7 * page);
  CHECK(w.d.map(pages(4, 3), memory, usual).has_value());
}

TEST_CASE("granular: errors of the table leave nothing, and are told with what helps") {
  for (const errc code : {errc::not_enough_memory, errc::bad_address, errc::file_exists}) {
    rig w({granules::fixed(page)});
    w.table->failure = code;
    w.table->fail_map_in = 3;
    CHECK(w.d.map(pages(0, 5), memory, usual) == result<void>(fail(code)));
    CHECK(w.table->entries.empty());
    CHECK(w.d.stretches() == 0);
    CHECK(w.d.last_refusal().code == code);
    CHECK_FALSE(w.d.last_refusal().advice().empty());
    w.table->fail_map_in = 4;
    const run runs[] = {{memory, 3 * page}, {memory + 8 * page, 4 * page}};
    CHECK_FALSE(w.d.map_runs({0}, runs, access_rights::read).has_value());
    CHECK(w.table->entries.empty());
    CHECK(w.d.stretches() == 0);
  }
  rig w({});
  CHECK_FALSE(w.d.map(pages(0, 1), memory, {access_rights::none}).has_value());
  CHECK_FALSE(w.d.map(pages(0, 1), memory, {access_rights::execute}).has_value());
  CHECK(w.table->maps == 0);
}

TEST_CASE("granular: a table that comes back short is not believed again") {
  rig w({granules::fixed(page)});
  REQUIRE(w.d.map(pages(0, 5), memory, usual).has_value());
  w.table->comes_back_short = true;
  CHECK(w.d.unmap(pages(0, 5)) == 4 * page);
  CHECK(w.d.poisoned());
  w.table->comes_back_short = false;
}

TEST_CASE("granular: without memory of the library nothing is asked of the table") {
  mock::fault_injector faults;
  mock::memory_account account(&faults);
  auto table = std::make_shared<table_state>();
  {
    granular::domain<memory_table, mock::failing_memory> d(memory_table(table), {},
                                                           mock::failing_memory(account));
    faults.arm(0);
    CHECK(d.map(pages(0, 5), memory, usual) == result<void>(fail(errc::not_enough_memory)));
    CHECK(table->maps == 0);
    CHECK(d.last_refusal().advice() == "no memory for the library itself");
    faults.disarm();
    CHECK(d.map(pages(0, 5), memory, usual).has_value());
  }
  CHECK(table->entries.empty());  // what is mapped at the end, is unmapped
  CHECK(account.live_blocks() == 0);
}

TEST_CASE("granular: random stretches, splits and holes against a map of pages", "[model]") {
  const int kind = GENERATE(0, 1, 2, 3, 4);
  const std::uint64_t seed = 77;
  CAPTURE(kind, seed);
  std::mt19937_64 random(seed);
  const bool remaps = kind >= 3;
  const granules pieces = kind == 0 || kind == 3 ? granules::whole()
                          : kind == 1            ? granules::fixed(4 * page)
                                                 : granules::power_of_two();
  rig w(
      {.pieces = pieces,
       .inside = remaps ? granular::inside_piece::unmap_and_remap : granular::inside_piece::refuse},
      14);
  constexpr std::uint64_t width = 96;
  std::array<std::uint64_t, width> shown{};  // 0: nothing
  std::uint64_t holes = 0, refused = 0, full = 0;
  for (int step = 0; step < 4000; ++step) {
    CAPTURE(step);
    const std::uint64_t first = random() % width;
    const std::uint64_t count = 1 + random() % std::min<std::uint64_t>(24, width - first);
    if (random() % 2 == 0) {
      bool free = true;
      for (std::uint64_t n = first; n < first + count; ++n) free = free && shown[n] == 0;
      if (!free) continue;
      const std::uint64_t from = memory.value + (random() % 4096) * page;
      if (random() % 8 == 0) w.table->fail_map_in = random() % 4;
      const std::uint64_t maps = w.table->maps;
      const result<void> mapped = w.d.map(pages(first, count), {from}, usual);
      w.table->fail_map_in.reset();
      if (mapped) {
        for (std::uint64_t n = 0; n < count; ++n) shown[first + n] = from + n * page;
      } else if (mapped.error() == errc::no_space_on_device) {
        ++full;
        REQUIRE(w.table->maps == maps);
      }
    } else {
      const std::uint64_t unmaps = w.table->unmaps;
      if (const result<void> split = w.d.split(pages(first, count)); !split) {
        ++refused;
        REQUIRE((remaps ? errc::no_space_on_device : errc::invalid_argument) == split.error().code);
      } else {
        if (!remaps) REQUIRE(w.table->unmaps == unmaps);
        std::uint64_t bytes = 0;
        for (std::uint64_t n = first; n < first + count; ++n)
          if (std::exchange(shown[n], 0) != 0) bytes += page;
        REQUIRE(w.d.unmap(pages(first, count)) == bytes);
        ++holes;
      }
    }
    for (std::uint64_t n = 0; n < width; ++n)
      if (w.table->at({n * page + 9}).value_or(9) != shown[n] + 9) FAIL("page " << n);
    w.check();
    REQUIRE_FALSE(w.d.poisoned());
  }
  CHECK(holes > 100);
  if (kind == 1 || kind == 2) CHECK(full > 0);
  CHECK((refused > 20 || pieces.shape() == granule_shape::whole || kind == 2 || remaps));
}

}  // namespace
