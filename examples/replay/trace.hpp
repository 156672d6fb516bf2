// examples/replay/trace.hpp - reading a trace: one event a line, in one of two dialects.
//
//   a VMM's                 add FIRST LAST HOST      map guest-physical [FIRST, LAST] at HOST
//                           del FIRST LAST           unmap that range
//   the Linux DMA API's     map IOVA PADDR BYTES     map one physically contiguous run
//                           unmap IOVA BYTES         unmap that range: one run or several
//
// Numbers are hexadecimal with 0x, else decimal. '#' begins a comment. Everything is a multiple of
// 4 KiB. A trace is refused, with the line and the reason, where it says what no program can have
// done: map over a live mapping, or unmap what is not mapped.
#pragma once

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <expected>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "examples/replay/live_map.hpp"
#include "iopt/base/range.hpp"

namespace replay {

inline constexpr std::uint64_t page_bytes = 4096;

enum class dialect : std::uint8_t { vmm, linux_dma };

/// event: a line of a trace.
struct event {
  enum class kind : std::uint8_t { map, unmap };
  kind what = kind::map;
  iopt::iova_range where{};
  std::uint64_t source = 0;  // host or physical address of where.first; 0 for an unmap
  std::size_t line = 0;

  iopt::user_range source_range() const noexcept {
    return {{source}, {source + where.length_minus_one()}};
  }
};

/// trace: a program's events in order. Each is possible: see parse().
struct trace {
  dialect spoken = dialect::vmm;
  std::string title;  // the first line of the head, without its '#'
  std::vector<event> events;
  std::size_t maps = 0;
  std::vector<std::size_t> live_after;  // mappings after each event
  iopt::iova last{};                    // the highest address mapped

  std::size_t unmaps() const noexcept { return events.size() - maps; }
};

/// trace_error: why a trace was refused. Line 0 is the trace as a whole.
struct trace_error {
  std::size_t line = 0;
  std::string reason;
};

inline std::string hex(std::uint64_t number) {
  char text[24];
  std::snprintf(text, sizeof text, "0x%llx", static_cast<unsigned long long>(number));
  return text;
}
inline std::string hex(iopt::iova_range range) {
  return "[" + hex(range.first.value) + ", " + hex(range.last.value) + "]";
}

namespace detail {

/// What a line holds, as words. A line of more words than any event has is told by its count.
struct words {
  static constexpr std::size_t most = 5;
  std::string_view word[most];
  std::size_t count = 0;

  explicit words(std::string_view line) {
    constexpr std::string_view blank = " \t\r\v\f";
    line = line.substr(0, line.find('#'));
    while (count != most) {
      const std::size_t start = line.find_first_not_of(blank);
      if (start == line.npos) return;
      line.remove_prefix(start);
      const std::size_t end = line.find_first_of(blank);
      word[count++] = line.substr(0, end);
      if (end == line.npos) return;
      line.remove_prefix(end);
    }
  }
};

/// A word of the trace, fit to be printed.
inline std::string quoted(std::string_view word) {
  constexpr std::size_t longest = 32;
  std::string text = "'";
  for (const char c : word.substr(0, longest)) text += c > ' ' && c <= '~' ? c : '?';
  return text + (word.size() > longest ? "...'" : "'");
}

struct line_reader {
  std::string reason{};  // of the first failure

  bool refuse(std::string why) {
    if (reason.empty()) reason = std::move(why);
    return false;
  }

  std::uint64_t number(std::string_view name, std::string_view word) {
    std::string_view digits = word;
    int base = 10;
    if (digits.starts_with("0x") || digits.starts_with("0X")) digits.remove_prefix(2), base = 16;
    std::uint64_t value = 0;
    const char* const end = digits.data() + digits.size();
    const auto [stop, code] = std::from_chars(digits.data(), end, value, base);
    const std::string told = std::string(name) + " " + quoted(word);
    if (code == std::errc::result_out_of_range && stop == end) {
      refuse(told + " passes 2^64 - 1");
    } else if (code != std::errc{} || stop != end) {
      refuse(told + " is not a number");
    }
    return value;
  }

  /// A number that must lie on a page boundary.
  std::uint64_t address(std::string_view name, std::string_view word) {
    const std::uint64_t value = number(name, word);
    if (value % page_bytes != 0)
      refuse(std::string(name) + " " + quoted(word) + " is not a multiple of 4096");
    return value;
  }

  std::uint64_t length(std::string_view word, std::uint64_t start, std::string_view start_name) {
    const std::uint64_t bytes = address("BYTES", word);
    if (reason.empty() && bytes == 0) refuse("BYTES is 0");
    if (reason.empty() && bytes - 1 > iopt::top - start)
      refuse(std::string(start_name) + " + BYTES wraps past 2^64 - 1");
    return bytes;
  }

  /// Whether the line has the fields named; they are named with spaces between.
  bool fields(const words& line, std::string_view names) {
    std::size_t needed = 0;
    for (std::string_view rest = names; !rest.empty(); ++needed) {
      const std::size_t end = rest.find(' ');
      if (needed == line.count - 1)
        return refuse("field " + std::string(rest.substr(0, end)) +
                      " is missing: " + std::string(line.word[0]) + " " + std::string(names));
      rest = end == rest.npos ? std::string_view{} : rest.substr(end + 1);
    }
    if (line.count - 1 > needed)
      return refuse("a field too many: " + quoted(line.word[needed + 1]) + " after " +
                    std::string(line.word[0]) + " " + std::string(names));
    return true;
  }

  bool first_and_last(const words& line, event& e) {
    e.where.first.value = address("FIRST", line.word[1]);
    e.where.last.value = number("LAST", line.word[2]);
    if (!reason.empty()) return false;
    if (e.where.last < e.where.first) return refuse("LAST is below FIRST");
    if ((e.where.last.value + 1) % page_bytes != 0)
      return refuse("LAST " + quoted(line.word[2]) + " is not the last byte of a page");
    if (e.where.length_minus_one() == iopt::top)
      return refuse("the range is the whole address space");
    return true;
  }

  /// Reads one event; false with a reason. Requires: at least one word.
  bool read(const words& line, event& e, dialect& spoken) {
    const std::string_view verb = line.word[0];
    spoken = verb == "add" || verb == "del" ? dialect::vmm : dialect::linux_dma;
    e.what = verb == "add" || verb == "map" ? event::kind::map : event::kind::unmap;
    if (verb == "add") {
      if (!fields(line, "FIRST LAST HOST") || !first_and_last(line, e)) return false;
      e.source = address("HOST", line.word[3]);
      if (reason.empty() && e.where.length_minus_one() > iopt::top - e.source)
        refuse("HOST + length wraps past 2^64 - 1");
    } else if (verb == "del") {
      if (!fields(line, "FIRST LAST")) return false;
      first_and_last(line, e);
    } else if (verb == "map") {
      if (!fields(line, "IOVA PADDR BYTES")) return false;
      e.where.first.value = address("IOVA", line.word[1]);
      e.source = address("PADDR", line.word[2]);
      const std::uint64_t bytes = length(line.word[3], e.where.first.value, "IOVA");
      if (reason.empty() && bytes - 1 > iopt::top - e.source)
        refuse("PADDR + BYTES wraps past 2^64 - 1");
      if (reason.empty()) e.where.last = e.where.first + (bytes - 1);
    } else if (verb == "unmap") {
      if (!fields(line, "IOVA BYTES")) return false;
      e.where.first.value = address("IOVA", line.word[1]);
      const std::uint64_t bytes = length(line.word[2], e.where.first.value, "IOVA");
      if (reason.empty()) e.where.last = e.where.first + (bytes - 1);
    } else {
      refuse("unknown verb " + quoted(verb) + ": one of add, del, map, unmap");
    }
    return reason.empty();
  }
};

}  // namespace detail

/// Reads a trace. Every event of the result is page aligned and does not wrap; no map hits a live
/// mapping, and all of an unmap's range is mapped.
inline std::expected<trace, trace_error> parse(std::string_view text) {
  trace t;
  live_map live;
  std::size_t number = 0;
  bool in_head = true;
  while (!text.empty()) {
    const std::size_t end = text.find('\n');
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(end == text.npos ? text.size() : end + 1);
    ++number;
    if (in_head && line.starts_with('#') && t.title.empty()) {
      const std::size_t start = line.find_first_not_of("# \t");
      if (start != line.npos) {
        for (const char c : line.substr(start, 200))
          if (c >= ' ' && c != '\x7f') t.title += c;
      }
    }
    const detail::words words(line);
    if (words.count == 0) continue;
    in_head = false;

    const auto refuse = [&](std::string why) {
      return std::unexpected(trace_error{number, std::move(why)});
    };
    event e;
    e.line = number;
    dialect spoken{};
    detail::line_reader reader;
    if (!reader.read(words, e, spoken)) return refuse(reader.reason);
    if (!t.events.empty() && spoken != t.spoken)
      return refuse("'" + std::string(words.word[0]) +
                    "' is of the other dialect than the events before");
    t.spoken = spoken;

    if (e.what == event::kind::map) {
      if (const mapping* const hit = live.overlap(e.where))
        return refuse(hex(e.where) + " overlaps " + hex(hit->where) + ", mapped by line " +
                      std::to_string(hit->line));
      live.add({e.where, e.source, 0, number, t.events.size()});
      ++t.maps;
      t.last = std::max(t.last, e.where.last);
    } else {
      if (const auto gap = live.gap(e.where))
        return refuse("nothing is mapped at " + hex(gap->value) + " of " + hex(e.where));
      live.remove(e.where, [](const mapping&) {});
    }
    t.events.push_back(e);
    t.live_after.push_back(live.size());
  }
  if (t.events.empty()) return std::unexpected(trace_error{0, "no event in it"});
  return t;
}

}  // namespace replay
