// iopt/backends/mock/frame_contents.hpp - the bytes in frames that somebody has written.
//
// Layer: backends/mock. Includes: base, the standard library.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <unordered_map>
#include <utility>

#include "iopt/base/address.hpp"

namespace iopt::mock {

/// frame_contents: physical memory, kept only where it was written.
///
/// Model       A byte for each physical address, at first 0.
/// Cost        One page of memory for each page ever stored to.
/// Threads     Thread-compatible.
/// Tested by   tests/backends/mock/pinner_test.cpp
class frame_contents {
 public:
  explicit frame_contents(std::uint64_t page_bytes) noexcept : page_bytes_(page_bytes) {}

  void load(physical at, std::span<std::byte> to) const {
    in_pages(at, to, [this](std::uint64_t page, std::size_t offset, std::span<std::byte> part) {
      const auto known = pages_.find(page);
      if (known == pages_.end()) {
        std::memset(part.data(), 0, part.size());
      } else {
        std::memcpy(part.data(), known->second.get() + offset, part.size());
      }
    });
  }
  void store(physical at, std::span<const std::byte> from) {
    in_pages(at, from, [this](std::uint64_t page, std::size_t offset, auto part) {
      std::unique_ptr<std::byte[]>& bytes = pages_[page];
      if (bytes == nullptr) bytes = std::make_unique<std::byte[]>(page_bytes_);
      std::memcpy(bytes.get() + offset, part.data(), part.size());
    });
  }

 private:
  template <class Byte, class Each>
  void in_pages(physical at, std::span<Byte> bytes, Each each) const {
    for (std::size_t done = 0; done < bytes.size();) {
      const std::uint64_t from = at.value + done;
      const std::size_t offset = static_cast<std::size_t>(from % page_bytes_);
      const std::size_t step =
          std::min(bytes.size() - done, static_cast<std::size_t>(page_bytes_) - offset);
      each(from / page_bytes_, offset, bytes.subspan(done, step));
      done += step;
    }
  }

  std::uint64_t page_bytes_;
  std::unordered_map<std::uint64_t, std::unique_ptr<std::byte[]>> pages_;
};

}  // namespace iopt::mock
