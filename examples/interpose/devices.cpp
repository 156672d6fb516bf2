// examples/interpose/devices.cpp - the devices that this library answers for.
#include "devices.hpp"

namespace interpose {

opened open_device(std::string_view path, int flags) {
  for (const auto open : {open_vfio, open_iommu})
    if (opened file = open(path)) return file;
  return open_fail_nth(path, flags);
}

pinner_type& pinner() {
  static auto* const made = new pinner_type;
  return *made;
}

iopt::result<std::optional<iopt::physical>> frame_at(iopt::user_address at) {
  if (family::served_child() == 0) {
    const auto seen = iopt::host::touchable_bytes(
        iopt::user_range::sized(at, iopt::host::page_bytes), iopt::access_rights::read);
    if (!seen) return iopt::fail(seen.error());
  }
  const auto frame = pinner().frame_at(pinner().current(), at);
  if (frame) return *frame;
  if (frame.error() == iopt::errc::no_such_file_or_directory) return std::nullopt;
  return iopt::fail(frame.error());
}

}  // namespace interpose
