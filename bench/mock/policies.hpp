// bench/mock/policies.hpp - the mock as domains and pinners, by what they can.
//
//   plain_domain        map, unmap and translate, as iommu_map(), iommu_unmap(), iommu_iova_to_phys();
//                       and told ahead where the next entry will be written
//   reading_domain      and tells the runs of a range
//   refined_domain      and takes and gives vectors of runs; splits; dirty bits
//   page_array_pinner   as pin_user_pages_fast(): an array of pages, joined here
//   run_pinner          by extents, as an interface of folios would
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>

#include "bench/mock/mock.h"
#include "iopt/policy/iommu_domain.hpp"
#include "iopt/policy/page_pinner.hpp"

namespace bench {

class plain_domain {
 public:
  /// As in Linux, ranges that are disjoint may be mapped and unmapped side by side.
  static constexpr bool is_concurrent = true;

  explicit plain_domain(bool large_entries) : mock_(mock_domain_create(large_entries ? 1 : 0)) {}
  plain_domain(const plain_domain&) = delete;
  plain_domain& operator=(const plain_domain&) = delete;
  ~plain_domain() { mock_domain_destroy(mock_); }

  iopt::result<void> map(iopt::iova_range r, iopt::physical p, iopt::attributes a) noexcept {
    return answer(mock.map(mock_, r.first.value, p.value, r.length(), rights(a.rights)));
  }
  std::uint64_t unmap(iopt::iova_range r) noexcept {
    return mock.unmap(mock_, r.first.value, r.length());
  }
  std::optional<iopt::physical> translate(iopt::iova at) const noexcept {
    const std::uint64_t to = mock.iova_to_phys(mock_, at.value);
    if (to == 0) return std::nullopt;
    return iopt::physical{to};
  }
  iopt::page_size_set page_sizes() const noexcept {
    return iopt::page_size_set::from_bitmap(mock_domain_page_sizes(mock_));
  }
  iopt::iova_range aperture() const noexcept { return {{0}, {(std::uint64_t{1} << 48) - 1}}; }

  /// A hint, which costs a walk.
  void prefetch(iopt::iova_range r) const noexcept { mock.prefetch(mock_, r.first.value); }

  void* handle() const noexcept { return mock_; }

 protected:
  static iopt::result<void> answer(int returned) noexcept {
    if (returned != 0) return iopt::fail(static_cast<iopt::errc>(-returned));
    return {};
  }
  static int rights(iopt::access_rights r) noexcept { return static_cast<int>(r) & 3; }

  void* mock_;
};

/// Maps as a plain one, and can be asked for more than a page.
class reading_domain : public plain_domain {
 public:
  using plain_domain::plain_domain;

  std::uint64_t translate_range(iopt::iova_range r, iopt::run_list& out) const noexcept {
    return mock.translate_range(mock_, r.first.value, r.last.value, &out);
  }
};
static_assert(iopt::range_translating_domain<reading_domain>);

class refined_domain : public reading_domain {
 public:
  using reading_domain::reading_domain;

  iopt::result<void> map_runs(iopt::iova at, std::span<const iopt::run> runs,
                              iopt::access_rights r) noexcept {
    return answer(mock.map_runs(mock_, at.value, runs.data(), runs.size(), rights(r)));
  }
  std::uint64_t unmap_runs(iopt::iova_range r, iopt::run_list& out) noexcept {
    return mock.unmap_runs(mock_, r.first.value, r.last.value, &out);
  }
  iopt::result<void> split(iopt::iova_range r) noexcept {
    return answer(mock.split(mock_, r.first.value, r.last.value));
  }
  void sync() noexcept { mock.iotlb_sync(mock_, nullptr); }

  iopt::result<void> set_dirty_tracking(bool) noexcept { return {}; }
  template <class Record>
  iopt::result<void> read_dirty(iopt::iova_range r, iopt::dirty_read mode, Record record) {
    mock_range some[64];
    std::size_t count = 0;
    for (std::uint64_t next = r.first.value; next <= r.last.value;) {
      next = mock.read_dirty(mock_, next, r.last.value, mode == iopt::dirty_read::clear ? 1 : 0, 1,
                             some, std::size(some), &count);
      for (std::size_t n = 0; n < count; ++n)
        record(iopt::iova_range{{some[n].first}, {std::min(some[n].last, r.last.value)}});
    }
    return {};
  }
};
static_assert(iopt::run_mapping_domain<refined_domain> &&
              iopt::run_returning_domain<refined_domain> &&
              iopt::range_translating_domain<refined_domain> &&
              iopt::flushing_domain<refined_domain> && iopt::splitting_domain<refined_domain> &&
              iopt::dirty_tracking_domain<refined_domain>);

/// What both pinners share. There is one owner, and its account has no limit.
class mock_pinner {
 public:
  struct owner {
    friend bool operator==(owner, owner) = default;
  };

  owner current() noexcept { return {}; }
  void unpin(iopt::run r, bool dirty) noexcept {
    mock.unpin(r.first.value >> 12, r.length_bytes >> 12, dirty ? 1 : 0);
  }
  void unpin_runs(std::span<const iopt::run> runs, bool dirty) noexcept {
    mock.unpin_runs(runs.data(), runs.size(), dirty ? 1 : 0);
  }
  bool reachable(const owner&) noexcept { return true; }
  iopt::result<void> charge(const owner&, iopt::account_mode, std::uint64_t pages) noexcept {
    account_.fetch_add(pages, std::memory_order_relaxed);
    return {};
  }
  void uncharge(const owner&, iopt::account_mode, std::uint64_t pages) noexcept {
    account_.fetch_sub(pages, std::memory_order_relaxed);
  }
  std::uint64_t charged() const noexcept { return account_.load(std::memory_order_relaxed); }

  /// Memory of this process, for what is not pinned.
  iopt::result<void> read(const owner&, iopt::user_address at, std::span<std::byte> to) noexcept {
    std::memcpy(to.data(), reinterpret_cast<const void*>(at.value), to.size());
    return {};
  }
  iopt::result<void> write(const owner&, iopt::user_address at,
                           std::span<const std::byte> from) noexcept {
    std::memcpy(reinterpret_cast<void*>(at.value), from.data(), from.size());
    return {};
  }

 private:
  std::atomic<std::uint64_t> account_{0};  // the kernel's is atomic as well
};

class page_array_pinner : public mock_pinner {
 public:
  iopt::result<void> pin(const owner&, iopt::user_range where, iopt::access_rights,
                         iopt::run_list& out) noexcept {
    std::uint64_t left = where.length() >> 12;
    for (std::uint64_t at = where.first.value; left != 0;) {
      alignas(64) std::uint64_t frames[batch_pages];  // not set to zero first
      const std::size_t asked = std::min<std::uint64_t>(left, batch_pages);
      mock.pin_pages(at, asked, frames, 0, 0);
      const std::size_t taken =
          out.append_frames(std::span<const std::uint64_t>(frames, asked), 4096);
      for (std::size_t n = taken; n < asked; ++n) mock.unpin(frames[n], 1, 0);
      if (taken != asked) return {};
      left -= taken;
      at += taken << 12;
    }
    return {};
  }

 private:
  static constexpr std::size_t batch_pages = 512;
};

class run_pinner : public mock_pinner {
 public:
  iopt::result<void> pin(const owner&, iopt::user_range where, iopt::access_rights,
                         iopt::run_list& out) noexcept {
    mock.pin_runs(where.first.value, where.length() >> 12, &out);
    return {};
  }
};
static_assert(iopt::copying_pinner<page_array_pinner> && iopt::copying_pinner<run_pinner>);

}  // namespace bench
