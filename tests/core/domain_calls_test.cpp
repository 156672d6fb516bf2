// tests/core/domain_calls_test.cpp - every ability, with and without the domain's help.
#include "iopt/core/domain_calls.hpp"

#include <array>
#include <vector>

#include "iopt/backends/mock/mock.hpp"
#include "tests/catch.hpp"

namespace {

using iopt::iova;
using iopt::iova_range;
using iopt::physical;
using iopt::run;
namespace mock = iopt::mock;
constexpr auto rw = iopt::access_rights::read_write;

std::vector<run> three_runs() {
  return {run({0x100000}, 0x3000), run({0x200000}, 0x1000), run({0x300000}, 0x2000)};
}

template <class D>
const mock::domain& full(const D& d) {
  if constexpr (requires { d.inner(); }) {
    return d.inner();
  } else {
    return d;
  }
}

}  // namespace

TEMPLATE_TEST_CASE("runs are mapped behind one another, and told as they were", "[domain_calls]",
                   mock::domain, mock::plain<>) {
  TestType d{};
  const std::vector<run> runs = three_runs();
  REQUIRE(iopt::detail::map_runs(d, {0x8000}, runs, rw, 0));
  CHECK(full(d).translate({0x8fff}) == physical{0x100fff});
  CHECK(full(d).translate({0xb000}) == physical{0x200000});
  CHECK(full(d).translate({0xdfff}) == physical{0x301fff});

  std::array<run, 8> place;
  iopt::run_list read{place};
  CHECK(iopt::detail::read_runs(d, {{0x8000}, {0xdfff}}, 4096, read) == 0x6000);
  CHECK(std::vector<run>(read.begin(), read.end()) == runs);

  iopt::run_list held{place};
  CHECK(iopt::detail::unmap_runs(d, {{0x8000}, {0xdfff}}, 4096, held) == 0x6000);
  CHECK(std::vector<run>(held.begin(), held.end()) == runs);
  iopt::detail::sync(d);
  CHECK(full(d).bytes_mapped() == 0);
  CHECK(full(d).unsynced_bytes() == 0);
}

TEMPLATE_TEST_CASE("a full list ends where a run ends, and the rest comes next", "[domain_calls]",
                   mock::domain, mock::plain<>) {
  TestType d{};
  REQUIRE(iopt::detail::map_runs(d, {0x8000}, three_runs(), rw, 0));
  std::vector<run> all;
  for (std::uint64_t done = 0; done < 0x6000;) {
    std::array<run, 1> place;
    iopt::run_list held{place};
    const std::uint64_t bytes =
        iopt::detail::unmap_runs(d, {{0x8000 + done}, {0xdfff}}, 4096, held);
    REQUIRE(held.size() == 1);
    REQUIRE(bytes == held.bytes());
    all.push_back(held[0]);
    done += bytes;
  }
  CHECK(all == three_runs());
  iopt::detail::sync(d);
}

TEMPLATE_TEST_CASE("page by page, every page is an entry", "[domain_calls]", mock::domain,
                   mock::plain<>) {
  TestType d{};
  const run large[] = {run({0x40000000}, 4 * iopt::mebibyte)};
  REQUIRE(iopt::detail::map_runs(d, {0x40000000}, large, rw, 4096));
  CHECK(full(d).entries(2 * iopt::mebibyte) == 0);
  CHECK(full(d).entries(4096) == 1024);
  CHECK(iopt::detail::unmap_whole(d, iova_range::sized({0x40000000}, 4 * iopt::mebibyte)));
  iopt::detail::sync(d);
}

TEMPLATE_TEST_CASE("a run that fails leaves none mapped, and tells where", "[domain_calls]",
                   mock::domain, mock::plain<>) {
  for (const std::uint64_t page_bytes : {std::uint64_t{0}, std::uint64_t{4096}}) {
    for (std::uint64_t n = 0;; ++n) {
      mock::fault_injector faults;
      TestType d(mock::domain_options{.faults = &faults});
      faults.arm(n);
      const iopt::result<void> mapped =
          iopt::detail::map_runs(d, {0x8000}, three_runs(), rw, page_bytes);
      if (!faults.fired()) {
        REQUIRE(mapped.has_value());
        break;
      }
      CAPTURE(page_bytes, n);
      REQUIRE_FALSE(mapped.has_value());
      CHECK(mapped.error().place == iopt::error_place::domain);
      CHECK(full(d).bytes_mapped() == 0);
      CHECK(full(d).unsynced_bytes() == 0);
      if (page_bytes != 0) CHECK(mapped.error().at == n * 4096);
    }
  }
}

TEST_CASE("a table that comes back short is noticed", "[domain_calls]") {
  mock::domain d;
  REQUIRE(d.map({{0x8000}, {0xbfff}}, {0x100000}, {rw, iopt::memory_type::cached}));
  d.short_unmap_after(0);
  CHECK_FALSE(iopt::detail::unmap_whole(d, {{0x8000}, {0xbfff}}));
  d.heal();
}

TEST_CASE("a domain that cannot split says so", "[domain_calls]") {
  mock::plain<> cannot;
  CHECK(iopt::detail::split(cannot, {{0x1000}, {0x1fff}}).error() == iopt::errc::invalid_argument);
  mock::domain can;
  REQUIRE(can.map(iova_range::sized({0x200000}, 0x200000), {0x400000},
                  {rw, iopt::memory_type::cached}));
  CHECK(iopt::detail::split(can, {{0x201000}, {0x201fff}}));
  CHECK(can.entries(4096) == 512);
  can.unmap(iova_range::sized({0x200000}, 0x200000));
  can.sync();
}
