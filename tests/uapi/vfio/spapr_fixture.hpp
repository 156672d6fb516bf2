// tests/uapi/vfio/spapr_fixture.hpp - a PowerPC machine that exists in name only.
//
// unverified: from the sheet, not from hardware. What the tests that include this expect comes from
// reading the driver.
#pragma once

#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "iopt/backends/mock/huge_pages.hpp"
#include "iopt/backends/mock/mock.hpp"
#include "iopt/backends/mock/tce_group.hpp"
#include "iopt/uapi/vfio/spapr_container.hpp"
#include "tests/uapi/script_line.hpp"

namespace iopt::test {

namespace abi = vfio::abi;

/// Words of SPAPR's tests.
namespace spapr {
inline constexpr std::uint64_t v1 = abi::spapr_tce_iommu;
inline constexpr std::uint64_t v2 = abi::spapr_tce_v2_iommu;
inline constexpr std::uint64_t k = kibibyte;
/// Where the process has its memory.
inline constexpr std::uint64_t arena = std::uint64_t{1} << 32;
}  // namespace spapr

struct spapr_traits : single_threaded {
  using memory = mock::failing_memory;
};
struct spapr_traits_64k : spapr_traits {
  static constexpr std::uint64_t page_bytes = 64 * kibibyte;
};

struct spapr_caller {
  const bool* privileged;
  bool has(capability) const noexcept { return *privileged; }
};
template <class Traits>
struct spapr_test_profile : uapi::default_profile {
  using traits = Traits;
  using caller = spapr_caller;
};

/// spapr_machine: a platform, its groups, a process, and containers.
template <class Traits = spapr_traits>
struct spapr_machine {
  using registry_type = vfio::spapr_memory<mock::huge_page_pinner, Traits>;
  using container_type =
      vfio::spapr_container<mock::huge_page_pinner, mock::domain, spapr_test_profile<Traits>>;
  static constexpr std::uint64_t page = Traits::page_bytes;

  mock::fault_injector faults;
  mock::memory_account account{&faults};
  mock::huge_page_pinner pinner{{.page_bytes = page, .faults = &faults}};
  typename Traits::memory source{account};
  registry_type registry{pinner, source};
  mock::tce_platform platform{&faults, [this](mock::domain& d) { pinner.watch(d); }};
  bool privileged = false;
  mock::process me = pinner.current();

  std::unique_ptr<container_type> container(std::int64_t handles_errors = 0) {
    return std::make_unique<container_type>(registry, vfio::spapr_options{handles_errors},
                                            trusted_caller{}, spapr_caller{&privileged}, source);
  }
  /// With one group and a driver.
  std::unique_ptr<container_type> container(mock::tce_group& g, std::uint64_t type) {
    auto c = container();
    IOPT_ASSERT(c->join(g).has_value());
    IOPT_ASSERT(c->set_iommu(type).has_value());
    return c;
  }

  std::uint64_t charged() const { return pinner.charged(me, account_mode::type1); }
  void limit(std::uint64_t pages) { pinner.set_limit(me, account_mode::type1, pages); }
  physical frame(std::uint64_t vaddr) const { return pinner.frame_of(me, {vaddr}); }
  std::uint64_t pins(std::uint64_t vaddr) const { return pinner.pins(me, {vaddr}); }

  /// Nothing pinned, charged or allocated.
  bool is_idle() const {
    return pinner.is_idle() && account.live_blocks() == 0 && platform.tables().empty();
  }
};

/// The answer of an ioctl: the number, or the errno's name.
inline std::string said(std::int64_t answer) {
  return answer < 0 ? status(answer) : std::to_string(answer);
}
inline std::string said(const result<uapi::answer>& r) { return said(uapi::answer_of(r)); }
inline std::string said(const result<void>& r) { return said(uapi::answer_of(r)); }
inline std::string said(const result<iova>& r) {
  return r ? hex(r->value) : std::string(name(r.error().code));
}

template <class Container, class T>
std::string ask(Container& c, std::uint32_t request, T& argument) {
  return said(c.ioctl(request, reinterpret_cast<std::uintptr_t>(&argument)));
}
template <class Container>
std::string ask(Container& c, std::uint32_t request, std::uint64_t argument = 0) {
  return said(c.ioctl(request, argument));
}

template <class Container>
std::string map(Container& c, std::uint64_t vaddr, std::uint64_t at, std::uint64_t bytes,
                std::uint32_t flags = abi::map_read | abi::map_write) {
  abi::dma_map m{sizeof m, flags, vaddr, at, bytes};
  return ask(c, abi::iommu_map_dma, m);
}
template <class Container>
std::string unmap(Container& c, std::uint64_t at, std::uint64_t bytes, std::uint32_t flags = 0) {
  abi::dma_unmap m{sizeof m, flags, at, bytes};
  return ask(c, abi::iommu_unmap_dma, m);
}
template <class Container>
std::string enroll(Container& c, std::uint64_t vaddr, std::uint64_t bytes) {
  abi::spapr_memory m{sizeof m, 0, vaddr, bytes};
  return ask(c, abi::spapr_register_memory, m);
}
template <class Container>
std::string withdraw(Container& c, std::uint64_t vaddr, std::uint64_t bytes) {
  abi::spapr_memory m{sizeof m, 0, vaddr, bytes};
  return ask(c, abi::spapr_unregister_memory, m);
}
/// What TCE_CREATE answers, and where the window begins.
template <class Container>
std::string create(Container& c, std::uint32_t page_lg2, std::uint64_t bytes,
                   std::uint32_t levels = 1) {
  abi::spapr_create m{sizeof m, 0, page_lg2, 0, bytes, levels, 0, 77};
  const std::string answer = ask(c, abi::spapr_tce_create, m);
  return answer == "0" ? hex(m.start) : answer;
}
template <class Container>
std::string remove(Container& c, std::uint64_t start) {
  abi::spapr_remove m{sizeof m, 0, start};
  return ask(c, abi::spapr_tce_remove, m);
}

}  // namespace iopt::test
