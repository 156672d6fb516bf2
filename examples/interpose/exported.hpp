// examples/interpose/exported.hpp - how a function of libc is stood for.
#pragma once

#include <cerrno>
#include <cstdint>

/// Seen from outside; exports.map names it too.
#define IOPT_EXPORTED [[gnu::visibility("default")]]

namespace interpose {

/// errno_keeper: errno is what it was, but where the call fails.
class errno_keeper {
 public:
  errno_keeper() noexcept : before_(errno) {}
  errno_keeper(const errno_keeper&) = delete;
  errno_keeper& operator=(const errno_keeper&) = delete;
  ~errno_keeper() { errno = before_; }

  /// An answer, or an errno, negative.
  int answer(std::int64_t number) const noexcept {
    if (number >= 0) return static_cast<int>(number);
    before_ = static_cast<int>(-number);
    return -1;
  }
  /// What a function answered that sets errno itself.
  int passed(int number) const noexcept {
    if (number < 0) before_ = errno;
    return number;
  }

 private:
  mutable int before_;
};

}  // namespace interpose
