// SPDX-License-Identifier: GPL-2.0-only
// bench/linux/glue.c - what the kernel's files call, over the mock of mock/mock.h.
#include <linux/iommu.h>
#include <linux/list.h>
#include <linux/xarray.h>
#include "bench/mock/mock.h"
#include "glue.h"

/* ---- memory ---- */
#ifdef KUS_COUNTED
static long bytes_asked, bytes_taken;
static size_t slab_bytes(size_t n)	/* the size classes of kmalloc */
{
	size_t s = 16;

	if (n <= 8) return 8;
	if (n > 64 && n <= 96) return 96;
	if (n > 128 && n <= 192) return 192;
	while (s < n) s <<= 1;
	return s;
}
void *kus_alloc(size_t n, bool zero)
{
	size_t *p = zero ? calloc(1, n + 16) : malloc(n + 16);

	p[0] = n; bytes_asked += n; bytes_taken += slab_bytes(n);
	return p + 2;
}
void kus_free(const void *q)
{
	size_t *p = (size_t *)q;

	if (!p) return;
	p -= 2; bytes_asked -= p[0]; bytes_taken -= slab_bytes(p[0]);
	free(p);
}
void glue_memory(long *asked, long *taken) { *asked = bytes_asked; *taken = bytes_taken; }
#else
void *kus_alloc(size_t n, bool zero)
{
	void *p = malloc(n);

	return zero ? memset(p, 0, n) : p;	/* as kzalloc: not calloc, which may skip it */
}
void kus_free(const void *p) { free((void *)p); }
void glue_memory(long *asked, long *taken) { *asked = *taken = 0; }
#endif
/* pages for temporary arrays: a free list, as the lists a CPU has */
static void **page_list;
void *kus_page_alloc(void)
{
	void **p = page_list;

	if (!p) return aligned_alloc(PAGE_SIZE, PAGE_SIZE);
	page_list = *p;
	return p;
}
void kus_page_free(unsigned long p) { *(void **)p = page_list; page_list = (void **)p; }
/* nodes of an xarray: the slab keeps free ones zeroed; here they are zeroed as they are taken */
struct kmem_cache *radix_tree_node_cachep;
void *kus_xa_node_alloc(void)
{
	struct xa_node *n = kus_alloc(sizeof(*n), true);

	n->private_list.next = n->private_list.prev = &n->private_list;
	return n;
}
void kus_xa_node_free(void *p) { kus_free(p); }
void radix_tree_node_rcu_free(struct rcu_head *h);
void radix_tree_node_rcu_free(struct rcu_head *h) { kus_free(container_of(h, struct xa_node, rcu_head)); }

/* ---- current: accounting is on, its limit is infinite ---- */
static struct mm_struct mm = { .mm_users = { 1 }, .mm_count = { 1 } };
static struct user_struct user = { .__count = { { 1 } } };
static struct task_struct task = { .mm = &mm, .user = &user, .usage = { { 1 } }, .memlock = ~0UL };
struct task_struct *kus_current = &task;

/* ---- pinning: the mock's memory, and the bitmaps of dirty reads, which are this process's own ---- */
static bool is_own(unsigned long start) { return start - MOCK_ADDRESS >= MOCK_PAGES << PAGE_SHIFT; }
static long pin(unsigned long start, unsigned long n, struct page **pages)
{
	unsigned long i;

	if (likely(!is_own(start)))
		return mock.pin_pages(start, n, (u64 *)pages, (u64)KUS_VMEMMAP, 6);
	for (i = 0; i < n; i++)
		pages[i] = pfn_to_page(KUS_PFN_DIRECT | ((start >> PAGE_SHIFT) + i));
	return n;
}
static void unpin(struct page *p, unsigned long n, bool dirty)
{
	if (likely(!(page_to_pfn(p) & KUS_PFN_DIRECT)))
		mock.unpin(page_to_pfn(p), n, dirty);
}
_Static_assert(sizeof(struct page) == 1 << 6, "pin() makes pointers to it");
long pin_user_pages_remote(struct mm_struct *m, unsigned long start, unsigned long n, unsigned int f,
			   struct page **pages, int *locked)
{ return pin(start, n, pages); }
int pin_user_pages_fast(unsigned long start, int n, unsigned int f, struct page **pages)
{ return pin(start, n, pages); }
void unpin_user_page_range_dirty_lock(struct page *p, unsigned long n, bool dirty)
{ unpin(p, n, dirty); }
void unpin_user_pages_dirty_lock(struct page **p, unsigned long n, bool dirty)
{
	unsigned long i, k;

	for (i = 0; i < n; i += k) {
		for (k = 1; i + k < n && p[i + k] == p[i] + k; k++)
			;
		unpin(p[i], k, dirty);
	}
}
void unpin_user_pages(struct page **p, unsigned long n) { unpin_user_pages_dirty_lock(p, n, false); }
void unpin_user_page(struct page *p) { unpin(p, 1, false); }

/* ---- domains ---- */
static int set_dirty_tracking(struct iommu_domain *d, bool on) { return 0; }
/* An entry at a time, as the drivers tell it. */
static int read_and_clear_dirty(struct iommu_domain *d, unsigned long iova, size_t size, unsigned long flags,
				struct iommu_dirty_bitmap *dirty)
{
	u64 next = iova, last = iova + size - 1;
	struct mock_range some[64];
	size_t n, count;

	while (next <= last) {
		next = mock.read_dirty(d, next, last, !(flags & IOMMU_DIRTY_NO_CLEAR), 0, some, ARRAY_SIZE(some), &count);
		for (n = 0; n < count; n++)
			iommu_dirty_bitmap_record(dirty, some[n].first, some[n].last - some[n].first + 1);
	}
	return 0;
}
static const struct iommu_dirty_ops dirty_ops = { .set_dirty_tracking = set_dirty_tracking,
						  .read_and_clear_dirty = read_and_clear_dirty };
static void domain_free(struct iommu_domain *d) { mock_domain_destroy(d); }
static struct iommu_domain_ops domain_ops[2];	/* two, so that there may be a second domain in type1 */
_Static_assert(sizeof(struct iommu_domain) <= MOCK_HEADER_BYTES, "a mock domain has no room for it");
void glue_adopt(struct iommu_domain *d, int variant)
{
	d->type = IOMMU_DOMAIN_UNMANAGED;
	d->ops = &domain_ops[variant];
	d->dirty_ops = &dirty_ops;
	d->pgsize_bitmap = mock_domain_page_sizes(d);
	d->geometry.aperture_end = (1UL << 48) - 1;
	d->geometry.force_aperture = true;
}
static void domain_made(void *d, uint64_t page_sizes) { glue_adopt(d, 0); }
static int map(void *d, unsigned long iova, uint64_t physical, size_t bytes, int rights)
{ return iommu_map(d, iova, physical, bytes, rights, GFP_KERNEL); }
static size_t unmap(void *d, unsigned long iova, size_t bytes) { return iommu_unmap(d, iova, bytes); }

int kus_init_vfio_iommu_type1_init(void);
void glue_init(void)
{
	int v;

	task.group_leader = &task;
	init_rwsem(&mm.mmap_lock);
	for (v = 0; v < 2; v++)	/* the mock's own functions, with nothing between */
		domain_ops[v] = (struct iommu_domain_ops){ .map_pages = (void *)mock.map_pages,
			.unmap_pages = (void *)mock.unmap_pages, .iova_to_phys = (void *)mock.iova_to_phys,
			.iotlb_sync = (void *)mock.iotlb_sync, .free = domain_free };
	mock_domain_made = domain_made;
	mock.map = map;
	mock.unmap = unmap;
}

/* ---- groups, as much as type1's attach_group needs ---- */
static struct linux_group *attaching;
int iommu_group_for_each_dev(struct iommu_group *g, void *data, int (*fn)(struct device *, void *))
{
	attaching = (struct linux_group *)g;
	return fn(NULL, data);
}
struct iommu_domain *iommu_paging_domain_alloc(struct device *dev)
{
	struct iommu_domain *d = mock_domain_create(attaching->large_entries);

	glue_adopt(d, attaching->variant);
	return attaching->domain = d;
}
void iommu_domain_free(struct iommu_domain *d) { domain_free(d); }
int iommu_attach_group(struct iommu_domain *d, struct iommu_group *g) { return 0; }
void iommu_detach_group(struct iommu_domain *d, struct iommu_group *g) { }
int iommu_enable_nesting(struct iommu_domain *d) { return -EINVAL; }
bool iommu_group_has_isolated_msi(struct iommu_group *g) { return true; }
static void reserve_msi(struct list_head *l)	/* x86's window */
{
	struct iommu_resv_region *r = kus_alloc(sizeof(*r), true);

	r->start = 0xfee00000; r->length = 0x100000; r->type = IOMMU_RESV_MSI;
	list_add_tail(&r->list, l);
}
int iommu_get_group_resv_regions(struct iommu_group *g, struct list_head *l) { reserve_msi(l); return 0; }
void iommu_get_resv_regions(struct device *d, struct list_head *l) { reserve_msi(l); }
void iommu_put_resv_regions(struct device *d, struct list_head *l)
{
	struct iommu_resv_region *r, *n;

	list_for_each_entry_safe(r, n, l, list) { list_del(&r->list); kus_free(r); }
}

/* ---- the table of this build ---- */
static uint64_t frame(const void *page) { return page_to_pfn((struct page *)page); }
#define PEER_NAME(type, name, arguments) .name = name,
const struct linux_peer KUS_PEER = { .init = glue_init, PEER_FUNCTIONS(PEER_NAME) .frame = frame,
				     .memory = glue_memory };
