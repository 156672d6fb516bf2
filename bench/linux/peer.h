// SPDX-License-Identifier: GPL-2.0-only
// bench/linux/peer.h - Linux's iommufd and VFIO type1 as contenders: plain C, no kernel headers.
//
// Each build of the kernel's code is one object whose only symbol is its table of functions.
// Functions that return int answer 0 or a negative errno.
#ifndef IOPT_BENCH_LINUX_PEER_H
#define IOPT_BENCH_LINUX_PEER_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What type1 knows a device by; it holds the domain that type1 then makes. `variant` 0 and 1 have
 * operations of their own, so that type1 makes a second domain for the second. */
struct linux_group {
  int large_entries, variant;
  void* domain;
};

struct linux_peer {
  void (*init)(void);

  /* iommufd: a table, the domains of mock/mock.h, accesses. */
  void* (*iommufd_create)(int disable_large_pages);
  void (*iommufd_destroy)(void* table);
  int (*iommufd_attach)(void* table, void* domain);
  void (*iommufd_detach)(void* table, void* domain);
  int (*iommufd_map)(void* table, unsigned long iova, unsigned long address, unsigned long bytes);
  int (*iommufd_unmap)(void* table, unsigned long iova, unsigned long bytes,
                       unsigned long* unmapped);
  int (*iommufd_unmap_all)(void* table);
  int (*iommufd_cut)(void* table, unsigned long* lasts, unsigned long count);
  int (*iommufd_choose_iova)(void* table, unsigned long* iova, unsigned long address,
                             unsigned long bytes);
  void* (*iommufd_user_create)(void* table);
  void (*iommufd_user_destroy)(void* access);
  int (*iommufd_pin)(void* access, unsigned long iova, unsigned long bytes, void** pages);
  void (*iommufd_unpin)(void* access, unsigned long iova, unsigned long bytes);
  int (*iommufd_read)(void* access, unsigned long iova, void* to, unsigned long bytes);
  int (*iommufd_track_dirty)(void* table, void* domain);
  int (*iommufd_read_dirty)(void* table, void* domain, unsigned long iova, unsigned long bytes,
                            void* bitmap);

  /* VFIO type1, version 2, through its table of operations and its ioctl. */
  void* (*type1_create)(void);
  void (*type1_destroy)(void* container);
  int (*type1_attach)(void* container, struct linux_group* group);
  int (*type1_attach_emulated)(void* container, struct linux_group* group);
  void (*type1_detach)(void* container, struct linux_group* group);
  int (*type1_map)(void* container, unsigned long iova, unsigned long address, unsigned long bytes);
  int (*type1_unmap)(void* container, unsigned long iova, unsigned long bytes,
                     unsigned long* unmapped);
  void (*type1_entry_limit)(unsigned int entries);
  int (*type1_pin)(void* container, struct linux_group* group, unsigned long iova, int pages,
                   void** to);
  void (*type1_unpin)(void* container, unsigned long iova, int pages);
  int (*type1_read)(void* container, unsigned long iova, void* to, unsigned long bytes);

  /* The frame of a page that was pinned. */
  uint64_t (*frame)(const void* page);
  /* What kmalloc holds, as asked for and in the kernel's size classes; the counted build only. */
  void (*memory)(long* asked, long* taken);
};

extern const struct linux_peer linux_locked;   /* the fast paths of the kernel's locks */
extern const struct linux_peer linux_unlocked; /* no locks at all; other atomics as they are */
extern const struct linux_peer linux_counted;  /* locked, and its memory is counted */

#ifdef __cplusplus
} /* extern "C" */
#endif
#endif
