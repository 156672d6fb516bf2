// Devices of this machine: iommufd where it is there, a VFIO container where not.
//
//   real_container [GROUP [DEVICE]]      say /dev/vfio/12 /dev/vfio/devices/vfio0
//
// Where there is neither it says so, and that is that.
#include <sys/mman.h>

#include <cstdint>
#include <cstdio>
#include <utility>

#include "iopt/backends/real/real.hpp"
#include "iopt/iopt.hpp"

int main(int count, char** arguments) {
  using namespace iopt;
  auto space = real::address_space::open({.device = count > 2 ? arguments[2] : nullptr,
                                          .group = count > 1 ? arguments[1] : "/dev/vfio/0"});
  auto entries = space ? space->table() : std::unexpected(space.error());
  if (!entries) return std::printf("no device to use: %s\n", name(entries.error().code).data()), 0;

  // 16 MiB for a guest, each MiB of which may be unplugged later.
  constexpr std::uint64_t bytes = 16 * mebibyte;
  void* const ram =
      ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  const planned_mapping guest{iova_range::sized({gibibyte}, bytes),
                              {reinterpret_cast<std::uintptr_t>(ram)},
                              iopt::access_rights::read_write};
  const mapping_plan plan =
      plan_mappings({&guest, 1}, granules::fixed(mebibyte), entries->entries_left());
  std::printf("%llu entries; what makes them fit: %s\n",
              static_cast<unsigned long long>(plan.entries), name(plan.remedy).data());

  real::domain iommu(std::move(*entries), {.pieces = plan.pieces});
  real::pinner pinner;  // the kernel pins: frames are addresses
  io_pagetable<real::pinner, real::domain> table(pinner);
  if (!table.attach(iommu)) return 1;
  if (const auto at = table.map(guest.from, bytes, guest.rights, guest.where.first); !at) {
    std::printf("map: %s; %s\n", name(at.error().code).data(),
                iommu.last_refusal().advice().data());
    return 1;
  }

  // A hole of the granules' size, at once; a smaller one would need a policy that lets devices fault.
  const auto hole =
      table.unmap(guest.where.first + 4 * mebibyte, mebibyte, unmap_profile::hole_punching);
  const auto small = table.would_unmap(guest.where.first, 4096, unmap_profile::type1_v2);
  std::printf("%llu KiB unplugged, %llu entries left mapped; a page of the first: %s\n",
              static_cast<unsigned long long>(hole.bytes / kibibyte),
              static_cast<unsigned long long>(iommu.entries()),
              name(small.outcome.error().code).data());
  return hole && iommu.entries() == 15 ? 0 : 1;
}
