// SPDX-License-Identifier: GPL-2.0-only
// bench/linux/glue.h - between the kernel's files and the mock: for glue.c, iommufd.c and type1.c.
#ifndef IOPT_BENCH_LINUX_GLUE_H
#define IOPT_BENCH_LINUX_GLUE_H
#include "peer.h"
struct iommu_domain;
/* Makes a struct iommu_domain of what a mock domain points at. */
void glue_adopt(struct iommu_domain *domain, int variant);
void glue_init(void);
void glue_memory(long *asked, long *taken);

#define PEER_FUNCTIONS(X) \
	X(void *, iommufd_create, (int disable_large_pages)) \
	X(void, iommufd_destroy, (void *table)) \
	X(int, iommufd_attach, (void *table, void *domain)) \
	X(void, iommufd_detach, (void *table, void *domain)) \
	X(int, iommufd_map, (void *table, unsigned long iova, unsigned long address, unsigned long bytes)) \
	X(int, iommufd_unmap, (void *table, unsigned long iova, unsigned long bytes, unsigned long *unmapped)) \
	X(int, iommufd_unmap_all, (void *table)) \
	X(int, iommufd_cut, (void *table, unsigned long *lasts, unsigned long count)) \
	X(int, iommufd_choose_iova, (void *table, unsigned long *iova, unsigned long address, unsigned long bytes)) \
	X(void *, iommufd_user_create, (void *table)) \
	X(void, iommufd_user_destroy, (void *access)) \
	X(int, iommufd_pin, (void *access, unsigned long iova, unsigned long bytes, void **pages)) \
	X(void, iommufd_unpin, (void *access, unsigned long iova, unsigned long bytes)) \
	X(int, iommufd_read, (void *access, unsigned long iova, void *to, unsigned long bytes)) \
	X(int, iommufd_track_dirty, (void *table, void *domain)) \
	X(int, iommufd_read_dirty, (void *table, void *domain, unsigned long iova, unsigned long bytes, void *bitmap)) \
	X(void *, type1_create, (void)) \
	X(void, type1_destroy, (void *container)) \
	X(int, type1_attach, (void *container, struct linux_group *group)) \
	X(int, type1_attach_emulated, (void *container, struct linux_group *group)) \
	X(void, type1_detach, (void *container, struct linux_group *group)) \
	X(int, type1_map, (void *container, unsigned long iova, unsigned long address, unsigned long bytes)) \
	X(int, type1_unmap, (void *container, unsigned long iova, unsigned long bytes, unsigned long *unmapped)) \
	X(void, type1_entry_limit, (unsigned int entries)) \
	X(int, type1_pin, (void *container, struct linux_group *group, unsigned long iova, int pages, void **to)) \
	X(void, type1_unpin, (void *container, unsigned long iova, int pages)) \
	X(int, type1_read, (void *container, unsigned long iova, void *to, unsigned long bytes))
#define PEER_DECLARE(type, name, arguments) type name arguments;
PEER_FUNCTIONS(PEER_DECLARE)
#endif
