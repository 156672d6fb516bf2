// tests/core/engine_fixture.hpp - a world to run the engine in, and a picture of all that shows.
//
// world<Domain, Traits> holds what a table refers to: a pinner that watches every domain, domains,
// the memory of the library itself, and one injector that can make any of them fail. snapshot is
// everything that an operation may change and a failed one may not: areas, ranges, what every
// domain translates, pins by page, charges. What is only a matter of speed (sizes of entries, kept
// memory) is not in it.
#pragma once

#include <charconv>
#include <cstdint>
#include <memory>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "iopt/backends/mock/mock.hpp"
#include "iopt/core/access_object.hpp"
#include "iopt/core/io_pagetable.hpp"
#include "iopt/core/multi_threaded.hpp"

namespace iopt::test {

// --- Traits --------------------------------------------------------------------------------------

/// The default traits, with memory that refuses on command.
struct plain_traits : single_threaded {
  using memory = mock::failing_memory;
};
/// Another CPU: pages of 16 KiB, huge ones of 32 MiB; and areas found by user address.
struct pages_16k : plain_traits {
  static constexpr std::uint64_t page_bytes = 16 * kibibyte;
  static constexpr std::uint64_t huge_page_bytes = 32 * mebibyte;
  static constexpr bool reverse_index = true;
};
struct pages_64k : plain_traits {
  static constexpr std::uint64_t page_bytes = 64 * kibibyte;
};
/// As arm64 has it: entries of the level above its pages of 64 KiB are 512 MiB.
struct arm_pages_64k : pages_64k {
  static constexpr std::uint64_t huge_page_bytes = 512 * mebibyte;
};
struct indexed_traits : plain_traits {
  static constexpr bool reverse_index = true;
};
struct locked_traits : multi_threaded {
  using memory = mock::failing_memory;
};

// --- Domains -------------------------------------------------------------------------------------

using full_domain = mock::domain;
using plain_domain = mock::plain<>;
using no_split_domain = mock::without_split<>;
using unreadable_domain = mock::unreadable<>;
/// Splits and tells what it translates, but takes and gives runs one at a time and changes nothing in
/// place.
using lesser_domain = mock::without<mock::ability::map_runs | mock::ability::unmap_runs |
                                    mock::ability::protect | mock::ability::replace>;
using no_change_domain = mock::without<mock::ability::protect | mock::ability::replace>;

/// A domain and traits as one type, for TEMPLATE_TEST_CASE.
template <class Domain, class Traits = plain_traits>
struct kind {
  using domain = Domain;
  using traits = Traits;
};
namespace kinds {
using full = kind<full_domain>;
using plain = kind<plain_domain, pages_64k>;
using no_split = kind<no_split_domain>;
using unreadable = kind<unreadable_domain, pages_16k>;
using lesser = kind<lesser_domain>;
using locked = kind<full_domain, locked_traits>;
using full_16k = kind<full_domain, pages_16k>;
using full_64k = kind<full_domain, arm_pages_64k>;
}  // namespace kinds

/// The kinds that every test of the engine runs on: with each ability, and without. None has a comma
/// of its own, so that the list is one of template arguments too.
#ifndef IOPT_TEST_KINDS
#define IOPT_TEST_KINDS                                                           \
  iopt::test::kinds::full, iopt::test::kinds::plain, iopt::test::kinds::no_split, \
      iopt::test::kinds::unreadable, iopt::test::kinds::lesser, iopt::test::kinds::locked
#endif

/// The mock with all its abilities that a domain is, or is made of.
template <class Domain>
mock::domain& inner(Domain& d) {
  if constexpr (std::is_base_of_v<mock::domain, Domain>) {
    return d;
  } else {
    return d.inner();
  }
}

inline std::string hex(std::uint64_t value) {
  char digits[16];
  const auto end = std::to_chars(digits, digits + sizeof digits, value, 16).ptr;
  return "0x" + std::string(digits, end);
}
inline std::string text(iova_range r) {
  return "[" + hex(r.first.value) + ", " + hex(r.last.value) + "]";
}
inline std::string text(const result<void>& r) {
  return r ? "ok" : std::string(name(r.error().code));
}
inline std::string text(const result<iova>& r) {
  return r ? hex(r->value) : std::string(name(r.error().code));
}

/// Ends the test case where a step that prepares it fails.
template <class T>
void must(const result<T>& r) {
  if (!r)
    throw std::runtime_error("a step of preparation failed: " + std::string(name(r.error().code)));
}

// --- Snapshot ------------------------------------------------------------------------------------

/// What shows of one area. Pages are named by the order in which they are met.
struct area_picture {
  iova_range where{};
  access_rights rights{};
  area_state state{};
  origin_kind kind{};
  user_address from{};
  std::size_t pages = 0;
  std::uint64_t pinned_pages = 0;
  std::uint64_t pin_calls = 0;
  bool filled = false;
  bool suspended = false;
  bool revoked = false;
  friend bool operator==(const area_picture&, const area_picture&) = default;
};
struct table_picture {
  std::vector<area_picture> areas;
  std::vector<iova_range> usable;
  std::uint64_t alignment = 0;
  bool large_pages = true;
  std::vector<std::size_t> domains;  // by number
  friend bool operator==(const table_picture&, const table_picture&) = default;
};
struct snapshot {
  std::vector<table_picture> tables;
  std::vector<std::vector<mock::domain::mapping>> domains;
  std::vector<bool> tracking;          // of each domain
  std::vector<std::uint64_t> pins;     // of every page of the memory that is watched
  std::uint64_t pinned_pages = 0;      // of all there is
  std::vector<std::uint64_t> charges;  // of each process, in each mode; and its pinned_vm
  friend bool operator==(const snapshot&, const snapshot&) = default;
};

inline std::string text(const area_picture& a) {
  std::ostringstream out;
  out << text(a.where) << " rights " << int(a.rights) << " state " << int(a.state) << " from "
      << hex(a.from.value) << " pages#" << a.pages << " pinned " << a.pinned_pages << " pin_calls "
      << a.pin_calls << (a.filled ? " filled" : "") << (a.suspended ? " suspended" : "")
      << (a.revoked ? " revoked" : "");
  return out.str();
}

/// Where two snapshots differ, in words; empty where they do not.
inline std::string difference(const snapshot& before, const snapshot& after) {
  std::ostringstream out;
  for (std::size_t t = 0; t < before.tables.size() && t < after.tables.size(); ++t) {
    const table_picture& a = before.tables[t];
    const table_picture& b = after.tables[t];
    if (a.areas != b.areas) {
      out << "areas of table " << t << " before:\n";
      for (const area_picture& each : a.areas) out << "  " << text(each) << '\n';
      out << "and after:\n";
      for (const area_picture& each : b.areas) out << "  " << text(each) << '\n';
    }
    if (a.usable != b.usable) out << "usable ranges of table " << t << '\n';
    if (a.alignment != b.alignment)
      out << "alignment " << a.alignment << " became " << b.alignment << '\n';
    if (a.large_pages != b.large_pages) out << "large pages\n";
    if (a.domains != b.domains) out << "domains of table " << t << '\n';
  }
  for (std::size_t d = 0; d < before.domains.size() && d < after.domains.size(); ++d) {
    if (before.tracking[d] != after.tracking[d]) out << "tracking of domain " << d << '\n';
    if (before.domains[d] == after.domains[d]) continue;
    for (const auto* side : {&before, &after}) {
      out << "domain " << d << (side == &before ? " before:\n" : " after:\n");
      for (const mock::domain::mapping& m : side->domains[d])
        out << "  " << text(m.range) << " -> " << hex(m.first.value) << " rights "
            << int(m.how.rights) << '\n';
    }
  }
  if (before.pinned_pages != after.pinned_pages)
    out << "pinned pages " << before.pinned_pages << " became " << after.pinned_pages << '\n';
  for (std::size_t n = 0; n < before.pins.size() && n < after.pins.size(); ++n) {
    if (before.pins[n] != after.pins[n])
      out << "pins of page " << n << ": " << before.pins[n] << " became " << after.pins[n] << '\n';
  }
  if (before.charges != after.charges) out << "charges\n";
  if (out.str().empty() && !(before == after)) out << "something\n";
  return out.str();
}

// --- World ---------------------------------------------------------------------------------------

/// world: tables, domains, a pinner and memory, all of which one fault_injector can make fail.
///
/// Ownership  Domains outlive tables, the pinner both. close() takes the tables down and says what is
///            left over that should not be.
template <class Kind>
class world {
 public:
  using domain_type = typename Kind::domain;
  using traits = typename Kind::traits;
  using table_type = io_pagetable<mock::pinner, domain_type, traits>;
  using access_type = access_object<mock::pinner, domain_type, traits>;
  static constexpr std::uint64_t page = traits::page_bytes;

  /// An access object that does nothing when it is told that an area goes.
  struct deaf_access : access_type {
    explicit deaf_access(bool pins_pages = true)
        : access_type([](void*, iova_range) {}, nullptr, pins_pages) {}
  };

  static constexpr bool can_split = splitting_domain<domain_type>;
  static constexpr bool can_protect = protecting_domain<domain_type>;
  static constexpr bool can_replace = replacing_domain<domain_type>;
  static constexpr bool can_track = dirty_tracking_domain<domain_type>;
  static constexpr bool can_gather_flushes = flushing_domain<domain_type>;

  /// Memory begins here in every process.
  static constexpr std::uint64_t memory_base = 64 * page;

  explicit world(std::uint64_t contiguity_bytes = mock::contiguity::contiguous)
      : pinner({.page_bytes = page, .contiguity_bytes = contiguity_bytes, .faults = &faults}) {
    processes.push_back(pinner.current());
    processes.push_back(pinner.create_process(1));
  }
  world(const world&) = delete;
  world& operator=(const world&) = delete;
  ~world() { tables.clear(); }

  mock::process owner(std::size_t n = 0) const { return processes[n]; }

  table_type& add_table() {
    tables.push_back(std::make_unique<table_type>(pinner, typename traits::memory(account)));
    return *tables.back();
  }
  table_type& table(std::size_t n = 0) {
    while (tables.size() <= n) add_table();
    return *tables[n];
  }

  /// Page sizes: the CPU's page, and the two that tables of that page have above it.
  static page_size_set usual_sizes() {
    return {page, page * (page / 8), page * (page / 8) * (page / 8)};
  }
  domain_type& add_domain(mock::domain_options options = {.page_sizes = usual_sizes()}) {
    options.faults = &faults;
    domains.push_back(std::make_unique<domain_type>(options));
    pinner.watch(inner(*domains.back()));
    return *domains.back();
  }
  /// Adds a domain and attaches it.
  domain_type& attach_domain(std::size_t n = 0) {
    domain_type& d = add_domain();
    must(table(n).attach(d));
    return d;
  }
  mock::domain& mock_of(std::size_t n) { return inner(*domains[n]); }

  /// Address of the n-th page of memory.
  static user_address at(std::uint64_t n) { return {memory_base + n * page}; }
  static iova io(std::uint64_t n) { return {n * page}; }
  static iova_range pages_at(std::uint64_t first, std::uint64_t count) {
    return iova_range::sized(io(first), count * page);
  }

  /// How many pages of each process, and of each file made with add_file(), a snapshot tells.
  std::uint64_t watched_pages = 64;
  mock::file add_file(std::uint64_t pages) {
    files.push_back(pinner.create_file(pages * page));
    return files.back();
  }

  snapshot look() {
    snapshot s;
    for (const auto& t : tables) s.tables.push_back(look(*t));
    for (const auto& d : domains) s.domains.push_back(inner(*d).contents());
    for (const auto& d : domains) s.tracking.push_back(inner(*d).is_tracking());
    for (const mock::process p : processes) {
      for (std::uint64_t n = 0; n < watched_pages; ++n) s.pins.push_back(pinner.pins(p, at(n)));
      for (const account_mode m :
           {account_mode::none, account_mode::user, account_mode::mm, account_mode::custom})
        s.charges.push_back(pinner.charged(p, m));
      s.charges.push_back(pinner.pinned_vm(p));
    }
    for (const mock::file f : files)
      for (std::uint64_t n = 0; n < watched_pages; ++n)
        s.pins.push_back(pinner.pins(pinner.frame_of(f, n * page)));
    s.pinned_pages = pinner.pinned_pages();
    return s;
  }

  /// The first invariant that does not hold: of a table, a domain or the pinner.
  std::string_view verify() const {
    for (const auto& t : tables)
      if (const std::string_view wrong = t->verify(); !wrong.empty()) return wrong;
    for (const auto& d : domains)
      if (const std::string_view wrong = inner(*d).verify(); !wrong.empty()) return wrong;
    return pinner.verify();
  }

  /// Takes the tables down. Empty, or what is left over.
  std::string_view close() {
    tables.clear();
    if (account.live_blocks() != 0) return "memory of the library is left over";
    if (pinner.pinned_pages() != 0) return "pages are still pinned";
    if (pinner.charged() != 0) return "pages are still charged";
    for (const auto& d : domains) {
      if (inner(*d).bytes_mapped() != 0) return "a domain still shows memory";
      if (inner(*d).unsynced_bytes() != 0) return "a domain was not flushed";
    }
    return pinner.verify();
  }

  mock::fault_injector faults;
  mock::memory_account account{&faults};
  mock::pinner pinner;
  std::vector<mock::process> processes;
  std::vector<mock::file> files;
  std::vector<std::unique_ptr<domain_type>> domains;
  std::vector<std::unique_ptr<table_type>> tables;

 private:
  table_picture look(const table_type& t) const {
    table_picture p;
    std::vector<std::uint64_t> ids;
    t.for_each_area([&](const area_info& a) {
      std::size_t n = 0;
      while (n < ids.size() && ids[n] != a.pages_id) ++n;
      if (n == ids.size()) ids.push_back(a.pages_id);
      p.areas.push_back({a.where, a.rights, a.state, a.kind, a.from, n, a.pinned_pages, a.pin_calls,
                         a.filled, a.suspended, a.revoked});
    });
    t.for_each_usable([&](iova_range r) { p.usable.push_back(r); });
    p.alignment = t.alignment();
    p.large_pages = t.large_pages();
    for (std::size_t n = 0; n < t.domain_count(); ++n) {
      std::size_t number = 0;
      while (domains[number].get() != &t.domain(n)) ++number;
      p.domains.push_back(number);
    }
    return p;
  }
};

/// The world of a rule that is the same for every kind.
using usual = world<kind<full_domain>>;

// --- Arguments -----------------------------------------------------------------------------------

inline constexpr access_rights rw = access_rights::read_write;
/// Takes the runs of a pin, where a test does not ask which they are.
inline constexpr auto no_frames = [](const run&) {};
/// A range by its two ends.
constexpr iova_range closed(std::uint64_t first, std::uint64_t last) { return {{first}, {last}}; }

}  // namespace iopt::test
