// tests/uapi/iommufd/object_table_test.cpp - numbers, users, and what may go.
#include "iopt/uapi/iommufd/object_table.hpp"

#include <algorithm>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "iopt/backends/mock/fault_injector.hpp"
#include "tests/catch.hpp"

using namespace iopt;
using iommufd::object;
using iommufd::object_kind;

namespace {

struct test_traits : single_threaded {
  using memory = mock::failing_memory;
};
using table = iommufd::object_table<test_traits>;

std::string text(const result<object*>& r) { return r ? "ok" : std::string(name(r.error().code)); }
std::string removed(table& t, std::uint32_t id) {
  return text(t.remove(id, [](object&) {}));
}

struct fixture {
  mock::memory_account account;
  table t{mock::failing_memory(account)};

  std::unique_ptr<object> add(object_kind kind = object_kind::space) {
    auto o = std::make_unique<object>(kind);
    REQUIRE(t.reserve(*o));
    t.publish(*o);
    return o;
  }
};

}  // namespace

TEST_CASE("numbers begin at 1, and the lowest free one is next", "[objects]") {
  fixture f;
  const auto a = f.add();
  const auto b = f.add();
  const auto c = f.add();
  CHECK(a->id() == 1);
  CHECK(b->id() == 2);
  CHECK(c->id() == 3);
  CHECK(removed(f.t, 1) == "ok");
  CHECK(removed(f.t, 2) == "ok");
  const auto d = f.add();
  const auto e = f.add();
  const auto g = f.add();
  CHECK(d->id() == 1);
  CHECK(e->id() == 2);
  CHECK(g->id() == 4);
  CHECK(f.t.verify() == "");
  for (std::uint32_t id = 1; id <= 4; ++id) CHECK(removed(f.t, id) == "ok");
}

TEST_CASE("a reserved number is taken, and nothing is found under it", "[objects]") {
  fixture f;
  object a(object_kind::space);
  REQUIRE(f.t.reserve(a));
  CHECK(f.t.find(1) == nullptr);
  CHECK(removed(f.t, 1) == "ENOENT");
  CHECK(!f.t.locked([](bool nothing) { return nothing; }));
  const auto b = f.add();
  CHECK(b->id() == 2);
  f.t.abandon(a);
  const auto c = f.add();
  CHECK(c->id() == 1);
  CHECK(removed(f.t, 1) == "ok");
  CHECK(removed(f.t, 2) == "ok");
  CHECK(f.t.locked([](bool nothing) { return nothing; }));
}

TEST_CASE("what is not there is ENOENT, what is in use is EBUSY", "[objects]") {
  fixture f;
  const auto a = f.add();
  for (const std::uint32_t id : {0U, 2U, 64U, 65U, 0x7fffffffU, 0xffffffffU})
    CHECK(removed(f.t, id) == "ENOENT");
  CHECK(f.t.find(1, object_kind::device) == nullptr);
  CHECK(f.t.find(1, object_kind::space) == a.get());
  CHECK(removed(f.t, 1) == "EBUSY");
  f.t.hold(*a);
  CHECK(f.t.users(*a) == 3);
  CHECK(!f.t.put(*a));
  CHECK(removed(f.t, 1) == "EBUSY");
  CHECK(!f.t.put(*a));
  CHECK(f.t.find_chosen([] { return static_cast<object*>(nullptr); }) == nullptr);
  CHECK(f.t.find_chosen([&] { return a.get(); }) == a.get());
  CHECK(!f.t.put(*a));
  std::uint32_t told = 0;
  CHECK(text(f.t.remove(1, [&](object& o) { told = o.id(); })) == "ok");
  CHECK(told == 1);
}

TEST_CASE("all objects of a kind are used at once, but for those not there yet or retired",
          "[objects]") {
  fixture f;
  std::vector<std::unique_ptr<object>> all;
  for (int n = 0; n < 70; ++n)
    all.push_back(f.add(n % 2 == 0 ? object_kind::space : object_kind::device));
  object reserved(object_kind::space);
  REQUIRE(f.t.reserve(reserved));
  f.t.hold(*all[2]);
  CHECK(!f.t.retire(*all[2]));
  std::vector<std::uint32_t> found;
  f.t.find_each(object_kind::space, [&](object& o) { found.push_back(o.id()); });
  REQUIRE(found.size() == 34);
  CHECK(std::ranges::is_sorted(found));
  for (std::uint32_t id = 1; id <= 70; ++id) {
    const bool used = id % 2 == 1 && id != 3;
    CHECK(std::ranges::count(found, id) == (used ? 1 : 0));
    CHECK(f.t.users(*all[id - 1]) == (used || id == 3 ? 2 : 1));
    if (id == 3) continue;
    CHECK(removed(f.t, id) == (used ? "EBUSY" : "ok"));
    if (used) CHECK(!f.t.put(*all[id - 1]));
    if (used) CHECK(removed(f.t, id) == "ok");
  }
  CHECK(f.t.put(*all[2]));
  f.t.abandon(reserved);
  CHECK(f.t.verify() == "");
}

TEST_CASE("what is retired goes with its last user", "[objects]") {
  fixture f;
  const auto a = f.add();
  const auto b = f.add();
  CHECK(f.t.retire(*a));  // nobody else
  CHECK(f.t.size() == 1);
  REQUIRE(f.t.find(2) == b.get());
  f.t.hold(*b);
  CHECK(!f.t.retire(*b, 1));
  CHECK(f.t.find(2) == nullptr);
  CHECK(removed(f.t, 2) == "ENOENT");
  const auto again = f.add();
  CHECK(again->id() == 1);
  object c(object_kind::space);
  REQUIRE(f.t.reserve(c));
  CHECK(c.id() == 3);  // its number is taken until then
  CHECK(f.t.put(*b));
  f.t.abandon(c);
  REQUIRE(f.t.reserve(c));
  CHECK(c.id() == 2);
  f.t.abandon(c);
  CHECK(removed(f.t, 1) == "ok");
}

TEST_CASE("without memory nothing changes", "[objects]") {
  fixture f;
  std::vector<std::unique_ptr<object>> all;
  for (int n = 0; n < 64; ++n) all.push_back(f.add());
  object next(object_kind::space);
  for (std::uint64_t n = 0; n < 2; ++n) {
    mock::fault_injector faults;
    mock::memory_account account(&faults);
    table t{mock::failing_memory(account)};
    faults.arm(n);
    CHECK(t.reserve(next).error() == errc::not_enough_memory);
    CHECK(account.live_blocks() == 0);
    CHECK(t.verify() == "");
  }
  f.account.refuse_all();
  CHECK(f.t.reserve(next).error() == errc::not_enough_memory);
  CHECK(f.t.verify() == "");
  CHECK(removed(f.t, 17) == "ok");
  REQUIRE(f.t.reserve(next));
  CHECK(next.id() == 17);
  f.t.abandon(next);
  for (std::uint32_t id = 1; id <= 64; ++id)
    if (id != 17) CHECK(removed(f.t, id) == "ok");
}

TEST_CASE("the table is a map from numbers", "[objects][model]") {
  for (unsigned seed = 0; seed < 30; ++seed) {
    CAPTURE(seed);
    std::mt19937 random(seed);
    fixture f;
    std::map<std::uint32_t, std::unique_ptr<object>> model;
    std::map<std::uint32_t, unsigned> users;
    for (int step = 0; step < 1500; ++step) {
      const auto id = static_cast<std::uint32_t>(random() % 300);
      switch (random() % (seed % 3 + 4)) {
        case 0:
        case 1: {
          std::uint32_t lowest = 1;
          while (model.contains(lowest)) ++lowest;
          auto o = f.add(id % 2 == 0 ? object_kind::space : object_kind::device);
          REQUIRE(o->id() == lowest);
          model[lowest] = std::move(o);
          break;
        }
        case 2: {
          object* const found = f.t.find(id);
          REQUIRE(found == (model.contains(id) ? model[id].get() : nullptr));
          if (found != nullptr) ++users[id];
          break;
        }
        case 3:
          if (users[id] != 0) {
            REQUIRE(!f.t.put(*model[id]));
            --users[id];
          }
          break;
        default: {
          const std::string want = !model.contains(id) ? "ENOENT" : users[id] != 0 ? "EBUSY" : "ok";
          REQUIRE(removed(f.t, id) == want);
          if (want == "ok") model.erase(id);
        }
      }
      REQUIRE(f.t.verify() == "");
      REQUIRE(f.t.size() == model.size());
    }
    std::vector<std::uint32_t> order;
    f.t.for_each([&](object& o) { order.push_back(o.id()); });
    CHECK(std::is_sorted(order.begin(), order.end()));
    for (auto& [id, o] : model) {
      while (users[id]-- != 0) CHECK(!f.t.put(*o));
      CHECK(removed(f.t, id) == "ok");
    }
    CHECK(f.t.first(object_kind::space) == nullptr);
  }
}
