// tests/core/unmap_test.cpp - the rules of unmapping that are not in the table of profiles.
#include "iopt/core/unmap.hpp"

#include <functional>
#include <utility>
#include <vector>

#include "tests/catch.hpp"
#include "tests/core/engine_fixture.hpp"

namespace iopt::test {
namespace {

using table_type = usual::table_type;
constexpr std::uint64_t page = usual::page;

/// An access object that does what a test says when an area goes.
struct holder {
  explicit holder(table_type& t) : object(&told, this) { must(object.attach(t)); }
  ~holder() {
    let_go = [this](iova_range) { release(); };
    object.detach();
  }

  void pin(iova_range r) {
    must(object.pin(r, access_rights::read, [](const run&) {}));
    pinned.push_back(r);
  }
  void release() {
    for (const iova_range r : pinned) object.unpin(r);
    pinned.clear();
  }

  usual::access_type object;
  std::vector<iova_range> pinned;
  std::vector<iova_range> heard;
  std::function<void(iova_range)> let_go = [](iova_range) {};

 private:
  static void told(void* self, iova_range gone) {
    holder& h = *static_cast<holder*>(self);
    h.heard.push_back(gone);
    h.let_go(gone);
  }
};

unmap_report unmap(table_type& t, iova_range r, unmap_profile profile = unmap_profile::iommufd) {
  return t.unmap(r.first, r.length(), profile);
}

}  // namespace

// --- What goes, and what stays -------------------------------------------------------------------

TEST_CASE("a hole as iommufd makes it is cut at both ends or at none", "[unmap]") {
  usual w;
  auto& t = w.table();
  must(t.disable_large_pages());
  must(t.map(w.at(0), 8 * page, rw, w.io(32)));
  const auto punch = [&](iova first, std::uint64_t bytes) {
    return t.unmap(first, bytes, unmap_profile::iommufd_compat_v1).outcome;
  };
  CHECK(punch(w.io(34) + 1, 2 * page - 1).error() == errc::invalid_argument);
  CHECK(t.area_count() == 1);
  for (std::uint64_t n = 0;; ++n) {
    CAPTURE(n);
    w.faults.arm(n);
    const result<void> done = punch(w.io(34), 2 * page);
    if (done) break;
    CHECK(done.error() == errc::not_enough_memory);
    CHECK(t.area_count() == 1);
  }
  CHECK(t.area_count() == 2);
}

TEST_CASE("the last byte of the space is unmapped as any", "[unmap]") {
  usual w;
  auto& t = w.table();
  must(t.map(w.at(0), 2, rw, iova{top - 1}));
  CHECK(text(t.unmap({top}, 1, unmap_profile::iommufd).outcome) == "ENOENT");
  CHECK(text(t.unmap({top}, 1, unmap_profile::hole_punching).outcome) == "ok");
  const unmap_report rest = t.unmap({1}, top, unmap_profile::iommufd);
  CHECK(text(rest.outcome) == "ok");
  CHECK(rest.bytes == 1);
}

TEST_CASE("a table full to the last byte counts 0 bytes when it is emptied", "[unmap]") {
  usual w;
  auto& t = w.table();
  // Memory ends before 2^64, so it takes three areas.
  must(t.map({page}, top / 2 + 1, rw, iova{0}));
  must(t.map({page}, top / 2, rw, iova{top / 2 + 1}));
  must(t.map({page}, 1, rw, iova{top}));
  const unmap_report all = t.unmap_all();
  CHECK(text(all.outcome) == "ok");
  CHECK(all.bytes == 0);
  CHECK(all.areas == 3);
}

TEST_CASE("pages stay pinned while another table shows them", "[unmap]") {
  usual w;
  auto& a = w.add_table();
  auto& b = w.add_table();
  w.attach_domain(0);
  w.attach_domain(1);
  must(a.map(w.at(0), 8 * page, rw, w.io(0)));
  must(b.copy(a, w.pages_at(2, 2), rw, w.io(0)));
  must(b.copy(a, w.pages_at(3, 2), rw, w.io(8)));  // overlaps the one before, in pages
  CHECK(text(unmap(a, w.pages_at(0, 8)).outcome) == "ok");
  CHECK(w.pinner.pinned_pages() == 3);
  CHECK(text(unmap(b, w.pages_at(0, 2)).outcome) == "ok");
  CHECK(w.pinner.pinned_pages() == 2);
  CHECK(w.pinner.pins(w.owner(), w.at(3)) == 1);
  CHECK(text(b.unmap_all().outcome) == "ok");
  CHECK(w.close() == "");
}

TEST_CASE("pages that may be written are unpinned as written, others are not", "[unmap]") {
  usual w;
  w.attach_domain();
  must(w.table().map(w.at(0), page, rw, w.io(0)));
  must(w.table().map(w.at(1), page, access_rights::read, w.io(1)));
  CHECK(text(w.table().unmap_all().outcome) == "ok");
  CHECK(w.pinner.was_dirtied(w.pinner.frame_of(w.owner(), w.at(0))));
  CHECK(!w.pinner.was_dirtied(w.pinner.frame_of(w.owner(), w.at(1))));
}

TEST_CASE("unmap needs no memory, whatever shares the pages", "[unmap]") {
  usual w(page);
  auto& a = w.add_table();
  auto& b = w.add_table();
  w.attach_domain(0);
  w.attach_domain(0);
  w.attach_domain(1);
  must(a.map(w.at(0), 16 * page, rw, w.io(0)));
  must(b.copy(a, w.pages_at(4, 4), rw, w.io(0)));
  must(b.copy(a, w.pages_at(6, 4), rw, w.io(8)));
  {
    holder h(b);
    h.pin(w.pages_at(1, 2));
    h.let_go = [&](iova_range) { h.release(); };
    w.account.refuse_all();
    CHECK(text(a.unmap_all().outcome) == "ok");
    CHECK(text(b.unmap_all().outcome) == "ok");
  }
  w.account.refuse_all(false);
  CHECK(w.close() == "");
}

TEST_CASE("each table's domains are flushed before a page is unpinned", "[unmap]") {
  // The pinner watches every domain: an unpin before unmap and sync() ends the program.
  usual w(2 * page);
  w.attach_domain();
  w.attach_domain();
  for (std::uint64_t n = 0; n < 8; ++n) must(w.table().map(w.at(2 * n), 2 * page, rw, w.io(4 * n)));
  w.mock_of(0).reset_calls();
  CHECK(unmap(w.table(), w.pages_at(0, 16)).areas == 4);
  CHECK(w.pinner.pinned_pages() == 8);
  CHECK(w.mock_of(0).unsynced_bytes() == 0);
  CHECK(w.mock_of(1).unsynced_bytes() == 0);
}

// --- Vectors -------------------------------------------------------------------------------------

TEST_CASE("a vector unmap takes every range, or none, with one flush", "[unmap]") {
  usual w;
  auto& t = w.table();
  auto& d = w.attach_domain();
  for (std::uint64_t n = 0; n < 4; ++n) must(t.map(w.at(n), page, rw, w.io(2 * n)));
  const auto before = w.look();
  const iova_range missing[] = {w.pages_at(0, 1), w.pages_at(4, 1), w.pages_at(5, 1)};
  const unmap_report refused = t.unmap_all(missing, unmap_profile::iommufd);
  CHECK(text(refused.outcome) == "ENOENT");
  CHECK(refused.outcome.error().place == error_place::element);
  CHECK(refused.outcome.error().at == 2);
  CHECK(refused.bytes == 0);
  CHECK(difference(before, w.look()) == "");

  d.reset_calls();
  const iova_range there[] = {w.pages_at(0, 1), w.pages_at(4, 4)};
  const unmap_report done = t.unmap_all(there, unmap_profile::iommufd);
  CHECK(text(done.outcome) == "ok");
  CHECK(done.bytes == 3 * page);
  CHECK(d.calls().sync == 1);
  CHECK(t.area_count() == 1);
  CHECK(w.verify() == "");
}

TEST_CASE("a range twice in a vector unmap is an error of the second, and nothing goes",
          "[unmap]") {
  usual w;
  auto& t = w.table();
  must(t.map(w.at(0), page, rw, w.io(1)));
  const iova_range twice[] = {w.pages_at(1, 1), w.pages_at(1, 1)};
  const unmap_report refused = t.unmap_all(twice, unmap_profile::iommufd);
  CHECK(!refused);
  CHECK(t.find(w.io(1))->state == area_state::present);
}

// --- Notification --------------------------------------------------------------------------------

TEST_CASE("every access object hears of a pinned area before it goes, and of no other", "[unmap]") {
  usual w;
  auto& t = w.table();
  w.attach_domain();
  must(t.map(w.at(0), page, rw, w.io(1)));
  must(t.map(w.at(1), page, rw, w.io(2)));
  holder pins(t);
  holder listens(t);
  pins.pin(w.pages_at(2, 1));
  pins.let_go = [&](iova_range gone) {
    CHECK(t.find(w.io(2))->state == area_state::under_notification);
    CHECK(text(pins.object.pin(gone, access_rights::read, [](const run&) {})) == "EINVAL");
    CHECK(text(t.cut({2 * page + page / 2})) == "EBUSY");
    pins.release();
  };
  CHECK(text(unmap(t, w.pages_at(1, 2)).outcome) == "ok");
  CHECK(pins.heard == std::vector{w.pages_at(2, 1)});
  CHECK(listens.heard == std::vector{w.pages_at(2, 1)});
  CHECK(w.pinner.is_idle());
}

TEST_CASE("a holder that does not let go is asked a hundred times", "[unmap]") {
  usual w;
  auto& t = w.table();
  must(t.map(w.at(0), page, rw, w.io(1)));
  must(t.map(w.at(1), page, rw, w.io(2)));
  {
    holder h(t);
    h.pin(w.pages_at(2, 1));
    const unmap_report dry = t.would_unmap(w.io(1), 2 * page, unmap_profile::iommufd);
    CHECK(text(dry.outcome) == "ok");  // a dry run trusts that holders let go
    CHECK(h.heard.empty());

    const unmap_report stuck = unmap(t, w.pages_at(1, 2));
    CHECK(text(stuck.outcome) == "EDEADLK");
    CHECK(stuck.outcome.error().at == 2 * page);
    CHECK(stuck.bytes == page);  // the area before it is gone
    CHECK(h.heard.size() == 100);
    CHECK(!t.find(w.io(1)));

    // Unlike Linux, an area that survives is usable again.
    CHECK(t.find(w.io(2))->state == area_state::present);
    h.pin(w.pages_at(2, 1));
    h.let_go = [&](iova_range) { h.release(); };
    CHECK(text(unmap(t, w.pages_at(2, 1)).outcome) == "ok");
  }
  CHECK(w.close() == "");
}

TEST_CASE("a vector unmap that meets a holder who stays leaves everything", "[unmap]") {
  usual w;
  auto& t = w.table();
  w.attach_domain();
  must(t.map(w.at(0), page, rw, w.io(1)));
  must(t.map(w.at(1), page, rw, w.io(3)));
  holder h(t);
  h.pin(w.pages_at(3, 1));
  const auto before = w.look();
  const iova_range both[] = {w.pages_at(1, 1), w.pages_at(3, 1)};
  const unmap_report stuck = t.unmap_all(both, unmap_profile::iommufd);
  CHECK(text(stuck.outcome) == "EDEADLK");
  CHECK(stuck.outcome.error().at == 1);
  CHECK(difference(before, w.look()) == "");
}

TEST_CASE("a domain that comes while a vector unmap waits shows what then stays", "[unmap]") {
  usual w;
  auto& t = w.table();
  must(t.map(w.at(0), 4 * page, rw, w.io(16)));
  must(t.map(w.at(8), 4 * page, rw, w.io(32)));
  holder user(t);
  user.pin(w.pages_at(32, 1));
  const bool lets_go = GENERATE(true, false);
  bool came = false;
  user.let_go = [&](iova_range) {
    if (!std::exchange(came, true)) w.attach_domain();
    if (lets_go) user.release();
  };
  const iova_range both[] = {w.pages_at(16, 4), w.pages_at(32, 4)};
  const unmap_report gone = t.unmap_all(both, unmap_profile::iommufd);
  CHECK(came);
  CHECK(gone.outcome.has_value() == lets_go);
  CHECK(w.mock_of(0).bytes_mapped() == (lets_go ? 0 : 8 * page));
  CHECK(w.verify() == "");
  user.release();
  REQUIRE(t.unmap_all());
  CHECK(w.mock_of(0).bytes_mapped() == 0);
}

TEST_CASE("what a holder maps elsewhere while it is told is not touched", "[unmap]") {
  usual w;
  auto& t = w.table();
  must(t.map(w.at(0), page, rw, w.io(4)));
  holder h(t);
  h.pin(w.pages_at(4, 1));
  h.let_go = [&](iova_range) {
    h.release();
    must(t.map(w.at(8), page, rw, w.io(1)));  // before the cursor, which only goes up
    must(t.map(w.at(9), page, rw, w.io(8)));  // after it
  };
  must(t.map(w.at(1), page, rw, w.io(2)));
  const unmap_report done = unmap(t, w.pages_at(1, 8));
  CHECK(text(done.outcome) == "ok");
  CHECK(done.areas == 3);
  CHECK(t.area_count() == 1);
  CHECK(t.find(w.io(1)));
}

// --- Domains that come back short ----------------------------------------------------------------

TEST_CASE("a domain that comes back short keeps its pins, and the error is told", "[unmap]") {
  usual w;
  auto& t = w.table();
  auto& d = w.attach_domain();
  must(t.map(w.at(0), 4 * page, rw, w.io(0)));
  d.short_unmap_after(0);
  const unmap_report done = unmap(t, w.pages_at(0, 4));
  CHECK(text(done.outcome) == "EIO");
  CHECK(w.pinner.pinned_pages() >= 3);
  CHECK(t.area_count() == 0);
  CHECK(t.verify() == "");
}

}  // namespace iopt::test
