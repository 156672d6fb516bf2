// Access objects: a device model in software reads, writes and pins guest memory by IOVA, beside
// the real devices. Before a mapping goes it is told, and lets go of its pins.
#include <array>
#include <cstdio>
#include <cstring>

#include "iopt/iopt.hpp"

using table_type = iopt::io_pagetable<iopt::mock::pinner, iopt::mock::domain>;
using access_type = iopt::access_object<iopt::mock::pinner, iopt::mock::domain>;

struct command_ring {
  access_type access{&command_ring::on_unmap, this};
  iopt::iova_range pinned{};
  bool holds = false;

  static void on_unmap(void* self, iopt::iova_range gone) {
    auto& ring = *static_cast<command_ring*>(self);
    if (!ring.holds || !ring.pinned.overlaps(gone)) return;
    std::puts("the guest unmaps the ring: letting go");
    ring.access.unpin(ring.pinned);
    ring.holds = false;
  }
};

int main() {
  iopt::mock::pinner pinner;
  table_type table(pinner);
  command_ring ring;
  if (!ring.access.attach(table)) return 1;
  if (!table.map({0x40000000}, 0x8000, iopt::access_rights::read_write, iopt::iova{0x10000}))
    return 1;

  const auto bytes = std::as_bytes(std::span("doorbell"));
  std::array<std::byte, 9> back{};
  if (!ring.access.write({0x12ff8}, bytes) || !ring.access.read({0x12ff8}, back)) return 1;
  std::printf("written and read back: %s\n", reinterpret_cast<const char*>(back.data()));

  // Pinned pages keep their frames; here two of them, contiguous, so one run.
  ring.pinned = {{0x12000}, {0x13fff}};
  ring.holds = ring.access
                   .pin(ring.pinned, iopt::access_rights::write,
                        [](iopt::run r) {
                          std::printf("pinned %llu bytes at physical %#llx\n",
                                      static_cast<unsigned long long>(r.length_bytes),
                                      static_cast<unsigned long long>(r.first.value));
                        })
                   .has_value();
  const bool two = pinner.pinned_pages() == 2;

  const auto gone = table.unmap({0x10000}, 0x8000, iopt::unmap_profile::iommufd);
  const bool refused = !ring.access.read({0x12ff8}, back);
  ring.access.detach();
  return two && gone && refused && pinner.is_idle() ? 0 : 1;
}
