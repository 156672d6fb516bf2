// examples/interpose/devices.cpp - the devices that this library answers for.
#include "devices.hpp"

namespace interpose {

opened open_device(std::string_view path) {
  for (const auto open : {open_vfio, open_iommu})
    if (opened file = open(path)) return file;
  return std::nullopt;
}

iopt::host::process_pinner<>& pinner() {
  static auto* const made = new iopt::host::process_pinner<>;
  return *made;
}

}  // namespace interpose
