// tests/containers/shared_radix_test.cpp - shared_radix, page by page, and its memory. Against the
// tree, at random: tests/core/translation_index_test.cpp.
#include "iopt/containers/shared_radix.hpp"

#include <cstdint>

#include "tests/catch.hpp"
#include "tests/counted_memory.hpp"

namespace {

using iopt::radix_answer;
using kind = radix_answer::kind;
constexpr std::uint64_t page = 4096, granule = 2 << 20;

using iopt::test::counting_memory;
using iopt::test::ledger;
using radix = iopt::shared_radix<counting_memory, 8 * granule>;
constexpr auto alone = [](std::uint64_t, std::uint64_t) { return false; };

struct subject {
  ledger book;
  iopt::reader_sections<counting_memory> readers{counting_memory{&book}};
  iopt::deferred_memory<counting_memory> blocks{readers, counting_memory{&book}, 0};
  radix table{blocks};
  subject() { REQUIRE(table.open(counting_memory{&book})); }
};

TEST_CASE("a granule that is all of one entry is one word; a part of one has a table") {
  subject s;
  radix& t = s.table;
  const std::size_t words_only = s.book.blocks;
  REQUIRE(t.prepare(granule, 3 * granule - 1));
  t.show(granule, 3 * granule - 1, 7 * page);
  CHECK(s.book.blocks == words_only);
  const radix_answer whole = t.find(granule + 5);
  CHECK((whole.is == kind::found && whole.last == 2 * granule - 1 && whole.offset == 7 * page));
  CHECK(t.find(granule - 1).is == kind::nothing);
  CHECK(t.find(8 * granule).is == kind::elsewhere);

  REQUIRE(t.prepare(4 * granule + page, 5 * granule + page - 1));
  CHECK(t.tables() == 2);
  t.show(4 * granule + page, 5 * granule + page - 1, 0);
  const radix_answer part = t.find(5 * granule + 1);
  CHECK((part.is == kind::found && part.last == 5 * granule + page - 1 && part.offset == 0));
  CHECK(t.find(5 * granule + page).is == kind::nothing);
  CHECK(t.find(4 * granule).is == kind::nothing);
  t.hide(4 * granule + page, 5 * granule + page - 1);
  CHECK(t.find(5 * granule + 1).is == kind::nothing);
  t.erase(4 * granule + page, 5 * granule + page - 1, alone);
  CHECK(t.tables() == 0);
}

TEST_CASE("what is no whole page, or not shown page by page, is found elsewhere") {
  subject s;
  radix& t = s.table;
  REQUIRE(t.prepare(100, 2 * page + 99));
  t.show(100, 2 * page + 99, 0);
  CHECK(t.find(100).is == kind::elsewhere);
  CHECK(t.find(page).is == kind::found);
  CHECK(t.find(2 * page).is == kind::elsewhere);
  CHECK(t.find(3 * page).is == kind::nothing);
  REQUIRE(t.prepare(granule, 2 * granule - 1));
  t.show(granule, 2 * granule - 1, 12);
  CHECK(t.find(granule).is == kind::elsewhere);
  CHECK(t.verify([](std::uint64_t, std::uint64_t) { return std::size_t{1}; }) == "");
  REQUIRE(t.prepare(0, 99));
  t.hide(100, 2 * page + 99);
  t.erase(100, 2 * page + 99, [](std::uint64_t first, std::uint64_t) { return first == 0; });
  CHECK(t.find(100).is == kind::elsewhere);  // another entry lies in that page
  t.hide(granule, 2 * granule - 1);
  t.erase(granule, 2 * granule - 1, alone);
  CHECK(t.find(granule).is == kind::nothing);
}

TEST_CASE("a cut granule answers as before, and so does one whose cut is taken back") {
  subject s;
  radix& t = s.table;
  REQUIRE(t.prepare(granule, 2 * granule - 1));
  t.show(granule, 2 * granule - 1, page);
  REQUIRE(t.cut(granule, 2 * granule - 1, granule + page - 1));
  CHECK(t.tables() == 1);
  CHECK(t.find(granule + page).offset == page);
  t.uncut(granule, 2 * granule - 1, granule + page - 1);
  CHECK(t.tables() == 0);
  CHECK(t.find(granule).last == 2 * granule - 1);
  REQUIRE(t.cut(granule, 2 * granule - 1, granule + page - 1));
  t.hide(granule, granule + page - 1);
  t.erase(granule, granule + page - 1, alone);
  CHECK(t.find(granule).is == kind::nothing);
  CHECK(t.find(granule + page).is == kind::found);
  CHECK(t.verify([](std::uint64_t, std::uint64_t) { return std::size_t{1}; }) == "");
}

TEST_CASE("where memory is refused, nothing has changed", "[sweep]") {
  subject s;
  radix& t = s.table;
  for (std::size_t fault = 0; fault < 2; ++fault) {
    s.book.refuse_from = s.book.calls + fault;
    CHECK_FALSE(t.prepare(page, granule + page));
    CHECK(t.tables() == 0);
  }
  s.book.refuse_from = ~std::size_t{0};
  REQUIRE(t.prepare(0, 2 * granule - 1));
  t.show(0, 2 * granule - 1, 0);
  s.book.refuse_from = 0;
  CHECK_FALSE(t.cut(0, 2 * granule - 1, page - 1));
  CHECK(t.find(0).last == granule - 1);
  CHECK(t.cut(0, 2 * granule - 1, granule - 1));
  t.hide(0, 2 * granule - 1);
  CHECK(t.find(0).is == kind::nothing);
  radix closed(s.blocks);
  CHECK_FALSE(closed.open(counting_memory{&s.book}));
  CHECK(closed.find(0).is == kind::elsewhere);
}

}  // namespace
