#include "iopt/core/attachment.hpp"

#include <cstdint>

#include "iopt/policy/archetypes.hpp"
#include "tests/catch.hpp"

namespace iopt::test {
namespace {

constexpr std::uint64_t page = 4096;
constexpr access_rights rw = access_rights::read_write;

/// A mutex that shows whether it is held.
struct seen_mutex {
  bool held = false;
  void lock() noexcept { held = true; }
  void unlock() noexcept { held = false; }
};
struct seen_traits : single_threaded {
  using mutex = seen_mutex;
};

/// A domain that counts its calls, and those of them that the lock was held for.
struct counting_domain : archetype::domain {
  const seen_mutex* lock = nullptr;
  unsigned calls = 0, calls_locked = 0, flushes = 0;
  std::uint64_t bytes = 0;
  bool comes_back_short = false;

  void called() noexcept {
    ++calls;
    if (lock != nullptr && lock->held) ++calls_locked;
  }
  result<void> map(iova_range r, physical, attributes) {
    called();
    bytes += r.length();
    return {};
  }
  std::uint64_t unmap(iova_range r) noexcept {
    called();
    if (comes_back_short) return 0;
    bytes -= r.length();
    return r.length();
  }
  void sync() noexcept {
    called();
    ++flushes;
  }
};
struct own_locks_domain : counting_domain {
  static constexpr bool is_concurrent = true;
};
static_assert(flushing_domain<counting_domain> && !concurrent_domain<counting_domain> &&
              concurrent_domain<own_locks_domain>);

constexpr run two_pages[] = {run({8 * page}, 2 * page)};
constexpr iova_range where = iova_range::sized({16 * page}, 2 * page);

}  // namespace

TEST_CASE("one call at a time enters a domain", "[attachment]") {
  counting_domain d;
  attachment<counting_domain, seen_traits> a(d);
  d.lock = &a.mutex;
  REQUIRE(a.put_in(where.first, two_pages, rw, 0).has_value());
  CHECK(d.bytes == 2 * page);
  CHECK(a.take_out(where));
  a.flush();
  CHECK(d.calls >= 3);
  CHECK(d.calls_locked == d.calls);
  CHECK_FALSE(a.mutex.held);
}

TEST_CASE("a domain is flushed once for all that was taken out of it", "[attachment]") {
  counting_domain d;
  attachment<counting_domain, seen_traits> a(d);
  a.flush();
  REQUIRE(a.put_in(where.first, two_pages, rw, page).has_value());
  a.flush();
  CHECK(d.flushes == 0);
  CHECK(a.take_out(iova_range::sized(where.first, page)));
  CHECK(a.take_out(iova_range::sized(where.first + page, page)));
  a.flush();
  CHECK(d.flushes == 1);
  a.flush();
  CHECK(d.flushes == 1);
  a.mark_stale();
  a.flush();
  CHECK(d.flushes == 2);
}

TEST_CASE("a domain that came back short takes nothing more", "[attachment]") {
  counting_domain d;
  attachment<counting_domain, seen_traits> a(d);
  REQUIRE(a.put_in(where.first, two_pages, rw, 0).has_value());
  d.comes_back_short = true;
  CHECK_FALSE(a.take_out(where));
  a.flush();
  CHECK(d.flushes == 1);  // what it has taken out is flushed
  d.comes_back_short = false;
  const unsigned calls = d.calls;
  const result<void> refused = a.put_in(where.first + 2 * page, two_pages, rw, 0);
  CHECK(refused.error() == error{errc::io_error, error_place::domain, 0});
  CHECK(d.calls == calls);
  CHECK_FALSE(a.mutex.held);
}

TEST_CASE("a domain that serialises by itself is called without the lock, and always flushed",
          "[attachment]") {
  own_locks_domain d;
  attachment<own_locks_domain, seen_traits> a(d);
  d.lock = &a.mutex;
  REQUIRE(a.put_in(where.first, two_pages, rw, 0).has_value());
  CHECK(a.take_out(where));
  a.flush();
  a.flush();  // another thread may have cleared any mark
  CHECK(d.flushes == 2);
  CHECK(d.calls_locked == 0);
  CHECK_FALSE(a.stale);
}

TEST_CASE("what a domain without flushes gives back is gone at once", "[attachment]") {
  archetype::domain d;
  attachment<archetype::domain, single_threaded> a(d);
  a.mark_stale();
  a.flush();
  CHECK(a.put_in(where.first, two_pages, rw, 0).error() == errc::no_space_on_device);
  CHECK_FALSE(a.tracking);
}

}  // namespace iopt::test
