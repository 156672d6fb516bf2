// examples/replay/picture_text.cpp - the address space as lines of a terminal.
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdio>

#include "examples/replay/picture.hpp"

namespace replay {

namespace {

using iopt::iova;
using iopt::iova_range;

constexpr std::size_t bar_cells = 36;

/// Bytes mapped in a range of a row, and by entries of which size the most of them.
struct coverage {
  std::uint64_t bytes = 0;
  std::uint64_t most_by = 0;
};

coverage coverage_of(const picture& p, iova_range where) {
  std::array<std::uint64_t, 64> bytes{};
  coverage c;
  auto at =
      std::lower_bound(p.in_domain.begin(), p.in_domain.end(), where.first,
                       [](const picture::entries& e, iova first) { return e.where.last < first; });
  for (; at != p.in_domain.end() && at->where.first <= where.last; ++at) {
    const std::uint64_t here = at->where.intersection(where)->length();
    const std::size_t size = static_cast<std::size_t>(std::countr_zero(at->entry_bytes));
    c.bytes += here;
    bytes[size] += here;
    if (c.most_by == 0 ||
        bytes[size] > bytes[static_cast<std::size_t>(std::countr_zero(c.most_by))])
      c.most_by = at->entry_bytes;
  }
  return c;
}

const char* shade(const coverage& c, std::uint64_t cell_bytes) {
  static constexpr const char* levels[] = {"▁", "▂", "▃", "▄", "▅", "▆", "▇"};
  if (c.bytes == 0) return "·";
  if (c.bytes < cell_bytes) return levels[std::min<std::uint64_t>(6, c.bytes * 7 / cell_bytes)];
  return c.most_by >= iopt::gibibyte ? "█" : c.most_by >= 2 * iopt::mebibyte ? "▓" : "▒";
}

double pages_lg2(iova_range r) {
  return std::log2((static_cast<double>(r.length_minus_one()) + 1) / page_bytes);
}

std::string padded(std::string text, std::size_t width) {
  // Characters, not bytes.
  const auto count = static_cast<std::size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xc0) != 0x80; }));
  if (count < width) text.append(width - count, ' ');
  return text;
}

std::string right(const std::string& text, std::size_t width) {
  return text.size() < width ? std::string(width - text.size(), ' ') + text : text;
}

}  // namespace

std::string draw_text(const picture& p, bool colours) {
  std::vector<iova_range> used;
  for (const mapping& m : p.live) used.push_back(m.where);
  const std::vector<stretch> scale = cut_scale(used, p.reserved, 44);

  double greatest = 1;
  iova highest{0};
  for (const stretch& s : scale) {
    highest = s.where.first;
    if (s.what == stretch::kind::used) greatest = std::max(greatest, pages_lg2(s.where));
  }
  const int digits = highest.value >> 40 ? 16 : highest.value >> 32 ? 10 : 8;
  static constexpr int palette[] = {75, 203, 71, 179, 80, 169, 250};

  std::string out = "\n  the address space at its fullest, after line " +
                    std::to_string(p.shown_line) + ": " + count_text(p.live.size()) +
                    (p.live.size() == 1 ? " mapping\n\n" : " mappings\n\n");
  for (const stretch& s : scale) {
    char address[40];
    std::snprintf(address, sizeof address, "  0x%0*llx  ", digits,
                  static_cast<unsigned long long>(s.where.first.value));
    const double share = std::clamp(pages_lg2(s.where) / greatest, 0.0, 1.0);
    const std::size_t cells = 1 + static_cast<std::size_t>(share * (bar_cells - 1) + 0.5);
    std::string size = bytes_text(s.where.length_minus_one());
    std::string bar, what, entries;
    if (s.what != stretch::kind::used) {
      const bool is_reserved = s.what == stretch::kind::reserved;
      for (std::size_t n = 0; n != cells; ++n) bar += is_reserved ? "╳" : "┄";
      what = is_reserved ? "reserved (interrupts)" : "hole";
      if (s.where.last.value == iopt::top && s.where.length_minus_one() != iopt::top)
        size = "", what = "free to the end", bar = "┄ ┄ ┄ ┄";
    } else {
      // A cell for each equal part; a row shorter than its cells has a cell a page.
      const std::uint64_t pages = s.where.length() / page_bytes;
      const std::uint64_t parts = std::min<std::uint64_t>(cells, pages);
      std::uint64_t covered = 0;
      for (std::uint64_t n = 0; n != parts; ++n) {
        const std::uint64_t first = pages / parts * n + std::min(pages % parts, n);
        const std::uint64_t end = pages / parts * (n + 1) + std::min(pages % parts, n + 1);
        const iova_range cell =
            iova_range::sized(s.where.first + first * page_bytes, (end - first) * page_bytes);
        const coverage c = coverage_of(p, cell);
        covered += c.bytes;
        bar += shade(c, cell.length());
      }
      what = shown_text(p, s.where);
      if (covered != s.where.length() && covered != 0) what += ", " + bytes_text(covered - 1);
      entries = entries_text(p, s.where);
    }
    bar = padded(bar, bar_cells + 1);
    if (colours) {
      int colour = 240;
      if (s.what == stretch::kind::used) {
        const auto m = std::find_if(p.live.begin(), p.live.end(), [&](const mapping& one) {
          return one.where.overlaps(s.where);
        });
        colour = palette[p.spoken == dialect::linux_dma || m == p.live.end()
                             ? 0
                             : region_number(p.regions, m->source) % std::size(palette)];
      }
      bar = "\x1b[38;5;" + std::to_string(colour) + "m" + bar + "\x1b[0m";
    }
    std::string line = address + bar + right(size, 10) + "  " + padded(what, 22) + " " + entries;
    line.erase(line.find_last_not_of(' ') + 1);
    out += line + "\n";
  }
  out +=
      "\n  entries: █ 1G  ▓ 2M  ▒ 4K   part of a cell: ▁▄▇   a bar is as long as the logarithm "
      "of its size\n";
  if (p.spoken == dialect::vmm) {
    for (std::size_t n = 0; n != p.regions.size() && n != 12; ++n) {
      const region& r = p.regions[n];
      out += n == 0 ? "  memory:  " : "           ";
      out += region_name(n) + right(bytes_text(r.named.length_minus_one()), 10) + " at " +
             hex(r.named.first.value) + " of the VMM, mapped " + count_text(r.times_shown) +
             (r.times_shown == 1 ? " time\n" : " times\n");
    }
    if (p.regions.size() > 12)
      out += "           and " + std::to_string(p.regions.size() - 12) + " more\n";
  }
  return out;
}

}  // namespace replay
