// tests/core/storage_rules_test.cpp - who holds a page, who is asked for it, and who gives it back.
//
// Each page is pinned once however many hold it, and given back when nobody does: unmapped first,
// flushed, then unpinned, then uncharged. The pinner of the world watches every domain and stops
// the program where a page is unpinned that a device can still reach; the domains, where an unmap
// ends inside of what was mapped as one. All run on one kind of world, so that this file is built
// in a moment: the planted bugs of tests/bugs build it once for each rule.
#include <utility>
#include <vector>

#include "tests/catch.hpp"
#include "tests/core/engine_fixture.hpp"

namespace iopt::test {
namespace {

constexpr std::uint64_t page = usual::page;

/// One run for all memory, and a run for each page: what is stored, and what domains are asked for.
constexpr std::uint64_t contiguities[] = {mock::contiguity::contiguous, page};

std::vector<std::uint64_t> pins(const usual& w, std::uint64_t first, std::uint64_t count) {
  std::vector<std::uint64_t> all;
  for (std::uint64_t n = first; n < first + count; ++n)
    all.push_back(w.pinner.pins(w.owner(), usual::at(n)));
  return all;
}
using counts = std::vector<std::uint64_t>;

}  // namespace

TEST_CASE("a page is pinned and charged once, whoever holds it", "[hold]") {
  for (const std::uint64_t contiguity : contiguities) {
    usual w(contiguity);
    auto& t = w.table();
    w.attach_domain();
    must(t.map(w.at(0) + 1 * page, 4 * page, rw, w.io(1)));
    w.attach_domain();
    must(t.copy(t, w.pages_at(2, 2), rw, w.io(16)));
    usual::deaf_access object;
    must(object.attach(t));
    must(object.pin(w.pages_at(3, 2), access_rights::read, no_frames));
    CHECK(pins(w, 0, 6) == counts{0, 1, 1, 1, 1, 0});
    CHECK(w.pinner.charged(w.owner(), account_mode::user) == 4);
    CHECK(w.verify() == "");
    object.unpin(w.pages_at(3, 2));
    CHECK(w.verify() == "");
    object.detach();
    CHECK(text(t.unmap_all().outcome) == "ok");
    CHECK(w.pinner.is_idle());
    CHECK(w.close() == "");
  }
}

TEST_CASE("a table without domains pins what accesses pin, and nothing more", "[hold]") {
  usual w(page);
  auto& t = w.table();
  usual::deaf_access object;
  must(object.attach(t));
  must(t.map(w.at(0), 8 * page, rw, w.io(0)));
  CHECK(w.pinner.pinned_pages() == 0);
  must(object.pin(w.pages_at(2, 4), access_rights::read, no_frames));
  must(object.pin(w.pages_at(4, 3), access_rights::read, no_frames));
  CHECK(w.verify() == "");
  CHECK(pins(w, 0, 8) == counts{0, 0, 1, 1, 1, 1, 1, 0});
  object.unpin(w.pages_at(2, 4));
  CHECK(w.verify() == "");
  CHECK(pins(w, 0, 8) == counts{0, 0, 0, 0, 1, 1, 1, 0});
  object.unpin(w.pages_at(4, 3));
  CHECK(w.verify() == "");
  CHECK(w.pinner.is_idle());
  object.detach();
}

TEST_CASE("pins come before a domain, and outlast it", "[hold]") {
  for (const std::uint64_t contiguity : contiguities) {
    usual w(contiguity);
    auto& t = w.table();
    usual::deaf_access object;
    must(object.attach(t));
    must(t.map(w.at(0), 4 * page, rw, w.io(1)));
    must(object.pin(w.pages_at(2, 2), access_rights::read, no_frames));
    auto& d = w.attach_domain();
    CHECK(pins(w, 0, 4) == counts{1, 1, 1, 1});
    CHECK(w.verify() == "");
    CHECK(t.detach(d));
    CHECK(pins(w, 0, 4) == counts{0, 1, 1, 0});
    CHECK(w.pinner.charged(w.owner(), account_mode::user) == 2);
    CHECK(w.verify() == "");
    must(t.attach(d));
    object.unpin(w.pages_at(2, 2));
    CHECK(pins(w, 0, 4) == counts{1, 1, 1, 1});
    CHECK(w.verify() == "");
    object.detach();
    CHECK(w.close() == "");
  }
}

TEST_CASE("the frames of a domain that leaves are asked of the first that stays", "[storage]") {
  for (const std::uint64_t contiguity : contiguities) {
    usual w(contiguity);
    auto& t = w.table();
    for (int n = 0; n != 3; ++n) w.attach_domain();
    must(t.map(w.at(0), 4 * page, rw, w.io(1)));
    CHECK(t.detach(*w.domains[0]));
    CHECK(&t.domain(0) == w.domains[2].get());  // the last moves into the gap
    CHECK(w.verify() == "");
    CHECK(pins(w, 0, 4) == counts{1, 1, 1, 1});
    w.domains.erase(w.domains.begin());
    usual::deaf_access object;
    must(object.attach(t));
    std::vector<physical> frames;
    must(object.pin(w.pages_at(2, 2), access_rights::read, [&](const run& r) {
      for (std::uint64_t at = 0; at != r.length_bytes; at += page) frames.push_back(r.first + at);
    }));
    CHECK(frames == std::vector{w.pinner.frame_of(w.owner(), w.at(1)),
                                w.pinner.frame_of(w.owner(), w.at(2))});
    object.unpin(w.pages_at(2, 2));
    object.detach();
    CHECK(t.detach(t.domain(1)));
    CHECK(w.verify() == "");
    CHECK(pins(w, 0, 4) == counts{1, 1, 1, 1});
    CHECK(t.detach(t.domain(0)));
    CHECK(w.pinner.is_idle());
    CHECK(w.verify() == "");
    CHECK(w.close() == "");
  }
}

TEST_CASE("an attach that fails leaves nothing in the domain, and areas without it", "[storage]") {
  for (const std::size_t others : {std::size_t{0}, std::size_t{1}}) {
    usual w(page);
    auto& t = w.table();
    for (std::size_t n = 0; n != others; ++n) w.attach_domain();
    must(t.map(w.at(0), 2 * page, rw, w.io(1)));
    must(t.map(w.at(4), 2 * page, rw, w.io(8)));
    auto& late = w.add_domain();
    const snapshot before = w.look();
    w.faults.arm(mock::fault_point::map_runs, 1);
    CHECK(text(t.attach(late)) == "ENOENT");
    CHECK(difference(before, w.look()) == "");
    CHECK(w.verify() == "");
    must(t.attach(late));
    CHECK(w.verify() == "");
    CHECK(w.close() == "");
  }
}

TEST_CASE("a map that a later domain refuses is in none", "[storage]") {
  usual w(page);
  auto& t = w.table();
  for (int n = 0; n != 3; ++n) w.attach_domain();
  const snapshot before = w.look();
  w.faults.arm(mock::fault_point::map_runs, 2);
  CHECK(text(t.map(w.at(0), 4 * page, rw, w.io(1))) == "ENOENT");
  CHECK(difference(before, w.look()) == "");
  CHECK(w.pinner.is_idle());
  CHECK(w.close() == "");
}

TEST_CASE("over the limit nothing stays charged, pinned or mapped", "[charge]") {
  for (const std::uint64_t contiguity : contiguities) {
    usual w(contiguity);
    auto& t = w.table();
    usual::deaf_access object;
    must(object.attach(t));
    auto& d = w.attach_domain();
    must(t.map(w.at(8), 2 * page, rw, w.io(16)));
    w.pinner.set_limit(w.owner(), account_mode::user, 4);
    snapshot before = w.look();
    CHECK(text(t.map(w.at(0), 4 * page, rw, w.io(1))) == "ENOMEM");
    CHECK(difference(before, w.look()) == "");
    CHECK(t.detach(d));
    must(t.map(w.at(0), 4 * page, rw, w.io(1)));
    must(t.map(w.at(16), 2 * page, rw, w.io(0x20)));
    must(object.pin(w.pages_at(0x20, 2), access_rights::read, no_frames));
    before = w.look();
    CHECK(text(object.pin(w.pages_at(1, 4), access_rights::read, no_frames)) == "ENOMEM");
    CHECK(difference(before, w.look()) == "");
    CHECK(text(t.attach(d)) == "ENOMEM");  // its first area would have been within the limit
    CHECK(difference(before, w.look()) == "");
    CHECK(w.verify() == "");
    object.unpin(w.pages_at(0x20, 2));
    CHECK(w.pinner.is_idle());
    object.detach();
    CHECK(w.close() == "");
  }
}

TEST_CASE("pages in the middle that others show stay pinned, and go with the last", "[carry]") {
  for (const std::uint64_t contiguity : {contiguities[0], 4 * page, page}) {
    usual w(contiguity);
    auto& t = w.table();
    w.attach_domain();
    w.attach_domain();
    usual::deaf_access object;
    must(object.attach(t));
    must(t.map(w.at(0), 16 * page, rw, w.io(0)));
    must(t.copy(t, w.pages_at(2, 3), rw, w.io(0x20)));
    must(t.copy(t, w.pages_at(4, 1), rw, w.io(0x30)));
    must(t.copy(t, w.pages_at(9, 2), rw, w.io(0x40)));
    CHECK(w.verify() == "");
    CHECK(text(t.unmap(w.io(0), 16 * page, unmap_profile::iommufd).outcome) == "ok");
    CHECK(pins(w, 0, 16) == counts{0, 0, 1, 1, 1, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0});
    CHECK(w.pinner.charged() == 5);
    CHECK(w.verify() == "");
    must(object.pin(w.pages_at(0x40, 1), access_rights::read, no_frames));
    CHECK(text(t.unmap(w.io(0x20), 3 * page, unmap_profile::iommufd).outcome) == "ok");
    CHECK(pins(w, 2, 3) == counts{0, 0, 1});
    CHECK(t.detach(*w.domains[1]));
    CHECK(t.detach(*w.domains[0]));
    CHECK(pins(w, 0, 16) == counts{0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0});
    CHECK(w.pinner.charged() == 1);
    CHECK(w.verify() == "");
    object.unpin(w.pages_at(0x40, 1));
    CHECK(w.pinner.is_idle());
    object.detach();
    CHECK(w.close() == "");
  }
}

TEST_CASE("a page shown in halves goes with the second", "[carry]") {
  for (const std::uint64_t contiguity : contiguities) {
    usual w(contiguity);
    auto& t = w.table();
    must(t.attach(w.add_domain({.page_sizes = {page / 2}})));
    must(t.map(w.at(0) + page / 2, 3 * page, rw, w.io(1)));  // its ends are half pages
    CHECK(pins(w, 0, 4) == counts{1, 1, 1, 1});
    must(t.cut(w.io(2) + (page - 1)));  // in the middle of page 2
    CHECK(w.verify() == "");
    CHECK(text(t.unmap(w.io(1), 2 * page, unmap_profile::iommufd).outcome) == "ok");
    CHECK(pins(w, 0, 4) == counts{0, 0, 1, 1});
    CHECK(w.verify() == "");
    CHECK(text(t.unmap(w.io(3), page, unmap_profile::iommufd).outcome) == "ok");
    CHECK(w.pinner.is_idle());
    CHECK(w.close() == "");
  }
}

TEST_CASE("a cut leaves both parts holders of what they show", "[carry]") {
  for (const std::uint64_t contiguity : contiguities) {
    usual w(contiguity);
    auto& t = w.table();
    w.attach_domain();
    must(t.map(w.at(0), 8 * page, rw, w.io(1)));
    must(t.copy(t, w.pages_at(3, 1), rw, w.io(0x20)));
    must(t.cut(w.io(4) - 1));
    must(t.cut(w.io(7) - 1));
    CHECK(w.verify() == "");
    CHECK(text(t.unmap(w.io(4), 3 * page, unmap_profile::iommufd).outcome) == "ok");
    CHECK(w.verify() == "");
    CHECK(pins(w, 0, 8) == counts{1, 1, 1, 0, 0, 0, 1, 1});
    CHECK(text(t.unmap_all().outcome) == "ok");
    CHECK(w.close() == "");
  }
}

TEST_CASE("device memory is neither pinned nor charged", "[hold]") {
  usual w;
  auto& t = w.table();
  w.attach_domain();
  const mock::exporter exporter = w.pinner.create_exporter(8 * page);
  must(t.map(t.device_memory(exporter, 0), 4 * page, rw, w.io(1)));
  CHECK(w.pinner.is_idle());
  CHECK(w.verify() == "");
  CHECK(text(t.unmap_all().outcome) == "ok");
  CHECK(w.close() == "");
}

TEST_CASE("pages are given back as written where they may be written", "[hold]") {
  for (const std::uint64_t contiguity : contiguities) {
    usual w(contiguity);
    auto& t = w.table();
    w.attach_domain();
    must(t.map(w.at(0), 2 * page, rw, w.io(1)));
    must(t.map(w.at(2), 2 * page, access_rights::read, w.io(8)));
    CHECK(text(t.unmap_all().outcome) == "ok");
    for (const std::uint64_t n : {0u, 1u, 2u, 3u})
      CHECK(w.pinner.was_dirtied(w.pinner.frame_of(w.owner(), w.at(n))) == (n < 2));
    CHECK(w.close() == "");
  }
}

TEST_CASE("a copy shows the pages that are there, after its source is gone", "[hold]") {
  usual w(page);
  auto& t = w.table();
  auto& other = w.table(1);
  must(t.map(w.at(0) + 1, 3 * page, rw, w.io(1)));
  must(other.copy(t, iova_range::sized(w.io(2), page), rw, w.io(5)));
  must(other.copy(t, iova_range::sized(w.io(3) - 1, 2), rw, w.io(9)));
  CHECK(w.verify() == "");
  CHECK(text(t.unmap_all().outcome) == "ok");
  CHECK(w.verify() == "");
  CHECK(other.find(w.io(5))->from == w.at(1) + 1);
  CHECK(other.find(w.io(9))->from == w.at(2));
  CHECK(w.close() == "");
}

TEST_CASE("where an account says so, pages are charged as they are pinned", "[charge]") {
  mock::pinner pinner({.contiguity_bytes = 2 * page});
  const mock::process me = pinner.current();
  io_pagetable<mock::pinner, mock::domain> table(pinner);
  mock::domain domain;
  REQUIRE(table.attach(domain));
  const auto map = [&](std::uint64_t pages) {
    auto memory = table.user_memory({0x100000});
    memory.of.mode = account_mode::type1;
    const auto mapped = table.map(memory, pages * page, access_rights::read, iova{0x10000});
    return mapped ? std::string("0") : std::string(name(mapped.error().code));
  };
  pinner.set_limit(me, account_mode::mm, 4);
  pinner.set_hole(me, user_range::sized({0x106000}, page));
  CHECK(map(8) == "ENOMEM");  // the fifth page is over the limit, before the seventh faults
  pinner.set_limit(me, account_mode::mm, 6);
  CHECK(map(8) == "EFAULT");  // and here it is not
  CHECK(pinner.is_idle());
  CHECK(map(6) == "0");
  CHECK(pinner.charged(me, account_mode::mm) == 6);
  CHECK(pinner.pinned_vm(me) == 0);
  access_object<mock::pinner, mock::domain> user([](void*, iova_range) {});
  REQUIRE(user.attach(table));
  REQUIRE(table.detach(domain));
  CHECK(pinner.is_idle());
  pinner.set_limit(me, account_mode::mm, 3);
  CHECK(user.pin({{0x10000}, {0x13fff}}, access_rights::read, [](run) {}).error() ==
        errc::not_enough_memory);
  CHECK(pinner.is_idle());
  REQUIRE(user.pin({{0x10000}, {0x12fff}}, access_rights::read, [](run) {}));
  CHECK(pinner.charged(me, account_mode::mm) == 3);
  user.unpin({{0x10000}, {0x12fff}});
  CHECK(pinner.is_idle());
  user.detach();
}

}  // namespace iopt::test
