// Question   What does tracking add to mapping 4 KiB and taking it out again, as a table fills?
// Baseline   the same domain and the same pinner, called directly: pin, map, unmap, unpin.
// Unit       ns per pair, at a random IOVA of 4 GiB; n live mappings of 4 KiB.
// Expect     with real locks about twice the time of none; steps at the cache sizes.
// Tried      nothing yet.
#include <benchmark/benchmark.h>

#include <cstdint>
#include <cstdlib>
#include <random>
#include <vector>

#include "iopt/core/io_pagetable.hpp"
#include "iopt/core/multi_threaded.hpp"

namespace {

using iopt::iova;
using iopt::iova_range;
constexpr std::uint64_t page = 4096;
constexpr std::uint64_t pages = 1 << 20;

/// Frames are user addresses plus a constant; nothing is counted.
struct flat_pinner {
  struct owner {
    friend bool operator==(owner, owner) = default;
  };
  owner current() { return {}; }
  iopt::result<void> pin(const owner&, iopt::user_range r, iopt::access_rights,
                         iopt::run_list& out) {
    out.append(iopt::run({r.first.value + (std::uint64_t{1} << 40)}, r.length()));
    return {};
  }
  void unpin(iopt::run, bool) noexcept {}
  bool reachable(const owner&) noexcept { return true; }
  iopt::result<void> charge(const owner&, iopt::account_mode, std::uint64_t) { return {}; }
  void uncharge(const owner&, iopt::account_mode, std::uint64_t) noexcept {}
};

/// One array of entries.
struct flat_domain {
  std::vector<std::uint64_t> entries = std::vector<std::uint64_t>(pages);
  iopt::result<void> map(iova_range r, iopt::physical p, iopt::attributes) {
    for (std::uint64_t done = 0; done < r.length(); done += page)
      entries[(r.first.value + done) / page] = p.value + done;
    return {};
  }
  std::uint64_t unmap(iova_range r) noexcept {
    for (std::uint64_t done = 0; done < r.length(); done += page)
      entries[(r.first.value + done) / page] = 0;
    return r.length();
  }
  std::optional<iopt::physical> translate(iova at) const {
    return iopt::physical{entries[at.value / page] + at.value % page};
  }
  iopt::page_size_set page_sizes() const { return {page}; }
  iova_range aperture() const { return {{0}, {pages * page - 1}}; }
};

std::vector<std::uint64_t> some_pages(std::size_t n, std::uint64_t seed, std::uint64_t parity) {
  std::mt19937_64 random(seed);
  std::vector<std::uint64_t> at(n);
  for (std::uint64_t& a : at) a = (random() % pages / 2 * 2 + parity) * page;
  return at;
}

void without_a_table(benchmark::State& state) {
  flat_pinner pinner;
  flat_domain domain;
  const std::vector<std::uint64_t> at = some_pages(65536, 3, 0);
  std::size_t n = 0;
  for (auto _ : state) {
    const iova_range r = iova_range::sized({at[n++ % at.size()]}, page);
    iopt::run place[1];
    iopt::run_list out{place};
    if (!pinner.pin({}, {{r.first.value}, {r.last.value}}, iopt::access_rights::read, out))
      std::abort();
    if (!domain.map(r, out[0].first, {})) std::abort();
    benchmark::ClobberMemory();
    domain.unmap(r);
    pinner.unpin(out[0], false);
  }
}

template <class Traits>
void pair(benchmark::State& state) {
  flat_pinner pinner;
  flat_domain domain;
  iopt::io_pagetable<flat_pinner, flat_domain, Traits> table(pinner);
  if (!table.attach(domain)) std::abort();
  const auto map = [&](std::uint64_t at) {
    return table.map({at}, page, iopt::access_rights::read, iova{at}).has_value();
  };
  for (std::uint64_t seed = 5; table.area_count() < static_cast<std::size_t>(state.range(0));
       ++seed)
    for (const std::uint64_t at : some_pages(1000, seed, 1))
      if (table.area_count() < static_cast<std::size_t>(state.range(0))) static_cast<void>(map(at));
  const std::vector<std::uint64_t> at = some_pages(65536, 3, 0);
  std::size_t n = 0;
  for (auto _ : state) {
    const std::uint64_t here = at[n++ % at.size()];
    if (!map(here)) std::abort();
    if (!table.unmap({here}, page, iopt::unmap_profile::iommufd)) std::abort();
  }
}

BENCHMARK(without_a_table);
BENCHMARK(pair<iopt::single_threaded>)->Arg(0)->Arg(1000)->Arg(60000);
BENCHMARK(pair<iopt::multi_threaded>)->Arg(0)->Arg(1000)->Arg(60000);

}  // namespace
