// tests/core/traits_test.cpp - what a Traits class must have, and what deriving changes.
#include "iopt/core/traits.hpp"

#include "iopt/backends/mock/mock.hpp"
#include "iopt/core/io_pagetable.hpp"
#include "iopt/core/multi_threaded.hpp"
#include "tests/catch.hpp"

namespace {

struct large_cpu_pages : iopt::single_threaded {
  static constexpr std::uint64_t page_bytes = 64 * iopt::kibibyte;
  static constexpr std::uint64_t huge_page_bytes = 512 * iopt::mebibyte;
};
struct odd_pages : iopt::single_threaded {
  static constexpr std::uint64_t page_bytes = 5000;
};
struct no_huge_pages : iopt::single_threaded {
  static constexpr std::uint64_t huge_page_bytes = 4096;
};

struct counted_lock {
  int held = 0, held_shared = 0, taken = 0;
  void lock() { ++held, ++taken; }
  void unlock() { --held; }
  void lock_shared() { ++held_shared, ++taken; }
  void unlock_shared() { --held_shared; }
};

}  // namespace

TEST_CASE("traits are checked before they are used", "[traits]") {
  STATIC_REQUIRE(iopt::table_traits<iopt::single_threaded>);
  STATIC_REQUIRE(iopt::table_traits<iopt::multi_threaded>);
  STATIC_REQUIRE(iopt::table_traits<large_cpu_pages>);
  STATIC_REQUIRE_FALSE(iopt::table_traits<odd_pages>);
  STATIC_REQUIRE_FALSE(iopt::table_traits<int>);
}

TEST_CASE("the CPU page is the unit of pinning", "[traits]") {
  iopt::mock::pinner pinner({.page_bytes = 64 * iopt::kibibyte});
  iopt::mock::domain domain;  // its smallest page is 4 KiB
  iopt::io_pagetable<iopt::mock::pinner, iopt::mock::domain, large_cpu_pages> table(pinner);
  REQUIRE(table.attach(domain));
  REQUIRE(table.map({0x1f000}, 0x2000, iopt::access_rights::read, iopt::iova{0x3000}));
  CHECK(pinner.pinned_pages() == 2);  // a byte of each of two pages is shown
  CHECK(domain.translate({0x3fff}) == pinner.frame_of(pinner.current(), {0x1ffff}));
  CHECK(domain.translate({0x4000}) == pinner.frame_of(pinner.current(), {0x20000}));
  CHECK(table.unmap_all());
  CHECK(pinner.is_idle());
}

TEST_CASE("without huge pages a chosen IOVA is aligned to a page only", "[traits]") {
  iopt::mock::pinner pinner;
  iopt::io_pagetable<iopt::mock::pinner, iopt::mock::domain> with(pinner);
  iopt::io_pagetable<iopt::mock::pinner, iopt::mock::domain, no_huge_pages> without(pinner);
  const auto rights = iopt::access_rights::read;
  CHECK(with.map({0x400000}, 0x200000, rights) == iopt::iova{0x200000});
  CHECK(without.map({0x400000}, 0x200000, rights) == iopt::iova{0x1000});
}

TEST_CASE("a lock is held for a scope", "[traits]") {
  counted_lock lock;
  {
    iopt::detail::exclusive_lock guard(lock);
    CHECK(lock.held == 1);
    {
      iopt::detail::released_lock dropped(lock);
      CHECK(lock.held == 0);
    }
    CHECK(lock.held == 1);
  }
  {
    iopt::detail::shared_lock guard(lock);
    CHECK(lock.held_shared == 1);
  }
  CHECK((lock.held == 0 && lock.held_shared == 0 && lock.taken == 3));
}
