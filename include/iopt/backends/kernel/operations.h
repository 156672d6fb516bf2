// iopt/backends/kernel/operations.h - what a kernel gives the engine: a table of functions, in its own
// terms.
//
// C11 and C++: the kernel's side is a C file that fills in one iopt_kernel_operations and defines
// the functions at the end, which are the same for every table. The policies over it are
// backends/kernel/pinner.hpp, domain.hpp and traits.hpp; who instantiates the engine over them
// needs nothing else at link time but memcpy, memmove, memset and memcmp.
//
// Each function says which of Linux 6.12 it stands for. Errors are the kernel's: a negative errno,
// as an int or a long. Pages are of 2^IOPT_KERNEL_PAGE_SHIFT bytes, and named by their frame number
// (pfn). A pointer that the shim hands on and never follows is a void*: the kernel's side makes it
// whatever it likes. The addresses are of 64 bits: there is no shim for a 32-bit kernel.
//
// Where broken assertions go: a translation unit that has IOPT_ASSERTIONS on says
//   #define IOPT_ASSERT_FAIL iopt_kernel_panic
// after this header and before every other of the library.
//
// Layer: backends. Includes: stddef.h, stdint.h.
// Tested by  tests/backends/kernel/kernel_test.cpp
#pragma once

#include <stddef.h>
#include <stdint.h>

// PAGE_SHIFT and PMD_SHIFT of the kernel that this is built for, the same in all its files.
#ifndef IOPT_KERNEL_PAGE_SHIFT
#define IOPT_KERNEL_PAGE_SHIFT 12
#endif
#ifndef IOPT_KERNEL_HUGE_PAGE_SHIFT
#define IOPT_KERNEL_HUGE_PAGE_SHIFT 21
#endif
// How many words of 64 bits hold a struct mutex, and a struct rw_semaphore. Lockdep makes them
// grow: the kernel's side asserts that they fit.
#ifndef IOPT_KERNEL_MUTEX_WORDS
#define IOPT_KERNEL_MUTEX_WORDS 4
#endif
#ifndef IOPT_KERNEL_RWSEM_WORDS
#define IOPT_KERNEL_RWSEM_WORDS 5
#endif

#ifdef __cplusplus
#define IOPT_KERNEL_NOEXCEPT noexcept
extern "C" {
#else
#define IOPT_KERNEL_NOEXCEPT
#endif

// Whose memory: pages of `mm`, under the limits of `task`, counted against `user`. Who keeps one holds
// a reference to each of the three: mmgrab(), get_task_struct(), get_uid().
struct iopt_kernel_owner {
  void* mm;    // struct mm_struct
  void* task;  // struct task_struct: current->group_leader
  void* user;  // struct user_struct
};

// Against what pages are counted; the numbers are those of iopt::account_mode.
enum iopt_kernel_account {
  IOPT_KERNEL_ACCOUNT_NONE = 0,    // refuses nothing
  IOPT_KERNEL_ACCOUNT_USER = 1,    // user->locked_vm, below RLIMIT_MEMLOCK of the task
  IOPT_KERNEL_ACCOUNT_MM = 2,      // mm->locked_vm, likewise
  IOPT_KERNEL_ACCOUNT_CUSTOM = 3,  // the kernel side's own
  IOPT_KERNEL_ACCOUNT_TYPE1 = 4,   // mm->locked_vm alone, as VFIO type1
  IOPT_KERNEL_ACCOUNT_TYPE1_UNLIMITED = 5
};

// gup_flags. They are not FOLL_WRITE itself, whose number is the kernel's own affair.
#define IOPT_KERNEL_FOLL_WRITE 1u

// prot of iommu_map(): the numbers of linux/iommu.h.
#define IOPT_KERNEL_IOMMU_READ (1 << 0)
#define IOPT_KERNEL_IOMMU_WRITE (1 << 1)
#define IOPT_KERNEL_IOMMU_CACHE (1 << 2)
#define IOPT_KERNEL_IOMMU_MMIO (1 << 4)

// The table. It and all in it outlive what is made of it. Every member is there; they may sleep, and are
// called without a spinlock held, from several threads at once: those of one domain one at a time, but
// for iova_to_phys.
struct iopt_kernel_operations {
  // Passed back to each function that is not about one domain.
  void* context;

  // --- Memory of the library ---

  // kvmalloc(bytes, GFP_KERNEL_ACCOUNT): memory, or NULL. `alignment` is a power of two, at most that
  // of kmalloc() for a size of a power of two.
  void* (*allocate)(void* context, size_t bytes, size_t alignment)IOPT_KERNEL_NOEXCEPT;
  // kvfree(). The numbers are those that it was allocated with.
  void (*free)(void* context, void* memory, size_t bytes, size_t alignment) IOPT_KERNEL_NOEXCEPT;

  // --- Owners ---

  // current's, with a reference to each part: mmgrab(), get_task_struct(), get_uid(). A kernel thread
  // has no mm: then it is NULL, and so are the others.
  void (*owner_current)(void* context, struct iopt_kernel_owner* owner) IOPT_KERNEL_NOEXCEPT;
  // One more reference to each part, or one less. Parts may be NULL.
  void (*owner_get)(void* context, const struct iopt_kernel_owner* owner) IOPT_KERNEL_NOEXCEPT;
  void (*owner_put)(void* context, const struct iopt_kernel_owner* owner) IOPT_KERNEL_NOEXCEPT;
  // Whether mmget_not_zero() takes the mm, which is put back: 1, or 0 where its processes are gone.
  int (*mm_alive)(void* context, const struct iopt_kernel_owner* owner) IOPT_KERNEL_NOEXCEPT;

  // --- Pages ---

  // pin_user_pages_remote() with FOLL_LONGTERM, between mmget_not_zero() and mmput() and under the
  // mmap_lock; page_to_pfn() of each. `start` is a multiple of the page size. Returns how many were
  // pinned, upwards from start; -EFAULT where the first cannot be had or the mm is gone; any errno.
  // 0 is taken for -EFAULT.
  long (*pin_user_pages_remote)(void* context, const struct iopt_kernel_owner* owner,
                                uint64_t start, unsigned long nr_pages, unsigned int gup_flags,
                                uint64_t* pfns) IOPT_KERNEL_NOEXCEPT;
  // unpin_user_page_range_dirty_lock(pfn_to_page(pfn), npages, make_dirty).
  void (*unpin_user_page_range_dirty_lock)(void* context, uint64_t pfn, unsigned long npages,
                                           int make_dirty) IOPT_KERNEL_NOEXCEPT;
  // Counts pages in a mode, and in mm->pinned_vm in every mode but the two of type1. 0; -ENOMEM over
  // the limit; -EINVAL where the account is gone. Without limit where the mode says so.
  int (*account)(void* context, const struct iopt_kernel_owner* owner,
                 enum iopt_kernel_account mode, unsigned long npages) IOPT_KERNEL_NOEXCEPT;
  // Takes them back; an account that is gone is no error.
  void (*unaccount)(void* context, const struct iopt_kernel_owner* owner,
                    enum iopt_kernel_account mode, unsigned long npages) IOPT_KERNEL_NOEXCEPT;

  // --- Copying, for access objects ---

  // access_remote_vm() between mmget_not_zero() and mmput(), with FOLL_WRITE where `write`: how many of
  // the `len` bytes were copied between `buffer` and the owner's memory at `addr`.
  size_t (*access_remote_vm)(void* context, const struct iopt_kernel_owner* owner, uint64_t addr,
                             void* buffer, size_t len, int write) IOPT_KERNEL_NOEXCEPT;
  // memcpy_from_page() and memcpy_to_page(): the bytes lie in one page, which is pinned.
  void (*memcpy_from_page)(void* context, void* to, uint64_t pfn, size_t offset,
                           size_t len) IOPT_KERNEL_NOEXCEPT;
  void (*memcpy_to_page)(void* context, uint64_t pfn, size_t offset, const void* from,
                         size_t len) IOPT_KERNEL_NOEXCEPT;

  // --- Domains ---
  //
  // `domain` is the kernel side's: a struct iommu_domain, and the iommu_iotlb_gather that its unmaps
  // since the last sync are in.

  // domain->pgsize_bitmap, and domain->geometry: the first and the last IOVA. Constant.
  uint64_t (*pgsize_bitmap)(void* domain) IOPT_KERNEL_NOEXCEPT;
  void (*geometry)(void* domain, uint64_t* aperture_start,
                   uint64_t* aperture_end) IOPT_KERNEL_NOEXCEPT;
  // iommu_map(..., GFP_KERNEL_ACCOUNT): 0, or an errno with nothing mapped.
  int (*iommu_map)(void* domain, uint64_t iova, uint64_t paddr, uint64_t size,
                   int prot) IOPT_KERNEL_NOEXCEPT;
  // iommu_unmap_fast() into the domain's gather: how many bytes were unmapped.
  uint64_t (*iommu_unmap_fast)(void* domain, uint64_t iova, uint64_t size) IOPT_KERNEL_NOEXCEPT;
  // iommu_iotlb_sync() of the domain's gather, which is then empty.
  void (*iommu_iotlb_sync)(void* domain) IOPT_KERNEL_NOEXCEPT;
  // iommu_iova_to_phys(): 0 where nothing is mapped, as the kernel has it.
  uint64_t (*iova_to_phys)(void* domain, uint64_t iova) IOPT_KERNEL_NOEXCEPT;
  // domain->ops->enforce_cache_coherency(): 1, or 0 where it is not there or says no.
  int (*enforce_cache_coherency)(void* domain) IOPT_KERNEL_NOEXCEPT;
};

// --- The same for every table ---
//
// The engine makes its locks where they lie, without a table at hand. A kernel has one kind of each:
// these are found by the linker.

struct iopt_kernel_mutex {
  uint64_t words[IOPT_KERNEL_MUTEX_WORDS];
};
struct iopt_kernel_rwsem {
  uint64_t words[IOPT_KERNEL_RWSEM_WORDS];
};

// mutex_init(), mutex_destroy(), mutex_lock(), mutex_unlock().
void iopt_kernel_mutex_init(struct iopt_kernel_mutex* mutex) IOPT_KERNEL_NOEXCEPT;
void iopt_kernel_mutex_destroy(struct iopt_kernel_mutex* mutex) IOPT_KERNEL_NOEXCEPT;
void iopt_kernel_mutex_lock(struct iopt_kernel_mutex* mutex) IOPT_KERNEL_NOEXCEPT;
void iopt_kernel_mutex_unlock(struct iopt_kernel_mutex* mutex) IOPT_KERNEL_NOEXCEPT;

// init_rwsem(), nothing, down_write(), up_write(), down_read(), up_read().
void iopt_kernel_rwsem_init(struct iopt_kernel_rwsem* rwsem) IOPT_KERNEL_NOEXCEPT;
void iopt_kernel_rwsem_destroy(struct iopt_kernel_rwsem* rwsem) IOPT_KERNEL_NOEXCEPT;
void iopt_kernel_down_write(struct iopt_kernel_rwsem* rwsem) IOPT_KERNEL_NOEXCEPT;
void iopt_kernel_up_write(struct iopt_kernel_rwsem* rwsem) IOPT_KERNEL_NOEXCEPT;
void iopt_kernel_down_read(struct iopt_kernel_rwsem* rwsem) IOPT_KERNEL_NOEXCEPT;
void iopt_kernel_up_read(struct iopt_kernel_rwsem* rwsem) IOPT_KERNEL_NOEXCEPT;

// Lets other threads run, and comes back in a while: cond_resched(), or schedule_timeout() of a jiffy.
void iopt_kernel_yield(void) IOPT_KERNEL_NOEXCEPT;

// panic(), after a line that says which assertion. Does not return.
#ifdef __cplusplus
[[noreturn]]
#endif
void iopt_kernel_panic(const char* text, const char* file, int line) IOPT_KERNEL_NOEXCEPT;

#ifdef __cplusplus
}  // extern "C"
#endif
