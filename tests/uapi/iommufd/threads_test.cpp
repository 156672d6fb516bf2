// tests/uapi/iommufd/threads_test.cpp - several threads on one descriptor.
//
// What each call is answered depends on the others; that what is used does not end, and what is left
// when all are done, does not. Built with -fsanitize=thread it also shows data races.
#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <random>
#include <thread>
#include <vector>

#include "iopt/core/multi_threaded.hpp"
#include "tests/catch.hpp"
#include "tests/uapi/iommufd/context_fixture.hpp"

using namespace iopt;
using namespace iopt::test;
namespace abi = iopt::iommufd::abi;
using abi::request;

namespace {

/// The one file that there is, whatever the descriptor.
struct file_table {
  result<mock::file> operator()(std::int32_t) const { return mock::file{known}; }
  static inline std::uint32_t known = 0;
};
struct locked_profile : uapi::default_profile {
  static constexpr kernel_level level = kernel_level::linux_6_18;
  using traits = refusing_traits<multi_threaded>;
  using caller = set_caller;
  using files = file_table;
};

struct machine {
  using context_type = iommufd::context<mock::pinner, mock::domain, locked_profile>;

  mock::memory_account account;
  mock::pinner pinner;
  std::array<mock::process, 2> owners{pinner.current(), pinner.create_process(1)};
  capability_set may{};
  std::vector<std::unique_ptr<mock::group>> groups;
  std::unique_ptr<context_type> context =
      std::make_unique<context_type>(pinner, iommufd::context_options{}, trusted_caller{},
                                     set_caller{&may}, mock::failing_memory(account));

  template <class T>
  std::int64_t call(request number, T& argument) {
    argument.size = sizeof argument;
    return raw(static_cast<std::uint32_t>(number), &argument);
  }
  std::int64_t raw(std::uint32_t number, void* argument) {
    return context->ioctl(number, reinterpret_cast<std::uintptr_t>(argument));
  }
  mock::group& group(const void* iommu) {
    mock::group_options o{.reserved = {{{{0xfee00000}, {0xfeefffff}}, reserved_region::kind::msi}},
                          .iommu = iommu};
    groups.push_back(
        std::make_unique<mock::group>(o, [this](mock::domain& d) { pinner.watch(d); }));
    return *groups.back();
  }
};

/// What a program does: any ioctl, on objects whose numbers it guesses.
void program(machine& m, unsigned seed, unsigned steps, std::atomic<unsigned>& done_well) {
  std::mt19937 random(seed);
  const auto below = [&](std::uint32_t n) { return static_cast<std::uint32_t>(random() % n); };
  for (unsigned step = 0; step < steps; ++step) {
    const std::uint32_t id = 1 + below(10);
    const std::uint64_t at = std::uint64_t{below(32)} << 12;
    const std::uint64_t bytes = std::uint64_t{1 + below(8)} << 12;
    std::int64_t answer = -1;
    switch (below(14)) {
      case 0: {
        abi::ioas_alloc c{};
        answer = m.call(request::ioas_alloc, c);
        break;
      }
      case 1: {
        abi::destroy c{0, id};
        answer = m.call(request::destroy, c);
        break;
      }
      case 2:
      case 3:
      case 4: {
        abi::ioas_map c{0, 6 | below(2), id, 0, 0x100000 + at, bytes, at};
        answer = m.call(request::ioas_map, c);
        break;
      }
      case 5: {
        abi::ioas_copy c{
            0, 6 | below(2), id, 1 + below(10), bytes, at, std::uint64_t{below(32)} << 12};
        answer = m.call(request::ioas_copy, c);
        break;
      }
      case 6:
      case 7: {
        abi::ioas_unmap c{0, id, at, bytes * 4};
        answer = m.call(request::ioas_unmap, c);
        break;
      }
      case 8: {
        std::array<abi::iova_range, 4> ranges{};
        abi::ioas_iova_ranges c{0, id, 4, 0, reinterpret_cast<std::uintptr_t>(ranges.data()), 0};
        answer = m.call(request::ioas_iova_ranges, c);
        break;
      }
      case 9: {
        abi::vfio_ioas c{0, id, static_cast<std::uint16_t>(below(3)), 0};
        answer = m.call(request::vfio_ioas, c);
        break;
      }
      case 10: {
        vfio::abi::dma_unmap c{sizeof c, 0, at, bytes};
        answer = m.raw(vfio::abi::iommu_unmap_dma, &c);
        alignas(8) std::array<unsigned char, 256> info{};
        info[0] = 255;
        static_cast<void>(m.raw(vfio::abi::iommu_get_info, info.data()));
        break;
      }
      case 11: {
        abi::option c{0, below(2), static_cast<std::uint16_t>(below(2)), 0, id, below(2)};
        answer = m.call(request::option, c);
        break;
      }
      case 12: {
        abi::hwpt_alloc c{0, 2 * below(2), id, 1 + below(10), 0, 0, 0, 0, 0, 0, 0};
        answer = m.call(request::hwpt_alloc, c);
        break;
      }
      default: {
        abi::hwpt_set_dirty_tracking c{0, below(2), id, 0};
        answer = m.call(request::hwpt_set_dirty_tracking, c);
        std::array<std::uint64_t, 4> bits{};
        abi::hwpt_get_dirty_bitmap g{
            0, id, 0, 0, 0, 0x10000, 0x1000, reinterpret_cast<std::uintptr_t>(bits.data())};
        static_cast<void>(m.call(request::hwpt_get_dirty_bitmap, g));
        abi::hw_info i{};
        i.dev_id = id;
        static_cast<void>(m.call(request::get_hw_info, i));
      }
    }
    if (answer == 0) ++done_well;
  }
}

/// What a driver does: its device comes and goes, and translates through whatever has that number.
void driver(machine& m, mock::group& group, unsigned seed, unsigned steps,
            std::atomic<unsigned>& done_well) {
  std::mt19937 random(seed);
  const auto below = [&](std::uint32_t n) { return static_cast<std::uint32_t>(random() % n); };
  iommufd::object_id device = 0;
  for (unsigned step = 0; step < steps; ++step) {
    switch (below(6)) {
      case 0:
        if (device == 0) device = m.context->bind(group).value_or(0);
        break;
      case 1:
        if (device != 0 && m.context->unbind(device)) device = 0;
        break;
      case 2:
      case 3:
        if (m.context->attach(device, 1 + below(10))) ++done_well;
        break;
      case 4:
        if (m.context->replace(device, 1 + below(10))) ++done_well;
        break;
      default: static_cast<void>(m.context->detach(device));
    }
  }
}

/// What software does: it pins, and lets go when it is told.
void software(machine& m, unsigned seed, unsigned steps, std::atomic<unsigned>& done_well) {
  using access_type = machine::context_type::access_type;
  struct user {
    std::mutex lock;
    access_type* object = nullptr;
    std::vector<iova_range> pins;

    static void let_go(void* context, iova_range gone) {
      user& u = *static_cast<user*>(context);
      const std::lock_guard hold(u.lock);
      std::erase_if(u.pins, [&](iova_range r) {
        if (!r.overlaps(gone)) return false;
        u.object->unpin(r);
        return true;
      });
    }
  } u;
  std::mt19937 random(seed);
  const auto below = [&](std::uint32_t n) { return static_cast<std::uint32_t>(random() % n); };
  const auto id = m.context->create_access(&user::let_go, &u, true);
  if (!id) return;
  u.object = m.context->access(*id);
  for (unsigned step = 0; step < steps; ++step) {
    switch (below(6)) {
      case 0: static_cast<void>(m.context->attach_access(*id, 1 + below(10))); break;
      case 1: static_cast<void>(m.context->detach_access(*id)); break;
      case 2: static_cast<void>(m.context->replace_access(*id, 1 + below(10))); break;
      default: {
        const iova_range r = iova_range::sized({std::uint64_t{below(32)} << 12}, 0x1000);
        const std::lock_guard hold(u.lock);
        if (u.pins.size() < 4 && u.object->pin(r, access_rights::read, [](run) {})) {
          u.pins.push_back(r);
          ++done_well;
        }
      }
    }
  }
  static_cast<void>(m.context->destroy_access(*id));
}

}  // namespace

TEST_CASE("any ioctl from any thread", "[threads]") {
  for (unsigned seed = 0; seed < 6; ++seed) {
    CAPTURE(seed);
    machine m;
    int iommu = 0;
    std::vector<mock::group*> groups{&m.group(&iommu), &m.group(&iommu), &m.group(&m)};
    std::atomic<unsigned> done_well = 0;
    std::vector<std::thread> threads;
    for (unsigned n = 0; n < 3; ++n)
      threads.emplace_back([&, n] { program(m, 100 * seed + n, 4000, done_well); });
    for (unsigned n = 0; n < groups.size(); ++n)
      threads.emplace_back([&, n] { driver(m, *groups[n], 100 * seed + 10 + n, 3000, done_well); });
    threads.emplace_back([&] { software(m, 100 * seed + 20, 3000, done_well); });
    for (std::thread& t : threads) t.join();
    CHECK(done_well > 500);
    CHECK(m.context->verify() == "");
    CHECK(m.pinner.verify() == "");
    m.context.reset();
    CHECK(m.account.live_blocks() == 0);
    CHECK(m.pinner.pinned_pages() == 0);
    CHECK(m.pinner.verify() == "");
    for (const auto& g : m.groups) CHECK(g->domains() == 0);
  }
}

TEST_CASE("spaces go over to another owner while they come and go", "[threads]") {
  for (unsigned seed = 0; seed < 4; ++seed) {
    CAPTURE(seed);
    machine m;
    m.may.lock_memory = false;
    file_table::known = m.pinner.create_file(0x40000).id;
    std::atomic<unsigned> done_well = 0;
    std::atomic<unsigned> changed = 0;
    const auto whose = [&](unsigned me) {
      std::mt19937 random(100 * seed + me);
      const auto below = [&](std::uint32_t n) { return static_cast<std::uint32_t>(random() % n); };
      for (unsigned step = 0; step < 2000; ++step) {
        const std::uint32_t id = 1 + below(6);
        const std::uint64_t at = std::uint64_t{below(16)} << 12;
        const std::uint64_t bytes = std::uint64_t{1 + below(4)} << 12;
        std::int64_t answer = -1;
        switch (me == 0 ? 0 : 1 + below(6)) {
          case 0: {
            abi::ioas_change_process c{0, 0};
            m.pinner.set_current(m.owners[below(2)]);
            answer = m.call(request::ioas_change_process, c);
            if (answer == 0) ++changed;
            break;
          }
          case 1: {
            if (m.context->size() >= 8) break;  // -fsanitize=thread knows of 64 held locks at most
            abi::ioas_alloc c{};
            answer = m.call(request::ioas_alloc, c);
            break;
          }
          case 2: {
            abi::destroy c{0, id};
            answer = m.call(request::destroy, c);
            break;
          }
          case 3: {
            abi::ioas_copy c{0, 7, id, 1 + below(6), bytes, at, std::uint64_t{below(16)} << 12};
            answer = m.call(request::ioas_copy, c);
            break;
          }
          case 4: {
            abi::ioas_unmap c{0, id, at, bytes * 2};
            answer = m.call(request::ioas_unmap, c);
            break;
          }
          default: {
            abi::ioas_map_file c{0, 7, id, 0, at, bytes, at};
            answer = m.call(request::ioas_map_file, c);
          }
        }
        if (answer == 0) ++done_well;
      }
    };
    mock::group& group = m.group(&m);
    std::vector<std::thread> threads;
    for (unsigned n = 0; n < 4; ++n) threads.emplace_back([&, n] { whose(n); });
    threads.emplace_back([&] { driver(m, group, 100 * seed + 10, 2000, done_well); });
    for (std::thread& t : threads) t.join();
    CHECK(changed > 100);
    CHECK(done_well > 500);
    CHECK(m.context->verify() == "");
    // With nobody else at work all is whole, and all goes over.
    m.pinner.set_current(m.owners[0]);
    abi::ioas_change_process c{0, 0};
    CHECK(m.call(request::ioas_change_process, c) == 0);
    CHECK(m.pinner.charged(m.owners[1], account_mode::user) == 0);
    m.context.reset();
    CHECK(m.account.live_blocks() == 0);
    CHECK(m.pinner.pinned_pages() == 0);
    CHECK(m.pinner.charged() == 0);
    CHECK(m.pinner.verify() == "");
  }
}
