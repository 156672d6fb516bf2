// tests/uapi/vfio/container_sweep_test.cpp - every call that may fail, fails once; and nothing has
// happened to the container.
//
// Each operation is run in a container with mappings, two IOMMUs, pins and tracking, with the n-th
// fallible call (allocation, pin, charge, any call of a domain or a group) failing, for n = 0, 1, ...
// until none is left; then again without faults, where it must succeed; and at the end nothing is
// left. IOPT_REPORT=1 prints what failed.
#include <array>
#include <functional>
#include <string>
#include <vector>

#include "iopt/core/snapshot.hpp"
#include "tests/catch.hpp"
#include "tests/fault_report.hpp"
#include "tests/uapi/vfio/container_world.hpp"

using namespace iopt;
using namespace iopt::test;
namespace abi = vfio::abi;

namespace {

struct failing_traits : single_threaded {
  using memory = mock::failing_memory;
};
template <class Base>
struct failing_profile : world_profile<Base> {
  using traits = failing_traits;
};

struct quiet_user final : vfio::memory_user {
  void dma_unmap(iova_range) noexcept override {}
};

/// What can be seen of it all.
struct picture {
  table_snapshot table;
  std::vector<std::vector<mock::domain::mapping>> domains;
  std::vector<std::size_t> made;  // by each group
  std::vector<std::uint64_t> pins;
  std::uint64_t locked = 0;
  std::string dirty;
};

template <class Base>
struct stage {
  using container_type = vfio::container<mock::pinner, mock::domain, failing_profile<Base>>;
  static constexpr std::uint64_t page = 4096;

  std::array<bool, 3> may{false, true, true};
  mock::fault_injector faults;
  mock::memory_account account{&faults};
  // Dies after the container: what is still out then is lost.
  struct leak_check {
    mock::memory_account& of;
    ~leak_check() { IOPT_ASSERT(of.live_blocks() == 0); }
  } leaks{account};
  mock::pinner pinner;
  std::vector<std::unique_ptr<mock::group>> groups;
  quiet_user user;
  container_type container;
  std::vector<std::uint64_t> words = std::vector<std::uint64_t>(8);

  explicit stage(std::uint64_t contiguity)
      : pinner({.contiguity_bytes = contiguity, .faults = &faults}),
        container(pinner, {}, {}, settable_caller{&may}, mock::failing_memory(account)) {
    pinner.set_limit(pinner.current(), account_mode::mm, 64);
  }
  ~stage() { close(); }

  void close() {
    if constexpr (Base::answers_as == vfio::personality::type1) container.unregister_user(user);
    for (auto& g : groups) {
      if constexpr (Base::answers_as == vfio::personality::iommufd)
        static_cast<void>(container.close(*g));
      static_cast<void>(container.leave(*g));
    }
  }
  mock::group& add(const void* iommu) {
    mock::group_options o = container_world<>::usual();
    o.iommu = iommu;
    o.domains.faults = &faults;
    o.nests = true;
    groups.push_back(
        std::make_unique<mock::group>(o, [this](mock::domain& d) { pinner.watch(d); }));
    return *groups.back();
  }
  std::string map(std::uint64_t first, std::uint64_t pages, std::uint32_t flags = 3) {
    return text(
        container.map_dma(flags, {0x100000000 + first * page}, {first * page}, pages * page));
  }
  abi::bitmap bits() { return {page, 64, reinterpret_cast<std::uintptr_t>(words.data())}; }

  picture look() {
    picture p;
    if (container.table() != nullptr) p.table = snapshot(*container.table());
    for (auto& g : groups) {
      p.made.push_back(g->domains());
      if (g->attached() != nullptr) p.domains.push_back(g->attached()->contents());
    }
    for (std::uint64_t n = 0; n < 128; ++n)
      p.pins.push_back(pinner.pins(pinner.current(), {0x100000000 + n * page}));
    p.locked = pinner.charged();
    return p;
  }
};

using native = stage<vfio::type1_profile>;
using punching = stage<vfio::hole_punching_profile>;
using compat = stage<vfio::iommufd_profile>;

/// Runs `what` in a fresh `prepare`d stage with the n-th call failing, for each n.
template <class Stage>
void sweep(fault_report& report, const char* name, const std::function<void(Stage&)>& prepare,
           const std::function<std::string(Stage&)>& what) {
  for (const std::uint64_t contiguity : {std::uint64_t{4096}, std::uint64_t{2 * 4096}}) {
    for (std::uint64_t n = 0;; ++n) {
      CAPTURE(name, contiguity, n);
      Stage s(contiguity);
      prepare(s);
      const picture before = s.look();
      const std::string answer = report.run(name, s.faults, n, [&] { return what(s); });
      const bool fired = s.faults.fired();
      REQUIRE(s.container.verify() == "");
      if (!fired) {
        CHECK(answer == "0");
        CHECK(n > 0);
        break;
      }
      if (answer != "0") {
        const picture after = s.look();
        CHECK(after.table == before.table);
        CHECK(after.domains == before.domains);
        CHECK(after.made == before.made);
        CHECK(after.pins == before.pins);
        CHECK(after.locked == before.locked);
        CHECK(what(s) == "0");
      }
      s.close();
      CHECK(s.pinner.is_idle());
    }
  }
}

void with_mappings(native& s) {
  REQUIRE(s.container.join(s.add(&container_world<>::first_iommu)));
  REQUIRE(s.container.set_iommu(abi::type1v2_iommu));
  REQUIRE(s.container.join(s.add(&container_world<>::second_iommu)));
  REQUIRE(s.map(0, 5) == "0");
  REQUIRE(s.map(8, 5) == "0");
  REQUIRE(s.container.register_user(s.user));
}

}  // namespace

TEST_CASE("what fails in a native container changes nothing", "[sweep]") {
  fault_report report;
  const auto two_groups = [](native& s) {
    REQUIRE(s.container.join(s.add(&container_world<>::first_iommu)));
    REQUIRE(s.container.join(s.add(&container_world<>::second_iommu)));
  };
  sweep<native>(report, "set_iommu", two_groups,
                [](native& s) { return text(s.container.set_iommu(abi::type1v2_iommu)); });
  sweep<native>(report, "set_iommu, nesting", two_groups,
                [](native& s) { return text(s.container.set_iommu(abi::type1_nesting_iommu)); });
  sweep<native>(
      report, "join",
      [](native& s) {
        with_mappings(s);
        s.add(&s);
      },
      [](native& s) { return text(s.container.join(*s.groups.back())); });
  sweep<native>(
      report, "join, behind an IOMMU that is here",
      [](native& s) {
        with_mappings(s);
        s.add(&container_world<>::second_iommu);
      },
      [](native& s) { return text(s.container.join(*s.groups.back())); });
  sweep<native>(report, "map", with_mappings, [](native& s) { return s.map(16, 7); });
  sweep<native>(
      report, "map, tracked",
      [](native& s) {
        with_mappings(s);
        REQUIRE(s.container.track_dirty_pages(true));
      },
      [](native& s) { return s.map(16, 7); });
  sweep<native>(report, "track", with_mappings,
                [](native& s) { return text(s.container.track_dirty_pages(true)); });
  sweep<native>(report, "pin", with_mappings, [](native& s) {
    std::array<physical, 8> frames{};
    const std::string answer =
        text(s.container.pin_pages(nullptr, {1 * 4096}, 4, access_rights::read, frames));
    if (answer == "0") s.container.unpin_pages({1 * 4096}, 4);
    return answer;
  });
  using enum mock::fault_point;
  CHECK(report.not_fired({allocation, pin, charge, map_runs, create_domain, attach_group,
                          enable_nesting}) == "");
  report.print("a native container");
}

TEST_CASE("pins where no IOMMU pins fail without a trace", "[sweep]") {
  fault_report report;
  emulated_group<mock::domain> software;
  sweep<native>(
      report, "pin",
      [&](native& s) {
        REQUIRE(s.container.join(software));
        REQUIRE(s.container.set_iommu(abi::type1v2_iommu));
        REQUIRE(s.map(0, 8) == "0");
        REQUIRE(s.container.register_user(s.user));
      },
      [&](native& s) {
        std::array<physical, 8> frames{};
        const std::string answer =
            text(s.container.pin_pages(&software, {1 * 4096}, 4, access_rights::read, frames));
        if (answer == "0") {
          s.container.unpin_pages({1 * 4096}, 4);
          static_cast<void>(s.container.unmap_dma(abi::unmap_all_flag, {0}, 0));
          static_cast<void>(s.container.leave(software));
        }
        return answer;
      });
}

TEST_CASE("an address that is given to another process fails without a trace", "[sweep]") {
  fault_report report;
  sweep<native>(
      report, "map with a new address",
      [](native& s) {
        with_mappings(s);
        REQUIRE(s.container.unmap_dma(abi::unmap_vaddr, {0}, 16 * 4096));
        s.pinner.set_current(s.pinner.create_process());
      },
      [](native& s) { return s.map(8, 5, abi::map_vaddr); });
}

TEST_CASE("a hole that fails changes nothing, tracked or not", "[sweep]") {
  fault_report report;
  for (const bool tracked : {false, true}) {
    sweep<punching>(
        report, "punch",
        [&](punching& s) {
          REQUIRE(s.container.join(s.add(&container_world<>::first_iommu)));
          REQUIRE(s.container.set_iommu(abi::type1v2_iommu));
          REQUIRE(s.container.join(s.add(&container_world<>::second_iommu)));
          REQUIRE(s.map(0, 16) == "0");
          if (tracked) REQUIRE(s.container.track_dirty_pages(true));
        },
        [](punching& s) {
          const auto gone = s.container.unmap_dma(0, {5 * 4096}, 6 * 4096);
          return gone && *gone == 6 * 4096 ? std::string("0") : text(gone);
        });
  }
}

TEST_CASE("what fails in a container of an iommufd changes nothing", "[sweep]") {
  fault_report report;
  const auto open = [](compat& s) {
    for (const void* iommu : {static_cast<const void*>(&container_world<>::first_iommu),
                              static_cast<const void*>(&container_world<>::second_iommu)}) {
      mock::group& g = s.add(iommu);
      REQUIRE(s.container.join(g));
      REQUIRE(s.container.open(g));
    }
    REQUIRE(s.map(0, 5) == "0");
    REQUIRE(s.map(8, 5) == "0");
  };
  sweep<compat>(report, "map", open, [](compat& s) { return s.map(16, 7); });
  sweep<compat>(
      report, "open",
      [&](compat& s) {
        open(s);
        REQUIRE(s.container.join(s.add(&s)));
      },
      [](compat& s) { return text(s.container.open(*s.groups.back())); });
  sweep<compat>(
      report, "open, behind an IOMMU that is here",
      [&](compat& s) {
        open(s);
        REQUIRE(s.container.join(s.add(&container_world<>::second_iommu)));
      },
      [](compat& s) { return text(s.container.open(*s.groups.back())); });
  using enum mock::fault_point;
  CHECK(report.not_fired({allocation, pin, charge, map_runs, create_domain, attach_group}) == "");
  report.print("a container of an iommufd");
}
