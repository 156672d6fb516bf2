// tests/core/page_frames_test.cpp - frames come from the cheapest holder, and go back once.
#include "iopt/core/page_frames.hpp"

#include "iopt/backends/mock/mock.hpp"
#include "iopt/core/access_object.hpp"
#include "tests/catch.hpp"

namespace {

using iopt::iova;
using table_type = iopt::io_pagetable<iopt::mock::pinner, iopt::mock::domain>;
using access_type = iopt::access_object<iopt::mock::pinner, iopt::mock::domain>;

/// A pinner that finds every other page, or every page, to be memory that the kernel keeps apart.
struct reserving_pinner {
  struct owner {
    friend bool operator==(owner, owner) = default;
  };
  std::uint64_t reserved_every = 2;  // pages
  std::uint64_t pinned = 0, charged = 0;

  owner current() { return {}; }
  iopt::result<void> pin(const owner&, iopt::user_range r, iopt::access_rights,
                         iopt::run_list& out) {
    for (std::uint64_t at = r.first.value; at < r.last.value && !out.full(); at += 4096) {
      const bool reserved = at / 4096 % reserved_every == 0;
      out.append(iopt::run({at + 0x80000000}, 4096,
                           reserved ? iopt::memory_type::reserved : iopt::memory_type::cached));
      if (!reserved) ++pinned;
    }
    return {};
  }
  void unpin(iopt::run r, bool) noexcept { pinned -= r.length_bytes / 4096; }
  bool reachable(const owner&) noexcept { return true; }
  iopt::result<void> charge(const owner&, iopt::account_mode, std::uint64_t pages) {
    charged += pages;
    return {};
  }
  void uncharge(const owner&, iopt::account_mode, std::uint64_t pages) noexcept {
    charged -= pages;
  }
};

}  // namespace

TEMPLATE_TEST_CASE("reserved memory is shown, and neither pinned, counted nor given back",
                   "[page_frames]", iopt::mock::domain, iopt::mock::plain<iopt::mock::domain>,
                   iopt::mock::unreadable<iopt::mock::domain>) {
  for (const unsigned every : {1u, 2u, 7u}) {
    reserving_pinner pinner{.reserved_every = every};
    TestType first{}, second{};
    iopt::io_pagetable<reserving_pinner, TestType> table(pinner);
    REQUIRE(table.attach(first));
    REQUIRE(table.map({0x10000}, 64 * 4096, iopt::access_rights::read, iova{0x40000}));
    std::uint64_t ordinary = 0;
    for (std::uint64_t page = 16; page < 80; ++page) ordinary += page % every != 0;
    CHECK(pinner.pinned == pinner.charged);
    CHECK(pinner.pinned == ordinary);
    REQUIRE(table.attach(second));
    table.detach(first);
    CHECK(table.verify() == "");
    CHECK(table.unmap_all());
    CHECK(pinner.pinned == 0);
    CHECK(pinner.charged == 0);
    table.detach(second);
  }
}

TEST_CASE("a page that a domain holds is read from it, not pinned again", "[page_frames]") {
  iopt::mock::pinner pinner;
  pinner.set_contiguity(pinner.current(), 4096);  // scattered: only the domain knows the frames
  iopt::mock::domain first, second;
  table_type table(pinner);
  REQUIRE(table.attach(first));
  REQUIRE(table.map({0x100000}, 0x40000, iopt::access_rights::read_write, iova{0x40000}));
  pinner.reset_calls();
  REQUIRE(table.attach(second));
  CHECK(pinner.calls().pin == 0);
  for (std::uint64_t at = 0; at < 0x40000; at += 4096)
    CHECK(second.translate({0x40000 + at}) == pinner.frame_of(pinner.current(), {0x100000 + at}));
  table.detach(first);
  table.detach(second);
  CHECK(pinner.is_idle());
}

TEST_CASE("what an access stores is read from there when the last domain goes", "[page_frames]") {
  iopt::mock::pinner pinner;
  pinner.set_contiguity(pinner.current(), 4096);
  iopt::mock::domain domain;
  table_type table(pinner);
  access_type access([](void*, iopt::iova_range) {});
  REQUIRE(access.attach(table));
  REQUIRE(table.attach(domain));
  REQUIRE(table.map({0x100000}, 0x10000, iopt::access_rights::read_write, iova{0x40000}));
  const iopt::iova_range part{{0x43000}, {0x46fff}};
  pinner.reset_calls();
  std::uint64_t bytes = 0;
  REQUIRE(
      access.pin(part, iopt::access_rights::read, [&](iopt::run r) { bytes += r.length_bytes; }));
  CHECK(bytes == 0x4000);
  CHECK(pinner.calls().pin == 0);
  table.detach(domain);
  CHECK(pinner.pinned_pages() == 4);
  REQUIRE(table.attach(domain));  // the four from the access, the others from the origin
  CHECK(pinner.pinned_pages() == 16);
  access.unpin(part);
  CHECK(pinner.pinned_pages() == 16);
  CHECK(table.unmap_all());
  CHECK(pinner.is_idle());
  access.detach();
  table.detach(domain);
}
