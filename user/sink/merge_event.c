// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "sink/merge_event.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "sink/json_scan.h"
#include "sink/json_text.h"
#include "sink/sink.h"

/* Linux gives numbers below PID_MAX_LIMIT (include/linux/threads.h), which is 4 Mi. */
#define FIRST_NUMBER (4u << 20)
/* Viewers sort processes by this; those of one file stay together. */
#define SORT_STEP    5000000ull

struct event {
	struct pt_json_span ph, cat, name;
	uint64_t pid, new_pid;
	bool has_pid;
};

void pt_merge_begin(const struct pt_merge_ids *ids, struct pt_merge_file *file)
{
	memcpy(file->base, ids->most, sizeof(file->base));
}

static int use(struct pt_merge_ids *ids, const struct pt_merge_file *file, uint64_t number,
	       uint64_t chosen)
{
	void *value = (void *)(uintptr_t)(chosen + 1);

	return pt_map_put(&ids->used, chosen, 0, value) ||
		       pt_map_put(&ids->numbers, file->index, number, value)
		   ? -ENOMEM
		   : 0;
}

/* The number of a process or thread; the tracks of tasks and of states keep their distance. */
static int map_number(struct pt_merge_ids *ids, const struct pt_merge_file *file, uint64_t number,
		      uint64_t *result)
{
	bool track = number >= PT_TRACK_TID;
	uint64_t *next = track ? &ids->next_track : &ids->next_number;
	uint64_t most = track ? INT32_MAX : PT_STATE_TID_BASE - 1, chosen = number;
	void *known;
	int rc;

	if (!track && number >= PT_STATE_TID_BASE) {
		rc = map_number(ids, file, number - PT_STATE_TID_BASE, result);
		if (rc)
			return rc;
		if (*result >= PT_TRACK_TID - PT_STATE_TID_BASE)
			return -EOVERFLOW;
		*result += PT_STATE_TID_BASE;
		return 0;
	}
	known = pt_map_get(&ids->numbers, file->index, number);
	if (known) {
		*result = (uint64_t)(uintptr_t)known - 1;
		return 0;
	}
	if (pt_map_get(&ids->used, number, 0)) {
		if (!*next)
			*next = track ? PT_TRACK_TID : FIRST_NUMBER;
		while (pt_map_get(&ids->used, *next, 0))
			(*next)++;
		chosen = *next;
	}
	if (chosen > most)
		return -EOVERFLOW;
	*result = chosen;
	return use(ids, file, number, chosen);
}

static int put_number(struct pt_merge_ids *ids, const struct pt_merge_file *file,
		      const struct pt_json_span *value, struct pt_buf *out)
{
	uint64_t number;
	int rc;

	if (!pt_json_take_u64(value, &number) || number > INT32_MAX)
		return -EBADMSG;
	rc = map_number(ids, file, number, &number);
	pt_buf_printf(out, "%llu", (unsigned long long)number);
	return rc;
}

static int put_id(struct pt_merge_ids *ids, const struct pt_merge_file *file, enum pt_merge_id what,
		  const struct pt_json_span *value, struct pt_buf *out)
{
	uint64_t id;

	if (!pt_json_take_u64(value, &id))
		return -EBADMSG;
	if (id > INT64_MAX - file->base[what])
		return -EOVERFLOW;
	if (id) /* 0 is none */
		id += file->base[what];
	if (id > ids->most[what])
		ids->most[what] = id;
	pt_buf_printf(out, "%llu", (unsigned long long)id);
	return 0;
}

static int put_time(const struct pt_merge_file *file, const struct pt_json_span *value,
		    struct pt_buf *out)
{
	char text[PT_JSON_NUMBER_MAX];
	int64_t shifted;
	uint64_t ns;

	if (!pt_json_take_milli(value, &ns) || ns > INT64_MAX ||
	    __builtin_add_overflow((int64_t)ns, file->shift_ns, &shifted) || shifted < 0)
		return -EBADMSG;
	pt_buf_add(out, text, (size_t)(pt_json_us(text, (uint64_t)shifted) - text));
	return 0;
}

/* Of b and e: "TID.TRACK". Of a flow: a number. */
static int put_event_id(struct pt_merge_ids *ids, const struct pt_merge_file *file,
			const struct pt_json_span *value, struct pt_buf *out)
{
	struct pt_json_span tid = {value->text + 1, 0};
	const char *point = memchr(value->text, '.', value->len);
	int rc;

	if (value->text[0] != '"')
		return put_id(ids, file, PT_MERGE_FLOW, value, out);
	if (!point)
		return -EBADMSG;
	tid.len = (size_t)(point - tid.text);
	pt_buf_add_str(out, "\"");
	rc = put_number(ids, file, &tid, out);
	pt_buf_add(out, point, value->len - (size_t)(point - value->text));
	return rc;
}

/* A process says where it ran, and what its number was there. */
static int put_process_name(const struct pt_merge_file *file, const struct event *event,
			    const struct pt_json_span *value, struct pt_buf *out)
{
	bool renamed = event->new_pid != event->pid;

	if (value->len < 2 || value->text[0] != '"')
		return -EBADMSG;
	pt_buf_add(out, value->text, value->len - 1);
	if (file->host[0] || renamed)
		pt_buf_add_str(out, " (");
	pt_buf_add_str(out, file->host);
	if (renamed)
		pt_buf_printf(out, "%spid %llu", file->host[0] ? ", " : "",
			      (unsigned long long)event->pid);
	pt_buf_add_str(out, file->host[0] || renamed ? ")\"" : "\"");
	return 0;
}

static int put_arg(struct pt_merge_ids *ids, const struct pt_merge_file *file,
		   const struct event *event, const struct pt_json_member *arg, struct pt_buf *out)
{
	const struct pt_json_span *key = &arg->key, *value = &arg->value;
	bool digits = value->text[0] >= '0' && value->text[0] <= '9';
	uint64_t number;

	if (pt_json_is(&event->name, "\"process_name\"") && pt_json_is(key, "name") &&
	    pt_json_is(&event->ph, "\"M\""))
		return put_process_name(file, event, value, out);
	/* the names of a mark's arguments are the user's */
	if (digits && !pt_json_is(&event->cat, "\"mark\"")) {
		if (pt_json_is(key, "Python id") || pt_json_is(key, "Python parent id"))
			return put_id(ids, file, PT_MERGE_CALL, value, out);
		if (pt_json_is(key, "correlation") || pt_json_is(key, "External id"))
			return put_id(ids, file, PT_MERGE_CORRELATION, value, out);
		if ((pt_json_is(key, "holder") && pt_json_is(&event->cat, "\"gil\"")) ||
		    (pt_json_is(key, "thread") && pt_json_is(&event->cat, "\"asyncio_step\"")))
			return put_number(ids, file, value, out);
		if (pt_json_is(&event->name, "\"process_sort_index\"") &&
		    pt_json_take_u64(value, &number) && number < SORT_STEP) {
			pt_buf_printf(out, "%llu",
				      (unsigned long long)(file->index * SORT_STEP + number));
			return 0;
		}
	}
	pt_buf_add(out, value->text, value->len);
	return 0;
}

static void put_key(const struct pt_json_member *member, bool first, struct pt_buf *out)
{
	pt_buf_add_str(out, first ? "\"" : ",\"");
	pt_buf_add(out, member->key.text, member->key.len);
	pt_buf_add_str(out, "\":");
}

static int put_args(struct pt_merge_ids *ids, const struct pt_merge_file *file,
		    const struct event *event, const struct pt_json_span *value, struct pt_buf *out)
{
	const char *p = value->text;
	struct pt_json_member arg;
	bool first = true;
	int rc;

	pt_buf_add_str(out, "{");
	while ((rc = pt_json_next(&p, &arg)) > 0) {
		put_key(&arg, first, out);
		first = false;
		rc = put_arg(ids, file, event, &arg, out);
		if (rc)
			return rc;
	}
	pt_buf_add_str(out, "}");
	return rc;
}

static int put_member(struct pt_merge_ids *ids, const struct pt_merge_file *file,
		      const struct event *event, const struct pt_json_member *member,
		      struct pt_buf *out)
{
	const struct pt_json_span *key = &member->key, *value = &member->value;

	if (pt_json_is(key, "pid") || pt_json_is(key, "tid"))
		return put_number(ids, file, value, out);
	if (pt_json_is(key, "ts"))
		return put_time(file, value, out);
	if (pt_json_is(key, "id"))
		return put_event_id(ids, file, value, out);
	if (pt_json_is(key, "sf"))
		return put_id(ids, file, PT_MERGE_STACK, value, out);
	if (pt_json_is(key, "args"))
		return put_args(ids, file, event, value, out);
	pt_buf_add(out, value->text, value->len);
	return 0;
}

/* What must be known before anything is written; *p is behind the event then. */
static int look(struct pt_merge_ids *ids, const struct pt_merge_file *file, const char **p,
		struct event *event)
{
	struct pt_json_member member;
	int rc;

	while ((rc = pt_json_next(p, &member)) > 0) {
		if (pt_json_is(&member.key, "ph"))
			event->ph = member.value;
		else if (pt_json_is(&member.key, "cat"))
			event->cat = member.value;
		else if (pt_json_is(&member.key, "name"))
			event->name = member.value;
		else if (pt_json_is(&member.key, "pid"))
			event->has_pid = pt_json_take_u64(&member.value, &event->pid) &&
					 event->pid <= INT32_MAX;
	}
	if (rc || !event->ph.len || !event->name.len || !event->has_pid)
		return -EBADMSG;
	return map_number(ids, file, event->pid, &event->new_pid);
}

int pt_merge_event(struct pt_merge_ids *ids, const struct pt_merge_file *file, const char *text,
		   const char **end, struct pt_buf *out)
{
	struct event event = {.ph.text = "", .cat.text = "", .name.text = ""};
	struct pt_json_member member;
	const char *p = text;
	bool first = true;
	int rc;

	*end = text;
	rc = look(ids, file, end, &event);
	if (rc)
		return rc;
	pt_buf_add_str(out, "{");
	while ((rc = pt_json_next(&p, &member)) > 0) {
		put_key(&member, first, out);
		first = false;
		rc = put_member(ids, file, &event, &member, out);
		if (rc)
			return rc;
	}
	pt_buf_add_str(out, "}");
	return out->failed ? -ENOMEM : rc;
}

/* "12" */
static int put_quoted_id(struct pt_merge_ids *ids, const struct pt_merge_file *file,
			 const struct pt_json_span *value, struct pt_buf *out)
{
	struct pt_json_span inside = {value->text + 1, value->len - 2};
	int rc;

	if (value->len < 3 || value->text[0] != '"')
		return -EBADMSG;
	pt_buf_add_str(out, "\"");
	rc = put_id(ids, file, PT_MERGE_STACK, &inside, out);
	pt_buf_add_str(out, "\"");
	return rc;
}

int pt_merge_frame(struct pt_merge_ids *ids, const struct pt_merge_file *file, const char *text,
		   const char **end, struct pt_buf *out)
{
	const char *key_end = text[0] == '"' ? pt_json_skip(text, PT_JSON_NESTING_MAX) : NULL;
	struct pt_json_span key = {text, key_end ? (size_t)(key_end - text) : 0};
	struct pt_json_member member;
	bool first = true;
	int rc;

	if (!key_end || key_end[0] != ':' || key_end[1] != '{')
		return -EBADMSG;
	rc = put_quoted_id(ids, file, &key, out);
	pt_buf_add_str(out, ":{");
	*end = key_end + 1;
	while (!rc && (rc = pt_json_next(end, &member)) > 0) {
		put_key(&member, first, out);
		first = false;
		rc = 0;
		if (pt_json_is(&member.key, "parent"))
			rc = put_quoted_id(ids, file, &member.value, out);
		else
			pt_buf_add(out, member.value.text, member.value.len);
	}
	pt_buf_add_str(out, "}");
	return rc ? rc : out->failed ? -ENOMEM : 0;
}

void pt_merge_ids_release(struct pt_merge_ids *ids)
{
	pt_map_release(&ids->numbers);
	pt_map_release(&ids->used);
}
