// tests/backends/real_memory.hpp - what tests of real back ends share: memory, and a group to use.
//
// They run on a kernel that has VFIO, and on examples/interpose. Where there is neither they say so in a
// line and check nothing. IOPT_GROUP_PATH names the group, IOPT_GROUP_PATH_2 another where a test takes
// two; else they are the first of /dev/vfio/0, 1, ...
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "iopt/backends/host/device_file.hpp"
#include "iopt/backends/vfio_type1/container.hpp"
#include "iopt/base/address.hpp"
#include "iopt/base/page_sizes.hpp"
#include "iopt/base/range.hpp"
#include "tests/catch.hpp"

namespace iopt::test {

/// Memory of this process, from a multiple of 2 MiB on.
class real_memory {
 public:
  explicit real_memory(std::uint64_t bytes) : bytes_(bytes + 2 * mebibyte) {
    start_ = ::mmap(nullptr, bytes_, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    REQUIRE(start_ != MAP_FAILED);
  }
  real_memory(const real_memory&) = delete;
  real_memory& operator=(const real_memory&) = delete;
  ~real_memory() { ::munmap(start_, bytes_); }

  std::uint64_t address() const {
    return (reinterpret_cast<std::uintptr_t>(start_) + 2 * mebibyte - 1) & ~(2 * mebibyte - 1);
  }
  std::byte* page(std::uint64_t n) const {
    return reinterpret_cast<std::byte*>(address() + n * 4096);
  }
  user_address at(std::uint64_t n) const { return {address() + n * 4096}; }

 private:
  std::uint64_t bytes_;
  void* start_;
};

/// Says that nothing can be checked here, each reason once.
inline void skipped(const std::string& why) {
  static std::set<std::string> said;
  if (said.insert(why).second) std::printf("skipped: %s\n", why.c_str());
  SUCCEED();
}

/// The group to use, or another; or nothing.
inline std::optional<std::string> group_path(bool another = false) {
  if (const char* named = std::getenv(another ? "IOPT_GROUP_PATH_2" : "IOPT_GROUP_PATH"))
    return named;
  if (another && std::getenv("IOPT_GROUP_PATH") != nullptr) return std::nullopt;
  for (unsigned n = 0; n < 256; ++n) {
    const std::string path = "/dev/vfio/" + std::to_string(n);
    const auto file = host::device_file::open(path.c_str());
    if (!file && file.error() != errc::device_or_resource_busy) continue;
    if (!std::exchange(another, false)) return path;
  }
  return std::nullopt;
}

/// A container with a group, or nothing, and then a line says so.
inline std::optional<vfio_type1::container> open_container(
    std::uint64_t type = vfio::abi::type1v2_iommu) {
  const auto path = group_path();
  if (!path) {
    skipped("no group below /dev/vfio");
    return std::nullopt;
  }
  auto opened = vfio_type1::container::open(path->c_str(), type);
  if (opened) return std::move(*opened);
  const error e = opened.error();
  INFO("opening " << *path << ": " << name(e.code));
  if (e == errc::no_such_file_or_directory || e == errc::permission_denied ||
      e == errc::operation_not_permitted) {
    skipped("the group cannot be used: no VFIO, no right to, or a device of it has another driver");
    return std::nullopt;
  }
  FAIL("the container does not open");
  return std::nullopt;
}

}  // namespace iopt::test
