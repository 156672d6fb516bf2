// iopt/containers/area_map_pool.hpp - the free nodes that an area_map keeps at hand.
//
// Insertions take their nodes from here, so that a map can be made sure of not failing, and
// erasures put them back, so that mapping and unmapping in turn does not go to the heap each time.
//
// Layer: containers. Includes: base, containers/area_map_node.hpp, the standard library.
#pragma once

#include <algorithm>
#include <cstddef>
#include <new>
#include <utility>

#include "iopt/base/address.hpp"
#include "iopt/base/assert.hpp"
#include "iopt/base/memory_source.hpp"
#include "iopt/containers/area_map_node.hpp"

namespace iopt::detail {

/// How many nodes `inserts` insertions into a tree take at most, whatever is erased in between.
/// A level of N nodes that receives k entries splits at most k nodes; nor more than N + 4 + k / 5.
/// For no node splits with fewer than 32 entries, its halves have at most 24, and nodes that share 8
/// and 48 have 28 each: it takes 5 entries more. At the two ends of the tree a node is split 31 to 1
/// and leaves another full: 4. Nodes that merging makes fuller have given back a node each.
constexpr std::size_t area_map_nodes_for(std::size_t inserts, std::size_t entries, unsigned height,
                                         std::size_t least_entries) noexcept {
  constexpr std::size_t apart = area_map_node::capacity - 2;  // splits of a node that began with 2
  if (inserts == 0) return 0;
  std::size_t nodes = 1;
  for (unsigned level = 0; level <= height; ++level) {
    entries = entries / least_entries + 2;  // nodes of this level
    inserts = std::min(inserts, entries + 4 + inserts / 5);
    nodes += inserts;
  }
  for (; inserts >= apart; nodes += inserts + 1) inserts /= apart;  // new levels
  return nodes;
}
static_assert(area_map_nodes_for(1, 0, 0, 8) == 2 && area_map_nodes_for(1, 99999, 3, 8) == 5);

/// area_map_pool: a stack of free nodes.
///
/// Errors     stock() answers false where the memory source refuses, and has then changed nothing.
/// Cost       take(), give() O(1).
/// Tested by  tests/containers/area_map_pool_test.cpp
template <memory_source Memory>
class area_map_pool {
 public:
  using node = area_map_node;
  static constexpr std::size_t usual = 4;  // what give() keeps where nothing was asked for

  explicit area_map_pool(Memory memory) noexcept : memory_(std::move(memory)) {}
  area_map_pool(const area_map_pool&) = delete;
  area_map_pool& operator=(const area_map_pool&) = delete;
  ~area_map_pool() { trim(); }

  const Memory& memory() const noexcept { return memory_; }
  std::size_t size() const noexcept { return size_; }

  /// From now on give() keeps up to so many nodes, and never fewer than the usual number.
  void keep(std::size_t nodes) noexcept { kept_ = std::max(usual, nodes); }

  /// Sees to it that the pool holds at least `wanted` nodes.
  bool stock(std::size_t wanted) noexcept {
    const std::size_t before = size_;
    while (size_ < wanted) {
      void* memory = memory_.allocate(sizeof(node), alignof(node));
      if (memory == nullptr) {
        for (; size_ > before; --size_) destroy(std::exchange(top_, top_->next));
        return false;
      }
      push(::new (memory) node);
    }
    return true;
  }

  /// An empty node. Requires: size() > 0.
  node* take() noexcept {
    IOPT_ASSERT(size_ != 0);
    node* n = std::exchange(top_, top_->next);
    --size_;
    n->parent = n->next = n->previous = nullptr;
    n->space_first = n->base = 0, n->count = 0, n->is_packed = false;
    clear_words(*n);
    return n;
  }
  void give(node* n) noexcept { size_ < kept_ ? push(n) : destroy(n); }
  void destroy(node* n) noexcept { memory_.deallocate(n, sizeof(node), alignof(node)); }

  /// Gives every free node back to the memory source.
  void trim() noexcept {
    while (top_ != nullptr) destroy(std::exchange(top_, top_->next));
    size_ = 0, kept_ = usual;
  }

  void swap(area_map_pool& other) noexcept {
    std::swap(memory_, other.memory_);
    std::swap(top_, other.top_);
    std::swap(size_, other.size_);
    std::swap(kept_, other.kept_);
  }

 private:
  void push(node* n) noexcept {
    n->next = std::exchange(top_, n);
    ++size_;
  }

  node* top_ = nullptr;
  std::size_t size_ = 0;
  std::size_t kept_ = usual;
  [[no_unique_address]] Memory memory_;
};

}  // namespace iopt::detail
