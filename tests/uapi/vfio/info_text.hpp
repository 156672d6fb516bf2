// tests/uapi/vfio/info_text.hpp - what VFIO_IOMMU_GET_INFO told, as replay prints it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "iopt/uapi/vfio/abi.hpp"
#include "tests/uapi/script_line.hpp"

namespace iopt::test {

/// The answer and its chain of capabilities, where the caller had said `given` bytes.
inline std::string info_text(const std::vector<std::byte>& buffer, std::uint32_t given) {
  namespace abi = vfio::abi;
  const auto at = [&]<class T>(std::uint64_t offset, T value) {
    std::memcpy(&value, buffer.data() + offset, sizeof value);
    return value;
  };
  const auto i = at(0, abi::type1_info{});
  const bool has_cap = given >= sizeof i && i.cap_offset != 0;
  std::string text = " argsz=" + std::to_string(i.argsz) + " flags=" + hex(i.flags) +
                     " pgsizes=" + hex(i.page_sizes) +
                     " cap=" + std::to_string(given >= sizeof i ? i.cap_offset : 0);
  for (std::uint32_t off = has_cap ? i.cap_offset : 0; off != 0;) {
    const auto h = at(off, abi::capability_header{});
    text += " {id=" + std::to_string(h.id) + " v=" + std::to_string(h.version);
    if (h.id == abi::capability_iova_range) {
      const auto c = at(off, abi::iova_ranges_capability{});
      for (std::uint32_t n = 0; n < c.count; ++n) {
        const auto r =
            at(off + sizeof c + n * sizeof(abi::iova_range_entry), abi::iova_range_entry{});
        text += " " + hex(r.first) + "-" + hex(r.last);
      }
    } else if (h.id == abi::capability_dma_avail) {
      text += " avail=" + std::to_string(at(off, abi::dma_avail_capability{}).avail);
    } else if (h.id == abi::capability_migration) {
      const auto c = at(off, abi::migration_capability{});
      text += " pgsizes=" + hex(c.page_sizes) + " max_bitmap=" + std::to_string(c.max_bitmap_bytes);
    }
    text += "}";
    off = h.next;
  }
  return text;
}

}  // namespace iopt::test
