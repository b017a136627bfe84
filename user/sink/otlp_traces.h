/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * otlp_traces.h - requests as OTLP messages (ExportTraceServiceRequest, as protobuf). Pure.
 *
 * Each process is a resource, as in otlp.h; a request is a trace, whose first span is all of it and
 * the others what took long in it.
 */
#ifndef PT_SINK_OTLP_TRACES_H
#define PT_SINK_OTLP_TRACES_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"
#include "sink/otlp.h"

#define PT_OTLP_TRACE_ID_BYTES 16
#define PT_OTLP_SPAN_ID_BYTES  8
/* In a message; with a hundred spans each, 3 MB before it is compressed. */
#define PT_OTLP_TRACES_MAX     100

/* All texts are valid UTF-8. */
struct pt_otlp_span {
	uint8_t id[PT_OTLP_SPAN_ID_BYTES];
	size_t parent;             /* an earlier one of the trace; of the first: 0 */
	uint64_t begin_ns, end_ns; /* since 1970 */
	char *name;
	char *category; /* NULL: a call, and: */
	char *file;     /* "": not known */
	uint32_t line;  /* 0: not known */
};

struct pt_otlp_trace {
	uint8_t id[PT_OTLP_TRACE_ID_BYTES];
	pid_t pid, tid;
	char *service;
	char *request;   /* the server's function that the first span is */
	char *version;   /* of CPython; "": not known */
	char *container; /* its id; "": none */
	struct pt_otlp_span *spans;
	size_t span_count;
};

/* A message of at most PT_OTLP_TRACES_MAX of them. 0 or -ENOMEM. */
int pt_otlp_traces(const struct pt_otlp_source *source, const struct pt_otlp_trace *const *traces,
		   size_t count, struct pt_buf *message);
/* Its texts, spans, and itself. */
void pt_otlp_trace_free(struct pt_otlp_trace *trace);

#endif
