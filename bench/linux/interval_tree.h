// SPDX-License-Identifier: GPL-2.0-only
// bench/linux/interval_tree.h - Linux's interval tree (lib/interval_tree.c), plain C, no kernel headers.
//
// Ranges are closed. A node is the caller's; insert() reads its first and last.
#ifndef IOPT_BENCH_LINUX_INTERVAL_TREE_H
#define IOPT_BENCH_LINUX_INTERVAL_TREE_H

#ifdef __cplusplus
extern "C" {
#endif

/* As struct interval_tree_node and struct rb_root_cached. */
struct linux_interval_node {
  void* links[3];
  unsigned long first, last, subtree_last;
};
struct linux_interval_tree {
  void* links[2];
};

void linux_interval_insert(struct linux_interval_tree* tree, struct linux_interval_node* node);
void linux_interval_erase(struct linux_interval_tree* tree, struct linux_interval_node* node);
/* The first node that overlaps [first, last], and the next one after a node; null at the end. */
struct linux_interval_node* linux_interval_first(struct linux_interval_tree* tree,
                                                 unsigned long first, unsigned long last);
struct linux_interval_node* linux_interval_next(struct linux_interval_node* node,
                                                unsigned long first, unsigned long last);

/* Goes over the maximal used and unused parts of [first, last]: as struct interval_tree_span_iter. */
struct linux_interval_span {
  void* nodes[2];
  unsigned long first_index, last_index; /* Linux's own */
  unsigned long first, last;             /* the part, */
  int is_hole;                           /* what it is, and -1 at the end */
};
void linux_interval_span_first(struct linux_interval_span* span, struct linux_interval_tree* tree,
                               unsigned long first, unsigned long last);
void linux_interval_span_next(struct linux_interval_span* span);

#ifdef __cplusplus
} /* extern "C" */
#endif
#endif
