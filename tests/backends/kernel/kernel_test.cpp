// tests/backends/kernel/kernel_test.cpp - the engine over a kernel's functions, which a C file plays.
#include "iopt/backends/kernel/kernel.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "iopt/core/access_object.hpp"
#include "iopt/core/io_pagetable.hpp"
#include "tests/backends/kernel/machine.h"
#include "tests/catch.hpp"
#include "tests/policy/iommu_domain_conformance.hpp"
#include "tests/policy/page_pinner_conformance.hpp"

namespace {

using iopt::access_rights;
using iopt::errc;
using iopt::iova;
using iopt::iova_range;
using iopt::physical;
using iopt::unmap_profile;
using iopt::user_address;
using iopt::user_range;

constexpr access_rights rw = access_rights::read_write;
constexpr std::uint64_t page = iopt::kernel::page_bytes;

using table_type =
    iopt::io_pagetable<iopt::kernel::pinner, iopt::kernel::domain, iopt::kernel::traits>;
using access_type =
    iopt::access_object<iopt::kernel::pinner, iopt::kernel::domain, iopt::kernel::traits>;
static_assert(iopt::table_traits<iopt::kernel::traits>);

struct machine_deleter {
  void operator()(machine* m) const { machine_destroy(m); }
};
using machine_pointer = std::unique_ptr<machine, machine_deleter>;
machine_pointer new_machine() { return machine_pointer(machine_create()); }

/// What the machine still has that it should not; "" where nothing.
std::string left_over(const machine& m) {
  std::string text;
  const auto say = [&](const char* what, long count) {
    if (count != 0) text += std::string(what) + " " + std::to_string(count) + "; ";
  };
  say("faults", m.faults);
  say("blocks", m.blocks);
  say("pins", machine_pins(&m));
  for (const long pages : m.counted) say("counted", pages);
  say("references", m.mm[0].references + m.mm[1].references);
  say("tasks", m.task_references);
  say("users", m.user_references);
  say("locks", machine_locks());
  say("faults with locks", machine_lock_faults());
  return text;
}

user_address memory_at(std::uint64_t n) { return {MACHINE_MEMORY + n * page}; }
iova at(std::uint64_t n) { return {0x100000000 + n * page}; }
iova_range pages(std::uint64_t first, std::uint64_t count) {
  return iova_range::sized(at(first), count * page);
}

/// Two domains and a table over one machine. Members go in the order that the contract asks for.
struct world {
  machine_pointer owned = new_machine();
  machine& m = *owned;
  iopt::kernel::pinner pinner{m.operations};
  iopt::kernel::domain first{m.operations, machine_domain_create(&m)};
  iopt::kernel::domain second{m.operations, machine_domain_create(&m)};
  std::optional<table_type> table{std::in_place, pinner, iopt::kernel::memory(m.operations)};

  std::string close() {
    table.reset();
    return left_over(m);
  }
};

struct pinner_hooks {
  machine* m;

  std::uint64_t page_bytes() const { return page; }
  user_range memory(iopt::kernel::pinner&, std::uint64_t count) {
    return user_range::sized(memory_at(2), count * page);
  }
  user_range hole(iopt::kernel::pinner&) {
    return user_range::sized(memory_at(MACHINE_HOLE), page);
  }
  user_range read_only(iopt::kernel::pinner&) {
    return user_range::sized(memory_at(MACHINE_READ_ONLY), page);
  }
  static std::uint64_t frame(physical f) { return f.value / page - MACHINE_FIRST_PFN; }
  std::uint64_t pins(iopt::kernel::pinner&, physical f) {
    return static_cast<std::uint64_t>(m->pins[frame(f)]);
  }
  bool was_dirtied(iopt::kernel::pinner&, physical f) { return m->dirtied[frame(f)] != 0; }
  void limit(iopt::kernel::pinner&, iopt::account_mode mode, std::uint64_t count) {
    m->limit[static_cast<std::size_t>(mode)] = static_cast<long>(count);
  }
  iopt::kernel::owner vanished(iopt::kernel::pinner&) {
    iopt_kernel_owner parts{&m->mm[1], nullptr, nullptr};
    m->operations.owner_get(m, &parts);
    return iopt::kernel::owner(m->operations, parts);
  }
};

struct domain_hooks : iopt_conformance::imaginary_memory {
  machine* m;

  iopt::attributes attributes_at(iopt::kernel::domain& d, iova v) {
    const int prot = machine_domain_prot(d.of_kernel(), v.value);
    REQUIRE(prot >= 0);
    access_rights rights = access_rights::none;
    if ((prot & IOPT_KERNEL_IOMMU_READ) != 0) rights = rights | access_rights::read;
    if ((prot & IOPT_KERNEL_IOMMU_WRITE) != 0) rights = rights | access_rights::write;
    CHECK(((prot & IOPT_KERNEL_IOMMU_MMIO) == 0) == ((prot & IOPT_KERNEL_IOMMU_CACHE) != 0));
    return {rights, (prot & IOPT_KERNEL_IOMMU_MMIO) != 0 ? iopt::memory_type::mmio
                                                         : iopt::memory_type::cached};
  }
  void refuse_next(iopt::kernel::domain&) { m->fail_in = 0; }
};

}  // namespace

TEST_CASE("a kernel's pages are a pinner that keeps the contract", "[kernel]") {
  const machine_pointer m = new_machine();
  iopt_conformance::check_pinner<iopt::kernel::pinner>(
      [&] {
        for (long& limit : m->limit) limit = -1;
        return iopt::kernel::pinner(m->operations);
      },
      pinner_hooks{m.get()});
  CHECK(left_over(*m) == "");
}

TEST_CASE("a kernel's domain keeps the contract", "[kernel]") {
  const machine_pointer m = new_machine();
  iopt_conformance::check_domain<iopt::kernel::domain>(
      [&] { return iopt::kernel::domain(m->operations, machine_domain_create(m.get())); },
      domain_hooks{{}, m.get()});
  CHECK(left_over(*m) == "");
}

TEST_CASE("device memory is mapped as such", "[kernel]") {
  world w;
  REQUIRE(w.first.map(pages(0, 1), {1u << 20}, {rw, iopt::memory_type::mmio}));
  CHECK(machine_domain_prot(w.first.of_kernel(), at(0).value) ==
        (IOPT_KERNEL_IOMMU_READ | IOPT_KERNEL_IOMMU_WRITE | IOPT_KERNEL_IOMMU_MMIO));
  CHECK(w.first.unmap(pages(0, 1)) == page);
  w.first.sync();
  CHECK(w.close() == "");
}

TEST_CASE("an owner holds what it names, once for each copy", "[kernel]") {
  const machine_pointer m = new_machine();
  iopt::kernel::pinner pinner(m->operations);
  {
    const iopt::kernel::owner a = pinner.current();
    CHECK(m->mm[0].references == 1);
    iopt::kernel::owner b = a;
    CHECK(m->mm[0].references == 2);
    iopt::kernel::owner c = std::move(b);
    CHECK(m->mm[0].references == 2);
    CHECK(c == a);
    const iopt::kernel::owner nobody(m->operations, {});
    CHECK_FALSE(nobody == a);
    CHECK_FALSE(pinner.reachable(nobody));
    c = nobody;
    CHECK(m->mm[0].references == 1);
    c = a;
    CHECK((m->task_references == 2 && m->user_references == 2));
  }
  CHECK(left_over(*m) == "");
}

TEST_CASE("the kernel's errno is passed on, and what came before it stays", "[kernel]") {
  world w;
  const iopt::kernel::owner who = w.pinner.current();
  std::array<iopt::run, 64> storage;
  iopt::run_list out{storage};
  const auto pin = [&](std::uint64_t first, std::uint64_t count) {
    return w.pinner.pin(who, user_range::sized(memory_at(first), count * page), rw, out);
  };
  w.m.pin_answer = -4;
  CHECK(pin(0, 1).error() == errc::interrupted);
  w.m.pin_answer = 0;
  CHECK(pin(0, 1).error() == errc::bad_address);
  CHECK(out.empty());
  // A short answer is no error, and nothing behind the hole is pinned.
  REQUIRE(pin(MACHINE_HOLE - 5, 66).has_value());
  CHECK(out.bytes() == 5 * page);
  for (const iopt::run& r : out.view()) w.pinner.unpin(r, false);
  // A second call of the kernel that fails.
  out.clear();
  w.m.fail_in = 1;
  REQUIRE(pin(0, 100).has_value());
  CHECK(out.bytes() == iopt::kernel::pinner::batch_pages * page);
  for (const iopt::run& r : out.view()) w.pinner.unpin(r, false);
  CHECK(machine_pins(&w.m) == 0);
}

TEST_CASE("the engine maps, copies, changes domains and unmaps over a kernel", "[kernel]") {
  world w;
  table_type& t = *w.table;
  REQUIRE(t.attach(w.first));
  REQUIRE(t.map(memory_at(0), 128 * page, rw, at(0)) == at(0));
  CHECK(machine_pins(&w.m) == 128);
  CHECK(machine_domain_mappings(w.first.of_kernel()) == 32);  // one for each four pages
  CHECK(w.m.counted[IOPT_KERNEL_ACCOUNT_USER] == 128);
  CHECK(w.m.pin_calls == 2);

  // Another table shows the same pages: nothing is pinned or counted twice.
  std::optional<table_type> other(std::in_place, w.pinner, iopt::kernel::memory(w.m.operations));
  REQUIRE(other->attach(w.second));
  REQUIRE(other->copy(t, pages(16, 32), access_rights::read, at(500)) == at(500));
  CHECK(machine_pins(&w.m) == 128);
  CHECK(w.second.translate(at(501)) == w.first.translate(at(17)));
  CHECK(machine_domain_prot(w.second.of_kernel(), at(500).value) ==
        (IOPT_KERNEL_IOMMU_READ | IOPT_KERNEL_IOMMU_CACHE));

  // The first table lets go of all: the pages that the second shows stay.
  const long syncs = w.m.syncs;
  REQUIRE(t.unmap(at(0), 128 * page, unmap_profile::iommufd));
  CHECK(w.m.syncs == syncs + 1);
  CHECK(machine_pins(&w.m) == 32);
  CHECK(other->verify() == "");

  // A read only page cannot be mapped to be written, and nothing of the rest stays.
  CHECK(t.map(memory_at(250), 6 * page, rw, at(0)).error() == errc::bad_address);
  REQUIRE(t.map(memory_at(250), 6 * page, access_rights::read, at(0)));
  REQUIRE(t.replace(w.first, w.first));
  CHECK(t.detach(w.first));
  CHECK(machine_domain_mappings(w.first.of_kernel()) == 0);
  REQUIRE(t.attach(w.first));
  CHECK(t.enforce_cache_coherency());
  CHECK(t.verify() == "");
  other.reset();
  CHECK(w.close() == "");
}

TEST_CASE("an area is cut once large pages are off", "[kernel]") {
  world w;
  table_type& t = *w.table;
  REQUIRE(t.attach(w.first));
  REQUIRE(t.map(memory_at(0), 8 * page, rw, at(0)));
  CHECK(t.cut(at(4) - 1).error() == errc::invalid_argument);
  REQUIRE(t.unmap_all());
  REQUIRE(t.disable_large_pages());
  REQUIRE(t.map(memory_at(0), 8 * page, rw, at(0)));
  CHECK(machine_domain_mappings(w.first.of_kernel()) == 8);
  REQUIRE(t.unmap(at(2), 3 * page, unmap_profile::hole_punching));
  CHECK(machine_pins(&w.m) == 5);
  CHECK(w.close() == "");
}

TEST_CASE("an access object reads, writes and pins over a kernel", "[kernel]") {
  world w;
  table_type& t = *w.table;
  struct user {
    bool pinned = false;
    access_type object{[](void* self, iova_range) {
                         user& told = *static_cast<user*>(self);
                         if (std::exchange(told.pinned, false)) told.object.unpin(pages(1, 6));
                       },
                       this};
  };
  std::optional<user> life(std::in_place);
  user& u = *life;
  REQUIRE(u.object.attach(t));
  REQUIRE(t.map(memory_at(0), 8 * page, rw, at(0)));
  std::array<std::byte, 6000> sent, got{};
  for (std::size_t n = 0; n < sent.size(); ++n) sent[n] = static_cast<std::byte>(n * 7);
  REQUIRE(u.object.write(at(2) - 3, sent));
  REQUIRE(u.object.read(at(2) - 3, got));
  CHECK(got == sent);
  std::uint64_t bytes = 0;
  REQUIRE(u.object.pin(pages(1, 6), rw, [&](iopt::run r) { bytes += r.length_bytes; }));
  u.pinned = true;
  CHECK(bytes == 6 * page);
  CHECK(machine_pins(&w.m) == 6);
  // The process is gone: what is pinned can still be read, and the rest not.
  w.m.mm[0].alive = 0;
  got = {};
  REQUIRE(u.object.read(at(2) - 3, got));
  CHECK(got == sent);
  CHECK_FALSE(u.object.read(at(0), got).has_value());
  REQUIRE(t.unmap_all());
  CHECK(machine_pins(&w.m) == 0);
  u.object.detach();
  life.reset();  // it has a lock of its own
  CHECK(w.close() == "");
}

TEST_CASE("whatever a kernel refuses, nothing is kept of it", "[kernel]") {
  world w;
  table_type& t = *w.table;
  table_type other(w.pinner, iopt::kernel::memory(w.m.operations));
  REQUIRE(t.attach(w.first));
  REQUIRE(other.attach(w.second));
  REQUIRE(t.map(memory_at(0), 64 * page, rw, at(0)));
  REQUIRE(t.map(memory_at(64), page, rw, at(64)));  // where the room of an area was left

  // Calls `operation` with the n-th fallible call of the kernel failing, until it goes through.
  const auto sweep = [&](const char* name, auto operation) {
    INFO(name);
    for (long n = 0;; ++n) {
      REQUIRE(n < 1000);
      const auto picture = [&] {
        return std::vector<long>{machine_pins(&w.m),
                                 w.m.counted[IOPT_KERNEL_ACCOUNT_USER],
                                 machine_domain_mappings(w.first.of_kernel()),
                                 machine_domain_mappings(w.second.of_kernel()),
                                 static_cast<long>(t.area_count()),
                                 static_cast<long>(other.area_count()),
                                 static_cast<long>(t.domain_count())};
      };
      const std::vector<long> before = picture();
      w.m.fail_in = n;
      const bool done = operation();
      const bool fired = w.m.fail_in < 0;
      w.m.fail_in = -1;
      CAPTURE(n);
      REQUIRE(w.m.faults == 0);
      REQUIRE(t.verify() == "");
      REQUIRE(other.verify() == "");
      if (done) {
        REQUIRE(n > 0);  // something could fail
        return;
      }
      REQUIRE(fired);
      REQUIRE(picture() == before);
    }
  };
  sweep("map", [&] { return t.map(memory_at(70), 100 * page, rw, at(100)).has_value(); });
  sweep("map where the table chooses",
        [&] { return t.map(memory_at(200), 9 * page, access_rights::read).has_value(); });
  sweep("copy", [&] { return other.copy(t, pages(3, 9), rw, at(7)).has_value(); });
  iopt::kernel::domain third(w.m.operations, machine_domain_create(&w.m));
  sweep("attach", [&] { return t.attach(third).has_value(); });
  sweep("reserve", [&] { return t.reserve(pages(5000, 1)).has_value(); });
  w.m.fail_in = MACHINE_FAIL_ALWAYS;  // undo may ask, and makes do without
  CHECK(t.detach(third));
  REQUIRE(t.unmap_all());
  REQUIRE(other.unmap_all());
  CHECK(machine_pins(&w.m) == 0);
  CHECK(w.m.counted[IOPT_KERNEL_ACCOUNT_USER] == 0);
  CHECK(t.detach(w.first));
  CHECK(other.detach(w.second));
  CHECK(w.m.faults == 0);
}

TEST_CASE("several threads map and unmap under a kernel's locks", "[kernel]") {
  world w;
  REQUIRE(w.table->attach(w.first));
  std::vector<std::thread> threads;
  std::array<int, 4> refused{};
  for (std::size_t k = 0; k < refused.size(); ++k) {
    threads.emplace_back([&, k] {
      for (std::uint64_t n = 0; n < 50; ++n) {
        const iova where = at(1000 * k + n % 7);
        if (!w.table->map(memory_at(n + 10 * k), 20 * page, rw, where)) ++refused[k];
        if (!w.table->unmap(where, 20 * page, unmap_profile::exact)) ++refused[k];
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(refused == std::array<int, 4>{});
  CHECK(w.table->verify() == "");
  CHECK(w.close() == "");
}
