// tests/uapi/vfio/spapr_memory_test.cpp - registered memory: pinned once, shared, and gone with its last
// user.
//
// unverified: from the sheet, not from hardware.
#include "iopt/uapi/vfio/spapr_memory.hpp"

#include <vector>

#include "tests/catch.hpp"
#include "tests/uapi/vfio/spapr_fixture.hpp"

using namespace iopt;
using namespace iopt::test;
using namespace iopt::test::spapr;

namespace {

constexpr account_mode limited = account_mode::type1;

user_range at(std::uint64_t page, std::uint64_t pages) {
  return user_range::sized({arena + page * 4 * k}, pages * 4 * k);
}

}  // namespace

static_assert(iommu_domain<vfio::frame_directory<single_threaded>> &&
              run_mapping_domain<vfio::frame_directory<single_threaded>> &&
              run_returning_domain<vfio::frame_directory<single_threaded>>);
static_assert(exact_domain<vfio::frame_directory<single_threaded>>::value);
static_assert(page_pinner<vfio::uncounted_pinner<mock::pinner>>);

TEST_CASE("a region is pinned and charged once, however many register it") {
  spapr_machine<> m;
  auto* const s = *m.registry.bind(m.me);
  CHECK(*m.registry.bind(m.me) == s);
  auto* const r = *m.registry.add(*s, {arena}, 64 * k, limited);
  CHECK(*m.registry.add(*s, {arena}, 64 * k, account_mode::type1_unlimited) == r);
  CHECK(m.pinner.pinned_pages() == 16);
  CHECK(m.charged() == 16);
  CHECK(m.pins(arena + 60 * k) == 1);
  CHECK(m.registry.find(*s, {arena}, 64 * k) == r);
  CHECK(m.registry.find(*s, {arena}, 60 * k) == nullptr);
  CHECK(m.registry.find(*s, {arena}, 0) == nullptr);
  CHECK(m.registry.verify() == "");
  m.registry.remove(*s, *r);
  CHECK(m.charged() == 16);
  m.registry.remove(*s, *r);
  REQUIRE(m.registry.verify() == "");
  CHECK(m.pinner.is_idle());
  m.registry.unbind(*s);
  m.registry.unbind(*s);
  CHECK(m.is_idle());
}

TEST_CASE("a new region is refused in this order, and all is undone") {
  spapr_machine<> m;
  auto* const s = *m.registry.bind(m.me);
  auto* const r = *m.registry.add(*s, {arena}, 64 * k, limited);
  m.pinner.set_hole(m.me, at(20, 1));
  m.limit(32);
  const auto refused = [&](std::uint64_t first, std::uint64_t bytes) {
    const auto added = m.registry.add(*s, {first}, bytes, limited);
    return added ? "ok" : std::string(name(added.error().code));
  };
  CHECK(refused(arena + 8 * k, 0) == "ENOMEM");
  CHECK(refused(arena, 68 * k) == "ENOMEM");           // over the limit, before it overlaps
  CHECK(refused(arena + 32 * k, 64 * k) == "EFAULT");  // a hole, before it overlaps
  CHECK(refused(arena + 32 * k, 48 * k) == "EINVAL");  // it overlaps, after it was pinned
  REQUIRE(m.registry.verify() == "");
  CHECK(m.pinner.calls().pages_pinned > 16);
  CHECK(m.pinner.pinned_pages() == 16);
  CHECK(m.charged() == 16);
  // Who may lock at will is counted and not limited.
  auto* const large =
      *m.registry.add(*s, {arena + mebibyte}, mebibyte, account_mode::type1_unlimited);
  CHECK(m.charged() == 16 + 256);
  m.registry.remove(*s, *large);
  m.registry.remove(*s, *r);
  m.registry.unbind(*s);
  CHECK(m.is_idle());
}

TEST_CASE("regions are a process's own") {
  spapr_machine<> m;
  const mock::process other = m.pinner.create_process();
  auto* const mine = *m.registry.bind(m.me);
  auto* const his = *m.registry.bind(other);
  auto* const a = *m.registry.add(*mine, {arena}, 64 * k, limited);
  auto* const b = *m.registry.add(*his, {arena + 4 * k}, 64 * k, limited);
  CHECK(m.pinner.charged(other, limited) == 16);
  CHECK(m.registry.find(*mine, {arena + 4 * k}, 64 * k) == nullptr);
  m.registry.remove(*his, *b);
  m.registry.remove(*mine, *a);
  m.registry.unbind(*his);
  m.registry.unbind(*mine);
  CHECK(m.is_idle());
}

TEST_CASE(
    "a region that entries use stays after its last registration, until the last of them goes") {
  spapr_machine<> m;
  auto* const s = *m.registry.bind(m.me);
  auto* const r = *m.registry.add(*s, {arena}, 64 * k, limited);
  CHECK(m.registry.use(*s, at(4, 4), 12).value() == 16 * k);
  CHECK(m.registry.use(*s, at(6, 100), 12).value() == 40 * k);  // up to its end
  m.registry.remove(*s, *r);
  CHECK(m.pinner.pinned_pages() == 16);
  CHECK(m.charged() == 16);
  CHECK(m.registry.find(*s, {arena}, 64 * k) == r);
  m.registry.unuse(*s, at(6, 10), 12);
  CHECK(m.registry.use(*s, at(0, 1), 12).value() == 4 * k);  // it may still be used
  m.registry.unuse(*s, at(4, 4), 12);
  CHECK(m.registry.region_count(*s) == 1);
  m.registry.unuse(*s, at(0, 1), 12);
  CHECK(m.registry.region_count(*s) == 0);
  CHECK(m.pinner.is_idle());
  m.registry.unbind(*s);
}

TEST_CASE("what is not registered cannot be used") {
  spapr_machine<> m;
  auto* const s = *m.registry.bind(m.me);
  auto* const r = *m.registry.add(*s, {arena}, 64 * k, limited);
  CHECK(m.registry.use(*s, at(16, 1), 12).error() == errc::invalid_argument);
  CHECK(m.registry.use(*s, {{arena - 4 * k}, {arena + 4 * k - 1}}, 12).error() ==
        errc::invalid_argument);
  CHECK(m.registry.use(*s, at(0, 16), 16).error() == errc::invalid_argument);  // pages of 4 KiB
  m.registry.remove(*s, *r);
  m.registry.unbind(*s);
}

TEST_CASE("a region has larger pages only of huge pages from the pool, and as it is aligned") {
  spapr_machine<> m;
  auto* const s = *m.registry.bind(m.me);
  const std::uint64_t big = 16 * mebibyte;
  m.pinner.set_huge(m.me, user_range::sized({arena}, 4 * big), big);
  m.pinner.set_huge(m.me, user_range::sized({arena + 4 * big}, big), big, false);
  const auto page_lg2 = [&](std::uint64_t first, std::uint64_t bytes) {
    auto* const r = *m.registry.add(*s, {first}, bytes, limited);
    const unsigned lg2 = r->page_lg2;
    m.registry.remove(*s, *r);
    return lg2;
  };
  CHECK(page_lg2(arena, big) == 24);
  CHECK(page_lg2(arena, 3 * big) == 24);
  CHECK(page_lg2(arena + big, big / 2) == 23);
  CHECK(page_lg2(arena + 64 * k, big) == 16);
  CHECK(page_lg2(arena + 4 * k, 8 * k) == 12);
  CHECK(page_lg2(arena + 3 * big, 2 * big) == 12);  // half of it is not from the pool
  CHECK(page_lg2(arena + 8 * big, big) == 12);
  m.registry.unbind(*s);
  CHECK(m.is_idle());
}

TEST_CASE("frames are read over regions, and from within pages") {
  spapr_machine<spapr_traits_64k> m;
  m.pinner.set_contiguity(m.me, 64 * k);
  auto* const s = *m.registry.bind(m.me);
  auto* const a = *m.registry.add(*s, {arena}, 4 * mebibyte, limited);
  auto* const b = *m.registry.add(*s, {arena + 4 * mebibyte}, 64 * k, limited);
  CHECK(a->page_lg2 == 16);
  run place[8];
  run_list some{place};
  CHECK(m.registry.read(*s, user_range::sized({arena + 12 * k}, 100 * k), some) == 100 * k);
  REQUIRE(some.size() == 2);
  CHECK(some[0] == run(m.frame(arena + 12 * k), 52 * k));
  CHECK(some[1] == run(m.frame(arena + 64 * k), 48 * k));
  // As many as there is room for, and over the end of a region.
  some.clear();
  CHECK(m.registry.read(*s, user_range::sized({arena}, 4 * mebibyte), some) == 8 * 64 * k);
  some.clear();
  CHECK(m.registry.read(*s, user_range::sized({arena + 4 * mebibyte - 4 * k}, 8 * k), some) ==
        8 * k);
  run most[80];
  run_list all{most};
  CHECK(m.registry.read(*s, user_range::sized({arena}, 4 * mebibyte + 4 * k), all) ==
        4 * mebibyte + 4 * k);
  CHECK(all.size() == 65);
  m.registry.remove(*s, *a);
  m.registry.remove(*s, *b);
  m.registry.unbind(*s);
  CHECK(m.is_idle());
}

TEST_CASE("a registration fails at every point without a trace") {
  spapr_machine<> m;
  m.pinner.set_contiguity(m.me, 4 * k);  // of many runs
  std::uint64_t n = 0;
  for (;; ++n) {
    m.faults.arm(n);
    const auto s = m.registry.bind(m.me);
    if (s) {
      const auto r = m.registry.add(**s, {arena}, 400 * k, limited);
      if (r) m.registry.remove(**s, **r);
      m.registry.unbind(**s);
    }
    REQUIRE(m.is_idle());
    if (!m.faults.fired()) break;
  }
  CHECK(n > 5);
}
