// iopt/containers/leaf_cursor.hpp - the cursor of a map over node_tree, and its values as words.
//
// Layer: containers. Includes: base, containers/area_map_leaf.hpp, containers/node_tree.hpp,
// the standard library.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "iopt/base/assert.hpp"
#include "iopt/base/range.hpp"
#include "iopt/containers/area_map_leaf.hpp"
#include "iopt/containers/node_tree.hpp"

namespace iopt::detail {

template <class Value>
std::uint64_t to_word(Value v) noexcept {
  static_assert(std::is_trivially_copyable_v<Value> && sizeof(Value) <= 8);
  std::uint64_t word = 0;
  std::memcpy(&word, &v, sizeof v);
  return word;
}
template <class Value>
Value from_word(std::uint64_t word) noexcept {
  Value v;
  std::memcpy(&v, &word, sizeof v);
  return v;
}

/// leaf_cursor: an entry of a map, or none. Map::range_of(leaf, index) says what a leaf's words mean.
///
/// Tested by   tests/containers/area_map_test.cpp, tests/containers/overlap_map_test.cpp
template <class Map, class Address, class Value>
class leaf_cursor : leaf_walk {
 public:
  leaf_cursor() noexcept = default;
  bool valid() const noexcept { return leaf_ != nullptr; }
  explicit operator bool() const noexcept { return valid(); }

  closed_range<Address> range() const noexcept {
    IOPT_ASSERT(valid());
    return Map::range_of(*leaf_, index_);
  }
  Value value() const noexcept {
    IOPT_ASSERT(valid());
    return from_word<Value>(value_of(*leaf_, index_));
  }
  /// Requires: the cursor comes from a map that may be modified.
  void set_value(Value v) const noexcept {
    IOPT_ASSERT(valid());
    value_of(*leaf_, index_) = to_word(v);
  }
  /// To the entry behind; from the last one, to none. Requires: valid().
  leaf_cursor& next() noexcept {
    IOPT_ASSERT(valid());
    forward();
    return *this;
  }
  /// To the entry before; from the first one, to none. Requires: valid().
  leaf_cursor& prev() noexcept {
    IOPT_ASSERT(valid());
    back();
    return *this;
  }
  friend bool operator==(leaf_cursor a, leaf_cursor b) noexcept {
    return static_cast<const leaf_walk&>(a) == static_cast<const leaf_walk&>(b);
  }

 private:
  friend Map;
  using leaf_walk::leaf_walk;
};

}  // namespace iopt::detail
