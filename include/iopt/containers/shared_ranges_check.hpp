// iopt/containers/shared_ranges_check.hpp - shared_ranges: whether its invariants hold.
//
// Tested by tests/containers/shared_ranges_test.cpp.
//
// Layer: containers. Includes: containers/shared_ranges.hpp.
#pragma once

#include <string_view>

#include "iopt/containers/shared_ranges.hpp"

namespace iopt {

namespace detail {

/// Walks the tree below a node, of which [lower, upper] belongs to it.
struct shared_ranges_check {
  std::size_t entries = 0;

  std::string_view wrong(void* node, unsigned height, std::uint64_t lower, std::uint64_t upper) {
    return height == 0 ? wrong(*static_cast<shared_leaf*>(node), lower, upper)
                       : wrong(*static_cast<shared_inner*>(node), height, lower, upper);
  }
  std::string_view wrong(const shared_leaf& l, std::uint64_t lower, std::uint64_t upper) {
    if (l.count > shared_capacity || l.used == 0) return "counts";
    for (unsigned n = 0; n < shared_capacity; ++n)
      if (n >= l.count ? l.last[n] != top : n != 0 && l.last[n] <= l.last[n - 1]) return "words";
    for (unsigned n = 0; n < l.count; ++n)
      if (l.at[n].first > l.last[n] || (n != 0 && l.at[n].first <= l.last[n - 1])) return "entries";
    for (unsigned n = 0; n < l.count; ++n)
      if (l.is_used(n) && (l.at[n].first < lower || l.last[n] > upper)) return "fences";
    if ((l.live.load(std::memory_order_relaxed) & ~std::uint64_t{l.used}) != 0 ||
        (l.used & ~used_bits(l.count)) != 0)
      return "live";
    entries += static_cast<std::size_t>(std::popcount(l.used));
    return "";
  }
  std::string_view wrong(const shared_inner& i, unsigned height, std::uint64_t lower,
                         std::uint64_t upper) {
    unsigned there = 0;
    for (const auto& c : i.child) there += c.load(std::memory_order_relaxed) != nullptr ? 1u : 0u;
    if (i.count == 0 || i.count > shared_inner_capacity || there == 0 || there != i.children)
      return "counts";
    for (unsigned n = 0; n < shared_inner_capacity; ++n)
      if (n + 1 >= i.count ? i.last[n] != top : n != 0 && i.last[n] <= i.last[n - 1])
        return "words";
    for (unsigned n = 0; n < i.count; ++n) {
      void* const child = i.child[n].load(std::memory_order_relaxed);
      const std::uint64_t from = n == 0 ? lower : std::max(lower, i.last[n - 1] + 1);
      const std::uint64_t to = std::min(upper, i.last[n]);
      if (child == nullptr) continue;
      if (from > to) return "fences";
      if (const std::string_view fault = wrong(child, height - 1, from, to); fault != "")
        return fault;
    }
    return "";
  }
};

}  // namespace detail

template <memory_source Memory, class Probe>
std::string_view shared_ranges<Memory, Probe>::verify() const {
  detail::shared_ranges_check check;
  const std::uintptr_t root = root_.load(std::memory_order_relaxed);
  if (root != 0) {
    if (const std::string_view fault = check.wrong(node_of(root), height_of(root), 0, top);
        fault != "")
      return fault;
  }
  return check.entries == size_ ? "" : "size";
}

}  // namespace iopt
