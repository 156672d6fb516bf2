// tests/core/claims_test.cpp - who changes the list of domains, and who makes or takes down areas.
//
// One thread is held in the middle of a map or an unmap by a pinner, or a callback, that waits; that
// another has begun to wait for it shows in Traits::yield().
#include "iopt/core/claims.hpp"

#include <atomic>
#include <chrono>
#include <cstdint>
#include <semaphore>
#include <thread>

#include "iopt/backends/mock/mock.hpp"
#include "iopt/core/access_object.hpp"
#include "iopt/core/multi_threaded.hpp"
#include "tests/catch.hpp"

namespace iopt::test {
namespace {

constexpr std::uint64_t page = 4096;
constexpr access_rights rw = access_rights::read_write;

/// Waits in the first pin after close().
struct gated_pinner : mock::pinner {
  std::atomic<bool> closed = false;
  std::atomic<unsigned> pins = 0;
  std::binary_semaphore entered{0}, open{0};
  result<void> pin(const owner& w, user_range r, access_rights a, run_list& out) {
    ++pins;
    if (closed.exchange(false)) {
      entered.release();
      open.acquire();
    }
    return mock::pinner::pin(w, r, a, out);
  }
};
struct told_traits : multi_threaded {
  static inline std::atomic<unsigned> yields = 0;
  static void yield() noexcept {
    ++yields;
    std::this_thread::yield();
  }
};
using table_type = io_pagetable<gated_pinner, mock::domain, told_traits>;

void until_somebody_waits() {
  const unsigned before = told_traits::yields;
  while (told_traits::yields == before) std::this_thread::yield();
}
/// Long enough for a thread that does not wait to have gone on.
void a_while() { std::this_thread::sleep_for(std::chrono::milliseconds(20)); }

struct stand {
  gated_pinner pinner;
  mock::domain first, second;
  table_type table{pinner};
  std::atomic<unsigned> failed = 0;
  stand() {
    pinner.watch(first), pinner.watch(second);
    failed += !table.attach(first);
  }
  void map(std::uint64_t n) {
    failed += table.map({(64 + n) * page}, page, rw, iova{n * page}) != iova{n * page};
  }
};

}  // namespace

TEST_CASE("a domain comes when the areas that are being made are there", "[thread]") {
  stand s;
  s.map(1);
  s.pinner.closed = true;
  std::thread maker([&] { s.map(2); });
  s.pinner.entered.acquire();
  std::atomic<bool> attached = false;
  std::thread comer([&] {
    s.failed += !s.table.attach(s.second);
    attached = true;
  });
  until_somebody_waits();
  CHECK_FALSE(attached);
  CHECK(s.second.bytes_mapped() == 0);

  // Who begins now waits for the domain, and does not keep it waiting.
  const unsigned pins = s.pinner.pins;
  std::thread late([&] { s.map(3); });
  a_while();
  CHECK(s.pinner.pins == pins);
  CHECK_FALSE(attached);
  CHECK(s.table.find({3 * page}) == std::nullopt);

  s.pinner.open.release();
  maker.join(), comer.join(), late.join();
  CHECK(s.failed == 0);
  for (const mock::domain* d : {&s.first, &s.second}) CHECK(d->bytes_mapped() == 3 * page);
  CHECK(s.pinner.pinned_pages() == 3);
  CHECK(s.table.verify() == "");
}

TEST_CASE("a domain goes when the areas that are being made are there", "[thread]") {
  stand s;
  REQUIRE(s.table.attach(s.second).has_value());
  s.pinner.closed = true;
  std::thread maker([&] { s.map(2); });
  s.pinner.entered.acquire();
  std::thread goer([&] { s.failed += !s.table.detach(s.second); });
  until_somebody_waits();
  CHECK(s.table.find({2 * page})->state == area_state::in_flight);
  s.pinner.open.release();
  maker.join(), goer.join();
  CHECK(s.failed == 0);
  CHECK(s.first.bytes_mapped() == page);
  CHECK(s.second.bytes_mapped() == 0);
  CHECK(s.table.verify() == "");
}

TEST_CASE("who has a claim makes more of them while a domain waits", "[thread]") {
  // An unmap has taken one area, and asks for the pin of the next, when a domain wants to come.
  struct holder_type {
    std::binary_semaphore entered{0}, open{0};
    access_object<gated_pinner, mock::domain, told_traits> object{
        [](void* context, iova_range gone) {
          auto& h = *static_cast<holder_type*>(context);
          if (gone == iova_range::whole()) return;
          h.entered.release();
          h.open.acquire();
          h.object.unpin(gone);
        },
        this};
  };
  stand s;
  holder_type holder;
  REQUIRE(holder.object.attach(s.table).has_value());
  for (std::uint64_t n = 1; n <= 3; ++n) s.map(n);
  REQUIRE(holder.object.pin(iova_range::sized({2 * page}, page), rw, [](run) {}).has_value());
  unmap_report gone;
  std::thread unmapper([&] { gone = s.table.unmap({page}, 3 * page, unmap_profile::iommufd); });
  holder.entered.acquire();
  std::thread comer([&] { s.failed += !s.table.attach(s.second); });
  until_somebody_waits();
  holder.open.release();
  unmapper.join(), comer.join();
  CHECK(gone.areas == 3);
  CHECK(s.failed == 0);
  CHECK(s.first.bytes_mapped() == 0);
  CHECK(s.second.bytes_mapped() == 0);
  CHECK(s.pinner.is_idle());
  CHECK(s.table.verify() == "");
  holder.object.detach();
}

TEST_CASE("large pages are switched when no area is being made", "[thread]") {
  stand s;
  REQUIRE(s.table.detach(s.first));
  s.map(1);
  REQUIRE(s.table.attach(s.first).has_value());
  s.pinner.closed = true;
  std::thread maker([&] { s.map(2); });
  s.pinner.entered.acquire();
  errc answer{};
  std::thread other([&] { answer = s.table.disable_large_pages().error().code; });
  until_somebody_waits();
  s.pinner.open.release();
  maker.join(), other.join();
  CHECK(answer == errc::invalid_argument);
  CHECK(s.failed == 0);
}

TEST_CASE("one thread waits for nobody") {
  mock::pinner pinner;
  mock::domain domain;
  io_pagetable<mock::pinner, mock::domain> table(pinner);
  REQUIRE(table.map({page}, page, rw, iova{page}).has_value());
  REQUIRE(table.attach(domain).has_value());
  CHECK(domain.bytes_mapped() == page);
}

}  // namespace iopt::test
