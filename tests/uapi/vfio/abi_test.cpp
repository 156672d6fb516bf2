// The numbers are compared with <linux/vfio.h> where they are declared; here they are spelt out.
#include "iopt/uapi/vfio/abi.hpp"

#include "tests/catch.hpp"

using namespace iopt::vfio;

TEST_CASE("ioctl numbers are _IO(';', 100 + n)", "[abi]") {
  CHECK(abi::get_api_version == 0x3b64);
  CHECK(abi::check_extension == 0x3b65);
  CHECK(abi::set_iommu == 0x3b66);
  CHECK(abi::group_get_status == 0x3b67);
  CHECK(abi::iommu_get_info == 0x3b70);
  CHECK(abi::iommu_map_dma == 0x3b71);
  CHECK(abi::iommu_unmap_dma == 0x3b72);
  CHECK(abi::iommu_dirty_pages == 0x3b75);
  CHECK(abi::spapr_tce_create == 0x3b77);
}

TEST_CASE("capabilities lie one behind the other, each on 8 bytes", "[abi]") {
  CHECK(sizeof(abi::type1_info) % 8 == 0);
  CHECK(sizeof(abi::migration_capability) % 8 == 0);
  CHECK((sizeof(abi::dma_avail_capability) + 4) % 8 == 0);
  CHECK(sizeof(abi::iova_range_entry) == 16);
}

TEST_CASE("a map's flags are rights", "[abi]") {
  using iopt::access_rights;
  CHECK(abi::rights_of(0) == access_rights::none);
  CHECK(abi::rights_of(abi::map_read) == access_rights::read);
  CHECK(abi::rights_of(abi::map_write | abi::map_vaddr) == access_rights::write);
  CHECK(abi::rights_of(3) == access_rights::read_write);
}
