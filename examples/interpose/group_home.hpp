// examples/interpose/group_home.hpp - what a group can join: a VFIO container, or an iommufd in its place.
#pragma once

#include <memory>

#include "interposed_file.hpp"
#include "iopt/backends/mock/domain.hpp"
#include "iopt/base/error.hpp"
#include "iopt/policy/iommu_group.hpp"

namespace interpose {

/// group_home: a file that groups join.
class group_home : public interposed_file {
 public:
  using group_type = iopt::iommu_group<iopt::mock::domain>;

  virtual iopt::result<void> join(group_type& group) = 0;
  virtual iopt::result<void> leave(group_type& group) = 0;
};

/// The file as one, or null.
inline std::shared_ptr<group_home> home_of(const file_pointer& file) {
  if (file == nullptr ||
      (file->kind() != file_kind::vfio_container && file->kind() != file_kind::iommufd))
    return nullptr;
  return std::dynamic_pointer_cast<group_home>(file);
}

}  // namespace interpose
