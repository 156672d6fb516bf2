// tests/uapi/script_calls.hpp - the ioctls that lines of a script name, whoever answers them.
//
// `ioctl` is always (number, address of the argument) -> what ioctl() returns, or -errno.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "examples/interpose/test_command.hpp"
#include "iopt/uapi/iommufd/abi.hpp"
#include "iopt/uapi/vfio/abi.hpp"
#include "tests/uapi/script_line.hpp"
#include "tests/uapi/vfio/info_text.hpp"

namespace iopt::test {

/// Where the memory of a script is: its lines have offsets.
inline constexpr std::uint64_t arena = 0x200000000000;

inline std::uint64_t address(const void* p) { return reinterpret_cast<std::uintptr_t>(p); }

/// vfio_calls: what is asked of a container.
class vfio_calls {
 public:
  /// What replay prints of a line; nothing where it is no ioctl of a container.
  template <class Ioctl>
  std::optional<std::string> answer(const script_line& line, Ioctl ioctl) {
    namespace abi = vfio::abi;
    const std::string_view op = line.word(0);
    if (op == "api_version") return told(ioctl(abi::get_api_version, 0));
    if (op == "check_ext") return told(ioctl(abi::check_extension, line.number(1)));
    if (op == "set_iommu") return status(ioctl(abi::set_iommu, line.number(1)));
    if (op == "info") return info(line, ioctl);
    if (op == "map") {
      abi::dma_map m{line.number32(1), line.number32(2), arena + line.number(3), line.number(4),
                     line.number(5)};
      return status(ioctl(abi::iommu_map_dma, address(&m)));
    }
    if (op == "unmap") return unmap(line, ioctl);
    if (op == "dirty") return dirty(line, ioctl);
    if (op == "raw") return raw_text(line, ioctl);
    return std::nullopt;
  }

 private:
  static std::string told(std::int64_t answer) {
    return status(answer) + " ret=" + std::to_string(answer < 0 ? -1 : answer);
  }

  template <class Ioctl>
  static std::string info(const script_line& line, Ioctl ioctl) {
    std::vector<std::byte> buffer(8192);
    const std::uint32_t given = line.number32(1);
    std::memcpy(buffer.data(), &given, sizeof given);
    const std::int64_t answer = ioctl(vfio::abi::iommu_get_info, address(buffer.data()));
    return answer == 0 ? "0" + info_text(buffer, given) : status(answer);
  }

  template <class Ioctl>
  std::string unmap(const script_line& line, Ioctl ioctl) {
    namespace abi = vfio::abi;
    struct {
      abi::dma_unmap u;
      abi::bitmap b;
    } m{{line.number32(1), line.number32(2), line.number(3), line.number(4)},
        {line.number(5), line.number(6), address(bits_.data())}};
    if ((m.u.flags & abi::unmap_get_dirty_bitmap) != 0) bits_.fill(0);
    const std::int64_t answer = ioctl(abi::iommu_unmap_dma, address(&m));
    std::string text = status(answer) + " size=" + hex(m.u.size);
    if (answer == 0 && (m.u.flags & abi::unmap_get_dirty_bitmap) != 0)
      text += bits_text(bits_.data(), line.number(6));
    return text;
  }

  template <class Ioctl>
  std::string dirty(const script_line& line, Ioctl ioctl) {
    namespace abi = vfio::abi;
    struct {
      abi::dirty_bitmap d;
      abi::dirty_bitmap_get g;
    } m{{line.number32(1), line.number32(2)},
        {line.number(3), line.number(4), {line.number(5), line.number(6), address(bits_.data())}}};
    if ((m.d.flags & abi::dirty_get_bitmap) != 0) bits_.fill(0);
    const std::int64_t answer = ioctl(abi::iommu_dirty_pages, address(&m));
    const std::uint64_t bytes = line.number(6);
    std::string text = status(answer);
    if (answer == 0 && (m.d.flags & abi::dirty_get_bitmap) != 0 && bytes <= sizeof bits_)
      text += bits_text(bits_.data(), bytes);
    return text;
  }

  std::array<std::uint64_t, 1 << 17> bits_{};
};

/// iommufd_calls: what is asked of an iommufd, whose objects have numbers of the script's.
class iommufd_calls {
 public:
  /// What replay prints of a line; nothing where it is no ioctl of an iommufd.
  template <class Ioctl>
  std::optional<std::string> answer(const script_line& line, Ioctl ioctl) {
    namespace abi = iommufd::abi;
    using abi::request;
    const std::string_view op = line.word(0);
    const auto call = [&]<class T>(request number, T& argument) -> std::int64_t {
      argument.size = sizeof argument;
      return ioctl(static_cast<std::uint32_t>(number), address(&argument));
    };
    if (op == "ioas_alloc") {
      abi::ioas_alloc c{0, line.number32(2), 0};
      const std::int64_t answer = call(request::ioas_alloc, c);
      if (answer == 0) id(line, 1) = c.out_ioas_id;
      return status(answer);
    }
    if (op == "destroy") {
      abi::destroy c{0, id(line, 1)};
      return status(call(request::destroy, c));
    }
    if (op == "vfio_ioas") {
      abi::vfio_ioas c{0, id(line, 2), static_cast<std::uint16_t>(line.number(1)), 0};
      const std::int64_t answer = call(request::vfio_ioas, c);
      if (answer != 0 || c.op != abi::vfio_ioas_get) return status(answer);
      const auto at = std::find(ids_.begin(), ids_.end(), c.ioas_id);
      return "0 obj=" + std::to_string(at - ids_.begin());
    }
    if (op == "ioas_map") {
      const std::uint64_t from = arena + line.number(3);
      abi::ioas_map c{0, line.number32(2), id(line, 1), 0, from, line.number(5), line.number(4)};
      const std::int64_t answer = call(request::ioas_map, c);
      return status(answer) + (answer == 0 ? " iova=" + hex(c.iova) : "");
    }
    if (op == "ioas_copy") {
      abi::ioas_copy c{0,
                       line.number32(3),
                       id(line, 1),
                       id(line, 2),
                       line.number(6),
                       line.number(4),
                       line.number(5)};
      const std::int64_t answer = call(request::ioas_copy, c);
      return status(answer) + (answer == 0 ? " iova=" + hex(c.dst_iova) : "");
    }
    if (op == "ioas_unmap") {
      abi::ioas_unmap c{0, id(line, 1), line.number(2), line.number(3)};
      const std::int64_t answer = call(request::ioas_unmap, c);
      return status(answer) + " size=" + hex(c.length);
    }
    if (op == "ioas_ranges") {
      const std::uint32_t given = line.number32(2);
      std::vector<abi::iova_range> ranges(std::max(given, 256U));
      abi::ioas_iova_ranges c{0, id(line, 1), given, 0, address(ranges.data()), 0};
      const std::int64_t answer = call(request::ioas_iova_ranges, c);
      std::string text = status(answer) + " num=" + std::to_string(c.num_iovas) +
                         " align=" + hex(c.out_iova_alignment);
      for (std::size_t n = 0; n < given && n < c.num_iovas && n < 256; ++n)
        text += " " + hex(ranges[n].start) + "-" + hex(ranges[n].last);
      return text;
    }
    if (op == "ioas_allow") {
      std::vector<abi::iova_range> ranges;
      for (std::size_t n = 2; n + 1 < line.size(); n += 2)
        ranges.push_back({line.number(n), line.number(n + 1)});
      abi::ioas_allow_iovas c{0, id(line, 1), static_cast<std::uint32_t>(ranges.size()), 0,
                              address(ranges.data())};
      return status(call(request::ioas_allow_iovas, c));
    }
    if (op == "option") {
      const auto how = static_cast<std::uint16_t>(line.number(3));
      abi::option c{0, line.number32(2), how, 0, id(line, 1), line.number(4)};
      const std::int64_t answer = call(request::option, c);
      return status(answer) + (answer == 0 && c.op == 1 ? " val=" + hex(c.val64) : "");
    }
    if (op == "mock_domain") {
      test_command c{};
      c.op = test_operation::mock_domain;
      c.id = id(line, 3);
      const std::int64_t answer = call(static_cast<request>(abi::request_of(test_number)), c);
      if (answer == 0) {
        id(line, 1) = c.mock_domain.out_test_device;
        id(line, 2) = c.mock_domain.out_hw_pagetable;
      }
      return status(answer);
    }
    return std::nullopt;
  }

 private:
  std::uint32_t& id(const script_line& line, std::size_t n) { return ids_[line.number(n) & 255]; }

  std::array<std::uint32_t, 256> ids_{};  // by the number that the script has for an object
};

}  // namespace iopt::test
