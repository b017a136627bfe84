// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * A profile as pprof reads it (`go tool pprof`, and what else knows the format): proto/pprof.proto,
 * gzipped. A sample for each distinct stack of each thread, with the labels pid, tid and thread; a
 * mapping for each process, so that one can be looked at alone. A location is a line of a function:
 * the one at which it stands, or from which it calls.
 *
 * The message is written in pieces: messages one behind the other are one, whose repeated fields
 * have the items of all. So nothing of it is held but the bytes.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/grow.h"
#include "pprof.pb-c.h"
#include "sink/format.h"
#include "sink/stack_tree.h"

#define LABELS    3
#define TYPES     4 /* of values */
#define TYPES_CPU 2 /* without --off-cpu */

struct row {
	uint32_t stack; /* number in the tree */
	pid_t tid;
	uint64_t samples, cpu_ns, blocks, blocked_ns;
};

struct name { /* of a process, or of a thread */
	struct name *next;
	char text[];
};

struct pprof {
	struct stack_tree tree;
	struct row *rows;
	size_t count, room;
	struct pt_map by_stack;  /* (stack, tid): a row's number, from 1 */
	struct pt_map processes; /* pid: struct name */
	struct pt_map threads;   /* (pid, tid): likewise */
	struct name *names;
	char *process_name; /* of all; NULL: their own */
	uint64_t period_ns, start_mono_ns, start_real_ns;
	bool beside; /* with blocked time */
	char version[48];
};

static int pprof_open(struct pt_destination *destination, const struct pt_capture_info *info,
		      const struct pt_sink_options *options, void **state)
{
	struct pprof *pprof = calloc(1, sizeof(*pprof));

	*state = pprof;
	if (!pprof)
		return -ENOMEM;
	pprof->tree.by_line = true;
	pprof->start_mono_ns = info->start_mono_ns;
	pprof->start_real_ns = info->start_real_ns;
	snprintf(pprof->version, sizeof(pprof->version), "pytrace-bpf %s", info->tool_version);
	if (options->process_name)
		pprof->process_name = strdup(options->process_name);
	return options->process_name && !pprof->process_name ? -ENOMEM : 0;
}

static int keep_name(struct pprof *pprof, struct pt_map *map, uint64_t a, uint64_t b,
		     const char *text)
{
	size_t len = strlen(text) + 1;
	struct name *name = malloc(sizeof(*name) + len);

	if (!name)
		return -ENOMEM;
	memcpy(name->text, text, len);
	name->next = pprof->names;
	pprof->names = name;
	return pt_map_put(map, a, b, name);
}

static const char *name_of(const struct pt_map *map, uint64_t a, uint64_t b, const char *otherwise)
{
	const struct name *name = pt_map_get(map, a, b);

	return name ? name->text : otherwise;
}

static struct row *row_get(struct pprof *pprof, uint32_t stack, pid_t tid)
{
	uintptr_t number = (uintptr_t)pt_map_get(&pprof->by_stack, stack, (uint32_t)tid);
	struct row *bigger;

	if (number)
		return &pprof->rows[number - 1];
	bigger = pt_grow(pprof->rows, pprof->count, &pprof->room, 256, sizeof(*bigger));
	if (!bigger)
		return NULL;
	pprof->rows = bigger;
	if (pt_map_put(&pprof->by_stack, stack, (uint32_t)tid, (void *)(pprof->count + 1)))
		return NULL;
	pprof->rows[pprof->count] = (struct row){.stack = stack, .tid = tid};
	return &pprof->rows[pprof->count++];
}

static int add_sample(struct pprof *pprof, const struct pt_op_sample *sample)
{
	uint32_t stack = stack_tree_add(&pprof->tree, sample);
	struct row *row = stack ? row_get(pprof, stack, sample->tid) : NULL;

	if (!row)
		return -ENOMEM;
	if (sample->period_ns)
		pprof->period_ns = sample->period_ns;
	pprof->beside |= sample->beside;
	row->samples += sample->period_ns != 0;
	row->cpu_ns += sample->period_ns;
	row->blocks += sample->period_ns == 0;
	row->blocked_ns += sample->blocked_ns;
	return 0;
}

static void forget(struct pprof *pprof)
{
	stack_tree_release(&pprof->tree);
	pt_map_release(&pprof->by_stack);
	pprof->count = 0;
}

static int pprof_op(void *state, const struct pt_op *op)
{
	struct pprof *pprof = state;

	if (op->kind == PT_OP_SAMPLE)
		return add_sample(pprof, &op->sample);
	if (op->kind == PT_OP_PROCESS)
		return keep_name(pprof, &pprof->processes, (uint32_t)op->process.pid, 0,
				 op->process.name);
	if (op->kind == PT_OP_THREAD)
		return keep_name(pprof, &pprof->threads, (uint32_t)op->thread.pid,
				 (uint32_t)op->thread.tid, op->thread.name);
	if (op->kind == PT_OP_CLEAR)
		forget(pprof);
	return 0;
}

/* ---- the message ---- */

struct writer {
	ProtobufCBuffer base; /* appends to out */
	struct pt_buf *out;
	const struct pprof *pprof;
	/* numbers from 1: of the texts by (hash, how many of that hash came before), .. */
	struct pt_map texts;
	struct pt_map mappings;  /* .. by pid */
	struct pt_map functions; /* .. by function */
	struct pt_map locations; /* .. by (mapping and line, function) */
	const char **text;       /* by index */
	size_t text_count, text_room;
};

static void append(ProtobufCBuffer *base, size_t len, const uint8_t *data)
{
	struct writer *w = (struct writer *)base; /* its first field */

	pt_buf_add(w->out, data, len);
}

static void put(struct writer *w, const Pprof__Profile *piece)
{
	pprof__profile__pack_to_buffer(piece, &w->base);
}

/* The number that the map has for it; *fresh: it is new. 0: no memory. */
static uint64_t number_of(struct writer *w, struct pt_map *map, uint64_t a, uint64_t b, bool *fresh)
{
	uintptr_t number = (uintptr_t)pt_map_get(map, a, b);

	*fresh = !number;
	if (number)
		return number;
	number = map->count + 1;
	if (!pt_map_put(map, a, b, (void *)number))
		return number;
	w->out->failed = true;
	*fresh = false;
	return 0;
}

static int64_t new_text(struct writer *w, const char *text)
{
	char *one[] = {(char *)text};
	Pprof__Profile piece = PPROF__PROFILE__INIT;
	const char **bigger;

	bigger = pt_grow(w->text, w->text_count, &w->text_room, 256, sizeof(*bigger));
	if (!bigger) {
		w->out->failed = true;
		return 0;
	}
	w->text = bigger;
	w->text[w->text_count] = text;
	piece.n_string_table = 1;
	piece.string_table = one;
	put(w, &piece);
	return (int64_t)w->text_count++;
}

/* Its index in the table; text lives as long as the writer. */
static int64_t text_index(struct writer *w, const char *text)
{
	uint64_t hash = pt_hash_bytes(text, strlen(text), 0), number, nth = 0;
	bool fresh;

	if (w->out->failed)
		return 0;
	do {
		number = number_of(w, &w->texts, hash, nth++, &fresh);
		if (fresh)
			return new_text(w, text);
	} while (number && strcmp(w->text[number - 1], text) != 0);
	return number ? (int64_t)number - 1 : 0;
}

static uint64_t mapping_of(struct writer *w, pid_t pid)
{
	const struct pprof *pprof = w->pprof;
	Pprof__Mapping mapping = PPROF__MAPPING__INIT, *one[] = {&mapping};
	Pprof__Profile piece = PPROF__PROFILE__INIT;
	const char *name;
	bool fresh;

	mapping.id = number_of(w, &w->mappings, (uint32_t)pid, 0, &fresh);
	if (!fresh)
		return mapping.id;
	name = pprof->process_name ? pprof->process_name
				   : name_of(&pprof->processes, (uint32_t)pid, 0, "python");
	mapping.filename = text_index(w, name);
	/* nothing is left to look up in a file */
	mapping.has_functions = mapping.has_filenames = mapping.has_line_numbers = true;
	piece.n_mapping = 1;
	piece.mapping = one;
	put(w, &piece);
	return mapping.id;
}

static uint64_t function_of(struct writer *w, const struct pt_function *from)
{
	Pprof__Function function = PPROF__FUNCTION__INIT, *one[] = {&function};
	Pprof__Profile piece = PPROF__PROFILE__INIT;
	bool fresh;

	function.id = number_of(w, &w->functions, (uintptr_t)from, 0, &fresh);
	if (!fresh)
		return function.id;
	/* without a system_name, or pprof takes it for C++'s and drops what stands in <> */
	function.name = text_index(w, from->qualname);
	function.filename = text_index(w, from->file);
	function.start_line = from->line;
	piece.n_function = 1;
	piece.function = one;
	put(w, &piece);
	return function.id;
}

static uint64_t location_of(struct writer *w, const struct stack_node *node, pid_t pid)
{
	Pprof__Line line = PPROF__LINE__INIT, *one_line[] = {&line};
	Pprof__Location location = PPROF__LOCATION__INIT, *one[] = {&location};
	Pprof__Profile piece = PPROF__PROFILE__INIT;
	bool fresh;

	location.mapping_id = mapping_of(w, pid);
	location.id = number_of(w, &w->locations, location.mapping_id | (uint64_t)node->line << 32,
				(uintptr_t)node->function, &fresh);
	if (!fresh)
		return location.id;
	line.function_id = function_of(w, node->function);
	line.line = node->line;
	location.n_line = 1;
	location.line = one_line;
	piece.n_location = 1;
	piece.location = one;
	put(w, &piece);
	return location.id;
}

static void put_labels(struct writer *w, pid_t pid, pid_t tid, Pprof__Label labels[LABELS])
{
	for (unsigned int i = 0; i < LABELS; i++)
		pprof__label__init(&labels[i]);
	labels[0].key = text_index(w, "pid");
	labels[0].num = pid;
	labels[1].key = text_index(w, "tid");
	labels[1].num = tid;
	labels[2].key = text_index(w, "thread");
	labels[2].str = text_index(w,
				   name_of(&w->pprof->threads, (uint32_t)pid, (uint32_t)tid, "?"));
}

static void put_row(struct writer *w, const struct row *row)
{
	const struct stack_tree *tree = &w->pprof->tree;
	pid_t pid = tree->nodes[row->stack - 1].pid;
	int64_t values[TYPES] = {(int64_t)row->samples, (int64_t)row->cpu_ns, (int64_t)row->blocks,
				 (int64_t)row->blocked_ns};
	Pprof__Label labels[LABELS], *label[LABELS];
	Pprof__Sample sample = PPROF__SAMPLE__INIT, *one[] = {&sample};
	Pprof__Profile piece = PPROF__PROFILE__INIT;
	uint32_t path[STACK_TREE_DEPTH], count = stack_tree_path(tree, row->stack, path);
	uint64_t locations[STACK_TREE_DEPTH];

	for (uint32_t i = 0; i < count; i++)
		locations[count - 1 - i] = location_of(w, &tree->nodes[path[i] - 1], pid);
	put_labels(w, pid, row->tid, labels);
	for (unsigned int i = 0; i < LABELS; i++)
		label[i] = &labels[i];
	sample.n_location_id = count;
	sample.location_id = locations;
	sample.n_value = w->pprof->beside ? TYPES : TYPES_CPU;
	sample.value = values;
	sample.n_label = LABELS;
	sample.label = label;
	piece.n_sample = 1;
	piece.sample = one;
	put(w, &piece);
}

static void put_head(struct writer *w, const struct pt_totals *totals)
{
	static const char *const names[TYPES] = {"samples", "cpu", "blocked", "off-cpu"};
	const struct pprof *pprof = w->pprof;
	Pprof__ValueType types[TYPES], *type[TYPES];
	Pprof__Profile piece = PPROF__PROFILE__INIT;
	int64_t comment;

	text_index(w, ""); /* the first one must be that */
	for (unsigned int i = 0; i < TYPES; i++) {
		pprof__value_type__init(&types[i]);
		type[i] = &types[i];
		if (i >= TYPES_CPU && !pprof->beside)
			continue;
		types[i].type = text_index(w, names[i]);
		types[i].unit = text_index(w, i % 2 ? "nanoseconds" : "count");
	}
	comment = text_index(w, pprof->version);
	piece.n_sample_type = pprof->beside ? TYPES : TYPES_CPU;
	piece.sample_type = type;
	piece.default_sample_type = types[1].type;
	piece.period_type = &types[1];
	piece.period = (int64_t)pprof->period_ns;
	piece.time_nanos = (int64_t)pprof->start_real_ns;
	if (totals->last_ns > pprof->start_mono_ns)
		piece.duration_nanos = (int64_t)(totals->last_ns - pprof->start_mono_ns);
	piece.n_comment = 1;
	piece.comment = &comment;
	put(w, &piece);
}

static void pprof_extra(void *state, struct pt_buf *extra)
{
}

static void pprof_tail(void *state, const char *path, const struct pt_totals *totals, bool extra,
		       struct pt_buf *tail)
{
	const struct pprof *pprof = state;
	struct writer w = {.base.append = append, .out = tail, .pprof = pprof};

	put_head(&w, totals);
	for (size_t i = 0; i < pprof->count; i++)
		put_row(&w, &pprof->rows[i]);
	pt_map_release(&w.texts);
	pt_map_release(&w.mappings);
	pt_map_release(&w.functions);
	pt_map_release(&w.locations);
	free(w.text);
}

static void pprof_redirect(void *state, struct pt_destination *copy)
{
	/* nothing is written before the tail */
}

static void pprof_free(void *state)
{
	struct pprof *pprof = state;

	forget(pprof);
	free(pprof->rows);
	pt_map_release(&pprof->processes);
	pt_map_release(&pprof->threads);
	while (pprof->names) {
		struct name *next = pprof->names->next;

		free(pprof->names);
		pprof->names = next;
	}
	free(pprof->process_name);
	free(pprof);
}

#define PPROF(SUFFIX)                                                                              \
	{                                                                                          \
		.suffix = SUFFIX, .gzip = true, .samples = true, .open = pprof_open,               \
		.op = pprof_op, .extra = pprof_extra, .tail = pprof_tail,                          \
		.redirect = pprof_redirect, .free = pprof_free                                     \
	}

const struct pt_format pt_format_pprof = PPROF(".pprof");
const struct pt_format pt_format_pprof_gzip = PPROF(".pb.gz");
