// tests/uapi/device_script.hpp - a script of ioctls, asked of the devices themselves.
//
// The language of tests/vectors: native_script and context_script answer the same lines from the
// library. Here the container, the groups and the iommufd are /dev/vfio/vfio, the files that the
// environment's GROUP and GROUP2 name, and /dev/iommu, be they a kernel's or interposed; the arena is
// memory of this process, so that a process runs one script.
#pragma once

#include <fcntl.h>
#include <linux/capability.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "examples/interpose/test_command.hpp"
#include "iopt/base/page_sizes.hpp"
#include "iopt/uapi/iommufd/abi.hpp"
#include "iopt/uapi/vfio/abi.hpp"
#include "tests/uapi/script_line.hpp"
#include "tests/uapi/vfio/info_text.hpp"

namespace iopt::test {

class device_script {
 public:
  struct account {
    long locked_kb;
    long pinned_kb;
  };
  using accountant = account (*)();

  /// Who keeps the process's accounts, and knows its privileges; as a rule the kernel.
  explicit device_script(accountant other = nullptr) : accountant_(other) {
    constexpr std::uint64_t m = mebibyte;
    // Pages of 4 KiB, all there from the beginning.
    constexpr int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | MAP_POPULATE;
    sound_ = status_file_ >= 0 && prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0) == 0 &&
             mmap(memory(0), 64 * m, PROT_READ | PROT_WRITE, flags, -1, 0) == memory(0) &&
             mprotect(memory(32 * m), 8 * m, PROT_READ) == 0 &&
             mprotect(memory(40 * m), 8 * m, PROT_NONE) == 0 && munmap(memory(48 * m), 8 * m) == 0;
  }
  device_script(const device_script&) = delete;
  device_script& operator=(const device_script&) = delete;

  /// Whether the arena is as scripts expect it.
  bool sound() const { return sound_; }

  /// What is answered, and the process's VmLck and VmPin in kB.
  std::string answer(std::string_view text) {
    const std::string said = operate(script_line(text));
    const account a = accountant_ != nullptr ? accountant_() : kernel_account();
    return said + " lck=" + std::to_string(a.locked_kb) + " pin=" + std::to_string(a.pinned_kb);
  }

 private:
  static constexpr std::uint64_t arena = 0x200000000000;
  using request = iommufd::abi::request;

  account kernel_account() const {
    char status[4096];
    const ssize_t got = pread(status_file_, status, sizeof status, 0);
    const std::string_view all(status, got < 0 ? 0 : static_cast<std::size_t>(got));
    const auto kb = [&](std::string_view key) {
      const std::size_t at = all.find(key);
      return at == all.npos ? -1 : std::atol(all.data() + at + key.size());
    };
    return {kb("VmLck:"), kb("VmPin:")};
  }

  static void* memory(std::uint64_t offset) { return reinterpret_cast<void*>(arena + offset); }
  static std::uint64_t address(const void* p) { return reinterpret_cast<std::uintptr_t>(p); }

  static std::int64_t answer_of(std::int64_t returned) { return returned < 0 ? -errno : returned; }
  static std::int64_t call(int file, std::uint32_t number, std::uint64_t argument) {
    return answer_of(::ioctl(file, number, argument));
  }
  template <class T>
  std::int64_t call(request number, T& argument) {
    argument.size = sizeof argument;
    return call(iommufd_, static_cast<std::uint32_t>(number), address(&argument));
  }
  int& group(const script_line& line, std::size_t n) { return groups_[line.number(n) & 3]; }
  std::uint32_t& id(const script_line& line, std::size_t n) { return ids_[line.number(n) & 255]; }

  std::string operate(const script_line& line) {
    namespace abi = vfio::abi;
    const std::string_view op = line.word(0);
    if (op == "container") {
      container_ = open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC);
      return status(answer_of(container_));
    }
    if (op == "iommufd") {
      container_ = iommufd_ = open("/dev/iommu", O_RDWR | O_CLOEXEC);
      return status(answer_of(iommufd_));
    }
    if (op == "group") return open_group(line);
    if (op == "set_container")
      return status(call(group(line, 1), abi::group_set_container, address(&container_)));
    if (op == "unset_container") return status(call(group(line, 1), abi::group_unset_container, 0));
    if (op == "rlimit_memlock") return limit_memory(line.number(1));
    if (op == "api_version") return told(call(container_, abi::get_api_version, 0));
    if (op == "check_ext") return told(call(container_, abi::check_extension, line.number(1)));
    if (op == "set_iommu") return status(call(container_, abi::set_iommu, line.number(1)));
    if (op == "info") return info(line);
    if (op == "map") {
      abi::dma_map m{line.number32(1), line.number32(2), arena + line.number(3), line.number(4),
                     line.number(5)};
      return status(call(container_, abi::iommu_map_dma, address(&m)));
    }
    if (op == "unmap") return unmap(line);
    if (op == "dirty") return dirty(line);
    if (op == "protect")
      return status(answer_of(
          mprotect(memory(line.number(1)), line.number(2), static_cast<int>(line.number(3)))));
    if (op == "raw")
      return raw_text(line, [this](auto number, auto at) { return call(container_, number, at); });
    return operate_on_iommufd(op, line);
  }

  std::string operate_on_iommufd(std::string_view op, const script_line& line) {
    namespace abi = iommufd::abi;
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
    if (op == "vfio_ioas") return vfio_ioas(line);
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
    if (op == "ioas_ranges") return ioas_ranges(line);
    if (op == "ioas_allow") return ioas_allow(line);
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
    return "UNKNOWN " + std::string(op);
  }

  static std::string told(std::int64_t answer) {
    return status(answer) + " ret=" + std::to_string(answer < 0 ? -1 : answer);
  }

  std::string open_group(const script_line& line) {
    const char* const path = std::getenv(std::string(line.word(1)).c_str());
    int& file = group(line, 2);
    file = open(path == nullptr ? "" : path, O_RDWR | O_CLOEXEC);
    if (file < 0) return status(answer_of(file));
    vfio::abi::group_status s{sizeof s, 0};
    call(file, vfio::abi::group_get_status, address(&s));
    return "0 status=" + hex(s.flags);
  }

  /// As a user of no importance, with nothing allowed and `bytes` to lock.
  std::string limit_memory(std::uint64_t bytes) {
    const rlimit limit{bytes, bytes};
    const std::int64_t answer = answer_of(setrlimit(RLIMIT_MEMLOCK, &limit));
    __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
    __user_cap_data_struct none[2]{};
    if (accountant_ == nullptr &&
        (setgid(65534) != 0 || setuid(65534) != 0 || syscall(SYS_capset, &header, none) != 0))
      return "cannot drop privileges";
    return status(answer);
  }

  std::string info(const script_line& line) {
    std::vector<std::byte> buffer(8192);
    const std::uint32_t given = line.number32(1);
    std::memcpy(buffer.data(), &given, sizeof given);
    const std::int64_t answer = call(container_, vfio::abi::iommu_get_info, address(buffer.data()));
    return answer == 0 ? "0" + info_text(buffer, given) : status(answer);
  }

  std::string unmap(const script_line& line) {
    namespace abi = vfio::abi;
    struct {
      abi::dma_unmap u;
      abi::bitmap b;
    } m{{line.number32(1), line.number32(2), line.number(3), line.number(4)},
        {line.number(5), line.number(6), address(bits_.data())}};
    bits_.fill(0);
    const std::int64_t answer = call(container_, abi::iommu_unmap_dma, address(&m));
    std::string text = status(answer) + " size=" + hex(m.u.size);
    if (answer == 0 && (m.u.flags & abi::unmap_get_dirty_bitmap) != 0)
      text += bits_text(bits_.data(), line.number(6));
    return text;
  }

  std::string dirty(const script_line& line) {
    namespace abi = vfio::abi;
    struct {
      abi::dirty_bitmap d;
      abi::dirty_bitmap_get g;
    } m{{line.number32(1), line.number32(2)},
        {line.number(3), line.number(4), {line.number(5), line.number(6), address(bits_.data())}}};
    bits_.fill(0);
    const std::int64_t answer = call(container_, abi::iommu_dirty_pages, address(&m));
    const std::uint64_t bytes = line.number(6);
    std::string text = status(answer);
    if (answer == 0 && (m.d.flags & abi::dirty_get_bitmap) != 0 && bytes <= sizeof bits_)
      text += bits_text(bits_.data(), bytes);
    return text;
  }

  std::string ioas_ranges(const script_line& line) {
    const std::uint32_t given = line.number32(2);
    std::vector<iommufd::abi::iova_range> ranges(std::max(given, 256U));
    iommufd::abi::ioas_iova_ranges c{0, id(line, 1), given, 0, address(ranges.data()), 0};
    const std::int64_t answer = call(request::ioas_iova_ranges, c);
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
    return status(call(request::ioas_allow_iovas, c));
  }

  std::string vfio_ioas(const script_line& line) {
    iommufd::abi::vfio_ioas c{0, id(line, 2), static_cast<std::uint16_t>(line.number(1)), 0};
    const std::int64_t answer = call(request::vfio_ioas, c);
    if (answer != 0 || c.op != iommufd::abi::vfio_ioas_get) return status(answer);
    const auto at = std::find(ids_.begin(), ids_.end(), c.ioas_id);
    return "0 obj=" + std::to_string(at - ids_.begin());
  }

  accountant accountant_;
  int status_file_ = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
  bool sound_ = false;
  int container_ = -1;  // the iommufd, in its scripts
  int iommufd_ = -1;
  std::array<int, 4> groups_{-1, -1, -1, -1};
  std::array<std::uint32_t, 256> ids_{};  // by the number that the script has for an object
  std::array<std::uint64_t, 1 << 17> bits_{};
};

}  // namespace iopt::test
