// tests/backends/host/page_bytes_test.cpp - the host backend on a CPU with pages of IOPT_HOST_PAGE_BYTES.
//
// Built for 16 and 64 KiB too where an emulator can be told the page size.
#include <cstdint>
#include <random>

#include "iopt/backends/host/host.hpp"
#include "iopt/iopt.hpp"
#include "tests/catch.hpp"

namespace {

using namespace iopt;

constexpr std::uint64_t page = host::page_bytes;

struct host_pages : single_threaded {
  static constexpr std::uint64_t page_bytes = page;
  static constexpr std::uint64_t huge_page_bytes = 512 * mebibyte;
};

}  // namespace

TEST_CASE("host: a device writes where the user reads, in pages of any size") {
  host::physical_memory memory = host::physical_memory::create(64 * mebibyte).value();
  const host::user_memory user =
      host::user_memory::create(memory, 4 * mebibyte, {.block_bytes = page, .seed = 3}).value();
  host::pinner pinner(memory);
  mock::domain domain({.page_sizes = {page / 2, 512 * mebibyte}});
  {
    io_pagetable<host::pinner, mock::domain, host_pages> table(pinner);
    REQUIRE(table.attach(domain).has_value());
    // Half a page into one page and as far into another, which are pinned whole.
    const std::uint64_t start = page + page / 2, length = 8 * page;
    REQUIRE(
        table.map(user.address(start), length, access_rights::read_write, iova{start}).has_value());
    CHECK(pinner.pinned_pages() == 9);
    std::mt19937_64 random(5);
    for (int step = 0; step < 200; ++step) {
      const std::uint64_t at = random() % length;
      const std::byte value{static_cast<unsigned char>(random())};
      const physical byte = domain.translate(iova{start + at}).value();
      memory.bytes(byte, 1)[0] = value;
      REQUIRE(user.data()[start + at] == value);
    }
    const auto gone = table.unmap(iova{start}, length, unmap_profile::iommufd);
    CHECK((gone && gone.bytes == length));
  }
  CHECK(pinner.pinned_pages() == 0);
  CHECK(domain.bytes_mapped() == 0);
}
