// iopt/backends/mock/table_node.hpp - what a mock page table is made of: words, nodes, spare nodes.
//
// Layer: backends/mock. Includes: base, the standard library.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <new>

#include "iopt/base/access.hpp"
#include "iopt/base/address.hpp"

namespace iopt::mock {

/// table_word: one slot of a table: a target address, and flags in the nine bits below 512.
struct table_word {
  static constexpr std::uint64_t present = 1;
  static constexpr std::uint64_t starts = 2;  // a range passed to map() starts with this word
  static constexpr std::uint64_t ends = 4;    // and ends with this one
  static constexpr std::uint64_t dirty = 8;
  static constexpr unsigned rights_shift = 4;
  static constexpr std::uint64_t rights = std::uint64_t{7} << rights_shift;
  static constexpr unsigned type_shift = 7;
  static constexpr std::uint64_t type = std::uint64_t{3} << type_shift;
  static constexpr std::uint64_t target = ~std::uint64_t{511};

  std::uint64_t bits = 0;

  constexpr table_word() noexcept = default;
  constexpr explicit table_word(std::uint64_t b) noexcept : bits(b) {}
  constexpr table_word(physical p, attributes a, std::uint64_t more = 0) noexcept
      : bits(p.value | present | static_cast<std::uint64_t>(a.rights) << rights_shift |
             static_cast<std::uint64_t>(a.type) << type_shift | more) {}

  constexpr bool is_entry() const noexcept { return (bits & present) != 0; }
  constexpr bool has(std::uint64_t flag) const noexcept { return (bits & flag) != 0; }
  constexpr physical where() const noexcept { return {bits & target}; }
  constexpr attributes how() const noexcept {
    return {static_cast<access_rights>((bits & rights) >> rights_shift),
            static_cast<memory_type>((bits & type) >> type_shift)};
  }
};

/// table_node: 512 words, and which of them go on with the entry before.
struct alignas(64) table_node {
  static constexpr unsigned width_lg2 = 9;
  static constexpr std::size_t width = std::size_t{1} << width_lg2;

  std::array<std::uint64_t, width> words{};
  std::array<std::uint64_t, width / 64> continues{};
  std::uint64_t used = 0;

  bool continued(std::size_t slot) const noexcept {
    return (continues[slot / 64] >> (slot % 64) & 1) != 0;
  }
  void set_continued(std::size_t slot, bool on) noexcept {
    const std::uint64_t bit = std::uint64_t{1} << (slot % 64);
    continues[slot / 64] = on ? continues[slot / 64] | bit : continues[slot / 64] & ~bit;
  }

  /// A node as a word of the node above, and back.
  static table_node* below(std::uint64_t word) noexcept {
    return reinterpret_cast<table_node*>(word);
  }
  static std::uint64_t word_for(table_node* n) noexcept {
    return reinterpret_cast<std::uintptr_t>(n);
  }
};

/// spare_nodes: empty nodes kept ready, so that what must not fail finds them.
///
/// Invariants  Every spare node is empty.
/// Errors      reserve() answers false without memory.
/// Threads     Thread-compatible.
/// Tested by   tests/backends/mock/page_table_test.cpp
class spare_nodes {
 public:
  static constexpr std::size_t usual = 1024;

  spare_nodes() = default;
  spare_nodes(const spare_nodes&) = delete;
  spare_nodes& operator=(const spare_nodes&) = delete;
  ~spare_nodes() { trim(0); }

  /// Makes sure that `count` nodes can be taken.
  bool reserve(std::size_t count) noexcept {
    while (count_ < count) {
      table_node* const n = new (std::nothrow) table_node;
      if (n == nullptr) return false;
      give(n);
    }
    return true;
  }
  table_node* take() noexcept {
    table_node* const n = first_;
    first_ = table_node::below(n->words[0]);
    n->words[0] = 0;
    --count_;
    return n;
  }
  /// Requires: n is empty.
  void give(table_node* n) noexcept {
    n->words[0] = table_node::word_for(first_);
    first_ = n;
    ++count_;
  }
  /// Frees all but `count`.
  void trim(std::size_t count) noexcept {
    while (count_ > count) delete take();
  }

 private:
  table_node* first_ = nullptr;
  std::size_t count_ = 0;
};

}  // namespace iopt::mock
