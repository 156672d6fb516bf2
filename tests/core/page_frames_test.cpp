// tests/core/page_frames_test.cpp - frames come from the cheapest holder, and go back once.
#include "iopt/core/page_frames.hpp"

#include "iopt/backends/mock/mock.hpp"
#include "iopt/core/access_object.hpp"
#include "tests/catch.hpp"

namespace {

using iopt::iova;
using table_type = iopt::io_pagetable<iopt::mock::pinner, iopt::mock::domain>;
using access_type = iopt::access_object<iopt::mock::pinner, iopt::mock::domain>;

}  // namespace

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
