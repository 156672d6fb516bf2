// iopt/containers/coverage_spans.hpp - the union of a tree's ranges, as used and unused spans.
//
// What interval_tree::spans() returns. Tree is any set of ranges that answers first_overlap() and
// next_overlap() as interval_tree does.
//
// Layer: containers. Includes: base, the standard library.
#pragma once

#include <algorithm>

#include "iopt/base/assert.hpp"
#include "iopt/base/range.hpp"

namespace iopt {

/// coverage_span: a maximal run of addresses that are all used, or all unused, in a window.
template <class Address>
struct coverage_span {
  closed_range<Address> range{};
  bool used = false;

  friend constexpr bool operator==(const coverage_span&, const coverage_span&) noexcept = default;
};

/// coverage_spans: walks a window as spans, from its first address to its last.
///
///   for (auto walk = tree.spans(window); walk.valid(); walk.next()) {
///     use(walk.range(), walk.used());
///   }
///
/// Model       Used and unused spans alternate, and together they are the window. Nodes that only
///             touch are one span.
/// Errors      None. The tree may change after the walk's last step, not before.
/// Cost        O(log n) for each node that makes its span longer: nodes inside others are passed
///             over in their subtrees. Lazy: nothing past the next span is looked at.
/// Tested by   tests/containers/coverage_spans_test.cpp
template <class Tree>
class coverage_spans {
 public:
  using address_type = typename Tree::address_type;
  using range_type = closed_range<address_type>;

  /// A walk that is over; restart() begins one. No tree at all is an empty one.
  explicit coverage_spans(const Tree* tree) noexcept : tree_(tree) {}
  coverage_spans(const Tree* tree, range_type window) noexcept : tree_(tree) { restart(window); }

  /// Walks another window of the same tree, finding its start from where the walk was.
  /// Requires: every window walked before ends below window.first. Cost: that of its first span.
  void restart(range_type window) noexcept {
    IOPT_ASSERT(hint_ == nullptr || window_.last < window.first);
    window_ = window;
    valid_ = true;
    // No node before the hint reaches this window.
    if (hint_ == nullptr) {
      set_ahead(tree_ == nullptr ? nullptr : tree_->first_overlap(window));
    } else if (!Tree::range_of(*hint_).overlaps(window)) {
      set_ahead(tree_->next_overlap(*hint_, window));
    } else {
      set_ahead(hint_);
    }
    if (ahead_ != nullptr && Tree::range_of(*ahead_).first <= window.first) {
      use();
    } else {
      skip(window.first);
    }
  }

  bool valid() const noexcept { return valid_; }
  range_type range() const noexcept { return span_.range; }
  bool used() const noexcept { return span_.used; }
  coverage_span<address_type> operator*() const noexcept { return span_; }

  void next() noexcept {
    IOPT_ASSERT(valid_);
    if (span_.range.last == window_.last) {
      valid_ = false;
    } else if (span_.used) {
      skip(span_.range.last + 1);
    } else {
      use();
    }
  }

 private:
  using node_type = typename Tree::node_type;

  void set_ahead(node_type* node) noexcept {
    ahead_ = node;
    if (node != nullptr) hint_ = node;
  }
  void skip(address_type first) noexcept {
    span_ = {{first, ahead_ == nullptr ? window_.last : Tree::range_of(*ahead_).first - 1}, false};
  }
  void use() noexcept {
    const address_type first = std::max(Tree::range_of(*ahead_).first, window_.first);
    address_type last = Tree::range_of(*ahead_).last;
    while (last < window_.last) {
      // The next node in order that reaches further; all before it reach no further.
      set_ahead(tree_->next_overlap(*ahead_, {last + 1, window_.last}));
      if (ahead_ == nullptr || Tree::range_of(*ahead_).first > last + 1) break;
      last = Tree::range_of(*ahead_).last;
    }
    span_ = {{first, std::min(last, window_.last)}, true};
  }

  const Tree* tree_;
  node_type* ahead_ = nullptr;  // where the next used span starts
  node_type* hint_ = nullptr;   // the last node found; those before it reach no further than seen
  range_type window_{};
  coverage_span<address_type> span_{};
  bool valid_ = false;
};

}  // namespace iopt
