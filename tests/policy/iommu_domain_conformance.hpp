// tests/policy/iommu_domain_conformance.hpp - what every iommu_domain must do. For yours too.
//
//   TEST_CASE("my domain keeps the contract") {
//     iopt_conformance::check_domain<my_domain>([] { return my_domain(...); });
//   }
//
// `make` returns a fresh, empty domain; it need not be movable. Each refinement is checked where
// the type has it. Addresses are taken inside the aperture, outside reserved regions, and aligned
// to the smallest page size. A backend whose frames must be real, or which can be made to see a
// write of a device, passes hooks of its own instead of imaginary_memory:
//
//   physical frames(bytes, alignment)       contiguous memory that may be mapped; the same is fine
//   std::uint64_t largest_bytes()           the most that frames() can give; at least 64 pages
//   bool device_writes(D&, iova_range)      optional: a device writes there
//   attributes attributes_at(D&, iova)      optional: what the entry says beside the address
//   void refuse_next(D&)                    optional: the next call that can fail fails
//   bool keeps_entries(D&)                  optional: split() refuses inside what was mapped in a call
//
// Without an optional hook the clauses that only it can show are not checked.
//
// Uses the library's base and policy headers and Catch2, and nothing else.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <map>
#include <optional>
#include <random>
#include <span>
#include <thread>
#include <vector>

#include "iopt/policy/iommu_domain.hpp"
#include "tests/catch.hpp"

namespace iopt_conformance {

/// Frames for a domain that never touches them.
struct imaginary_memory {
  iopt::physical frames(std::uint64_t, std::uint64_t alignment) {
    return {std::max(std::uint64_t{1} << 33, alignment)};
  }
  std::uint64_t largest_bytes() const { return 4 * iopt::gibibyte; }
};

template <iopt::iommu_domain D, class Make, class Hooks>
class domain_suite {
 public:
  domain_suite(Make& make, Hooks& hooks) : make_(make), hooks_(hooks) {}

  void run_all() {
    constants();
    one_page();
    both_ends_of_the_aperture();
    every_page_size();
    attributes_of_all_kinds();
    unmap_takes_unions();
    any_order();
    if constexpr (iopt::run_mapping_domain<D>) mapping_runs();
    if constexpr (iopt::run_returning_domain<D>) returning_runs();
    if constexpr (iopt::range_translating_domain<D>) translating_ranges();
    if constexpr (iopt::dirty_tracking_domain<D>) dirty();
    if constexpr (iopt::splitting_domain<D>) splitting();
    if constexpr (iopt::protecting_domain<D>) protecting();
    if constexpr (iopt::replacing_domain<D>) replacing();
    if constexpr (iopt::reserved_regions_domain<D>) reserved();
    if constexpr (iopt::coherency_enforcing_domain<D>) coherency();
    if constexpr (iopt::prefetching_domain<D>) prefetching();
    if constexpr (iopt::concurrent_domain<D>) concurrent();
    refusals();
  }

 private:
  using iova = iopt::iova;
  using physical = iopt::physical;
  using iova_range = iopt::iova_range;
  using run = iopt::run;
  static constexpr iopt::attributes usual{iopt::access_rights::read_write,
                                          iopt::memory_type::cached};

  // d.page_sizes() and d.aperture() are not empty and constant.
  void constants() {
    INFO("page_sizes() and aperture()");
    D d = make_();
    const iopt::page_size_set sizes = d.page_sizes();
    const iova_range aperture = d.aperture();
    REQUIRE_FALSE(sizes.empty());
    REQUIRE(aperture.first <= aperture.last);
    map(d, room(d, 1), frames(d, 1));
    CHECK(d.page_sizes() == sizes);
    CHECK(d.aperture() == aperture);
    unmap(d, room(d, 1));
    flush(d);
  }

  // T(r.first + i) = p + i for every byte of r, and nothing else; unmap gives it back.
  void one_page() {
    INFO("map(), translate() and unmap() of one page");
    D d = make_();
    const iova_range r = room(d, 3);
    const iova_range middle = pages(d, r, 1, 1);
    const physical p = frames(d, 4) + granule(d);
    shows(d, middle.first, std::nullopt);
    map(d, middle, p);
    shows(d, middle.first, p);
    shows(d, middle.first + 1, p + 1);
    shows(d, middle.last, p + middle.length_minus_one());
    shows(d, r.first, std::nullopt);
    shows(d, middle.first - 1, std::nullopt);
    shows(d, r.last, std::nullopt);
    unmap(d, middle);
    flush(d);
    shows(d, middle.first, std::nullopt);
    map(d, middle, p - granule(d));
    shows(d, middle.last, p - 1);
    unmap(d, middle);
    flush(d);
  }

  void both_ends_of_the_aperture() {
    INFO("the first and the last page of the aperture");
    D d = make_();
    const std::uint64_t size = granule(d);
    const iova_range all = d.aperture();
    const std::optional<std::uint64_t> first = iopt::align_up(all.first.value, size);
    const std::uint64_t last = (all.last.value - (size - 1)) & ~(size - 1);
    const physical p = frames(d, 1);
    for (const std::uint64_t at : {first.value_or(last), last}) {
      const iova_range r = iova_range::sized({at}, size);
      if (is_reserved(d, r) || !all.contains(r)) continue;
      map(d, r, p);
      shows(d, r.first, p);
      shows(d, r.last, p + (size - 1));
      unmap(d, r);
      flush(d);
      shows(d, r.last, std::nullopt);
    }
  }

  // A run may take any number of pages at any alignment; the choice of entries does not show.
  void every_page_size() {
    INFO("a run across each page size");
    D d = make_();
    for (std::uint64_t left = d.page_sizes().bitmap(); left != 0; left &= left - 1) {
      const std::uint64_t size = iopt::lowest_bit(left);
      const std::uint64_t beside = size == granule(d) ? 0 : granule(d);
      const std::uint64_t bytes = 2 * size + 2 * beside;
      if (size > hooks_.largest_bytes() / 4) break;
      const std::optional<iova_range> where = place(d, 3 * size + bytes, size);
      if (!where) break;
      const iova_range r = iova_range::sized(where->first + (size - beside), bytes);
      const physical block = hooks_.frames(4 * size, size);
      // Congruent to the page size, and one page off.
      for (const physical p : {block + (size - beside), block}) {
        CAPTURE(size, p.value);
        map(d, r, p);
        for (const std::uint64_t at :
             {std::uint64_t{0}, beside, beside + size - 1, beside + size, bytes - 1}) {
          shows(d, r.first + at, p + at);
        }
        unmap(d, r);
        flush(d);
        shows(d, r.first + beside, std::nullopt);
      }
    }
  }

  void attributes_of_all_kinds() {
    INFO("rights and memory types");
    D d = make_();
    const iova_range r = room(d, 1);
    const physical p = frames(d, 1);
    for (const iopt::access_rights rights :
         {iopt::access_rights::read, iopt::access_rights::write, iopt::access_rights::read_write}) {
      REQUIRE(d.map(r, p, {rights, iopt::memory_type::cached}).has_value());
      shows(d, r.first, p);
      says(d, r, {rights, iopt::memory_type::cached});
      unmap(d, r);
      flush(d);
    }
  }

  // Requires of unmap: a union of ranges passed to map(), not each by itself.
  void unmap_takes_unions() {
    INFO("unmap() of several ranges at once");
    D d = make_();
    const iova_range r = room(d, 8);
    const physical p = frames(d, 8);
    for (const std::uint64_t n : {5u, 1u, 6u, 2u, 4u, 3u})
      map(d, pages(d, r, n, 1), p + n * granule(d));
    unmap(d, pages(d, r, 2, 3));
    flush(d);
    for (std::uint64_t n = 0; n < 8; ++n) {
      const bool there = n == 1 || n == 5 || n == 6;
      shows(d, pages(d, r, n, 1).first, there ? std::optional(p + n * granule(d)) : std::nullopt);
    }
    unmap(d, pages(d, r, 5, 2));
    unmap(d, pages(d, r, 1, 1));
    flush(d);
  }

  // Against a std::map of pages.
  void any_order() {
    INFO("random maps and unmaps");
    const std::uint64_t seed = 20240607;
    CAPTURE(seed);
    std::mt19937_64 random(seed);
    D d = make_();
    constexpr std::uint64_t width = 60;
    const iova_range all = room(d, width);
    const physical block = frames(d, 64);
    struct piece {
      std::uint64_t pages;
      std::uint64_t frame;
    };
    std::map<std::uint64_t, piece> oracle;  // the ranges passed to map()
    for (int step = 0; step < 400; ++step) {
      CAPTURE(step);
      const std::uint64_t first = random() % width;
      const std::uint64_t count = 1 + random() % std::min<std::uint64_t>(8, width - first);
      const auto after = oracle.lower_bound(first);
      const bool clear_before = after == oracle.begin() ||
                                std::prev(after)->first + std::prev(after)->second.pages <= first;
      if (clear_before && (after == oracle.end() || after->first >= first + count)) {
        const std::uint64_t frame = random() % (64 - count);
        map(d, pages(d, all, first, count), block + frame * granule(d));
        oracle[first] = {count, frame};
      } else if (after != oracle.end()) {
        auto end = std::next(after);
        std::uint64_t covered = after->second.pages;
        while (end != oracle.end() && end->first == after->first + covered && random() % 2 == 0) {
          covered += end->second.pages;
          ++end;
        }
        unmap(d, pages(d, all, after->first, covered));
        if (random() % 4 != 0) flush(d);
        oracle.erase(after, end);
      }
      if constexpr (!iopt::unreadable_domain<D>) {
        if (step % 8 != 0) continue;
        for (std::uint64_t n = 0; n < width; ++n) {
          std::optional<physical> expected;
          auto at = oracle.upper_bound(n);
          if (at != oracle.begin() && (--at)->first + at->second.pages > n)
            expected = block + (at->second.frame + n - at->first) * granule(d);
          if (d.translate(pages(d, all, n, 1).first) != expected) FAIL("another translation");
        }
      }
    }
    for (const auto& [first, p] : oracle) unmap(d, pages(d, all, first, p.pages));
    flush(d);
  }

  // As map() of each run, one behind the other; each counts as one range passed to map().
  void mapping_runs() {
    INFO("map_runs()");
    D d = make_();
    const std::uint64_t size = granule(d);
    const iova_range r = room(d, 6);
    const physical p = frames(d, 16);
    const run runs[] = {{p + 8 * size, size}, {p, 2 * size}, {p + 5 * size, 3 * size}};
    REQUIRE(d.map_runs(r.first, runs, iopt::access_rights::read_write).has_value());
    for (std::uint64_t n = 0; n < 6; ++n) {
      const std::uint64_t frame[] = {8, 0, 1, 5, 6, 7};
      shows(d, pages(d, r, n, 1).first, p + frame[n] * size);
    }
    unmap(d, pages(d, r, 1, 2));
    flush(d);
    shows(d, pages(d, r, 2, 1).last, std::nullopt);
    shows(d, r.first, p + 8 * size);
    shows(d, r.last, p + 8 * size - 1);
    REQUIRE(d.map_runs(pages(d, r, 1, 2).first, std::span(runs).subspan(1, 1),
                       iopt::access_rights::read)
                .has_value());
    unmap(d, r);
    flush(d);
  }

  // unmap_runs() appends what was there, stops where the list is full, and goes on when called
  // again.
  void returning_runs() {
    INFO("unmap_runs()");
    D d = make_();
    const std::uint64_t size = granule(d);
    const iova_range r = room(d, 8);
    const physical p = frames(d, 16);
    // Two ranges that are one run, then three runs.
    const auto fill = [&] {
      map(d, pages(d, r, 0, 2), p + 2 * size);
      map(d, pages(d, r, 2, 2), p + 4 * size);
      map(d, pages(d, r, 4, 1), p + 12 * size);
      map(d, pages(d, r, 5, 1), p + 10 * size);
      map(d, pages(d, r, 6, 2), p);
    };
    const run expected[] = {
        {p + 2 * size, 4 * size}, {p + 12 * size, size}, {p + 10 * size, size}, {p, 2 * size}};
    for (const std::size_t capacity : {std::size_t{1}, std::size_t{2}, std::size_t{16}}) {
      CAPTURE(capacity);
      fill();
      std::vector<run> storage(capacity);
      std::vector<run> seen;
      std::uint64_t done = 0;
      while (done < 8 * size) {
        iopt::run_list out{storage};
        const std::uint64_t bytes = d.unmap_runs({r.first + done, r.last}, out);
        REQUIRE(bytes != 0);
        REQUIRE(bytes == out.bytes());
        // It stopped for a reason, and what it did not take is still there.
        if (done + bytes < 8 * size) {
          REQUIRE(out.full());
          if constexpr (!iopt::unreadable_domain<D>)
            REQUIRE(d.translate(r.first + (done + bytes)).has_value());
        }
        seen.insert(seen.end(), out.begin(), out.end());
        done += bytes;
      }
      CHECK(std::equal(seen.begin(), seen.end(), std::begin(expected), std::end(expected)));
      flush(d);
      shows(d, r.first, std::nullopt);
      shows(d, r.last, std::nullopt);
    }
    // A run that joins one that is already in the list needs no room.
    map(d, pages(d, r, 0, 1), p);
    map(d, pages(d, r, 1, 1), p + size);
    run one[1];
    iopt::run_list out{one};
    CHECK(d.unmap_runs(pages(d, r, 0, 2), out) == 2 * size);
    CHECK(out[0] == run(p, 2 * size));
    flush(d);
  }

  // translate_range() appends up to the end, a hole, or a full list.
  void translating_ranges() {
    INFO("translate_range()");
    D d = make_();
    const std::uint64_t size = granule(d);
    const iova_range r = room(d, 6);
    const physical p = frames(d, 8);
    map(d, pages(d, r, 0, 2), p);
    map(d, pages(d, r, 2, 1), p + 2 * size);
    map(d, pages(d, r, 3, 1), p + 7 * size);
    std::vector<run> storage(4);
    {
      iopt::run_list out{storage};
      CHECK(d.translate_range(r, out) == 4 * size);
      REQUIRE(out.size() == 2);
      CHECK(out[0] == run(p, 3 * size));
      CHECK(out[1] == run(p + 7 * size, size));
    }
    {
      iopt::run_list out{std::span(storage).first(1)};
      CHECK(d.translate_range(r, out) == 3 * size);
    }
    {
      iopt::run_list out{storage};
      CHECK(d.translate_range(pages(d, r, 1, 2), out) == 2 * size);
      REQUIRE(out.size() == 1);
      CHECK(out[0] == run(p + size, 2 * size));
    }
    {
      iopt::run_list out{storage};
      CHECK(d.translate_range(pages(d, r, 4, 2), out) == 0);
      CHECK(out.empty());
    }
    unmap(d, pages(d, r, 0, 4));
    flush(d);
  }

  void dirty() {
    INFO("dirty tracking");
    D d = make_();
    const std::uint64_t size = granule(d);
    const iova_range r = room(d, 4);
    map(d, r, frames(d, 4));
    const auto read = [&](iova_range part, iopt::dirty_read mode) {
      std::vector<iova_range> seen;
      const iopt::result<void> answer =
          d.read_dirty(part, mode, [&](iova_range dirty) { seen.push_back(dirty); });
      REQUIRE(answer.has_value());
      iova next = part.first;
      for (const iova_range dirty : seen) {
        CHECK(dirty.first <= dirty.last);
        CHECK(part.contains(dirty));
        CHECK(next <= dirty.first);
        next = dirty.last;
      }
      return seen;
    };
    const iopt::result<void> early = d.read_dirty(r, iopt::dirty_read::keep, [](iova_range) {});
    CHECK(early == iopt::result<void>(iopt::fail(iopt::errc::invalid_argument)));
    const iopt::result<void> on = d.set_dirty_tracking(true);
    if (!on) {
      WARN("dirty tracking is not supported");
      unmap(d, r);
      return;
    }
    CHECK(read(r, iopt::dirty_read::keep).empty());
    if constexpr (requires { hooks_.device_writes(d, r); }) {
      REQUIRE(hooks_.device_writes(d, iova_range::sized(r.first + (size + 1), 2)));
      for (int again = 0; again < 2; ++again) {
        const auto seen = read(r, iopt::dirty_read::keep);
        REQUIRE_FALSE(seen.empty());
        CHECK(seen.front().first <= r.first + (size + 1));
        CHECK(seen.back().last >= r.first + (size + 2));
      }
      CHECK_FALSE(read(r, iopt::dirty_read::clear).empty());
      CHECK(read(r, iopt::dirty_read::keep).empty());
      if constexpr (iopt::splitting_domain<D>) {
        // A written entry stays written when it is split.
        REQUIRE(hooks_.device_writes(d, iova_range::sized(r.first, 1)));
        REQUIRE(d.split(pages(d, r, 1, 1)).has_value());
        CHECK_FALSE(read(pages(d, r, 0, 1), iopt::dirty_read::clear).empty());
      }
    }
    REQUIRE(d.set_dirty_tracking(false).has_value());
    unmap(d, r);
    flush(d);
  }

  // split() makes both ends boundaries, and leaves T as it is.
  void splitting() {
    INFO("split()");
    D d = make_();
    const std::uint64_t size = granule(d);
    for (std::uint64_t left = d.page_sizes().bitmap(); left != 0; left &= left - 1) {
      const std::uint64_t large = std::max(iopt::lowest_bit(left), 4 * size);
      if (large > hooks_.largest_bytes()) break;
      const std::optional<iova_range> r = place(d, large, large);
      if (!r) break;
      CAPTURE(large);
      const physical p = hooks_.frames(large, large);
      map(d, *r, p);
      const iova_range hole = iova_range::sized(r->first + size, size);
      const auto whole = [&](bool with_hole) {
        shows(d, r->first, p);
        shows(d, hole.first, with_hole ? std::optional(p + size) : std::nullopt);
        shows(d, hole.last, with_hole ? std::optional(p + 2 * size - 1) : std::nullopt);
        shows(d, hole.last + 1, p + 2 * size);
        shows(d, r->last, p + (large - 1));
      };
      if constexpr (requires { hooks_.keeps_entries(d); }) {
        if (hooks_.keeps_entries(d)) {
          CHECK_FALSE(d.split(hole).has_value());
          whole(true);
          CHECK(d.split(*r).has_value());
          unmap(d, *r);
          flush(d);
          continue;
        }
      }
      REQUIRE(d.split(hole).has_value());
      whole(true);
      REQUIRE(d.split(hole).has_value());
      whole(true);
      unmap(d, hole);
      flush(d);
      whole(false);
      // A split where nothing is mapped, or at an end, changes nothing.
      REQUIRE(d.split(hole).has_value());
      REQUIRE(d.split(*r).has_value());
      whole(false);
      map(d, hole, p + size);
      unmap(d, *r);
      flush(d);
      shows(d, r->first, std::nullopt);
      shows(d, r->last, std::nullopt);
    }
  }

  void protecting() {
    INFO("protect()");
    D d = make_();
    const iova_range r = room(d, 4);
    const physical p = frames(d, 4);
    map(d, pages(d, r, 0, 2), p);
    map(d, pages(d, r, 2, 2), p + 2 * granule(d));
    REQUIRE(d.protect(r, iopt::access_rights::read).has_value());
    shows(d, r.first, p);
    shows(d, r.last, p + r.length_minus_one());
    says(d, r, {iopt::access_rights::read, iopt::memory_type::cached});
    REQUIRE(d.protect(r, iopt::access_rights::read_write).has_value());
    REQUIRE(d.protect(pages(d, r, 0, 2), iopt::access_rights::read).has_value());
    says(d, pages(d, r, 0, 2), {iopt::access_rights::read, iopt::memory_type::cached});
    says(d, pages(d, r, 2, 2), {iopt::access_rights::read_write, iopt::memory_type::cached});
    if (refuses(d)) {
      CHECK_FALSE(d.protect(r, iopt::access_rights::write).has_value());
      says(d, pages(d, r, 0, 2), {iopt::access_rights::read, iopt::memory_type::cached});
    }
    shows(d, r.first, p);
    unmap(d, r);
    flush(d);
  }

  // Each byte goes from its old target to its new one; each run is a range passed to map().
  void replacing() {
    INFO("replace()");
    D d = make_();
    const std::uint64_t size = granule(d);
    const iova_range r = room(d, 6);
    const physical p = frames(d, 16);
    map(d, pages(d, r, 0, 1), p);
    map(d, pages(d, r, 1, 4), p + size);
    map(d, pages(d, r, 5, 1), p + 5 * size);
    const run runs[] = {{p + 10 * size, 3 * size}, {p + 7 * size, size}};
    REQUIRE(d.replace(pages(d, r, 1, 4).first, runs, iopt::access_rights::read).has_value());
    const std::uint64_t frame[] = {0, 10, 11, 12, 7, 5};
    for (std::uint64_t n = 0; n < 6; ++n)
      shows(d, pages(d, r, n, 1).last, p + (frame[n] * size + size - 1));
    unmap(d, pages(d, r, 4, 1));
    flush(d);
    shows(d, pages(d, r, 3, 1).first, p + 12 * size);
    unmap(d, pages(d, r, 0, 4));
    unmap(d, pages(d, r, 5, 1));
    flush(d);

    // What the range cuts through is split.
    map(d, r, p);
    const run inside[] = {{p + 8 * size, size}, {p + 12 * size, size}};
    REQUIRE(d.replace(pages(d, r, 2, 2).first, inside, iopt::access_rights::read).has_value());
    const std::uint64_t after[] = {0, 1, 8, 12, 4, 5};
    for (std::uint64_t n = 0; n < 6; ++n) shows(d, pages(d, r, n, 1).first, p + after[n] * size);
    unmap(d, pages(d, r, 2, 2));
    unmap(d, pages(d, r, 0, 2));
    unmap(d, pages(d, r, 4, 2));
    flush(d);
  }

  void reserved() {
    INFO("reserved_regions()");
    D d = make_();
    const std::vector<iopt::reserved_region> kept = regions(d);
    for (const iopt::reserved_region& region : kept) CHECK(region.range.first <= region.range.last);
    const iova_range r = room(d, 1);
    map(d, r, frames(d, 1));
    CHECK(regions(d) == kept);
    unmap(d, r);
    flush(d);
  }

  // On error T is unchanged.
  void refusals() {
    INFO("a call that fails changes nothing");
    D d = make_();
    const iova_range r = room(d, 4);
    const physical p = frames(d, 8);
    const std::uint64_t size = granule(d);
    if (!refuses(d)) return;
    CHECK_FALSE(d.map(r, p, usual).has_value());
    shows(d, r.first, std::nullopt);
    shows(d, r.last, std::nullopt);
    const run runs[] = {{p, size}, {p + 4 * size, 3 * size}};
    if constexpr (iopt::run_mapping_domain<D>) {
      refuses(d);
      CHECK_FALSE(d.map_runs(r.first, runs, usual.rights).has_value());
      shows(d, r.first, std::nullopt);
      shows(d, r.last, std::nullopt);
    }
    map(d, r, p);
    if constexpr (iopt::splitting_domain<D>) {
      refuses(d);
      CHECK_FALSE(d.split(pages(d, r, 1, 2)).has_value());
      shows(d, r.last, p + (4 * size - 1));
    }
    if constexpr (iopt::replacing_domain<D>) {
      refuses(d);
      CHECK_FALSE(d.replace(r.first, runs, usual.rights).has_value());
      shows(d, r.last, p + (4 * size - 1));
    }
    unmap(d, r);
    flush(d);
    shows(d, r.first, std::nullopt);
  }

  void coherency() {
    INFO("enforce_cache_coherency()");
    D d = make_();
    const bool enforced = d.enforce_cache_coherency();
    CHECK(d.enforce_cache_coherency() == enforced);
  }

  // A hint changes nothing, wherever it points.
  void prefetching() {
    INFO("prefetch()");
    D d = make_();
    const iova_range r = room(d, 4);
    const physical p = frames(d, 1);
    const auto hint = [&] {
      d.prefetch(r);
      d.prefetch(pages(d, r, 3, 1));
      d.prefetch(iova_range::sized(d.aperture().first, 1));
      d.prefetch(d.aperture());
      d.prefetch({d.aperture().last, d.aperture().last});
      d.prefetch({r.first + 1, r.first + 1});
      d.prefetch({iova{0}, iova{0}});
      d.prefetch({iova{iopt::top}, iova{iopt::top}});
    };
    hint();
    shows(d, r.first, std::nullopt);
    map(d, pages(d, r, 1, 1), p);
    hint();
    shows(d, r.first, std::nullopt);
    shows(d, r.first + granule(d), p);
    shows(d, r.last, std::nullopt);
    unmap(d, pages(d, r, 1, 1));
    flush(d);
    hint();
    shows(d, r.first + granule(d), std::nullopt);
  }

  // Two threads map and unmap every other page each, and each sees its own, and no other's.
  void concurrent() {
    INFO("calls of two threads");
    D d = make_();
    constexpr std::uint64_t count = 16;
    const iova_range all = room(d, count);
    const physical p = frames(d, count);
    std::atomic<unsigned> wrong = 0;
    const auto work = [&](std::uint64_t me) {
      const auto expect = [&](bool good) { wrong += !good; };
      for (unsigned turn = 0; turn < 300; ++turn) {
        for (std::uint64_t n = me; n < count; n += 2) {
          const iova_range mine = pages(d, all, n, 1);
          if constexpr (iopt::prefetching_domain<D>) d.prefetch(mine);
          expect(d.map(mine, p + n * granule(d), usual).has_value());
        }
        for (std::uint64_t n = me; n < count; n += 2) {
          const iova_range mine = pages(d, all, n, 1);
          if constexpr (!iopt::unreadable_domain<D>)
            expect(d.translate(mine.last) == p + ((n + 1) * granule(d) - 1));
          if (turn != 299) expect(d.unmap(mine) == granule(d));
        }
        if constexpr (iopt::flushing_domain<D>) d.sync();
      }
    };
    std::thread other(work, 1);
    work(0);
    other.join();
    CHECK(wrong == 0);
    for (std::uint64_t n = 0; n < count; ++n) {
      shows(d, pages(d, all, n, 1).first, p + n * granule(d));
      unmap(d, pages(d, all, n, 1));
    }
    flush(d);
    shows(d, all.first, std::nullopt);
  }

  // What the checks are written with.

  static std::uint64_t granule(const D& d) { return d.page_sizes().smallest(); }
  physical frames(const D& d, std::uint64_t count) {
    return hooks_.frames(count * granule(d), granule(d));
  }
  static iova_range pages(const D& d, iova_range in, std::uint64_t first, std::uint64_t count) {
    return iova_range::sized(in.first + first * granule(d), count * granule(d));
  }
  static std::vector<iopt::reserved_region> regions(const D& d) {
    const auto& list = d.reserved_regions();
    const std::span<const iopt::reserved_region> all = list;
    return {all.begin(), all.end()};
  }
  // Every page of r says so, as far as the hooks can tell.
  void says(D& d, iova_range r, iopt::attributes expected) {
    if constexpr (requires { hooks_.attributes_at(d, r.first); }) {
      CHECK(hooks_.attributes_at(d, r.first) == expected);
      CHECK(hooks_.attributes_at(d, r.last) == expected);
    }
  }
  // Whether the next call that can fail will.
  bool refuses(D& d) {
    if constexpr (requires { hooks_.refuse_next(d); }) {
      hooks_.refuse_next(d);
      return true;
    } else {
      return false;
    }
  }
  static bool is_reserved(const D& d, iova_range r) {
    if constexpr (iopt::reserved_regions_domain<D>) {
      for (const iopt::reserved_region& region : regions(d))
        if (region.range.overlaps(r)) return true;
    }
    return false;
  }
  // The lowest aligned range that may be mapped, or nothing.
  static std::optional<iova_range> place(const D& d, std::uint64_t bytes, std::uint64_t alignment) {
    std::optional<std::uint64_t> at = iopt::align_up(d.aperture().first.value, alignment);
    for (int tries = 0; at && tries < 4096; ++tries) {
      const iopt::result<iova_range> r = iova_range::from_length({*at}, bytes);
      if (!r || !d.aperture().contains(*r)) return std::nullopt;
      if (!is_reserved(d, *r)) return *r;
      at = iopt::checked_add(*at, alignment);
    }
    return std::nullopt;
  }
  static iova_range room(const D& d, std::uint64_t count) {
    // Not at the very start: the byte before is looked at.
    const std::optional<iova_range> all = place(d, (count + 1) * granule(d), granule(d));
    REQUIRE(all.has_value());
    return pages(d, *all, 1, count);
  }

  static void map(D& d, iova_range r, physical p) {
    const iopt::result<void> mapped = d.map(r, p, usual);
    if (!mapped) FAIL("map() refused: " << iopt::name(mapped.error().code));
  }
  static void unmap(D& d, iova_range r) {
    const std::uint64_t bytes = d.unmap(r);
    if (bytes != r.length()) FAIL("unmap() took " << bytes << " bytes of " << r.length());
  }
  static void flush(D& d) {
    if constexpr (iopt::flushing_domain<D>) d.sync();
  }
  static void shows(const D& d, iova v, std::optional<physical> expected) {
    if constexpr (!iopt::unreadable_domain<D>) {
      const std::optional<physical> seen = d.translate(v);
      if (seen == expected) return;
      CAPTURE(v.value, expected.has_value(), expected.value_or(physical{}).value, seen.has_value(),
              seen.value_or(physical{}).value);
      REQUIRE(seen == expected);
    }
  }

  Make& make_;
  Hooks& hooks_;
};

/// Checks every clause of iommu_domain, and of each refinement that D has, that shows from outside
/// or through the hooks.
template <iopt::iommu_domain D, class Make, class Hooks = imaginary_memory>
void check_domain(Make make, Hooks hooks = {}) {
  domain_suite<D, Make, Hooks>(make, hooks).run_all();
}

}  // namespace iopt_conformance
