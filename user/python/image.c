// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "python/image.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "python/cache.h"
#include "python/cfunc.h"
#include "python/jit.h"
#include "python/parts.h"

struct image_owner { /* what py_image_load() allocates; image is the first member */
	struct py_image image;
	char *pool; /* method texts of an image that came from the cache */
};

static double now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

static struct image_owner *owner_new(const char *path, const struct elf_file *elf)
{
	struct image_owner *owner = calloc(1, sizeof(*owner));

	if (!owner)
		return NULL;
	owner->image.path = strdup(path);
	if (!owner->image.path) {
		free(owner);
		return NULL;
	}
	owner->image.dev = elf->dev;
	owner->image.inode = elf->inode;
	owner->image.build_id_len = elf->build_id_len;
	memcpy(owner->image.build_id, elf->build_id, sizeof(owner->image.build_id));
	return owner;
}

void py_image_free(struct py_image *image)
{
	struct image_owner *owner = (struct image_owner *)image;

	if (!owner)
		return;
	for (int e = 0; e < PY_ENGINE_COUNT; e++)
		free(image->engines[e].sites);
	for (int f = 0; f < PY_FEATURE_COUNT; f++)
		free(image->features[f].sites);
	free(image->path);
	free(owner->pool);
	free(owner);
}

/* A finder's answer becomes the plan's verdict; only what is no verdict is passed on. */
static int finish_plan(struct py_image *image, const struct py_finder *finder,
		       struct py_engine_plan *plan, int ret)
{
	/* Every engine must know when a code object's address is used again. */
	if (!ret)
		ret = py_site_free_code(image, finder, plan);
	if (ret == -ENOMEM)
		return ret;
	if (ret && ret != -ENOTSUP)
		py_plan_refuse(plan, "finding the sites failed: %s", strerror(-ret));
	else if (ret && !plan->reason[0])
		py_plan_refuse(plan, "no sites were found");
	plan->usable = !ret && plan->site_count;
	return 0;
}

static int find_feature(struct py_image *image, const struct py_finder *finder,
			enum py_feature feature)
{
	struct py_engine_plan *plan = &image->features[feature];
	int ret = -ENOTSUP;

	switch (feature) {
	case PY_FEATURE_GC:
		ret = py_sites_gc(image, finder, plan);
		break;
	case PY_FEATURE_GIL:
		ret = py_sites_gil(image, finder, plan);
		break;
	case PY_FEATURE_IMPORTS:
		ret = image->rt.frame_locals != PT_NO_FIELD
			  ? 0
			  : py_plan_refuse(plan, "where a frame's variables lie is not known");
		break;
	case PY_FEATURE_AUDIT:
		ret = py_sites_audit(image, finder, plan);
		break;
	case PY_FEATURE_EXCEPTIONS:
		ret = py_sites_raise(image, finder, plan);
		break;
	case PY_FEATURE_VALUES:
		ret = image->values.code_names != PT_NO_FIELD
			  ? 0
			  : py_plan_refuse(plan, "where a frame's values lie is not known (nor do "
						 "--retval and --local anything)");
		break;
	case PY_FEATURE_ASYNC:
		ret = image->rt.gen_frame != PT_NO_FIELD
			  ? py_sites_throw(image, finder, plan)
			  : py_plan_refuse(plan, "where a coroutine's frame lies is not known");
		break;
	case PY_FEATURE_COUNT:
		break;
	}
	if (ret == -ENOMEM)
		return ret;
	if (ret && ret != -ENOTSUP)
		py_plan_refuse(plan, "finding the sites failed: %s", strerror(-ret));
	plan->usable = !ret;
	return 0;
}

static int find_features(struct py_image *image, const struct py_finder *finder)
{
	int ret = 0;

	py_rt_layout_fill(image, finder);
	py_value_layout_fill(image, finder->elf);
	for (int f = 0; f < PY_FEATURE_COUNT && !ret; f++)
		ret = find_feature(image, finder, (enum py_feature)f);
	return ret;
}

const char *py_feature_name(enum py_feature feature)
{
	static const char *const names[PY_FEATURE_COUNT] = {
	    [PY_FEATURE_GC] = "gc",
	    [PY_FEATURE_GIL] = "gil",
	    [PY_FEATURE_IMPORTS] = "imports",
	    [PY_FEATURE_AUDIT] = "audit",
	    [PY_FEATURE_EXCEPTIONS] = "exceptions",
	    [PY_FEATURE_VALUES] = "args",
	    [PY_FEATURE_ASYNC] = "async",
	};

	return names[feature];
}

/* A site of another plan, with a number of this one. */
static int add_renumbered(struct py_engine_plan *to, const struct py_site *from)
{
	struct py_site site = *from;

	site.cookie = (site.cookie & ~((uint64_t)PT_SITE_NUMBER_MAX << 40)) |
		      (uint64_t)to->site_count << 40;
	return py_plan_add(to, &site);
}

int py_image_add_free_code(struct py_image *image, enum py_engine engine)
{
	static const enum py_engine others[] = {PY_ENGINE_FRAME, PY_ENGINE_USDT};

	for (size_t e = 0; e < sizeof(others) / sizeof(others[0]); e++) {
		const struct py_engine_plan *from = &image->engines[others[e]];

		for (size_t i = 0; from->usable && i < from->site_count; i++)
			if (PT_COOKIE_KIND(from->sites[i].cookie) == PT_SITE_FREE_CODE)
				return add_renumbered(&image->engines[engine], &from->sites[i]);
	}
	return -ENOENT;
}

int py_image_add_features(struct py_image *image, enum py_engine engine, unsigned int features)
{
	struct py_engine_plan *to = &image->engines[engine];
	int ret = 0;

	for (int f = 0; f < PY_FEATURE_COUNT; f++) {
		const struct py_engine_plan *from = &image->features[f];

		if (!(features >> f & 1) || !from->usable)
			continue;
		for (size_t i = 0; i < from->site_count && !ret; i++)
			ret = add_renumbered(to, &from->sites[i]);
	}
	return ret;
}

static uint64_t type_vaddr(const struct elf_file *elf, const char *name)
{
	struct elf_symbol symbol;

	return elf_symbol(elf, name, &symbol) ? symbol.vaddr : 0;
}

static int find_c_calls(struct py_image *image, const struct py_finder *finder, bool wanted)
{
	struct py_engine_plan *plan = &image->engines[PY_ENGINE_C_CALLS];
	int ret;

	if (!wanted) {
		py_plan_refuse(plan, "nobody asked for them");
		return 0;
	}
	image->c_types = (struct py_c_types){
	    .function = type_vaddr(finder->elf, "PyCFunction_Type"),
	    .method = type_vaddr(finder->elf, "PyCMethod_Type"),
	    .descr = type_vaddr(finder->elf, "PyMethodDescr_Type"),
	    .module = type_vaddr(finder->elf, "PyModule_Type"),
	};
	ret = py_sites_c(image, finder, plan);
	if (ret && ret != -ENOMEM && ret != -ENOTSUP)
		py_plan_refuse(plan, "finding the calls failed: %s", strerror(-ret));
	plan->usable = !ret && plan->site_count;
	return ret == -ENOMEM ? ret : 0;
}

static int find_sites(struct py_image *image, const struct py_finder *finder, bool c_calls)
{
	struct py_engine_plan *frame = &image->engines[PY_ENGINE_FRAME];
	struct py_engine_plan *usdt = &image->engines[PY_ENGINE_USDT];
	int ret;

	if (image->version >= 0x030b0000)
		ret = py_sites_frame(image, finder, &image->layout, frame);
	else
		ret = py_sites_legacy(image, finder, frame);
	ret = finish_plan(image, finder, frame, ret);
	if (!ret)
		ret = finish_plan(image, finder, usdt, py_sites_usdt(image, finder, usdt));
	if (!ret)
		ret = find_c_calls(image, finder, c_calls);
	if (!ret)
		image->engines[PY_ENGINE_SAMPLE].usable = !py_sample_fill(
		    image, finder->elf, &image->engines[PY_ENGINE_SAMPLE]);
	return ret;
}

static int refuse(const struct py_image *image, const char *label, struct pt_err *err)
{
	return pt_err_set(err, -ENOTSUP, PT_EXIT_UNSUPPORTED,
			  "neither exactly nor by sampling can this build be traced; a report with "
			  "the output of 'python3 -VV' is welcome",
			  "'%s' (CPython %s): %s", label, image->version_text,
			  image->engines[PY_ENGINE_FRAME].reason);
}

static int analyse(struct py_image *image, const struct elf_file *elf, const char *label,
		   unsigned int emulated, struct pt_err *err)
{
	struct eh_ranges eh;
	struct py_finder finder = {elf, &eh, emulated & ~PY_FIND_C_CALLS};
	int ret = py_layout_fill(image, elf, err);

	if (ret)
		return pt_err_set(err, ret,
				  ret == -ENOEXEC ? PT_EXIT_NO_TARGET : PT_EXIT_UNSUPPORTED, NULL,
				  ret == -ENOEXEC ? "there is no CPython in '%s'"
						  : "cannot tell what CPython '%s' is",
				  label);
	ret = eh_ranges_load(elf, &eh);
	if (ret)
		return pt_err_set(err, ret == -ENOMEM ? ret : -ENOTSUP, PT_EXIT_UNSUPPORTED,
				  "the interpreter was built without unwind tables",
				  "'%s' has no usable .eh_frame", label);
	ret = find_sites(image, &finder, emulated & PY_FIND_C_CALLS);
	if (!ret)
		ret = find_features(image, &finder);
	eh_ranges_release(&eh);
	if (!ret)
		ret = py_jit_find(image, elf);
	if (ret)
		return pt_err_set(err, ret, PT_EXIT_FAILED, NULL, "cannot analyse '%s': %s", label,
				  strerror(-ret));
	return 0;
}

/* From the cache, or else found and put there. */
static int load(struct image_owner *owner, const struct elf_file *elf, const char *label,
		unsigned int emulated, const char *cache_dir, struct pt_err *err)
{
	struct py_image *image = &owner->image;
	struct pt_cache_key key;
	double start_ms = now_ms();
	int ret;

	py_cache_key(&key, elf, emulated);
	if (cache_dir && !py_cache_read(cache_dir, &key, elf, image, &owner->pool)) {
		image->from_cache = true;
		return 0;
	}
	ret = analyse(image, elf, label, emulated, err);
	if (ret)
		return ret;
	image->find_ms = now_ms() - start_ms;
	ret = cache_dir ? py_cache_write(cache_dir, &key, image) : 0;
	if (ret)
		pt_verbose("cannot write to the cache '%s': %s", cache_dir, strerror(-ret));
	return 0;
}

int py_image_load(const char *path, const char *label, unsigned int emulated, const char *cache_dir,
		  struct py_image **result, struct pt_err *err)
{
	struct image_owner *owner;
	struct elf_file *elf;
	int ret;

	*result = NULL;
	ret = elf_file_open(path, &elf, err);
	if (ret)
		return ret;
	owner = owner_new(path, elf);
	if (!owner)
		ret = pt_err_set(err, -ENOMEM, PT_EXIT_FAILED, NULL, "out of memory");
	else
		ret = load(owner, elf, label, emulated, cache_dir, err);
	elf_file_close(elf);
	if (!ret && !owner->image.engines[PY_ENGINE_FRAME].usable &&
	    !owner->image.engines[PY_ENGINE_USDT].usable &&
	    !owner->image.engines[PY_ENGINE_SAMPLE].usable)
		ret = refuse(&owner->image, label, err);
	if (ret) {
		py_image_free(owner ? &owner->image : NULL);
		return ret;
	}
	*result = &owner->image;
	return 0;
}
