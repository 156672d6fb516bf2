// iopt/backends/iommufd/file_frames.hpp - a pinner whose frames are addresses, or offsets of files.
//
// IOMMU_IOAS_MAP_FILE (Linux 6.13) maps a memfd or a file of hugetlbfs by descriptor, and it stays mapped
// whatever becomes of the process's own view. Frames above 2^63, where no address of a process is, stand
// for files: a number of the file and an offset in it.
//
// Layer: backends. Includes: base, policy, backends/host.
#pragma once

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <optional>

#include "iopt/backends/host/address_pinner.hpp"
#include "iopt/backends/host/device_file.hpp"
#include "iopt/base/access.hpp"
#include "iopt/base/address.hpp"
#include "iopt/base/assert.hpp"
#include "iopt/base/error.hpp"
#include "iopt/base/range.hpp"
#include "iopt/base/run.hpp"
#include "iopt/policy/page_pinner.hpp"

namespace iopt::dev_iommu {

/// file_frames: files by number, and the frames that stand for them.
///
/// Ownership   Holds a duplicate of each descriptor until it is destroyed.
/// Errors      add(): those of dup() and fstat(); no_space_on_device for the 1025th file.
/// Cost        O(1).
/// Threads     add() by one thread at a time; all else any.
/// Tested by   tests/backends/iommufd/file_frames_test.cpp
class file_frames {
 public:
  static constexpr std::uint64_t first_frame = std::uint64_t{1} << 63;
  static constexpr unsigned offset_bits = 52;  // 4 PiB a file
  static constexpr std::uint32_t most_files = 1024;

  /// Where a frame lies.
  struct place {
    int descriptor;
    std::uint64_t offset;
  };

  file_frames() noexcept = default;
  file_frames(const file_frames&) = delete;
  file_frames& operator=(const file_frames&) = delete;
  ~file_frames() {
    for (std::uint32_t n = 0; n < count_; ++n) ::close(descriptors_[n]);
  }

  result<std::uint32_t> add(int descriptor) noexcept {
    const std::uint32_t number = count_;
    if (number == most_files) return fail(errc::no_space_on_device);
    const int mine = ::fcntl(descriptor, F_DUPFD_CLOEXEC, 0);
    if (mine < 0) return host::last_error();
    descriptors_[number] = mine;
    count_ = number + 1;
    return number;
  }
  std::uint64_t size_bytes(std::uint32_t number) const noexcept {
    struct stat about{};
    if (number >= count_ || ::fstat(descriptors_[number], &about) != 0) return 0;
    return static_cast<std::uint64_t>(about.st_size);
  }
  static physical frame(std::uint32_t number, std::uint64_t offset) noexcept {
    IOPT_ASSERT(number < most_files && offset >> offset_bits == 0);
    return {first_frame | std::uint64_t{number} << offset_bits | offset};
  }
  /// Nothing: the frame is an address.
  std::optional<place> find(physical frame) const noexcept {
    if (frame.value < first_frame) return std::nullopt;
    const std::uint64_t rest = frame.value - first_frame;
    const std::uint64_t number = rest >> offset_bits;
    if (number >= count_) return place{-1, 0};
    return place{descriptors_[number], rest & ((std::uint64_t{1} << offset_bits) - 1)};
  }

 private:
  std::array<int, most_files> descriptors_{};
  std::atomic<std::uint32_t> count_{0};
};

/// pinner: host::address_pinner, and files.
///
/// Model       As host::address_pinner; the frame of a file's page is file_frames::frame().
/// Errors      pin_file(): invalid_argument past the end of the file.
/// Cost        pin_file(): one run a call, one fstat().
/// Threads     As its parts.
/// Tested by   tests/backends/iommufd/file_frames_test.cpp
class pinner : public host::address_pinner {
 public:
  /// A file that was added; the pinner holds it.
  struct file {
    std::uint32_t number = 0;
    friend bool operator==(file, file) noexcept = default;
  };

  /// Errors: as file_frames::add().
  result<file> add_file(int descriptor) noexcept {
    const result<std::uint32_t> number = frames_.add(descriptor);
    if (!number) return std::unexpected(number.error());
    return file{*number};
  }

  result<void> pin_file(const file& of, user_range where, access_rights, run_list& out) noexcept {
    IOPT_ASSERT(where.is_aligned(host::page_bytes) && !out.full());
    const std::uint64_t whole = host::page_bytes - 1;
    const std::uint64_t end = (frames_.size_bytes(of.number) + whole) & ~whole;
    if (where.first.value >= end) return fail(errc::invalid_argument);
    const std::uint64_t bytes = std::min(where.length_minus_one(), end - where.first.value - 1) + 1;
    out.append_fitting(run(file_frames::frame(of.number, where.first.value), bytes));
    return {};
  }

  const file_frames& frames() const noexcept { return frames_; }

 private:
  file_frames frames_;
};
static_assert(page_pinner<pinner> && file_pinner<pinner> && copying_pinner<pinner>);

}  // namespace iopt::dev_iommu
