// examples/interpose/debugfs.hpp - what a test of fault injection looks for in /sys/kernel/debug.
//
// The knobs fail*/verbose, ignore-gfp-wait and ignore-gfp-highmem take what is written to them, and
// nothing comes of it: they say how a kernel reports its faults, and where its allocator may have
// them. Where there is no debugfs that can be opened, an empty folder stands in for it.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace interpose {

/// A descriptor for a knob that is opened for writing, or an errno, negative; nothing for all else.
std::optional<int> open_knob(std::string_view path, int flags) noexcept;

bool is_debugfs(std::string_view path) noexcept;
/// A new folder without a name, open, that stands in for debugfs; or an errno, negative.
int stand_in_for_debugfs() noexcept;
/// The path of what has this name in an open folder, the one that stands in for debugfs included.
std::string path_below(int folder, std::string_view name);

}  // namespace interpose
