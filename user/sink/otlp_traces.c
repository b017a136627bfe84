// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "sink/otlp_traces.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "sink/otlp_tree.h"

/* The spans of a process. */
struct part {
	const struct pt_otlp_trace *of;
	Otlp__ScopeSpans *spans;
};

/* ---- resources ---- */

static bool is_given(const struct pt_otlp_source *source, const char *key)
{
	for (size_t i = 0; i < source->attribute_count; i++)
		if (!strcmp(source->attributes[i].key, key))
			return true;
	return false;
}

static void describe(struct pt_otlp_tree *tree, const struct pt_otlp_source *source,
		     Otlp__Resource *resource, const char *key, const char *text)
{
	if (*text && !is_given(source, key))
		pt_otlp_append(tree, &resource->n_attributes, &resource->attributes,
			       pt_otlp_attribute(tree, key, text, 0));
}

static bool same_process(const struct pt_otlp_trace *a, const struct pt_otlp_trace *b)
{
	return a->pid == b->pid && !strcmp(a->service, b->service) &&
	       !strcmp(a->version, b->version) && !strcmp(a->container, b->container);
}

static Otlp__ScopeSpans *begin_part(struct pt_otlp_tree *tree, const struct pt_otlp_source *source,
				    const struct pt_otlp_trace *trace, Otlp__Traces *message)
{
	Otlp__ResourceSpans *part = pt_otlp_take(tree, sizeof(*part));
	Otlp__ScopeSpans *spans = pt_otlp_take(tree, sizeof(*spans));
	Otlp__Resource *resource = pt_otlp_resource(tree, source, trace->service, trace->pid);

	if (!part || !spans || !resource)
		return NULL;
	describe(tree, source, resource, "process.runtime.name", *trace->version ? "cpython" : "");
	describe(tree, source, resource, "process.runtime.version", trace->version);
	describe(tree, source, resource, "container.id", trace->container);
	otlp__resource_spans__init(part);
	otlp__scope_spans__init(spans);
	part->resource = resource;
	spans->scope = pt_otlp_scope(tree, source);
	pt_otlp_append(tree, &part->n_scopes, &part->scopes, spans);
	pt_otlp_append(tree, &message->n_resources, &message->resources, part);
	return spans;
}

/* ---- spans ---- */

static ProtobufCBinaryData bytes_of(const uint8_t *data, size_t len)
{
	return (ProtobufCBinaryData){.len = len, .data = (uint8_t *)(uintptr_t)data};
}

static void add_attributes(struct pt_otlp_tree *tree, const struct pt_otlp_trace *trace,
			   const struct pt_otlp_span *span, Otlp__Span *item)
{
#define ADD(...)                                                                                   \
	pt_otlp_append(tree, &item->n_attributes, &item->attributes,                               \
		       pt_otlp_attribute(tree, __VA_ARGS__))
	if (span->category)
		ADD("pytrace.category", span->category, 0);
	else
		ADD("code.function.name", span->name, 0);
	if (!span->category && *span->file)
		ADD("code.file.path", span->file, 0);
	if (!span->category && span->line)
		ADD("code.line.number", NULL, span->line);
	if (span == trace->spans) {
		ADD("pytrace.request", trace->request, 0);
		ADD("pytrace.tid", NULL, trace->tid);
	}
#undef ADD
}

static void add_span(struct pt_otlp_tree *tree, const struct pt_otlp_trace *trace,
		     const struct pt_otlp_span *span, Otlp__ScopeSpans *spans)
{
	Otlp__Span *item = pt_otlp_take(tree, sizeof(*item));
	bool is_first = span == trace->spans;

	if (!item)
		return;
	otlp__span__init(item);
	item->trace_id = bytes_of(trace->id, sizeof(trace->id));
	item->span_id = bytes_of(span->id, sizeof(span->id));
	if (!is_first)
		item->parent_span_id = bytes_of(trace->spans[span->parent].id, sizeof(span->id));
	item->name = span->name;
	item->kind = is_first ? OTLP__SPAN_KIND__SERVER : OTLP__SPAN_KIND__INTERNAL;
	item->start_ns = span->begin_ns;
	item->end_ns = span->end_ns;
	add_attributes(tree, trace, span, item);
	pt_otlp_append(tree, &spans->n_spans, &spans->spans, item);
}

int pt_otlp_traces(const struct pt_otlp_source *source, const struct pt_otlp_trace *const *traces,
		   size_t count, struct pt_buf *message)
{
	struct part parts[PT_OTLP_TRACES_MAX];
	Otlp__Traces root = OTLP__TRACES__INIT;
	struct pt_otlp_tree tree = {0};
	size_t part_count = 0;
	int rc;

	for (size_t i = 0; i < count && !tree.failed; i++) {
		struct part *part = parts;

		while (part < parts + part_count && !same_process(part->of, traces[i]))
			part++;
		if (part == parts + part_count) {
			*part = (struct part){traces[i],
					      begin_part(&tree, source, traces[i], &root)};
			part_count++;
		}
		for (size_t k = 0; k < traces[i]->span_count && part->spans; k++)
			add_span(&tree, traces[i], &traces[i]->spans[k], part->spans);
	}
	rc = tree.failed ? -ENOMEM : pt_otlp_pack(&root.base, message);
	pt_otlp_tree_clear(&tree);
	return rc;
}

void pt_otlp_trace_free(struct pt_otlp_trace *trace)
{
	if (!trace)
		return;
	for (size_t i = 0; i < trace->span_count; i++) {
		free(trace->spans[i].name);
		free(trace->spans[i].category);
		free(trace->spans[i].file);
	}
	free(trace->spans);
	free(trace->service);
	free(trace->request);
	free(trace->version);
	free(trace->container);
	free(trace);
}
