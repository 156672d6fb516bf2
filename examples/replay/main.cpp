// examples/replay/main.cpp - replays what a real program asked of its IOMMU.
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <vector>

#include "examples/replay/checker.hpp"
#include "examples/replay/guest_memory.hpp"
#include "examples/replay/machine.hpp"
#include "examples/replay/options.hpp"
#include "examples/replay/picture.hpp"
#include "examples/replay/progress.hpp"
#include "examples/replay/report.hpp"
#include "examples/replay/trace.hpp"

namespace replay {

namespace {

/// The whole of a file, or an errno.
std::expected<std::string, int> contents_of(const std::string& path) {
  std::FILE* const file = std::fopen(path.c_str(), "rb");
  if (file == nullptr) return std::unexpected(errno);
  std::string text;
  char block[65536];
  std::size_t got = 0;
  errno = 0;
  while ((got = std::fread(block, 1, sizeof block, file)) != 0) text.append(block, got);
  const int number = std::ferror(file) != 0 ? (errno != 0 ? errno : EIO) : 0;
  std::fclose(file);
  if (number != 0) return std::unexpected(number);
  return text;
}

bool write_file(const std::string& path, const std::string& text) {
  std::FILE* const file = std::fopen(path.c_str(), "wb");
  if (file == nullptr) return false;
  const bool written = std::fwrite(text.data(), 1, text.size(), file) == text.size();
  return std::fclose(file) == 0 && written;
}

/// step: an event, and whose.
struct step {
  std::size_t event = 0, guest = 0;
};

/// The events of all guests, mixed at random, each guest's in order. The same every time.
std::vector<step> schedule(std::size_t events, std::size_t guests) {
  std::vector<step> steps;
  steps.reserve(events * guests);
  std::vector<std::size_t> next(guests, 0), left(guests);
  for (std::size_t n = 0; n != guests; ++n) left[n] = n;
  std::mt19937_64 random(1);
  while (!left.empty()) {
    const std::size_t pick = random() % left.size();
    const std::size_t guest = left[pick];
    steps.push_back({next[guest]++, guest});
    if (next[guest] == events) left.erase(left.begin() + static_cast<std::ptrdiff_t>(pick));
  }
  return steps;
}

/// The last step after which the most mappings are live.
std::size_t fullest(const trace& t, const std::vector<step>& steps, std::size_t guests) {
  std::vector<std::size_t> live(guests, 0);
  std::size_t now = 0, most = 0, at = 0;
  for (std::size_t n = 0; n != steps.size(); ++n) {
    std::size_t& own = live[steps[n].guest];
    now += t.live_after[steps[n].event] - own;
    own = t.live_after[steps[n].event];
    if (now >= most) most = now, at = n;
  }
  return at;
}

int fail(const std::string& where, const std::string& why) {
  std::fflush(stdout);
  std::fprintf(stderr, "%s: %s\n", where.c_str(), why.c_str());
  return 1;
}

int run(const options& o) {
  const auto text = contents_of(o.trace);
  if (!text) return fail(o.trace, std::strerror(text.error()));
  const auto parsed = parse(*text);
  if (!parsed) {
    const trace_error& e = parsed.error();
    return fail(e.line == 0 ? o.trace : o.trace + ":" + std::to_string(e.line), e.reason);
  }
  const trace& t = *parsed;
  const auto at_line = [&](std::size_t line) { return o.trace + ":" + std::to_string(line); };

  // Guests lie side by side, with a gap as wide as they are between them.
  const std::uint64_t widest = std::max(t.last.value, 2 * iopt::gibibyte);
  std::uint64_t stride = 0;
  if (o.guests > 1) {
    const bool fits = widest < std::uint64_t{1} << 62 &&
                      o.guests - 1 <= (iopt::top - widest) / (2 * std::bit_ceil(widest + 1));
    if (!fits)
      return fail(o.trace, std::to_string(o.guests) + " guests that reach " + hex(t.last.value) +
                               " do not fit into 2^64 bytes");
    stride = 2 * std::bit_ceil(widest + 1);
  }

  progress_bar progress;
  auto memory =
      guest_memory::create(t, o.guests, o.block_bytes, [&](std::uint64_t done, std::uint64_t all) {
        progress.tell("filling the memory", done, all);
      });
  if (!memory) return fail(o.trace, memory.error());

  machine_options kind;
  kind.domains = o.domains.value_or(t.spoken == dialect::vmm ? 2 : 1);
  kind.profile = o.profile;
  for (const event& e : t.events)
    if (e.where.overlaps(interrupt_window)) kind.reserve_interrupts = false;
  machine m(**memory, kind);
  checker checker(m);
  clock::duration checking{};

  picture p;
  const std::size_t slash = o.trace.find_last_of('/');
  p.name = slash == o.trace.npos ? o.trace : o.trace.substr(slash + 1);
  p.title = t.title;
  p.spoken = t.spoken;
  p.guests = o.guests;
  p.regions = (*memory)->regions();
  if (kind.reserve_interrupts) p.reserved.push_back(interrupt_window);

  std::printf("%s: %s events, %s map and %s unmap; %zu %s, %zu %s, unmap profile %s%s\n",
              p.name.c_str(), count_text(t.events.size()).c_str(), count_text(t.maps).c_str(),
              count_text(t.unmaps()).c_str(), o.guests, o.guests == 1 ? "guest" : "guests",
              kind.domains, kind.domains == 1 ? "domain" : "domains",
              std::string(iopt::name(o.profile)).c_str(), o.verify ? ", each event verified" : "");
  if (!t.title.empty()) std::printf("  %s\n", t.title.c_str());
  std::fflush(stdout);

  const std::vector<step> steps = schedule(t.events.size(), o.guests);
  const std::size_t shown = fullest(t, steps, o.guests);
  for (std::size_t n = 0; n != steps.size(); ++n) {
    const event& e = t.events[steps[n].event];
    const std::uint64_t base = stride * steps[n].guest;
    if (const std::string fault = m.replay(e, steps[n].guest, base); !fault.empty()) {
      progress.erase();
      return fail(at_line(e.line), fault);
    }
    if (o.verify) {
      const clock::time_point start = clock::now();
      const std::string fault = checker.after(e, base);
      checking += clock::now() - start;
      if (!fault.empty()) {
        progress.erase();
        return fail(at_line(e.line), "after this event: " + fault);
      }
    }
    if (n == shown) {
      take_snapshot(m, p);
      p.shown_event = n;
      p.shown_line = e.line;
    }
    progress.tell(o.verify ? "replaying, verifying" : "replaying", n + 1, steps.size());
  }
  if (m.live().size() != 0) {
    std::string fault = m.plug_in_again();
    if (fault.empty() && o.verify) fault = checker.everything();
    if (!fault.empty()) {
      progress.erase();
      return fail(o.trace, "at the end: " + fault);
    }
  }
  progress.erase();

  std::fputs(report(m, o.verify ? &checker : nullptr, checking).c_str(), stdout);
  const std::string left = m.close();
  const bool colours = ::isatty(STDOUT_FILENO) == 1 && std::getenv("NO_COLOR") == nullptr;
  std::fputs(draw_text(p, colours).c_str(), stdout);
  if (!left.empty()) return fail(o.trace, "at the end: " + left);
  std::printf("\n  at the end everything is unmapped: 0 pins, 0 charged pages, 0 entries left\n");

  if (!o.svg.empty()) {
    p.lifetimes = m.lifetimes();
    p.events = steps.size();
    if (!write_file(o.svg, draw_svg(p))) return fail(o.svg, std::strerror(errno));
    std::printf("  the picture is in %s\n", o.svg.c_str());
  }
  return std::fflush(stdout) == 0 ? 0 : fail("standard output", std::strerror(errno));
}

}  // namespace

}  // namespace replay

int main(int count, char** arguments) {
  const replay::options o = replay::parse_options(count, arguments);
  if (o.help) {
    std::fputs(replay::usage_text, stdout);
    std::fputs(replay::help_text, stdout);
    return 0;
  }
  if (!o.fault.empty()) {
    std::fprintf(stderr, "replay: %s\n%s(--help tells more)\n", o.fault.c_str(),
                 replay::usage_text);
    return 2;
  }
  return replay::run(o);
}
