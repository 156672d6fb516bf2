// tests/backends/kernel/machine.h - a kernel's side of the table, over imaginary memory: C.
//
// It counts what it is asked for and reports what a kernel would not survive as faults: a page
// unpinned once too often or while a domain may still reach it, an unmap that cuts a mapping, memory
// freed by other numbers, a reference dropped twice, a lock that was not held.
#pragma once

#include "iopt/backends/kernel/operations.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
  MACHINE_PAGES = 256,      // of user memory; every four neighbours are contiguous, no more
  MACHINE_HOLE = 190,       // the page that is not there
  MACHINE_READ_ONLY = 255,  // the page that cannot be written
  MACHINE_FIRST_PFN = 0x4000,
  MACHINE_MODES = 6,
  MACHINE_FAIL_ALWAYS = -2
};
#define MACHINE_MEMORY ((uint64_t)0x10000000)

struct machine_mm {
  long references;
  int alive;
};

struct machine_domain;

struct machine {
  struct iopt_kernel_operations operations;  // whose context this machine is
  struct machine_mm mm[2];                   // of which current has the first
  long task_references, user_references;
  long counted[MACHINE_MODES];  // pages, by mode
  long limit[MACHINE_MODES];    // -1: none
  long pins[MACHINE_PAGES];     // by frame
  unsigned char dirtied[MACHINE_PAGES];
  unsigned char* bytes;  // of the frames
  long blocks;           // allocated and not freed
  long maps, unmaps, syncs, pin_calls;
  long fail_in;     // the fallible call after so many others fails; -1: none
  long pin_answer;  // what pin_user_pages_remote() says the next time; 1: what is true
  long faults;
  struct machine_domain* domains;
};

struct machine* machine_create(void);
void machine_destroy(struct machine* m);
long machine_pins(const struct machine* m);

// The domains of a machine go with it.
void* machine_domain_create(struct machine* m);
long machine_domain_mappings(const void* domain);
// The prot of what is mapped at an IOVA; -1: nothing.
int machine_domain_prot(const void* domain, uint64_t iova);

// Locks there are, of all machines, and faults with them.
long machine_locks(void);
long machine_lock_faults(void);

#ifdef __cplusplus
}  // extern "C"
#endif
