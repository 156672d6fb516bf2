// iopt/backends/mock/huge_pages.hpp - a mock pinner that knows which memory is in huge pages.
//
// Layer: backends/mock. Includes: backends/mock/pinner.hpp, policy/backing_page.hpp.
#pragma once

#include <cstdint>
#include <vector>

#include "iopt/backends/mock/pinner.hpp"
#include "iopt/base/range.hpp"
#include "iopt/policy/backing_page.hpp"

namespace iopt::mock {

/// huge_page_pinner: a mock pinner that is a backing_pinner.
///
/// Model       As pinner; and a partial function from frames to the pages that they are part of.
/// Threads     set_huge() before others call.
/// Tested by   tests/backends/mock/huge_pages_test.cpp
class huge_page_pinner : public pinner {
 public:
  using pinner::pinner;

  /// Memory of a process is in pages of that size, from the pool or not. Requires: whole pages,
  /// each contiguous and aligned.
  void set_huge(owner w, user_range r, std::uint64_t bytes, bool from_pool = true) {
    IOPT_ASSERT(r.is_aligned(bytes));
    for (user_address at = r.first;; at += bytes) {
      const physical first = frame_of(w, at);
      if (!first.is_aligned(bytes) || frame_of(w, at + (bytes - 1)) != first + (bytes - 1))
        violated("set_huge: not contiguous", at.value, bytes);
      huge_.push_back({physical_range::sized(first, bytes), {bytes, from_pool}});
      if (r.last - at == bytes - 1) return;
    }
  }

  backing_page backing_page_of(physical frame) noexcept {
    for (const entry& e : huge_)
      if (e.frames.contains(frame)) return e.page;
    return {page_bytes()};
  }

 private:
  struct entry {
    physical_range frames;
    backing_page page;
  };
  std::vector<entry> huge_;
};
static_assert(backing_pinner<huge_page_pinner> && !backing_pinner<pinner>);

}  // namespace iopt::mock
