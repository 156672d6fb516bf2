// iopt/backends/host/user_memory.hpp - user memory whose frames are known, and shuffled.
//
// A region of this process's address space, made of blocks of the machine's memfd in random order:
// 2 MiB each, and 4 KiB in the parts chosen for that. So physical runs are as long as a real system
// has them, and nothing about a frame can be guessed from an address. The region's frames in order
// are also a file, to be pinned by offset; it keeps its frames when the user unmaps them.
//
// Layer: backends. Includes: base, backends/host/physical_memory.hpp, the standard library, Linux.
#pragma once

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
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
#include <utility>

#include "iopt/backends/host/physical_memory.hpp"
#include "iopt/base/access.hpp"
#include "iopt/base/address.hpp"
#include "iopt/base/assert.hpp"
#include "iopt/base/error.hpp"
#include "iopt/base/log2.hpp"
#include "iopt/base/page_sizes.hpp"
#include "iopt/base/range.hpp"

namespace iopt::host {

/// block_order: how user memory is cut into blocks. Blocks change places at random; no two that
/// are neighbours in physical memory become neighbours in user memory where that can be avoided.
struct block_order {
  std::uint64_t block_bytes = 2 * mebibyte;  // a power of two from 4 KiB to 1 GiB
  unsigned small_every = 0;                  // of each so many blocks one is 4 KiB pages; 0: none
  std::span<const user_range> small = {};    // blocks that hold these offsets are 4 KiB pages
  std::uint64_t seed = 1;
};

}  // namespace iopt::host

namespace iopt::detail {

/// A physically contiguous piece of a region, `offset` bytes from its start.
struct host_piece {
  std::uint64_t offset;
  std::uint64_t bytes;
  physical frame;
};

/// The frames of user memory in order, and where they are mapped. Shared by the user_memory and the
/// files of it.
struct host_region {
  host_machine* machine = nullptr;
  std::byte* base = nullptr;  // nullptr once the user memory is gone
  std::uint64_t bytes = 0;
  host_array<host_piece> pieces;  // sorted, no gap, no two that join; constant
  host_array<user_range> holes;   // unmapped parts, as addresses; sorted, disjoint, not touching
  std::atomic<std::uint64_t> holders{1};

  user_range range() const noexcept {
    return user_range::sized({reinterpret_cast<std::uintptr_t>(base)}, bytes);
  }
  void hold() noexcept { holders.fetch_add(1, std::memory_order_relaxed); }
  void release() noexcept {
    if (holders.fetch_sub(1, std::memory_order_acq_rel) == 1) delete this;
  }
  bool add_piece(std::uint64_t length_bytes, physical frame) noexcept {
    if (pieces.size() != 0) {
      host_piece& last = pieces[pieces.size() - 1];
      if (last.frame + last.bytes == frame) return last.bytes += length_bytes, true;
      return pieces.push_back({last.offset + last.bytes, length_bytes, frame});
    }
    return pieces.push_back({0, length_bytes, frame});
  }
  /// The piece that holds this offset.
  const host_piece* piece_at(std::uint64_t offset) const noexcept {
    return std::upper_bound(
               pieces.begin(), pieces.end(), offset,
               [](std::uint64_t o, const host_piece& p) noexcept { return o < p.offset; }) -
           1;
  }
  physical frame_at(std::uint64_t offset) const noexcept {
    const host_piece* const piece = piece_at(offset);
    return piece->frame + (offset - piece->offset);
  }
  /// The first hole that does not end below `where`, or the end.
  const user_range* hole_from(user_address where) const noexcept {
    return std::lower_bound(
        holes.begin(), holes.end(), where,
        [](const user_range& hole, user_address a) noexcept { return hole.last < a; });
  }
};

/// The region that holds this address, or nullptr. Under the machine's lock.
inline host_region* host_region_at(const host_machine& machine, user_address where) noexcept {
  host_region* const* const next = std::upper_bound(
      machine.regions.begin(), machine.regions.end(), where,
      [](user_address a, const host_region* r) noexcept { return a < r->range().first; });
  if (next == machine.regions.begin()) return nullptr;
  return next[-1]->range().contains(where) ? next[-1] : nullptr;
}

/// splitmix64, for orders that are the same everywhere.
struct host_random {
  std::uint64_t state;
  std::uint64_t below(std::uint64_t n) noexcept {
    std::uint64_t z = (state += 0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return (z ^ (z >> 31)) % n;
  }
};

/// Shuffles so that hardly ever, and for less than 2^32 items never but for sheer bad luck, an item
/// is followed by itself plus `step`.
inline void host_shuffle(std::span<std::uint64_t> items, std::uint64_t step,
                         host_random& random) noexcept {
  for (std::size_t n = items.size(); n > 1; --n)
    std::swap(items[n - 1], items[static_cast<std::size_t>(random.below(n))]);
  bool found = items.size() > 1;
  for (int rounds = 0; found && rounds != 100; ++rounds) {
    found = false;
    for (std::size_t n = 1; n < items.size(); ++n) {
      if (items[n] != items[n - 1] + step) continue;
      found = true;
      std::swap(items[n], items[static_cast<std::size_t>(random.below(items.size()))]);
    }
  }
}

}  // namespace iopt::detail

namespace iopt::host {

/// file: the frames of a user memory by offset, as a memfd of a guest's memory is. Every copy keeps
/// it open; equal values are the same file. It outlives the user memory, but not the machine.
class file {
 public:
  explicit file(detail::host_region& region) noexcept : region_(&region) { region_->hold(); }
  file(const file& other) noexcept : region_(other.region_) { region_->hold(); }
  file& operator=(const file& other) noexcept {
    other.region_->hold();
    region_->release();
    region_ = other.region_;
    return *this;
  }
  ~file() { region_->release(); }
  friend bool operator==(const file&, const file&) noexcept = default;

  std::uint64_t size_bytes() const noexcept { return region_->bytes; }
  const detail::host_region& region() const noexcept { return *region_; }

 private:
  detail::host_region* region_;
};

/// user_memory: memory of this process, with a frame behind every byte.
///
/// Model       A function from the addresses of range() to physical addresses, at first total;
///             unmap() makes it undefined on the pages it is given. A byte written at an address
///             is at once what the device's view shows at its frame, and the other way round.
/// Invariants  Pieces are sorted, leave no gap and never join; holes are sorted, inside range() and
///             do not touch. The machine knows this memory.
/// Ownership   Owns its addresses, until destroyed also where they are holes. Its frames are never
///             handed to others. Refers to the machine, not to the physical_memory object.
/// Errors      As the functions say.
/// Cost        Making it: a system call a piece; the kernel's limit is vm.max_map_count (65530 by
///             default) pieces in a process. frame_of(): O(log pieces + log holes).
/// Threads     Calls from several threads at once work, moving and destroying aside.
/// Tested by   tests/backends/host/user_memory_test.cpp
class user_memory {
 public:
  /// Memory of `size_bytes`, on the lowest free frames, in shuffled blocks. A last block shorter
  /// than the others keeps its place. The address is aligned to a block.
  /// Errors: invalid_argument where the size is 0 or no multiple of a page, or the order is
  /// senseless; not_enough_memory where the machine lacks frames, or the process addresses or
  /// mappings. On error nothing is taken.
  static result<user_memory> create(physical_memory& memory, std::uint64_t size_bytes,
                                    block_order order = {}) noexcept {
    const std::uint64_t block_bytes = order.block_bytes;
    if (size_bytes == 0 || size_bytes % page_bytes != 0 || !is_power_of_two(block_bytes) ||
        block_bytes < page_bytes || block_bytes > gibibyte)
      return fail(errc::invalid_argument);
    const result<physical_range> frames = memory.allocate(size_bytes, block_bytes);
    if (!frames) return std::unexpected(frames.error());
    return build(memory, *frames, block_bytes, [&](detail::host_region& region) noexcept {
      return shuffle(region, frames->first, order);
    });
  }

  /// Memory on exactly these frames, in order: where a trace's physical addresses matter.
  /// Errors: as physical_memory::allocate_at(), and as create().
  static result<user_memory> create_at(physical_memory& memory, physical_range frames) noexcept {
    const result<void> taken = memory.allocate_at(frames);
    if (!taken) return std::unexpected(taken.error());
    return build(memory, frames, 2 * mebibyte, [&](detail::host_region& region) noexcept {
      return region.add_piece(region.bytes, frames.first);
    });
  }

  user_memory(user_memory&& other) noexcept : region_(std::exchange(other.region_, nullptr)) {}
  user_memory& operator=(user_memory&& other) noexcept {
    if (this != &other) close(), region_ = std::exchange(other.region_, nullptr);
    return *this;
  }
  ~user_memory() { close(); }

  std::byte* data() const noexcept { return region_->base; }
  std::uint64_t size_bytes() const noexcept { return region_->bytes; }
  user_range range() const noexcept { return region_->range(); }
  user_address address(std::uint64_t offset_bytes) const noexcept {
    IOPT_ASSERT(offset_bytes < region_->bytes);
    return range().first + offset_bytes;
  }
  std::size_t piece_count() const noexcept { return region_->pieces.size(); }
  /// The frames of this memory, holes too, to be pinned by offset.
  host::file file() const noexcept { return host::file(*region_); }

  /// Where this byte is in physical memory; nothing in a hole and outside range().
  std::optional<physical> frame_of(user_address where) const noexcept {
    if (!range().contains(where)) return std::nullopt;
    const std::shared_lock guard(region_->machine->lock);
    const user_range* const hole = region_->hole_from(where);
    if (hole != region_->holes.end() && hole->contains(where)) return std::nullopt;
    return region_->frame_at(where - range().first);
  }

  /// Changes what this process may do with these pages: reading, writing, both or none.
  /// Errors: invalid_argument where they are not whole pages of range(); bad_address where one is
  /// a hole; not_enough_memory past the kernel's number of mappings (some pages may have changed).
  result<void> protect(user_range where, access_rights rights) noexcept {
    if (!range().contains(where) || !where.is_aligned(page_bytes))
      return fail(errc::invalid_argument);
    const std::unique_lock guard(region_->machine->lock);
    const user_range* const hole = region_->hole_from(where.first);
    if (hole != region_->holes.end() && hole->overlaps(where)) return fail(errc::bad_address);
    const int protection = (allows(rights, access_rights::read) ? PROT_READ : 0) |
                           (allows(rights, access_rights::write) ? PROT_WRITE : 0) |
                           (allows(rights, access_rights::execute) ? PROT_EXEC : 0);
    if (::mprotect(pointer(where), where.length(), protection) != 0)
      return fail(detail::host_error(errno));
    return {};
  }

  /// Makes a hole. The addresses stay reserved, so that nothing else moves in; the frames keep
  /// their bytes, for who has pinned them.
  /// Errors: invalid_argument where they are not whole pages of range(); not_enough_memory. On
  /// error nothing has changed.
  result<void> unmap(user_range where) noexcept {
    if (!range().contains(where) || !where.is_aligned(page_bytes))
      return fail(errc::invalid_argument);
    const std::unique_lock guard(region_->machine->lock);
    detail::host_array<user_range>& holes = region_->holes;
    if (!holes.reserve(holes.size() + 1)) return fail(errc::not_enough_memory);
    if (::mmap(pointer(where), where.length(), PROT_NONE,
               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == MAP_FAILED)
      return fail(detail::host_error(errno));
    // Joins every hole that overlaps or touches. range() never starts at address 0.
    const std::size_t first =
        static_cast<std::size_t>(region_->hole_from(where.first - 1) - holes.begin());
    std::size_t end = first;
    for (; end != holes.size() && holes[end].first.value <= where.last.value + 1; ++end)
      where = {std::min(where.first, holes[end].first), std::max(where.last, holes[end].last)};
    holes.erase(first, end - first);
    const bool inserted = holes.insert(first, where);
    IOPT_ASSERT(inserted);
    static_cast<void>(inserted);
    return {};
  }

  /// The first invariant that does not hold, or nothing.
  std::string_view verify() const noexcept {
    const std::shared_lock guard(region_->machine->lock);
    std::uint64_t offset = 0;
    for (const detail::host_piece& piece : region_->pieces) {
      if (piece.offset != offset) return "pieces are sorted and leave no gap";
      if (&piece != region_->pieces.begin() &&
          (&piece)[-1].frame + (&piece)[-1].bytes == piece.frame)
        return "no piece joins the next";
      offset += piece.bytes;
    }
    if (offset != region_->bytes) return "pieces cover the memory";
    const user_range* before = nullptr;
    for (const user_range& hole : region_->holes) {
      if (!range().contains(hole) || !hole.is_aligned(page_bytes))
        return "holes are whole pages inside";
      if (before != nullptr && hole.first.value <= before->last.value + 1)
        return "holes are sorted and do not touch";
      before = &hole;
    }
    if (detail::host_region_at(*region_->machine, range().first) != region_)
      return "the machine knows this memory";
    return {};
  }

 private:
  explicit user_memory(detail::host_region& region) noexcept : region_(&region) {}

  static void* pointer(user_range where) noexcept {
    return reinterpret_cast<void*>(static_cast<std::uintptr_t>(where.first.value));
  }

  void close() noexcept {
    if (region_ == nullptr) return;
    {
      const std::unique_lock guard(region_->machine->lock);
      auto& regions = region_->machine->regions;
      detail::host_region* const* const self = std::find(regions.begin(), regions.end(), region_);
      regions.erase(static_cast<std::size_t>(self - regions.begin()), 1);
      ::munmap(region_->base, region_->bytes);
      region_->base = nullptr;
    }
    region_->release();
    region_ = nullptr;
  }

  template <class AddPieces>
  static result<user_memory> build(physical_memory& memory, physical_range frames,
                                   std::uint64_t alignment_bytes, AddPieces&& add_pieces) noexcept {
    detail::host_machine& machine = memory.machine();
    detail::host_region* const region = new (std::nothrow) detail::host_region;
    int number = ENOMEM;
    if (region != nullptr) {
      region->machine = &machine;
      region->bytes = frames.length();
      if (add_pieces(*region)) number = map(*region, alignment_bytes);
    }
    const std::unique_lock guard(machine.lock);
    if (number == 0) {
      const auto place =
          std::upper_bound(machine.regions.begin(), machine.regions.end(), region,
                           [](const detail::host_region* a, const detail::host_region* b) noexcept {
                             return a->base < b->base;
                           });
      if (machine.regions.insert(static_cast<std::size_t>(place - machine.regions.begin()), region))
        return user_memory(*region);
      ::munmap(region->base, region->bytes);
      number = ENOMEM;
    }
    machine.give_back(frames);
    if (region != nullptr) region->release();
    return fail(detail::host_error(number));
  }

  /// Maps every piece over one reservation; 0 or an errno.
  static int map(detail::host_region& region, std::uint64_t alignment_bytes) noexcept {
    void* const reserved = ::mmap(nullptr, region.bytes + alignment_bytes, PROT_NONE,
                                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (reserved == MAP_FAILED) return errno;
    std::byte* const start = static_cast<std::byte*>(reserved);
    const std::uint64_t address = reinterpret_cast<std::uintptr_t>(reserved);
    const std::uint64_t head = (alignment_bytes - address % alignment_bytes) % alignment_bytes;
    if (head != 0) ::munmap(start, head);
    if (head != alignment_bytes) ::munmap(start + head + region.bytes, alignment_bytes - head);
    region.base = start + head;
    for (const detail::host_piece& piece : region.pieces) {
      if (::mmap(region.base + piece.offset, piece.bytes, PROT_READ | PROT_WRITE,
                 MAP_SHARED | MAP_FIXED | MAP_NORESERVE, region.machine->descriptor,
                 static_cast<off_t>(piece.frame.value)) != MAP_FAILED)
        continue;
      const int number = errno;
      ::munmap(region.base, region.bytes);
      return number;
    }
    return 0;
  }

  /// Cuts the region into blocks on the frames from `first` on; false without memory.
  static bool shuffle(detail::host_region& region, physical first,
                      const block_order& order) noexcept {
    const std::uint64_t block_bytes = order.block_bytes;
    const std::uint64_t full = region.bytes / block_bytes;
    const std::uint64_t blocks = (region.bytes + block_bytes - 1) / block_bytes;
    const auto length_of = [&](std::uint64_t block) noexcept {
      return std::min(block_bytes, region.bytes - block * block_bytes);
    };
    const auto is_small = [&](std::uint64_t block) noexcept {
      if (order.small_every != 0 && block % order.small_every == order.small_every - 1) return true;
      const user_range here = user_range::sized({block * block_bytes}, length_of(block));
      return std::any_of(order.small.begin(), order.small.end(),
                         [&](const user_range& chosen) noexcept { return chosen.overlaps(here); });
    };

    detail::host_random random{order.seed};
    detail::host_array<std::uint64_t> frames;  // of the blocks, as they come in user memory
    for (std::uint64_t block = 0; block != blocks; ++block)
      if (!frames.push_back(first.value + block * block_bytes)) return false;
    detail::host_shuffle({frames.begin(), static_cast<std::size_t>(full)}, block_bytes, random);

    detail::host_array<std::uint64_t> small;  // frames of the pages of all small blocks
    for (std::uint64_t block = 0; block != blocks; ++block) {
      if (!is_small(block)) continue;
      for (std::uint64_t at = 0; at != length_of(block); at += page_bytes)
        if (!small.push_back(frames[block] + at)) return false;
    }
    detail::host_shuffle({small.begin(), small.size()}, page_bytes, random);

    std::size_t used = 0;
    for (std::uint64_t block = 0; block != blocks; ++block) {
      if (!is_small(block)) {
        if (!region.add_piece(length_of(block), {frames[block]})) return false;
        continue;
      }
      for (std::uint64_t at = 0; at != length_of(block); at += page_bytes)
        if (!region.add_piece(page_bytes, {small[used++]})) return false;
    }
    return true;
  }

  detail::host_region* region_;
};

}  // namespace iopt::host
