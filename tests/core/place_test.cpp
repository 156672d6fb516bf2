// tests/core/place_test.cpp - which IOVA is chosen, rule by rule. The checks of a fixed one are among those
// of mapping, tests/core/map_test.cpp.
#include "iopt/core/place.hpp"

#include "tests/catch.hpp"
#include "tests/core/engine_fixture.hpp"

namespace iopt::test {
namespace {

constexpr std::uint64_t page = usual::page;

struct no_huge_pages : plain_traits {
  static constexpr std::uint64_t huge_page_bytes = page_bytes;
};

}  // namespace

TEST_CASE("a chosen IOVA is never below the first page", "[place]") {
  usual w;
  CHECK(text(w.table().map(w.at(0), 1, rw)) == "0x1000");
  CHECK(text(w.table().map(w.at(0), 1, rw)) == "0x1001");
}

TEST_CASE("a chosen IOVA is aligned as length and memory allow", "[place]") {
  usual w;
  auto& t = w.table();
  CHECK(text(t.map({0}, 3 * page, rw)) == "0x4000");               // to 4 pages
  CHECK(text(t.map({2 * page}, 2 * page, rw)) == "0x2000");        // to 2 pages: it fits before
  CHECK(text(t.map({mebibyte}, 8 * mebibyte, rw)) == "0x100000");  // to the memory's
  CHECK(text(t.map({gibibyte}, 8 * mebibyte, rw)) == "0xa00000");  // to 2 MiB at most
  CHECK(text(t.map({gibibyte + 0x123}, page, rw)) == "0x7123");    // its offset in the page
}

TEST_CASE("without huge pages a chosen IOVA is aligned to a page at most", "[place]") {
  world<kind<full_domain, no_huge_pages>> w;
  CHECK(text(w.table().map({gibibyte}, 8 * mebibyte, rw)) == "0x1000");
}

TEST_CASE("memory less aligned than the table is refused where an IOVA is chosen", "[place]") {
  usual w;
  w.attach_domain();
  CHECK(text(w.table().map(w.at(0) + 8, page, rw)) == "EINVAL");
}

TEST_CASE("an IOVA is chosen from where the whole space has the memory's offset", "[place]") {
  usual w;
  auto& t = w.table();
  must(t.map(w.at(0), 0x234, rw, w.io(1)));
  CHECK(text(t.map({0x401}, 0x100, rw)) == "0x1401");  // and not 0x1234 | 0x401
  CHECK(text(t.map({0x2002}, 3, rw)) == "0x1236");     // nor 0x1002, which is taken
}

TEST_CASE("half the space or more is too much to choose an IOVA for", "[place]") {
  usual w;
  CHECK(text(w.table().map(w.at(0), top / 2, rw)) == "EOVERFLOW");
  CHECK(text(w.table().map({0}, top / 2 - 1, rw)) == "0x200000");
  CHECK(text(w.table().map({0}, top / 2 - 1, rw)) == "ENOSPC");
}

TEST_CASE("the lowest hole that fits is chosen, and a hole of one byte never", "[place]") {
  usual w;
  auto& t = w.table();
  must(t.map(w.at(0), page, rw, w.io(1)));
  must(t.map(w.at(0), page, rw, iova{2 * page + 1}));  // one byte free before it
  CHECK(text(t.map({0}, 1, rw)) == "0x3001");
  must(t.map(w.at(0), page, rw, w.io(4)));
  must(t.map(w.at(0), page, rw, w.io(7)));
  CHECK(text(t.map({0}, 2 * page, rw)) == "0x8000");  // [5, 7) cannot be aligned to 2 pages
  CHECK(text(t.map({page}, 2 * page, rw)) == "0x5000");
  CHECK(text(t.map({page}, page, rw)) == "0xa000");
}

TEST_CASE("a hole at the end of the space, which aligning would leave, is no hole", "[place]") {
  usual w;
  auto& t = w.table();
  must(t.reserve(closed(0, top - mebibyte)));
  CHECK(text(t.map({0}, mebibyte, rw)) == "ENOSPC");
  CHECK(text(t.map({0}, 2 * mebibyte, rw)) == "ENOSPC");
  CHECK(text(t.map({0}, page, rw)) == "0xfffffffffff00000");
}

TEST_CASE("a chosen IOVA leaves the last page of the space alone", "[place]") {
  usual w;
  auto& t = w.table();
  must(t.reserve(closed(0, top - 2 * page)));
  CHECK(text(t.map({page}, page, rw)) == "0xffffffffffffe000");
  CHECK(text(t.map({page}, page, rw)) == "ENOSPC");
  must(t.map(w.at(0), page, rw, iova{top - page + 1}));
}

TEST_CASE("an IOVA is chosen from allowed ranges, joined where they touch", "[place]") {
  usual w;
  auto& t = w.table();
  const iova_range list[] = {w.pages_at(4, 1), w.pages_at(16, 2), w.pages_at(18, 2)};
  must(t.allow(list));
  CHECK(text(t.map({0}, 4 * page, rw)) == "0x10000");  // 16 to 19, of two ranges
  CHECK(text(t.map({0}, 2 * page, rw)) == "ENOSPC");
  CHECK(text(t.map({0}, page, rw)) == "0x4000");
  CHECK(text(t.map({0}, page, rw)) == "ENOSPC");
  must(t.allow({}));
  CHECK(text(t.map({0}, page, rw)) == "0x1000");
}

TEST_CASE("an allowed range is searched from where it can be aligned", "[place]") {
  usual w;
  auto& t = w.table();
  const iova_range list[] = {w.pages_at(5, 4), w.pages_at(17, 10)};
  must(t.allow(list));
  CHECK(text(t.map({0}, 4 * page, rw)) == "0x14000");  // [5, 9) holds 4 pages, but not aligned ones
  CHECK(text(t.map({page}, 4 * page, rw)) == "0x5000");
}

TEST_CASE("reserved and allowed ranges hold together", "[place]") {
  usual w;
  auto& t = w.table();
  must(t.reserve(w.pages_at(0, 8), &w));
  const iova_range list[] = {w.pages_at(8, 2), w.pages_at(12, 2)};
  must(t.allow(list));
  must(t.map(w.at(0), page, rw, w.io(9)));
  CHECK(text(t.map({0}, 2 * page, rw)) == "0xc000");
  CHECK(text(t.map({0}, page, rw)) == "0x8000");
  t.unreserve(&w);
  CHECK(text(t.map({0}, page, rw)) == "ENOSPC");
}

}  // namespace iopt::test
