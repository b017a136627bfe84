// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/* The reader of traces (report FILE.json), on any bytes, plain and gzip. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "sink/report.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

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
	close(fd);
	return 0;
}
