// examples/interpose/faults.hpp - fault injection: what of this process can be made to fail.
//
// A program asks for it as in Linux, by the files fail-nth of its threads: devices.hpp names them.
#pragma once

#include "iopt/backends/mock/fault_injector.hpp"
#include "iopt/core/multi_threaded.hpp"

namespace interpose {

/// The one injector of the process. Each thread counts for itself, and a fork has none that counts.
iopt::mock::fault_injector& faults() noexcept;

/// memory: the heap, every allocation of which is a failure point.
class memory : public iopt::mock::failing_memory {
 public:
  memory() noexcept : failing_memory(account()) {}

 private:
  static iopt::mock::memory_account& account() noexcept;
};

/// What the tables of this process are made of.
struct traits : iopt::multi_threaded {
  using memory = interpose::memory;
};
static_assert(iopt::table_traits<traits>);

}  // namespace interpose
