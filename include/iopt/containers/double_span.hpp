// iopt/containers/double_span.hpp - two trees over one window, as used by the first, by the second
// only, or by neither.
//
// Pages are read from the cheapest holder and given back where nobody else holds them. Reading
// walks (accesses, areas): first where a frame is stored, then where a domain has it, holes are to
// be pinned. Giving back walks (areas, accesses): only the holes are unpinned.
//
// Layer: containers. Includes: base, containers/coverage_spans.hpp, the standard library.
#pragma once

#include <cstdint>
#include <type_traits>

#include "iopt/base/assert.hpp"
#include "iopt/base/range.hpp"
#include "iopt/containers/coverage_spans.hpp"

namespace iopt {

/// Whose a span is. Where both trees use an address, it is the first's.
enum class span_owner : std::uint8_t { first, second, none };

/// owned_span: a maximal run of addresses with one owner, in a window.
template <class Address>
struct owned_span {
  closed_range<Address> range{};
  span_owner owner = span_owner::none;

  friend constexpr bool operator==(const owned_span&, const owned_span&) noexcept = default;
};

/// double_span: walks a window of two interval trees, from its first address to its last.
///
///   for (double_span walk(&first, &second, window); walk.valid(); walk.next()) {
///     use(walk.range(), walk.owner());
///   }
///
/// Model       Let A and B be the unions of the two trees' nodes. The spans are the maximal runs of
///             A, of B without A, and of what is in neither; together they are the window.
/// Errors      None. The trees may change after the walk's last step, not before; a null tree is an
///             empty one.
/// Cost        O((k + 1) log n) for k nodes that make their span longer. Of the second tree, what
///             lies inside one span of the first is passed over in O(log n). Lazy: nothing past the
///             next span of each tree is looked at.
/// Threads     Thread-compatible: walks of trees that nobody changes may run together.
/// Tested by   tests/containers/double_span_test.cpp
template <class First, class Second>
class double_span {
 public:
  using address_type = typename First::address_type;
  using range_type = closed_range<address_type>;
  static_assert(std::is_same_v<address_type, typename Second::address_type>);

  double_span(const First* first, const Second* second, range_type window) noexcept
      : first_(first, window), second_(second), window_(window) {
    enter();
  }

  bool valid() const noexcept { return valid_; }
  range_type range() const noexcept { return span_.range; }
  span_owner owner() const noexcept { return span_.owner; }
  owned_span<address_type> operator*() const noexcept { return span_; }

  void next() noexcept {
    IOPT_ASSERT(valid_);
    const address_type last = span_.range.last;
    if (last == window_.last) {
      valid_ = false;
      return;
    }
    if (first_.range().last == last) {
      first_.next();
      enter();
    } else {
      second_.next();
      show_second();
    }
  }

 private:
  // The second tree is only ever walked inside the holes of the first.
  void enter() noexcept {
    if (first_.used()) {
      span_ = {first_.range(), span_owner::first};
    } else {
      second_.restart(first_.range());
      show_second();
    }
  }
  void show_second() noexcept {
    span_ = {second_.range(), second_.used() ? span_owner::second : span_owner::none};
  }

  coverage_spans<First> first_;
  coverage_spans<Second> second_;
  range_type window_;
  owned_span<address_type> span_{};
  bool valid_ = true;
};

}  // namespace iopt
