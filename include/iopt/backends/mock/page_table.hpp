// iopt/backends/mock/page_table.hpp - a radix page table in memory, as an IOMMU would walk it.
//
// A node has 512 words; one level up, a word spans 512 times as much. A word is an entry, a node
// below, or nothing. A page size that lies between two levels is a group of equal-minded words, as
// the contiguous hint of Arm is. Each entry remembers whether a range passed to map() starts or
// ends there, which is what lets a mock tell a legal unmap from a wrong one.
//
// Layer: backends/mock. Includes: base, the standard library.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "iopt/backends/mock/table_geometry.hpp"
#include "iopt/backends/mock/table_node.hpp"
#include "iopt/base/log2.hpp"
#include "iopt/base/page_sizes.hpp"
#include "iopt/base/range.hpp"
#include "iopt/base/run.hpp"

namespace iopt::mock {

/// page_table: a partial function from IOVA pages to physical pages.
///
/// Model       T: iova -> (physical, attributes), kept as entries of the sizes given, each with the
///             flags starts, ends and dirty.
/// Invariants  1. No node is empty, and each knows how many of its words are used.
///             2. entries(size) is the number of entries of that size; bytes() the sum of sizes.
///             3. The words of a group agree: neighbouring targets, the same flags but the edges.
/// Errors      write() and split_at() answer no_memory, write() also occupied; then T is unchanged.
/// Cost        An entry is one store, found O(levels); a size is chosen once per run of entries.
///             erase() and read() read each word once, and take runs and not pages.
/// Threads     Const calls may run together.
/// Tested by   tests/backends/mock/page_table_test.cpp (model: std::map, page by page)
class page_table {
 public:
  enum class outcome : std::uint8_t { done, occupied, no_memory };

  /// Requires: at least one size; the smallest is 512 bytes or more.
  explicit page_table(page_size_set sizes) noexcept : shape_(sizes) {}
  page_table(const page_table&) = delete;
  page_table& operator=(const page_table&) = delete;
  ~page_table() {
    if (root_ != nullptr) release_all(root_, height_ - 1);
  }

  const table_geometry& geometry() const noexcept { return shape_; }
  std::uint64_t granule() const noexcept { return shape_.granule(); }
  std::uint64_t bytes() const noexcept { return bytes_; }
  std::uint64_t entries(std::uint64_t size_bytes) const noexcept {
    return entries_[log2_exact(size_bytes)];
  }

  /// T(r.first + i) = p + i, in the largest entries that fit; the first and last of them get those
  /// flags of `edges`. Requires: aligned to the granule.
  outcome write(iova_range r, table_word p,
                std::uint64_t edges = table_word::starts | table_word::ends) noexcept {
    std::uint64_t at = r.first.value;
    std::uint64_t left = r.length_minus_one();  // bytes to write, less one
    std::uint64_t word = p.bits;
    for (;;) {
      std::uint64_t size = 0;
      std::uint64_t span = shape_.choose(at, word & table_word::target, left, size);
      const unsigned level = shape_.level_of(size);
      const std::uint64_t slot_bytes = shape_.slot_bytes(level);
      while (span != 0) {
        node* n = nullptr;
        outcome answer =
            spares_.reserve(most_to_descend) ? descend(at, level, n) : outcome::no_memory;
        const std::size_t slot = slot_at(at, level);
        std::size_t count = 0;
        if (answer == outcome::done) {
          count = static_cast<std::size_t>(
              std::min<std::uint64_t>(width - slot, span >> shift_of(level)));
          std::uint64_t used = 0;
          for (std::size_t i = slot; i < slot + count; ++i) used |= n->words[i];
          if (used != 0) answer = outcome::occupied;
        }
        if (answer != outcome::done) {
          if (at != r.first.value) erase({r.first, {at - 1}}, nullptr, [](run) {});
          return answer;
        }
        for (std::size_t i = slot; i < slot + count; ++i, word += slot_bytes) n->words[i] = word;
        if (at == r.first.value) n->words[slot] |= edges & table_word::starts;
        n->used += count;
        if (size != slot_bytes) join_groups(*n, slot, count, size / slot_bytes);
        const std::uint64_t wrote = slot_bytes * count;
        entries_[log2_exact(size)] += wrote / size;
        bytes_ += wrote;
        span -= wrote;
        if (wrote - 1 == left) {
          n->words[slot + count - 1] |= edges & table_word::ends;
          return outcome::done;
        }
        at += wrote;
        left -= wrote;
      }
    }
  }

  /// Removes what r holds from r.first upwards, until r is done, nothing is there or a run does not
  /// fit in `out` (if any). Calls each(run) for every run removed. Returns the bytes removed.
  /// Requires: r starts and ends where entries do.
  template <class Each>
  std::uint64_t erase(iova_range r, run_list* out, Each each) noexcept {
    return take<true>(*this, r, out, each);
  }

  /// As erase(), but everything stays; r may start and end inside entries.
  std::uint64_t read(iova_range r, run_list& out) const noexcept {
    return take<false>(*this, r, &out, [](run) {});
  }

  /// One slot: where it starts, its size in bytes, and its word.
  struct place {
    std::uint64_t* word = nullptr;
    std::uint64_t first = 0;
    std::uint64_t slot_bytes = 0;
    table_word get() const noexcept { return table_word{*word}; }
  };

  /// The slot of the entry that covers v.
  std::optional<place> find(iova v) const noexcept {
    const node* n = root_;
    if (n == nullptr || beyond(v.value)) return std::nullopt;
    for (unsigned level = height_ - 1;; --level) {
      const std::uint64_t& word = n->words[slot_at(v.value, level)];
      if ((word & table_word::present) != 0) {
        const std::uint64_t slot_bytes = shape_.slot_bytes(level);
        return place{const_cast<std::uint64_t*>(&word), align_down(v.value, slot_bytes),
                     slot_bytes};
      }
      if (word == 0) return std::nullopt;
      n = below(word);
    }
  }

  /// The range of the entry that covers v.
  std::optional<iova_range> entry_at(iova v) const noexcept {
    const std::optional<place> at = find(v);
    if (!at) return std::nullopt;
    const std::uint64_t size = size_of_entry(v.value);
    const iova first{align_down(v.value, size)};
    return iova_range{first, {first.value + (size - 1)}};
  }

  std::optional<physical> translate(iova v) const noexcept {
    const std::optional<place> at = find(v);
    if (!at) return std::nullopt;
    return at->get().where() + (v.value - at->first);
  }

  /// Calls f(place) for each slot of r that is an entry's, in order, until f answers false.
  template <class F>
  void for_each(iova_range r, F f) const {
    if (root_ == nullptr || beyond(r.first.value)) return;
    visit(*root_, height_ - 1, r.first.value, std::min(r.last.value, shape_.reach(height_)), f);
  }

  /// Sets or clears `flag` on the whole entry that covers the place.
  void set_flag(place at, std::uint64_t flag, bool on) noexcept {
    const std::uint64_t size = size_of_entry(at.first);
    std::uint64_t* const word = at.word - (at.first % size) / at.slot_bytes;
    for (std::size_t i = 0; i < size / at.slot_bytes; ++i)
      word[i] = on ? word[i] | flag : word[i] & ~flag;
  }

  /// Makes b the start of an entry, where T is defined on both sides of it, and an edge: a range
  /// may be unmapped up to b or from b. Pieces keep the flags of their entry. Requires: b > 0.
  outcome split_at(iova b) noexcept {
    const std::optional<place> right = find(b);
    const std::optional<place> left = find(b - 1);
    if (right && entry_at(b)->first != b) return divide(*entry_at(b), b);
    if (right) *right->word |= table_word::starts;
    if (left) *left->word |= table_word::ends;
    return outcome::done;
  }

  /// Keeps nodes ready, so that whatever is erased and then written, of ranges for which
  /// geometry().nodes_to_write() adds up to `count`, does not lack memory. False without memory.
  bool reserve(std::size_t count) noexcept {
    keep_ = std::max(keep_, count + most_to_descend);
    return spares_.reserve(keep_);
  }
  /// Ends what reserve() began.
  void end_reserve() noexcept {
    keep_ = spare_nodes::usual;
    spares_.trim(keep_);
  }

  /// Empty when the invariants hold, else the one that does not.
  std::string_view verify() const {
    std::array<std::uint64_t, 64> counted{};
    std::uint64_t sum = 0;
    if (root_ != nullptr) {
      const std::string_view fault = check(*root_, height_ - 1, counted, sum);
      if (!fault.empty()) return fault;
    }
    return counted == entries_ && sum == bytes_ ? "" : "2: entries and bytes";
  }

 private:
  static constexpr std::size_t width = table_node::width;
  static constexpr unsigned levels = table_geometry::levels;
  static constexpr std::size_t most_to_descend = 2 * levels;  // grow the root, then a whole path

  using node = table_node;
  static node* below(std::uint64_t word) noexcept { return node::below(word); }

  unsigned shift_of(unsigned level) const noexcept { return shape_.shift_of(level); }
  std::size_t slot_at(std::uint64_t v, unsigned level) const noexcept {
    return shape_.slot_at(v, level);
  }
  bool beyond(std::uint64_t v) const noexcept { return v > shape_.reach(height_); }

  // The node of `level` that covers `at`, made if need be. Requires: `levels` spare nodes.
  outcome descend(std::uint64_t at, unsigned level, node*& found) noexcept {
    if (root_ == nullptr) {
      height_ = level + 1;
      while (beyond(at)) ++height_;
      root_ = spares_.take();
    }
    while (beyond(at) || height_ <= level) {
      node* const above = spares_.take();
      above->words[0] = node::word_for(root_);
      above->used = 1;
      root_ = above;
      ++height_;
    }
    node* n = root_;
    for (unsigned l = height_ - 1; l > level; --l) {
      std::uint64_t& word = n->words[slot_at(at, l)];
      if (word == 0) {
        word = node::word_for(spares_.take());
        ++n->used;
      }
      if ((word & table_word::present) != 0) return outcome::occupied;
      n = below(word);
    }
    found = n;
    return outcome::done;
  }

  static void join_groups(node& n, std::size_t slot, std::size_t count, std::size_t size) noexcept {
    for (std::size_t i = slot; i < slot + count; ++i) {
      if (i % size != 0) n.set_continued(i, true);
    }
  }

  template <bool Erase, class Table, class Each>
  static std::uint64_t take(Table& t, iova_range r, run_list* out, Each each) noexcept {
    std::uint64_t done = 0;
    const std::uint64_t all = r.length_minus_one();
    while (t.root_ != nullptr) {
      const std::uint64_t at = r.first.value + done;
      if (t.beyond(at)) return done;
      std::array<node*, levels + 1> path;
      unsigned level = t.height_ - 1;
      node* n = path[level] = t.root_;
      std::uint64_t word = n->words[t.slot_at(at, level)];
      while (word != 0 && (word & table_word::present) == 0) {
        n = path[--level] = below(word);
        word = n->words[t.slot_at(at, level)];
      }
      if (word == 0) return done;
      const std::uint64_t slot_bytes = t.shape_.slot_bytes(level);
      const std::size_t first = t.slot_at(at, level);
      const std::uint64_t skip = at & (slot_bytes - 1);
      // How many slots of this node r covers.
      const std::size_t end = static_cast<std::size_t>(
          std::min<std::uint64_t>(width, first + ((all - done + skip) >> t.shift_of(level)) + 1));
      std::size_t slot = first;
      bool stop = false;
      while (slot < end && !stop) {
        // A run: as long as targets follow on and the type stays.
        constexpr std::uint64_t compared =
            table_word::target | table_word::type | table_word::present;
        const std::uint64_t start = n->words[slot] & compared;
        if ((start & table_word::present) == 0) break;
        std::size_t i = slot;
        std::uint64_t expected = start;
        do {
          ++i;
          expected += slot_bytes;
        } while (i < end && (n->words[i] & compared) == expected);
        const std::uint64_t cut = slot == first ? skip : 0;
        const std::uint64_t length = std::min(slot_bytes * (i - slot) - cut - 1, all - done) + 1;
        const table_word head{start};
        const run piece(head.where() + cut, length, head.how().type);
        if (out != nullptr && !out->append(piece)) {
          stop = true;
          break;
        }
        done += length;
        each(piece);
        if constexpr (Erase) t.clear(*n, level, slot, i);
        slot = i;
        if (done - 1 == all) stop = true;
      }
      if constexpr (Erase) t.prune(path, level, at);
      if (stop) return done;
    }
    return done;
  }

  void clear(node& n, unsigned level, std::size_t from, std::size_t to) noexcept {
    const std::uint64_t slot_bytes = shape_.slot_bytes(level);
    std::fill(n.words.begin() + static_cast<std::ptrdiff_t>(from),
              n.words.begin() + static_cast<std::ptrdiff_t>(to), 0);
    n.used -= to - from;
    bytes_ -= slot_bytes * (to - from);
    if (!shape_.grouped(level)) {
      entries_[shift_of(level)] -= to - from;
      return;
    }
    for (std::size_t i = from, next; i < to; i = next) {
      for (next = i + 1; next < to && n.continued(next); ++next) n.set_continued(next, false);
      --entries_[shift_of(level) + log2_exact(std::bit_floor(next - i))];
    }
  }

  // Takes out path[level] if it is empty, and every node above that this empties.
  void prune(std::array<node*, levels + 1>& path, unsigned level, std::uint64_t at) noexcept {
    while (path[level]->used == 0) {
      spares_.give(path[level]);
      if (++level == height_) {
        root_ = nullptr;
        height_ = 0;
        break;
      }
      path[level]->words[slot_at(at, level)] = 0;
      --path[level]->used;
    }
    spares_.trim(keep_);
  }

  // The size of the entry that covers v. Requires: there is one.
  std::uint64_t size_of_entry(std::uint64_t v) const noexcept {
    const node* n = root_;
    unsigned level = height_ - 1;
    while ((n->words[slot_at(v, level)] & table_word::present) == 0)
      n = below(n->words[slot_at(v, level--)]);
    if (!shape_.grouped(level)) return shape_.slot_bytes(level);
    std::size_t first = slot_at(v, level);
    std::size_t beyond_last = first + 1;
    while (n->continued(first)) --first;
    while (beyond_last < width && n->continued(beyond_last)) ++beyond_last;
    return (beyond_last - first) << shift_of(level);
  }

  outcome divide(iova_range e, iova b) noexcept {
    const table_word word = place_of(e.first);
    const table_word last = place_of(e.last);
    const std::uint64_t keep = word.bits & ~(table_word::starts | table_word::ends);
    const std::uint64_t to = word.where().value;
    const std::size_t nodes = shape_.nodes_to_write({e.first, b - 1}, to) +
                              shape_.nodes_to_write({b, e.last}, to + (b - e.first));
    if (!reserve(nodes)) return end_reserve(), outcome::no_memory;
    erase(e, nullptr, [](run) {});
    write({e.first, b - 1}, table_word{keep}, (word.bits & table_word::starts) | table_word::ends);
    write({b, e.last}, table_word{keep + (b - e.first)},
          table_word::starts | (last.bits & table_word::ends));
    end_reserve();
    return outcome::done;
  }
  table_word place_of(iova v) const noexcept { return find(v)->get(); }

  template <class F>
  bool visit(const node& n, unsigned level, std::uint64_t first, std::uint64_t last, F& f) const {
    const std::uint64_t slot_bytes = shape_.slot_bytes(level);
    std::size_t slot = slot_at(first, level);
    const std::size_t end = slot_at(last, level);
    for (std::uint64_t at = first; slot <= end; ++slot) {
      const std::uint64_t& word = n.words[slot];
      const std::uint64_t slot_last = at | (slot_bytes - 1);
      if ((word & table_word::present) != 0) {
        if (!f(place{const_cast<std::uint64_t*>(&word), align_down(at, slot_bytes), slot_bytes}))
          return false;
      } else if (word != 0 && !visit(*below(word), level - 1, at, std::min(last, slot_last), f)) {
        return false;
      }
      at = slot_last + 1;
    }
    return true;
  }

  std::string_view check(const node& n, unsigned level, std::array<std::uint64_t, 64>& counted,
                         std::uint64_t& sum) const {
    std::uint64_t used = 0;
    for (std::size_t i = 0; i < width; ++i) {
      const std::uint64_t word = n.words[i];
      if (n.continued(i) && (word & table_word::present) == 0) return "3: a group of entries";
      if (word == 0) continue;
      ++used;
      if ((word & table_word::present) == 0) {
        if (level == 0) return "1: a node below the lowest level";
        const std::string_view fault = check(*below(word), level - 1, counted, sum);
        if (!fault.empty()) return fault;
        continue;
      }
      sum += shape_.slot_bytes(level);
      if (n.continued(i)) {
        constexpr std::uint64_t edges = table_word::starts | table_word::ends;
        const std::uint64_t before = n.words[i - 1] + shape_.slot_bytes(level);
        if (((before ^ word) & ~edges) != 0) return "3: a group of entries";
        continue;
      }
      std::size_t words = 1;
      while (i + words < width && n.continued(i + words)) ++words;
      const unsigned size_lg2 = shift_of(level) + static_cast<unsigned>(std::bit_width(words)) - 1;
      if (!is_power_of_two(words) || i % words != 0 ||
          !shape_.sizes().contains(std::uint64_t{1} << size_lg2))
        return "3: a group of entries";
      ++counted[size_lg2];
    }
    return used == n.used && used != 0 ? "" : "1: used words of a node";
  }

  void release_all(node* n, unsigned level) noexcept {
    if (level > 0) {
      for (const std::uint64_t word : n->words) {
        if (word != 0 && (word & table_word::present) == 0) release_all(below(word), level - 1);
      }
    }
    delete n;
  }

  table_geometry shape_;
  unsigned height_ = 0;
  node* root_ = nullptr;
  spare_nodes spares_;
  std::size_t keep_ = spare_nodes::usual;
  std::array<std::uint64_t, 64> entries_{};
  std::uint64_t bytes_ = 0;
};

}  // namespace iopt::mock
