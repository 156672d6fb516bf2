// iopt/containers/area_map_check.hpp - whether an area_map's tree is sound.
//
// Every invariant of detail::area_tree is recomputed from the entries, in O(n).
//
// Layer: containers. Includes: base/address.hpp, containers/area_map_leaf.hpp, the standard
// library.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "iopt/base/address.hpp"
#include "iopt/containers/area_map_leaf.hpp"

namespace iopt::detail {

/// area_tree_check: walks a tree once; wrong() names the first invariant that does not hold.
///
/// Tested by  tests/containers/area_map_check_test.cpp
template <class Tree>
class area_tree_check {
 public:
  using node = area_map_node;

  /// Empty where the tree is sound.
  static std::string_view wrong(const Tree& tree) noexcept {
    if (tree.root() == nullptr) {
      if (tree.size() != 0 || tree.node_bytes() != 0 || tree.height() != 0) return "counts";
      return {};
    }
    area_tree_check check(tree);
    std::uint64_t hole = 0;
    check.below(tree.root(), tree.height(), true, true, top, hole);
    if (!check.wrong_.empty()) return check.wrong_;
    if (tree.root()->parent != nullptr || check.leaf_->next != nullptr ||
        tree.last_leaf() != check.leaf_)
      return "links";
    if (check.entries_ != tree.size() || check.nodes_ * sizeof(node) != tree.node_bytes() ||
        check.last_ != tree.last_address())
      return "counts";
    return {};
  }

 private:
  explicit area_tree_check(const Tree& tree) noexcept : tree_(tree) {}

  bool require(bool holds, std::string_view name) noexcept {
    if (!holds && wrong_.empty()) wrong_ = name;
    return holds;
  }

  /// Checks a subtree whose fence is `fence`; answers its longest hole.
  void below(const node* n, unsigned level, bool leftmost, bool rightmost, std::uint64_t fence,
             std::uint64_t& longest) noexcept {
    ++nodes_;
    const std::uint32_t least = n == tree_.root()         ? (level == 0 ? 1 : 2)
                                : !leftmost && !rightmost ? Tree::least
                                : level == 0              ? 1
                                                          : 2;
    const unsigned most = leaf_form::of(*n).capacity();
    if (!require(n->count >= least && n->count <= most, "occupancy")) return;
    if (!require(has_sound_words(*n, level), "words")) return;
    if (level == 0) return leaf(*n, rightmost, fence, longest);
    longest = 0;
    for (unsigned c = 0; c < n->count; ++c) {
      const bool final = c + 1 == n->count;
      std::uint64_t hole = 0;
      if (!require(n->child(c)->parent == n, "links")) return;
      below(n->child(c), level - 1, leftmost && c == 0, rightmost && final,
            final ? fence : n->plain.last[c], hole);
      if (!wrong_.empty() || !require(hole == n->hole(c), "holes")) return;
      longest = hole > longest ? hole : longest;
    }
  }

  void leaf(const node& n, bool rightmost, std::uint64_t fence, std::uint64_t& longest) noexcept {
    const std::uint64_t space = leaf_ == nullptr ? 0 : last_ + 1;
    if (!require(n.previous == leaf_ && (leaf_ == nullptr || leaf_->next == &n), "links")) return;
    leaf_ = &n;
    longest = 0;
    std::uint64_t begin = space;
    for (unsigned e = 0; e < n.count; ++e, ++entries_) {
      const std::uint64_t first = first_of(n, e), last = last_of(n, e);
      const bool room = entries_ == 0 || last_ != top;
      if (!require(room && first >= begin && first <= last, "entries")) return;
      longest = first - begin > longest ? first - begin : longest;
      last_ = last;
      begin = last_ + 1;
    }
    if (!require(rightmost ? fence == top : fence == last_, "fences")) return;
    require(n.space_first == space, "space");
  }

  const Tree& tree_;
  std::string_view wrong_;
  const node* leaf_ = nullptr;  // the leaf before
  std::uint64_t last_ = 0;
  std::size_t entries_ = 0;
  std::size_t nodes_ = 0;
};

}  // namespace iopt::detail
