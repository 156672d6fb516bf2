// Two domains: two devices behind two IOMMUs share one address space. Each page is pinned once; the
// second domain is filled from the first, and a device may come and go while the other works.
#include <cstdio>

#include "iopt/iopt.hpp"

int main() {
  iopt::mock::pinner pinner;
  iopt::mock::domain nic, gpu;
  iopt::io_pagetable<iopt::mock::pinner, iopt::mock::domain> table(pinner);

  const iopt::iova at{0x100000};
  if (!table.map({0x7f0000000000}, 64 * iopt::mebibyte, iopt::access_rights::read_write, at))
    return 1;
  std::printf("no domain yet:  %llu pages pinned\n",
              static_cast<unsigned long long>(pinner.pinned_pages()));

  if (!table.attach(nic)) return 1;
  std::printf("first domain:   %llu pages pinned\n",
              static_cast<unsigned long long>(pinner.pinned_pages()));

  pinner.reset_calls();
  if (!table.attach(gpu)) return 1;
  std::printf("second domain:  %llu pages pinned, %llu more calls to the pinner\n",
              static_cast<unsigned long long>(pinner.pinned_pages()),
              static_cast<unsigned long long>(pinner.calls().pin));
  if (nic.translate(at + 0x5000) != gpu.translate(at + 0x5000)) return 1;

  // Another table (a guest's, behind its own IOMMU) shows a part of the same memory: no new pins.
  iopt::mock::domain nested;
  iopt::io_pagetable<iopt::mock::pinner, iopt::mock::domain> guest(pinner);
  if (!guest.attach(nested)) return 1;
  const auto there = guest.copy(table, {at, at + 0xffff}, iopt::access_rights::read);
  std::printf("copied 64 KiB:  %llu pages pinned, shown at %#llx\n",
              static_cast<unsigned long long>(pinner.pinned_pages()),
              static_cast<unsigned long long>(there ? there->value : 0));

  table.detach(nic);  // the first to hold the pages goes; nobody notices
  const bool still = gpu.translate(at) && nested.translate(*there) == gpu.translate(at);
  table.detach(gpu);  // what the guest shows stays pinned: 16 pages
  std::printf("both detached:  %llu pages pinned\n",
              static_cast<unsigned long long>(pinner.pinned_pages()));
  const bool sixteen = pinner.pinned_pages() == 16;
  return still && sixteen && guest.unmap_all() && pinner.is_idle() ? 0 : 1;
}
