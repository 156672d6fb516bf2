// Hole punching: take one page out of the middle of a gibibyte that the IOMMU maps as one entry,
// without a moment at which a device faults on the rest. The kernel refuses, or gives up large
// pages.
#include <cstdio>

#include "iopt/iopt.hpp"

int main() {
  iopt::mock::pinner pinner;
  iopt::mock::domain iommu;  // entries of 4 KiB, 2 MiB and 1 GiB
  iopt::io_pagetable<iopt::mock::pinner, iopt::mock::domain> table(pinner);
  const iopt::iova at{iopt::gibibyte};
  if (!table.attach(iommu)) return 1;
  if (!table.map({8 * iopt::gibibyte}, iopt::gibibyte, iopt::access_rights::read_write, at))
    return 1;

  const iopt::iova hole = at + 0x12345000;
  for (const auto profile : iopt::unmap_profiles) {  // a dry run: what would each make of it?
    const auto report = table.would_unmap(hole, 0x1000, profile);
    std::printf("%-18s %-7s %llu bytes\n", name(profile).data(),
                report ? "ok" : name(report.outcome.error().code).data(),
                static_cast<unsigned long long>(report.bytes));
  }

  const auto report = table.unmap(hole, 0x1000, iopt::unmap_profile::hole_punching);
  std::printf("punched %llu bytes: ", static_cast<unsigned long long>(report.bytes));
  for (const auto size : {4 * iopt::kibibyte, 2 * iopt::mebibyte, iopt::gibibyte})
    std::printf("%llu entries of %llu KiB  ", static_cast<unsigned long long>(iommu.entries(size)),
                static_cast<unsigned long long>(size / iopt::kibibyte));
  std::printf("\n%llu of 262144 pages stay pinned\n",
              static_cast<unsigned long long>(pinner.pinned_pages()));

  const bool right = !iommu.translate(hole) && iommu.translate(hole - 1) &&
                     iommu.translate(hole + 0x1000) && pinner.pinned_pages() == 262143 &&
                     iommu.entries(2 * iopt::mebibyte) == 511;
  return right && table.unmap_all() && pinner.is_idle() ? 0 : 1;
}
