// iopt/uapi/vfio/spapr_memory.hpp - preregistered memory: regions of a process, pinned once for all
// its SPAPR containers.
//
// A guest that maps and unmaps all the time cannot pin and count each time. So its memory is
// registered beforehand, region by region, pinned and charged then, and a mapping only refers to it.
// The regions belong to the process and not to a container: containers that register the very same
// region share it, and a mapping may use whatever any of them registered.
//
// A region is an I/O address space of its own: an io_pagetable whose IOVAs are the user's addresses,
// and whose domain, the frame_directory, is a table that only this library reads. So the engine
// pins it, undoes half of it where it cannot be had, and gives it back.
//
// Kernel defects that are not reproduced: a region whose last registration goes while entries use it
// stays for ever there [inferred]; here it goes with the last of these.
//
// Layer: uapi. Includes: base, containers, core, policy.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "iopt/containers/interval_tree.hpp"
#include "iopt/containers/sparse_frames.hpp"
#include "iopt/core/io_pagetable.hpp"
#include "iopt/policy/backing_page.hpp"

namespace iopt::vfio {

/// frame_directory: an iommu_domain that no device sees: where the frames of a region are.
///
/// Model       The T of iommu_domain, in pages of the CPU.
/// Errors      map(): not_enough_memory.
/// Tested by   tests/uapi/vfio/spapr_memory_test.cpp
template <table_traits Traits>
class frame_directory {
 public:
  explicit frame_directory(typename Traits::memory memory = {}) noexcept
      : frames_(log2_exact(Traits::page_bytes), memory) {}

  result<void> map(iova_range r, physical p, attributes a) {
    return frames_.store(pages(r).first, run(p, r.length_minus_one() + 1, a.type));
  }
  result<void> map_runs(iova at, std::span<const run> runs, access_rights) {
    return frames_.store({at.value / Traits::page_bytes}, runs);
  }
  std::uint64_t unmap(iova_range r) noexcept {
    frames_.erase(pages(r));
    return r.length_minus_one() + 1;
  }
  std::uint64_t unmap_runs(iova_range r, run_list& out) noexcept {
    const std::uint64_t bytes = translate_range(r, out);
    if (bytes != 0) unmap(iova_range::sized(r.first, bytes));
    return bytes;
  }
  std::optional<physical> translate(iova v) const {
    const std::optional<physical> page = frames_.find({v.value / Traits::page_bytes});
    if (!page) return std::nullopt;
    return *page + v.value % Traits::page_bytes;
  }
  std::uint64_t translate_range(iova_range r, run_list& out) const noexcept {
    return frames_.read(pages(r), out) * Traits::page_bytes;
  }
  page_size_set page_sizes() const { return {Traits::page_bytes}; }
  iova_range aperture() const { return iova_range::whole(); }

  /// Calls f(run) for the frames of whole pages r, in order.
  template <class F>
  void for_each(iova_range r, F f) const {
    frames_.for_each(pages(r), [&](page_range, run part) { f(part); });
  }

 private:
  static page_range pages(iova_range r) noexcept {
    return {{r.first.value / Traits::page_bytes}, {r.last.value / Traits::page_bytes}};
  }
  sparse_frames<typename Traits::memory> frames_;
};

/// uncounted_pinner: a pinner whose pages somebody else has charged already.
template <page_pinner Pinner>
struct uncounted_pinner {
  using owner = typename Pinner::owner;

  owner current() { return inner.current(); }
  result<void> pin(const owner& who, user_range where, access_rights rights, run_list& out) {
    return inner.pin(who, where, rights, out);
  }
  void unpin(run r, bool dirty) noexcept { inner.unpin(r, dirty); }
  bool reachable(const owner& who) noexcept { return inner.reachable(who); }
  result<void> charge(const owner&, account_mode, std::uint64_t) { return {}; }
  void uncharge(const owner&, account_mode, std::uint64_t) noexcept {}

  Pinner& inner;
};

/// spapr_memory: the registered regions of every process of a machine.
///
/// Model       For each process a set of disjoint user ranges, each with two counts: registrations
///             (containers that have it) and uses (entries of TCE tables that show a page of it).
/// Invariants  A region is there while one of its counts is not 0; it is pinned, and charged, as
///             long. See verify().
/// Ownership   Refers to the pinner. Containers refer to this, and outlive none of their stay.
/// Errors      What fails changes nothing.
/// Cost        n regions of a process: O(log n); registering pins all of it; r runs: a look-up
///             O(log n + log r + runs asked for).
/// Threads     One lock over it all. With single_threaded: one thread, over all containers.
/// Source      Linux 6.12 arch/powerpc/mm/book3s64/iommu_api.c, as facts.
/// Tested by   tests/uapi/vfio/spapr_memory_test.cpp
template <page_pinner Pinner, table_traits Traits = single_threaded>
class spapr_memory {
  using uncounted = uncounted_pinner<Pinner>;
  using directory = frame_directory<Traits>;
  using table = io_pagetable<uncounted, directory, Traits>;
  using guard = detail::exclusive_lock<typename Traits::mutex>;

 public:
  using owner_type = typename Pinner::owner;
  static constexpr std::uint64_t page_bytes = Traits::page_bytes;

  /// region: a registered range.
  class region : public interval_node<user_address> {
   public:
    region(uncounted& pinner, user_range r, account_mode m, typename Traits::memory source)
        : interval_node<user_address>(r), mode(m), frames(source), pages(pinner, source) {}

    std::uint64_t registrations = 1;
    std::uint64_t uses = 0;
    unsigned page_lg2 = 0;  // the largest IOMMU page that may show a part of it
    account_mode mode;
    directory frames;
    table pages;
  };

  /// space: a process that a container is bound to.
  struct space {
    owner_type owner;
    std::uint64_t containers = 1;
    space* next = nullptr;
    interval_tree<region, user_address> regions{};
  };

  explicit spapr_memory(Pinner& pinner, typename Traits::memory source = {})
      : pinner_{pinner}, memory_(source) {}
  spapr_memory(const spapr_memory&) = delete;
  spapr_memory& operator=(const spapr_memory&) = delete;
  /// Requires: no container is bound. What a table that came back short may still show stays pinned
  /// until now, when the tables are gone.
  ~spapr_memory() {
    while (space* const s = spaces_) {
      IOPT_ASSERT(s->containers == 0);
      while (region* const r = s->regions.first()) {
        r->uses = 0;
        drop_unused(*s, *r);
      }
      spaces_ = s->next;
      destroy_in(memory_, s);
    }
  }

  Pinner& pinner() noexcept { return pinner_.inner; }

  /// The space of a process, counted for a container. Errors: not_enough_memory.
  result<space*> bind(const owner_type& owner) {
    guard held(lock_);
    for (space* s = spaces_; s != nullptr; s = s->next) {
      if (!(s->owner == owner)) continue;
      ++s->containers;
      return s;
    }
    void* const place = memory_.allocate(sizeof(space), alignof(space));
    if (place == nullptr) return fail(errc::not_enough_memory);
    return spaces_ = new (place) space{.owner = owner, .next = spaces_};
  }
  /// Requires: the container has no registration left. What entries use stays: they are of a table
  /// that came back short.
  void unbind(space& s) noexcept {
    guard held(lock_);
    if (--s.containers != 0 || !s.regions.empty()) return;
    space** link = &spaces_;
    while (*link != &s) link = &(*link)->next;
    *link = s.next;
    destroy_in(memory_, &s);
  }

  /// The region that is exactly this range, or nullptr. A length of 0 is no region's.
  region* find(space& s, user_address first, std::uint64_t length_bytes) noexcept {
    guard held(lock_);
    return find_exact(s, first, length_bytes);
  }

  /// Registers whole pages once more, or anew.
  ///
  /// Errors   Of a new region, in this order: not_enough_memory, it is empty [inferred], or over the
  ///          account's limit; those of pinning; invalid_argument, it overlaps another one.
  result<region*> add(space& s, user_address first, std::uint64_t length_bytes, account_mode mode) {
    guard held(lock_);
    if (region* const there = find_exact(s, first, length_bytes)) {
      ++there->registrations;
      return there;
    }
    const result<user_range> where = user_range::from_length(first, length_bytes);
    if (!where || length_bytes > top / 2) return fail(errc::not_enough_memory);
    const std::uint64_t count = length_bytes / page_bytes;
    if (const result<void> charged = pinner().charge(s.owner, mode, count); !charged)
      return fail(charged.error());
    region* const fresh = create_in<region>(memory_, pinner_, *where, mode, memory_);
    result<void> done{};
    if (fresh == nullptr) {
      done = fail(errc::not_enough_memory);
    } else {
      done = pin(s, *fresh);
      if (done && s.regions.first_overlap(*where) != nullptr) done = fail(errc::invalid_argument);
      if (done) {
        s.regions.insert(*fresh);
        return fresh;
      }
      destroy_in(memory_, fresh);
    }
    pinner().uncharge(s.owner, mode, count);
    return fail(done.error());
  }

  /// A registration goes.
  void remove(space& s, region& r) noexcept {
    guard held(lock_);
    --r.registrations;
    drop_unused(s, r);
  }

  /// Entries of 2^page_lg2 bytes will show memory from where.first on, up to the end of it or of the
  /// region: how many bytes. Errors: invalid_argument, no region has the first of them whole, or
  /// that region has no pages so large.
  result<std::uint64_t> use(space& s, user_range where, unsigned page_lg2) {
    guard held(lock_);
    const user_range page = user_range::sized(where.first, std::uint64_t{1} << page_lg2);
    region* const r = s.regions.first_overlap(page);
    if (r == nullptr || !r->range.contains(page) || page_lg2 > r->page_lg2)
      return fail(errc::invalid_argument);
    const std::uint64_t bytes = std::min(where.last, r->range.last) - where.first + 1;
    r->uses += bytes >> page_lg2;
    return bytes;
  }
  /// Entries that use() counted show the memory no more.
  void unuse(space& s, user_range where, unsigned page_lg2) noexcept {
    guard held(lock_);
    for (user_address at = where.first;;) {
      region* const r = s.regions.first_overlap({at, at});
      IOPT_ASSERT(r != nullptr);
      if (r == nullptr) return;
      const user_address last = std::min(where.last, r->range.last);
      const std::uint64_t gone = (last - at + 1) >> page_lg2;
      IOPT_ASSERT(gone <= r->uses);
      r->uses -= gone;
      drop_unused(s, *r);
      if (last == where.last) return;
      at = last + 1;
    }
  }

  /// Appends where the memory from where.first on is, until the end of it or `out` is full; returns
  /// the bytes. Requires: all of it is in use.
  std::uint64_t read(const space& s, user_range where, run_list& out) const noexcept {
    guard held(lock_);
    user_address at = where.first;
    for (;;) {
      const region* const r = s.regions.first_overlap({at, at});
      IOPT_ASSERT(r != nullptr);
      if (r == nullptr) return at - where.first;
      const user_address last = std::min(where.last, r->range.last);
      std::uint64_t skip = at.value % page_bytes;  // frames are of whole pages
      run place[32];
      run_list some{place};
      r->frames.translate_range({{at.value - skip}, {last.value | (page_bytes - 1)}}, some);
      for (const run& part : some) {
        const std::uint64_t bytes =
            std::min<std::uint64_t>(part.length_bytes - skip - 1, last - at) + 1;
        if (!out.append(part.slice(skip, bytes))) return at - where.first;
        if (bytes - 1 == where.last - at) return where.length_minus_one() + 1;
        at += bytes;
        skip = 0;
      }
    }
  }

  /// How many regions a process has.
  std::uint64_t region_count(const space& s) const noexcept {
    guard held(lock_);
    std::uint64_t count = 0;
    for (const region* r = s.regions.first(); r != nullptr; r = s.regions.next(*r)) ++count;
    return count;
  }

  /// Empty when the invariants hold, else the one that does not.
  std::string_view verify() const {
    guard held(lock_);
    for (const space* s = spaces_; s != nullptr; s = s->next) {
      if (const std::string_view text = s->regions.verify(); !text.empty()) return text;
      const region* before = nullptr;
      for (const region* r = s->regions.first(); r != nullptr; r = s->regions.next(*r)) {
        if (before != nullptr && before->range.overlaps(r->range)) return "regions are disjoint";
        if (r->registrations == 0 && r->uses == 0) return "a region is there for somebody";
        if (const std::string_view text = r->pages.verify(); !text.empty()) return text;
        before = r;
      }
    }
    return "";
  }

 private:
  static region* find_exact(space& s, user_address first, std::uint64_t length_bytes) noexcept {
    const result<user_range> where = user_range::from_length(first, length_bytes);
    if (!where) return nullptr;
    region* const r = s.regions.first_overlap(*where);
    return r != nullptr && r->range == *where ? r : nullptr;
  }

  result<void> pin(space& s, region& r) {
    if (const result<void> attached = r.pages.attach(r.frames); !attached) return attached;
    auto what = r.pages.user_memory(s.owner, r.range.first);
    what.of.mode = account_mode::none;
    const result<iova> mapped = r.pages.map(what, r.range.length_minus_one() + 1,
                                            access_rights::read_write, iova{r.range.first.value});
    if (!mapped) return fail(mapped.error());
    r.page_lg2 = largest_page(r);
    return {};
  }

  /// Larger than the CPU's only where all of it is of huge pages from the pool, and as large as the
  /// address and the length are aligned.
  unsigned largest_page(const region& r) noexcept {
    constexpr unsigned least = log2_exact(page_bytes);
    const std::uint64_t ends = r.range.first.value | (r.range.length_minus_one() + 1);
    unsigned most = static_cast<unsigned>(std::countr_zero(ends));
    std::uint64_t at = r.range.first.value;
    r.frames.for_each({{at}, {r.range.last.value}}, [&](run part) {
      for (std::uint64_t done = 0; done < part.length_bytes && most > least;) {
        const std::uint64_t frame = part.first.value + done;
        const backing_page page = backing_page_of(pinner(), {frame}, page_bytes);
        const bool aligned = ((frame ^ (at + done)) & (page.length_bytes - 1)) == 0;
        most =
            page.from_huge_pool && aligned ? std::min(most, log2_exact(page.length_bytes)) : least;
        done += page.length_bytes - (frame & (page.length_bytes - 1));
      }
      at += part.length_bytes;
    });
    return most;
  }

  void drop_unused(space& s, region& r) noexcept {
    if (r.registrations != 0 || r.uses != 0) return;
    s.regions.erase(r);
    const std::uint64_t count = (r.range.length_minus_one() + 1) / page_bytes;
    const account_mode mode = r.mode;
    destroy_in(memory_, &r);
    pinner().uncharge(s.owner, mode, count);
  }

  uncounted pinner_;
  [[no_unique_address]] typename Traits::memory memory_;
  mutable typename Traits::mutex lock_{};
  space* spaces_ = nullptr;
};

}  // namespace iopt::vfio
