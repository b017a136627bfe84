// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "sink/merge_clock.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "sink/clock_bounds.h"
#include "sink/json_text.h"
#include "sink/merge.h"
#include "sink/nccl_calls.h"
#include "sink/sink.h"

#define NO_HOST UINT32_MAX

struct clock_file {
	uint32_t host; /* or NO_HOST */
	uint64_t base_ns;
	uint64_t first_ns; /* of its events, from base_ns on */
};

struct clock_host {
	char *name;
	uint32_t files, told; /* of these, by which it can be compared */
	struct pt_clock_offset offset;
};

struct pt_merge_clock {
	struct clock_file *files;
	size_t file_count;
	struct clock_host *hosts;
	uint32_t host_count;
	struct pt_nccl *nccl;
	const char *why_not; /* nothing was corrected; NULL: it was looked at, and holds */
	bool solved;
};

struct pt_merge_clock *pt_merge_clock_new(void)
{
	struct pt_merge_clock *clock = calloc(1, sizeof(*clock));

	if (clock)
		clock->nccl = pt_nccl_new();
	if (clock && !clock->nccl) {
		free(clock);
		return NULL;
	}
	return clock;
}

void pt_merge_clock_free(struct pt_merge_clock *clock)
{
	if (!clock)
		return;
	for (uint32_t i = 0; i < clock->host_count; i++)
		free(clock->hosts[i].name);
	free(clock->hosts);
	free(clock->files);
	pt_nccl_free(clock->nccl);
	free(clock);
}

/* Its index, or NO_HOST. -ENOMEM. */
static int host_index(struct pt_merge_clock *clock, const char *name, uint32_t *index)
{
	struct clock_host *bigger;

	*index = NO_HOST;
	if (!name[0])
		return 0;
	for (*index = 0; *index < clock->host_count; (*index)++)
		if (!strcmp(clock->hosts[*index].name, name))
			return 0;
	bigger = reallocarray(clock->hosts, clock->host_count + 1, sizeof(*bigger));
	if (!bigger)
		return -ENOMEM;
	clock->hosts = bigger;
	bigger[*index] = (struct clock_host){.name = strdup(name)};
	if (!bigger[*index].name)
		return -ENOMEM;
	clock->host_count++;
	return 0;
}

int pt_merge_clock_file(struct pt_merge_clock *clock, const char *host, uint64_t base_ns)
{
	struct clock_file *bigger = reallocarray(clock->files, clock->file_count + 1,
						 sizeof(*bigger));
	uint32_t index;

	if (!bigger)
		return -ENOMEM;
	clock->files = bigger;
	if (host_index(clock, host, &index))
		return -ENOMEM;
	bigger[clock->file_count++] = (struct clock_file){index, base_ns, UINT64_MAX};
	if (index != NO_HOST)
		clock->hosts[index].files++;
	return 0;
}

uint32_t pt_merge_clock_hosts(const struct pt_merge_clock *clock)
{
	return clock->host_count;
}

int pt_merge_clock_read(struct pt_merge_clock *clock, size_t file, const char *path,
			const char *name, struct pt_err *err)
{
	struct clock_file *own = &clock->files[file];
	const struct pt_nccl_file *of_file;
	const char *missing = NULL;
	int rc;

	if (own->host == NO_HOST)
		return 0;
	pt_nccl_file_begin(clock->nccl, own->host, own->base_ns);
	rc = pt_merge_look(path, name, clock->nccl, &missing, err);
	if (!rc && pt_nccl_file_end(clock->nccl, !missing))
		rc = pt_err_set(err, -ENOMEM, PT_EXIT_FAILED, "", "out of memory");
	if (rc)
		return rc;
	of_file = pt_nccl_file(clock->nccl);
	own->first_ns = of_file->first_ns;
	clock->hosts[own->host].told += of_file->told;
	if (of_file->full)
		pt_warn("there are too many calls of NCCL: the collectives of '%s' are not "
			"compared",
			name);
	/* its calls of NCCL may be what is missing */
	if (missing && (of_file->any || !strcmp(missing, PT_MERGE_SHORT_CALLS)))
		pt_warn("'%s' tells nothing of its host's clock: some of its events are missing "
			"(%s)",
			name, missing);
	return 0;
}

/* ---- what it found ---- */

/* "+1.234 ms" */
static void milliseconds(int64_t ns, char text[40])
{
	uint64_t size = ns < 0 ? -(uint64_t)ns : (uint64_t)ns;

	snprintf(text, 40, "%c%llu.%06llu ms", ns < 0 ? '-' : '+',
		 (unsigned long long)(size / 1000000), (unsigned long long)(size % 1000000));
}

static void tell_bound(const char *before, int64_t ns, int64_t unknown, char text[64])
{
	char number[40];

	milliseconds(ns, number);
	snprintf(text, 64, "%s%s", before, ns == unknown ? "any" : number);
}

static void tell_host(const struct pt_merge_clock *clock, const struct clock_host *host)
{
	const struct pt_clock_offset *offset = &host->offset;
	char least[64], most[64], moved[40];

	tell_bound("", offset->least_ns, INT64_MIN, least);
	tell_bound("", offset->most_ns, INT64_MAX, most);
	milliseconds(offset->offset_ns, moved);
	if (offset->least_ns == INT64_MIN && offset->most_ns == INT64_MAX)
		pt_info("clock of %s: as it is; no call of NCCL tells more of it", host->name);
	else if (!offset->offset_ns)
		pt_info("clock of %s: as it is; by calls of NCCL it is off from that of %s by %s "
			"to %s",
			host->name, clock->hosts[0].name, least, most);
	else
		pt_info("clock of %s: moved by %s; by calls of NCCL it has to be %s to %s, to be "
			"that of %s",
			host->name, moved, least, most, clock->hosts[0].name);
}

static void tell_contradiction(const struct pt_merge_clock *clock, int rc, uint32_t a, uint32_t b)
{
	const char *then = "all clocks are taken as they are";

	if (rc == -ELOOP)
		pt_warn("calls of NCCL on %s and other hosts contradict each other, as where "
			"clocks drift in a long recording; %s",
			clock->hosts[a].name, then);
	else if (a == b)
		pt_warn("calls of NCCL in files of the host %s contradict each other, as if "
			"several hosts had that name; %s",
			clock->hosts[a].name, then);
	else
		pt_warn("calls of NCCL on %s and %s contradict each other, as where clocks drift "
			"in a long recording; %s",
			clock->hosts[a].name, clock->hosts[b].name, then);
}

static void tell_result(const struct pt_nccl_result *result)
{
	if (result->ambiguous)
		pt_warn("%llu communicators of NCCL were not compared: ranks of them are there "
			"more than once",
			(unsigned long long)result->ambiguous);
	if (result->different)
		pt_warn("collectives of %llu communicators of NCCL were not compared: their ranks "
			"made different calls",
			(unsigned long long)result->different);
	if (result->communicators || result->collectives)
		pt_info("clocks compared by %llu communicators and %llu collectives of NCCL",
			(unsigned long long)result->communicators,
			(unsigned long long)result->collectives);
}

static void take_offsets(struct pt_merge_clock *clock, const struct pt_clock_offset *offsets)
{
	for (uint32_t i = 0; i < clock->host_count; i++)
		clock->hosts[i].offset = offsets[i];
}

static int solve(struct pt_merge_clock *clock, struct pt_clock_bounds *bounds,
		 struct pt_clock_offset *offsets)
{
	struct pt_nccl_result result;
	uint32_t a, b;
	int rc = pt_nccl_compare(clock->nccl, clock->host_count, bounds, &result);

	if (rc)
		return rc;
	tell_result(&result);
	rc = pt_clock_solve(bounds, offsets, &a, &b);
	take_offsets(clock, offsets);
	if (rc) {
		clock->why_not = "the calls of NCCL contradict each other";
		tell_contradiction(clock, rc, a, b);
	} else if (!result.communicators && !result.collectives) {
		clock->why_not = "no call of NCCL on several hosts";
		pt_info("clocks are taken as they are: the files have no communicator of NCCL on "
			"several hosts that was made while they were recorded");
	} else {
		for (uint32_t i = 1; i < clock->host_count; i++)
			tell_host(clock, &clock->hosts[i]);
	}
	clock->solved = true;
	return 0;
}

int pt_merge_clock_solve(struct pt_merge_clock *clock, struct pt_err *err)
{
	struct pt_clock_bounds *bounds;
	struct pt_clock_offset *offsets;
	int rc = -ENOMEM;

	if (clock->host_count > PT_CLOCK_HOSTS_MAX) {
		pt_warn("clocks are taken as they are: these are more than %d hosts",
			PT_CLOCK_HOSTS_MAX);
		return 0;
	}
	bounds = pt_clock_bounds_new(clock->host_count);
	offsets = calloc(clock->host_count, sizeof(*offsets));
	if (bounds && offsets)
		rc = solve(clock, bounds, offsets);
	pt_clock_bounds_free(bounds);
	free(offsets);
	return rc ? pt_err_set(err, rc, PT_EXIT_FAILED, "", "out of memory") : 0;
}

/* ---- for the merge ---- */

int64_t pt_merge_clock_offset(const struct pt_merge_clock *clock, size_t file)
{
	uint32_t host = clock->files[file].host;

	return host == NO_HOST ? 0 : clock->hosts[host].offset.offset_ns;
}

uint64_t pt_merge_clock_base(const struct pt_merge_clock *clock)
{
	uint64_t base_ns = UINT64_MAX, earlier = 0;

	for (size_t i = 0; i < clock->file_count; i++)
		if (clock->files[i].base_ns < base_ns)
			base_ns = clock->files[i].base_ns;
	for (size_t i = 0; i < clock->file_count; i++) {
		const struct clock_file *file = &clock->files[i];
		int64_t offset_ns = pt_merge_clock_offset(clock, i);
		uint64_t back_ns = offset_ns < 0 ? -(uint64_t)offset_ns : 0;
		uint64_t first_ns = file->base_ns - base_ns + file->first_ns;

		if (file->first_ns < UINT64_MAX && back_ns > first_ns &&
		    back_ns - first_ns > earlier)
			earlier = back_ns - first_ns;
	}
	return earlier && earlier <= base_ns ? pt_chrome_base_ns(base_ns - earlier) : base_ns;
}

static void describe_bound(struct pt_buf *buf, const char *key, int64_t ns, int64_t unknown)
{
	pt_buf_printf(buf, ", \"%s\": ", key);
	if (ns == unknown)
		pt_buf_add_str(buf, "null");
	else
		pt_buf_printf(buf, "%lld", (long long)ns);
}

void pt_merge_clock_describe(const struct pt_merge_clock *clock, struct pt_buf *buf)
{
	for (uint32_t i = 0; clock->solved && i < clock->host_count; i++) {
		const struct clock_host *host = &clock->hosts[i];
		const struct pt_clock_offset *offset = &host->offset;

		/* the name is JSON text */
		pt_buf_printf(buf, "%s\n    {\"host\": \"%s\", \"moved by (ns)\": %lld",
			      i ? "," : "", host->name, (long long)offset->offset_ns);
		describe_bound(buf, "at least (ns)", offset->least_ns, INT64_MIN);
		describe_bound(buf, "at most (ns)", offset->most_ns, INT64_MAX);
		pt_buf_printf(buf, ", \"comparisons\": %llu, \"files that tell\": %u",
			      (unsigned long long)offset->facts, host->told);
		if (clock->why_not)
			pt_buf_printf(buf, ", \"not compared\": \"%s\"", clock->why_not);
		pt_buf_add_str(buf, "}");
	}
}
