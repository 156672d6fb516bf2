// iopt/containers/interval_tree_balance.hpp - interval_tree: ranks, after an insertion and an erasure.
//
// The tree is a WAVL tree: as flat as an AVL tree while only insertions happen, at most two
// rotations for an erasure, and one bit of balance, the parity of a node's rank, kept in its parent
// pointer.
//
// Tested by tests/containers/interval_tree_test.cpp.
//
// Layer: containers. Includes: containers/interval_tree.hpp.
#pragma once

#include <cstddef>

#include "iopt/containers/interval_tree.hpp"

namespace iopt {

/// The child of `down` on `side` takes its place, and `down` hangs below it on the other side.
template <class Node, class Address, class Probe>
inline void interval_tree<Node, Address, Probe>::rotate(link down, std::size_t side) noexcept {
  const link up = down->child_[side];
  take_place(up, down);
  hang(up->child_[!side], down, side);
  hang(down, up, !side);
  up->subtree_last = down->subtree_last;
  refresh(down);
}

template <class Node, class Address, class Probe>
inline void interval_tree<Node, Address, Probe>::balance_after_insert(link node) noexcept {
  // `node` may have its parent's rank.
  for (link parent = parent_of(node); parent != nullptr; parent = parent_of(node)) {
    Probe::visit();
    if (parity(node) != parity(parent)) return;
    const std::size_t side = parent->child_[right] == node ? right : left;
    if (parity(parent->child_[!side]) != parity(parent)) {
      shift_rank(parent);
      node = parent;
      continue;
    }
    const link inner = node->child_[!side];
    if (parity(inner) == parity(node)) {
      rotate(parent, side);
      shift_rank(parent);
    } else {
      rotate(node, !side);
      rotate(parent, side);
      shift_rank(inner);
      shift_rank(node);
      shift_rank(parent);
    }
    return;
  }
}

template <class Node, class Address, class Probe>
inline void interval_tree<Node, Address, Probe>::balance_after_erase(link node,
                                                                     link parent) noexcept {
  if (parent == nullptr) return;
  if (parent->child_[left] == nullptr && parent->child_[right] == nullptr) {
    if (parity(parent) == even) return;
    shift_rank(parent);  // a leaf of rank 1
    node = parent;
    parent = parent_of(node);
  }
  // The rank of `node` fell by one: it may be 3 less than its parent's.
  for (; parent != nullptr; node = parent, parent = parent_of(node)) {
    Probe::visit();
    if (parity(node) == parity(parent)) return;
    const std::size_t side = parent->child_[right] == node ? right : left;
    const link sibling = parent->child_[!side];
    if (parity(sibling) == parity(parent)) {
      shift_rank(parent);
      continue;
    }
    const link inner = sibling->child_[side];
    const link outer = sibling->child_[!side];
    if (parity(inner) == parity(sibling) && parity(outer) == parity(sibling)) {
      shift_rank(parent);
      shift_rank(sibling);
      continue;
    }
    if (parity(outer) != parity(sibling)) {
      rotate(parent, !side);
      shift_rank(sibling);
      const bool leaf = parent->child_[left] == nullptr && parent->child_[right] == nullptr;
      if (!leaf) shift_rank(parent);
    } else {
      rotate(sibling, side);
      rotate(parent, !side);
      shift_rank(sibling);
    }
    return;
  }
}

}  // namespace iopt
