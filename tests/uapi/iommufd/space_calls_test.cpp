// tests/uapi/iommufd/space_calls_test.cpp - the ioctls on spaces, rule by rule.
//
// What a kernel answers to long scripts is in vectors_test.cpp; here are the orders of checks, and
// memory of the caller that is out of reach.
#include "iopt/uapi/iommufd/space_calls.hpp"

#include <array>
#include <vector>

#include "tests/catch.hpp"
#include "tests/uapi/iommufd/context_fixture.hpp"

using namespace iopt;
using namespace iopt::test;
namespace abi = iopt::iommufd::abi;
using fixture = context_fixture<>;
using abi::request;

namespace {

constexpr std::uint64_t max = ~std::uint64_t{0};

template <class F>
std::uint64_t areas(F& f, iommufd::object_id space) {
  std::uint64_t n = 0;
  REQUIRE(f.context->with_space(space, [&](auto& t) {
    n = t.area_count();
    return result<int>(0);
  }));
  return n;
}

}  // namespace

TEST_CASE("a space whose number cannot be told is none", "[alloc]") {
  fixture f;
  abi::ioas_alloc c{0, 1, 0};
  CHECK(f.call(request::ioas_alloc, c) == "EOPNOTSUPP");
  c.flags = 0;
  f.memory.unwritable = gate::bytes_of(c, 8, 1);
  CHECK(f.call(request::ioas_alloc, c) == "EFAULT");
  CHECK(f.context->size() == 0);
  f.memory.unwritable.reset();
  CHECK(f.call(request::ioas_alloc, c) == "0");
  CHECK(c.out_ioas_id == 1);
}

TEST_CASE("map looks at flags, numbers, rights, the space, and then the engine does", "[map]") {
  fixture f;
  const auto map = [&](abi::ioas_map c) { return f.call(request::ioas_map, c); };
  // Each line is wrong in all that comes after.
  CHECK(map({0, 8, 9, 0, max, max, max}) == "EOPNOTSUPP");
  CHECK(map({0, 6, 9, 1, max, max, max}) == "EOPNOTSUPP");
  CHECK(map({0, 0, 9, 0, max, 1, max}) == "EOVERFLOW");  // without map_fixed_iova too
  CHECK(map({0, 0, 9, 0, max, max, 1}) == "EOVERFLOW");
  CHECK(map({0, 1, 9, 0, max, 0, 1}) == "EINVAL");
  CHECK(map({0, 4, 9, 0, max, 0, 1}) == "ENOENT");
  f.space();
  CHECK(map({0, 5, 1, 0, max, 0, 1}) == "EINVAL");
  CHECK(map({0, 5, 1, 0, max, 1, 1}) == "EOVERFLOW");
  CHECK(map({0, 5, 1, 0, 0x1000, 1, 1}) == "0");
}

TEST_CASE("a mapping stays where its caller cannot be told of it", "[map]") {
  fixture f;
  const auto s = f.space();
  abi::ioas_map c{0, 6, s, 0, 0x10000, 0x1000, 0};
  f.memory.unwritable = gate::bytes_of(c);
  CHECK(f.call(request::ioas_map, c) == "EFAULT");
  CHECK(c.iova == 0);
  CHECK(areas(f, s) == 1);
  abi::ioas_copy d{0, 6, s, s, 0x1000, 0, 0x1000};
  f.memory.unwritable = gate::bytes_of(d);
  CHECK(f.call(request::ioas_copy, d) == "EFAULT");
  CHECK(d.dst_iova == 0);
  CHECK(areas(f, s) == 2);
  abi::ioas_unmap u{0, s, 0, max};
  f.memory.unwritable = gate::bytes_of(u);
  CHECK(f.call(request::ioas_unmap, u) == "EFAULT");
  CHECK(u.length == max);
  CHECK(areas(f, s) == 0);
}

TEST_CASE("copy looks at flags, numbers, rights, the source, its range, the destination",
          "[copy]") {
  fixture f;
  const auto copy = [&](abi::ioas_copy c) { return f.call(request::ioas_copy, c); };
  CHECK(copy({0, 8, 9, 9, max, max, max}) == "EOPNOTSUPP");
  for (const auto& [length, to, from] :
       {std::array{max, max - 1, max - 1}, {max - 1, max, max - 1}, {max - 1, max - 1, max}})
    CHECK(copy({0, 1, 9, 9, length, to, from}) == "EOVERFLOW");
  CHECK(copy({0, 1, 9, 9, 0, 0, 0}) == "EINVAL");
  CHECK(copy({0, 5, 9, 9, 0, 0, 0}) == "ENOENT");
  const auto s = f.space();
  CHECK(copy({0, 5, 9, s, 0, 0, 0}) == "EINVAL");
  CHECK(copy({0, 5, 9, s, 2, 0, max - 1}) == "ENOENT");  // the last byte of all
  CHECK(copy({0, 5, 9, s, 3, 0, max - 1}) == "EOVERFLOW");
  CHECK(f.map(s, 0x10000) == "0");
  CHECK(copy({0, 5, 9, s, 0x1000, 0, 0x10000}) == "ENOENT");
  CHECK(copy({0, 5, s, s, 0x1000, 0x10000, 0x10000}) == "EEXIST");
  CHECK(copy({0, 5, s, s, 0x1000, 0x20000, 0x10000}) == "0");
}

TEST_CASE("unmap looks for the space first, and says nothing where it fails", "[unmap]") {
  fixture f;
  const auto unmap = [&](abi::ioas_unmap c) {
    const std::string answer = f.call(request::ioas_unmap, c);
    return answer + " " + std::to_string(c.length);
  };
  const std::string all = " " + std::to_string(max);
  CHECK(unmap({0, 9, max, max}) == "ENOENT" + all);
  const auto s = f.space();
  CHECK(unmap({0, s, max, 0}) == "EOVERFLOW 0");
  CHECK(unmap({0, s, 1, max}) == "EOVERFLOW" + all);
  CHECK(unmap({0, s, 1, 0}) == "EINVAL 0");
  CHECK(unmap({0, s, 0, max}) == "0 0");  // all of nothing is no error
  CHECK(unmap({0, s, 0, 0x1000}) == "ENOENT 4096");
  CHECK(f.map(s, 0x10000) == "0");
  CHECK(f.map(s, 0x20000, 2) == "0");
  CHECK(unmap({0, s, 0, 0x21000}) == "ENOENT 135168");  // through the middle of the second
  CHECK(areas(f, s) == 1);                              // and the first is gone
  CHECK(unmap({0, s, 0x10000, 0x30000}) == "0 8192");
}

TEST_CASE("ranges are told as far as there is room, and how many there are", "[ranges]") {
  fixture f;
  std::array<abi::iova_range, 4> ranges{};
  const auto ask = [&](std::uint32_t room, std::uint32_t reserved = 0, std::uint32_t space = 1) {
    ranges.fill({7, 7});
    abi::ioas_iova_ranges c{0, space, room, reserved, fixture::address(ranges.data()), 0};
    const std::string answer = f.call(request::ioas_iova_ranges, c);
    return answer + " " + std::to_string(c.num_iovas) + " " + std::to_string(c.out_iova_alignment);
  };
  CHECK(ask(1, 1) == "EOPNOTSUPP 1 0");
  CHECK(ask(1) == "ENOENT 1 0");
  f.space();
  CHECK(ask(4) == "0 1 1");
  CHECK(ranges[0].start == 0);
  CHECK(ranges[0].last == max);
  REQUIRE(f.context->attach(
      f.device({.domains = {.aperture = {{0x10000}, {0xfffff}}},
                .reserved = {{{{0x20000}, {0x20fff}}, reserved_region::kind::msi}}}),
      1));
  CHECK(ask(2) == "0 2 4096");
  CHECK(ranges[1].start == 0x21000);
  CHECK(ranges[2].start == 7);
  CHECK(ask(1) == "EMSGSIZE 2 4096");
  CHECK(ranges[0].last == 0x1ffff);
  CHECK(ranges[1].start == 7);
  CHECK(ask(0) == "EMSGSIZE 2 4096");
  f.memory.unwritable = gate::bytes_of(ranges[1]);
  CHECK(ask(1) == "EMSGSIZE 2 4096");
  CHECK(ask(2) == "EFAULT 2 0");
  abi::ioas_iova_ranges c{0, 1, 1, 0, fixture::address(ranges.data()), 0};
  f.memory.unwritable = gate::bytes_of(c);
  CHECK(f.call(request::ioas_iova_ranges, c) == "EFAULT");  // which wins over EMSGSIZE
}

TEST_CASE("allowed ranges are read one at a time, each checked before the next", "[allow]") {
  fixture f;
  std::vector<abi::iova_range> ranges{{0, 0xfff}, {0x1000, 0x1fff}, {0x8000, 0x8fff}};
  const auto allow = [&](std::uint32_t reserved = 0, std::uint32_t space = 1) {
    abi::ioas_allow_iovas c{0, space, static_cast<std::uint32_t>(ranges.size()), reserved,
                            fixture::address(ranges.data())};
    return f.call(request::ioas_allow_iovas, c);
  };
  CHECK(allow(1) == "EOPNOTSUPP");
  CHECK(allow() == "ENOENT");
  f.space();
  CHECK(allow() == "0");
  f.memory.unreadable = gate::bytes_of(ranges[2]);
  CHECK(allow() == "EFAULT");
  ranges[1] = {0x800, 0x17ff};  // overlaps the first
  CHECK(allow() == "EINVAL");
  ranges[1] = {0x1000, 0x1000};
  CHECK(allow() == "EINVAL");  // a single address is none
  f.account.refuse_all();
  ranges[1] = {0x1000, 0x1001};
  CHECK(allow() == "ENOMEM");
  f.account.refuse_all(false);
  f.memory.unreadable.reset();
  ranges[2] = {0x9000, 0x8000};
  CHECK(allow() == "EINVAL");

  // A huge count of nothing is a fault, not memory.
  abi::ioas_allow_iovas c{0, 1, 0xffffffff, 0, 0};
  CHECK(f.call(request::ioas_allow_iovas, c) == "EFAULT");

  // What was refused left the old list.
  abi::ioas_map m{0, 6, 1, 0, 0x10000, 0x1000, 0};
  CHECK(f.call(request::ioas_map, m) == "0");
  CHECK(m.iova == 0x1000);
  ranges.clear();
  m.length = 0x10000;
  CHECK(f.call(request::ioas_map, m) == "ENOSPC");
  CHECK(allow() == "0");  // none: everything again
  CHECK(f.call(request::ioas_map, m) == "0");
  CHECK(m.iova == 0x10000);
}

TEST_CASE("options are checked in order, and only the value is written back", "[option]") {
  fixture f;
  const auto option = [&](abi::option c) {
    const std::string answer = f.call(request::option, c);
    return answer + " " + std::to_string(c.val64);
  };
  using abi::option_get, abi::option_set;
  constexpr std::uint32_t mode = abi::option_rlimit_mode;
  constexpr std::uint32_t huge = abi::option_huge_pages;
  CHECK(option({0, 5, 7, 1, 9, 3}) == "EOPNOTSUPP 3");
  CHECK(option({0, 5, 7, 0, 9, 3}) == "EOPNOTSUPP 3");
  CHECK(option({0, mode, 7, 0, 9, 3}) == "EOPNOTSUPP 3");
  CHECK(option({0, mode, 7, 0, 0, 3}) == "EOPNOTSUPP 3");
  CHECK(option({0, mode, option_get, 0, 0, 3}) == "0 0");
  f.may.resources = false;
  CHECK(option({0, mode, option_set, 0, 0, 3}) == "EPERM 3");
  CHECK(option({0, mode, option_get, 0, 0, 3}) == "0 0");
  f.may.resources = true;
  CHECK(option({0, mode, option_set, 0, 0, 3}) == "EINVAL 3");
  CHECK(option({0, mode, option_set, 0, 0, 1}) == "0 1");
  CHECK(option({0, mode, option_get, 0, 0, 3}) == "0 1");
  CHECK(option({0, huge, 7, 0, 1, 3}) == "ENOENT 3");
  f.space();
  CHECK(option({0, mode, option_set, 0, 0, 3}) == "EBUSY 3");
  f.may.resources = false;
  CHECK(option({0, mode, option_set, 0, 0, 3}) == "EPERM 3");
  CHECK(option({0, huge, 7, 0, 1, 3}) == "EOPNOTSUPP 3");
  CHECK(option({0, huge, option_get, 0, 1, 3}) == "0 1");
  CHECK(option({0, huge, option_set, 0, 1, 2}) == "EINVAL 2");
  CHECK(option({0, huge, option_set, 0, 1, 0}) == "0 0");
  CHECK(option({0, huge, option_get, 0, 1, 3}) == "0 0");

  abi::option c{0, huge, option_set, 0, 1, 1};
  f.memory.unwritable = gate::bytes_of(c, 0, 16);
  CHECK(f.call(request::option, c) == "0");  // nothing before the value is written
  f.memory.unwritable = gate::bytes_of(c, 23, 1);
  c.val64 = 0;
  CHECK(f.call(request::option, c) == "EFAULT");  // and the option is set
  CHECK(option({0, huge, option_get, 0, 1, 3}) == "0 0");
}

TEST_CASE("large pages stay on where something is mapped for a device", "[option]") {
  fixture f;
  const auto s = f.space();
  abi::option c{0, abi::option_huge_pages, abi::option_set, 0, s, 0};
  REQUIRE(f.map(s, 0x10000) == "0");
  REQUIRE(f.context->attach(f.device(), s));
  CHECK(f.call(request::option, c) == "EINVAL");
  CHECK(f.unmap(s, 0x10000) == "0");
  CHECK(f.call(request::option, c) == "0");
}

TEST_CASE("memory is charged as the context and its caller have it", "[account]") {
  const auto charged = [](bool privileged, bool by_option, iommufd::context_options o) {
    fixture f(o);
    f.may.lock_memory = privileged;
    if (by_option) {
      abi::option c{0, abi::option_rlimit_mode, abi::option_set, 0, 0, 1};
      REQUIRE(f.call(request::option, c) == "0");
    }
    const auto s = f.space();
    REQUIRE(f.context->attach(f.device(), s));
    REQUIRE(f.map(s, 0x10000, 3) == "0");
    const auto me = f.pinner.current();
    CHECK(f.pinner.pinned_vm(me) == 3);
    return std::to_string(f.pinner.charged(me, account_mode::user)) + " " +
           std::to_string(f.pinner.charged(me, account_mode::mm));
  };
  CHECK(charged(false, false, {}) == "3 0");
  CHECK(charged(false, true, {}) == "0 3");
  CHECK(charged(false, false, {.account = account_mode::mm}) == "0 3");
  CHECK(charged(true, false, {}) == "0 0");
  CHECK(charged(true, true, {}) == "0 0");

  fixture f;
  f.may.lock_memory = false;
  f.pinner.set_limit(f.pinner.current(), account_mode::user, 4);
  const auto s = f.space();
  REQUIRE(f.context->attach(f.device(), s));
  CHECK(f.map(s, 0x10000, 5) == "ENOMEM");
  CHECK(f.pinner.pinned_pages() == 0);
  CHECK(f.map(s, 0x10000, 4) == "0");
  abi::ioas_copy c{0, 7, s, s, 0x4000, 0x20000, 0x10000};
  CHECK(f.call(request::ioas_copy, c) == "0");  // charged once
  f.may.lock_memory = true;
  CHECK(f.map(s, 0x30000, 9, 0x40000) == "0");
}

TEST_CASE("the compatible space can be asked for, chosen, and dropped", "[vfio_ioas]") {
  fixture f;
  const auto ask = [&](std::uint16_t op, std::uint32_t id, std::uint16_t reserved = 0) {
    abi::vfio_ioas c{0, id, op, reserved};
    const std::string answer = f.call(request::vfio_ioas, c);
    return answer + " " + std::to_string(c.ioas_id);
  };
  CHECK(ask(7, 9, 1) == "EOPNOTSUPP 9");
  CHECK(ask(7, 9) == "EOPNOTSUPP 9");
  CHECK(ask(abi::vfio_ioas_get, 9) == "ENODEV 9");
  CHECK(ask(abi::vfio_ioas_set, 9) == "ENOENT 9");
  CHECK(ask(abi::vfio_ioas_clear, 9) == "0 9");
  f.space(), f.space();
  const auto d = f.device();
  CHECK(ask(abi::vfio_ioas_set, d) == "ENOENT 3");
  CHECK(ask(abi::vfio_ioas_set, 2) == "0 2");
  CHECK(ask(abi::vfio_ioas_get, 9) == "0 2");
  CHECK(f.destroy(2) == "0");  // it is no user
  CHECK(ask(abi::vfio_ioas_get, 9) == "ENODEV 9");
  CHECK(ask(abi::vfio_ioas_set, 1) == "0 1");
  CHECK(ask(abi::vfio_ioas_clear, 9) == "0 9");
  CHECK(ask(abi::vfio_ioas_get, 9) == "ENODEV 9");
}

namespace {

struct file_table {
  result<mock::file> operator()(std::int32_t fd) const {
    if (fd != 5) return fail(errc::bad_file_descriptor);
    return mock::file{known};
  }
  static inline std::uint32_t known = 0;
};
struct files_profile : newer_profile {
  using files = file_table;
};
struct old_files_profile : fixture_profile {
  using files = file_table;
};
/// Descriptor 6 is memory of a device.
struct dmabuf_table {
  result<std::optional<mock::exporter>> operator()(std::int32_t fd, std::uint64_t start,
                                                   std::uint64_t bytes) const {
    if (fd != 6) return std::nullopt;
    if (start + bytes > 0x4000) return fail(errc::invalid_argument);
    return known;
  }
  static inline mock::exporter known{};
};
/// The rules of 6.12, and the ioctls of later kernels.
struct dmabufs_profile : fixture_profile {
  static constexpr kernel_level ioctls = kernel_level::linux_6_18;
  using files = file_table;
  using dmabufs = dmabuf_table;
};
struct holes_profile : fixture_profile {
  static constexpr bool punches_holes = true;
};

}  // namespace

TEST_CASE("files are mapped by descriptor, from the kernel on that does so", "[file]") {
  context_fixture<files_profile> f;
  file_table::known = f.pinner.create_file(0x3000).id;
  const auto map = [&](abi::ioas_map_file c) {
    const std::string answer = f.call(request::ioas_map_file, c);
    return answer + " " + std::to_string(c.iova);
  };
  CHECK(map({0, 8, 9, 4, max, max, max}) == "EOPNOTSUPP " + std::to_string(max));
  CHECK(map({0, 0, 9, 4, max, max, 0}) == "EOVERFLOW 0");
  CHECK(map({0, 1, 9, 4, max, 0, 0}) == "EINVAL 0");
  CHECK(map({0, 5, 9, 4, max, 0, 0}) == "ENOENT 0");
  const auto s = f.space();
  CHECK(map({0, 5, s, 4, max, 0, 0}) == "EINVAL 0");
  CHECK(map({0, 5, s, 4, max, 2, 0}) == "EOVERFLOW 0");
  CHECK(map({0, 5, s, 4, 0, 0x1000, 0}) == "EBADF 0");
  CHECK(map({0, 7, s, 5, 0x1000, 0x2000, 0x10000}) == "0 65536");
  CHECK(f.pinner.pinned_pages() == 0);
  REQUIRE(f.context->attach(f.device(), s));
  CHECK(f.pinner.pinned_pages() == 2);
  CHECK(map({0, 6, s, 5, 0x2000, 0x2000, 0}) == "EINVAL 0");  // past its end
  context_fixture<old_files_profile> old;
  abi::ioas_map_file c{};
  CHECK(old.call(request::ioas_map_file, c) == "ENOTTY");
}

TEST_CASE("memory of a device is mapped by descriptor, and leaves every space when it is revoked",
          "[file]") {
  context_fixture<dmabufs_profile> f;
  const auto bar = dmabuf_table::known = f.pinner.create_exporter(0x4000);
  file_table::known = f.pinner.create_file(0x3000).id;
  const auto s = f.space();
  const auto t = f.space();
  const auto map = [&](iommufd::object_id where, std::int32_t fd, std::uint64_t bytes,
                       std::uint64_t at) {
    abi::ioas_map_file c{0, 7, where, fd, 0, bytes, at};
    return f.call(request::ioas_map_file, c);
  };
  const auto at_s = f.context->attach(f.device(), s);
  const auto at_t = f.context->attach(f.device({.iommu = &f}), t);
  REQUIRE((at_s && at_t));
  CHECK(map(s, 6, 0x5000, 0x10000) == "EINVAL");
  CHECK(map(s, 6, 0, 0x10000) == "EINVAL");
  CHECK(map(s, 4, 0x4000, 0x10000) == "EBADF");
  CHECK(map(s, 6, 0x4000, 0x10000) == "0");
  CHECK(map(t, 6, 0x2000, 0x20000) == "0");
  CHECK(map(t, 5, 0x2000, 0x30000) == "0");
  CHECK(f.pinner.pinned_pages() == 2);
  const auto mapped = [&](iommufd::object_id table) {
    std::uint64_t bytes = 0;
    CHECK(f.context->with_hw_pagetable(table, [&](auto&, mock::domain& d) {
      bytes = d.bytes_mapped();
      return result<void>{};
    }));
    return bytes;
  };
  CHECK(mapped(*at_s) == 0x4000);
  CHECK(mapped(*at_t) == 0x4000);
  f.context->revoke(bar);
  f.pinner.set_revoked(bar, true);
  CHECK(mapped(*at_s) == 0);
  CHECK(mapped(*at_t) == 0x2000);
  CHECK(map(s, 6, 0x4000, 0x40000) == "ENODEV");
  CHECK(f.context->restore(bar).error() == errc::no_such_device);
  CHECK(mapped(*at_s) == 0);
  f.pinner.set_revoked(bar, false);
  CHECK(map(s, 6, 0x1000, 0x40000) == "0");  // what was mapped before is not shown by that
  CHECK(mapped(*at_s) == 0x1000);
  // All spaces show it again, or none.
  f.faults.arm(mock::fault_point::resolve, 1);
  CHECK_FALSE(f.context->restore(bar));
  CHECK(mapped(*at_s) == 0);
  CHECK(mapped(*at_t) == 0x2000);
  REQUIRE(f.context->restore(bar));
  CHECK(mapped(*at_s) == 0x5000);
  CHECK(mapped(*at_t) == 0x4000);
  CHECK(f.context->size() == 6);
}

namespace {

/// Spaces of files, which change hands.
struct hands : context_fixture<files_profile> {
  using base = context_fixture<files_profile>;
  mock::process before = pinner.current();
  mock::process after = pinner.create_process(1);

  hands() {
    may.lock_memory = false;
    file_table::known = pinner.create_file(0x10000).id;
  }
  std::string map_file(id where, std::uint64_t at, std::uint64_t pages) {
    abi::ioas_map_file c{0, 7, where, 5, 0, pages * page, at};
    return call(request::ioas_map_file, c);
  }
  std::string change(std::uint32_t reserved = 0) {
    abi::ioas_change_process c{0, reserved};
    pinner.set_current(after);
    const std::string answer = call(request::ioas_change_process, c);
    pinner.set_current(before);
    return answer;
  }
  std::string charged(account_mode mode = account_mode::user) {
    return std::to_string(pinner.charged(before, mode)) + " " +
           std::to_string(pinner.charged(after, mode));
  }
};

}  // namespace

TEST_CASE("files of all spaces go over to the caller, from the kernel on that does so",
          "[change]") {
  hands f;
  CHECK(f.change(1) == "EOPNOTSUPP");
  CHECK(f.change() == "0");  // no space at all
  const auto s = f.space();
  const auto t = f.space();
  CHECK(f.change() == "0");
  REQUIRE(f.context->attach(f.device(), s));
  REQUIRE(f.context->attach(f.device({.iommu = &f}), t));
  REQUIRE(f.context->need_compatible_space());
  const auto v = f.context->compatible_space().value();
  REQUIRE(f.context->attach(f.device(), v));
  REQUIRE(f.map_file(s, 0x10000, 4) == "0");
  REQUIRE(f.map_file(t, 0x10000, 3) == "0");
  REQUIRE(f.map_file(v, 0x10000, 2) == "0");
  abi::ioas_copy c{0, 7, t, s, 0x4000, 0x20000, 0x10000};
  REQUIRE(f.call(request::ioas_copy, c) == "0");
  CHECK(f.charged() == "9 0");
  // All or none, whichever space is the one over the limit.
  for (const std::uint64_t limit : {0U, 3U, 4U, 6U, 8U}) {
    CAPTURE(limit);
    f.pinner.set_limit(f.after, account_mode::user, limit);
    CHECK(f.change() == "ENOMEM");
    CHECK(f.charged() == "9 0");
  }
  f.pinner.set_limit(f.after, account_mode::user, 9);
  CHECK(f.change(1) == "EOPNOTSUPP");
  CHECK(f.charged() == "9 0");
  CHECK(f.change() == "0");
  CHECK(f.charged() == "0 9");
  CHECK(f.change() == "0");
  CHECK(f.charged() == "0 9");
  // Nothing is held any more.
  CHECK(f.unmap(s, 0x10000, 4) == "0");
  CHECK(f.charged() == "0 9");
  CHECK(f.unmap(t, 0x20000, 4) == "0");
  CHECK(f.charged() == "0 5");
}

TEST_CASE("a space with other memory than files keeps all spaces where they are", "[change]") {
  hands f;
  const auto s = f.space();
  REQUIRE(f.context->attach(f.device(), s));
  REQUIRE(f.map_file(s, 0x10000, 4) == "0");
  f.pinner.set_limit(f.after, account_mode::user, 0);
  SECTION("a space") {
    const auto t = f.space();
    REQUIRE(f.map(t, 0x10000) == "0");
    CHECK(f.change() == "EINVAL");
    CHECK(f.destroy(t) == "0");
  }
  SECTION("the compatible space") {
    REQUIRE(f.context->need_compatible_space());
    vfio::abi::dma_map m{sizeof m, 3, 0x10000, 0x2000, 0x1000};
    REQUIRE(f.raw(vfio::abi::iommu_map_dma, fixture::address(&m)) == "0");
    CHECK(f.change() == "EINVAL");
    CHECK(f.destroy(f.context->compatible_space().value()) == "0");
  }
  CHECK(f.charged() == "4 0");
  CHECK(f.change() == "ENOMEM");
  f.pinner.set_limit(f.after, account_mode::user, 4);
  CHECK(f.change() == "0");
  CHECK(f.charged() == "0 4");
}

TEST_CASE("what was mapped without a limit goes over without one", "[change]") {
  hands f;
  const auto s = f.space();
  REQUIRE(f.context->attach(f.device(), s));
  f.may.lock_memory = true;
  REQUIRE(f.map_file(s, 0x10000, 4) == "0");
  f.may.lock_memory = false;  // the caller's capability was asked for when it was mapped
  f.pinner.set_limit(f.after, account_mode::user, 0);
  CHECK(f.change() == "0");
  CHECK(f.charged() == "0 0");
  CHECK(f.charged(account_mode::none) == "0 4");
}

TEST_CASE("whatever fails of a change of owner, none changed", "[change][sweep]") {
  hands f;
  std::vector<iommufd::object_id> spaces;
  for (std::uint64_t n = 0; n < 3; ++n) {
    spaces.push_back(f.space());
    REQUIRE(f.context->attach(f.device({.iommu = &spaces}), spaces[n]));
    REQUIRE(f.map_file(spaces[n], 0x10000, 2) == "0");
    REQUIRE(f.map_file(spaces[n], 0x20000, 1) == "0");
  }
  unsigned points = 0;
  for (std::uint64_t n = 0;; ++n, ++points) {
    CAPTURE(n);
    f.faults.arm(n);
    const std::string answer = f.change();
    if (!f.faults.fired()) break;
    f.faults.disarm();
    CHECK(answer == name(f.faults.error_of(f.faults.fired_at())));
    REQUIRE(f.charged() == "9 0");
  }
  CHECK(points >= 6);
  CHECK(f.charged() == "0 9");
}

TEST_CASE("a change of owner is an ioctl of Linux 6.14", "[change]") {
  context_fixture<old_files_profile> f;
  abi::ioas_change_process c{};
  CHECK(f.call(request::ioas_change_process, c) == "ENOTTY");
}

TEST_CASE("a profile may have unmaps that are exact", "[unmap]") {
  context_fixture<holes_profile> f;
  const auto s = f.space();
  REQUIRE(f.context->attach(f.device(), s));
  CHECK(f.map(s, 0x10000, 16) == "0");
  CHECK(f.unmap(s, 0x14000, 2) == "0");
  CHECK(f.unmap(s, 0x14000, 2) == "ENOENT");
  CHECK(f.pinner.pinned_pages() == 14);
  CHECK(areas(f, s) == 2);
}
