/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * sdt_args.h - where the arguments of a <sys/sdt.h> probe are: "8@%rbx -4@112(%rsp)
 * -4@$5".
 */
#ifndef PT_PYTHON_SDT_ARGS_H
#define PT_PYTHON_SDT_ARGS_H

#include <stdbool.h>

struct sdt_arg {
	int bytes;        /* negative: signed */
	unsigned int reg; /* machine order: the argument, or its base */
	bool memory;      /* the argument lies at [reg + disp] */
	bool constant;    /* it is disp itself */
	int disp;
};

/* The argument of that number. False: there is none, or it has a form that is not known. */
bool sdt_arg_parse(const char *args, unsigned int number, struct sdt_arg *arg);

#endif
