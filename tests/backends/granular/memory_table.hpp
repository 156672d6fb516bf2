// tests/backends/granular/memory_table.hpp - an entry_table in memory, which checks what it is told.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "iopt/backends/granular/entry_table.hpp"

namespace iopt::test {

/// What memory_table holds, and what a test makes of it.
struct table_state {
  struct entry {
    std::uint64_t last;
    std::uint64_t memory;
    access_rights rights;
    friend bool operator==(const entry&, const entry&) = default;
  };
  std::map<std::uint64_t, entry> entries;
  std::optional<std::uint64_t> limit{};
  std::uint64_t maps = 0;                      // calls
  std::uint64_t unmaps = 0;                    // calls
  mutable std::uint64_t asked = 0;             // how many are left
  std::optional<std::uint64_t> fail_map_in{};  // 0: the next one, once
  errc failure = errc::bad_address;
  bool comes_back_short = false;
  const char* wrong = nullptr;  // what the domain should not have done

  std::optional<std::uint64_t> at(iova v) const {
    auto e = entries.upper_bound(v.value);
    if (e == entries.begin() || (--e)->second.last < v.value) return std::nullopt;
    return e->second.memory + (v.value - e->first);
  }
};

class memory_table {
 public:
  explicit memory_table(std::shared_ptr<table_state> state) : s_(std::move(state)) {}

  result<void> map(iova_range r, physical p, access_rights rights) {
    ++s_->maps;
    if (!r.is_aligned(4096) || p.value % 4096 != 0) s_->wrong = "map: not whole pages";
    if (rights == access_rights::none) s_->wrong = "map: no rights";
    if (s_->fail_map_in && (*s_->fail_map_in)-- == 0) {
      s_->fail_map_in.reset();
      return fail(s_->failure);
    }
    const auto after = s_->entries.upper_bound(r.last.value);
    if (after != s_->entries.begin() && std::prev(after)->second.last >= r.first.value) {
      s_->wrong = "map: something is there";
      return fail(errc::file_exists);
    }
    if (s_->limit && s_->entries.size() >= *s_->limit) return fail(errc::no_space_on_device);
    s_->entries[r.first.value] = {r.last.value, p.value, rights};
    return {};
  }
  std::uint64_t unmap(iova_range r) noexcept {
    ++s_->unmaps;
    std::uint64_t bytes = 0;
    if (s_->at(r.first) && !s_->entries.contains(r.first.value)) s_->wrong = "unmap: cuts";
    auto e = s_->entries.lower_bound(r.first.value);
    while (e != s_->entries.end() && e->first <= r.last.value) {
      if (e->second.last > r.last.value) {
        s_->wrong = "unmap: cuts";
        break;
      }
      bytes += e->second.last - e->first + 1;
      e = s_->entries.erase(e);
    }
    return s_->comes_back_short ? bytes - 4096 : bytes;
  }
  std::optional<std::uint64_t> entries_left() const noexcept {
    ++s_->asked;
    if (!s_->limit) return std::nullopt;
    return *s_->limit - std::min<std::uint64_t>(*s_->limit, s_->entries.size());
  }
  page_size_set page_sizes() const { return {4096, 2 * mebibyte}; }
  iova_range aperture() const { return {{0}, {(std::uint64_t{1} << 39) - 1}}; }
  std::span<const reserved_region> reserved_regions() const { return reserved_; }

 private:
  std::shared_ptr<table_state> s_;
  std::vector<reserved_region> reserved_{
      {{{0xfee00000}, {0xfeefffff}}, reserved_region::kind::reserved}};
};
static_assert(granular::entry_table<memory_table>);

}  // namespace iopt::test
