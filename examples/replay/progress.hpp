// examples/replay/progress.hpp - a bar on a terminal, for whoever waits longer than a second.
#pragma once

#include <unistd.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>

namespace replay {

/// progress_bar: draws on stderr, at most ten times a second, if that is a terminal.
class progress_bar {
 public:
  using clock = std::chrono::steady_clock;

  progress_bar() : is_terminal_(::isatty(STDERR_FILENO) == 1) {}
  ~progress_bar() { erase(); }
  progress_bar(const progress_bar&) = delete;
  progress_bar& operator=(const progress_bar&) = delete;

  void tell(std::string_view what, std::uint64_t done, std::uint64_t all) {
    if (!is_terminal_ || all == 0) return;
    const clock::time_point now = clock::now();
    if (now - start_ < std::chrono::seconds(1) || now - drawn_ < std::chrono::milliseconds(100))
      return;
    drawn_ = now;
    constexpr std::uint64_t cells = 32;
    static constexpr const char* parts[] = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
    const std::uint64_t eighths = done * cells * 8 / all;
    std::string bar;
    for (std::uint64_t n = 0; n != eighths / 8; ++n) bar += "█";
    bar += parts[eighths % 8];
    for (std::uint64_t n = eighths / 8 + (eighths % 8 != 0); n < cells; ++n) bar += ' ';
    std::fprintf(stderr, "\r  %-20.*s ▕%s▏ %3u %%", static_cast<int>(what.size()), what.data(),
                 bar.c_str(), static_cast<unsigned>(done * 100 / all));
    std::fflush(stderr);
    visible_ = true;
  }
  void erase() {
    if (visible_) std::fprintf(stderr, "\r\x1b[K");
    visible_ = false;
  }

 private:
  bool is_terminal_;
  bool visible_ = false;
  clock::time_point start_ = clock::now();
  clock::time_point drawn_{};
};

}  // namespace replay
