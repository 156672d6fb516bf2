// tests/core/fill_test.cpp - pages into domains and out again: at what cost, in which order, and what
// happens where a domain does not let go.
#include "iopt/core/fill.hpp"

#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

#include "tests/catch.hpp"
#include "tests/core/engine_fixture.hpp"

namespace iopt::test {
namespace {

std::uint64_t maps(const mock::domain_calls& c) { return c.map + c.map_runs; }
std::uint64_t unmaps(const mock::domain_calls& c) { return c.unmap + c.unmap_runs; }
std::uint64_t reads(const mock::domain_calls& c) { return c.translate + c.translate_range; }

}  // namespace

// ---- Cost --------------------------------------------------------------------------------------

TEMPLATE_TEST_CASE("contiguous memory costs calls by run, not by page", "[cost]",
                   (kind<full_domain>), (kind<plain_domain>), (kind<unreadable_domain>)) {
  using W = world<TestType>;
  for (const std::uint64_t bytes : {gibibyte, 64 * gibibyte}) {
    CAPTURE(bytes);
    W w;
    auto& t = w.table();
    const iova at{16 * gibibyte};
    w.attach_domain();
    w.pinner.reset_calls();
    REQUIRE(t.map(user_address{gibibyte}, bytes, rw, at));
    CHECK(w.pinner.calls().pin == 1);
    CHECK(w.pinner.calls().charge == 1);
    CHECK(maps(w.mock_of(0).calls()) == 1);
    CHECK(w.mock_of(0).entries() == bytes / gibibyte);

    // A second domain is filled without the pinner.
    w.mock_of(0).reset_calls();
    w.attach_domain();
    CHECK(w.pinner.calls().pin == 1);
    CHECK(maps(w.mock_of(1).calls()) == 1);
    CHECK(reads(w.mock_of(0).calls()) == 0);

    for (std::size_t n = 0; n < 2; ++n) w.mock_of(n).reset_calls();
    const std::uint64_t asked = w.account.asked();
    REQUIRE(t.unmap(at, bytes, unmap_profile::exact));
    CHECK(w.account.asked() == asked);
    CHECK(w.pinner.calls().unpin == 1);
    CHECK(w.pinner.calls().uncharge == 1);
    for (std::size_t n = 0; n < 2; ++n) {
      CHECK(unmaps(w.mock_of(n).calls()) == 1);
      CHECK(w.mock_of(n).calls().sync == 1);
      CHECK(reads(w.mock_of(n).calls()) == 0);
    }
    REQUIRE(w.close() == "");
  }
}

TEST_CASE("a full batch of runs goes to a domain in one call", "[cost]") {
  for (const std::uint64_t pages :
       {std::uint64_t{4096}, std::uint64_t{4097}, 3 * std::uint64_t{4096}}) {
    usual w(mock::contiguity::scattered);
    w.attach_domain();
    const std::uint64_t batches = (pages + 4095) / 4096;
    w.pinner.reset_calls();
    REQUIRE(w.table().map(w.at(0), pages * w.page, rw, w.io(16)));
    CHECK(w.pinner.calls().pin == batches);
    CHECK(maps(w.mock_of(0).calls()) == batches);
    w.mock_of(0).reset_calls();
    REQUIRE(w.table().unmap(w.io(16), pages * w.page, unmap_profile::exact));
    CHECK(unmaps(w.mock_of(0).calls()) == batches);
    CHECK(w.mock_of(0).calls().sync == batches);
    CHECK(reads(w.mock_of(0).calls()) == 0);
    CHECK(w.pinner.calls().uncharge == 1);
    REQUIRE(w.close() == "");
  }
}

TEST_CASE("an operation flushes a domain once", "[cost]") {
  usual w;
  auto& t = w.table();
  w.attach_domain(), w.attach_domain();
  std::vector<iova_range> all;
  for (std::uint64_t n = 0; n < 50; ++n) {
    REQUIRE(t.map(w.at(4 * n), 2 * w.page, rw, w.io(16 + 4 * n)));
    all.push_back(w.pages_at(16 + 4 * n, 2));
  }
  const auto flushes = [&](const std::function<void()>& operation) {
    for (std::size_t n = 0; n < 2; ++n) w.mock_of(n).reset_calls();
    operation();
    CHECK(w.mock_of(0).unsynced_bytes() == 0);
    CHECK(w.mock_of(0).calls().sync == w.mock_of(1).calls().sync);
    return w.mock_of(0).calls().sync;
  };
  CHECK(flushes([&] { REQUIRE(t.map(w.at(999), w.page, rw, w.io(999))); }) == 0);
  CHECK(flushes([&] { REQUIRE(t.protect(w.pages_at(16, 2), access_rights::read)); }) == 1);
  CHECK(flushes([&] { REQUIRE(t.remap(w.pages_at(16, 2), t.user_memory(w.at(700)), rw)); }) == 1);
  CHECK(flushes([&] { REQUIRE(t.unmap_all(std::span(all).first(20), unmap_profile::exact)); }) ==
        1);
  CHECK(flushes([&] { REQUIRE(t.unmap(w.io(16), 150 * w.page, unmap_profile::iommufd)); }) == 1);
  CHECK(flushes([&] { REQUIRE(t.unmap_all()); }) == 1);
  REQUIRE(w.close() == "");
}

TEST_CASE("holes leave the entries around them large", "[cost]") {
  usual w;
  auto& t = w.table();
  w.attach_domain();
  const iova at{64 * gibibyte};
  SECTION("in entries of 1 GiB") {
    REQUIRE(t.map(user_address{gibibyte}, 8 * gibibyte, rw, at));
    REQUIRE(w.mock_of(0).entries(gibibyte) == 8);
  }
  SECTION("in entries of 2 MiB") {
    REQUIRE(t.map(user_address{2 * mebibyte}, 8 * gibibyte, rw, at));
    REQUIRE(w.mock_of(0).entries(2 * mebibyte) == 4096);
  }
  const bool huge = w.mock_of(0).entries(gibibyte) != 0;
  const std::uint64_t large_before = w.mock_of(0).entries(2 * mebibyte);
  w.pinner.reset_calls();
  // Every other page of the first 40 blocks of 2 MiB.
  constexpr std::uint64_t holes = 10000;
  for (std::uint64_t n = 0; n < holes; ++n) {
    const unmap_report done = t.unmap(at + 2 * n * w.page, w.page, unmap_profile::hole_punching);
    if (!done || done.bytes != w.page) FAIL("hole " << n);
  }
  CHECK(w.mock_of(0).entries(2 * mebibyte) == (huge ? 512 - 40 : large_before - 40));
  CHECK(w.mock_of(0).entries(gibibyte) == (huge ? 7 : 0));
  CHECK(t.area_count() == holes);
  CHECK(w.pinner.calls().pin == 0);
  CHECK(w.pinner.calls().pages_unpinned == holes);
  CHECK(w.pinner.pinned_pages() == 8 * gibibyte / w.page - holes);
  CHECK(w.verify() == "");
  w.account.refuse_all();
  REQUIRE(t.unmap_all());
  REQUIRE(w.close() == "");
}

// ---- Where frames come from ------------------------------------------------------------------------

TEMPLATE_TEST_CASE("a page is pinned once, whoever shows it", "", IOPT_TEST_KINDS) {
  using W = world<TestType>;
  for (const std::uint64_t pieces : {mock::contiguity::scattered, mock::contiguity::contiguous}) {
    W w(pieces);
    auto& t = w.table(0);
    auto& other = w.table(1);
    REQUIRE(t.map(w.at(0), 8 * w.page, rw, w.io(16)));
    REQUIRE(other.copy(t, w.pages_at(18, 4), rw, w.io(40)));
    CHECK(w.pinner.pinned_pages() == 0);
    w.attach_domain(0);
    CHECK(w.pinner.pinned_pages() == 8);
    w.attach_domain(1);
    w.attach_domain(0);
    REQUIRE(t.copy(t, w.pages_at(17, 3), access_rights::read, w.io(60)));
    CHECK(w.pinner.calls().pages_pinned == 8);
    CHECK(w.pinner.charged() == 8);
    // The copy in the other table keeps its four, and the one here one more.
    REQUIRE(t.unmap(w.io(16), 8 * w.page, unmap_profile::exact));
    CHECK(w.pinner.pinned_pages() == 5);
    CHECK(w.pinner.charged() == 5);
    REQUIRE(t.unmap(w.io(60), 3 * w.page, unmap_profile::exact));
    CHECK(w.pinner.pinned_pages() == 4);
    REQUIRE(w.verify() == "");
    REQUIRE(other.detach(*w.domains[1]));
    CHECK(w.pinner.pinned_pages() == 0);
    CHECK(w.pinner.calls().pages_pinned == w.pinner.calls().pages_unpinned);
    REQUIRE(w.close() == "");
  }
}

TEST_CASE("an error of the pinner tells the byte of the request") {
  usual w(mock::contiguity::scattered);
  w.attach_domain();
  w.pinner.set_hole(w.owner(), user_range::sized(w.at(5), w.page));
  const auto refused = w.table().map({w.at(0).value}, 8 * w.page, rw, w.io(16));
  REQUIRE(refused.error() == errc::bad_address);
  CHECK(refused.error().place == error_place::request_byte);
  CHECK(refused.error().at == 5 * w.page);
  CHECK(w.pinner.pinned_pages() == 0);
}

TEST_CASE("an error of a domain tells which one, and the byte") {
  using W = world<kind<plain_domain>>;
  W w(mock::contiguity::scattered);
  w.attach_domain(), w.attach_domain();
  w.faults.arm(mock::fault_point::map, 8 + 3);
  const auto refused = w.table().map(w.at(0), 8 * w.page, rw, w.io(16));
  REQUIRE_FALSE(refused);
  CHECK(refused.error().place == error_place::domain);
  CHECK(refused.error().domain == 1);
  CHECK(refused.error().at == 3 * w.page);
  CHECK(w.close() == "");
}

// ---- Order of an unfill ----------------------------------------------------------------------------

namespace {

/// Readers that look around when they are waited for.
struct watching_readers {
  static inline std::function<void()> look;
  void wait() noexcept {
    if (look) look();
  }
};
struct watching_traits : plain_traits {
  using readers = watching_readers;
};

}  // namespace

TEST_CASE("unmapped and flushed everywhere, then readers are waited for, then pages are unpinned") {
  using W = world<kind<full_domain, watching_traits>>;
  for (const auto& [pieces, all] : {std::pair{mock::contiguity::scattered, false},
                                    {mock::contiguity::scattered, true},
                                    {mock::contiguity::contiguous, false},
                                    {mock::contiguity::contiguous, true}}) {
    W w(pieces);
    auto& t = w.table();
    w.attach_domain(), w.attach_domain();
    REQUIRE(t.map(w.at(0), 8 * w.page, rw, w.io(16)));
    unsigned waits = 0;
    watching_readers::look = [&] {
      if (w.pinner.pinned_pages() == 0) return;
      ++waits;
      CHECK(w.pinner.pinned_pages() == 8);
      for (std::size_t n = 0; n < t.domain_count(); ++n) {
        CHECK(w.mock_of(n).bytes_mapped() == 0);
        CHECK(w.mock_of(n).unsynced_bytes() == 0);
      }
    };
    REQUIRE((all ? t.unmap_all() : t.unmap(w.io(16), 8 * w.page, unmap_profile::exact)));
    watching_readers::look = nullptr;
    CHECK(waits >= 1);
    CHECK(w.pinner.pinned_pages() == 0);
    REQUIRE(w.close() == "");
  }
}

// ---- A domain that does not let go -----------------------------------------------------------------

TEMPLATE_TEST_CASE("what a short domain may still show stays pinned and charged", "",
                   (kind<full_domain>), (kind<plain_domain>), (kind<unreadable_domain>)) {
  using W = world<TestType>;
  for (const std::uint64_t pieces : {mock::contiguity::scattered, mock::contiguity::contiguous}) {
    CAPTURE(pieces);
    W w(pieces);
    auto& t = w.table();
    auto& other = w.table(1);
    w.attach_domain(), w.attach_domain();
    w.attach_domain(1);
    REQUIRE(t.map(w.at(0), 8 * w.page, rw, w.io(16)));
    REQUIRE(t.map(w.at(8), 8 * w.page, rw, w.io(32)));
    REQUIRE(other.copy(t, w.pages_at(16, 8), rw, w.io(64)));
    const std::size_t stuck = pieces == mock::contiguity::scattered ? 0u : 1u;
    w.mock_of(stuck).short_unmap_after(0);
    const unmap_report report = t.unmap(w.io(16), 8 * w.page, unmap_profile::exact);
    CHECK(report.outcome.error() == errc::io_error);
    CHECK(report.areas == 1);
    CHECK(t.area_count() == 1);
    // Another holder of the same pages goes; a device behind the first may still reach them.
    REQUIRE(other.unmap_all());
    CHECK(w.pinner.pins(w.owner(), w.at(7)) == 1);
    CHECK(w.pinner.charged() == w.pinner.pinned_pages());
    // The others are as they were.
    CHECK(t.verify() == "");
    REQUIRE(t.unmap(w.io(32), 8 * w.page, unmap_profile::exact));
    CHECK(w.pinner.pins(w.owner(), w.at(8)) == 0);
    // It takes nothing more.
    CHECK(t.map(w.at(20), w.page, rw, w.io(16)).error() == errc::io_error);
    w.mock_of(stuck).heal();
    w.tables.clear();
    CHECK(w.pinner.pins(w.owner(), w.at(7)) == 1);
  }
}

TEST_CASE("a domain that comes back short when it is detached keeps the pages pinned") {
  usual w(mock::contiguity::scattered);
  auto& t = w.table();
  w.attach_domain(), w.attach_domain();
  REQUIRE(t.map(w.at(0), 8 * w.page, rw, w.io(16)));
  w.mock_of(1).short_unmap_after(0);
  CHECK_FALSE(t.detach(*w.domains[1]));
  CHECK(t.verify() == "");
  REQUIRE(t.unmap_all());
  CHECK(w.pinner.pinned_pages() == 8);
  CHECK(w.pinner.charged() == 8);
}

// ---- Memory that is neither pinned nor accounted ------------------------------------------------------

namespace {

/// A pinner whose pages from the eighth on are kept apart by the kernel.
struct reserving_pinner : mock::pinner {
  using mock::pinner::pinner;
  static constexpr std::uint64_t boundary = 8 * 4096;
  result<void> pin(const owner& w, user_range r, access_rights a, run_list& out) {
    if (r.first.value >= boundary) {
      for (user_address at = r.first;
           at <= r.last && out.append(run(frame_of(w, at), 4096, memory_type::reserved));
           at += 4096) {
      }
      return {};
    }
    return mock::pinner::pin(w, {r.first, std::min(r.last, user_address{boundary - 1})}, a, out);
  }
};

}  // namespace

TEST_CASE("reserved memory is mapped, never unpinned, and stays known as such") {
  reserving_pinner pinner({.contiguity_bytes = mock::contiguity::scattered});
  mock::domain first, second;
  pinner.watch(first);
  {
    io_pagetable<reserving_pinner, mock::domain> t(pinner);
    access_object<reserving_pinner, mock::domain> user([](void*, iova_range) {});
    REQUIRE(t.attach(first));
    REQUIRE(t.map(user_address{4 * 4096}, 8 * 4096, rw, iova{0x10000}));
    CHECK(pinner.pinned_pages() == 4);
    CHECK(first.attributes_at(iova{0x10000})->type == memory_type::cached);
    CHECK(first.attributes_at(iova{0x14000})->type == memory_type::reserved);
    REQUIRE(user.attach(t));
    REQUIRE(user.pin({{0x10000}, {0x17fff}}, access_rights::read, no_frames));
    CHECK(pinner.pinned_pages() == 4);
    user.unpin({{0x10000}, {0x17fff}});
    CHECK(t.verify() == "");
    REQUIRE(t.attach(second));
    CHECK(second.attributes_at(iova{0x14000})->type == memory_type::reserved);
    REQUIRE(t.unmap_all());
    CHECK(pinner.pinned_pages() == 0);
    user.detach();
  }
  CHECK(pinner.is_idle());
}

}  // namespace iopt::test
