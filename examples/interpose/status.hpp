// examples/interpose/status.hpp - /proc/PID/status, with what the process would have locked and pinned.
#pragma once

#include <optional>
#include <string_view>

namespace interpose {

/// A descriptor of such a file's text, in which VmLck and VmPin count what is locked and pinned here too;
/// nothing where the path is none, nothing is counted here, or it is not for reading.
std::optional<int> open_status(std::string_view path, int flags);

}  // namespace interpose
