// examples/replay/guest_memory.cpp - where the memory that a trace speaks of comes from.
#include "examples/replay/guest_memory.hpp"

#include <algorithm>
#include <cstdio>

namespace replay {

using iopt::gibibyte;
using iopt::mebibyte;

namespace {

constexpr std::uint64_t round_up(std::uint64_t bytes, std::uint64_t unit) noexcept {
  return (bytes + (unit - 1)) / unit * unit;
}

/// What the system could still give, in bytes; nothing where it does not say.
std::optional<std::uint64_t> available_bytes() {
  std::optional<std::uint64_t> bytes;
  if (std::FILE* const file = std::fopen("/proc/meminfo", "r")) {
    char line[256];
    unsigned long long kibibytes = 0;
    while (!bytes && std::fgets(line, sizeof line, file) != nullptr) {
      if (std::sscanf(line, "MemAvailable: %llu kB", &kibibytes) == 1) bytes = kibibytes * 1024;
    }
    std::fclose(file);
  }
  return bytes;
}

std::string told(const char* what, iopt::error e) {
  return std::string(what) + ": " + std::string(iopt::name(e.code)) + " (" +
         std::to_string(e.number()) + ")";
}

}  // namespace

std::vector<region> find_regions(const trace& t, std::uint64_t block_bytes) {
  struct named {
    iopt::user_range range;
    std::uint64_t at;
  };
  std::vector<named> ranges;
  for (const event& e : t.events) {
    if (e.what == event::kind::map) ranges.push_back({e.source_range(), e.where.first.value});
  }
  std::sort(ranges.begin(), ranges.end(), [](const named& a, const named& b) {
    return a.range.first != b.range.first ? a.range.first < b.range.first
                                          : a.range.last > b.range.last;
  });
  // The frames of a DMA trace are scattered: small gaps are left in, and stay sparse.
  const std::uint64_t gap_bytes = t.spoken == dialect::linux_dma ? 2 * mebibyte : 0;

  std::vector<region> regions;
  std::uint64_t longest = 0;  // of the ranges in the last region
  for (const named& n : ranges) {
    const bool joins =
        !regions.empty() && (n.range.first <= regions.back().named.last ||
                             n.range.first - regions.back().named.last - 1 <= gap_bytes);
    if (!joins) {
      regions.push_back({n.range});
      longest = 0;
    }
    region& r = regions.back();
    r.named.last = std::max(r.named.last, n.range.last);
    ++r.times_shown;
    // Congruent to where its longest range is shown, large entries become possible.
    if (n.range.length_minus_one() >= longest) {
      longest = n.range.length_minus_one();
      r.pad_bytes = (n.at - (n.range.first - r.named.first)) & (block_bytes - 1);
    }
  }
  return regions;
}

std::expected<std::unique_ptr<guest_memory>, std::string> guest_memory::make(
    const trace& t, std::size_t guests, std::uint64_t block_bytes) {
  std::unique_ptr<guest_memory> m(new guest_memory);
  m->guests_ = guests;
  m->regions_ = find_regions(t, block_bytes);
  const bool own_frames = t.spoken == dialect::linux_dma;

  // Everything is counted in pages, which do not overflow.
  const std::uint64_t most_pages = iopt::host::physical_memory::largest_bytes / page_bytes / 4;
  for (region& r : m->regions_) {
    if (own_frames) r.pad_bytes = 0;
    r.first_page = m->pages_of_guest_;
    if (r.pages() > most_pages || r.pages() > most_pages - m->pages_of_guest_)
      return std::unexpected("it maps more than 16 TiB of memory");
    m->pages_of_guest_ += r.pages();
  }
  m->tagged_pages_ = m->pages_of_guest_;
  if (own_frames) {
    m->shown_.assign(m->pages_of_guest_, false);
    for (const event& e : t.events) {
      if (e.what != event::kind::map) continue;
      const auto first = m->shown_.begin() + static_cast<std::ptrdiff_t>(m->page_at(0, e.source));
      std::fill_n(first, e.where.length() / page_bytes, true);
    }
    m->tagged_pages_ =
        static_cast<std::uint64_t>(std::count(m->shown_.begin(), m->shown_.end(), true));
  }
  const std::uint64_t needed_pages = guests * m->tagged_pages_;
  if (m->pages_of_guest_ > most_pages / guests)
    return std::unexpected("so many guests map more than 16 TiB of memory");
  if (const auto free = available_bytes(); free && needed_pages > *free / page_bytes)
    return std::unexpected("its memory is " + std::to_string(needed_pages / 256) +
                           " MiB, and this system has only " + std::to_string(*free / mebibyte) +
                           " MiB left");

  // The machine, and where each guest's frames begin in it.
  std::uint64_t machine_bytes = 2 * gibibyte;
  std::uint64_t shift = 0, stride = 0;
  if (own_frames) {
    const std::uint64_t last = m->regions_.back().named.last.value;
    if (last >= iopt::host::physical_memory::largest_bytes / 2)
      return std::unexpected("its physical addresses reach " + hex(last) +
                             ", and the arena has 32 TiB");
    // Frame 0 is never anybody's memory.
    if (m->regions_.front().named.first.value == 0) shift = gibibyte;
    stride = round_up(last + 1, gibibyte);
    if (guests > (iopt::host::physical_memory::largest_bytes - shift) / stride)
      return std::unexpected("the frames of so many guests pass the arena's 64 TiB");
    machine_bytes = shift + guests * stride;
  } else {
    for (const region& r : m->regions_)
      machine_bytes +=
          guests * (round_up(r.pad_bytes + r.pages() * page_bytes, block_bytes) + block_bytes);
  }
  iopt::result<iopt::host::physical_memory> machine = iopt::host::physical_memory::create(
      machine_bytes, {own_frames ? page_bytes : std::max(block_bytes, 2 * mebibyte)});
  if (!machine) return std::unexpected(told("physical memory", machine.error()));
  m->machine_.emplace(std::move(*machine));

  // A few blocks are scattered pages, as on a host that has been up for long; but no more than the
  // kernel's number of mappings in a process allows.
  const std::uint64_t blocks = guests * m->pages_of_guest_ * page_bytes / block_bytes;
  const unsigned small_every = block_bytes == 2 * mebibyte
                                   ? static_cast<unsigned>(std::max<std::uint64_t>(64, blocks / 24))
                                   : 0;
  m->memory_.reserve(guests * m->regions_.size());
  for (std::size_t guest = 0; guest != guests; ++guest) {
    for (const region& r : m->regions_) {
      const std::uint64_t bytes = r.pad_bytes + r.pages() * page_bytes;
      iopt::result<iopt::host::user_memory> memory =
          own_frames ? iopt::host::user_memory::create_at(
                           *m->machine_, iopt::physical_range::sized(
                                             {shift + guest * stride + r.named.first.value}, bytes))
                     : iopt::host::user_memory::create(*m->machine_, bytes,
                                                       {.block_bytes = block_bytes,
                                                        .small_every = small_every,
                                                        .seed = guest * 1000 + r.first_page + 1});
      if (!memory) return std::unexpected(told("memory of a guest", memory.error()));
      m->memory_.push_back(std::move(*memory));
    }
  }
  return m;
}

std::size_t guest_memory::region_of(std::uint64_t source) const noexcept {
  const auto next = std::upper_bound(
      regions_.begin(), regions_.end(), source,
      [](std::uint64_t s, const region& r) noexcept { return s < r.named.first.value; });
  return static_cast<std::size_t>(next - regions_.begin()) - 1;
}

iopt::user_address guest_memory::user_at(std::size_t guest, std::uint64_t source) const noexcept {
  const std::size_t r = region_of(source);
  return memory_of(guest, r).address(regions_[r].pad_bytes +
                                     (source - regions_[r].named.first.value));
}

std::uint64_t guest_memory::page_at(std::size_t guest, std::uint64_t source) const noexcept {
  const region& r = regions_[region_of(source)];
  return guest * pages_of_guest_ + r.first_page + (source - r.named.first.value) / page_bytes;
}

std::optional<iopt::physical> guest_memory::frame_at(std::size_t guest,
                                                     std::uint64_t source) const noexcept {
  const std::size_t r = region_of(source);
  return memory_of(guest, r).frame_of(user_at(guest, source));
}

}  // namespace replay
