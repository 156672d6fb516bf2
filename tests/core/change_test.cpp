// tests/core/change_test.cpp - protect and remap.
#include "iopt/core/change.hpp"

#include <cstddef>
#include <cstdint>

#include "tests/catch.hpp"
#include "tests/core/engine_fixture.hpp"

namespace iopt::test {
namespace {

physical shown(usual& w, std::size_t domain, std::uint64_t io_page) {
  return w.mock_of(domain).translate(usual::io(io_page)).value();
}
physical memory(usual& w, std::uint64_t n) { return w.pinner.frame_of(w.owner(), usual::at(n)); }

}  // namespace

// ---- protect ---------------------------------------------------------------------------------------

TEST_CASE("protect changes the rights of exactly the range, in every domain") {
  usual w;
  auto& t = w.table();
  w.attach_domain(), w.attach_domain();
  must(t.map(w.at(0), 8 * w.page, rw, w.io(16)));
  must(t.map(w.at(8), 8 * w.page, rw, w.io(24)));
  const auto before = w.pinner.calls();
  REQUIRE(t.protect(w.pages_at(20, 8), access_rights::read));
  CHECK(w.pinner.calls() == before);
  CHECK(t.area_count() == 4);
  for (std::size_t d = 0; d < 2; ++d) {
    CHECK(w.mock_of(d).device_writes(w.pages_at(16, 4)));
    CHECK_FALSE(w.mock_of(d).device_writes(w.pages_at(20, 1)));
    CHECK(w.mock_of(d).device_reads(w.pages_at(16, 16)));
    CHECK(w.mock_of(d).device_writes(w.pages_at(28, 4)));
    CHECK(w.mock_of(d).unsynced_bytes() == 0);
  }
  CHECK(t.find(w.io(20))->rights == access_rights::read);
  // What was mapped to write may get the right back.
  CHECK(text(t.protect(w.pages_at(16, 16), rw)) == "ok");
  CHECK(w.mock_of(1).device_writes(w.pages_at(16, 16)));
  REQUIRE(w.close() == "");
}

TEST_CASE("protect is refused in this order") {
  world<kind<no_change_domain>> w;
  auto& t = w.table();
  must(t.map(w.at(0), 4 * w.page, access_rights::read, w.io(16)));
  must(t.map(w.at(8), 4 * w.page, rw, w.io(22)));
  CHECK(text(t.protect(w.pages_at(16, 5), rw)) == "ENOENT");  // the gap, before the right
  CHECK(t.protect(w.pages_at(16, 5), rw).error().at == 4 * w.page);
  CHECK(text(t.protect(w.pages_at(16, 4), rw)) == "EPERM");
  CHECK(text(t.protect({w.io(17) + 1, w.io(19)}, access_rights::read)) ==
        "ok");  // no alignment yet
  w.tables.clear();
  auto& u = w.table();
  w.attach_domain();
  must(u.map(w.at(0), 4 * w.page, rw, w.io(16)));
  CHECK(text(u.protect({w.io(17) + 1, w.io(19)}, access_rights::read)) == "EINVAL");
  CHECK(text(u.protect(w.pages_at(16, 4), access_rights::read)) == "EOPNOTSUPP");
  CHECK(text(u.protect(w.pages_at(17, 1), access_rights::read)) == "EOPNOTSUPP");
  CHECK(u.area_count() == 1);
  REQUIRE(w.close() == "");
}

TEST_CASE("the first area keeps its right when a later one is refused") {
  usual w;
  auto& t = w.table();
  w.attach_domain(), w.attach_domain();
  must(t.map(w.at(0), 4 * w.page, rw, w.io(16)));
  must(t.map(w.at(8), 4 * w.page, rw, w.io(20)));
  w.faults.arm(mock::fault_point::protect, 3);
  const result<void> refused = t.protect(w.pages_at(16, 8), access_rights::read);
  REQUIRE_FALSE(refused);
  CHECK(refused.error().domain == 1);
  CHECK(refused.error().at == 4 * w.page);
  for (std::size_t d = 0; d < 2; ++d) CHECK(w.mock_of(d).device_writes(w.pages_at(16, 8)));
  REQUIRE(w.close() == "");
}

// ---- remap -----------------------------------------------------------------------------------------

TEST_CASE("remap shows other memory, and gives the old back") {
  for (const std::uint64_t pieces : {mock::contiguity::scattered, mock::contiguity::contiguous}) {
    usual w(pieces);
    auto& t = w.table();
    w.attach_domain(), w.attach_domain();
    must(t.map(w.at(0), 16 * w.page, rw, w.io(16)));
    must(t.copy(t, w.pages_at(20, 2), rw, w.io(64)));
    REQUIRE(t.remap(w.pages_at(19, 4), t.user_memory(w.at(40)), access_rights::read));
    CHECK(t.area_count() == 4);
    for (std::size_t d = 0; d < 2; ++d) {
      CHECK(shown(w, d, 18) == memory(w, 2));
      CHECK(shown(w, d, 19) == memory(w, 40));
      CHECK(shown(w, d, 22) == memory(w, 43));
      CHECK(shown(w, d, 23) == memory(w, 7));
      CHECK(shown(w, d, 64) == memory(w, 4));
      CHECK(w.mock_of(d).calls().unmap + w.mock_of(d).calls().unmap_runs == 0);
    }
    CHECK(w.pinner.pins(memory(w, 3)) == 0);
    CHECK(w.pinner.pins(memory(w, 4)) == 1);  // still shown at 64
    CHECK(w.pinner.pinned_pages() == 12 + 4 + 2);
    CHECK(w.verify() == "");
    w.account.refuse_all();
    REQUIRE(w.close() == "");
  }
}

TEST_CASE("a remap of more runs than go into one call is whole") {
  usual w(mock::contiguity::scattered);
  w.watched_pages = 0;
  auto& t = w.table();
  w.attach_domain();
  must(t.map(w.at(0), 300 * w.page, rw, w.io(512)));
  REQUIRE(t.remap(w.pages_at(520, 200), t.user_memory(w.at(1000)), rw));
  for (std::uint64_t n = 0; n < 300; ++n) {
    const std::uint64_t right = n < 8 || n >= 208 ? n : 1000 + n - 8;
    if (shown(w, 0, 512 + n) != memory(w, right)) FAIL("page " << n);
  }
  // Where the last call is refused, the old memory is shown again.
  w.faults.arm(mock::fault_point::replace, 3);
  CHECK_FALSE(t.remap(w.pages_at(512, 300), t.user_memory(w.at(2000)), rw));
  w.faults.disarm();
  for (std::uint64_t n = 0; n < 300; ++n) {
    const std::uint64_t right = n < 8 || n >= 208 ? n : 1000 + n - 8;
    if (shown(w, 0, 512 + n) != memory(w, right)) FAIL("page " << n);
  }
  CHECK(w.pinner.pinned_pages() == 300);
  REQUIRE(w.close() == "");
}

TEST_CASE("without large pages a remap writes page by page, so that its pages can be cut apart") {
  world<kind<no_split_domain>> w;
  auto& t = w.table();
  must(t.disable_large_pages());
  w.attach_domain();
  must(t.map(w.at(0), 200 * w.page, rw, w.io(512)));
  must(t.remap(w.pages_at(512, 200), t.user_memory(w.at(300)), rw));
  must(t.cut(w.io(513) - 1));
  CHECK(w.mock_of(0).entries(w.page) == 200);
  must(t.protect(w.pages_at(512, 1), access_rights::read));
  REQUIRE(t.unmap(w.io(512), w.page, unmap_profile::exact));
  REQUIRE(w.close() == "");
}

TEST_CASE("a remap that fails tells the byte of the request") {
  usual w;
  auto& t = w.table();
  w.attach_domain(), w.attach_domain();
  must(t.map(w.at(0), 4 * w.page, rw, w.io(16)));
  must(t.map(w.at(8), 8 * w.page, rw, w.io(20)));
  w.pinner.set_hole(w.owner(), user_range::sized(w.at(47), w.page));
  const result<void> pinning = t.remap(w.pages_at(17, 10), t.user_memory(w.at(40)), rw);
  REQUIRE(text(pinning) == "EFAULT");
  CHECK(pinning.error().place == error_place::request_byte);
  CHECK(pinning.error().at == 7 * w.page);
  // The second area, of which the second domain is told last.
  w.faults.arm(mock::fault_point::replace, 3);
  const result<void> told = t.remap(w.pages_at(17, 10), t.user_memory(w.at(60)), rw);
  REQUIRE_FALSE(told);
  CHECK(told.error().place == error_place::domain);
  CHECK(told.error().at == 3 * w.page);
  CHECK(told.error().domain == 1);
  for (std::size_t d = 0; d < 2; ++d) {
    CHECK(shown(w, d, 17) == memory(w, 1));
    CHECK(shown(w, d, 26) == memory(w, 14));
  }
  REQUIRE(w.close() == "");
}

TEST_CASE("a remap within one entry's range may take several calls") {
  usual w(mock::contiguity::contiguous);
  w.watched_pages = 0;
  auto& t = w.table();
  w.attach_domain();
  const mock::file scattered = w.pinner.create_file(200 * w.page);
  w.pinner.set_contiguity(scattered, w.page);
  must(t.map(w.at(0), 300 * w.page, rw, w.io(512)));
  REQUIRE(t.remap(w.pages_at(520, 200), t.file_memory(scattered, 0), rw));
  for (std::uint64_t n = 0; n < 200; ++n)
    if (shown(w, 0, 520 + n) != w.pinner.frame_of(scattered, n * w.page)) FAIL("page " << n);
  REQUIRE(w.close() == "");
}

TEST_CASE("a remap is refused in this order") {
  usual w;
  auto& t = w.table();
  w.attach_domain();
  usual::deaf_access user;
  must(user.attach(t));
  must(t.map(w.at(0), 4 * w.page, rw, w.io(16)));
  const auto remap = [&](iova_range r, user_address from) {
    return text(t.remap(r, t.user_memory(from), rw));
  };
  CHECK(remap(w.pages_at(16, 5), w.at(8) + 1) == "ENOENT");
  CHECK(remap(w.pages_at(16, 4), w.at(8) + 1) == "EINVAL");
  CHECK(remap({w.io(16), w.io(17)}, w.at(8)) == "EINVAL");
  must(user.pin(w.pages_at(16, 1), access_rights::read, no_frames));
  CHECK(remap(w.pages_at(17, 1), w.at(8)) == "EBUSY");
  user.unpin(w.pages_at(16, 1));
  w.pinner.set_hole(w.owner(), user_range::sized(w.at(8), w.page));
  CHECK(remap(w.pages_at(17, 1), w.at(8)) == "EFAULT");
  CHECK(t.area_count() == 1);
  must(t.suspend_access(w.pages_at(16, 4)));
  CHECK(remap(w.pages_at(17, 1), w.at(9)) == "EBUSY");
  user.detach();
  REQUIRE(w.close() == "");
}

}  // namespace iopt::test
