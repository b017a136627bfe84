/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * inspect.h - what check, list and --dry-run have in common: looking at a process's interpreter
 * without attaching to it.
 */
#ifndef PT_APP_INSPECT_H
#define PT_APP_INSPECT_H

#include <stdbool.h>
#include <stdio.h>

#include <cjson/cJSON.h>

#include "app/options.h"
#include "base/err.h"
#include "record/images.h"
#include "target/process.h"

struct app_inspector {
	struct pt_images_options options;
	struct pt_images *images;
	bool calibrated;              /* options.emulated was measured on this kernel */
	struct method_files *methods; /* NULL: C functions are not asked for by a list */
	struct app_list c_globs;      /* of check: those of the default */
	bool c_only;                  /* .. and others are not recorded where they are called */
	struct pt_err c_refused;      /* why this kernel cannot probe them at themselves */
	char cache_dir[4096];
};

int app_inspector_init(struct app_inspector *inspector, const struct app_options *options,
		       struct pt_err *err);
void app_inspector_release(struct app_inspector *inspector);
/* The interpreter of the process and the engine for it; err says why not. *image is set as soon as
 * the file could be analysed, also if no engine fits. */
int app_inspect(struct app_inspector *inspector, const struct pt_process *process,
		struct pt_traced_image **image, struct pt_err *err);

/* How the C functions that are asked for would be recorded; "" if none are. */
const char *app_c_functions_text(struct app_inspector *inspector, const struct pt_process *process,
				 struct pt_traced_image *image);

/* "static, stripped, dtrace" */
void app_build_text(const struct pt_process *process, const struct py_image *image, char *text,
		    size_t size);
/* Build id as hex digits; "" if there is none. */
void app_build_id_text(const struct py_image *image, char *text, size_t size);
/* Libraries that a reader of a trace likes to know of. A new array of names. */
cJSON *app_libraries_json(const struct pt_process *process);
/* Prints and frees. */
int app_print_json(cJSON *root, struct pt_err *err);

#endif
