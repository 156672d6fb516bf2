#include "iopt/backends/mock/fault_injector.hpp"

#include "tests/catch.hpp"

using iopt::errc;
using iopt::mock::failing_memory;
using iopt::mock::fault_injector;
using iopt::mock::fault_point;
using iopt::mock::memory_account;

TEST_CASE("the n-th call fails, once") {
  fault_injector faults;
  CHECK_FALSE(faults.fails(fault_point::map));
  for (int n = 0; n < 5; ++n) {
    faults.arm(static_cast<std::uint64_t>(n));
    CHECK_FALSE(faults.fired());
    for (int i = 0; i < 8; ++i)
      CHECK(faults.fails(i % 2 == 0 ? fault_point::pin : fault_point::map) == (i == n));
    CHECK(faults.fired());
    CHECK(faults.fired_at() == (n % 2 == 0 ? fault_point::pin : fault_point::map));
  }
  CHECK(faults.passed(fault_point::pin) == 20);
  CHECK(faults.passed(fault_point::map) == 21);
  CHECK(faults.passed() == 41);
  CHECK(faults.failed(fault_point::pin) == 3);
  CHECK(faults.failed(fault_point::map) == 2);

  faults.arm(0);
  faults.disarm();
  CHECK_FALSE(faults.fails(fault_point::charge));
  CHECK_FALSE(faults.fired());

  // Of one kind only.
  faults.arm(fault_point::split, 1);
  CHECK_FALSE(faults.fails(fault_point::map));
  CHECK_FALSE(faults.fails(fault_point::split));
  CHECK_FALSE(faults.fails(fault_point::map));
  CHECK(faults.fails(fault_point::split));
}

TEST_CASE("a chooser fails calls beside the countdown") {
  fault_injector faults([](fault_point point) noexcept { return point == fault_point::copy; });
  CHECK_FALSE(faults.fails(fault_point::pin));
  CHECK_FALSE(faults.fired());
  CHECK(faults.fails(fault_point::copy));
  CHECK(faults.fired());
  CHECK(faults.fired_at() == fault_point::copy);
  faults.arm(1);
  CHECK(faults.fails(fault_point::copy));
  CHECK(faults.fails(fault_point::pin));
  CHECK_FALSE(faults.fails(fault_point::pin));
  CHECK(faults.failed(fault_point::copy) == 2);
  CHECK(faults.failed(fault_point::pin) == 1);
  CHECK(faults.passed() == 5);
}

TEST_CASE("fault points have names and errors") {
  fault_injector faults;
  CHECK(iopt::mock::name(fault_point::allocation) == "allocation");
  CHECK(iopt::mock::name(fault_point::set_window) == "set_window");
  CHECK(iopt::mock::name(fault_point::enable_nesting) == "enable_nesting");
  CHECK(static_cast<std::size_t>(fault_point::enable_nesting) + 1 == iopt::mock::fault_points);
  CHECK(faults.error_of(fault_point::charge) == errc::not_enough_memory);
  CHECK(faults.error_of(fault_point::protect) == errc::io_error);
  faults.set_error(fault_point::protect, errc::interrupted);
  CHECK(faults.error_of(fault_point::protect) == errc::interrupted);
}

TEST_CASE("failing memory refuses, and knows what is out") {
  fault_injector faults;
  memory_account account(&faults);
  failing_memory memory(account);
  failing_memory copy = memory;
  void* const a = memory.allocate(100, 8);
  void* const b = memory.allocate(4096, 4096);
  REQUIRE(a != nullptr);
  REQUIRE(b != nullptr);
  CHECK(account.live_blocks() == 2);
  CHECK(account.live_bytes() == 4196);
  faults.arm(1);
  void* const c = memory.allocate(1, 1);
  CHECK(c != nullptr);
  CHECK(memory.allocate(1, 1) == nullptr);
  account.refuse_all();
  CHECK(memory.allocate(1, 1) == nullptr);
  account.refuse_all(false);
  CHECK(account.asked() == 5);
  CHECK(account.refused() == 2);
  copy.deallocate(a, 100, 8);
  copy.deallocate(b, 4096, 4096);
  copy.deallocate(c, 1, 1);
  CHECK(account.live_blocks() == 0);
  CHECK(account.live_bytes() == 0);

  failing_memory plain;
  void* const d = plain.allocate(10, 8);
  CHECK(d != nullptr);
  plain.deallocate(d, 10, 8);
}
