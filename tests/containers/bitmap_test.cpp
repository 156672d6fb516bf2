// tests/containers/bitmap_test.cpp - bitmaps against std::vector<bool>, at any alignment.
#include "iopt/containers/bitmap.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <random>
#include <vector>

#include "tests/catch.hpp"

using namespace iopt;

namespace {

iova_range range(std::uint64_t first, std::uint64_t last) { return {{first}, {last}}; }

/// A piece of memory whose bytes outside of a bitmap are known.
struct guarded {
  std::vector<std::byte> memory;
  std::size_t offset;
  std::uint64_t bytes;
  guarded(std::uint64_t size_bytes, std::size_t at)
      : memory(static_cast<std::size_t>(size_bytes) + at + 16, std::byte{0xa5}),
        offset(at),
        bytes(size_bytes) {
    std::fill_n(memory.begin() + static_cast<long>(at), size_bytes, std::byte{0});
  }
  std::byte* data() { return memory.data() + offset; }
  bool intact() const {
    for (std::size_t n = 0; n < memory.size(); ++n) {
      if ((n < offset || n >= offset + bytes) && memory[n] != std::byte{0xa5}) return false;
    }
    return true;
  }
};

std::vector<bit_range> runs_of(const std::vector<bool>& bits, std::uint64_t first,
                               std::uint64_t last) {
  std::vector<bit_range> out;
  for (std::uint64_t n = first; n <= last; ++n) {
    if (!bits[n]) continue;
    if (!out.empty() && out.back().last.value + 1 == n) {
      out.back().last.value = n;
    } else {
      out.push_back({{n}, {n}});
    }
  }
  return out;
}

std::vector<iova_range> dirty_of(const dirty_bitmap& d) {
  std::vector<iova_range> out;
  d.for_each_dirty([&](iova_range r) { out.push_back(r); });
  return out;
}

}  // namespace

TEST_CASE("bitmap_view: model", "[bitmap][model]") {
  for (const std::uint64_t seed : {51u, 52u, 53u, 54u, 55u, 56u, 57u, 58u}) {
    CAPTURE(seed);
    std::mt19937_64 engine(seed);
    const std::uint64_t size = 1 + engine() % (seed % 2 == 0 ? 700 : 90);
    guarded memory(bitmap_view::bytes_for(size), seed % 8);
    bitmap_view subject(memory.data(), size);
    std::vector<bool> bits(size);
    // The bits that pad the last byte are somebody else's.
    const std::byte padding = size % 8 == 0 ? std::byte{0} : std::byte(0xff << (size % 8) & 0xff);
    memory.data()[memory.bytes - 1] |= padding;
    for (int step = 0; step < 20'000; ++step) {
      CAPTURE(step);
      const std::uint64_t a = engine() % size;
      const std::uint64_t b =
          engine() % 4 != 0 ? std::min(size - 1, a + engine() % 12) : engine() % size;
      const std::uint64_t first = std::min(a, b);
      const std::uint64_t last = std::max(a, b);
      const auto from = bits.begin() + static_cast<long>(first);
      const auto to = bits.begin() + static_cast<long>(last) + 1;
      switch (engine() % 8) {
        case 0:
        case 1: subject.set(first, last), std::fill(from, to, true); break;
        case 2:
        case 3: subject.clear(first, last), std::fill(from, to, false); break;
        case 4: subject.set(first), bits[first] = true; break;
        case 5: subject.clear(last), bits[last] = false; break;
        case 6:
          if (subject.count(first, last) !=
              static_cast<std::uint64_t>(std::count(from, to, true))) {
            FAIL("count");
          }
          break;
        default: {
          std::vector<bit_range> runs;
          subject.for_each_run(first, last, [&](bit_range r) { runs.push_back(r); });
          if (runs != runs_of(bits, first, last)) FAIL("for_each_run");
        }
      }
      for (std::uint64_t n = first; n <= last; ++n) {
        if (subject.test(n) != bits[n]) FAIL("test of " << n);
      }
      if (step % 64 == 0) {
        std::vector<bit_range> runs;
        subject.for_each_run([&](bit_range r) { runs.push_back(r); });
        if (runs != runs_of(bits, 0, size - 1)) FAIL("for_each_run of all");
        if (subject.count() !=
            static_cast<std::uint64_t>(std::count(bits.begin(), bits.end(), true))) {
          FAIL("count of all");
        }
        if (!memory.intact()) FAIL("wrote outside");
        if ((memory.data()[memory.bytes - 1] & padding) != padding) FAIL("changed the padding");
      }
    }
  }
}

TEST_CASE("bitmap_view: the order of bits is that of the uAPI", "[bitmap]") {
  std::byte memory[3] = {};
  bitmap_view b(memory, 24);
  b.set(0);
  b.set(9, 17);
  REQUIRE(memory[0] == std::byte{0x01});
  REQUIRE(memory[1] == std::byte{0xfe});
  REQUIRE(memory[2] == std::byte{0x03});
  REQUIRE(b.size_bytes() == 3);
  REQUIRE(bitmap_view(memory, 17).size_bytes() == 3);
  bitmap_view none;
  REQUIRE(none.count() == 0);
  none.for_each_run([](bit_range) { FAIL("a run of nothing"); });
}

TEST_CASE("bitmap_view: neighbours are one run across words", "[bitmap][cost]") {
  std::vector<std::byte> memory(131072 + 1);
  bitmap_view b(memory.data() + 1, 1 << 20);
  b.set(3, (1 << 20) - 2);
  int runs = 0;
  b.for_each_run([&](bit_range r) {
    ++runs;
    REQUIRE(r == bit_range{{3}, {(1 << 20) - 2}});
  });
  REQUIRE(runs == 1);
}

TEST_CASE("dirty_bitmap: model", "[bitmap][model]") {
  for (std::uint64_t seed = 61; seed < 69; ++seed) {
    CAPTURE(seed);
    std::mt19937_64 engine(seed);
    // The range lies at the bottom, at the top or in between; its ends need no alignment.
    const std::uint64_t length = 1 + engine() % 1500;
    const std::uint64_t base = seed % 3 == 0   ? 0
                               : seed % 3 == 1 ? top - length + 1
                                               : 7'654'321 + engine() % 100;
    const iova_range whole = iova_range::sized({base}, length);
    const std::uint64_t page = std::uint64_t{1} << engine() % 7;
    const std::uint64_t pages = dirty_bitmap::page_count(whole, page);
    REQUIRE(pages == (length + page - 1) / page);
    guarded memory(dirty_bitmap::size_bytes(whole, page), seed % 8);
    dirty_bitmap subject(memory.data(), whole, page);
    std::vector<bool> dirty(pages);
    for (int step = 0; step < 15'000; ++step) {
      CAPTURE(step);
      if (step % 50 == 0) {
        subject.bits().clear(0, pages - 1);
        dirty.assign(pages, false);
      }
      // A range that may stick out on either side.
      const std::uint64_t reach = length + 40;
      const std::uint64_t low = base < 20 ? 0 : base - 20;
      std::uint64_t a = low + engine() % std::min(reach, top - low);
      std::uint64_t b = engine() % 4 != 0 ? a + engine() % 30 : low + engine() % reach;
      if (b < low) b = top;
      if (a > b) std::swap(a, b);
      if (engine() % 64 == 0) b = top;
      if (engine() % 64 == 0) a = 0;
      subject.record(range(a, b));
      for (std::uint64_t n = 0; n < pages; ++n) {
        const std::uint64_t first = base + n * page;
        const std::uint64_t last = first + std::min(page - 1, whole.last.value - first);
        if (a <= last && first <= b) dirty[n] = true;
      }
      if (step % 8 != 0) continue;
      std::vector<iova_range> expected;
      for (const bit_range run : runs_of(dirty, 0, pages - 1)) {
        const std::uint64_t end = base + run.last.value * page;
        expected.push_back(
            range(base + run.first.value * page, end + std::min(page - 1, whole.last.value - end)));
      }
      if (dirty_of(subject) != expected) FAIL("for_each_dirty");
      const std::uint64_t one = base + engine() % length;
      if (subject.is_dirty({one}) != dirty[(one - base) / page]) FAIL("is_dirty");
      // And in another page size, over another range.
      const std::uint64_t other_page = std::uint64_t{1} << engine() % 9;
      const std::uint64_t cut = engine() % length;
      const iova_range part = iova_range::sized({base + cut}, 1 + engine() % (length - cut));
      guarded other_memory(dirty_bitmap::size_bytes(part, other_page), engine() % 8);
      dirty_bitmap other(other_memory.data(), part, other_page);
      convert(subject, other);
      const std::uint64_t others = dirty_bitmap::page_count(part, other_page);
      std::vector<bool> converted(others);
      for (std::uint64_t i = part.first.value - base; i <= part.last.value - base; ++i) {
        if (dirty[i / page]) converted[(base + i - part.first.value) / other_page] = true;
      }
      for (std::uint64_t n = 0; n < others; ++n) {
        if (other.bits().test(n) != converted[n]) FAIL("convert");
      }
      if (!memory.intact() || !other_memory.intact()) FAIL("wrote outside");
    }
  }
}

TEST_CASE("dirty_bitmap: client page index above 255, combined", "[bitmap][regression]") {
  // 4 KiB pages into 2 MiB pages over 1.2 GiB: the dirty 2 MiB page 300 is page 300, not 44.
  const iova_range whole = iova_range::sized({0x100000000}, 1'288'490'188 / 0x200000 * 0x200000);
  std::vector<std::byte> fine_memory(dirty_bitmap::size_bytes(whole, 4096));
  std::vector<std::byte> coarse_memory(dirty_bitmap::size_bytes(whole, 0x200000));
  dirty_bitmap fine(fine_memory.data(), whole, 4096);
  dirty_bitmap coarse(coarse_memory.data(), whole, 0x200000);
  fine.record(iova_range::sized(whole.first + 300 * 0x200000ull + 17 * 4096, 1));
  convert(fine, coarse);
  REQUIRE(coarse.bits().count() == 1);
  REQUIRE(coarse.bits().test(300));
  REQUIRE(dirty_of(coarse) ==
          std::vector<iova_range>{iova_range::sized(whole.first + 300 * 0x200000ull, 0x200000)});
}

TEST_CASE("dirty_bitmap: client page index above 255, extended", "[bitmap][regression]") {
  // 8 KiB pages into 4 KiB pages, 512 client bits.
  const iova_range whole = iova_range::sized({0}, 256 * 8192);
  std::vector<std::byte> coarse_memory(dirty_bitmap::size_bytes(whole, 8192));
  std::vector<std::byte> fine_memory(dirty_bitmap::size_bytes(whole, 4096));
  dirty_bitmap coarse(coarse_memory.data(), whole, 8192);
  dirty_bitmap fine(fine_memory.data(), whole, 4096);
  coarse.record(range(130 * 8192, 130 * 8192));
  coarse.record(range(255 * 8192, 255 * 8192));
  convert(coarse, fine);
  REQUIRE(fine.bits().size() == 512);
  REQUIRE(fine.bits().count() == 4);
  for (const std::uint64_t bit : {260u, 261u, 510u, 511u}) REQUIRE(fine.bits().test(bit));
}

TEST_CASE("dirty_bitmap: bit numbers above 2^32", "[bitmap][regression]") {
  // 2^35 bits of address space are reserved; the few pages that are touched exist.
  const std::uint64_t size_bytes = std::uint64_t{1} << 32;
  void* const memory = ::mmap(nullptr, size_bytes, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  REQUIRE(memory != MAP_FAILED);
  const iova_range whole =
      iova_range::sized({top - (std::uint64_t{1} << 47) + 1}, std::uint64_t{1} << 47);
  REQUIRE(dirty_bitmap::size_bytes(whole, 4096) == size_bytes);
  dirty_bitmap d(static_cast<std::byte*>(memory), whole, 4096);
  const std::uint64_t bit = (std::uint64_t{1} << 32) + 5;
  d.record(iova_range::sized(whole.first + bit * 4096, 3 * 4096));
  d.record(range(top, top));
  REQUIRE(!d.bits().test(5));
  REQUIRE(d.bits().count(bit - 1, bit + 1000) == 3);
  REQUIRE(d.bits().test((std::uint64_t{1} << 35) - 1));
  std::vector<bit_range> runs;
  d.bits().for_each_run(bit - 9, bit + 9, [&](bit_range r) { runs.push_back(r); });
  REQUIRE(runs == std::vector<bit_range>{{{bit}, {bit + 2}}});
  REQUIRE(d.addresses_of(runs[0]) == iova_range::sized(whole.first + bit * 4096, 3 * 4096));
  ::munmap(memory, size_bytes);
}

TEST_CASE("dirty_bitmap: the whole space", "[bitmap][regression]") {
  // Page counts of 2^52 and 2^63, and pages as large as a space can have.
  static_assert(dirty_bitmap::page_count(iova_range::whole(), 4096) == std::uint64_t{1} << 52);
  static_assert(dirty_bitmap::page_count(iova_range::whole(), 2) == std::uint64_t{1} << 63);
  static_assert(dirty_bitmap::page_count(iova_range{{0}, {top - 1}}, 1) == top);
  std::byte memory{};
  dirty_bitmap d(&memory, iova_range::whole(), std::uint64_t{1} << 63);
  d.record(range(top, top));
  REQUIRE(memory == std::byte{2});
  REQUIRE(dirty_of(d) == std::vector<iova_range>{range(std::uint64_t{1} << 63, top)});
  d.record(iova_range::whole());
  REQUIRE(dirty_of(d) == std::vector<iova_range>{iova_range::whole()});
}
