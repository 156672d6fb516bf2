// iopt/policy/backing_page.hpp - a page_pinner that knows how large the page behind a frame is.
//
// Most IOMMUs are told addresses of whole CPU pages, and a larger entry only saves entries. One
// whose page is larger than the CPU's shows the device all of it, so somebody has to say whether
// all of it belongs to the caller: the page that the memory manager allocated there.
//
// Layer: policy. Includes: base, policy/page_pinner.hpp, the standard library.
#pragma once

#include <concepts>
#include <cstdint>

#include "iopt/base/address.hpp"
#include "iopt/policy/page_pinner.hpp"

namespace iopt {

/// backing_page: the allocation that a frame is part of.
struct backing_page {
  std::uint64_t length_bytes;   // a power of two, at least the CPU's page; aligned to itself
  bool from_huge_pool = false;  // hugetlb: it stays one page as long as it is pinned

  friend constexpr bool operator==(backing_page, backing_page) noexcept = default;
};

/// A pinner that also tells how large the page behind a frame is.
///
///   p.backing_page_of(frame)   the allocation that the pinned frame lies in: whoever has one of its
///                              frames has all of them. Constant while the frame is pinned.
/// Without it every page is taken to be one of the CPU's.
/// Tested by tests/backends/mock/huge_pages_test.cpp
template <class P>
concept backing_pinner = page_pinner<P> && requires(P& p, physical frame) {
  { p.backing_page_of(frame) } noexcept -> std::same_as<backing_page>;
};

/// The page behind a frame, as far as the pinner can tell.
template <page_pinner P>
backing_page backing_page_of(P& pinner, physical frame, std::uint64_t page_bytes) noexcept {
  if constexpr (backing_pinner<P>) {
    return pinner.backing_page_of(frame);
  } else {
    return {page_bytes};
  }
}

}  // namespace iopt
