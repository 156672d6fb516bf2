// tests/fuzz/vfio_ioctl_fuzz.cpp - libFuzzer's entry. Build: tests/fuzz/run.
#include "tests/fuzz/vfio_ioctl.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  iopt::test::vfio_machine::run({data, size});
  return 0;
}
