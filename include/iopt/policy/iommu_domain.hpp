// iopt/policy/iommu_domain.hpp - the second policy: an I/O page table.
//
// The least domain has five members. Every further ability is a refined concept: where a domain has
// it the engine uses it, where not it makes do with the five. An ability is never a run-time flag. A
// member that almost has an ability's signature does not compile (policy/near_miss.hpp).
//
//   ability                     concept                      without it
//   several runs in one call    run_mapping_domain           one map() a run
//   unmap tells what it held    run_returning_domain         translate before unmap
//   translate a range           range_translating_domain     translate() a page
//   gather flushes              flushing_domain              unmap() flushes itself
//   dirty bits                  dirty_tracking_domain        dirty reads are not supported
//   split an entry              splitting_domain             areas with entries cannot be cut
//   change rights in place      protecting_domain            protect() is refused
//   change frames in place      replacing_domain             remap() is refused
//   regions not to map          reserved_regions_domain      none
//   enforce cache coherency     coherency_enforcing_domain   not enforced
//   cannot be read back         unreadable_domain            (the engine then keeps the frames)
//   serialises by itself        concurrent_domain            one call at a time
//   fetches what it will touch  prefetching_domain           it waits for memory when it is called
//
// Layer: policy. Includes: base, the standard library.
#pragma once

#include <concepts>
#include <cstdint>
#include <optional>
#include <span>

#include "iopt/base/access.hpp"
#include "iopt/base/address.hpp"
#include "iopt/base/error.hpp"
#include "iopt/base/page_sizes.hpp"
#include "iopt/base/range.hpp"
#include "iopt/base/run.hpp"

namespace iopt {

/// An iommu_domain is a translation table from IOVA bytes to physical bytes.
///
/// Meaning. Let T be the partial function the domain holds, at first empty.
///   d.map(r, p, a)   T(r.first + i) = p + i for every byte i of r, with attributes a.
///                    Requires: r and p aligned to the smallest page size; r inside the aperture; T
///                    undefined on r. Errors: any errno of the backend. On error T is unchanged.
///   d.unmap(r)       T undefined on r; returns how many bytes that was. Requires: r is a union of
///                    ranges passed to map() or made by split(), all still mapped. Does not fail:
///                    a real table that comes back short returns less than r holds, and the engine
///                    then never unpins what the device may still reach.
///   d.translate(v)   T(v), or nullopt.
///   d.page_sizes()   the sizes of its entries; not empty, constant.
///   d.aperture()     the IOVAs that it can translate, constant.
/// Cost       map() is called once per physically contiguous run.
/// Threads    Calls on one domain are serialised by the engine, translate() among themselves not;
///            those of a concurrent_domain are not.
/// Tested by  tests/policy/iommu_domain_conformance.hpp
template <class D>
concept iommu_domain = requires(D& d, const D& c, iova_range r, physical p, attributes a, iova v) {
  { d.map(r, p, a) } -> std::same_as<result<void>>;
  { d.unmap(r) } noexcept -> std::same_as<std::uint64_t>;
  { c.translate(v) } -> std::same_as<std::optional<physical>>;
  { c.page_sizes() } -> std::same_as<page_size_set>;
  { c.aperture() } -> std::same_as<iova_range>;
};

/// A domain that maps several runs, one behind the other, in one call.
///
///   d.map_runs(v, runs, rights)   as map() of each run at v, v + runs[0].length_bytes, ..., each with
///                                 its own memory type. On error T is unchanged: none is mapped.
///                                 Each run counts as one range passed to map().
template <class D>
concept run_mapping_domain =
    iommu_domain<D> && requires(D& d, iova v, std::span<const run> runs, access_rights rights) {
      { d.map_runs(v, runs, rights) } -> std::same_as<result<void>>;
    };

/// A domain whose unmap says what it held.
///
///   d.unmap_runs(r, out)   unmaps from r.first upwards and appends the runs that were there, until r
///                          is done or a run does not fit in `out`. Returns the bytes unmapped; the
///                          engine calls again for the rest. Requires: as unmap(); `out` is not full.
///                          Stops only where an entry ends. Does not fail. The type of the runs is
///                          not looked at: `cached` will do.
template <class D>
concept run_returning_domain = iommu_domain<D> && requires(D& d, iova_range r, run_list& out) {
  { d.unmap_runs(r, out) } noexcept -> std::same_as<std::uint64_t>;
};

/// A domain that translates a range in one call.
///
///   d.translate_range(r, out)   appends the runs that T holds from r.first upwards, until r is done,
///                               T is undefined, or a run does not fit. Returns the bytes appended.
///                               The type of the runs is not looked at: `cached` will do.
template <class D>
concept range_translating_domain =
    iommu_domain<D> && requires(const D& c, iova_range r, run_list& out) {
      { c.translate_range(r, out) } noexcept -> std::same_as<std::uint64_t>;
    };

/// A domain that gathers the flushes of its translation cache.
///
///   d.sync()   when it returns, no device uses a translation that unmap() or unmap_runs() removed
///              before. Without it unmap() itself promises that. Does not fail.
template <class D>
concept flushing_domain = iommu_domain<D> && requires(D& d) {
  { d.sync() } noexcept -> std::same_as<void>;
};

/// Whether reading dirty bits also clears them.
enum class dirty_read : std::uint8_t { clear, keep };

namespace detail {
/// Stands for whatever the engine passes to read_dirty().
struct any_record {
  void operator()(iova_range) const;
};
}  // namespace detail

/// A domain that also records which pages a device has written.
///
/// Meaning. Let W be the set of entries that were written while tracking was on, and not cleared
/// since. Splitting an entry in W puts the parts in W; unmapping one takes it out. What replace() and
/// protect() do to W is the domain's affair. Switching on leaves W as it is: the engine clears it.
///   d.set_dirty_tracking(on)        Errors: operation_not_supported; any errno.
///   d.read_dirty(r, mode, record)   calls record(iova_range) for the part of each entry of W in r,
///                                   in order, neighbours joined or not; with dirty_read::clear they
///                                   leave W. `record` is any callable: make it a template parameter.
///                                   Errors: invalid_argument while tracking is off.
template <class D>
concept dirty_tracking_domain =
    iommu_domain<D> &&
    requires(D& d, iova_range r, bool on, dirty_read mode, detail::any_record record) {
      { d.set_dirty_tracking(on) } -> std::same_as<result<void>>;
      { d.read_dirty(r, mode, record) } -> std::same_as<result<void>>;
    };

/// A domain that can split an entry, and a range that was mapped in one call.
///
///   d.split(r)   makes both ends of r boundaries of entries. T is unchanged, also on error, and a
///                device sees no fault. Entries may stay smaller afterwards. Requires: both ends
///                aligned to the smallest page size. Errors: any errno.
/// A domain that writes an entry for each smallest page, and can unmap any of them, needs no more than
/// `result<void> split(iova_range) { return {}; }`. Without it no area that it holds can be cut.
template <class D>
concept splitting_domain = iommu_domain<D> && requires(D& d, iova_range r) {
  { d.split(r) } -> std::same_as<result<void>>;
};

/// A domain that changes the rights of live entries.
///
///   d.protect(r, rights)   every entry of r has these rights; T's addresses are unchanged and no
///                          access that both old and new rights allow faults. Requires: as unmap().
///                          Errors: any errno; on error nothing changed. Does not fail when it
///                          gives back the rights that the same r had just before.
template <class D>
concept protecting_domain = iommu_domain<D> && requires(D& d, iova_range r, access_rights rights) {
  { d.protect(r, rights) } -> std::same_as<result<void>>;
};

/// A domain that changes where live entries point.
///
///   d.replace(v, runs, rights)   as map_runs(), over a range where T is defined: each byte goes from
///                                its old target to its new one with no moment in between. Entries
///                                that the range cuts through are split. Requires: both ends
///                                aligned to the smallest page size. Errors: any errno; on error T
///                                is unchanged. Does not fail when it puts back what the same bytes
///                                showed just before.
template <class D>
concept replacing_domain =
    iommu_domain<D> && requires(D& d, iova v, std::span<const run> runs, access_rights rights) {
      { d.replace(v, runs, rights) } -> std::same_as<result<void>>;
    };

/// reserved_region: IOVAs that a device or its bus keeps for itself.
struct reserved_region {
  enum class kind : std::uint8_t { direct, direct_relaxable, reserved, msi, software_msi };
  iova_range range{};
  kind what = kind::reserved;

  friend constexpr bool operator==(const reserved_region&,
                                   const reserved_region&) noexcept = default;
};

/// A domain that knows the reserved regions of the devices behind it.
///
///   d.reserved_regions()   a span, or something that turns into one; constant while attached. All
///                          but direct_relaxable are kept free.
template <class D>
concept reserved_regions_domain = iommu_domain<D> && requires(const D& c) {
  { c.reserved_regions() } -> std::convertible_to<std::span<const reserved_region>>;
};

/// A domain that can make DMA coherent with the caches even where the device asks otherwise.
///
///   d.enforce_cache_coherency()   whether that holds from now on.
template <class D>
concept coherency_enforcing_domain = iommu_domain<D> && requires(D& d) {
  { d.enforce_cache_coherency() } noexcept -> std::same_as<bool>;
};

/// A domain that cannot be asked what it holds (a VFIO container): it says
/// `static constexpr bool reads_back = false;`, its translate() is never called, and the pages keep
/// the frames that the domain would have been asked for.
template <class D>
concept unreadable_domain = iommu_domain<D> && requires { requires !D::reads_back; };

/// A domain that several threads may call at once, as Linux asks of its drivers: it says
/// `static constexpr bool is_concurrent = true;`. The ranges of calls that run together are disjoint.
/// sync() returns only when what this thread unmapped before is flushed, whoever else flushes.
template <class D>
concept concurrent_domain = iommu_domain<D> && requires { requires D::is_concurrent; };

/// A domain that can be told ahead where it will change, so that its tables are on the way from memory
/// while the engine has other things to do.
///
///   d.prefetch(r)   a hint: the beginning of r is about to be mapped or unmapped. Changes nothing. r is
///                   what somebody asked for: it may lie outside the aperture, and begin inside a page.
///                   Beside any other call, also where those are serialised. A table without locks gives
///                   it only where it has many areas.
template <class D>
concept prefetching_domain = iommu_domain<D> && requires(const D& c, iova_range r) {
  { c.prefetch(r) } noexcept -> std::same_as<void>;
};

}  // namespace iopt
