// iopt/containers/overlap_check.hpp - whether an overlap_map's tree is sound.
//
// Every invariant of detail::overlap_tree is recomputed from the entries, in O(n).
//
// Layer: containers. Includes: base/address.hpp, containers/area_map_leaf.hpp,
// containers/area_map_node.hpp, containers/overlap_leaf.hpp, the standard library.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "iopt/base/address.hpp"
#include "iopt/containers/area_map_leaf.hpp"
#include "iopt/containers/area_map_node.hpp"
#include "iopt/containers/overlap_leaf.hpp"

namespace iopt::detail {

/// overlap_tree_check: walks a tree once; wrong() names the first invariant that does not hold.
///
/// Tested by  tests/containers/overlap_check_test.cpp
template <class Tree>
class overlap_tree_check {
 public:
  using node = area_map_node;

  /// Empty where the tree is sound.
  static std::string_view wrong(const Tree& tree) noexcept {
    if (tree.root() == nullptr) {
      if (tree.size() != 0 || tree.node_bytes() != 0 || tree.height() != 0) return "counts";
      return {};
    }
    overlap_tree_check seen(tree);
    seen.below(*tree.root(), tree.height(), true, true, 0, top);
    if (!seen.wrong_.empty()) return seen.wrong_;  // perhaps before the first leaf
    seen.require(tree.root()->parent == nullptr && seen.leaf_->next == nullptr &&
                     tree.last_leaf() == seen.leaf_,
                 "links");
    const std::size_t bytes = seen.nodes_ * sizeof(node);
    seen.require(seen.entries_ == tree.size() && bytes == tree.node_bytes(), "counts");
    return seen.wrong_;
  }

 private:
  explicit overlap_tree_check(const Tree& tree) noexcept : tree_(tree) {}

  bool require(bool holds, std::string_view name) noexcept {
    if (!holds && wrong_.empty()) wrong_ = name;
    return wrong_.empty();
  }

  /// Checks a subtree between two fences; answers how far it reaches.
  std::uint64_t below(const node& n, unsigned level, bool leftmost, bool rightmost,
                      std::uint64_t low, std::uint64_t high) noexcept {
    ++nodes_;
    const unsigned few = level == 0 ? 1 : 2;  // in the root and at either end
    const bool outer = &n == tree_.root() || leftmost || rightmost;
    const unsigned most = leaf_form::of(n).capacity();
    if (!require(n.count >= (outer ? few : Tree::least) && n.count <= most, "occupancy")) return 0;
    if (!require(has_sound_words(n, level), "words")) return 0;
    if (level == 0) return leaf(n, low, high);
    std::uint64_t reach = 0;
    for (unsigned c = 0; c < n.count && wrong_.empty(); ++c) {
      if (!require(n.child(c)->parent == &n, "links")) return 0;
      const bool final = c + 1 == n.count;
      const std::uint64_t known =
          below(*n.child(c), level - 1, leftmost && c == 0, rightmost && final,
                c == 0 ? low : n.plain.last[c - 1], final ? high : n.plain.last[c]);
      require(known == n.plain.first[c], "reach");
      reach = std::max(reach, known);
    }
    return reach;
  }

  std::uint64_t leaf(const node& n, std::uint64_t low, std::uint64_t high) noexcept {
    require(n.previous == leaf_ && (leaf_ == nullptr || leaf_->next == &n), "links");
    leaf_ = &n;
    std::uint64_t reach = 0;
    for (unsigned e = 0; e < n.count; ++e, ++entries_) {
      require(begin_of(n, e) <= end_of(n, e), "entries");
      require(e == 0 || begin_of(n, e - 1) <= begin_of(n, e), "order");
      reach = std::max(reach, end_of(n, e));
    }
    require(low <= begin_of(n, 0) && begin_of(n, n.count - 1) <= high, "fences");
    return reach;
  }

  const Tree& tree_;
  std::string_view wrong_;
  const node* leaf_ = nullptr;  // the last one
  std::size_t entries_ = 0;
  std::size_t nodes_ = 0;
};

}  // namespace iopt::detail
