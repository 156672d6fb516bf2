// bench/contenders.hpp - what the benches of the engine compare, behind one form.
//
// A contender is a table with a domain (or none): map(), unmap(), and what a bench asks of some of
// them. They all work on bench/mock/. Every answer is looked at, and a wrong one ends the program.
//
//   bare      the domain and the pinner alone: no tracking. The floor.
//   ours<>    iopt::io_pagetable, over one of the mock's pinners and domains.
//   type1, iommufd   Linux's, where its source was at hand.
#pragma once

#include <benchmark/benchmark.h>
#include <time.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "bench/mock/mock.h"
#include "bench/mock/policies.hpp"
#include "iopt/core/access_object.hpp"
#include "iopt/core/io_pagetable.hpp"
#include "iopt/core/multi_threaded.hpp"
#ifdef IOPT_BENCH_LINUX
#include "bench/linux/peer.h"
#endif

namespace bench {

using std::uint64_t;

inline constexpr uint64_t page = 4096;
inline constexpr uint64_t mebibyte = uint64_t{1} << 20;
inline constexpr uint64_t gibibyte = uint64_t{1} << 30;
/// Where large maps go.
inline constexpr uint64_t far_iova = uint64_t{1} << 38;

/// Ends the program unless it holds: a bench of wrong answers measures nothing.
inline void demand(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "wrong: %s\n", what);
  std::abort();
}

/// stopwatch: CPU time of this thread, in ns, of what lies between start() and stop().
class stopwatch {
 public:
  void start() noexcept { begin_ = now(); }
  void stop() noexcept { ns += now() - begin_; }
  double ns = 0;

 private:
  static double now() noexcept {
    timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return static_cast<double>(t.tv_sec) * 1e9 + static_cast<double>(t.tv_nsec);
  }
  double begin_ = 0;
};

/// What a stopwatch says of one of `count` things in each iteration, as a counter.
inline void tell(benchmark::State& state, const char* name, const stopwatch& watch,
                 uint64_t count = 1) {
  state.counters[name] =
      watch.ns / (static_cast<double>(state.iterations()) * static_cast<double>(count));
}

/// Whether there are large entries in a domain.
enum class entries : bool { of_4k, large };

/// bare: pin arrays of pages, join them, map one run a call or, with vectors, many; unmap, unpin. No
/// type of the engine is in it, and it keeps nothing, so it unpins by number.
template <class Domain>
class bare {
 public:
  explicit bare(entries e) : domain_(e == entries::large) {}

  void map(uint64_t iova, uint64_t address, uint64_t bytes) {
    alignas(64) uint64_t pages[512];
    uint64_t first = 0, joined = 0;
    for (uint64_t left = bytes / page; left != 0;) {
      const std::size_t some = std::min<uint64_t>(left, std::size(pages));
      demand(mock.pin_pages(address, some, pages, 0, 12) == some, "pin");
      for (std::size_t n = 0, next; n < some; n = next) {
        next = n + 1;
        while (next < some && pages[next] == pages[n] + (next - n) * page) ++next;
        if (pages[n] != first + joined || joined == 0) {
          if (joined != 0) iova = put(iova, first, joined);
          first = pages[n];
          joined = 0;
        }
        joined += (next - n) * page;
      }
      left -= some;
      address += some * page;
    }
    flush(put(iova, first, joined));
  }
  void unmap(uint64_t iova, uint64_t bytes) {
    demand(domain_.unmap(iopt::iova_range::sized({iova}, bytes)) == bytes, "unmap");
    mock.unpin(MOCK_FIRST_FRAME, bytes / page, 1);
  }
  void* domain() const { return domain_.handle(); }
  Domain& policy() { return domain_; }

 private:
  static constexpr bool has_vectors = iopt::run_mapping_domain<Domain>;
  static constexpr int rights = 3;

  /// Maps a run, or puts it off, with those that end at `iova`. Returns where the next one goes.
  uint64_t put(uint64_t iova, uint64_t first, uint64_t bytes) {
    if constexpr (has_vectors) {
      if (count_ == room_.size()) flush(iova);
      room_[count_++] = iopt::run({first}, bytes);
    } else {
      demand(mock.map(domain_.handle(), iova, first, bytes, rights) == 0, "map");
    }
    waiting_ += bytes;
    return iova + bytes;
  }
  void flush(uint64_t iova) {
    if constexpr (has_vectors)
      demand(mock.map_runs(domain_.handle(), iova - waiting_, room_.data(), count_, rights) == 0,
             "map_runs");
    count_ = waiting_ = 0;
  }

  Domain domain_;
  std::vector<iopt::run> room_ = std::vector<iopt::run>(4096);
  std::size_t count_ = 0;
  uint64_t waiting_ = 0;
};

/// bare_runs: the same with a pinner and a domain of runs.
class bare_runs {
 public:
  explicit bare_runs(entries e) : domain_(e == entries::large) {}

  void map(uint64_t iova, uint64_t address, uint64_t bytes) {
    for (uint64_t done = 0; done != bytes;) {
      iopt::run_list out{room_};
      mock.pin_runs(address + done, (bytes - done) / page, &out);
      demand(!out.empty() && out.bytes() <= bytes - done, "pin");
      demand(mock.map_runs(domain_.handle(), iova + done, room_.data(), out.size(), 3) == 0,
             "map_runs");
      done += out.bytes();
    }
  }
  void unmap(uint64_t iova, uint64_t bytes) {
    demand(domain_.unmap(iopt::iova_range::sized({iova}, bytes)) == bytes, "unmap");
    mock.unpin(MOCK_FIRST_FRAME, bytes / page, 1);
  }
  void* domain() const { return domain_.handle(); }

 private:
  refined_domain domain_;
  std::vector<iopt::run> room_ = std::vector<iopt::run>(4096);
};

/// ours: an io_pagetable, with one domain unless it is to have none.
template <class Pinner, class Domain, class Traits>
class ours {
 public:
  using table_type = iopt::io_pagetable<Pinner, Domain, Traits>;
  using access_type = iopt::access_object<Pinner, Domain, Traits>;

  explicit ours(std::optional<entries> e) : table(pinner) {
    if (!e) return;
    first_.emplace(*e == entries::large);
    demand(table.attach(*first_).has_value(), "attach");
  }
  ~ours() {
    demand(table.unmap_all().outcome.has_value(), "unmap_all");
    if (first_) demand(table.detach(*first_), "detach");
    demand(pinner.charged() == 0, "account");
  }

  void map(uint64_t iova, uint64_t address, uint64_t bytes) {
    demand(table
               .map(iopt::user_address{address}, bytes, iopt::access_rights::read_write,
                    iopt::iova{iova})
               .has_value(),
           "map");
  }
  void unmap(uint64_t iova, uint64_t bytes) {
    const iopt::unmap_report gone = table.unmap({iova}, bytes, iopt::unmap_profile::iommufd);
    demand(gone && gone.bytes == bytes, "unmap");
  }
  void* domain() const { return first_->handle(); }
  Domain& first() { return *first_; }

  Pinner pinner;
  table_type table;

 private:
  std::optional<Domain> first_;
};

using iopt::multi_threaded;
using iopt::single_threaded;

#ifdef IOPT_BENCH_LINUX
class type1 {
 public:
  type1(const linux_peer& peer, std::optional<entries> e)
      : peer_(peer), container_(peer.type1_create()) {
    if (!e) return;
    group_.large_entries = *e == entries::large ? 1 : 0;
    demand(peer_.type1_attach(container_, &group_) == 0, "type1 attach");
  }
  ~type1() { peer_.type1_destroy(container_); }
  type1(const type1&) = delete;
  type1& operator=(const type1&) = delete;

  void map(uint64_t iova, uint64_t address, uint64_t bytes) {
    demand(peer_.type1_map(container_, iova, address, bytes) == 0, "type1 map");
  }
  void unmap(uint64_t iova, uint64_t bytes) {
    unsigned long gone = 0;
    demand(peer_.type1_unmap(container_, iova, bytes, &gone) == 0 && gone == bytes, "type1 unmap");
  }
  void* domain() const { return group_.domain; }
  const linux_peer& peer() const { return peer_; }
  void* container() const { return container_; }

 private:
  const linux_peer& peer_;
  void* container_;
  linux_group group_{};
};

class iommufd {
 public:
  iommufd(const linux_peer& peer, std::optional<entries> e, bool large_pages = true)
      : peer_(peer), table_(peer.iommufd_create(large_pages ? 0 : 1)) {
    if (!e) return;
    domain_ = mock_domain_create(*e == entries::large ? 1 : 0);
    demand(peer_.iommufd_attach(table_, domain_) == 0, "iommufd attach");
  }
  ~iommufd() {
    peer_.iommufd_unmap_all(table_);
    if (domain_ != nullptr) {
      peer_.iommufd_detach(table_, domain_);
      mock_domain_destroy(domain_);
    }
    peer_.iommufd_destroy(table_);
  }
  iommufd(const iommufd&) = delete;
  iommufd& operator=(const iommufd&) = delete;

  void map(uint64_t iova, uint64_t address, uint64_t bytes) {
    demand(peer_.iommufd_map(table_, iova, address, bytes) == 0, "iommufd map");
  }
  void unmap(uint64_t iova, uint64_t bytes) {
    unsigned long gone = 0;
    demand(peer_.iommufd_unmap(table_, iova, bytes, &gone) == 0 && gone == bytes, "iommufd unmap");
  }
  void* domain() const { return domain_; }
  const linux_peer& peer() const { return peer_; }
  void* table() const { return table_; }

 private:
  const linux_peer& peer_;
  void* table_;
  void* domain_ = nullptr;
};
#endif

/// Looks at what a domain shows, a step at a time: the pages of `address`, or nothing.
inline void check_shown(void* domain, uint64_t iova, uint64_t address, uint64_t bytes,
                        uint64_t step = page) {
  for (uint64_t at = 0; at < bytes; at += step)
    demand(mock.iova_to_phys(domain, iova + at) == mock_physical(address + at), "translation");
}
inline void check_empty(void* domain) {
  demand(mock_domain_entries(domain) == 0, "entries are left");
  demand(mock_pinned() == 0, "pins are left");
}

/// Registers a bench under a name; to be called before main().
template <class F>
benchmark::internal::Benchmark* add(const std::string& name, F f) {
  return benchmark::RegisterBenchmark(name.c_str(), f);
}

/// The mock's tables are made when first wanted.
inline void use_layout(mock_layout layout) {
  [[maybe_unused]] static const bool made = (mock_init(), true);
  mock_set_layout(layout);
}

}  // namespace bench
