// Question   What does each operation on an address space of disjoint ranges cost as it fills?
// Baseline   absl::btree_map by first address; std::map, boost::intrusive::set, Boost.ICL
//            interval_map, llvm::IntervalMap; a sorted array with a binary search without branches
//            as the limit of what never changes. Same ranges, same order, same binary, in turns.
// Unit       ns per operation; n ranges of 1 to 16 pages, every second one adjacent to the one
//            before, one hole of 128 of at least 64 pages. sequential and iteration per range,
//            churn per pair of one erase and one insert elsewhere, first_fit per pair of one free
//            and one allocation of 1 to 16 pages, bytes per range after a random fill.
// Expect     area_map.goals, by instruction set; O(log n) is proved in tests/, not here.
// Tried      in containers/area_map_node.hpp and area_map_tree.hpp.
//
// insert checks for overlap with all peers. batch: sixteen look-ups with a peer that has no batch.
// sequential: one address in each range, ascending, with whatever cursor a peer has. dependent: each
// address is computed from the answer before. gap: the lowest hole of 64 pages from a random address
// on. overlap: the sum over the ten ranges that a query overlaps. Peers without the answer in the
// tree walk for gap and first_fit; only the fastest of them is asked for the latter. iteration: with
// for_each_overlap(), where the others step; stepping: with a cursor.
#include <benchmark/benchmark.h>
#include <malloc.h>

#include <absl/container/btree_map.h>
#include <llvm/ADT/IntervalMap.h>

#include <algorithm>
#include <array>
#include <boost/icl/closed_interval.hpp>
#include <boost/icl/interval_map.hpp>
#include <boost/intrusive/set.hpp>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "bench/rounds.hpp"
#include "iopt/containers/area_map.hpp"

namespace {

using bench::answer;
using bench::timed;

constexpr std::uint64_t page = 4096;
constexpr std::uint64_t gap_length = 64 * page;

struct entry {
  std::uint64_t first, last, value;
};

/// What a peer without memory of its own in view has allocated.
std::size_t allocated_bytes = 0;

template <class T>
struct counting {
  using value_type = T;
  counting() = default;
  template <class U>
  counting(const counting<U>&) noexcept {}
  T* allocate(std::size_t n) {
    allocated_bytes += n * sizeof(T);
    return static_cast<T*>(::operator new(n * sizeof(T)));
  }
  void deallocate(T* p, std::size_t n) noexcept {
    allocated_bytes -= n * sizeof(T);
    ::operator delete(p);
  }
  friend bool operator==(counting, counting) noexcept { return true; }
  friend bool operator!=(counting, counting) noexcept { return false; }
};

void require(bool holds) {
  if (!holds) std::abort();
}

// ---- what a walk from range to range can answer, for all peers but the subject -------------------

/// A peer has seek(a), the place of the first range whose last address is at least `a`; done(place);
/// first(), last() and value() of a place; and step(place).
template <class Peer>
struct by_walking {
  const Peer& self() const { return static_cast<const Peer&>(*this); }

  std::uint64_t find(std::uint64_t a) const {
    auto at = self().seek(a);
    return !self().done(at) && self().first(at) <= a ? self().value(at) : 0;
  }
  void find_sixteen(const std::uint64_t* keys, std::uint64_t* values) const {
    for (int n = 0; n < 16; ++n) values[n] = self().find(keys[n]);
  }
  std::uint64_t sequential(const std::vector<std::uint64_t>& keys) const {
    std::uint64_t sum = 0;
    for (const std::uint64_t a : keys) sum += self().find(a);
    return sum;
  }
  std::uint64_t iterate() const {
    std::uint64_t sum = 0;
    for (auto at = self().seek(0); !self().done(at); self().step(at))
      sum += (self().last(at) - self().first(at)) ^ self().value(at);
    return sum;
  }
  std::uint64_t step_through() const { return self().iterate(); }
  std::uint64_t spans() const {
    std::uint64_t sum = 0;
    auto at = self().seek(0);
    std::uint64_t first = self().first(at), last = self().last(at);
    for (self().step(at); !self().done(at); self().step(at)) {
      if (self().first(at) != last + 1) {
        sum += last ^ (first << 1);
        first = self().first(at);
      }
      last = self().last(at);
    }
    return sum + (last ^ (first << 1));
  }
  std::uint64_t gap(std::uint64_t hint, std::uint64_t length) const {
    for (auto at = self().seek(hint); !self().done(at); self().step(at)) {
      if (self().first(at) > hint && self().first(at) - hint >= length) return hint;
      hint = self().last(at) + 1;
    }
    return hint;
  }
  std::uint64_t overlap(std::uint64_t first, std::uint64_t last) const {
    std::uint64_t sum = 0;
    for (auto at = self().seek(first); !self().done(at) && self().first(at) <= last;
         self().step(at))
      sum += self().value(at);
    return sum;
  }
};

// ---- the peers -----------------------------------------------------------------------------------

struct iopt_map {
  static constexpr const char* name = "area_map_" BENCH_INSTRUCTIONS;
  using cursor = iopt::area_map<iopt::iova, std::uint64_t>::cursor;
  iopt::area_map<iopt::iova, std::uint64_t> map;

  explicit iopt_map(std::size_t) {}
  static iopt::iova_range range(std::uint64_t first, std::uint64_t last) {
    return {{first}, {last}};
  }
  void insert(const entry& e) { require(map.insert(range(e.first, e.last), e.value).has_value()); }
  void erase(const entry& e) { require(map.erase(range(e.first, e.last)).has_value()); }
  std::uint64_t find(std::uint64_t a) const {
    const cursor at = map.find({a});
    return at ? at.value() : 0;
  }
  void find_sixteen(const std::uint64_t* keys, std::uint64_t* values) const {
    static_assert(sizeof(iopt::iova) == sizeof *keys);
    map.find_batch({reinterpret_cast<const iopt::iova*>(keys), 16}, {values, 16}, 0);
  }
  std::uint64_t sequential(const std::vector<std::uint64_t>& keys) const {
    std::uint64_t sum = 0;
    cursor at = map.begin();
    for (const std::uint64_t a : keys) {
      while (at && at.range().last.value < a) at.next();
      if (at && at.range().first.value <= a) sum += at.value();
    }
    return sum;
  }
  std::uint64_t iterate() const {
    std::uint64_t sum = 0;
    map.for_each_overlap(iopt::iova_range::whole(), [&](iopt::iova_range r, std::uint64_t value) {
      sum += r.length_minus_one() ^ value;
    });
    return sum;
  }
  std::uint64_t step_through() const {
    std::uint64_t sum = 0;
    for (cursor at = map.begin(); at; at.next()) sum += at.range().length_minus_one() ^ at.value();
    return sum;
  }
  std::uint64_t spans() const {
    std::uint64_t sum = 0;
    map.for_each_used_span(iopt::iova_range::whole(),
                           [&](iopt::iova_range r) { sum += r.last.value ^ (r.first.value << 1); });
    return sum;
  }
  std::uint64_t gap(std::uint64_t hint, std::uint64_t length) const {
    return map.lowest_hole({.length = length, .window = range(hint, iopt::top)})->value;
  }
  std::uint64_t overlap(std::uint64_t first, std::uint64_t last) const {
    std::uint64_t sum = 0;
    map.for_each_overlap(range(first, last),
                         [&](iopt::iova_range, std::uint64_t value) { sum += value; });
    return sum;
  }
  std::size_t bytes() const { return map.node_bytes(); }
};

/// absl::btree_map and std::map, by first address.
template <class Map>
struct ordered : by_walking<ordered<Map>> {
  static const char* const name;
  using place = typename Map::const_iterator;
  Map map;
  std::size_t before = allocated_bytes;

  explicit ordered(std::size_t) {}
  place seek(std::uint64_t a) const {
    place at = map.upper_bound(a);
    if (at != map.begin()) {
      const place one_before = std::prev(at);
      if (one_before->second.first >= a) at = one_before;
    }
    return at;
  }
  bool done(const place& at) const { return at == map.end(); }
  static std::uint64_t first(const place& at) { return at->first; }
  static std::uint64_t last(const place& at) { return at->second.first; }
  static std::uint64_t value(const place& at) { return at->second.second; }
  static void step(place& at) { ++at; }

  /// Needs only the one comparison.
  std::uint64_t find(std::uint64_t a) const {
    place at = map.upper_bound(a);
    if (at == map.begin()) return 0;
    --at;
    return at->second.first >= a ? at->second.second : 0;
  }
  void insert(const entry& e) {
    const place next = map.lower_bound(e.first);
    require(next == map.end() || next->first > e.last);
    require(next == map.begin() || std::prev(next)->second.first < e.first);
    map.emplace_hint(next, e.first, std::pair{e.last, e.value});
  }
  void erase(const entry& e) {
    const auto at = map.find(e.first);
    require(at != map.end() && at->second.first == e.last);
    map.erase(at);
  }
  std::size_t bytes() const { return allocated_bytes - before; }
};
using mapped = std::pair<std::uint64_t, std::uint64_t>;
using key_and_mapped = std::pair<const std::uint64_t, mapped>;
using absl_map =
    ordered<absl::btree_map<std::uint64_t, mapped, std::less<>, counting<key_and_mapped>>>;
using std_map = ordered<std::map<std::uint64_t, mapped, std::less<>, counting<key_and_mapped>>>;
template <>
const char* const absl_map::name = "absl_btree_map";
template <>
const char* const std_map::name = "std_map";

struct intrusive_set : by_walking<intrusive_set> {
  static constexpr const char* name = "boost_intrusive_set";
  struct node : boost::intrusive::set_base_hook<boost::intrusive::optimize_size<true>> {
    entry e{};
  };
  struct by_first {
    using type = std::uint64_t;
    std::uint64_t operator()(const node& n) const { return n.e.first; }
  };
  using set = boost::intrusive::set<node, boost::intrusive::key_of_value<by_first>>;
  using place = set::const_iterator;
  std::vector<node> nodes;  // the caller's records
  std::vector<node*> free;
  set tree;

  explicit intrusive_set(std::size_t most) : nodes(most + 1) {
    for (std::size_t n = nodes.size(); n-- != 0;) free.push_back(&nodes[n]);
  }
  intrusive_set(const intrusive_set&) = delete;
  intrusive_set& operator=(const intrusive_set&) = delete;
  ~intrusive_set() { tree.clear(); }

  place seek(std::uint64_t a) const {
    place at = tree.upper_bound(a);
    if (at != tree.begin()) {
      const place one_before = std::prev(at);
      if (one_before->e.last >= a) at = one_before;
    }
    return at;
  }
  bool done(const place& at) const { return at == tree.end(); }
  static std::uint64_t first(const place& at) { return at->e.first; }
  static std::uint64_t last(const place& at) { return at->e.last; }
  static std::uint64_t value(const place& at) { return at->e.value; }
  static void step(place& at) { ++at; }
  void insert(const entry& e) {
    const place next = tree.lower_bound(e.first);
    require(next == tree.end() || next->e.first > e.last);
    require(next == tree.begin() || std::prev(next)->e.last < e.first);
    node& n = *free.back();
    free.pop_back();
    n.e = e;
    tree.insert_before(next, n);
  }
  void erase(const entry& e) {
    const place at = tree.find(e.first);
    require(at != tree.end() && at->e.last == e.last);
    free.push_back(const_cast<node*>(&*at));
    tree.erase(at);
  }
  std::size_t bytes() const { return tree.size() * sizeof(node); }
};

struct icl_map : by_walking<icl_map> {
  static constexpr const char* name = "boost_icl_interval_map";
  using interval = boost::icl::closed_interval<std::uint64_t>;
  using map_type =
      boost::icl::interval_map<std::uint64_t, std::uint64_t, boost::icl::partial_enricher,
                               std::less, boost::icl::inplace_plus, boost::icl::inter_section,
                               interval, counting>;
  using place = map_type::const_iterator;
  map_type map;
  std::size_t before = allocated_bytes;

  explicit icl_map(std::size_t) {}
  place seek(std::uint64_t a) const { return map.lower_bound(interval(a, a)); }
  bool done(const place& at) const { return at == map.end(); }
  static std::uint64_t first(const place& at) { return at->first.lower(); }
  static std::uint64_t last(const place& at) { return at->first.upper(); }
  static std::uint64_t value(const place& at) { return at->second; }
  static void step(place& at) { ++at; }
  void insert(const entry& e) {
    const interval range(e.first, e.last);
    require(map.find(range) == map.end());
    map.insert({range, e.value});
  }
  void erase(const entry& e) { map.erase(interval(e.first, e.last)); }
  std::size_t bytes() const { return allocated_bytes - before; }
};

struct llvm_map : by_walking<llvm_map> {
  static constexpr const char* name = "llvm_IntervalMap";
  using map_type = llvm::IntervalMap<std::uint64_t, std::uint64_t>;
  using place = map_type::const_iterator;
  std::size_t before = heap();
  map_type::Allocator memory;
  mutable map_type map{memory};

  explicit llvm_map(std::size_t) {}
  static std::size_t heap() {
    const struct mallinfo2 all = mallinfo2();
    return all.uordblks + all.hblkhd;
  }
  place seek(std::uint64_t a) const { return std::as_const(map).find(a); }
  static bool done(const place& at) { return !at.valid(); }
  static std::uint64_t first(const place& at) { return at.start(); }
  static std::uint64_t last(const place& at) { return at.stop(); }
  static std::uint64_t value(const place& at) { return at.value(); }
  static void step(place& at) { ++at; }
  std::uint64_t find(std::uint64_t a) const { return map.lookup(a, 0); }
  std::uint64_t sequential(const std::vector<std::uint64_t>& keys) const {
    std::uint64_t sum = 0;
    place at = std::as_const(map).begin();
    for (const std::uint64_t a : keys) {
      at.advanceTo(a);
      if (at.valid() && at.start() <= a) sum += at.value();
    }
    return sum;
  }
  void insert(const entry& e) {
    auto at = map.find(e.first);
    require(!at.valid() || at.start() > e.last);
    at.insert(e.first, e.last, e.value);
  }
  void erase(const entry& e) {
    auto at = map.find(e.first);
    require(at.valid() && at.start() == e.first && at.stop() == e.last);
    at.erase();
  }
  std::size_t bytes() const { return heap() - before; }
};

/// Filled once. The search halves its distance without a branch.
struct sorted_array : by_walking<sorted_array> {
  static constexpr const char* name = "sorted_array";
  using place = std::size_t;
  std::vector<std::uint64_t> firsts, lasts, values;

  explicit sorted_array(std::size_t) {}
  void fill(const std::vector<entry>& ascending) {
    for (const entry& e : ascending) {
      firsts.push_back(e.first);
      lasts.push_back(e.last);
      values.push_back(e.value);
    }
  }
  place seek(std::uint64_t a) const {
    const std::uint64_t* base = lasts.data();
    std::size_t length = lasts.size();
    while (length > 1) {
      const std::size_t half = length / 2;
      base += base[half - 1] < a ? half : 0;
      length -= half;
    }
    return static_cast<std::size_t>(base - lasts.data()) + (*base < a ? 1 : 0);
  }
  bool done(place at) const { return at == firsts.size(); }
  std::uint64_t first(place at) const { return firsts[at]; }
  std::uint64_t last(place at) const { return lasts[at]; }
  std::uint64_t value(place at) const { return values[at]; }
  static void step(place& at) { ++at; }
};

// ---- the ranges ----------------------------------------------------------------------------------

struct workload {
  std::size_t n;
  std::vector<entry> all;      // ascending; every seventeenth is absent at first
  std::vector<entry> present;  // ascending, n of them
  std::vector<entry> absent;
  std::vector<entry> shuffled;  // present, in the order of the random fill
  std::vector<std::uint64_t> hits, misses, ascending, hints;
  std::vector<std::pair<std::uint64_t, std::uint64_t>> tens;

  explicit workload(std::size_t entries) : n(entries) {
    std::mt19937_64 random(7);
    std::uint64_t at = page;
    for (std::uint64_t i = 0; present.size() < n; ++i) {
      const std::uint64_t draw = random() % 256;
      if (draw % 2 == 1) at += page * (draw < 2 ? 64 + random() % 32 : 1 + random() % 8);
      const std::uint64_t length = page * (1 + random() % 16);
      all.push_back({at, at + (length - 1), i + 1});
      (i % 17 == 16 ? absent : present).push_back(all.back());
      at += length;
    }
    shuffled = present;
    std::shuffle(shuffled.begin(), shuffled.end(), random);
    const std::size_t queries = std::min<std::size_t>(n, 1 << 17);
    for (std::size_t q = 0; q < queries; ++q) {
      const std::size_t i = random() % (n - 10);
      const entry &e = present[i], &next = present[i + 1], &tenth = present[i + 9];
      hits.push_back(e.first + random() % (e.last - e.first + 1));
      if (next.first > e.last + 1)
        misses.push_back(e.last + 1 + random() % (next.first - e.last - 1));
      hints.push_back(random() % present[n * 31 / 32].last);
      tens.emplace_back(e.last, tenth.first);
    }
    for (const entry& e : present) ascending.push_back(e.first + random() % (e.last - e.first + 1));
  }
};

/// What a round changes, as every peer is to change it.
struct change {
  entry out, in;
};
std::vector<change> changes(std::vector<entry>& present, std::vector<entry>& absent,
                            std::size_t count, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<change> all;
  for (std::size_t n = 0; n < count; ++n) {
    entry& out = present[random() % present.size()];
    entry& in = absent[random() % absent.size()];
    all.push_back({out, in});
    std::swap(out, in);
  }
  return all;
}

const workload& work_of(std::size_t n) {
  static std::map<std::size_t, workload> made;
  return made.try_emplace(n, n).first->second;
}

/// A peer filled at random, kept for all rounds that only look.
template <class Peer>
struct kept {
  std::unique_ptr<Peer> peer;
  std::size_t bytes = 0;
};
template <class Peer>
const kept<Peer>& filled(std::size_t n) {
  static std::map<std::size_t, kept<Peer>> made;
  kept<Peer>& k = made[n];
  if (k.peer != nullptr) return k;
  const workload& w = work_of(n);
  k.peer = std::make_unique<Peer>(w.all.size());
  if constexpr (std::is_same_v<Peer, sorted_array>) {
    k.peer->fill(w.present);
  } else {
    for (const entry& e : w.shuffled) k.peer->insert(e);
    k.bytes = k.peer->bytes();
  }
  return k;
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
      const Peer& peer = *filled<Peer>(n).peer;
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

enum class filling { at_random, ascending };

template <class Peer>
std::function<answer()> insertion(std::size_t n, filling how) {
  return [=] {
    const workload& w = work_of(n);
    const std::vector<entry>& order = how == filling::ascending ? w.present : w.shuffled;
    const std::size_t times = n < 100000 ? 4 : 1;
    answer sum;
    for (std::size_t t = 0; t < times; ++t) {
      Peer peer(w.all.size());
      const answer one = timed(n * times, [&] {
        for (const entry& e : order) peer.insert(e);
        return std::uint64_t{0};
      });
      sum.value += one.value;
      sum.checksum += peer.find(w.hits[t]) + peer.find(w.hits[t + 9]);
    }
    return sum;
  };
}

/// Half of the ranges go, in another order than they came.
template <class Peer>
std::function<answer()> erasure(std::size_t n) {
  return [=] {
    const workload& w = work_of(n);
    std::vector<entry> order = w.present;
    std::shuffle(order.begin(), order.end(), std::mt19937_64(13));
    order.resize(n / 2);
    Peer peer(w.all.size());
    for (const entry& e : w.shuffled) peer.insert(e);
    answer a = timed(order.size(), [&] {
      for (const entry& e : order) peer.erase(e);
      return std::uint64_t{0};
    });
    a.checksum = peer.iterate();
    return a;
  };
}

template <class Peer>
std::function<answer()> churn(std::size_t n) {
  struct state {
    Peer peer;
    std::vector<entry> present, absent;
    std::uint64_t round = 0;
  };
  return [n, s = std::shared_ptr<state>()]() mutable {
    const workload& w = work_of(n);
    if (s == nullptr) {
      s = std::shared_ptr<state>(new state{Peer(w.all.size()), w.present, w.absent});
      for (const entry& e : w.shuffled) s->peer.insert(e);
    }
    const std::vector<change> all = changes(s->present, s->absent, 1 << 16, 100 + s->round);
    answer a = timed(all.size(), [&] {
      for (const change& c : all) s->peer.erase(c.out), s->peer.insert(c.in);
      return std::uint64_t{0};
    });
    a.checksum = s->peer.iterate();
    if (++s->round == static_cast<std::uint64_t>(rounds_of(n))) s.reset();
    return a;
  };
}

/// A dense space, one range of 1024 taken out, then one freed and one allocated in turn.
template <class Peer>
std::function<answer()> first_fit(std::size_t n) {
  struct state {
    Peer peer;
    std::vector<entry> live;
    std::uint64_t round = 0;
  };
  return [n, s = std::shared_ptr<state>()]() mutable {
    if (s == nullptr) {
      s = std::shared_ptr<state>(new state{Peer(n), {}});
      std::mt19937_64 random(17);
      std::uint64_t at = 0;
      for (std::uint64_t i = 0; i < n; ++i) {
        const std::uint64_t length = page * (1 + random() % 16);
        s->live.push_back({at, at + (length - 1), i + 1});
        at += length;
      }
      std::shuffle(s->live.begin(), s->live.end(), random);
      for (const entry& e : s->live) s->peer.insert(e);
      for (std::size_t hole = 0; hole < n / 1024; ++hole) {
        s->peer.erase(s->live.back());
        s->live.pop_back();
      }
    }
    std::mt19937_64 random(200 + s->round);
    std::vector<std::pair<std::size_t, std::uint64_t>> all;
    for (int op = 0; op < 1000; ++op)
      all.emplace_back(random() % s->live.size(), page * (1 + random() % 16));
    const answer a = timed(all.size(), [&] {
      std::uint64_t sum = 0;
      for (const auto& [which, length] : all) {
        entry& e = s->live[which];
        s->peer.erase(e);
        e.first = s->peer.gap(0, length);
        e.last = e.first + (length - 1);
        s->peer.insert(e);
        sum = sum * 3 + e.first;
      }
      return sum;
    });
    if (++s->round == static_cast<std::uint64_t>(rounds_of(n))) s.reset();
    return a;
  };
}

template <class Peer>
std::function<answer()> bytes(std::size_t n) {
  return [=] {
    return answer{static_cast<double>(filled<Peer>(n).bytes) / static_cast<double>(n), 0};
  };
}

std::uint64_t opaque_zero() {
  static volatile std::uint64_t zero = 0;
  return zero;
}

/// Those that change, and those that only look.
#define CHANGING iopt_map, absl_map, std_map, intrusive_set, icl_map, llvm_map
#define LOOKING CHANGING, sorted_array

void enter_all(std::size_t n) {
  const std::size_t queries = std::min<std::size_t>(n, 1 << 17);
  enter_looking<LOOKING>("hit", n, queries, [](const auto& peer, const workload& w) {
    std::uint64_t sum = 0;
    for (const std::uint64_t a : w.hits) sum += peer.find(a);
    return sum;
  });
  enter_looking<LOOKING>("dependent", n, queries, [](const auto& peer, const workload& w) {
    const std::uint64_t zero = opaque_zero();
    std::uint64_t sum = 0, found = 0;
    for (const std::uint64_t a : w.hits) sum += found = peer.find(a + (found & zero));
    return sum;
  });
  enter_looking<LOOKING>("batch", n, queries / 16 * 16, [](const auto& peer, const workload& w) {
    std::uint64_t sum = 0;
    std::array<std::uint64_t, 16> values{};
    for (std::size_t q = 0; q + 16 <= w.hits.size(); q += 16) {
      peer.find_sixteen(w.hits.data() + q, values.data());
      for (const std::uint64_t v : values) sum += v;
    }
    return sum;
  });
  enter_looking<LOOKING>("miss", n, work_of(n).misses.size(),
                         [](const auto& peer, const workload& w) {
                           std::uint64_t sum = 0;
                           for (const std::uint64_t a : w.misses) sum += peer.find(a);
                           return sum;
                         });
  enter_looking<LOOKING>("sequential", n, n, [](const auto& peer, const workload& w) {
    return peer.sequential(w.ascending);
  });
  enter_looking<LOOKING>("iteration", n, n,
                         [](const auto& peer, const workload&) { return peer.iterate(); });
  enter_looking<iopt_map, absl_map>(
      "stepping", n, n, [](const auto& peer, const workload&) { return peer.step_through(); });
  enter_looking<LOOKING>("span", n, n,
                         [](const auto& peer, const workload&) { return peer.spans(); });
  const std::size_t gaps = 8192;
  enter_looking<LOOKING>("gap", n, gaps, [](const auto& peer, const workload& w) {
    std::uint64_t sum = 0;
    for (std::size_t q = 0; q < gaps; ++q) sum = sum * 3 + peer.gap(w.hints[q], gap_length);
    return sum;
  });
  enter_looking<LOOKING>("overlap", n, queries, [](const auto& peer, const workload& w) {
    std::uint64_t sum = 0;
    for (const auto& [first, last] : w.tens) sum += peer.overlap(first, last);
    return sum;
  });
  enter<CHANGING>("bytes", n, [=]<class Peer>() { return bytes<Peer>(n); });
  enter<CHANGING>("random_insert", n,
                  [=]<class Peer>() { return insertion<Peer>(n, filling::at_random); });
  enter<CHANGING>("ascending_insert", n,
                  [=]<class Peer>() { return insertion<Peer>(n, filling::ascending); });
  enter<CHANGING>("erase", n, [=]<class Peer>() { return erasure<Peer>(n); });
  enter<CHANGING>("churn", n, [=]<class Peer>() { return churn<Peer>(n); });
  enter<iopt_map, absl_map>("first_fit", n, [=]<class Peer>() { return first_fit<Peer>(n); });
}

[[maybe_unused]] const int entered = (enter_all(65535), enter_all(1000000), 0);

}  // namespace
