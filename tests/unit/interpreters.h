/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/* interpreters.h - the interpreters of 3.8 to 3.15 that are installed here, to run scripts with. */
#ifndef INTERPRETERS_H
#define INTERPRETERS_H

#include <limits.h>
#include <stddef.h>

#define INTERPRETERS_MAX 32

struct interpreter {
	char command[2 * PATH_MAX]; /* for the shell; reads its script from stdin if told "-" */
	char root[PATH_MAX];        /* its paths begin there; "" for / */
};

extern struct interpreter interpreters[INTERPRETERS_MAX];

/* Fills interpreters; how many there are. Those in roots of their own are for root only. */
size_t interpreters_find(void);

#endif
