// Question   What does it cost to punch a hole of one page into memory that large entries show?
// Baseline   Linux's iommufd, which can only with large pages off (type1 cannot): two cuts and an
//            unmap, in 1 GiB. Floor: split of the entry, unmap, unpin, with no tracking.
// Unit       ns per hole, average of 100000 at random: in 256 GiB of 1 GiB entries, and in 1 GiB, where
//            no two touch.
// Expect     what a table of 512 entries costs to write, for each 2 MiB that is touched first.
// Tried      two cuts and an unmap over one pages object: 1897 and 1576 ns, most of it in a tree of holders
//            with a node for each part. Parts that stay compact: 536 and 243, of which the floor is 242 and
//            26: in 256 GiB half of the holes are the first in their 2 MiB, and 4 KiB of entries are written.
//            One search and one lock for what were three and two: 520 and 190. No result kept and copied
//            behind a split: 450 and 150. Areas in lines of their own from a slab: 1 %, and 1 GiB slower.
//            Traits without locks: the same. What is left in 256 GiB waits for a leaf, for the area that it
//            names, and for those entries; the area asked for before the domain is told, or the leaf: nothing.
#include <algorithm>

#include "bench/contenders.hpp"

namespace bench {
namespace {

constexpr std::size_t holes = 100000;
constexpr uint64_t piece = 64 * gibibyte;  // all memory that there is

/// Numbers of pages, each once; in 1 GiB odd ones.
std::vector<uint64_t> draw(uint64_t bytes) {
  std::mt19937_64 random(777);
  std::vector<uint64_t> all;
  if (bytes == gibibyte) {
    for (uint64_t n = 1; n < bytes / page; n += 2) all.push_back(n);
    std::shuffle(all.begin(), all.end(), random);
    all.resize(holes);
    return all;
  }
  std::vector<bool> drawn(bytes / page);
  while (all.size() < holes) {
    const uint64_t n = random() % drawn.size();
    if (!drawn[n]) all.push_back(n);
    drawn[n] = true;
  }
  return all;
}

/// How many entries there must be when nothing was split that was not touched.
uint64_t entries_left(uint64_t bytes, const std::vector<uint64_t>& punched) {
  const auto touched = [&](unsigned lg2) {
    std::vector<uint64_t> parts;
    for (const uint64_t n : punched) parts.push_back(n >> (lg2 - 12));
    std::sort(parts.begin(), parts.end());
    return static_cast<uint64_t>(std::unique(parts.begin(), parts.end()) - parts.begin());
  };
  const uint64_t of_1g = touched(30), of_2m = touched(21);
  return bytes / gibibyte - of_1g + (of_1g * 512 - of_2m) + (of_2m * 512 - punched.size());
}

void check(void* domain, uint64_t bytes, const std::vector<uint64_t>& punched, uint64_t left) {
  for (const uint64_t n : punched)
    demand(mock.iova_to_phys(domain, far_iova + n * page) == 0, "a hole is shown");
  for (std::size_t n = 0; n < 1000; ++n) {
    const uint64_t next = punched[n] ^ 1;  // beside it
    const uint64_t shown = mock.iova_to_phys(domain, far_iova + next * page);
    if (shown != 0)
      demand(shown == mock_physical(MOCK_ADDRESS + next * page % piece), "beside a hole");
  }
  demand(mock_domain_entries(domain) == left, "entries are not as large as they can be");
  demand(mock_pinned() == static_cast<long>(bytes / page - punched.size()), "pins");
}

void punch_ours(benchmark::State& state, uint64_t bytes) {
  use_layout(MOCK_CONTIGUOUS);
  const std::vector<uint64_t> at = draw(bytes);
  stopwatch punch;
  for (auto _ : state) {
    ours<run_pinner, refined_domain, multi_threaded> on(entries::large);
    for (uint64_t done = 0; done < bytes; done += piece)
      on.map(far_iova + done, MOCK_ADDRESS, std::min(piece, bytes));
    punch.start();
    for (const uint64_t n : at) {
      const iopt::unmap_report gone =
          on.table.unmap({far_iova + n * page}, page, iopt::unmap_profile::hole_punching);
      demand(gone && gone.bytes == page, "hole");
    }
    punch.stop();
    check(on.domain(), bytes, at, entries_left(bytes, at));
    demand(on.table.unmap_all().outcome.has_value(), "unmap_all");
    check_empty(on.domain());
  }
  tell(state, "hole", punch, holes);
}

void punch_bare(benchmark::State& state, uint64_t bytes) {
  use_layout(MOCK_CONTIGUOUS);
  const std::vector<uint64_t> at = draw(bytes);
  stopwatch punch;
  for (auto _ : state) {
    run_pinner pinner;
    refined_domain domain(true);
    iopt::run room[1];
    for (uint64_t done = 0; done < bytes; done += piece) {
      iopt::run_list out{room};
      demand(
          pinner.pin({}, iopt::user_range::sized({MOCK_ADDRESS}, std::min(piece, bytes)), {}, out)
                  .has_value() &&
              domain.map_runs({far_iova + done}, out.view(), iopt::access_rights::read_write)
                  .has_value(),
          "map");
    }
    punch.start();
    for (const uint64_t n : at) {
      const iopt::iova_range hole = iopt::iova_range::sized({far_iova + n * page}, page);
      demand(domain.split(hole).has_value(), "split");
      iopt::run_list out{room};
      demand(domain.unmap_runs(hole, out) == page, "hole");
      pinner.unpin(out[0], true);
    }
    punch.stop();
    check(domain.handle(), bytes, at, entries_left(bytes, at));
    for (uint64_t left = static_cast<uint64_t>(mock_pinned()); left != 0;
         left = static_cast<uint64_t>(mock_pinned()))
      mock.unpin(MOCK_FIRST_FRAME, std::min<uint64_t>(left, MOCK_PAGES), 0);
  }
  tell(state, "hole", punch, holes);
}

#ifdef IOPT_BENCH_LINUX
void punch_iommufd(benchmark::State& state) {
  use_layout(MOCK_CONTIGUOUS);
  const std::vector<uint64_t> at = draw(gibibyte);
  stopwatch punch;
  for (auto _ : state) {
    iommufd on(linux_locked, entries::large, false);
    on.map(far_iova, MOCK_ADDRESS, gibibyte);
    punch.start();
    for (const uint64_t n : at) {
      const uint64_t first = far_iova + n * page;
      unsigned long lasts[2] = {first + page - 1, first - 1};
      demand(on.peer().iommufd_cut(on.table(), lasts, 2) == 0, "cut");
      on.unmap(first, page);
    }
    punch.stop();
    check(on.domain(), gibibyte, at, gibibyte / page - at.size());
  }
  tell(state, "hole", punch, holes);
  demand(mock_pinned() == 0, "pins are left");
}
#endif

[[maybe_unused]] const bool registered = [] {
  for (const auto& [name, bytes] :
       {std::pair{"holes_256g", 256 * gibibyte}, {"holes_1g", gibibyte}}) {
    add(std::string(name) + "/iopt", [bytes](benchmark::State& state) {
      punch_ours(state, bytes);
    })->Iterations(1);
    add(std::string(name) + "/bare", [bytes](benchmark::State& state) {
      punch_bare(state, bytes);
    })->Iterations(1);
  }
#ifdef IOPT_BENCH_LINUX
  add("holes_1g/iommufd", punch_iommufd)->Iterations(1);
#endif
  return true;
}();

}  // namespace
}  // namespace bench
