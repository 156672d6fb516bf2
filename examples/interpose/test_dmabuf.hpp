// examples/interpose/test_dmabuf.hpp - memory of a device that exists in name only, behind a descriptor.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include "interposed_file.hpp"
#include "iopt/base/address.hpp"
#include "iopt/base/error.hpp"
#include "iopt/base/run.hpp"

namespace interpose {

/// device_buffer: so many bytes of a device, which can be taken away.
///
/// Model       A run of frames above all memory's. Revoked or not.
/// Threads     Any.
class device_buffer {
 public:
  explicit device_buffer(std::uint64_t bytes) noexcept : bytes_(bytes), first_(take(bytes)) {}
  std::uint64_t size_bytes() const noexcept { return bytes_; }
  bool is_revoked() const noexcept { return revoked_; }
  void set_revoked(bool on) noexcept { revoked_ = on; }

  /// Where bytes of it are. Errors: no_such_device, revoked; result_out_of_range.
  iopt::result<iopt::run> resolve(iopt::user_range where) const noexcept {
    if (is_revoked()) return iopt::fail(iopt::errc::no_such_device);
    if (where.last.value >= bytes_) return iopt::fail(iopt::errc::result_out_of_range);
    return iopt::run({first_ + where.first.value}, where.length_minus_one() + 1,
                     iopt::memory_type::mmio);
  }

 private:
  static std::uint64_t take(std::uint64_t bytes) noexcept {
    static std::atomic<std::uint64_t> next = std::uint64_t{1} << 63;
    constexpr std::uint64_t window = std::uint64_t{1} << 21;
    return next.fetch_add((bytes + window - 1) / window * window);
  }

  std::uint64_t bytes_;
  std::uint64_t first_;
  std::atomic<bool> revoked_ = false;
};
/// The memory stays as long as anybody names it.
using device_memory = std::shared_ptr<device_buffer>;

/// test_dmabuf: the descriptor of one.
class test_dmabuf final : public interposed_file {
 public:
  explicit test_dmabuf(std::uint64_t bytes) : memory_(std::make_shared<device_buffer>(bytes)) {}
  file_kind kind() const noexcept override { return file_kind::test_dmabuf; }
  bool is_shared() const noexcept override { return true; }
  iopt::uapi::answer ioctl(std::uint32_t, std::uint64_t) override {
    return iopt::uapi::refusal(iopt::errc::inappropriate_io_control_operation);
  }
  const device_memory& memory() const noexcept { return memory_; }

 private:
  device_memory memory_;
};

}  // namespace interpose
