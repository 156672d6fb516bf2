// tests/core/translation_hook_test.cpp - a table's index shows exactly what the table maps of user
// memory, after every operation and every refusal, and before anything is unpinned.
#include "iopt/core/translation_hook.hpp"

#include <atomic>
#include <random>
#include <thread>
#include <vector>

#include "iopt/core/translation_index.hpp"
#include "tests/catch.hpp"
#include "tests/core/engine_fixture.hpp"

namespace iopt::test {
namespace {

template <std::uint64_t Window>
struct told_traits : plain_traits {
  using readers = translation_index<mock::failing_memory, Window>;
};
struct told_threads : locked_traits {
  using readers = translation_index<mock::failing_memory>;
};
static_assert(translation_keeper<translation_index<heap_memory>>);
static_assert(!translation_keeper<no_readers>);
static_assert(sizeof(detail::table_readers<no_readers, heap_memory>) == 1);

/// "" if the index of a table shows what the table maps, byte for byte.
template <class Table>
std::string compare(Table& t) {
  auto& index = t.readers();
  if (const std::string_view wrong = index.verify(); !wrong.empty()) return std::string(wrong);
  std::string wrong;
  std::uint64_t told = 0, mapped = 0;
  index.for_each([&](iova_range r, user_address host, bool shown) {
    if (!shown) wrong = "an entry is not shown";
    told += r.length();
    for (const iova at : {r.first, r.last}) {
      const auto m = t.memory_at(at);
      if (!m || m->of.kind != origin_kind::user)
        wrong = "an entry is not mapped";
      else if (m->from.value != host.value + (at - r.first))
        wrong = "an entry shows other memory";
    }
  });
  t.for_each_area([&](const area_info& a) {
    if (t.memory_at(a.where.first)->of.kind == origin_kind::user) mapped += a.where.length();
  });
  return !wrong.empty() ? wrong : told == mapped ? "" : "what is mapped is not all told";
}

/// One random operation; what it answers does not matter.
template <class W>
void step(W& w, mock::file file, std::mt19937_64& bits) {
  auto& t = w.table();
  const std::uint64_t page = W::page;
  const auto some = [&] {
    const std::uint64_t first = bits() % 24;
    return w.pages_at(first, bits() % 6 + 1);
  };
  const iova_range r = some();
  switch (bits() % 10) {
    case 0:
    case 1: static_cast<void>(t.map(w.at(bits() % 32), r.length(), rw, r.first)); break;
    case 2:
      static_cast<void>(t.map(t.file_memory(file, bits() % 8 * page), r.length(), rw, r.first));
      break;
    case 3: static_cast<void>(t.unmap(r.first, r.length(), unmap_profile::hole_punching)); break;
    case 4: static_cast<void>(t.unmap(r.first, r.length(), unmap_profile::type1_v2)); break;
    case 5: static_cast<void>(t.cut(r.last)); break;
    case 6:
      static_cast<void>(t.remap(r,
                                bits() % 3 == 0 ? t.file_memory(file, bits() % 8 * page)
                                                : t.user_memory(w.at(bits() % 32)),
                                rw));
      break;
    case 7:
      if (const auto a = t.first_in(r); a && t.suspend_access(a->where)) {
        const auto m = t.memory_at(a->where.first);
        const user_address moved{m->from.value + bits() % 3 * page};
        static_cast<void>(t.resume_access(
            a->where, bits() % 4 == 0 ? t.file_memory(file, moved.value) : t.user_memory(moved)));
        static_cast<void>(t.resume_access(a->where, *m));
      }
      break;
    case 8: static_cast<void>(t.copy(t, r, rw, w.io(bits() % 24))); break;
    default: {
      const iova_range two[] = {r, some()};
      static_cast<void>(t.unmap_all(two, unmap_profile::iommufd));
      static_cast<void>(t.protect(r, rw));
    }
  }
}

TEMPLATE_TEST_CASE("an index shows what the table maps of user memory", "[model]", told_traits<0>,
                   told_traits<std::uint64_t{8} << 20>) {
  using W = world<kind<full_domain, TestType>>;
  for (std::uint64_t seed = 1; seed <= 4; ++seed) {
    CAPTURE(seed);
    std::mt19937_64 bits(seed);
    W w(mock::contiguity::scattered);
    const mock::file file = w.add_file(64);
    if (seed % 2 == 0) w.attach_domain();
    for (int n = 0; n < 600; ++n) {
      step(w, file, bits);
      REQUIRE(compare(w.table()) == "");
    }
    REQUIRE(w.verify() == "");
    REQUIRE(w.close() == "");
  }
}

TEST_CASE("an index shows what the table maps, whatever is refused", "[sweep]") {
  using W = world<kind<full_domain, told_traits<0>>>;
  for (std::uint64_t fault = 0; fault < 12; ++fault) {
    std::mt19937_64 bits(fault);
    W w(mock::contiguity::scattered);
    const mock::file file = w.add_file(64);
    w.attach_domain();
    for (int n = 0; n < 300; ++n) {
      w.faults.arm(fault);
      step(w, file, bits);
      w.faults.disarm();
      REQUIRE(compare(w.table()) == "");
    }
    REQUIRE(w.close() == "");
  }
}

TEST_CASE("a hole in an area is one in the index, whatever is refused", "[hole][sweep]") {
  using W = world<kind<full_domain, told_traits<0>>>;
  for (const std::uint64_t first : {0u, 3u, 7u}) {
    for (std::uint64_t fault = 0;; ++fault) {
      CAPTURE(first, fault);
      W w;
      w.attach_domain();
      auto& t = w.table();
      must(t.map(w.at(0), 8 * W::page, rw, w.io(16)));
      w.faults.arm(fault);
      const unmap_report gone = t.unmap(w.io(16 + first), W::page, unmap_profile::hole_punching);
      const bool fired = w.faults.fired();
      w.faults.disarm();
      CHECK(gone.outcome.has_value() == !fired);
      REQUIRE(compare(t) == "");
      REQUIRE(w.close() == "");
      if (!fired) break;
    }
  }
}

TEST_CASE("a copy of many areas that has no room in the index leaves nothing there", "[copy]") {
  using W = world<kind<full_domain, told_traits<0>>>;
  for (std::uint64_t fault = 0;; ++fault) {
    W w;
    auto& t = w.table();
    for (std::uint64_t n = 0; n != 48; ++n) must(t.map(w.at(n), W::page, rw, w.io(n)));
    w.faults.arm(mock::fault_point::allocation, fault);
    const auto copied = t.copy(t, w.pages_at(0, 48), rw, w.io(1024));
    const bool fired = w.faults.fired();
    w.faults.disarm();
    CHECK(t.readers().size() == (copied ? 96 : 48));
    REQUIRE(compare(t) == "");
    REQUIRE(w.close() == "");
    if (fired) continue;
    CHECK(copied.has_value());
    break;
  }
}

TEST_CASE("a table that moves takes its index along") {
  using W = world<kind<full_domain, told_traits<0>>>;
  W w;
  auto& t = w.table();
  must(t.map(w.at(0), 4 * W::page, rw, w.io(4)));
  typename W::table_type moved(std::move(t));
  CHECK(moved.readers().size() == 1);
  CHECK(t.readers().size() == 0);
  CHECK(compare(moved) == "");
}

TEST_CASE("no page is unpinned that a section may still use", "[stress]") {
  using W = world<kind<full_domain, told_threads>>;
  W w(mock::contiguity::scattered);
  auto& t = w.table();
  w.attach_domain();
  std::atomic<bool> stop{false};
  std::atomic<unsigned> bad{0}, good{0};
  std::vector<std::thread> readers;
  for (unsigned n = 0; n < 2; ++n)
    readers.emplace_back([&, n] {
      auto me = *t.readers().attach();
      std::mt19937_64 bits(n);
      while (!stop.load(std::memory_order_relaxed)) {
        me.enter();
        for (int k = 0; k < 8; ++k) {
          const auto run = me.find(w.io(bits() % 16));
          if (!run) continue;
          if (bits() % 8 == 0) std::this_thread::yield();
          if (w.pinner.pins(w.owner(), run->first) == 0) ++bad;
          ++good;
        }
        me.leave();
        std::this_thread::yield();
      }
    });
  std::mt19937_64 bits(7);
  for (unsigned n = 0; n < 400 || (good < 200 && n < 100000); ++n) {
    const std::uint64_t first = bits() % 16;
    if (bits() % 2 == 0)
      static_cast<void>(t.map(w.at(bits() % 32), W::page, rw, w.io(first)));
    else
      static_cast<void>(t.unmap(w.io(first), W::page * 2, unmap_profile::hole_punching));
    if (n % 4 == 0) std::this_thread::yield();
  }
  stop = true;
  for (auto& r : readers) r.join();
  CHECK(bad == 0);
  CHECK(good > 0);
  CHECK(compare(t) == "");
  CHECK(w.close() == "");
}

}  // namespace
}  // namespace iopt::test
