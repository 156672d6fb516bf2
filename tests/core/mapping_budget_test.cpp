// tests/core/mapping_budget_test.cpp - costs told before, against entries made one by one.
#include "iopt/core/mapping_budget.hpp"

#include <memory>
#include <random>
#include <vector>

#include "iopt/backends/granular/domain.hpp"
#include "iopt/backends/host/address_pinner.hpp"
#include "iopt/base/page_sizes.hpp"
#include "iopt/core/io_pagetable.hpp"
#include "tests/backends/granular/memory_table.hpp"
#include "tests/catch.hpp"

namespace {

using namespace iopt;
using iopt::access_rights;  // not that of unistd.h

constexpr std::uint64_t page = 4096;
constexpr std::uint64_t dma_entry_limit = 65535;

planned_mapping ram(std::uint64_t bytes, std::uint64_t call_bytes, std::uint64_t contiguous = 0) {
  return {iova_range::sized({0}, bytes),
          {std::uint64_t{1} << 46},
          access_rights::read_write,
          call_bytes,
          contiguous};
}

TEST_CASE("budget: 256 GiB in calls of 4 KiB under 65535 is told to be one call") {
  const planned_mapping guest = ram(256 * gibibyte, page);
  mapping_plan plan = plan_mappings({&guest, 1}, granules::whole(), dma_entry_limit);
  CHECK(plan.entries == 67108864);
  CHECK(plan.bytes == 256 * gibibyte);
  CHECK_FALSE(plan.fits());
  CHECK(plan.remedy == mapping_remedy::coalesce);
  CHECK(plan.entries_then == 1);
  // With holes of 2 MiB to be kept possible: 131072; of 8 MiB it is, as 4 MiB are one too many.
  plan = plan_mappings({&guest, 1}, granules::fixed(2 * mebibyte), dma_entry_limit);
  CHECK(plan.remedy == mapping_remedy::coalesce_and_coarsen);
  CHECK(plan.pieces == granules::fixed(8 * mebibyte));
  CHECK(plan.entries_then == 32768);
  plan = plan_mappings({&guest, 1}, granules::fixed(2 * mebibyte), 65536);
  CHECK(plan.pieces == granules::fixed(4 * mebibyte));
  // In one call, but with pieces of a page: coarser pieces do.
  const planned_mapping whole = ram(256 * gibibyte, 0);
  plan = plan_mappings({&whole, 1}, granules::fixed(page), dma_entry_limit);
  CHECK(plan.entries == 67108864);
  CHECK(plan.remedy == mapping_remedy::coarsen);
  CHECK(plan.pieces == granules::fixed(8 * mebibyte));
  // Memory that is contiguous by the page only, for a table of physical runs: no way.
  const planned_mapping scattered = ram(256 * gibibyte, page, page);
  plan = plan_mappings({&scattered, 1}, granules::fixed(page), dma_entry_limit);
  CHECK(plan.remedy == mapping_remedy::impossible);
  CHECK(plan.entries_then == 67108864);
  CHECK(name(plan.remedy) == "impossible");
  const planned_mapping huge = ram(256 * gibibyte, page, 16 * mebibyte);
  plan = plan_mappings({&huge, 1}, granules::fixed(page), dma_entry_limit);
  CHECK(plan.remedy == mapping_remedy::coalesce_and_coarsen);
  CHECK(plan.entries_then == 32768);
  // iommufd has no limit.
  CHECK(plan_mappings({&guest, 1}, granules::whole(), std::nullopt).fits());
}

TEST_CASE("budget: what people ran into") {
  // 128 GiB in 2 MiB, a call each, is one entry too many: 65536.
  const planned_mapping hugepages = ram(128 * gibibyte, 2 * mebibyte);
  const mapping_plan plan = plan_mappings({&hugepages, 1}, granules::whole(), dma_entry_limit);
  CHECK(plan.entries == 65536);
  CHECK(plan.remedy == mapping_remedy::coalesce);
  // Memory and a BAR beside it are not one call.
  const planned_mapping both[] = {
      {{{0}, {0xbfffffff}}, {0x7f0000000000}, access_rights::read_write},
      {{{0xc0000000}, {0xc0003fff}}, {0x7e0000000000}, access_rights::read_write},
      {{{0xc0004000}, {0xc0007fff}}, {0x7e0000004000}, access_rights::read},
      {{{0xc0008000}, {0xc000bfff}}, {0x7e0000008000}, access_rights::read}};
  CHECK(count_entries(both, granules::whole()) == 4);
  CHECK(count_entries_coalesced(both, granules::whole()) == 3);
}

TEST_CASE("budget: costs are the entries that a domain then makes", "[model]") {
  const std::uint64_t seed = 3;
  CAPTURE(seed);
  std::mt19937_64 random(seed);
  host::address_pinner pinner;
  using domain = granular::domain<test::memory_table>;
  using table_type = io_pagetable<host::address_pinner, domain>;
  int refused = 0, joined = 0;
  for (int step = 0; step < 600; ++step) {
    CAPTURE(step);
    const std::uint64_t size = page << random() % 6;
    const granules pieces = random() % 3 == 0   ? granules::whole()
                            : random() % 2 == 0 ? granules::fixed(size)
                                                : granules::power_of_two(size);
    std::vector<table_type::map_request> requests;
    table_type names(pinner);
    std::uint64_t at = random() % 64 * page, from = (std::uint64_t{1} << 40) + random() % 64 * page;
    for (std::uint64_t n = 0, count = 1 + random() % 8; n < count; ++n) {
      const std::uint64_t bytes = (1 + random() % 40) * page;
      requests.push_back({names.user_memory({from}), bytes,
                          random() % 4 == 0 ? access_rights::read : access_rights::read_write,
                          iova{at}});
      at += bytes + (random() % 4 == 0 ? page : 0);
      from += bytes + (random() % 4 == 0 ? page : 0);
    }
    std::vector<planned_mapping> room(requests.size());
    const std::uint64_t limit = 1 + random() % 60;
    const mapping_plan plan =
        plan_requests(std::span<const table_type::map_request>(requests), pieces, limit, room);

    const auto entries_of = [&](std::span<table_type::map_request> all, granules with,
                                std::optional<std::uint64_t> most) -> std::optional<std::uint64_t> {
      const auto state = std::make_shared<test::table_state>();
      state->limit = most;
      domain d(test::memory_table(state), {with});
      table_type table(pinner);
      REQUIRE(table.attach(d).has_value());
      const result<void> mapped = table.map_all(all);
      REQUIRE(state->wrong == nullptr);
      if (mapped) return d.entries();
      REQUIRE(mapped.error() == errc::no_space_on_device);
      return std::nullopt;
    };
    REQUIRE(plan.entries == entries_of(requests, pieces, std::nullopt));
    REQUIRE(plan.fits() == entries_of(requests, pieces, limit).has_value());
    std::vector<table_type::map_request> fewer = requests;
    const std::size_t left = coalesce(std::span(fewer));
    fewer.erase(fewer.begin() + static_cast<std::ptrdiff_t>(left), fewer.end());
    joined += left < requests.size();
    REQUIRE(count_entries_coalesced(room, pieces) == entries_of(fewer, pieces, std::nullopt));
    switch (plan.remedy) {
      case mapping_remedy::none: continue;
      case mapping_remedy::coalesce:
      case mapping_remedy::coalesce_and_coarsen:
        REQUIRE(plan.entries_then == entries_of(fewer, plan.pieces, limit));
        break;
      case mapping_remedy::coarsen:
        REQUIRE(plan.entries_then == entries_of(requests, plan.pieces, limit));
        break;
      case mapping_remedy::impossible:
        REQUIRE_FALSE(entries_of(fewer, granules::whole(), limit).has_value());
        REQUIRE(plan.entries_then == entries_of(fewer, granules::whole(), std::nullopt));
    }
    ++refused;
  }
  CHECK(refused > 100);
  CHECK(joined > 100);
}

TEST_CASE("budget: calls of blocks, against every call", "[model]") {
  std::mt19937_64 random(8);
  for (int step = 0; step < 3000; ++step) {
    const std::uint64_t call = std::uint64_t{1} << random() % 6,
                        run = std::uint64_t{1} << random() % 6;
    const std::uint64_t first = random() % 64 * std::max(call, run);
    const std::uint64_t bytes = 1 + random() % 500;
    const std::uint64_t size = std::uint64_t{1} << random() % 8;
    const granules pieces = random() % 3 == 0   ? granules::whole()
                            : random() % 2 == 0 ? granules::fixed(size)
                                                : granules::power_of_two(size);
    const planned_mapping m{iova_range::sized({first}, bytes),
                            {},
                            access_rights::read,
                            random() % 4 == 0 ? 0 : call,
                            random() % 4 == 0 ? 0 : run};
    const auto one_by_one = [&](std::uint64_t unit) {
      if (unit == 0) return pieces.count(m.where);
      std::uint64_t sum = 0;
      for (std::uint64_t at = first; at < first + bytes; at += unit)
        sum += pieces.count({{at}, {std::min(at + unit, first + bytes) - 1}});
      return sum;
    };
    REQUIRE(count_entries({&m, 1}, pieces) ==
            one_by_one(detail::least_of(m.call_bytes, m.contiguous_bytes)));
    REQUIRE(count_entries_coalesced({&m, 1}, pieces) == one_by_one(m.contiguous_bytes));
  }
  const planned_mapping space{iova_range::whole(), {}, access_rights::read, 1};
  CHECK(count_entries({&space, 1}, granules::whole()) == top);
  CHECK(plan_mappings({&space, 1}, granules::whole(), std::nullopt).bytes == top);
}

}  // namespace
