/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/* nccl_priv.h - between nccl_calls.c, which reads, and nccl_compare.c. */
#ifndef PT_SINK_NCCL_PRIV_H
#define PT_SINK_NCCL_PRIV_H

#include "base/map.h"
#include "sink/nccl_calls.h"

#define NCCL_NEVER INT64_MAX /* it is not known when */

/* A collective of one rank. Times are of its host's clock. */
struct nccl_op {
	uint64_t likeness; /* the same for all ranks' calls */
	int64_t begin_ns;  /* of the call */
	int64_t end_ns;    /* by then its work had ended; NCCL_NEVER */
};

/* One rank of a communicator, in one process. */
struct nccl_rank {
	uint64_t id;
	int32_t nranks, rank;
	uint32_t host;
	int64_t begin_ns, end_ns; /* of what made it */
	struct nccl_op *ops;      /* in order of time */
	uint32_t op_count, op_size;
};

struct nccl_ranks {
	struct nccl_rank *ranks;
	uint32_t count, size;
	uint64_t op_count; /* of all */
};

/* -ENOMEM. */
int nccl_ranks_add(struct nccl_ranks *ranks, const struct nccl_rank *rank, uint32_t *index);
int nccl_ranks_op(struct nccl_ranks *ranks, uint32_t index, const struct nccl_op *op);
int nccl_ranks_compare(struct nccl_ranks *ranks, uint32_t hosts, struct pt_clock_bounds *bounds,
		       struct pt_nccl_result *result);
void nccl_ranks_release(struct nccl_ranks *ranks);

#endif
