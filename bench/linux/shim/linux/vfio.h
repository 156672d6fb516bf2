// SPDX-License-Identifier: GPL-2.0-only
/* the two structs of the real linux/vfio.h that vfio_iommu_type1.c looks into */
#ifndef KSHIM_VFIO_H
#define KSHIM_VFIO_H
#include <linux/iommu.h>
#include <linux/list.h>
#include <uapi/linux/vfio.h>
struct vfio_device;
struct vfio_device_ops { void (*dma_unmap)(struct vfio_device *vdev, u64 iova, u64 length); };
struct vfio_device { const struct vfio_device_ops *ops; struct list_head iommu_entry;
		     struct device device; struct cdev cdev; };
struct vfio_info_cap { struct vfio_info_cap_header *buf; size_t size; };
struct vfio_info_cap_header *vfio_info_cap_add(struct vfio_info_cap *caps, size_t size, u16 id, u16 version);
int vfio_info_add_capability(struct vfio_info_cap *caps, struct vfio_info_cap_header *cap, size_t size);
void vfio_info_cap_shift(struct vfio_info_cap *caps, size_t offset);
#endif
