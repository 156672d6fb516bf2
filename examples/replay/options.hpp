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
    "usage: replay [--verify] [--guests N] [--domains N] [--profile NAME] [--blocks 2M|1G]\n"
    "              [--svg FILE] TRACE\n";

inline constexpr const char* help_text =
    "\n"
    "Carries the address space of a recorded program through an io_pagetable, event by event, "
    "over\n"
    "real memory of this process and IOMMU domains with entries of 4 KiB, 2 MiB and 1 GiB; then\n"
    "tells what it took and draws the address space at its fullest.\n"
    "\n"
    "  --verify        after every event, of everything that is mapped then:\n"
    "                    - each page translates, in each domain, to a frame at which the page's "
    "own\n"
    "                      content tag is read through a second mapping of the memory, which is "
    "what\n"
    "                      a device sees; the tags were written through the user's mapping;\n"
    "                    - each of these frames is pinned exactly once, and no other frame is;\n"
    "                    - no domain maps a byte more, and the table's own invariants hold;\n"
    "                    - of the range that the event named, each page translates alike alone, "
    "or\n"
    "                      to nothing where it was unmapped.\n"
    "                  With or without it, no pin and no charge may be left at the end.\n"
    "  --guests N      N guests run the trace, each with memory of its own, interleaved at random\n"
    "                  in one table, at bases of their own (1)\n"
    "  --domains N     domains on the table, each filled with everything (2 for a VMM's trace, 1 "
    "for\n"
    "                  one of the Linux DMA API)\n"
    "  --profile NAME  whose rules unmap follows: type1_v1, type1_v2, iommufd, iommufd_compat_v1,\n"
    "                  iommufd_compat_v2, virtio_iommu, exact, hole_punching (type1_v2)\n"
    "  --blocks 2M|1G  how contiguous the memory of a VMM's guests is (2M, and a few scattered "
    "pages)\n"
    "  --svg FILE      draw the address space, and its history, into FILE\n"
    "\n"
    "TRACE has an event a line: `add FIRST LAST HOST` and `del FIRST LAST` of a VMM, or `map IOVA\n"
    "PADDR BYTES` and `unmap IOVA BYTES` of the Linux DMA API. The memory it names is really "
    "used.\n"
    "\n"
    "Exit status: 0 all is well; 1 the trace is malformed or cannot be carried out, or something "
    "is\n"
    "wrong with the result; 2 bad options.\n";

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
