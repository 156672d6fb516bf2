// iopt/backends/mock/domain_changes.hpp - mock::domain: what is mapped is changed in place.
//
// Entries are split where a range ends inside of them, and what a device wrote is told as before. A
// change that fails has changed no translation.
//
// Tested by tests/backends/mock/domain_test.cpp.
//
// Layer: backends/mock. Includes: backends/mock/domain.hpp.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "iopt/backends/mock/domain.hpp"

namespace iopt::mock {

// False: no memory.
inline bool domain::split_ends(iova_range r) noexcept {
  using outcome = page_table::outcome;
  return (r.first.value == 0 || table_.split_at(r.first) == outcome::done) &&
         (r.last.value == top || table_.split_at(r.last + 1) == outcome::done);
}

inline result<void> domain::split(iova_range r) {
  const single_call now(*this, busy_);
  ++calls_.split;
  if (fails(fault_point::split)) return fail(options_.faults->error_of(fault_point::split));
  if (!r.is_aligned(table_.granule())) {
    violated("split: not aligned to the smallest page size", r.first.value, r.last.value);
    return fail(errc::invalid_argument);
  }
  if (!split_ends(r)) return fail(errc::not_enough_memory);
  return {};
}

inline result<void> domain::protect(iova_range r, access_rights rights) {
  const single_call now(*this, busy_);
  ++calls_.protect;
  if (!earlier_.gives_back(r, rights) && fails(fault_point::protect))
    return fail(options_.faults->error_of(fault_point::protect));
  if (!is_union(r, "protect")) return fail(errc::invalid_argument);
  const access_rights old = table_.find(r.first)->get().how().rights;
  bool uniform = true;
  table_.for_each(r, [&](page_table::place at) {
    uniform = uniform && at.get().how().rights == old;
    *at.word = (*at.word & ~table_word::rights) | static_cast<std::uint64_t>(rights)
                                                      << table_word::rights_shift;
    return true;
  });
  earlier_.remember(r, uniform ? std::optional(old) : std::nullopt);
  return {};
}

inline result<void> domain::replace(iova at, std::span<const run> runs, access_rights rights) {
  const single_call now(*this, busy_);
  ++calls_.replace;
  calls_.runs += runs.size();
  if (fails(fault_point::replace)) return fail(options_.faults->error_of(fault_point::replace));
  const std::optional<iova_range> all = may_write(at, runs);
  if (!all) return fail(errc::invalid_argument);
  // Entries that the range cuts through are split.
  if (!split_ends(*all)) return fail(errc::not_enough_memory);
  if (!is_union(*all, "replace")) return fail(errc::invalid_argument);
  std::size_t nodes = 0;
  std::uint64_t offset = 0;
  for (const run& r : runs) {
    const iova_range part = iova_range::sized(at + offset, r.length_bytes);
    nodes += table_.geometry().nodes_to_write(part, r.first.value);
    offset += r.length_bytes;
  }
  if (!table_.reserve(nodes)) return table_.end_reserve(), fail(errc::not_enough_memory);
  std::vector<iova> dirty;
  table_.for_each(*all, [&](page_table::place p) {
    if (p.get().has(table_word::dirty)) dirty.push_back({p.first});
    return true;
  });
  table_.erase(*all, nullptr, [&](run r) {
    if (watch_ != nullptr) watch_->replaced(r);
  });
  const result<void> written = write(*all, runs, rights);
  IOPT_ASSERT(written.has_value());
  table_.end_reserve();
  // What was written stays to be told: W is a set of IOVAs.
  for (const iova v : dirty) table_.set_flag(*table_.find(v), table_word::dirty, true);
  return written;
}

}  // namespace iopt::mock
