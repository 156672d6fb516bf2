// tests/uapi/iommufd/context_script.hpp - a script of ioctls on /dev/iommu, answered by a context.
//
// The golden vectors of tests/vectors are such scripts, with what a real Linux 6.12 answered. Every
// line is passed to the context's ioctl entry as bytes. Memory is named by its offset in an arena of
// 64 MiB:
//
//   [0, 32M) read-write   [32M, 40M) read-only   [40M, 48M) no access   [48M, 56M) nothing
//   [56M, 64M) read-write
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "examples/interpose/test_ioctl.hpp"
#include "iopt/backends/mock/mock.hpp"
#include "iopt/uapi/iommufd/context.hpp"
#include "tests/uapi/script_line.hpp"
#include "tests/uapi/vfio/info_text.hpp"

namespace iopt::test {

/// context_script: one /dev/iommu, in a machine as the vectors were recorded on.
template <class Domain = mock::domain, table_traits Traits = single_threaded>
class context_script {
 public:
  struct profile : uapi::default_profile {
    using traits = Traits;
    using caller = script_caller;
  };
  using context_type = iommufd::context<mock::pinner, Domain, profile>;
  using table_type = typename context_type::table_type;

  explicit context_script(mock::pinner_options options = {})
      : pinner_(options),
        more_(context_, [this](Domain& d) { watch(d); }),
        context_(pinner_, {.allow_noiommu = true}, {}, {&privileged_}) {
    const mock::process me = pinner_.current();
    constexpr std::uint64_t m = mebibyte;
    pinner_.set_hole(me, user_range{{0}, {arena - 1}});
    pinner_.set_hole(me, user_range{{arena + 40 * m}, {arena + 56 * m - 1}});
    pinner_.set_hole(me, user_range{{arena + 64 * m}, {mock::memory_space::largest - 1}});
    pinner_.set_read_only(me, user_range{{arena + 32 * m}, {arena + 40 * m - 1}});
  }

  /// What the kernel answers, as replay prints it.
  std::string answer(std::string_view text) {
    const script_line line(text);
    const std::string said = operate(line);
    const mock::process me = pinner_.current();
    const auto kb = [](std::uint64_t pages) { return std::to_string(pages * 4); };
    return said + " lck=" + kb(pinner_.charged(me, account_mode::mm)) +
           " pin=" + kb(pinner_.pinned_vm(me));
  }

  /// Empty when all is sound, else what is not.
  std::string_view verify() const {
    if (!fault_.empty()) return fault_;
    if (const std::string_view text = context_.verify(); !text.empty()) return text;
    if (pinner_.pinned_pages() != pinner_.pinned_vm(pinner_.current()))
      return "every pinned page is charged";
    return pinner_.verify();
  }

 private:
  static constexpr std::uint64_t arena = 0x200000000000;
  using request = iommufd::abi::request;

  void watch(mock::domain& d) { pinner_.watch(d); }
  template <class Restricted>
  void watch(Restricted& d) {
    pinner_.watch(d.inner());
  }

  std::int64_t vfio_ioctl(std::uint32_t number, std::uint64_t argument) {
    return context_.ioctl(number, argument, more_);
  }
  template <class T>
  std::int64_t ioctl(request number, T& argument) {
    argument.size = sizeof argument;
    return context_.ioctl(static_cast<std::uint32_t>(number), address(&argument), more_);
  }
  static std::uint64_t address(const void* p) { return reinterpret_cast<std::uintptr_t>(p); }
  std::uint32_t id(const script_line& line, std::size_t n) const {
    return ids_[line.number(n) & 255];
  }

  std::string operate(const script_line& line) {
    namespace abi = vfio::abi;
    const std::string_view op = line.word(0);
    if (op == "iommufd") return "0";
    if (op == "rlimit_memlock") {
      privileged_ = false;
      for (const account_mode mode : {account_mode::user, account_mode::mm})
        pinner_.set_limit(pinner_.current(), mode, line.number(1) / table_type::page_bytes);
      return "0";
    }
    if (op == "protect") return protect(line);
    if (op == "raw")
      return raw_text(line, [this](auto number, auto at) { return vfio_ioctl(number, at); });
    if (op == "api_version") return told(vfio_ioctl(abi::get_api_version, 0));
    if (op == "check_ext") return told(vfio_ioctl(abi::check_extension, line.number(1)));
    if (op == "set_iommu") return status(vfio_ioctl(abi::set_iommu, line.number(1)));
    if (op == "info") return info(line);
    if (op == "map") {
      abi::dma_map m{line.number32(1), line.number32(2), arena + line.number(3), line.number(4),
                     line.number(5)};
      return status(vfio_ioctl(abi::iommu_map_dma, address(&m)));
    }
    if (op == "unmap") return unmap(line);
    if (op == "dirty") {
      struct {
        abi::dirty_bitmap d;
        abi::dirty_bitmap_get g;
      } m{{line.number32(1), line.number32(2)}, {}};
      return status(vfio_ioctl(abi::iommu_dirty_pages, address(&m)));
    }
    if (op == "ioas_alloc") {
      iommufd::abi::ioas_alloc c{0, line.number32(2), 0};
      const std::int64_t answer = ioctl(request::ioas_alloc, c);
      if (answer == 0) ids_[line.number(1) & 255] = c.out_ioas_id;
      return status(answer);
    }
    if (op == "destroy") {
      iommufd::abi::destroy c{0, id(line, 1)};
      return status(ioctl(request::destroy, c));
    }
    if (op == "vfio_ioas") return vfio_ioas(line);
    if (op == "ioas_map") {
      iommufd::abi::ioas_map c{0,
                               line.number32(2),
                               id(line, 1),
                               0,
                               arena + line.number(3),
                               line.number(5),
                               line.number(4)};
      const std::int64_t answer = ioctl(request::ioas_map, c);
      return status(answer) + (answer == 0 ? " iova=" + hex(c.iova) : "");
    }
    if (op == "ioas_copy") {
      iommufd::abi::ioas_copy c{0,
                                line.number32(3),
                                id(line, 1),
                                id(line, 2),
                                line.number(6),
                                line.number(4),
                                line.number(5)};
      const std::int64_t answer = ioctl(request::ioas_copy, c);
      return status(answer) + (answer == 0 ? " iova=" + hex(c.dst_iova) : "");
    }
    if (op == "ioas_unmap") return ioas_unmap(line);
    if (op == "ioas_ranges") return ioas_ranges(line);
    if (op == "ioas_allow") return ioas_allow(line);
    if (op == "option") {
      iommufd::abi::option c{0, line.number32(2), static_cast<std::uint16_t>(line.number(3)),
                             0, id(line, 1),      line.number(4)};
      const std::int64_t answer = ioctl(request::option, c);
      return status(answer) + (answer == 0 && c.op == 1 ? " val=" + hex(c.val64) : "");
    }
    if (op == "mock_domain") {
      test_command c{};
      c.op = test_operation::mock_domain;
      c.id = id(line, 3);
      const std::int64_t answer =
          ioctl(static_cast<request>(iommufd::abi::request_of(test_number)), c);
      if (answer == 0) {
        ids_[line.number(1) & 255] = c.mock_domain.out_test_device;
        ids_[line.number(2) & 255] = c.mock_domain.out_hw_pagetable;
      }
      return status(answer);
    }
    return "UNKNOWN " + std::string(op);
  }

  static std::string told(std::int64_t answer) {
    return status(answer) + " ret=" + std::to_string(answer < 0 ? -1 : answer);
  }

  std::string info(const script_line& line) {
    std::vector<std::byte> buffer(8192);
    const std::uint32_t given = line.number32(1);
    std::memcpy(buffer.data(), &given, sizeof given);
    const std::int64_t answer = vfio_ioctl(vfio::abi::iommu_get_info, address(buffer.data()));
    return answer == 0 ? "0" + info_text(buffer, given) : status(answer);
  }

  /// mprotect() of the arena, whose pages stay where they are.
  std::string protect(const script_line& line) {
    const user_range part = user_range::sized({arena + line.number(1)}, line.number(2));
    const std::uint64_t how = line.number(3);
    const mock::process me = pinner_.current();
    pinner_.set_hole(me, part, (how & 1) == 0);
    pinner_.set_read_only(me, part, (how & 2) == 0);
    return "0";
  }

  std::string unmap(const script_line& line) {
    vfio::abi::dma_unmap m{line.number32(1), line.number32(2), line.number(3), line.number(4)};
    const auto expected = dry_run(context_.compatible_space().value_or(0), m.iova, m.size, false);
    const std::int64_t answer = vfio_ioctl(vfio::abi::iommu_unmap_dma, address(&m));
    if (m.argsz >= sizeof m && m.flags == 0) compare(expected, answer, m.size);
    return status(answer) + " size=" + hex(m.size);
  }

  std::string ioas_unmap(const script_line& line) {
    iommufd::abi::ioas_unmap c{0, id(line, 1), line.number(2), line.number(3)};
    const auto expected = dry_run(c.ioas_id, c.iova, c.length, true);
    const std::int64_t answer = ioctl(request::ioas_unmap, c);
    if (c.iova != top && line.number(3) != top) compare(expected, answer, c.length);
    return status(answer) + " size=" + hex(c.length);
  }

  /// What the engine says that an unmap would do.
  std::optional<unmap_report> dry_run(std::uint32_t space, std::uint64_t first, std::uint64_t bytes,
                                      bool native) {
    std::optional<unmap_report> report;
    static_cast<void>(context_.with_space(space, [&](table_type& t) {
      report = t.would_unmap({first}, bytes,
                             native            ? unmap_profile::iommufd
                             : t.large_pages() ? unmap_profile::iommufd_compat_v2
                                               : unmap_profile::iommufd_compat_v1);
      return result<void>{};
    }));
    return report;
  }
  /// A dry run of nothing at all knows nothing of the cuts that the kernel makes before it looks.
  void compare(const std::optional<unmap_report>& dry, std::int64_t answer, std::uint64_t bytes) {
    if (!dry) return;
    const bool same =
        uapi::answer_of(dry->outcome) == answer && (answer != 0 || dry->bytes == bytes);
    const bool nothing = dry->outcome == result<void>(fail(errc::invalid_argument)) ||
                         dry->outcome == result<void>(fail(errc::value_too_large));
    if (!same && !nothing) fault_ = "a dry run says what then happens";
  }

  std::string ioas_ranges(const script_line& line) {
    const std::uint32_t given = line.number32(2);
    std::vector<iommufd::abi::iova_range> ranges(std::max(given, 256U));
    iommufd::abi::ioas_iova_ranges c{0, id(line, 1), given, 0, address(ranges.data()), 0};
    const std::int64_t answer = ioctl(request::ioas_iova_ranges, c);
    std::string text = status(answer) + " num=" + std::to_string(c.num_iovas) +
                       " align=" + hex(c.out_iova_alignment);
    for (std::size_t n = 0; n < given && n < c.num_iovas && n < 256; ++n)
      text += " " + hex(ranges[n].start) + "-" + hex(ranges[n].last);
    return text;
  }

  std::string ioas_allow(const script_line& line) {
    std::vector<iommufd::abi::iova_range> ranges;
    for (std::size_t n = 2; n + 1 < line.size(); n += 2)
      ranges.push_back({line.number(n), line.number(n + 1)});
    iommufd::abi::ioas_allow_iovas c{0, id(line, 1), static_cast<std::uint32_t>(ranges.size()), 0,
                                     address(ranges.data())};
    return status(ioctl(request::ioas_allow_iovas, c));
  }

  std::string vfio_ioas(const script_line& line) {
    iommufd::abi::vfio_ioas c{0, id(line, 2), static_cast<std::uint16_t>(line.number(1)), 0};
    const std::int64_t answer = ioctl(request::vfio_ioas, c);
    if (answer != 0 || c.op != iommufd::abi::vfio_ioas_get) return status(answer);
    const auto at = std::find(ids_.begin(), ids_.end(), c.ioas_id);
    return "0 obj=" + std::to_string(at - ids_.begin());
  }

  mock::pinner pinner_;
  std::array<std::uint32_t, 256> ids_{};  // by the number that the script has for an object
  bool privileged_ = true;
  std::string_view fault_;
  test_ioctl<context_type, Domain> more_;
  context_type context_;
};

}  // namespace iopt::test
