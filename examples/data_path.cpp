// The data path: an I/O thread of a VMM translates a guest's addresses to its own, in bursts and
// without a lock, while another thread unmaps. A page is given back only when the burst is over.
#include <atomic>
#include <chrono>
#include <cstdio>
#include <thread>

#include "iopt/core/multi_threaded.hpp"
#include "iopt/core/translation_index.hpp"
#include "iopt/iopt.hpp"

struct data_path_traits : iopt::multi_threaded {
  using readers = iopt::translation_index<>;
};

int main() {
  iopt::mock::pinner pinner;
  iopt::mock::domain nic;
  iopt::io_pagetable<iopt::mock::pinner, iopt::mock::domain, data_path_traits> table(pinner);
  if (!table.attach(nic)) return 1;

  // A ring of buffers: two pieces of memory, side by side for the guest and the device.
  const iopt::iova ring{0x100000};
  constexpr auto rw = iopt::access_rights::read_write;
  if (!table.map({0x7f0000000000}, 0x4000, rw, ring)) return 1;
  if (!table.map({0x7f0000800000}, 0x4000, rw, ring + 0x4000)) return 1;

  std::atomic<int> stage{0};
  std::atomic<bool> pinned_in_burst{false}, gone_after{false};
  std::thread io([&] {
    auto me = table.readers().attach();
    if (!me) return;
    me->enter();  // a burst: what is translated in it is good until it is left
    iopt::host_run storage[4];
    iopt::host_run_list runs(storage);
    me->translate(ring + 0x3000, 0x2000, runs);
    for (const iopt::host_run& r : runs.view())
      std::printf("at %#llx, %#llx bytes\n", static_cast<unsigned long long>(r.first.value),
                  static_cast<unsigned long long>(r.length_bytes));
    stage = 1;  // the other thread begins to unmap, and cannot end before we leave
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    pinned_in_burst = pinner.pinned_pages() == 8;
    me->leave();

    while (stage != 2) std::this_thread::yield();
    me->enter();
    gone_after = !me->find(ring);
    me->leave();
  });
  while (stage == 0) std::this_thread::yield();
  const auto report = table.unmap_all();
  std::printf("unmapped, %llu pages pinned\n",
              static_cast<unsigned long long>(pinner.pinned_pages()));
  stage = 2;
  io.join();
  return report && pinned_in_burst && gone_after && pinner.is_idle() ? 0 : 1;
}
