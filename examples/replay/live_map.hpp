// examples/replay/live_map.hpp - what a trace has mapped so far, kept as simply as it can be.
//
// It shares no code with the library: it finds faults in traces, and it is what the checker holds
// the library against.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <map>
#include <optional>

#include "iopt/base/range.hpp"

namespace replay {

/// mapping: one range that a trace has mapped, or what later events have left of it.
struct mapping {
  iopt::iova_range where{};
  std::uint64_t source = 0;  // the host or physical address that where.first shows
  std::size_t guest = 0;
  std::size_t line = 0;   // of the event that mapped it
  std::size_t event = 0;  // its number

  /// The host or physical address that an IOVA inside shows.
  std::uint64_t source_of(iopt::iova at) const noexcept { return source + (at - where.first); }
};

/// live_map: disjoint mappings in order.
///
/// Invariants  Mappings do not overlap. bytes() is the sum of their lengths.
class live_map {
 public:
  /// The first mapping that overlaps the range, or nullptr.
  const mapping* overlap(iopt::iova_range range) const {
    const auto at = first_overlap(range);
    return at == mappings_.end() ? nullptr : &at->second;
  }

  /// Requires: nothing overlaps.
  void add(const mapping& m) {
    mappings_.emplace(m.where.first.value, m);
    bytes_ += m.where.length();
  }

  /// The first address of the range that nothing is mapped at, or nothing.
  std::optional<iopt::iova> gap(iopt::iova_range range) const {
    iopt::iova next = range.first;
    for (auto at = first_overlap(range);; ++at) {
      if (at == mappings_.end() || at->second.where.first > next) return next;
      if (at->second.where.last >= range.last) return std::nullopt;
      next = at->second.where.last + 1;
    }
  }

  /// Takes out exactly the range, cutting what sticks out; calls gone(mapping) for each part.
  /// Returns the bytes taken out.
  template <class Gone>
  std::uint64_t remove(iopt::iova_range range, Gone gone) {
    std::uint64_t taken = 0;
    for (auto at = first_overlap(range);
         at != mappings_.end() && at->second.where.first <= range.last;) {
      const mapping old = at->second;
      at = mappings_.erase(at);
      const iopt::iova_range part = *old.where.intersection(range);
      mapping out = old;
      out.where = part;
      out.source = old.source_of(part.first);
      gone(out);
      taken += part.length();
      if (old.where.first < part.first) {
        mapping head = old;
        head.where.last = part.first - 1;
        mappings_.emplace(head.where.first.value, head);
      }
      if (part.last < old.where.last) {
        mapping tail = old;
        tail.where.first = part.last + 1;
        tail.source = old.source_of(tail.where.first);
        mappings_.emplace(tail.where.first.value, tail);
      }
    }
    bytes_ -= taken;
    return taken;
  }

  std::size_t size() const noexcept { return mappings_.size(); }
  std::uint64_t bytes() const noexcept { return bytes_; }
  const std::map<std::uint64_t, mapping>& all() const noexcept { return mappings_; }

 private:
  using tree = std::map<std::uint64_t, mapping>;

  tree::const_iterator first_overlap(iopt::iova_range range) const {
    auto at = mappings_.upper_bound(range.first.value);
    if (at != mappings_.begin()) {
      const auto before = std::prev(at);
      if (before->second.where.last >= range.first) return before;
    }
    return at != mappings_.end() && at->second.where.first <= range.last ? at : mappings_.end();
  }

  tree mappings_;
  std::uint64_t bytes_ = 0;
};

}  // namespace replay
