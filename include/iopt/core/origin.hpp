// iopt/core/origin.hpp - where a pages object gets its frames from.
//
// All mappings of one process under one account share one record of that, so that a mapping need
// keep only a pointer.
//
// Layer: core. Includes: policy, core/traits.hpp, the standard library.
#pragma once

#include <concepts>
#include <cstdint>
#include <new>
#include <optional>
#include <span>
#include <type_traits>

#include "iopt/core/traits.hpp"
#include "iopt/policy/page_pinner.hpp"

namespace iopt {

/// What kind of memory a mapping shows.
enum class origin_kind : std::uint8_t { user, file, device };

namespace detail {

struct no_handle {
  friend constexpr bool operator==(no_handle, no_handle) noexcept = default;
};

/// A handle that may be missing; one that can be made from nothing needs no std::optional.
template <class Handle>
struct plain_handle {
  Handle value{};
  const Handle& operator*() const noexcept { return value; }
  plain_handle& operator=(const Handle& h) {
    value = h;
    return *this;
  }
  friend bool operator==(const plain_handle&, const plain_handle&) = default;
  friend bool operator==(const plain_handle& a, const Handle& b) { return a.value == b; }
};
template <class Handle>
using optional_handle = std::conditional_t<std::default_initializable<Handle>, plain_handle<Handle>,
                                           std::optional<Handle>>;

template <class Pinner>
struct file_handle {
  using type = no_handle;
};
template <file_pinner Pinner>
struct file_handle<Pinner> {
  using type = optional_handle<typename Pinner::file>;
};

template <class Pinner>
struct exporter_handle {
  using type = no_handle;
};
template <device_memory_pinner Pinner>
struct exporter_handle<Pinner> {
  using type = optional_handle<typename Pinner::exporter>;
};

/// Unpins every run of a row; what is in it was pinned, whatever its type says.
template <page_pinner Pinner>
void unpin_runs(Pinner& pinner, std::span<const run> runs, bool dirty) noexcept {
  if constexpr (run_unpinning_pinner<Pinner>) {
    pinner.unpin_runs(runs, dirty);
  } else {
    for (const run& r : runs) pinner.unpin(run(r.first, r.length_bytes), dirty);
  }
}

}  // namespace detail

/// origin: a pinner, an owner, an account, and the file or exporter, if that is what is mapped.
///
/// Ownership   Counted by the pages objects (and the table's cache) that refer to it.
template <page_pinner Pinner, table_traits Traits>
struct origin {
  using file_type = typename detail::file_handle<Pinner>::type;
  using exporter_type = typename detail::exporter_handle<Pinner>::type;

  /// All that makes two origins the same.
  struct key {
    Pinner* pinner;
    origin_kind kind;
    account_mode mode;
    typename Pinner::owner owner;
    [[no_unique_address]] file_type file{};
    [[no_unique_address]] exporter_type exporter{};

    friend bool operator==(const key& a, const key& b) {
      // Kind and mode are written apart. Side by side here, they would be read as one word, which waits
      // for both.
      return a.kind == b.kind && a.pinner == b.pinner && a.mode == b.mode && a.owner == b.owner &&
             a.file == b.file && a.exporter == b.exporter;
    }
  };

  key is;
  typename Traits::template counter<std::uint32_t> references{1};
  [[no_unique_address]] typename Traits::memory memory;

  origin(const key& k, typename Traits::memory m) : is(k), memory(m) {}

  /// A new record with one reference, or nullptr without memory.
  static origin* create(const key& k, typename Traits::memory memory) {
    void* place = memory.allocate(sizeof(origin), alignof(origin));
    return place == nullptr ? nullptr : new (place) origin(k, memory);
  }
  origin* share(std::uint32_t times = 1) noexcept {
    references += times;
    return this;
  }
  void release(std::uint32_t times = 1) noexcept {
    if ((references -= times) != 0) return;
    typename Traits::memory source = memory;
    this->~origin();
    source.deallocate(this, sizeof(origin), alignof(origin));
  }

  /// Pins, or for device memory resolves, what is at `where`. As page_pinner::pin().
  result<void> take(user_range where, access_rights rights, run_list& out) {
    if constexpr (file_pinner<Pinner>) {
      if (is.kind == origin_kind::file) return is.pinner->pin_file(*is.file, where, rights, out);
    }
    if constexpr (device_memory_pinner<Pinner>) {
      if (is.kind == origin_kind::device) return is.pinner->resolve(*is.exporter, where, out);
    }
    return is.pinner->pin(is.owner, where, rights, out);
  }
  result<void> charge(std::uint64_t pages) {
    return pages == 0 ? result<void>{} : is.pinner->charge(is.owner, is.mode, pages);
  }
  void uncharge(std::uint64_t pages) noexcept {
    if (pages != 0) is.pinner->uncharge(is.owner, is.mode, pages);
  }
};

}  // namespace iopt
