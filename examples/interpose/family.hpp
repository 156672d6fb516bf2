// examples/interpose/family.hpp - the process that opened a device answers for its children.
//
// An iommufd is one object, however many processes have its descriptor. After a fork the child's copy of
// it is put away, and a thread of the parent, started by the first such fork, makes the child's calls:
// with the child's memory, its descriptors, its rights and its limits.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <span>

#include "iopt/base/address.hpp"
#include "iopt/policy/credentials.hpp"

namespace interpose::family {

/// The child that the calling thread makes a call for; 0: its own process makes it.
pid_t served_child() noexcept;
/// Whoever makes the call.
pid_t calling_process() noexcept;

/// caller_memory: the memory of who makes the call.
struct caller_memory {
  bool read(iopt::user_address at, std::span<std::byte> to) noexcept;
  bool write(iopt::user_address at, std::span<const std::byte> from) noexcept;
  bool contains(iopt::user_address at, std::uint64_t bytes) const noexcept;
};

/// Whether the child that a call is made for may do so. Requires: there is one.
bool child_may(iopt::capability what) noexcept;

/// Pages that a process would have locked and pinned, by this one's devices and those of its parents.
struct counts {
  std::uint64_t locked = 0;
  std::uint64_t pinned = 0;
};
counts counted(pid_t process);

/// Around a fork, while no call is under way: before it; in the parent; in the child.
void before_fork() noexcept;
void after_fork_in_parent() noexcept;
void after_fork_in_child() noexcept;

}  // namespace interpose::family
