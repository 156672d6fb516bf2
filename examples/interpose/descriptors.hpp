// examples/interpose/descriptors.hpp - which descriptors are ours.
//
// Each is a real one, of an empty sealed memfd of its own: no number is ever taken twice, and poll,
// fstat or passing it on do what they do. The memfd's inode tells what a descriptor is, however it
// was copied; a number that was closed behind our back, and is something else now, is found out.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "interposed_file.hpp"

namespace interpose {

/// descriptors: a map from descriptors to files.
///
/// Model       Openings: a file and an inode. Numbers, each of an opening. A file is closed when its
///             opening has no number left.
/// Threads     Any. may_know() takes no lock and may be called from a signal handler.
class descriptors {
 public:
  static descriptors& of_process();

  /// Whether it may be ours: false is certain for what nobody copied behind our back.
  static bool may_know(int fd) noexcept;
  /// Whether any descriptor ever was ours.
  static bool any() noexcept;

  /// A descriptor for the file, or an errno, negative. `flags` are those of open(); of them
  /// O_CLOEXEC and O_NONBLOCK count. `name` shows in /proc.
  int install(file_pointer file, int flags, const char* name);
  /// The file that a descriptor of the caller's is of, or null.
  file_pointer find(int fd);
  /// The file that a descriptor of this device and inode is of, whoever has it, or null.
  file_pointer find(std::uint64_t device, std::uint64_t inode);
  /// `copy` is a duplicate of `fd`.
  void duplicated(int fd, int copy);
  /// The descriptor goes, or the lot of them; whoever has none left is closed.
  void closing(int fd);
  void closing(unsigned first, unsigned last);
  /// Forgets numbers that are something else by now.
  void sweep();

  /// Whether there is a file that children share.
  bool any_shared();
  /// In a child: every such file is replaced by what `instead(kind, device, inode)` makes, and never
  /// touched again: what it holds is the parent's.
  template <class Instead>
  void put_away(Instead instead) {
    const std::lock_guard held(lock_);
    for (const auto& [number, one] : numbers_)
      if (one->file->is_shared())
        put_away_.push_back(
            std::exchange(one->file, instead(one->file->kind(), one->device, one->inode)));
  }

 private:
  struct opening {
    file_pointer file;
    dev_t device;
    ino_t inode;
  };
  using opening_pointer = std::shared_ptr<opening>;
  /// Closes the files of openings that are dropped, when it goes itself, with no lock held.
  class dropped;

  static bool is(int fd, const opening& what) noexcept;
  void set(int fd, opening_pointer to, dropped& out);
  void erase(std::map<int, opening_pointer>::iterator at, dropped& out);

  std::mutex lock_;  // over what follows
  std::map<int, opening_pointer> numbers_;
  std::vector<file_pointer> put_away_;
};

}  // namespace interpose
