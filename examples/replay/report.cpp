// examples/replay/report.cpp - the figures that the author of a VMM asks for.
#include "examples/replay/report.hpp"

#include <algorithm>
#include <cstdarg>
#include <cstdio>

#include "examples/replay/picture.hpp"

namespace replay {

namespace {

std::string right(const std::string& text, std::size_t width) {
  return text.size() < width ? std::string(width - text.size(), ' ') + text : text;
}
std::string left(std::string text, std::size_t width) {
  if (text.size() < width) text.append(width - text.size(), ' ');
  return text;
}
std::string bytes_of(std::uint64_t bytes) {
  return bytes == 0 ? std::string("0") : bytes_text(bytes - 1);
}

/// The smallest value that a share of all values does not exceed.
clock::duration quantile(std::vector<clock::duration> times, std::size_t percent) {
  if (times.empty()) return {};
  const std::size_t rank = std::max<std::size_t>(1, (times.size() * percent + 99) / 100);
  std::nth_element(times.begin(), times.begin() + static_cast<std::ptrdiff_t>(rank - 1),
                   times.end());
  return times[rank - 1];
}

std::string times_row(const char* what, const std::vector<clock::duration>& times) {
  if (times.empty()) return {};
  return "  " + left(what, 26) + right(duration_text(quantile(times, 50)), 12) +
         right(duration_text(quantile(times, 99)), 12) +
         right(duration_text(*std::max_element(times.begin(), times.end())), 12) +
         right(count_text(times.size()), 10) + "\n";
}

}  // namespace

std::string duration_text(clock::duration d) {
  const double nanoseconds = std::chrono::duration<double, std::nano>(d).count();
  char text[32];
  if (nanoseconds < 1e3) {
    std::snprintf(text, sizeof text, "%.0f ns", nanoseconds);
  } else if (nanoseconds < 1e6) {
    std::snprintf(text, sizeof text, "%.1f us", nanoseconds / 1e3);
  } else if (nanoseconds < 1e9) {
    std::snprintf(text, sizeof text, "%.1f ms", nanoseconds / 1e6);
  } else {
    std::snprintf(text, sizeof text, "%.2f s", nanoseconds / 1e9);
  }
  return text;
}

std::string report(machine& m, const checker* checked, clock::duration checking) {
  const machine::statistics& s = m.stats();
  std::string out = "\n";
  const auto row = [&](const std::string& what, const std::string& first,
                       const std::string& second = {}) {
    out += "  " + left(what, 26) + right(first, 12);
    out += second.empty() ? "\n" : right(second, 12) + "\n";
  };
  row("", "now", "peak");
  row("mappings", count_text(s.mappings.now), count_text(s.mappings.peak));
  if (s.areas.peak != s.mappings.peak)
    row("areas of the table", count_text(s.areas.now), count_text(s.areas.peak));
  row("mapped", bytes_of(s.bytes.now), bytes_of(s.bytes.peak));
  row("pinned pages", count_text(s.pages.now), count_text(s.pages.peak));
  row("pinned", bytes_of(s.pages.now * page_bytes), bytes_of(s.pages.peak * page_bytes));
  row("pages shown once more", count_text(s.pages_shown_again.now),
      count_text(s.pages_shown_again.peak));
  static constexpr const char* sizes[] = {"entries of 4 KiB", "entries of 2 MiB",
                                          "entries of 1 GiB"};
  for (std::size_t n = 0; n != 3; ++n)
    row(sizes[n], count_text(s.entries[n].now), count_text(s.entries[n].peak));

  const std::uint64_t wanted =
      s.reused_pages + s.second_domain_pages + m.pinner().pages_ever_pinned();
  out += "\n  pins over the whole trace\n";
  row("pages pinned", count_text(m.pinner().pages_ever_pinned()),
      count_text(m.pinner().pin_calls()) + " calls");
  row("avoided: shown already", count_text(s.reused_pages));
  row("avoided: further domains", count_text(s.second_domain_pages));
  if (wanted != 0) {
    char percent[16];
    std::snprintf(percent, sizeof percent, "%.0f %%",
                  100.0 * static_cast<double>(s.reused_pages + s.second_domain_pages) /
                      static_cast<double>(wanted));
    row("share avoided", percent);
  }

  out += "\n  calls of a domain                maps        runs      unmaps     flushes\n";
  for (std::size_t n = 0; n != m.domain_count(); ++n) {
    const iopt::mock::domain_calls c = m.domain(n).calls();
    out += "  " + left("domain " + std::to_string(n), 26) +
           right(count_text(c.map + c.map_runs), 11) + right(count_text(c.map + c.runs), 12) +
           right(count_text(c.unmap + c.unmap_runs), 12) + right(count_text(c.sync), 12) + "\n";
  }
  if (s.plug_in_pages != 0)
    out += "  a domain attached late is filled with " + count_text(s.plug_in_pages) + " pages in " +
           duration_text(s.plug_in_time) + ", by " + count_text(s.plug_in_calls) + " calls and " +
           count_text(s.plug_in_pins) + " pins\n";

  out += "\n  time an operation               median         p99         max         n\n";
  out += times_row("map", s.map_times);
  out += times_row("  without the pinner", s.map_own_times);
  out += times_row("unmap", s.unmap_times);
  out += times_row("  without the pinner", s.unmap_own_times);
  if (checked != nullptr) {
    out += "\n  verified " + count_text(checked->checks()) + " times in " +
           duration_text(checking) + ": " + count_text(checked->tags_read()) +
           " tags read as a device reads them, " + count_text(checked->pins_read()) +
           " pins counted\n";
  }
  return out;
}

}  // namespace replay
