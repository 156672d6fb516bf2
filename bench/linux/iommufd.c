// SPDX-License-Identifier: GPL-2.0-only
// bench/linux/iommufd.c - Linux's io_pagetable.c, as it is, and the calls that benches make of it.
#include KUS_IO_PAGETABLE_C
#include <linux/iommufd.h>
#include "glue.h"

struct table { struct iommufd_ioas ioas; struct iommufd_ctx ictx; };
static struct io_pagetable *iopt_of(void *table) { return &((struct table *)table)->ioas.iopt; }

void *iommufd_create(int disable_large_pages)
{
	struct table *t = calloc(1, sizeof(*t));

	iopt_init_table(&t->ioas.iopt);
	t->ictx.account_mode = IOPT_PAGES_ACCOUNT_NONE;	/* as iommufd_fops_open() has it */
	if (disable_large_pages && iopt_disable_large_pages(&t->ioas.iopt))
		abort();
	return t;
}
void iommufd_destroy(void *table)
{
	iopt_destroy_table(iopt_of(table));
	free(table);
}
int iommufd_attach(void *table, void *domain)
{
	/* As an attach does: the device's reserved regions, owned by what stands for it, then the domain. */
	int rc = iopt_table_enforce_dev_resv_regions(iopt_of(table), domain, NULL);

	return rc ? rc : iopt_table_add_domain(iopt_of(table), domain);
}
void iommufd_detach(void *table, void *domain) { iopt_table_remove_domain(iopt_of(table), domain); }
int iommufd_map(void *table, unsigned long iova, unsigned long address, unsigned long bytes)
{
	struct table *t = table;

	return iopt_map_user_pages(&t->ictx, iopt_of(t), &iova, (void *)address, bytes,
				   IOMMU_READ | IOMMU_WRITE | IOMMU_CACHE, 0);
}
int iommufd_unmap(void *table, unsigned long iova, unsigned long bytes, unsigned long *unmapped)
{
	return iopt_unmap_iova(iopt_of(table), iova, bytes, unmapped);
}
int iommufd_unmap_all(void *table) { return iopt_unmap_all(iopt_of(table), NULL); }
int iommufd_cut(void *table, unsigned long *lasts, unsigned long count)
{
	return iopt_cut_iova(iopt_of(table), lasts, count);
}
int iommufd_choose_iova(void *table, unsigned long *iova, unsigned long address, unsigned long bytes)
{
	int rc;

	down_write(&iopt_of(table)->iova_rwsem);
	rc = iopt_alloc_iova(iopt_of(table), iova, address, bytes);
	up_write(&iopt_of(table)->iova_rwsem);
	return rc;
}

static void unmap_of_pinned(void *data, unsigned long iova, unsigned long bytes) { abort(); }
static const struct iommufd_access_ops access_ops = { .needs_pin_pages = 1, .unmap = unmap_of_pinned };
void *iommufd_user_create(void *table)
{
	struct table *t = table;
	struct iommufd_access *a = calloc(1, sizeof(*a));

	mutex_init(&a->ioas_lock);
	a->ioas = a->ioas_unpin = &t->ioas;
	a->ops = &access_ops;
	a->ictx = &t->ictx;
	a->iova_alignment = PAGE_SIZE;
	refcount_set(&a->obj.users, 1);
	refcount_set(&a->obj.shortterm_users, 1);
	if (iopt_add_access(&t->ioas.iopt, a))
		abort();
	return a;
}
void iommufd_user_destroy(void *access)
{
	struct iommufd_access *a = access;

	iopt_remove_access(&a->ioas->iopt, a, a->iopt_access_list_id);
	free(a);
}
int iommufd_pin(void *access, unsigned long iova, unsigned long bytes, void **pages)
{
	return iommufd_access_pin_pages(access, iova, bytes, (struct page **)pages, IOMMUFD_ACCESS_RW_WRITE);
}
void iommufd_unpin(void *access, unsigned long iova, unsigned long bytes)
{
	iommufd_access_unpin_pages(access, iova, bytes);
}
int iommufd_read(void *access, unsigned long iova, void *to, unsigned long bytes)
{
	return iommufd_access_rw(access, iova, to, bytes, 0);
}

int iommufd_track_dirty(void *table, void *domain)
{
	return iopt_set_dirty_tracking(iopt_of(table), domain, true);
}
int iommufd_read_dirty(void *table, void *domain, unsigned long iova, unsigned long bytes, void *bitmap)
{
	struct iommu_hwpt_get_dirty_bitmap request = { .size = sizeof(request), .iova = iova, .length = bytes,
		.page_size = PAGE_SIZE, .data = (u64)(uintptr_t)bitmap };

	return iopt_read_and_clear_dirty_data(iopt_of(table), domain, 0, &request);
}
