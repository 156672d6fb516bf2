// A small VMM's memory map: RAM around the PCI hole, firmware shadowed in 4 KiB steps inside 3 GiB,
// a BAR moved while the device runs, and memory hot-plugged - all of it live.
#include <cstdio>

#include "iopt/iopt.hpp"

using iopt::access_rights, iopt::gibibyte, iopt::iova, iopt::iova_range, iopt::mebibyte;

int main() {
  iopt::mock::pinner host;
  iopt::mock::domain device;
  iopt::io_pagetable<iopt::mock::pinner, iopt::mock::domain> guest(host);
  const iopt::user_address ram{0x7f0000000000}, rom{0x7e0000000000}, bar{0x7d0000000000};
  if (!guest.attach(device)) return 1;

  // 3 GiB below the hole and 1 GiB above 4 GiB, in one transaction.
  using request = decltype(guest)::map_request;
  request both[] = {{guest.user_memory(ram), 3 * gibibyte, access_rights::read_write, iova{0}},
                    {guest.user_memory(ram + 3 * gibibyte), gibibyte, access_rights::read_write,
                     iova{4 * gibibyte}}};
  if (!guest.map_all(both)) return 1;

  // The firmware shadows 4 KiB at 0xf0000: other memory shows there, with no moment without any;
  // then it is write-protected. The 3 GiB around it stay mapped, pinned and in large entries.
  const iova_range shadow{{0xf0000}, {0xf0fff}};
  if (!guest.remap(shadow, guest.user_memory(rom), access_rights::read_write)) return 1;
  if (!guest.protect(shadow, access_rights::read)) return 1;
  std::printf("shadowed:     0xf0000 is now %s, %zu areas, %llu entries of 1 GiB\n",
              device.translate(shadow.first) == host.frame_of(host.current(), rom) ? "ROM" : "RAM",
              guest.area_count(), static_cast<unsigned long long>(device.entries(gibibyte)));

  // A peer's BAR of 16 MiB moves in the hole while DMA goes on: the new place first, then the old.
  const iova low{0xe0000000}, high{0xf0000000};
  if (!guest.map(bar, 16 * mebibyte, access_rights::read_write, low)) return 1;
  if (!guest.copy(guest, iova_range::sized(low, 16 * mebibyte), access_rights::read_write, high))
    return 1;
  if (!guest.unmap(low, 16 * mebibyte, iopt::unmap_profile::exact)) return 1;
  std::printf("BAR moved:    %s\n",
              device.translate(high) && !device.translate(low) ? "yes" : "no");

  // Hot-plug 2 GiB, and unplug the half of it that the guest gives back, in blocks of 128 MiB.
  if (!guest.map(ram + 4 * gibibyte, 2 * gibibyte, access_rights::read_write, iova{5 * gibibyte}))
    return 1;
  for (std::uint64_t block = 0; block < 16; block += 2)
    if (!guest.unmap(iova{5 * gibibyte + block * 128 * mebibyte}, 128 * mebibyte,
                     iopt::unmap_profile::hole_punching))
      return 1;
  std::printf("hot-unplugged: %zu areas, %llu MiB pinned\n", guest.area_count(),
              static_cast<unsigned long long>(host.pinned_pages() * 4096 / mebibyte));
  return guest.verify().empty() && guest.unmap_all() && host.is_idle() ? 0 : 1;
}
