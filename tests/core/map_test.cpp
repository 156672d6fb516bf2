// tests/core/map_test.cpp - the rules of mapping, one by one.
//
// Each test is named for its rule; the order of checks is that of Linux 6.12 iommufd, and each test
// of an order breaks two rules at once and looks which is answered.
#include "iopt/core/map.hpp"

#include <functional>
#include <utility>
#include <vector>

#include "tests/catch.hpp"
#include "tests/core/engine_fixture.hpp"

namespace iopt::test {
namespace {

constexpr std::uint64_t page = usual::page;

/// A pinner that lets a test look at the table while a map is under way.
struct pausing_pinner : mock::pinner {
  using mock::pinner::pinner;
  std::function<void()> pause;

  result<void> pin(const owner& w, user_range r, access_rights a, run_list& out) {
    if (pause) std::exchange(pause, nullptr)();
    return mock::pinner::pin(w, r, a, out);
  }
};

/// A domain that wants to know ahead.
struct told_domain : mock::domain {
  using mock::domain::domain;
  mutable std::vector<iova_range> told;

  void prefetch(iova_range r) const noexcept { told.push_back(r); }
};
static_assert(prefetching_domain<told_domain>);

/// What it is told while one page is mapped, and goes as a hole, with `more` other areas in the table.
template <class Traits>
std::vector<iova_range> told_with(std::uint64_t more) {
  world<kind<told_domain, Traits>> w;
  auto& t = w.table();
  auto& d = w.attach_domain();
  for (std::uint64_t n = 0; n < more; ++n) must(t.map(w.at(0), page, rw, w.io(100 + 2 * n)));
  d.told.clear();
  must(t.map(w.at(0), page, rw, w.io(1)));
  must(t.unmap(w.io(1), page, unmap_profile::hole_punching).outcome);
  return std::exchange(d.told, {});
}

}  // namespace

// --- A fixed IOVA -------------------------------------------------------------------------------

TEST_CASE("length 0 and lengths near 2^64 come before all", "[map]") {
  usual w;
  auto& t = w.table();
  CHECK(text(t.map({top}, 0, rw, iova{1})) == "EINVAL");
  CHECK(text(t.map({top}, top, rw, iova{1})) == "EINVAL");
  CHECK(text(t.map({top}, top - page + 1, rw, iova{1})) == "EINVAL");
  CHECK(text(t.map({top}, top - page, rw, iova{1})) == "EOVERFLOW");
}

TEST_CASE("memory may not end at 2^64, nor pass it", "[map]") {
  usual w;
  CHECK(text(w.table().map({top - page + 1}, page, rw, iova{1})) == "EOVERFLOW");
  CHECK(text(w.table().map({top - page}, page, rw, iova{page})) == "0x1000");
}

TEST_CASE("memory that wraps comes before memory of one's own", "[map]") {
  usual w;
  auto& t = w.table();
  w.account.refuse_all();
  CHECK(text(t.map({top}, page, rw, iova{0})) == "EOVERFLOW");
  CHECK(text(t.map(w.at(0), page, rw, iova{0})) == "ENOMEM");
}

TEST_CASE("no memory comes before the alignment", "[map]") {
  usual w;
  w.attach_domain();
  w.account.refuse_all();
  CHECK(text(w.table().map(w.at(0), page + 1, rw, iova{0})) == "ENOMEM");
}

TEST_CASE("the alignment of the length and the IOVA comes before the end of the space", "[map]") {
  usual w;
  w.attach_domain();
  CHECK(text(w.table().map(w.at(0), page + 1, rw, iova{top - page + 1})) == "EINVAL");
  CHECK(text(w.table().map(w.at(0), 2 * page, rw, iova{top - 1})) == "EINVAL");
  CHECK(text(w.table().map(w.at(0), 2 * page, rw, iova{top - page + 1})) == "EOVERFLOW");
}

TEST_CASE("the end of the space comes before reserved ranges", "[map]") {
  usual w;
  must(w.table().reserve(closed(top - page + 1, top)));
  CHECK(text(w.table().map(w.at(0), 2 * page, rw, iova{top - page + 1})) == "EOVERFLOW");
  CHECK(text(w.table().map(w.at(0), page, rw, iova{top - page + 1})) == "EINVAL");
}

TEST_CASE("a reserved range comes before an area", "[map]") {
  usual w;
  auto& t = w.table();
  must(t.map(w.at(0), page, rw, w.io(1)));
  must(t.reserve(w.pages_at(2, 1)));
  CHECK(text(t.map(w.at(0), 2 * page, rw, w.io(1))) == "EINVAL");
  const auto hit = t.map(w.at(0), 2 * page, rw, w.io(0));
  CHECK(text(hit) == "EEXIST");
  CHECK(hit.error().place == error_place::area);
  CHECK(hit.error().at == page);
}

TEST_CASE("an area in the way comes before the offset in the page", "[map]") {
  usual w;
  auto& t = w.table();
  w.attach_domain();
  must(t.map(w.at(0), page, rw, w.io(1)));
  CHECK(text(t.map(w.at(0) + 1, page, rw, w.io(1))) == "EEXIST");
  CHECK(text(t.map(w.at(0) + 1, page, rw, w.io(2))) == "EINVAL");
}

TEST_CASE("an area in the way comes before rights", "[map]") {
  usual w;
  auto& t = w.table();
  must(t.map(w.at(0), page, access_rights::read, w.io(1)));
  CHECK(text(t.copy(t, w.pages_at(1, 1), rw, w.io(1))) == "EEXIST");
  CHECK(text(t.copy(t, w.pages_at(1, 1), rw, w.io(2))) == "EPERM");
}

TEST_CASE("rights come before the offset in the page", "[map]") {
  usual w;
  auto& from = w.add_table();
  auto& to = w.add_table();
  must(from.map(w.at(0) + 1, page, access_rights::read, w.io(1)));
  w.attach_domain(1);
  CHECK(text(to.copy(from, w.pages_at(1, 1), rw, w.io(1))) == "EPERM");
  CHECK(text(to.copy(from, w.pages_at(1, 1), access_rights::read, w.io(1))) == "EINVAL");
}

TEST_CASE("allowed ranges say nothing of a fixed IOVA", "[map]") {
  usual w;
  const iova_range only = w.pages_at(8, 1);
  must(w.table().allow({&only, 1}));
  CHECK(text(w.table().map(w.at(0), page, rw, w.io(1))) == "0x1000");
  CHECK(text(w.table().map(w.at(0), page, rw)) == "0x8000");
}

TEST_CASE("IOVA 0 and the last byte of the space can be mapped", "[map]") {
  usual w;
  auto& t = w.table();
  CHECK(text(t.map(w.at(0), 1, rw, iova{0})) == "0x0");
  CHECK(text(t.map(w.at(0), 1, rw, iova{top})) == "0xffffffffffffffff");
  CHECK(text(t.map(w.at(0), page, rw, iova{top - page})) == "0xffffffffffffefff");
  CHECK(text(t.unmap({top}, 1, unmap_profile::iommufd).outcome) == "ok");
  CHECK(text(t.map(w.at(0), 2, rw, iova{top})) == "EOVERFLOW");
  CHECK(w.verify() == "");
}

TEST_CASE("the last pages of the space are filled and emptied as any", "[map]") {
  usual w(page);  // a run a page
  auto& t = w.table();
  auto& d = w.attach_domain();
  must(t.map(w.at(0), 4 * page, rw, iova{top - 4 * page + 1}));
  CHECK(d.translate({top}) == w.pinner.frame_of(w.owner(), w.at(3)) + (page - 1));
  CHECK(text(t.unmap({top - 4 * page + 1}, 4 * page, unmap_profile::iommufd).outcome) == "ok");
  CHECK(w.close() == "");
}

TEST_CASE("IOVA and memory need be alike only modulo the alignment", "[map]") {
  usual w;
  auto& t = w.table();
  auto& d = w.add_domain(mock::domain_options::kernel_selftest());
  must(t.attach(d));
  CHECK(t.alignment() == 2048);
  const iova base{1 << 24};
  must(t.map(w.at(0) + 2048, 2 * page, rw, base));
  CHECK(d.translate(base) == w.pinner.frame_of(w.owner(), w.at(0)) + 2048);
  CHECK(d.translate(base + 2048) == w.pinner.frame_of(w.owner(), w.at(1)));
  CHECK(w.pinner.pinned_pages() == 3);
  CHECK(text(t.map(w.at(0) + 1024, page, rw, base + 4 * page)) == "EINVAL");
  CHECK(text(t.map(w.at(0), page + 1024, rw, base + 4 * page)) == "EINVAL");
  CHECK(text(t.map(w.at(0), page, rw, base + 4 * page + 1024)) == "EINVAL");
  CHECK(w.verify() == "");
}

TEST_CASE("memory that is not there is noticed with a domain only", "[map]") {
  usual w;
  auto& t = w.table();
  w.pinner.set_hole(w.owner(), {w.at(2), w.at(3) + (page - 1)});
  CHECK(text(t.map(w.at(0), 4 * page, rw, w.io(0))) == "0x0");
  CHECK(text(t.unmap_all().outcome) == "ok");
  w.attach_domain();
  const auto refused = t.map(w.at(0), 4 * page, rw, w.io(0));
  CHECK(text(refused) == "EFAULT");
  CHECK(refused.error().place == error_place::request_byte);
  CHECK(refused.error().at == 2 * page);
  CHECK(t.area_count() == 0);
  CHECK(w.pinner.is_idle());
}

TEST_CASE("read-only memory can be mapped for reading only", "[map]") {
  usual w;
  w.attach_domain();
  w.pinner.set_read_only(w.owner(), {w.at(1), w.at(1) + (page - 1)});
  CHECK(text(w.table().map(w.at(0), 2 * page, rw, w.io(0))) == "EFAULT");
  CHECK(text(w.table().map(w.at(0), 2 * page, access_rights::read, w.io(0))) == "0x0");
  CHECK(w.pinner.pinned_pages() == 2);
}

// --- All or nothing, and what happens meanwhile --------------------------------------------------

TEST_CASE("a vector map maps all or nothing, and says which element failed", "[map]") {
  usual w;
  auto& t = w.table();
  auto& d = w.attach_domain();
  w.pinner.set_hole(w.owner(), {w.at(9), w.at(9) + (page - 1)});
  using request = usual::table_type::map_request;
  std::vector<request> list{{t.user_memory(w.at(0)), 2 * page, rw, w.io(4)},
                            {t.user_memory(w.at(4)), 2 * page, rw},
                            {t.user_memory(w.at(9)), page, rw, w.io(20)}};
  const auto before = w.look();
  const auto refused = t.map_all(list);
  CHECK(text(refused) == "EFAULT");
  CHECK(difference(before, w.look()) == "");
  list[2].what = t.user_memory(w.at(1));
  must(t.map_all(list));
  CHECK(list[1].mapped_at == w.io(2));
  CHECK(d.translate(w.io(20)) == w.pinner.frame_of(w.owner(), w.at(1)));
  list = {{t.user_memory(w.at(0)), page, rw, w.io(30)},
          {t.user_memory(w.at(0)), page, rw, w.io(30)}};
  const auto twice = t.map_all(list);
  CHECK(text(twice) == "EEXIST");
  CHECK(twice.error().place == error_place::element);
  CHECK(twice.error().at == 1);
  CHECK(!t.find(w.io(30)));
}

TEST_CASE("while memory is pinned its IOVA is taken, and nothing more", "[map]") {
  pausing_pinner pinner;
  mock::domain domain;
  io_pagetable<pausing_pinner, mock::domain> t(pinner), other(pinner);
  must(t.attach(domain));
  const user_address from{64 * page};
  bool paused = false;
  pinner.pause = [&] {
    paused = true;
    CHECK(t.find({page})->state == area_state::in_flight);
    CHECK(text(t.map(from, page, rw, iova{2 * page})) == "EEXIST");
    CHECK(text(t.copy(t, closed(page, 2 * page - 1), rw, iova{8 * page})) == "ENOENT");
    CHECK(text(other.copy(t, closed(page, 2 * page - 1), rw, iova{8 * page})) == "ENOENT");
    CHECK(text(t.reserve(closed(0, 2 * page))) == "EADDRINUSE");
    CHECK(text(t.cut({2 * page - 1})) == "EBUSY");
    for (const unmap_profile profile : unmap_profiles) {
      CAPTURE(name(profile));
      CHECK(text(t.would_unmap({page}, 4 * page, profile).outcome) == "EBUSY");
      CHECK(text(t.unmap({page}, 4 * page, profile).outcome) == "EBUSY");
    }
    CHECK(text(t.unmap({2 * page}, page, unmap_profile::hole_punching).outcome) == "EBUSY");
    CHECK(text(t.unmap_all().outcome) == "EBUSY");
    CHECK(text(t.map(from, page, rw)) == "0x5000");
  };
  must(t.map(from, 4 * page, rw, iova{page}));
  REQUIRE(paused);
  CHECK(t.find({page})->state == area_state::present);
  CHECK(t.verify() == "");
}

TEST_CASE("rights none hold an address and show nothing that can be read", "[map]") {
  usual w;
  auto& d = w.attach_domain();
  must(w.table().map(w.at(0), page, access_rights::none, w.io(1)));
  CHECK(d.translate(w.io(1)));
  CHECK(text(w.table().copy(w.table(), w.pages_at(1, 1), access_rights::read, w.io(2))) ==
        "0x2000");
}

TEST_CASE("a domain is told ahead; without locks where a table has many areas", "[map]") {
  const iova_range at = usual::pages_at(1, 1);
  CHECK(told_with<locked_traits>(0) == std::vector{at, at});
  CHECK(told_with<plain_traits>(0).empty());
  CHECK(told_with<plain_traits>(255) == std::vector{at});  // as it goes, there is one more
  CHECK(told_with<plain_traits>(256) == std::vector{at, at});
}

TEST_CASE("a table can be moved while nothing is attached, and goes on", "[map]") {
  usual w;
  usual::table_type first(w.pinner, mock::failing_memory(w.account));
  must(first.map(w.at(0), page, rw, w.io(1)));
  must(first.reserve(w.pages_at(4, 1)));
  usual::table_type second(std::move(first));
  CHECK(text(second.map(w.at(0), page, rw, w.io(1))) == "EEXIST");
  CHECK(text(second.map(w.at(0), page, rw, w.io(4))) == "EINVAL");
  CHECK(second.verify() == "");
}

}  // namespace iopt::test
