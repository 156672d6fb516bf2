// tests/uapi/script_memory.hpp - the memory of a script, as a mock pinner has it.
//
// An arena of 64 MiB:
//
//   [0, 32M) read-write   [32M, 40M) read-only   [40M, 48M) no access   [48M, 56M) nothing
//   [56M, 64M) read-write
#pragma once

#include <cstdint>
#include <string>

#include "iopt/backends/mock/mock.hpp"
#include "iopt/base/page_sizes.hpp"
#include "tests/uapi/script_calls.hpp"
#include "tests/uapi/script_line.hpp"

namespace iopt::test {

inline void lay_out_arena(mock::pinner& pinner) {
  const mock::process me = pinner.current();
  constexpr std::uint64_t m = mebibyte;
  pinner.set_hole(me, user_range{{0}, {arena - 1}});
  pinner.set_hole(me, user_range{{arena + 40 * m}, {arena + 56 * m - 1}});
  pinner.set_hole(me, user_range{{arena + 64 * m}, {mock::memory_space::largest - 1}});
  pinner.set_read_only(me, user_range{{arena + 32 * m}, {arena + 40 * m - 1}});
}

/// `protect OFFSET BYTES HOW`: mprotect() of the arena, whose pages stay where they are.
inline std::string protect_arena(mock::pinner& pinner, const script_line& line) {
  const user_range part = user_range::sized({arena + line.number(1)}, line.number(2));
  const std::uint64_t how = line.number(3);
  const mock::process me = pinner.current();
  pinner.set_hole(me, part, (how & 1) == 0);
  pinner.set_read_only(me, part, (how & 2) == 0);
  return "0";
}

/// The process's VmLck and VmPin in kB.
inline std::string accounts_text(const mock::pinner& pinner) {
  const mock::process me = pinner.current();
  const auto kb = [](std::uint64_t pages) { return std::to_string(pages * 4); };
  return " lck=" + kb(pinner.charged(me, account_mode::mm)) + " pin=" + kb(pinner.pinned_vm(me));
}

}  // namespace iopt::test
