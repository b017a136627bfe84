// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "sink/otlp.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/map.h"
#include "base/utf8.h"
#include "sink/otlp_tree.h"

/* A process in the message that is being put together. */
struct part {
	Otlp__ResourceMetrics *metrics;
	Otlp__Metric *metric; /* the newest one .. */
	uint64_t name;        /* .. is of this name */
};

struct pt_otlp {
	const struct pt_otlp_source *source;
	uint64_t now_ns; /* since 1970 */
	struct pt_otlp_tree tree;
	Otlp__Metrics message;
	size_t points; /* in it */
	struct part own;
	struct pt_map parts; /* (pid, hash of the name): struct part */
	uint64_t name;       /* how many names there were */
	struct pt_buf *done;
	size_t done_count;
};

/* Forgets the message at work. */
static void clear(struct pt_otlp *otlp)
{
	pt_otlp_tree_clear(&otlp->tree);
	pt_map_release(&otlp->parts);
	memset(&otlp->parts, 0, sizeof(otlp->parts));
	memset(&otlp->own, 0, sizeof(otlp->own));
	otlp__metrics__init(&otlp->message);
	otlp->points = 0;
}

static void pack(struct pt_otlp *otlp)
{
	struct pt_buf *bigger, packed = {0};

	if (!otlp->points || otlp->tree.failed)
		return;
	bigger = reallocarray(otlp->done, otlp->done_count + 1, sizeof(*bigger));
	if (bigger)
		otlp->done = bigger;
	if (!bigger || pt_otlp_pack(&otlp->message.base, &packed)) {
		otlp->tree.failed = true;
		return;
	}
	otlp->done[otlp->done_count++] = packed;
	clear(otlp);
}

/* ---- resources ---- */

/* service NULL: the agent's. */
static void begin_part(struct pt_otlp *otlp, struct part *part, const char *service, pid_t pid)
{
	Otlp__ResourceMetrics *metrics = pt_otlp_take(&otlp->tree, sizeof(*metrics));
	Otlp__ScopeMetrics *scope = pt_otlp_take(&otlp->tree, sizeof(*scope));

	if (!metrics || !scope)
		return;
	otlp__resource_metrics__init(metrics);
	otlp__scope_metrics__init(scope);
	scope->scope = pt_otlp_scope(&otlp->tree, otlp->source);
	metrics->resource = pt_otlp_resource(&otlp->tree, otlp->source, service, pid);
	pt_otlp_append(&otlp->tree, &metrics->n_scopes, &metrics->scopes, scope);
	pt_otlp_append(&otlp->tree, &otlp->message.n_resources, &otlp->message.resources, metrics);
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
		part = pt_otlp_take(&otlp->tree, sizeof(*part));
		if (!part || pt_map_put(&otlp->parts, (uint64_t)sample->pid, hash, part))
			otlp->tree.failed = true;
	}
	if (!otlp->tree.failed && !part->metrics)
		begin_part(otlp, part, own ? NULL : sample->process, sample->pid);
	return otlp->tree.failed ? NULL : part;
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
	Otlp__Metric *metric = pt_otlp_take(&otlp->tree, sizeof(*metric));
	Otlp__Gauge *gauge = pt_otlp_take(&otlp->tree, sizeof(*gauge));
	Otlp__Sum *sum = pt_otlp_take(&otlp->tree, sizeof(*sum));

	if (!metric || !gauge || !sum)
		return;
	otlp__metric__init(metric);
	metric->name = pt_otlp_text(&otlp->tree, name->name);
	metric->description = pt_otlp_text(&otlp->tree, name->help);
	metric->unit = pt_otlp_text(&otlp->tree, unit_text(name->unit));
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
	pt_otlp_append(&otlp->tree, &scope->n_metrics, &scope->metrics, metric);
	part->metric = metric;
	part->name = otlp->name;
}

static Otlp__Point *point(struct pt_otlp *otlp, const struct pt_series_name *name,
			  const struct pt_series_sample *sample)
{
	const struct pt_otlp_source *source = otlp->source;
	Otlp__Point *item = pt_otlp_take(&otlp->tree, sizeof(*item));

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
		pt_otlp_append(&otlp->tree, &item->n_attributes, &item->attributes,
			       pt_otlp_attribute(&otlp->tree, "process", sample->process, 0));
		pt_otlp_append(&otlp->tree, &item->n_attributes, &item->attributes,
			       pt_otlp_attribute(&otlp->tree, "pid", sample->process, 0));
	}
	for (size_t i = 0; i < PT_SERIES_LABELS && sample->labels[i].key; i++)
		pt_otlp_append(&otlp->tree, &item->n_attributes, &item->attributes,
			       pt_otlp_attribute(&otlp->tree, sample->labels[i].key,
						 sample->labels[i].value, 0));
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
	part = otlp->tree.failed ? NULL : part_of(otlp, sample);
	if (part && (!part->metric || part->name != otlp->name))
		begin_metric(otlp, part, name);
	item = otlp->tree.failed ? NULL : point(otlp, name, sample);
	if (!item || !part->metric)
		return;
	add_attributes(otlp, item, sample);
	if (name->kind == PT_SERIES_GAUGE)
		pt_otlp_append(&otlp->tree, &part->metric->gauge->n_points,
			       &part->metric->gauge->points, item);
	else
		pt_otlp_append(&otlp->tree, &part->metric->sum->n_points,
			       &part->metric->sum->points, item);
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
	return otlp->tree.failed ? -ENOMEM : 0;
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
	Otlp__Answer *answer = otlp__answer__unpack(NULL, len, data);
	const Otlp__PartialSuccess *partial = answer ? answer->partial : NULL;

	*rejected = 0;
	reason[0] = '\0';
	if (!answer)
		return -EBADMSG;
	if (partial && partial->rejected > 0)
		*rejected = (uint64_t)partial->rejected;
	if (partial)
		pt_utf8_clean(reason, reason_size, partial->message, strlen(partial->message));
	otlp__answer__free_unpacked(answer, NULL);
	return 0;
}
