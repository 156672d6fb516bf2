// The reader of traces: no text makes it crash, what it takes is possible, what it refuses is told.
#include "examples/replay/trace.hpp"

#include <cstdint>
#include <fstream>
#include <iterator>
#include <map>
#include <random>
#include <string>

#include "tests/catch.hpp"

namespace {

using replay::event;

std::string contents_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  REQUIRE(file.good());
  return {std::istreambuf_iterator<char>(file), {}};
}

/// What parse() promises of a trace, checked page by page: "" where it holds.
std::string broken_promise(const replay::trace& t, std::uint64_t most_pages) {
  std::map<std::uint64_t, std::uint64_t> pages;
  std::uint64_t looked_at = 0;
  if (t.events.empty() || t.live_after.size() != t.events.size()) return "there are events";
  for (const event& e : t.events) {
    if (e.where.last < e.where.first || !e.where.is_aligned(4096)) return "ranges are pages";
    if (e.source % 4096 != 0 || e.source > iopt::top - e.where.length_minus_one())
      return "sources are pages and do not wrap";
    looked_at += e.where.length_minus_one() / 4096 + 1;
    if (looked_at > most_pages) return "";  // too large to be looked at by page
    for (std::uint64_t offset = 0; offset <= e.where.length_minus_one(); offset += 4096) {
      const std::uint64_t page = e.where.first.value + offset;
      if (e.what == event::kind::map && !pages.emplace(page, e.source + offset).second)
        return "no map hits a live mapping";
      if (e.what == event::kind::unmap && pages.erase(page) != 1)
        return "all of an unmap is mapped";
    }
  }
  return "";
}

TEST_CASE("the recorded traces are read whole", "[replay]") {
  struct expected {
    const char* name;
    std::size_t maps, unmaps, peak;
    replay::dialect spoken;
  };
  for (const expected& e :
       {expected{"qemu-q35-seabios-512m", 39, 29, 10, replay::dialect::vmm},
        expected{"qemu-q35-seabios-3g", 40, 29, 11, replay::dialect::vmm},
        expected{"linux-nvme-strict", 6167, 2313, 181, replay::dialect::linux_dma},
        expected{"linux-e1000e-strict", 6173, 5915, 322, replay::dialect::linux_dma}}) {
    CAPTURE(e.name);
    const auto t = replay::parse(contents_of("examples/traces/" + std::string(e.name) + ".trace"));
    REQUIRE(t.has_value());
    CHECK(t->maps == e.maps);
    CHECK(t->unmaps() == e.unmaps);
    CHECK(t->spoken == e.spoken);
    CHECK(*std::max_element(t->live_after.begin(), t->live_after.end()) == e.peak);
    CHECK(broken_promise(*t, std::uint64_t{1} << 20) == "");
  }
}

TEST_CASE("no mutation of a trace crashes its reader, and every refusal names a line",
          "[replay][model]") {
  const std::string seeds[] = {
      contents_of("examples/traces/qemu-q35-seabios-512m.trace"),
      contents_of("examples/traces/linux-nvme-strict.trace").substr(0, 4000),
      "add 0xfffffffffffff000 0xffffffffffffffff 0x7f0000000000\r\nadd 0 4095 4096 # twice\n",
  };
  const std::string pieces[] = {"add",
                                "del",
                                "map",
                                "unmap",
                                "0x",
                                "0xfffffffffffff000",
                                "0x1000",
                                "-1",
                                "4096",
                                "#",
                                "\n",
                                " ",
                                "\r\n",
                                "\t",
                                "0",
                                "\xff\xfe",
                                "18446744073709551615"};
  const std::uint64_t seed = 20251;
  CAPTURE(seed);
  std::mt19937_64 random(seed);
  const auto below = [&](std::size_t n) { return static_cast<std::size_t>(random() % n); };
  std::size_t accepted = 0, refused = 0;
  for (int round = 0; round != 20000; ++round) {
    std::string text = seeds[below(3)];
    const std::size_t start = below(text.size());
    if (below(2) == 0) text = text.substr(text.rfind('\n', start) + 1, 600);
    for (std::size_t n = below(6); n != 0 && !text.empty(); --n) {
      const std::size_t at = below(text.size());
      switch (below(6)) {
        case 0: text[at] = static_cast<char>(random()); break;
        case 1: text.erase(at, below(20)); break;
        case 2: text.insert(at, pieces[below(std::size(pieces))]); break;
        case 3: text.insert(at, text.substr(below(text.size()), below(60))); break;
        case 4: text[at] = "0123456789abcdef"[below(16)]; break;
        default: text.resize(at); break;
      }
    }
    const auto t = replay::parse(text);
    if (t) {
      ++accepted;
      const std::string broken = broken_promise(*t, 2000);
      if (!broken.empty()) FAIL(broken << " in\n" << text);
      continue;
    }
    ++refused;
    const auto lines = static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n')) + 1;
    const replay::trace_error& e = t.error();
    if (e.line > lines || e.reason.empty() || e.reason.find('\n') != std::string::npos)
      FAIL("line " << e.line << ": " << e.reason << " in\n" << text);
    for (const char c : e.reason)
      if (c < ' ' || c > '~') FAIL("not fit to be printed: " << e.reason);
  }
  CHECK(accepted > 100);
  CHECK(refused > 100);
}

TEST_CASE("an unmap may cut a mapping, and what is left may be unmapped later", "[replay]") {
  const auto t = replay::parse(
      "map 0x10000 0x80000 0x10000\nunmap 0x14000 0x4000\nmap 0x14000 0 0x1000\n"
      "unmap 0x10000 0x5000\nunmap 0x18000 0x8000\n");
  REQUIRE(t.has_value());
  CHECK(t->live_after == std::vector<std::size_t>{1, 2, 3, 1, 0});
  const auto refused = replay::parse(
      "map 0x10000 0x80000 0x10000\nunmap 0x14000 0x4000\n"
      "unmap 0x13000 0x2000\n");
  REQUIRE(!refused.has_value());
  CHECK(refused.error().line == 3);
  CHECK(refused.error().reason == "nothing is mapped at 0x14000 of [0x13000, 0x14fff]");
}

}  // namespace
