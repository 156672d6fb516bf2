// examples/interpose/settings.cpp - what the environment says of the machine.
#include "settings.hpp"

#include <unistd.h>

#include <charconv>
#include <cstdlib>
#include <string>
#include <string_view>

namespace interpose {
namespace {

using iopt::iova_range;

[[noreturn]] void refuse(const char* name, std::string_view value, const char* wanted) {
  const std::string text = std::string("libiopt_interpose: ") + name + "=" + std::string(value) +
                           ": not " + wanted + "\n";
  [[maybe_unused]] const ssize_t told = ::write(STDERR_FILENO, text.data(), text.size());
  ::_exit(1);
}

/// Decimal, or hexadecimal behind 0x; nothing before or after it.
std::optional<std::uint64_t> number(std::string_view text) {
  int base = 10;
  if (text.starts_with("0x") || text.starts_with("0X")) {
    base = 16;
    text.remove_prefix(2);
  }
  std::uint64_t value = 0;
  const char* const end = text.data() + text.size();
  const auto [at, error] = std::from_chars(text.data(), end, value, base);
  if (error != std::errc{} || at != end) return std::nullopt;
  return value;
}
std::optional<iova_range> range(std::string_view text) {
  const std::size_t dash = text.find('-');
  if (dash == text.npos) return std::nullopt;
  const auto first = number(text.substr(0, dash));
  const auto last = number(text.substr(dash + 1));
  if (!first || !last || *first > *last) return std::nullopt;
  return iova_range{{*first}, {*last}};
}
std::optional<std::vector<iova_range>> ranges(std::string_view text) {
  std::vector<iova_range> all;
  while (!text.empty()) {
    const std::size_t comma = std::min(text.find(','), text.size());
    const auto one = range(text.substr(0, comma));
    if (!one || comma + 1 == text.size()) return std::nullopt;
    all.push_back(*one);
    text.remove_prefix(std::min(comma + 1, text.size()));
  }
  return all;
}

/// Calls take(value), which says whether it makes sense, where the variable is there.
template <class Take>
void read(const char* name, const char* wanted, Take take) {
  const char* const value = std::getenv(name);
  if (value != nullptr && !take(std::string_view(value))) refuse(name, value, wanted);
}
template <class Integer>
void read_number(const char* name, const char* wanted, std::uint64_t least, std::uint64_t most,
                 Integer& out) {
  read(name, wanted, [&](std::string_view text) {
    const auto value = number(text);
    if (!value || *value < least || *value > most) return false;
    out = static_cast<Integer>(*value);
    return true;
  });
}
template <class Flag>
void read_flag(const char* name, Flag& out) {
  read_number(name, "0 or 1", 0, 1, out);
}

settings read_all() {
  settings s;
  read_number("IOPT_GROUPS", "a number from 1 to 256", 1, 256, s.groups);
  std::uint64_t sizes = s.page_sizes.bitmap();
  read_number("IOPT_PAGE_SIZES", "a bitmap of page sizes from 512 bytes to 256 TiB", 512,
              (std::uint64_t{1} << 49) - 1, sizes);
  s.page_sizes = iopt::page_size_set::from_bitmap(sizes);
  if (s.page_sizes.smallest() < 512)
    refuse("IOPT_PAGE_SIZES", std::getenv("IOPT_PAGE_SIZES"),
           "a bitmap of page sizes from 512 bytes to 256 TiB");
  read("IOPT_APERTURE", "FIRST-LAST, in whole pages of IOPT_PAGE_SIZES",
       [&](std::string_view text) {
         const auto r = range(text);
         if (!r || !r->is_aligned(s.page_sizes.smallest())) return false;
         s.aperture = *r;
         return true;
       });
  read("IOPT_RESERVED", "FIRST-LAST,...", [&](std::string_view text) {
    auto all = ranges(text);
    if (!all) return false;
    s.reserved = std::move(*all);
    return true;
  });
  read_flag("IOPT_COHERENT", s.coherent);
  read_flag("IOPT_HOLE_PUNCHING", s.hole_punching);
  read_number("IOPT_DMA_ENTRY_LIMIT", "a number of 32 bits", 0, ~std::uint32_t{0},
              s.dma_entry_limit);
  if (std::getenv("IOPT_CAP_IPC_LOCK") != nullptr)
    read_flag("IOPT_CAP_IPC_LOCK", s.lock_memory.emplace());
  return s;
}

[[gnu::constructor]] void read_at_load() { static_cast<void>(chosen()); }

}  // namespace

const settings& chosen() {
  static const settings* const read_once = new settings(read_all());
  return *read_once;
}

}  // namespace interpose
