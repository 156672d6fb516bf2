// bench/rounds.hpp - subject and peers take turns, and must answer alike.
//
// A group is one workload at one size. Its peers run one after the other, each for a moment, and
// that again for every round, so that whatever disturbs the machine meets all of them. All rounds
// are measured when the first benchmark of the group is run; repetition r of each of them reports
// round r, in whatever order Google Benchmark runs them, as its time and as the counter `each`, in ns
// (or in bytes; then the time means nothing). Ratios are those of one repetition: their median is what
// counts. The program aborts where the checksums of a round differ.
#pragma once

#include <benchmark/benchmark.h>
#include <time.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace bench {

/// What our own code was built for: reach and goal depend on it, so it is part of our names.
#if defined(__AVX512F__)
#define BENCH_INSTRUCTIONS "avx512"
#elif defined(__AVX2__)
#define BENCH_INSTRUCTIONS "avx2"
#else
#define BENCH_INSTRUCTIONS "scalar"
#endif

/// What one peer measured in one round.
struct answer {
  double value = 0;            // nanoseconds, or bytes, for one operation
  std::uint64_t checksum = 0;  // the same for all peers
};

/// The processor time that this thread has taken, in ns.
inline double thread_ns() {
  timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) * 1e9 + static_cast<double>(t.tv_nsec);
}

/// glibc joins small free blocks when a large one is asked for or freed, all that were freed so far:
/// 10 ms after a peer of many small blocks. Then it puts each where it belongs, no more than 10000 of
/// them a request: 0.5 ms for the next to ask. Nobody is to find them in its own time: a hundred requests
/// see to a million.
inline void settle_heap() {
  for (int n = 0; n < 100; ++n) {
    void* large = std::malloc(100000);
    benchmark::DoNotOptimize(large);
    std::free(large);
  }
}

/// Runs f(), which returns a checksum, and says how long each of its `operations` took.
template <class F>
answer timed(std::size_t operations, F f) {
  settle_heap();
  const double begin = thread_ns();
  const std::uint64_t checksum = f();
  return {(thread_ns() - begin) / static_cast<double>(operations), checksum};
}

/// group: one workload at one size, and the peers that do it.
class group {
 public:
  group(std::string name, int rounds) : name_(std::move(name)), rounds_(rounds) {}

  /// Adds a peer; the subject comes first. `run` is called once a round.
  group& peer(std::string name, std::function<answer()> run) {
    peers_.push_back({std::move(name), std::move(run), {}});
    return *this;
  }

  /// Registers one benchmark for each peer: name/peer.
  static void enter(group g) {
    const auto shared = std::make_shared<group>(std::move(g));
    for (std::size_t p = 0; p < shared->peers_.size(); ++p) {
      const std::string name = shared->name_ + "/" + shared->peers_[p].name;
      const auto report = [shared, p, round = std::size_t{0}](benchmark::State& s) mutable {
        const double value = shared->value(p, round++);
        for (auto _ : s) s.SetIterationTime(value * 1e-9);
        s.counters["each"] = value;
      };
      benchmark::RegisterBenchmark(name.c_str(), report)
          ->Iterations(1)
          ->UseManualTime()
          ->Repetitions(shared->rounds_)
          ->DisplayAggregatesOnly(true);
    }
  }

 private:
  struct member {
    std::string name;
    std::function<answer()> run;
    std::vector<answer> answers;
  };

  double value(std::size_t p, std::size_t round) {
    for (int n = 0; n < rounds_ && peers_[p].answers.size() <= round; ++n) one_round();
    return peers_[p].answers[round].value;
  }

  void one_round() {
    const std::size_t round = peers_[0].answers.size();
    for (std::size_t n = 0; n < peers_.size(); ++n) {  // another one begins each time
      member& m = peers_[(n + round) % peers_.size()];
      m.answers.push_back(m.run());
    }
    for (const member& m : peers_) {
      if (m.answers[round].checksum == peers_[0].answers[round].checksum) continue;
      std::fprintf(stderr, "%s: %s answers otherwise than %s\n", name_.c_str(), m.name.c_str(),
                   peers_[0].name.c_str());
      std::abort();
    }
  }

  std::string name_;
  int rounds_;
  std::vector<member> peers_;
};

}  // namespace bench
