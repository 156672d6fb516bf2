// iopt/backends/host/physical_memory.hpp - the physical memory of a simulated machine: a memfd.
//
// A frame is an offset in the memfd, so that a frame number is no address of this process in
// disguise: who confuses the two reads other bytes. The whole memfd is mapped a second time; that
// mapping is what a device sees. The memfd is sparse: a machine of some tebibytes costs address
// space, and memory only for the pages that somebody touched. Linux only.
//
// Layer: backends. Includes: base, the standard library, Linux.
#pragma once

#if !defined(__linux__)
#error "iopt/backends/host needs Linux: memfd_create, MAP_FIXED over a reservation"
#endif

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <shared_mutex>
#include <span>
#include <string_view>
#include <type_traits>
#include <utility>

#include "iopt/base/address.hpp"
#include "iopt/base/assert.hpp"
#include "iopt/base/error.hpp"
#include "iopt/base/log2.hpp"
#include "iopt/base/page_sizes.hpp"
#include "iopt/base/range.hpp"

// For CPUs with other pages, 16384 or 65536: the same in every file of a program.
#ifndef IOPT_HOST_PAGE_BYTES
#define IOPT_HOST_PAGE_BYTES 4096
#endif

namespace iopt::host {

/// The page of this backend and of the CPUs that it runs on, in bytes.
inline constexpr std::uint64_t page_bytes = IOPT_HOST_PAGE_BYTES;
static_assert(is_power_of_two(page_bytes) && page_bytes >= 4096);

class physical_memory;

}  // namespace iopt::host

namespace iopt::detail {

/// host_array: a growing array that takes "no memory" for an answer. For plain values only.
template <class T>
class host_array {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  bool reserve(std::size_t capacity) noexcept {
    if (capacity <= capacity_) return true;
    capacity = std::max(capacity, 2 * capacity_);
    std::unique_ptr<T[]> larger(new (std::nothrow) T[capacity]);
    if (larger == nullptr) return false;
    std::copy(begin(), end(), larger.get());
    items_ = std::move(larger);
    capacity_ = capacity;
    return true;
  }
  bool insert(std::size_t at, T item) noexcept {
    if (!reserve(size_ + 1)) return false;
    std::copy_backward(begin() + at, end(), end() + 1);
    items_[at] = item;
    ++size_;
    return true;
  }
  bool push_back(T item) noexcept { return insert(size_, item); }
  void erase(std::size_t at, std::size_t count) noexcept {
    if (count != 0) std::copy(begin() + at + count, end(), begin() + at), size_ -= count;
  }

  std::size_t size() const noexcept { return size_; }
  T* begin() noexcept { return items_.get(); }
  T* end() noexcept { return items_.get() + size_; }
  const T* begin() const noexcept { return items_.get(); }
  const T* end() const noexcept { return items_.get() + size_; }
  T& operator[](std::size_t n) noexcept { return items_[n]; }
  const T& operator[](std::size_t n) const noexcept { return items_[n]; }

 private:
  std::unique_ptr<T[]> items_;
  std::size_t size_ = 0;
  std::size_t capacity_ = 0;
};

/// An errno of the system as an error. errc has the numbers of the Linux uAPI, so that one which
/// it does not name (EMFILE) still tells its number.
inline error host_error(int number) noexcept { return {static_cast<errc>(number)}; }

struct host_region;  // user_memory.hpp

/// What physical_memory, the user memories and the pinners of one machine share.
struct host_machine {
  int descriptor = -1;
  std::byte* view = nullptr;
  std::uint64_t bytes = 0;
  physical lowest{};

  std::shared_mutex lock;            // over what follows, and over the holes of every region
  host_array<physical_range> taken;  // handed out, sorted
  host_array<host_region*> regions;  // user memories, sorted by address

  host_machine() = default;
  host_machine(const host_machine&) = delete;
  host_machine& operator=(const host_machine&) = delete;
  ~host_machine() {
    IOPT_ASSERT(regions.size() == 0);
    if (view != nullptr) ::munmap(view, bytes);
    if (descriptor >= 0) ::close(descriptor);
  }

  /// Takes the frames of `wanted` where they are free. Under the lock.
  result<void> take(physical_range wanted) noexcept {
    physical_range* const next = std::lower_bound(
        taken.begin(), taken.end(), wanted,
        [](const physical_range& a, const physical_range& b) noexcept { return a.last < b.first; });
    if (next != taken.end() && next->overlaps(wanted)) return fail(errc::address_in_use);
    if (!taken.insert(static_cast<std::size_t>(next - taken.begin()), wanted))
      return fail(errc::not_enough_memory);
    return {};
  }

  /// Gives back frames that nobody has seen yet. Under the lock.
  void give_back(physical_range unused) noexcept {
    const physical_range* const found = std::find(taken.begin(), taken.end(), unused);
    IOPT_ASSERT(found != taken.end());
    taken.erase(static_cast<std::size_t>(found - taken.begin()), 1);
  }
};

}  // namespace iopt::detail

namespace iopt::host {

/// physical_memory: the frames of a simulated machine.
///
/// Model       Bytes at physical addresses [0, size_bytes()), at first zero. Frame 0 is never
///             handed out, nor is any below lowest().
/// Invariants  Ranges handed out are disjoint. None is handed out twice: a frame that a device may
///             still reach gets no second owner. Memory goes back to the system with the machine.
/// Ownership   User memories, files and pinners of a machine refer to it: it is destroyed last. It
///             may be moved while they live.
/// Errors      As the functions say. Memory of the system that runs out at the first touch of a
///             page ends the program (SIGBUS), as it does for every sparse file.
/// Cost        create(): two system calls, whatever the size. allocate(): O(ranges handed out).
/// Threads     Calls from several threads at once work.
/// Tested by   tests/backends/host/physical_memory_test.cpp
class physical_memory {
 public:
  /// The greatest machine: half of what an x86 process can address, since pinners need some too.
  static constexpr std::uint64_t largest_bytes = std::uint64_t{64} << 40;

  /// A machine with `size_bytes` of memory, whose lowest frame to hand out is at `lowest`.
  /// Errors: invalid_argument where a number is no multiple of a page, or the size is 0, or
  /// `lowest` is 0 or not inside; value_too_large past largest_bytes; operation_not_supported where
  /// the CPU's page is not 4 KiB; not_enough_memory where the process lacks address space for the
  /// device's view; any errno of memfd_create and ftruncate.
  static result<physical_memory> create(std::uint64_t size_bytes,
                                        physical lowest = {2 * mebibyte}) noexcept {
    if (size_bytes == 0 || size_bytes % page_bytes != 0) return fail(errc::invalid_argument);
    if (size_bytes > largest_bytes) return fail(errc::value_too_large);
    if (lowest.value == 0 || !lowest.is_aligned(page_bytes) || lowest.value >= size_bytes)
      return fail(errc::invalid_argument);
    if (::sysconf(_SC_PAGESIZE) != static_cast<long>(page_bytes))
      return fail(errc::operation_not_supported);

    std::unique_ptr<detail::host_machine> machine(new (std::nothrow) detail::host_machine);
    if (machine == nullptr) return fail(errc::not_enough_memory);
    machine->descriptor = ::memfd_create("iopt physical memory", MFD_CLOEXEC);
    if (machine->descriptor < 0) return fail(detail::host_error(errno));
    if (::ftruncate(machine->descriptor, static_cast<off_t>(size_bytes)) != 0)
      return fail(detail::host_error(errno));
    void* const view = ::mmap(nullptr, size_bytes, PROT_READ | PROT_WRITE,
                              MAP_SHARED | MAP_NORESERVE, machine->descriptor, 0);
    if (view == MAP_FAILED) return fail(detail::host_error(errno));
    ::madvise(view, size_bytes, MADV_DONTDUMP);
    machine->view = static_cast<std::byte*>(view);
    machine->bytes = size_bytes;
    machine->lowest = lowest;
    return physical_memory(std::move(machine));
  }

  std::uint64_t size_bytes() const noexcept { return machine_->bytes; }
  physical lowest() const noexcept { return machine_->lowest; }
  int descriptor() const noexcept { return machine_->descriptor; }

  /// The byte that a device sees at physical address 0; the others follow.
  std::byte* device_view() const noexcept { return machine_->view; }

  /// Bytes as a device sees them. Requires: inside the machine.
  std::span<std::byte> bytes(physical first, std::uint64_t length_bytes) const noexcept {
    IOPT_ASSERT(first.value <= machine_->bytes && length_bytes <= machine_->bytes - first.value);
    return {machine_->view + first.value, length_bytes};
  }

  /// The lowest free frames that fit.
  /// Errors: invalid_argument where the length is 0 or no multiple of a page, or the alignment is
  /// no power of two of at least a page; not_enough_memory where the machine has none.
  result<physical_range> allocate(std::uint64_t length_bytes,
                                  std::uint64_t alignment_bytes = page_bytes) noexcept {
    if (length_bytes == 0 || length_bytes % page_bytes != 0 || alignment_bytes < page_bytes ||
        !is_power_of_two(alignment_bytes))
      return fail(errc::invalid_argument);
    const std::unique_lock guard(machine_->lock);
    std::uint64_t candidate = machine_->lowest.value;
    for (std::size_t n = 0;; ++n) {
      const std::optional<std::uint64_t> aligned = align_up(candidate, alignment_bytes);
      if (!aligned || *aligned >= machine_->bytes || length_bytes > machine_->bytes - *aligned)
        return fail(errc::not_enough_memory);
      const physical_range fit = physical_range::sized({*aligned}, length_bytes);
      if (n == machine_->taken.size() || fit.last < machine_->taken[n].first) {
        const result<void> taken = machine_->take(fit);
        if (!taken) return std::unexpected(taken.error());
        return fit;
      }
      candidate = std::max(candidate, machine_->taken[n].last.value + 1);
    }
  }

  /// Exactly these frames: those of a trace, say.
  /// Errors: invalid_argument where they are not whole pages, or not from lowest() to the end of
  /// the machine; address_in_use where one of them was handed out before.
  result<void> allocate_at(physical_range frames) noexcept {
    if (!frames.is_aligned(page_bytes) || frames.first < machine_->lowest ||
        frames.last.value >= machine_->bytes)
      return fail(errc::invalid_argument);
    const std::unique_lock guard(machine_->lock);
    return machine_->take(frames);
  }

  /// The first invariant that does not hold, or nothing.
  std::string_view verify() const noexcept {
    const std::shared_lock guard(machine_->lock);
    physical after = machine_->lowest;
    for (const physical_range& range : machine_->taken) {
      if (range.first < after) return "ranges handed out are disjoint, sorted, and from lowest()";
      if (range.last < range.first || range.last.value >= machine_->bytes)
        return "ranges handed out are inside the machine";
      after = range.last + 1;
    }
    return {};
  }

  /// For the headers of this backend.
  detail::host_machine& machine() const noexcept { return *machine_; }

 private:
  explicit physical_memory(std::unique_ptr<detail::host_machine> machine) noexcept
      : machine_(std::move(machine)) {}

  std::unique_ptr<detail::host_machine> machine_;
};

}  // namespace iopt::host
