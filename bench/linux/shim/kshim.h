// SPDX-License-Identifier: GPL-2.0-only
/*
 * kshim.h - stands in for the kernel headers that iommufd and VFIO type1 include. Included before
 * every kernel file (-include). Written from the kernel's API; no kernel code is in it.
 *
 * Left out: contention and sleep (locks have the fast path only, and abort where they would wait),
 * preemption counts, RCU (no grace periods: call_rcu runs at once), memory cgroups, checks of user
 * copies (memcpy), struct page (never dereferenced), retpolines and stack protector, the slab (malloc).
 */
#ifndef KSHIM_H
#define KSHIM_H
#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <stdio.h>

#include "generated/autoconf.h"
/* names that libc already defined and the kernel headers define again */
#undef UINTPTR_MAX
#undef SIZE_MAX
#undef static_assert
#undef __attribute_const__
/* ---- types ---- */
typedef uint8_t u8; typedef uint16_t u16; typedef uint32_t u32;
typedef unsigned long long u64;
typedef int8_t s8; typedef int16_t s16; typedef int32_t s32; typedef long long s64;
typedef uint8_t __u8; typedef uint16_t __u16; typedef uint32_t __u32;
typedef unsigned long long __u64;
typedef int8_t __s8; typedef int16_t __s16; typedef int32_t __s32; typedef long long __s64;
typedef u16 __le16, __be16; typedef u32 __le32, __be32; typedef u64 __le64, __be64;
#define __aligned_u64 __u64 __attribute__((aligned(8)))
typedef unsigned int gfp_t; typedef unsigned int fmode_t;
typedef u64 phys_addr_t; typedef u64 dma_addr_t; typedef unsigned int ioasid_t;
typedef phys_addr_t resource_size_t;
typedef unsigned long pgoff_t;
typedef struct { int counter; } atomic_t;
typedef struct { s64 counter; } atomic64_t;
typedef struct { long counter; } atomic_long_t;
struct list_head { struct list_head *next, *prev; };
struct hlist_node { struct hlist_node *next, **pprev; };
struct hlist_head { struct hlist_node *first; };
struct rcu_head { struct rcu_head *next; void (*func)(struct rcu_head *); };
#define callback_head rcu_head
struct module;
#define THIS_MODULE ((struct module *)0)

/* ---- compiler ---- */
#define __user
#define __rcu
#define __force
#define __must_check
#define __iomem
#define __init
#define __exit
#define __read_mostly
#define __bitwise
#define ___PASTE(a, b) a##b
#define __PASTE(a, b) ___PASTE(a, b)
#define __UNIQUE_ID(p) __PASTE(__PASTE(__UNIQUE_ID_, p), __COUNTER__)
#define __private
#define __nocast
#define __percpu
#define __weak __attribute__((weak))
#define __cold
#define __maybe_unused __attribute__((unused))
#undef __always_inline
#define __always_inline inline __attribute__((always_inline))
#define noinline __attribute__((noinline))
#define __attribute_const__ __attribute__((const))
#define __packed __attribute__((packed))
#define __aligned(x) __attribute__((aligned(x)))
#define __printf(a, b)
#define __counted_by(x)
#define __acquires(x)
#define __releases(x)
#define __must_hold(x)
#define __cacheline_aligned
#define fallthrough __attribute__((__fallthrough__))
#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
#define barrier() __asm__ __volatile__("" ::: "memory")
#ifndef READ_ONCE
#define READ_ONCE(x) (*(const volatile __typeof__(x) *)&(x))
#endif
#define WRITE_ONCE(x, v) (*(volatile __typeof__(x) *)&(x) = (v))
#define data_race(x) (x)
#define smp_mb() __sync_synchronize()
#define smp_wmb() barrier()
#define smp_rmb() barrier()
#define smp_store_release(p, v) __atomic_store_n(p, v, __ATOMIC_RELEASE)
#define smp_load_acquire(p) __atomic_load_n(p, __ATOMIC_ACQUIRE)
#define __is_constexpr(x) __builtin_constant_p(x)
#define is_signed_type(t) (((t)(-1)) < (t)1)
#define is_unsigned_type(t) (!is_signed_type(t))
#define __same_type(a, b) __builtin_types_compatible_p(typeof(a), typeof(b))
#define __native_word(t) 1
#define __must_be_array(a) 0
#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define compiletime_assert(c, m) _Static_assert(1, "")
#define __ADDRESSABLE(x)
#define EXPORT_SYMBOL(x)
#define EXPORT_SYMBOL_GPL(x)
#define EXPORT_SYMBOL_NS_GPL(x, n)
#define __DECLARE_FLEX_ARRAY(T, N) struct { struct { } __e_##N; T N[]; }
#define DECLARE_FLEX_ARRAY(T, N) __DECLARE_FLEX_ARRAY(T, N)
#define __struct_group(TAG, NAME, ATTRS, MEMBERS...) \
	union { struct { MEMBERS } ATTRS; struct TAG { MEMBERS } ATTRS NAME; } ATTRS
#define sizeof_field(T, M) sizeof(((T *)0)->M)
#define offsetofend(T, M) (offsetof(T, M) + sizeof_field(T, M))
#define DECLARE_BITMAP(n, bits) unsigned long n[((bits) + 63) / 64]

#include <linux/kconfig.h>
#include <asm/errno.h>
#include <linux/limits.h>
#include <linux/const.h>
#include <linux/build_bug.h>
#include <linux/container_of.h>
#include <linux/minmax.h>
#include <linux/align.h>
#include <linux/err.h>
#include <linux/overflow.h>
#include <linux/list.h>
#undef struct_size
#define struct_size(p, m, n) (sizeof(*(p)) + sizeof(*(p)->m) * (n))	/* no overflow saturation */

/* ---- bit operations ---- */
#define BITS_PER_BYTE 8
#define BITS_PER_LONG 64
#define BITS_PER_TYPE(t) (sizeof(t) * 8)
#define BITS_TO_LONGS(n) (((n) + 63) / 64)
#define BIT(n) (1UL << (n))
#define BIT_ULL(n) (1ULL << (n))
#define GENMASK(h, l) ((~0UL << (l)) & (~0UL >> (63 - (h))))
#define GENMASK_ULL(h, l) ((u64)GENMASK(h, l))
#define BIT_MASK(nr) (1UL << ((nr) % 64))
#define BIT_WORD(nr) ((nr) / 64)
#define DIV_ROUND_UP(n, d) (((n) + (d) - 1) / (d))
static inline unsigned long __ffs(unsigned long x) { return __builtin_ctzl(x); }
static inline unsigned int __ffs64(u64 x) { return __builtin_ctzll(x); }
static inline unsigned long __fls(unsigned long x) { return 63 - __builtin_clzl(x); }
static inline int fls64(u64 x) { return x ? 64 - __builtin_clzll(x) : 0; }
static inline int ilog2(unsigned long x) { return __fls(x); }
static inline unsigned long roundup_pow_of_two(unsigned long n)
{ return n <= 1 ? 1 : 1UL << fls64(n - 1); }
static inline int get_order(unsigned long size)
{ return size <= 4096 ? 0 : fls64((size - 1) >> 12); }
static inline bool test_bit(unsigned long n, const volatile unsigned long *a)
{ return (a[n / 64] >> (n % 64)) & 1; }
static inline void __set_bit(unsigned long n, volatile unsigned long *a) { a[n / 64] |= BIT_MASK(n); }
static inline void __clear_bit(unsigned long n, volatile unsigned long *a) { a[n / 64] &= ~BIT_MASK(n); }
static inline bool __test_and_set_bit(unsigned long n, volatile unsigned long *a)
{ bool o = test_bit(n, a); __set_bit(n, a); return o; }
static inline bool __test_and_clear_bit(unsigned long n, volatile unsigned long *a)
{ bool o = test_bit(n, a); __clear_bit(n, a); return o; }
static inline unsigned long find_next_bit(const unsigned long *a, unsigned long size, unsigned long off)
{
	unsigned long w;
	if (off >= size) return size;
	w = a[off / 64] & (~0UL << (off % 64));
	for (off &= ~63UL; !w; w = a[off / 64])
		if ((off += 64) >= size) return size;
	off += __builtin_ctzl(w);
	return off < size ? off : size;
}
static inline unsigned long find_first_bit(const unsigned long *a, unsigned long size)
{ return find_next_bit(a, size, 0); }
static inline bool bitmap_empty(const unsigned long *a, unsigned int n) { return find_next_bit(a, n, 0) == n; }
static inline void kshim_bitmap_op(unsigned long *m, unsigned int s, unsigned int n, bool set)
{
	unsigned long *p = m + s / 64;
	unsigned int sh = s % 64;
	while (n) {
		unsigned int c = 64 - sh < n ? 64 - sh : n;
		unsigned long k = (c == 64 ? ~0UL : ((1UL << c) - 1)) << sh;
		if (set) *p |= k; else *p &= ~k;
		p++; n -= c; sh = 0;
	}
}
static inline void bitmap_set(unsigned long *m, unsigned int s, unsigned int n) { kshim_bitmap_op(m, s, n, true); }
static inline void bitmap_clear(unsigned long *m, unsigned int s, unsigned int n) { kshim_bitmap_op(m, s, n, false); }
static inline void bitmap_fill(unsigned long *m, unsigned int n) { memset(m, 0xff, BITS_TO_LONGS(n) * 8); }
static inline void bitmap_zero(unsigned long *m, unsigned int n) { memset(m, 0, BITS_TO_LONGS(n) * 8); }
static inline void bitmap_or(unsigned long *d, const unsigned long *a, const unsigned long *b, unsigned int n)
{ for (unsigned int i = 0; i < BITS_TO_LONGS(n); i++) d[i] = a[i] | b[i]; }
static inline void bitmap_shift_left(unsigned long *d, const unsigned long *s, unsigned int shift, unsigned int n)
{
	unsigned int off = shift / 64, rem = shift % 64; int k;
	for (k = (int)BITS_TO_LONGS(n) - 1 - (int)off; k >= 0; --k) {
		unsigned long lo = (rem && k > 0) ? s[k - 1] >> (64 - rem) : 0;
		d[k + off] = (s[k] << rem) | lo;
	}
	if (off) memset(d, 0, off * 8);
}
#undef abs
#define abs(x) ({ long __x = (x); __x < 0 ? -__x : __x; })
#define upper_32_bits(n) ((u32)(((n) >> 16) >> 16))
#define lower_32_bits(n) ((u32)(n))
#define u64_to_user_ptr(x) ((void *)(uintptr_t)(x))
#define cpu_to_le64(x) (x)
#define le64_to_cpu(x) (x)
#define get_unaligned(p) (*(p))

/* ---- diagnostics: a WARN is fatal here ---- */
#define KSHIM_DIE(what) do { fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, what); abort(); } while (0)
#define WARN_ON(c) ({ int __w = !!(c); if (unlikely(__w)) KSHIM_DIE("WARN_ON(" #c ")"); unlikely(__w); })
#define WARN_ON_ONCE(c) WARN_ON(c)
#define WARN(c, ...) WARN_ON(c)
#define WARN_ONCE(c, ...) WARN_ON(c)
#define BUG_ON(c) do { if (unlikely(c)) KSHIM_DIE("BUG_ON(" #c ")"); } while (0)
#define BUG() KSHIM_DIE("BUG")
#define VM_BUG_ON(c) do { } while (0)
#define VM_WARN_ON_ONCE(c) do { } while (0)
#define pr_warn(...) fprintf(stderr, __VA_ARGS__)
#define pr_err(...) do { } while (0)
#define pr_debug(...) do { } while (0)
#define dev_warn(d, ...) do { } while (0)
#define might_sleep() do { } while (0)
#define might_sleep_if(c) do { } while (0)
#define cond_resched() do { } while (0)
#define lockdep_assert_held(l) do { } while (0)
#define lockdep_assert_held_write(l) do { } while (0)
#define lockdep_assert_held_read(l) do { } while (0)
#define lockdep_assert_not_held(l) do { } while (0)
#define lockdep_is_held(l) 1
#define trace_map(...) do { } while (0)
#define trace_unmap(...) do { } while (0)

/* ---- atomics (locked instructions, as in the kernel on SMP x86) ---- */
#define ATOMIC_INIT(i) { (i) }
#define ATOMIC_LONG_INIT(i) { (i) }
#define atomic_read(v) READ_ONCE((v)->counter)
#define atomic_set(v, i) WRITE_ONCE((v)->counter, i)
#define atomic_inc(v) ((void)__atomic_fetch_add(&(v)->counter, 1, __ATOMIC_SEQ_CST))
#define atomic_dec(v) ((void)__atomic_fetch_sub(&(v)->counter, 1, __ATOMIC_SEQ_CST))
#define atomic_dec_and_test(v) (__atomic_sub_fetch(&(v)->counter, 1, __ATOMIC_SEQ_CST) == 0)
#define atomic64_add(i, v) ((void)__atomic_fetch_add(&(v)->counter, (i), __ATOMIC_SEQ_CST))
#define atomic64_sub(i, v) ((void)__atomic_fetch_sub(&(v)->counter, (i), __ATOMIC_SEQ_CST))
#define atomic_long_read(v) READ_ONCE((v)->counter)
#define atomic_long_sub(i, v) ((void)__atomic_fetch_sub(&(v)->counter, (i), __ATOMIC_SEQ_CST))
#define atomic_long_try_cmpxchg(v, old, new) \
	__atomic_compare_exchange_n(&(v)->counter, (long *)(old), (long)(new), 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)

typedef struct refcount_struct { atomic_t refs; } refcount_t;
#define REFCOUNT_INIT(n) { .refs = ATOMIC_INIT(n) }
static inline void refcount_set(refcount_t *r, int n) { atomic_set(&r->refs, n); }
static inline unsigned int refcount_read(const refcount_t *r) { return atomic_read(&r->refs); }
static inline void refcount_inc(refcount_t *r) { atomic_inc(&r->refs); }
static inline void refcount_dec(refcount_t *r) { atomic_dec(&r->refs); }
static inline bool refcount_dec_and_test(refcount_t *r) { return atomic_dec_and_test(&r->refs); }
static inline bool refcount_inc_not_zero(refcount_t *r)
{
	int o = atomic_read(&r->refs);
	while (o && !__atomic_compare_exchange_n(&r->refs.counter, &o, o + 1, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
		;
	return o != 0;
}

/* ---- locks: the uncontended fast path only; contention aborts.
 * Same sizes as the kernel's (no debug): spinlock 4, mutex 32, rwsem 40. ---- */
#ifndef KUS_LOCKS
#define KUS_LOCKS 1		/* 1: atomic fast path like the kernel's, 0: no-op */
#endif
struct task_struct;
extern struct task_struct *kus_current;
#define current kus_current

typedef struct { u32 v; } spinlock_t;
struct mutex { long owner; u32 wait_lock, osq; struct list_head wait_list; };
struct rw_semaphore { long count; long owner; u32 osq, wait_lock; struct list_head wait_list; };
#define __SPIN_LOCK_UNLOCKED(x) { 0 }
#define SPINLOCK_INIT(x) { 0 }
static inline void spin_lock_init(spinlock_t *l) { l->v = 0; }
static inline void spin_lock(spinlock_t *l)
{
#if KUS_LOCKS
	u32 o = 0;
	if (unlikely(!__atomic_compare_exchange_n(&l->v, &o, 1, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)))
		KSHIM_DIE("spinlock contended");
#endif
}
static inline void spin_unlock(spinlock_t *l) { __atomic_store_n((u8 *)&l->v, 0, __ATOMIC_RELEASE); }
#define spin_lock_bh(l) spin_lock(l)
#define spin_unlock_bh(l) spin_unlock(l)
#define spin_lock_irq(l) spin_lock(l)
#define spin_unlock_irq(l) spin_unlock(l)
#define spin_lock_irqsave(l, f) do { (void)(f); spin_lock(l); } while (0)
#define spin_unlock_irqrestore(l, f) spin_unlock(l)
#define spin_lock_nested(l, n) spin_lock(l)
#define spin_lock_bh_nested(l, n) spin_lock(l)
#define spin_lock_irq_nested(l, n) spin_lock(l)
#define spin_lock_irqsave_nested(l, f, n) spin_lock(l)
#define spin_trylock(l) (spin_lock(l), 1)
static inline void mutex_init(struct mutex *m)
{ m->owner = 0; m->wait_list.next = m->wait_list.prev = &m->wait_list; }
#define mutex_destroy(m) do { } while (0)
static inline void mutex_lock(struct mutex *m)
{
#if KUS_LOCKS
	long o = 0;
	if (unlikely(!__atomic_compare_exchange_n(&m->owner, &o, (long)current, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)))
		KSHIM_DIE("mutex contended");
#endif
}
static inline void mutex_unlock(struct mutex *m)
{
#if KUS_LOCKS
	long o = (long)current;
	if (unlikely(!__atomic_compare_exchange_n(&m->owner, &o, 0, 0, __ATOMIC_RELEASE, __ATOMIC_RELAXED)))
		KSHIM_DIE("mutex not owned");
#endif
}
static inline void init_rwsem(struct rw_semaphore *s)
{ s->count = 0; s->owner = 0; s->wait_list.next = s->wait_list.prev = &s->wait_list; }
static inline void down_read(struct rw_semaphore *s)
{
#if KUS_LOCKS
	if (unlikely(__atomic_add_fetch(&s->count, 256, __ATOMIC_ACQUIRE) & 1))
		KSHIM_DIE("rwsem contended");
	WRITE_ONCE(s->owner, (long)current | 1);
#endif
}
static inline void up_read(struct rw_semaphore *s)
{
#if KUS_LOCKS
	__atomic_sub_fetch(&s->count, 256, __ATOMIC_RELEASE);
#endif
}
static inline void down_write(struct rw_semaphore *s)
{
#if KUS_LOCKS
	long o = 0;
	if (unlikely(!__atomic_compare_exchange_n(&s->count, &o, 1, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)))
		KSHIM_DIE("rwsem contended");
	WRITE_ONCE(s->owner, (long)current);
#endif
}
static inline void up_write(struct rw_semaphore *s)
{
#if KUS_LOCKS
	WRITE_ONCE(s->owner, 0);
	__atomic_sub_fetch(&s->count, 1, __ATOMIC_RELEASE);
#endif
}
bool refcount_dec_and_mutex_lock(refcount_t *r, struct mutex *l);
bool refcount_dec_and_lock(refcount_t *r, spinlock_t *l);

/* ---- RCU: single threaded, so nothing ---- */
#define rcu_read_lock() do { } while (0)
#define rcu_read_unlock() do { } while (0)
#define rcu_dereference_raw(p) READ_ONCE(p)
#define rcu_dereference_check(p, c) READ_ONCE(p)
#define rcu_dereference_protected(p, c) (p)
#define rcu_dereference(p) READ_ONCE(p)
#define rcu_assign_pointer(p, v) smp_store_release(&(p), v)
#define RCU_INIT_POINTER(p, v) WRITE_ONCE(p, v)
#define call_rcu(h, f) (f)(h)
#define kfree_rcu(p, f) kfree(p)

/* ---- memory ---- */
#define PAGE_SHIFT 12
#define PAGE_SIZE (1UL << PAGE_SHIFT)
#define PAGE_MASK (~(PAGE_SIZE - 1))
#define HPAGE_SIZE (1UL << 21)
#define PFN_PHYS(x) ((phys_addr_t)(x) << PAGE_SHIFT)
#define PHYS_PFN(x) ((unsigned long)((x) >> PAGE_SHIFT))
#define PAGE_ALIGNED(a) IS_ALIGNED((unsigned long)(a), PAGE_SIZE)
#define offset_in_page(p) ((unsigned long)(p) & ~PAGE_MASK)
#define GFP_KERNEL 0x1u
#define __GFP_ACCOUNT 0x2u
#define GFP_KERNEL_ACCOUNT (GFP_KERNEL | __GFP_ACCOUNT)
#define __GFP_NOWARN 0x4u
#define __GFP_NORETRY 0x8u
#define __GFP_ZERO 0x10u
#define GFP_ATOMIC 0x20u
#define GFP_NOWAIT 0x40u
#define __GFP_COMP 0x80u
#define __GFP_DMA 0x100u
#define __GFP_DMA32 0x200u
#define __GFP_HIGHMEM 0x400u
#define __GFP_BITS_SHIFT 26
#define ___GFP_LAST_BIT 26
#define gfpflags_allow_blocking(g) 1
#define might_alloc(g) do { } while (0)
void *kus_alloc(size_t n, bool zero);	/* counts bytes when built with KUS_COUNTED */
void kus_free(const void *p);
void *kus_page_alloc(void);
void kus_page_free(unsigned long p);
#define kmalloc(n, g) kus_alloc(n, false)
#define kzalloc(n, g) kus_alloc(n, true)
#define kvzalloc(n, g) kus_alloc(n, true)
#define kfree(p) kus_free(p)
#define kvfree(p) kus_free(p)
#define __get_free_page(g) ((unsigned long)kus_page_alloc())
#define free_page(p) kus_page_free(p)
struct kmem_cache;
struct list_lru;
void *kus_xa_node_alloc(void);
void kus_xa_node_free(void *p);
#define kmem_cache_alloc_lru(c, l, g) kus_xa_node_alloc()
#define kmem_cache_free(c, p) kus_xa_node_free(p)
#define kmem_cache_alloc(c, g) kus_xa_node_alloc()

struct page { unsigned long flags, head, pad[4]; long refs; unsigned long pad2; };	/* 64 bytes */
/* struct page is never dereferenced */
#define KUS_VMEMMAP ((struct page *)0xffffea0000000000UL)
#define PageReserved(p) ((void)(p), 0)
#define pfn_to_page(pfn) (KUS_VMEMMAP + (pfn))
#define page_to_pfn(p) ((unsigned long)((p) - KUS_VMEMMAP))
#define page_to_phys(p) PFN_PHYS(page_to_pfn(p))
#define pfn_valid(pfn) ((pfn) < (1UL << 38))	/* kernel: section table look-up */
#define set_page_dirty_lock(p) ((void)(p))
#define KUS_PFN_DIRECT (1UL << 36)	/* pfn of real memory of this process: kmap() works */
#define kmap_local_page(p) ((void *)((page_to_pfn(p) & (KUS_PFN_DIRECT - 1)) << PAGE_SHIFT))
#define kunmap_local(p) ((void)(p))
#define alloc_pages(g, o) pfn_to_page(1UL << 20)
#define __free_pages(p, o) ((void)(p))
#define FOLL_WRITE 1
#define FOLL_LONGTERM 2
struct mm_struct;
long pin_user_pages_remote(struct mm_struct *mm, unsigned long start, unsigned long nr, unsigned int gup_flags,
			   struct page **pages, int *locked);
int pin_user_pages_fast(unsigned long start, int nr, unsigned int gup_flags, struct page **pages);
void unpin_user_pages(struct page **pages, unsigned long n);
void unpin_user_page(struct page *page);
void unpin_user_pages_dirty_lock(struct page **pages, unsigned long n, bool dirty);
void unpin_user_page_range_dirty_lock(struct page *page, unsigned long n, bool dirty);
#define copy_from_user(d, s, n) (memcpy(d, s, n), 0UL)
#define copy_to_user(d, s, n) (memcpy(d, s, n), 0UL)
#define clear_user(d, n) (memset(d, 0, n), 0UL)
#define access_ok(p, n) 1

/* ---- tasks, mm, accounting ---- */
struct mm_struct { struct rw_semaphore mmap_lock; atomic_t mm_users, mm_count;
		   unsigned long locked_vm; atomic64_t pinned_vm; };
struct user_struct { atomic_long_t locked_vm; refcount_t __count; };
struct task_struct { struct mm_struct *mm; struct task_struct *group_leader; struct user_struct *user;
		     refcount_t usage; unsigned long memlock; char comm[16]; };
#define RLIMIT_MEMLOCK 8
#define task_rlimit(t, l) ((t)->memlock)
#define rlimit(l) (current->memlock)
#define task_pid_nr(t) 1
#define CAP_IPC_LOCK 14
#define capable(c) 0			/* accounting is on for both; the limit is infinite */
#define current_user() (current->user)
static inline struct user_struct *get_uid(struct user_struct *u) { refcount_inc(&u->__count); return u; }
static inline void free_uid(struct user_struct *u) { refcount_dec(&u->__count); }
static inline struct task_struct *get_task_struct(struct task_struct *t) { refcount_inc(&t->usage); return t; }
static inline void put_task_struct(struct task_struct *t) { refcount_dec(&t->usage); }
static inline void mmgrab(struct mm_struct *m) { atomic_inc(&m->mm_count); }
static inline void mmdrop(struct mm_struct *m) { atomic_dec(&m->mm_count); }
static inline bool mmget_not_zero(struct mm_struct *m) { atomic_inc(&m->mm_users); return true; }
static inline void mmput(struct mm_struct *m) { atomic_dec(&m->mm_users); }
#define mmap_read_lock(m) down_read(&(m)->mmap_lock)
#define mmap_read_unlock(m) up_read(&(m)->mmap_lock)
#define mmap_write_lock(m) down_write(&(m)->mmap_lock)
#define mmap_write_lock_killable(m) (down_write(&(m)->mmap_lock), 0)
#define mmap_write_unlock(m) up_write(&(m)->mmap_lock)
static inline int __account_locked_vm(struct mm_struct *mm, unsigned long pages, bool inc,
				      const struct task_struct *task, bool bypass)
{
	if (!inc)
		mm->locked_vm -= pages;
	else if (!bypass && mm->locked_vm + pages > task->memlock >> PAGE_SHIFT)
		return -ENOMEM;
	else
		mm->locked_vm += pages;
	return 0;
}
#define kthread_use_mm(m) ((void)(m))
#define kthread_unuse_mm(m) ((void)(m))
/* VM_PFNMAP regions do not exist here */
struct vm_area_struct { unsigned long vm_flags; };
#define VM_PFNMAP 0x400
#define FAULT_FLAG_REMOTE 1
#define FAULT_FLAG_WRITE 2
struct follow_pfnmap_args { struct vm_area_struct *vma; unsigned long address; unsigned long pfn; bool writable; };
#define follow_pfnmap_start(a) ((void)(a), -EFAULT)
#define follow_pfnmap_end(a) ((void)(a))
#define fixup_user_fault(m, v, f, u) ((void)(u), -EFAULT)
#define untagged_addr_remote(m, v) (v)
#define vma_lookup(m, v) ((struct vm_area_struct *)NULL)

/* ---- devices and friends ---- */
typedef struct { spinlock_t lock; struct list_head head; } wait_queue_head_t;
struct wait_queue_head { spinlock_t lock; struct list_head head; };
#define wake_up_interruptible_all(w) ((void)(w))
struct dev_iommu;
struct device { struct dev_iommu *iommu; };
struct cdev { int x; };
struct fwnode_handle;
struct of_phandle_args;
struct scatterlist;
struct sg_table { struct scatterlist *sgl; unsigned int nents, orig_nents; };
struct bus_type;
struct attribute_group;
struct inode;
struct file;
struct class;
struct kvm;
struct notifier_block { int x; };
struct blocking_notifier_head { int x; };
struct work_struct { int x; };
#define dev_get_drvdata(d) ((void *)(d))
#define copy_struct_from_user(d, k, s, u) (memcpy(d, s, k), 0)
#define device_add(d) 0
#define device_del(d) do { } while (0)
#define module_param_named(n, v, t, p)
#define MODULE_PARM_DESC(n, d)
#define MODULE_VERSION(x)
#define MODULE_LICENSE(x)
#define MODULE_AUTHOR(x)
#define MODULE_DESCRIPTION(x)
#define module_init(f) int kus_init_##f(void) { return f(); }
#define module_exit(f) void kus_exit_##f(void) { f(); }
#define S_IRUGO 0444
#define S_IWUSR 0200
#ifndef _LINUX_TYPES_H
#define _LINUX_TYPES_H		/* stop the real one */
#endif
#endif
