// tests/backends/kernel/operations.c - the table of a kernel's functions, filled in by a C file.
#include "iopt/backends/kernel/operations.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/backends/kernel/machine.h"

enum { PAGE = 1 << IOPT_KERNEL_PAGE_SHIFT };

static pthread_mutex_t everything = PTHREAD_MUTEX_INITIALIZER;
static void enter(void) { pthread_mutex_lock(&everything); }
static void leave(void) { pthread_mutex_unlock(&everything); }

// Whether this fallible call is the one to fail.
static int fails(struct machine* m) {
  if (m->fail_in < 0) return m->fail_in == MACHINE_FAIL_ALWAYS;
  return m->fail_in-- == 0;
}

// --- Memory of the library ---

struct block {
  size_t bytes, alignment;
};

static size_t before(size_t alignment) {
  return alignment > sizeof(struct block) ? alignment : sizeof(struct block);
}

static void* allocate(void* context, size_t bytes, size_t alignment) {
  struct machine* m = context;
  const size_t front = before(alignment);
  enter();
  const int failed = fails(m);
  if (!failed) ++m->blocks;
  leave();
  if (failed) return NULL;
  unsigned char* all = aligned_alloc(front, (front + bytes + front - 1) / front * front);
  if (all == NULL) abort();
  const struct block b = {bytes, alignment};
  memcpy(all + front - sizeof b, &b, sizeof b);
  return all + front;
}

static void release(void* context, void* memory, size_t bytes, size_t alignment) {
  struct machine* m = context;
  const size_t front = before(alignment);
  struct block b;
  memcpy(&b, (unsigned char*)memory - sizeof b, sizeof b);
  enter();
  --m->blocks;
  if (b.bytes != bytes || b.alignment != alignment) ++m->faults;
  leave();
  free((unsigned char*)memory - front);
}

// --- Owners ---

static void add_references(struct machine* m, const struct iopt_kernel_owner* owner, int more) {
  struct machine_mm* mm = owner->mm;
  enter();
  if (mm != NULL && (mm->references += more) < 0) ++m->faults;
  if (owner->task != NULL && (m->task_references += more) < 0) ++m->faults;
  if (owner->user != NULL && (m->user_references += more) < 0) ++m->faults;
  leave();
}
static void owner_get(void* context, const struct iopt_kernel_owner* owner) {
  add_references(context, owner, 1);
}
static void owner_put(void* context, const struct iopt_kernel_owner* owner) {
  add_references(context, owner, -1);
}
static void owner_current(void* context, struct iopt_kernel_owner* owner) {
  struct machine* m = context;
  owner->mm = &m->mm[0];
  owner->task = &m->task_references;
  owner->user = &m->user_references;
  add_references(m, owner, 1);
}
static int alive(const struct iopt_kernel_owner* owner) {
  const struct machine_mm* mm = owner->mm;
  return mm != NULL && mm->alive;
}
static int mm_alive(void* context, const struct iopt_kernel_owner* owner) {
  (void)context;
  enter();
  const int yes = alive(owner);
  leave();
  return yes;
}

// --- Pages ---

// The frame of a page of user memory, counted from MACHINE_FIRST_PFN.
static uint64_t frame_of(uint64_t page) {
  return (page / 4 * 37 % (MACHINE_PAGES / 4)) * 4 + page % 4;
}

// The number of the page at an address; MACHINE_PAGES or more: nothing is there.
static uint64_t page_at(uint64_t address) {
  const uint64_t page =
      address < MACHINE_MEMORY ? MACHINE_PAGES : (address - MACHINE_MEMORY) / PAGE;
  return page == MACHINE_HOLE ? MACHINE_PAGES : page;
}

static long pin_user_pages_remote(void* context, const struct iopt_kernel_owner* owner,
                                  uint64_t start, unsigned long nr_pages, unsigned int gup_flags,
                                  uint64_t* pfns) {
  struct machine* m = context;
  const int write = (gup_flags & IOPT_KERNEL_FOLL_WRITE) != 0;
  long done = 0;
  enter();
  ++m->pin_calls;
  if (start % PAGE != 0 || nr_pages == 0) ++m->faults;
  if (m->pin_answer != 1) {
    done = m->pin_answer;
    m->pin_answer = 1;
  } else if (fails(m)) {
    done = -ENOMEM;
  } else if (alive(owner)) {
    while ((unsigned long)done < nr_pages) {
      const uint64_t page = page_at(start + (uint64_t)done * PAGE);
      if (page >= MACHINE_PAGES || (write && page == MACHINE_READ_ONLY)) break;
      ++m->pins[frame_of(page)];
      pfns[done++] = MACHINE_FIRST_PFN + frame_of(page);
    }
    if (done == 0) done = -EFAULT;
  } else {
    done = -EFAULT;
  }
  leave();
  return done;
}

struct mapping {
  uint64_t iova, paddr, size;
  int prot;
  struct mapping* next;
};
struct machine_domain {
  struct machine* machine;
  struct mapping *live, *stale;  // stale: unmapped since the last sync
  struct machine_domain* next;
};

static int reaches(const struct mapping* list, uint64_t paddr) {
  for (; list != NULL; list = list->next)
    if (paddr + (PAGE - 1) >= list->paddr && paddr <= list->paddr + (list->size - 1)) return 1;
  return 0;
}
static int device_reaches(const struct machine* m, uint64_t frame) {
  const uint64_t paddr = (MACHINE_FIRST_PFN + frame) * PAGE;
  for (const struct machine_domain* d = m->domains; d != NULL; d = d->next)
    if (reaches(d->live, paddr) || reaches(d->stale, paddr)) return 1;
  return 0;
}

static void unpin_user_page_range_dirty_lock(void* context, uint64_t pfn, unsigned long npages,
                                             int make_dirty) {
  struct machine* m = context;
  enter();
  for (uint64_t frame = pfn - MACHINE_FIRST_PFN; npages != 0; ++frame, --npages) {
    if (frame >= MACHINE_PAGES || m->pins[frame] == 0) {
      ++m->faults;
      continue;
    }
    if (--m->pins[frame] == 0 && device_reaches(m, frame)) ++m->faults;
    if (make_dirty) m->dirtied[frame] = 1;
  }
  leave();
}

static int account(void* context, const struct iopt_kernel_owner* owner,
                   enum iopt_kernel_account mode, unsigned long npages) {
  struct machine* m = context;
  int answer = 0;
  enter();
  if (mode == IOPT_KERNEL_ACCOUNT_MM && !alive(owner))
    answer = -EINVAL;
  else if (m->limit[mode] >= 0 && m->counted[mode] + (long)npages > m->limit[mode])
    answer = -ENOMEM;
  else if (mode != IOPT_KERNEL_ACCOUNT_NONE && mode != IOPT_KERNEL_ACCOUNT_TYPE1_UNLIMITED &&
           fails(m))
    answer = -ENOMEM;
  else
    m->counted[mode] += (long)npages;
  leave();
  return answer;
}
static void unaccount(void* context, const struct iopt_kernel_owner* owner,
                      enum iopt_kernel_account mode, unsigned long npages) {
  struct machine* m = context;
  (void)owner;
  enter();
  if ((m->counted[mode] -= (long)npages) < 0) ++m->faults;
  leave();
}

// --- Copying ---

static size_t access_remote_vm(void* context, const struct iopt_kernel_owner* owner, uint64_t addr,
                               void* buffer, size_t len, int write) {
  struct machine* m = context;
  size_t done = 0;
  enter();
  while (done < len && alive(owner)) {
    const uint64_t page = page_at(addr + done);
    const size_t offset = (size_t)((addr + done) % PAGE);
    const size_t part = len - done < PAGE - offset ? len - done : PAGE - offset;
    if (page >= MACHINE_PAGES || (write && page == MACHINE_READ_ONLY)) break;
    unsigned char* at = m->bytes + frame_of(page) * PAGE + offset;
    if (write)
      memcpy(at, (unsigned char*)buffer + done, part);
    else
      memcpy((unsigned char*)buffer + done, at, part);
    done += part;
  }
  leave();
  return done;
}

static unsigned char* pinned_bytes(struct machine* m, uint64_t pfn, size_t offset, size_t len) {
  const uint64_t frame = pfn - MACHINE_FIRST_PFN;
  if (frame < MACHINE_PAGES && m->pins[frame] > 0 && offset + len <= PAGE)
    return m->bytes + frame * PAGE + offset;
  ++m->faults;
  return NULL;
}
static void memcpy_from_page(void* context, void* to, uint64_t pfn, size_t offset, size_t len) {
  enter();
  const unsigned char* at = pinned_bytes(context, pfn, offset, len);
  if (at != NULL) memcpy(to, at, len);
  leave();
}
static void memcpy_to_page(void* context, uint64_t pfn, size_t offset, const void* from,
                           size_t len) {
  enter();
  unsigned char* at = pinned_bytes(context, pfn, offset, len);
  if (at != NULL) memcpy(at, from, len);
  leave();
}

// --- Domains ---

static uint64_t pgsize_bitmap(void* domain) {
  (void)domain;
  return (uint64_t)PAGE | 1u << 21 | 1u << 30;
}
static void geometry(void* domain, uint64_t* aperture_start, uint64_t* aperture_end) {
  (void)domain;
  *aperture_start = 0;
  *aperture_end = ~(uint64_t)0;
}

static const struct mapping* mapping_at(const struct machine_domain* d, uint64_t iova) {
  const struct mapping* at = d->live;
  while (at != NULL && (iova < at->iova || iova - at->iova >= at->size)) at = at->next;
  return at;
}

static int iommu_map(void* domain, uint64_t iova, uint64_t paddr, uint64_t size, int prot) {
  struct machine_domain* d = domain;
  struct machine* m = d->machine;
  enter();
  ++m->maps;
  if (((iova | paddr | size) & (PAGE - 1)) != 0 || size == 0 || size - 1 > ~iova) ++m->faults;
  for (const struct mapping* at = d->live; at != NULL; at = at->next)
    if (at->iova <= iova + (size - 1) && iova <= at->iova + (at->size - 1)) ++m->faults;
  for (uint64_t done = 0; done < size && paddr / PAGE < MACHINE_FIRST_PFN + MACHINE_PAGES;
       done += PAGE) {
    const uint64_t frame = (paddr + done) / PAGE - MACHINE_FIRST_PFN;
    if (frame < MACHINE_PAGES && m->pins[frame] == 0) ++m->faults;
  }
  const int failed = fails(m);
  if (!failed) {
    struct mapping* fresh = malloc(sizeof *fresh);
    if (fresh == NULL) abort();
    *fresh = (struct mapping){iova, paddr, size, prot, d->live};
    d->live = fresh;
  }
  leave();
  return failed ? -ENOMEM : 0;
}

static uint64_t iommu_unmap_fast(void* domain, uint64_t iova, uint64_t size) {
  struct machine_domain* d = domain;
  uint64_t done = 0;
  enter();
  ++d->machine->unmaps;
  while (done < size) {
    struct mapping** link = &d->live;
    while (*link != NULL && (*link)->iova != iova + done) link = &(*link)->next;
    struct mapping* gone = *link;
    if (gone == NULL || gone->size > size - done) {
      ++d->machine->faults;
      break;
    }
    *link = gone->next;
    gone->next = d->stale;
    d->stale = gone;
    done += gone->size;
  }
  leave();
  return done;
}

static void drop(struct mapping** list) {
  while (*list != NULL) {
    struct mapping* gone = *list;
    *list = gone->next;
    free(gone);
  }
}
static void iommu_iotlb_sync(void* domain) {
  struct machine_domain* d = domain;
  enter();
  ++d->machine->syncs;
  drop(&d->stale);
  leave();
}
static uint64_t iova_to_phys(void* domain, uint64_t iova) {
  enter();
  const struct mapping* at = mapping_at(domain, iova);
  const uint64_t paddr = at == NULL ? 0 : at->paddr + (iova - at->iova);
  leave();
  return paddr;
}
static int enforce_cache_coherency(void* domain) {
  (void)domain;
  return 1;
}

// --- The machine ---

struct machine* machine_create(void) {
  struct machine* m = calloc(1, sizeof *m);
  if (m == NULL || (m->bytes = calloc(MACHINE_PAGES, PAGE)) == NULL) abort();
  m->mm[0].alive = 1;
  m->fail_in = -1;
  m->pin_answer = 1;
  for (int mode = 0; mode < MACHINE_MODES; ++mode) m->limit[mode] = -1;
  m->operations = (struct iopt_kernel_operations){
      .context = m,
      .allocate = allocate,
      .free = release,
      .owner_current = owner_current,
      .owner_get = owner_get,
      .owner_put = owner_put,
      .mm_alive = mm_alive,
      .pin_user_pages_remote = pin_user_pages_remote,
      .unpin_user_page_range_dirty_lock = unpin_user_page_range_dirty_lock,
      .account = account,
      .unaccount = unaccount,
      .access_remote_vm = access_remote_vm,
      .memcpy_from_page = memcpy_from_page,
      .memcpy_to_page = memcpy_to_page,
      .pgsize_bitmap = pgsize_bitmap,
      .geometry = geometry,
      .iommu_map = iommu_map,
      .iommu_unmap_fast = iommu_unmap_fast,
      .iommu_iotlb_sync = iommu_iotlb_sync,
      .iova_to_phys = iova_to_phys,
      .enforce_cache_coherency = enforce_cache_coherency,
  };
  return m;
}
void machine_destroy(struct machine* m) {
  while (m->domains != NULL) {
    struct machine_domain* gone = m->domains;
    m->domains = gone->next;
    drop(&gone->live);
    drop(&gone->stale);
    free(gone);
  }
  free(m->bytes);
  free(m);
}
long machine_pins(const struct machine* m) {
  long sum = 0;
  for (int frame = 0; frame < MACHINE_PAGES; ++frame) sum += m->pins[frame];
  return sum;
}

void* machine_domain_create(struct machine* m) {
  struct machine_domain* d = calloc(1, sizeof *d);
  if (d == NULL) abort();
  d->machine = m;
  d->next = m->domains;
  m->domains = d;
  return d;
}
long machine_domain_mappings(const void* domain) {
  const struct machine_domain* d = domain;
  long count = 0;
  for (const struct mapping* at = d->live; at != NULL; at = at->next) ++count;
  return count;
}
int machine_domain_prot(const void* domain, uint64_t iova) {
  const struct mapping* at = mapping_at(domain, iova);
  return at == NULL ? -1 : at->prot;
}

// --- Locks: a word of each, spun on. 0: free; -1: held; else by so many readers. ---

static atomic_long locks, lock_faults;
long machine_locks(void) { return locks; }
long machine_lock_faults(void) { return lock_faults; }

static _Atomic int64_t* word(uint64_t* words) { return (_Atomic int64_t*)words; }

static void take(uint64_t* words) {
  int64_t was = 0;
  while (!atomic_compare_exchange_weak(word(words), &was, -1)) {
    was = 0;
    sched_yield();
  }
}
static void let_go(uint64_t* words) {
  if (atomic_exchange(word(words), 0) != -1) ++lock_faults;
}
static void make(uint64_t* words) {
  atomic_init(word(words), 0);
  ++locks;
}
static void unmake(uint64_t* words) {
  if (*word(words) != 0) ++lock_faults;
  --locks;
}

void iopt_kernel_mutex_init(struct iopt_kernel_mutex* mutex) { make(mutex->words); }
void iopt_kernel_mutex_destroy(struct iopt_kernel_mutex* mutex) { unmake(mutex->words); }
void iopt_kernel_mutex_lock(struct iopt_kernel_mutex* mutex) { take(mutex->words); }
void iopt_kernel_mutex_unlock(struct iopt_kernel_mutex* mutex) { let_go(mutex->words); }

void iopt_kernel_rwsem_init(struct iopt_kernel_rwsem* rwsem) { make(rwsem->words); }
void iopt_kernel_rwsem_destroy(struct iopt_kernel_rwsem* rwsem) { unmake(rwsem->words); }
void iopt_kernel_down_write(struct iopt_kernel_rwsem* rwsem) { take(rwsem->words); }
void iopt_kernel_up_write(struct iopt_kernel_rwsem* rwsem) { let_go(rwsem->words); }
void iopt_kernel_down_read(struct iopt_kernel_rwsem* rwsem) {
  int64_t was = *word(rwsem->words);
  while (was < 0 || !atomic_compare_exchange_weak(word(rwsem->words), &was, was + 1)) {
    if (was < 0) sched_yield();
    was = *word(rwsem->words);
  }
}
void iopt_kernel_up_read(struct iopt_kernel_rwsem* rwsem) {
  if (atomic_fetch_sub(word(rwsem->words), 1) <= 0) ++lock_faults;
}

void iopt_kernel_yield(void) { sched_yield(); }

void iopt_kernel_panic(const char* text, const char* file, int line) {
  fprintf(stderr, "%s:%d: broken: %s\n", file, line, text);
  abort();
}
