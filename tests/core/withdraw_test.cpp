// tests/core/withdraw_test.cpp - suspend and resume, revoke and restore.
#include "iopt/core/withdraw.hpp"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <optional>
#include <utility>
#include <vector>

#include "tests/catch.hpp"
#include "tests/core/engine_fixture.hpp"

namespace iopt::test {
namespace {

/// A domain in which something comes between, before it maps or after it unmaps: what another thread
/// might do just then.
struct interrupted_domain : mock::domain {
  using mock::domain::domain;
  result<void> map(iova_range r, physical p, attributes a) {
    if (r.first == before) std::exchange(between, [] {})();
    return mock::domain::map(r, p, a);
  }
  std::uint64_t unmap(iova_range r) noexcept {
    const std::uint64_t bytes = mock::domain::unmap(r);
    if (r.first == after) std::exchange(between_unmap, [] {})();
    return bytes;
  }
  iova before{}, after{};
  std::function<void()> between = [] {}, between_unmap = [] {};
};

/// A table of device memory at pages 16 to 19, which goes and comes, and behind it of memory of a
/// process; the first of its domains is interrupted.
struct passing_memory : world<kind<interrupted_domain>> {
  explicit passing_memory(std::size_t count) {
    for (std::size_t n = 1; n < count; ++n) attach_domain();
    must(t.map(t.device_memory(bar, 0), 4 * page, rw, io(16)));
    must(t.map(at(0), 4 * page, rw, io(20)));
  }
  void go() {
    t.revoke(bar);
    pinner.set_revoked(bar, true);
  }
  void come() {
    pinner.set_revoked(bar, false);
    must(t.restore(bar));
  }
  table_type& t = table();
  interrupted_domain& d = attach_domain();
  mock::exporter bar = pinner.create_exporter(4 * page);
};

}  // namespace

// ---- suspend, resume -------------------------------------------------------------------------------

TEST_CASE("suspended access waits while devices go on") {
  usual w;
  auto& t = w.table();
  w.attach_domain();
  usual::deaf_access user;
  must(user.attach(t));
  must(t.map(w.at(0), 4 * w.page, rw, w.io(16)));
  must(t.map(w.at(4), 4 * w.page, rw, w.io(20)));
  CHECK(text(t.suspend_access(w.pages_at(40, 1))) == "ENOENT");
  CHECK(text(t.suspend_access(w.pages_at(16, 6))) == "ENOENT");
  must(t.suspend_access(w.pages_at(16, 4)));
  CHECK(text(t.suspend_access(w.pages_at(16, 8))) == "EINVAL");
  CHECK_FALSE(t.find(w.io(20))->suspended);  // nothing changed then
  std::byte data[8];
  CHECK(text(user.read(w.io(16), data)) == "EBUSY");
  CHECK(text(user.pin(w.pages_at(16, 1), access_rights::read, no_frames)) == "EBUSY");
  CHECK(w.mock_of(0).device_writes(w.pages_at(16, 4)));
  const auto resume = [&](iova_range r, user_address from) {
    return text(t.resume_access(r, t.user_memory(w.owner(1), from)));
  };
  CHECK(resume(w.pages_at(40, 1), w.at(0)) == "ENOENT");
  CHECK(resume(w.pages_at(16, 8), w.at(0)) == "EINVAL");
  CHECK(resume(w.pages_at(20, 4), w.at(0)) == "EINVAL");  // not suspended
  CHECK(resume(w.pages_at(16, 4), w.at(0) + 8) == "EINVAL");
  const auto device = w.pinner.create_exporter(8 * w.page);
  CHECK(text(t.resume_access(w.pages_at(16, 4), t.device_memory(device, 0))) == "EINVAL");
  w.pinner.set_limit(w.owner(1), account_mode::user, 3);
  CHECK(resume(w.pages_at(16, 4), w.at(30)) == "ENOMEM");
  w.pinner.set_limit(w.owner(1), account_mode::user, 4);
  CHECK(resume(w.pages_at(16, 4), w.at(30)) == "ok");
  // The same pages, pinned as they were, now charged to the other; found at the other's address.
  CHECK(w.pinner.charged(w.owner(1), account_mode::user) == 4);
  CHECK(w.pinner.charged(w.owner(0), account_mode::user) == 4);
  CHECK(w.mock_of(0).translate(w.io(16)) == w.pinner.frame_of(w.owner(), w.at(0)));
  CHECK(t.find(w.io(16))->from == w.at(30));
  std::memset(data, 3, sizeof data);
  must(w.pinner.write(w.owner(1), w.at(31) + 4, data));
  std::byte got[8] = {};
  must(user.read(w.io(17) + 4, got));
  CHECK(std::memcmp(data, got, sizeof data) == 0);
  user.detach();
  REQUIRE(w.close() == "");
}

TEST_CASE("every area that shows resumed pages is found at their new address") {
  world<kind<full_domain, indexed_traits>> w;
  auto& t = w.table();
  must(t.map(w.at(0), 4 * w.page, rw, w.io(16)));
  must(t.copy(t, w.pages_at(17, 2), rw, w.io(32)));
  must(t.suspend_access(w.pages_at(16, 4)));
  must(t.resume_access(w.pages_at(16, 4), t.user_memory(w.at(40))));
  std::vector<iova_range> views;
  const auto look = [&](std::uint64_t page) {
    views.clear();
    t.for_each_view(w.owner(), user_range::sized(w.at(page), w.page),
                    [&](iova_range r, user_address) { views.push_back(r); });
    return views;
  };
  CHECK(look(1).empty());
  CHECK(look(41) == std::vector{w.pages_at(17, 1), w.pages_at(32, 1)});
  REQUIRE(t.unmap_all());
  CHECK(look(41).empty());
  REQUIRE(w.close() == "");
}

// ---- revoke, restore -------------------------------------------------------------------------------

TEMPLATE_TEST_CASE("device memory that is taken away leaves every domain, and comes back", "",
                   (kind<full_domain>), (kind<plain_domain>), (kind<unreadable_domain>)) {
  using V = world<TestType>;
  V w;
  auto& t = w.table();
  w.attach_domain(), w.attach_domain();
  const auto bar = w.pinner.create_exporter(16 * w.page);
  const auto other = w.pinner.create_exporter(16 * w.page);
  must(t.map(t.device_memory(bar, 0), 4 * w.page, rw, w.io(16)));
  must(t.map(t.device_memory(other, 0), 4 * w.page, rw, w.io(24)));
  must(t.map(w.at(0), 4 * w.page, rw, w.io(32)));
  CHECK(w.mock_of(0).attributes_at(w.io(16))->type == memory_type::mmio);
  CHECK(w.pinner.pinned_pages() == 4);
  CHECK(w.pinner.charged() == 4);
  w.account.refuse_all();
  t.revoke(bar);
  w.account.refuse_all(false);
  w.pinner.set_revoked(bar, true);  // the mock asks whether a device can still reach it
  for (std::size_t d = 0; d < 2; ++d) {
    CHECK(w.mock_of(d).contents(w.pages_at(16, 4)).empty());
    CHECK(w.mock_of(d).bytes_mapped() == 8 * w.page);
  }
  CHECK(t.find(w.io(16))->revoked);
  CHECK_FALSE(t.find(w.io(24))->revoked);
  // While it is away areas can be copied and cut, domains come and go.
  must(t.copy(t, w.pages_at(17, 2), rw, w.io(48)));
  must(t.cut(w.io(18) - 1));
  w.attach_domain();
  CHECK(w.mock_of(2).bytes_mapped() == 8 * w.page);
  REQUIRE(t.detach(*w.domains[0]));
  CHECK(t.verify() == "");
  CHECK(text(t.restore(bar)) == "ENODEV");
  CHECK(t.find(w.io(16))->revoked);
  CHECK(t.verify() == "");
  w.pinner.relocate(bar);
  w.pinner.set_revoked(bar, false);
  must(t.restore(bar));
  for (std::size_t d = 1; d < 3; ++d)
    CHECK(w.mock_of(d).translate(w.io(49)) == w.pinner.frame_of(bar, 2 * w.page));
  CHECK(t.verify() == "");
  must(t.restore(bar));
  REQUIRE(w.close() == "");
}

TEST_CASE("device memory is suspended and resumed as what it was, and as nothing else",
          "[suspend]") {
  mock::pinner pinner;
  io_pagetable<mock::pinner, mock::domain> table(pinner);
  const mock::exporter bar = pinner.create_exporter(16 * 4096);
  const iova_range where{{0x10000}, {0x13fff}};
  REQUIRE(
      table.map(table.device_memory(bar, 0x2000), 0x4000, access_rights::read_write, where.first));
  REQUIRE(table.suspend_access(where));
  const errc refused = errc::invalid_argument;
  CHECK(table.resume_access(where, table.user_memory({0x2000})).error() == refused);
  CHECK(table.resume_access(where, table.device_memory(bar, 0x3000)).error() == refused);
  const mock::exporter other = pinner.create_exporter(16 * 4096);
  CHECK(table.resume_access(where, table.device_memory(other, 0x2000)).error() == refused);
  CHECK(table.find(where.first)->suspended);
  CHECK(table.resume_access(where, table.device_memory(bar, 0x2000)));
  CHECK_FALSE(table.find(where.first)->suspended);
}

TEST_CASE("memory that is back before an area of it is published is shown when it is") {
  passing_memory w(2);
  auto& t = w.t;
  const bool gone_before = GENERATE(true, false);
  const bool in_vain = GENERATE(true, false);
  const bool back_between = GENERATE(true, false);
  const bool fails = GENERATE(true, false);
  if (gone_before) w.go();
  // A copy of the end of the one and the beginning of the other is two areas in one operation: the
  // first is filled, and is not published, when the second is.
  w.d.before = w.io(34);
  w.d.between = [&] {
    if (!gone_before) w.go();
    CHECK(t.find(w.io(32))->state == area_state::in_flight);
    CHECK(w.mock_of(0).contents(w.pages_at(32, 2)).empty());
    if (in_vain) CHECK(text(t.restore(w.bar)) == "ENODEV");
    if (back_between) w.come();
    if (fails) w.faults.arm(0);
  };
  const result<iova> copied = t.copy(t, w.pages_at(18, 4), rw, w.io(32));
  w.faults.disarm();
  CHECK(copied.has_value() == !fails);
  CHECK(t.verify() == "");
  if (!back_between) w.come();
  for (std::size_t n = 0; n < 2; ++n) {
    CHECK(w.mock_of(n).translate(w.io(17)) == w.pinner.frame_of(w.bar, w.page));
    CHECK(w.mock_of(n).translate(w.io(33)) ==
          (fails ? std::nullopt : std::optional(w.pinner.frame_of(w.bar, 3 * w.page))));
  }
  CHECK(t.verify() == "");
  w.go();
  CHECK(w.mock_of(1).bytes_mapped() == (fails ? 4 : 6) * w.page);
  REQUIRE(w.close() == "");
}

TEST_CASE(
    "a restore that fails half-way takes all of the memory away again, and can be tried again") {
  usual w;
  auto& t = w.table();
  w.attach_domain(), w.attach_domain();
  const auto bar = w.pinner.create_exporter(16 * w.page);
  for (std::uint64_t n = 0; n < 3; ++n)
    must(t.map(t.device_memory(bar, n * w.page), w.page, rw, w.io(16 + 2 * n)));
  must(t.copy(t, w.pages_at(18, 1), rw, w.io(40)));
  t.revoke(bar);
  const snapshot before = w.look();
  bool failed = true;
  unsigned points = 0;
  for (; failed; ++points) {
    w.faults.arm(points);
    failed = !t.restore(bar);
    w.faults.disarm();
    CHECK(t.verify() == "");
    if (failed) CHECK(difference(before, w.look()) == "");
  }
  CHECK(points > 8);
  for (std::size_t n = 0; n < 2; ++n) CHECK(w.mock_of(n).bytes_mapped() == 4 * w.page);
  REQUIRE(w.close() == "");
}

TEST_CASE("memory that is back while a copy of it is undone is not shown in the copy") {
  passing_memory w(1);
  auto& t = w.t;
  must(t.map(w.at(8), 4 * w.page, rw, w.io(24)));
  t.revoke(w.bar);
  const snapshot before = w.look();
  w.d.before = w.io(38);  // the third of three areas
  w.d.between = [&] { w.faults.arm(0); };
  w.d.after = w.io(34);  // the second, when the first is undone
  bool back = false;
  w.d.between_unmap = [&] {
    must(t.restore(w.bar));
    back = true;
  };
  CHECK_FALSE(t.copy(t, w.pages_at(18, 8), rw, w.io(32)).has_value());
  CHECK(back);
  CHECK(w.verify() == "");
  t.revoke(w.bar);
  CHECK(difference(before, w.look()) == "");
  REQUIRE(w.close() == "");
}

TEST_CASE("device memory that an unmap has begun to take down is out of reach when it is revoked") {
  passing_memory w(1);
  auto& t = w.t;
  w.d.after = w.io(20);  // the second area, when the first is unmapped and not flushed
  bool gone = false;
  w.d.between_unmap = [&] {
    w.go();
    gone = true;
  };
  CHECK(t.unmap(w.io(16), 8 * w.page, unmap_profile::iommufd).areas == 2);
  CHECK(gone);
  CHECK(w.verify() == "");
  REQUIRE(w.close() == "");
}

TEST_CASE("tables that show the same device memory are told one by one") {
  usual w;
  auto& near = w.table(0);
  auto& far = w.table(1);
  w.attach_domain(0);
  w.attach_domain(1);
  const auto bar = w.pinner.create_exporter(4 * w.page);
  must(near.map(near.device_memory(bar, 0), 4 * w.page, rw, w.io(16)));
  must(far.copy(near, w.pages_at(16, 4), rw, w.io(32)));

  // One knows that it goes, the other does not yet, and shows it: then every domain of it does.
  near.revoke(bar);
  w.attach_domain(1);
  CHECK(w.mock_of(2).translate(w.io(33)) == w.pinner.frame_of(bar, w.page));
  CHECK(w.mock_of(2).contents() == w.mock_of(1).contents());
  CHECK(w.verify() == "");
  far.revoke(bar);
  CHECK(w.mock_of(1).bytes_mapped() == 0);
  CHECK(w.mock_of(2).bytes_mapped() == 0);
  w.pinner.set_revoked(bar, true);

  // One knows that it is back, the other does not yet: then none of its domains shows it.
  w.pinner.set_revoked(bar, false);
  must(near.restore(bar));
  w.attach_domain(1);
  CHECK(w.mock_of(3).bytes_mapped() == 0);
  CHECK(far.find(w.io(32))->revoked);
  CHECK(w.verify() == "");
  must(far.restore(bar));
  for (std::size_t n = 1; n < 4; ++n)
    CHECK(w.mock_of(n).translate(w.io(33)) == w.pinner.frame_of(bar, w.page));
  CHECK(w.verify() == "");
  REQUIRE(w.close() == "");
}

TEST_CASE("memory that is away is cut, copied and unmapped; what is left of it comes back") {
  usual w;
  auto& t = w.table();
  w.attach_domain();
  const auto bar = w.pinner.create_exporter(8 * w.page);
  must(t.map(t.device_memory(bar, 0), 8 * w.page, rw, w.io(16)));
  t.revoke(bar);
  must(t.cut(w.io(20) - 1));
  must(t.copy(t, w.pages_at(19, 2), access_rights::read, w.io(40)));
  must(t.protect(w.pages_at(16, 2), access_rights::read));
  CHECK(t.unmap(w.io(22), w.page, unmap_profile::hole_punching).bytes == w.page);
  REQUIRE(t.detach(*w.domains[0]));
  CHECK(w.verify() == "");
  SECTION("with a domain") {
    w.attach_domain();
    CHECK(w.verify() == "");
    must(t.restore(bar));
  }
  SECTION("before there is a domain") {
    must(t.restore(bar));
    CHECK_FALSE(t.find(w.io(16))->revoked);
    w.attach_domain();
  }
  CHECK(w.verify() == "");
  CHECK(w.mock_of(1).bytes_mapped() == 9 * w.page);
  CHECK(w.mock_of(1).attributes_at(w.io(17))->rights == access_rights::read);
  CHECK(w.mock_of(1).attributes_at(w.io(18))->rights == rw);
  CHECK(w.mock_of(1).translate(w.io(23)) == w.pinner.frame_of(bar, 7 * w.page));
  CHECK(w.mock_of(1).translate(w.io(41)) == w.pinner.frame_of(bar, 4 * w.page));
  REQUIRE(w.close() == "");
}

}  // namespace iopt::test
