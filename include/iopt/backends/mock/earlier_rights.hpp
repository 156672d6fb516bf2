// iopt/backends/mock/earlier_rights.hpp - which protect() is an undo, and so may not fail.
//
// Layer: backends/mock. Includes: base, the standard library.
#pragma once

#include <cstdint>
#include <optional>
#include <unordered_map>

#include "iopt/base/access.hpp"
#include "iopt/base/range.hpp"

namespace iopt::mock {

/// earlier_rights: for each range that was protected, the rights that all of it had just before.
///
/// Cost        O(1) a call; forget() O(1) where nothing is remembered.
/// Threads     Thread-compatible.
/// Tested by   tests/backends/mock/domain_test.cpp
class earlier_rights {
 public:
  bool gives_back(iova_range r, access_rights rights) const {
    const auto at = known_.find(r.first.value);
    return at != known_.end() && at->second.last == r.last && at->second.rights == rights;
  }
  /// `rights` is nothing where r had several.
  void remember(iova_range r, std::optional<access_rights> rights) {
    if (rights) {
      known_[r.first.value] = {r.last, *rights};
    } else {
      known_.erase(r.first.value);
    }
  }
  void forget() noexcept {
    if (!known_.empty()) known_.clear();
  }

 private:
  struct entry {
    iova last{};
    access_rights rights = access_rights::none;
  };
  std::unordered_map<std::uint64_t, entry> known_;
};

}  // namespace iopt::mock
