// iopt/backends/host/page_windows.hpp - frames for memory that has a name.
//
// A page of a shared object is one page, wherever and by whomever it is mapped. So each object that
// anything is pinned of gets a window of frames, in which a page is where it is in the object; and
// each process, for what is its own, one in which a page is where the process has it.
//
// Layer: backends. Includes: base, backends/host, the standard library, Linux.
#pragma once

#include <fcntl.h>
#include <sys/types.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>

#include "iopt/backends/host/physical_memory.hpp"
#include "iopt/base/address.hpp"
#include "iopt/base/assert.hpp"
#include "iopt/base/error.hpp"
#include "iopt/base/range.hpp"

namespace iopt::host {

/// memory_object: an object by its device and number, which several may map, or the private memory of
/// a process.
struct memory_object {
  std::uint64_t device = 0;
  std::uint64_t inode = 0;
  pid_t process = 0;  // 0 for an object; 0 for all: the private memory of the calling process
  friend bool operator==(const memory_object&, const memory_object&) noexcept = default;
};

/// page_windows: a window of 2^47 bytes of frames for each object that has pinned pages.
///
/// Model       A partial function from window numbers to objects, each with a number of pins and
///             perhaps a descriptor. The calling process's private memory has window 0, where a
///             frame is the page's address.
/// Invariants  No object has two windows. But for window 0, one with an object has a pin.
/// Ownership   Owns the descriptors.
/// Errors      enter(): not_enough_memory, also where all numbers are taken.
/// Cost        O(windows) to enter, O(1) to leave.
/// Threads     Thread-compatible.
/// Tested by   tests/backends/host/page_windows_test.cpp
class page_windows {
 public:
  static constexpr unsigned window_bits = 47;
  static constexpr std::uint64_t window_bytes = std::uint64_t{1} << window_bits;

  page_windows() = default;
  page_windows(const page_windows&) = delete;
  page_windows& operator=(const page_windows&) = delete;
  ~page_windows() {
    for (const window& w : windows_)
      if (w.descriptor >= 0) ::close(w.descriptor);
  }

  /// Pins so many pages of the object; its first frame. `open` makes a descriptor of it, or -1, and is
  /// called when the object gets its window.
  template <class Open>
  result<physical> enter(const memory_object& what, std::uint64_t pages, Open open) noexcept {
    if (what == memory_object{}) return physical{0};
    std::size_t free = windows_.size();
    for (std::size_t n = 0; n != windows_.size(); ++n) {
      window& w = windows_[n];
      if (w.pins == 0) {
        free = n;
      } else if (w.what == what) {
        w.pins += pages;
        return first_of(n);
      }
    }
    if (free == windows_.size()) {
      if (free + 1 == std::size_t{1} << (64 - window_bits) || !windows_.push_back({}))
        return fail(errc::not_enough_memory);
    }
    windows_[free] = {what, pages, open()};
    return first_of(free);
  }
  /// Unpins so many pages of the object that has this frame.
  void leave(physical frame, std::uint64_t pages) noexcept {
    window* const w = at(frame);
    if (w == nullptr) return;
    IOPT_ASSERT(w->pins >= pages);
    w->pins -= pages;
    if (w->pins != 0) return;
    if (w->descriptor >= 0) ::close(w->descriptor);
    w->descriptor = -1;
  }

  /// The first frame of an object, if it has a window; that of the calling process is always there.
  result<physical> find(const memory_object& what) const noexcept {
    if (what == memory_object{}) return physical{0};
    for (std::size_t n = 0; n != windows_.size(); ++n)
      if (windows_[n].pins != 0 && windows_[n].what == what) return first_of(n);
    return fail(errc::no_such_file_or_directory);
  }
  /// What has this frame, and a descriptor of it, or -1. Requires: it has a window.
  std::pair<memory_object, int> object_at(physical frame) const noexcept {
    const window* const w = const_cast<page_windows*>(this)->at(frame);
    if (w == nullptr) return {memory_object{}, -1};
    return {w->what, w->descriptor};
  }
  static constexpr std::uint64_t offset_of(physical frame) noexcept {
    return frame.value & (window_bytes - 1);
  }

  /// The first invariant that does not hold, or nothing.
  std::string_view verify() const noexcept {
    for (const window* w = windows_.begin(); w != windows_.end(); ++w) {
      if (w->pins == 0 && w->descriptor >= 0) return "who has a descriptor has a pin";
      for (const window* v = windows_.begin(); w->pins != 0 && v != w; ++v)
        if (v->pins != 0 && v->what == w->what) return "no object has two windows";
    }
    return {};
  }

 private:
  struct window {
    memory_object what;
    std::uint64_t pins = 0;
    int descriptor = -1;
  };

  static constexpr physical first_of(std::size_t n) noexcept {
    return {(std::uint64_t{n} + 1) << window_bits};
  }
  window* at(physical frame) noexcept {
    const std::size_t number = static_cast<std::size_t>(frame.value >> window_bits);
    if (number == 0) return nullptr;
    IOPT_ASSERT(number <= windows_.size());
    return &windows_[number - 1];
  }

  iopt::detail::host_array<window> windows_;  // of number n + 1
};

}  // namespace iopt::host
