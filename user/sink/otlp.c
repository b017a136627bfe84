// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/* The tree of a message lies in chunks that are freed together. What cannot be had sets failed. */
#include "sink/otlp.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/map.h"
#include "base/utf8.h"
#include "otlp.pb-c.h"

#define CHUNK_BYTES (64u << 10)
#define SCOPE_NAME  "pytrace-bpf"

struct chunk {
	struct chunk *next;
	size_t used, size;
	_Alignas(max_align_t) char data[];
};

/* A process in the message that is being put together. */
struct part {
	Otlp__ResourceMetrics *metrics;
	Otlp__Metric *metric; /* the newest one .. */
	uint64_t name;        /* .. is of this name */
};

struct pt_otlp {
	const struct pt_otlp_source *source;
	uint64_t now_ns; /* since 1970 */
	bool failed;
	struct chunk *chunks;
	Otlp__Metrics message;
	size_t points; /* in it */
	struct part own;
	struct pt_map parts; /* (pid, hash of the name): struct part */
	uint64_t name;       /* how many names there were */
	struct pt_buf *done;
	size_t done_count;
};

/* ---- memory ---- */

/* Zeros; NULL: failed is set. */
static void *take(struct pt_otlp *otlp, size_t size)
{
	struct chunk *chunk = otlp->chunks;
	size_t aligned = (size + _Alignof(max_align_t) - 1) & ~(_Alignof(max_align_t) - 1);

	if (!chunk || chunk->size - chunk->used < aligned) {
		size_t room = aligned > CHUNK_BYTES ? aligned : CHUNK_BYTES;

		chunk = calloc(1, sizeof(*chunk) + room);
		if (!chunk) {
			otlp->failed = true;
			return NULL;
		}
		chunk->size = room;
		chunk->next = otlp->chunks;
		otlp->chunks = chunk;
	}
	chunk->used += aligned;
	return chunk->data + chunk->used - aligned;
}

static char *take_text(struct pt_otlp *otlp, const char *text)
{
	size_t len = strlen(text) + 1;
	char *copy = take(otlp, len);

	return copy ? memcpy(copy, text, len) : NULL;
}

/* Adds item to a list of protobuf-c's (at list: a pointer to pointers), whose room is a power of
 * two. */
static void append(struct pt_otlp *otlp, size_t *count, void *list, void *item)
{
	void **items, **bigger;

	if (!item)
		return;
	memcpy(&items, list, sizeof(items));
	if (!(*count & (*count - 1))) {
		bigger = take(otlp, (*count ? 2 * *count : 1) * sizeof(*bigger));
		if (!bigger)
			return;
		if (*count)
			memcpy(bigger, items, *count * sizeof(*bigger));
		items = bigger;
		memcpy(list, &items, sizeof(items));
	}
	items[(*count)++] = item;
}

/* Forgets the message at work. */
static void clear(struct pt_otlp *otlp)
{
	while (otlp->chunks) {
		struct chunk *chunk = otlp->chunks;

		otlp->chunks = chunk->next;
		free(chunk);
	}
	pt_map_release(&otlp->parts);
	memset(&otlp->parts, 0, sizeof(otlp->parts));
	memset(&otlp->own, 0, sizeof(otlp->own));
	otlp__metrics__init(&otlp->message);
	otlp->points = 0;
}

static void pack(struct pt_otlp *otlp)
{
	struct pt_buf *bigger, packed = {0};
	size_t size;

	if (!otlp->points || otlp->failed)
		return;
	size = otlp__metrics__get_packed_size(&otlp->message);
	bigger = reallocarray(otlp->done, otlp->done_count + 1, sizeof(*bigger));
	if (bigger)
		otlp->done = bigger;
	if (!bigger || pt_buf_reserve(&packed, size)) {
		otlp->failed = true;
		return;
	}
	packed.len = otlp__metrics__pack(&otlp->message, (uint8_t *)packed.data);
	otlp->done[otlp->done_count++] = packed;
	clear(otlp);
}

/* ---- resources ---- */

/* text NULL: a number. */
static Otlp__Attribute *attribute(struct pt_otlp *otlp, const char *key, const char *text,
				  int64_t number)
{
	Otlp__Attribute *item = take(otlp, sizeof(*item));
	Otlp__Value *value = take(otlp, sizeof(*value));

	if (!item || !value)
		return NULL;
	otlp__attribute__init(item);
	otlp__value__init(value);
	item->key = take_text(otlp, key);
	item->value = value;
	value->value_case = text ? OTLP__VALUE__VALUE_TEXT : OTLP__VALUE__VALUE_NUMBER;
	if (text)
		value->text = take_text(otlp, text);
	else
		value->number = number;
	return otlp->failed ? NULL : item;
}

static Otlp__Resource *describe(struct pt_otlp *otlp, const char *service, pid_t pid)
{
	const struct pt_otlp_source *source = otlp->source;
	Otlp__Resource *resource = take(otlp, sizeof(*resource));
	char instance[300];

	if (!resource)
		return NULL;
	otlp__resource__init(resource);
	snprintf(instance, sizeof(instance), service ? "%s:%d" : "%s", source->host, pid);
#define ADD(...)                                                                                   \
	append(otlp, &resource->n_attributes, &resource->attributes, attribute(otlp, __VA_ARGS__))
	ADD("service.name", service ? service : SCOPE_NAME, 0);
	ADD("service.instance.id", instance, 0);
	if (!service)
		ADD("service.version", source->version, 0);
	ADD("host.name", source->host, 0);
	if (service)
		ADD("process.pid", NULL, pid);
	for (size_t i = 0; i < source->attribute_count; i++)
		ADD(source->attributes[i].key, source->attributes[i].value, 0);
#undef ADD
	return resource;
}

/* service NULL: the agent's. */
static void begin_part(struct pt_otlp *otlp, struct part *part, const char *service, pid_t pid)
{
	Otlp__ResourceMetrics *metrics = take(otlp, sizeof(*metrics));
	Otlp__ScopeMetrics *scope = take(otlp, sizeof(*scope));
	Otlp__Scope *tool = take(otlp, sizeof(*tool));

	if (!metrics || !scope || !tool)
		return;
	otlp__resource_metrics__init(metrics);
	otlp__scope_metrics__init(scope);
	otlp__scope__init(tool);
	tool->name = take_text(otlp, SCOPE_NAME);
	tool->version = take_text(otlp, otlp->source->version);
	scope->scope = tool;
	metrics->resource = describe(otlp, service, pid);
	append(otlp, &metrics->n_scopes, &metrics->scopes, scope);
	append(otlp, &otlp->message.n_resources, &otlp->message.resources, metrics);
	part->metrics = metrics;
}

/* NULL: failed is set. */
static struct part *part_of(struct pt_otlp *otlp, const struct pt_series_sample *sample)
{
	bool own = !sample->process || !sample->pid;
	uint64_t hash = own ? 0 : pt_hash_bytes(sample->process, strlen(sample->process), 0);
	struct part *part = own ? &otlp->own
				: pt_map_get(&otlp->parts, (uint64_t)sample->pid, hash);

	if (!part) {
		part = take(otlp, sizeof(*part));
		if (!part || pt_map_put(&otlp->parts, (uint64_t)sample->pid, hash, part))
			otlp->failed = true;
	}
	if (!otlp->failed && !part->metrics)
		begin_part(otlp, part, own ? NULL : sample->process, sample->pid);
	return otlp->failed ? NULL : part;
}

/* ---- points ---- */

static const char *unit_text(enum pt_series_unit unit)
{
	switch (unit) {
	case PT_SERIES_BYTES:
		return "By";
	case PT_SERIES_NS:
		return "s";
	case PT_SERIES_RATIO:
	case PT_SERIES_PLAIN:
		break;
	}
	return "1";
}

static void begin_metric(struct pt_otlp *otlp, struct part *part, const struct pt_series_name *name)
{
	Otlp__ScopeMetrics *scope = part->metrics->scopes[0];
	Otlp__Metric *metric = take(otlp, sizeof(*metric));
	Otlp__Gauge *gauge = take(otlp, sizeof(*gauge));
	Otlp__Sum *sum = take(otlp, sizeof(*sum));

	if (!metric || !gauge || !sum)
		return;
	otlp__metric__init(metric);
	metric->name = take_text(otlp, name->name);
	metric->description = take_text(otlp, name->help);
	metric->unit = take_text(otlp, unit_text(name->unit));
	if (name->kind == PT_SERIES_GAUGE) {
		otlp__gauge__init(gauge);
		metric->data_case = OTLP__METRIC__DATA_GAUGE;
		metric->gauge = gauge;
	} else {
		otlp__sum__init(sum);
		sum->temporality = OTLP__TEMPORALITY__CUMULATIVE;
		sum->monotonic = 1;
		metric->data_case = OTLP__METRIC__DATA_SUM;
		metric->sum = sum;
	}
	append(otlp, &scope->n_metrics, &scope->metrics, metric);
	part->metric = metric;
	part->name = otlp->name;
}

static Otlp__Point *point(struct pt_otlp *otlp, const struct pt_series_name *name,
			  const struct pt_series_sample *sample)
{
	const struct pt_otlp_source *source = otlp->source;
	Otlp__Point *item = take(otlp, sizeof(*item));

	if (!item)
		return NULL;
	otlp__point__init(item);
	item->time_ns = otlp->now_ns;
	if (name->kind == PT_SERIES_COUNTER)
		item->start_ns = source->since_1970_ns +
				 (sample->since_ns ? sample->since_ns : source->start_ns);
	if (item->start_ns > item->time_ns) /* the clock was set back */
		item->start_ns = item->time_ns;
	if (pt_series_divided(name->unit)) {
		item->value_case = OTLP__POINT__VALUE_REAL;
		item->real = (double)sample->value / 1e9;
	} else {
		item->value_case = OTLP__POINT__VALUE_NUMBER;
		item->number = (int64_t)sample->value;
	}
	return item;
}

static void add_attributes(struct pt_otlp *otlp, Otlp__Point *item,
			   const struct pt_series_sample *sample)
{
	if (sample->process && !sample->pid) { /* all others: they share the agent's resource */
		append(otlp, &item->n_attributes, &item->attributes,
		       attribute(otlp, "process", sample->process, 0));
		append(otlp, &item->n_attributes, &item->attributes,
		       attribute(otlp, "pid", sample->process, 0));
	}
	for (size_t i = 0; i < PT_SERIES_LABELS && sample->labels[i].key; i++)
		append(otlp, &item->n_attributes, &item->attributes,
		       attribute(otlp, sample->labels[i].key, sample->labels[i].value, 0));
}

static void otlp_name(const struct pt_series_name *name, void *ctx)
{
	struct pt_otlp *otlp = ctx;

	otlp->name++;
}

static void otlp_sample(const struct pt_series_name *name, const struct pt_series_sample *sample,
			void *ctx)
{
	struct pt_otlp *otlp = ctx;
	struct part *part;
	Otlp__Point *item;

	if (otlp->points == PT_OTLP_POINTS_MAX)
		pack(otlp);
	part = otlp->failed ? NULL : part_of(otlp, sample);
	if (part && (!part->metric || part->name != otlp->name))
		begin_metric(otlp, part, name);
	item = otlp->failed ? NULL : point(otlp, name, sample);
	if (!item)
		return;
	add_attributes(otlp, item, sample);
	if (name->kind == PT_SERIES_GAUGE)
		append(otlp, &part->metric->gauge->n_points, &part->metric->gauge->points, item);
	else
		append(otlp, &part->metric->sum->n_points, &part->metric->sum->points, item);
	otlp->points++;
}

/* ---- the whole ---- */

int pt_otlp_new(const struct pt_otlp_source *source, uint64_t now_ns, struct pt_otlp **result)
{
	struct pt_otlp *otlp = calloc(1, sizeof(*otlp));

	if (!otlp)
		return -ENOMEM;
	otlp->source = source;
	otlp->now_ns = now_ns;
	otlp__metrics__init(&otlp->message);
	*result = otlp;
	return 0;
}

struct pt_series_sink pt_otlp_sink(struct pt_otlp *otlp)
{
	return (struct pt_series_sink){.name = otlp_name, .sample = otlp_sample, .ctx = otlp};
}

int pt_otlp_finish(struct pt_otlp *otlp, const struct pt_buf **messages, size_t *count)
{
	pack(otlp);
	*messages = otlp->done;
	*count = otlp->done_count;
	return otlp->failed ? -ENOMEM : 0;
}

void pt_otlp_free(struct pt_otlp *otlp)
{
	if (!otlp)
		return;
	clear(otlp);
	for (size_t i = 0; i < otlp->done_count; i++)
		pt_buf_release(&otlp->done[i]);
	free(otlp->done);
	free(otlp);
}

int pt_otlp_answer(const void *data, size_t len, uint64_t *rejected, char *reason,
		   size_t reason_size)
{
	Otlp__MetricsAnswer *answer = otlp__metrics_answer__unpack(NULL, len, data);
	const Otlp__PartialSuccess *partial = answer ? answer->partial : NULL;

	*rejected = 0;
	reason[0] = '\0';
	if (!answer)
		return -EBADMSG;
	if (partial && partial->rejected_points > 0)
		*rejected = (uint64_t)partial->rejected_points;
	if (partial)
		pt_utf8_clean(reason, reason_size, partial->message, strlen(partial->message));
	otlp__metrics_answer__free_unpacked(answer, NULL);
	return 0;
}
