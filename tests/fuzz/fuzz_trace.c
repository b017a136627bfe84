// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/* The readers of traces (report FILE.json, and what merge learns of clocks), on any bytes, plain
 * and gzip. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "sink/merge.h"
#include "sink/nccl_calls.h"
#include "sink/report.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The other rank of the communicator in corpus/trace/nccl. */
static const char *const other_host[] = {
    "{\"ph\":\"X\",\"cat\":\"nccl\",\"name\":\"ncclCommInitRank\",\"pid\":1,\"tid\":1,\"ts\":1,"
    "\"dur\":9,\"args\":{\"comm\":\"0x1\",\"nranks\":2,\"rank\":1,\"commId\":\"12\","
    "\"return\":\"ncclSuccess\"}}",
    "{\"ph\":\"X\",\"cat\":\"nccl\",\"name\":\"ncclAllReduce\",\"pid\":1,\"tid\":1,\"ts\":20,"
    "\"dur\":1,\"args\":{\"comm\":\"0x1\",\"count\":4,\"return\":\"ncclSuccess\"}}"};

static void look(const char *path)
{
	struct pt_clock_bounds *bounds = pt_clock_bounds_new(2);
	struct pt_nccl *nccl = pt_nccl_new();
	struct pt_clock_offset offsets[2];
	struct pt_nccl_result result;
	const char *missing = NULL;
	struct pt_err err = {0};
	uint32_t a, b;

	pt_nccl_file_begin(nccl, 0, 1);
	if (pt_merge_look(path, "x", nccl, &missing, &err) && !pt_err_is_set(&err))
		abort();
	if (pt_nccl_file_end(nccl, true))
		abort();
	pt_nccl_file_begin(nccl, 1, 1);
	if (pt_nccl_event(nccl, other_host[0]) || pt_nccl_event(nccl, other_host[1]) ||
	    pt_nccl_file_end(nccl, true) || pt_nccl_compare(nccl, 2, bounds, &result))
		abort();
	pt_clock_solve(bounds, offsets, &a, &b);
	pt_nccl_free(nccl);
	pt_clock_bounds_free(bounds);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int fd = memfd_create("trace", MFD_CLOEXEC);
	struct pt_totals totals;
	struct pt_report *report;
	struct pt_err err = {0};
	char path[64], *text = NULL;
	size_t len;
	FILE *out;

	if (fd < 0 || write(fd, data, size) != (ssize_t)size || pt_report_new(&report))
		abort();
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (pt_report_read_trace(path, report, &totals, &err) && !pt_err_is_set(&err))
		abort();
	out = open_memstream(&text, &len);
	if (!out || pt_report_print_text(report, &totals, 5, out) ||
	    pt_report_print_json(report, &totals, 5, out) ||
	    pt_report_print_memory_text(report, &totals, 5, out) ||
	    pt_report_print_memory_json(report, &totals, 5, out))
		abort();
	fclose(out);
	free(text);
	pt_report_free(report);
	look(path);
	close(fd);
	return 0;
}
