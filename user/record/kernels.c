// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "record/kernels.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/log.h"
#include "base/thread.h"
#include "cuda/names.h"
#include "record/loaded.h"
#include "target/elf.h"

#define NICE           10         /* of the decoding: it is long, and mostly nobody waits for it */
#define SEEN_MAX       (1u << 16) /* addresses; a program that makes them up gets no more names */
#define ENDED_MAX      64         /* processes that have ended, but whose batches may still come */
#define PATH_MAX_BYTES 4096
#define PAGE_BYTES     4096 /* on x86-64, and there are no names elsewhere */

/* A file that a process with CUDA maps executable. */
struct kernel_file {
	uint64_t dev, inode;
	char *path;
	uint64_t offset, vaddr; /* of its first executable mapping */
	uint64_t first, end;    /* its code: file addresses; end 0: it is not looked into */
	bool has_code;          /* for a GPU */
	int fd; /* of one with code for a GPU, kept so that its inode stays its own; or -1 */
	/* under the lock */
	bool pending; /* is to be decoded */
	bool wanted;  /* soon */
	struct pt_kernels *kernels;
};

struct mapping {
	struct kernel_file *file;
	uint32_t number; /* of the file, from 1 */
	uint64_t bias, start, end;
};

struct kernel_process {
	pid_t pid;
	uint32_t image_id;
	uint32_t epoch; /* which of its lists of mappings this is, from 1 */
	/* under the lock; written by the thread that reads the ring buffer alone */
	int pidfd; /* -1: it has ended, or cannot be watched */
	struct mapping *maps;
	size_t map_count;
};

struct kernels {
	struct kernels_options options;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	atomic_bool stop;
	struct kernel_file **files;
	size_t file_count;
	struct kernel_process **processes;
	size_t process_count, ended_at; /* maps of those before it have been freed */
	struct pt_map by_image;         /* (pid, image_id): a process */

	/* of the thread that reads the ring buffer */
	bool active;                           /* a function that has a kernel is attached to */
	bool called;                           /* a call of CUDA was recorded */
	uint8_t kernel_at[PT_CUDA_FN_MAX + 1]; /* by function: the kernel's word, from 1; 0 none */
	struct pt_map seen;                    /* (pid << 32 | image_id, address): the epoch */
	struct loaded loaded;
	struct kernel_process *last;

	/* of the output's thread: handles of one process */
	const struct kernel_process *handles_of;
	uint32_t handles_epoch;
	struct pt_kernel_handles handles;
};

/* ---- decoding ---- */

/* The next to be decoded, or NULL. */
static struct kernel_file *next_file(const struct kernels *kernels)
{
	struct kernel_file *any = NULL;

	for (size_t i = 0; i < kernels->file_count; i++) {
		struct kernel_file *file = kernels->files[i];

		if (file->pending && file->wanted)
			return file;
		if (file->pending && !any)
			any = file;
	}
	return any;
}

static struct pt_kernels *decode(const struct kernels *kernels, const struct kernel_file *file)
{
	const struct pt_kernels_options options = {
	    .cache_dir = kernels->options.cache_dir, .stop = &kernels->stop, .label = file->path};
	struct pt_kernels *decoded = NULL;
	struct pt_err err = {0};
	char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", file->fd);
	if (!pt_kernels_open(path, &options, &decoded, &err)) {
		pt_verbose("%zu CUDA kernels in '%s', %zu not decoded", decoded->count, file->path,
			   decoded->undecoded);
		return decoded;
	}
	if (!atomic_load(&kernels->stop))
		pt_warn("kernels are shown without their names: %s", err.what);
	return NULL;
}

static void *decoder(void *ctx)
{
	struct kernels *kernels = ctx;

	setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), NICE);
	pthread_mutex_lock(&kernels->lock);
	while (!atomic_load(&kernels->stop)) {
		struct kernel_file *file = next_file(kernels);
		struct pt_kernels *decoded;

		if (!file) {
			pthread_cond_wait(&kernels->changed, &kernels->lock);
			continue;
		}
		pthread_mutex_unlock(&kernels->lock);
		decoded = decode(kernels, file);
		pthread_mutex_lock(&kernels->lock);
		file->kernels = decoded;
		file->pending = false;
		pthread_cond_broadcast(&kernels->changed);
	}
	pthread_mutex_unlock(&kernels->lock);
	return NULL;
}

int kernels_new(const struct kernels_options *options, struct kernels **out)
{
	struct kernels *kernels = calloc(1, sizeof(*kernels));
	int rc;

	if (!kernels)
		return -ENOMEM;
	kernels->options = *options;
	pthread_mutex_init(&kernels->lock, NULL);
	pthread_cond_init(&kernels->changed, NULL);
	rc = pt_thread_start(&kernels->thread, decoder, kernels);
	if (rc) {
		pthread_cond_destroy(&kernels->changed);
		pthread_mutex_destroy(&kernels->lock);
		free(kernels);
		return rc;
	}
	*out = kernels;
	return 0;
}

static void file_free(struct kernel_file *file)
{
	if (file->fd >= 0)
		close(file->fd);
	pt_kernels_free(file->kernels);
	free(file->path);
	free(file);
}

void kernels_free(struct kernels *kernels)
{
	if (!kernels)
		return;
	pthread_mutex_lock(&kernels->lock);
	atomic_store(&kernels->stop, true);
	pthread_cond_broadcast(&kernels->changed);
	pthread_mutex_unlock(&kernels->lock);
	pthread_join(kernels->thread, NULL);
	pthread_cond_destroy(&kernels->changed);
	pthread_mutex_destroy(&kernels->lock);
	for (size_t i = 0; i < kernels->process_count; i++) {
		if (kernels->processes[i]->pidfd >= 0)
			close(kernels->processes[i]->pidfd);
		free(kernels->processes[i]->maps);
		free(kernels->processes[i]);
	}
	for (size_t i = 0; i < kernels->file_count; i++)
		file_free(kernels->files[i]);
	free(kernels->processes);
	free(kernels->files);
	pt_map_release(&kernels->by_image);
	pt_map_release(&kernels->seen);
	loaded_release(&kernels->loaded);
	pt_kernel_handles_release(&kernels->handles);
	free(kernels);
}

void kernels_functions(struct kernels *kernels, const struct pt_cuda_library *library)
{
	for (size_t i = 0; i < library->plan.site_count; i++) {
		const struct pt_cuda_fn *fn = &library->fns[i];

		for (unsigned int k = 0; k < fn->layout.arg_count; k++) {
			const struct pt_cuda_arg *arg = &fn->layout.args[k];

			if (arg->code != 'k' || arg->out || arg->word < 0)
				continue;
			kernels->kernel_at[fn->id] = (uint8_t)(arg->word + 1);
			kernels->active = true;
		}
	}
}

/* ---- what processes map ---- */

static void measure(struct kernel_file *file, const struct pt_module *module,
		    const struct elf_file *elf)
{
	bool found = false;

	file->offset = module->file_offset;
	for (size_t i = 0; i < elf->segment_count; i++) {
		const struct elf_segment *s = &elf->segments[i];

		if (s->type != PT_LOAD || !(s->flags & PF_X))
			continue;
		if (!file->end || s->vaddr < file->first)
			file->first = s->vaddr;
		if (s->vaddr + s->mem_size > file->end)
			file->end = s->vaddr + s->mem_size;
		/* mappings begin with a page; what is before the segment may be of another one */
		if (s->offset - s->offset % PAGE_BYTES != file->offset || found)
			continue;
		found = true;
		file->vaddr = s->vaddr - s->offset % PAGE_BYTES;
	}
	if (!found)
		file->end = 0;
	file->has_code = found && pt_kernels_has_code(elf);
	if (!file->has_code)
		return;
	file->fd = open(module->open_path, O_RDONLY | O_CLOEXEC);
	file->pending = file->fd >= 0;
	if (!file->pending)
		pt_warn("kernels are shown without their names: cannot open '%s': %s", file->path,
			strerror(errno));
}

static struct kernel_file *file_new(const struct pt_module *module)
{
	struct kernel_file *file = calloc(1, sizeof(*file));
	struct elf_file *elf;

	if (!file)
		return NULL;
	*file = (struct kernel_file){.dev = module->dev, .inode = module->inode, .fd = -1};
	file->path = strdup(module->path);
	if (!file->path) {
		free(file);
		return NULL;
	}
	/* what is no ELF file, as some fonts and databases, stays without code */
	if (!elf_file_open(module->open_path, &elf, NULL)) {
		measure(file, module, elf);
		elf_file_close(elf);
	}
	return file;
}

/* The file's number, from 1; 0: no memory. */
static uint32_t file_number(struct kernels *kernels, const struct pt_module *module)
{
	struct kernel_file *file, **bigger;

	for (size_t i = 0; i < kernels->file_count; i++) {
		file = kernels->files[i];
		/* the inode of one that is not kept open may be another's by now */
		if (file->dev == module->dev && file->inode == module->inode &&
		    (file->fd >= 0 || !strcmp(file->path, module->path)))
			return (uint32_t)i + 1;
	}
	file = file_new(module);
	if (!file)
		return 0;
	pthread_mutex_lock(&kernels->lock);
	bigger = reallocarray(kernels->files, kernels->file_count + 1, sizeof(*bigger));
	if (bigger) {
		kernels->files = bigger;
		bigger[kernels->file_count++] = file;
		pthread_cond_broadcast(&kernels->changed);
	}
	pthread_mutex_unlock(&kernels->lock);
	if (!bigger) {
		file_free(file);
		return 0;
	}
	return (uint32_t)kernels->file_count;
}

/* Of those that ended first only what may still come is kept. */
static void drop_ended(struct kernels *kernels)
{
	while (kernels->process_count - kernels->ended_at > ENDED_MAX &&
	       kernels->processes[kernels->ended_at]->pidfd < 0) {
		struct kernel_process *process = kernels->processes[kernels->ended_at++];

		free(process->maps);
		process->maps = NULL;
		process->map_count = 0;
	}
}

/* The process's entry, made if need be; NULL: no memory. */
static struct kernel_process *process_get(struct kernels *kernels, pid_t pid, uint32_t image_id)
{
	struct kernel_process *process, **bigger;

	process = pt_map_get(&kernels->by_image, (uint64_t)pid, image_id);
	if (process)
		return process;
	process = calloc(1, sizeof(*process));
	bigger = reallocarray(kernels->processes, kernels->process_count + 1, sizeof(*bigger));
	if (bigger)
		kernels->processes = bigger;
	if (!process || !bigger ||
	    pt_map_put(&kernels->by_image, (uint64_t)pid, image_id, process)) {
		free(process);
		return NULL;
	}
	*process = (struct kernel_process){.pid = pid, .image_id = image_id, .epoch = 1};
	process->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	bigger[kernels->process_count++] = process;
	drop_ended(kernels);
	return process;
}

static bool has_mapping(const struct mapping *maps, size_t count, const struct mapping *mapping)
{
	for (size_t i = 0; i < count; i++)
		if (maps[i].file == mapping->file && maps[i].bias == mapping->bias)
			return true;
	return false;
}

/* Does an address that was looked up before mean the same still? */
static bool still_holds(const struct kernel_process *process, const struct mapping *maps,
			size_t count)
{
	for (size_t i = 0; i < process->map_count; i++)
		if (!has_mapping(maps, count, &process->maps[i]))
			return false;
	for (size_t i = 0; i < count; i++)
		if (maps[i].file->has_code &&
		    !has_mapping(process->maps, process->map_count, &maps[i]))
			return false;
	return true;
}

/* Takes over maps. */
static int set_maps(struct kernels *kernels, pid_t pid, uint32_t image_id, struct mapping *maps,
		    size_t count)
{
	struct kernel_process *process;

	pthread_mutex_lock(&kernels->lock);
	process = process_get(kernels, pid, image_id);
	if (process) {
		struct mapping *before = process->maps;

		process->epoch += !still_holds(process, maps, count);
		process->maps = maps;
		process->map_count = count;
		maps = before;
	}
	pthread_mutex_unlock(&kernels->lock);
	free(maps);
	return process ? 0 : -ENOMEM;
}

int kernels_look(struct kernels *kernels, const struct pt_process *process, uint32_t image_id)
{
	struct mapping *maps = calloc(process->module_count + 1, sizeof(*maps));
	size_t count = 0;

	if (!maps)
		return -ENOMEM;
	for (size_t i = 0; i < process->module_count; i++) {
		const struct pt_module *module = &process->modules[i];
		uint32_t number = file_number(kernels, module);
		struct kernel_file *file;

		if (!number) {
			free(maps);
			return -ENOMEM;
		}
		file = kernels->files[number - 1];
		/* a file that is mapped in another way than it was first is not looked into */
		if (!file->end || module->file_offset != file->offset)
			continue;
		maps[count] = (struct mapping){.file = file, .number = number};
		maps[count].bias = module->start - file->vaddr;
		maps[count].start = maps[count].bias + file->first;
		maps[count].end = maps[count].bias + file->end;
		count++;
	}
	return set_maps(kernels, process->pid, image_id, maps, count);
}

void kernels_forget(struct kernels *kernels, pid_t pid)
{
	pthread_mutex_lock(&kernels->lock);
	for (size_t i = kernels->process_count; i-- > kernels->ended_at;) {
		struct kernel_process *process = kernels->processes[i];

		if (process->pid == pid && process->pidfd >= 0) {
			close(process->pidfd);
			process->pidfd = -1;
		}
	}
	pthread_mutex_unlock(&kernels->lock);
}

/* ---- addresses of calls ---- */

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
	process = process_get(kernels, pid, record->image_id);
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
	struct pt_rec_cuda_kernel *record = calloc(1, len);
	int rc;

	if (!record)
		return -ENOMEM;
	*record = record_of(&from->hdr, from->handle, from->hdr.time_ns);
	record->hdr.flags = PT_RF_KERNEL_LOADED;
	record->hdr.len = (uint32_t)len;
	record->names = bytes != 0;
	record->name_bytes = (uint32_t)bytes;
	memcpy(record->data, name, bytes);
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

/* ---- the output's thread ---- */

static const struct pt_kernels *wait_for(struct kernels *kernels, const struct kernel_file *file)
{
	pthread_mutex_lock(&kernels->lock);
	while (file->pending)
		pthread_cond_wait(&kernels->changed, &kernels->lock);
	pthread_mutex_unlock(&kernels->lock);
	return file->kernels; /* stays as it is now */
}

static bool has_ended(struct kernels *kernels, const struct kernel_process *process)
{
	struct pollfd poll_fd = {.events = POLLIN};
	bool ended;

	pthread_mutex_lock(&kernels->lock);
	poll_fd.fd = process->pidfd;
	ended = poll_fd.fd < 0 || poll(&poll_fd, 1, 0) != 0;
	pthread_mutex_unlock(&kernels->lock);
	return ended;
}

/* Reads the variables of what the process maps. What cannot be read is as good as not set; of a
 * process that has ended nothing is taken, since its number may be another's by now. */
static int read_handles(struct kernels *kernels, const struct kernel_process *process,
			const struct mapping *maps, size_t count)
{
	pt_kernel_handles_release(&kernels->handles);
	memset(&kernels->handles, 0, sizeof(kernels->handles));
	for (size_t i = 0; i < count; i++) {
		const struct pt_kernels *of_file = wait_for(kernels, maps[i].file);

		if (of_file && pt_kernel_handles_read(&kernels->handles, of_file, process->pid,
						      maps[i].bias) == -ENOMEM)
			return -ENOMEM;
	}
	if (!has_ended(kernels, process))
		return 0;
	pt_kernel_handles_release(&kernels->handles);
	memset(&kernels->handles, 0, sizeof(kernels->handles));
	return 0;
}

/* Its mappings as they are now; *maps from malloc. */
static struct kernel_process *copy_process(struct kernels *kernels,
					   const struct pt_rec_cuda_kernel *record,
					   struct mapping **maps, size_t *count, uint32_t *epoch)
{
	struct kernel_process *process;

	pthread_mutex_lock(&kernels->lock);
	process = pt_map_get(&kernels->by_image, record->hdr.tgid, record->hdr.image_id);
	*count = process ? process->map_count : 0;
	*epoch = process ? process->epoch : 0;
	*maps = calloc(*count + 1, sizeof(**maps));
	if (*maps && *count)
		memcpy(*maps, process->maps, *count * sizeof(**maps));
	pthread_mutex_unlock(&kernels->lock);
	return process;
}

/* How many names the stub of this kernel has; *kernel becomes the first. */
static size_t count_names(const struct mapping *maps, size_t count, const struct pt_kernel **kernel)
{
	for (size_t i = 0; i < count; i++) {
		const struct pt_kernels *of_file = maps[i].file->kernels;
		size_t names;

		if (!of_file || *kernel < of_file->kernels ||
		    *kernel >= of_file->kernels + of_file->count)
			continue;
		*kernel = pt_kernels_find(of_file, (*kernel)->host, &names);
		return names;
	}
	return 0;
}

/* -ENOMEM */
static int find_handle(struct kernels *kernels, const struct pt_rec_cuda_kernel *record,
		       const struct pt_kernel **kernel, size_t *names)
{
	struct kernel_process *process;
	struct mapping *maps;
	uint32_t epoch;
	size_t count;
	int rc = 0;

	process = copy_process(kernels, record, &maps, &count, &epoch);
	if (!maps)
		return -ENOMEM;
	if (process && kernels->handles_of == process && kernels->handles_epoch == epoch)
		*kernel = pt_kernel_handles_find(&kernels->handles, record->address);
	if (process && !*kernel && !has_ended(kernels, process)) {
		rc = read_handles(kernels, process, maps, count);
		kernels->handles_of = process;
		kernels->handles_epoch = epoch;
		*kernel = pt_kernel_handles_find(&kernels->handles, record->address);
	}
	if (*kernel) {
		*names = count_names(maps, count, kernel);
		if (!*names)
			*kernel = NULL;
	}
	free(maps);
	return rc;
}

/* kernel, file: may be NULL. */
static int put_complete(const struct pt_rec_cuda_kernel *record, const struct pt_kernel *kernel,
			size_t names, const struct kernel_file *file,
			int (*next)(const struct pt_rec *record, size_t len, void *ctx), void *ctx)
{
	size_t name_len = kernel ? strlen(kernel->name) : 0;
	size_t path_len = file ? strnlen(file->path, PATH_MAX_BYTES) : 0, len;
	struct pt_rec_cuda_kernel *full;
	int rc;

	if (name_len > PT_CUDA_KERNEL_NAME_MAX)
		name_len = 0;
	len = (sizeof(*full) + name_len + path_len + 7) & ~(size_t)7;
	full = calloc(1, len);
	if (!full)
		return -ENOMEM;
	*full = *record;
	full->hdr.len = (uint32_t)len;
	full->file = 0;
	full->names = name_len ? (uint32_t)names : 0;
	full->name_bytes = (uint32_t)name_len;
	full->path_bytes = (uint32_t)path_len;
	if (name_len)
		memcpy(full->data, kernel->name, name_len);
	if (path_len)
		memcpy(full->data + name_len, file->path, path_len);
	rc = next(&full->hdr, len, ctx);
	free(full);
	return rc;
}

int kernels_complete(struct kernels *kernels, const struct pt_rec_cuda_kernel *record,
		     int (*next)(const struct pt_rec *record, size_t len, void *ctx), void *ctx)
{
	const struct kernel_file *file = NULL;
	const struct pt_kernel *kernel = NULL;
	const struct pt_kernels *of_file;
	size_t names = 0;
	int rc = 0;

	if (!record->file && (record->hdr.flags & PT_RF_KERNEL_LOADED))
		return next(&record->hdr, record->hdr.len, ctx); /* it says all there is */
	if (record->file) {
		pthread_mutex_lock(&kernels->lock);
		file = kernels->files[record->file - 1];
		pthread_mutex_unlock(&kernels->lock);
		of_file = wait_for(kernels, file);
		if (of_file)
			kernel = pt_kernels_find(of_file, record->vaddr, &names);
	} else {
		rc = find_handle(kernels, record, &kernel, &names);
	}
	return rc ? rc : put_complete(record, kernel, names, file, next, ctx);
}
