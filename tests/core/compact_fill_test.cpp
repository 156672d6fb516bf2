// tests/core/compact_fill_test.cpp - one compact area, in and out of domains, and back at each failure.
#include "iopt/core/compact_fill.hpp"

#include <cstdint>
#include <optional>
#include <string_view>

#include "tests/catch.hpp"
#include "tests/core/engine_fixture.hpp"

namespace iopt::test {
namespace {

constexpr std::uint64_t page = 4096;
constexpr account_mode modes[] = {account_mode::none,  account_mode::user,
                                  account_mode::mm,    account_mode::custom,
                                  account_mode::type1, account_mode::type1_unlimited};

/// A pinner that stops after two pages, as a pinner may.
struct hesitant_pinner : mock::pinner {
  using mock::pinner::pinner;
  std::uint64_t pages_a_call = 1024;
  result<void> pin(const owner& w, user_range r, access_rights a, run_list& out) {
    const std::uint64_t most = pages_a_call * page;
    return mock::pinner::pin(w, r.length() > most ? user_range::sized(r.first, most) : r, a, out);
  }
};

/// One area of four pages that begins and ends inside a page, and two domains.
struct stand {
  using origin_type = origin<hesitant_pinner, plain_traits>;
  using area_type = compact_area<hesitant_pinner, plain_traits>;
  using attachment_type = attachment<mock::domain, plain_traits>;
  using moves_type = detail::compact_transfer<hesitant_pinner, mock::domain, plain_traits>;
  static constexpr std::uint64_t first_byte = 64 * page + 512;

  mock::fault_injector faults;
  hesitant_pinner pinner;
  mock::domain domains[2];
  attachment_type at[2] = {attachment_type(domains[0]), attachment_type(domains[1])};
  attachment_type* list[2] = {&at[0], &at[1]};
  origin_type from;
  area_type area{first_byte, 4 * page - 1024, rw};
  no_readers readers;
  run place[8];
  run_list taken{place};

  explicit stand(account_mode mode = account_mode::user,
                 std::uint64_t contiguity = mock::contiguity::contiguous)
      : pinner({.contiguity_bytes = contiguity, .faults = &faults}),
        domains{mock::domain({.page_sizes = {512}, .faults = &faults}),
                mock::domain({.page_sizes = {512}, .faults = &faults})},
        from({&pinner, origin_kind::user, mode, pinner.current()}, {}) {
    for (mock::domain& d : domains) pinner.watch(d);
    area.own = &from;
    area.show(iova_range::sized({1024 * page + 512}, area.length()));
  }

  moves_type moves() { return {area, readers, true}; }
  std::uint64_t charged() const { return pinner.charged(pinner.current(), from.is.mode); }
  physical frame(std::uint64_t n) { return pinner.frame_of(pinner.current(), {(64 + n) * page}); }

  /// Nothing is held of the area anywhere.
  std::string_view left_over() {
    for (mock::domain& d : domains) {
      if (d.bytes_mapped() != 0) return "a domain shows it";
      if (d.unsynced_bytes() != 0) return "a domain is not flushed";
    }
    if (pinner.pinned_pages() != 0) return "pages are pinned";
    if (pinner.charged() != 0) return "pages are charged";
    if (area.held) return "it is held";
    return "";
  }
};

}  // namespace

TEST_CASE("what is taken of one run is whole, and charged while pinning or later", "[compact]") {
  for (const account_mode mode : modes) {
    CAPTURE(name(mode));
    stand s(mode);
    s.pinner.pages_a_call = 2;  // asked again, where it stopped
    REQUIRE(s.moves().take(s.taken).has_value());
    CHECK(s.moves().is_whole(s.taken));
    CHECK(s.taken[0] == run(s.frame(0), 4 * page));
    CHECK(s.pinner.pinned_pages() == 4);
    CHECK(s.charged() == (charges_while_pinning(mode) ? 4 : 0));
    s.moves().forgo(s.taken.view());
    CHECK(s.left_over() == "");
  }
}

TEST_CASE("taking ends behind the first run, or where the list is full", "[compact]") {
  for (const account_mode mode : {account_mode::user, account_mode::type1}) {
    stand s(mode, 2 * page);
    s.pinner.pages_a_call = 1;
    REQUIRE(s.moves().take(s.taken).has_value());
    CHECK(s.taken.size() == 2);
    CHECK_FALSE(s.moves().is_whole(s.taken));
    s.moves().forgo(s.taken.view());
    CHECK(s.left_over() == "");
    run_list one{std::span(s.place).first(1)};
    REQUIRE(s.moves().take(one).has_value());
    CHECK(one.size() == 1);
    CHECK_FALSE(s.moves().is_whole(one));
    s.moves().forgo(one.view());
    CHECK(s.left_over() == "");
  }
}

TEST_CASE("what cannot be taken whole is given back", "[compact][sweep]") {
  for (const account_mode mode : modes) {
    std::uint64_t n = 0;
    for (;; ++n) {
      CAPTURE(name(mode), n);
      stand s(mode);
      s.pinner.pages_a_call = 2;
      s.faults.arm(n);
      const result<void> done = s.moves().take(s.taken);
      if (!s.faults.fired()) break;
      s.faults.disarm();
      const bool while_charging = s.faults.fired_at() == mock::fault_point::charge;
      const std::uint64_t calls = charges_while_pinning(mode) ? n / 2 : n;
      CHECK(done.error() == error{while_charging ? errc::not_enough_memory : errc::bad_address,
                                  error_place::request_byte, calls == 0 ? 0 : 2 * page - 512});
      s.taken.clear();
      CHECK(s.left_over() == "");
    }
    CHECK(n == (charges_while_pinning(mode) ? 4 : 2));
  }
}

TEST_CASE("an area is shown in all domains, page ends and all, or in none", "[compact][sweep]") {
  for (const account_mode mode : modes) {
    std::uint64_t n = 0;
    for (;; ++n) {
      CAPTURE(name(mode), n);
      stand s(mode);
      must(s.moves().take(s.taken));
      s.faults.arm(n);
      const result<void> done = s.moves().show(s.taken, s.list);
      if (!s.faults.fired()) {
        REQUIRE(done.has_value());
        CHECK(s.area.held);
        CHECK(s.area.filled == fill_state::done);
        CHECK(s.charged() == 4);
        for (mock::domain& d : s.domains) {
          CHECK(d.bytes_mapped() == s.area.length());
          CHECK(d.translate(s.area.where.first) == s.frame(0) + 512);
          CHECK(d.translate(s.area.where.last) == s.frame(3) + (page - 513));
        }
        CHECK(s.moves().take_out(s.list));
        for (auto* d : s.list) d->flush();
        s.moves().give_back();
        CHECK(s.left_over() == "");
        break;
      }
      s.faults.disarm();
      if (s.faults.fired_at() == mock::fault_point::charge) {
        CHECK(done.error() == errc::not_enough_memory);
      } else {
        CHECK(done.error().place == error_place::domain);
      }
      // What was charged while pinning is the caller's, who took it: here it goes with the pages.
      CHECK_FALSE(s.area.held);
      CHECK(s.area.filled == fill_state::not_yet);
      CHECK(s.left_over() == "");
    }
    CHECK(n == (charges_while_pinning(mode) ? 2 : 3));
  }
}

TEST_CASE("what a domain says comes before what the account says", "[compact]") {
  stand s;
  s.pinner.set_limit(s.pinner.current(), account_mode::user, 3);
  must(s.moves().take(s.taken));
  s.faults.arm(mock::fault_point::map, 1);
  const result<void> done = s.moves().show(s.taken, s.list);
  s.faults.disarm();
  CHECK(done.error().place == error_place::domain);
  CHECK(done.error().domain == 1);
  CHECK(s.left_over() == "");
}

TEST_CASE("an area that is held comes into more domains, all or none", "[compact]") {
  stand s;
  must(s.moves().take(s.taken));
  must(s.moves().show(s.taken, {}));
  s.faults.arm(mock::fault_point::map, 1);
  CHECK(s.moves().put_in(s.list).error().place == error_place::domain);
  s.faults.disarm();
  for (mock::domain& d : s.domains) {
    CHECK(d.bytes_mapped() == 0);
    CHECK(d.unsynced_bytes() == 0);
  }
  CHECK(s.area.held);
  CHECK(s.pinner.pinned_pages() == 4);
  must(s.moves().put_in(s.list));
  CHECK(s.moves().take_out(s.list));
  for (auto* d : s.list) d->flush();
  s.moves().give_back();
  CHECK(s.left_over() == "");
}

TEST_CASE("pages that a domain may still show are not unpinned", "[compact]") {
  for (const std::size_t stuck : {std::size_t{0}, std::size_t{1}}) {
    stand s;
    must(s.moves().take(s.taken));
    must(s.moves().show(s.taken, s.list));
    s.domains[stuck].short_unmap_after(0);
    CHECK_FALSE(s.moves().take_out(s.list));
    for (auto* d : s.list) d->flush();
    s.moves().give_back();
    CHECK(s.area.lost);
    CHECK_FALSE(s.area.held);
    CHECK(s.at[stuck].poisoned);
    CHECK(s.pinner.pinned_pages() == 4);
    CHECK(s.charged() == 4);
  }
  stand s;  // the same where the account refuses, and the domain does not let go
  s.pinner.set_limit(s.pinner.current(), account_mode::user, 3);
  must(s.moves().take(s.taken));
  s.domains[1].short_unmap_after(0);
  CHECK(s.moves().show(s.taken, s.list).error() == errc::not_enough_memory);
  CHECK(s.area.lost);
  CHECK(s.pinner.pinned_pages() == 4);
}

}  // namespace iopt::test
