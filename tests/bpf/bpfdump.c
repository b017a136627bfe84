// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * bpfdump - attaches by a plan and writes raw records to a file; see README.md.
 *
 * Plan: "image" lets the finder make one; else a file with one item a line and numbers as
 * strtoull(3) reads them:
 *   layout NAME VALUE               a field of struct pt_layout
 *   site OFFSET VADDR KIND RAW TS SLOT FREG COND DIR BYTES(hex)
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "probe/attach.h"
#include "python/image.h"

static volatile sig_atomic_t stop;

static void on_signal(int number)
{
	(void)number;
	stop = 1;
}

#define FIELD(name)                                                                                \
	{                                                                                          \
#name, offsetof(struct pt_layout, name), sizeof(((struct pt_layout *)0)->name)     \
	}
static const struct {
	const char *name;
	size_t offset, size;
} fields[] = {
    FIELD(version),         FIELD(flags),          FIELD(ts_remaining),  FIELD(ts_frame),
    FIELD(cframe_frame),    FIELD(frame_code),     FIELD(frame_back),    FIELD(frame_owner),
    FIELD(frame_code_mask), FIELD(owner_hidden),   FIELD(code_flags),    FIELD(code_firstlineno),
    FIELD(code_name),       FIELD(code_qualname),  FIELD(code_filename), FIELD(str_length),
    FIELD(str_state),       FIELD(str_ascii_data), FIELD(str_data),
};

static int set_field(struct pt_layout *layout, const char *name, uint64_t value)
{
	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
		if (strcmp(fields[i].name, name))
			continue;
		memcpy((char *)layout + fields[i].offset, &value, fields[i].size);
		return 0;
	}
	return -EINVAL;
}

static int add_site(struct py_engine_plan *plan, char *words[])
{
	struct py_site *site;
	uint64_t n[9];

	for (int i = 0; i < 9; i++)
		n[i] = strtoull(words[i], NULL, 0);
	plan->sites = realloc(plan->sites, (plan->site_count + 1) * sizeof(*plan->sites));
	site = &plan->sites[plan->site_count];
	memset(site, 0, sizeof(*site));
	site->offset = n[0];
	site->vaddr = n[1];
	site->cookie = PT_COOKIE_WITH_DIR(
	    PT_COOKIE(n[2], (int)n[3], n[4], n[5], n[6], n[7], 0, plan->site_count), n[8]);
	site->insn_class = PY_INSN_OTHER;
	for (const char *hex = words[9]; hex[0] && hex[1] && site->byte_count < 16; hex += 2) {
		unsigned int byte;

		if (sscanf(hex, "%2x", &byte) != 1)
			return -EINVAL;
		site->bytes[site->byte_count++] = (uint8_t)byte;
	}
	plan->site_count++;
	return 0;
}

static int read_plan(const char *path, struct py_image **out, enum py_engine engine)
{
	struct py_image *image = calloc(1, sizeof(*image));
	FILE *file = fopen(path, "r");
	char line[1024];

	if (!file || !image)
		return -errno;
	image->engines[engine].usable = true;
	image->path = strdup(path);
	while (fgets(line, sizeof(line), file)) {
		char *words[12] = {NULL};
		int n = 0, rc = 0;

		for (char *w = strtok(line, " \n"); w && n < 12; w = strtok(NULL, " \n"))
			words[n++] = w;
		if (n == 3 && !strcmp(words[0], "layout"))
			rc = set_field(&image->layout, words[1], strtoull(words[2], NULL, 0));
		else if (n == 11 && !strcmp(words[0], "site"))
			rc = add_site(&image->engines[engine], words + 1);
		else if (n > 0 && strcmp(words[0], "#"))
			rc = -EINVAL;
		if (rc) {
			fprintf(stderr, "bpfdump: bad line: %s\n", words[0]);
			return rc;
		}
	}
	fclose(file);
	*out = image;
	return 0;
}

static FILE *out_file;
static uint64_t record_count;

static int on_record(const struct pt_rec *record, size_t len, void *ctx)
{
	(void)ctx;
	record_count++;
	if (out_file && fwrite(record, 1, len, out_file) != len)
		return -EIO;
	return 0;
}

static int fail(const struct pt_err *err)
{
	fprintf(stderr, "bpfdump: %s\n%s\n", err->what, err->hint);
	return err->exit_code;
}

static uint64_t find_bias(pid_t pid, const char *path, const struct py_engine_plan *plan)
{
	char maps[64], line[4096];
	uint64_t bias = 0;
	struct stat want;
	FILE *file;

	if (stat(path, &want))
		return 0;
	snprintf(maps, sizeof(maps), "/proc/%d/maps", pid);
	file = fopen(maps, "r");
	while (file && fgets(line, sizeof(line), file)) {
		uint64_t start, end, offset, inode;
		char perms[8];

		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %7s %" SCNx64 " %*s %" SCNu64, &start,
			   &end, perms, &offset, &inode) != 5 ||
		    perms[2] != 'x' || inode != want.st_ino)
			continue;
		/* the first site tells how file offsets and addresses of this segment differ */
		bias = start - offset - (plan->sites[0].vaddr - plan->sites[0].offset);
	}
	if (file)
		fclose(file);
	return bias;
}

static void usage(void)
{
	fprintf(stderr,
		"usage: bpfdump [-p PID]... [-a] [-f] [-F] [-o OUT] [-b RING_BYTES] "
		"[-d MAX_DEPTH] [-n MAX_EVENTS] [-s SECONDS] [-M] [-C] [-T] [-E] [-P] [-u] "
		"[-v] BINARY PLAN\n"
		"-f follow, -F reach: file, -M/-C/-T no multi/cookie/task storage, -E empty "
		"programs, -P peek often, -u usdt engine\n");
}

int main(int argc, char **argv)
{
	struct pt_tracer_options options = {0};
	enum pt_reach reach = PT_REACH_PROCESS;
	enum py_engine engine = PY_ENGINE_FRAME;
	struct pt_tracer_stats stats;
	struct pt_tracer *tracer;
	struct py_image *image = NULL;
	struct pt_err err = {0};
	uint64_t opened, bias;
	pid_t pids[64];
	size_t pid_count = 0;
	double seconds = 1e9;
	bool peek = false;
	int opt, index, rc;

	while ((opt = getopt(argc, argv, "p:afFo:b:d:n:s:MCTEPuv")) != -1) {
		switch (opt) {
		case 'p':
			if (pid_count < 64)
				pids[pid_count++] = atoi(optarg);
			break;
		case 'a':
			options.trace_all = true;
			break;
		case 'f':
			options.follow_children = true;
			break;
		case 'F':
			reach = PT_REACH_FILE;
			break;
		case 'o':
			out_file = fopen(optarg, "wb");
			break;
		case 'b':
			options.ring_bytes = strtoull(optarg, NULL, 0);
			break;
		case 'd':
			options.max_depth = (unsigned int)atoi(optarg);
			break;
		case 'n':
			options.max_events = strtoull(optarg, NULL, 0);
			break;
		case 's':
			seconds = atof(optarg);
			break;
		case 'M':
			options.no_uprobe_multi = true;
			break;
		case 'C':
			options.no_cookie = true;
			break;
		case 'T':
			options.no_task_storage = true;
			break;
		case 'E':
			options.bench_empty = true;
			break;
		case 'P':
			peek = true;
			break;
		case 'u':
			engine = PY_ENGINE_USDT;
			break;
		case 'v':
			pt_log_set_level(PT_LOG_DEBUG);
			break;
		default:
			usage();
			return 2;
		}
	}
	if (argc - optind != 2) {
		usage();
		return 2;
	}
	signal(SIGINT, on_signal);
	signal(SIGTERM, on_signal);
	if (!strcmp(argv[optind + 1], "image")) {
		rc = py_image_load(argv[optind], argv[optind], PY_INSN_EMULATED_DEFAULT, NULL,
				   &image, &err);
		if (rc)
			return fail(&err);
	} else if (read_plan(argv[optind + 1], &image, engine)) {
		return 2;
	}
	rc = pt_tracer_new(&options, &tracer, &err);
	if (rc)
		return fail(&err);
	index = pt_tracer_add_image(tracer, image, engine, reach, false, argv[optind], &err);
	if (index < 0)
		return fail(&err);
	for (size_t i = 0; i < pid_count; i++) {
		uint32_t image_id;

		bias = find_bias(pids[i], argv[optind], &image->engines[engine]);
		rc = pt_tracer_trace_process(tracer, index, pids[i], bias, argv[optind], &image_id,
					     &err);
		if (rc)
			return fail(&err);
	}
	pt_tracer_open_gate(tracer, &opened);
	printf("open\n");
	fflush(stdout);
	while (!stop) {
		struct timespec now;

		rc = pt_tracer_poll(tracer, 50, on_record, NULL);
		if (rc < 0)
			break;
		if (peek)
			pt_tracer_flush_stale(tracer, 1000000);
		clock_gettime(CLOCK_MONOTONIC, &now);
		if ((double)now.tv_sec + (double)now.tv_nsec * 1e-9 - (double)opened * 1e-9 >
		    seconds)
			break;
		if (pid_count && kill(pids[0], 0))
			break;
		pt_tracer_stats(tracer, &stats);
		if (stats.stopped)
			break;
	}
	pt_tracer_shut_gate(tracer);
	pt_tracer_close_gate(tracer, false);
	while ((rc = pt_tracer_poll(tracer, 0, on_record, NULL)) > 0)
		;
	pt_tracer_stats(tracer, &stats);
	printf("records %" PRIu64 " events %" PRIu64 " lost %" PRIu64 " lost_records %" PRIu64
	       " resyncs %" PRIu64 " batches %" PRIu64 " missed %" PRIu64 " stopped %d kind %s\n",
	       record_count, stats.events, stats.lost_events, stats.lost_records, stats.resyncs,
	       stats.batches, stats.missed, stats.stopped, pt_tracer_link_kind(tracer));
	pt_tracer_free(tracer);
	if (out_file)
		fclose(out_file);
	return rc < 0 ? 1 : 0;
}
