// tests/backends/real/model_test.cpp - an io_pagetable over what this machine has, against lists.
//
// Random maps, unmaps by every profile, cuts, copies, and two domains that come and go; after each step the
// outcome, the areas, the entries that each domain counts and those that the kernel counts are as the
// oracle has them, and pages picked at random are mapped or not as it says: to the right memory, where
// the kernel can be asked (IOMMU_TEST_OP_MD_CHECK_MAP). IOPT_DMA_ENTRY_LIMIT of examples/interpose,
// when it is low, makes containers run full.
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "examples/interpose/test_command.hpp"
#include "iopt/backends/real/real.hpp"
#include "iopt/core/io_pagetable.hpp"
#include "tests/backends/real_memory.hpp"
#include "tests/catch.hpp"

namespace {

using namespace iopt;
using iopt::access_rights;  // not that of unistd.h

constexpr std::uint64_t page = 4096;
constexpr std::uint64_t width = 128;          // pages of IOVA
constexpr std::uint64_t memory_pages = 160;   // of memory
constexpr std::uint64_t no_memory = 150;      // PROT_NONE
constexpr std::uint64_t read_only = 140;      // PROT_READ
constexpr iova base{std::uint64_t{1} << 24};  // where mock devices translate
constexpr errc fine{};

iova at_page(std::uint64_t n) { return base + n * page; }
iova_range pages(std::uint64_t first, std::uint64_t count) {
  return iova_range::sized(at_page(first), count * page);
}

// --- The machine -------------------------------------------------------------------------------

/// Two tables of the kernel to make domains of.
class machine {
 public:
  virtual ~machine() = default;
  virtual real::table table(std::size_t n) = 0;
  virtual std::size_t tables() const = 0;
  virtual bool pins() const = 0;  // and so refuses memory that is not there
  /// Whether the page at an IOVA is as it should be: mapped, if to `memory`.
  virtual bool shows(std::size_t n, iova at, std::optional<std::uint64_t> memory) = 0;
};

class containers : public machine {
 public:
  static std::unique_ptr<containers> open() {
    auto all = std::make_unique<containers>();
    for (const bool another : {false, true}) {
      const auto path = test::group_path(another);
      if (!path) break;
      auto opened = vfio_type1::container::open(path->c_str());
      if (!opened) break;
      all->containers_.push_back(std::move(*opened));
    }
    if (all->containers_.empty()) return nullptr;
    return all;
  }
  real::table table(std::size_t n) override {
    return real::table(*vfio_type1::container_table::open(containers_[n].descriptor()));
  }
  std::size_t tables() const override { return containers_.size(); }
  bool pins() const override { return true; }
  /// A map where something is, is refused; where nothing is, it is taken back. (A full container: who knows.)
  bool shows(std::size_t n, iova at, std::optional<std::uint64_t> memory) override {
    real::table t = table(n);
    static const test::real_memory spare(page);
    const iova_range r = iova_range::sized(at, page);
    const result<void> mapped = t.map(r, {spare.address()}, access_rights::read);
    if (mapped) return t.unmap(r) == page && !memory;
    if (mapped.error() == errc::no_space_on_device) return !memory;
    return mapped.error() == errc::file_exists && memory.has_value();
  }

 private:
  std::vector<vfio_type1::container> containers_;
};

class spaces : public machine {
 public:
  static std::unique_ptr<spaces> open() {
    auto opened = dev_iommu::address_space::open();
    if (!opened) return nullptr;
    auto all = std::make_unique<spaces>();
    all->iommufd_.emplace(std::move(*opened));
    all->ioas_ = {all->iommufd_->ioas(), all->iommufd_->another().value()};
    for (const std::uint32_t ioas : all->ioas_) {
      test::test_command c{};
      c.size = sizeof c;
      c.op = test::test_operation::mock_domain;
      c.id = ioas;
      if (host::call(all->iommufd_->descriptor(), 0x3b00U | test::test_number, &c))
        all->page_tables_.push_back(c.mock_domain.out_hw_pagetable);
    }
    return all;
  }
  real::table table(std::size_t n) override {
    return real::table(
        *dev_iommu::ioas_table::open(iommufd_->descriptor(), ioas_[n], {&shared_, nullptr}));
  }
  std::size_t tables() const override { return 2; }
  bool pins() const override { return page_tables_.size() == 2; }
  bool shows(std::size_t n, iova at, std::optional<std::uint64_t> memory) override {
    if (!pins()) return true;
    test::test_command c{};
    c.size = sizeof c;
    c.op = test::test_operation::check_map;
    c.id = page_tables_[n];
    static const test::real_memory spare(page);
    *spare.page(0) = std::byte{1};
    c.check_map = {at.value, page, memory.value_or(spare.address())};
    return host::call(iommufd_->descriptor(), 0x3b00U | test::test_number, &c).has_value() ==
           memory.has_value();
  }

 private:
  std::optional<dev_iommu::address_space> iommufd_;
  std::array<std::uint32_t, 2> ioas_{};
  std::vector<std::uint32_t> page_tables_;
  dev_iommu::sharing shared_;
};

// --- The oracle --------------------------------------------------------------------------------

struct area {
  std::uint64_t first, count, memory;  // in pages
  access_rights rights;
  bool writable;  // the memory was mapped with write at first
  iova_range where() const { return pages(first, count); }
  std::uint64_t end() const { return first + count; }
};

struct oracle {
  std::vector<area> areas;  // in order
  std::vector<std::size_t> attached;
  granular::options how;
  std::array<std::optional<std::uint64_t>, 2> limits;
  bool pins = true;

  std::uint64_t entries() const {
    std::uint64_t sum = 0;
    for (const area& a : areas) sum += how.pieces.count(a.where());
    return sum;
  }
  bool touches(std::uint64_t first, std::uint64_t count) const {
    return std::any_of(areas.begin(), areas.end(),
                       [&](const area& a) { return a.first < first + count && first < a.end(); });
  }
  /// What filling an area into a domain answers, where it has `used` entries.
  errc fill(const area& a, std::size_t domain, std::uint64_t used) const {
    if (limits[domain] && used + how.pieces.count(a.where()) > *limits[domain])
      return errc::no_space_on_device;
    if (!pins) return fine;
    for (std::uint64_t n = a.memory; n < a.memory + a.count; ++n)
      if (n == no_memory || (n == read_only && allows(a.rights, access_rights::write)))
        return errc::bad_address;
    return fine;
  }
  /// New areas, all or none.
  errc add(const std::vector<area>& fresh) {
    std::uint64_t used = entries();
    for (const area& a : fresh) {
      for (const std::size_t d : attached)
        if (const errc e = fill(a, d, used); e != fine) return e;
      used += how.pieces.count(a.where());
    }
    areas.insert(areas.end(), fresh.begin(), fresh.end());
    std::sort(areas.begin(), areas.end(),
              [](const area& a, const area& b) { return a.first < b.first; });
    return fine;
  }
  errc map(const area& a) {
    if (touches(a.first, a.count)) return errc::file_exists;
    return add({a});
  }
  errc copy(std::uint64_t from, std::uint64_t count, access_rights rights, std::uint64_t to) {
    std::vector<area> fresh;
    std::uint64_t at = from;
    for (const area& a : areas) {
      if (a.end() <= at || at == from + count) continue;
      if (a.first > at) return errc::no_such_file_or_directory;
      const std::uint64_t part = std::min(a.end(), from + count) - at;
      fresh.push_back({to + (at - from), part, a.memory + (at - a.first), rights, a.writable});
      at += part;
    }
    if (at != from + count) return errc::no_such_file_or_directory;
    if (touches(to, count)) return errc::file_exists;
    if (allows(rights, access_rights::write))
      for (const area& a : fresh)
        if (!a.writable) return errc::operation_not_permitted;
    return add(fresh);
  }
  errc attach(std::size_t domain) {
    std::uint64_t used = 0;
    for (const area& a : areas) {
      if (const errc e = fill(a, domain, used); e != fine) return e;
      used += how.pieces.count(a.where());
    }
    attached.push_back(domain);
    return fine;
  }
  /// Cuts before `at`, if that is inside an area. False: it may not.
  bool may_cut(std::uint64_t at) const {
    for (const area& a : areas)
      if (a.first < at && at < a.end())
        return attached.empty() || how.inside == granular::inside_piece::unmap_and_remap ||
               how.pieces.begins_at(a.where(), at_page(at));
    return true;
  }
  bool cuts(std::uint64_t at) const {
    return std::any_of(areas.begin(), areas.end(),
                       [&](const area& a) { return a.first < at && at < a.end(); });
  }
  void cut(std::uint64_t at) {
    for (std::size_t n = 0; n < areas.size(); ++n) {
      area& a = areas[n];
      if (!(a.first < at && at < a.end())) continue;
      area right = a;
      right.first = at;
      right.count = a.end() - at;
      right.memory = a.memory + (at - a.first);
      a.count = at - a.first;
      areas.insert(areas.begin() + static_cast<std::ptrdiff_t>(n) + 1, right);
      return;
    }
  }
  struct answer {
    std::uint64_t pages = 0;
    errc error = fine;
  };
  answer unmap(std::uint64_t first, std::uint64_t count, unmap_profile profile) {
    const std::uint64_t end = first + count;
    const bool bisects = cuts(first) || cuts(end);
    constexpr errc missing = errc::no_such_file_or_directory;
    answer a;
    switch (profile) {
      case unmap_profile::type1_v1: {
        // What begins inside goes whole, unless the walk stops at one that began before.
        if (cuts(first)) return a;
        for (auto each = areas.begin(); each != areas.end();) {
          if (each->first < first || each->first >= end) {
            ++each;
            continue;
          }
          a.pages += each->count;
          each = areas.erase(each);
        }
        return a;
      }
      case unmap_profile::type1_v2:
        if (bisects) return {0, errc::invalid_argument};
        break;
      case unmap_profile::virtio_iommu:
        if (bisects) return {0, errc::result_out_of_range};
        break;
      case unmap_profile::exact: {
        const bool there = std::any_of(areas.begin(), areas.end(), [&](const area& each) {
          return each.first == first && each.count == count;
        });
        if (!there) return {0, missing};
        break;
      }
      case unmap_profile::iommufd:
      case unmap_profile::iommufd_compat_v1:  // with large pages on, as they are
      case unmap_profile::iommufd_compat_v2:
        if (profile == unmap_profile::iommufd && !touches(first, count)) return {0, missing};
        for (auto each = areas.begin(); each != areas.end();) {
          if (each->end() <= first || each->first >= end) {
            ++each;
            continue;
          }
          if (each->first < first || each->end() > end) {
            a.error = missing;
            return a;
          }
          a.pages += each->count;
          each = areas.erase(each);
        }
        return a;
      case unmap_profile::hole_punching:
        if (!may_cut(first) || !may_cut(end)) return {0, errc::invalid_argument};
        break;
    }
    cut(first);
    cut(end);
    std::erase_if(areas, [&](const area& each) {
      if (each.first < first || each.end() > end) return false;
      a.pages += each.count;
      return true;
    });
    return a;
  }
};

// --- The two side by side ----------------------------------------------------------------------

template <class T>
errc code(const result<T>& r) {
  return r ? fine : r.error().code;
}

struct counts {
  std::uint64_t good = 0, full = 0, faults = 0, holes = 0, refused_holes = 0, copies = 0,
                attached = 0;
};

void run(machine& m, granular::options how, std::uint64_t seed, int steps, counts& seen) {
  std::mt19937_64 random(seed);
  test::real_memory memory(memory_pages * page);
  REQUIRE(::mprotect(memory.page(no_memory), page, PROT_NONE) == 0);
  REQUIRE(::mprotect(memory.page(read_only), page, PROT_READ) == 0);
  real::pinner pinner;
  std::vector<std::unique_ptr<real::domain>> domains;
  oracle o{{}, {}, how, {}, m.pins()};
  for (std::size_t n = 0; n < m.tables(); ++n) {
    domains.push_back(std::make_unique<real::domain>(m.table(n), how));
    o.limits[n] = domains[n]->entries_left();
  }
  {
    io_pagetable<real::pinner, real::domain> table(pinner);
    for (int step = 0; step < steps; ++step) {
      CAPTURE(seed, step);
      const std::uint64_t first = random() % width;
      const std::uint64_t count = 1 + random() % std::min<std::uint64_t>(32, width - first);
      const access_rights rights =
          random() % 3 == 0 ? access_rights::read : access_rights::read_write;
      std::string what;
      errc expected = fine, got = fine;
      switch (random() % 14) {
        case 0:
        case 1:
        case 2:
        case 3:
        case 4: {
          what = "map";
          const std::uint64_t from =
              random() % (random() % 4 == 0 ? memory_pages - count : read_only - count);
          expected = o.map({first, count, from, rights, allows(rights, access_rights::write)});
          got = code(table.map(memory.at(from), count * page, rights, at_page(first)));
          break;
        }
        case 5:
        case 6: {
          what = "copy";
          std::uint64_t from = first, length = count;
          if (random() % 4 != 0 && !o.areas.empty()) {  // a part of something
            const area& a = o.areas[random() % o.areas.size()];
            from = a.first + random() % a.count;
            length = 1 + random() % (a.end() - from);
          }
          const std::uint64_t to = random() % (width - length + 1);
          expected = o.copy(from, length, rights, to);
          got = code(table.copy(table, pages(from, length), rights, at_page(to)));
          seen.copies += got == fine;
          break;
        }
        case 7: {
          what = "cut";
          const bool may = o.may_cut(first), cuts = o.cuts(first);
          expected = may ? fine : errc::invalid_argument;
          if (may) o.cut(first);
          got = code(table.cut(at_page(first) - 1));
          seen.holes += cuts && may;
          break;
        }
        case 8: {
          const std::size_t n = random() % m.tables();
          const auto there = std::find(o.attached.begin(), o.attached.end(), n);
          what = there == o.attached.end() ? "attach" : "detach";
          if (there == o.attached.end()) {
            expected = o.attach(n);
            got = code(table.attach(*domains[n]));
            seen.attached += got == fine;
          } else if (random() % 3 == 0) {
            o.attached.erase(there);
            REQUIRE(table.detach(*domains[n]));
          }
          break;
        }
        default: {
          const unmap_profile profile = unmap_profiles[random() % unmap_profiles.size()];
          what = "unmap " + std::string(name(profile));
          // Half of them know what is there.
          std::uint64_t from = first, length = count;
          if (random() % 2 == 0 && !o.areas.empty()) {
            const area& a = o.areas[random() % o.areas.size()];
            from = a.first + (random() % 2 == 0 ? a.count / 2 : 0);
            length = a.end() - from;
          }
          const oracle::answer said = o.unmap(from, length, profile);
          const unmap_report report = table.unmap(at_page(from), length * page, profile);
          expected = said.error;
          got = code(report.outcome);
          if (report.bytes != said.pages * page)
            FAIL(what << ": " << report.bytes / page << " pages went, and not " << said.pages);
          if (profile == unmap_profile::hole_punching)
            ++(got == fine ? seen.holes : seen.refused_holes);
        }
      }
      if (got != expected) FAIL(what << ": " << name(got) << ", and not " << name(expected));
      seen.good += got == fine;
      seen.full += got == errc::no_space_on_device;
      seen.faults += got == errc::bad_address;

      std::size_t n = 0;
      table.for_each_area([&](const area_info& a) {
        if (n >= o.areas.size() || a.where != o.areas[n].where() ||
            a.from != memory.at(o.areas[n].memory) || a.rights != o.areas[n].rights)
          FAIL(what << ": another area " << n);
        ++n;
      });
      REQUIRE(n == o.areas.size());
      for (std::size_t d = 0; d < domains.size(); ++d) {
        const bool there = std::find(o.attached.begin(), o.attached.end(), d) != o.attached.end();
        const std::uint64_t entries = there ? o.entries() : 0;
        if (domains[d]->entries() != entries || domains[d]->poisoned())
          FAIL(what << ": " << domains[d]->entries() << " entries, and not " << entries);
        if (o.limits[d] && domains[d]->entries_left() != *o.limits[d] - entries)
          FAIL(what << ": the kernel counts other entries");
        if (step % 64 == 0 && !domains[d]->verify().empty()) FAIL(domains[d]->verify());
        for (int probe = 0; probe < 2; ++probe) {
          const std::uint64_t at = random() % width;
          std::optional<std::uint64_t> shown;
          for (const area& a : o.areas)
            if (there && a.first <= at && at < a.end())
              shown = memory.at(a.memory + (at - a.first)).value;
          if (!m.shows(d, at_page(at), shown)) FAIL(what << ": page " << at << " of domain " << d);
        }
      }
      if (step % 64 == 0 && !table.verify().empty()) FAIL(table.verify());
    }
  }
  for (std::size_t d = 0; d < domains.size(); ++d) {
    CHECK(domains[d]->entries() == 0);
    CHECK(domains[d]->entries_left() == o.limits[d]);
  }
}

void run_all(machine& m, bool may_remap) {
  int steps = 3000;
  if (const char* said = std::getenv("IOPT_MODEL_STEPS")) steps = std::atoi(said);
  const std::vector<granular::options> all = {
      {granules::whole()},
      {granules::fixed(page)},
      {granules::fixed(8 * page)},
      {granules::power_of_two(16 * page)},
      {.pieces = granules::whole(), .inside = granular::inside_piece::unmap_and_remap},
      {.pieces = granules::power_of_two(), .inside = granular::inside_piece::unmap_and_remap}};
  counts seen;
  for (std::size_t n = 0; n < all.size(); ++n) {
    CAPTURE(n);
    // Where a remap runs out of entries half way, entries stay smaller than areas: not modelled.
    if (all[n].inside == granular::inside_piece::unmap_and_remap && !may_remap) continue;
    run(m, all[n], 40 + n, steps, seen);
  }
  std::printf(
      "%llu steps went well, %llu faulted, %llu were full; %llu holes and cuts, %llu refused; "
      "%llu copies, %llu attached\n",
      static_cast<unsigned long long>(seen.good), static_cast<unsigned long long>(seen.faults),
      static_cast<unsigned long long>(seen.full), static_cast<unsigned long long>(seen.holes),
      static_cast<unsigned long long>(seen.refused_holes),
      static_cast<unsigned long long>(seen.copies), static_cast<unsigned long long>(seen.attached));
  CHECK(seen.holes > 0);
  CHECK(seen.copies > 0);
  CHECK(seen.attached > 0);
}

TEST_CASE("an io_pagetable over containers does what the oracle does", "[model]") {
  const auto m = containers::open();
  if (!m) return test::skipped("no group below /dev/vfio that can be used");
  const auto limit = m->table(0).entries_left();
  run_all(*m, !limit || *limit > 1000);
}

TEST_CASE("an io_pagetable over address spaces does what the oracle does", "[model]") {
  const auto m = spaces::open();
  if (!m) return test::skipped("no /dev/iommu, or no right to it");
  run_all(*m, true);
}

}  // namespace
