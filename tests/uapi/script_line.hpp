// tests/uapi/script_line.hpp - a script of ioctls: the words of a line, who runs it, and how answers
// are told.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "iopt/base/error.hpp"
#include "iopt/policy/credentials.hpp"

namespace iopt::test {

/// script_line: `map 0x20 3 0 0x1000 0x2000`, and so on.
class script_line {
 public:
  explicit script_line(std::string_view line) {
    while (!line.empty()) {
      const std::size_t end = std::min(line.find(' '), line.size());
      if (end != 0) words_.emplace_back(line.substr(0, end));
      line.remove_prefix(std::min(end + 1, line.size()));
    }
  }

  std::string_view word(std::size_t n) const {
    return n < words_.size() ? std::string_view(words_[n]) : std::string_view();
  }
  std::size_t size() const { return words_.size(); }
  std::uint64_t number(std::size_t n) const {
    return n < words_.size() ? std::strtoull(words_[n].c_str(), nullptr, 0) : 0;
  }
  std::uint32_t number32(std::size_t n) const { return static_cast<std::uint32_t>(number(n)); }

 private:
  std::vector<std::string> words_;
};

/// The process that runs a script: it may do everything, or nothing.
struct script_caller {
  const bool* privileged;
  bool has(capability) const noexcept { return *privileged; }
};

/// 0 as 0, all else as 0x...
inline std::string hex(std::uint64_t v) {
  char text[24];
  std::snprintf(text, sizeof text, "%#llx", static_cast<unsigned long long>(v));
  return text;
}

/// What an ioctl returned: 0, or the errno's name as replay spells it.
inline std::string status(std::int64_t answer) {
  if (answer >= 0) return "0";
  const errc code = static_cast<errc>(-answer);
  return code == errc::resource_deadlock_would_occur ? "EDEADLOCK" : std::string(name(code));
}

/// `raw REQUEST WORD...`: an ioctl whose argument is words of 32 bits, zeroes behind them; those at
/// its beginning that the ioctl changed are told.
template <class Ioctl>
std::string raw_text(const script_line& line, Ioctl ioctl) {
  std::vector<std::uint32_t> words(2048);
  for (std::size_t n = 2; n < line.size(); ++n) words[n - 2] = line.number32(n);
  const std::vector<std::uint32_t> before = words;
  const std::int64_t answer =
      ioctl(line.number32(1), std::uint64_t{reinterpret_cast<std::uintptr_t>(words.data())});
  std::string text = status(answer);
  for (std::size_t n = 0; n < 32; ++n)
    if (words[n] != before[n]) text += " " + std::to_string(n) + ":" + hex(words[n]);
  return text;
}

/// The bits of a bitmap as replay tells them: how many, and a hash.
inline std::string bits_text(const std::uint64_t* words, std::uint64_t bytes) {
  std::uint64_t count = 0;
  std::uint64_t hash = 1469598103934665603U;
  for (std::uint64_t n = 0; n < bytes / 8; ++n) {
    count += static_cast<std::uint64_t>(__builtin_popcountll(words[n]));
    hash = (hash ^ words[n]) * 1099511628211U;
  }
  char text[64];
  std::snprintf(text, sizeof text, " set=%llu fnv=%016llx", static_cast<unsigned long long>(count),
                static_cast<unsigned long long>(hash));
  return text;
}

}  // namespace iopt::test
