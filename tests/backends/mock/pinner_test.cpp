#include "iopt/backends/mock/pinner.hpp"

#include <array>
#include <vector>

#include "iopt/backends/mock/domain.hpp"
#include "tests/catch.hpp"

using namespace iopt;

namespace {

constexpr attributes rw{iopt::access_rights::read_write, memory_type::cached};
constexpr std::uint64_t page = 4096;

user_range at(std::uint64_t first, std::uint64_t bytes) {
  return user_range::sized({first}, bytes);
}

std::vector<run> pin(mock::pinner& p, user_range r,
                     iopt::access_rights rights = iopt::access_rights::read_write) {
  std::vector<run> storage(4096);
  run_list out{storage};
  REQUIRE(p.pin(p.current(), r, rights, out).has_value());
  return {out.begin(), out.end()};
}

}  // namespace

TEST_CASE("the contiguity of memory is what was chosen") {
  const auto runs_of = [](std::uint64_t lie, std::uint64_t bytes) {
    mock::pinner p({.contiguity_bytes = lie});
    const std::vector<run> runs = pin(p, at(gibibyte, bytes));
    CHECK(p.pinned_pages() == bytes / page);
    for (const run& r : runs) p.unpin(r, false);
    CHECK(p.is_idle());
    CHECK(p.verify() == "");
    return runs.size();
  };
  CHECK(runs_of(mock::contiguity::contiguous, 64 * gibibyte) == 1);
  CHECK(runs_of(mock::contiguity::blocks_2m, gibibyte) == 512);
  CHECK(runs_of(mock::contiguity::scattered, 4 * mebibyte) == 1024);
  CHECK(runs_of(64 * kibibyte, 4 * mebibyte) == 64);
}

TEST_CASE("pinning contiguous memory costs the same for any length", "[cost]") {
  mock::pinner p;
  for (const std::uint64_t bytes : {gibibyte, 64 * gibibyte, 1024 * gibibyte}) {
    p.reset_calls();
    const std::vector<run> runs = pin(p, at(0, bytes));
    REQUIRE(runs.size() == 1);
    p.unpin(runs[0], true);
    CHECK(p.calls().pin == 1);
    CHECK(p.calls().unpin == 1);
    CHECK(p.calls().pages_pinned == bytes / page);
    CHECK(p.calls().pages_unpinned == bytes / page);
    CHECK(p.was_dirtied(runs[0].first));
  }
}

TEST_CASE("frames of different owners, files and exporters differ") {
  mock::pinner p;
  const mock::process a = p.current();
  const mock::process b = p.create_process();
  const mock::file f = p.create_file(gibibyte);
  const mock::exporter e = p.create_exporter(gibibyte);
  const std::array<physical, 4> frames{p.frame_of(a, {page}), p.frame_of(b, {page}),
                                       p.frame_of(f, page), p.frame_of(e, page)};
  for (std::size_t i = 0; i < 4; ++i) {
    for (std::size_t j = 0; j < i; ++j) CHECK(frames[i] != frames[j]);
    CHECK(frames[i].value != page);  // no address in disguise
  }
}

TEST_CASE("holes, read-only memory and short pins") {
  mock::pinner p;
  run storage[8];
  p.set_hole(p.current(), at(8 * page, 2 * page));
  p.set_read_only(p.current(), at(4 * page, page));
  run_list out{storage};
  REQUIRE(p.pin(p.current(), at(0, 16 * page), iopt::access_rights::read, out).has_value());
  CHECK(out.bytes() == 8 * page);
  p.unpin(out[0], false);
  out.clear();
  REQUIRE(p.pin(p.current(), at(0, 16 * page), iopt::access_rights::write, out).has_value());
  CHECK(out.bytes() == 4 * page);
  p.unpin(out[0], false);
  out.clear();
  CHECK(p.pin(p.current(), at(9 * page, page), iopt::access_rights::read, out).error() ==
        errc::bad_address);
  p.set_hole(p.current(), at(9 * page, page), false);
  p.set_longest_pin(2);
  REQUIRE(p.pin(p.current(), at(9 * page, 8 * page), iopt::access_rights::read, out).has_value());
  CHECK(out.bytes() == 2 * page);
  p.unpin(out[0], false);
  out.clear();
  // There is nothing beyond the address space of a process.
  CHECK(p.pin(p.current(), at(std::uint64_t{1} << 47, page), iopt::access_rights::read, out)
            .error() == errc::bad_address);
  CHECK(p.is_idle());
}

TEST_CASE("the mock pinner notices broken preconditions") {
  mock::pinner p;
  p.record_violations();
  run storage[2];
  run_list out{storage};
  const auto noticed = [&](const char* text) {
    const bool good = p.violations() == 1 && p.last_violation().find(text) != std::string::npos;
    if (!good) UNSCOPED_INFO(p.last_violation());
    p.forget_violations();
    return good;
  };
  CHECK(!p.pin(p.current(), at(1, page), iopt::access_rights::read, out));
  CHECK(noticed("whole pages"));
  CHECK(!p.pin(p.current(), at(0, 100), iopt::access_rights::read, out));
  CHECK(noticed("whole pages"));
  run_list full;
  CHECK(!p.pin(p.current(), at(0, page), iopt::access_rights::read, full));
  CHECK(noticed("full"));
  const std::vector<run> held = pin(p, at(0, 2 * page));
  p.unpin(run(held[0].first, 3 * page), false);
  CHECK(noticed("not pinned"));
  p.unpin(run(held[0].first, 100), false);
  CHECK(noticed("whole pages"));
  p.unpin(run(held[0].first, page, memory_type::mmio), false);
  CHECK(noticed("whole pages of memory"));
  CHECK(p.pinned_pages() == 2);
  p.unpin(held[0], false);
  p.unpin(held[0], false);
  CHECK(noticed("not pinned"));
  p.uncharge(p.current(), account_mode::user, 1);
  CHECK(noticed("more than was charged"));
  std::byte byte[1];
  p.read_frame(held[0].first, byte);
  CHECK(noticed("not pinned"));
  const mock::exporter e = p.create_exporter(gibibyte);
  p.relocate(e);
  CHECK(noticed("not revoked"));
}

TEST_CASE("a frame that a device can reach must not be unpinned") {
  mock::pinner p;
  p.record_violations();
  auto d = std::make_unique<mock::domain>();
  const run r = pin(p, at(0, 4 * page))[0];
  const iova_range first = iova_range::sized({0}, 2 * page);
  REQUIRE(d->map(first, r.first, rw).has_value());
  p.watch(*d);  // also of what is mapped already
  REQUIRE(d->map(iova_range::sized({2 * page}, 2 * page), r.first + 2 * page, rw).has_value());

  p.unpin(run(r.first + 3 * page, page), false);
  CHECK(p.violations() == 1);
  // Unmapped, but not flushed.
  REQUIRE(d->unmap(first) == 2 * page);
  p.unpin(run(r.first, page), false);
  CHECK(p.violations() == 2);
  d->sync();
  p.unpin(run(r.first + page, page), false);
  CHECK(p.violations() == 2);
  // Pinned twice: the first unpin is harmless.
  const run again = pin(p, at(2 * page, page))[0];
  p.unpin(again, false);
  CHECK(p.violations() == 2);
  // Replaced: the old frame is free at once, the new one is not.
  const run other = pin(p, at(64 * page, 2 * page))[0];
  REQUIRE(d->replace({2 * page}, {&other, 1}, iopt::access_rights::read).has_value());
  p.unpin(again, false);
  CHECK(p.violations() == 2);
  p.unpin(run(other.first, page), false);
  CHECK(p.violations() == 3);
  // A dead domain reaches nothing.
  d.reset();
  p.unpin(run(other.first + page, page), false);
  CHECK(p.violations() == 3);
  CHECK(p.is_idle());
}

TEST_CASE("device memory is revoked, and comes back elsewhere") {
  mock::pinner p;
  p.record_violations();
  const mock::exporter e = p.create_exporter(4 * page);
  run storage[2];
  run_list out{storage};
  REQUIRE(p.resolve(e, at(page, 2 * page), out).has_value());
  REQUIRE(out.size() == 1);
  CHECK(out[0].type() == memory_type::mmio);
  CHECK(p.pinned_pages() == 0);
  mock::domain d;
  p.watch(d);
  const iova_range r = iova_range::sized({0}, 2 * page);
  REQUIRE(d.map(r, out[0].first, {iopt::access_rights::read, memory_type::mmio}).has_value());
  p.set_revoked(e, true);  // too early
  CHECK(p.violations() == 1);
  d.unmap(r);
  d.sync();
  p.set_revoked(e, true);
  CHECK(p.violations() == 1);
  const run before = out[0];
  out.clear();
  CHECK(p.resolve(e, at(0, page), out).error() == errc::no_such_device);
  p.relocate(e);
  p.set_revoked(e, false);
  REQUIRE(p.resolve(e, at(page, 2 * page), out).has_value());
  CHECK(out[0].first != before.first);
}

TEST_CASE("accounts have limits, and owners die") {
  mock::pinner p;
  const mock::process a = p.current();
  const mock::process b = p.create_process();    // the same user
  const mock::process c = p.create_process(42);  // another
  p.set_limit(a, account_mode::user, 10);
  REQUIRE(p.charge(a, account_mode::user, 6).has_value());
  CHECK(p.charge(b, account_mode::user, 5).error() == errc::not_enough_memory);
  REQUIRE(p.charge(b, account_mode::user, 4).has_value());
  REQUIRE(p.charge(c, account_mode::user, 100).has_value());
  REQUIRE(p.charge(a, account_mode::mm, 3).has_value());
  REQUIRE(p.charge(a, account_mode::none, 2).has_value());
  CHECK(p.charged(b, account_mode::user) == 10);
  CHECK(p.charged(c, account_mode::user) == 100);
  CHECK(p.charged(a, account_mode::mm) == 3);
  CHECK(p.pinned_vm(a) == 6 + 3 + 2);
  CHECK(p.charged() == 6 + 4 + 100 + 3 + 2);
  p.kill(a);
  CHECK_FALSE(p.reachable(a));
  CHECK(p.charge(a, account_mode::mm, 1).error() == errc::invalid_argument);
  p.uncharge(a, account_mode::mm, 3);
  p.uncharge(a, account_mode::none, 2);
  p.uncharge(a, account_mode::user, 6);
  p.uncharge(b, account_mode::user, 4);
  p.uncharge(c, account_mode::user, 100);
  CHECK(p.is_idle());
  CHECK(p.verify() == "");
}

TEST_CASE("what was pinned can be copied after its owner died") {
  mock::pinner p({.contiguity_bytes = mock::contiguity::scattered});
  const std::array<std::byte, 4> sent{std::byte{1}, std::byte{2}, std::byte{3}, std::byte{4}};
  REQUIRE(p.write(p.current(), {page - 2}, sent).has_value());
  const std::vector<run> held = pin(p, at(0, 2 * page));
  p.kill(p.current());
  std::array<std::byte, 2> got{};
  CHECK(p.read(p.current(), {page - 2}, got).error() == errc::bad_address);
  p.read_frame(held[0].first + (page - 2), got);
  CHECK(got == std::array{std::byte{1}, std::byte{2}});
  p.read_frame(held[1].first, got);
  CHECK(got == std::array{std::byte{3}, std::byte{4}});
  p.read_frame(held[1].first + 2, got);
  CHECK(got == std::array{std::byte{0}, std::byte{0}});
  for (const run& r : held) p.unpin(r, true);
  CHECK(p.is_idle());
}

TEST_CASE("every fault point of the mock pinner changes nothing", "[sweep]") {
  mock::fault_injector faults;
  mock::pinner p({.faults = &faults});
  const mock::file f = p.create_file(gibibyte);
  const mock::exporter e = p.create_exporter(gibibyte);
  run storage[2];
  run_list out{storage};
  std::byte bytes[4]{};
  const auto operation = [&](int n) -> result<void> {
    switch (n) {
      case 0: return p.pin(p.current(), at(0, page), iopt::access_rights::read, out);
      case 1: return p.pin_file(f, at(0, page), iopt::access_rights::read, out);
      case 2: return p.resolve(e, at(0, page), out);
      case 3: return p.charge(p.current(), account_mode::user, 1);
      case 4: return p.read(p.current(), {0}, bytes);
      default: return p.write(p.current(), {0}, bytes);
    }
  };
  for (int n = 0; n < 6; ++n) {
    CAPTURE(n);
    faults.arm(0);
    const result<void> answer = operation(n);
    REQUIRE_FALSE(answer.has_value());
    CHECK(answer.error() == faults.error_of(faults.fired_at()));
    CHECK(out.empty());
    CHECK(p.is_idle());
  }
}
