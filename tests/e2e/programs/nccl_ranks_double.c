// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * Stands in for libnccl and libcudart where ranks on several hosts wait for each other as NCCL's do:
 * a communicator is made when all have come, and a collective that sends to all is done when all have
 * begun it. The ranks are processes that share a file (RANKS_FILE).
 */
#include <fcntl.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sched.h>
#include <sys/mman.h>

#define COMMS 16
#define OPS   4096

struct dim3 {
	unsigned int x, y, z;
};

struct unique_id { /* ncclUniqueId, given by value */
	char internal[128];
};

struct shared {
	atomic_int joined, begun[OPS];
};

struct comm {
	struct shared *shared;
	int size, rank, ops;
};

static struct comm comms[COMMS];
static int comm_count, group;
static struct comm *last; /* whose work the stream has */
static int last_op = -1;

static void wait_for(atomic_int *number, int size)
{
	while (atomic_load(number) < size)
		sched_yield();
}

int cudaLaunchKernel(const void *func, struct dim3 grid, struct dim3 block, void **args,
		     size_t shared_bytes, void *stream)
{
	return 0;
}

/* The one stream that there is. */
int cudaStreamSynchronize(void *stream)
{
	if (last && last_op >= 0)
		wait_for(&last->shared->begun[last_op], last->size);
	return 0;
}

/* The id's ninth byte is the communicator's place in the file. */
int ncclCommInitRank(struct comm **comm, int size, struct unique_id id, int rank)
{
	int file = open(getenv("RANKS_FILE"), O_RDWR);
	struct shared *all = mmap(NULL, COMMS * sizeof(*all), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);

	if (all == MAP_FAILED)
		return 2; /* ncclSystemError */
	*comm = &comms[comm_count++ % COMMS];
	**comm = (struct comm){&all[id.internal[8] % COMMS], size, rank, 0};
	atomic_fetch_add(&(*comm)->shared->joined, 1);
	wait_for(&(*comm)->shared->joined, size);
	return 0;
}

static int launch(void)
{
	struct dim3 one = {1, 1, 1};

	return group ? 0 : cudaLaunchKernel((void *)launch, one, one, NULL, 0, (void *)0x77);
}

int ncclGroupStart(void)
{
	group++;
	return 0;
}

int ncclGroupEnd(void)
{
	group--;
	return launch();
}

int ncclAllReduce(const void *send, void *recv, size_t count, int type, int op, struct comm *comm,
		  void *stream)
{
	last = comm;
	last_op = comm->ops++ % OPS;
	atomic_fetch_add(&comm->shared->begun[last_op], 1);
	return launch();
}
