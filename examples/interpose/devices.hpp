// examples/interpose/devices.hpp - the devices that this library answers for.
#pragma once

#include <optional>
#include <string_view>

#include "interposed_file.hpp"
#include "iopt/backends/host/process_pinner.hpp"
#include "iopt/base/error.hpp"

namespace interpose {

/// An opening of the device of this path: its file or an errno; nothing where it is none of ours.
using opened = std::optional<iopt::result<file_pointer>>;
opened open_device(std::string_view path);

/// /dev/vfio/vfio and /dev/vfio/NUMBER: vfio_devices.cpp.
opened open_vfio(std::string_view path);
/// /dev/iommu: iommu_device.cpp.
opened open_iommu(std::string_view path);

/// The one pinner of the process: pages are counted whoever pinned them.
iopt::host::process_pinner<>& pinner();

/// The page that the process sees at an address, as the pinner names it. Requires: a page's first byte.
/// Errors: bad_address, it sees none.
iopt::result<iopt::physical> page_at(iopt::user_address at);

}  // namespace interpose
