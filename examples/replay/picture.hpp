// examples/replay/picture.hpp - a picture of an address space: what is mapped where, by which
// entries, and how it came to be.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "examples/replay/machine.hpp"

namespace replay {

/// picture: all that is drawn.
struct picture {
  /// Neighbouring entries of one size.
  struct entries {
    iopt::iova_range where{};
    std::uint64_t entry_bytes = 0;
  };

  std::string name;   // of the trace
  std::string title;  // what its head says
  dialect spoken = dialect::vmm;
  std::size_t guests = 1;
  std::size_t events = 0;
  std::size_t shown_event = 0;      // the address space is shown as it was after this one ...
  std::size_t shown_line = 0;       // ... on this line
  std::vector<mapping> live;        // then
  std::vector<entries> in_domain;   // then, in the first domain
  std::vector<lifetime> lifetimes;  // of every mapping there ever was
  std::vector<iopt::iova_range> reserved;
  std::vector<region> regions;
};

/// Takes what there is to see of the machine now; `lifetimes` and `events` are left for the end.
void take_snapshot(machine& m, picture& p);

/// stretch: a piece of the scale; within it positions are linear.
struct stretch {
  enum class kind : std::uint8_t { used, hole, reserved };
  iopt::iova_range where{};
  kind what = kind::hole;
};

/// Cuts the address space, from 0 to 2^64 - 1, into stretches: at every end of a used range where
/// that makes no more than about `most`, else where long holes are.
std::vector<stretch> cut_scale(const std::vector<iopt::iova_range>& used,
                               const std::vector<iopt::iova_range>& reserved, std::size_t most);

/// The name of a region: A to Z, then A1 and so on.
std::string region_name(std::size_t n);
/// The number of the region that holds an address of the trace.
std::size_t region_number(const std::vector<region>& regions, std::uint64_t source);

/// "640 KiB", "2.99 GiB". `bytes_minus_one`, since a hole may be all of 2^64 bytes.
std::string bytes_text(std::uint64_t bytes_minus_one);
/// "786,432".
std::string count_text(std::uint64_t count);
/// "1,023 x 2M + 256 x 4K": the entries inside a range.
std::string entries_text(const picture& p, iopt::iova_range where);
/// What a stretch that is in use shows: "A + 0xc0000", or how many mappings.
std::string shown_text(const picture& p, iopt::iova_range where);

std::string draw_text(const picture& p, bool colours);
std::string draw_svg(const picture& p);

}  // namespace replay
