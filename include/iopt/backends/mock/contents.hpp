// iopt/backends/mock/contents.hpp - what a mock page table shows, as the fewest pieces.
//
// Layer: backends/mock. Includes: base, the standard library.
#pragma once

#include <vector>

#include "iopt/backends/mock/page_table.hpp"
#include "iopt/base/access.hpp"
#include "iopt/base/range.hpp"

namespace iopt::mock {

/// mapping: one piece of T: `range` shows the memory from `first` on.
///
/// Tested by tests/backends/mock/domain_test.cpp
struct mapping {
  iova_range range{};
  physical first{};
  attributes how{};

  /// Whether `next` goes on where this ends, in both spaces and with the same attributes.
  bool joins(const mapping& next) const noexcept {
    const std::uint64_t last = range.length_minus_one();
    return range.last.value + 1 == next.range.first.value && how == next.how &&
           first.value + last + 1 == next.first.value;
  }
  friend bool operator==(const mapping&, const mapping&) = default;
};

/// The part of T in r: equal for two tables exactly where T is, whatever their entries.
inline std::vector<mapping> contents_of(const page_table& table, iova_range r) {
  std::vector<mapping> all;
  table.for_each(r, [&](page_table::place at) {
    const iova_range part = *iova_range::sized({at.first}, at.slot_bytes).intersection(r);
    const mapping next{part, at.get().where() + (part.first.value - at.first), at.get().how()};
    if (!all.empty() && all.back().joins(next)) {
      all.back().range.last = part.last;
    } else {
      all.push_back(next);
    }
    return true;
  });
  return all;
}

}  // namespace iopt::mock
