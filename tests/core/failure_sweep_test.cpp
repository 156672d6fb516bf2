// tests/core/failure_sweep_test.cpp - every call that may fail, fails once; and nothing has
// happened.
//
// A scenario is a world and one operation in it. The operation is run with the n-th fallible call
// (allocation, pin, charge, any call of a domain) failing, for n = 0, 1, ... until none is left.
// After each failure the world looks as before; then the operation is run again and must do what it
// does in a world without faults; and at the end nothing is left over.
//
// Every call of core that may fail is swept, and every failure point that core can reach has failed:
// IOPT_REPORT=1 prints which call passed which, and failed there how often.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <optional>
#include <random>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "tests/catch.hpp"
#include "tests/core/engine_fixture.hpp"
#include "tests/fault_report.hpp"

namespace iopt::test {
namespace {

/// Every call of core that may fail. Those with a reason fail by their arguments only, and pass no
/// failure point. cmake/check_sweep.cmake compares the names with the headers.
struct fallible_call {
  const char* name;
  const char* why_no_point = nullptr;
};
constexpr fallible_call calls[] = {
    {"io_pagetable::map"},
    {"io_pagetable::map_all"},
    {"io_pagetable::copy"},
    {"io_pagetable::unmap"},
    {"io_pagetable::would_unmap", "looks"},
    {"io_pagetable::unmap_all"},
    {"io_pagetable::unmap_dirty"},
    {"io_pagetable::cut"},
    {"io_pagetable::protect"},
    {"io_pagetable::remap"},
    {"io_pagetable::suspend_access", "marks areas"},
    {"io_pagetable::resume_access"},
    {"io_pagetable::change_owner"},
    {"io_pagetable::change_owner_of"},
    {"io_pagetable::restore"},
    {"io_pagetable::attach"},
    {"io_pagetable::replace"},
    {"io_pagetable::disable_large_pages", "marks the table"},
    {"io_pagetable::reserve"},
    {"io_pagetable::allow"},
    {"io_pagetable::allow_each"},
    {"io_pagetable::set_dirty_tracking"},
    {"io_pagetable::read_dirty"},
    {"access_object::attach", "is a link of the table's list itself"},
    {"access_object::replace", "likewise"},
    {"access_object::pin"},
    {"access_object::read"},
    {"access_object::write"},
};

/// A world, and what some scenarios need beside it.
template <class Kind>
struct stage : world<Kind> {
  using base = world<Kind>;
  explicit stage(std::uint64_t contiguity) : base(contiguity) {
    this->watched_pages = 48;
    this->table(1);
  }
  ~stage() { release(); }

  /// An access object that lets go of everything when it is told.
  typename base::access_type& user(std::size_t table = 0) {
    if (!access_user.is_attached()) must(access_user.attach(this->table(table)));
    return access_user;
  }
  result<void> pin(std::uint64_t first, std::uint64_t count,
                   access_rights want = access_rights::read) {
    const iova_range r = base::pages_at(first, count);
    const result<void> done = user().pin(r, want, [](run) {});
    if (done) pins.push_back(r);
    return done;
  }
  void release() {
    for (const iova_range r : pins) access_user.unpin(r);
    pins.clear();
    access_user.detach();
  }
  static void let_go(void* context, iova_range gone) {
    stage& s = *static_cast<stage*>(context);
    for (std::size_t n = 0; n < s.pins.size();) {
      if (!s.pins[n].overlaps(gone)) {
        ++n;
        continue;
      }
      s.access_user.unpin(s.pins[n]);
      s.pins.erase(s.pins.begin() + static_cast<std::ptrdiff_t>(n));
    }
  }
  std::string_view close() {
    release();
    return base::close();
  }

  /// Domain 0 tracks, and a device has written three pages.
  static constexpr std::uint64_t written[] = {33, 36, 45};
  void write_by_device() {
    if constexpr (base::can_track) {
      must(this->table().set_dirty_tracking(*this->domains[0], true));
      for (const std::uint64_t n : written) this->mock_of(0).mark_dirty(base::pages_at(n, 1));
    }
  }
  /// `done`, unless something that was written in the range has not been told, over all tries.
  result<void> all_told(result<void> done, iova_range range) const {
    if (!done || !base::can_track) return done;
    for (const std::uint64_t n : written) {
      const auto covers = [&](iova_range r) { return r.contains(base::pages_at(n, 1)); };
      if (covers(range) && std::none_of(told.begin(), told.end(), covers))
        return fail(errc::descriptor_in_bad_state);  // which no fault answers
    }
    return done;
  }

  typename base::access_type access_user{&let_go, this};
  std::vector<iova_range> told;
  std::vector<iova_range> pins;
  mock::exporter device{};
};

template <class T>
result<void> plainly(const result<T>& r) {
  return r ? result<void>{} : fail(r.error());
}

template <class Kind>
struct scenario {
  const char* call;
  const char* name;
  void (*prepare)(stage<Kind>&);
  result<void> (*run)(stage<Kind>&);
  bool possible = true;  // with this kind of domain
};

/// Areas [0, 8) and [8, 16) of memory 0 and 8, behind each other; and [20, 28) shows memory 4
/// again.
template <class Kind>
void map_some(stage<Kind>& s, std::size_t table = 0) {
  auto& t = s.table(table);
  must(t.map(s.at(0), 8 * s.page, rw, s.io(32)));
  must(t.map(s.at(8), 8 * s.page, rw, s.io(40)));
  must(t.copy(t, s.pages_at(36, 8), rw, s.io(64)));
}

template <class Kind>
void two_domains(stage<Kind>& s) {
  s.attach_domain(), s.attach_domain();
}
template <class Kind>
void some_in_two(stage<Kind>& s) {
  two_domains(s);
  map_some(s);
}
/// A domain with an aperture and a reserved region, attached to nothing.
template <class Kind>
void odd_domain(stage<Kind>& s) {
  s.add_domain({.page_sizes = s.usual_sizes(),
                .aperture = {s.io(4), {top - 1024 * s.page}},
                .reserved = {{s.pages_at(8, 4), reserved_region::kind::msi}}});
}

template <class Kind>
std::vector<scenario<Kind>> scenarios() {
  using S = stage<Kind>;
  constexpr bool can_split = S::can_split;
  std::vector<scenario<Kind>> all;
  const auto add = [&](const char* call, const char* name, void (*prepare)(S&),
                       result<void> (*run)(S&), bool possible = true) {
    all.push_back({call, name, prepare, run, possible});
  };

  add("io_pagetable::map", "map at an IOVA", two_domains<Kind>,
      [](S& s) { return plainly(s.table().map(s.at(0), 9 * s.page, rw, s.io(16))); });
  add("io_pagetable::map", "map where there is room", two_domains<Kind>,
      [](S& s) { return plainly(s.table().map(s.at(0), 9 * s.page, rw)); });
  add(
      "io_pagetable::map", "map without a domain", [](S&) {},
      [](S& s) { return plainly(s.table().map(s.at(0), 9 * s.page, rw)); });
  add(
      "io_pagetable::map", "map of a file", [](S& s) { two_domains(s), s.add_file(16); },
      [](S& s) {
        return plainly(s.table().map(s.table().file_memory(s.files[0], s.page), 5 * s.page,
                                     access_rights::read));
      });
  add(
      "io_pagetable::map", "map of device memory",
      [](S& s) { two_domains(s), s.device = s.pinner.create_exporter(16 * s.page); },
      [](S& s) {
        return plainly(s.table().map(s.table().device_memory(s.device, 0), 16 * s.page, rw));
      });
  add(
      "io_pagetable::map_all", "map_all", [](S& s) { some_in_two(s), s.add_file(16); },
      [](S& s) {
        auto& t = s.table();
        typename S::table_type::map_request list[] = {
            {t.user_memory(s.at(16)), 3 * s.page, rw, s.io(100)},
            {t.file_memory(s.files[0], 0), 4 * s.page, access_rights::read},
            {t.user_memory(s.owner(1), s.at(1)), 5 * s.page, rw}};
        return t.map_all(list);
      });
  add("io_pagetable::copy", "copy in one table", some_in_two<Kind>,
      [](S& s) { return plainly(s.table().copy(s.table(), s.pages_at(33, 12), rw, s.io(128))); });
  add(
      "io_pagetable::copy", "copy to a table with domains",
      [](S& s) {
        map_some(s);
        s.attach_domain(1);
        s.attach_domain(1);
      },
      [](S& s) {
        return plainly(s.table(1).copy(s.table(0), s.pages_at(33, 12), access_rights::read));
      });
  add(
      "io_pagetable::copy", "copy from a table with a domain",
      [](S& s) {
        s.attach_domain(0);
        map_some(s);
        s.attach_domain(1);
      },
      [](S& s) { return plainly(s.table(1).copy(s.table(0), s.pages_at(33, 12), rw)); });
  constexpr auto attach = [](S& s) { return s.table().attach(*s.domains.back()); };
  add(
      "io_pagetable::attach", "attach the first domain", [](S& s) { map_some(s), odd_domain(s); },
      attach);
  add(
      "io_pagetable::attach", "attach the first domain while pages are pinned",
      [](S& s) {
        map_some(s), odd_domain(s);
        must(s.pin(34, 3));
        must(s.pin(38, 4));
        must(s.pin(66, 2));
      },
      attach);
  add(
      "io_pagetable::attach", "attach the second domain",
      [](S& s) { s.attach_domain(), map_some(s), odd_domain(s); }, attach);
  add(
      "io_pagetable::attach", "attach where another table holds pages",
      [](S& s) {
        map_some(s);
        s.attach_domain(1);
        must(s.table(1).copy(s.table(0), s.pages_at(34, 3), rw));
        odd_domain(s);
      },
      attach);
  add(
      "io_pagetable::replace", "replace a domain", [](S& s) { some_in_two(s), odd_domain(s); },
      [](S& s) { return s.table().replace(*s.domains[0], *s.domains[2]); });
  add(
      "io_pagetable::cut", "cut", some_in_two<Kind>,
      [](S& s) { return s.table().cut(s.io(35) - 1); }, can_split);
  add(
      "io_pagetable::cut", "cut without a domain", [](S& s) { map_some(s); },
      [](S& s) { return s.table().cut(s.io(35) - 1); });
  add(
      "io_pagetable::unmap", "punch a hole", some_in_two<Kind>,
      [](S& s) {
        return s.table().unmap(s.io(34), 4 * s.page, unmap_profile::hole_punching).outcome;
      },
      can_split);
  add(
      "io_pagetable::unmap", "punch a hole over two areas", some_in_two<Kind>,
      [](S& s) {
        return s.table().unmap(s.io(34), 12 * s.page, unmap_profile::hole_punching).outcome;
      },
      can_split);
  add(
      "io_pagetable::unmap_all", "unmap several", some_in_two<Kind>,
      [](S& s) {
        const iova_range list[] = {s.pages_at(32, 8), s.pages_at(64, 4)};
        return s.table().unmap_all(list, unmap_profile::exact).outcome;
      },
      true);
  add(
      "io_pagetable::protect", "protect a part", some_in_two<Kind>,
      [](S& s) { return s.table().protect(s.pages_at(34, 12), access_rights::read); },
      can_split && S::can_protect);
  add(
      "io_pagetable::protect", "protect whole areas", some_in_two<Kind>,
      [](S& s) { return s.table().protect(s.pages_at(32, 16), access_rights::read); },
      S::can_protect);
  add(
      "io_pagetable::protect", "protect without a domain", [](S& s) { map_some(s); },
      [](S& s) { return s.table().protect(s.pages_at(34, 12), access_rights::read); });
  add(
      "io_pagetable::remap", "remap a part", some_in_two<Kind>,
      [](S& s) {
        return s.table().remap(s.pages_at(34, 12), s.table().user_memory(s.owner(1), s.at(30)),
                               access_rights::read);
      },
      can_split && S::can_replace);
  add(
      "io_pagetable::remap", "remap whole areas", some_in_two<Kind>,
      [](S& s) { return s.table().remap(s.pages_at(32, 16), s.table().user_memory(s.at(30)), rw); },
      S::can_replace);
  add(
      "io_pagetable::remap", "remap without a domain", [](S& s) { map_some(s); },
      [](S& s) {
        return s.table().remap(s.pages_at(34, 12), s.table().user_memory(s.at(30)), rw);
      });
  constexpr auto pin = [](S& s) { return s.pin(34, 12, access_rights::write); };
  add("access_object::pin", "pin", [](S& s) { map_some(s), s.user(); }, pin);
  add("access_object::pin", "pin what a domain holds", [](S& s) { some_in_two(s), s.user(); }, pin);
  add(
      "access_object::pin", "pin what a copy in another table holds",
      [](S& s) {
        map_some(s), s.user();
        s.attach_domain(1);
        must(s.table(1).copy(s.table(0), s.pages_at(36, 6), rw));
      },
      pin);
  add(
      "access_object::pin", "pin what is pinned in part",
      [](S& s) {
        map_some(s);
        must(s.pin(36, 2));
        must(s.pin(39, 3));
      },
      pin);
  add(
      "access_object::pin", "pin again",
      [](S& s) {
        map_some(s);
        must(s.pin(34, 12));
      },
      pin);
  add(
      "access_object::read", "read a page of another",
      [](S& s) { some_in_two(s), s.user(), s.pinner.kill(s.owner()); },
      [](S& s) {
        std::byte data[16];
        return s.user().read(s.io(33) + 5, data);
      });
  add(
      "io_pagetable::resume_access", "resume with another owner",
      [](S& s) {
        some_in_two(s);
        must(s.table().suspend_access(s.pages_at(32, 8)));
      },
      [](S& s) {
        return s.table().resume_access(s.pages_at(32, 8),
                                       s.table().user_memory(s.owner(1), s.at(0)));
      });
  add(
      "io_pagetable::change_owner", "change the owner of files",
      [](S& s) {
        two_domains(s);
        const auto f = s.add_file(32);
        auto& t = s.table();
        must(t.map(t.file_memory(f, 0), 8 * s.page, rw, s.io(32)));
        must(t.map(t.file_memory(f, 8 * s.page), 8 * s.page, rw, s.io(40)));
        must(t.copy(t, s.pages_at(36, 8), rw, s.io(64)));
      },
      [](S& s) { return s.table().change_owner(s.owner(1)); });
  add(
      "io_pagetable::change_owner_of", "change the owner of files in two tables",
      [](S& s) {
        s.attach_domain(0), s.attach_domain(1);
        const auto f = s.add_file(32);
        auto& t = s.table(0);
        auto& u = s.table(1);
        must(t.map(t.file_memory(f, 0), 8 * s.page, rw, s.io(32)));
        must(t.map(t.file_memory(f, 8 * s.page), 8 * s.page, rw, s.io(40)));
        must(u.copy(t, s.pages_at(36, 8), rw, s.io(64)));
        must(u.map(u.file_memory(f, 16 * s.page), 8 * s.page, rw, s.io(32)));
      },
      [](S& s) {
        return S::table_type::change_owner_of(
            [&](auto f) {
              for (const auto& t : s.tables) f(*t);
            },
            s.owner(1));
      });
  add(
      "io_pagetable::restore", "restore device memory",
      [](S& s) {
        two_domains(s);
        s.device = s.pinner.create_exporter(16 * s.page);
        auto& t = s.table();
        must(t.map(t.device_memory(s.device, 0), 4 * s.page, rw, s.io(32)));
        must(t.map(t.device_memory(s.device, 4 * s.page), 4 * s.page, rw, s.io(48)));
        t.revoke(s.device);
        s.pinner.set_revoked(s.device, true);
        s.pinner.relocate(s.device);
        s.pinner.set_revoked(s.device, false);
      },
      [](S& s) { return s.table().restore(s.device); });
  add(
      "io_pagetable::reserve", "reserve", [](S& s) { map_some(s); },
      [](S& s) { return s.table().reserve(s.pages_at(1000, 1), &s); });
  add(
      "io_pagetable::allow", "allow",
      [](S& s) {
        const iova_range list[] = {s.pages_at(8, 8)};
        must(s.table().allow(list));
      },
      [](S& s) {
        const iova_range list[] = {s.pages_at(300, 8), s.pages_at(400, 8), s.pages_at(500, 8)};
        return s.table().allow(list);
      });
  add(
      "io_pagetable::set_dirty_tracking", "track dirty pages", some_in_two<Kind>,
      [](S& s) { return s.table().set_dirty_tracking(*s.domains[0], true); }, S::can_track);
  add(
      "io_pagetable::unmap_all", "unmap vector with cuts", some_in_two<Kind>,
      [](S& s) {
        const iova_range list[] = {s.pages_at(33, 2), s.pages_at(66, 2), s.pages_at(36, 9)};
        return s.table().unmap_all(list, unmap_profile::hole_punching).outcome;
      },
      can_split);
  add(
      "io_pagetable::unmap", "punch a hole as iommufd",
      [](S& s) { must(s.table().disable_large_pages()), some_in_two(s); },
      [](S& s) {
        return s.table().unmap(s.io(34), 4 * s.page, unmap_profile::iommufd_compat_v1).outcome;
      });
  add(
      "io_pagetable::would_unmap", "look at a hole", some_in_two<Kind>,
      [](S& s) {
        return s.table().would_unmap(s.io(34), 4 * s.page, unmap_profile::hole_punching).outcome;
      },
      can_split);
  add("io_pagetable::unmap_all", "unmap everything", some_in_two<Kind>,
      [](S& s) { return s.table().unmap_all().outcome; });
  static constexpr auto dirty = [](S& s) { some_in_two(s), s.write_by_device(); };
  static constexpr auto take = [](S& s, iova_range gone, unmap_profile profile) {
    const auto record = [&](iova_range r) { s.told.push_back(r); };
    return s.all_told(s.table().unmap_dirty(gone.first, gone.length(), profile, record).outcome,
                      gone);
  };
  add("io_pagetable::unmap_dirty", "unmap what was written", dirty,
      [](S& s) { return take(s, s.pages_at(32, 16), unmap_profile::iommufd); });
  add(
      "io_pagetable::unmap_dirty", "punch a hole in what was written", dirty,
      [](S& s) { return take(s, s.pages_at(33, 12), unmap_profile::hole_punching); }, can_split);
  add(
      "io_pagetable::read_dirty", "read what was written", dirty,
      [](S& s) {
        const iova_range all_of_it = s.pages_at(32, 16);
        return s.all_told(s.table().read_dirty(*s.domains[0], all_of_it, dirty_read::clear,
                                               [&](iova_range r) { s.told.push_back(r); }),
                          all_of_it);
      },
      S::can_track);
  add("io_pagetable::suspend_access", "suspend", some_in_two<Kind>,
      [](S& s) { return s.table().suspend_access(s.pages_at(32, 16)); });
  add(
      "io_pagetable::disable_large_pages", "switch large pages off", [](S& s) { map_some(s); },
      [](S& s) { return s.table().disable_large_pages(); });
  add(
      "io_pagetable::allow_each", "allow ranges that come one by one", [](S&) {},
      [](S& s) {
        std::uint64_t n = 0;
        return s.table().allow_each([&]() -> result<std::optional<iova_range>> {
          if (n == 3) return std::nullopt;
          return s.pages_at(100 * ++n, 8);
        });
      });
  add("access_object::attach", "join a table", some_in_two<Kind>,
      [](S& s) { return s.access_user.attach(s.table()); });
  add(
      "access_object::replace", "join another table",
      [](S& s) {
        some_in_two(s);
        must(s.pin(34, 3));
      },
      [](S& s) { return s.access_user.replace(s.table(1)); });
  add(
      "access_object::read", "read two areas", [](S& s) { some_in_two(s), s.user(); },
      [](S& s) {
        std::byte data[16];
        return s.user().read(s.io(40) - 8, data);
      });
  add(
      "access_object::write", "write two areas", [](S& s) { some_in_two(s), s.user(); },
      [](S& s) {
        const std::byte data[16] = {};
        return s.user().write(s.io(40) - 8, data);
      });
  // Memory that no process shows is copied frame by frame.
  constexpr auto map_file = [](S& s) {
    auto& t = s.table();
    must(t.map(t.file_memory(s.add_file(16), 0), 8 * s.page, rw, s.io(32)));
    s.user();
  };
  add("access_object::read", "read a file", map_file, [](S& s) {
    std::byte data[16];
    return s.user().read(s.io(33) - 8, data);
  });
  add("access_object::write", "write to a file", map_file, [](S& s) {
    const std::byte data[16] = {};
    return s.user().write(s.io(33) - 8, data);
  });
  return all;
}

/// Runs a scenario without faults. Says what it looks like afterwards; nothing where this kind of
/// domain cannot do it, which changes nothing either.
template <class Kind>
std::optional<snapshot> without_faults(const scenario<Kind>& each, std::uint64_t contiguity) {
  stage<Kind> s(contiguity);
  each.prepare(s);
  const snapshot before = s.look();
  const result<void> done = each.run(s);
  CAPTURE(text(done));
  REQUIRE(done.has_value() == each.possible);
  REQUIRE(s.verify() == "");
  const snapshot after = s.look();
  if (!done) {
    CAPTURE(difference(before, after));
    REQUIRE(before == after);
  }
  REQUIRE(s.close() == "");
  if (!done) return std::nullopt;
  return after;
}

template <class Kind>
void sweep(fault_report& report, int kind_number) {
  using S = stage<Kind>;
  std::uint64_t total = 0;
  std::vector<std::uint64_t> pieces{mock::contiguity::scattered, mock::contiguity::contiguous};
  if (std::is_same_v<Kind, kinds::full>) pieces.push_back(4 * S::page);
  for (const std::uint64_t contiguity : pieces)
    for (const scenario<Kind>& each : scenarios<Kind>()) {
      CAPTURE(kind_number, contiguity, each.name);
      const std::optional<snapshot> wanted = without_faults(each, contiguity);
      if (!wanted) continue;
      std::uint64_t failures = 0;
      for (std::uint64_t n = 0;; ++n) {
        CAPTURE(n);
        S s(contiguity);
        each.prepare(s);
        const snapshot before = s.look();
        result<void> done = report.run(each.call, s.faults, n, [&] { return each.run(s); });
        if (!s.faults.fired()) {
          REQUIRE(done);
          break;
        }
        CAPTURE(name(s.faults.fired_at()));
        REQUIRE(s.verify() == "");
        if (!done) {  // a smaller batch will do where memory was refused
          ++failures;
          CHECK(done.error() == s.faults.error_of(s.faults.fired_at()));
          const snapshot after = s.look();
          CAPTURE(difference(before, after));
          REQUIRE(before == after);
          done = each.run(s);
          CAPTURE(text(done));
          REQUIRE(done);
          REQUIRE(s.verify() == "");
        }
        const snapshot after = s.look();
        CAPTURE(difference(*wanted, after));
        REQUIRE(*wanted == after);
        REQUIRE(s.close() == "");
      }
      total += failures;
    }
  CHECK(total > 500);
}

template <class... Kinds>
fault_report sweep_all() {
  fault_report report;
  int number = 0;
  (sweep<Kinds>(report, number++), ...);
  return report;
}

}  // namespace

TEST_CASE("what fails changes nothing, and everything that may fail has failed", "[sweep]") {
  const fault_report report = sweep_all<IOPT_TEST_KINDS>();
  report.print("core");
  using enum mock::fault_point;
  CHECK(report.not_fired({allocation, pin, pin_file, resolve, charge, copy, map, map_runs, split,
                          protect, replace, read_dirty, set_dirty_tracking}) == "");
  for (const fallible_call& c : calls) {
    CAPTURE(c.name);
    CHECK(report.knows(c.name));
    CHECK((report.of(c.name).fired == 0) == (c.why_no_point != nullptr));
    CHECK((report.of(c.name).passed == 0) == (c.why_no_point != nullptr));
  }
  CHECK(report.calls() == std::size(calls));
}

// ---- Undoing ---------------------------------------------------------------------------------------

TEMPLATE_TEST_CASE("what is undone asks for no memory, in whatever order", "[sweep]",
                   IOPT_TEST_KINDS) {
  using S = stage<TestType>;
  constexpr std::uint64_t page = S::page;
  const std::uint64_t pieces[] = {mock::contiguity::scattered, mock::contiguity::contiguous,
                                  4 * page};
  for (std::uint64_t seed = 0; seed < 60; ++seed) {
    CAPTURE(seed);
    std::mt19937_64 random(seed);
    const auto below = [&](std::uint64_t n) { return random() % n; };
    S s(pieces[seed % 3]);
    // Two tables that show the same memory, in pieces and with holes, pinned here and there.
    auto& t = s.table(0);
    auto& other = s.table(1);
    if (seed % 2 == 0) s.attach_domain(0), s.attach_domain(0);
    must(t.map(s.at(0), 24 * page, rw, s.io(32)));
    must(t.map(s.at(24), 8 * page, rw, s.io(56)));
    s.attach_domain(1);
    must(other.copy(t, s.pages_at(36, 16), rw, s.io(100)));
    must(t.copy(t, s.pages_at(48, 12), rw, s.io(80)));
    s.user();
    for (unsigned n = 0; n < 12; ++n) {
      const std::uint64_t first = 32 + below(30);
      // What is pinned or cannot be split stays as it is.
      if (n % 3 == 0) {
        static_cast<void>(
            t.unmap(s.io(first), (1 + below(2)) * page, unmap_profile::hole_punching));
      } else if (n % 3 == 1) {
        static_cast<void>(t.cut(s.io(first) - 1));
      } else {
        static_cast<void>(s.pin(first, 1 + below(4)));
      }
    }
    if (seed % 2 == 1) s.attach_domain(0);
    must(t.reserve(s.pages_at(1000, 4), &s));
    s.account.refuse_all();
    for (unsigned n = 0; n < 40; ++n) {
      switch (below(6)) {
        case 0:
          if (t.domain_count() != 0) REQUIRE(t.detach(t.domain(below(t.domain_count()))));
          break;
        case 1:
        case 2:
          if (!s.pins.empty()) {
            std::swap(s.pins[below(s.pins.size())], s.pins.back());
            s.access_user.unpin(s.pins.back());
            s.pins.pop_back();
          }
          break;
        case 3:
        case 4: {
          std::vector<iova_range> areas;
          t.for_each_area([&](const area_info& a) { areas.push_back(a.where); });
          if (areas.empty()) break;
          const iova_range gone = areas[below(areas.size())];
          REQUIRE(t.unmap(gone.first, gone.length(), unmap_profile::exact));
          break;
        }
        default:
          if (below(8) == 0) REQUIRE(other.unmap_all());
          if (below(8) == 0) t.unreserve(&s);
          if (below(8) == 0) s.release();
      }
      if (n % 5 == 0) REQUIRE(s.verify() == "");
    }
    REQUIRE(s.close() == "");
  }
}

}  // namespace iopt::test
