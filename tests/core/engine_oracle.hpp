// tests/core/engine_oracle.hpp - what the engine should do, written as naively as can be.
//
// Lists of areas that are searched from end to end, a map of the frames of every pages object, and
// the rules of semantics 1 to 4 spelt out call by call. It shares nothing with the engine but the
// names of errors, and asks the mock pinner where a page of memory is.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "tests/core/engine_fixture.hpp"

namespace iopt::test {

inline constexpr errc no_error{};

inline std::string text(errc code) {
  return code == no_error ? std::string("ok") : std::string(name(code));
}

/// Pages, as the oracle sees them.
struct oracle_pages {
  origin_kind kind{};
  std::uint32_t source = 0;  // the process, file or exporter
  mock::process owner{};
  account_mode mode{};
  std::uint64_t start = 0;
  std::uint64_t count = 0;
  bool writable = false;
  bool revoked = false;
  std::map<std::uint64_t, physical> frames;  // of the pages that somebody holds
  std::map<std::pair<std::uint64_t, std::uint64_t>, int> pins;
};

struct oracle_area {
  iova_range where{};
  std::shared_ptr<oracle_pages> pages;
  std::uint64_t start = 0;  // the byte of the pages that where.first shows
  access_rights rights{};
  bool suspended = false;
  bool filled = false;
  int pins = 0;

  std::uint64_t byte(iova at) const { return start + (at.value - where.first.value); }
};

struct oracle_reservation {
  iova_range range{};
  const void* owner = nullptr;
};

struct oracle_table {
  std::vector<oracle_area> areas;  // in order
  std::vector<oracle_reservation> reserved;
  std::vector<iova_range> allowed;
  std::vector<std::size_t> domains;
  std::set<std::size_t> tracking;
  bool large = true;
};

/// An access object: where it is attached, and what it has pinned.
struct oracle_user {
  std::optional<std::size_t> table;
  std::vector<iova_range> pins;
  bool stubborn = false;  // does not let go
};

/// What a map shows.
struct oracle_memory {
  origin_kind kind{};
  std::uint32_t source = 0;
  mock::process owner{};
  account_mode mode{};
  std::uint64_t from = 0;
};

struct oracle_report {
  std::uint64_t bytes = 0;
  std::uint64_t areas = 0;
  errc error = no_error;
};

template <class Kind>
class oracle {
 public:
  using world_type = world<Kind>;
  static constexpr std::uint64_t page = world_type::page;

  explicit oracle(world_type& w) : world_(w), tables(2), users(2) {}

  // --- What is where -----------------------------------------------------------------------------

  std::uint64_t alignment(std::size_t t) const {
    std::uint64_t a = tables[t].large ? 1 : page;
    for (const std::size_t d : tables[t].domains)
      a = std::max(a, inner(*world_.domains[d]).page_sizes().smallest());
    for (const oracle_user& u : users)
      if (u.table == t) a = std::max(a, page);
    return a;
  }
  const oracle_area* at(std::size_t t, iova v) const {
    for (const oracle_area& a : tables[t].areas)
      if (a.where.contains(v)) return &a;
    return nullptr;
  }
  oracle_area* at(std::size_t t, iova v) {
    return const_cast<oracle_area*>(std::as_const(*this).at(t, v));
  }
  std::vector<oracle_pages*> all_pages() const {
    std::vector<oracle_pages*> all;
    for (const oracle_table& t : tables)
      for (const oracle_area& a : t.areas) all.push_back(a.pages.get());
    std::sort(all.begin(), all.end());
    all.erase(std::unique(all.begin(), all.end()), all.end());
    return all;
  }
  std::uint64_t charged(mock::process owner, account_mode mode) const {
    std::uint64_t sum = 0;
    for (const oracle_pages* p : all_pages())
      if (p->kind != origin_kind::device && p->owner == owner && p->mode == mode)
        sum += p->frames.size();
    return sum;
  }

  // --- Memory ------------------------------------------------------------------------------------

  /// The page of a process's memory that cannot be had; and what cannot be written.
  std::set<std::pair<std::uint32_t, std::uint64_t>> missing;
  std::set<std::pair<std::uint32_t, std::uint64_t>> read_only;
  std::map<std::uint32_t, std::uint64_t> file_pages;
  bool device_revoked = false;
  std::map<std::uint32_t, std::uint64_t> limits;  // of a process, in mode user

  physical frame(const oracle_pages& p, std::uint64_t index) const {
    const std::uint64_t byte = p.start + index * page;
    if (p.kind == origin_kind::user)
      return world_.pinner.frame_of(mock::process{p.source}, user_address{byte});
    if (p.kind == origin_kind::file) return world_.pinner.frame_of(mock::file{p.source}, byte);
    return world_.pinner.frame_of(mock::exporter{p.source}, byte);
  }

  /// Makes somebody hold pages [first, last]: pins what nobody held.
  errc hold(oracle_pages& p, std::uint64_t first, std::uint64_t last) {
    if (p.kind == origin_kind::device) {
      if (device_revoked) return errc::no_such_device;
      for (std::uint64_t n = first; n <= last; ++n) p.frames[n] = frame(p, n);
      return no_error;
    }
    std::vector<std::uint64_t> fresh;
    for (std::uint64_t n = first; n <= last; ++n) {
      if (p.frames.contains(n)) continue;
      const std::uint64_t number = p.start / page + n;
      if (p.kind == origin_kind::file) {
        if (number >= file_pages[p.source]) return errc::invalid_argument;
      } else if (missing.contains({p.source, number}) ||
                 (p.writable && read_only.contains({p.source, number}))) {
        return errc::bad_address;
      }
      fresh.push_back(n);
    }
    if (const auto limit = limits.find(p.owner.id);
        limit != limits.end() && p.mode == account_mode::user && !fresh.empty() &&
        charged(p.owner, p.mode) + fresh.size() > limit->second)
      return errc::not_enough_memory;
    for (const std::uint64_t n : fresh) p.frames[n] = frame(p, n);
    return no_error;
  }

  /// Drops the frames that nobody holds any more.
  void settle() {
    std::map<oracle_pages*, std::set<std::uint64_t>> held;
    for (const oracle_table& t : tables) {
      for (const oracle_area& a : t.areas) {
        std::set<std::uint64_t>& set = held[a.pages.get()];
        if (a.filled)
          for (std::uint64_t n = first_page(a); n <= last_page(a); ++n) set.insert(n);
      }
    }
    for (auto& [p, set] : held) {
      for (const auto& [range, users_of] : p->pins)
        for (std::uint64_t n = range.first; n <= range.second; ++n) set.insert(n);
      std::erase_if(p->frames, [&](const auto& f) { return !set.contains(f.first); });
    }
  }

  static std::uint64_t first_page(const oracle_area& a) { return a.start / page; }
  static std::uint64_t last_page(const oracle_area& a) { return a.byte(a.where.last) / page; }

  errc fill(std::size_t t, oracle_area& a) {
    if (tables[t].domains.empty() || a.pages->revoked) return no_error;
    const errc e = hold(*a.pages, first_page(a), last_page(a));
    if (e == no_error) a.filled = true;
    return e;
  }

  // --- Mapping -----------------------------------------------------------------------------------

  struct element {
    std::shared_ptr<oracle_pages> pages;
    std::uint64_t start = 0;
    std::uint64_t length = 0;
    access_rights rights{};
  };

  errc map(std::size_t t, const oracle_memory& m, std::uint64_t length, access_rights rights,
           std::optional<iova> where, iova& mapped) {
    if (length == 0 || length > top - page) return errc::invalid_argument;
    if (length > top - m.from) return errc::value_too_large;
    const element e = fresh(m, length, rights);
    return place(t, {e}, m.from, length, where, mapped);
  }

  element fresh(const oracle_memory& m, std::uint64_t length, access_rights rights) const {
    auto p = std::make_shared<oracle_pages>();
    p->kind = m.kind, p->source = m.source, p->owner = m.owner;
    p->mode = m.kind == origin_kind::device ? account_mode::none : m.mode;
    p->start = m.from / page * page;
    p->count = (m.from % page + length + page - 1) / page;
    p->writable = allows(rights, access_rights::write);
    return {p, m.from % page, length, rights};
  }

  errc copy(std::size_t t, std::size_t from_table, iova_range from, access_rights rights,
            std::optional<iova> where, iova& mapped) {
    std::vector<element> list;
    std::uint64_t hint = 0;
    for (iova next = from.first;;) {
      const oracle_area* a = at(from_table, next);
      if (a == nullptr) return errc::no_such_file_or_directory;
      const iova last = std::min(a->where.last, from.last);
      if (list.empty()) hint = a->pages->start + a->byte(next);
      list.push_back({a->pages, a->byte(next), last - next + 1, rights});
      if (last == from.last) break;
      next = last + 1;
    }
    return place(t, list, hint, from.length(), where, mapped);
  }

  errc place(std::size_t t, const std::vector<element>& list, std::uint64_t hint,
             std::uint64_t length, std::optional<iova> where, iova& mapped) {
    const std::uint64_t a = alignment(t);
    if (length % a != 0) return errc::invalid_argument;
    if (where) {
      if (where->value % a != 0) return errc::invalid_argument;
      if (length - 1 > top - where->value) return errc::value_too_large;
      const iova_range r = iova_range::sized(*where, length);
      for (const oracle_reservation& each : tables[t].reserved)
        if (each.range.overlaps(r)) return errc::invalid_argument;
      for (const oracle_area& each : tables[t].areas)
        if (each.where.overlaps(r)) return errc::file_exists;
    } else {
      const errc e = choose(t, hint, length, where);
      if (e != no_error) return e;
    }
    std::vector<oracle_area> made;
    iova next = *where;
    for (std::size_t n = 0; n < list.size(); ++n) {
      const element& e = list[n];
      if (allows(e.rights, access_rights::write) && !e.pages->writable)
        return errc::operation_not_permitted;
      if (e.start % page % a != 0 || next.value % a != 0) return errc::invalid_argument;
      made.push_back({iova_range::sized(next, e.length), e.pages, e.start, e.rights});
      if (n + 1 < list.size()) next += e.length;
    }
    // Elements are filled and charged one by one; where one fails, none stays.
    std::vector<oracle_area> before = tables[t].areas;
    for (const oracle_area& each : made) tables[t].areas.push_back(each);
    sort(t);
    for (const oracle_area& each : made) {
      const errc e = fill(t, *at(t, each.where.first));
      if (e == no_error) continue;
      // The frames of the elements before are dropped by settle(), also those of fresh pages.
      tables[t].areas = before;
      for (const oracle_area& gone : made) drop_if_unheld(*gone.pages);
      return e;
    }
    mapped = *where;
    return no_error;
  }

  errc choose(std::size_t t, std::uint64_t hint, std::uint64_t length,
              std::optional<iova>& chosen) const {
    std::uint64_t want = 1;
    while (want < length) want *= 2;
    if (hint != 0) want = std::min(want, hint & (~hint + 1));
    want = std::min<std::uint64_t>(want, Kind::traits::huge_page_bytes);
    if (want < alignment(t)) return errc::invalid_argument;
    const auto fits = [&](iova_range hole) -> std::optional<iova> {
      if (hole.first.value > top - (want - 1)) return std::nullopt;
      const std::uint64_t first = ((hole.first.value + want - 1) / want * want) | (hint % page);
      if (first >= hole.last.value || hole.last.value - first < length - 1) return std::nullopt;
      return iova{first};
    };
    const iova_range all{{page}, {top - page}};
    std::vector<iova_range> windows{all};
    if (!tables[t].allowed.empty()) windows = joined(tables[t].allowed, all);
    std::vector<iova_range> used;
    for (const oracle_reservation& r : tables[t].reserved) used.push_back(r.range);
    for (const oracle_area& a : tables[t].areas) used.push_back(a.where);
    for (iova_range window : windows) {
      const std::optional<iova> start = fits(window);
      if (!start) continue;
      // Without a list of allowed ranges the whole space is searched as it is.
      if (!tables[t].allowed.empty()) window.first = *start;
      iova next = window.first;
      bool room = true;
      for (const iova_range taken : joined(used, window)) {
        if (taken.first > next) {
          chosen = fits({next, taken.first - 1});
          if (chosen) return no_error;
        }
        room = taken.last < window.last;
        if (!room) break;
        next = taken.last + 1;
      }
      if (room) chosen = fits({next, window.last});
      if (chosen) return no_error;
    }
    return errc::no_space_on_device;
  }

  // --- Unmapping ---------------------------------------------------------------------------------

  oracle_report unmap(std::size_t t, iova first, std::uint64_t length, unmap_profile profile) {
    oracle_report report;
    using enum unmap_profile;
    if (length == 0) return {0, 0, errc::invalid_argument};
    if (length - 1 > top - first.value) {
      switch (profile) {
        case type1_v1:
        case type1_v2: return {0, 0, errc::invalid_argument};
        case virtio_iommu: return {0, 0, errc::result_out_of_range};
        case exact: return {0, 0, errc::no_such_file_or_directory};
        default: return {0, 0, errc::value_too_large};
      }
    }
    const iova_range r = iova_range::sized(first, length);
    errc there = no_error;  // on an area that sticks out, when it is met
    switch (profile) {
      case type1_v1: break;
      case type1_v2:
      case virtio_iommu:
        for (const oracle_area& a : tables[t].areas)
          if (a.where.overlaps(r) && !r.contains(a.where))
            return {0, 0, profile == type1_v2 ? errc::invalid_argument : errc::result_out_of_range};
        break;
      case exact: {
        const oracle_area* a = at(t, r.first);
        if (a == nullptr || a->where != r) return {0, 0, errc::no_such_file_or_directory};
        break;
      }
      case iommufd:
      case iommufd_compat_v2: there = errc::no_such_file_or_directory; break;
      case iommufd_compat_v1:
        there = errc::no_such_file_or_directory;
        if (!tables[t].large) {
          const errc e = cut_ends(t, r, cut_rule::as_iommufd);
          if (e != no_error) return {0, 0, e};
        }
        break;
      case hole_punching: {
        const errc e = cut_ends(t, r);
        if (e != no_error) return {0, 0, e};
        break;
      }
    }
    for (iova next = r.first;;) {
      oracle_area* a = nullptr;
      for (oracle_area& each : tables[t].areas) {
        if (!each.where.overlaps({next, r.last})) continue;
        a = &each;
        break;
      }
      if (a == nullptr) break;
      if (!r.contains(a->where)) {
        if (profile != type1_v1) {
          report.error = there;
          break;
        }
        if (a->where.first < r.first) break;
      }
      const iova_range gone = a->where;
      if (a->pins != 0) notify(t, gone);
      a = at(t, gone.first);
      if (a->pins != 0) {
        report.error = errc::resource_deadlock_would_occur;
        break;
      }
      report.bytes += gone.length_minus_one() + 1;
      ++report.areas;
      erase(t, gone);
      if (gone.last >= r.last) break;
      next = gone.last + 1;
    }
    if (report.error == no_error && report.areas == 0 && profile == iommufd)
      report.error = errc::no_such_file_or_directory;
    return report;
  }

  /// Every user of the table that lets go, lets go of what it pinned in the range.
  void notify(std::size_t t, iova_range gone) {
    for (std::size_t u = 0; u < users.size(); ++u) {
      if (users[u].table != t || users[u].stubborn) continue;
      for (std::size_t n = 0; n < users[u].pins.size();) {
        if (users[u].pins[n].overlaps(gone)) {
          unpin(u, n);
        } else {
          ++n;
        }
      }
    }
  }

  // --- Cutting, changing -------------------------------------------------------------------------

  errc may_cut(std::size_t t, iova last, cut_rule rule) const {
    const oracle_area* a = at(t, last);
    if (a == nullptr || a->where.last == last) return no_error;
    if (rule == cut_rule::as_iommufd && a->where.first == last) return no_error;
    const std::uint64_t align = alignment(t);
    if ((last.value + 1) % align != 0 || a->byte(last + 1) % align != 0 || a->pins != 0)
      return errc::invalid_argument;
    if (a->filled && tables[t].large && (rule == cut_rule::as_iommufd || !world_type::can_split))
      return errc::invalid_argument;
    return no_error;
  }
  void cut_at(std::size_t t, iova last, cut_rule rule) {
    oracle_area* a = at(t, last);
    if (a == nullptr || a->where.last == last) return;
    if (rule == cut_rule::as_iommufd && a->where.first == last) return;
    oracle_area right = *a;
    right.where.first = last + 1;
    right.start = a->byte(last + 1);
    a->where.last = last;
    tables[t].areas.push_back(right);
    sort(t);
  }
  errc cut(std::size_t t, iova last, cut_rule rule) {
    const errc e = may_cut(t, last, rule);
    if (e == no_error) cut_at(t, last, rule);
    return e;
  }
  errc cut_ends(std::size_t t, iova_range r, cut_rule rule = cut_rule::split) {
    errc e = may_cut(t, r.last, rule);
    if (e == no_error && r.first.value != 0) e = may_cut(t, r.first - 1, rule);
    if (e != no_error) return e;
    cut_at(t, r.last, rule);
    if (r.first.value != 0) cut_at(t, r.first - 1, rule);
    return no_error;
  }
  bool covered(std::size_t t, iova_range r) const {
    for (iova next = r.first;;) {
      const oracle_area* a = at(t, next);
      if (a == nullptr) return false;
      if (a->where.last >= r.last) return true;
      next = a->where.last + 1;
    }
  }
  template <class F>
  void in_range(std::size_t t, iova_range r, F f) {
    for (oracle_area& a : tables[t].areas)
      if (a.where.overlaps(r)) f(a);
  }

  errc protect(std::size_t t, iova_range r, access_rights rights) {
    if (!covered(t, r)) return errc::no_such_file_or_directory;
    errc e = no_error;
    in_range(t, r, [&](oracle_area& a) {
      if (allows(rights, access_rights::write) && !a.pages->writable)
        e = errc::operation_not_permitted;
    });
    if (e != no_error) return e;
    const std::vector<oracle_area> before = tables[t].areas;
    e = cut_ends(t, r);
    if (e == no_error && !tables[t].domains.empty() && !world_type::can_protect)
      e = errc::operation_not_supported;
    if (e != no_error) {
      tables[t].areas = before;
      return e;
    }
    in_range(t, r, [&](oracle_area& a) { a.rights = rights; });
    return no_error;
  }

  errc remap(std::size_t t, iova_range r, const oracle_memory& m, access_rights rights) {
    if (r.length() > top - m.from) return errc::value_too_large;
    if (!covered(t, r)) return errc::no_such_file_or_directory;
    const std::uint64_t a = alignment(t);
    if (r.first.value % a != 0 || (r.last.value + 1) % a != 0 || m.from % page % a != 0)
      return errc::invalid_argument;
    if (!tables[t].domains.empty() && !world_type::can_replace)
      return errc::operation_not_supported;
    errc e = no_error;
    in_range(t, r, [&](oracle_area& each) {
      if (each.pins != 0 || each.suspended || each.pages->kind == origin_kind::device)
        e = errc::device_or_resource_busy;
    });
    if (e != no_error) return e;
    const std::vector<oracle_area> before = tables[t].areas;
    e = cut_ends(t, r);
    const element fresh_one = fresh(m, r.length(), rights);
    oracle_area made{r, fresh_one.pages, fresh_one.start, rights};
    if (e == no_error) e = fill(t, made);
    if (e != no_error) {
      tables[t].areas = before;
      return e;
    }
    std::erase_if(tables[t].areas, [&](const oracle_area& each) { return r.contains(each.where); });
    tables[t].areas.push_back(made);
    sort(t);
    return no_error;
  }

  errc suspend(std::size_t t, iova_range r) {
    errc e = no_error;
    bool any = false;
    in_range(t, r, [&](oracle_area& a) {
      any = true;
      if (e == no_error && !r.contains(a.where)) e = errc::no_such_file_or_directory;
      if (e == no_error && a.suspended) e = errc::invalid_argument;
    });
    if (!any) e = errc::no_such_file_or_directory;
    if (e == no_error) in_range(t, r, [&](oracle_area& a) { a.suspended = true; });
    return e;
  }
  errc resume(std::size_t t, iova_range r, const oracle_memory& m) {
    oracle_area* a = nullptr;
    in_range(t, r, [&](oracle_area& each) { a = a == nullptr ? &each : a; });
    if (a == nullptr) return errc::no_such_file_or_directory;
    if (a->where != r || !a->suspended || m.from % page != a->start % page || m.from < a->start ||
        (a->pages->kind == origin_kind::device) != (m.kind == origin_kind::device))
      return errc::invalid_argument;
    oracle_pages& p = *a->pages;
    // Device memory has no owner who could move it.
    if (p.kind == origin_kind::device && (p.source != m.source || p.owner != m.owner ||
                                          p.mode != m.mode || p.start != m.from - a->start))
      return errc::invalid_argument;
    if (p.owner != m.owner || p.mode != m.mode) {
      if (const auto limit = limits.find(m.owner.id);
          limit != limits.end() && m.mode == account_mode::user && !p.frames.empty() &&
          charged(m.owner, m.mode) + p.frames.size() > limit->second)
        return errc::not_enough_memory;
    }
    p.kind = m.kind, p.source = m.source, p.owner = m.owner, p.mode = m.mode;
    p.start = m.from - a->start;
    a->suspended = false;
    return no_error;
  }
  /// Of the tables [first, last].
  errc change_owner(std::size_t first, std::size_t last, mock::process owner) {
    std::set<std::shared_ptr<oracle_pages>> moving;
    std::uint64_t extra = 0;
    for (std::size_t t = first; t <= last; ++t) {
      for (const oracle_area& a : tables[t].areas) {
        if (a.pages->kind != origin_kind::file) return errc::invalid_argument;
        if (a.pages->owner != owner && moving.insert(a.pages).second &&
            a.pages->mode == account_mode::user)
          extra += a.pages->frames.size();
      }
    }
    if (const auto limit = limits.find(owner.id);
        extra != 0 && limit != limits.end() &&
        charged(owner, account_mode::user) + extra > limit->second)
      return errc::not_enough_memory;
    for (const auto& p : moving) p->owner = owner;
    return no_error;
  }

  void revoke() {
    for (oracle_table& t : tables) {
      for (oracle_area& a : t.areas) {
        if (a.pages->kind != origin_kind::device) continue;
        a.pages->revoked = true;
        a.filled = false;
      }
    }
    device_revoked = true;
  }
  void restore() {
    device_revoked = false;
    for (std::size_t t = 0; t < tables.size(); ++t) {
      for (oracle_area& a : tables[t].areas) {
        if (a.pages->kind != origin_kind::device) continue;
        a.pages->revoked = false;
        if (!a.filled) fill(t, a);
      }
    }
  }

  // --- Domains and ranges ------------------------------------------------------------------------

  errc attach(std::size_t t, std::size_t d) {
    oracle_table& table = tables[t];
    if (std::find(table.domains.begin(), table.domains.end(), d) != table.domains.end())
      return errc::file_exists;
    const mock::domain& dom = inner(*world_.domains[d]);
    const std::uint64_t a = std::max(alignment(t), dom.page_sizes().smallest());
    if (a > page) return errc::invalid_argument;
    for (const oracle_area& each : table.areas)
      if (each.where.first.value % a != 0 || (each.where.last.value + 1) % a != 0 ||
          each.start % page % a != 0)
        return errc::address_in_use;
    std::vector<iova_range> wanted;
    if constexpr (reserved_regions_domain<typename Kind::domain>) {
      for (const reserved_region& r : dom.reserved_regions())
        if (r.what != reserved_region::kind::direct_relaxable) wanted.push_back(r.range);
    }
    const iova_range aperture = dom.aperture();
    if (aperture.first.value != 0) wanted.push_back({{0}, aperture.first - 1});
    if (aperture.last.value != top) wanted.push_back({aperture.last + 1, {top}});
    for (const iova_range r : wanted)
      if (!may_reserve(t, r)) return errc::address_in_use;
    const std::vector<oracle_area> before = table.areas;
    table.domains.push_back(d);
    for (oracle_area& each : table.areas) {
      const errc e = fill(t, each);
      if (e == no_error) continue;
      table.domains.pop_back();
      std::vector<oracle_area> failed = std::exchange(table.areas, before);
      for (const oracle_area& undo : failed) drop_if_unheld(*undo.pages);
      return e;
    }
    for (const iova_range r : wanted) table.reserved.push_back({r, world_.domains[d].get()});
    return no_error;
  }
  void detach(std::size_t t, std::size_t d) {
    oracle_table& table = tables[t];
    *std::find(table.domains.begin(), table.domains.end(), d) = table.domains.back();
    table.domains.pop_back();
    table.tracking.erase(d);
    if (table.domains.empty())
      for (oracle_area& a : table.areas) a.filled = false;
    unreserve(t, world_.domains[d].get());
  }
  errc replace(std::size_t t, std::size_t old, std::size_t next) {
    if (old == next) return no_error;
    const errc e = attach(t, next);
    if (e == no_error) detach(t, old);
    return e;
  }
  errc disable_large(std::size_t t) {
    if (!tables[t].large) return no_error;
    if (!tables[t].domains.empty() && !tables[t].areas.empty()) return errc::invalid_argument;
    if (!pages_aligned(t)) return errc::address_in_use;
    tables[t].large = false;
    return no_error;
  }
  bool pages_aligned(std::size_t t) const {
    if (alignment(t) >= page) return true;
    for (const oracle_area& each : tables[t].areas)
      if (each.where.first.value % page != 0 || (each.where.last.value + 1) % page != 0 ||
          each.start % page != 0)
        return false;
    return true;
  }

  bool may_reserve(std::size_t t, iova_range r) const {
    for (const oracle_area& a : tables[t].areas)
      if (a.where.overlaps(r)) return false;
    for (const iova_range a : tables[t].allowed)
      if (a.overlaps(r)) return false;
    return true;
  }
  errc reserve(std::size_t t, iova_range r, const void* owner) {
    if (!may_reserve(t, r)) return errc::address_in_use;
    tables[t].reserved.push_back({r, owner});
    return no_error;
  }
  void unreserve(std::size_t t, const void* owner) {
    std::erase_if(tables[t].reserved,
                  [&](const oracle_reservation& r) { return r.owner == owner; });
  }
  errc allow(std::size_t t, const std::vector<iova_range>& ranges) {
    for (std::size_t n = 0; n < ranges.size(); ++n)
      for (std::size_t m = 0; m < n; ++m)
        if (ranges[n].overlaps(ranges[m])) return errc::invalid_argument;
    for (const iova_range r : ranges)
      for (const oracle_reservation& each : tables[t].reserved)
        if (each.range.overlaps(r)) return errc::address_in_use;
    tables[t].allowed = ranges;
    return no_error;
  }

  // --- Access objects ----------------------------------------------------------------------------

  errc join(std::size_t u, std::size_t t) {
    if (!pages_aligned(t)) return errc::address_in_use;
    users[u].table = t;
    return no_error;
  }
  void leave(std::size_t u) {
    while (!users[u].pins.empty()) unpin(u, 0);
    users[u].table.reset();
  }

  errc may_use(const oracle_area& a, access_rights want) const {
    if (a.suspended) return errc::device_or_resource_busy;
    if (!allows(a.rights, want)) return errc::operation_not_permitted;
    if (want == access_rights::write && !a.pages->writable) return errc::operation_not_permitted;
    if (a.pages->kind == origin_kind::device) return errc::operation_not_supported;
    return no_error;
  }

  errc pin(std::size_t u, iova_range r, access_rights want) {
    if (!users[u].table) return errc::no_such_file_or_directory;
    const std::size_t t = *users[u].table;
    want = allows(want, access_rights::write) ? access_rights::write : access_rights::read;
    std::vector<std::pair<oracle_pages*, std::pair<std::uint64_t, std::uint64_t>>> done;
    std::vector<oracle_area*> touched;
    errc e = no_error;
    for (iova next = r.first;;) {
      oracle_area* a = at(t, next);
      if (a == nullptr) e = errc::no_such_file_or_directory;
      if (e == no_error && (a->byte(next) % page != 0 ||
                            (a->where.last < r.last && (a->byte(a->where.last) + 1) % page != 0)))
        e = errc::invalid_argument;
      if (e == no_error) e = may_use(*a, want);
      const iova last = a == nullptr ? next : std::min(a->where.last, r.last);
      if (e == no_error) {
        const std::pair pages{a->byte(next) / page, a->byte(last) / page};
        e = hold(*a->pages, pages.first, pages.second);
        if (e == no_error) {
          ++a->pages->pins[pages];
          ++a->pins;
          done.push_back({a->pages.get(), pages});
          touched.push_back(a);
        }
      }
      if (e != no_error || last == r.last) break;
      next = last + 1;
    }
    if (e == no_error) {
      users[u].pins.push_back(r);
      return no_error;
    }
    for (std::size_t n = done.size(); n-- != 0;) {
      unpin_pages(*done[n].first, done[n].second);
      --touched[n]->pins;
    }
    return e;
  }
  void unpin(std::size_t u, std::size_t n) {
    const iova_range r = users[u].pins[n];
    users[u].pins.erase(users[u].pins.begin() + static_cast<std::ptrdiff_t>(n));
    for (iova next = r.first;;) {
      oracle_area& a = *at(*users[u].table, next);
      const iova last = std::min(a.where.last, r.last);
      unpin_pages(*a.pages, {a.byte(next) / page, a.byte(last) / page});
      --a.pins;
      if (last == r.last) return;
      next = last + 1;
    }
  }

 private:
  void unpin_pages(oracle_pages& p, std::pair<std::uint64_t, std::uint64_t> range) {
    if (--p.pins[range] == 0) p.pins.erase(range);
  }
  /// As settle(), for pages that may have no area left.
  void drop_if_unheld(oracle_pages& p) {
    settle();
    for (const oracle_table& t : tables)
      for (const oracle_area& a : t.areas)
        if (a.pages.get() == &p) return;
    p.frames.clear();
  }
  void sort(std::size_t t) {
    std::sort(
        tables[t].areas.begin(), tables[t].areas.end(),
        [](const oracle_area& a, const oracle_area& b) { return a.where.first < b.where.first; });
  }
  void erase(std::size_t t, iova_range gone) {
    std::erase_if(tables[t].areas, [&](const oracle_area& a) { return a.where == gone; });
  }
  /// The union of ranges inside a window, as maximal ranges in order.
  static std::vector<iova_range> joined(std::vector<iova_range> ranges, iova_range window) {
    std::sort(ranges.begin(), ranges.end(),
              [](iova_range a, iova_range b) { return a.first < b.first; });
    std::vector<iova_range> all;
    for (const iova_range r : ranges) {
      if (!r.overlaps(window)) continue;
      const iova_range part{std::max(r.first, window.first), std::min(r.last, window.last)};
      if (!all.empty() && (all.back().last.value == top || part.first <= all.back().last + 1)) {
        all.back().last = std::max(all.back().last, part.last);
      } else {
        all.push_back(part);
      }
    }
    return all;
  }

  world_type& world_;

 public:
  std::vector<oracle_table> tables;
  std::vector<oracle_user> users;
};

}  // namespace iopt::test
