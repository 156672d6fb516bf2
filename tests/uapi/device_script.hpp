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

#include <array>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "iopt/base/page_sizes.hpp"
#include "iopt/uapi/vfio/abi.hpp"
#include "tests/uapi/script_calls.hpp"
#include "tests/uapi/script_line.hpp"

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

  static std::int64_t answer_of(std::int64_t returned) { return returned < 0 ? -errno : returned; }
  static std::int64_t call(int file, std::uint32_t number, std::uint64_t argument) {
    return answer_of(::ioctl(file, number, argument));
  }
  int& group(const script_line& line, std::size_t n) { return groups_[line.number(n) & 3]; }

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
    if (op == "protect")
      return status(answer_of(
          mprotect(memory(line.number(1)), line.number(2), static_cast<int>(line.number(3)))));
    if (auto said = vfio_.answer(line, [this](std::uint32_t number, std::uint64_t at) {
          return call(container_, number, at);
        }))
      return *said;
    if (auto said = objects_.answer(line, [this](std::uint32_t number, std::uint64_t at) {
          return call(iommufd_, number, at);
        }))
      return *said;
    return "UNKNOWN " + std::string(op);
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

  accountant accountant_;
  int status_file_ = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
  bool sound_ = false;
  int container_ = -1;  // the iommufd, in its scripts
  int iommufd_ = -1;
  std::array<int, 4> groups_{-1, -1, -1, -1};
  vfio_calls vfio_;
  iommufd_calls objects_;
};

}  // namespace iopt::test
