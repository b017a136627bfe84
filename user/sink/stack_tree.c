// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "sink/stack_tree.h"

#include <stdlib.h>

/* Above all numbers of nodes; and above that. */
#define PID_KEY    (1ull << 32)
#define LINE_SHIFT 33

static uint32_t child(struct stack_tree *tree, uint32_t parent, pid_t pid,
		      const struct pt_function *function, uint32_t line)
{
	uint64_t place = (parent ? parent : PID_KEY | (uint32_t)pid) | (uint64_t)line << LINE_SHIFT;
	uint32_t number = (uint32_t)(uintptr_t)pt_map_get(&tree->by_place, place,
							  (uintptr_t)function);
	struct stack_node *bigger;

	if (number)
		return number;
	if (tree->count == tree->room) {
		uint32_t room = tree->room ? 2 * tree->room : 256;

		bigger = reallocarray(tree->nodes, room, sizeof(*bigger));
		if (!bigger)
			return 0;
		tree->nodes = bigger;
		tree->room = room;
	}
	number = tree->count + 1;
	if (pt_map_put(&tree->by_place, place, (uintptr_t)function, (void *)(uintptr_t)number))
		return 0;
	tree->nodes[tree->count++] = (struct stack_node){
	    .parent = parent, .pid = pid, .function = function, .line = line};
	return number;
}

uint32_t stack_tree_add(struct stack_tree *tree, const struct pt_op_sample *sample)
{
	struct stack_node *node;
	uint32_t number = 0;

	for (uint32_t i = sample->function_count; i-- > 0;) {
		uint32_t line = tree->by_line && sample->lines ? sample->lines[i] : 0;

		number = child(tree, number, sample->pid, sample->functions[i], line & INT32_MAX);
		if (!number)
			return 0;
	}
	if (!number)
		return 0;
	node = &tree->nodes[number - 1];
	node->samples += sample->period_ns != 0;
	node->cpu_ns += sample->period_ns;
	node->blocks += sample->period_ns == 0;
	node->blocked_ns += sample->blocked_ns;
	return number;
}

uint32_t stack_tree_path(const struct stack_tree *tree, uint32_t number, uint32_t *numbers)
{
	uint32_t count = 0;

	for (uint32_t n = number; n && count < STACK_TREE_DEPTH; n = tree->nodes[n - 1].parent)
		count++;
	for (uint32_t i = count; i-- > 0; number = tree->nodes[number - 1].parent)
		numbers[i] = number;
	return count;
}

void stack_tree_release(struct stack_tree *tree)
{
	bool by_line = tree->by_line;

	free(tree->nodes);
	pt_map_release(&tree->by_place);
	*tree = (struct stack_tree){.by_line = by_line};
}
