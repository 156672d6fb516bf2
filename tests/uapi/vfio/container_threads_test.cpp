// tests/uapi/vfio/container_threads_test.cpp - several threads use one container; also under
// ThreadSanitizer.
#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "iopt/core/multi_threaded.hpp"
#include "tests/catch.hpp"
#include "tests/uapi/vfio/container_world.hpp"

using namespace iopt;
using namespace iopt::test;
namespace abi = vfio::abi;

namespace {

template <class Base>
struct threaded : Base {
  using traits = multi_threaded;
};

/// A driver that lets go of a page when it is told, from whatever thread.
template <class Container>
struct driver final : vfio::memory_user {
  Container& container;
  explicit driver(Container& c) : container(c) {}
  void dma_unmap(iova_range gone) noexcept override {
    container.unpin_pages(gone.first, gone.length() / 4096);
  }
};

/// A thread that maps and unmaps at random among the 32 pages from `base` on, and counts what it mapped.
template <class World>
auto mapper(World& w, std::uint64_t base, std::atomic<int>& mapped) {
  return [&w, base, &mapped] {
    std::mt19937_64 random(base);
    for (int n = 0; n < 300; ++n) {
      const std::uint64_t at = base + random() % 32;
      if (random() % 2 == 0) {
        if (w.container.map_dma(3, w.at(at), w.io(at), (1 + random() % 8) * 4096)) ++mapped;
      } else {
        static_cast<void>(w.container.unmap_dma(0, w.io(at), (1 + random() % 8) * 4096));
      }
    }
  };
}

template <class... F>
void together(F... f) {
  std::vector<std::thread> threads;
  (threads.emplace_back(f), ...);
  for (std::thread& t : threads) t.join();
}

}  // namespace

TEST_CASE("threads map, unmap, pin, read bits and change groups of a native container at once",
          "[threads]") {
  using world = container_world<threaded<vfio::hole_punching_profile>>;
  world w({}, {.contiguity_bytes = 4096});
  w.start(abi::type1v2_iommu);
  mock::group_options o = world::usual();
  o.iommu = &world::second_iommu;
  mock::group& guest = w.add(o);
  auto& c = w.container;
  driver user(c);
  REQUIRE(c.register_user(user));
  std::atomic<int> mapped = 0;
  together(
      mapper(w, 0, mapped), mapper(w, 64, mapped),
      [&] {
        std::array<physical, 4> frames{};
        std::array<std::byte, 64> bytes{};
        for (std::uint64_t n = 0; n < 300; ++n) {
          const iova at = w.io(n * 7 % 100);
          if (c.pin_pages(nullptr, at, 1 + n % 3, access_rights::read, frames))
            c.unpin_pages(at, n % 2 == 0 ? 3 : 1);
          static_cast<void>(c.dma_write(at, bytes));
        }
      },
      [&] {
        std::array<std::uint64_t, 8> words{};
        for (int n = 0; n < 40; ++n) {
          static_cast<void>(c.track_dirty_pages(n % 3 != 0));
          static_cast<void>(c.read_dirty_pages(
              w.io(0), 128 * 4096, {4096, 64, reinterpret_cast<std::uintptr_t>(words.data())}));
          if (c.join(guest)) CHECK(c.leave(guest));
          static_cast<void>(c.dma_avail());
          static_cast<void>(c.verify());
        }
      });
  CHECK(mapped > 0);
  CHECK(c.verify() == "");
  REQUIRE(c.unmap_dma(abi::unmap_all_flag, {0}, 0));
  CHECK(w.pinner.is_idle());
  c.unregister_user(user);
}

TEST_CASE("threads map, cut and unmap a container of an iommufd at once", "[threads]") {
  using world = container_world<threaded<vfio::iommufd_profile>>;
  world w({}, {.contiguity_bytes = 4096});
  mock::group& g = w.add();
  auto& c = w.container;
  REQUIRE(c.join(g));
  REQUIRE(c.set_iommu(abi::type1_iommu));
  REQUIRE(c.open(g));
  std::atomic<int> mapped = 0;
  // The first and the last get in each other's way.
  together(mapper(w, 0, mapped), mapper(w, 64, mapped), mapper(w, 16, mapped));
  CHECK(mapped > 0);
  CHECK(c.verify() == "");
  CHECK(c.unmap_dma(abi::unmap_all_flag, {0}, 0).outcome);
  CHECK(w.pinner.is_idle());
  REQUIRE(c.close(g));
}

namespace {

struct waiting : threaded<vfio::type1_profile> {
  static constexpr bool waits_for_addresses = true;
};

}  // namespace

TEST_CASE("who pins or copies while an address is invalid waits, where the profile says so",
          "[threads]") {
  using world = container_world<waiting>;
  world w;
  w.start(abi::type1v2_iommu);
  auto& c = w.container;
  driver user(c);
  REQUIRE(c.register_user(user));
  REQUIRE(w.map(0, 4) == "0");
  std::atomic<int> begun = 0;
  std::array<std::string, 2> said;
  const auto ask = [&](std::size_t n) {
    return [&, n] {
      ++begun;
      if (n == 0) {
        std::array<physical, 1> frame{};
        const auto pinned = c.pin_pages(nullptr, world::io(1), 1, access_rights::read, frame);
        said[n] = pinned ? "0" : std::string(name(pinned.error().code));
        if (pinned) c.unpin_pages(world::io(1), 1);
      } else {
        std::array<std::byte, 4> bytes{};
        said[n] = text(c.dma_read(world::io(2), bytes));
      }
    };
  };
  const auto suspend = [&] {
    REQUIRE(w.unmap(0, 4, abi::unmap_vaddr) == "0:4");
    begun = 0;
    said = {};
  };
  const auto both_wait = [&] {
    while (begun != 2) std::this_thread::yield();
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    CHECK(said == std::array<std::string, 2>{});
  };
  SECTION("until it is valid again") {
    suspend();
    together(ask(0), ask(1), [&] {
      both_wait();
      CHECK(w.map(0, 4, abi::map_vaddr) == "0");
    });
    CHECK(said == std::array<std::string, 2>{"0", "0"});
  }
  SECTION("until the mapping is gone") {
    suspend();
    together(ask(0), ask(1), [&] {
      both_wait();
      CHECK(w.unmap(0, 4) == "0:4");
    });
    CHECK(said == std::array<std::string, 2>{"EINVAL", "EINVAL"});
  }
  SECTION("until the last group leaves") {
    suspend();
    together(ask(0), ask(1), [&] {
      both_wait();
      CHECK(c.leave(w.groups.front()));
    });
    CHECK(said == std::array<std::string, 2>{"ENOTTY", "ENOTTY"});
  }
}
