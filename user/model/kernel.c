// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * Names of CUDA kernels, by the addresses that calls have. An address that is used again, by
 * another library, has several; calls are shown when they end, or later, so the one of their time
 * is looked for.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/utf8.h"
#include "cuda/names.h"
#include "model/model_priv.h"

/* Of all names. A mangled name may stand for one that is a thousand times as long. */
#define NAMES_MAX_BYTES (256u << 20)

struct model_kernel {
	struct model_kernel *older; /* of the same address */
	struct model_kernel *next;  /* in the model's list of all */
	uint64_t time_ns;
	bool known;
	bool loaded; /* it holds from time_ns on; else that is when it was first seen */
	char *text;  /* what is shown: the name, or where the address lies; NULL: no longer known */
};

static uint64_t image_key(uint32_t pid, uint32_t image_id)
{
	return (uint64_t)pid << 32 | image_id;
}

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

static void add_name(struct pt_model *model, struct pt_buf *text, const char *name, uint32_t names)
{
	char *readable = model->kernel_bytes < NAMES_MAX_BYTES ? pt_kernel_demangle(name) : NULL;

	pt_buf_add_str(text, readable ? readable : name);
	if (names > 1)
		pt_buf_printf(text, " (or %u more, merged by the linker)", names - 1);
	free(readable);
}

/* As valid UTF-8; NULL: no memory. */
static char *text_of(struct pt_model *model, const struct pt_rec_cuda_kernel *record)
{
	char *name = strndup(record->data, record->name_bytes), *clean = NULL;
	char *path = strndup(record->data + record->name_bytes, record->path_bytes);
	struct pt_buf text = {0};

	if (name && path && record->names)
		add_name(model, &text, name, record->names);
	else if (name && path)
		pt_buf_printf(&text, "kernel 0x%llx (%s+0x%llx)",
			      (unsigned long long)record->address, base_name(path),
			      (unsigned long long)record->vaddr);
	if (name && path && !text.failed)
		clean = malloc(3 * text.len + 1); /* a bad byte becomes three */
	if (clean)
		pt_utf8_clean(clean, 3 * text.len + 1, text.data, text.len);
	pt_buf_release(&text);
	free(name);
	free(path);
	return clean;
}

void model_kernel_define(struct pt_model *model, const struct pt_rec_cuda_kernel *record)
{
	uint64_t image = image_key(record->hdr.tgid, record->hdr.image_id);
	struct model_kernel *kernel, *older = pt_map_get(&model->kernels, image, record->address);

	bool loaded = record->hdr.flags & PT_RF_KERNEL_LOADED;
	bool nothing = !record->names && !record->path_bytes;

	if (nothing && !(loaded && older))
		return; /* nothing is known of it, and nothing was */
	kernel = calloc(1, sizeof(*kernel));
	if (kernel && !nothing)
		kernel->text = text_of(model, record);
	if (!kernel || (!kernel->text && !nothing)) {
		free(kernel);
		model_fail(model, -ENOMEM);
		return;
	}
	if (older && older->text && kernel->text && !strcmp(older->text, kernel->text)) {
		/* looked up again, and the same */
		free(kernel->text);
		free(kernel);
		return;
	}
	kernel->known = record->names != 0;
	kernel->loaded = loaded;
	kernel->time_ns = record->hdr.time_ns;
	/* that of a batch, which may have begun before the older one was unloaded */
	if (older && older->loaded && older->time_ns > kernel->time_ns)
		kernel->time_ns = older->time_ns;
	kernel->older = older;
	kernel->next = model->kernel_list;
	model->kernel_list = kernel;
	model->kernel_bytes += kernel->text ? strlen(kernel->text) : 0;
	if (pt_map_put(&model->kernels, image, record->address, kernel))
		model_fail(model, -ENOMEM);
}

const char *model_kernel_name(const struct pt_model *model, const struct model_process *process,
			      uint64_t address, uint64_t ns, bool *known)
{
	const struct model_kernel *kernel = pt_map_get(
	    &model->kernels, image_key((uint32_t)process->pid, process->image_id), address);

	while (kernel && (kernel->older || kernel->loaded) && kernel->time_ns > ns)
		kernel = kernel->older;
	*known = kernel && kernel->known;
	return kernel ? kernel->text : NULL;
}

void model_kernels_release(struct pt_model *model)
{
	while (model->kernel_list) {
		struct model_kernel *kernel = model->kernel_list;

		model->kernel_list = kernel->next;
		free(kernel->text);
		free(kernel);
	}
	pt_map_release(&model->kernels);
}
