// tests/uapi/iommufd/failure_sweep_test.cpp - whatever fails, nothing is left of it.
//
// Each operation is run with its n-th call that may fail (allocation, pin, charge, domain, group)
// failing, for n = 0, 1, ... until none fires. After each failure all looks as before; then the
// operation must succeed; and at the end nothing is left over. IOPT_REPORT=1 prints what failed.
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "tests/catch.hpp"
#include "tests/fault_report.hpp"
#include "tests/uapi/iommufd/context_fixture.hpp"

using namespace iopt;
using namespace iopt::test;
namespace abi = iopt::iommufd::abi;
using fixture = context_fixture<>;
using abi::request;

namespace {

/// Three spaces with something mapped, the third with a hardware page table made by hand; a device
/// that is attached to the first, another behind its IOMMU, and one behind another IOMMU.
struct stage : fixture {
  id s = space();
  id t = space();
  id u = space();
  id h = 0;  // u's hardware page table
  id d = 0;
  id e = 0;  // behind another IOMMU
  id b = 0;  // beside d
  id x = 0;  // an access object

  stage() {
    may.lock_memory = false;
    REQUIRE(map(s, 0x10000, 9) == "0");
    REQUIRE(map(s, 0x40000, 3, 0x80000) == "0");
    REQUIRE(map(t, 0x10000, 2) == "0");
    REQUIRE(map(u, 0x10000, 2) == "0");
    d = device(
        {.reserved = {{{{0xfee00000}, {0xfeefffff}}, reserved_region::kind::msi}}, .nests = true});
    e = device({.reserved = {{{{0x1000}, {0x1fff}}, reserved_region::kind::direct},
                             {{{0x3000}, {0x3fff}}, reserved_region::kind::reserved}},
                .iommu = &s});
    b = device({.reserved = {{{{0xfee00000}, {0xfeefffff}}, reserved_region::kind::msi}}});
    REQUIRE(context->attach(d, s));
    const auto table = context->create_hw_pagetable(d, u, false);
    REQUIRE(table);
    h = *table;
    const auto made = context->create_access([](void*, iova_range) {}, nullptr, true);
    REQUIRE(made);
    x = *made;
  }

  /// All that a failed operation may not change.
  std::string picture() const {
    std::string text = std::to_string(context->size()) + " pins " +
                       std::to_string(pinner.pinned_pages()) + " charged " +
                       std::to_string(pinner.charged(pinner.current(), account_mode::user));
    for (const id n : {s, t, u}) {
      REQUIRE(context->with_space(n, [&](table_type& table) {
        text += " space " + std::to_string(table.alignment()) + " " +
                std::to_string(table.domain_count()) + (table.large_pages() ? " large" : " small");
        table.for_each_area([&](const area_info& a) {
          text += " [" + hex(a.where.first.value) + " " + hex(a.where.last.value) + "]";
        });
        table.for_each_usable([&](iova_range r) {
          text += " {" + hex(r.first.value) + " " + hex(r.last.value) + "}";
        });
        return result<int>(0);
      }));
    }
    for (const auto& g : groups)
      text += " at " + hex(fixture::address(g->attached())) + " of " + std::to_string(g->domains());
    return text;
  }
};

struct operation {
  const char* name;
  std::string (*run)(stage&);
  unsigned least_points;
  void (*prepare)(stage&) = [](stage&) {};
};

template <class T>
std::string ok(const result<T>& r) {
  return r ? "0" : said(r);
}

const operation operations[] = {
    {"a space",
     [](stage& f) {
       abi::ioas_alloc c{};
       return f.call(request::ioas_alloc, c);
     },
     1},
    {"map", [](stage& f) { return f.map(f.s, 0x80000, 5, 0x200000); }, 3},
    {"copy",
     [](stage& f) {
       abi::ioas_copy c{0, 6, f.t, f.s, 0x4000, 0, 0x12000};
       return f.call(request::ioas_copy, c);
     },
     1},
    {"allowed ranges",
     [](stage& f) {
       const abi::iova_range r[] = {{0x100000, 0x1fffff}, {0x300000, 0x3fffff}};
       abi::ioas_allow_iovas c{0, f.s, 2, 0, fixture::address(r)};
       return f.call(request::ioas_allow_iovas, c);
     },
     2},
    {"small pages",
     [](stage& f) {
       abi::option c{0, abi::option_huge_pages, abi::option_set, 0, f.t, 0};
       return f.call(request::option, c);
     },
     0},
    {"a map through VFIO",
     [](stage& f) -> std::string {
       if (const auto done = f.context->need_compatible_space(); !done) return said(done);
       vfio::abi::dma_map m{sizeof m, 3, 0x10000, 0x2000, 0x1000};
       const std::string answer = f.raw(vfio::abi::iommu_map_dma, fixture::address(&m));
       const auto space = f.context->compatible_space();
       if (answer != "0") CHECK(f.destroy(*space) == "0");
       return answer;
     },
     3},
    {"a device of a group that is bound",
     [](stage& f) { return ok(f.context->bind(*f.groups[0])); }, 1},
    {"a device of another", [](stage& f) { return ok(f.context->bind(*f.groups.back())); }, 2,
     [](stage& f) { f.group(); }},
    {"a device to a space with another's domain",
     [](stage& f) { return ok(f.context->attach(f.e, f.s)); }, 8},
    {"a device to a space without a domain",
     [](stage& f) { return ok(f.context->attach(f.e, f.t)); }, 8},
    {"a device to a space whose domain suits",
     [](stage& f) { return ok(f.context->attach(f.b, f.s)); }, 2},
    {"a device to a hardware page table", [](stage& f) { return ok(f.context->attach(f.b, f.h)); },
     2},
    {"a hardware page table",
     [](stage& f) {
       abi::hwpt_alloc c{0, 2, f.d, f.t, 0, 0, 0, 0, 0, 0, 0};
       return f.call(request::hwpt_alloc, c);
     },
     5},
    {"a hardware page table that nests",
     [](stage& f) {
       abi::hwpt_alloc c{0, abi::hwpt_nest_parent, f.d, f.t, 0, 0, 0, 0, 0, 0, 0};
       return f.call(request::hwpt_alloc, c);
     },
     6},
    {"going over to another space", [](stage& f) { return ok(f.context->replace(f.d, f.t)); }, 7},
    {"going over to a hardware page table",
     [](stage& f) { return ok(f.context->replace(f.d, f.h)); }, 2},
    {"two devices of a group going over", [](stage& f) { return ok(f.context->replace(f.d, f.t)); },
     8, [](stage& f) { REQUIRE(f.context->attach(f.bound(*f.groups[0]), f.s)); }},
    {"an access object",
     [](stage& f) { return ok(f.context->create_access([](void*, iova_range) {}, nullptr, true)); },
     1},
    {"an access object to a space", [](stage& f) { return ok(f.context->attach_access(f.x, f.t)); },
     0},
};

}  // namespace

TEST_CASE("what fails leaves all as it was", "[sweep]") {
  fault_report report;
  for (const operation& o : operations) {
    CAPTURE(o.name);
    stage f;
    o.prepare(f);
    unsigned points = 0;
    for (std::uint64_t n = 0;; ++n) {
      CAPTURE(n);
      const std::string before = f.picture();
      const std::string answer = report.run(o.name, f.faults, n, [&] { return o.run(f); });
      if (!f.faults.fired()) {
        CHECK(answer == "0");
        break;
      }
      ++points;
      CAPTURE(name(f.faults.fired_at()));
      CHECK(answer == name(f.faults.error_of(f.faults.fired_at())));
      REQUIRE(f.picture() == before);
      REQUIRE(f.context->verify() == "");
    }
    CHECK(points >= o.least_points);
    f.close();
  }
  using enum mock::fault_point;
  CHECK(report.not_fired(
            {allocation, pin, charge, map, create_domain, attach_group, enable_nesting}) == "");
  report.print("iommufd");
}

TEST_CASE("what ends asks for no memory", "[sweep]") {
  stage f;
  REQUIRE(f.context->attach(f.e, f.t));
  REQUIRE(f.context->create_hw_pagetable(f.d, f.t, true));
  REQUIRE(f.context->attach_access(f.x, f.t));
  f.account.refuse_all();
  const auto asked = f.account.asked();
  CHECK(f.unmap(f.s, 0x10000, 9) == "0");
  CHECK(said(f.context->detach(f.d)) == "ok");
  CHECK(said(f.context->unbind(f.d)) == "ok");
  CHECK(said(f.context->destroy_access(f.x)) == "ok");
  CHECK(f.destroy(f.s) == "0");
  CHECK(f.account.asked() == asked);
  f.close();  // and the context's end does not either
  CHECK(f.account.asked() == asked);
}
