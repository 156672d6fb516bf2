// examples/interpose/devices.hpp - the devices that this library answers for.
#pragma once

#include <optional>
#include <string_view>

#include "faulty_pinner.hpp"
#include "interposed_file.hpp"
#include "iopt/base/error.hpp"

namespace interpose {

/// An opening of the device of this path: its file or an errno; nothing where it is none of ours.
/// `flags` are those of open().
using opened = std::optional<iopt::result<file_pointer>>;
opened open_device(std::string_view path, int flags);

/// /dev/vfio/vfio and /dev/vfio/NUMBER: vfio_devices.cpp.
opened open_vfio(std::string_view path);
/// /dev/iommu: iommu_device.cpp.
opened open_iommu(std::string_view path);

/// fail-nth, of this process: faults.cpp.
///
///   /proc/self/task/TID/fail-nth   the n-th failure point (iopt::mock::fault_point) that the thread
///   /proc/PID/task/TID/fail-nth    passes from now on fails; 0: none. It reads as what is left to
///   /proc/self/fail-nth            pass, which is 0 once that one has failed. Without TID it is the
///   /proc/PID/fail-nth             first thread's.
///   /proc/thread-self/fail-nth
opened open_fail_nth(std::string_view path, int flags);

/// The one pinner of the process: pages are counted whoever pinned them.
using pinner_type = faulty_pinner;
pinner_type& pinner();

/// The frame of the page that the process sees at an address; nothing where no page of the same object is
/// pinned. Requires: a page's first byte. Errors: bad_address, it sees none.
iopt::result<std::optional<iopt::physical>> frame_at(iopt::user_address at);

}  // namespace interpose
