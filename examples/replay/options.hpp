// examples/replay/options.hpp - the command line.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "iopt/base/page_sizes.hpp"
#include "iopt/core/unmap_profile.hpp"

namespace replay {

inline constexpr const char* usage_text =
    R"(usage: replay [--verify] [--guests N] [--domains N] [--profile NAME] [--blocks 2M|1G]
              [--svg FILE] TRACE
)";

inline constexpr const char* help_text = R"(
Carries the address space of a recorded program through an io_pagetable, event by event, over
real memory of this process and IOMMU domains with entries of 4 KiB, 2 MiB and 1 GiB; then
tells what it took and draws the address space at its fullest.

  --verify        after every event, of everything that is mapped then:
                    - each page translates, in each domain, to a frame at which the page's own
                      content tag is read through a second mapping of the memory, which is what
                      a device sees; the tags were written through the user's mapping;
                    - each of these frames is pinned exactly once, and no other frame is;
                    - no domain maps a byte more, and the table's own invariants hold;
                    - of the range that the event named, each page translates alike alone, or
                      to nothing where it was unmapped.
                  With or without it, no pin and no charge may be left at the end.
  --guests N      N guests run the trace, each with memory of its own, interleaved at random
                  in one table, at bases of their own (1)
  --domains N     domains on the table, each filled with everything (2 for a VMM's trace, 1 for
                  one of the Linux DMA API)
  --profile NAME  whose rules unmap follows: type1_v1, type1_v2, iommufd, iommufd_compat_v1,
                  iommufd_compat_v2, virtio_iommu, exact, hole_punching (type1_v2)
  --blocks 2M|1G  how contiguous the memory of a VMM's guests is (2M, and a few scattered pages)
  --svg FILE      draw the address space, and its history, into FILE

TRACE has an event a line: `add FIRST LAST HOST` and `del FIRST LAST` of a VMM, or `map IOVA
PADDR BYTES` and `unmap IOVA BYTES` of the Linux DMA API. The memory it names is really used.

Exit status: 0 all is well; 1 the trace is malformed or cannot be carried out, or something is
wrong with the result; 2 bad options.
)";

/// options: what the command line asks for.
struct options {
  bool verify = false;
  bool help = false;
  std::size_t guests = 1;
  std::optional<std::size_t> domains{};
  iopt::unmap_profile profile = iopt::unmap_profile::type1_v2;
  std::uint64_t block_bytes = 2 * iopt::mebibyte;
  std::string svg{};
  std::string trace{};
  std::string fault{};  // what is wrong with the command line
};

options parse_options(int count, char** arguments);

}  // namespace replay
