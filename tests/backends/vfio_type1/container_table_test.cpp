// tests/backends/vfio_type1/container_table_test.cpp - the domain on a container: of the kernel, or
// of examples/interpose.
#include "iopt/backends/vfio_type1/container_table.hpp"

#include <sys/mman.h>

#include <memory>
#include <string>

#include "iopt/backends/host/address_pinner.hpp"
#include "iopt/backends/host/lockable_memory.hpp"
#include "iopt/backends/vfio_type1/container.hpp"
#include "iopt/core/io_pagetable.hpp"
#include "iopt/core/mapping_budget.hpp"
#include "tests/backends/real_memory.hpp"
#include "tests/backends/without_lock_capability.hpp"
#include "tests/catch.hpp"
#include "tests/policy/iommu_domain_conformance.hpp"

namespace {

using namespace iopt;
using iopt::access_rights;  // not that of unistd.h
using vfio_type1::container_table;
using vfio_type1::domain;

constexpr std::uint64_t page = 4096;
constexpr attributes usual{access_rights::read_write, memory_type::cached};
constexpr iova base{0x100000};

iova_range pages(std::uint64_t first, std::uint64_t count) {
  return iova_range::sized(base + first * page, count * page);
}
container_table table_of(const vfio_type1::container& c) {
  auto table = container_table::open(c.descriptor());
  REQUIRE(table.has_value());
  return std::move(*table);
}

struct hooks {
  std::shared_ptr<test::real_memory> memory = std::make_shared<test::real_memory>(16 * mebibyte);
  bool whole = false;
  physical frames(std::uint64_t bytes, std::uint64_t alignment) {
    REQUIRE((bytes <= largest_bytes() && alignment <= 2 * mebibyte));
    return {memory->address()};
  }
  std::uint64_t largest_bytes() const { return 16 * mebibyte; }
  bool keeps_entries(domain&) const { return whole; }
};

TEST_CASE("the domain on a container keeps the contract of iommu_domain", "[conformance]") {
  const std::uint64_t type = GENERATE(vfio::abi::type1v2_iommu, vfio::abi::type1_iommu);
  const int n = GENERATE(0, 1, 2, 3, 4);
  CAPTURE(type, n);
  const granular::options all[] = {
      {granules::whole()},
      {granules::fixed(page)},
      {granules::power_of_two(page)},
      {.pieces = granules::whole(), .inside = granular::inside_piece::unmap_and_remap},
      {.pieces = granules::power_of_two(), .inside = granular::inside_piece::unmap_and_remap}};
  const auto container = test::open_container(type);
  if (!container) return;
  const auto left = table_of(*container).entries_left();
  hooks h;
  h.whole = n == 0;
  iopt_conformance::check_domain<domain>([&] { return domain(table_of(*container), all[n]); }, h);
  CHECK(table_of(*container).entries_left() == left);
}

TEST_CASE("a container's entries are counted, and what does not fit is told before the first") {
  const auto container = test::open_container();
  if (!container) return;
  const test::real_memory memory(mebibyte);
  domain d(table_of(*container), {granules::fixed(page)});
  const auto limit = d.entries_left();
  if (!limit) return test::skipped("this kernel does not tell dma_avail");
  const physical p{memory.address()};
  REQUIRE(d.map(pages(0, 100), p, usual).has_value());
  CHECK(d.entries() == 100);
  CHECK(d.entries_left() == *limit - 100);

  // The same page, many times.
  for (std::uint64_t n = 100; n < *limit; ++n)
    if (!d.map(pages(n + 1, 1), p, {access_rights::read})) FAIL("entry " << n);
  CHECK(d.entries_left() == 0);
  const result<void> more = d.map(pages(*limit + 10, 1), p, usual);
  REQUIRE_FALSE(more.has_value());
  CHECK(more.error() == errc::no_space_on_device);
  CHECK(d.last_refusal().predicted);
  CHECK(d.last_refusal().left == 0);
  // It is what the kernel would have answered.
  auto beside = table_of(*container);
  CHECK(beside.map(pages(*limit + 10, 1), p, access_rights::read) ==
        result<void>(fail(errc::no_space_on_device)));
  CHECK(d.unmap(pages(0, 100)) == 100 * page);
  CHECK(d.map(pages(0, 101), p, usual) == result<void>(fail(errc::no_space_on_device)));
  CHECK(d.last_refusal().entries == 101);
  CHECK(d.map(pages(0, 100), p, usual).has_value());
  CHECK(std::string(d.verify()) == "");
}

TEST_CASE("256 GiB in pages are refused with no entry made, and mapped in coarser pieces") {
  const auto container = test::open_container();
  if (!container) return;
  const test::real_memory memory(mebibyte);
  host::address_pinner pinner;
  domain d(table_of(*container), {granules::fixed(page)});
  const auto limit = d.entries_left();
  if (!limit) return test::skipped("this kernel does not tell dma_avail");
  io_pagetable<host::address_pinner, domain> table(pinner);
  REQUIRE(table.attach(d).has_value());
  const iova above{4 * gibibyte};
  if (!d.aperture().contains(iova_range::sized(above, 256 * gibibyte)))
    return test::skipped("the IOMMU translates less than 260 GiB");
  const planned_mapping guest{iova_range::sized(above, 256 * gibibyte), memory.at(0),
                              access_rights::read_write};
  const mapping_plan plan = plan_mappings({&guest, 1}, d.how().pieces, limit);
  CHECK(plan.entries == 67108864);
  CHECK(plan.remedy == mapping_remedy::coarsen);
  CHECK(plan.entries_then <= *limit);
  const auto mapped = table.map(memory.at(0), 256 * gibibyte, access_rights::read_write, above);
  REQUIRE_FALSE(mapped.has_value());
  CHECK(mapped.error() == errc::no_space_on_device);
  CHECK(d.last_refusal().predicted);
  CHECK(d.last_refusal().entries == 67108864);
  CHECK(d.entries_left() == limit);
  // With the plan's granules it is asked for, and fails for what it is: there is no such memory.
  d.set_pieces(plan.pieces);
  const auto asked = table.map(memory.at(0), 256 * gibibyte, access_rights::read_write, above);
  REQUIRE_FALSE(asked.has_value());
  CHECK((asked.error() == errc::bad_address || asked.error() == errc::not_enough_memory));
  CHECK(d.entries_left() == limit);
}

TEST_CASE("a container's errors leave no entry, and say what helps") {
  const auto container = test::open_container();
  if (!container) return;
  const test::real_memory memory(mebibyte);
  domain d(table_of(*container), {granules::fixed(4 * page)});
  const auto left = d.entries_left();
  const physical p{memory.address()};
  // Memory that is not there, in the third piece.
  REQUIRE(::mprotect(memory.page(9), page, PROT_NONE) == 0);
  CHECK(d.map(pages(0, 16), p, usual) == result<void>(fail(errc::bad_address)));
  CHECK_FALSE(d.last_refusal().predicted);
  CHECK_FALSE(d.last_refusal().advice().empty());
  CHECK(d.entries() == 0);
  CHECK(d.entries_left() == left);
  REQUIRE(::mprotect(memory.page(9), page, PROT_READ) == 0);
  CHECK(d.map(pages(0, 16), p, usual) == result<void>(fail(errc::bad_address)));
  CHECK(d.map(pages(0, 16), p, {access_rights::read}).has_value());

  // Somebody else maps in the same container.
  auto beside = table_of(*container);
  REQUIRE(beside.map(pages(40, 2), p, access_rights::read).has_value());
  CHECK(d.map(pages(32, 16), p, {access_rights::read}) == result<void>(fail(errc::file_exists)));
  CHECK(d.stretches() == 1);
  CHECK(beside.unmap(pages(40, 2)) == 2 * page);
  CHECK(d.map(pages(32, 16), p, {access_rights::read}).has_value());

  // Somebody else unmaps what is ours: it comes back short, and that is remembered.
  CHECK(beside.unmap(pages(32, 4)) == 4 * page);
  CHECK(d.unmap(pages(32, 16)) == 12 * page);
  CHECK(d.poisoned());

  // Where the IOMMU does not translate.
  for (const reserved_region& r : d.reserved_regions()) {
    CHECK(d.map(iova_range::sized(r.range.first, page), p, usual) ==
          result<void>(fail(errc::invalid_argument)));
  }
}

TEST_CASE("memory past RLIMIT_MEMLOCK is refused whole, and could be known before") {
  const auto container = test::open_container();
  if (!container) return;
  const test::real_memory memory(mebibyte);
  const test::without_lock_capability bound(512 * kibibyte);
  domain d(table_of(*container), {granules::fixed(16 * page)});
  const physical p{memory.address()};
  const planned_mapping guest{pages(0, 256), memory.at(0), access_rights::read_write};
  const auto may = host::lockable_bytes();
  REQUIRE(may.has_value());
  CHECK(plan_mappings({&guest, 1}, d.how().pieces, d.entries_left()).bytes > *may);
  CHECK(d.map(pages(0, 256), p, usual) == result<void>(fail(errc::not_enough_memory)));
  CHECK(d.last_refusal().advice().find("RLIMIT_MEMLOCK") != std::string::npos);
  CHECK(d.entries() == 0);
  const std::uint64_t half = *may / page / 32 * 16;
  REQUIRE(d.map(pages(0, half), p, usual).has_value());
  // The same memory again counts again.
  REQUIRE(d.map(pages(1000, half), p, usual).has_value());
  CHECK_FALSE(d.map(pages(2000, half), p, usual).has_value());
  CHECK(d.unmap(pages(1000, half)) == half * page);
  CHECK(d.map(pages(2000, half), p, usual).has_value());
}

TEST_CASE("an io_pagetable on a container: holes where the granules allow, and nothing left over") {
  const auto container = test::open_container();
  if (!container) return;
  const test::real_memory memory(4 * mebibyte);
  host::address_pinner pinner;
  domain d(table_of(*container), {granules::fixed(64 * kibibyte)});
  const auto left = d.entries_left();
  {
    io_pagetable<host::address_pinner, domain> table(pinner);
    REQUIRE(table.attach(d).has_value());
    REQUIRE(table.map(memory.at(0), 4 * mebibyte, access_rights::read_write, base).has_value());
    CHECK(d.entries() == 64);
    // A hole of the granules' size and place works while all else stays; another is refused.
    const auto hole = table.unmap(base + mebibyte, 64 * kibibyte, unmap_profile::hole_punching);
    CHECK(hole);
    CHECK(hole.bytes == 64 * kibibyte);
    CHECK(d.entries() == 63);
    const auto small = table.unmap(base, page, unmap_profile::hole_punching);
    CHECK(small.outcome == result<void>(fail(errc::invalid_argument)));
    CHECK(d.entries() == 63);
    // The kernel agrees: what is there is there, and the hole is one.
    auto beside = table_of(*container);
    CHECK(beside.map({base, base + (page - 1)}, {memory.address()}, access_rights::read) ==
          result<void>(fail(errc::file_exists)));
    CHECK(beside
              .map({base + mebibyte, base + (mebibyte + 64 * kibibyte - 1)}, {memory.address()},
                   access_rights::read)
              .has_value());
    CHECK(beside.unmap({base + mebibyte, base + (mebibyte + 64 * kibibyte - 1)}) == 64 * kibibyte);
    CHECK(std::string(table.verify()) == "");
    CHECK(std::string(d.verify()) == "");
  }
  CHECK(d.entries() == 0);
  CHECK(d.entries_left() == left);

  // Large pages off: every page is an entry, and areas are cut with no help of the domain.
  domain plain(table_of(*container));
  io_pagetable<host::address_pinner, domain> table(pinner);
  REQUIRE(table.disable_large_pages().has_value());
  REQUIRE(table.attach(plain).has_value());
  REQUIRE(table.map(memory.at(0), 64 * page, access_rights::read_write, base).has_value());
  CHECK(plain.entries() == 64);
  CHECK(table.unmap(base + 5 * page, page, unmap_profile::iommufd_compat_v1).bytes == page);
  CHECK(plain.entries() == 63);
}

}  // namespace
