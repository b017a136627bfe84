// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * What calls of NCCL mean beside their arguments: how many elements go in and out, by the sizes of
 * the communicators, which are known from the calls that made them or asked them.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/sha256.h"
#include "cuda/table.h"
#include "model/model_priv.h"

#define COMMS_MAX 65536u /* a program that makes them up gets no more */

struct model_comm {
	struct model_comm *next;
	int32_t size, rank; /* -1: not known */
};

/* Messages, in counts of the call: of one rank, or of all. */
enum message { NONE, ONE, ALL };

static const struct collective {
	const char *symbol, *name;
	enum message in, out;
} collectives[] = {
    {"ncclAllGather", "allgather", ONE, ALL}, {"ncclAllReduce", "allreduce", ONE, ONE},
    {"ncclAlltoAll", "alltoall", ALL, ALL},   {"ncclBcast", "broadcast", ONE, ONE},
    {"ncclBroadcast", "broadcast", ONE, ONE}, {"ncclGather", "gather", ONE, ALL},
    {"ncclRecv", "recv", NONE, ONE},          {"ncclReduce", "reduce", ONE, ONE},
    {"ncclScatter", "scatter", ALL, ONE},     {"ncclReduceScatter", "reduce_scatter", ALL, ONE},
    {"ncclSend", "send", ONE, NONE},
};

/* As PyTorch calls its types. */
static const struct type {
	const char *nccl, *name;
	uint32_t bytes;
} types[] = {
    {"ncclInt8", "Char", 1},
    {"ncclUint8", "Byte", 1},
    {"ncclInt32", "Int", 4},
    {"ncclUint32", "UInt32", 4},
    {"ncclInt64", "Long", 8},
    {"ncclUint64", "UInt64", 8},
    {"ncclFloat16", "Half", 2},
    {"ncclFloat32", "Float", 4},
    {"ncclFloat64", "Double", 8},
    {"ncclBfloat16", "BFloat16", 2},
    {"ncclFloat8e4m3", "Float8_e4m3fn", 1},
    {"ncclFloat8e5m2", "Float8_e5m2", 1},
};

static const struct type *type_of(int64_t value)
{
	const char *name = pt_cuda_name_of(pt_cuda_nccl_types, value);

	for (size_t i = 0; name && i < sizeof(types) / sizeof(types[0]); i++)
		if (!strcmp(types[i].nccl, name))
			return &types[i];
	return NULL;
}

/* ---- communicators ---- */

static uint64_t image_key(const struct model_process *process)
{
	return (uint64_t)(uint32_t)process->pid << 32 | process->image_id;
}

static const struct model_comm *find(const struct pt_model *model,
				     const struct model_process *process, uint64_t comm)
{
	static const struct model_comm unknown = {.size = -1, .rank = -1};
	const struct model_comm *known = pt_map_get(&model->comms, image_key(process), comm);

	return known ? known : &unknown;
}

/* The communicator's entry, made if need be; NULL: there are too many, or no memory. */
static struct model_comm *get(struct pt_model *model, const struct model_process *process,
			      uint64_t comm)
{
	struct model_comm *known = pt_map_get(&model->comms, image_key(process), comm);

	if (known || !comm || model->comms.count >= COMMS_MAX)
		return known;
	known = pt_map_make(&model->comms, image_key(process), comm, sizeof(*known));
	if (!known) {
		model_fail(model, -ENOMEM);
		return NULL;
	}
	*known = (struct model_comm){.next = model->comm_list, .size = -1, .rank = -1};
	model->comm_list = known;
	return known;
}

static int32_t value_or(const struct model_nccl_call *call, const char *name, int32_t otherwise)
{
	const uint64_t *word = call->word(call->ctx, name);

	return word ? (int32_t)*word : otherwise;
}

/* Of a process whose environment has no rank, its largest communicator is taken for that of the
 * whole job; one process may have several GPUs in it, and so no rank. */
static void learn_rank(struct pt_model *model, struct model_process *process,
		       const struct model_comm *comm)
{
	const struct pt_op_rank *before = &process->rank;
	bool known = before->world_size != 0;

	if (comm->rank < 0 || comm->rank >= comm->size || (known && !before->from_nccl))
		return;
	if (comm->size < process->comm_size)
		return;
	if (comm->size > process->comm_size) {
		process->comm_size = comm->size;
		model_process_rank(model, process, comm->rank, comm->size, true);
	} else if (known && before->rank != comm->rank) {
		model_process_rank(model, process, 0, 0, true);
	}
}

void model_nccl_learn(struct pt_model *model, struct model_process *process,
		      const struct model_nccl_call *call)
{
	const uint64_t *comm = call->word(call->ctx, "newcomm");
	bool made = comm || !strncmp(call->symbol, "ncclCommInit", strlen("ncclCommInit"));
	bool gone = !strcmp(call->symbol, "ncclCommDestroy") ||
		    !strcmp(call->symbol, "ncclCommAbort");
	bool asked = !strcmp(call->symbol, "ncclCommCount") ||
		     !strcmp(call->symbol, "ncclCommUserRank");
	struct model_comm *known;

	comm = comm ? comm : call->word(call->ctx, "comm");
	known = comm && (made || gone || asked) ? get(model, process, *comm) : NULL;
	if (!known)
		return;
	/* its address may be another's now */
	if (made || gone)
		known->size = known->rank = -1;
	if (gone)
		return;
	known->size = value_or(call, asked ? "count" : "nranks", known->size);
	known->rank = value_or(call, "rank", value_or(call, "myrank", known->rank));
	learn_rank(model, process, known);
}

/* NCCL's NCCL_MAGIC: where NCCL_COMM_ID says who meets where, each id begins so and is the same.
 * Any other begins with a random number, and an address follows, all within the words that are
 * read. */
#define ID_FROM_ENVIRONMENT 0x0280028002800280ull

bool model_nccl_id(const uint64_t *words, size_t count, char text[MODEL_NCCL_ID_BYTES])
{
	char hex[PT_SHA256_HEX];
	struct pt_sha256 sha;

	if (!count || !words[0] || words[0] == ID_FROM_ENVIRONMENT)
		return false;
	pt_sha256_begin(&sha);
	pt_sha256_add(&sha, words, count * sizeof(*words));
	pt_sha256_end(&sha, hex);
	snprintf(text, MODEL_NCCL_ID_BYTES, "%.16s", hex);
	return true;
}

void model_nccl_release(struct pt_model *model)
{
	while (model->comm_list) {
		struct model_comm *comm = model->comm_list;

		model->comm_list = comm->next;
		free(comm);
	}
	pt_map_release(&model->comms);
}

/* ---- messages ---- */

static int64_t elements(enum message message, uint64_t count, int32_t size)
{
	uint64_t product;

	if (message == NONE)
		return 0;
	if (message == ONE)
		return count <= INT64_MAX ? (int64_t)count : -1;
	if (size < 0 || __builtin_mul_overflow(count, (uint64_t)size, &product))
		return -1;
	return product <= INT64_MAX ? (int64_t)product : -1;
}

static const struct collective *collective_of(const char *symbol)
{
	for (size_t i = 0; i < sizeof(collectives) / sizeof(collectives[0]); i++)
		if (!strcmp(collectives[i].symbol, symbol))
			return &collectives[i];
	return NULL;
}

bool model_nccl_explain(const struct pt_model *model, const struct model_process *process,
			const struct model_nccl_call *call, struct model_nccl *shown)
{
	static const char *const counts[] = {"count", "sendcount", "recvcount"};
	const struct collective *collective = collective_of(call->symbol);
	const uint64_t *comm = call->word(call->ctx, "comm"), *count = NULL;
	const uint64_t *datatype = call->word(call->ctx, "datatype");
	const struct type *type = datatype ? type_of((int32_t)*datatype) : NULL;
	const struct model_comm *known;

	for (size_t i = 0; i < 3 && !count; i++)
		count = call->word(call->ctx, counts[i]);
	if (!collective || !comm || !count)
		return false;
	known = find(model, process, *comm);
	*shown = (struct model_nccl){
	    .collective = collective->name,
	    .dtype = type ? type->name : NULL,
	    .type_bytes = type ? type->bytes : 0,
	    .in = elements(collective->in, *count, known->size),
	    .out = elements(collective->out, *count, known->size),
	    .size = known->size,
	    .rank = known->rank,
	};
	return true;
}
