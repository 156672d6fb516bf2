// A VFIO container inside a program: the ioctls of /dev/vfio/vfio, answered as type1 answers them,
// and then once more by a profile that punches holes.
//
// The group is a mock's; a VMM gives its own, which makes domains for its devices.
#include <cstdio>

#include "iopt/backends/mock/group.hpp"
#include "iopt/iopt.hpp"
#include "iopt/uapi/vfio/container.hpp"

namespace abi = iopt::vfio::abi;

template <class Container>
bool unmap_a_page_of_four(Container& container, iopt::mock::group& group) {
  if (!container.join(group)) return false;                  // VFIO_GROUP_SET_CONTAINER
  if (!container.set_iommu(abi::type1_iommu)) return false;  // VFIO_SET_IOMMU

  // As bytes, which is how another process's request would arrive; typed calls do the same.
  abi::dma_map map{sizeof map, abi::map_read | abi::map_write, 0x7f0000000000, 0x100000, 0x4000};
  if (container.ioctl(abi::iommu_map_dma, reinterpret_cast<std::uintptr_t>(&map)) != 0)
    return false;

  // The second page of four. type1 v1 answers 0 and does nothing; the other removes just that.
  const auto gone = container.unmap_dma(0, {0x101000}, 0x1000);
  const auto& translated = *group.attached();
  std::printf("unmapped %llu bytes; pages shown:", static_cast<unsigned long long>(*gone));
  for (std::uint64_t page = 0; page < 4; ++page)
    std::printf(" %s", translated.translate({0x100000 + page * 4096}) ? "yes" : "no");
  std::printf("\n");
  return container.leave(group).has_value();  // the last group takes the mappings with it
}

int main() {
  iopt::mock::pinner pinner;
  iopt::mock::group group;
  iopt::vfio::container<iopt::mock::pinner, iopt::mock::domain> type1(pinner);
  iopt::vfio::container<iopt::mock::pinner, iopt::mock::domain, iopt::vfio::hole_punching_profile>
      punching(pinner);
  const bool done = unmap_a_page_of_four(type1, group) && unmap_a_page_of_four(punching, group);
  return done && pinner.is_idle() ? 0 : 1;
}
