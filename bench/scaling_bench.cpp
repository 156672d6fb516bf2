// Question   How much more do two threads get done in one table, each with IOVAs of its own, than one?
// Baseline   the same work on one thread. (Linux's code runs here without contention alone.)
// Unit       ns by the clock per map + unmap, of all threads together: 4 KiB; 1 MiB in 256 runs, pinned
//            by page arrays and mapped a run a call.
// Expect     of 1 MiB nearly twice as much, for pages are pinned and entries written side by side; of
//            4 KiB less than one thread does, for the areas have one lock, taken three times a pair, and
//            its line and those of the map's nodes go from one processor to the other.
// Tried      1 MiB in one run: 0.4 us a pair on one thread, of which the lock's lines are half: 1.2x.
//            Locks that sleep at once: 0.5x and 0.9x. 4 KiB, a look at the lock at each pause before
//            sleeping: 0.3x; ever fewer looks, so that who has the lines does a few pairs: 0.7x.
#include <barrier>
#include <chrono>
#include <thread>

#include "bench/contenders.hpp"

namespace bench {
namespace {

void scale(benchmark::State& state, std::size_t threads, uint64_t bytes) {
  use_layout(MOCK_SCATTERED);
  ours<page_array_pinner, plain_domain, multi_threaded> on(entries::large);
  const uint64_t slots = 64 * mebibyte / bytes;
  const std::size_t pairs = bytes == page ? 100000 : 2000;
  // Tables are there, and no thread's ranges fill one: the mock has no locks of its own.
  for (std::size_t t = 0; t < 2; ++t)
    mock_domain_prefill(on.domain(), far_iova + t * gibibyte, 64 * mebibyte);
  double ns = 0;
  std::size_t done = 0;
  for (auto _ : state) {
    using clock = std::chrono::steady_clock;
    std::barrier ready(static_cast<std::ptrdiff_t>(threads));
    std::vector<std::thread> all;
    std::vector<clock::time_point> begin(threads), end(threads);
    for (std::size_t t = 0; t < threads; ++t) {
      all.emplace_back([&, t] {
        const uint64_t iova = far_iova + t * gibibyte, from = MOCK_ADDRESS + t * gibibyte;
        ready.arrive_and_wait();
        begin[t] = clock::now();
        for (std::size_t n = 0; n < pairs; ++n) {
          const uint64_t at = n * 7 % (slots - 1) * bytes + page;
          on.map(iova + at, from + at, bytes);
          if (n % 64 == 0) check_shown(on.domain(), iova + at, from + at, bytes);
          on.unmap(iova + at, bytes);
        }
        end[t] = clock::now();
      });
    }
    for (std::thread& t : all) t.join();
    ns += std::chrono::duration<double, std::nano>(*std::max_element(end.begin(), end.end()) -
                                                   *std::min_element(begin.begin(), begin.end()))
              .count();
    done += threads * pairs;
  }
  state.counters["pair"] = ns / static_cast<double>(done);
  check_empty(on.domain());
}

[[maybe_unused]] const bool registered = [] {
  for (const auto& [name, bytes] : {std::pair{"4k", page}, std::pair{"1m", mebibyte}})
    for (const std::size_t threads : {1, 2})
      add(std::string(name) + "/threads_" + std::to_string(threads), [threads, bytes = bytes](
                                                                         benchmark::State& s) {
        scale(s, threads, bytes);
      })->MinTime(0.05);
  return true;
}();

}  // namespace
}  // namespace bench
