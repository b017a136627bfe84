/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * images.h - the interpreter files of a recording: each is loaded once, its engine is chosen, and
 * it is handed to the tracer.
 *
 * Life cycle: pt_images_new() -> pt_images_get() for each process -> pt_images_free() after the
 * tracer is freed (the tracer borrows the images).
 */
#ifndef PT_RECORD_IMAGES_H
#define PT_RECORD_IMAGES_H

#include <linux/types.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "probe/attach.h"
#include "python/image.h"
#include "record/engine.h"
#include "target/process.h"

struct pt_traced_image {
	uint64_t dev, inode; /* as in struct pt_module */
	int fd;              /* the file, kept open .. */
	char path[32];       /* .. so that this opens it again after the process is gone */
	struct py_image *image;
	enum py_engine engine;
	char why[640]; /* the engine was chosen */
	enum pt_reach reach;
	int index; /* of the tracer */
	/* --c-functions: probed at themselves, or where they are called (with --engine hybrid: not
	 * at all), and why */
	bool c_chosen, c_methods;
	char c_why[320];
	int refused; /* -errno: it cannot be traced, and this has been said */
	bool jit_doubt_said;
};

struct pt_images;

struct pt_images_options {
	enum pt_engine_wish engine;
	unsigned int emulated; /* see probe/calibrate.h */
	const char *cache_dir; /* may be NULL */
	/* Sets of 1u << enum py_feature: what is to be recorded beside frames, and of these, what
	 * is missed with a warning where an interpreter does not have it. */
	unsigned int features, features_asked;
	const char *const *c_globs; /* of --c-functions; NULL: all */
};

/* Borrows options and their strings. */
int pt_images_new(const struct pt_images_options *options, struct pt_images **images);
void pt_images_free(struct pt_images *images);

/* The image of the process's interpreter, or NULL if it was not loaded yet. */
struct pt_traced_image *pt_images_find(struct pt_images *images, const struct pt_module *module);
/* Loads it and chooses the engine; nothing is attached. The result lives as long as images. */
int pt_images_load(struct pt_images *images, const struct pt_module *module,
		   struct pt_traced_image **image, struct pt_err *err);
/* Hands it to the tracer. */
int pt_images_attach(struct pt_traced_image *image, struct pt_tracer *tracer, enum pt_reach reach,
		     struct pt_err *err);

size_t pt_images_count(const struct pt_images *images);
struct pt_traced_image *pt_images_at(const struct pt_images *images, size_t i);

#endif
