// The replay itself: its checker finds what is planted, memory is shown again and not pinned again,
// and a scale leaves nothing out. The program's parts are compiled in here.
#include <random>
#include <string>

#include "examples/replay/checker.cpp"
#include "examples/replay/guest_memory.cpp"
#include "examples/replay/machine.cpp"
#include "examples/replay/picture.cpp"
#include "tests/catch.hpp"

namespace {

using replay::checker;
using replay::guest_memory;
using replay::machine;

constexpr std::uint64_t block = 2 * iopt::mebibyte;

struct rig {
  replay::trace t;
  std::unique_ptr<guest_memory> memory;
  std::unique_ptr<machine> host;
  std::unique_ptr<checker> check;

  explicit rig(const char* text, std::size_t domains = 2,
               iopt::unmap_profile profile = iopt::unmap_profile::type1_v2) {
    auto parsed = replay::parse(text);
    REQUIRE(parsed.has_value());
    t = std::move(*parsed);
    auto made = guest_memory::create(t, 1, block, [](std::uint64_t, std::uint64_t) {});
    REQUIRE(made.has_value());
    memory = std::move(*made);
    host = std::make_unique<machine>(
        *memory, replay::machine_options{.domains = domains, .profile = profile});
    check = std::make_unique<checker>(*host);
    for (const replay::event& e : t.events) {
      REQUIRE(host->replay(e, 0, 0) == "");
      REQUIRE(check->after(e, 0) == "");
    }
  }
};

constexpr const char* plain =
    "add 0x0 0x7fffff 0x7f0000000000\n"
    "add 0x1000000 0x1003fff 0x7f0001000000\n"
    "add 0x2000000 0x20fffff 0x7f0002000000\n";

bool tells(const std::string& fault, const std::string& words) {
  INFO(fault);
  return fault.find(words) != std::string::npos;
}

TEST_CASE("the checker finds an entry that shows another frame, in either domain", "[replay]") {
  for (const std::size_t n : {0U, 1U}) {
    rig r(plain);
    iopt::mock::domain& domain = r.host->domain(n);
    const iopt::iova_range broken{{0x1000000}, {0x1003fff}};
    const iopt::physical right = *domain.translate(broken.first);
    REQUIRE(domain.unmap(broken) == broken.length());
    const iopt::physical other = *domain.translate({0x2000000});
    REQUIRE(domain.map(broken, other, {iopt::access_rights::read_write}).has_value());
    CHECK(tells(r.check->everything(), "where a device finds another page"));
    CHECK(tells(r.check->everything(), "domain " + std::to_string(n)));
    static_cast<void>(right);
    CHECK(domain.unmap(broken) == broken.length());
    CHECK(tells(r.check->everything(), "translates to nothing"));
    // Put back, page by page, from what the memory itself says.
    for (std::uint64_t at = 0; at != broken.length(); at += 4096)
      REQUIRE(domain
                  .map(iopt::iova_range::sized(broken.first + at, 4096),
                       *r.memory->frame_at(0, 0x7f0001000000 + at),
                       {iopt::access_rights::read_write})
                  .has_value());
    CHECK(r.check->everything() == "");
    CHECK(r.host->close() == "");
  }
}

TEST_CASE("the checker finds a page too many, and a frame beyond the machine", "[replay]") {
  rig r(plain);
  const iopt::iova_range extra{{0x9000000}, {0x9000fff}};
  iopt::mock::domain& domain = r.host->domain(1);
  REQUIRE(domain.map(extra, *domain.translate({0}), {iopt::access_rights::read_write}).has_value());
  CHECK(tells(r.check->everything(), "bytes are mapped, where the trace has"));
  const replay::event gone{replay::event::kind::unmap, extra, 0, 9};
  CHECK(tells(r.check->after(gone, 0), "just unmapped, still translates"));
  REQUIRE(domain.unmap(extra) == 4096);

  const iopt::iova_range broken{{0x1000000}, {0x1003fff}};
  REQUIRE(domain.unmap(broken) == broken.length());
  REQUIRE(
      domain.map(broken, {std::uint64_t{1} << 50}, {iopt::access_rights::read_write}).has_value());
  CHECK(tells(r.check->everything(), "where the machine has no memory"));
}

TEST_CASE("the checker finds a pin too many, and one too few", "[replay]") {
  rig r(plain);
  std::array<iopt::run, 8> storage;
  iopt::run_list runs(storage);
  const iopt::user_address page = r.memory->user_at(0, 0x7f0000001000);
  REQUIRE(r.host->pinner()
              .pin(r.host->pinner().current(), iopt::user_range::sized(page, 4096),
                   iopt::access_rights::read, runs)
              .has_value());
  CHECK(tells(r.check->everything(), "is pinned 2 times"));
  r.host->pinner().unpin(runs[0], false);
  CHECK(r.check->everything() == "");
  r.host->pinner().unpin(runs[0], false);
  CHECK(tells(r.check->everything(), "is pinned 0 times"));
  runs.clear();
  REQUIRE(r.host->pinner()
              .pin(r.host->pinner().current(), iopt::user_range::sized(page, 4096),
                   iopt::access_rights::read, runs)
              .has_value());
  CHECK(r.check->everything() == "");
}

TEST_CASE("a pin that is left at the end is told", "[replay]") {
  rig r("add 0x0 0x3fff 0x7f0000000000\ndel 0x0 0x3fff\n");
  std::array<iopt::run, 8> storage;
  iopt::run_list runs(storage);
  REQUIRE(r.host->pinner()
              .pin(r.host->pinner().current(),
                   iopt::user_range::sized(r.memory->user_at(0, 0x7f0000000000), 4096),
                   iopt::access_rights::read, runs)
              .has_value());
  CHECK(tells(r.check->everything(), "1 pins on 1 frames, where 0 pages are shown"));
  CHECK(tells(r.host->close(), "leaked pins: 1 pages are still pinned"));
  r.host->pinner().unpin(runs[0], false);
}

TEST_CASE("the checker finds memory that changed under its tag", "[replay]") {
  rig r(plain, 1);
  const std::uint64_t page = r.memory->page_at(0, 0x7f0002003000);
  std::byte* const byte = reinterpret_cast<std::byte*>(static_cast<std::uintptr_t>(
      r.memory->user_at(0, 0x7f0002003000).value + replay::tag_offset(page)));
  *byte ^= std::byte{1};
  CHECK(tells(r.check->everything(), "domain 0: 0x2003000 translates to"));
  *byte ^= std::byte{1};
  CHECK(r.check->everything() == "");
}

TEST_CASE("memory shown already is shown again without a pin, whole, in part and across",
          "[replay]") {
  for (const iopt::unmap_profile profile :
       {iopt::unmap_profile::type1_v2, iopt::unmap_profile::exact,
        iopt::unmap_profile::hole_punching}) {
    CAPTURE(iopt::name(profile));
    rig r(
        "add 0x100000 0x103fff 0x7f0000010000\n"  // 4 pages
        "add 0x200000 0x200fff 0x7f0000011000\n"  // one of them again
        "add 0x300000 0x30ffff 0x7f0000008000\n"  // all of them, 8 before and 4 after
        "add 0x400000 0x402fff 0x7f0000016000\n"  // from what only the third shows, and on
        "del 0x100000 0x103fff\n"                 // the first to be pinned goes first
        "add 0x100000 0x103fff 0x7f0000010000\n",
        2, profile);
    CHECK(r.host->pinner().pages_ever_pinned() == 4 + 12 + 1);
    CHECK(r.host->stats().reused_pages == 1 + 4 + 2 + 4);
    CHECK(r.host->pinner().pinned_pages() == 17);
    CHECK(r.host->plug_in_again() == "");
    CHECK(r.host->stats().plug_in_pins == 0);
    CHECK(r.check->everything() == "");
    CHECK(r.host->close() == "");
  }
}

TEST_CASE("frames of a DMA trace are the trace's own", "[replay]") {
  rig r("map 0xfffff000 0x7fef5000 0x1000\nmap 0x10000 0x0 0x3000\nmap 0x20000 0x7fef4000 0x3000\n",
        1);
  const std::uint64_t shift = iopt::gibibyte;  // since frame 0 is nobody's
  CHECK(r.host->domain(0).translate({0xfffff123})->value == shift + 0x7fef5123);
  CHECK(r.host->domain(0).translate({0x22000})->value == shift + 0x7fef6000);
  CHECK(r.host->domain(0).translate({0x10000})->value == shift);
  CHECK(r.host->pinner().pinned_pages() == 6);
}

TEST_CASE("a scale covers the address space, cuts where it may, and merges what is too fine",
          "[replay][model]") {
  const std::uint64_t seed = 77;
  CAPTURE(seed);
  std::mt19937_64 random(seed);
  for (int round = 0; round != 2000; ++round) {
    std::vector<iopt::iova_range> used;
    const std::uint64_t base = round % 3 == 0 ? iopt::top - (std::uint64_t{1} << 24) + 1 : 0;
    for (std::size_t n = random() % 60; n != 0; --n) {
      const std::uint64_t first = base + random() % 4000 * 4096;
      used.push_back({{first}, {first + (random() % 90 + 1) * 4096 - 1}});
    }
    const std::vector<iopt::iova_range> reserved{{{0xfee00000}, {0xfeefffff}}};
    const std::size_t most = 20 + random() % 100;
    const std::vector<replay::stretch> scale = replay::cut_scale(used, reserved, most);
    REQUIRE(scale.front().where.first.value == 0);
    REQUIRE(scale.back().where.last.value == iopt::top);
    for (std::size_t n = 1; n < scale.size(); ++n)
      if (scale[n].where.first.value - 1 != scale[n - 1].where.last.value) FAIL("a gap or overlap");
    REQUIRE(scale.size() <= most + 8);
    for (const iopt::iova_range& r : used) {
      for (const replay::stretch& s : scale)
        if (s.where.overlaps(r) && s.what != replay::stretch::kind::used) FAIL("used, but a hole");
    }
  }
}

TEST_CASE("numbers are told as people read them", "[replay]") {
  CHECK(replay::bytes_text(4095) == "4 KiB");
  CHECK(replay::bytes_text(3 * iopt::gibibyte - 1) == "3 GiB");
  CHECK(replay::bytes_text(iopt::top) == "16 EiB");
  CHECK(replay::bytes_text(0x9ffff) == "640 KiB");
  CHECK(replay::count_text(0) == "0");
  CHECK(replay::count_text(786432) == "786,432");
  CHECK(replay::count_text(1000) == "1,000");
  CHECK(replay::region_name(0) == "A");
  CHECK(replay::region_name(27) == "B1");
}

}  // namespace
