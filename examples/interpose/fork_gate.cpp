// examples/interpose/fork_gate.cpp - no fork while a call changes our state.
#include "fork_gate.hpp"

#include <pthread.h>
#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>

#include "family.hpp"

namespace interpose {
namespace {

struct gate {
  std::mutex lock;
  std::condition_variable changed;
  int inside = 0;        // threads
  bool forking = false;  // somebody waits for them to leave, or forks
};

// Never destroyed: threads may call us until the very end of the process.
gate& the_gate() noexcept {
  alignas(gate) static unsigned char storage[sizeof(gate)];
  static gate* const made = new (storage) gate;
  return *made;
}

std::atomic<pid_t> owner = 0;
// Not allocated when first touched, as thread-local storage of a library else may be.
[[gnu::tls_model("initial-exec")]] thread_local int depth = 0;

void before_fork() {
  gate& g = the_gate();
  std::unique_lock held(g.lock);
  g.changed.wait(held, [&] { return !g.forking; });
  g.forking = true;
  g.changed.wait(held, [&] { return g.inside == 0; });
  family::before_fork();
}
void after_fork_in_parent() {
  family::after_fork_in_parent();
  gate& g = the_gate();
  const std::lock_guard held(g.lock);
  g.forking = false;
  g.changed.notify_all();
}
void after_fork_in_child() {
  // Threads that are gone may wait on it: made anew.
  std::construct_at(&the_gate());
  depth = 0;
  owner = ::getpid();
  family::after_fork_in_child();
}

}  // namespace

void fork_gate::watch() noexcept {
  static const bool once = [] {
    the_gate();
    owner = ::getpid();
    return ::pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child) == 0;
  }();
  static_cast<void>(once);
}

bool fork_gate::own_process() noexcept { return owner == ::getpid(); }

void fork_gate::enter() noexcept {
  if (depth++ != 0) return;
  gate& g = the_gate();
  std::unique_lock held(g.lock);
  g.changed.wait(held, [&] { return !g.forking; });
  ++g.inside;
}
void fork_gate::leave() noexcept {
  if (--depth != 0) return;
  gate& g = the_gate();
  const std::lock_guard held(g.lock);
  if (--g.inside == 0 && g.forking) g.changed.notify_all();
}

}  // namespace interpose
