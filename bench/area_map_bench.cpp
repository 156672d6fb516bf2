// Question   What does one look-up, insert or erase cost as an address space fills?
// Baseline   absl::btree_map and boost::icl::interval_map: same ranges, same order, same binary.
// Unit       ns per operation, each a hit; n live ranges of 64 KiB with 64 KiB between them.
// Expect     steps at the cache sizes; O(log n) is proved in tests/, not here.
// Tried      in containers/area_map_node.hpp and area_map_tree.hpp.
#include <benchmark/benchmark.h>

#include <absl/container/btree_map.h>

#include <algorithm>
#include <boost/icl/interval_map.hpp>
#include <cstdint>
#include <cstdlib>
#include <random>
#include <vector>

#include "iopt/containers/area_map.hpp"

namespace {

constexpr std::uint64_t length = 65536;

struct iopt_map {
  iopt::area_map<iopt::iova, std::uint64_t> map;
  void insert(std::uint64_t first, std::uint64_t value) {
    if (!map.insert(iopt::iova_range::sized({first}, length), value)) std::abort();
  }
  std::uint64_t find(std::uint64_t at) const { return map.find({at}).value(); }
  void erase(std::uint64_t first) { map.erase(iopt::iova_range::sized({first}, length)); }
};

/// The overlap check that area_map makes by itself is made here as well.
struct absl_map {
  absl::btree_map<std::uint64_t, std::pair<std::uint64_t, std::uint64_t>> map;  // by first
  void insert(std::uint64_t first, std::uint64_t value) {
    const auto next = map.lower_bound(first);
    if (next != map.end() && next->first <= first + (length - 1)) std::abort();
    if (next != map.begin() && std::prev(next)->second.first >= first) std::abort();
    map.emplace_hint(next, first, std::pair{first + (length - 1), value});
  }
  std::uint64_t find(std::uint64_t at) const {
    const auto next = std::prev(map.upper_bound(at));
    if (next->second.first < at) std::abort();
    return next->second.second;
  }
  void erase(std::uint64_t first) { map.erase(first); }
};

struct icl_map {
  using interval = boost::icl::discrete_interval<std::uint64_t>;
  boost::icl::interval_map<std::uint64_t, std::uint64_t, boost::icl::partial_enricher> map;
  static interval of(std::uint64_t first) { return interval::right_open(first, first + length); }
  void insert(std::uint64_t first, std::uint64_t value) { map.insert({of(first), value}); }
  std::uint64_t find(std::uint64_t at) const { return map.find(at)->second; }
  void erase(std::uint64_t first) { map.erase(of(first)); }
};

std::vector<std::uint64_t> shuffled(std::uint64_t n) {
  std::vector<std::uint64_t> firsts(n);
  for (std::uint64_t i = 0; i < n; ++i) firsts[i] = 2 * length * (i + 1);
  std::shuffle(firsts.begin(), firsts.end(), std::mt19937_64(7));
  return firsts;
}

template <class Map>
void look_up(benchmark::State& state) {
  const std::vector<std::uint64_t> firsts = shuffled(static_cast<std::uint64_t>(state.range(0)));
  Map map;
  for (const std::uint64_t first : firsts) map.insert(first, first + 1);
  std::mt19937_64 random(11);
  std::vector<std::uint64_t> queries(4096);
  for (std::uint64_t& q : queries) q = firsts[random() % firsts.size()] + random() % length;
  std::size_t n = 0;
  for (auto _ : state) {
    const std::uint64_t at = queries[n++ % queries.size()];
    if (map.find(at) != at / length * length + 1) std::abort();
  }
}

/// One erase and one insert of the same range, in a map that stays at n.
template <class Map>
void churn(benchmark::State& state) {
  const std::vector<std::uint64_t> firsts = shuffled(static_cast<std::uint64_t>(state.range(0)));
  Map map;
  for (const std::uint64_t first : firsts) map.insert(first, first + 1);
  std::size_t n = 0;
  for (auto _ : state) {
    const std::uint64_t first = firsts[n++ % firsts.size()];
    map.erase(first);
    map.insert(first, first + 1);
  }
}

BENCHMARK(look_up<iopt_map>)->Arg(1000)->Arg(65535);
BENCHMARK(look_up<absl_map>)->Arg(1000)->Arg(65535);
BENCHMARK(look_up<icl_map>)->Arg(1000)->Arg(65535);
BENCHMARK(churn<iopt_map>)->Arg(1000)->Arg(65535);
BENCHMARK(churn<absl_map>)->Arg(1000)->Arg(65535);
BENCHMARK(churn<icl_map>)->Arg(1000)->Arg(65535);

}  // namespace
