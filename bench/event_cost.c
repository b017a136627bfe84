/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * event_cost.c - the tracer's side of the benchmark of costs per event; bench/lib/cost.py is the
 * other side.
 *
 * Usage: event_cost [--engine frame|usdt] [--reach file|process] [--ring BYTES] [--cache DIR]
 * [--cuda FILE] PID[,PID..] With --cuda the file's CUDA functions get probes, too. All PIDs must
 * run the same interpreter file. The program prints one JSON object that describes the interpreter
 * and its sites, then reads commands from stdin and answers each with one line: empty    probes at
 * every site run an empty BPF program record   the programs that a recording runs; the ring buffer
 * is drained and counted off      no probes; the answer holds the counts of what was on before End
 * of file on stdin ends it; so do errors, with a message on stderr and exit code 1.
 */
#include <errno.h>
#include <inttypes.h>
#include <linux/types.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"
#include "cuda/calls.h"
#include "probe/attach.h"
#include "probe/calibrate.h"
#include "python/image.h"
#include "target/process.h"

#define MAX_PIDS      16
#define LOAD_ROUNDS   5
#define DRAIN_WAIT_MS 5

struct drained {
	uint64_t bytes, records, batches, events, words;
};

struct bench {
	pid_t pids[MAX_PIDS];
	struct pt_process *processes[MAX_PIDS];
	size_t pid_count;
	enum py_engine engine;
	enum pt_reach reach;
	size_t ring_bytes;
	const char *cache_dir; /* for the finder's results; NULL: none */
	const char *cuda_path; /* or NULL */
	struct pt_cuda_library *cuda;
	struct pt_calibration calibration;
	struct py_image *image;
	struct pt_tracer *tracer; /* NULL: off */
	struct drained drained;
	double attach_ms;
};

static double now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static int fail(const struct pt_err *err, const char *what)
{
	fprintf(stderr, "event_cost: %s: %s%s%s\n", what, err->what, err->hint[0] ? "; " : "",
		err->hint);
	return -1;
}

static const struct pt_module *interpreter(const struct pt_process *process)
{
	return &process->modules[process->interpreter];
}

static int open_processes(struct bench *b)
{
	struct pt_err err = {0};
	size_t i;

	for (i = 0; i < b->pid_count; i++) {
		if (pt_process_open(b->pids[i], &b->processes[i], &err) < 0)
			return fail(&err, "cannot look at the process");
		if (b->processes[i]->interpreter < 0) {
			fprintf(stderr, "event_cost: %d is not Python\n", b->pids[i]);
			return -1;
		}
	}
	return 0;
}

static int load_once(struct bench *b, const char *cache_dir, struct py_image **image, double *ms)
{
	const struct pt_module *module = interpreter(b->processes[0]);
	struct pt_err err = {0};
	double start = now_ms();

	if (py_image_load(module->open_path, module->path, b->calibration.emulated, cache_dir,
			  image, &err) < 0)
		return fail(&err, "cannot analyse the interpreter");
	*ms = now_ms() - start;
	return 0;
}

/* Loads the image LOAD_ROUNDS times and keeps the last; the smallest time counts, because the
 * machine's noise only adds. */
static int load_rounds(struct bench *b, const char *cache_dir, double *best_ms)
{
	double ms;
	int i;

	for (i = 0; i < LOAD_ROUNDS; i++) {
		py_image_free(b->image);
		b->image = NULL;
		if (load_once(b, cache_dir, &b->image, &ms) < 0)
			return -1;
		if (i == 0 || ms < *best_ms)
			*best_ms = ms;
	}
	return 0;
}

static void print_image(const struct bench *b, double cold_ms, double cached_ms)
{
	const struct py_engine_plan *plan = &b->image->engines[b->engine];
	size_t i;

	printf("{\"version\": \"%s\", \"engine\": \"%s\", \"find_cold_ms\": %.3f, "
	       "\"find_cached_ms\": %.3f, \"from_cache\": %s, \"sites\": [",
	       b->image->version_text, b->engine == PY_ENGINE_FRAME ? "frame" : "usdt", cold_ms,
	       cached_ms, b->image->from_cache ? "true" : "false");
	for (i = 0; i < plan->site_count; i++)
		printf("%s{\"vaddr\": %" PRIu64 ", \"offset\": %" PRIu64 ", \"method\": \"%s\", "
		       "\"emulated\": %s}",
		       i ? ", " : "", plan->sites[i].vaddr, plan->sites[i].offset,
		       plan->sites[i].method ? plan->sites[i].method : "",
		       b->calibration.emulated >> plan->sites[i].insn_class & 1 ? "true" : "false");
	printf("]}\n");
}

static int analyse(struct bench *b)
{
	double cold_ms = 0, cached_ms = 0;
	struct pt_err err = {0};

	if (pt_calibrate(NULL, &b->calibration, &err) < 0)
		return fail(&err, "cannot calibrate");
	if (load_rounds(b, NULL, &cold_ms) < 0)
		return -1;
	if (b->cache_dir && load_rounds(b, b->cache_dir, &cached_ms) < 0)
		return -1;
	if (!b->image->engines[b->engine].usable) {
		fprintf(stderr, "event_cost: this engine is not usable: %s\n",
			b->image->engines[b->engine].reason);
		return -1;
	}
	print_image(b, cold_ms, cached_ms);
	return 0;
}

static int load_cuda(struct bench *b)
{
	struct pt_err err = {0};
	bool inside;

	if (!b->cuda_path)
		return 0;
	if (pt_cuda_library_load(b->cuda_path, b->cuda_path, PT_CUDA_WANT_RUNTIME, &b->cuda,
				 &inside, &err))
		return fail(&err, "cannot read the library");
	if (!b->cuda)
		fprintf(stderr, "event_cost: '%s' has no CUDA functions\n", b->cuda_path);
	return b->cuda ? 0 : -1;
}

static int count_record(const struct pt_rec *record, size_t len, void *ctx)
{
	struct drained *d = ctx;

	d->records++;
	d->bytes += len;
	if (record->kind == PT_REC_BATCH && !(record->flags & PT_RF_PEEK)) {
		const struct pt_rec_batch *batch = (const void *)record;

		d->batches++;
		d->events += batch->events;
		d->words += batch->word_count;
	}
	return 0;
}

static int attach(struct bench *b, bool empty)
{
	struct pt_tracer_options options = {
	    .ring_bytes = b->ring_bytes, .bench_empty = empty, .cuda = b->cuda != NULL};
	struct pt_err err = {0};
	double start = now_ms();
	uint64_t time_ns;
	size_t i;
	int index;

	memset(&b->drained, 0, sizeof(b->drained));
	if (pt_tracer_new(&options, &b->tracer, &err) < 0)
		return fail(&err, "cannot load the programs");
	index = pt_tracer_add_image(b->tracer, b->image, b->engine, b->reach, false,
				    interpreter(b->processes[0])->open_path, &err);
	if (index < 0)
		return fail(&err, "cannot attach to the file");
	for (i = 0; i < b->pid_count; i++) {
		const struct pt_module *module = interpreter(b->processes[i]);
		uint32_t image_id;

		if (pt_tracer_trace_process(b->tracer, index, b->pids[i], pt_module_bias(module),
					    module->open_path, &image_id, &err) < 0)
			return fail(&err, "cannot attach to the process");
	}
	if (b->cuda && pt_tracer_add_cuda(b->tracer, b->cuda, -1, b->cuda_path, &err) < 0)
		return fail(&err, "cannot attach to the library");
	if (pt_tracer_open_gate(b->tracer, &time_ns) < 0) {
		fprintf(stderr, "event_cost: cannot open the gate\n");
		return -1;
	}
	b->attach_ms = now_ms() - start;
	return 0;
}

/* Ends what is on; after the close the half-full batches lie in the ring buffer as well. */
static int detach(struct bench *b, struct pt_tracer_stats *stats)
{
	int n;

	if (!b->tracer)
		return 0;
	pt_tracer_shut_gate(b->tracer);
	if (pt_tracer_close_gate(b->tracer, false) < 0) {
		fprintf(stderr, "event_cost: cannot close the gate\n");
		return -1;
	}
	do {
		n = pt_tracer_poll(b->tracer, 0, count_record, &b->drained);
	} while (n > 0);
	pt_tracer_stats(b->tracer, stats);
	pt_tracer_free(b->tracer);
	b->tracer = NULL;
	return n;
}

static double cpu_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static int command(struct bench *b, const char *line)
{
	struct pt_tracer_stats stats = {0};
	bool empty = !strcmp(line, "empty\n");

	if (!empty && strcmp(line, "record\n") != 0 && strcmp(line, "off\n") != 0) {
		fprintf(stderr, "event_cost: unknown command: %s", line);
		return -1;
	}
	if (detach(b, &stats) < 0)
		return -1;
	if (line[0] != 'o' && attach(b, empty) < 0)
		return -1;
	printf("{\"events\": %" PRIu64 ", \"lost_events\": %" PRIu64 ", \"lost_records\": %" PRIu64
	       ", \"resyncs\": %" PRIu64 ", \"drained_events\": %" PRIu64
	       ", \"drained_bytes\": %" PRIu64 ", \"drained_batches\": %" PRIu64
	       ", \"drained_words\": %" PRIu64 ", \"links\": %zu, \"attach_ms\": %.3f, "
	       "\"link_kind\": \"%s\", \"cpu_ms\": %.3f}\n",
	       stats.events, stats.lost_events, stats.lost_records, stats.resyncs,
	       b->drained.events, b->drained.bytes, b->drained.batches, b->drained.words,
	       stats.links, b->attach_ms, b->tracer ? pt_tracer_link_kind(b->tracer) : "",
	       cpu_ms());
	return 0;
}

/* Drains the ring buffer until a command comes. Returns 1 with the command, 0 at the end. */
static int next_command(struct bench *b, char *line, size_t size)
{
	struct pollfd in = {.fd = STDIN_FILENO, .events = POLLIN};

	while (poll(&in, 1, b->tracer ? 0 : -1) == 0) {
		if (pt_tracer_poll(b->tracer, DRAIN_WAIT_MS, count_record, &b->drained) < 0) {
			fprintf(stderr, "event_cost: cannot read the ring buffer\n");
			return -1;
		}
	}
	return fgets(line, (int)size, stdin) ? 1 : 0;
}

static int serve(struct bench *b)
{
	char line[64];
	int result;

	while ((result = next_command(b, line, sizeof(line))) > 0) {
		if (command(b, line) < 0)
			return -1;
	}
	return result;
}

static int parse_pids(struct bench *b, char *text)
{
	char *save = NULL, *word;

	for (word = strtok_r(text, ",", &save); word; word = strtok_r(NULL, ",", &save)) {
		if (b->pid_count == MAX_PIDS || atoi(word) <= 0)
			return -1;
		b->pids[b->pid_count++] = atoi(word);
	}
	return b->pid_count ? 0 : -1;
}

static int parse(struct bench *b, int argc, char **argv)
{
	int i;

	for (i = 1; i + 1 < argc; i += 2) {
		if (!strcmp(argv[i], "--engine"))
			b->engine = !strcmp(argv[i + 1], "usdt") ? PY_ENGINE_USDT : PY_ENGINE_FRAME;
		else if (!strcmp(argv[i], "--reach"))
			b->reach = !strcmp(argv[i + 1], "file") ? PT_REACH_FILE : PT_REACH_PROCESS;
		else if (!strcmp(argv[i], "--ring"))
			b->ring_bytes = strtoull(argv[i + 1], NULL, 10);
		else if (!strcmp(argv[i], "--cache"))
			b->cache_dir = argv[i + 1];
		else if (!strcmp(argv[i], "--cuda"))
			b->cuda_path = argv[i + 1];
		else
			return -1;
	}
	return i < argc ? parse_pids(b, argv[i]) : -1;
}

int main(int argc, char **argv)
{
	struct bench b = {
	    .engine = PY_ENGINE_FRAME, .reach = PT_REACH_PROCESS, .ring_bytes = 16u << 20};
	int result = 2;
	size_t i;

	setvbuf(stdout, NULL, _IOLBF, 0);
	setvbuf(stdin, NULL, _IONBF, 0); /* poll(2) must see every command */
	if (parse(&b, argc, argv) < 0) {
		fprintf(stderr, "usage: event_cost [--engine frame|usdt] [--reach file|process] "
				"[--ring BYTES] [--cache DIR] [--cuda FILE] PID[,PID..]\n");
		return result;
	}
	result = open_processes(&b) < 0 || analyse(&b) < 0 || load_cuda(&b) < 0 || serve(&b) < 0;
	pt_tracer_free(b.tracer);
	pt_cuda_library_free(b.cuda);
	py_image_free(b.image);
	for (i = 0; i < b.pid_count; i++)
		pt_process_free(b.processes[i]);
	return result;
}
