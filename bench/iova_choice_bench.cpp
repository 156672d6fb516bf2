// Question   What does it cost to choose an IOVA when no hole between 60000 areas will do?
// Baseline   Linux's iommufd: iopt_alloc_iova() alone. Ours is all of a map and its unmap, since that
//            is the only way to have it choose. Both have a domain.
// Unit       ns per choice of 8 KiB. too_short: every hole is of 4 KiB. misaligned: every hole is of
//            8 KiB, from an odd page on, and the memory's own alignment asks for an even one.
// Expect     O(log n) for too_short; misaligned the bound that area_map states.
// Tried      nothing yet.
#include "bench/contenders.hpp"

namespace bench {
namespace {

constexpr uint64_t areas = 60000;
constexpr uint64_t wanted = 2 * page;
constexpr uint64_t address = MOCK_ADDRESS + mebibyte;

struct comb {
  uint64_t first, period, used;  // areas of `used` bytes each `period`
  uint64_t answer;
};
constexpr comb too_short{2 * page, 2 * page, page, 2 * page*(areas + 1)};
constexpr comb misaligned{3 * page, 4 * page, 2 * page, (4 * areas + 2) * page};

template <class Contender>
void fill(Contender& on, comb c) {
  std::mt19937_64 random(99);
  std::vector<uint64_t> order(areas);
  for (uint64_t n = 0; n < areas; ++n) order[n] = n;
  std::shuffle(order.begin(), order.end(), random);
  for (const uint64_t n : order) on.map(c.first + n * c.period, MOCK_ADDRESS + n * c.used, c.used);
}
template <class Contender>
void empty(Contender& on, comb c) {
  for (uint64_t n = 0; n < areas; ++n) {
    check_shown(on.domain(), c.first + n * c.period, MOCK_ADDRESS + n * c.used, c.used);
    on.unmap(c.first + n * c.period, c.used);
  }
  check_empty(on.domain());
}

void choose_ours(benchmark::State& state, comb c) {
  use_layout(MOCK_SCATTERED);
  ours<page_array_pinner, plain_domain, multi_threaded> on(entries::large);
  // As attaching a device does in Linux.
  demand(on.table.reserve({{0xfee00000}, {0xfeefffff}}).has_value(), "reserve");
  fill(on, c);
  for (auto _ : state) {
    const iopt::result<iopt::iova> at =
        on.table.map(iopt::user_address{address}, wanted, iopt::access_rights::read_write);
    demand(at && at->value == c.answer, "choice");
    on.unmap(c.answer, wanted);
  }
  empty(on, c);
}

#ifdef IOPT_BENCH_LINUX
void choose_iommufd(benchmark::State& state, comb c) {
  use_layout(MOCK_SCATTERED);
  iommufd on(linux_locked, entries::large);
  fill(on, c);
  for (auto _ : state) {
    unsigned long at = 0;
    demand(on.peer().iommufd_choose_iova(on.table(), &at, address, wanted) == 0 && at == c.answer,
           "choice");
  }
  empty(on, c);
}
#endif

[[maybe_unused]] const bool registered = [] {
  for (const auto& [name, c] :
       {std::pair{"choice_too_short", too_short}, {"choice_misaligned", misaligned}}) {
    add(std::string(name) + "/iopt", [c](benchmark::State& state) {
      choose_ours(state, c);
    })->MinTime(0.04);
#ifdef IOPT_BENCH_LINUX
    add(std::string(name) + "/iommufd", [c](benchmark::State& state) {
      choose_iommufd(state, c);
    })->MinTime(0.04);
#endif
  }
  return true;
}();

}  // namespace
}  // namespace bench
