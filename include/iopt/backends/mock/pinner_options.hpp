// iopt/backends/mock/pinner_options.hpp - the handles of a mock pinner, its options and its counts.
//
// Layer: backends/mock. Includes: base, the standard library.
#pragma once

#include <cstdint>

#include "iopt/backends/mock/fault_injector.hpp"
#include "iopt/backends/mock/memory_space.hpp"
#include "iopt/base/page_sizes.hpp"

namespace iopt::mock {

/// process: an owner of memory, by number. A file and an exporter of device memory are such too.
struct process {
  std::uint32_t id = 0;
  friend constexpr bool operator==(process, process) noexcept = default;
};
struct file {
  std::uint32_t id = 0;
  friend constexpr bool operator==(file, file) noexcept = default;
};
struct exporter {
  std::uint32_t id = 0;
  friend constexpr bool operator==(exporter, exporter) noexcept = default;
};

/// pinner_options: what kind of machine it is.
///
/// Tested by tests/backends/mock/pinner_test.cpp
struct pinner_options {
  std::uint64_t page_bytes = 4 * kibibyte;
  std::uint64_t contiguity_bytes = contiguity::contiguous;  // of what is created without its own
  fault_injector* faults = nullptr;
};

/// pinner_calls: how often each member of a pinner was called, and with how many pages.
struct pinner_calls {
  std::uint64_t pin = 0;
  std::uint64_t pin_file = 0;
  std::uint64_t resolve = 0;
  std::uint64_t unpin = 0;
  std::uint64_t charge = 0;
  std::uint64_t uncharge = 0;
  std::uint64_t read = 0;
  std::uint64_t write = 0;
  std::uint64_t pages_pinned = 0;
  std::uint64_t pages_unpinned = 0;
  friend bool operator==(const pinner_calls&, const pinner_calls&) = default;
};

}  // namespace iopt::mock
