// tests/core/punch_test.cpp - holes in one compact area: what stays, what goes, and what fails.
#include "iopt/core/punch.hpp"

#include <cstdint>
#include <random>
#include <set>
#include <vector>

#include "tests/catch.hpp"
#include "tests/core/engine_fixture.hpp"

namespace iopt::test {
namespace {

constexpr auto holes = unmap_profile::hole_punching;
constexpr std::uint64_t page = usual::page;

}  // namespace

TEST_CASE("a hole takes its pages along, and leaves the rest as it is", "[punch]") {
  struct hole {
    std::uint64_t first, count;
    std::size_t areas;  // that are left
  };
  for (const unsigned domains : {0u, 1u, 2u}) {
    for (const hole h :
         {hole{0, 3, 1}, hole{5, 3, 1}, hole{2, 3, 2}, hole{0, 7, 1}, hole{7, 1, 1}}) {
      CAPTURE(domains, h.first, h.count);
      usual w;
      for (unsigned d = 0; d != domains; ++d) w.attach_domain();
      auto& t = w.table();
      must(t.map(w.at(0), 8 * page, rw, w.io(16)));
      const unmap_report gone = t.unmap(w.io(16 + h.first), h.count * page, holes);
      CHECK(gone.outcome.has_value());
      CHECK(gone.bytes == h.count * page);
      CHECK(gone.areas == 1);
      CHECK(w.verify() == "");
      CHECK(t.area_count() == h.areas);
      for (std::uint64_t n = 0; n != 8; ++n) {
        const bool stays = n < h.first || n >= h.first + h.count;
        const std::uint64_t pins = stays && domains != 0;
        CHECK(w.pinner.pins(w.owner(), w.at(n)) == pins);
        CHECK(t.find(w.io(16 + n)).has_value() == stays);
        if (stays) CHECK(t.memory_at(w.io(16 + n))->from == w.at(n));
        for (unsigned d = 0; d != domains; ++d) {
          const auto shown = w.mock_of(d).translate(w.io(16 + n));
          CHECK(shown.has_value() == stays);
          if (stays) CHECK(shown == w.pinner.frame_of(w.owner(), w.at(n)));
        }
      }
      // They are parts of one mapping still.
      std::set<std::uint64_t> ids;
      t.for_each_area([&](const area_info& a) {
        ids.insert(a.pages_id);
        CHECK(a.pinned_pages == (domains == 0 ? 0 : 8 - h.count));
      });
      CHECK(ids.size() == 1);
      CHECK(w.pinner.charged(w.owner(), account_mode::user) == (domains == 0 ? 0 : 8 - h.count));
      CHECK(w.close() == "");
    }
  }
}

TEST_CASE("a hole that cannot be had leaves everything as it was", "[punch][sweep]") {
  for (const bool second : {false, true}) {  // in a family as well
    for (const unsigned domains : {0u, 1u, 2u}) {
      for (std::uint64_t n = 0;; ++n) {
        CAPTURE(second, domains, n);
        usual w;
        for (unsigned d = 0; d != domains; ++d) w.attach_domain();
        auto& t = w.table();
        must(t.map(w.at(0), 8 * page, rw, w.io(16)));
        if (second) must(t.unmap(w.io(17), page, holes).outcome);
        const snapshot before = w.look();
        w.faults.arm(n);
        const unmap_report gone = t.unmap(w.io(20), page, holes);
        const bool fired = w.faults.fired();
        w.faults.disarm();
        CHECK(w.verify() == "");
        if (fired) {
          CHECK_FALSE(gone.outcome.has_value());
          REQUIRE(difference(before, w.look()) == "");
        } else {
          CHECK(gone.bytes == page);
        }
        REQUIRE(w.close() == "");
        if (!fired) {
          CHECK(n > domains);
          break;
        }
      }
    }
  }
}

TEST_CASE("holes inside of pages go the general way, with the same answers", "[punch]") {
  for (const unsigned domains : {0u, 1u}) {
    usual w;
    if (domains != 0) w.add_domain({.page_sizes = {512}}), must(w.table().attach(*w.domains[0]));
    auto& t = w.table();
    must(t.map(w.at(0) + 512, 4 * page - 1024, rw, w.io(16) + 512));
    CHECK(t.unmap(w.io(16) + 512, page - 512, holes).bytes == page - 512);  // the odd first page
    CHECK(t.unmap(w.io(19), page - 512, holes).bytes == page - 512);        // and the last
    CHECK(w.verify() == "");
    CHECK(w.pinner.pinned_pages() == 2 * domains);
    CHECK(t.unmap(w.io(17) + 1024, 512, holes).bytes == 512);
    CHECK(w.verify() == "");
    CHECK(t.area_count() == 2);
    CHECK(w.pinner.pinned_pages() == 2 * domains);  // the page around the hole is shown still
    CHECK(t.memory_at(w.io(17) + 1536)->from == w.at(1) + 1536);
    CHECK(t.unmap_all().areas == 2);
    CHECK(w.pinner.is_idle());
    CHECK(w.close() == "");
  }
}

TEST_CASE("a domain that does not let go of a hole keeps its pages, and no others", "[punch]") {
  usual w;
  auto& d = w.attach_domain();
  auto& t = w.table();
  must(t.map(w.at(0), 8 * page, rw, w.io(16)));
  d.short_unmap_after(0);
  CHECK(t.unmap(w.io(18), page, holes).outcome.error() == errc::io_error);
  CHECK(w.verify() == "");
  CHECK(w.pinner.pins(w.owner(), w.at(2)) == 1);
  CHECK(t.unmap_all().areas == 2);
  CHECK(w.pinner.pinned_pages() == 1);
  CHECK(w.pinner.charged() == 1);
}

TEST_CASE("a hole asks for its parts and a family, and what is left stays compact",
          "[punch][cost]") {
  usual w;
  w.attach_domain();
  auto& t = w.table();
  must(t.map(w.at(0), 60 * page, rw, w.io(16)));
  for (std::uint64_t n = 0; n < 2; ++n)  // the family, and the map's nodes, come once
    must(t.unmap(w.io(16 + 4 * n), page, holes).outcome);
  for (std::uint64_t n = 2; n < 8; ++n) {
    const std::uint64_t asked = w.account.asked(), blocks = w.account.live_blocks();
    must(t.unmap(w.io(16 + 4 * n), page, holes).outcome);
    // The part behind stays; the hole is made where the one before was, and has gone again.
    CHECK(w.account.live_blocks() - blocks == 1);
    CHECK(w.account.asked() - asked == 1);
  }
  CHECK(w.verify() == "");
  CHECK(w.close() == "");
}

TEST_CASE("holes of all kinds in all orders leave what a bitmap says", "[punch][model]") {
  for (std::uint64_t seed = 0; seed != 40; ++seed) {
    CAPTURE(seed);
    std::mt19937_64 random(seed);
    usual w;
    for (std::uint64_t d = 0; d != seed % 3; ++d) w.attach_domain();
    auto& t = w.table();
    const std::uint64_t shift = seed % 4 == 3 ? 512 : 0;  // the ends inside pages
    if (shift != 0 && !w.domains.empty()) continue;
    must(t.map(w.at(0) + shift, 32 * page - 2 * shift, rw, w.io(16) + shift));
    std::vector<bool> there(32, true);
    for (int n = 0; n != 24; ++n) {
      const std::uint64_t first = random() % 32, count = 1 + random() % (32 - first) % 5;
      switch (random() % 6) {
        case 0: static_cast<void>(t.cut(w.io(16 + first + count) - 1)); break;
        case 1:
          if (t.copy(t, w.pages_at(16 + first, 1), rw, w.io(128)))
            CHECK(t.unmap(w.io(128), page, unmap_profile::iommufd).areas == 1);
          break;
        default: {
          static_cast<void>(t.unmap(w.io(16 + first), count * page, holes));
          for (std::uint64_t k = first; k != first + count; ++k) there[k] = false;
        }
      }
      REQUIRE(w.verify() == "");
      for (std::uint64_t k = 0; k != 32; ++k) {
        const iova at = w.io(16 + k) + shift;
        REQUIRE(t.find(at).has_value() == there[k]);
        if (there[k]) REQUIRE(t.memory_at(at)->from == w.at(k) + shift);
        REQUIRE(w.pinner.pins(w.owner(), w.at(k)) == (there[k] && !w.domains.empty()));
      }
    }
    REQUIRE(w.close() == "");
  }
}

}  // namespace iopt::test
