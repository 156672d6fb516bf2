// iopt/uapi/vfio/container.hpp - a VFIO container, whoever answers for it.
//
//   iopt::vfio::container<Pinner, Domain, Profile> c(pinner);
//   c.join(group);                                   // VFIO_GROUP_SET_CONTAINER
//   c.set_iommu(iopt::vfio::abi::type1v2_iommu);     // VFIO_SET_IOMMU
//   c.map_dma(iopt::vfio::abi::map_read, vaddr, iova, size);
//   c.ioctl(request, argument);                      // or as bytes
//
// The profile says which kernel it is: uapi/vfio/profile.hpp.
//
// Layer: uapi. Includes: uapi/vfio/native_container.hpp, uapi/vfio/iommufd_container.hpp.
#pragma once

#include <type_traits>

#include "iopt/uapi/vfio/iommufd_container.hpp"
#include "iopt/uapi/vfio/native_container.hpp"

namespace iopt::vfio {

/// container: native_container or iommufd_container, as the profile answers.
///
/// Tested by tests/uapi/vfio/container_test.cpp
template <page_pinner Pinner, iommu_domain Domain, container_profile Profile = type1_profile>
using container = std::conditional_t<Profile::answers_as == personality::iommufd,
                                     iommufd_container<Pinner, Domain, Profile>,
                                     native_container<Pinner, Domain, Profile>>;

}  // namespace iopt::vfio
