// iopt/core/io_pagetable.hpp - an I/O address space: areas of memory, shown to devices through
// domains.
//
// The engine. It keeps which IOVA shows which memory, pins each page once however often it is
// shown, keeps every attached domain filled, and takes everything back in an order that no device
// can break. Its rules, down to the errno and the order of checks, are those of Linux 6.12 iommufd;
// where it does more than the kernel (holes in large entries, protect, remap) it says so.
//
// The members are defined by theme: core/map.hpp, core/place.hpp, core/copy.hpp, core/unmap.hpp,
// core/cut.hpp, core/punch.hpp, core/expand.hpp, core/attach.hpp, core/claims.hpp, core/change.hpp,
// core/withdraw.hpp, core/owner.hpp, core/dirty.hpp, core/look.hpp. Include this header; it includes
// them.
//
// Layer: core. Includes: base, containers, policy, core.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <type_traits>
#include <utility>

#include "iopt/base/access.hpp"
#include "iopt/base/error.hpp"
#include "iopt/base/range.hpp"
#include "iopt/containers/area_map.hpp"
#include "iopt/containers/interval_tree.hpp"
#include "iopt/core/area_info.hpp"
#include "iopt/core/compact_fill.hpp"
#include "iopt/core/fill.hpp"
#include "iopt/core/origin.hpp"
#include "iopt/core/pages.hpp"
#include "iopt/core/traits.hpp"
#include "iopt/core/translation_hook.hpp"
#include "iopt/core/unmap_profile.hpp"
#include "iopt/policy/iommu_domain.hpp"
#include "iopt/policy/near_miss.hpp"
#include "iopt/policy/page_pinner.hpp"

namespace iopt {

template <page_pinner Pinner, iommu_domain Domain, table_traits Traits>
class access_object;

/// io_pagetable: the mappings of one I/O address space.
///
/// Model       A partial function from IOVAs to bytes of memory objects, with rights, told as areas;
///             a set of reserved ranges, where nothing may be mapped; a list of allowed ranges,
///             from which IOVAs are chosen; a list of domains, each of which holds every area.
/// Invariants  Areas do not overlap, nor touch a reserved range. Each domain's T is the model's
///             function composed with "where the page is". A page is pinned while a domain or an
///             access holds it, once. See verify().
/// Ownership   Owns areas and pages. Refers to the pinner and the domains, which outlive their stay.
///             Movable while no domain and no access object is attached.
/// Errors      What can fail is all or nothing, but where an unmap profile says otherwise. unmap of
///             unpinned areas, detach and destruction cannot fail and allocate nothing.
/// Cost        n areas, d domains, r physically contiguous runs in a request: map, unmap O(log n +
///             d r) domain calls and time with a pinner that returns runs; with a domain that takes
///             vectors of runs O(d r / 4096) calls.
/// Threads     With single_threaded: one thread at a time, also over tables that share pages. With
///             multi_threaded: any call from any thread, but construction, move and destruction.
/// Source      Linux 6.12 drivers/iommu/iommufd/io_pagetable.c and pages.c, as facts.
/// Tested by   tests/core/
template <page_pinner Pinner, iommu_domain Domain, table_traits Traits = single_threaded>
class io_pagetable {
  static_assert(exact_domain<Domain>::value && exact_pinner<Pinner>::value);

 public:
  using owner_type = typename Pinner::owner;
  using memory_source_type = typename Traits::memory;
  static constexpr std::uint64_t page_bytes = Traits::page_bytes;

  /// memory: what a map call shows: where it begins, and whose it is.
  struct memory {
    using key_type = typename origin<Pinner, Traits>::key;

    key_type of;
    user_address from;

    memory(const key_type& origin_key, user_address first) : of(origin_key), from(first) {}
  };

  explicit io_pagetable(Pinner& pinner, memory_source_type source = {}) noexcept
      : pinner_(&pinner), memory_(source), readers_(source), areas_(source) {}
  io_pagetable(io_pagetable&&) noexcept;
  io_pagetable& operator=(io_pagetable&&) = delete;
  ~io_pagetable();

  /// The account that memory is charged to where a map call does not say. At first `user`. To be
  /// set before other threads map.
  void set_account_mode(account_mode mode) noexcept { mode_ = mode; }
  account_mode mode() const noexcept { return mode_; }

  // --- What to map ---

  memory user_memory(const owner_type& owner, user_address from) const {
    return memory({pinner_, origin_kind::user, mode_, owner}, from);
  }
  memory user_memory(user_address from) const { return user_memory(pinner_->current(), from); }
  template <class File>
  memory file_memory(const File& file, std::uint64_t offset) const
    requires file_pinner<Pinner>
  {
    memory m({pinner_, origin_kind::file, mode_, pinner_->current()}, {offset});
    m.of.file = file;
    return m;
  }
  template <class Exporter>
  memory device_memory(const Exporter& exporter, std::uint64_t offset) const
    requires device_memory_pinner<Pinner>
  {
    memory m({pinner_, origin_kind::device, account_mode::none, pinner_->current()}, {offset});
    m.of.exporter = exporter;
    return m;
  }

  // --- Mapping: core/map.hpp, core/place.hpp, core/copy.hpp ---

  /// Maps `length_bytes` bytes of memory at `at`, or at an IOVA of the table's choice: the lowest
  /// that fits, aligned as the memory and the length allow. Returns the IOVA.
  ///
  /// Errors   In this order: invalid_argument, length 0; value_too_large, the memory wraps;
  ///          not_enough_memory; invalid_argument, length or IOVA not a multiple of alignment();
  ///          value_too_large, the IOVA wraps; invalid_argument, a reserved range is hit;
  ///          file_exists, an area is hit (which: error::at); invalid_argument, the memory's offset
  ///          in its page is no multiple of alignment(). Chosen IOVA: value_too_large, 2^63 - 1
  ///          bytes or more; no_space_on_device, no hole fits. Then, with a domain attached, those
  ///          of filling it: bad_address, not_enough_memory over the account's limit, any errno of
  ///          a domain.
  /// Cost     O(log n), and the fill.
  [[nodiscard]] result<iova> map(const memory& what, std::uint64_t length_bytes,
                                 access_rights rights, std::optional<iova> at = std::nullopt) {
    return map_at(what, length_bytes, rights, at ? &*at : nullptr);
  }
  [[nodiscard]] result<iova> map(user_address from, std::uint64_t length_bytes,
                                 access_rights rights, std::optional<iova> at = std::nullopt) {
    return map_at(user_memory(from), length_bytes, rights, at ? &*at : nullptr);
  }

  /// One element of a vector map.
  struct map_request {
    memory what;
    std::uint64_t length_bytes;
    access_rights rights;
    std::optional<iova> at = std::nullopt;  // nothing: of the table's choice
    iova mapped_at{};                       // on success, where it is
  };
  /// Maps all elements, or none. On success each element's `mapped_at` says where. Errors: as
  /// map(), with the place `element`.
  [[nodiscard]] result<void> map_all(std::span<map_request> requests);

  /// Shows [from] of another table (or this one) here too, sharing the pages: nothing is pinned or
  /// charged twice. One area for each area, or part of one, in the source. Requires: both tables
  /// have the same memory source. Errors: no_such_file_or_directory where the source has a gap;
  /// operation_not_permitted where write is asked of memory mapped without; else as map().
  [[nodiscard]] result<iova> copy(io_pagetable& source, iova_range from, access_rights rights,
                                  std::optional<iova> at = std::nullopt);

  // --- Unmapping: core/unmap.hpp ---

  /// Unmaps [first, first + length) as the profile has it; see core/unmap_profile.hpp.
  /// Errors: those of the profile; device_or_resource_busy, an area is being made or taken away by
  /// another thread; resource_deadlock_would_occur, the holder of pins does not let go; io_error, a
  /// domain came back short.
  unmap_report unmap(iova first, std::uint64_t length_bytes, unmap_profile profile,
                     kernel_level level = kernel_level::linux_6_12);

  /// What unmap() would remove and answer, if every holder of pins let go. Changes nothing.
  unmap_report would_unmap(iova first, std::uint64_t length_bytes, unmap_profile profile,
                           kernel_level level = kernel_level::linux_6_12) const;

  /// Unmaps everything; an empty table is no error.
  unmap_report unmap_all();

  /// Unmaps every range, each as `profile` has it, or none of them; one flush for all.
  /// Errors: what the first range that cannot go whole would answer, with the place `element`.
  unmap_report unmap_all(std::span<const iova_range> ranges, unmap_profile profile,
                         kernel_level level = kernel_level::linux_6_12);

  /// As unmap(), and first tells each range that devices wrote since the last read, in every domain
  /// that tracks: record(iova_range). Where a domain cannot say, that is all of an area.
  template <class Record>
  unmap_report unmap_dirty(iova first, std::uint64_t length_bytes, unmap_profile profile,
                           Record record, kernel_level level = kernel_level::linux_6_12);

  // --- Cutting: core/cut.hpp ---

  /// Makes `last` the last byte of an area, by cutting the area around it in two. Pages, pins,
  /// charges and what domains translate stay as they are. Nothing to do where no area contains both
  /// `last` and the byte after it.
  /// Errors: device_or_resource_busy, in flight or under notification; invalid_argument, not at a
  /// multiple of alignment(), or pins of access objects hold the area, or a domain holds it in
  /// large entries (cut_rule::as_iommufd) or cannot split them (cut_rule::split);
  /// not_enough_memory.
  [[nodiscard]] result<void> cut(iova last, cut_rule rule = cut_rule::split);

  // --- Changing live ranges: core/change.hpp, core/withdraw.hpp ---

  /// Changes the rights of a live range, which must be whole areas, or is cut so.
  /// Errors: no_such_file_or_directory, a gap; operation_not_permitted, write is asked of memory
  /// mapped without; operation_not_supported, a domain cannot do it in place; as cut().
  [[nodiscard]] result<void> protect(iova_range range, access_rights rights);

  /// Shows other memory in a live range, with no moment at which a device faults.
  /// Errors: as map() and protect(). On error the old memory is still shown.
  [[nodiscard]] result<void> remap(iova_range range, const memory& what, access_rights rights);

  /// Software access to the range waits until resume_access(): read, write and pin answer
  /// device_or_resource_busy. Devices go on. Errors: no_such_file_or_directory, not whole areas;
  /// invalid_argument, one is suspended already; nothing changed then.
  [[nodiscard]] result<void> suspend_access(iova_range range);

  /// Gives a suspended area a new origin (the process moved or was replaced): the same pages, found
  /// at another address. The charge moves to the new owner.
  /// Errors: no_such_file_or_directory, nothing there; invalid_argument, not exactly one area, not
  /// suspended, or another offset in the page, or device memory in the place of other memory, or
  /// other than it was; not_enough_memory, over the new owner's limit.
  [[nodiscard]] result<void> resume_access(iova_range range, const memory& what);

  /// An exporter takes its device memory away: every domain of this table forgets it. Areas stay.
  /// Tables that show the same pages are told one by one, and so is each when it is back.
  template <class Exporter>
  void revoke(const Exporter& exporter) noexcept
    requires device_memory_pinner<Pinner>;
  /// It is back: every domain is filled again. Errors: as filling; all of it is revoked then, and
  /// restore() may be called again.
  template <class Exporter>
  [[nodiscard]] result<void> restore(const Exporter& exporter)
    requires device_memory_pinner<Pinner>;

  // --- Whose the memory is: core/owner.hpp ---

  /// Moves every pages object of this table to a new owner, and charges it. They are all of files:
  /// other memory is known by its owner. What is charged without limit stays so. Requires: no other
  /// table that shows the same pages does so at the same time.
  /// Errors: in this order, device_or_resource_busy, an area in flight, and invalid_argument, one is
  /// not of a file, whichever comes first; not_enough_memory. Nothing changed then.
  [[nodiscard]] result<void> change_owner(const owner_type& owner);
  /// The same for several tables, which may show the same pages: all of them, or none. each(f) calls
  /// f(table) for one after the other; it is called more than once. Requires: two calls at the same
  /// time that have two tables in common name them in the same order.
  template <class Each>
  [[nodiscard]] static result<void> change_owner_of(Each each, const owner_type& owner);

  // --- Domains: core/attach.hpp ---

  /// Adds a domain and fills it with every area. A table's domains are of one type; where they differ,
  /// that type is a wrapper of yours.
  /// Errors: file_exists, it is here already; invalid_argument, its smallest page is above
  /// page_bytes; address_in_use, an area does not suit its alignment, aperture or reserved regions;
  /// not_enough_memory; as map(). On error nothing changed.
  [[nodiscard]] result<void> attach(Domain& domain);
  /// Empties a domain and lets it go. Requires: it is attached. Does not fail; false is a domain
  /// that came back short.
  bool detach(Domain& domain) noexcept;
  /// Puts `next` in the place of `old`. On error `old` is still attached, and nothing changed.
  [[nodiscard]] result<void> replace(Domain& old, Domain& next);
  std::size_t domain_count() const noexcept {
    detail::shared_lock guard(domains_lock_);
    return domain_count_;
  }
  Domain& domain(std::size_t n) const noexcept {
    detail::shared_lock guard(domains_lock_);
    return *domains_[n]->domain;
  }
  /// Calls f(domain) for each while none comes or goes.
  template <class F>
  void for_each_domain(F f) const {
    detail::shared_lock guard(domains_lock_);
    for (const attachment_type* d : domains()) f(std::as_const(*d->domain));
  }

  /// Makes every domain coherent with the caches. False: one cannot be.
  bool enforce_cache_coherency() noexcept;

  /// Large entries on (the default), or off: then every page is an entry of its own, and areas can
  /// be cut in domains that cannot split. Errors of switching off: invalid_argument, a domain and
  /// an area exist; address_in_use, an area is not on page boundaries.
  [[nodiscard]] result<void> disable_large_pages();
  void enable_large_pages() noexcept;
  bool large_pages() const noexcept {
    detail::shared_lock guard(areas_lock_);
    return large_pages_;
  }

  /// What unmaps wait for before they unpin. Where it is a translation_keeper, it knows every area of
  /// user memory. Its readers go before the table does.
  typename Traits::readers& readers() noexcept { return readers_; }

  // --- Ranges ---

  /// What IOVAs and lengths must be multiples of, in bytes: a power of two, at most page_bytes.
  std::uint64_t alignment() const noexcept {
    detail::shared_lock guard(areas_lock_);
    return alignment_;
  }

  /// Keeps a range free for `owner` (any pointer that names it).
  /// Errors: address_in_use, an area or an allowed range is hit; not_enough_memory.
  [[nodiscard]] result<void> reserve(iova_range range, const void* owner = nullptr);
  /// Drops all that `owner` reserved.
  void unreserve(const void* owner) noexcept;

  /// Sets the ranges that IOVAs are chosen from; none: all. They must not overlap one another.
  /// Errors: invalid_argument, they overlap; address_in_use, a reserved range is hit;
  /// not_enough_memory. On error the old list stays.
  [[nodiscard]] result<void> allow(std::span<const iova_range> ranges);
  /// The same, with ranges that next() gives one at a time, as a result of an optional: nothing is
  /// the end. Each is looked at before the next is asked for. Errors: also those of next().
  template <class Next>
  [[nodiscard]] result<void> allow_each(Next next);

  /// Calls f(iova_range) for each maximal range that no reservation touches, in order.
  template <class F>
  void for_each_usable(F f) const;

  // --- Dirty pages: core/dirty.hpp ---

  /// Switches a domain's tracking. Switching on first drops what was recorded before.
  /// Errors: operation_not_supported; any errno of the domain: it tracks, or not, as before.
  [[nodiscard]] result<void> set_dirty_tracking(Domain& domain, bool on);

  /// Calls record(iova_range) for what the devices behind `domain` wrote in the range, up to the
  /// first address that nothing is mapped at.
  /// Errors: invalid_argument, tracking is off or the range is no multiple of alignment();
  /// operation_not_supported.
  template <class Record>
  [[nodiscard]] result<void> read_dirty(Domain& domain, iova_range range, dirty_read mode,
                                        Record record);

  // --- Looking ---

  std::size_t area_count() const noexcept {
    detail::shared_lock guard(areas_lock_);
    return areas_.size();
  }
  /// The area at an IOVA.
  std::optional<area_info> find(iova at) const;
  /// The first area that touches the range.
  std::optional<area_info> first_in(iova_range range) const;
  /// What is shown at an IOVA: where the memory comes from, whose it is, and its account.
  std::optional<memory> memory_at(iova at) const;
  /// Calls f(area_info) for each area in order.
  template <class F>
  void for_each_area(F f) const;
  /// Calls f(iova_range, user_address) for each part of an area that shows bytes of the range of
  /// the owner's memory: there may be several. Cost: O(log n + found) with Traits::reverse_index,
  /// else O(n). With the index, pages that another table's resume_access() moved are looked for at
  /// their old address, and not found.
  template <class F>
  void for_each_view(const owner_type& owner, user_range shown, F f) const;
  /// The first maximal part, of one area, whose pages access objects hold.
  /// Cost: O(log n + areas passed over).
  std::optional<iova_range> first_pinned(iova_range range) const;

  /// Checks the invariants; "" where they hold, else the one that does not. Cost: O(n log n).
  std::string_view verify() const;

 private:
  friend class access_object<Pinner, Domain, Traits>;

  using any_area = mapped_area<Traits>;
  using compact_type = compact_area<Pinner, Traits>;
  using family_type = compact_family<Pinner, Traits>;
  using area_type = area<Pinner, Domain, Traits>;
  using pages_type = pages<Pinner, Domain, Traits>;
  using origin_type = origin<Pinner, Traits>;
  using attachment_type = attachment<Domain, Traits>;
  using block_type = detail::mapping_block<Pinner, Domain, Traits>;
  using transfer = detail::page_transfer<Pinner, Domain, Traits>;
  using batch_type = run_batch<memory_source_type>;
  using table_readers = detail::table_readers<typename Traits::readers, memory_source_type>;
  using compact_moves = detail::compact_transfer<Pinner, Domain, Traits>;
  using area_tree = area_map<iova, any_area*, memory_source_type>;
  using access_type = access_object<Pinner, Domain, Traits>;

  struct reservation : interval_node<iova> {
    const void* owner = nullptr;
    reservation* next = nullptr;
  };
  using user_view = typename area_type::view_type;

  std::span<attachment_type* const> domains() const noexcept { return {domains_, domain_count_}; }
  /// With so few areas a domain's entries are in the cache: the hint costs with none and gains with 1000;
  /// between them nothing was measured.
  static constexpr std::size_t few_areas = 256;
  /// Tells domains that want to know which addresses are about to change. With locks, the first locked
  /// instruction behind the store to a domain's entry waits for that line; without, the hint gains only
  /// where the entry is not in the cache.
  void prefetch_in_domains(iova_range r) const noexcept {
    if constexpr (prefetching_domain<Domain>) {
      if (!Traits::concurrent && areas_.size() < few_areas) return;
      for (const attachment_type* d : domains()) d->domain->prefetch(r);
    }
  }
  transfer moves(pages_type& p) noexcept { return {p, readers_, large_pages_}; }
  compact_moves moves(compact_type& a) noexcept { return {a, readers_, large_pages_}; }

  // core/mapped_area.hpp, core/pages.hpp: what an area is, and what both kinds of it answer.
  static constexpr bool has_compact = !Traits::reverse_index && !unreadable_domain<Domain>;
  static bool is_compact(const any_area& a) noexcept { return has_compact && a.is_compact; }
  static compact_type& compact(any_area& a) noexcept { return static_cast<compact_type&>(a); }
  static const compact_type& compact(const any_area& a) noexcept {
    return static_cast<const compact_type&>(a);
  }
  static area_type& full(any_area& a) noexcept {
    IOPT_ASSERT(!is_compact(a));
    return static_cast<area_type&>(a);
  }
  static const area_type& full(const any_area& a) noexcept {
    return full(const_cast<any_area&>(a));
  }
  static std::uint64_t page_offset(const any_area& a) noexcept {
    return is_compact(a) ? compact(a).page_offset() : full(a).page_offset();
  }
  static bool is_writable(const any_area& a) noexcept {
    return is_compact(a) ? compact(a).writable() : full(a).source->writable;
  }
  static bool is_held(const any_area& a) noexcept {
    return is_compact(a) ? a.held : full(a).storage != nullptr;
  }
  static std::uint32_t pin_calls(const any_area& a) noexcept {
    return is_compact(a) ? 0 : static_cast<std::uint32_t>(full(a).pin_calls);
  }

  // core/expand.hpp
  area_type* expand(compact_type& a) noexcept;
  void inherit(area_type& grown, const compact_type& from) noexcept;
  result<void> expand_family(family_type& family) noexcept;
  result<area_type*> expand_at(typename area_tree::cursor at) noexcept;
  result<void> expand_in(iova_range range) noexcept;
  void destroy_area(any_area& a) noexcept;

  // An area in flight is a claim: while there is one the list of domains stays as it is. Who makes or
  // takes down areas needs no other lock for that; who changes the list waits until there is none.
  class domains_claimed;
  class domains_mine;

  // core/map.hpp
  result<origin_type*> intern(const typename origin_type::key& key);
  result<origin_type*> intern_locked(const typename origin_type::key& key);
  void release_locked(origin_type& o) noexcept;
  static result<void> check_memory(const memory& what, std::uint64_t length_bytes);
  result<area_type*> create_area(const memory& what, std::uint64_t length_bytes,
                                 access_rights rights);
  result<void> insert(any_area& a, iova at);
  result<void> fill(any_area*& chain, std::uint64_t* failed = nullptr);
  result<void> fill_one(any_area*& link);
  template <class Grow>
  result<void> fill_compact(compact_type& a, std::span<attachment_type* const> into,
                            const Grow& grow);
  result<iova> fill_or_discard(any_area* chain, iova where);
  result<iova> enter(any_area* chain, user_address hint, std::uint64_t length_bytes,
                     const iova* at);
  result<iova> enter_new(any_area*& made, const memory& what, std::uint64_t length_bytes,
                         access_rights rights, const iova* at, bool first);
  result<iova> map_at(const memory& what, std::uint64_t length_bytes, access_rights rights,
                      const iova* at);
  void publish(any_area* chain) noexcept;
  void index(any_area& a) noexcept;
  void unindex(any_area& a) noexcept;
  void discard(any_area* chain) noexcept;
  void forget(any_area& a) noexcept;

  // core/place.hpp
  result<iova> choose(user_address from, std::uint64_t length_bytes) const;
  result<iova> place(user_address from, std::uint64_t length_bytes, const iova* at) const;

  // core/unmap.hpp
  struct area_chain {
    any_area* first = nullptr;
    any_area* last = nullptr;
    void append(any_area& a) noexcept {
      a.chain = nullptr;
      (first == nullptr ? first : last->chain) = &a;
      last = &a;
    }
  };
  result<void> check_ends(iova_range range, const unmap_rules& rules) const;
  unmap_report plan(iova_range range, const unmap_rules& rules) const;
  result<void> cut_for(iova_range range, const unmap_rules& rules);
  result<void> cut_for_all(std::span<const iova_range> ranges, const unmap_rules& rules);
  unmap_report gather(iova_range range, const unmap_rules& rules, area_chain& chain);
  void notify(iova_range gone);
  result<any_area*> take_one(iova_range range, bool cuts) noexcept;
  unmap_report finish_one(any_area& a) noexcept;
  bool begin_take_down(any_area& a) noexcept;
  [[gnu::noinline]] bool begin_take_down(area_type& a) noexcept;
  void finish_take_down(any_area& a) noexcept;
  [[gnu::noinline]] void finish_take_down(area_type& a) noexcept;
  bool take_down(area_chain chain) noexcept;
  void put_back(area_chain chain) noexcept;

  // core/cut.hpp
  struct cut_plan {
    area_chain spare{};  // one new area for each cut, which is after the byte that it shows
    std::size_t count = 0;
  };
  static constexpr bool can_split = splitting_domain<Domain>;
  result<any_area*> may_cut(iova last, cut_rule rule, bool held_too = true) const;
  result<void> prepare_cut(iova last, cut_rule rule, cut_plan& plan);
  result<void> split_entries(iova_range range, std::uint64_t offset);
  result<void> prepare_cuts(iova_range around, cut_rule rule, cut_plan& plan);
  void commit(cut_plan& plan) noexcept;
  void abandon(cut_plan& plan) noexcept;

  // core/punch.hpp
  result<any_area*> punch(any_area& around, const iova_range& hole) noexcept;
  result<void> prepare_punch(compact_type& a, iova_range hole, bool both_stay,
                             compact_type*& hole_area) noexcept;

  // core/access_pin.hpp
  result<void> pin_pages(pages_type& p, pin_record& as);
  void unpin_pages(pages_type& p, pin_record& as) noexcept;

  // core/change.hpp
  result<void> check_covered(iova_range range) const;
  void give_back_rights(iova_range range, const any_area& stop, std::size_t refused) noexcept;
  result<void> show_instead(iova_range where, pages_type& from, std::uint64_t start_byte,
                            access_rights rights, attachment_type& in);
  void show_old_again(iova_range range, const area_type& stop, std::size_t told) noexcept;
  result<void> remap_to(iova_range range, area_type& fresh);

  template <class Exporter>
  void take_away(const Exporter& exporter) noexcept;

  // core/owner.hpp
  result<void> check_files() const;
  result<void> charge_next(const owner_type& owner);
  void leave_one_account(bool the_new) noexcept;

  // core/dirty.hpp
  template <class Record>
  void tell_dirty(const any_area& a, Record& record);

  // core/attach.hpp
  std::uint64_t alignment_with(const Domain* extra) const noexcept;
  result<void> check_alignment(std::uint64_t alignment) const;
  void update_alignment() noexcept;
  attachment_type* find_attachment(const Domain& domain) const noexcept;
  result<void> grow_domains();
  result<void> fill_from_areas(attachment_type& to);
  result<void> fill_into(typename area_tree::cursor at, attachment_type& to);
  bool leave(any_area& a, attachment_type& from) noexcept;
  result<void> reserve_for(const Domain& domain, const void* owner);
  result<void> add_reservation(iova_range range, const void* owner);
  void drop_reservations(const void* owner) noexcept;
  void flush_all() noexcept;

  template <class T, class... Arguments>
  T* create(Arguments&&... arguments) {
    return create_in<T>(memory_, static_cast<Arguments&&>(arguments)...);
  }
  template <class T>
  void destroy(T* object) noexcept {
    destroy_in(memory_, object);
  }

  // Compact areas: requires areas_lock_, exclusively.
  template <class... Arguments>
  compact_type* create_compact(Arguments&&... arguments) {
    return spare_compact_.create(memory_, static_cast<Arguments&&>(arguments)...);
  }
  void destroy(compact_type* object) noexcept { spare_compact_.destroy(memory_, object); }

  area_info describe(const any_area& a) const;
  memory memory_of(const any_area& a) const;

  Pinner* pinner_;
  [[no_unique_address]] memory_source_type memory_;
  mutable
      typename Traits::shared_mutex accesses_lock_;     // before domains_lock_, before areas_lock_,
  mutable typename Traits::shared_mutex domains_lock_;  // before a pages mutex, before a domain's
  mutable typename Traits::shared_mutex areas_lock_;
  bool closing_ = false;  // somebody waits for the claims to end: nobody makes a first one
  [[no_unique_address]] table_readers readers_;
  area_tree areas_;
  spare_room<compact_type> spare_compact_;
  interval_tree<reservation> reserved_;
  interval_tree<reservation> allowed_;
  [[no_unique_address]] user_view_tree<area_type, Traits::reverse_index> views_;
  attachment_type** domains_ = nullptr;
  std::size_t domain_count_ = 0;
  std::size_t domain_room_ = 0;
  access_type* accesses_ = nullptr;
  origin_type* last_origin_ = nullptr;
  std::uint32_t origin_stock_ = 0;  // references to last_origin_ at hand, beside the table's own
  std::uint64_t alignment_ = 1;
  account_mode mode_ = account_mode::user;
  bool large_pages_ = true;
};

}  // namespace iopt

#include "iopt/core/attach.hpp"    // IWYU pragma: export
#include "iopt/core/change.hpp"    // IWYU pragma: export
#include "iopt/core/claims.hpp"    // IWYU pragma: export
#include "iopt/core/copy.hpp"      // IWYU pragma: export
#include "iopt/core/cut.hpp"       // IWYU pragma: export
#include "iopt/core/dirty.hpp"     // IWYU pragma: export
#include "iopt/core/expand.hpp"    // IWYU pragma: export
#include "iopt/core/look.hpp"      // IWYU pragma: export
#include "iopt/core/map.hpp"       // IWYU pragma: export
#include "iopt/core/owner.hpp"     // IWYU pragma: export
#include "iopt/core/place.hpp"     // IWYU pragma: export
#include "iopt/core/punch.hpp"     // IWYU pragma: export
#include "iopt/core/unmap.hpp"     // IWYU pragma: export
#include "iopt/core/withdraw.hpp"  // IWYU pragma: export
