// tests/core/origin_test.cpp - one record for all mappings of one owner and account.
#include "iopt/core/origin.hpp"

#include <vector>

#include "iopt/backends/mock/mock.hpp"
#include "iopt/policy/archetypes.hpp"
#include "tests/catch.hpp"

namespace {

using iopt::account_mode;
using iopt::origin_kind;
using origin_type = iopt::origin<iopt::mock::pinner, iopt::single_threaded>;

}  // namespace

TEST_CASE("origins are the same when all that they say is", "[origin]") {
  iopt::mock::pinner pinner, other;
  const auto who = pinner.create_process();
  const origin_type::key user{&pinner, origin_kind::user, account_mode::user, who};
  CHECK(user == user);
  origin_type::key changed = user;
  changed.pinner = &other;
  CHECK_FALSE(user == changed);
  changed = user;
  changed.mode = account_mode::mm;
  CHECK_FALSE(user == changed);
  changed = user;
  changed.owner = pinner.create_process();
  CHECK_FALSE(user == changed);
  changed = user;
  changed.kind = origin_kind::file;
  changed.file = pinner.create_file(0x1000);
  CHECK_FALSE(user == changed);
}

TEST_CASE("a record lives as long as somebody refers to it", "[origin]") {
  using source = iopt::mock::failing_memory;
  struct traits : iopt::single_threaded {
    using memory = source;
  };
  using counted = iopt::origin<iopt::mock::pinner, traits>;
  iopt::mock::memory_account account;
  iopt::mock::pinner pinner;
  const counted::key key{&pinner, origin_kind::user, account_mode::none, pinner.current()};
  counted* record = counted::create(key, source(account));
  REQUIRE(record != nullptr);
  CHECK(record->share() == record);
  record->release();
  CHECK(account.live_blocks() == 1);
  record->release();
  CHECK(account.live_blocks() == 0);
  account.refuse_all(true);
  CHECK(counted::create(key, source(account)) == nullptr);
}

TEST_CASE("each kind of memory is taken from where it is", "[origin]") {
  iopt::mock::pinner pinner;
  const auto file = pinner.create_file(0x4000);
  const auto bar = pinner.create_exporter(0x4000);
  const iopt::user_range where{{0x1000}, {0x1fff}};
  const auto take = [&](origin_type::key key) {
    origin_type* o = origin_type::create(key, {});
    iopt::run place[2];
    iopt::run_list out{place};
    REQUIRE(o->take(where, iopt::access_rights::read, out));
    o->release();
    return out[0];
  };
  origin_type::key key{&pinner, origin_kind::user, account_mode::none, pinner.current()};
  const iopt::run user = take(key);
  CHECK(user.first == pinner.frame_of(pinner.current(), {0x1000}));
  key.kind = origin_kind::file;
  key.file = file;
  const iopt::run of_file = take(key);
  CHECK(of_file.first == pinner.frame_of(file, 0x1000));
  key.kind = origin_kind::device;
  key.exporter = bar;
  const iopt::run of_bar = take(key);
  CHECK(of_bar.first == pinner.frame_of(bar, 0x1000));
  CHECK(of_bar.type() == iopt::memory_type::mmio);
  CHECK(pinner.pinned_pages() == 2);
  pinner.unpin(user, false);
  pinner.unpin(of_file, false);
}

TEST_CASE("nothing is charged for no pages", "[origin]") {
  iopt::mock::pinner pinner;
  pinner.set_limit(pinner.current(), account_mode::user, 0);
  origin_type* o =
      origin_type::create({&pinner, origin_kind::user, account_mode::user, pinner.current()}, {});
  CHECK(o->charge(0));
  CHECK_FALSE(o->charge(1));
  CHECK(pinner.calls().charge == 1);
  o->release();
}
