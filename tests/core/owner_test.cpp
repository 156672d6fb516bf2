// tests/core/owner_test.cpp - files go over to another owner, in one table or several.
#include "iopt/core/owner.hpp"

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "tests/catch.hpp"
#include "tests/core/engine_fixture.hpp"

namespace iopt::test {
namespace {

/// A domain in which something comes between, before it maps or unmaps.
struct interrupted_domain : mock::domain {
  using mock::domain::domain;
  result<void> map(iova_range r, physical p, attributes a) {
    std::exchange(between, [] {})();
    return mock::domain::map(r, p, a);
  }
  std::uint64_t unmap(iova_range r) noexcept {
    std::exchange(between, [] {})();
    return mock::domain::unmap(r);
  }
  std::function<void()> between = [] {};
};

/// The first `count` tables of a world go over to the owner.
template <class W>
result<void> change_all(W& w, std::size_t count, mock::process to) {
  return W::table_type::change_owner_of(
      [&](auto f) {
        for (std::size_t n = 0; n < count; ++n) f(w.table(n));
      },
      to);
}

/// What owner 0 and owner 1 are charged in a mode.
template <class W>
std::array<std::uint64_t, 2> charged(W& w, account_mode mode = account_mode::user) {
  return {w.pinner.charged(w.owner(0), mode), w.pinner.charged(w.owner(1), mode)};
}
using charges = std::array<std::uint64_t, 2>;

/// Two tables with a domain each. The first shows 4 + 8 + 4 pages of three files, the second a part
/// of what the first shows, and 2 of its own.
template <class W>
void map_files(W& w) {
  auto& t = w.table(0);
  auto& u = w.table(1);
  w.attach_domain(0), w.attach_domain(1);
  for (std::uint64_t n = 0; n < 4; ++n) w.add_file(16);
  must(t.map(t.file_memory(w.files[0], 0), 4 * w.page, rw, w.io(16)));
  must(t.map(t.file_memory(w.files[1], w.page), 8 * w.page, rw, w.io(20)));
  must(t.map(t.file_memory(w.files[2], 0), 4 * w.page, rw, w.io(28)));
  must(u.copy(t, w.pages_at(18, 8), rw, w.io(64)));
  must(u.map(u.file_memory(w.files[3], 0), 2 * w.page, rw, w.io(32)));
}

}  // namespace

TEST_CASE("files change their owner together or not at all") {
  usual w;
  auto& t = w.table();
  w.attach_domain();
  const auto f = w.add_file(32);
  must(t.map(t.file_memory(f, 0), 4 * w.page, rw, w.io(16)));
  must(t.map(t.file_memory(f, 8 * w.page), 4 * w.page, rw, w.io(24)));
  must(t.copy(t, w.pages_at(16, 2), rw, w.io(40)));
  w.pinner.set_limit(w.owner(1), account_mode::user, 7);
  CHECK(text(t.change_owner(w.owner(1))) == "ENOMEM");
  CHECK(charged(w) == charges{8, 0});
  w.pinner.set_limit(w.owner(1), account_mode::user, 8);
  must(t.change_owner(w.owner(1)));
  CHECK(charged(w) == charges{0, 8});
  must(t.change_owner(w.owner(1)));
  must(t.map(w.at(0), w.page, rw, w.io(60)));
  CHECK(text(t.change_owner(w.owner(0))) == "EINVAL");
  CHECK(charged(w) == charges{1, 8});
  REQUIRE(w.close() == "");
}

TEMPLATE_TEST_CASE("tables that share pages go over together, and each page is charged once", "",
                   (kind<full_domain>), (kind<unreadable_domain>),
                   (kind<full_domain, locked_traits>)) {
  world<TestType> w;
  map_files(w);
  CHECK(charged(w) == charges{18, 0});
  // Whichever charge is the one over the limit, and in whichever table.
  for (std::uint64_t limit = 0; limit < 18; ++limit) {
    CAPTURE(limit);
    w.pinner.set_limit(w.owner(1), account_mode::user, limit);
    const snapshot before = w.look();
    const result<void> refused = change_all(w, 2, w.owner(1));
    CHECK(text(refused) == "ENOMEM");
    REQUIRE(difference(before, w.look()) == "");
    REQUIRE(w.verify() == "");
  }
  w.pinner.set_limit(w.owner(1), account_mode::user, 18);
  const auto calls = w.pinner.calls();
  must(change_all(w, 2, w.owner(1)));
  CHECK(charged(w) == charges{0, 18});
  CHECK(w.pinner.calls().charge == calls.charge + 4);  // one for each pages object
  CHECK(w.pinner.calls().uncharge == calls.uncharge + 4);
  CHECK(w.pinner.calls().pin == calls.pin);
  CHECK(w.verify() == "");
  // Again: there is nothing to do.
  must(change_all(w, 2, w.owner(1)));
  CHECK(w.pinner.calls().charge == calls.charge + 4);
  // What is taken and left from now on is the new owner's.
  REQUIRE(w.table(0).unmap_all());
  CHECK(charged(w) == charges{0, 10});
  must(w.table(0).map(w.table(0).file_memory(w.files[0], 0), w.page, rw, w.io(16)));
  CHECK(charged(w) == charges{1, 10});
  REQUIRE(w.close() == "");
}

TEST_CASE("a table that is left out keeps what it shows alone") {
  usual w;
  map_files(w);
  must(change_all(w, 1, w.owner(1)));
  CHECK(charged(w) == charges{2, 16});
  must(change_all(w, 2, w.owner(1)));
  CHECK(charged(w) == charges{0, 18});
  must(change_all(w, 0, w.owner(0)));
  CHECK(charged(w) == charges{0, 18});
  REQUIRE(w.close() == "");
}

TEST_CASE("a change of owner looks at all areas of all tables before it charges any") {
  usual w;
  map_files(w);
  auto& u = w.table(1);
  const auto bar = w.pinner.create_exporter(4 * w.page);
  SECTION("memory of the old owner") { must(u.map(w.at(0), w.page, rw, w.io(100))); }
  SECTION("memory of the new owner") {
    must(u.map(u.user_memory(w.owner(1), w.at(0)), w.page, rw, w.io(100)));
  }
  SECTION("memory of a device") { must(u.map(u.device_memory(bar, 0), w.page, rw, w.io(100))); }
  w.pinner.set_limit(w.owner(1), account_mode::user, 1);
  const std::uint64_t calls = w.pinner.calls().charge;
  const result<void> refused = change_all(w, 2, w.owner(1));
  CHECK(text(refused) == "EINVAL");
  CHECK(refused.error().place == error_place::area);
  CHECK(refused.error().at == 100 * w.page);
  CHECK(w.pinner.calls().charge == calls);
  REQUIRE(u.unmap(w.io(100), w.page, unmap_profile::exact));
  CHECK(text(change_all(w, 2, w.owner(1))) == "ENOMEM");
  REQUIRE(w.close() == "");
}

TEST_CASE("no owner changes while an area is in flight in any of the tables") {
  using W = world<kind<interrupted_domain>>;
  W w;
  auto& t = w.table(0);
  auto& u = w.table(1);
  w.attach_domain(1);
  const auto f = w.add_file(16);
  must(t.map(t.file_memory(f, 0), 4 * w.page, rw, w.io(16)));
  must(u.copy(t, w.pages_at(16, 4), rw, w.io(16)));
  std::vector<std::string> answers;
  const auto interrupt = [&] {
    w.domains[0]->between = [&] {
      for (const std::size_t count : {1u, 2u})
        answers.push_back(text(change_all(w, count, w.owner(1))));
      must(change_all(w, 1, w.owner(0)));
    };
  };
  interrupt();
  must(u.map(u.file_memory(f, 8 * w.page), 2 * w.page, rw, w.io(32)));
  interrupt();
  REQUIRE(u.unmap(w.io(16), 4 * w.page, unmap_profile::iommufd));
  CHECK(answers == std::vector<std::string>{"ok", "EBUSY", "ok", "EBUSY"});
  CHECK(charged(w) == charges{2, 0});
  must(change_all(w, 2, w.owner(1)));
  CHECK(charged(w) == charges{0, 2});
  REQUIRE(w.close() == "");
}

TEST_CASE("an area whose holders are asked to let go goes over with the rest") {
  struct told {
    usual w{};
    usual::access_type user{&told::let_go, this};
    std::string answer{};
    static void let_go(void* context, iova_range gone) {
      told& me = *static_cast<told*>(context);
      me.answer = text(me.w.table().change_owner(me.w.owner(1)));
      if (gone.overlaps(usual::pages_at(16, 1))) me.user.unpin(usual::pages_at(16, 1));
    }
  } t;
  usual& w = t.w;
  must(w.table().map(w.table().file_memory(w.add_file(8), 0), 4 * w.page, rw, w.io(16)));
  must(t.user.attach(w.table()));
  must(t.user.pin(w.pages_at(16, 1), access_rights::read, [](run) {}));
  CHECK(charged(w) == charges{1, 0});
  REQUIRE(w.table().unmap(w.io(16), 4 * w.page, unmap_profile::iommufd));
  CHECK(t.answer == "ok");
  CHECK(charged(w) == charges{0, 0});
  t.user.detach();
  REQUIRE(w.close() == "");
}

TEST_CASE("each account goes over to the new owner's of the same mode") {
  usual w;
  auto& t = w.table();
  w.attach_domain();
  constexpr account_mode modes[] = {account_mode::none, account_mode::user, account_mode::mm};
  std::uint64_t n = 1;
  for (const account_mode mode : modes) {
    auto what = t.file_memory(w.add_file(8), 0);
    what.of.mode = mode;
    must(t.map(what, n * w.page, rw, w.io(16 * n)));
    ++n;
  }
  const auto all = [&] {
    std::vector<charges> found;
    for (const account_mode mode : modes) found.push_back(charged(w, mode));
    return found;
  };
  REQUIRE(all() == std::vector{charges{1, 0}, charges{2, 0}, charges{3, 0}});
  w.pinner.set_limit(w.owner(1), account_mode::mm, 2);
  CHECK(text(t.change_owner(w.owner(1))) == "ENOMEM");
  CHECK(all() == std::vector{charges{1, 0}, charges{2, 0}, charges{3, 0}});
  w.pinner.set_limit(w.owner(1), account_mode::mm, 3);
  must(t.change_owner(w.owner(1)));
  CHECK(all() == std::vector{charges{0, 1}, charges{0, 2}, charges{0, 3}});
  CHECK(w.pinner.pinned_vm(w.owner(0)) == 0);
  CHECK(w.pinner.pinned_vm(w.owner(1)) == 6);
  REQUIRE(w.close() == "");
}

}  // namespace iopt::test
