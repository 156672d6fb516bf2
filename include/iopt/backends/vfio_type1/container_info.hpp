// iopt/backends/vfio_type1/container_info.hpp - what a container says of itself: VFIO_IOMMU_GET_INFO.
//
// Layer: backends. Includes: base, policy, backends/host, uapi/vfio/abi.hpp.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <vector>

#include "iopt/backends/host/device_file.hpp"
#include "iopt/base/address.hpp"
#include "iopt/base/error.hpp"
#include "iopt/base/page_sizes.hpp"
#include "iopt/base/range.hpp"
#include "iopt/policy/iommu_domain.hpp"
#include "iopt/uapi/vfio/abi.hpp"

namespace iopt::vfio_type1 {

namespace abi = vfio::abi;

/// container_info: page sizes, usable IOVAs and the entries left.
///
/// Errors      read(): those of the ioctl (EINVAL before VFIO_SET_IOMMU); value_too_large where a chain
///             is longer than 4 KiB, some 250 ranges. parse(): io_error where a chain makes no sense.
/// Cost        One ioctl.
/// Threads     A value.
/// Source      Linux 6.12 vfio_iommu_type1.c; kernels before 5.10 do not tell dma_avail, before 5.4 no
///             ranges.
/// Tested by   tests/backends/vfio_type1/container_info_test.cpp
struct container_info {
  page_size_set page_sizes{4096};
  /// From the first usable address to the last; not the last page of 2^64, of which Linux before 6.18 can
  /// map and not unmap.
  iova_range aperture{{0}, {top - 4096}};
  /// What is not usable in between.
  std::vector<reserved_region> reserved{};
  std::optional<std::uint64_t> entries_left{};

  static constexpr std::size_t most_bytes = 4096;

  static result<container_info> read(int container) {
    alignas(8) std::array<std::byte, most_bytes> room;
    const result<std::size_t> bytes = ask(container, room);
    if (!bytes) return std::unexpected(bytes.error());
    return parse(std::span(room).first(*bytes));
  }
  /// Only the entries left; nothing where the kernel does not say.
  static std::optional<std::uint64_t> read_entries_left(int container) noexcept {
    alignas(8) std::array<std::byte, most_bytes> room;
    const result<std::size_t> bytes = ask(container, room);
    if (!bytes) return std::nullopt;
    std::optional<std::uint64_t> left;
    each_capability(std::span(room).first(*bytes), [&](std::span<const std::byte> capability) {
      take_entries_left(capability, left);
    });
    return left;
  }

  static result<container_info> parse(std::span<const std::byte> bytes) {
    container_info info;
    abi::type1_info head{};
    if (bytes.size() < sizeof head) return fail(errc::io_error);
    std::memcpy(&head, bytes.data(), sizeof head);
    if ((head.flags & abi::info_page_sizes) != 0 && head.page_sizes != 0)
      info.page_sizes = page_size_set::from_bitmap(head.page_sizes);
    std::vector<iova_range> usable;
    bool sound = true;
    const bool whole = each_capability(bytes, [&](std::span<const std::byte> capability) {
      take_entries_left(capability, info.entries_left);
      sound = take_ranges(capability, usable) && sound;
    });
    if (!whole || !sound) return fail(errc::io_error);
    if (usable.empty()) return info;
    info.aperture = {usable.front().first, std::min(usable.back().last, info.aperture.last)};
    for (std::size_t n = 1; n < usable.size(); ++n)
      info.reserved.push_back(
          {{usable[n - 1].last + 1, usable[n].first - 1}, reserved_region::kind::reserved});
    return info;
  }

 private:
  /// Fills the room; how many bytes of it are an answer.
  static result<std::size_t> ask(int container, std::span<std::byte> room) noexcept {
    abi::type1_info head{};
    head.argsz = static_cast<std::uint32_t>(room.size());
    std::memcpy(room.data(), &head, sizeof head);
    if (const auto asked = host::call(container, abi::iommu_get_info, room.data()); !asked)
      return std::unexpected(asked.error());
    std::memcpy(&head, room.data(), sizeof head);
    if (head.argsz > room.size()) return fail(errc::value_too_large);
    if ((head.flags & abi::info_capabilities) == 0) {  // before 5.4: nothing but page sizes
      head.cap_offset = 0;
      std::memcpy(room.data(), &head, sizeof head);
    }
    return room.size();
  }

  /// Calls f(capability, to the end of the bytes) along the chain. False: it leaves the bytes or
  /// turns back.
  template <class F>
  static bool each_capability(std::span<const std::byte> bytes, F f) {
    abi::type1_info head{};
    std::memcpy(&head, bytes.data(), sizeof head);
    std::size_t after = sizeof head;
    for (std::size_t at = head.cap_offset; at != 0;) {
      abi::capability_header link{};
      if (at < after || at > bytes.size() || bytes.size() - at < sizeof link) return false;
      std::memcpy(&link, bytes.data() + at, sizeof link);
      f(bytes.subspan(at));
      after = at + sizeof link;
      at = link.next;
    }
    return true;
  }
  static void take_entries_left(std::span<const std::byte> bytes,
                                std::optional<std::uint64_t>& left) noexcept {
    abi::dma_avail_capability said{};
    if (bytes.size() < sizeof said) return;
    std::memcpy(&said, bytes.data(), sizeof said);
    // An iommufd that answers as a container says the greatest number, always: it has no limit.
    if (said.header.id == abi::capability_dma_avail && said.avail != ~std::uint32_t{0})
      left = said.avail;
  }
  /// False: ranges that overlap or are not in order.
  static bool take_ranges(std::span<const std::byte> bytes, std::vector<iova_range>& usable) {
    abi::iova_ranges_capability said{};
    if (bytes.size() < sizeof said) return true;
    std::memcpy(&said, bytes.data(), sizeof said);
    if (said.header.id != abi::capability_iova_range) return true;
    if (said.count > (bytes.size() - sizeof said) / sizeof(abi::iova_range_entry)) return false;
    for (std::uint32_t n = 0; n < said.count; ++n) {
      abi::iova_range_entry each{};
      std::memcpy(&each, bytes.data() + sizeof said + n * sizeof each, sizeof each);
      if (each.first > each.last) return false;
      if (!usable.empty() && each.first <= usable.back().last.value) return false;
      if (!usable.empty() && each.first == usable.back().last.value + 1) {
        usable.back().last = {each.last};
      } else {
        usable.push_back({{each.first}, {each.last}});
      }
    }
    return true;
  }
};

}  // namespace iopt::vfio_type1
