// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "record/images.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"

struct pt_images {
	const struct pt_images_options *options;
	struct pt_traced_image **list; /* pointers, so that an image never moves */
	size_t count;
};

int pt_images_new(const struct pt_images_options *options, struct pt_images **out)
{
	struct pt_images *images = calloc(1, sizeof(*images));

	*out = images;
	if (!images)
		return -ENOMEM;
	images->options = options;
	return 0;
}

void pt_images_free(struct pt_images *images)
{
	if (!images)
		return;
	for (size_t i = 0; i < images->count; i++) {
		py_image_free(images->list[i]->image);
		if (images->list[i]->fd >= 0)
			close(images->list[i]->fd);
		free(images->list[i]);
	}
	free(images->list);
	free(images);
}

size_t pt_images_count(const struct pt_images *images)
{
	return images->count;
}

struct pt_traced_image *pt_images_at(const struct pt_images *images, size_t i)
{
	return images->list[i];
}

struct pt_traced_image *pt_images_find(struct pt_images *images, const struct pt_module *module)
{
	for (size_t i = 0; i < images->count; i++)
		if (images->list[i]->dev == module->dev && images->list[i]->inode == module->inode)
			return images->list[i];
	return NULL;
}

/* An exception tells by its code object where it was raised. */
static unsigned int without_exceptions(const struct py_image *image, unsigned int features)
{
	pt_warn(
	    "--exceptions does nothing for CPython %s in '%s': when code objects are freed is not "
	    "known there",
	    image->version_text, image->path);
	return features & ~(1u << PY_FEATURE_EXCEPTIONS);
}

static int add_features(const struct pt_images_options *options, struct pt_traced_image *traced,
			struct pt_err *err)
{
	unsigned int features = options->features;
	struct py_image *image = traced->image;
	int rc = 0;

	for (int f = 0; f < PY_FEATURE_COUNT; f++) {
		const struct py_engine_plan *plan = &image->features[f];

		if (!(features >> f & 1) || plan->usable)
			continue;
		if (options->features_asked >> f & 1)
			pt_warn("--%s does nothing for CPython %s in '%s': %s",
				py_feature_name((enum py_feature)f), image->version_text,
				image->path, plan->reason);
		else
			pt_verbose("no %s events: %s", py_feature_name((enum py_feature)f),
				   plan->reason);
	}
	if (options->engine == PT_ENGINE_HYBRID && features >> PY_FEATURE_EXCEPTIONS & 1)
		rc = py_image_add_free_code(image, traced->engine);
	if (rc == -ENOENT)
		features = without_exceptions(image, features);
	if (!rc || rc == -ENOENT)
		rc = py_image_add_features(image, traced->engine, features);
	return rc ? pt_err_set(err, rc, PT_EXIT_FAILED, "", "cannot plan the probes of '%s': %s",
			       image->path, strerror(-rc))
		  : 0;
}

/* Probes on the opcodes that do the work of C functions, for the functions that are wanted. */
static void keep_opcodes(const struct pt_images_options *options, struct py_image *image)
{
	unsigned int missing = py_image_keep_c_opcodes(image, options->c_globs);

	for (unsigned int opcode = 1; opcode <= PT_C_OPCODES; opcode++)
		if (missing >> opcode & 1)
			pt_warn("--c-functions: %s is not recorded in '%s' where it has become an "
				"opcode: %s",
				py_c_opcode_name(opcode), image->path,
				image->engines[PY_ENGINE_C_CALLS].reason);
}

static int load(const struct pt_images_options *options, const struct pt_module *module,
		struct pt_traced_image *traced, struct pt_err *err)
{
	char *name;
	int rc;

	traced->fd = open(module->open_path, O_RDONLY | O_CLOEXEC);
	if (traced->fd < 0) {
		rc = -errno;
		return pt_err_set(
		    err, rc, rc == -EACCES || rc == -EPERM ? PT_EXIT_PERMISSION : PT_EXIT_NO_TARGET,
		    rc == -EACCES || rc == -EPERM ? "run pytrace-bpf as root (sudo)"
						  : "has the process ended?",
		    "cannot open the interpreter '%s': %s", module->path, strerror(-rc));
	}
	snprintf(traced->path, sizeof(traced->path), "/proc/self/fd/%d", traced->fd);
	rc = py_image_load(traced->path, module->path, options->emulated, options->cache_dir,
			   &traced->image, err);

	if (rc) {
		pt_err_set(err, rc, PT_EXIT_UNSUPPORTED, "", "cannot read the interpreter '%s'",
			   module->path);
		return rc;
	}
	/* messages name the file as the process sees it */
	name = strdup(module->path);
	if (name) {
		free(traced->image->path);
		traced->image->path = name;
	}
	pt_verbose("CPython %s in '%s'%s, analysed in %.1f ms%s", traced->image->version_text,
		   module->path, module->deleted ? " (deleted)" : "", traced->image->find_ms,
		   traced->image->from_cache ? " (from the cache)" : "");
	rc = pt_engine_choose(traced->image, options->engine, &traced->engine, traced->why,
			      sizeof(traced->why), err);
	if (!rc)
		rc = add_features(options, traced, err);
	if (!rc)
		keep_opcodes(options, traced->image);
	if (!rc)
		pt_verbose("engine %s, %zu probes: %s",
			   pt_engine_wish_name(options->engine, traced->engine),
			   traced->image->engines[traced->engine].site_count, traced->why);
	return rc;
}

int pt_images_load(struct pt_images *images, const struct pt_module *module,
		   struct pt_traced_image **out, struct pt_err *err)
{
	struct pt_traced_image *traced = pt_images_find(images, module), **bigger;

	*out = traced;
	if (traced)
		return traced->refused;
	traced = calloc(1, sizeof(*traced));
	bigger = reallocarray(images->list, images->count + 1, sizeof(*bigger));
	if (bigger)
		images->list = bigger;
	if (!traced || !bigger) {
		free(traced);
		return pt_err_set(err, -ENOMEM, PT_EXIT_FAILED, "", "out of memory");
	}
	traced->dev = module->dev;
	traced->inode = module->inode;
	traced->index = -1;
	traced->fd = -1;
	traced->refused = load(images->options, module, traced, err);
	images->list[images->count++] = traced;
	*out = traced;
	return traced->refused;
}

int pt_images_attach(struct pt_traced_image *traced, struct pt_tracer *tracer, enum pt_reach reach,
		     struct pt_err *err)
{
	const char *why_not;
	int rc;

	if (traced->index >= 0)
		return 0;
	rc = pt_tracer_add_image(tracer, traced->image, traced->engine, reach, traced->c_methods,
				 traced->path, err);
	if (rc < 0) {
		traced->refused = rc;
		return pt_err_set(err, rc, PT_EXIT_FAILED, "run 'pytrace-bpf check'",
				  "cannot attach to '%s'", traced->image->path);
	}
	why_not = pt_tracer_c_functions_refusal(tracer, rc);
	if (why_not)
		pt_warn("--c-functions: those of '%s' are not recorded: %s", traced->image->path,
			why_not);
	traced->index = rc;
	traced->reach = reach;
	return 0;
}
