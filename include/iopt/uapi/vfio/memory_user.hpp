// iopt/uapi/vfio/memory_user.hpp - a driver that pins memory of a container: a mediated device.
//
// Layer: uapi. Includes: base.
#pragma once

#include <cstdint>

#include "iopt/base/address.hpp"
#include "iopt/base/range.hpp"

namespace iopt::vfio {

/// The most pages that one pin_pages() of a type1 container takes. Source: Linux 6.12
/// VFIO_PIN_PAGES_MAX_ENTRIES.
inline constexpr std::uint64_t max_pin_pages = 512;

/// memory_user: what the driver of a mediated device is to a container.
///
/// Ownership   The driver's; registered from the opening of its device to its closing.
/// Threads     dma_unmap() is called from the thread that unmaps, with no lock of the container held.
/// Tested by   tests/uapi/vfio/native_pins_test.cpp
class memory_user {
 public:
  /// The IOVAs go: the driver unpins what it pinned there before it returns.
  virtual void dma_unmap(iova_range gone) noexcept = 0;

 protected:
  memory_user() = default;
  ~memory_user() = default;

 private:
  friend class memory_user_list;
  memory_user* next_ = nullptr;
};

/// memory_user_list: the registered users.
class memory_user_list {
 public:
  void add(memory_user& u) noexcept {
    u.next_ = first_;
    first_ = &u;
  }
  /// Whether it was there.
  bool remove(memory_user& u) noexcept {
    for (memory_user** link = &first_; *link != nullptr; link = &(*link)->next_) {
      if (*link != &u) continue;
      *link = u.next_;
      u.next_ = nullptr;
      return true;
    }
    return false;
  }
  bool contains(const memory_user& u) const noexcept {
    for (const memory_user* at = first_; at != nullptr; at = at->next_)
      if (at == &u) return true;
    return false;
  }
  void tell(iova_range gone) noexcept {
    for (memory_user* at = first_; at != nullptr;) {
      memory_user* const next = at->next_;
      at->dma_unmap(gone);
      at = next;
    }
  }

 private:
  memory_user* first_ = nullptr;
};

}  // namespace iopt::vfio
