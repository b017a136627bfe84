// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * Writes a synthetic capture: replay_gen FILE.ptcap EVENTS [THREADS]. The calls look like those of
 * a real program: 2000 functions in 200 files, stacks 5 to 40 deep, calls of 0.2 to 2 us. The same
 * arguments always give the same file.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ingest/capture.h"
#include "rec_builder.h"

#define FUNCTIONS   2000
#define THREADS_MAX 64
#define DEPTH_LEAST 5
#define DEPTH_MOST  40
#define START_NS    1000000000000ull
#define START_REAL  1790000000000000000ull

static uint64_t random_state = 88172645463325252ull;

static uint32_t random_u32(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return (uint32_t)(random_state >> 16);
}

static int write_record(const struct pt_rec *record, size_t len, void *ctx)
{
	return pt_capture_write(ctx, record, len, NULL);
}

static void write_codes(struct rec_builder *b)
{
	char name[32], qualname[64], file[96];

	for (uint32_t id = 1; id <= FUNCTIONS; id++) {
		snprintf(name, sizeof(name), "method_%u", id);
		snprintf(qualname, sizeof(qualname), "Worker%u.method_%u", id % 50, id);
		snprintf(file, sizeof(file), "/usr/lib/python3.11/package/sub/module_%u.py",
			 id / 10);
		rec_code(b, id, name, qualname, file, id % 10 * 37 + 1);
	}
}

/* Calls and returns at random, so that the depth stays between the bounds. */
static uint64_t write_batch(struct rec_builder *b, struct rec_thread *t, uint64_t ns)
{
	batch_begin(b, t, ns);
	if (t->seq == 0)
		batch_snap(b, NULL, 0, 0, ns);
	while (batch_room(b) >= 2) {
		uint32_t r = random_u32();

		ns += 200 + r % 1800;
		if (t->depth < DEPTH_LEAST || (t->depth < DEPTH_MOST && r & 0x10000))
			batch_enter(b, 1 + (r >> 18) % FUNCTIONS, ns);
		else
			batch_exit(b, ns);
	}
	batch_end(b, 0);
	return ns;
}

int main(int argc, char **argv)
{
	struct pt_capture_info info = {
	    .start_mono_ns = START_NS,
	    .start_real_ns = START_REAL,
	    .tool_version = PT_VERSION,
	    .kernel = "synthetic",
	    .host = "bench",
	    .engine = "none",
	    .interpreter = "CPython 3.11.2",
	};
	unsigned long long events = argc > 2 ? strtoull(argv[2], NULL, 10) : 0;
	unsigned int threads = argc > 3 ? (unsigned int)strtoul(argv[3], NULL, 10) : 4;
	struct rec_thread t[THREADS_MAX];
	uint64_t ns[THREADS_MAX], done = 0, last_ns = START_NS;
	struct pt_capture_writer *writer;
	struct rec_builder b;
	struct pt_err err = {0};

	if (!events || !threads || threads > THREADS_MAX) {
		fprintf(stderr, "usage: replay_gen FILE.ptcap EVENTS [THREADS]\n");
		return 2;
	}
	if (pt_capture_create(argv[1], &info, true, &writer, &err)) {
		fprintf(stderr, "%s\n", err.what);
		return 1;
	}
	rec_init(&b, write_record, writer);
	rec_proc(&b, PT_PROC_ATTACH, 4242, 1, START_NS, 1, "python3", "python3 -m worker", 0);
	write_codes(&b);
	for (unsigned int i = 0; i < threads; i++) {
		t[i] = rec_thread(4242, 4242 + i, 1, i ? "worker" : "python3");
		ns[i] = START_NS + 1000;
	}
	for (unsigned int i = 0; done < events && !b.rc; i = (i + 1) % threads) {
		uint64_t before = t[i].events;

		ns[i] = write_batch(&b, &t[i], ns[i]);
		done += t[i].events - before;
		last_ns = ns[i] > last_ns ? ns[i] : last_ns;
	}
	rec_note(&b, PT_NOTE_GATE_CLOSE, last_ns + 1000, 0);
	if (b.rc || pt_capture_close(writer, true, &err)) {
		fprintf(stderr, "replay_gen: %s\n", err.what[0] ? err.what : strerror(-b.rc));
		return 1;
	}
	return 0;
}
