// An iommufd inside a program, in the steps of Linux's own description: spaces, a device that is
// attached to one, memory that two show, a hardware page table that tells what was written.
//
// The device is a mock's; a VMM or a driver binds a group of its own.
#include <cstdint>
#include <cstdio>

#include "iopt/backends/mock/group.hpp"
#include "iopt/iopt.hpp"
#include "iopt/uapi/iommufd/context.hpp"

namespace abi = iopt::iommufd::abi;
using context = iopt::iommufd::context<iopt::mock::pinner, iopt::mock::domain>;

int main() {
  iopt::mock::pinner pinner;
  iopt::mock::group group;
  {
    context iommufd(pinner);
    const auto guest = iommufd.create_space();  // IOMMU_IOAS_ALLOC
    const auto device = iommufd.bind(group);    // VFIO_DEVICE_BIND_IOMMUFD
    if (!guest || !device) return 1;
    const auto automatic = iommufd.attach(*device, *guest);  // VFIO_DEVICE_ATTACH_IOMMUFD_PT
    if (!automatic) return 1;

    // As bytes, which is how another process's request would arrive; a table's members do the same.
    abi::ioas_map map{sizeof map,     abi::map_readable | abi::map_writeable | abi::map_fixed_iova,
                      *guest,         0,
                      0x7f0000000000, 0x10000,
                      0x100000};
    const auto request = static_cast<std::uint32_t>(abi::request::ioas_map);
    if (iommufd.ioctl(request, reinterpret_cast<std::uintptr_t>(&map)) != 0) return 1;

    // Another space shows half of it: the pages are pinned once (IOMMU_IOAS_COPY).
    const auto other = iommufd.create_space();
    const auto shown = iommufd.with_space(*guest, [&](auto& from) {
      return iommufd.with_space(*other, [&](auto& to) {
        return to.copy(from, iopt::iova_range::sized({0x108000}, 0x8000),
                       iopt::access_rights::read);
      });
    });
    if (!shown) return 1;
    std::printf("16 pages, %llu pinned\n", static_cast<unsigned long long>(pinner.pinned_pages()));

    // The device moves, without a moment at which it faults, to a page table that tracks writes.
    const auto tracking = iommufd.create_hw_pagetable(*device, *guest, true);  // IOMMU_HWPT_ALLOC
    if (!tracking || !iommufd.replace(*device, *tracking)) return 1;
    const auto told = iommufd.with_hw_pagetable(*tracking, [&](auto& table, auto& domain) {
      if (auto on = table.set_dirty_tracking(domain, true); !on) return on;
      domain.device_writes(iopt::iova_range::sized({0x102000}, 0x2000));
      return table.read_dirty(domain, iopt::iova_range::sized({0x100000}, 0x10000),
                              iopt::dirty_read::clear, [](iopt::iova_range written) {
                                std::printf("written: %llx-%llx\n",
                                            static_cast<unsigned long long>(written.first.value),
                                            static_cast<unsigned long long>(written.last.value));
                              });
    });
    if (!told || iommufd.destroy(*guest).error() != iopt::errc::device_or_resource_busy) return 1;
    if (!iommufd.detach(*device) || !iommufd.unbind(*device)) return 1;
  }  // closes the descriptor: all that is left goes
  return pinner.is_idle() ? 0 : 1;
}
