// The first mapping: memory of this process, shown to a device through an IOMMU.
//
// The pinner is the host's: real memory, whose frames are offsets in a memfd that stands for
// physical memory. The domain is the mock's: an I/O page table that checks every call.
#include <cstdio>
#include <cstring>

#include "iopt/backends/host/host.hpp"
#include "iopt/iopt.hpp"

int main() {
  auto machine = iopt::host::physical_memory::create(64 * iopt::mebibyte);
  if (!machine) return std::puts("no memfd on this system"), 1;
  auto buffer = iopt::host::user_memory::create(*machine, 4 * iopt::mebibyte);
  if (!buffer) return std::puts("no memory for the buffer"), 1;

  iopt::host::pinner pinner(*machine);
  iopt::mock::domain iommu;
  iopt::io_pagetable<iopt::host::pinner, iopt::mock::domain> table(pinner);
  if (!table.attach(iommu)) return 1;

  // Map it all, at an IOVA of the table's choice. Errors are values: an errno, and where it struck.
  const auto at =
      table.map(buffer->address(0), buffer->size_bytes(), iopt::access_rights::read_write);
  if (!at) return std::printf("map: %s\n", name(at.error().code).data()), 1;

  // What the program writes at an address, the device finds at the IOVA.
  std::strcpy(reinterpret_cast<char*>(buffer->data()) + 0x201234, "hello, device");
  const iopt::physical frame = *iommu.translate(*at + 0x201234);
  std::printf("IOVA %#llx is physical %#llx: \"%s\"\n",
              static_cast<unsigned long long>((*at + 0x201234).value),
              static_cast<unsigned long long>(frame.value),
              reinterpret_cast<const char*>(machine->device_view() + frame.value));

  const auto gone = table.unmap(*at, buffer->size_bytes(), iopt::unmap_profile::iommufd);
  std::printf("unmapped %llu KiB, %llu pages stay pinned\n",
              static_cast<unsigned long long>(gone.bytes / iopt::kibibyte),
              static_cast<unsigned long long>(pinner.pinned_pages()));
  return gone && pinner.pinned_pages() == 0 ? 0 : 1;
}
