// tests/uapi/vfio/spapr_abi_test.cpp - the structs of SPAPR are where the kernel has them.
//
// unverified: from the sheet, not from hardware.
#include "iopt/uapi/vfio/spapr_abi.hpp"

#include "tests/catch.hpp"

using namespace iopt::vfio;

TEST_CASE("numbers that SPAPR shares with type1") {
  CHECK(abi::iommu_get_info == 0x3b70);
  CHECK(abi::spapr_register_memory == abi::iommu_dirty_pages);
  CHECK(abi::iommu_enable == 0x3b73);
  CHECK(abi::spapr_tce_create == 0x3b77);
  CHECK(abi::eeh_pe_op == 0x3b79);
}

TEST_CASE("an injected error is the last of the argument, on eight bytes") {
  CHECK(offsetof(abi::eeh_request, error) == 16);
  CHECK(offsetof(abi::eeh_error, mask) == 16);
  CHECK(sizeof(abi::eeh_request) == 40);
  CHECK(abi::eeh_request_least == offsetof(abi::eeh_request, pad));
}
