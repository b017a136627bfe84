/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * err.h - how a failure travels up to the one place that prints it.
 *
 * A function that can fail returns 0 or -errno, and where a user may read of it, fills a struct
 * pt_err given by its caller: one sentence that says what failed, one that says what to do, and
 * the exit code that the program ends with if nobody recovers. The first writer wins: whoever
 * knows most sets it, callers only pass it on.
 */
#ifndef PT_BASE_ERR_H
#define PT_BASE_ERR_H

#include <stdbool.h>

/* The documented exit codes; never renumber. */
enum pt_exit {
	PT_EXIT_DONE = 0,
	PT_EXIT_FAILED = 1,      /* failed while running */
	PT_EXIT_USAGE = 2,       /* wrong options */
	PT_EXIT_PERMISSION = 3,  /* not permitted */
	PT_EXIT_NO_TARGET = 4,   /* no such process, or not Python */
	PT_EXIT_UNSUPPORTED = 5, /* this interpreter or kernel is not supported */
	PT_EXIT_LOST = 6,        /* done, but events were lost */
};

struct pt_err {
	enum pt_exit exit_code; /* PT_EXIT_DONE: nothing is set */
	char what[512];
	char hint[512]; /* what the user can do; may be empty */
};

/* Sets *err unless it is NULL or already set. Returns code (an -errno), so that callers can write
 * return pt_err_set(err, -ENOENT, PT_EXIT_NO_TARGET, "hint", "cannot open '%s'", path); */
int pt_err_set(struct pt_err *err, int code, enum pt_exit exit_code, const char *hint,
	       const char *fmt, ...) __attribute__((format(printf, 5, 6)));
void pt_err_clear(struct pt_err *err);
bool pt_err_is_set(const struct pt_err *err);

#endif
