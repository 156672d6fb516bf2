// tests/core/io_pagetable_test.cpp - the engine against a naive oracle, step by random step.
//
// Two tables, four domains, two access objects and memory of two processes, two files and a device
// are used at random in small windows, at 0, in the middle and at the very top, so that everything
// collides with everything. After each step the answer, the areas, every translation of every
// domain, all pins and all charges are those of the oracle.
#include "iopt/core/io_pagetable.hpp"

#include <cstdint>
#include <map>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "tests/catch.hpp"
#include "tests/core/engine_fixture.hpp"
#include "tests/core/engine_oracle.hpp"

namespace iopt::test {
namespace {

struct plan {
  std::uint64_t seed = 0;
  std::uint64_t window = 0;  // the first IOVA that is played with
  std::uint64_t contiguity = 0;
  std::uint64_t smallest_bytes = 0;  // page of two of the domains
  std::uint64_t unit = 0;            // most addresses are multiples of this
  unsigned steps = 0;
};

/// How often a step of each kind succeeded.
using tally = std::map<std::string, unsigned>;

template <class Kind>
class game {
  using W = world<Kind>;
  using table_type = typename W::table_type;
  using access_type = typename W::access_type;
  static constexpr std::uint64_t page = W::page;
  static constexpr std::uint64_t window_pages = 32;
  static constexpr std::uint64_t memory_pages = 24;

 public:
  game(const plan& p, tally& done)
      : plan_(p), done_(&done), w_(p.contiguity), random_(p.seed), o_(w_) {
    w_.table(1);
    for (std::size_t n = 0; n < 4; ++n) {
      mock::domain_options options{.page_sizes = W::usual_sizes()};
      if (n < 2)
        options.page_sizes =
            page_size_set::from_bitmap(options.page_sizes.bitmap() | p.smallest_bytes);
      if (n == 3) {
        options.aperture = {io(2 * page), {top}};
        options.reserved = {{range(io(20 * page), 2 * page), reserved_region::kind::msi},
                            {range(io(0), page), reserved_region::kind::direct_relaxable}};
      }
      w_.add_domain(options);
    }
    for (std::uint32_t n = 0; n < 2; ++n) {
      const mock::file f = w_.add_file(memory_pages);
      o_.file_pages[f.id] = memory_pages;
    }
    device_ = w_.pinner.create_exporter(memory_pages * page);
    const auto process = w_.owner(1);
    for (const std::uint64_t n : {5u, 17u}) {
      w_.pinner.set_hole(process, user_range::sized(W::at(n), page));
      o_.missing.insert({process.id, W::memory_base / page + n});
    }
    w_.pinner.set_read_only(process, user_range::sized(W::at(9), 3 * page));
    for (const std::uint64_t n : {9u, 10u, 11u})
      o_.read_only.insert({process.id, W::memory_base / page + n});
    w_.pinner.set_limit(process, account_mode::user, 30);
    o_.limits[process.id] = 30;
    if (p.seed % 3 == 0) w_.pinner.set_longest_pin(3);
  }
  ~game() {
    for (std::size_t u = 0; u < 2; ++u) {
      stubborn_[u] = false;
      users_[u].detach();
    }
  }

  /// Empty, or what is wrong.
  std::string play() {
    for (unsigned n = 0; n < plan_.steps; ++n) {
      log_.clear();
      const std::string answer = step();
      o_.settle();
      std::string wrong = answer.empty() ? compare() : answer;
      if (!wrong.empty()) return "step " + std::to_string(n) + ": " + log_ + "\n" + wrong;
    }
    for (std::size_t u = 0; u < 2; ++u) {
      stubborn_[u] = false;
      users_[u].detach();
    }
    const std::string_view left = w_.close();
    return std::string(left);
  }

 private:
  // --- Draws -------------------------------------------------------------------------------------

  std::uint64_t below(std::uint64_t n) { return random_() % n; }
  bool one_in(std::uint64_t n) { return below(n) == 0; }
  iova io(std::uint64_t offset) const { return {plan_.window + offset}; }
  static iova_range range(iova first, std::uint64_t length) {
    return length - 1 > top - first.value ? iova_range{first, {top}}
                                          : iova_range::sized(first, length);
  }
  std::uint64_t unit() { return one_in(40) ? 1 : one_in(6) ? plan_.unit : page; }
  std::uint64_t offset(std::uint64_t pages) {
    const std::uint64_t u = unit();
    return below(pages * page / u) * u;
  }
  std::uint64_t length() {
    const std::uint64_t u = unit();
    const std::uint64_t most = one_in(5) ? 12 * page : 4 * page;
    return (1 + below(most / u)) * u;
  }
  iova_range any_range() {
    const iova first = io(offset(window_pages));
    return range(first, length());
  }
  /// A range that often is an area, or ends where one does.
  iova_range likely_range(std::size_t t) {
    const auto& areas = o_.tables[t].areas;
    if (areas.empty() || one_in(4)) return any_range();
    const iova_range a = areas[below(areas.size())].where;
    switch (below(5)) {
      case 0:
      case 1: return a;
      case 2: {
        const iova_range b = areas[below(areas.size())].where;
        return {std::min(a.first, b.first), std::max(a.last, b.last)};
      }
      case 3: return range(a.first, length());
      default: {
        const std::uint64_t u = unit();
        const std::uint64_t bytes = a.last - a.first;
        const std::uint64_t skip = below(bytes / u + 1) * u;
        return range(a.first + skip, 1 + below((bytes - skip) / u + 1) * u + (u - 1));
      }
    }
  }
  access_rights rights() {
    constexpr access_rights all[] = {access_rights::read, access_rights::read_write,
                                     access_rights::read_write, access_rights::none,
                                     access_rights::write};
    return all[below(std::size(all))];
  }
  oracle_memory memory() {
    oracle_memory m;
    m.owner = w_.owner(below(2));
    m.mode = one_in(3) ? account_mode::mm : one_in(4) ? account_mode::none : account_mode::user;
    const std::uint64_t at = offset(memory_pages - 12);
    const bool files_only = plan_.seed % 6 == 5;
    if (!files_only && one_in(6)) {
      m.kind = origin_kind::device, m.source = device_.id, m.from = at;
      m.owner = w_.owner(0), m.mode = account_mode::none;
    } else if (files_only || one_in(4)) {
      m.kind = origin_kind::file, m.source = w_.files[below(2)].id, m.from = at;
      m.owner = w_.owner(0);
      if (one_in(6)) m.from += 8 * page;  // may end past the file
    } else {
      m.kind = origin_kind::user, m.source = m.owner.id, m.from = W::memory_base + at;
    }
    return m;
  }
  typename table_type::memory real(std::size_t t, const oracle_memory& m) {
    table_type& table = w_.table(t);
    table.set_account_mode(m.mode);
    if (m.kind == origin_kind::user) return table.user_memory(m.owner, {m.from});
    if (m.kind == origin_kind::device) return table.device_memory(device_, m.from);
    w_.pinner.set_current(m.owner);
    auto made = table.file_memory(mock::file{m.source}, m.from);
    w_.pinner.set_current(w_.owner(0));
    return made;
  }

  // --- Steps -------------------------------------------------------------------------------------

  template <class... Parts>
  void say(Parts... parts) {
    ((log_ += std::string(parts) + " "), ...);
  }
  std::string differ(errc wanted, errc got) {
    if (got == no_error) ++(*done_)[log_.substr(8, log_.find(' ', 8) - 8)];
    return wanted == got ? "" : "answered " + text(got) + ", not " + text(wanted);
  }
  template <class T>
  static errc code(const result<T>& r) {
    return r ? no_error : r.error().code;
  }
  /// Undo allocates nothing: half of the time the library's memory refuses while it runs.
  template <class F>
  auto undo(F f) {
    const bool refuse = one_in(2);
    if (refuse) w_.account.refuse_all();
    struct back {
      mock::memory_account& a;
      ~back() { a.refuse_all(false); }
    } on_return{w_.account};
    return f();
  }

  std::string step() {
    const std::size_t t = below(2);
    table_type& table = w_.table(t);
    say("table", std::to_string(t));
    switch (below(35)) {
      case 0:
      case 1:
      case 2:
      case 3:
      case 4:
      case 5: return map(t, table);
      case 6:
      case 7:
      case 8: return copy(t, table);
      case 9:
      case 10:
      case 11:
      case 12: return unmap(t, table);
      case 13: {
        if (!one_in(8)) return cut(t, table);
        say("unmap_all");
        const oracle_report wanted = whole(t);
        const unmap_report got = undo([&] { return table.unmap_all(); });
        return compare_reports(wanted, got);
      }
      case 14: return cut(t, table);
      case 15:
      case 16: {
        const iova_range r = likely_range(t);
        const access_rights a = rights();
        say("protect", text(r), std::to_string(int(a)));
        return differ(o_.protect(t, r, a), code(table.protect(r, a)));
      }
      case 17:
      case 18: {
        const iova_range r = likely_range(t);
        const access_rights a = rights();
        oracle_memory m = memory();
        m.from = m.from / page * page + r.first.value % page;
        say("remap", text(r), std::to_string(int(a)), "to", hex(m.from));
        if (r.length_minus_one() == top) return "";
        const auto what = real(t, m);
        return differ(o_.remap(t, r, m, a), code(table.remap(r, what, a)));
      }
      case 19:
      case 20:
      case 21: return domains(t, table);
      case 22:
      case 23:
      case 24:
      case 25: return use(t);
      case 26:
      case 34: return suspend_or_resume(t, table);
      case 27: return device_or_owner(t, table);
      case 28:
        if (one_in(3)) {
          const bool off = one_in(2);
          say("large pages", off ? "off" : "on");
          if (off) return differ(o_.disable_large(t), code(table.disable_large_pages()));
          o_.tables[t].large = true;
          table.enable_large_pages();
          return "";
        }
        [[fallthrough]];
      case 29: return ranges(t, table);
      case 30: return map_all(t, table);
      case 31: return unmap_several(t, table);
      case 32: return dirty(t, table);
      default: return read_or_write(t);
    }
  }

  std::optional<iova> any_place() {
    if (one_in(4)) return std::nullopt;
    return io(offset(window_pages));
  }

  std::string map(std::size_t t, table_type& table) {
    const oracle_memory m = memory();
    const std::uint64_t bytes = one_in(60) ? 0 : one_in(60) ? top - below(9000) : length();
    if (m.kind != origin_kind::user && m.from + bytes > memory_pages * page &&
        m.kind == origin_kind::device)
      return "";
    const access_rights a = rights();
    const std::optional<iova> where = any_place();
    say("map", hex(m.from), "length", hex(bytes), "at", where ? hex(where->value) : "any");
    iova wanted{};
    const errc e = o_.map(t, m, bytes, a, where, wanted);
    const result<iova> got = table.map(real(t, m), bytes, a, where);
    if (got && e == no_error && *got != wanted)
      return "mapped at " + hex(got->value) + ", not " + hex(wanted.value);
    return differ(e, code(got));
  }

  std::string copy(std::size_t t, table_type& table) {
    const std::size_t s = below(2);
    const iova_range from = likely_range(s);
    const access_rights a = rights();
    const std::optional<iova> where = any_place();
    say("copy from table", std::to_string(s), text(from), "rights", std::to_string(int(a)), "to",
        where ? hex(where->value) : "any");
    if (from.length_minus_one() == top) return "";
    iova wanted{};
    const errc e = o_.copy(t, s, from, a, where, wanted);
    const result<iova> got = table.copy(w_.table(s), from, a, where);
    if (got && e == no_error && *got != wanted)
      return "mapped at " + hex(got->value) + ", not " + hex(wanted.value);
    return differ(e, code(got));
  }

  std::string compare_reports(const oracle_report& wanted, const unmap_report& got) {
    std::string wrong = differ(wanted.error, code(got.outcome));
    if (wrong.empty() && (wanted.bytes != got.bytes || wanted.areas != got.areas))
      wrong = "unmapped " + hex(got.bytes) + " bytes of " + std::to_string(got.areas) +
              " areas, not " + hex(wanted.bytes) + " of " + std::to_string(wanted.areas);
    return wrong;
  }
  oracle_report whole(std::size_t t) {
    oracle_report sum;
    while (!o_.tables[t].areas.empty()) {
      const iova_range gone = o_.tables[t].areas.front().where;
      const oracle_report one =
          o_.unmap(t, gone.first, gone.length_minus_one() + 1, unmap_profile::type1_v2);
      if (one.error != no_error) {
        sum.error = one.error;
        break;
      }
      sum.bytes += one.bytes;
      sum.areas += one.areas;
    }
    return sum;
  }

  std::string unmap(std::size_t t, table_type& table) {
    const unmap_profile profile = unmap_profiles[below(unmap_profiles.size())];
    const iova_range r = likely_range(t);
    std::uint64_t bytes = r.length_minus_one() + 1;
    if (one_in(50)) bytes = top - r.first.value + below(3);
    say("unmap", text(r), hex(bytes), name(profile));
    // A dry run answers the same where nobody has pinned anything.
    bool pinned = false;
    for (const oracle_area& a : o_.tables[t].areas) pinned = pinned || a.pins != 0;
    const unmap_report dry = table.would_unmap(r.first, bytes, profile);
    const oracle_report wanted = o_.unmap(t, r.first, bytes, profile);
    const unmap_report got =
        profile == unmap_profile::hole_punching || profile == unmap_profile::iommufd_compat_v1
            ? table.unmap(r.first, bytes, profile)
            : undo([&] { return table.unmap(r.first, bytes, profile); });
    std::string wrong = compare_reports(wanted, got);
    if (wrong.empty() && !pinned) {
      wrong = compare_reports(wanted, dry);
      if (!wrong.empty()) wrong = "dry run: " + wrong;
    }
    return wrong;
  }

  std::string unmap_several(std::size_t t, table_type& table) {
    constexpr unmap_profile which[] = {unmap_profile::type1_v2, unmap_profile::exact,
                                       unmap_profile::hole_punching, unmap_profile::iommufd};
    const unmap_profile profile = which[below(4)];
    std::vector<iova_range> list;
    for (std::uint64_t n = below(4); n-- != 0;) {
      const iova_range r = likely_range(t);
      bool apart = true;
      for (const iova_range other : list) apart = apart && !other.overlaps(r);
      if (apart) list.push_back(r);
    }
    say("unmap several", name(profile));
    for (const iova_range r : list) say(text(r));
    // Whatever refuses leaves all as it was, but for what users let go of meanwhile, and cuts where
    // one of them does not let go.
    bool pinned = false;
    for (const oracle_area& a : o_.tables[t].areas) pinned = pinned || a.pins != 0;
    if (pinned) return "";
    auto before = o_.tables[t].areas;
    oracle_report sum;
    for (const iova_range r : list) {
      const oracle_report one = o_.unmap(t, r.first, r.length_minus_one() + 1, profile);
      sum.bytes += one.bytes, sum.areas += one.areas, sum.error = one.error;
      if (one.error != no_error) break;
    }
    if (sum.error != no_error) {
      o_.tables[t].areas = before;
      sum.bytes = sum.areas = 0;
    }
    const unmap_report got = table.unmap_all(list, profile);
    return compare_reports(sum, got);
  }

  std::string cut(std::size_t t, table_type& table) {
    const iova last = likely_range(t).last;
    const cut_rule rule = one_in(2) ? cut_rule::split : cut_rule::as_iommufd;
    say("cut after", hex(last.value), rule == cut_rule::split ? "split" : "as_iommufd");
    return differ(o_.cut(t, last, rule), code(table.cut(last, rule)));
  }

  std::string domains(std::size_t t, table_type& table) {
    auto& attached = o_.tables[t].domains;
    const std::size_t d = below(4);
    const bool here = std::find(attached.begin(), attached.end(), d) != attached.end();
    auto& others = o_.tables[1 - t].domains;
    const bool elsewhere = std::find(others.begin(), others.end(), d) != others.end();
    if (here && one_in(2)) {
      say("detach", std::to_string(d));
      o_.detach(t, d);
      return undo([&] { return table.detach(*w_.domains[d]); }) ? "" : "came back short";
    }
    if (elsewhere) return "";
    if (!attached.empty() && one_in(2)) {
      const std::size_t old = attached[below(attached.size())];
      say("replace", std::to_string(old), "by", std::to_string(d));
      return differ(o_.replace(t, old, d), code(table.replace(*w_.domains[old], *w_.domains[d])));
    }
    if (attached.size() >= 3) return "";
    say("attach", std::to_string(d));
    return differ(o_.attach(t, d), code(table.attach(*w_.domains[d])));
  }

  std::string use(std::size_t t) {
    const std::size_t u = below(2);
    oracle_user& user = o_.users[u];
    if (one_in(8)) {
      user.stubborn = stubborn_[u] = !user.stubborn && one_in(2);
      say(user.stubborn ? "is stubborn" : "lets go");
      return "";
    }
    if (!user.table) {
      say("joins", std::to_string(u));
      const errc wanted = o_.join(u, t);
      return differ(wanted, code(users_[u].attach(w_.table(t))));
    }
    if (one_in(10)) {
      say("leaves");
      stubborn_[u] = false;
      user.stubborn = false;
      o_.leave(u);
      undo([&] {
        users_[u].detach();
        return 0;
      });
      return "";
    }
    if (one_in(10)) {
      say("moves");
      if (user.stubborn || *user.table == t) return "";
      if (!o_.pages_aligned(t))
        return differ(errc::address_in_use, code(users_[u].replace(w_.table(t))));
      o_.leave(u);
      o_.join(u, t);
      return differ(no_error, code(users_[u].replace(w_.table(t))));
    }
    if (!user.pins.empty() && (one_in(2) || user.pins.size() > 6)) {
      const std::size_t n = below(user.pins.size());
      say("unpins", text(user.pins[n]));
      const iova_range r = user.pins[n];
      o_.unpin(u, n);
      pins_[u].erase(pins_[u].begin() + static_cast<std::ptrdiff_t>(n));
      undo([&] {
        users_[u].unpin(r);
        return 0;
      });
      return "";
    }
    iova_range r = likely_range(*user.table);
    if (!user.pins.empty() && one_in(5)) r = user.pins[below(user.pins.size())];
    const access_rights want = one_in(2) ? access_rights::read : access_rights::write;
    say("pins", std::to_string(u), text(r), want == access_rights::read ? "to read" : "to write");
    const errc wanted = o_.pin(u, r, want);
    std::vector<physical> frames;
    const result<void> got = users_[u].pin(r, want, [&](run f) {
      for (std::uint64_t n = 0; n < f.length_bytes; n += page) frames.push_back(f.first + n);
    });
    if (got) pins_[u].push_back(r);
    if (std::string wrong = differ(wanted, code(got)); !wrong.empty()) return wrong;
    if (!got) return "";
    std::vector<physical> right;
    for (iova next = r.first;;) {
      const oracle_area& a = *o_.at(*user.table, next);
      const iova last = std::min(a.where.last, r.last);
      for (std::uint64_t n = a.byte(next) / page; n <= a.byte(last) / page; ++n)
        right.push_back(a.pages->frames.at(n));
      if (last == r.last) break;
      next = last + 1;
    }
    return frames == right ? "" : "told other frames";
  }

  std::string read_or_write(std::size_t t) {
    const std::size_t u = below(2);
    if (!o_.users[u].table) return "";
    t = *o_.users[u].table;
    const iova_range r = likely_range(t);
    if (r.length_minus_one() > 8 * page) return "";
    const bool write = one_in(2);
    say(write ? "writes" : "reads", std::to_string(u), text(r));
    std::vector<std::byte> data(r.length(), std::byte(below(256)));
    errc wanted = no_error;
    for (iova next = r.first;;) {
      const oracle_area* a = o_.at(t, next);
      if (a == nullptr) {
        wanted = errc::no_such_file_or_directory;
        break;
      }
      wanted = o_.may_use(*a, write ? access_rights::write : access_rights::read);
      if (wanted != no_error) break;
      const iova last = std::min(a->where.last, r.last);
      for (std::uint64_t n = a->byte(next) / page; n <= a->byte(last) / page; ++n)
        if (!can_copy(*a->pages, n, write)) wanted = copy_error(*a->pages);
      if (wanted != no_error || last == r.last) break;
      next = last + 1;
    }
    const errc got = code(write ? users_[u].write(r.first, std::span<const std::byte>(data))
                                : users_[u].read(r.first, data));
    return differ(wanted, got);
  }
  bool can_copy(const oracle_pages& p, std::uint64_t n, bool write) const {
    const std::uint64_t number = p.start / page + n;
    if (p.kind == origin_kind::file)
      return p.frames.contains(n) || number < o_.file_pages.at(p.source);
    return !o_.missing.contains({p.source, number}) &&
           !(write && o_.read_only.contains({p.source, number}));
  }
  static errc copy_error(const oracle_pages&) { return errc::bad_address; }

  std::string suspend_or_resume(std::size_t t, table_type& table) {
    iova_range r = likely_range(t);
    for (const oracle_area& a : o_.tables[t].areas)
      if (a.suspended && !one_in(4)) r = a.where;
    const oracle_area* a = o_.at(t, r.first);
    if (!(a != nullptr && a->suspended) && !one_in(4)) {
      say("suspend", text(r));
      return differ(o_.suspend(t, r), code(table.suspend_access(r)));
    }
    oracle_memory m = memory();
    if (a != nullptr && !one_in(4)) m.from = m.from / page * page + a->start % page;
    // The pages of an area may begin before it; what shows them elsewhere may be longer.
    if (m.kind == origin_kind::user) m.from += 16 * page;
    if (m.kind == origin_kind::file) return "";
    say("resume", text(r), "at", hex(m.from));
    return differ(o_.resume(t, r, m), code(table.resume_access(r, real(t, m))));
  }

  std::string device_or_owner(std::size_t t, table_type& table) {
    if (one_in(3)) {
      const mock::process owner = w_.owner(below(2));
      if (one_in(2)) {
        say("change owner of all to", std::to_string(owner.id));
        const auto each = [&](auto f) {
          for (const auto& one : w_.tables) f(*one);
        };
        return differ(o_.change_owner(0, 1, owner), code(table_type::change_owner_of(each, owner)));
      }
      say("change owner to", std::to_string(owner.id));
      return differ(o_.change_owner(t, t, owner), code(table.change_owner(owner)));
    }
    if (!o_.device_revoked) {
      say("revoke");
      undo([&] {
        w_.table(0).revoke(device_);
        w_.table(1).revoke(device_);
        return 0;
      });
      w_.pinner.set_revoked(device_, true);
      if (one_in(2)) w_.pinner.relocate(device_);
      o_.revoke();
      return "";
    }
    say("restore");
    w_.pinner.set_revoked(device_, false);
    o_.restore();
    std::string wrong = differ(no_error, code(w_.table(0).restore(device_)));
    return wrong.empty() ? differ(no_error, code(w_.table(1).restore(device_))) : wrong;
  }

  std::string ranges(std::size_t t, table_type& table) {
    const void* owner = &owners_[below(3)];
    if (one_in(3)) {
      std::vector<iova_range> list;
      for (std::uint64_t n = below(3); n-- != 0;)
        list.push_back(range(io(offset(window_pages)), 4 * length()));
      say("allow");
      for (const iova_range r : list) say(text(r));
      return differ(o_.allow(t, list), code(table.allow(list)));
    }
    if (one_in(3)) {
      const iova_range r = range(io(offset(window_pages)), page);
      say("reserve", text(r));
      return differ(o_.reserve(t, r, owner), code(table.reserve(r, owner)));
    }
    say("unreserve");
    o_.unreserve(t, owner);
    table.unreserve(owner);
    return "";
  }

  std::string map_all(std::size_t t, table_type& table) {
    std::vector<typename table_type::map_request> list;
    std::vector<iova> wanted;
    errc e = no_error;
    const auto before = o_.tables[t].areas;
    say("map_all");
    // The table places all elements before it fills the first: only without a domain is that the
    // same as one by one.
    const bool empty = o_.tables[t].domains.empty();
    for (std::uint64_t n = 1 + below(3); n-- != 0;) {
      const oracle_memory m = memory();
      const std::uint64_t bytes = length();
      if (m.kind == origin_kind::device) continue;
      const access_rights a = rights();
      const std::optional<iova> where = any_place();
      say("[", hex(m.from), hex(bytes), where ? hex(where->value) : "any", "]");
      list.push_back({real(t, m), bytes, a, where});
      if (e != no_error) continue;
      iova at{};
      e = o_.map(t, m, bytes, a, where, at);
      wanted.push_back(at);
    }
    if (e != no_error) {
      o_.tables[t].areas = before;
      o_.settle();
    }
    const errc got = code(table.map_all(list));
    if (empty || e == no_error || got == no_error) {
      if (std::string wrong = differ(e, got); !wrong.empty()) return wrong;
    }
    for (std::size_t n = 0; got == no_error && n < list.size(); ++n)
      if (list[n].mapped_at != wanted[n]) return "mapped elsewhere";
    return "";
  }

  std::string dirty(std::size_t t, table_type& table) {
    auto& attached = o_.tables[t].domains;
    if (attached.empty()) return "";
    const std::size_t d = attached[below(attached.size())];
    typename Kind::domain& domain = *w_.domains[d];
    if constexpr (!W::can_track) {
      return differ(errc::operation_not_supported, code(table.set_dirty_tracking(domain, true)));
    } else {
      if (one_in(3)) {
        const bool on = !one_in(3);
        say("tracking", on ? "on" : "off");
        on ? void(o_.tables[t].tracking.insert(d)) : void(o_.tables[t].tracking.erase(d));
        return differ(no_error, code(table.set_dirty_tracking(domain, on)));
      }
      const iova_range mark = likely_range(t);
      const iova_range r = likely_range(t);
      say("dirty", text(mark), "read", text(r));
      inner(domain).mark_dirty(mark);
      const bool tracks = o_.tables[t].tracking.contains(d);
      const std::uint64_t a = o_.alignment(t);
      const bool aligned = r.first.value % a == 0 && (r.last.value + 1) % a == 0;
      for (const dirty_read mode : {dirty_read::keep, dirty_read::clear, dirty_read::clear}) {
        std::vector<iova_range> told;
        const errc got =
            code(table.read_dirty(domain, r, mode, [&](iova_range w) { told.push_back(w); }));
        const errc wanted = tracks && aligned ? no_error : errc::invalid_argument;
        if (got != wanted) return differ(wanted, got);
        if (got != no_error) return "";
        for (const iova_range w : told)
          if (!r.contains(w) || !o_.covered(t, w)) return "told what is not there";
        if (mode == dirty_read::keep) {
          for (iova v = r.first;; v += a) {  // up to the first gap
            const oracle_area* area = o_.at(t, v);
            if (area == nullptr || !area->filled) break;
            bool found = false;
            for (const iova_range w : told) found = found || w.contains(v);
            if (mark.contains(v) && !found) return "did not tell " + hex(v.value);
            if (r.last - v < a) break;
          }
          first_read_ = !told.empty();
        } else if (first_read_ && told.empty()) {
          return "keep did not keep";
        } else if (!first_read_ && !told.empty()) {
          return "clear did not clear";
        } else {
          first_read_ = false;
        }
      }
      return "";
    }
  }

  // --- Comparing ---------------------------------------------------------------------------------

  std::string compare() {
    ++compared_;
    for (std::size_t t = 0; t < 2; ++t)
      if (std::string wrong = compare_areas(t); !wrong.empty()) return wrong;
    for (std::size_t t = 0; t < 2; ++t) {
      if (w_.table(t).alignment() != o_.alignment(t)) return "another alignment";
      for (std::size_t n = 0; n < o_.tables[t].domains.size(); ++n) {
        const std::size_t d = o_.tables[t].domains[n];
        if (&w_.table(t).domain(n) != w_.domains[d].get()) return "domains in another order";
        if (inner(*w_.domains[d]).contents() != expected(t))
          return "domain " + std::to_string(d) + " shows something else";
        attached_[d] = true;
      }
    }
    for (std::size_t d = 0; d < 4; ++d)
      if (!std::exchange(attached_[d], false) && inner(*w_.domains[d]).bytes_mapped() != 0)
        return "a domain shows something after it was detached";
    const auto all = o_.all_pages();
    std::uint64_t pins = 0;
    std::map<std::pair<std::uint32_t, account_mode>, std::uint64_t> charges;
    std::map<physical, std::uint64_t> pinned;
    for (const auto& p : all) {
      if (p->kind == origin_kind::device) continue;
      pins += p->frames.size();
      charges[{p->owner.id, p->mode}] += p->frames.size();
      if (compared_ % 4 == 0)
        for (const auto& [index, frame] : p->frames) ++pinned[frame];
    }
    for (const auto& [frame, times] : pinned)
      if (w_.pinner.pins(frame) != times) return "a page is pinned another number of times";
    if (w_.pinner.pinned_pages() != pins)
      return std::to_string(w_.pinner.pinned_pages()) + " pages pinned, not " +
             std::to_string(pins);
    for (const mock::process p : w_.processes)
      for (const account_mode m : {account_mode::none, account_mode::user, account_mode::mm})
        if (w_.pinner.charged(p, m) != charges[{p.id, m}]) return "other charges";
    if (compared_ % 8 == 0) return std::string(w_.verify());
    return "";
  }

  std::string compare_areas(std::size_t t) {
    std::vector<area_info> real_areas;
    w_.table(t).for_each_area([&](const area_info& a) { real_areas.push_back(a); });
    const auto& areas = o_.tables[t].areas;
    const std::string which = "table " + std::to_string(t) + ": ";
    if (real_areas.size() != areas.size())
      return which + std::to_string(real_areas.size()) + " areas, not " +
             std::to_string(areas.size());
    for (std::size_t n = 0; n < areas.size(); ++n) {
      const area_info& got = real_areas[n];
      const oracle_area& a = areas[n];
      const bool device = a.pages->kind == origin_kind::device;
      if (got.where != a.where)
        return which + "area at " + text(got.where) + ", not " + text(a.where);
      const std::string at = which + "area at " + text(a.where) + ": ";
      if (got.rights != a.rights) return at + "rights";
      if (got.state != area_state::present) return at + "state";
      if (got.kind != a.pages->kind) return at + "kind";
      if (got.from.value != a.pages->start + a.start) return at + "from";
      if (got.suspended != a.suspended) return at + "suspended";
      if (got.revoked != a.pages->revoked) return at + "revoked";
      if (got.filled != a.filled) return at + "filled";
      if (got.pin_calls != static_cast<std::uint64_t>(a.pins)) return at + "pin_calls";
      if (got.pinned_pages != (device ? 0 : a.pages->frames.size())) return at + "pinned_pages";
      for (std::size_t m = 0; m < n; ++m)
        if ((real_areas[m].pages_id == got.pages_id) != (areas[m].pages == a.pages))
          return at + "pages";
    }
    return "";
  }

  std::vector<mock::domain::mapping> expected(std::size_t t) const {
    std::vector<mock::domain::mapping> all;
    for (const oracle_area& a : o_.tables[t].areas) {
      if (!a.filled) continue;
      const bool device = a.pages->kind == origin_kind::device;
      for (iova v = a.where.first;;) {
        const std::uint64_t byte = a.byte(v);
        const std::uint64_t left = page - byte % page - 1;
        const iova last = left > a.where.last - v ? a.where.last : v + left;
        const mock::domain::mapping next{
            {v, last},
            a.pages->frames.at(byte / page) + byte % page,
            {a.rights, device ? memory_type::mmio : memory_type::cached}};
        if (!all.empty() && all.back().range.last.value + 1 == v.value &&
            all.back().how == next.how &&
            all.back().first.value + all.back().range.length() == next.first.value) {
          all.back().range.last = last;
        } else {
          all.push_back(next);
        }
        if (last == a.where.last) break;
        v = last + 1;
      }
    }
    return all;
  }

  // --- Access objects ----------------------------------------------------------------------------

  struct listener {
    game* of;
    std::size_t number;
  };
  static void told(void* context, iova_range gone) {
    const listener& l = *static_cast<listener*>(context);
    game& g = *l.of;
    if (g.stubborn_[l.number]) return;
    auto& pins = g.pins_[l.number];
    for (std::size_t n = 0; n < pins.size();) {
      if (pins[n].overlaps(gone)) {
        g.users_[l.number].unpin(pins[n]);
        pins.erase(pins.begin() + static_cast<std::ptrdiff_t>(n));
      } else {
        ++n;
      }
    }
  }

  plan plan_;
  tally* done_;
  W w_;
  std::mt19937_64 random_;
  oracle<Kind> o_;
  listener listeners_[2] = {{this, 0}, {this, 1}};
  access_type users_[2] = {access_type{&told, &listeners_[0]}, access_type{&told, &listeners_[1]}};
  std::vector<iova_range> pins_[2];
  bool stubborn_[2] = {false, false};
  bool attached_[4] = {};
  bool first_read_ = false;
  mock::exporter device_{};
  char owners_[3] = {};
  std::string log_;
  std::uint64_t compared_ = 0;
};

}  // namespace

TEMPLATE_TEST_CASE("the engine does what a naive oracle does", "[model]", IOPT_TEST_KINDS,
                   iopt::test::kinds::full_16k, iopt::test::kinds::full_64k) {
  constexpr std::uint64_t page = TestType::traits::page_bytes;
  const std::uint64_t windows[] = {0, 1000 * page, top - 32 * page + 1};
  const std::uint64_t pieces[] = {mock::contiguity::scattered, 4 * page,
                                  mock::contiguity::contiguous};
  std::uint64_t seed = 1;
  tally done;
  for (const std::uint64_t window : windows) {
    for (const std::uint64_t contiguity : pieces) {
      for (const bool small : {false, true}) {
        const plan p{.seed = seed++,
                     .window = window,
                     .contiguity = contiguity,
                     .smallest_bytes = small ? page / 2 : page,
                     .unit = small ? page / 2 : page,
                     .steps = 1000};
        CAPTURE(p.seed, p.window, p.contiguity, small);
        game<TestType> g(p, done);
        const std::string wrong = g.play();
        CAPTURE(wrong);
        REQUIRE(wrong.empty());
      }
    }
  }
  // None of it is for show: every kind of step did what it does, many times.
  for (const char* what :
       {"map",    "copy",    "unmap",  "unmap_all", "map_all", "cut",   "protect", "remap",
        "attach", "replace", "joins",  "moves",     "pins",    "reads", "writes",  "suspend",
        "resume", "restore", "change", "large",     "reserve", "allow"}) {
    CAPTURE(what, done[what]);
    CHECK(done[what] > 5);
  }
}

}  // namespace iopt::test
