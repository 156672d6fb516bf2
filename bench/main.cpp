// bench/main.cpp - main() of every bench: what must hold before anything is measured.
//
// A second thread exists, parked: while a process has one, glibc's locks leave out their atomic
// instructions, and shared_ptr its own. The heap lies in huge pages, as a kernel's memory does, and
// is not given back in between.
#include <benchmark/benchmark.h>
#include <malloc.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <thread>

#include "bench/mock/mock.h"
#ifdef IOPT_BENCH_LINUX
#include "bench/linux/peer.h"
#endif

int main(int count, char** arguments) {
  if (std::getenv("GLIBC_TUNABLES") == nullptr) {
    setenv("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1", 1);
    execv("/proc/self/exe", arguments);
  }
  mallopt(M_MMAP_THRESHOLD, 1 << 30);
  mallopt(M_TRIM_THRESHOLD, 2047 << 20);
  mallopt(M_TOP_PAD, 64 << 20);
  std::thread([] { pause(); }).detach();
#ifdef IOPT_BENCH_LINUX
  linux_counted.init();
  linux_unlocked.init();
  linux_locked.init();  // whose iommu_map() and iommu_unmap() everybody calls
#endif
  benchmark::Initialize(&count, arguments);
  if (benchmark::ReportUnrecognizedArguments(count, arguments)) return 2;
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  std::cout.flush();
  std::fflush(nullptr);
  std::_Exit(0);  // the parked thread stays where it is
}
