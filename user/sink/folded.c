// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * Folded stacks, as flamegraph.pl, inferno and speedscope read them: a line for each distinct
 * stack, outermost first, with ';' between, and how many samples had it:
 *
 *     python3 1234;<module> (/app/main.py:1);work (/app/main.py:7) 42
 *
 * With --lines a line is the one at which the function stands, else the one at which it begins.
 * With --off-cpu the numbers are microseconds, of CPU time as of blocked time, so that the two can
 * be compared.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sink/format.h"
#include "sink/stack_tree.h"

#define NS_PER_US 1000

struct folded {
	struct stack_tree tree;
	struct pt_map names; /* pid -> a copy of its process's name */
	struct folded_name {
		struct folded_name *next;
		char text[];
	} * name_list;
	char process_name[256]; /* of all; "": their own */
	bool beside;            /* with blocked time */
};

static int folded_open(struct pt_destination *destination, const struct pt_capture_info *info,
		       const struct pt_sink_options *options, void **state)
{
	struct folded *folded = calloc(1, sizeof(*folded));

	*state = folded;
	if (!folded)
		return -ENOMEM;
	folded->tree.by_line = options->lines;
	if (options->process_name)
		snprintf(folded->process_name, sizeof(folded->process_name), "%s",
			 options->process_name);
	return 0;
}

static int add_process(struct folded *folded, const struct pt_op_process *process)
{
	size_t len = strlen(process->name) + 1;
	struct folded_name *name = malloc(sizeof(*name) + len);

	if (!name)
		return -ENOMEM;
	memcpy(name->text, process->name, len);
	name->next = folded->name_list;
	folded->name_list = name;
	return pt_map_put(&folded->names, (uint32_t)process->pid, 0, name->text);
}

static int folded_op(void *state, const struct pt_op *op)
{
	struct folded *folded = state;

	if (op->kind == PT_OP_PROCESS)
		return add_process(folded, &op->process);
	if (op->kind == PT_OP_CLEAR)
		stack_tree_release(&folded->tree);
	if (op->kind == PT_OP_SAMPLE) {
		folded->beside |= op->sample.beside;
		if (!stack_tree_add(&folded->tree, &op->sample))
			return -ENOMEM;
	}
	return 0;
}

/* What separates frames and lines must not be in a name. */
static void add_clean(struct pt_buf *buf, const char *text)
{
	for (; *text; text++) {
		char c = *text == ';' ? ':' : (unsigned char)*text < 0x20 ? ' ' : *text;

		pt_buf_add(buf, &c, 1);
	}
}

static void add_function(struct pt_buf *buf, const struct stack_node *node, bool by_line)
{
	const struct pt_function *function = node->function;
	uint32_t line = by_line ? node->line : function->line;

	add_clean(buf, function->qualname);
	if (!function->file[0])
		return;
	pt_buf_add_str(buf, " (");
	add_clean(buf, function->file);
	if (line)
		pt_buf_printf(buf, ":%u", line);
	pt_buf_add_str(buf, ")");
}

static void add_stack(const struct folded *folded, uint32_t number, struct pt_buf *buf)
{
	const struct stack_node *node = &folded->tree.nodes[number - 1];
	const char *name = pt_map_get(&folded->names, (uint32_t)node->pid, 0);
	uint32_t path[STACK_TREE_DEPTH], count;
	uint64_t number_of = node->samples;

	if (folded->beside)
		number_of = (node->cpu_ns + node->blocked_ns + NS_PER_US / 2) / NS_PER_US;
	if (!number_of)
		return;
	count = stack_tree_path(&folded->tree, number, path);
	add_clean(buf, folded->process_name[0] ? folded->process_name : name ? name : "python");
	pt_buf_printf(buf, " %d", node->pid);
	for (uint32_t i = 0; i < count; i++) {
		pt_buf_add_str(buf, ";");
		add_function(buf, &folded->tree.nodes[path[i] - 1], folded->tree.by_line);
	}
	pt_buf_printf(buf, " %llu\n", (unsigned long long)number_of);
}

static void folded_extra(void *state, struct pt_buf *extra)
{
}

static void folded_tail(void *state, const char *path, const struct pt_totals *totals, bool extra,
			struct pt_buf *tail)
{
	const struct folded *folded = state;

	for (uint32_t i = 1; i <= folded->tree.count; i++)
		add_stack(folded, i, tail);
}

static void folded_redirect(void *state, struct pt_destination *copy)
{
	/* nothing is written before the tail */
}

static void folded_free(void *state)
{
	struct folded *folded = state;

	while (folded->name_list) {
		struct folded_name *next = folded->name_list->next;

		free(folded->name_list);
		folded->name_list = next;
	}
	pt_map_release(&folded->names);
	stack_tree_release(&folded->tree);
	free(folded);
}

const struct pt_format pt_format_folded = {
    .suffix = ".folded",
    .samples = true,
    .open = folded_open,
    .op = folded_op,
    .extra = folded_extra,
    .tail = folded_tail,
    .redirect = folded_redirect,
    .free = folded_free,
};
