// SPDX-License-Identifier: GPL-2.0-only
/* configuration seen by the kernel files (no CONFIG_IOMMUFD_TEST, no lockdep) */
#define CONFIG_64BIT 1
#define CONFIG_MMU 1
#define CONFIG_SMP 1
#define CONFIG_IOMMU_API 1
#define CONFIG_IOMMUFD 1
#define CONFIG_IOMMUFD_DRIVER 1
#define CONFIG_VFIO_CONTAINER 1
#define CONFIG_TRANSPARENT_HUGEPAGE 1
#define CONFIG_XARRAY_MULTI 1
#define CONFIG_INTERVAL_TREE_SPAN_ITER 1
