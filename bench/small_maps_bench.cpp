// Question   What does it cost to map 4 KiB and to take it out again, as a table fills?
// Baseline   Linux's own type1 and iommufd on the same domain and pinner, with its locks against our
//            multi-threaded traits, and built without any against our lock-free ones. Floor: pin,
//            iommu_map(), iommu_unmap(), unpin, with no tracking.
// Unit       ns per pair, at a random free IOVA of 4 GiB; n live mappings of 4 KiB there.
// Expect     a step from 1000 to 60000 where the trees leave the caches.
//            With 60000 a leaf of the map and an entry of the domain both come from memory; the domain is
//            told ahead, so that they come together.
// Tried      without that hint 260 ns in place of 200 with an empty table, and 470 for 340 with 60000: the
//            first locked instruction behind the entry's store waits for it. Without locks the hint costs
//            a walk with an empty table (78 for 76) and gains 3 % from 1000 areas on, so it is given from
//            256 on. A lock for the list of domains: 20 ns more.
//            Everything inlined into one function: nothing. std::optional and std::expected handed on
//            through memory: 3 to 6 ns each time their flag, written as a byte, is read as a word. Looked
//            for in the machine code, there were five such places: 97 became 87. A trace of loads
//            against the stores before them, across calls, showed two more (a closure taken by value, two
//            bytes compared as one word): 76 for 80 without locks, in this program; 63 for 70 in a small one.
//            With 60000, 204: a search for the leaf ahead of its use, and none for erasing, 167; the place
//            handed on from call to call in place of kept in the map, 10 more. Keeping the memory of the
//            area that went for the next one: 4 ns.
#include "bench/contenders.hpp"

namespace bench {
namespace {

constexpr uint64_t window = uint64_t{1} << 32;
constexpr uint64_t window_slots = uint64_t{1} << 20;
constexpr std::size_t drawn = 20000;

/// A few pages of memory, so that the mock's table of frames is in the cache for everybody.
uint64_t address_of(uint64_t slot) { return MOCK_ADDRESS + (slot & 4095) * page; }
uint64_t iova_of(uint64_t slot) { return window + slot * page; }

template <class Make>
void pair(benchmark::State& state, std::size_t live, Make make) {
  use_layout(MOCK_SCATTERED);
  auto on = make();
  mock_domain_prefill(on->domain(), window, window_slots * page);
  std::mt19937_64 random(12345);
  std::vector<bool> used(window_slots);
  const auto free_slot = [&] {
    uint64_t slot;
    do slot = random() % window_slots;
    while (used[slot]);
    return slot;
  };
  std::vector<uint64_t> filled(live), slots(drawn);
  for (uint64_t& slot : filled) {
    slot = free_slot();
    used[slot] = true;
    on->map(iova_of(slot), address_of(slot), page);
  }
  for (uint64_t& slot : slots) slot = free_slot();
  for (std::size_t n = 0; n < 100; ++n) {
    on->map(iova_of(slots[n]), address_of(slots[n]), page);
    check_shown(on->domain(), iova_of(slots[n]), address_of(slots[n]), page);
    on->unmap(iova_of(slots[n]), page);
    demand(mock.iova_to_phys(on->domain(), iova_of(slots[n])) == 0, "unmapped, and still shown");
  }
  std::size_t n = 0;
  for (auto _ : state) {
    const uint64_t slot = slots[n];
    on->map(iova_of(slot), address_of(slot), page);
    on->unmap(iova_of(slot), page);
    if (++n == drawn) n = 0;
  }
  demand(mock_domain_entries(on->domain()) == live, "entries");
  for (const uint64_t slot : filled) {
    check_shown(on->domain(), iova_of(slot), address_of(slot), page);
    on->unmap(iova_of(slot), page);
  }
  check_empty(on->domain());
}

template <class Contender>
auto made() {
  return [] { return std::make_unique<Contender>(entries::large); };
}

[[maybe_unused]] const bool registered = [] {
  const auto one = [](const std::string& name, std::size_t live, auto make) {
    add("pair/" + name + "/" + std::to_string(live),
        [live, make](benchmark::State& state) { pair(state, live, make); });
  };
  one("bare", 0, made<bare<plain_domain>>());
  for (const std::size_t live : {0u, 1000u, 60000u}) {
    one("iopt_locked", live, made<ours<page_array_pinner, plain_domain, multi_threaded>>());
    one("iopt_locked_refined", live, made<ours<run_pinner, refined_domain, multi_threaded>>());
    one("iopt_unlocked", live, made<ours<page_array_pinner, plain_domain, single_threaded>>());
#ifdef IOPT_BENCH_LINUX
    one("type1_locked", live, [] { return std::make_unique<type1>(linux_locked, entries::large); });
    one("iommufd_locked", live,
        [] { return std::make_unique<iommufd>(linux_locked, entries::large); });
    one("type1_unlocked", live,
        [] { return std::make_unique<type1>(linux_unlocked, entries::large); });
    one("iommufd_unlocked", live,
        [] { return std::make_unique<iommufd>(linux_unlocked, entries::large); });
#endif
  }
  return true;
}();

}  // namespace
}  // namespace bench
