// examples/replay/picture_svg.cpp - the address space as a drawing: on the left what is mapped, on
// the right, to the same scale, how it came to be, event by event.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdarg>
#include <cstdio>
#include <map>

#include "examples/replay/picture.hpp"

namespace replay {

namespace {

using iopt::iova;
using iopt::iova_range;

constexpr std::array palette{"#3f6fa8", "#d9603b", "#2e8b57", "#c79a2b",
                             "#4aa5b8", "#9b4f96", "#7a7f87"};

constexpr double map_left = 150, map_width = 130;
constexpr double label_left = map_left + map_width + 14;
constexpr double time_left = 640, time_width = 580;
constexpr double total_width = 1260;
constexpr double top_margin = 118;

/// drawing: an SVG file that grows.
class drawing {
 public:
#if defined(__GNUC__)
  __attribute__((format(printf, 2, 3)))
#endif
  void
  add(const char* format, ...) {
    char text[640];
    va_list arguments;
    va_start(arguments, format);
    std::vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    out_ += text;
    out_ += '\n';
  }
  void rectangle(double x, double y, double width, double height, const char* style) {
    add("<rect x=\"%.2f\" y=\"%.2f\" width=\"%.2f\" height=\"%.2f\" %s/>", x, y, width, height,
        style);
  }
  void text(double x, double y, const char* style, const std::string& words) {
    std::string safe;
    for (const char c : words) {
      if (c == '&') {
        safe += "&amp;";
      } else if (c == '<') {
        safe += "&lt;";
      } else if (c == '>') {
        safe += "&gt;";
      } else {
        safe += c;
      }
    }
    add("<text x=\"%.1f\" y=\"%.1f\" class=\"%s\">%s</text>", x, y, style, safe.c_str());
  }
  std::string& out() noexcept { return out_; }

 private:
  std::string out_;
};

/// placed: a stretch and where it is drawn.
struct placed {
  stretch of;
  double y = 0, height = 0;
};

double pages_lg2(iova_range r) {
  return std::log2((static_cast<double>(r.length_minus_one()) + 1) / page_bytes);
}

/// Heights: logarithmic, and stretched where there is little to draw.
std::vector<placed> place(const picture& p) {
  std::vector<iova_range> used;
  for (const lifetime& l : p.lifetimes) used.push_back(l.where);
  std::vector<placed> all;
  double sum = 0;
  for (const stretch& s : cut_scale(used, p.reserved, 56)) {
    double height = 24;
    if (s.what == stretch::kind::used) {
      height = 19 + 3.2 * pages_lg2(s.where);
      sum += height;
    }
    all.push_back({s, 0, height});
  }
  const double factor = std::max(1.0, 460 / std::max(sum, 1.0));
  double y = top_margin;
  for (placed& s : all) {
    if (s.of.what == stretch::kind::used) s.height *= factor;
    s.y = y;
    y += s.height;
  }
  return all;
}

double offset_in(const placed& s, std::uint64_t byte) {
  const double share = (static_cast<double>(byte - s.of.where.first.value)) /
                       (static_cast<double>(s.of.where.length_minus_one()) + 1);
  return s.y + share * s.height;
}
/// Where the part of a range that lies in a stretch is drawn: its top, and its height.
std::pair<double, double> extent(const placed& s, iova_range part) {
  const double above = offset_in(s, part.first.value);
  const double below =
      part.last == s.of.where.last ? s.y + s.height : offset_in(s, part.last.value + 1);
  return {above, below - above};
}

const char* colour_of(const picture& p, std::uint64_t source) {
  return palette[p.spoken == dialect::linux_dma
                     ? 0
                     : region_number(p.regions, source) % palette.size()];
}

void draw_head(drawing& d, const picture& p, double height) {
  d.add(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %.0f %.0f\" width=\"%.0f\" "
      "height=\"%.0f\">",
      total_width, height, total_width, height);
  d.out() +=
      "<style>\n"
      "text { font-family: 'DejaVu Sans', 'Segoe UI', Helvetica, Arial, sans-serif; fill: #23272e; "
      "font-size: 12px }\n"
      ".title { font-size: 22px; font-weight: bold }\n"
      ".sub { fill: #5b6370; font-size: 12.5px }\n"
      ".head { font-size: 13.5px; font-weight: bold }\n"
      ".address { font-family: 'DejaVu Sans Mono', Menlo, Consolas, monospace; font-size: 11px; "
      "text-anchor: end; fill: #444b56 }\n"
      ".what { font-size: 12px }\n"
      ".more { font-size: 11px; fill: #6b7280 }\n"
      ".hole { font-size: 11px; fill: #98a0ab; font-style: italic }\n"
      ".tick { font-size: 11px; fill: #6b7280; text-anchor: middle }\n"
      "</style>\n"
      "<defs>\n"
      "<pattern id=\"small\" width=\"5\" height=\"5\" patternUnits=\"userSpaceOnUse\">"
      "<circle cx=\"2.5\" cy=\"2.5\" r=\"1.25\" fill=\"#fff\" fill-opacity=\"0.8\"/></pattern>\n"
      "<pattern id=\"middle\" width=\"7\" height=\"7\" patternUnits=\"userSpaceOnUse\" "
      "patternTransform=\"rotate(45)\"><rect width=\"1.6\" height=\"7\" fill=\"#fff\" "
      "fill-opacity=\"0.45\"/></pattern>\n"
      "<pattern id=\"reserved\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\" "
      "patternTransform=\"rotate(-45)\"><rect width=\"2\" height=\"6\" "
      "fill=\"#b4bac4\"/></pattern>\n"
      "</defs>\n";
  d.rectangle(0, 0, total_width, height, "fill=\"#ffffff\"");
  d.text(32, 42, "title", "Address space of " + p.name);
  std::string title = p.title;
  if (title.size() > 170) title = title.substr(0, 167) + "...";
  d.text(32, 64, "sub", title);
  d.text(map_left, top_margin - 26, "head",
         "after line " + std::to_string(p.shown_line) + ", at its fullest: " +
             count_text(p.live.size()) + (p.live.size() == 1 ? " mapping" : " mappings"));
  d.text(time_left, top_margin - 26, "head",
         "all " + count_text(p.events) + " events, to the same scale");
}

void draw_map(drawing& d, const picture& p, const std::vector<placed>& scale) {
  for (const placed& s : scale) {
    const double middle = s.y + s.height / 2 + 4;
    char address[24];
    std::snprintf(address, sizeof address, "0x%08llx",
                  static_cast<unsigned long long>(s.of.where.first.value));
    d.text(map_left - 10, s.y + 4, "address", address);
    d.add("<line x1=\"%.1f\" y1=\"%.2f\" x2=\"%.1f\" y2=\"%.2f\" stroke=\"#c9ced6\"/>",
          map_left - 6, s.y, map_left, s.y);
    const std::string size = bytes_text(s.of.where.length_minus_one());
    if (s.of.what == stretch::kind::reserved) {
      d.rectangle(map_left, s.y, map_width, s.height, "fill=\"url(#reserved)\"");
      d.text(label_left, middle, "hole", "reserved for interrupts, " + size);
      continue;
    }
    // What is live in it; a mapping may go on in the next stretch.
    d.rectangle(map_left, s.y, map_width, s.height, "fill=\"#f6f7f9\"");
    bool any = false;
    for (const mapping& m : p.live) {
      const auto part = m.where.intersection(s.of.where);
      if (!part) continue;
      any = true;
      const auto [y, height] = extent(s, *part);
      const std::string style = std::string("fill=\"") + colour_of(p, m.source) + "\"";
      d.rectangle(map_left, y, map_width, height, style.c_str());
    }
    if (!any) {
      d.rectangle(map_left, s.y, map_width, s.height,
                  "fill=\"#f6f7f9\" stroke=\"#dfe3e8\" stroke-dasharray=\"3 3\"");
      d.text(label_left, middle, "hole",
             s.of.where.last.value == iopt::top ? "free to the end of the address space"
             : s.of.what == stretch::kind::used ? size + ", not mapped now"
                                                : "hole, " + size);
      continue;
    }
    for (const picture::entries& e : p.in_domain) {
      const auto part = e.where.intersection(s.of.where);
      if (!part || e.entry_bytes >= iopt::gibibyte) continue;
      const auto [y, height] = extent(s, *part);
      d.rectangle(
          map_left, y, map_width, height,
          e.entry_bytes < 2 * iopt::mebibyte ? "fill=\"url(#small)\"" : "fill=\"url(#middle)\"");
    }
    std::uint64_t bytes = 0;
    for (const mapping& m : p.live) {
      if (const auto part = m.where.intersection(s.of.where)) bytes += part->length();
      if (m.where.first > s.of.where.first && s.of.where.contains(m.where.first) &&
          extent(s, {m.where.first, s.of.where.last}).second > 0 && p.live.size() < 100)
        d.add("<line x1=\"%.1f\" y1=\"%.2f\" x2=\"%.1f\" y2=\"%.2f\" stroke=\"#fff\"/>", map_left,
              offset_in(s, m.where.first.value), map_left + map_width,
              offset_in(s, m.where.first.value));
    }
    d.add(
        "<line x1=\"%.1f\" y1=\"%.2f\" x2=\"%.1f\" y2=\"%.2f\" stroke=\"#fff\" "
        "stroke-width=\"1.4\"/>",
        map_left, s.y, map_left + map_width, s.y);
    std::string what = size;
    if (bytes != s.of.where.length()) what = bytes_text(bytes - 1) + " of " + size;
    what += "  ·  " + shown_text(p, s.of.where);
    if (s.height >= 36) {
      d.text(label_left, middle - 7, "what", what);
      d.text(label_left, middle + 8, "more", entries_text(p, s.of.where));
    } else {
      d.text(label_left, middle, "what", what);
      d.text(label_left + 190, middle, "more", entries_text(p, s.of.where));
    }
  }
  d.rectangle(map_left, scale.front().y, map_width,
              scale.back().y + scale.back().height - scale.front().y,
              "fill=\"none\" stroke=\"#5b6370\"");
}

void draw_history(drawing& d, const picture& p, const std::vector<placed>& scale) {
  const double above = scale.front().y;
  const double below = scale.back().y + scale.back().height;
  const double step = time_width / static_cast<double>(std::max<std::size_t>(1, p.events));
  d.rectangle(time_left, above, time_width, below - above, "fill=\"#f6f7f9\"");
  for (const placed& s : scale) {
    if (s.of.what == stretch::kind::reserved)
      d.rectangle(time_left, s.y, time_width, s.height,
                  "fill=\"url(#reserved)\" fill-opacity=\"0.5\"");
    d.add("<line x1=\"%.1f\" y1=\"%.2f\" x2=\"%.1f\" y2=\"%.2f\" stroke=\"#e6e9ed\"/>", time_left,
          s.y, time_left + time_width, s.y);
  }

  // Lives of one range that follow each other closer than the eye can tell are drawn as one; but
  // where each event has some width, every one is seen.
  const double unseen = step < 2 ? 0.35 : -1;
  struct bar {
    iova_range where;
    std::uint64_t source;
    double from, to;
  };
  std::vector<bar> bars;
  std::map<std::uint64_t, std::size_t> latest;  // by the first address
  std::vector<lifetime> lives = p.lifetimes;
  std::sort(lives.begin(), lives.end(),
            [](const lifetime& a, const lifetime& b) { return a.born < b.born; });
  for (const lifetime& l : lives) {
    const double from = static_cast<double>(l.born) * step;
    const double to = static_cast<double>(l.gone) * step;
    const auto found = latest.find(l.where.first.value);
    if (found != latest.end()) {
      bar& before = bars[found->second];
      if (before.where == l.where && from - before.to < unseen) {
        before.to = std::max(before.to, to);
        continue;
      }
    }
    latest[l.where.first.value] = bars.size();
    bars.push_back({l.where, l.source, from, to});
  }
  for (const bar& b : bars) {
    for (const placed& s : scale) {
      const auto part = b.where.intersection(s.of.where);
      if (!part) continue;
      const auto [y, height] = extent(s, *part);
      // A gap at the end shows that the next life is another one.
      const double width = std::max(0.3, b.to - b.from - (step >= 2 ? 1 : 0));
      const std::string style =
          std::string("fill=\"") + colour_of(p, b.source) +
          (step >= 2 ? "\" fill-opacity=\"0.88\"" : "\" fill-opacity=\"0.75\"");
      d.rectangle(time_left + b.from, y + (height > 4 ? 0.5 : 0), width,
                  std::max(0.25, height - (height > 4 ? 1 : 0)), style.c_str());
    }
  }
  const double now = time_left + (static_cast<double>(p.shown_event) + 1) * step;
  d.add(
      "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"#111\" "
      "stroke-dasharray=\"4 3\"/>",
      now, above - 8, now, below);
  d.add("<text x=\"%.1f\" y=\"%.1f\" class=\"tick\" style=\"text-anchor:end\">shown at left</text>",
        std::min(now + 36, time_left + time_width), above - 11);
  d.rectangle(time_left, above, time_width, below - above, "fill=\"none\" stroke=\"#5b6370\"");

  // Ticks at 1, 2 or 5 times a power of ten.
  double unit = 1;
  while (static_cast<double>(p.events) / unit > 10)
    unit *= std::fmod(std::log10(unit) + 1e-9, 1) < 0.1   ? 2
            : std::fmod(std::log10(unit) + 1e-9, 1) < 0.5 ? 2.5
                                                          : 2;
  for (double at = 0; at <= static_cast<double>(p.events); at += unit) {
    const double x = time_left + at * step;
    d.add("<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"#5b6370\"/>", x, below, x,
          below + 5);
    d.text(x, below + 18, "tick", count_text(static_cast<std::uint64_t>(at)));
  }
  d.text(time_left + time_width / 2, below + 36, "tick", "events of the trace");
}

void draw_legend(drawing& d, const picture& p, double y) {
  d.text(32, y, "head", "Entries");
  const std::array<std::pair<const char*, const char*>, 3> sizes{
      {{"1 GiB", nullptr}, {"2 MiB", "fill=\"url(#middle)\""}, {"4 KiB", "fill=\"url(#small)\""}}};
  double x = map_left;
  for (const auto& [name, pattern] : sizes) {
    d.rectangle(x, y - 11, 26, 14, "fill=\"#7a7f87\"");
    if (pattern != nullptr) d.rectangle(x, y - 11, 26, 14, pattern);
    d.text(x + 33, y, "what", name);
    x += 100;
  }
  if (p.spoken == dialect::linux_dma) return;
  y += 28;
  d.text(32, y, "head", "Memory");
  for (std::size_t n = 0; n != std::min<std::size_t>(p.regions.size(), 12); ++n) {
    const region& r = p.regions[n];
    x = map_left + static_cast<double>(n % 2) * 490;
    const std::string style = std::string("fill=\"") + palette[n % palette.size()] + "\"";
    d.rectangle(x, y - 11, 26, 14, style.c_str());
    d.text(x + 33, y, "what",
           region_name(n) + ":  " + bytes_text(r.named.length_minus_one()) + " at " +
               hex(r.named.first.value) + " of the VMM, mapped " + count_text(r.times_shown) +
               (r.times_shown == 1 ? " time" : " times"));
    if (n % 2 == 1) y += 22;
  }
}

}  // namespace

std::string draw_svg(const picture& p) {
  const std::vector<placed> scale = place(p);
  const double below = scale.back().y + scale.back().height;
  const double legend_rows =
      p.spoken == dialect::linux_dma
          ? 0
          : static_cast<double>((std::min<std::size_t>(p.regions.size(), 12) + 1) / 2);
  drawing d;
  draw_head(d, p, below + 90 + legend_rows * 22 + 14);
  draw_map(d, p, scale);
  draw_history(d, p, scale);
  draw_legend(d, p, below + 66);
  d.out() += "</svg>\n";
  return std::move(d.out());
}

}  // namespace replay
