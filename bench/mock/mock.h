// bench/mock/mock.h - the domain and the memory that every contender of a bench works on.
//
// Our engine and Linux's code call the same functions, through one table of pointers, so that what
// they are compared by is what they do themselves. Plain C, since Linux's side includes it too.
//
// The domain   a radix table of four levels, 9 bits a level, entries of 4 KiB and, where it is made
//              so, 2 MiB and 1 GiB. map_pages() fills the entries of one table a walk; unmap_pages()
//              clears them, and frees a table whose whole span goes, as VT-d does.
//              Left out for all: cache and IOTLB flushes, locked instructions on entries.
// The memory   64 GiB of user addresses from MOCK_ADDRESS on, whose frames are in a table that has a
//              layout: contiguous; blocks of 2 MiB, permuted; every page permuted.
//              Left out for all: the walk of page tables, references to folios. Pins are counted.
#ifndef IOPT_BENCH_MOCK_H
#define IOPT_BENCH_MOCK_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
#include "iopt/base/run.hpp"
using mock_run = iopt::run;
using mock_run_list = iopt::run_list;
extern "C" {
#else
typedef struct mock_run mock_run; /* C's side has no runs */
typedef struct mock_run_list mock_run_list;
#endif

enum mock_layout { MOCK_CONTIGUOUS, MOCK_BLOCKS, MOCK_SCATTERED, MOCK_LAYOUTS };
#define MOCK_ADDRESS 0x200000000000ul
#define MOCK_PAGES (1ul << 24)
#define MOCK_FIRST_FRAME (1ul << 20)

struct mock_range {
  uint64_t first, last;
};

struct mock_operations {
  // --- A domain, as a driver of Linux has it: iommu_domain_ops, but for the types of pointers ---
  int (*map_pages)(void* domain, unsigned long iova, uint64_t physical, size_t page_bytes,
                   size_t count, int rights, unsigned gfp, size_t* mapped);
  size_t (*unmap_pages)(void* domain, unsigned long iova, size_t page_bytes, size_t count,
                        void* gather);
  uint64_t (*iova_to_phys)(void* domain, uint64_t iova);
  void (*iotlb_sync)(void* domain, void* gather);
  // Dirty entries of [first, last], joined where they touch or one by one, as many as fit. Returns
  // where to go on; past `last` is the end.
  uint64_t (*read_dirty)(void* domain, uint64_t first, uint64_t last, int clear, int joined,
                         struct mock_range* out, size_t capacity, size_t* count);

  // --- One run: Linux's iommu_map() and iommu_unmap() where its source is at hand, else the same by us ---
  int (*map)(void* domain, unsigned long iova, uint64_t physical, size_t bytes, int rights);
  size_t (*unmap)(void* domain, unsigned long iova, size_t bytes);

  // --- What a refined domain has ---
  int (*map_runs)(void* domain, uint64_t iova, const mock_run* runs, size_t count, int rights);
  uint64_t (*unmap_runs)(void* domain, uint64_t first, uint64_t last, mock_run_list* out);
  uint64_t (*translate_range)(void* domain, uint64_t first, uint64_t last, mock_run_list* out);
  int (*split)(void* domain, uint64_t first, uint64_t last);
  // Asks for the memory of the entry of 4 KiB at `iova`, if there is a table for it.
  void (*prefetch)(void* domain, uint64_t iova);

  // --- Memory ---
  // pin_user_pages_fast(): out[n] = base + (frame << shift), which is a struct page * or an address.
  size_t (*pin_pages)(unsigned long address, size_t pages, uint64_t* out, uint64_t base,
                      unsigned shift);
  // The same by extents, of which each layout keeps a list; until `pages` are pinned or `out` is full.
  size_t (*pin_runs)(unsigned long address, size_t pages, mock_run_list* out);
  void (*unpin)(uint64_t frame, size_t pages, int dirty);
  void (*unpin_runs)(const mock_run* runs, size_t count, int dirty);
};
extern struct mock_operations mock;

// --- Not for contenders ---

// Once, before anything else; then the layout, as often as wanted.
void mock_init(void);
void mock_set_layout(enum mock_layout layout);
uint64_t mock_physical(unsigned long address);
// How many pages are pinned.
long mock_pinned(void);

// A domain points at MOCK_HEADER_BYTES, zeroed, for the struct iommu_domain of Linux's side, which
// `mock_domain_made` tells of it.
#define MOCK_HEADER_BYTES 448
void* mock_domain_create(int large_entries);
void mock_domain_destroy(void* domain);
extern void (*mock_domain_made)(void* domain, uint64_t page_sizes);
uint64_t mock_domain_page_sizes(const void* domain);
// Makes every table of 4 KiB entries for a range, as a table that has been used has them.
void mock_domain_prefill(void* domain, uint64_t iova, uint64_t bytes);
// How many entries it has. Slow.
uint64_t mock_domain_entries(const void* domain);
void mock_domain_set_dirty(void* domain, uint64_t iova);

#ifdef __cplusplus
}  // extern "C"
#endif
#endif
