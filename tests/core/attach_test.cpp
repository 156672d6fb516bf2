// tests/core/attach_test.cpp - the rules of domains: attach, detach, replace, alignment, accounts.
#include "iopt/core/attach.hpp"

#include <optional>
#include <utility>
#include <vector>

#include "tests/catch.hpp"
#include "tests/core/engine_fixture.hpp"

namespace iopt::test {
namespace {

constexpr std::uint64_t page = usual::page;

mock::domain_options sizes(page_size_set which) { return {.page_sizes = which}; }

std::vector<iova_range> usable(const usual::table_type& t) {
  std::vector<iova_range> list;
  t.for_each_usable([&](iova_range r) { list.push_back(r); });
  return list;
}

}  // namespace

// --- Attach, in the order of its checks ----------------------------------------------------------

TEST_CASE("a domain is in a table once", "[attach]") {
  usual w;
  auto& d = w.attach_domain();
  CHECK(text(w.table().attach(d)) == "EEXIST");
  CHECK(w.table().domain_count() == 1);
}

TEST_CASE("a domain whose smallest page is above the CPU's is refused before all else",
          "[attach]") {
  usual w;
  auto& t = w.table();
  must(t.map(w.at(0), page + 1, rw, w.io(1)));
  CHECK(text(t.attach(w.add_domain(sizes({2 * page})))) == "EINVAL");
  CHECK(text(t.attach(w.add_domain(sizes({page})))) == "EADDRINUSE");
}

TEST_CASE("an area off the alignment of a domain is in its way", "[attach]") {
  for (const auto& [from, at, length] :
       {std::tuple{8 * page, page + 2048, page}, std::tuple{8 * page, page, page + 2048},
        std::tuple{8 * page + 2048, page, page}}) {
    usual w;
    auto& t = w.table();
    must(t.map({from}, length, rw, iova{at}));
    const auto before = w.look();
    const auto refused = t.attach(w.add_domain(sizes({page})));
    CHECK(text(refused) == "EADDRINUSE");
    CHECK(refused.error().at == at);
    CHECK(before.tables == w.look().tables);
    CHECK(text(t.attach(w.add_domain(sizes({2048})))) == "ok");
  }
}

TEST_CASE("an area outside the aperture is in a domain's way, and nothing stays reserved",
          "[attach]") {
  usual w;
  auto& t = w.table();
  must(t.map(w.at(0), page, rw, w.io(1)));
  auto& low = w.add_domain({.page_sizes = {page}, .aperture = {w.io(2), {top}}});
  auto& high = w.add_domain({.page_sizes = {page}, .aperture = {{0}, w.io(1) - 1}});
  auto& fits = w.add_domain({.page_sizes = {page}, .aperture = {w.io(1), w.io(2) - 1}});
  CHECK(text(t.attach(low)) == "EADDRINUSE");
  CHECK(text(t.attach(high)) == "EADDRINUSE");
  CHECK(usable(t) == std::vector{iova_range::whole()});
  CHECK(text(t.attach(fits)) == "ok");
  CHECK(usable(t) == std::vector{w.pages_at(1, 1)});
  t.detach(fits);
  CHECK(usable(t) == std::vector{iova_range::whole()});
}

TEST_CASE("a domain's reserved regions are kept free, but relaxable ones", "[attach]") {
  using kinds = reserved_region::kind;
  usual w;
  auto& t = w.table();
  auto& d = w.add_domain({.page_sizes = {page},
                          .reserved = {{w.pages_at(2, 2), kinds::msi},
                                       {w.pages_at(3, 2), kinds::reserved},
                                       {w.pages_at(8, 1), kinds::direct_relaxable}}});
  must(t.map(w.at(0), page, rw, w.io(8)));
  must(t.attach(d));
  CHECK(usable(t) ==
        std::vector{closed_range<iova>{{0}, w.io(2) - 1}, closed_range<iova>{w.io(5), {top}}});
  CHECK(text(t.map(w.at(1), page, rw, w.io(4))) == "EINVAL");
  t.detach(d);
  must(t.map(w.at(1), page, rw, w.io(4)));
  CHECK(text(t.attach(d)) == "EADDRINUSE");
}

TEST_CASE("a fill that fails leaves the table as it was", "[attach]") {
  usual w(page);
  auto& t = w.table();
  for (std::uint64_t n = 0; n < 4; ++n) must(t.map(w.at(4 * n), 4 * page, rw, w.io(4 * n)));
  w.pinner.set_hole(w.owner(), {w.at(14), w.at(14) + (page - 1)});
  auto& d = w.add_domain({.page_sizes = {page}, .aperture = {{0}, w.io(64) - 1}});
  const auto before = w.look();
  const auto refused = t.attach(d);
  CHECK(text(refused) == "EFAULT");
  CHECK(refused.error().place == error_place::area);
  CHECK(refused.error().at == 12 * page);
  CHECK(difference(before, w.look()) == "");
  CHECK(t.alignment() == 1);
}

TEST_CASE("a table shared with a process that is gone cannot be filled anew", "[attach]") {
  usual w;
  auto& t = w.table();
  must(t.map(w.at(0), page, rw, w.io(1)));
  w.pinner.kill(w.owner());
  CHECK(text(t.attach(w.add_domain())) == "EFAULT");
}

TEST_CASE("attach without memory changes nothing", "[attach]") {
  usual w;
  auto& t = w.table();
  must(t.map(w.at(0), page, rw, w.io(1)));
  auto& d = w.add_domain({.page_sizes = {page}, .aperture = {{page}, w.io(64) - 1}});
  const auto before = w.look();
  w.account.refuse_all();
  CHECK(text(t.attach(d)) == "ENOMEM");
  w.account.refuse_all(false);
  CHECK(difference(before, w.look()) == "");
}

// --- Alignment -----------------------------------------------------------------------------------

TEST_CASE("the alignment is the greatest that a domain or an access asks for", "[attach]") {
  usual w;
  auto& t = w.table();
  CHECK(t.alignment() == 1);
  auto& half = w.add_domain(sizes({2048}));
  auto& whole = w.add_domain(sizes({page, 2 * mebibyte}));
  must(t.attach(half));
  CHECK(t.alignment() == 2048);
  must(t.attach(whole));
  CHECK(t.alignment() == page);
  t.detach(whole);
  CHECK(t.alignment() == 2048);
  usual::deaf_access object;
  must(object.attach(t));
  CHECK(t.alignment() == page);
  object.detach();
  usual::deaf_access reads_only(false);
  must(reads_only.attach(t));
  CHECK(t.alignment() == 2048);
  t.detach(half);
  CHECK(t.alignment() == 1);
  reads_only.detach();
}

TEST_CASE("large pages are switched off before there is a domain and an area, on at any time",
          "[attach]") {
  usual w;
  auto& t = w.table();
  must(t.map(w.at(0) + 1, 1, rw, w.io(1)));
  CHECK(text(t.disable_large_pages()) == "EADDRINUSE");
  CHECK(t.large_pages());
  CHECK(t.alignment() == 1);
  CHECK(text(t.unmap_all().outcome) == "ok");
  auto& d = w.attach_domain();
  must(t.disable_large_pages());
  must(t.disable_large_pages());
  CHECK(t.alignment() == page);
  must(t.map({2 * mebibyte}, 4 * mebibyte, rw, iova{0}));
  CHECK(d.entries(page) == 4 * mebibyte / page);
  must(t.disable_large_pages());  // off already
  t.enable_large_pages();
  CHECK(text(t.disable_large_pages()) == "EINVAL");
  must(t.map({2 * mebibyte}, 2 * mebibyte, rw, iova{8 * mebibyte}));
  CHECK(d.entries(2 * mebibyte) == 1);
  t.detach(d);
  CHECK(text(t.disable_large_pages()) == "ok");
}

// --- Filling from the cheapest holder ------------------------------------------------------------

TEST_CASE("a second domain is filled without a pin, a charge, or a run too many", "[attach]") {
  usual w;
  auto& t = w.table();
  auto& first = w.attach_domain();
  must(t.map({0}, gibibyte, rw, iova{0}));
  w.pinner.reset_calls();
  auto& second = w.attach_domain();
  CHECK(w.pinner.calls() == mock::pinner_calls{});
  CHECK(second.calls().runs + second.calls().map == 1);
  CHECK(first.contents() == second.contents());
  CHECK(t.domain_count() == 2);
}

TEST_CASE("what is left around a hole grows while the first domain is attached, and asks that one",
          "[attach]") {
  usual w(page);  // no two pages are one run
  auto& t = w.table();
  must(t.map(w.at(0), 8 * page, rw, w.io(0)));
  CHECK(t.unmap(w.io(1), page, unmap_profile::hole_punching).bytes == page);
  auto& d =
      w.attach_domain();  // one page is filled as it is; the six behind the hole are not one run
  CHECK(w.pinner.pinned_pages() == 7);
  CHECK(d.translate(w.io(5)) == w.pinner.frame_of(w.owner(), w.at(5)));
  CHECK(w.verify() == "");
  CHECK(t.detach(d));
  CHECK(w.pinner.pinned_pages() == 0);
  CHECK(w.verify() == "");
}

TEST_CASE("a domain of another table is asked for frames that only it has", "[attach]") {
  usual w(page);
  auto& a = w.add_table();
  auto& b = w.add_table();
  w.attach_domain(0);
  must(a.map(w.at(0), 8 * page, rw, w.io(0)));
  must(b.copy(a, w.pages_at(2, 4), rw, w.io(0)));
  w.pinner.reset_calls();
  auto& d = w.attach_domain(1);
  CHECK(w.pinner.calls().pin == 0);
  CHECK(w.pinner.charged() == 8);
  CHECK(d.translate(w.io(3)) == w.pinner.frame_of(w.owner(), w.at(5)));
}

TEST_CASE("pages that an access pinned are not pinned again, and stay when the domain goes",
          "[attach]") {
  usual w(page);
  auto& t = w.table();
  must(t.map(w.at(0), 8 * page, rw, w.io(0)));
  usual::deaf_access object;
  must(object.attach(t));
  must(object.pin(w.pages_at(2, 4), access_rights::read, no_frames));
  CHECK(w.pinner.pinned_pages() == 4);
  auto& d = w.attach_domain();
  CHECK(w.pinner.pinned_pages() == 8);
  CHECK(w.pinner.charged() == 8);
  CHECK(w.pinner.pins(w.owner(), w.at(3)) == 1);

  object.unpin(w.pages_at(2, 4));  // the domain still has them
  CHECK(w.pinner.pinned_pages() == 8);
  must(object.pin(w.pages_at(0, 2), access_rights::read, no_frames));
  CHECK(w.pinner.pinned_pages() == 8);
  w.account.refuse_all();
  CHECK(t.detach(d));
  w.account.refuse_all(false);
  CHECK(w.pinner.pinned_pages() == 2);
  CHECK(w.pinner.charged() == 2);
  CHECK(w.verify() == "");
  object.unpin(w.pages_at(0, 2));
  object.detach();
  CHECK(w.close() == "");
}

// --- Detach and replace --------------------------------------------------------------------------

TEST_CASE("whichever domain goes first, pages stay pinned until the last is gone", "[attach]") {
  for (const auto& order : {std::vector<std::size_t>{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {2, 1, 0}}) {
    usual w(page);
    auto& t = w.table();
    for (int n = 0; n < 3; ++n) w.attach_domain();
    must(t.map(w.at(0), 8 * page, rw, w.io(0)));
    for (std::size_t n = 0; n < 3; ++n) {
      CHECK(w.pinner.pinned_pages() == 8);
      w.account.refuse_all();
      CHECK(t.detach(*w.domains[order[n]]));
      w.account.refuse_all(false);
      CHECK(w.mock_of(order[n]).entries() == 0);
      CHECK(w.verify() == "");
      // Areas mapped in between have frames from a domain that is still there.
      must(t.map(w.at(16 + n), page, rw, w.io(16 + n)));
      must(t.copy(t, w.pages_at(0, 8), rw, w.io(32 + 8 * n)));
      CHECK(text(t.unmap(w.io(16 + n), page, unmap_profile::iommufd).outcome) == "ok");
      CHECK(text(t.unmap(w.io(32 + 8 * n), 8 * page, unmap_profile::iommufd).outcome) == "ok");
    }
    CHECK(w.pinner.is_idle());
    CHECK(t.area_count() == 1);
    CHECK(w.close() == "");
  }
}

TEST_CASE("the last domain of the list takes the place of the one that leaves", "[attach]") {
  usual w;
  auto& t = w.table();
  auto& a = w.attach_domain();
  w.attach_domain();
  auto& c = w.attach_domain();
  t.detach(a);
  CHECK(&t.domain(0) == &c);
  CHECK(t.domain_count() == 2);
}

TEST_CASE("replace puts one domain in the place of another, or leaves it", "[attach]") {
  usual w;
  auto& t = w.table();
  auto& old = w.attach_domain();
  must(t.map(w.at(0), 4 * page, rw, w.io(1)));
  const auto before = w.look();
  auto& narrow = w.add_domain({.page_sizes = {page}, .aperture = {w.io(2), {top}}});
  CHECK(text(t.replace(old, narrow)) == "EADDRINUSE");
  CHECK(before.tables == w.look().tables);
  CHECK(text(t.replace(old, old)) == "ok");
  auto& next = w.add_domain();
  const auto shown = old.contents();
  w.pinner.reset_calls();
  CHECK(text(t.replace(old, next)) == "ok");
  CHECK(old.entries() == 0);
  CHECK(next.contents() == shown);
  CHECK(w.pinner.calls() == mock::pinner_calls{});
  CHECK(&t.domain(0) == &next);
}

TEST_CASE("a table that is destroyed lets its domains and pages go", "[attach]") {
  usual w;
  auto& d = w.attach_domain();
  must(w.table().map(w.at(0), 4 * page, rw, w.io(1)));
  CHECK(w.close() == "");
  CHECK(d.entries() == 0);
}

TEST_CASE("a domain that comes back short at detach keeps its pins", "[attach]") {
  usual w;
  auto& t = w.table();
  auto& d = w.attach_domain();
  must(t.map(w.at(0), 4 * page, rw, w.io(0)));
  d.short_unmap_after(0);
  CHECK(!t.detach(d));
  CHECK(t.domain_count() == 0);
  CHECK(w.pinner.pins(w.owner(), w.at(3)) == 1);
}

// --- Reserved and allowed ranges ----------------------------------------------------------------

TEST_CASE("a reservation may not touch an area or an allowed range, but another reservation",
          "[reserve]") {
  usual w;
  auto& t = w.table();
  must(t.map(w.at(0), page, rw, w.io(1)));
  const iova_range allowed = w.pages_at(8, 2);
  must(t.allow({&allowed, 1}));
  const auto hit = t.reserve(w.pages_at(0, 2));
  CHECK(text(hit) == "EADDRINUSE");
  CHECK(hit.error().at == page);
  CHECK(text(t.reserve(w.pages_at(9, 4))) == "EADDRINUSE");
  CHECK(text(t.reserve(w.pages_at(16, 4))) == "ok");
  CHECK(text(t.reserve(w.pages_at(18, 4))) == "ok");
  CHECK(usable(t).size() == 2);
  CHECK(usable(t)[0].last == w.io(16) - 1);
  CHECK(usable(t)[1].first == w.io(22));
}

TEST_CASE("reservations go with their owner", "[reserve]") {
  usual w;
  auto& t = w.table();
  int a, b;
  must(t.reserve(w.pages_at(0, 4), &a));
  must(t.reserve(w.pages_at(2, 4), &b));
  must(t.reserve(w.pages_at(8, 4), &a));
  must(t.reserve(w.pages_at(20, 1)));
  t.unreserve(&a);
  CHECK(text(t.map(w.at(0), page, rw, w.io(2))) == "EINVAL");
  CHECK(text(t.map(w.at(0), page, rw, w.io(8))) == "0x8000");
  CHECK(text(t.map(w.at(0), page, rw, w.io(20))) == "EINVAL");
}

TEST_CASE("allowed ranges replace the list, or the old list stays", "[reserve]") {
  usual w;
  auto& t = w.table();
  must(t.reserve(w.pages_at(0, 2)));
  must(t.map(w.at(0), page, rw, w.io(4)));
  const std::vector<iova_range> good{w.pages_at(4, 2)};  // areas are no hindrance
  const std::vector<iova_range> reserved{w.pages_at(8, 2), w.pages_at(1, 2)};
  const std::vector<iova_range> twice{w.pages_at(0, 2), w.pages_at(1, 2)};  // before reserved ones
  must(t.allow(good));
  const auto refused = t.allow(reserved);
  CHECK(text(refused) == "EADDRINUSE");
  CHECK(refused.error().at == 1);
  CHECK(text(t.allow(twice)) == "EINVAL");
  w.account.refuse_all();
  CHECK(text(t.allow(reserved)) == "ENOMEM");
  w.account.refuse_all(false);
  CHECK(text(t.map({0}, page, rw)) == "0x5000");
  CHECK(text(t.map({0}, page, rw)) == "ENOSPC");
  const iova_range all = iova_range::whole();
  CHECK(text(t.allow({&all, 1})) == "EADDRINUSE");
}

TEST_CASE("allowed ranges may come one at a time, each looked at before the next", "[reserve]") {
  usual w;
  auto& t = w.table();
  must(t.reserve(w.pages_at(0, 2)));
  const std::vector<iova_range> list{w.pages_at(4, 2), w.pages_at(5, 2), w.pages_at(0, 1)};
  std::size_t asked = 0;
  std::size_t count = 2;
  errc then = errc::bad_address;
  const auto next = [&]() -> result<std::optional<iova_range>> {
    if (asked == list.size()) return fail(then);
    if (asked == count) return std::nullopt;
    return list[asked++];
  };
  CHECK(text(t.allow_each(next)) == "EINVAL");
  CHECK(asked == 2);
  asked = 0, count = 1;
  CHECK(text(t.allow_each(next)) == "ok");
  CHECK(text(t.map({0}, page, rw)) == "0x4000");
  asked = 2, count = 3;
  CHECK(text(t.allow_each(next)) == "EFAULT");    // before the ranges that are reserved
  CHECK(text(t.map({0}, page, rw)) == "0x5000");  // by the old list
  CHECK(text(t.map({0}, page, rw)) == "ENOSPC");
}

TEST_CASE("the domains can be looked at, one after the other", "[attach]") {
  usual w;
  std::vector<const void*> seen;
  const auto look = [&](const auto& d) { seen.push_back(&d); };
  w.table().for_each_domain(look);
  CHECK(seen.empty());
  w.attach_domain(), w.attach_domain();
  w.table().for_each_domain(look);
  CHECK(seen == std::vector<const void*>{w.domains[0].get(), w.domains[1].get()});
}

// --- Accounts ----------------------------------------------------------------------------------

TEST_CASE("a charge over the limit leaves nothing pinned, mapped or charged", "[account]") {
  for (const account_mode mode : {account_mode::user, account_mode::mm, account_mode::custom}) {
    usual w;
    auto& t = w.table();
    t.set_account_mode(mode);
    auto& d = w.attach_domain();
    w.pinner.set_limit(w.owner(), mode, 4);
    must(t.map(w.at(0), 3 * page, rw, w.io(0)));
    const auto before = w.look();
    CHECK(text(t.map(w.at(4), 2 * page, rw, w.io(4))) == "ENOMEM");
    CHECK(difference(before, w.look()) == "");
    CHECK(text(t.map(w.at(4), page, rw, w.io(4))) == "0x4000");
    CHECK(w.pinner.charged(w.owner(), mode) == 4);
    t.detach(d);
    CHECK(w.pinner.charged(w.owner(), mode) == 0);
  }
}

TEST_CASE("with account none nothing is limited, and pinned pages still count", "[account]") {
  usual w;
  auto& t = w.table();
  t.set_account_mode(account_mode::none);
  w.attach_domain();
  for (const account_mode mode : {account_mode::user, account_mode::mm})
    w.pinner.set_limit(w.owner(), mode, 0);
  must(t.map(w.at(0), 3 * page, rw, w.io(0)));
  CHECK(w.pinner.pinned_vm(w.owner()) == 3);
  CHECK(w.pinner.charged(w.owner(), account_mode::user) == 0);
  CHECK(w.pinner.charged(w.owner(), account_mode::mm) == 0);
}

TEST_CASE("the account of memory is that of its first map, for every copy", "[account]") {
  usual w;
  auto& a = w.add_table();
  auto& b = w.add_table();
  a.set_account_mode(account_mode::mm);
  must(a.map(w.at(0), 2 * page, rw, w.io(0)));
  a.set_account_mode(account_mode::none);
  must(b.copy(a, w.pages_at(0, 2), rw, w.io(0)));
  w.attach_domain(1);
  CHECK(w.pinner.charged(w.owner(), account_mode::mm) == 2);
  must(b.map(w.at(0), 2 * page, rw, w.io(8)));  // the same memory again: counted again
  CHECK(w.pinner.charged(w.owner(), account_mode::user) == 2);
  CHECK(w.pinner.pinned_vm(w.owner()) == 4);
}

TEST_CASE("processes of one user share its limit, address spaces do not", "[account]") {
  usual w;
  auto& t = w.table();
  w.attach_domain();
  const mock::process other = w.pinner.create_process(0);
  w.pinner.set_limit(w.owner(), account_mode::user, 3);
  must(t.map(t.user_memory(w.owner(), w.at(0)), 2 * page, rw, w.io(0)));
  CHECK(text(t.map(t.user_memory(other, w.at(0)), 2 * page, rw, w.io(2))) == "ENOMEM");
  t.set_account_mode(account_mode::mm);
  w.pinner.set_limit(w.owner(), account_mode::mm, 3);
  must(t.map(t.user_memory(w.owner(), w.at(0)), 2 * page, rw, w.io(4)));
  must(t.map(t.user_memory(other, w.at(0)), 2 * page, rw, w.io(6)));
}

TEST_CASE("each area of an attach is charged for itself, and all are given back on error",
          "[account]") {
  usual w;
  auto& t = w.table();
  must(t.map(w.at(0), 2 * page, rw, w.io(0)));
  must(t.map(w.at(2), 2 * page, rw, w.io(2)));
  w.pinner.set_limit(w.owner(), account_mode::user, 3);
  const auto before = w.look();
  auto& d = w.add_domain();
  const auto refused = t.attach(d);
  CHECK(text(refused) == "ENOMEM");
  CHECK(refused.error().at == 2 * page);
  CHECK(w.pinner.calls().charge == 2);
  CHECK(w.pinner.is_idle());
  CHECK(before.tables == w.look().tables);
}

TEST_CASE("what is held once more is not charged once more", "[account]") {
  usual w;
  auto& t = w.table();
  w.pinner.set_limit(w.owner(), account_mode::user, 4);
  w.attach_domain();
  must(t.map(w.at(0), 4 * page, rw, w.io(0)));
  must(t.copy(t, w.pages_at(0, 4), rw, w.io(8)));
  w.attach_domain();
  usual::deaf_access object;
  must(object.attach(t));
  must(object.pin(w.pages_at(0, 4), access_rights::read, no_frames));
  CHECK(w.pinner.charged() == 4);
  object.unpin(w.pages_at(0, 4));
  object.detach();
}

TEST_CASE("coherency is enforced where every domain can", "[attach]") {
  usual w;
  auto& t = w.table();
  CHECK(t.enforce_cache_coherency());
  w.attach_domain();
  CHECK(t.enforce_cache_coherency());
  auto& weak =
      w.add_domain(mock::domain_options{.page_sizes = {page}, .enforces_coherency = false});
  must(t.attach(weak));
  CHECK(!t.enforce_cache_coherency());
}

}  // namespace iopt::test
