// tests/core/multi_threaded_test.cpp - several threads in one table, and in tables that share pages.
//
// The mocks stop the program when two calls on one domain overlap, when a page is unpinned while a
// domain shows it, and when more is given back than was taken. What each thread is answered depends
// on the others; what is left when all are done does not. Built with -fsanitize=thread it also shows
// data races. The locks are tried by themselves first, with both kinds of fence.
#include "iopt/core/multi_threaded.hpp"

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <mutex>
#include <random>
#include <thread>
#include <vector>

#include "tests/catch.hpp"
#include "tests/core/engine_fixture.hpp"

namespace iopt::test {
namespace {

/// Readers that take their time, so that others come in between an unmap and its unpin.
struct slow_readers {
  void wait() noexcept {
    for (unsigned n = 0; n < 3; ++n) std::this_thread::yield();
  }
};
struct slow_traits : locked_traits {
  using readers = slow_readers;
};

/// Locks that let others in as soon as they can.
class yielding_mutex {
 public:
  void lock() { mutex_.lock(); }
  void unlock() {
    mutex_.unlock();
    std::this_thread::yield();
  }

 private:
  std::mutex mutex_;
};
struct yielding_traits : slow_traits {
  using mutex = yielding_mutex;
};

/// A user whose pins other threads may ask back.
template <class W>
class user {
 public:
  std::atomic<bool> stubborn = false;
  typename W::access_type object{
      [](void* context, iova_range gone) { static_cast<user*>(context)->let_go(gone); }, this};

  bool pin(iova_range r) {
    const std::lock_guard hold(mutex_);
    if (pins_.size() > 8 || !object.pin(r, access_rights::read, [](run) {})) return false;
    pins_.push_back(r);
    return true;
  }
  void let_go(iova_range gone) {
    if (stubborn && gone != iova_range::whole()) return;
    const std::lock_guard hold(mutex_);
    for (std::size_t n = 0; n < pins_.size();) {
      if (pins_[n].overlaps(gone)) {
        object.unpin(pins_[n]);
        pins_[n] = pins_.back();
        pins_.pop_back();
      } else {
        ++n;
      }
    }
  }
  void unpin_one() {
    const std::lock_guard hold(mutex_);
    if (pins_.empty()) return;
    object.unpin(pins_.back());
    pins_.pop_back();
  }

 private:
  std::mutex mutex_;
  std::vector<iova_range> pins_;
};

template <class W>
void run_threads(W& w, unsigned count, const auto& body) {
  std::vector<std::thread> threads;
  for (unsigned n = 0; n < count; ++n) threads.emplace_back([&, n] { body(n); });
  for (std::thread& t : threads) t.join();
  CHECK(w.verify() == "");
}

/// The shared lock with the dearer fence, whatever the system can.
const asymmetric_fence symmetric(fence_kind::symmetric);
using symmetric_shared_mutex = basic_word_shared_mutex<symmetric>;

/// Long enough for threads that must wait to have gone to sleep.
void until_asleep() { std::this_thread::sleep_for(std::chrono::milliseconds(10)); }

static_assert(sizeof(word_mutex) == 4 && sizeof(word_shared_mutex) == 12);

}  // namespace

TEMPLATE_TEST_CASE("a lock lets in one at a time, whoever sleeps", "[thread][lock]", word_mutex,
                   word_shared_mutex, symmetric_shared_mutex) {
  TestType lock;
  std::uint64_t count = 0, twice = 0;  // of no atomic type: the lock orders them
  std::atomic<unsigned> wrong = 0;
  constexpr unsigned turns = 20'000;
  std::vector<std::thread> threads;
  lock.lock();
  for (unsigned me = 0; me < 4; ++me)
    threads.emplace_back([&, me] {
      for (unsigned n = 0; n < turns; ++n) {
        lock.lock();
        wrong += twice != 2 * count;
        ++count;
        if (n % 256 == me) std::this_thread::yield();  // in the middle, so that others sleep
        twice += 2;
        lock.unlock();
      }
    });
  until_asleep();
  CHECK(count == 0);  // all four wait
  lock.unlock();
  for (std::thread& t : threads) t.join();
  CHECK(wrong == 0);
  CHECK(count == 4 * turns);
}

TEMPLATE_TEST_CASE("readers see what a writer left, and are in together", "[thread][lock]",
                   word_shared_mutex, symmetric_shared_mutex) {
  TestType lock;
  std::array<std::uint64_t, 2> value{};
  std::atomic<unsigned> wrong = 0, inside = 0;
  std::atomic<bool> together = false;
  std::vector<std::thread> threads;
  for (unsigned me = 0; me < 2; ++me) {
    threads.emplace_back([&, me] {
      for (unsigned n = 0; n < 4'000; ++n) {
        lock.lock();
        wrong += inside != 0;
        ++value[0];
        if (n % 64 == me) std::this_thread::yield();
        ++value[1];
        lock.unlock();
      }
    });
    threads.emplace_back([&, me] {
      for (unsigned n = 0; n < 8'000; ++n) {
        lock.lock_shared();
        if (++inside == 2) together = true;
        wrong += value[0] != value[1];
        if (n % 64 == me) std::this_thread::yield();
        --inside;
        lock.unlock_shared();
      }
    });
  }
  for (std::thread& t : threads) t.join();
  CHECK(wrong == 0);
  CHECK(value[0] == 8'000);
  // Two share it for certain where the first waits inside for the second.
  lock.lock_shared();
  std::thread second([&] {
    lock.lock_shared();
    together = true;
    lock.unlock_shared();
  });
  second.join();
  lock.unlock_shared();
  CHECK(together);
}

TEMPLATE_TEST_CASE("whoever sleeps at a lock is woken by who leaves it", "[thread][lock]",
                   word_shared_mutex, symmetric_shared_mutex) {
  for (const bool written : {true, false}) {
    TestType lock;
    // Clang's analysis, which wants one kind of lock in a scope, does not look through std::invoke.
    std::invoke(written ? &TestType::lock : &TestType::lock_shared, lock);
    std::atomic<unsigned> through = 0;
    std::vector<std::thread> threads;
    for (unsigned n = 0; n < 2; ++n) {
      threads.emplace_back([&] {
        lock.lock();
        ++through;
        lock.unlock();
      });
      until_asleep();
      threads.emplace_back([&] {
        lock.lock_shared();
        ++through;
        lock.unlock_shared();
      });
    }
    until_asleep();
    if (written) CHECK(through == 0);
    std::invoke(written ? &TestType::unlock : &TestType::unlock_shared, lock);
    for (std::thread& t : threads) t.join();
    CHECK(through == 4);
  }
}

TEMPLATE_TEST_CASE("a writer gets in while readers never leave the lock alone", "[thread][lock]",
                   word_shared_mutex, symmetric_shared_mutex) {
  TestType lock;
  std::atomic<bool> written = false;
  std::atomic<unsigned> inside = 0;
  std::atomic<std::uint64_t> turns = 0;
  // Some seconds: on a busy machine the writer may be kept from coming for long, and not by the lock.
  constexpr std::uint64_t most = 20'000'000;
  std::vector<std::thread> readers;
  for (unsigned n = 0; n < 2; ++n)
    readers.emplace_back([&] {
      while (!written && turns < most) {
        lock.lock_shared();
        ++inside, ++turns;
        // Leaves when another has come; but one that must wait for the writer does not come.
        for (unsigned k = 0; k < 50 && inside < 2 && !written; ++k) std::this_thread::yield();
        --inside;
        lock.unlock_shared();
      }
    });
  while (turns < 10) std::this_thread::yield();
  lock.lock();
  const std::uint64_t seen = turns;
  written = true;
  lock.unlock();
  for (std::thread& t : readers) t.join();
  CHECK(seen < most);
}

TEMPLATE_TEST_CASE("threads that use ranges of their own are answered as if alone", "[thread]",
                   (kind<full_domain, locked_traits>), (kind<plain_domain, locked_traits>)) {
  using W = world<TestType>;
  W w(4 * W::page);
  auto& t = w.table();
  w.table(1);
  w.attach_domain(), w.attach_domain();
  std::atomic<unsigned> wrong = 0;
  run_threads(w, 4, [&](unsigned me) {
    const std::uint64_t base = 64 + 64 * me;
    const auto expect = [&](bool good) { wrong += !good; };
    for (unsigned n = 0; n < 120; ++n) {
      expect(t.map(w.at(base), 16 * w.page, rw, w.io(base)) == w.io(base));
      expect(t.map(w.at(base), w.page, rw, w.io(base + 15)).error() == errc::file_exists);
      expect(w.table(1).copy(t, w.pages_at(base + 2, 8), rw, w.io(base)).has_value());
      expect(t.cut(w.io(base + 4) - 1).has_value() == W::can_split);
      expect(t.find(w.io(base))->where.first == w.io(base));
      if (W::can_protect) expect(t.protect(w.pages_at(base, 4), access_rights::read).has_value());
      expect(t.unmap(w.io(base), 16 * w.page, unmap_profile::iommufd).bytes == 16 * w.page);
      expect(w.table(1).unmap(w.io(base), 8 * w.page, unmap_profile::iommufd).bytes == 8 * w.page);
    }
  });
  CHECK(wrong == 0);
  CHECK(w.pinner.is_idle());
  REQUIRE(w.close() == "");
}

TEMPLATE_TEST_CASE("threads that collide leave everything whole", "[thread]",
                   (kind<full_domain, slow_traits>), (kind<unreadable_domain, slow_traits>)) {
  using W = world<TestType>;
  for (const std::uint64_t pieces : {mock::contiguity::scattered, mock::contiguity::contiguous}) {
    W w(pieces);
    w.table(1);
    const auto file = w.add_file(64);
    const auto device = w.pinner.create_exporter(64 * W::page);
    user<W> users[2];
    for (std::size_t n = 0; n < 2; ++n) must(users[n].object.attach(w.table(n)));
    for (unsigned n = 0; n < 4; ++n) w.add_domain();
    std::mutex coming_and_going;
    std::vector<std::size_t> where(4, 2);  // the table of each domain; 2: none

    run_threads(w, 4, [&](unsigned me) {
      std::mt19937_64 random(me * 977 + pieces);
      const auto below = [&](std::uint64_t n) { return random() % n; };
      for (unsigned n = 0; n < 800; ++n) {
        const std::size_t which = below(2);
        auto& t = w.table(which);
        const std::uint64_t first = below(24);
        const std::uint64_t count = 1 + below(6);
        const iova_range r = w.pages_at(64 + first, count);
        switch (below(20)) {
          case 0:
          case 1:
          case 2:
          case 3: static_cast<void>(t.map(w.at(below(40)), count * w.page, rw, r.first)); break;
          case 4: static_cast<void>(t.map(w.at(below(40)), count * w.page, rw)); break;
          case 5:
            static_cast<void>(
                t.map(t.file_memory(file, first * w.page), count * w.page, rw, r.first));
            break;
          case 6:
            static_cast<void>(
                t.map(t.device_memory(device, first * w.page), count * w.page, rw, r.first));
            break;
          case 7:
          case 8: static_cast<void>(t.copy(w.table(below(2)), r, rw, w.io(64 + below(24)))); break;
          case 9:
          case 10:
          case 11: static_cast<void>(t.unmap(r.first, r.length(), unmap_profiles[below(8)])); break;
          case 12: {
            users[which].pin(r);
            break;
          }
          case 13: users[which].unpin_one(); break;
          case 14: static_cast<void>(t.protect(r, access_rights::read)); break;
          case 15: static_cast<void>(t.remap(r, t.user_memory(w.at(below(40))), rw)); break;
          case 16: {
            static_cast<void>(t.cut(r.last));
            static_cast<void>(t.would_unmap(r.first, r.length(), unmap_profile::iommufd));
            std::uint64_t pages = 0;
            t.for_each_area([&](const area_info& a) { pages += a.pinned_pages; });
            t.for_each_view(w.owner(), user_range::sized(w.at(0), 64 * w.page),
                            [&](iova_range, user_address) { ++pages; });
            pages += t.alignment() + t.domain_count() + t.area_count();
            break;
          }
          case 17: {
            const std::size_t d = below(4);
            const std::lock_guard hold(coming_and_going);
            if (where[d] == 2) {
              if (t.attach(*w.domains[d])) where[d] = which;
            } else {
              if (!w.table(where[d]).detach(*w.domains[d])) FAIL("came back short");
              where[d] = 2;
            }
            break;
          }
          case 18: {
            std::byte data[100];
            static_cast<void>(users[which].object.read(r.first, data));
            if (below(4) == 0) {
              static_cast<void>(t.suspend_access(r));
              static_cast<void>(t.resume_access(r, t.user_memory(w.at(8 + below(16)))));
            }
            if (below(4) == 0) static_cast<void>(t.change_owner(w.owner(below(2))));
            break;
          }
          default: {
            if (below(3) == 0) {
              const std::lock_guard hold(coming_and_going);
              w.table(0).revoke(device), w.table(1).revoke(device);
              static_cast<void>(w.table(0).restore(device));
              static_cast<void>(w.table(1).restore(device));
            }
            const std::lock_guard hold(coming_and_going);
            for (std::size_t d = 0; d < 4; ++d) {
              if (where[d] == 2) continue;
              auto& at = w.table(where[d]);
              static_cast<void>(at.set_dirty_tracking(*w.domains[d], below(2) == 0));
              static_cast<void>(at.read_dirty(*w.domains[d], w.pages_at(64, 8), dirty_read::clear,
                                              [](iova_range) {}));
            }
          }
        }
      }
    });
    for (user<W>& u : users) u.object.detach();
    CHECK(w.verify() == "");
    REQUIRE(w.close() == "");
  }
}

TEMPLATE_TEST_CASE("pages that one table lets go while another takes them are pinned once",
                   "[thread]", (kind<full_domain, slow_traits>),
                   (kind<unreadable_domain, slow_traits>)) {
  using W = world<TestType>;
  for (const std::uint64_t pieces : {mock::contiguity::scattered, mock::contiguity::contiguous}) {
    W w(pieces);
    auto& source = w.table(2);  // has no domain, and keeps the pages
    must(source.map(w.at(0), 8 * w.page, rw, w.io(64)));
    w.attach_domain(0), w.attach_domain(1);
    w.attach_domain(1);
    user<W> u;
    must(u.object.attach(source));
    run_threads(w, 3, [&](unsigned me) {
      std::mt19937_64 random(me);
      for (unsigned n = 0; n < 500; ++n) {
        const std::uint64_t first = 64 + random() % 6;
        if (me == 2) {
          u.pin(w.pages_at(first, 2));
          std::this_thread::yield();
          u.unpin_one();
          continue;
        }
        must(w.table(me).copy(source, w.pages_at(first, 2), rw, w.io(64)));
        const unmap_report gone = w.table(me).unmap(w.io(64), 2 * w.page, unmap_profile::exact);
        if (!gone) FAIL("not unmapped");
      }
    });
    CHECK(w.pinner.pinned_pages() == 0);
    CHECK(w.pinner.charged() == 0);
    u.object.detach();
    REQUIRE(w.close() == "");
  }
}

TEMPLATE_TEST_CASE("memory that goes and comes back while it is copied is shown in the end",
                   "[thread]", (kind<full_domain, slow_traits>),
                   (kind<plain_domain, slow_traits>)) {
  using W = world<TestType>;
  W w;
  auto& t = w.table();
  w.attach_domain(), w.add_domain();
  const auto device = w.pinner.create_exporter(4 * W::page);
  must(t.map(t.device_memory(device, 0), 4 * w.page, rw, w.io(16)));
  must(t.map(w.at(0), 4 * w.page, rw, w.io(20)));
  std::atomic<unsigned> wrong = 0;
  run_threads(w, 4, [&](unsigned me) {
    for (unsigned n = 0; n < 300; ++n) {
      if (me == 0) {
        t.revoke(device);
        w.pinner.set_revoked(device, true);
        if (n % 2 == 0) wrong += t.restore(device).has_value();
        w.pinner.set_revoked(device, false);
        wrong += !t.restore(device);
      } else if (me == 1) {
        wrong += !t.attach(*w.domains[1]);
        wrong += !t.detach(*w.domains[1]);
      } else {  // of the memory, and of some that stays: two areas in one operation
        const std::uint64_t to = 32 * me;
        wrong += !t.copy(t, w.pages_at(18, 4), rw, w.io(to));
        if (n != 299) wrong += t.unmap(w.io(to), 4 * w.page, unmap_profile::iommufd).areas != 2;
      }
    }
  });
  CHECK(wrong == 0);
  CHECK(w.mock_of(0).bytes_mapped() == 16 * w.page);
  for (const std::uint64_t to : {64u, 96u})
    CHECK(w.mock_of(0).translate(w.io(to + 1)) == w.pinner.frame_of(device, 3 * w.page));
  REQUIRE(w.close() == "");
}

TEST_CASE("files that change their owner while other tables take and leave them are charged once",
          "[thread]") {
  using W = world<kind<full_domain, yielding_traits>>;
  W w(mock::contiguity::scattered);
  auto& source = w.table(0);
  auto& other = w.table(1);
  w.attach_domain(1);
  user<W> u;
  must(u.object.attach(w.table(2)));
  for (std::uint64_t n = 0; n < 4; ++n) {
    const auto file = w.add_file(8);
    must(source.map(source.file_memory(file, 0), 8 * w.page, rw, w.io(16 + 8 * n)));
  }
  must(w.table(2).copy(source, w.pages_at(16, 32), rw, w.io(16)));
  std::atomic<unsigned> wrong = 0;
  run_threads(w, 3, [&](unsigned me) {
    std::mt19937_64 random(me);
    for (unsigned n = 0; n < 600; ++n) {
      const iova_range r = w.pages_at(16 + random() % 24, 1 + random() % 8);
      if (me == 0) {
        wrong += !source.change_owner(w.owner(n % 2));
      } else if (me == 1) {
        const auto at = other.copy(source, r, rw, w.io(100));
        wrong += !at || !other.unmap(w.io(100), r.length(), unmap_profile::iommufd);
      } else {
        u.pin(r);
        u.unpin_one();
      }
    }
  });
  CHECK(wrong == 0);
  u.object.detach();
  CHECK(w.pinner.pinned_pages() == 0);
  CHECK(w.pinner.charged() == 0);
  REQUIRE(w.close() == "");
}

TEST_CASE("files of several tables go over together while others take and leave them", "[thread]") {
  using W = world<kind<full_domain, yielding_traits>>;
  W w(mock::contiguity::scattered);
  for (std::size_t n = 0; n < 3; ++n) w.table(n);
  w.attach_domain(0), w.attach_domain(1);
  for (std::uint64_t n = 0; n < 4; ++n) {
    const auto file = w.add_file(8);
    must(w.table(0).map(w.table(0).file_memory(file, 0), 8 * w.page, rw, w.io(16 + 8 * n)));
  }
  must(w.table(1).copy(w.table(0), w.pages_at(24, 16), rw, w.io(16)));
  must(w.table(2).copy(w.table(0), w.pages_at(16, 32), rw, w.io(16)));
  user<W> u;
  must(u.object.attach(w.table(2)));
  std::atomic<unsigned> wrong = 0;
  run_threads(w, 4, [&](unsigned me) {
    std::mt19937_64 random(me);
    for (unsigned n = 0; n < 400; ++n) {
      const iova_range r = w.pages_at(16 + random() % 24, 1 + random() % 8);
      if (me < 2) {  // two that want all of it; one of them may meet an area in flight
        const auto changed = W::table_type::change_owner_of(
            [&](auto f) {
              for (const auto& t : w.tables) f(*t);
            },
            w.owner(me));
        wrong += !changed && changed.error() != errc::device_or_resource_busy;
      } else if (me == 2) {
        const auto at = w.table(1).copy(w.table(0), r, rw, w.io(100));
        wrong += !at || !w.table(1).unmap(w.io(100), r.length(), unmap_profile::iommufd);
      } else {
        u.pin(r);
        u.unpin_one();
      }
    }
  });
  CHECK(wrong == 0);
  u.object.detach();
  CHECK(w.pinner.charged() == 32);
  must(w.table(1).unmap_all().outcome);
  must(w.table(0).unmap_all().outcome);
  CHECK(w.pinner.pinned_pages() == 0);
  CHECK(w.pinner.charged() == 0);
  REQUIRE(w.close() == "");
}

TEST_CASE("threads that unmap and threads that pin come to an end", "[thread]") {
  using W = world<kind<full_domain, locked_traits>>;
  W w;
  auto& t = w.table();
  w.attach_domain();
  user<W> u;
  must(u.object.attach(t));
  std::atomic<bool> over = false;
  std::atomic<unsigned> unmapped = 0;
  run_threads(w, 3, [&](unsigned me) {
    if (me == 0) {
      while (!over) {
        u.pin(w.pages_at(64, 1));
        std::this_thread::yield();
      }
      return;
    }
    for (unsigned n = 0; n < 200; ++n) {
      static_cast<void>(t.map(w.at(0), 4 * w.page, rw, w.io(64)));
      unmapped += t.unmap(w.io(64), 4 * w.page, unmap_profile::iommufd).areas != 0;
    }
    if (me == 1) over = true;
  });
  CHECK(unmapped > 0);
  u.object.detach();
  REQUIRE(w.close() == "");
}

TEMPLATE_TEST_CASE(
    "threads that pin the same ranges by one object hold each as often as they pinned it",
    "[thread]", (kind<full_domain, locked_traits>), (kind<unreadable_domain, yielding_traits>)) {
  using W = world<TestType>;
  W w(2 * W::page);
  auto& t = w.table();
  if constexpr (W::can_split) w.attach_domain();
  must(t.map(w.at(0), 8 * w.page, rw, w.io(64)));
  must(t.map(w.at(9), 8 * w.page, rw, w.io(72)));
  typename W::deaf_access object;
  must(object.attach(t));
  const iova_range ranges[] = {w.pages_at(64, 1), w.pages_at(65, 4), w.pages_at(70, 4),
                               w.pages_at(72, 2), w.pages_at(65, 4)};
  std::atomic<unsigned> wrong = 0, pinning = 3;
  run_threads(w, 5, [&](unsigned me) {
    std::mt19937_64 random(me);
    if (me == 3) {  // looks, and so has the pins counted
      while (pinning != 0) {
        const auto seen = t.find(w.io(64 + random() % 16));
        wrong += !seen || seen->pin_calls > 3 * 8 * 2;
        std::this_thread::yield();
      }
      return;
    }
    if (me == 4) {  // changes what is asked without the table's locks
      while (pinning != 0) {
        static_cast<void>(t.suspend_access(w.pages_at(64, 8)));
        static_cast<void>(t.protect(w.pages_at(72, 8), access_rights::read));
        static_cast<void>(t.resume_access(w.pages_at(64, 8), t.user_memory(w.at(0))));
        static_cast<void>(t.protect(w.pages_at(72, 8), rw));
        std::this_thread::yield();
      }
      return;
    }
    std::vector<iova_range> mine;
    for (unsigned n = 0; n < 2000; ++n) {
      if (mine.size() < 8 && random() % 2 == 0) {
        const iova_range r = ranges[random() % std::size(ranges)];
        std::uint64_t bytes = 0;
        const auto done = object.pin(r, random() % 2 == 0 ? access_rights::read : rw,
                                     [&](run f) { bytes += f.length_bytes; });
        if (done) mine.push_back(r);
        wrong += done ? bytes != r.length()
                      : done.error() != errc::device_or_resource_busy &&
                            done.error() != errc::operation_not_permitted;
      } else if (!mine.empty()) {
        const std::size_t which = random() % mine.size();
        wrong += !object.is_pinned(mine[which]);
        object.unpin(mine[which]);
        mine[which] = mine.back();
        mine.pop_back();
      }
    }
    for (const iova_range r : mine) object.unpin(r);
    --pinning;
  });
  CHECK(wrong == 0);
  CHECK(t.find(w.io(64))->pin_calls == 0);
  CHECK(t.find(w.io(72))->pin_calls == 0);
  for (const iova_range r : ranges) CHECK_FALSE(object.is_pinned(r));
  must(t.unmap_all().outcome);
  object.detach();
  CHECK(w.pinner.is_idle());
  REQUIRE(w.close() == "");
}

TEST_CASE("threads that pin a range for the first time at once are each told its frames",
          "[thread]") {
  using W = world<kind<mock::domain, locked_traits>>;
  W w;
  auto& t = w.table();
  w.attach_domain();
  must(t.map(w.at(0), 4 * w.page, rw, w.io(64)));
  typename W::deaf_access object;
  must(object.attach(t));
  const iova_range one = w.pages_at(65, 1), all = w.pages_at(64, 4);
  const physical frame = *t.domain(0).translate(w.io(65));
  std::atomic<unsigned> wrong = 0;
  run_threads(w, 3, [&](unsigned) {
    for (unsigned n = 0; n < 3000; ++n) {
      const iova_range r = n % 8 == 0 ? all : one;
      std::uint64_t bytes = 0;
      bool seen = false;
      const auto done = object.pin(r, access_rights::read, [&](run f) {
        bytes += f.length_bytes;
        seen = seen || (f.first <= frame && frame - f.first < f.length_bytes);
      });
      wrong += !done || bytes != r.length() || !seen;
      if (done) object.unpin(r);  // mostly nobody holds it then
    }
  });
  CHECK(wrong == 0);
  must(t.unmap_all().outcome);
  object.detach();
  CHECK(w.pinner.is_idle());
  REQUIRE(w.close() == "");
}

TEST_CASE("threads that wait for a mutex all get it", "[thread]") {
  for (unsigned round = 0; round < 20; ++round) {
    word_mutex mutex;
    std::uint64_t sum = 0;  // whoever holds the mutex
    std::vector<std::thread> threads;
    for (unsigned me = 0; me < 4; ++me)
      threads.emplace_back([&, me] {
        for (unsigned n = 0; n < 500; ++n) {
          const detail::exclusive_lock hold(mutex);
          const std::uint64_t before = sum;
          if (n % 64 == me) std::this_thread::yield();
          sum = before + 1;
        }
      });
    for (std::thread& t : threads) t.join();
    REQUIRE(sum == 4 * 500);
  }
}

TEST_CASE("who holds a mutex last may free it", "[thread]") {
  struct shared {
    word_mutex mutex;
    unsigned users = 2;
  };
  for (unsigned round = 0; round < 300; ++round) {
    shared* const s = new shared;
    const auto leave = [s] {
      bool last = false;
      {
        s->mutex.lock();
        last = --s->users == 0;
        s->mutex.unlock();
      }
      if (last) delete s;
    };
    std::thread other(leave);
    leave();
    other.join();
  }
}

}  // namespace iopt::test
