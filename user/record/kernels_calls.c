// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * Addresses in calls: a new one is looked up, and announced before its batch.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "record/kernels_parts.h"

#define SEEN_MAX (1u << 16) /* addresses; a program that makes them up gets no more names */

static const struct mapping *find_mapping(const struct kernel_process *process, uint64_t address)
{
	for (size_t i = 0; i < process->map_count; i++)
		if (address >= process->maps[i].start && address < process->maps[i].end)
			return &process->maps[i];
	return NULL;
}

/* Files that the address may be of are decoded before others; mapping NULL: it is a handle. */
static void want(struct kernels *kernels, const struct kernel_process *process,
		 const struct mapping *mapping)
{
	pthread_mutex_lock(&kernels->lock);
	if (mapping)
		mapping->file->wanted = true;
	for (size_t i = 0; i < process->map_count && !mapping; i++)
		process->maps[i].file->wanted = true;
	pthread_mutex_unlock(&kernels->lock);
}

static struct pt_rec_cuda_kernel record_of(const struct pt_rec *from, uint64_t address,
					   uint64_t time_ns)
{
	return (struct pt_rec_cuda_kernel){
	    .hdr = {.kind = PT_REC_CUDA_KERNEL,
		    .len = sizeof(struct pt_rec_cuda_kernel),
		    .tgid = from->tgid,
		    .image_id = from->image_id,
		    .time_ns = time_ns},
	    .address = address,
	};
}

/* The kernel is what lies at this address, in what the process maps now. */
static int announce(struct kernels *kernels, const struct kernel_process *process,
		    struct pt_rec_cuda_kernel *record, uint64_t at)
{
	int rc = kernels->options.look(process->pid, process->image_id, kernels->options.ctx);
	const struct mapping *mapping = find_mapping(process, at);

	if (mapping) {
		record->file = mapping->number;
		record->vaddr = at - mapping->bias;
	}
	want(kernels, process, mapping);
	if (!rc)
		rc = kernels->options.put(&record->hdr, sizeof(*record), kernels->options.ctx);
	return rc;
}

static uint64_t image_of(const struct pt_rec *record)
{
	return (uint64_t)record->tgid << 32 | record->image_id;
}

static int on_address(struct kernels *kernels, struct kernel_process *process,
		      const struct pt_rec_batch *batch, uint64_t address)
{
	struct pt_rec_cuda_kernel record = record_of(&batch->hdr, address, batch->base_ns);
	uint64_t image = image_of(&batch->hdr);
	const void *seen = pt_map_get(&kernels->seen, image, address);
	int rc;

	if ((uintptr_t)seen == process->epoch || (!seen && kernels->seen.count >= SEEN_MAX) ||
	    loaded_find(&kernels->loaded, image, address))
		return 0;
	rc = announce(kernels, process, &record, address);
	/* it was looked up in what the process maps by now */
	if (!rc)
		rc = pt_map_put(&kernels->seen, image, address, (void *)(uintptr_t)process->epoch);
	return rc;
}

/* The record's process; NULL: no memory. */
static struct kernel_process *process_of(struct kernels *kernels, const struct pt_rec *record)
{
	pid_t pid = (pid_t)record->tgid;
	struct kernel_process *process = kernels->last;

	if (process && process->pid == pid && process->image_id == record->image_id)
		return process;
	pthread_mutex_lock(&kernels->lock);
	process = kernels_process_get(kernels, pid, record->image_id);
	pthread_mutex_unlock(&kernels->lock);
	kernels->last = process;
	return process;
}

int kernels_batch(struct kernels *kernels, const struct pt_rec_batch *batch, size_t len)
{
	struct kernel_process *process;
	uint32_t words, at;
	int rc = 0;

	if (!kernels->active || len < sizeof(*batch) || batch->word_count > PT_BATCH_WORDS ||
	    sizeof(*batch) + 8 * (size_t)batch->word_count > len)
		return 0;
	for (uint32_t pos = 0; pos < batch->word_count && !rc; pos += words) {
		uint32_t arg = PT_WORD_ARG(batch->words[pos]), payload = PT_EXT_WORDS(arg);

		words = 1;
		if (PT_WORD_KIND(batch->words[pos]) != PT_W_EXT)
			continue;
		if (!payload || payload >= batch->word_count - pos)
			return 0; /* damaged: the model says so */
		words += payload;
		if (PT_EXT_TYPE(arg) != PT_X_CUDA_BEGIN)
			continue;
		kernels->called = true;
		at = kernels->kernel_at[PT_CUDA_DESC_FN(batch->words[pos + payload])];
		if (!at || at >= payload)
			continue;
		process = process_of(kernels, &batch->hdr);
		rc = process ? on_address(kernels, process, batch, batch->words[pos + at])
			     : -ENOMEM;
	}
	return rc;
}

bool kernels_called(const struct kernels *kernels)
{
	return kernels->called;
}

/* ---- kernels that the driver loads ---- */

static int put_loaded(struct kernels *kernels, const struct pt_rec_cuda_loaded *from,
		      const char *name)
{
	size_t bytes = strlen(name), len = (sizeof(struct pt_rec_cuda_kernel) + bytes + 7) & ~7ul;
	struct pt_rec_cuda_kernel *record = calloc(1, len + 1); /* the text's end is not sent */
	int rc;

	if (!record)
		return -ENOMEM;
	*record = record_of(&from->hdr, from->handle, from->hdr.time_ns);
	record->hdr.flags = PT_RF_KERNEL_LOADED;
	record->hdr.len = (uint32_t)len;
	record->names = bytes != 0;
	record->name_bytes = (uint32_t)bytes;
	memcpy(record->data, name, bytes + 1);
	rc = kernels->options.put(&record->hdr, len, kernels->options.ctx);
	free(record);
	return rc;
}

static int load(struct kernels *kernels, const struct pt_rec_cuda_loaded *record, uint64_t owner,
		const char *name)
{
	uint64_t image = image_of(&record->hdr);
	const struct loaded_kernel *before = loaded_find(&kernels->loaded, image, record->handle);
	int rc;

	if (before && before->name && before->owner == owner && !strcmp(before->name, name))
		return 0; /* some programs ask for it at each launch */
	rc = loaded_put(&kernels->loaded, image, record->handle, owner, name);
	if (rc)
		return rc == -ENOMEM ? rc : 0;
	return put_loaded(kernels, record, name);
}

/* By the name that the program asked for it. */
static int load_named(struct kernels *kernels, const struct pt_rec_cuda_loaded *record)
{
	char name[PT_CUDA_LOADED_NAME_BYTES + 4];
	bool cut = record->text_bytes >= sizeof(record->text);

	if (record->text_bytes < 2 || record->text_bytes > sizeof(record->text))
		return 0;
	memcpy(name, record->text, record->text_bytes);
	name[record->text_bytes - 1] = '\0';
	if (cut)
		strcat(name, "...");
	return load(kernels, record, record->owner, name);
}

/* As another handle, or a stub. */
static int load_same(struct kernels *kernels, const struct pt_rec_cuda_loaded *record)
{
	struct pt_rec_cuda_kernel known = record_of(&record->hdr, record->handle,
						    record->hdr.time_ns);
	uint64_t image = image_of(&record->hdr);
	const struct loaded_kernel *same = loaded_find(&kernels->loaded, image, record->owner);
	const struct kernel_process *process = process_of(kernels, &record->hdr);
	int rc;

	if (same && same->name)
		return load(kernels, record, same->owner, same->name);
	if (!process)
		return -ENOMEM;
	if (same || !find_mapping(process, record->owner))
		return 0;
	rc = loaded_put(&kernels->loaded, image, record->handle, 0, NULL);
	known.hdr.flags = PT_RF_KERNEL_LOADED;
	if (!rc)
		return announce(kernels, process, &known, record->owner);
	return rc == -ENOMEM ? rc : 0;
}

struct forgetting {
	struct kernels *kernels;
	const struct pt_rec_cuda_loaded *record;
};

static int forget(const struct loaded_kernel *kernel, void *ctx)
{
	struct forgetting *forgetting = ctx;
	struct kernels *kernels = forgetting->kernels;
	struct pt_rec_cuda_loaded gone = *forgetting->record;

	gone.handle = kernel->handle;
	/* an epoch that never is: the next call that has it looks it up */
	if (pt_map_get(&kernels->seen, kernel->image, kernel->handle) &&
	    pt_map_put(&kernels->seen, kernel->image, kernel->handle, (void *)UINTPTR_MAX))
		return -ENOMEM;
	return put_loaded(kernels, &gone, "");
}

int kernels_loaded(struct kernels *kernels, const struct pt_rec_cuda_loaded *record, size_t len)
{
	struct forgetting forgetting = {kernels, record};

	if (len < sizeof(*record))
		return 0;
	switch (record->what) {
	case PT_CUDA_LOAD_NAMED:
		return load_named(kernels, record);
	case PT_CUDA_LOAD_SAME:
		return load_same(kernels, record);
	case PT_CUDA_LOAD_GONE:
	case PT_CUDA_LOAD_RESET:
		return loaded_forget(&kernels->loaded, image_of(&record->hdr), record->owner,
				     record->what == PT_CUDA_LOAD_RESET, forget, &forgetting);
	default:
		return 0;
	}
}
