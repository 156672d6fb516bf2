// SPDX-License-Identifier: GPL-2.0-only
// bench/linux/interval_tree.c - Linux's interval tree, as it is, under names of ours.
#include KUS_INTERVAL_TREE_C
#include "interval_tree.h"

_Static_assert(sizeof(struct linux_interval_node) == sizeof(struct interval_tree_node) &&
	       offsetof(struct linux_interval_node, first) == offsetof(struct interval_tree_node, start) &&
	       sizeof(struct linux_interval_tree) == sizeof(struct rb_root_cached) &&
	       sizeof(struct linux_interval_span) == sizeof(struct interval_tree_span_iter) &&
	       offsetof(struct linux_interval_span, first) == offsetof(struct interval_tree_span_iter, start_hole) &&
	       offsetof(struct linux_interval_span, is_hole) == offsetof(struct interval_tree_span_iter, is_hole), "");

#define TREE(t) ((struct rb_root_cached *)(t))
#define NODE(n) ((struct interval_tree_node *)(n))
#define SPAN(s) ((struct interval_tree_span_iter *)(s))
void linux_interval_insert(struct linux_interval_tree *t, struct linux_interval_node *n)
{ interval_tree_insert(NODE(n), TREE(t)); }
void linux_interval_erase(struct linux_interval_tree *t, struct linux_interval_node *n)
{ interval_tree_remove(NODE(n), TREE(t)); }
struct linux_interval_node *linux_interval_first(struct linux_interval_tree *t, unsigned long first, unsigned long last)
{ return (struct linux_interval_node *)interval_tree_iter_first(TREE(t), first, last); }
struct linux_interval_node *linux_interval_next(struct linux_interval_node *n, unsigned long first, unsigned long last)
{ return (struct linux_interval_node *)interval_tree_iter_next(NODE(n), first, last); }
void linux_interval_span_first(struct linux_interval_span *s, struct linux_interval_tree *t, unsigned long first,
			       unsigned long last)
{ interval_tree_span_iter_first(SPAN(s), TREE(t), first, last); }
void linux_interval_span_next(struct linux_interval_span *s) { interval_tree_span_iter_next(SPAN(s)); }
