// iopt/backends/host/shared_pinner.hpp - a pinner for memory that several may show: of this process, of
// others, of files.
//
// Where process_pinner.hpp takes a page for its address, here two addresses that show one page of a
// shared object (MAP_SHARED, a memfd) have one frame, and so has the file. That is what a server needs
// whose clients pass it memory, and what a program can tell apart that compares pages.
//
// Layer: backends. Includes: base, policy, backends/host, the standard library, Linux.
#pragma once

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <mutex>
#include <new>
#include <span>
#include <string_view>
#include <utility>

#include "iopt/backends/host/address_counter.hpp"
#include "iopt/backends/host/page_windows.hpp"
#include "iopt/backends/host/physical_memory.hpp"
#include "iopt/backends/host/probe.hpp"
#include "iopt/backends/host/process_accounts.hpp"
#include "iopt/backends/host/process_maps.hpp"
#include "iopt/backends/host/process_owners.hpp"
#include "iopt/base/access.hpp"
#include "iopt/base/address.hpp"
#include "iopt/base/assert.hpp"
#include "iopt/base/error.hpp"
#include "iopt/base/page_sizes.hpp"
#include "iopt/base/range.hpp"
#include "iopt/base/run.hpp"
#include "iopt/policy/account.hpp"
#include "iopt/policy/page_pinner.hpp"

namespace iopt::host {

/// shared_file: a file whose pages can be pinned, held open by each copy.
///
/// Errors      open(): bad_file_descriptor; not_enough_memory.
/// Tested by   tests/backends/host/shared_pinner_test.cpp
class shared_file {
 public:
  static result<shared_file> open(int descriptor) noexcept {
    const int copy = ::fcntl(descriptor, F_DUPFD_CLOEXEC, 0);
    struct stat is{};
    if (copy < 0 || ::fstat(copy, &is) != 0) {
      const int number = errno;
      if (copy >= 0) ::close(copy);
      return fail(number == EBADF ? errc::bad_file_descriptor : errc::not_enough_memory);
    }
    auto* const fresh = new (std::nothrow)
        held{copy, {std::uint64_t{major(is.st_dev)} << 32 | minor(is.st_dev), is.st_ino, 0}};
    if (fresh == nullptr) {
      ::close(copy);
      return fail(errc::not_enough_memory);
    }
    return shared_file(std::shared_ptr<const held>(fresh));
  }
  int descriptor() const noexcept { return held_->descriptor; }
  const memory_object& object() const noexcept { return held_->object; }
  friend bool operator==(const shared_file& a, const shared_file& b) noexcept {
    return a.object() == b.object();
  }

 private:
  struct held {
    int descriptor;
    memory_object object;
    ~held() { ::close(descriptor); }
  };
  explicit shared_file(std::shared_ptr<const held> h) noexcept : held_(std::move(h)) {}
  std::shared_ptr<const held> held_;
};

/// shared_pinner: pins memory of processes and of files, a page of which has one frame.
///
/// Model       pins(f) for every frame f of page_windows, and process_accounts. Memory of this process is
///             probed before it is pinned, with write where the rights have it, else for reading; that of
///             another by what it has mapped there and by reading a byte of each page. What a process
///             unmaps while it is pinned stays where others hold the object, and is gone where it was
///             private.
/// Invariants  Those of address_counter and page_windows.
/// Errors      pin(): bad_address where the first page may not be touched so, or the owner is gone;
///             not_enough_memory where the system has none. pin_file(): invalid_argument for what is no
///             memfd, tmpfs or hugetlbfs file, or past its end; not_enough_memory. charge():
///             not_enough_memory over RLIMIT_MEMLOCK; invalid_argument where the process is gone.
/// Cost        pin(): as process_pinner, and a look at the process's mappings (process_maps) for each that
///             the range meets. A run for each.
/// Threads     Calls from several threads at once work; they probe side by side.
/// Tested by   tests/backends/host/shared_pinner_test.cpp, tests/policy/page_pinner_conformance.hpp
class shared_pinner : public process_owners, public process_charges {
 public:
  using file = shared_file;

  shared_pinner() = default;
  shared_pinner(const shared_pinner&) = delete;
  shared_pinner& operator=(const shared_pinner&) = delete;

  result<void> pin(const owner& who, user_range where, access_rights rights,
                   run_list& out) noexcept {
    IOPT_ASSERT(where.is_aligned(page_bytes) && !out.full());
    where = probed_at_once(where);
    if (who == current()) {
      const result<std::uint64_t> good = touchable_bytes(where, rights);
      if (!good) return std::unexpected(good.error());
      where = user_range::sized(where.first, *good);
    }
    process_maps maps(who.process);
    error why = errc::bad_address;
    bool some = false;
    for (user_address at = where.first; !out.full();) {
      const result<mapping> m = maps.first_at(at);
      if (!m || !m->where.contains(at) || !allows(m->rights, rights)) break;
      const user_range part{at, std::min(m->where.last, where.last)};
      const result<user_address> end = who == current() ? part.last : readable(who, part);
      if (!end) break;
      const result<run> frames = enter(who, *m, {at, *end});
      if (!frames) {
        why = frames.error();
        break;
      }
      out.append_fitting(*frames);
      some = true;
      if (*end == where.last || *end != part.last) break;
      at = *end + 1;
    }
    if (!some) return fail(why);
    return {};
  }

  result<void> pin_file(const file& from, user_range where, access_rights /*rights*/,
                        run_list& out) noexcept {
    IOPT_ASSERT(where.is_aligned(page_bytes) && !out.full());
    struct stat is{};
    struct statfs on{};
    if (::fstat(from.descriptor(), &is) != 0 || ::fstatfs(from.descriptor(), &on) != 0 ||
        (static_cast<std::uint64_t>(on.f_type) != TMPFS_MAGIC &&
         static_cast<std::uint64_t>(on.f_type) != HUGETLBFS_MAGIC))
      return fail(errc::invalid_argument);
    const auto size = static_cast<std::uint64_t>(is.st_size);
    if (where.first.value >= size) return fail(errc::invalid_argument);
    const std::uint64_t most =
        std::min((size - 1) / page_bytes * page_bytes + (page_bytes - 1) - where.first.value,
                 longest_probe_bytes - 1);
    const std::uint64_t bytes = std::min(where.length_minus_one(), most) + 1;
    // Memory for what is not written yet; a descriptor that may not write will not.
    if (::fallocate(from.descriptor(), FALLOC_FL_KEEP_SIZE, static_cast<off_t>(where.first.value),
                    static_cast<off_t>(bytes)) != 0 &&
        (errno == ENOSPC || errno == ENOMEM))
      return fail(errc::not_enough_memory);
    const result<run> frames = enter(from.object(), where.first.value, bytes, [&] {
      return ::fcntl(from.descriptor(), F_DUPFD_CLOEXEC, 0);
    });
    if (!frames) return std::unexpected(frames.error());
    out.append_fitting(*frames);
    return {};
  }

  void unpin(run r, bool /*dirty*/) noexcept {
    const std::lock_guard guard(lock_);
    counter_.subtract(user_range::sized({r.first.value}, r.length_bytes));
    windows_.leave(r.first, r.length_bytes / page_bytes);
  }

  /// Copies as a load or store of the process would, but for the signal.
  result<void> read(const owner& who, user_address at, std::span<std::byte> to) noexcept {
    if (who == current()) return copy_from(at, to);
    return copy_between(who, at, to.data(), to.size(), false);
  }
  result<void> write(const owner& who, user_address at, std::span<const std::byte> from) noexcept {
    if (who == current()) return copy_to(at, from);
    return copy_between(who, at, const_cast<std::byte*>(from.data()), from.size(), true);
  }
  /// Of private memory that is gone zeroes are read, and what is written to it is lost.
  void read_frame(physical at, std::span<std::byte> to) noexcept {
    if (!copy_frame(at, to.data(), to.size(), false)) std::ranges::fill(to, std::byte{0});
  }
  void write_frame(physical at, std::span<const std::byte> from) noexcept {
    static_cast<void>(copy_frame(at, const_cast<std::byte*>(from.data()), from.size(), true));
  }

  result<void> charge(const owner& who, account_mode mode, std::uint64_t pages) noexcept {
    if (!reachable(who)) return fail(errc::invalid_argument);
    return charge_below(memlock_limit{who.process}(mode), who, mode, pages);
  }

  /// pins(f) of the frame that has this byte.
  std::uint64_t pins(physical byte) const noexcept {
    const std::lock_guard guard(lock_);
    return counter_.count({byte.value});
  }
  /// The frame of the page that a process shows at an address, where it is pinned.
  /// Errors: bad_address, nothing is mapped there; no_such_file_or_directory, it is of an object of
  /// which nothing is pinned.
  result<physical> frame_at(const owner& who, user_address at) const noexcept {
    process_maps maps(who.process);
    const result<mapping> m = maps.first_at(at);
    if (!m || !m->where.contains(at)) return fail(errc::bad_address);
    const std::lock_guard guard(lock_);
    const result<physical> first = windows_.find(object_of(who, *m));
    if (!first) return fail(first.error());
    return *first + offset_of(*m, at);
  }
  /// The sum of pins(f).
  std::uint64_t pinned_pages() const noexcept {
    const std::lock_guard guard(lock_);
    return counter_.total();
  }
  /// The first invariant that does not hold, or nothing.
  std::string_view verify() const noexcept {
    const std::lock_guard guard(lock_);
    const std::string_view fault = windows_.verify();
    return fault.empty() ? counter_.verify() : fault;
  }

 private:
  memory_object object_of(const owner& who, const mapping& m) const noexcept {
    if (m.shared && m.inode != 0) return {m.device, m.inode, 0};
    return {0, 0, who == current() ? 0 : who.process};
  }
  static std::uint64_t offset_of(const mapping& m, user_address at) noexcept {
    return m.shared && m.inode != 0 ? m.offset + (at - m.where.first) : at.value;
  }

  /// Pins what a process shows.
  result<run> enter(const owner& who, const mapping& m, user_range part) noexcept {
    return enter(object_of(who, m), offset_of(m, part.first), part.length_minus_one() + 1, [&] {
      if (who == current()) return -1;  // it is here for as long as it is anywhere
      char path[80];
      std::snprintf(path, sizeof path, "/proc/%d/map_files/%llx-%llx", who.process,
                    static_cast<unsigned long long>(m.where.first.value),
                    static_cast<unsigned long long>(m.where.last.value + 1));
      return ::open(path, O_RDWR | O_CLOEXEC);
    });
  }
  template <class Open>
  result<run> enter(const memory_object& what, std::uint64_t offset, std::uint64_t bytes,
                    Open open) noexcept {
    if (offset > page_windows::window_bytes - bytes) return fail(errc::bad_address);
    const std::lock_guard guard(lock_);
    const result<physical> first = windows_.enter(what, bytes / page_bytes, open);
    if (!first) return std::unexpected(first.error());
    const run frames(*first + offset, bytes);
    if (const result<void> counted = counter_.add(user_range::sized({frames.first.value}, bytes));
        !counted) {
      windows_.leave(frames.first, bytes / page_bytes);
      return std::unexpected(counted.error());
    }
    return frames;
  }

  /// The last byte of the pages of another process, from the first on, of which each has a byte to
  /// read.
  static result<user_address> readable(const owner& who, user_range part) noexcept {
    constexpr std::size_t at_once = 64;
    std::byte seen[at_once];
    iovec far[at_once];
    user_address next = part.first;
    for (;;) {
      std::size_t count = 0;
      for (user_address at = next; count != at_once; at += page_bytes) {
        far[count++] = {iopt::detail::host_pointer(at.value), 1};
        if (part.last - at < page_bytes) break;
      }
      const iovec near{seen, count};
      const ssize_t got = ::process_vm_readv(who.process, &near, 1, far, count, 0);
      if (got > 0) next += static_cast<std::uint64_t>(got) * page_bytes;
      if (got != static_cast<ssize_t>(count)) break;
      if (next - 1 == part.last) return part.last;
    }
    if (next == part.first) return fail(errc::bad_address);
    return next - 1;
  }

  static result<void> copy_between(const owner& who, user_address at, std::byte* here,
                                   std::size_t bytes, bool write) noexcept {
    for (std::size_t done = 0; done != bytes;) {
      const iovec near{here + done, bytes - done};
      const iovec far{iopt::detail::host_pointer(at.value + done), bytes - done};
      const ssize_t got = write ? ::process_vm_writev(who.process, &near, 1, &far, 1, 0)
                                : ::process_vm_readv(who.process, &near, 1, &far, 1, 0);
      if (got <= 0) return fail({errc::bad_address, error_place::request_byte, done});
      done += static_cast<std::size_t>(got);
    }
    return {};
  }

  bool copy_frame(physical at, std::byte* here, std::size_t bytes, bool write) noexcept {
    std::pair<memory_object, int> object;
    {
      const std::lock_guard guard(lock_);
      object = windows_.object_at(at);
      // So that it stays open; the pages stay pinned anyway.
      if (object.second >= 0) object.second = ::fcntl(object.second, F_DUPFD_CLOEXEC, 0);
    }
    const auto& [what, descriptor] = object;
    const std::uint64_t offset = page_windows::offset_of(at);
    if (what.inode == 0) {
      const owner who = what.process == 0 ? current() : owner{what.process};
      return (write ? this->write(who, {offset}, {here, bytes})
                    : this->read(who, {offset}, {here, bytes}))
          .has_value();
    }
    if (descriptor >= 0) {
      const bool done = copy_object(descriptor, offset, here, bytes, write);
      ::close(descriptor);
      return done;
    }
    // Through a mapping of our own, if there is one.
    process_maps maps(::getpid());
    for (result<mapping> m = maps.first_at({0}); m; m = maps.first_at(m->where.last + 1)) {
      if (!m->shared || m->inode != what.inode || m->device != what.device || offset < m->offset ||
          offset - m->offset + bytes - 1 > m->where.length_minus_one())
        continue;
      const user_address there = m->where.first + (offset - m->offset);
      return (write ? copy_to(there, {here, bytes}) : copy_from(there, {here, bytes})).has_value();
    }
    return false;
  }
  /// Maps the huge pages around it, as hugetlbfs gives no less.
  static bool copy_object(int descriptor, std::uint64_t offset, std::byte* here, std::size_t bytes,
                          bool write) noexcept {
    constexpr std::uint64_t huge = 2 * mebibyte;
    const std::uint64_t start = offset / huge * huge;
    const std::uint64_t length = (offset + bytes - 1 - start) / huge * huge + huge;
    void* const there = ::mmap(nullptr, length, write ? PROT_READ | PROT_WRITE : PROT_READ,
                               MAP_SHARED, descriptor, static_cast<off_t>(start));
    if (there == MAP_FAILED) return false;
    const user_address at{reinterpret_cast<std::uintptr_t>(there) + (offset - start)};
    const bool done =
        (write ? copy_to(at, {here, bytes}) : copy_from(at, {here, bytes})).has_value();
    ::munmap(there, length);
    return done;
  }

  mutable std::mutex lock_;  // over what follows
  address_counter counter_;
  page_windows windows_;
};

static_assert(page_pinner<shared_pinner> && copying_pinner<shared_pinner> &&
              frame_copying_pinner<shared_pinner> && file_pinner<shared_pinner>);

}  // namespace iopt::host
