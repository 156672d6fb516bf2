// tests/core/cut_test.cpp - the rules of cutting an area in two.
#include "iopt/core/cut.hpp"

#include <string>
#include <utility>
#include <vector>

#include "tests/catch.hpp"
#include "tests/core/engine_fixture.hpp"

namespace iopt::test {
namespace {

constexpr std::uint64_t page = usual::page;
constexpr cut_rule both_rules[] = {cut_rule::as_iommufd, cut_rule::split};

}  // namespace

TEST_CASE("a cut makes two areas that show what one did", "[cut]") {
  for (const cut_rule rule : both_rules) {
    usual w;
    auto& t = w.table();
    must(t.map(w.at(0), 8 * page, access_rights::read, w.io(4)));
    CHECK(text(t.cut(w.pages_at(4, 3).last, rule)) == "ok");
    CHECK(t.area_count() == 2);
    const auto left = *t.find(w.io(4));
    const auto right = *t.find(w.io(7));
    CHECK(left.where == w.pages_at(4, 3));
    CHECK(right.where == w.pages_at(7, 5));
    CHECK(right.from == w.at(3));
    CHECK(right.rights == access_rights::read);
    CHECK(left.pages_id == right.pages_id);
    CHECK(w.verify() == "");
    CHECK(text(t.unmap(w.io(4), 3 * page, unmap_profile::iommufd).outcome) == "ok");
    CHECK(w.close() == "");
  }
}

TEST_CASE("there is nothing to cut at the end of an area, or where there is none", "[cut]") {
  for (const cut_rule rule : both_rules) {
    usual w;
    auto& t = w.table();
    must(t.map(w.at(0), 2 * page, rw, w.io(1)));
    must(t.map(w.at(2), page, rw, w.io(3)));
    for (const iova last : {w.io(1) - 1, w.io(3) - 1, w.io(4) - 1, w.io(9), iova{0}, iova{top}})
      CHECK(text(t.cut(last, rule)) == "ok");
    CHECK(t.area_count() == 2);
  }
}

TEST_CASE("iommufd does not cut behind the first byte of an area; a split does", "[cut]") {
  usual w;
  auto& t = w.table();
  must(t.map(w.at(0), page, rw, w.io(1)));
  CHECK(text(t.cut(w.io(1), cut_rule::as_iommufd)) == "ok");
  CHECK(t.area_count() == 1);
  CHECK(text(t.cut(w.io(1), cut_rule::split)) == "ok");
  CHECK(t.area_count() == 2);
  CHECK(t.find(w.io(1))->where.length() == 1);
}

TEST_CASE("a cut must be on the alignment, in IOVA and in memory", "[cut]") {
  for (const cut_rule rule : both_rules) {
    usual w;
    auto& t = w.table();
    must(t.map(w.at(0), 4 * page, rw, w.io(0)));
    auto& d = w.add_domain(mock::domain_options::kernel_selftest());
    CHECK(text(t.attach(d)) == "EADDRINUSE");  // below the aperture
    must(t.disable_large_pages());
    CHECK(t.alignment() == page);
    CHECK(text(t.cut({page / 2 - 1}, rule)) == "EINVAL");
    CHECK(text(t.cut({page - 1}, rule)) == "ok");
    t.enable_large_pages();
    CHECK(t.alignment() == 1);
    CHECK(text(t.cut({page + page / 2 - 1}, rule)) == "ok");
  }
}

TEST_CASE("a cut inside a page leaves both parts showing that page", "[cut]") {
  usual w;
  auto& t = w.table();
  must(t.map(w.at(0), 2 * page, rw, w.io(1)));
  must(t.cut({page + 99}, cut_rule::as_iommufd));
  CHECK(text(t.unmap(w.io(1), 100, unmap_profile::iommufd).outcome) == "ok");
  CHECK(t.find({page + 100})->from == w.at(0) + 100);
  usual::deaf_access object;
  CHECK(text(object.attach(t)) == "EADDRINUSE");  // it would need page boundaries
  CHECK(w.close() == "");
}

TEST_CASE("a half page stays pinned with its page, until both halves are gone", "[cut]") {
  usual w;
  auto& t = w.table();
  auto& d = w.add_domain(mock::domain_options::kernel_selftest());
  must(t.attach(d));
  const iova base{1 << 24};
  must(t.map(w.at(0), 2 * page, rw, base));
  CHECK(text(t.cut(base + (page + 2047), cut_rule::split)) == "ok");
  CHECK(text(t.unmap(base, page + 2048, unmap_profile::iommufd).outcome) == "ok");
  CHECK(w.pinner.pins(w.owner(), w.at(0)) == 0);
  CHECK(w.pinner.pins(w.owner(), w.at(1)) == 1);
  CHECK(d.translate(base + page + 2048) == w.pinner.frame_of(w.owner(), w.at(1)) + 2048);
  CHECK(!d.translate(base + page + 2047));
  CHECK(text(t.unmap_all().outcome) == "ok");
  CHECK(w.close() == "");
}

TEST_CASE("under notification is busy, and comes before the alignment", "[cut]") {
  struct asking : usual::access_type {
    asking(usual& of) : usual::access_type(&asking::told, this), w(of) {}
    static void told(void* self, iova_range gone) {
      asking& me = *static_cast<asking*>(self);
      for (const cut_rule rule : both_rules)
        me.answers.push_back(text(me.w.table().cut(gone.first + 5, rule)));
      if (std::exchange(me.pinned, false)) me.unpin(gone);
    }
    usual& w;
    bool pinned = true;
    std::vector<std::string> answers{};
  };
  usual w;
  auto& t = w.table();
  asking object(w);
  must(object.attach(t));
  must(t.map(w.at(0), 2 * page, rw, w.io(1)));
  must(object.pin(w.pages_at(1, 2), access_rights::read, [](const run&) {}));
  CHECK(text(t.unmap(w.io(1), 2 * page, unmap_profile::iommufd).outcome) == "ok");
  CHECK(object.answers == std::vector<std::string>{"EBUSY", "EBUSY"});
  object.detach();
}

TEST_CASE("a cut off the alignment, or where pins hold the area, is refused", "[cut]") {
  usual w;
  auto& t = w.table();
  usual::deaf_access object;
  must(object.attach(t));
  must(t.map(w.at(0), 2 * page, rw, w.io(1)));
  must(object.pin(w.pages_at(1, 1), access_rights::read, [](const run&) {}));
  CHECK(text(t.cut({page + 5})) == "EINVAL");
  CHECK(text(t.cut(w.pages_at(1, 1).last)) == "EINVAL");
  object.unpin(w.pages_at(1, 1));
  w.account.refuse_all();
  CHECK(text(t.cut(w.pages_at(1, 1).last)) == "ENOMEM");
  w.account.refuse_all(false);
  CHECK(text(t.cut(w.pages_at(1, 1).last)) == "ok");
  object.detach();
}

TEST_CASE("iommufd cuts what a domain holds only while large pages are off", "[cut]") {
  usual w;
  auto& t = w.table();
  must(t.disable_large_pages());
  auto& d = w.attach_domain();
  must(t.map(w.at(0), 8 * page, rw, w.io(0)));
  CHECK(d.entries(page) == 8);
  const auto shown = d.contents();
  CHECK(text(t.cut(w.pages_at(0, 2).last, cut_rule::as_iommufd)) == "ok");
  CHECK(d.contents() == shown);
  CHECK(w.pinner.pinned_pages() == 8);
  CHECK(w.pinner.charged() == 8);

  t.enable_large_pages();  // mapped small as it is, it is not cut any more
  CHECK(text(t.cut(w.pages_at(0, 4).last, cut_rule::as_iommufd)) == "EINVAL");
  CHECK(text(t.cut(w.pages_at(0, 4).last, cut_rule::split)) == "ok");
  CHECK(d.contents() == shown);
  CHECK(text(t.unmap(w.io(2), 2 * page, unmap_profile::iommufd).outcome) == "ok");
  CHECK(w.pinner.pinned_pages() == 6);
  CHECK(w.verify() == "");
}

TEST_CASE("without a domain large pages are no hindrance", "[cut]") {
  usual w;
  auto& t = w.table();
  must(t.map(w.at(0), 8 * page, rw, w.io(0)));
  CHECK(text(t.cut(w.pages_at(0, 2).last, cut_rule::as_iommufd)) == "ok");
}

TEST_CASE("a cut in a large entry splits it in every domain, and nothing moves", "[cut]") {
  usual w;
  auto& t = w.table();
  auto& a = w.attach_domain();
  auto& b = w.attach_domain();
  constexpr std::uint64_t large = 2 * mebibyte;
  must(t.map({2 * large}, 2 * large, rw, iova{large}));
  REQUIRE(a.entries(large) == 2);
  const auto shown = a.contents();
  const std::uint64_t unmapped = a.calls().unmap + a.calls().unmap_runs;
  CHECK(text(t.cut({large + 5 * page - 1})) == "ok");
  CHECK(a.entries(large) == 1);
  CHECK(b.entries(large) == 1);
  CHECK(a.contents() == shown);
  CHECK(b.contents() == shown);
  CHECK(a.calls().unmap + a.calls().unmap_runs == unmapped);
  CHECK(w.pinner.pinned_pages() == 2 * large / page);
  CHECK(w.pinner.calls().pin == 1);

  // A hole in the middle: exactly its pages go.
  CHECK(t.unmap({large + 16 * page}, page, unmap_profile::hole_punching).bytes == page);
  CHECK(!a.translate({large + 16 * page}));
  CHECK(a.translate({large + 17 * page}) == w.pinner.frame_of(w.owner(), {2 * large}) + 17 * page);
  CHECK(w.pinner.pinned_pages() == 2 * large / page - 1);
  CHECK(w.verify() == "");
  CHECK(text(t.unmap_all().outcome) == "ok");
  CHECK(w.close() == "");
}

TEST_CASE("a domain that cannot split refuses the cut, whole areas still go", "[cut]") {
  world<kind<no_split_domain>> w;
  auto& t = w.table();
  w.attach_domain();
  must(t.map(w.at(0), 4 * page, rw, w.io(0)));
  CHECK(text(t.cut(w.pages_at(0, 2).last)) == "EINVAL");
  CHECK(text(t.unmap(w.io(0), 4 * page, unmap_profile::hole_punching).outcome) == "ok");
}

TEST_CASE("a domain that cannot split is cut while large pages are off", "[cut]") {
  world<kind<no_split_domain>> w;
  auto& t = w.table();
  must(t.disable_large_pages());
  w.attach_domain();
  must(t.map(w.at(0), 4 * page, rw, w.io(0)));
  CHECK(text(t.cut(w.pages_at(0, 2).last)) == "ok");
  CHECK(text(t.unmap(w.io(1), page, unmap_profile::hole_punching).outcome) == "ok");
  CHECK(w.pinner.pinned_pages() == 3);
  CHECK(w.verify() == "");
}

TEST_CASE("a domain attached after a cut shows both parts, and pins once", "[cut]") {
  usual w;
  auto& t = w.table();
  must(t.map(w.at(0), 4 * page, rw, w.io(0)));
  must(t.cut(w.pages_at(0, 2).last));
  auto& d = w.attach_domain();
  CHECK(w.pinner.pinned_pages() == 4);
  CHECK(d.contents().size() == 1);  // side by side, as one
  t.detach(d);
  CHECK(w.pinner.is_idle());
}

TEST_CASE("a cut copy leaves its source whole", "[cut]") {
  usual w;
  auto& t = w.table();
  w.attach_domain();
  must(t.map(w.at(0), 4 * page, rw, w.io(0)));
  must(t.copy(t, w.pages_at(0, 4), access_rights::read, w.io(8)));
  must(t.cut(w.pages_at(8, 2).last));
  CHECK(t.area_count() == 3);
  CHECK(text(t.unmap(w.io(0), 4 * page, unmap_profile::iommufd).outcome) == "ok");
  CHECK(text(t.unmap(w.io(8), 2 * page, unmap_profile::iommufd).outcome) == "ok");
  CHECK(w.pinner.pinned_pages() == 2);
  CHECK(w.verify() == "");
}

TEST_CASE("an unmap after any number of cuts needs no memory", "[cut]") {
  usual w(page);
  auto& t = w.table();
  w.attach_domain();
  must(t.map(w.at(0), 64 * page, rw, w.io(0)));
  for (std::uint64_t n = 1; n < 64; ++n) must(t.cut(w.io(n) - 1));
  CHECK(t.area_count() == 64);
  w.account.refuse_all();
  for (std::uint64_t n = 0; n < 64; n += 2)
    CHECK(text(t.unmap(w.io(n), page, unmap_profile::iommufd).outcome) == "ok");
  CHECK(w.pinner.pinned_pages() == 32);
  CHECK(text(t.unmap_all().outcome) == "ok");
  w.account.refuse_all(false);
  CHECK(w.close() == "");
}

TEST_CASE("a hole that cannot be punched at one end is not begun at the other", "[cut]") {
  usual w;
  auto& t = w.table();
  w.attach_domain();
  must(t.map(w.at(0), 4 * page, rw, w.io(0)));
  must(t.map(w.at(8), 4 * page, rw, w.io(4)));
  usual::deaf_access object;
  must(object.attach(t));
  must(object.pin(w.pages_at(0, 1), access_rights::read, [](const run&) {}));
  const auto before = w.look();
  const unmap_report refused = t.unmap(w.io(2), 4 * page, unmap_profile::hole_punching);
  CHECK(text(refused.outcome) == "EINVAL");
  CHECK(difference(before, w.look()) == "");
  object.unpin(w.pages_at(0, 1));
  object.detach();
}

}  // namespace iopt::test
