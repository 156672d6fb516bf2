// tests/backends/host/pinner_test.cpp - a pinner for real memory of this process.
#include "iopt/backends/host/pinner.hpp"

#include <linux/capability.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <array>
#include <atomic>
#include <cstring>
#include <fstream>
#include <map>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "tests/catch.hpp"

namespace {

using namespace iopt;
using host::block_order;
using host::physical_memory;
using host::pinner;
using host::system_calls;
using host::user_memory;
using iopt::access_rights;  // not that of unistd.h

/// A list with storage of its own.
template <std::size_t Capacity>
struct batch {
  std::array<run, Capacity> storage{};
  run_list list{std::span<run>(storage)};
};

user_range pages_of(const user_memory& user, std::uint64_t first, std::uint64_t count) {
  return user_range::sized(user.range().first + first * 4096, count * 4096);
}

/// Pins all of a range, in as many calls as it takes, and returns the runs.
std::vector<run> pin_all(pinner& p, user_range where, access_rights rights,
                         std::size_t* calls = nullptr) {
  std::vector<run> runs;
  for (;;) {
    batch<16> out;
    if (calls != nullptr) ++*calls;
    const result<void> answer = p.pin(p.current(), where, rights, out.list);
    if (!answer) FAIL("pin failed with " << name(answer.error().code));
    REQUIRE(out.list.bytes() > 0);
    runs.insert(runs.end(), out.list.begin(), out.list.end());
    if (out.list.bytes() == where.length()) return runs;
    where.first += out.list.bytes();
  }
}

TEST_CASE("pinner: frames are those that the device's view shows the user's bytes in") {
  physical_memory memory = physical_memory::create(gibibyte).value();
  for (const system_calls calls : {system_calls::best, system_calls::portable}) {
    pinner p(memory, {.calls = calls});
    const user_memory user = user_memory::create(memory, 24 * mebibyte, {.small_every = 3}).value();
    for (std::uint64_t at = 0; at != user.size_bytes(); at += 4096)
      std::memcpy(user.data() + at, &at, sizeof at);
    const std::vector<run> runs = pin_all(p, user.range(), access_rights::read_write);
    std::uint64_t offset = 0;
    for (const run r : runs) {
      for (std::uint64_t at = 0; at != r.length_bytes; at += 4096, offset += 4096) {
        std::uint64_t tag = 0;
        p.read_frame(r.first + at, std::as_writable_bytes(std::span(&tag, 1)));
        if (tag != offset) FAIL("page " << offset << " shows " << tag);
        if (user.frame_of(user.address(offset)) != r.first + at) FAIL("frame_of disagrees");
        if (p.pins(r.first + at + 4095) != 1) FAIL("not pinned");
      }
      CHECK(r.type() == memory_type::cached);
    }
    CHECK(offset == user.size_bytes());
    CHECK(p.pinned_pages() == user.size_bytes() / 4096);
    CHECK(p.pinned_frames() == user.size_bytes() / 4096);
    CHECK(p.verify() == "");
    for (const run r : runs) p.unpin(r, true);
    CHECK(p.pinned_pages() == 0);
    CHECK(p.pinned_frames() == 0);
  }
}

TEST_CASE("pinner: runs are as long as the memory's") {
  physical_memory memory = physical_memory::create(4 * gibibyte, {gibibyte}).value();
  pinner p(memory);
  SECTION("one call and one run for contiguous memory") {
    const user_memory user =
        user_memory::create_at(memory, physical_range::sized({gibibyte}, 256 * mebibyte)).value();
    batch<1> out;
    REQUIRE(p.pin(p.current(), user.range(), access_rights::read, out.list).has_value());
    CHECK(out.list[0] == run({gibibyte}, 256 * mebibyte));
    p.unpin(out.list[0], false);
  }
  SECTION("a run a block, 2 MiB and 4 KiB, cut at the ends of the request") {
    const user_memory user = user_memory::create(memory, 8 * mebibyte, {.small_every = 4}).value();
    batch<8> out;
    REQUIRE(p.pin(p.current(), pages_of(user, 3, 512 + 512 + 500), access_rights::read, out.list)
                .has_value());
    REQUIRE(out.list.size() == 3);
    CHECK(out.list[0].length_bytes == 509 * 4096);
    CHECK(out.list[1].length_bytes == 512 * 4096);
    CHECK(out.list[2].length_bytes == 503 * 4096);
    for (const run r : out.list) p.unpin(r, false);
    out.list.clear();
    REQUIRE(p.pin(p.current(), pages_of(user, 3 * 512, 512), access_rights::read, out.list)
                .has_value());
    REQUIRE(out.list.size() == 8);
    for (const run r : out.list) CHECK(r.length_bytes == 4096);
    for (const run r : out.list) p.unpin(r, false);
  }
  SECTION("a call pins no more than it can append") {
    const user_memory user = user_memory::create(memory, 16 * mebibyte).value();
    std::size_t calls = 0;
    batch<3> out;
    user_range where = user.range();
    std::vector<run> runs;
    while (where.first.value <= where.last.value) {
      ++calls;
      out.list.clear();
      REQUIRE(p.pin(p.current(), where, access_rights::read, out.list).has_value());
      runs.insert(runs.end(), out.list.begin(), out.list.end());
      CHECK(p.pinned_pages() == (where.first - user.range().first + out.list.bytes()) / 4096);
      where.first += out.list.bytes();
    }
    CHECK(calls == 3);  // 8 blocks, 3 a call
    CHECK(runs.size() == 8);
    for (const run r : runs) p.unpin(r, false);
  }
  SECTION("joins what the list ends with, though the list has no room for another run") {
    const user_memory user = user_memory::create(memory, 4 * mebibyte).value();
    batch<2> out;
    REQUIRE(p.pin(p.current(), pages_of(user, 512, 1), access_rights::read, out.list).has_value());
    REQUIRE(p.pin(p.current(), pages_of(user, 0, 10), access_rights::read, out.list).has_value());
    CHECK(out.list.size() == 2);
    batch<2> joined;
    REQUIRE(p.pin(p.current(), pages_of(user, 0, 1), access_rights::read, joined.list).has_value());
    REQUIRE(
        p.pin(p.current(), pages_of(user, 1, 600), access_rights::read, joined.list).has_value());
    CHECK(joined.list.size() == 2);
    CHECK(joined.list[0].length_bytes == 512 * 4096);
    CHECK(joined.list[1].length_bytes == 89 * 4096);
    CHECK(p.pins(out.list[1].first) == 2);
    for (const run r : out.list) p.unpin(r, false);
    for (const run r : joined.list) p.unpin(r, false);
  }
  CHECK(p.pinned_pages() == 0);
  CHECK(p.verify() == "");
}

TEST_CASE("pinner: holes and missing rights are bad addresses at exactly the right page") {
  for (const system_calls calls : {system_calls::best, system_calls::portable}) {
    for (const unsigned bad : {0U, 1U, 2U, 7U, 511U, 512U, 513U, 700U, 1023U}) {
      for (const int kind : {0, 1, 2}) {
        for (const bool small : {false, true}) {
          CAPTURE(bad, kind, small, static_cast<int>(calls));
          physical_memory memory = physical_memory::create(8 * mebibyte).value();
          pinner p(memory, {.calls = calls});
          user_memory user =
              user_memory::create(memory, 1024 * 4096,
                                  {.block_bytes = small ? 64 * kibibyte : 2 * mebibyte})
                  .value();
          const user_range page = pages_of(user, bad, 1);
          if (kind == 0) REQUIRE(user.unmap(page).has_value());
          if (kind == 1) REQUIRE(user.protect(page, access_rights::none).has_value());
          if (kind == 2) REQUIRE(user.protect(page, access_rights::read).has_value());
          for (const access_rights rights : {access_rights::read, access_rights::read_write}) {
            const bool fails = kind != 2 || rights == access_rights::read_write;
            batch<128> out;
            const result<void> answer = p.pin(p.current(), user.range(), rights, out.list);
            if (fails && bad == 0) {
              CHECK(answer.error() == errc::bad_address);
              CHECK(out.list.empty());
            } else {
              REQUIRE(answer.has_value());
              CHECK(out.list.bytes() == (fails ? bad : 1024U) * 4096);
            }
            CHECK(p.pinned_pages() == out.list.bytes() / 4096);
            for (const run r : out.list) p.unpin(r, false);
            out.list.clear();
            CHECK(p.pin(p.current(), page, rights, out.list).has_value() == !fails);
            for (const run r : out.list) p.unpin(r, false);
            out.list.clear();
            if (bad != 1023)
              CHECK(p.pin(p.current(), pages_of(user, bad + 1, 1023 - bad), rights, out.list)
                        .has_value());
            for (const run r : out.list) p.unpin(r, false);
          }
          CHECK(p.pinned_pages() == 0);
        }
      }
    }
  }
}

TEST_CASE("pinner: memory without a frame is refused, not given its address for one") {
  physical_memory memory = physical_memory::create(64 * mebibyte).value();
  physical_memory other_machine = physical_memory::create(64 * mebibyte).value();
  pinner p(memory);
  batch<4> out;
  std::vector<std::byte> heap(3 * 4096);
  const std::uint64_t inside = (reinterpret_cast<std::uintptr_t>(heap.data()) + 4095) / 4096 * 4096;
  CHECK(p.pin(p.current(), user_range::sized({inside}, 4096), access_rights::read, out.list)
            .error() == errc::bad_address);
  CHECK(p.pin(p.current(), user_range::sized({0}, 4096), access_rights::read, out.list).error() ==
        errc::bad_address);
  CHECK(p.pin(p.current(), user_range::sized({top - 4095}, 4096), access_rights::read, out.list)
            .error() == errc::bad_address);
  const user_memory theirs = user_memory::create(other_machine, 4 * mebibyte).value();
  CHECK(p.pin(p.current(), theirs.range(), access_rights::read, out.list).error() ==
        errc::bad_address);
  CHECK(out.list.empty());
  // A request that goes on past the end of its memory is pinned up to there.
  const user_memory user = user_memory::create(memory, 2 * mebibyte).value();
  CHECK(p.pin(p.current(), {user.range().first, {top}}, access_rights::read, out.list).has_value());
  CHECK(out.list.bytes() == 2 * mebibyte);
  p.unpin(out.list[0], false);
}

TEST_CASE("pinner: the process that owns the memory") {
  physical_memory memory = physical_memory::create(64 * mebibyte).value();
  const user_memory user = user_memory::create(memory, 2 * mebibyte).value();
  pinner p(memory);
  CHECK(p.current() == p.current());
  CHECK(p.reachable(p.current()));
  CHECK(p.reachable({1}));
  CHECK(!p.reachable({0}));
  const pid_t child = ::fork();
  if (child == 0) ::_exit(0);
  REQUIRE(child > 0);
  REQUIRE(::waitpid(child, nullptr, 0) == child);
  const pinner::owner gone{child};
  CHECK(!p.reachable(gone));
  batch<4> out;
  std::array<std::byte, 4> bytes{};
  CHECK(p.pin(gone, user.range(), access_rights::read, out.list).error() == errc::bad_address);
  CHECK(p.charge(gone, account_mode::user, 1).error() == errc::invalid_argument);
  CHECK(p.read(gone, user.range().first, bytes).error() == errc::bad_address);
  CHECK(p.write(gone, user.range().first, bytes).error() == errc::bad_address);
}

TEST_CASE("pinner: model: pins against one count a frame, given back in other pieces") {
  physical_memory memory = physical_memory::create(64 * mebibyte).value();
  pinner p(memory);
  user_memory user = user_memory::create(memory, 8 * mebibyte, {.small_every = 4}).value();
  const std::uint64_t seed = 23;
  CAPTURE(seed);
  std::mt19937_64 random(seed);
  std::map<std::uint64_t, std::uint64_t> model;
  std::vector<run> held;
  for (int step = 0; step != 1500; ++step) {
    if (random() % 2 == 0 || held.empty()) {
      const std::uint64_t first = random() % 2048;
      const std::uint64_t count = 1 + random() % std::min<std::uint64_t>(2048 - first, 1200);
      batch<6> out;
      REQUIRE(p.pin(p.current(), pages_of(user, first, count), access_rights::read, out.list)
                  .has_value());
      for (const run r : out.list) {
        held.push_back(r);
        for (std::uint64_t at = 0; at != r.length_bytes; at += 4096) ++model[r.first.value + at];
      }
    } else {
      std::swap(held[random() % held.size()], held.back());
      run r = held.back();
      held.pop_back();
      const std::uint64_t pages = r.length_bytes / 4096;
      const std::uint64_t keep = random() % 2 == 0 ? 0 : random() % pages;
      if (keep != 0) held.push_back(run(r.first, keep * 4096));
      r = run(r.first + keep * 4096, (pages - keep) * 4096);
      p.unpin(r, random() % 2 == 0);
      for (std::uint64_t at = 0; at != r.length_bytes; at += 4096)
        if (--model[r.first.value + at] == 0) model.erase(r.first.value + at);
    }
    if (step % 50 != 0) continue;
    std::uint64_t total = 0;
    for (std::uint64_t n = 0; n != 2048; ++n) {
      const physical frame = *user.frame_of(user.address(n * 4096));
      const auto found = model.find(frame.value);
      const std::uint64_t expected = found == model.end() ? 0 : found->second;
      total += expected;
      if (p.pins(frame) != expected) FAIL("page " << n << " at step " << step);
    }
    REQUIRE(p.pinned_pages() == total);
    REQUIRE(p.pinned_frames() == model.size());
    REQUIRE(p.verify() == "");
  }
  for (const run r : held) p.unpin(r, false);
  CHECK(p.pinned_frames() == 0);
}

TEST_CASE("pinner: what is pinned outlives the user's mapping and the memory itself") {
  physical_memory memory = physical_memory::create(64 * mebibyte).value();
  pinner p(memory);
  std::optional<user_memory> user = user_memory::create(memory, 4 * mebibyte).value();
  user->data()[5] = std::byte{42};
  batch<4> out;
  REQUIRE(p.pin(p.current(), user->range(), access_rights::read_write, out.list).has_value());
  const physical frame = out.list[0].first;
  REQUIRE(user->unmap(user->range()).has_value());
  std::array<std::byte, 1> byte{};
  p.read_frame(frame + 5, byte);
  CHECK(byte[0] == std::byte{42});
  user.reset();
  const user_memory next = user_memory::create(memory, 4 * mebibyte).value();
  std::memset(next.data(), 1, next.size_bytes());
  p.read_frame(frame + 5, byte);
  CHECK(byte[0] == std::byte{42});
  CHECK(p.pins(frame) == 1);
  for (const run r : out.list) p.unpin(r, true);
}

TEST_CASE("pinner: files are pinned by offset, mapped or not") {
  physical_memory memory = physical_memory::create(64 * mebibyte).value();
  physical_memory other_machine = physical_memory::create(64 * mebibyte).value();
  for (const system_calls calls : {system_calls::best, system_calls::portable}) {
    pinner p(memory, {.calls = calls});
    std::optional<user_memory> user =
        user_memory::create(memory, 8 * mebibyte, {.small_every = 2}).value();
    const host::file file = user->file();
    batch<2000> out;
    const user_range part = {{4096}, {8 * mebibyte - 1}};
    REQUIRE(p.pin_file(file, part, access_rights::read, out.list).has_value());
    CHECK(out.list.bytes() == part.length());
    std::uint64_t offset = 4096;
    for (const run r : out.list)
      for (std::uint64_t at = 0; at != r.length_bytes; at += 4096, offset += 4096)
        if (user->frame_of(user->address(offset)) != r.first + at) FAIL("offset " << offset);
    for (const run r : out.list) p.unpin(r, true);

    user.reset();
    batch<2> few;
    REQUIRE(p.pin_file(file, {{0}, {top}}, access_rights::read_write, few.list).has_value());
    CHECK(few.list.size() == 2);
    for (const run r : few.list) p.unpin(r, true);
    few.list.clear();
    CHECK(p.pin_file(file, user_range::sized({8 * mebibyte}, 4096), access_rights::read, few.list)
              .error() == errc::invalid_argument);
    pinner stranger(other_machine);
    CHECK(stranger.pin_file(file, user_range::sized({0}, 4096), access_rights::read, few.list)
              .error() == errc::invalid_argument);
    CHECK(few.list.empty());
    CHECK(p.pinned_pages() == 0);
  }
}

TEST_CASE("pinner: copies as the owner would, and as a device") {
  physical_memory memory = physical_memory::create(64 * mebibyte).value();
  for (const system_calls calls : {system_calls::best, system_calls::portable}) {
    pinner p(memory, {.calls = calls});
    user_memory user = user_memory::create(memory, 64 * kibibyte, {.block_bytes = 4096}).value();
    std::vector<std::byte> bytes(10'000), back(10'000);
    for (std::size_t n = 0; n != bytes.size(); ++n) bytes[n] = static_cast<std::byte>(n % 251);
    const user_address at = user.range().first + 123;
    REQUIRE(p.write(p.current(), at, bytes).has_value());
    REQUIRE(p.read(p.current(), at, back).has_value());
    CHECK(bytes == back);
    CHECK(std::memcmp(user.data() + 123, bytes.data(), bytes.size()) == 0);
    const std::array<std::byte, 3> word = {std::byte{1}, std::byte{2}, std::byte{3}};
    p.write_frame(*user.frame_of(at), word);
    CHECK(std::memcmp(user.data() + 123, word.data(), 3) == 0);

    REQUIRE(user.protect(pages_of(user, 2, 1), access_rights::read).has_value());
    const result<void> written = p.write(p.current(), at, bytes);
    CHECK(written.error() == errc::bad_address);
    CHECK(written.error().at == 2 * 4096 - 123);
    CHECK(p.read(p.current(), at, back).has_value());
    REQUIRE(user.unmap(pages_of(user, 1, 1)).has_value());
    CHECK(p.read(p.current(), at, back).error().at == 4096 - 123);
    int local = 7;  // any memory of the process
    REQUIRE(p.read(p.current(), {reinterpret_cast<std::uintptr_t>(&local)},
                   std::span(back).first(sizeof local))
                .has_value());
    CHECK(std::memcmp(back.data(), &local, sizeof local) == 0);
  }
}

TEST_CASE("pinner: charges are counted by mode and limited") {
  physical_memory memory = physical_memory::create(64 * mebibyte).value();
  pinner p(memory);
  for (const account_mode mode :
       {account_mode::none, account_mode::user, account_mode::mm, account_mode::custom}) {
    CAPTURE(name(mode));
    p.set_limit(mode, 10);
    REQUIRE(p.charge(p.current(), mode, 7).has_value());
    CHECK(p.charge(p.current(), mode, 0).has_value());
    if (mode != account_mode::none) {
      CHECK(p.charge(p.current(), mode, 4).error() == errc::not_enough_memory);
      CHECK(p.charge(p.current(), mode, top).error() == errc::not_enough_memory);
      CHECK(p.charged(mode) == 7);
      p.set_limit(mode, 3);
      CHECK(p.charge(p.current(), mode, 1).error() == errc::not_enough_memory);
      p.set_limit(mode, 10);
    }
    REQUIRE(p.charge(p.current(), mode, 3).has_value());
    CHECK(p.charged(mode) == 10);
    CHECK(p.charged() == 10);
    p.uncharge(p.current(), mode, 10);
    CHECK(p.charged(mode) == 0);
  }
}

TEST_CASE("pinner: the modes of type1 share the address space's counter, and one minds no limit") {
  physical_memory memory = physical_memory::create(64 * mebibyte).value();
  pinner p(memory);
  p.set_limit(account_mode::mm, 10);
  REQUIRE(p.charge(p.current(), account_mode::mm, 4).has_value());
  REQUIRE(p.charge(p.current(), account_mode::type1, 4).has_value());
  CHECK(p.charge(p.current(), account_mode::type1, 3).error() == errc::not_enough_memory);
  REQUIRE(p.charge(p.current(), account_mode::type1_unlimited, 5).has_value());
  CHECK(p.charge(p.current(), account_mode::mm, 1).error() == errc::not_enough_memory);
  CHECK(p.charged(account_mode::type1) == 13);
  p.uncharge(p.current(), account_mode::type1_unlimited, 5);
  p.uncharge(p.current(), account_mode::type1, 4);
  p.uncharge(p.current(), account_mode::mm, 4);
  CHECK(p.charged() == 0);
}

/// What /proc says is locked in this process, in pages.
std::uint64_t locked_pages() {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;) {
    std::uint64_t kibibytes = 0;
    if (word == "VmLck:" && status >> kibibytes) return kibibytes / 4;
  }
  return 0;
}

/// Without the capability that lifts RLIMIT_MEMLOCK, and with a limit; back to normal at the end.
class memlock_limit {
 public:
  explicit memlock_limit(std::uint64_t bytes) {
    header_.version = _LINUX_CAPABILITY_VERSION_3;
    header_.pid = 0;
    REQUIRE(::syscall(SYS_capget, &header_, before_.data()) == 0);
    std::array<__user_cap_data_struct, 2> without = before_;
    without[0].effective &= ~(1U << CAP_IPC_LOCK);
    REQUIRE(::syscall(SYS_capset, &header_, without.data()) == 0);
    REQUIRE(::getrlimit(RLIMIT_MEMLOCK, &limit_) == 0);
    const rlimit smaller{bytes, limit_.rlim_max};
    REQUIRE(::setrlimit(RLIMIT_MEMLOCK, &smaller) == 0);
  }
  ~memlock_limit() {
    ::setrlimit(RLIMIT_MEMLOCK, &limit_);
    ::syscall(SYS_capset, &header_, before_.data());
  }
  memlock_limit(const memlock_limit&) = delete;
  memlock_limit& operator=(const memlock_limit&) = delete;

 private:
  __user_cap_header_struct header_{};
  std::array<__user_cap_data_struct, 2> before_{};
  rlimit limit_{};
};

TEST_CASE("pinner: with lock_memory what is pinned is locked, once, and RLIMIT_MEMLOCK holds") {
  physical_memory memory = physical_memory::create(64 * mebibyte).value();
  pinner p(memory, {.lock_memory = true});
  const user_memory user =
      user_memory::create(memory, mebibyte, {.block_bytes = 64 * kibibyte}).value();
  const std::uint64_t before = locked_pages();
  const memlock_limit limit((before + 40) * 4096);

  batch<1> one, again, other;
  REQUIRE(
      p.pin(p.current(), pages_of(user, 0, 16), access_rights::read_write, one.list).has_value());
  CHECK(locked_pages() == before + 16);
  REQUIRE(
      p.pin(p.current(), pages_of(user, 8, 8), access_rights::read_write, again.list).has_value());
  CHECK(locked_pages() == before + 16);
  REQUIRE(p.pin(p.current(), pages_of(user, 16, 16), access_rights::read, other.list).has_value());
  CHECK(locked_pages() == before + 32);

  // 8 pages are left: a run of 16 is refused, and leaves nothing behind.
  batch<4> refused;
  CHECK(p.pin(p.current(), pages_of(user, 32, 16), access_rights::read, refused.list).error() ==
        errc::not_enough_memory);
  CHECK(refused.list.empty());
  CHECK(locked_pages() == before + 32);
  CHECK(p.pinned_pages() == 40);
  // Runs that fit before one that does not are pinned.
  REQUIRE(
      p.pin(p.current(), pages_of(user, 40, 24), access_rights::read, refused.list).has_value());
  CHECK(refused.list.bytes() == 8 * 4096);
  CHECK(locked_pages() == before + 40);
  // More of what is locked already costs nothing.
  batch<1> third;
  REQUIRE(p.pin(p.current(), pages_of(user, 0, 16), access_rights::read, third.list).has_value());

  p.unpin(one.list[0], false);
  p.unpin(third.list[0], false);
  CHECK(locked_pages() == before + 32);  // `again` holds half of the first block
  p.unpin(again.list[0], false);
  CHECK(locked_pages() == before + 24);
  p.unpin(other.list[0], false);
  p.unpin(refused.list[0], false);
  CHECK(locked_pages() == before);
  CHECK(p.pinned_pages() == 0);
}

TEST_CASE("pinner: several threads pin and unpin while another changes the memory") {
  physical_memory memory = physical_memory::create(64 * mebibyte).value();
  pinner p(memory);
  user_memory user = user_memory::create(memory, 8 * mebibyte, {.small_every = 2}).value();
  std::atomic<int> bad{0};
  std::vector<std::thread> threads;
  for (unsigned t = 0; t != 3; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937_64 random(t);
      for (int n = 0; n != 300; ++n) {
        batch<8> out;
        const std::uint64_t first = random() % 2048;
        const user_range where = pages_of(user, first, 1 + random() % (2048 - first));
        const result<void> answer = p.pin(p.current(), where, access_rights::read_write, out.list);
        if (!answer && answer.error() != errc::bad_address) ++bad;
        if (answer.has_value() == out.list.empty()) ++bad;
        for (const run r : out.list) {
          if (p.pins(r.first) == 0) ++bad;
          p.unpin(r, false);
        }
      }
    });
  }
  threads.emplace_back([&] {
    for (std::uint64_t n = 0; n != 100; ++n) {
      if (!user.protect(pages_of(user, 100 + n * 4, 1), access_rights::read)) ++bad;
      if (n % 10 == 0 && !user.unmap(pages_of(user, 1000 + n, 2))) ++bad;
    }
  });
  for (std::thread& thread : threads) thread.join();
  CHECK(bad == 0);
  CHECK(p.pinned_pages() == 0);
  CHECK(p.pinned_frames() == 0);
  CHECK(p.verify() == "");
}

}  // namespace
