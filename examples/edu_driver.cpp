// A driver in user space, complete: a device copies memory by DMA through what the library maps.
//
//   edu_driver [GROUP DEVICE]      say /dev/vfio/4 0000:00:03.0; else $GROUP and $DEVICE
//
// The device is QEMU's `edu` (-device edu; its docs/specs/edu), which vfio-pci must have. It copies
// between memory of its own and ours, by addresses of 28 bits. Where there is none, this says so.
#include <unistd.h>

#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <utility>

#include "iopt/backends/vfio_type1/vfio_type1.hpp"
#include "iopt/iopt.hpp"

using namespace iopt;

namespace {

/// A PCI device behind a group: VFIO's region 0 is its BAR 0, region 7 its configuration.
class pci_device {
 public:
  static result<pci_device> open(int group, const char* address) {
    const int fd = ::ioctl(group, vfio::abi::group_get_device_fd, address);
    if (fd < 0) return host::last_error();
    return pci_device(host::device_file(fd));
  }

  /// An access of a region, as wide as T. False: the device is not as this driver thinks.
  template <class T>
  bool read(unsigned region, std::uint64_t at, T& value) {
    const auto start = start_of(region);
    return start && ::pread(file_.descriptor(), &value, sizeof value,
                            static_cast<off_t>(*start + at)) == sizeof value;
  }
  template <class T>
  bool write(unsigned region, std::uint64_t at, T value) {
    const auto start = start_of(region);
    return start && ::pwrite(file_.descriptor(), &value, sizeof value,
                             static_cast<off_t>(*start + at)) == sizeof value;
  }

 private:
  struct region_info {  // of VFIO_DEVICE_GET_REGION_INFO
    std::uint32_t argsz, flags, index, cap_offset;
    std::uint64_t size, offset;
  };
  explicit pci_device(host::device_file file) : file_(std::move(file)) {}

  result<std::uint64_t> start_of(unsigned region) {
    region_info info{sizeof info, 0, region, 0, 0, 0};
    const auto asked = host::call(file_.descriptor(), vfio::abi::request(8), &info);
    if (!asked) return std::unexpected(asked.error());
    return info.offset;
  }

  host::device_file file_;
};

/// The device: four registers for DMA, in BAR 0.
class edu {
 public:
  explicit edu(pci_device& device) : device_(device) {}

  /// Whether it is one; then it may use the bus.
  bool start() {
    std::uint32_t id = 0, check = 0;
    std::uint16_t command = 0;
    return device_.read(0, 0, id) && (id & 0xffff) == 0x00ed &&
           device_.write(0, 4, std::uint32_t{0x12345678}) && device_.read(0, 4, check) &&
           check == ~std::uint32_t{0x12345678} && device_.read(7, 4, command) &&
           device_.write(7, 4, static_cast<std::uint16_t>(command | 4));  // bus master
  }
  /// Copies a page, by way of the device's memory.
  bool copy_page(iova from, iova to) {
    for (std::uint64_t done = 0; done < 4096; done += most_bytes)
      if (!transfer(from.value + done, own_memory, to_device) ||
          !transfer(own_memory, to.value + done, from_device))
        return false;
    return true;
  }

 private:
  static constexpr std::uint64_t own_memory = 0x40000;
  static constexpr std::uint64_t most_bytes = 2048;  // QEMU 7.2 ends at a transfer of all 4096
  static constexpr std::uint64_t to_device = 0, from_device = 2;

  /// Waits until the device is done. A fault is not told to it.
  bool transfer(std::uint64_t from, std::uint64_t to, std::uint64_t direction) {
    if (!device_.write(0, 0x80, from) || !device_.write(0, 0x88, to) ||
        !device_.write(0, 0x90, most_bytes) || !device_.write(0, 0x98, direction | 1))
      return false;
    for (int tries = 0; tries < 1000; ++tries, ::usleep(10'000)) {
      std::uint64_t state = 0;
      if (!device_.read(0, 0x98, state)) return false;
      if ((state & 1) == 0) return true;
    }
    return false;
  }

  pci_device& device_;
};

/// Memory for the device.
struct buffer {
  static constexpr std::uint64_t page_bytes = 4096, pages = 16;
  using page = std::array<unsigned char, page_bytes>;
  alignas(page_bytes) std::array<page, pages> all;

  static page pattern(std::uint64_t n) {
    page p;
    for (std::uint64_t i = 0; i < page_bytes; ++i)
      p[i] = static_cast<unsigned char>(31 * n + 7 * i + i / 256);
    return p;
  }
};

int failed(const char* what) { return std::printf("failed: %s\n", what), 1; }

int drive(edu& device, const vfio_type1::container& container) {
  auto entries = vfio_type1::container_table::open(container.descriptor());
  if (!entries) return failed("what the container takes");
  const auto memory = std::make_unique<buffer>();
  auto& pages = memory->all;
  for (std::uint64_t n = 0; n < buffer::pages; ++n) pages[n] = buffer::pattern(n);

  // Each page is an entry of its own: type1 cannot cut one, and any page may become a hole.
  vfio_type1::domain iommu(std::move(*entries), {granules::fixed(buffer::page_bytes)});
  host::address_pinner pinner;  // the kernel pins
  io_pagetable<host::address_pinner, vfio_type1::domain> table(pinner);
  const iova base{128 * mebibyte};  // the device has 28 bits
  const auto at = [&](std::uint64_t n) { return base + n * buffer::page_bytes; };
  if (!table.attach(iommu)) return failed("attach");
  if (!table.map({reinterpret_cast<std::uintptr_t>(memory.get())}, sizeof(buffer),
                 access_rights::read_write, base))
    return failed("map");

  if (!device.copy_page(at(2), at(9))) return failed("DMA does not end");
  if (pages[9] != pages[2]) return failed("page 9 is not what page 2 is");
  std::puts("DMA: page 2 to page 9, and it is the same");

  // Page 5 goes, and the other fifteen stay as they are.
  const auto hole = table.unmap(at(5), buffer::page_bytes, unmap_profile::hole_punching);
  if (!hole || iommu.entries() != buffer::pages - 1) return failed("the hole");
  std::printf("a hole at %#llx: DMA there faults, and the kernel's log says so\n",
              static_cast<unsigned long long>(at(5).value));

  // Into the hole: nothing arrives. Out of it: nothing of page 5 does.
  if (!device.copy_page(at(2), at(5)) || !device.copy_page(at(5), at(10)))
    return failed("DMA does not end");
  if (pages[5] != buffer::pattern(5)) return failed("DMA went through the hole to page 5");
  if (pages[10] == pages[5]) return failed("DMA came through the hole from page 5");

  // Its neighbours work.
  if (!device.copy_page(at(4), at(11)) || !device.copy_page(at(6), at(12)))
    return failed("DMA does not end");
  if (pages[11] != pages[4] || pages[12] != pages[6]) return failed("the hole's neighbours");
  std::puts("DMA: pages 4 and 6, beside the hole, to pages 11 and 12, and they are the same");
  return 0;
}

}  // namespace

int main(int count, char** arguments) {
  const char* group = count > 2 ? arguments[1] : std::getenv("GROUP");
  const char* address = count > 2 ? arguments[2] : std::getenv("DEVICE");
  if (group == nullptr || address == nullptr)
    return std::puts("no device: edu_driver /dev/vfio/GROUP ADDRESS"), 0;
  auto container = vfio_type1::container::open(group);
  if (!container)
    return std::printf("%s: %s\n", group, name(container.error().code).data()), count > 2;
  auto opened = pci_device::open(container->group(), address);
  if (!opened) return std::printf("%s: %s\n", address, name(opened.error().code).data()), 1;
  edu device(*opened);
  if (!device.start()) return failed("this is no edu device");
  return drive(device, *container);
}
