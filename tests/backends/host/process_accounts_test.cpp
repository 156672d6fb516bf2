// tests/backends/host/process_accounts_test.cpp - what a process has charged.
#include "iopt/backends/host/process_accounts.hpp"

#include "tests/catch.hpp"

namespace {

using namespace iopt;
using host::process_accounts;

TEST_CASE("process_accounts: the kernel's two counters") {
  process_accounts a;
  const auto charge = [&](account_mode mode, std::uint64_t pages) {
    REQUIRE(a.charge(7, mode, pages, top).has_value());
  };
  charge(account_mode::none, 1);
  charge(account_mode::user, 2);
  charge(account_mode::mm, 4);
  charge(account_mode::custom, 8);
  charge(account_mode::type1, 16);
  charge(account_mode::type1_unlimited, 32);
  CHECK(a.locked_vm(7) == 4 + 16 + 32);
  CHECK(a.pinned_vm(7) == 1 + 2 + 4 + 8);
  CHECK(a.charged(7, account_mode::custom) == 8);
  CHECK(a.total() == 63);
  CHECK(a.locked_vm(8) == 0);
  CHECK(a.pinned_vm(8) == 0);
  CHECK(a.uncharge(7, account_mode::mm, 3));
  CHECK_FALSE(a.uncharge(7, account_mode::mm, 2));
  CHECK_FALSE(a.uncharge(8, account_mode::mm, 1));
  CHECK(a.charged(7, account_mode::mm) == 1);
}

TEST_CASE("process_accounts: a limit is for what it limits") {
  process_accounts a;
  const auto may = [&](pid_t process, account_mode mode, std::uint64_t pages, std::uint64_t limit) {
    const result<void> answer = a.charge(process, mode, pages, limit);
    if (!answer) CHECK(answer.error() == errc::not_enough_memory);
    return answer.has_value();
  };
  SECTION("mm and type1 share theirs, whoever filled it; other processes have their own") {
    CHECK(may(1, account_mode::type1_unlimited, 100, 10));
    CHECK_FALSE(may(1, account_mode::type1, 1, 100));
    CHECK_FALSE(may(1, account_mode::mm, 1, 100));
    CHECK_FALSE(may(1, account_mode::mm, top, 200));
    CHECK(may(1, account_mode::mm, 60, 200));
    CHECK(may(1, account_mode::type1, 40, 200));
    CHECK_FALSE(may(1, account_mode::type1, 1, 200));
    CHECK(may(2, account_mode::type1, 200, 200));
  }
  SECTION("a user's processes share one") {
    CHECK(may(1, account_mode::user, 6, 10));
    CHECK_FALSE(may(2, account_mode::user, 5, 10));
    CHECK(may(2, account_mode::user, 4, 10));
    CHECK(may(2, account_mode::custom, 10, 10));
    CHECK_FALSE(may(1, account_mode::custom, 1, 10));
  }
  SECTION("none is never limited") {
    CHECK(may(1, account_mode::none, 1000, 0));
    CHECK(may(1, account_mode::type1_unlimited, 1000, 0));
  }
}

TEST_CASE("memlock_limit: asked anew at each charge") {
  rlimit old{};
  REQUIRE(::getrlimit(RLIMIT_MEMLOCK, &old) == 0);
  const host::memlock_limit limit;
  rlimit less = old;
  less.rlim_cur = 5 * 4096 + 4095;
  REQUIRE(::setrlimit(RLIMIT_MEMLOCK, &less) == 0);
  CHECK(limit(account_mode::type1) == 5);
  CHECK(limit(account_mode::mm) == 5);
  CHECK(limit(account_mode::user) == 5);
  CHECK(limit(account_mode::none) == top);
  CHECK(limit(account_mode::custom) == top);
  REQUIRE(::setrlimit(RLIMIT_MEMLOCK, &old) == 0);
  if (old.rlim_cur == RLIM_INFINITY) CHECK(limit(account_mode::mm) == top);
}

}  // namespace
