// bench/mock/mock.cpp - the domain and the memory that every contender of a bench works on.
#include "bench/mock/mock.h"

#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <random>
#include <utility>
#include <vector>

namespace {

using iopt::run;
using u64 = std::uint64_t;

// --- Tables: pages of 4 KiB from a free list, in huge pages of the host as a kernel's are ---

void* huge_memory(std::size_t bytes) {
  constexpr std::size_t huge = std::size_t{2} << 20;
  void* const got = mmap(nullptr, bytes + huge, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (got == MAP_FAILED) std::abort();
  const auto aligned = (reinterpret_cast<std::uintptr_t>(got) + huge - 1) & ~(huge - 1);
  auto* const place = reinterpret_cast<std::byte*>(aligned);
  madvise(place, bytes, MADV_HUGEPAGE);
  for (std::size_t at = 0; at < bytes; at += 4096) place[at] = std::byte{0};
  return place;
}

struct free_page {
  free_page* next;
};
free_page* free_pages = nullptr;

void put_page(void* page) { free_pages = new (page) free_page{free_pages}; }

void* take_page() {
  if (free_pages == nullptr) {
    constexpr std::size_t bytes = std::size_t{64} << 20;
    auto* const more = static_cast<std::byte*>(huge_memory(bytes));
    for (std::size_t at = bytes; at != 0; at -= 4096) put_page(more + at - 4096);
  }
  return std::exchange(free_pages, free_pages->next);
}

// --- The domain ---

constexpr u64 present = 1, large = 0x80, dirty_bit = 0x200, address_bits = 0x000ffffffffff000;

struct state {
  u64* root;
  u64 page_sizes;
};
constexpr std::size_t state_bytes = 64;
static_assert(sizeof(state) <= state_bytes);

state& of(void* domain) {
  return *std::launder(reinterpret_cast<state*>(static_cast<std::byte*>(domain) - state_bytes));
}
const state& of(const void* domain) { return of(const_cast<void*>(domain)); }

constexpr unsigned shift_of(unsigned level) { return 12 + 9 * level; }
constexpr u64 size_of(unsigned level) { return u64{1} << shift_of(level); }
constexpr std::size_t index_of(u64 iova, unsigned level) { return iova >> shift_of(level) & 511; }
constexpr bool is_table(u64 entry) { return (entry & (present | large)) == present; }
u64* table_of(u64 entry) { return reinterpret_cast<u64*>(entry & address_bits); }
constexpr u64 flags(unsigned level, int rights) {
  return present | (level != 0 ? large : 0) | static_cast<u64>(rights & 3) << 1;
}

u64* new_table() { return static_cast<u64*>(std::memset(take_page(), 0, 4096)); }

void free_table(u64* table, unsigned level) {
  if (level != 0) {
    for (std::size_t n = 0; n < 512; ++n)
      if (is_table(table[n])) free_table(table_of(table[n]), level - 1);
  }
  put_page(table);
}

/// The table of a level that an address is in; made where it is not there.
u64* make_table(void* domain, u64 iova, unsigned level) {
  u64* table = of(domain).root;
  for (unsigned at = 3; at > level; --at) {
    u64& entry = table[index_of(iova, at)];
    if ((entry & present) == 0) [[unlikely]]
      entry = reinterpret_cast<u64>(new_table()) | present;
    table = table_of(entry);
  }
  return table;
}

/// One table's entries from that of an address on: `at` is the first; `level` that of the table;
/// `owner` what points to the table, or null for the root.
struct place {
  u64* table;
  u64* owner;
  unsigned level;
};
place find(const void* domain, u64 iova) {
  place here{of(domain).root, nullptr, 3};
  for (;;) {
    u64& entry = here.table[index_of(iova, here.level)];
    if (here.level == 0 || !is_table(entry)) return here;
    here = {table_of(entry), &entry, here.level - 1};
  }
}
constexpr bool is_leaf(u64 entry, unsigned level) {
  return (entry & present) != 0 && (level == 0 || (entry & large) != 0);
}

int map_pages(void* domain, unsigned long iova, u64 physical, std::size_t page_bytes,
              std::size_t count, int rights, unsigned, std::size_t* mapped) {
  const unsigned level = page_bytes == size_of(0) ? 0 : page_bytes == size_of(1) ? 1 : 2;
  const u64 with = flags(level, rights);
  while (count != 0) {
    u64* const table = make_table(domain, iova, level);
    const std::size_t first = index_of(iova, level);
    const std::size_t some = std::min(count, 512 - first);
    for (std::size_t n = first; n < first + some; ++n, physical += page_bytes) {
      if (level != 0 && is_table(table[n])) [[unlikely]]
        free_table(table_of(table[n]), level - 1);  // one that is empty and was left over
      table[n] = physical | with;
    }
    count -= some;
    iova += some * page_bytes;
    *mapped += some * page_bytes;
  }
  return 0;
}

std::size_t unmap_pages(void* domain, unsigned long iova, std::size_t page_bytes, std::size_t count,
                        void*) {
  const u64 start = iova, end = iova + page_bytes * count;
  while (iova < end) {
    const place here = find(domain, iova);
    const std::size_t first = index_of(iova, here.level);
    std::size_t n = first;
    for (; n < 512 && iova < end && is_leaf(here.table[n], here.level); ++n) {
      here.table[n] = 0;
      iova += size_of(here.level);
    }
    if (n == first) break;
    if (first == 0 && n == 512 && here.owner != nullptr) {
      *here.owner = 0;
      put_page(here.table);
    }
  }
  return iova - start;
}

u64 iova_to_phys(void* domain, u64 iova) {
  const place here = find(domain, iova);
  const u64 entry = here.table[index_of(iova, here.level)];
  if ((entry & present) == 0) return 0;
  const u64 inside = size_of(here.level) - 1;
  return (entry & address_bits & ~inside) | (iova & inside);
}

void prefetch(void* domain, u64 iova) {
  const place here = find(domain, iova);
  __builtin_prefetch(&here.table[index_of(iova, here.level)], 1);
}

void iotlb_sync(void*, void*) {}

u64 read_dirty(void* domain, u64 first, u64 last, int clear, int joined, mock_range* out,
               std::size_t capacity, std::size_t* count) {
  std::size_t found = 0;
  u64 iova = first;
  while (iova <= last) {
    const place here = find(domain, iova);
    const u64 size = size_of(here.level);
    for (std::size_t n = index_of(iova, here.level); n < 512 && iova <= last;) {
      const u64 entry = here.table[n];
      if (here.level != 0 && is_table(entry)) break;
      u64 range_last = iova | (size - 1);
      const u64 range_first = iova;
      const bool is_dirty = (entry & dirty_bit) != 0;
      const bool goes_on = joined != 0 && found != 0 && out[found - 1].last + 1 == iova;
      if (is_dirty && !goes_on && found == capacity) {
        *count = found;
        return iova;
      }
      if (is_dirty) {
        std::size_t end = n + 1;
        while (joined != 0 && end < 512 && range_last < last &&
               (here.table[end] & dirty_bit) != 0 &&
               (here.level == 0 || !is_table(here.table[end])))
          ++end, range_last += size;
        if (clear != 0)
          for (std::size_t k = n; k != end; ++k) here.table[k] &= ~dirty_bit;
        if (goes_on) {
          out[found - 1].last = range_last;
        } else {
          out[found++] = {range_first, range_last};
        }
        n = end;
      } else {
        ++n;
      }
      iova = range_last + 1;
    }
  }
  *count = found;
  return iova;
}

/// The greatest level whose entries suit, and may be used.
unsigned best_level(u64 page_sizes, u64 addresses, u64 bytes) {
  for (unsigned level = 2; level != 0; --level) {
    if ((page_sizes & size_of(level)) != 0 && (addresses & (size_of(level) - 1)) == 0 &&
        bytes >= size_of(level))
      return level;
  }
  return 0;
}

int map(void* domain, unsigned long iova, u64 physical, std::size_t bytes, int rights) {
  while (bytes != 0) {
    const unsigned level = best_level(of(domain).page_sizes, iova | physical, bytes);
    u64 until = bytes;  // no further than to where greater entries may begin
    if (level < 2 && ((iova ^ physical) & (size_of(level + 1) - 1)) == 0 &&
        (of(domain).page_sizes & size_of(level + 1)) != 0)
      until = std::min(until, size_of(level + 1) - (iova & (size_of(level + 1) - 1)));
    std::size_t mapped = 0;
    mock.map_pages(domain, iova, physical, size_of(level), until >> shift_of(level), rights, 0,
                   &mapped);
    iova += mapped;
    physical += mapped;
    bytes -= mapped;
  }
  return 0;
}

std::size_t unmap(void* domain, unsigned long iova, std::size_t bytes) {
  const std::size_t gone = mock.unmap_pages(domain, iova, 4096, bytes / 4096, nullptr);
  mock.iotlb_sync(domain, nullptr);
  return gone;
}

int map_runs(void* domain, u64 iova, const run* runs, std::size_t count, int rights) {
  const u64 sizes = of(domain).page_sizes;
  const u64 with = flags(0, rights);
  u64* table = nullptr;
  u64 table_at = 0;
  const run* const end = runs + count;
  for (const run* next = runs; next != end; ++next) {
    u64 physical = next->first.value;
    u64 left = next->length_bytes;
    while (left != 0) {
      if (const unsigned level = best_level(sizes, iova | physical, left); level != 0) {
        std::size_t mapped = 0;
        map_pages(domain, iova, physical, size_of(level), left >> shift_of(level), rights, 0,
                  &mapped);
        table = nullptr;
        iova += mapped;
        physical += mapped;
        left -= mapped;
        continue;
      }
      if (table == nullptr || iova >> 21 != table_at) {
        table = make_table(domain, iova, 0);
        table_at = iova >> 21;
      }
      std::size_t n = index_of(iova, 0);
      const std::size_t some = std::min<std::size_t>(left >> 12, 512 - n);
      iova += some << 12;
      left -= some << 12;
      for (const std::size_t stop = n + some; n != stop; ++n, physical += 4096)
        table[n] = physical | with;
      if (left != 0) continue;
      // Single pages that follow go into the same table.
      for (; n < 512 && next + 1 != end && next[1].length_bytes == 4096; ++n, iova += 4096)
        table[n] = (++next)->first.value | with;
    }
  }
  return 0;
}

/// Appends the runs of [first, last] until one does not fit; done(place, first index, end index) is
/// called for what was told of each table. Returns the bytes told. A table of pages is read in one
/// go, and joined as an array of pages is.
template <class Done>
u64 read_runs(const void* domain, u64 first, u64 last, iopt::run_list& out, Done done) {
  u64 iova = first;
  for (bool more = true; more && iova <= last;) {
    const place here = find(domain, iova);
    const u64 inside = size_of(here.level) - 1;
    const std::size_t begin = index_of(iova, here.level);
    std::size_t n = begin;
    if (here.level == 0 && ((iova | (last + 1)) & inside) == 0) {
      alignas(64) u64 frames[512];
      const std::size_t end = begin + std::min<u64>(512 - begin, ((last - iova) >> 12) + 1);
      for (; n != end && (here.table[n] & present) != 0; ++n)
        frames[n - begin] = (here.table[n] & address_bits) >> 12;
      const std::size_t taken = out.append_frames(std::span<const u64>(frames, n - begin), 4096);
      more = taken == n - begin && n != begin;
      n = begin + taken;
      iova += u64{taken} << 12;
    } else {
      for (; n < 512 && iova <= last; ++n) {
        const u64 entry = here.table[n];
        const u64 skip = iova & inside;
        const u64 bytes = std::min(inside - skip, last - iova) + 1;
        more = is_leaf(entry, here.level);
        if (!more) {
          more = n != begin && is_table(entry);
          break;
        }
        more = out.append(run({(entry & address_bits & ~inside) + skip}, bytes));
        if (!more) break;
        iova += bytes;
      }
    }
    done(here, begin, n);
  }
  return iova - first;
}

u64 unmap_runs(void* domain, u64 first, u64 last, iopt::run_list* out) {
  return read_runs(domain, first, last, *out,
                   [](const place& here, std::size_t begin, std::size_t end) {
                     std::fill(here.table + begin, here.table + end, 0);
                     if (begin != 0 || end != 512 || here.owner == nullptr) return;
                     *here.owner = 0;
                     put_page(here.table);
                   });
}

u64 translate_range(void* domain, u64 first, u64 last, iopt::run_list* out) {
  return read_runs(domain, first, last, *out, [](const place&, std::size_t, std::size_t) {});
}

void split_at(void* domain, u64 iova) {
  for (;;) {
    const place here = find(domain, iova);
    u64& entry = here.table[index_of(iova, here.level)];
    if ((iova & (size_of(here.level) - 1)) == 0 || !is_leaf(entry, here.level)) return;
    const u64 size = size_of(here.level - 1);
    auto* const table = static_cast<u64*>(take_page());
    u64 part = here.level == 1 ? entry & ~large : entry;
    for (std::size_t n = 0; n < 512; ++n, part += size) table[n] = part;
    entry = reinterpret_cast<u64>(table) | present;
  }
}

int split(void* domain, u64 first, u64 last) {
  split_at(domain, first);
  split_at(domain, last + 1);
  return 0;
}

// --- Memory ---

struct layout {
  std::uint32_t* frames;   // by page
  std::uint32_t* extents;  // the first frame of each extent
  unsigned extent_lg2 =
      0;  // all extents of a layout are of one length, so that a look-up is a shift
};
std::array<layout, MOCK_LAYOUTS> layouts;
layout* current = nullptr;
// Counted by thread: two that pin at a time neither wait for each other nor lose a page.
struct alignas(64) pin_count {
  long pages = 0;
};
std::array<pin_count, 64> pinned;
std::atomic<std::size_t> pinning_threads = 0;
thread_local pin_count* pinned_here = nullptr;
void count_pinned(long pages) {
  if (pinned_here == nullptr) [[unlikely]]
    pinned_here = &pinned[pinning_threads++ % pinned.size()];
  pinned_here->pages += pages;
}
constexpr std::uint32_t first_frame = MOCK_FIRST_FRAME;

std::size_t page_of(unsigned long address, std::size_t pages) {
  const std::size_t page = (address - MOCK_ADDRESS) >> 12;
  if (page >= MOCK_PAGES || pages > MOCK_PAGES - page) std::abort();
  return page;
}

std::size_t pin_pages(unsigned long address, std::size_t pages, u64* out, u64 base,
                      unsigned shift) {
  const std::uint32_t* const frames = current->frames + page_of(address, pages);
  for (std::size_t n = 0; n < pages; ++n) out[n] = base + (u64{frames[n]} << shift);
  count_pinned(static_cast<long>(pages));
  return pages;
}

std::size_t pin_runs(unsigned long address, std::size_t pages, iopt::run_list* out) {
  const std::size_t first = page_of(address, pages);
  const unsigned lg2 = current->extent_lg2;
  std::size_t done = 0;
  while (done != pages) {
    const std::size_t page = first + done;
    const std::size_t skip = page & ((std::size_t{1} << lg2) - 1);
    const std::size_t some = std::min((std::size_t{1} << lg2) - skip, pages - done);
    const u64 frame = current->extents[page >> lg2] + skip;
    if (!out->append(run({frame << 12}, some << 12))) break;
    done += some;
  }
  count_pinned(static_cast<long>(done));
  return done;
}

void unpin(u64 frame, std::size_t pages, int) {
  if (frame < first_frame || frame + pages > first_frame + MOCK_PAGES) std::abort();
  count_pinned(-static_cast<long>(pages));
}

void unpin_runs(const run* runs, std::size_t count, int dirty) {
  for (std::size_t n = 0; n < count; ++n)
    unpin(runs[n].first.value >> 12, runs[n].length_bytes >> 12, dirty);
}

}  // namespace

extern "C" {

mock_operations mock = {map_pages, unmap_pages, iova_to_phys, iotlb_sync,      read_dirty, map,
                        unmap,     map_runs,    unmap_runs,   translate_range, split,      prefetch,
                        pin_pages, pin_runs,    unpin,        unpin_runs};
void (*mock_domain_made)(void*, std::uint64_t) = nullptr;

void mock_init() {
  std::mt19937_64 random(88172645463325252u);
  std::vector<std::uint32_t> blocks(MOCK_PAGES >> 9);
  for (std::size_t n = 0; n < blocks.size(); ++n)
    blocks[n] = first_frame + static_cast<std::uint32_t>(n << 9);
  std::shuffle(blocks.begin(), blocks.end(), random);
  for (layout& each : layouts)
    each.frames = static_cast<std::uint32_t*>(huge_memory(MOCK_PAGES * sizeof(std::uint32_t)));
  for (std::size_t n = 0; n < MOCK_PAGES; ++n) {
    const std::uint32_t frame = first_frame + static_cast<std::uint32_t>(n);
    layouts[MOCK_CONTIGUOUS].frames[n] = layouts[MOCK_SCATTERED].frames[n] = frame;
    layouts[MOCK_BLOCKS].frames[n] = blocks[n >> 9] + static_cast<std::uint32_t>(n & 511);
  }
  std::shuffle(layouts[MOCK_SCATTERED].frames, layouts[MOCK_SCATTERED].frames + MOCK_PAGES, random);
  static std::uint32_t everything = first_frame;
  static std::vector<std::uint32_t> kept;
  kept = std::move(blocks);
  layouts[MOCK_CONTIGUOUS].extents = &everything;
  layouts[MOCK_CONTIGUOUS].extent_lg2 = 24;
  layouts[MOCK_BLOCKS].extents = kept.data();
  layouts[MOCK_BLOCKS].extent_lg2 = 9;
  layouts[MOCK_SCATTERED].extents = layouts[MOCK_SCATTERED].frames;
  current = layouts.data();
}

void mock_set_layout(mock_layout layout) { current = &layouts[layout]; }
std::uint64_t mock_physical(unsigned long address) {
  return u64{current->frames[page_of(address, 1)]} << 12 | (address & 4095);
}
long mock_pinned() {
  long all = 0;
  for (const pin_count& each : pinned) all += each.pages;
  return all;
}

void* mock_domain_create(int large_entries) {
  void* const whole = std::calloc(1, state_bytes + MOCK_HEADER_BYTES);
  if (whole == nullptr) std::abort();
  u64 sizes = size_of(0);
  if (large_entries != 0) sizes |= size_of(1) | size_of(2);
  new (whole) state{new_table(), sizes};
  void* const domain = static_cast<std::byte*>(whole) + state_bytes;
  if (mock_domain_made != nullptr) mock_domain_made(domain, sizes);
  return domain;
}
void mock_domain_destroy(void* domain) {
  free_table(of(domain).root, 3);
  std::free(static_cast<std::byte*>(domain) - state_bytes);
}
std::uint64_t mock_domain_page_sizes(const void* domain) { return of(domain).page_sizes; }

void mock_domain_prefill(void* domain, std::uint64_t iova, std::uint64_t bytes) {
  for (u64 at = iova; at < iova + bytes; at += size_of(1)) make_table(domain, at, 0);
}

static u64 entries(const u64* table, unsigned level) {
  u64 sum = 0;
  for (std::size_t n = 0; n < 512; ++n) {
    if (level != 0 && is_table(table[n])) sum += entries(table_of(table[n]), level - 1);
    if (is_leaf(table[n], level)) ++sum;
  }
  return sum;
}
std::uint64_t mock_domain_entries(const void* domain) { return entries(of(domain).root, 3); }

void mock_domain_set_dirty(void* domain, std::uint64_t iova) {
  const place here = find(domain, iova);
  u64& entry = here.table[index_of(iova, here.level)];
  if (!is_leaf(entry, here.level)) std::abort();
  entry |= dirty_bit;
}

}  // extern "C"
