// tests/backends/iommufd/ioas_table_test.cpp - the domain on an IOAS: of the kernel, or of
// examples/interpose.
//
// A device makes an IOAS pin. It is a mock of the kernel's own tests (CONFIG_IOMMUFD_TEST), or what
// IOPT_VFIO_DEVICE names, say /dev/vfio/devices/vfio0; without one an IOAS holds mappings all the same.
#include "iopt/backends/iommufd/ioas_table.hpp"

#include <dlfcn.h>
#include <sys/mman.h>

#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "examples/interpose/test_command.hpp"
#include "iopt/backends/iommufd/address_space.hpp"
#include "iopt/core/io_pagetable.hpp"
#include "tests/backends/real_memory.hpp"
#include "tests/catch.hpp"
#include "tests/policy/iommu_domain_conformance.hpp"

namespace {

using namespace iopt;
using dev_iommu::ioas_table;
using iopt::access_rights;  // not that of unistd.h

constexpr std::uint64_t page = 4096;
constexpr attributes usual{access_rights::read_write, memory_type::cached};
constexpr iova base{std::uint64_t{1} << 24};

std::optional<dev_iommu::address_space> open_space() {
  auto space = dev_iommu::address_space::open();
  if (space) return std::move(*space);
  test::skipped("no /dev/iommu, or no right to it");
  return std::nullopt;
}

result<int> test_call(int fd, test::test_command& c) {
  c.size = sizeof c;
  return host::call(fd, 0x3b00U | test::test_number, &c);
}

/// A device behind an IOAS or a page table, for as long as this lives.
struct device {
  const dev_iommu::address_space* space = nullptr;
  std::optional<dev_iommu::vfio_device> real{};
  test::mock_domain_argument mock{};
  std::uint32_t id = 0;

  device(const dev_iommu::address_space& in, std::uint32_t ioas) {
    if (const char* path = std::getenv("IOPT_VFIO_DEVICE")) {
      auto opened = dev_iommu::vfio_device::open(path, in.descriptor());
      if (!opened) return;
      REQUIRE(opened->attach(ioas).has_value());
      id = opened->id();
      real.emplace(std::move(*opened));
      space = &in;
      return;
    }
    test::test_command c{};
    c.op = test::test_operation::mock_domain;
    c.id = ioas;
    if (!test_call(in.descriptor(), c)) return;
    mock = c.mock_domain;
    id = mock.out_device;
    space = &in;
  }
  device(const device&) = delete;
  device& operator=(const device&) = delete;
  ~device() {
    if (there() && !real) CHECK(space->destroy(mock.out_test_device).has_value());
  }
  bool there() const { return space != nullptr; }
  void move_to(std::uint32_t page_table) {
    if (real) {
      REQUIRE(real->attach(page_table).has_value());
      return;
    }
    test::test_command c{};
    c.op = test::test_operation::mock_domain_replace;
    c.id = mock.out_test_device;
    c.replace.to = page_table;
    REQUIRE(test_call(space->descriptor(), c).has_value());
  }
};

/// What the process has pinned, in kB: by the kernel, or by the interposer.
long pinned_kb() {
  if (const auto ask = reinterpret_cast<long (*)()>(::dlsym(RTLD_DEFAULT, "iopt_vm_pin_kb")))
    return ask();
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;)
    if (long kb = 0; word == "VmPin:" && status >> kb) return kb;
  return -1;
}

struct hooks {
  std::shared_ptr<test::real_memory> memory = std::make_shared<test::real_memory>(16 * mebibyte);
  bool whole = false;
  int iommufd = -1;
  std::uint32_t page_table = 0;  // of a mock device
  physical frames(std::uint64_t bytes, std::uint64_t alignment) {
    REQUIRE((bytes <= largest_bytes() && alignment <= 2 * mebibyte));
    return {memory->address()};
  }
  std::uint64_t largest_bytes() const { return 16 * mebibyte; }
  template <class D>
  bool keeps_entries(D&) const {
    return whole;
  }
};
struct writing_hooks : hooks {
  bool device_writes(dev_iommu::tracking_domain&, iova_range r) {
    // A page of the kernel's mock: in others it counts otherwise, and marks what is elsewhere.
    constexpr std::uint64_t unit = 2048;
    const iova first{r.first.value / unit * unit};
    const std::uint64_t units = (r.last - first) / unit + 1;
    std::vector<std::uint64_t> bits((units + 63) / 64, ~std::uint64_t{0});
    test::test_command c{};
    c.op = test::test_operation::dirty;
    c.id = page_table;
    c.dirty = {0, first.value, units * unit, unit, reinterpret_cast<std::uintptr_t>(bits.data()),
               0};
    return test_call(iommufd, c).has_value() && c.dirty.out_count == units;
  }
};

ioas_table table_of(const dev_iommu::address_space& s, std::uint32_t ioas,
                    dev_iommu::ioas_options options = {}) {
  auto table = ioas_table::open(s.descriptor(), ioas, options);
  REQUIRE(table.has_value());
  return std::move(*table);
}
ioas_table table_of(const dev_iommu::address_space& s) { return table_of(s, s.ioas()); }

TEST_CASE("the domain on an IOAS keeps the contract of iommu_domain", "[conformance]") {
  const bool with_device = GENERATE(false, true);
  const int n = GENERATE(0, 1, 2, 3);
  CAPTURE(with_device, n);
  const granular::options all[] = {
      {granules::whole()},
      {granules::fixed(page)},
      {granules::power_of_two(page)},
      {.pieces = granules::power_of_two(), .inside = granular::inside_piece::unmap_and_remap}};
  const auto space = open_space();
  if (!space) return;
  std::optional<device> behind;
  if (with_device) behind.emplace(*space, space->ioas());
  if (behind && !behind->there()) return test::skipped("no device to put behind an IOAS");
  const long pinned = pinned_kb();
  hooks h;
  h.whole = n == 0;
  iopt_conformance::check_domain<dev_iommu::domain>(
      [&] { return dev_iommu::domain(table_of(*space), all[n]); }, h);
  CHECK(pinned_kb() == pinned);
}

TEST_CASE("the domain that tracks writes keeps it too", "[conformance]") {
  const auto space = open_space();
  if (!space) return;
  device behind(*space, space->ioas());
  if (!behind.there()) return test::skipped("no device to put behind an IOAS");
  const auto tracking = space->make_tracking_pagetable(behind.id, space->ioas());
  if (!tracking) return test::skipped("the IOMMU does not track what is written");
  behind.move_to(*tracking);
  writing_hooks h;
  h.iommufd = space->descriptor();
  h.page_table = *tracking;
  const auto make = [&] {
    return dev_iommu::tracking_domain({table_of(*space), *tracking}, {granules::fixed(page)});
  };
  if (behind.real) {
    iopt_conformance::check_domain<dev_iommu::tracking_domain>(make, static_cast<hooks&>(h));
  } else {
    iopt_conformance::check_domain<dev_iommu::tracking_domain>(make, h);
  }
  behind.move_to(space->ioas());
  CHECK(space->destroy(*tracking).has_value());
}

TEST_CASE("an IOAS's errors leave no entry, and say what helps") {
  const auto space = open_space();
  if (!space) return;
  const device behind(*space, space->ioas());
  if (!behind.there()) return test::skipped("no device to put behind an IOAS");
  const test::real_memory memory(mebibyte);
  dev_iommu::domain d(table_of(*space), {granules::fixed(4 * page)});
  const physical p{memory.address()};
  const auto pages = [](std::uint64_t first, std::uint64_t count) {
    return iova_range::sized(base + first * page, count * page);
  };
  REQUIRE(::mprotect(memory.page(9), page, PROT_NONE) == 0);
  CHECK(d.map(pages(0, 16), p, usual) == result<void>(fail(errc::bad_address)));
  CHECK_FALSE(d.last_refusal().advice().empty());
  CHECK(d.entries() == 0);
  CHECK_FALSE(d.entries_left().has_value());
  auto beside = table_of(*space);
  REQUIRE(beside.map(pages(4, 2), p, access_rights::read).has_value());
  CHECK(d.map(pages(0, 8), p, usual) == result<void>(fail(errc::file_exists)));
  CHECK(beside.unmap(pages(4, 2)) == 2 * page);
  REQUIRE(d.map(pages(0, 8), p, usual).has_value());
  CHECK(beside.unmap(pages(4, 4)) == 4 * page);
  CHECK(d.unmap(pages(0, 8)) == 4 * page);
  CHECK(d.poisoned());
  CHECK(d.aperture().first.value <= base.value);
  CHECK(beside.unmap(pages(0, 8)) == 0);
}

TEST_CASE("two address spaces of one table show pages that are pinned once") {
  const auto space = open_space();
  if (!space) return;
  const auto second = space->another();
  REQUIRE(second.has_value());
  const test::real_memory memory(2 * mebibyte);
  dev_iommu::pinner pinner;
  dev_iommu::sharing shared;
  const bool sharing_on = GENERATE(true, false);
  CAPTURE(sharing_on);
  const dev_iommu::ioas_options how{sharing_on ? &shared : nullptr, &pinner.frames()};
  const device one(*space, space->ioas()), two(*space, *second);
  if (!one.there() || (!two.there() && !one.real))
    return test::skipped("no devices to put behind two IOASes");
  const long before = pinned_kb();
  dev_iommu::domain a(table_of(*space, space->ioas(), how), {granules::fixed(64 * kibibyte)});
  dev_iommu::domain b(table_of(*space, *second, how), {granules::fixed(64 * kibibyte)});
  {
    io_pagetable<dev_iommu::pinner, dev_iommu::domain> table(pinner);
    REQUIRE(table.attach(a).has_value());
    // As it is attached, and as it is mapped.
    REQUIRE(table.map(memory.at(0), mebibyte, access_rights::read_write, base).has_value());
    REQUIRE(table.attach(b).has_value());
    REQUIRE(
        table.map(memory.at(256), mebibyte, access_rights::read, base + 4 * mebibyte).has_value());
    CHECK(b.table().copies() == (sharing_on ? 32 : 0));
    CHECK(a.table().copies() == 0);
    if (two.there()) CHECK(pinned_kb() - before == (sharing_on ? 2048 : 4096));
    // What goes from the one it was copied from, stays in the other.
    REQUIRE(table.detach(a));
    if (two.there()) CHECK(pinned_kb() - before == 2048);
    CHECK(table.unmap(base, mebibyte, unmap_profile::iommufd).bytes == mebibyte);
    // Nothing of the old is copied by whoever maps there now.
    REQUIRE(table.map(memory.at(100), 64 * kibibyte, access_rights::read, base).has_value());
    REQUIRE(table.attach(a).has_value());
    CHECK(a.table().copies() == (sharing_on ? 17 : 0));
    CHECK(std::string(a.verify()) == "");
    CHECK(std::string(table.verify()) == "");
  }
  CHECK(a.entries() == 0);
  CHECK(b.entries() == 0);
  CHECK(pinned_kb() == before);
}

TEST_CASE("memory of a file is mapped by descriptor, where the kernel can") {
  const auto space = open_space();
  if (!space) return;
  const device behind(*space, space->ioas());
  dev_iommu::pinner pinner;
  const int file = ::memfd_create("guest", MFD_CLOEXEC);
  REQUIRE(::ftruncate(file, 1 << 20) == 0);
  const auto number = pinner.add_file(file);
  ::close(file);
  REQUIRE(number.has_value());
  const long before = pinned_kb();
  dev_iommu::domain d(table_of(*space, space->ioas(), {nullptr, &pinner.frames()}),
                      {granules::fixed(64 * kibibyte)});
  io_pagetable<dev_iommu::pinner, dev_iommu::domain> table(pinner);
  REQUIRE(table.attach(d).has_value());
  const auto mapped = table.map(table.file_memory(*number, 64 * kibibyte), 512 * kibibyte,
                                access_rights::read_write, base);
  if (!mapped && mapped.error() == errc::operation_not_supported)
    return test::skipped("this kernel has no IOMMU_IOAS_MAP_FILE");
  REQUIRE(mapped.has_value());
  CHECK(d.entries() == 8);
  if (behind.there()) CHECK(pinned_kb() - before == 512);
  const auto hole = table.unmap(base + 128 * kibibyte, 64 * kibibyte, unmap_profile::hole_punching);
  CHECK(hole.bytes == 64 * kibibyte);
  CHECK(d.entries() == 7);
  if (behind.there()) CHECK(pinned_kb() - before == 448);
}

TEST_CASE("iova_ranges: gaps are reserved, and the last page of 2^64 is left out") {
  using dev_iommu::iova_ranges;
  const auto all = iova_ranges::from({{0, top}}, 1);
  REQUIRE(all.has_value());
  CHECK(all->aperture == iova_range{{0}, {top - 4096}});
  CHECK(all->reserved.empty());
  const auto two = iova_ranges::from({{4096, 0xfedfffff}, {0xfef00000, 0xffffffff}}, 2048);
  REQUIRE(two.has_value());
  CHECK(two->aperture == iova_range{{4096}, {0xffffffff}});
  CHECK(two->alignment_bytes == 2048);
  REQUIRE(two->reserved.size() == 1);
  CHECK(two->reserved[0].range == iova_range{{0xfee00000}, {0xfeefffff}});
  CHECK(iova_ranges::from({}, 1).error() == errc::address_not_available);
}

}  // namespace
