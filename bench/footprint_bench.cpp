// Question   How many bytes does a mapping of 4 KiB take?
// Baseline   Linux's own type1 and iommufd, in the size classes of kmalloc.
// Unit       bytes a mapping, 100000 of them in a domain that is attached: what the table's memory
//            source gave, with what malloc rounds up and heads each piece by. Not the domain's tables.
// Expect     one piece for area, pages and first run, and a share of the tree's nodes.
// Tried      nothing yet.
#include <malloc.h>

#include "bench/contenders.hpp"

namespace bench {
namespace {

constexpr uint64_t mappings = 100000;
constexpr std::size_t header_bytes = 8;  // glibc's, a piece

struct counting_memory {
  static inline std::size_t asked = 0, taken = 0;

  void* allocate(std::size_t bytes, std::size_t alignment) noexcept {
    void* const p = iopt::heap_memory().allocate(bytes, alignment);
    asked += bytes;
    taken += malloc_usable_size(p) + header_bytes;
    return p;
  }
  void deallocate(void* p, std::size_t bytes, std::size_t alignment) noexcept {
    if (p == nullptr) return;
    asked -= bytes;
    taken -= malloc_usable_size(p) + header_bytes;
    iopt::heap_memory().deallocate(p, bytes, alignment);
  }
};
struct counted_traits : multi_threaded {
  using memory = counting_memory;
};

template <class Contender, class Count>
void fill(benchmark::State& state, Contender& on, Count count) {
  use_layout(MOCK_SCATTERED);
  for (auto _ : state) {
    const auto [asked_before, taken_before] = count();
    for (uint64_t n = 0; n < mappings; ++n)
      on.map((uint64_t{1} << 32) + n * 2 * page, MOCK_ADDRESS + n * page, page);
    const auto [asked, taken] = count();
    state.counters["bytes_asked"] = static_cast<double>(asked - asked_before) / mappings;
    state.counters["bytes_taken"] = static_cast<double>(taken - taken_before) / mappings;
  }
  for (uint64_t n = 0; n < mappings; ++n) {
    check_shown(on.domain(), (uint64_t{1} << 32) + n * 2 * page, MOCK_ADDRESS + n * page, page);
    on.unmap((uint64_t{1} << 32) + n * 2 * page, page);
  }
  check_empty(on.domain());
}

[[maybe_unused]] const bool registered = [] {
  add("footprint/iopt", [](benchmark::State& state) {
    ours<page_array_pinner, plain_domain, counted_traits> on(entries::large);
    fill(state, on, [] { return std::pair{counting_memory::asked, counting_memory::taken}; });
  })->Iterations(1);
#ifdef IOPT_BENCH_LINUX
  const auto count = [] {
    std::pair<long, long> got;
    linux_counted.memory(&got.first, &got.second);
    return got;
  };
  add("footprint/type1", [count](benchmark::State& state) {
    linux_counted.type1_entry_limit(1 << 20);
    type1 on(linux_counted, entries::large);
    fill(state, on, count);
  })->Iterations(1);
  add("footprint/iommufd", [count](benchmark::State& state) {
    iommufd on(linux_counted, entries::large);
    fill(state, on, count);
  })->Iterations(1);
#endif
  return true;
}();

}  // namespace
}  // namespace bench
