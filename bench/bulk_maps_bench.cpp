// Question   What does it cost to map much memory at once, and to take it out again?
// Baseline   Linux's own type1 and iommufd, with locks, on the same domain and pinner. Floor: the
//            same pinning, one map of the domain a run, unmap, unpin, with no tracking.
// Unit       ns of one map and of one unmap, by layout of the memory; a page array of 512 at a time,
//            or runs. What is short is done for several IOVAs in a row, which are timed as one.
// Expect     with runs no more than a small map; with arrays of pages the reading of them; with
//            scattered pages the writing of entries.
// Tried      nothing yet.
#include "bench/contenders.hpp"

namespace bench {
namespace {

struct work {
  mock_layout layout;
  uint64_t bytes;
  uint64_t in_a_row;
};

template <class Make>
void bulk(benchmark::State& state, work w, Make make) {
  use_layout(w.layout);
  auto on = make();
  const uint64_t stride = std::max(w.bytes, gibibyte);
  const auto map_all = [&] {
    for (uint64_t n = 0; n < w.in_a_row; ++n) on->map(far_iova + n * stride, MOCK_ADDRESS, w.bytes);
  };
  const auto unmap_all = [&] {
    for (uint64_t n = 0; n < w.in_a_row; ++n) on->unmap(far_iova + n * stride, w.bytes);
  };
  map_all();
  for (uint64_t n = 0; n < w.in_a_row; ++n)
    check_shown(on->domain(), far_iova + n * stride, MOCK_ADDRESS, w.bytes,
                n == 0 && w.bytes == gibibyte ? page : mebibyte + page);
  demand(mock_pinned() == static_cast<long>(w.in_a_row * w.bytes / page), "pins");
  unmap_all();
  check_empty(on->domain());
  stopwatch map, unmap;
  for (auto _ : state) {
    map.start();
    map_all();
    map.stop();
    unmap.start();
    unmap_all();
    unmap.stop();
  }
  check_empty(on->domain());
  tell(state, "map", map, w.in_a_row);
  tell(state, "unmap", unmap, w.in_a_row);
}

template <class Pinner, class Domain>
using locked = ours<Pinner, Domain, multi_threaded>;

[[maybe_unused]] const bool registered = [] {
  struct shape {
    const char* name;
    mock_layout layout;
    uint64_t bytes;
    entries of;
    bool short_with_runs;
  };
  for (const shape s :
       {shape{"1g_contiguous_large", MOCK_CONTIGUOUS, gibibyte, entries::large, true},
        shape{"1g_contiguous_4k", MOCK_CONTIGUOUS, gibibyte, entries::of_4k, false},
        shape{"1g_blocks_large", MOCK_BLOCKS, gibibyte, entries::large, false},
        shape{"1g_scattered", MOCK_SCATTERED, gibibyte, entries::large, false},
        shape{"64g_contiguous_large", MOCK_CONTIGUOUS, 64 * gibibyte, entries::large, true}}) {
    const auto one = [s](const char* who, uint64_t in_a_row, auto make) {
      add(std::string(s.name) + "/" + who, [s, in_a_row, make](benchmark::State& state) {
        bulk(state, {s.layout, s.bytes, in_a_row}, make);
      })->MinTime(0.04);
    };
    const auto with = [s]<class Contender>(std::type_identity<Contender>) {
      return [s] { return std::make_unique<Contender>(s.of); };
    };
    const uint64_t with_runs = s.short_with_runs ? 64 : 1;
    one("bare_arrays", 1, with(std::type_identity<bare<plain_domain>>()));
    one("iopt_arrays", 1, with(std::type_identity<locked<page_array_pinner, plain_domain>>()));
    one("iopt_arrays_refined", 1,
        with(std::type_identity<locked<page_array_pinner, refined_domain>>()));
    one("bare_arrays_refined", 1, with(std::type_identity<bare<refined_domain>>()));
    one("bare_runs", with_runs, with(std::type_identity<bare_runs>()));
    one("iopt_runs", with_runs, with(std::type_identity<locked<run_pinner, refined_domain>>()));
#ifdef IOPT_BENCH_LINUX
    one("type1", 1, [s] { return std::make_unique<type1>(linux_locked, s.of); });
    one("iommufd", 1, [s] { return std::make_unique<iommufd>(linux_locked, s.of); });
#endif
  }
  return true;
}();

}  // namespace
}  // namespace bench
