/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * stack_tree.h - the stacks of samples, each distinct one once: a tree of functions from the
 * outermost on. Formats that add samples up share it.
 *
 * Zero-initialise, say by_line -> stack_tree_add() -> stack_tree_release(). Functions are borrowed.
 * Memory: some 60 bytes a node.
 */
#ifndef PT_SINK_STACK_TREE_H
#define PT_SINK_STACK_TREE_H

#include "base/map.h"
#include "model/op.h"

struct stack_node {
	uint32_t parent; /* a number from 1; 0: it is the outermost */
	pid_t pid;       /* of the outermost's process; the rest is the same below */
	const struct pt_function *function;
	uint32_t line;               /* where it stands; 0: not known, or not told apart */
	uint64_t samples, cpu_ns;    /* of those that end here */
	uint64_t blocks, blocked_ns; /* likewise, of threads that were blocked */
};

struct stack_tree {
	struct stack_node *nodes; /* number 1 first */
	uint32_t count, room;
	bool by_line;           /* a function that stands in different lines is not the same */
	struct pt_map by_place; /* (parent or pid, and line; function) -> number */
};

/* The number of the sample's stack, whose samples are one more now; 0: no memory. */
uint32_t stack_tree_add(struct stack_tree *tree, const struct pt_op_sample *sample);
/* Writes the numbers from the outermost node to this one; returns how many there are. numbers has
 * room for STACK_TREE_DEPTH. */
#define STACK_TREE_DEPTH 1040 /* what a sample may have at most, and some */
uint32_t stack_tree_path(const struct stack_tree *tree, uint32_t number, uint32_t *numbers);
void stack_tree_release(struct stack_tree *tree);

#endif
