/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * op_recorder.h - keeps the ops that a model emits and checks the promises of op.h.
 *
 * Connects a builder, a model and a list: build records with .builder, then ops_finish().
 */
#ifndef OP_RECORDER_H
#define OP_RECORDER_H

#include "model/model.h"
#include "rec_builder.h"

struct op_slice {
	char name[32];
	char values[192]; /* "x=1|local=2|result" */
	struct pt_op_slice op;
};

struct op_recorder {
	struct rec_builder builder;
	struct pt_model *model;
	struct pt_totals totals;
	struct op_slice *slices;
	size_t slice_count, slice_size;
	struct pt_op_loss losses[64];
	size_t loss_count;
	struct {
		pid_t pid;
		char name[64], cmdline[128];
		struct pt_op_rank rank;
		pid_t parent;
	} processes[64];
	size_t process_count;
	struct {
		pid_t pid, tid;
		char name[64];
	} threads[64];
	size_t thread_count;
	struct {
		char name[64], args[512];
		uint64_t ns;
	} instants[64];
	size_t instant_count;
	struct {
		struct pt_op_span op; /* its texts are gone, but for category */
		char name[64], args[256];
	} spans[64];
	size_t span_count, counter_count;
	char counter_name[64]; /* of the last one */
	double counter_value;
	struct pt_op_memory memory[64]; /* stacks live as long as the model */
	size_t memory_count;
	struct {
		struct pt_op_state op; /* its texts are gone */
		char name[64], args[256];
	} states[64];
	size_t state_count;
	struct {
		struct pt_op_range op; /* its texts are gone, but for category */
		char name[64], args[256];
	} ranges[16];
	struct {
		struct pt_op_sample op; /* its functions are gone */
		char functions[128];    /* innermost first */
		char lines[64];         /* likewise */
	} samples[32];
	size_t sample_count;
	struct pt_op_flow flows[16];
	struct {
		struct pt_op_gpu_bound op; /* its texts and links are gone, but for category */
		struct pt_gpu_link link;   /* the first one */
		char name[64], track[96], args[512];
	} gpu_bounds[64];
	size_t range_count, flow_count, stack_count, gpu_bound_count;
	struct op_bounds { /* of slices and spans */
		pid_t tid;
		uint64_t begin_ns, end_ns;
	} * bounds;
	size_t bounds_count, bounds_size;
	bool function_seen[4096];
};

/* The recording starts at 1000 ns. */
void ops_init(struct op_recorder *ops, const struct pt_model_options *options);
/* Codes 1 .. 26: functions a .. z of /app/main.py, each on the line of its number. */
void ops_define(struct op_recorder *ops);
/* Finishes the model and checks all slices: balanced, nested, no boundary twice in a thread, ids
 * unique, parents enclosing. Returns what is wrong, or NULL. */
const char *ops_finish(struct op_recorder *ops);
void ops_release(struct op_recorder *ops);
/* The n-th slice of that name, or NULL. */
const struct pt_op_slice *ops_slice(const struct op_recorder *ops, const char *name, size_t n);
/* Its arguments, variables and result: "" or "x=1 y=2|local=3|4". */
const char *ops_values(const struct op_recorder *ops, const char *name, size_t n);
size_t ops_count(const struct op_recorder *ops, const char *name);

#endif
