// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/* kernels: the CUDA kernels that a file registers. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "app/inspect.h"
#include "app/verbs.h"
#include "base/log.h"
#include "cuda/calls.h"
#include "cuda/names.h"

static void print_text(const struct pt_kernels *kernels)
{
	printf("%-18s %-18s %s\n", "STUB", "HANDLE AT", "KERNEL");
	for (size_t i = 0; i < kernels->count; i++) {
		const struct pt_kernel *kernel = &kernels->kernels[i];
		char *readable = pt_kernel_demangle(kernel->name);
		char handle[24] = "-";

		if (kernel->handle)
			snprintf(handle, sizeof(handle), "0x%" PRIx64, kernel->handle);
		printf("0x%-16" PRIx64 " %-18s %s\n", kernel->host, handle,
		       readable ? readable : kernel->name);
		free(readable);
	}
}

static void add_address(cJSON *object, const char *key, uint64_t vaddr)
{
	char text[24];

	snprintf(text, sizeof(text), "0x%" PRIx64, vaddr);
	cJSON_AddStringToObject(object, key, text);
}

/* The functions of a CUDA runtime that is linked into the file. */
static int add_runtime(cJSON *root, const char *file, const char *cache_dir, struct pt_err *err)
{
	const struct pt_cuda_inside_options options = {.want = PT_CUDA_WANT_RUNTIME,
						       .cache_dir = cache_dir};
	struct pt_cuda_library *library;
	bool inside;
	int rc = pt_cuda_library_load(file, file, options.want, &library, &inside, err);
	cJSON *object;

	if (!rc && inside)
		rc = pt_cuda_library_load_inside(file, file, &options, &library, err);
	if (rc || !library)
		return rc;
	object = cJSON_AddObjectToObject(root, "runtime");
	for (size_t i = 0; i < library->plan.site_count; i++)
		add_address(object, library->fns[i].row->symbol, library->plan.sites[i].vaddr);
	cJSON_AddNumberToObject(root, "runtime_refused", (double)library->refused);
	pt_cuda_library_free(library);
	return 0;
}

static int print_json(const char *file, const char *cache_dir, const struct pt_kernels *kernels,
		      struct pt_err *err)
{
	cJSON *root = cJSON_CreateObject(), *array;
	int rc;

	cJSON_AddStringToObject(root, "file", file);
	cJSON_AddNumberToObject(root, "undecoded", (double)kernels->undecoded);
	if (kernels->registrar)
		add_address(root, "registrar", kernels->registrar);
	array = cJSON_AddArrayToObject(root, "kernels");
	for (size_t i = 0; i < kernels->count; i++) {
		const struct pt_kernel *kernel = &kernels->kernels[i];
		char *readable = pt_kernel_demangle(kernel->name);
		cJSON *object = cJSON_CreateObject();

		add_address(object, "stub", kernel->host);
		if (kernel->handle)
			add_address(object, "handle_at", kernel->handle);
		cJSON_AddStringToObject(object, "name", kernel->name);
		cJSON_AddStringToObject(object, "demangled", readable ? readable : kernel->name);
		cJSON_AddItemToArray(array, object);
		free(readable);
	}
	rc = add_runtime(root, file, cache_dir, err);
	if (!rc)
		return app_print_json(root, err);
	cJSON_Delete(root);
	return rc;
}

int app_kernels(const struct app_options *options, struct pt_err *err)
{
	char cache_dir[4096];
	const struct pt_kernels_options how = {
	    .cache_dir = app_cache_dir(options, cache_dir, sizeof(cache_dir))};
	struct pt_kernels *kernels;
	int rc = pt_kernels_open(options->file, &how, &kernels, err);

	if (rc)
		return rc;
	if (!kernels->count && kernels->device_code)
		rc = pt_err_set(err, -ENOENT, PT_EXIT_UNSUPPORTED,
				"it registers none, or in a way that is not known",
				"'%s' has code for a GPU, but no registration of a kernel could be "
				"read",
				options->file);
	else if (!kernels->count)
		rc = pt_err_set(err, -ENOENT, PT_EXIT_NO_TARGET,
				"kernels that are loaded by the driver API (cuModuleLoad: Triton, "
				"NVRTC, cuFFT) are in no such table",
				"'%s' registers no CUDA kernels", options->file);
	else if (options->json)
		rc = print_json(options->file, how.cache_dir, kernels, err);
	else
		print_text(kernels);
	if (kernels->undecoded)
		pt_warn("%zu registrations could not be decoded; their kernels are missing",
			kernels->undecoded);
	pt_kernels_free(kernels);
	return rc;
}
