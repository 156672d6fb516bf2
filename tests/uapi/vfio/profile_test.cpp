#include "iopt/uapi/vfio/profile.hpp"

#include "iopt/core/multi_threaded.hpp"
#include "tests/catch.hpp"

using namespace iopt;

namespace {

struct threaded : vfio::type1_profile {
  using traits = multi_threaded;
  static constexpr kernel_level level = kernel_level::linux_6_18;
};
struct no_copy : vfio::type1_profile {
  using copy = int;
};

}  // namespace

TEST_CASE("a profile is derived, and checked before it is used", "[profile]") {
  STATIC_REQUIRE(vfio::container_profile<vfio::type1_profile>);
  STATIC_REQUIRE(vfio::container_profile<threaded>);
  STATIC_REQUIRE_FALSE(vfio::container_profile<no_copy>);
}

TEST_CASE("only the profile named for it punches holes", "[profile]") {
  CHECK_FALSE(vfio::type1_profile::punches_holes);
  CHECK_FALSE(vfio::iommufd_profile::punches_holes);
  CHECK(vfio::hole_punching_profile::punches_holes);
  CHECK(vfio::iommufd_profile::answers_as == vfio::personality::iommufd);
}

TEST_CASE("the options are the kernel's module parameters, at their defaults", "[profile]") {
  const vfio::container_options o;
  CHECK(o.dma_entry_limit == 65535);
  CHECK_FALSE(o.allow_unsafe_interrupts);
  CHECK_FALSE(o.allow_noiommu);
  CHECK_FALSE(o.reads_dirty_bits);
}

TEST_CASE("who may lock memory is counted without a limit", "[profile]") {
  struct caller {
    bool may;
    bool has(capability c) const noexcept { return may && c == capability::lock_memory; }
  };
  caller root{true}, user{false};
  CHECK(vfio::locked_by(root) == account_mode::type1_unlimited);
  CHECK(vfio::locked_by(user) == account_mode::type1);
}
