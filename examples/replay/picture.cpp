// examples/replay/picture.cpp - what the two pictures share: the scale, and the words.
#include "examples/replay/picture.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstdio>

namespace replay {

using iopt::iova;
using iopt::iova_range;

void take_snapshot(machine& m, picture& p) {
  p.live.clear();
  p.in_domain.clear();
  for (const auto& [first, one] : m.live().all()) p.live.push_back(one);
  const iopt::mock::domain& domain = m.domain(0);
  for (const mapping& one : p.live) {
    for (iova next = one.where.first;;) {
      const auto entry = domain.entry_at(next);
      if (!entry) break;
      const std::uint64_t size = entry->length();
      auto& all = p.in_domain;
      if (!all.empty() && all.back().entry_bytes == size &&
          entry->first.value - 1 == all.back().where.last.value) {
        all.back().where.last = entry->last;
      } else {
        all.push_back({*entry, size});
      }
      if (entry->last >= one.where.last) break;
      next = entry->last + 1;
    }
  }
}

std::vector<stretch> cut_scale(const std::vector<iova_range>& used,
                               const std::vector<iova_range>& reserved, std::size_t most) {
  // Where something begins, and where something has ended.
  std::vector<std::uint64_t> cuts{0};
  for (const iova_range& r : used) {
    cuts.push_back(r.first.value);
    if (r.last.value != iopt::top) cuts.push_back(r.last.value + 1);
  }
  std::sort(cuts.begin(), cuts.end());
  cuts.erase(std::unique(cuts.begin(), cuts.end()), cuts.end());

  std::vector<iova_range> clusters = used;  // disjoint, not touching
  std::sort(clusters.begin(), clusters.end(),
            [](const iova_range& a, const iova_range& b) { return a.first < b.first; });
  std::size_t kept = 0;
  for (const iova_range& r : clusters) {
    if (kept != 0 && (r.first <= clusters[kept - 1].last ||
                      r.first.value - 1 == clusters[kept - 1].last.value)) {
      clusters[kept - 1].last = std::max(clusters[kept - 1].last, r.last);
    } else {
      clusters[kept++] = r;
    }
  }
  clusters.resize(kept);

  if (cuts.size() > most) {
    // Too fine: clusters it is, and of the holes between them only the longest.
    std::vector<std::uint64_t> holes;
    for (std::size_t n = 1; n < clusters.size(); ++n)
      holes.push_back(clusters[n].first - clusters[n - 1].last - 1);
    std::sort(holes.rbegin(), holes.rend());
    const std::uint64_t shortest = holes.size() > most / 2 ? holes[most / 2] + 1 : 1;
    kept = 0;
    for (const iova_range& r : clusters) {
      if (kept != 0 && r.first - clusters[kept - 1].last - 1 < shortest) {
        clusters[kept - 1].last = r.last;
      } else {
        clusters[kept++] = r;
      }
    }
    clusters.resize(kept);
    cuts = {0};
    for (const iova_range& r : clusters) {
      cuts.push_back(r.first.value);
      if (r.last.value != iopt::top) cuts.push_back(r.last.value + 1);
    }
    cuts.erase(std::unique(cuts.begin(), cuts.end()), cuts.end());
  }
  const auto is_used = [&](std::uint64_t at) {
    return std::any_of(clusters.begin(), clusters.end(),
                       [&](const iova_range& r) { return r.contains(iova{at}); });
  };

  std::vector<stretch> scale;
  for (std::size_t n = 0; n != cuts.size(); ++n) {
    const iova_range here{{cuts[n]}, {n + 1 == cuts.size() ? iopt::top : cuts[n + 1] - 1}};
    if (is_used(cuts[n])) {
      scale.push_back({here, stretch::kind::used});
      continue;
    }
    iova next = here.first;
    bool full = false;
    for (const iova_range& r : reserved) {  // few, and in order
      const auto part = r.intersection(here);
      if (!part) continue;
      if (part->first > next) scale.push_back({{next, part->first - 1}, stretch::kind::hole});
      scale.push_back({*part, stretch::kind::reserved});
      full = part->last == here.last;
      if (!full) next = part->last + 1;
    }
    if (!full) scale.push_back({{next, here.last}, stretch::kind::hole});
  }
  return scale;
}

std::string region_name(std::size_t n) {
  std::string name;
  name += static_cast<char>('A' + n % 26);
  if (n >= 26) name.append(std::to_string(n / 26));
  return name;
}

std::size_t region_number(const std::vector<region>& regions, std::uint64_t source) {
  std::size_t n = 0;
  while (n + 1 < regions.size() && regions[n + 1].named.first.value <= source) ++n;
  return n;
}

std::string bytes_text(std::uint64_t bytes_minus_one) {
  static constexpr std::array<const char*, 7> units{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  const double bytes = static_cast<double>(bytes_minus_one) + 1;
  double shown = bytes;
  std::size_t unit = 0;
  while (shown >= 1024 && unit + 1 < units.size()) shown /= 1024, ++unit;
  char text[32];
  const bool whole = shown == static_cast<double>(static_cast<std::uint64_t>(shown));
  std::snprintf(text, sizeof text,
                whole         ? "%.0f %s"
                : shown < 100 ? "%.2f %s"
                              : "%.1f %s",
                shown, units[unit]);
  return text;
}

std::string count_text(std::uint64_t count) {
  std::string text = std::to_string(count);
  for (std::size_t at = text.size(); at > 3;) text.insert(at -= 3, 1, ',');
  return text;
}

std::string entries_text(const picture& p, iova_range where) {
  std::array<std::uint64_t, 64> counts{};
  for (const picture::entries& e : p.in_domain) {
    if (const auto part = e.where.intersection(where))
      counts[static_cast<std::size_t>(std::countr_zero(e.entry_bytes))] +=
          (part->length_minus_one() + e.entry_bytes) / e.entry_bytes;
  }
  std::string text;
  static constexpr std::array<std::pair<unsigned, const char*>, 3> sizes{
      {{30, "1G"}, {21, "2M"}, {12, "4K"}}};
  for (const auto& [lg2, name] : sizes) {
    if (counts[lg2] == 0) continue;
    if (!text.empty()) text.append(" + ");
    text.append(count_text(counts[lg2])).append("×").append(name);
  }
  return text;
}

std::string shown_text(const picture& p, iova_range where) {
  std::size_t count = 0;
  const mapping* only = nullptr;
  for (const mapping& m : p.live) {
    if (m.where.overlaps(where)) ++count, only = &m;
  }
  if (count == 0) return "";
  if (count > 1) return count_text(count) + " mappings";
  const std::uint64_t source = only->source_of(std::max(only->where.first, where.first));
  std::string text = p.guests > 1 ? "guest " + std::to_string(only->guest) + " " : "";
  if (p.spoken == dialect::linux_dma) return text + "frame " + hex(source);
  const std::size_t n = region_number(p.regions, source);
  text += region_name(n);
  const std::uint64_t offset = source - p.regions[n].named.first.value;
  return offset == 0 ? text : text + " + " + hex(offset);
}

}  // namespace replay
