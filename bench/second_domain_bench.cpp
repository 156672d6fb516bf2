// Question   What does it cost to attach a further domain to a table that is full, and to detach it?
// Baseline   Linux's own type1 (which replays) and iommufd (which fills from the first domain).
// Unit       ns per attach and detach, 1 GiB mapped. With runs, 16 domains in a row are timed as one.
//            Through map: a run a call, as in Linux; what the first domain holds is read by runs. Floor
//            of that: the same calls with no tracking.
// Expect     with runs no more than a small map; with scattered pages the writing of entries.
// Tried      asking for every page, as Linux does: 1.0x of both. By runs it is 1.3x, and through map that is
//            the limit, as the floor shows: 262144 calls of iommu_map(). A profile of the attach: 81 % are
//            in these calls, 11 % in reading the first domain, 7 % in handing the runs on.
#include "bench/contenders.hpp"

namespace bench {
namespace {

template <class Pinner, class Domain>
void attach_ours(benchmark::State& state, mock_layout layout, std::size_t in_a_row) {
  use_layout(layout);
  ours<Pinner, Domain, multi_threaded> on(entries::large);
  on.map(far_iova, MOCK_ADDRESS, gibibyte);
  {
    Domain second(true);
    demand(on.table.attach(second).has_value(), "attach");
    check_shown(second.handle(), far_iova, MOCK_ADDRESS, gibibyte);
    demand(on.table.detach(second), "detach");
  }
  stopwatch attach, detach;
  std::vector<std::unique_ptr<Domain>> more(in_a_row);
  for (auto _ : state) {
    for (auto& d : more) d = std::make_unique<Domain>(true);
    attach.start();
    for (auto& d : more) demand(on.table.attach(*d).has_value(), "attach");
    attach.stop();
    for (auto& d : more)
      check_shown(d->handle(), far_iova, MOCK_ADDRESS, gibibyte, 64 * mebibyte + page);
    detach.start();
    for (auto& d : more) demand(on.table.detach(*d), "detach");
    detach.stop();
    for (auto& d : more) demand(mock_domain_entries(d->handle()) == 0, "entries are left");
  }
  tell(state, "attach", attach, in_a_row);
  tell(state, "detach", detach, in_a_row);
  on.unmap(far_iova, gibibyte);
  check_empty(on.domain());
}

/// The floor: what one domain shows is read and put into another, a run a call, with no tracking.
void attach_bare(benchmark::State& state, mock_layout layout) {
  use_layout(layout);
  bare<reading_domain> on(entries::large);
  on.map(far_iova, MOCK_ADDRESS, gibibyte);
  std::vector<iopt::run> room(4096);
  const uint64_t last = far_iova + gibibyte - 1;
  stopwatch attach;
  for (auto _ : state) {
    reading_domain second(true);
    attach.start();
    for (uint64_t iova = far_iova; iova <= last;) {
      iopt::run_list out{room};
      on.policy().translate_range({{iova}, {last}}, out);
      demand(!out.empty(), "translate");
      for (const iopt::run& r : out.view()) {
        demand(mock.map(second.handle(), iova, r.first.value, r.length_bytes, 3) == 0, "map");
        iova += r.length_bytes;
      }
    }
    attach.stop();
    check_shown(second.handle(), far_iova, MOCK_ADDRESS, gibibyte, mebibyte + page);
    demand(second.unmap(iopt::iova_range::sized({far_iova}, gibibyte)) == gibibyte, "unmap");
  }
  tell(state, "attach", attach);
  on.unmap(far_iova, gibibyte);
  check_empty(on.domain());
}

#ifdef IOPT_BENCH_LINUX
void attach_type1(benchmark::State& state, mock_layout layout) {
  use_layout(layout);
  type1 on(linux_locked, entries::large);
  on.map(far_iova, MOCK_ADDRESS, gibibyte);
  stopwatch attach, detach;
  for (auto _ : state) {
    linux_group second{1, 1, nullptr};
    attach.start();
    demand(on.peer().type1_attach(on.container(), &second) == 0, "attach");
    attach.stop();
    check_shown(second.domain, far_iova, MOCK_ADDRESS, gibibyte, mebibyte + page);
    detach.start();
    on.peer().type1_detach(on.container(), &second);  // and frees the domain
    detach.stop();
  }
  tell(state, "attach", attach);
  tell(state, "detach", detach);
  on.unmap(far_iova, gibibyte);
  check_empty(on.domain());
}

void attach_iommufd(benchmark::State& state, mock_layout layout) {
  use_layout(layout);
  iommufd on(linux_locked, entries::large);
  on.map(far_iova, MOCK_ADDRESS, gibibyte);
  stopwatch attach, detach;
  for (auto _ : state) {
    void* const second = mock_domain_create(1);
    attach.start();
    demand(on.peer().iommufd_attach(on.table(), second) == 0, "attach");
    attach.stop();
    check_shown(second, far_iova, MOCK_ADDRESS, gibibyte, mebibyte + page);
    detach.start();
    on.peer().iommufd_detach(on.table(), second);
    detach.stop();
    demand(mock_domain_entries(second) == 0, "entries are left");
    mock_domain_destroy(second);
  }
  tell(state, "attach", attach);
  tell(state, "detach", detach);
  on.unmap(far_iova, gibibyte);
  check_empty(on.domain());
}
#endif

[[maybe_unused]] const bool registered = [] {
  struct shape {
    const char* name;
    mock_layout layout;
    std::size_t in_a_row;
  };
  for (const shape s :
       {shape{"contiguous", MOCK_CONTIGUOUS, 16}, shape{"scattered", MOCK_SCATTERED, 1}}) {
    const auto one = [s](const char* who, auto f) {
      add("second_domain_" + std::string(s.name) + "/" + who, f)->MinTime(0.04);
    };
    one("iopt_arrays", [s](benchmark::State& state) {
      attach_ours<page_array_pinner, reading_domain>(state, s.layout, 1);
    });
    one("bare", [s](benchmark::State& state) { attach_bare(state, s.layout); });
    one("iopt_runs", [s](benchmark::State& state) {
      attach_ours<run_pinner, refined_domain>(state, s.layout, s.in_a_row);
    });
#ifdef IOPT_BENCH_LINUX
    one("type1", [s](benchmark::State& state) { attach_type1(state, s.layout); });
    one("iommufd", [s](benchmark::State& state) { attach_iommufd(state, s.layout); });
#endif
  }
  return true;
}();

}  // namespace
}  // namespace bench
