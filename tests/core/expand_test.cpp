// tests/core/expand_test.cpp - a compact area becomes a full one, and nobody can tell.
//
// Reached as callers reach it: by all that wants more of an area than a compact one can be. Each is
// failed at every allocation, and afterwards everything is as it was.
#include "iopt/core/expand.hpp"

#include <cstdint>
#include <string>

#include "tests/catch.hpp"
#include "tests/core/engine_fixture.hpp"

namespace iopt::test {
namespace {

constexpr std::uint64_t page = usual::page;

/// Domains whose pages are smaller than the CPU's, so that areas may begin inside of one.
void attach_domains(usual& w, unsigned count) {
  for (unsigned n = 0; n != count; ++n) {
    auto& d = w.add_domain({.page_sizes = {512, page}});
    must(w.table().attach(d));
  }
}

/// Areas of one run: one whole pages, one that begins and ends inside a page, one that may only be
/// read, one of another owner and account; and two domains, or none.
struct stand : usual {
  explicit stand(unsigned count) {
    attach_domains(*this, count);
    must(table().map(at(0), 8 * page, rw, io(16)));
    must(table().map(at(16) + 512, 4 * page - 1024, rw, io(32) + 512));
    must(table().map(at(24), 4 * page, access_rights::read, io(40)));
    table().set_account_mode(account_mode::type1);
    must(table().map(table().user_memory(owner(1), at(0)), 8 * page, rw, io(48)));
  }
};

/// Runs `act` with the n-th allocation refused, until there is none left to refuse; and says what is
/// wrong afterwards.
template <class Act>
std::string sweep(unsigned domains, Act act) {
  for (std::uint64_t n = 0;; ++n) {
    stand w(domains);
    const snapshot before = w.look();
    w.faults.arm(mock::fault_point::allocation, n);
    const result<void> done = act(w);
    const bool fired = w.faults.fired();
    w.faults.disarm();
    const std::string at = " at allocation " + std::to_string(n);
    if (const std::string_view wrong = w.verify(); !wrong.empty()) return std::string(wrong) + at;
    if (done || !fired) {  // a greater batch may be refused: then a smaller one does
      if (!done) return "refused: " + text(done);
      if (n == 0) return "nothing was allocated";
      if (const std::string_view left = w.close(); !left.empty() || !fired)
        return std::string(left);
      continue;
    }
    if (done.error() != errc::not_enough_memory) return text(done) + at;
    if (const std::string other = difference(before, w.look()); !other.empty()) return other + at;
    if (const std::string_view left = w.close(); !left.empty()) return std::string(left) + at;
  }
}

}  // namespace

TEST_CASE("memory that begins inside a page grows with its last page", "[expand]") {
  usual w;
  const iova_range all = iova_range::sized(w.io(16) + 512, 4 * page);  // bytes of five pages
  must(w.table().map(w.at(0) + 512, 4 * page, rw, all.first));
  CHECK(text(w.table().protect(all, access_rights::read)) == "ok");
  CHECK(w.verify() == "");
}

TEST_CASE("what asks for full areas changes nothing where memory is refused", "[expand][sweep]") {
  const auto each = [&](auto act) {
    for (const unsigned domains : {0u, 1u, 2u}) {
      CAPTURE(domains);
      CHECK(sweep(domains, act) == "");
    }
  };
  each([](stand& w) { return w.table().cut(w.io(20) - 1); });
  each([](stand& w) {
    const auto copied = w.table().copy(w.table(), w.pages_at(16, 8), rw, w.io(64));
    return copied ? result<void>{} : fail(copied.error());
  });
  each([](stand& w) {
    const auto copied = w.table().copy(w.table(), {w.io(32) + 512, w.io(36) - 513}, rw, w.io(64));
    return copied ? result<void>{} : fail(copied.error());
  });
  each([](stand& w) { return w.table().protect(w.pages_at(17, 2), access_rights::read); });
  each([](stand& w) {
    return w.table().remap(w.pages_at(17, 2), w.table().user_memory(w.at(40)), rw);
  });
  each([](stand& w) {
    if (const result<void> done = w.table().suspend_access(w.pages_at(48, 8)); !done) return done;
    result<void> done = w.table().resume_access(w.pages_at(48, 8), w.table().user_memory(w.at(40)));
    if (!done) {  // not given a new origin, it is still suspended, and that only
      CHECK(w.table().find(w.io(48))->suspended);
      must(w.table().resume_access(w.pages_at(48, 8), w.table().user_memory(w.owner(1), w.at(0))));
    }
    return done;
  });
}

TEST_CASE("a pin makes a full area, or changes nothing", "[expand][sweep]") {
  for (const bool holes : {false, true}) {
    for (const unsigned domains : {0u, 2u}) {
      for (std::uint64_t n = 0;; ++n) {
        CAPTURE(holes, domains, n);
        usual w;
        attach_domains(w, domains);
        must(w.table().map(w.at(0), 8 * page, rw, w.io(16)));
        if (holes) must(w.table().unmap(w.io(18), page, unmap_profile::hole_punching).outcome);
        usual::deaf_access object;
        must(object.attach(w.table()));
        const snapshot before = w.look();
        w.faults.arm(mock::fault_point::allocation, n);
        const result<void> done = object.pin(w.pages_at(19, 2), rw, no_frames);
        const bool fired = w.faults.fired();
        w.faults.disarm();
        CHECK(w.verify() == "");
        if (fired) {
          CHECK(done.error() == errc::not_enough_memory);
          REQUIRE(difference(before, w.look()) == "");
        } else {
          REQUIRE(done.has_value());
          CHECK(w.pinner.pins(w.owner(), w.at(3)) == 1);
          object.unpin(w.pages_at(19, 2));
          CHECK(difference(before, w.look()) == "");  // grown, and nobody can tell
        }
        object.detach();
        REQUIRE(w.close() == "");
        if (!fired) {
          CHECK(n != 0);
          break;
        }
      }
    }
  }
}

TEST_CASE("areas grown from compact ones keep what they have", "[expand]") {
  for (const unsigned domains : {0u, 1u, 2u}) {
    CAPTURE(domains);
    usual w;
    attach_domains(w, domains);
    auto& t = w.table();
    must(t.map(w.at(0) + 512, 8 * page - 1024, access_rights::read, w.io(16) + 512));
    must(t.suspend_access(w.pages_at(16, 8)));
    const snapshot before = w.look();
    must(w.table(1).copy(t, {w.io(16) + 512, w.io(24) - 513}, access_rights::read, w.io(16) + 512));
    must(w.table(1).unmap_all().outcome);
    snapshot after = w.look();
    after.tables.pop_back();
    CHECK(difference(before, after) == "");
    CHECK(t.find(w.io(20))->suspended);
    CHECK(t.find(w.io(20))->filled == (domains != 0));
    CHECK(w.verify() == "");
    // Its frames are known without asking a domain: what is pinned is what is shown.
    if (domains == 2) CHECK(t.detach(*w.domains[0]));
    CHECK(w.pinner.pinned_pages() == (domains == 0 ? 0 : 8));
    CHECK(t.unmap_all().areas == 1);
    CHECK(w.pinner.is_idle());
    CHECK(w.close() == "");
  }
}

TEST_CASE("a family grows as one, and its members go on sharing their pages", "[expand][sweep]") {
  for (const unsigned domains : {0u, 1u, 2u}) {
    for (std::uint64_t n = 0;; ++n) {
      CAPTURE(domains, n);
      usual w;
      attach_domains(w, domains);
      auto& t = w.table();
      must(t.map(w.at(0) + 512, 8 * page - 1024, rw, w.io(16) + 512));
      must(t.unmap(w.io(18), page, unmap_profile::hole_punching).outcome);
      must(t.unmap(w.io(21), page, unmap_profile::hole_punching).outcome);
      const snapshot before = w.look();
      CHECK(before.tables[0].areas.size() == 3);
      for (const area_picture& a : before.tables[0].areas) CHECK(a.pages == 0);
      w.faults.arm(mock::fault_point::allocation, n);
      const auto copied = t.copy(t, {w.io(19), w.io(20) - 1}, rw, w.io(64));
      const bool fired = w.faults.fired();
      w.faults.disarm();
      CHECK(w.verify() == "");
      if (!copied) {
        CHECK(fired);
        CHECK(copied.error() == errc::not_enough_memory);
        REQUIRE(difference(before, w.look()) == "");
      } else {
        must(t.unmap(w.io(64), page, unmap_profile::iommufd).outcome);
        CHECK(difference(before, w.look()) == "");
      }
      CHECK(t.unmap_all().areas == 3);
      CHECK(w.pinner.is_idle());
      REQUIRE(w.close() == "");
      if (!fired) {
        CHECK(n != 0);
        break;
      }
    }
  }
}

}  // namespace iopt::test
