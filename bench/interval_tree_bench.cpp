// Question   What does it cost to keep ranges that overlap, and to ask what overlaps a range?
// Baseline   Linux's interval tree as it is (bench/linux, where its source is at hand), and
//            Boost.ICL's interval_map to sets of values at 64 K. Same ranges, same order, same
//            binary, in turns.
// Unit       ns per operation, span per range; n ranges of 1 to 128 pages, four over each address
//            on average. ten: ten results on average, in a loop that takes each as it comes;
//            *_list: written to a list. erase: of a range, which is looked for first; erase_held:
//            with the record in hand, if the peer has records. pair: one erase_held and one insert.
// Expect     interval_tree.goals. interval_tree is about as fast as Linux's tree: both have a node
//            an entry, and a miss of the cache a level. overlap_map has 48 entries a node.
// Tried      In ns for a stab and a query of ten at 64 K, and both at 1 M, each by callback and to a
//            list. In one run, the code as it is: 57/39 69/45, 180/183 252/203.
//            Values asked for only when it is known which: 56/43 68/50, 213/238 273/271.
//            All hits picked into a buffer, then called back with: 63 67, 268 272.
//            The next leaf's keys asked for with the first one's: 58/40 69/46, 182/193 247/212.
//            In another, values not asked for: 55/39 69/45, 206/160 206/174.
//            Leaves two at a time, no branch on whether there is a second: 68/62 74/65, 266/206
//            237/218; what it saves is seldom a wrong branch, what it costs is room for the next query.
//            The hits of several leaves collected as bits, then called back with: 55 65, 243 277.
//            Since a leaf's header and a small root cost less (51/33 63/37, 159/128 181/147 outside this
//            bench, where only ours runs): values asked for to L2 only, 50/33 61/37, 186/144 204/166; not
//            at all below 200 K ranges, 52/36 63/42. Children's words asked for with an inner node's keys:
//            no gain. One comparison a child, with fences moved up by one: 53/34 65/38. A leaf's hits
//            counted up to how many they are, so that the last branch waits for no other: 52 64.
//            Since the next leaf is asked before the callbacks of one (50/32 59/37): leaves of a parent in a
//            loop of their own, 51/33 60/37, and lists by scalar code 5 % slower; the walk in line, 50/31 59/35,
//            ten by callback 1 % slower. Before that, against 52/34 63/38: the hits of two leaves called back
//            with in one loop, 57 64; windows compared once a query, or 32-bit moves left out between a bit
//            and its child, no gain.
//            Of a query of inner nodes, against 48/32 58/37: one mask a vector by the greater and the lesser, as
//            in leaves, with fences moved up by one, 50/33 60/38; masks joined before they become words, no
//            gain; nodes that wait kept by level, 60 and 39 for ten.
//            Insertion at 64 K: 35 where nodes come from a warm heap, 47 where the kernel has to give their
//            pages; the peers' records are there before the clock starts. 42 to 86 in the rounds of one run
//            of all groups while glibc sorted in our time what Boost's had freed, which we mostly follow; 36
//            to 47 since settle_heap() has it done before. Nodes from slabs of 16: 36 to 34;
//            where the heap is so scattered that no two are neighbours, over 3 MB, 64 and 330: 40, 44, 45.
//            Their lines asked for, to write, when they come from the heap: no gain. One vector for a small
//            root's fences: 35.4 to 35.1.
//
// Which to take: a caller with a few ranges, or whose ranges are records anyway, takes interval_tree,
// which allocates nothing and cannot fail, and whose records stay where they are; n = 4 shows it. One
// with thousands takes overlap_map.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <boost/container/flat_set.hpp>
#include <boost/icl/closed_interval.hpp>
#include <boost/icl/interval_map.hpp>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <map>
#include <memory>
#include <numeric>
#include <random>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "bench/rounds.hpp"
#include "iopt/containers/interval_tree.hpp"
#include "iopt/containers/overlap_map.hpp"
#ifdef IOPT_BENCH_LINUX
#include "bench/linux/interval_tree.h"
#endif

namespace {

using bench::answer;
using bench::timed;

constexpr std::uint64_t page = 4096;

struct entry {
  std::uint64_t first, last, value;
};

void require(bool holds) {
  if (!holds) std::abort();
}

// ---- the peers: values are 0, 1, 2, ... ----------------------------------------------------------

struct many_ranges {
  static constexpr const char* name = "overlap_map_" BENCH_INSTRUCTIONS;
  iopt::overlap_map<iopt::iova, std::uint64_t> map;

  explicit many_ranges(std::size_t) {}
  void insert(const entry& e) { require(map.insert({{e.first}, {e.last}}, e.value).has_value()); }
  void erase(const entry& e) { require(map.erase({{e.first}, {e.last}}, e.value)); }
  void erase_held(const entry& e) { erase(e); }
  std::uint64_t overlaps(std::uint64_t first, std::uint64_t last) const {
    std::uint64_t sum = 0;
    map.for_each_overlap({{first}, {last}}, [&](auto, std::uint64_t value) { sum += value; });
    return sum;
  }
  std::size_t list(std::uint64_t first, std::uint64_t last, std::span<std::uint64_t> out) const {
    return map.copy_overlaps({{first}, {last}}, out);
  }
  std::uint64_t spans(std::uint64_t last) const {
    std::uint64_t sum = 0;
    map.for_each_span({{0}, {last}}, [&](iopt::iova_range r, bool used) {
      if (used) sum += r.last.value ^ (r.first.value << 1);
    });
    return sum;
  }
  std::size_t bytes() const { return map.node_bytes(); }
};

struct intrusive {
  static constexpr const char* name = "interval_tree";
  struct record : iopt::interval_node<iopt::iova> {
    std::uint64_t value = 0;
  };
  std::vector<record> records;
  iopt::interval_tree<record> tree;

  explicit intrusive(std::size_t most) : records(most) {}
  intrusive(const intrusive&) = delete;
  intrusive& operator=(const intrusive&) = delete;
  ~intrusive() { tree.clear(); }
  void insert(const entry& e) {
    record& r = records[e.value];
    r.range = {{e.first}, {e.last}};
    r.value = e.value;
    tree.insert(r);
  }
  void erase(const entry& e) {
    const iopt::iova_range r{{e.first}, {e.last}};
    record* at = tree.find_exact(r);
    while (at != nullptr && at->value != e.value) {
      do at = tree.next(*at);
      while (at != nullptr && at->range.first == r.first && at->range.last != r.last);
    }
    require(at != nullptr);
    tree.erase(*at);
  }
  void erase_held(const entry& e) { tree.erase(records[e.value]); }
  std::uint64_t overlaps(std::uint64_t first, std::uint64_t last) const {
    std::uint64_t sum = 0;
    tree.for_each_overlap({{first}, {last}}, [&](const record& r) { sum += r.value; });
    return sum;
  }
  std::size_t list(std::uint64_t first, std::uint64_t last, std::span<std::uint64_t> out) const {
    std::size_t n = 0;
    tree.for_each_overlap({{first}, {last}}, [&](const record& r) { out[n++] = r.value; });
    return n;
  }
  std::uint64_t spans(std::uint64_t last) const {
    std::uint64_t sum = 0;
    for (auto walk = tree.spans({{0}, {last}}); walk.valid(); walk.next())
      if (walk.used()) sum += walk.range().last.value ^ (walk.range().first.value << 1);
    return sum;
  }
  std::size_t bytes() const { return records.size() * sizeof(record); }
};

#ifdef IOPT_BENCH_LINUX
struct linux_tree {
  static constexpr const char* name = "linux_interval_tree";
  struct record : linux_interval_node {
    std::uint64_t value;
  };
  std::vector<record> records;
  mutable linux_interval_tree tree{};

  explicit linux_tree(std::size_t most) : records(most) {}
  void insert(const entry& e) {
    record& r = records[e.value];
    r.first = e.first, r.last = e.last, r.value = e.value;
    linux_interval_insert(&tree, &r);
  }
  void erase(const entry& e) {
    linux_interval_node* at = linux_interval_first(&tree, e.first, e.first);
    while (at != nullptr && (at->first != e.first || at->last != e.last ||
                             static_cast<const record*>(at)->value != e.value))
      at = linux_interval_next(at, e.first, e.first);
    require(at != nullptr);
    linux_interval_erase(&tree, at);
  }
  void erase_held(const entry& e) { linux_interval_erase(&tree, &records[e.value]); }
  std::uint64_t overlaps(std::uint64_t first, std::uint64_t last) const {
    std::uint64_t sum = 0;
    for (linux_interval_node* at = linux_interval_first(&tree, first, last); at != nullptr;
         at = linux_interval_next(at, first, last))
      sum += static_cast<const record*>(at)->value;
    return sum;
  }
  std::size_t list(std::uint64_t first, std::uint64_t last, std::span<std::uint64_t> out) const {
    std::size_t n = 0;
    for (linux_interval_node* at = linux_interval_first(&tree, first, last); at != nullptr;
         at = linux_interval_next(at, first, last))
      out[n++] = static_cast<const record*>(at)->value;
    return n;
  }
  std::uint64_t spans(std::uint64_t last) const {
    std::uint64_t sum = 0;
    linux_interval_span span;
    for (linux_interval_span_first(&span, &tree, 0, last); span.is_hole != -1;
         linux_interval_span_next(&span))
      if (span.is_hole == 0) sum += span.last ^ (span.first << 1);
    return sum;
  }
  std::size_t bytes() const { return records.size() * sizeof(record); }
};
#define LINUX , linux_tree
#else
#define LINUX
#endif

struct icl_sets {
  static constexpr const char* name = "boost_icl_interval_map";
  using interval = boost::icl::closed_interval<std::uint64_t>;
  using values = boost::container::flat_set<std::uint64_t>;
  boost::icl::interval_map<std::uint64_t, values, boost::icl::partial_absorber, std::less,
                           boost::icl::inplace_plus, boost::icl::inter_section, interval>
      map;

  explicit icl_sets(std::size_t) {}
  void insert(const entry& e) { map.add({interval(e.first, e.last), values{e.value}}); }
  void erase(const entry& e) { map.subtract({interval(e.first, e.last), values{e.value}}); }
  void erase_held(const entry& e) { erase(e); }
  std::uint64_t overlaps(std::uint64_t first, std::uint64_t last) const {
    values all;
    const auto [begin, end] = map.equal_range(interval(first, last));
    for (auto at = begin; at != end; ++at) all.insert(at->second.begin(), at->second.end());
    std::uint64_t sum = 0;
    for (const std::uint64_t v : all) sum += v;
    return sum;
  }
  std::size_t list(std::uint64_t first, std::uint64_t last, std::span<std::uint64_t> out) const {
    values all;
    const auto [begin, end] = map.equal_range(interval(first, last));
    for (auto at = begin; at != end; ++at) all.insert(at->second.begin(), at->second.end());
    std::copy(all.begin(), all.end(), out.begin());
    return all.size();
  }
  std::uint64_t spans(std::uint64_t end) const {
    std::uint64_t sum = 0, first = 0, last = 0;
    bool any = false;
    for (const auto& [i, v] : map) {
      if (i.lower() > end) break;
      if (!any || i.lower() > last + 1) {
        if (any) sum += last ^ (first << 1);
        first = i.lower(), any = true;
      }
      last = std::min<std::uint64_t>(i.upper(), end);
    }
    return any ? sum + (last ^ (first << 1)) : sum;
  }
};

// ---- the ranges ----------------------------------------------------------------------------------

struct workload {
  std::vector<entry> all;  // in the order of the fill
  std::uint64_t last;
  std::vector<std::uint64_t> stabs;
  std::vector<std::pair<std::uint64_t, std::uint64_t>> tens;
  std::vector<entry> out;  // in the order of the erasures

  explicit workload(std::size_t n) : last(n * 16 * page - 1) {
    std::mt19937_64 random(7);
    for (std::uint64_t value = 0; value < n; ++value) {
      const std::uint64_t first = random() % last / page * page;
      all.push_back({first, first + page * (1 + random() % 128) - 1, value});
    }
    for (std::size_t q = 0; q < std::clamp<std::size_t>(n, 1 << 12, 1 << 16); ++q) {
      stabs.push_back(random() % last);
      const std::uint64_t first = random() % last;
      tens.emplace_back(first, first + 96 * page);
    }
    out = all;
    std::shuffle(out.begin(), out.end(), random);
    out.resize(n / 2);
  }
};

const workload& work_of(std::size_t n) {
  static std::map<std::size_t, workload> made;
  return made.try_emplace(n, n).first->second;
}

template <class Peer>
const Peer& filled(std::size_t n) {
  static std::map<std::size_t, std::unique_ptr<Peer>> made;
  std::unique_ptr<Peer>& peer = made[n];
  if (peer != nullptr) return *peer;
  peer = std::make_unique<Peer>(n);
  for (const entry& e : work_of(n).all) peer->insert(e);
  return *peer;
}

// ---- the groups ----------------------------------------------------------------------------------

constexpr int rounds_of(std::size_t n) { return n > 100000 ? 5 : 7; }

template <class... Peers, class Run>
void enter(const char* what, std::size_t n, Run run) {
  bench::group g(std::string(what) + "/" + std::to_string(n), rounds_of(n));
  (g.peer(Peers::name, run.template operator()<Peers>()), ...);
  bench::group::enter(std::move(g));
}

/// f(peer, work) -> checksum, timed, over `operations` of it; three times where a first time brings
/// the peer into the cache.
template <class... Peers, class F>
void enter_looking(const char* what, std::size_t n, std::size_t operations, F f) {
  enter<Peers...>(what, n, [=]<class Peer>() -> std::function<answer()> {
    return [=] {
      const Peer& peer = filled<Peer>(n);
      const workload& w = work_of(n);
      const std::size_t times = n > 100000 ? 1 : 3;
      if (times != 1) benchmark::DoNotOptimize(f(peer, w));
      return timed(times * operations, [&] {
        std::uint64_t sum = 0;
        for (std::size_t t = 0; t < times; ++t) {
          sum += f(peer, w);
          benchmark::ClobberMemory();
        }
        return sum;
      });
    };
  });
}

template <class Peer>
std::function<answer()> insertion(std::size_t n) {
  return [=] {
    const workload& w = work_of(n);
    Peer peer(n);
    answer a = timed(n, [&] {
      for (const entry& e : w.all) peer.insert(e);
      return std::uint64_t{0};
    });
    a.checksum = peer.spans(w.last);
    return a;
  };
}

/// Half of the ranges go, in another order than they came.
template <class Peer>
std::function<answer()> erasure(std::size_t n, void (Peer::*erase)(const entry&)) {
  return [=] {
    const workload& w = work_of(n);
    Peer peer(n);
    for (const entry& e : w.all) peer.insert(e);
    answer a = timed(w.out.size(), [&] {
      for (const entry& e : w.out) (peer.*erase)(e);
      return std::uint64_t{0};
    });
    a.checksum = peer.spans(w.last);
    return a;
  };
}

/// One out and another in, where n stay.
template <class Peer>
std::function<answer()> pair(std::size_t n) {
  return [=] {
    const workload& w = work_of(4096);
    Peer peer(4096);
    for (std::size_t i = 0; i < n; ++i) peer.insert(w.all[i]);
    answer a = timed(4096 - n, [&] {
      for (std::size_t i = n; i < 4096; ++i) peer.erase_held(w.all[i - n]), peer.insert(w.all[i]);
      return std::uint64_t{0};
    });
    a.checksum = peer.spans(w.last);
    return a;
  };
}

template <class Peer>
std::function<answer()> bytes(std::size_t n) {
  return [=] {
    return answer{static_cast<double>(filled<Peer>(n).bytes()) / static_cast<double>(n), 0};
  };
}

/// What all queries find, one after the other in one list, which is summed up at the end.
template <class Peer, class Query>
std::uint64_t listed(const Peer& peer, std::size_t queries, Query query) {
  static std::vector<std::uint64_t> list(std::size_t{1} << 21);
  std::size_t n = 0;
  for (std::size_t q = 0; q < queries; ++q) {
    const auto [first, last] = query(q);
    n += peer.list(first, last, std::span(list).subspan(n));
  }
  return std::accumulate(list.begin(), list.begin() + static_cast<std::ptrdiff_t>(n),
                         std::uint64_t{0});
}

template <class... Peers>
void enter_all(std::size_t n) {
  const std::size_t queries = work_of(n).stabs.size();
  enter_looking<Peers...>("stab", n, queries, [](const auto& peer, const workload& w) {
    std::uint64_t sum = 0;
    for (const std::uint64_t a : w.stabs) sum += peer.overlaps(a, a);
    return sum;
  });
  enter_looking<Peers...>("stab_list", n, queries, [](const auto& peer, const workload& w) {
    return listed(peer, w.stabs.size(),
                  [&](std::size_t q) { return std::pair{w.stabs[q], w.stabs[q]}; });
  });
  if (n < 100) return;
  enter_looking<Peers...>("ten_list", n, queries, [](const auto& peer, const workload& w) {
    return listed(peer, w.tens.size(), [&](std::size_t q) { return w.tens[q]; });
  });
  enter_looking<Peers...>("ten", n, queries, [](const auto& peer, const workload& w) {
    std::uint64_t sum = 0;
    for (const auto& [first, last] : w.tens) sum += peer.overlaps(first, last);
    return sum;
  });
  enter_looking<Peers...>("span", n, n,
                          [](const auto& peer, const workload& w) { return peer.spans(w.last); });
  enter<Peers...>("insert", n, [=]<class Peer>() { return insertion<Peer>(n); });
  enter<Peers...>("erase", n, [=]<class Peer>() { return erasure(n, &Peer::erase); });
  enter<Peers...>("erase_held", n, [=]<class Peer>() { return erasure(n, &Peer::erase_held); });
}

[[maybe_unused]] const bool entered = [] {
  enter_all<many_ranges, intrusive LINUX>(4);
  enter<many_ranges, intrusive LINUX>("pair", 4, []<class Peer>() { return pair<Peer>(4); });
  enter_all<many_ranges, intrusive LINUX, icl_sets>(65536);
  enter_all<many_ranges, intrusive LINUX>(1000000);
  for (const std::size_t n : {std::size_t{65536}, std::size_t{1000000}})
    enter<many_ranges, intrusive LINUX>("bytes", n, [=]<class Peer>() { return bytes<Peer>(n); });
  return true;
}();

}  // namespace
