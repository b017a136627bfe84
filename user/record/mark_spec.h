/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * mark_spec.h - what the user says of a probe of his own:
 *
 *     uprobe:PATH:SYMBOL[(ARGUMENT:TYPE,...)][=KIND[:LABEL]]
 *     usdt:PATH:PROVIDER:NAME[(ARGUMENT:TYPE,...)][=KIND[:LABEL]]
 *
 * Pure: nothing is looked for here. docs/MARKS.md says what it means.
 */
#ifndef PT_RECORD_MARK_SPEC_H
#define PT_RECORD_MARK_SPEC_H

#include <linux/types.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "pt_abi.h"
#include "pt_maps.h"

struct pt_mark_spec_arg {
	char name[PT_MARK_ARG_NAME_BYTES];
	enum pt_mark_read read;
	enum pt_mark_arg_type type;
	unsigned int bytes;
	bool is_signed;
};

struct pt_mark_spec {
	const char *text; /* borrowed: as it was given */
	bool usdt;
	char path[4096]; /* with a slash: a path; "*": every file; else a file's name */
	char provider[PT_MARK_NAME_BYTES], symbol[256], label[PT_MARK_NAME_BYTES];
	enum pt_mark_kind kind;
	struct pt_mark_spec_arg args[PT_MARK_ARGS_MAX];
	unsigned int arg_count;
};

/* The functions of NVTX that a library may export, as texts; NULL ends them. */
extern const char *const pt_mark_nvtx[];

/* -EINVAL, and err says what is wrong. */
int pt_mark_spec_parse(const char *text, struct pt_mark_spec *spec, struct pt_err *err);

#endif
