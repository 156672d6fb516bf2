// tests/core/copy_test.cpp - the rules of copying, one by one.
#include "iopt/core/copy.hpp"

#include "tests/catch.hpp"
#include "tests/core/engine_fixture.hpp"

namespace iopt::test {
namespace {

constexpr std::uint64_t page = usual::page;

}  // namespace

TEST_CASE("a copy shares pages: pinned and charged once, and outlives its source", "[copy]") {
  usual w;
  auto& from = w.add_table();
  auto& to = w.add_table();
  w.attach_domain(0);
  auto& d = w.attach_domain(1);
  must(from.map(w.at(0), 4 * page, rw, w.io(0)));
  must(to.copy(from, w.pages_at(1, 2), rw, w.io(8)));
  CHECK(w.pinner.pinned_pages() == 4);
  CHECK(w.pinner.charged() == 4);
  CHECK(text(from.unmap_all().outcome) == "ok");
  CHECK(w.pinner.pinned_pages() == 2);
  CHECK(w.pinner.charged() == 2);
  CHECK(d.translate(w.io(8)) == w.pinner.frame_of(w.owner(), w.at(1)));
  CHECK(w.close() == "");
}

TEST_CASE("a copy of several areas makes as many, back to back", "[copy]") {
  usual w;
  auto& t = w.table();
  must(t.map(w.at(0), 2 * page, rw, w.io(0)));
  must(t.map(w.at(8), 2 * page, rw, w.io(2)));
  must(t.copy(t, w.pages_at(1, 2), rw, w.io(16)));
  CHECK(t.area_count() == 4);
  CHECK(t.find(w.io(16))->where == w.pages_at(16, 1));
  CHECK(t.find(w.io(17))->where == w.pages_at(17, 1));
  CHECK(t.find(w.io(17))->from == w.at(8));
}

TEST_CASE("a copy has the rights it asks for, not its source's", "[copy]") {
  usual w;
  auto& t = w.table();
  must(t.map(w.at(0), page, rw, w.io(0)));
  must(t.copy(t, w.pages_at(0, 1), access_rights::read, w.io(1)));
  must(t.copy(t, w.pages_at(1, 1), rw, w.io(2)));
  must(t.map(w.at(0), page, access_rights::write, w.io(3)));
  must(t.copy(t, w.pages_at(3, 1), rw, w.io(4)));  // to read is never refused
  CHECK(t.find(w.io(2))->rights == rw);
}

TEST_CASE("a gap in the source comes before everything of the destination", "[copy]") {
  usual w;
  auto& t = w.table();
  must(t.map(w.at(0), page, access_rights::read, w.io(1)));
  const auto gap = t.copy(t, w.pages_at(1, 2), rw, w.io(1));
  CHECK(text(gap) == "ENOENT");
  CHECK(gap.error().place == error_place::request_byte);
  CHECK(gap.error().at == page);
  CHECK(text(t.copy(t, w.pages_at(0, 2), rw, w.io(1))) == "ENOENT");
}

TEST_CASE("an area in the way of any part of a copy comes before the rights of the first",
          "[copy]") {
  // From vector ioas1_deep-1: the second area's place is taken, the first may not be written.
  usual w;
  auto& t = w.table();
  must(t.map(w.at(0), page, access_rights::read, w.io(1)));
  must(t.map(w.at(1), page, rw, w.io(2)));
  must(t.map(w.at(2), page, rw, w.io(9)));
  CHECK(text(t.copy(t, w.pages_at(1, 2), rw, w.io(8))) == "EEXIST");
  CHECK(text(t.copy(t, w.pages_at(1, 2), rw, w.io(16))) == "EPERM");
  CHECK(t.area_count() == 3);
}

TEST_CASE("a copy behind an area of odd length is refused where it comes off the alignment",
          "[copy]") {
  usual w;
  auto& from = w.add_table();
  auto& to = w.add_table();
  w.attach_domain(1);
  must(from.map(w.at(0), page - 1, rw, w.io(1)));
  must(from.map(w.at(8), page + 1, rw, iova{2 * page - 1}));
  CHECK(text(to.copy(from, w.pages_at(1, 2), rw, w.io(8))) == "EINVAL");
  CHECK(to.area_count() == 0);
  CHECK(w.pinner.is_idle());
}

TEST_CASE("a copy's chosen IOVA is aligned as the memory behind it", "[copy]") {
  usual w;
  auto& t = w.table();
  must(t.map({4 * page}, 4 * page, rw, w.io(17)));
  CHECK(text(t.copy(t, w.pages_at(17, 4), rw)) == "0x4000");
  CHECK(text(t.copy(t, w.pages_at(18, 2), rw)) == "0x1000");
}

}  // namespace iopt::test
