// A domain of your own: five members make any table an IOMMU. This one is a std::map of pages, and
// the engine makes up for all that it cannot do.
#include <cstdio>
#include <map>

#include "iopt/iopt.hpp"

class map_domain {
 public:
  iopt::result<void> map(iopt::iova_range r, iopt::physical to, iopt::attributes) {
    for (std::uint64_t done = 0; done <= r.length_minus_one(); done += page)
      pages_[(r.first + done).value] = (to + done).value;
    return {};
  }
  std::uint64_t unmap(iopt::iova_range r) noexcept {
    const auto first = pages_.lower_bound(r.first.value), end = pages_.upper_bound(r.last.value);
    const std::uint64_t bytes = static_cast<std::uint64_t>(std::distance(first, end)) * page;
    pages_.erase(first, end);
    return bytes;
  }
  std::optional<iopt::physical> translate(iopt::iova at) const {
    const auto it = pages_.find(at.value & ~(page - 1));
    if (it == pages_.end()) return std::nullopt;
    return iopt::physical{it->second + at.value % page};
  }
  iopt::page_size_set page_sizes() const { return {page}; }
  iopt::iova_range aperture() const {
    return {{0x1000}, {0xffffffff}};
  }  // 32 bits, page 0 kept free

 private:
  static constexpr std::uint64_t page = 4096;
  std::map<std::uint64_t, std::uint64_t> pages_;
};
static_assert(iopt::iommu_domain<map_domain> && !iopt::splitting_domain<map_domain>);

int main() {
  iopt::mock::pinner pinner;
  map_domain domain;
  iopt::io_pagetable<iopt::mock::pinner, map_domain> table(pinner);
  if (!table.map({0x70000000}, 0x5000, iopt::access_rights::read, iopt::iova{0x10000})) return 1;
  if (!table.attach(domain)) return 1;  // filled with what is mapped already

  const auto above =
      table.map({0x70000000}, 0x1000, iopt::access_rights::read, iopt::iova{1ull << 32});
  const auto hole = table.unmap({0x11000}, 0x1000, iopt::unmap_profile::hole_punching);
  std::printf("page 3 is at %#llx; above 4 GiB: %s; a hole without split(): %s\n",
              static_cast<unsigned long long>(domain.translate({0x13000})->value),
              name(above.error().code).data(), name(hole.outcome.error().code).data());
  const auto all = table.unmap({0x10000}, 0x5000, iopt::unmap_profile::type1_v2);
  return all && all.bytes == 0x5000 && !domain.translate({0x13000}) ? 0 : 1;
}
