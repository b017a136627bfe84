/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * trigger.h - what a capture may wait for: KIND:ARGUMENTS.
 *
 * One row of the table in trigger.c is one kind: how its arguments are read, what must be recorded
 * for it, and how it is told that it happened. Which of the three tests a kind has says what it
 * looks at: trace ops, ends of processes, or the clock and the world outside.
 *
 * Life cycle: pt_trigger_parse() -> tests, by watch.c -> pt_trigger_release().
 */
#ifndef PT_FLIGHT_TRIGGER_H
#define PT_FLIGHT_TRIGGER_H

#include <linux/types.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "model/op.h"
#include "pt_abi.h"

#define PT_TRIGGERS_MAX     32
#define PT_TRIGGER_TOLD_MAX 64
#define PT_TRIGGER_IMAGE    (-1000) /* in place of a device's number */

/* What a kind needs to be recorded. */
#define PT_NEEDS_OPS        0x1 /* the records must be decoded as they come */
#define PT_NEEDS_GC         0x2
#define PT_NEEDS_GIL        0x4
#define PT_NEEDS_EXCEPTIONS 0x8
#define PT_NEEDS_CUDA       0x10
#define PT_NEEDS_ASYNC      0x20 /* tasks of coroutines */
#define PT_NEEDS_MEMORY     0x40 /* what is allocated on devices */
#define PT_NEEDS_CALLS      0x80 /* each call of Python functions, not samples */

/* What happened. */
struct pt_fired {
	uint64_t time_ns; /* CLOCK_MONOTONIC */
	pid_t pid, tid;   /* 0: of none */
	char text[400];
};

/* A process with Python. */
struct pt_watched {
	pid_t pid;
	uint32_t image_id;
	uint64_t last_ns; /* of its last event */
	bool runs_python; /* had an event, or was named by the user */
	/* bits by trigger: told of its hang; of its memory, and it has not been below since */
	uint32_t told, above;
};

/* What the tests of the clock see. */
struct pt_trigger_tick {
	uint64_t known_ns; /* what happened until then has come */
	uint64_t now_ns, real_ns;
	struct pt_watched *watched;
	size_t watched_count;
};

struct pt_trigger;

struct pt_trigger_kind {
	const char *name, *form; /* "slow", "slow:GLOB:TIME" */
	const char *prefix;      /* of the text, with its last ':'; NULL: the name and ':' */
	unsigned int needs;      /* PT_NEEDS_* */
	bool watches;            /* it looks at pt_trigger_tick.watched */
	int (*parse)(struct pt_trigger *trigger, const char *arguments, struct pt_err *err);
	bool (*op)(struct pt_trigger *trigger, const struct pt_op *op, struct pt_fired *fired);
	/* Of a call that still runs; op ends it at what is known. */
	bool (*open)(struct pt_trigger *trigger, const struct pt_op *op, uint64_t last_ns,
		     struct pt_fired *fired);
	bool (*exit)(struct pt_trigger *trigger, const struct pt_rec_proc *record,
		     struct pt_fired *fired);
	bool (*tick)(struct pt_trigger *trigger, struct pt_trigger_tick *tick,
		     struct pt_fired *fired);
};

struct pt_trigger {
	const struct pt_trigger_kind *kind;
	char *text;    /* as it was given */
	char *pattern; /* a glob, a path or, of http, where to listen */
	uint64_t limit_bytes;
	uint64_t limit_ns;   /* longer than this */
	int signal_number;   /* signal */
	unsigned int day_s;  /* at: seconds since midnight, local time */
	unsigned int number; /* its place among the triggers: a bit */
	/* slow, request: calls that were told of while they ran, and still run */
	struct pt_trigger_told {
		pid_t tid;
		uint64_t begin_ns;
		bool runs; /* at the tick under way */
	} told[PT_TRIGGER_TOLD_MAX];
	size_t told_count;
	unsigned char *matches; /* slow, request: by function, enum in trigger.c */
	size_t match_count;
	/* request: the last call that was told of; it may lie within another one that is of the
	 * same request */
	pid_t inner_tid;
	uint64_t inner_begin_ns;
	/* request: the tasks that were told of lately */
	struct pt_trigger_task {
		pid_t track;
		uint64_t begin_ns;
	} tasks[PT_TRIGGER_TOLD_MAX];
	size_t next_task;
	/* memory:device: what a process has on a device; PT_TRIGGER_IMAGE: only the image */
	struct pt_trigger_memory {
		pid_t pid;
		int device;
		uint32_t image_id;
		bool above;
		int64_t bytes;
	} * memories;
	size_t memory_count;
	uint64_t next_s;  /* at: when, CLOCK_REALTIME; 0: not yet known */
	bool was;         /* file: it was there at the last look */
	bool came;        /* signal: not yet told */
	uint64_t cool_ns; /* the recorder's: what happens until then is passed over */
};

/* -EINVAL and err for what is no trigger. */
int pt_trigger_parse(const char *text, struct pt_trigger *trigger, struct pt_err *err);
void pt_trigger_release(struct pt_trigger *trigger);
/* Another model follows: what was remembered of the functions and calls of the last one goes. */
void pt_trigger_restart(struct pt_trigger *trigger);
/* "slow:GLOB:TIME, exception:TYPE, ..", for people. */
void pt_trigger_forms(char *text, size_t size);
/* The n-th kind's name; NULL: there are no more. */
const char *pt_trigger_kind_name(size_t n);
/* Of captures that somebody asks for, by pt_flight_ask(). */
const struct pt_trigger_kind *pt_trigger_asked(void);

#endif
