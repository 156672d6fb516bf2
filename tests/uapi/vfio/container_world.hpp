// tests/uapi/vfio/container_world.hpp - a machine for tests of containers: memory, groups, a caller.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "iopt/backends/mock/group.hpp"
#include "iopt/backends/mock/mock.hpp"
#include "iopt/uapi/vfio/container.hpp"

namespace iopt::test {

/// A caller whose capabilities a test sets.
struct settable_caller {
  const std::array<bool, 3>* may;
  bool has(capability c) const noexcept { return (*may)[static_cast<std::size_t>(c)]; }
};

template <class Base = vfio::type1_profile>
struct world_profile : Base {
  using caller = settable_caller;
};

/// Devices that no IOMMU translates for.
struct group_without_iommu final : iommu_group<mock::domain> {
  group_kind kind() const noexcept override { return group_kind::none; }
  result<mock::domain*> create_domain() override { return fail(errc::no_such_device); }
  void destroy_domain(mock::domain&) noexcept override {}
  result<void> attach(mock::domain&) override { return {}; }
  void detach(mock::domain&) noexcept override {}
  const void* iommu() const noexcept override { return nullptr; }
};

/// A user_copy over a few bytes of its own: whatever else is touched faults.
struct narrow_copy {
  std::array<std::byte, 4096>* bytes;
  std::uint64_t writable_bytes = 4096;

  static constexpr std::uint64_t base = 0x10000;
  bool read(user_address at, std::span<std::byte> to) noexcept {
    if (!fits(at, to.size(), bytes->size())) return false;
    std::memcpy(to.data(), bytes->data() + (at.value - base), to.size());
    return true;
  }
  bool write(user_address at, std::span<const std::byte> from) noexcept {
    if (!fits(at, from.size(), writable_bytes)) return false;
    std::memcpy(bytes->data() + (at.value - base), from.data(), from.size());
    return true;
  }
  bool contains(user_address at, std::uint64_t size) const noexcept {
    return size <= (std::uint64_t{1} << 47) && at.value <= (std::uint64_t{1} << 47) - size;
  }

 private:
  static bool fits(user_address at, std::uint64_t size, std::uint64_t end) noexcept {
    return at.value >= base && at.value - base <= end && size <= end - (at.value - base);
  }
};

inline std::string text(const result<void>& r) {
  return r ? "0" : std::string(name(r.error().code));
}
template <class T>
std::string text(const result<T>& r) {
  return r ? "0" : std::string(name(r.error().code));
}
inline std::string text(std::int64_t answer) {
  return answer >= 0 ? std::to_string(answer) : std::string(name(static_cast<errc>(-answer)));
}

/// container_world: a pinner that watches every domain, groups, and a container of a profile.
template <class Profile = vfio::type1_profile, class Domain = mock::domain>
struct container_world {
  using container_type = vfio::container<mock::pinner, Domain, world_profile<Profile>>;
  static constexpr std::uint64_t page = 4096;

  std::array<bool, 3> may{true, true, true};
  mock::pinner pinner;
  std::deque<mock::group> groups;
  container_type container;

  explicit container_world(vfio::container_options options = {}, mock::pinner_options memory = {})
      : pinner(memory), container(pinner, options, {}, settable_caller{&may}) {}
  ~container_world() {
    for (auto& g : groups) static_cast<void>(container.leave(g));
  }

  static inline const int first_iommu = 0;
  static inline const int second_iommu = 0;
  static constexpr iova_range msi{{0xfee00000}, {0xfeefffff}};

  static mock::group_options usual() {
    mock::group_options o;
    o.domains.aperture = {{0}, {0x7fffffffff}};
    o.domains.enforces_coherency = false;
    o.reserved = {{msi, reserved_region::kind::msi}};
    o.iommu = &first_iommu;
    return o;
  }
  mock::group& add(mock::group_options o = usual()) {
    return groups.emplace_back(o, [this](mock::domain& d) { pinner.watch(d); });
  }
  /// With one group, and this driver.
  mock::group& start(std::uint64_t type, mock::group_options o = usual()) {
    mock::group& g = add(o);
    IOPT_ASSERT(container.join(g) && container.set_iommu(type));
    return g;
  }

  std::string map(std::uint64_t at_page, std::uint64_t pages, std::uint32_t flags = 3) {
    return text(container.map_dma(flags, at(at_page), io(at_page), pages * page));
  }
  /// "0:BYTES/4096" or an errno.
  std::string unmap(std::uint64_t at_page, std::uint64_t pages, std::uint32_t flags = 0) {
    return said(container.unmap_dma(flags, io(at_page), pages * page));
  }
  static std::string said(const result<std::uint64_t>& r) {
    return r ? "0:" + std::to_string(*r / page) : text(r);
  }
  static user_address at(std::uint64_t n) { return {0x100000000 + n * page}; }
  static iova io(std::uint64_t n) { return {n * page}; }
  /// The pins of `count` pages of the process from `first` on.
  std::vector<std::uint64_t> pins(std::uint64_t first, std::uint64_t count) const {
    std::vector<std::uint64_t> all;
    for (std::uint64_t n = first; n < first + count; ++n)
      all.push_back(pinner.pins(pinner.current(), at(n)));
    return all;
  }
  std::uint64_t locked() const { return pinner.charged(pinner.current(), account_mode::mm); }
};

using counts = std::vector<std::uint64_t>;

}  // namespace iopt::test
