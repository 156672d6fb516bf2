// SPDX-License-Identifier: GPL-2.0-only
// bench/linux/type1.c - Linux's vfio_iommu_type1.c, as it is, and the calls that benches make of it.
#include KUS_TYPE1_C
#include "glue.h"

int vfio_register_iommu_driver(const struct vfio_iommu_driver_ops *ops) { return 0; }
void vfio_unregister_iommu_driver(const struct vfio_iommu_driver_ops *ops) { }
struct vfio_info_cap_header *vfio_info_cap_add(struct vfio_info_cap *c, size_t s, u16 i, u16 v)
{ return ERR_PTR(-ENOMEM); }
int vfio_info_add_capability(struct vfio_info_cap *c, struct vfio_info_cap_header *h, size_t s) { return -ENOMEM; }
void vfio_info_cap_shift(struct vfio_info_cap *c, size_t o) { }

#define OPS (&vfio_iommu_driver_ops_type1)
static void unmap_of_pinned(struct vfio_device *device, u64 iova, u64 bytes) { abort(); }
static const struct vfio_device_ops device_ops = { .dma_unmap = unmap_of_pinned };
static struct vfio_device device = { .ops = &device_ops };

void *type1_create(void) { return OPS->open(VFIO_TYPE1v2_IOMMU); }
void type1_destroy(void *container) { OPS->release(container); }
int type1_attach(void *container, struct linux_group *group)
{
	return OPS->attach_group(container, (struct iommu_group *)group, VFIO_IOMMU);
}
/* With a device that may pin. */
int type1_attach_emulated(void *container, struct linux_group *group)
{
	int rc = OPS->attach_group(container, (struct iommu_group *)group, VFIO_EMULATED_IOMMU);
	struct vfio_device *d = calloc(1, sizeof(*d));

	*d = device;
	OPS->register_device(container, d);
	return rc;
}
void type1_detach(void *container, struct linux_group *group)
{
	OPS->detach_group(container, (struct iommu_group *)group);
}
int type1_map(void *container, unsigned long iova, unsigned long address, unsigned long bytes)
{
	struct vfio_iommu_type1_dma_map m = { .argsz = sizeof(m),
		.flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE, .vaddr = address, .iova = iova, .size = bytes };

	return OPS->ioctl(container, VFIO_IOMMU_MAP_DMA, (unsigned long)&m);
}
int type1_unmap(void *container, unsigned long iova, unsigned long bytes, unsigned long *unmapped)
{
	struct vfio_iommu_type1_dma_unmap m = { .argsz = sizeof(m), .iova = iova, .size = bytes };
	int rc = OPS->ioctl(container, VFIO_IOMMU_UNMAP_DMA, (unsigned long)&m);

	*unmapped = m.size;
	return rc;
}
void type1_entry_limit(unsigned int entries) { dma_entry_limit = entries; }
int type1_pin(void *container, struct linux_group *group, unsigned long iova, int pages, void **to)
{
	int rc = OPS->pin_pages(container, (struct iommu_group *)group, iova, pages, IOMMU_READ | IOMMU_WRITE,
				(struct page **)to);

	return rc == pages ? 0 : rc < 0 ? rc : -EFAULT;
}
void type1_unpin(void *container, unsigned long iova, int pages) { OPS->unpin_pages(container, iova, pages); }
int type1_read(void *container, unsigned long iova, void *to, unsigned long bytes)
{
	return OPS->dma_rw(container, iova, to, bytes, false);
}
