// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "sink/ranks.h"

#include <errno.h>
#include <stdlib.h>

#include "base/log.h"

struct pt_ranks_entry {
	pid_t pid;
	struct pt_op_rank rank;
};

int pt_ranks_add(struct pt_ranks *ranks, const struct pt_op_process *process)
{
	uint32_t room = ranks->room ? 2 * ranks->room : 16;
	struct pt_ranks_entry *bigger;

	for (uint32_t i = 0; i < ranks->count; i++) {
		if (ranks->entries[i].pid != process->pid)
			continue;
		ranks->entries[i].rank = process->rank;
		return 0;
	}
	if (!process->rank.world_size)
		return 0;
	if (ranks->count == ranks->room) {
		bigger = reallocarray(ranks->entries, room, sizeof(*bigger));
		if (!bigger)
			return -ENOMEM;
		ranks->entries = bigger;
		ranks->room = room;
	}
	ranks->entries[ranks->count++] = (struct pt_ranks_entry){process->pid, process->rank};
	return 0;
}

/* The first that is known; NULL: none. */
static const struct pt_op_rank *first(const struct pt_ranks *ranks)
{
	for (uint32_t i = 0; i < ranks->count; i++)
		if (ranks->entries[i].rank.world_size)
			return &ranks->entries[i].rank;
	return NULL;
}

static bool differ(const struct pt_ranks *ranks, int32_t rank)
{
	for (uint32_t i = 0; i < ranks->count; i++)
		if (ranks->entries[i].rank.world_size && ranks->entries[i].rank.rank != rank)
			return true;
	return false;
}

static void write_info(const struct pt_op_rank *rank, struct pt_buf *buf)
{
	pt_buf_printf(buf, "  \"distributedInfo\": {\n    \"rank\": %d", rank ? rank->rank : 0);
	if (rank)
		pt_buf_printf(buf, ",\n    \"world_size\": %d", rank->world_size);
	pt_buf_printf(buf, ",\n    \"rank from\": \"%s\"\n  },\n",
		      !rank             ? "nothing: none is known"
		      : rank->from_nccl ? "the largest NCCL communicator"
					: "the environment");
}

void pt_ranks_head(struct pt_ranks *ranks, struct pt_buf *head)
{
	const struct pt_op_rank *rank = first(ranks);

	ranks->in_head = rank && !rank->from_nccl;
	if (ranks->in_head)
		write_info(rank, head);
}

void pt_ranks_tail(struct pt_ranks *ranks, struct pt_buf *tail)
{
	const struct pt_op_rank *rank = first(ranks);

	if (!ranks->in_head)
		write_info(rank, tail);
	if (!rank || ranks->warned || !differ(ranks, rank->rank))
		return;
	ranks->warned = true;
	pt_warn("processes of several ranks are in one trace: who takes it for that of one, as "
		"Holistic Trace Analysis does, takes it for rank %d; -o FILE_%%p.json writes one "
		"trace a process",
		rank->rank);
}

void pt_ranks_release(struct pt_ranks *ranks)
{
	free(ranks->entries);
}
