// Question   What does it cost a page to join an array of pages into runs?
// Baseline   the plain loop, a compare and a branch a page: same array, same list, same binary.
// Limit      summing the array, which reads it once.
// Unit       ns per page of 4 KiB. Arguments: pages (4096 are 16 MiB of memory, 262,144 are 1 GiB),
//            and of how many pages one begins a run, by chance; 0 is one run.
// Expect     for one run the limit and little more; otherwise no branch a page that is guessed wrong.
//            On a Zen 5, GCC 12 -O3, 262,144 pages, ns: one run 0.19 portable and 0.08 by AVX-512
//            (plain 0.25, limit 0.16); every page a run 1.15 and 0.45 (4.3); one page in two 1.1 and
//            0.42 (4.7), in eight 1.0 and 0.35 (1.5), in 64 0.34 and 0.14 (0.43). An array of 4096
//            that comes again and again is learnt by heart, and there the plain loop needs 0.55 for
//            one in eight, and the portable form 0.88.
// Tried      the eight of a block in a loop, as GCC 12 -O2 leaves it: one run 0.54, every page a run 1.49;
//            so they are unrolled. In the plain loop a run written by words and not through its
//            bit-fields: every page a run 1.4, one page in two 3.9 as before. AVX2 has no compress and
//            was left out.
#include <benchmark/benchmark.h>

#include <cstdint>
#include <cstdlib>
#include <random>
#include <span>
#include <vector>

#include "iopt/base/run.hpp"

namespace {

using iopt::physical;
using iopt::run;
using iopt::run_list;

constexpr std::uint64_t page_bytes = 4096;

struct addresses {
  using word = physical;
  static word of(std::uint64_t frame) { return {frame * page_bytes}; }
  static std::uint64_t number(word w) { return w.value; }
  static std::size_t append(run_list& list, std::span<const word> words) {
    return list.append_pages(words, page_bytes);
  }
};
template <class Word>
struct frames {
  using word = Word;
  static word of(std::uint64_t frame) { return static_cast<word>(frame); }
  static std::uint64_t number(word w) { return w; }
  static std::size_t append(run_list& list, std::span<const word> words) {
    return list.append_frames(words, page_bytes);
  }
};

/// What append_pages() was at first.
struct plain_loop : addresses {
  static std::size_t append(run_list& list, std::span<const word> pages) {
    std::size_t taken = 0;
    while (taken < pages.size()) {
      const std::uint64_t start = pages[taken].value;
      std::size_t end = taken + 1;
      while (end < pages.size() && pages[end].value == start + (end - taken) * page_bytes) ++end;
      if (pages[end - 1].value < start) end = taken + (iopt::top - start) / page_bytes + 1;
      if (!list.append(run({start}, (end - taken) * page_bytes))) break;
      taken = end;
    }
    return taken;
  }
};

template <class Words>
std::vector<typename Words::word> draw(const benchmark::State& state) {
  std::mt19937_64 random(3);
  const auto run_pages = static_cast<std::uint64_t>(state.range(1));
  std::vector<typename Words::word> words;
  for (std::uint64_t frame = 1 << 20; words.size() < static_cast<std::size_t>(state.range(0));) {
    words.push_back(Words::of(frame));
    frame += run_pages != 0 && random() % run_pages == 0 ? 2 : 1;
  }
  return words;
}

void per_page(benchmark::State& state) {
  state.counters["page"] =
      benchmark::Counter(static_cast<double>(state.iterations() * state.range(0)),
                         benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}

template <class Words>
void join(benchmark::State& state) {
  const auto words = draw<Words>(state);
  std::vector<run> storage(words.size());
  for (auto _ : state) {
    run_list list(storage);
    if (Words::append(list, words) != words.size()) std::abort();
    benchmark::DoNotOptimize(list);
    benchmark::ClobberMemory();
  }
  per_page(state);
}

void sum(benchmark::State& state) {
  const auto words = draw<addresses>(state);
  for (auto _ : state) {
    std::uint64_t total[4] = {};
    for (std::size_t n = 0; n < words.size(); n += 4)
      for (std::size_t k = 0; k < 4; ++k) total[k] += words[n + k].value;
    benchmark::DoNotOptimize(total);
    benchmark::ClobberMemory();
  }
  per_page(state);
}

void shapes(benchmark::internal::Benchmark* b) {
  for (const std::int64_t pages : {4096, 262144})
    for (const std::int64_t run_pages : {0, 64, 8, 2, 1}) b->Args({pages, run_pages});
}

BENCHMARK(join<plain_loop>)->Apply(shapes);
BENCHMARK(join<addresses>)->Apply(shapes);
BENCHMARK(join<frames<std::uint64_t>>)->Apply(shapes);
BENCHMARK(join<frames<std::uint32_t>>)->Apply(shapes);
BENCHMARK(sum)->Args({4096, 0})->Args({262144, 0});

}  // namespace
