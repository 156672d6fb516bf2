// examples/interpose/libc.hpp - the functions that we stand before, as they would answer without us.
#pragma once

#include <dlfcn.h>

#include <algorithm>
#include <atomic>
#include <cstddef>

namespace interpose::libc {

/// The name of a function, as a template argument.
template <std::size_t Size>
struct function_name {
  char text[Size]{};
  consteval function_name(const char (&from)[Size]) { std::copy_n(from, Size, text); }
};

/// The next definition of a function behind this library, or null.
template <class Function, function_name Name>
Function* next() noexcept {
  static constinit std::atomic<Function*> found = nullptr;
  Function* here = found.load(std::memory_order_relaxed);
  if (here == nullptr) {
    here = reinterpret_cast<Function*>(::dlsym(RTLD_NEXT, Name.text));
    found.store(here, std::memory_order_relaxed);
  }
  return here;
}

inline int close(int fd) { return next<int(int), "close">()(fd); }
inline int fcntl(int fd, int command, long argument) {
  return next<int(int, int, ...), "fcntl">()(fd, command, argument);
}
inline int ioctl(int fd, unsigned long request, void* argument) {
  return next<int(int, unsigned long, ...), "ioctl">()(fd, request, argument);
}

}  // namespace interpose::libc
