// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "record/loaded.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define KERNELS_MAX (1u << 16) /* a program that makes them up gets no more names */

const struct loaded_kernel *loaded_find(const struct loaded *loaded, uint64_t image,
					uint64_t handle)
{
	const struct loaded_kernel *kernel = pt_map_get(&loaded->by_handle, image, handle);

	return kernel && !kernel->gone ? kernel : NULL;
}

/* The handle's entry, made if need be. */
static int get(struct loaded *loaded, uint64_t image, uint64_t handle, struct loaded_kernel **out)
{
	struct loaded_kernel *kernel = pt_map_get(&loaded->by_handle, image, handle);

	*out = kernel;
	if (kernel)
		return 0;
	if (loaded->count >= KERNELS_MAX)
		return -E2BIG;
	kernel = pt_map_make(&loaded->by_handle, image, handle, sizeof(*kernel));
	if (!kernel)
		return -ENOMEM;
	kernel->image = image;
	kernel->handle = handle;
	kernel->next = loaded->all;
	loaded->all = kernel;
	loaded->count++;
	*out = kernel;
	return 0;
}

int loaded_put(struct loaded *loaded, uint64_t image, uint64_t handle, uint64_t owner,
	       const char *name)
{
	char *copy = name ? strdup(name) : NULL;
	struct loaded_kernel *kernel;
	int rc = name && !copy ? -ENOMEM : get(loaded, image, handle, &kernel);

	if (rc) {
		free(copy);
		return rc;
	}
	free(kernel->name);
	kernel->name = copy;
	kernel->owner = owner;
	kernel->gone = false;
	return 0;
}

int loaded_forget(struct loaded *loaded, uint64_t image, uint64_t owner, bool of_all,
		  int (*fn)(const struct loaded_kernel *kernel, void *ctx), void *ctx)
{
	int rc = 0;

	for (struct loaded_kernel *kernel = loaded->all; kernel && !rc; kernel = kernel->next) {
		if (kernel->gone || kernel->image != image || (!of_all && kernel->owner != owner))
			continue;
		kernel->gone = true;
		rc = fn(kernel, ctx);
	}
	return rc;
}

void loaded_release(struct loaded *loaded)
{
	while (loaded->all) {
		struct loaded_kernel *kernel = loaded->all;

		loaded->all = kernel->next;
		free(kernel->name);
		free(kernel);
	}
	pt_map_release(&loaded->by_handle);
	memset(loaded, 0, sizeof(*loaded));
}
