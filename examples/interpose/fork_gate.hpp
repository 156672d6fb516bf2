// examples/interpose/fork_gate.hpp - no fork while a call changes our state.
//
// A fork copies locks as they are, and only the thread that forks lives on in the copy. So it waits
// until every call has left, and the child finds all locks free.
#pragma once

#include <sys/types.h>

namespace interpose {

class fork_gate {
 public:
  /// Holds forks off while it lives. A thread may be inside more than once.
  class entry {
   public:
    entry() noexcept { enter(); }
    ~entry() { leave(); }
    entry(const entry&) = delete;
    entry& operator=(const entry&) = delete;
  };

  /// From the first call on, forks are noticed. Late, so that the locks of the program's malloc,
  /// which it takes over a fork too, are older: the later handler runs first.
  static void watch() noexcept;
  /// Whether this is the process whose state we hold, or a fork that has a copy of it; and not a
  /// child that borrows its parent's memory until it executes something (vfork).
  static bool own_process() noexcept;

 private:
  static void enter() noexcept;
  static void leave() noexcept;
};

}  // namespace interpose
