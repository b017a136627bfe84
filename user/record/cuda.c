// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "record/cuda.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "cuda/torch.h"
#include "cuda/torch_memory.h"
#include "record/cuda_inside.h"
#include "record/kernels.h"
#include "record/mapped.h"
#include "record/session_parts.h"
#include "target/loadable.h"

#define PATH_MAX_BYTES 4096

enum cuda_kind { KIND_CUDA, KIND_TORCH, KIND_BLOCKS, KIND_COUNT };

/* What the options want, and how texts call it. */
static const struct cuda_kind_name {
	const char *option, *things;
} kind_names[KIND_COUNT] = {
    [KIND_CUDA] = {"cuda", "CUDA functions"},
    [KIND_TORCH] = {"torch", "PyTorch operators"},
    [KIND_BLOCKS] = {"torch-memory", "functions of PyTorch's allocators"},
};

/* What has all of its functions in its symbol tables, so that probes are there at once. */
static const char *const cuda_names[] = {"libcudart.so.*", "libcudart-*.so.*", "libcuda.so.*",
					 "libnccl.so.*", NULL};
static const char *const lib_names[] = {"libcublas.so.*", "libcublasLt.so.*", "libcudnn.so.*",
					"libcudnn_*.so.*", NULL};
static const char *const torch_names[] = {"libtorch_cpu.so", NULL};

/* A file that was looked at for one of them. */
struct cuda_file {
	uint64_t dev, inode;
	enum cuda_kind kind;
	struct pt_cuda_library *library; /* NULL: it has no CUDA functions, or was refused */
	struct cuda_inside_job *job;     /* not NULL: its code is still being looked at */
	bool mapped;                     /* by a traced process, at some time */
	uint64_t probed_ns;              /* since when it has probes */
	bool for_all;                    /* it has probes for every process; pids have mapped it */
	pid_t *pids;                     /* else these have them */
	size_t pid_count;
};

struct cuda_process {
	pid_t pid;
	uint32_t image_id;
	long kernels_kb;    /* VmLib when it was last looked at for kernels */
	uint64_t looked_ns; /* when it was last looked at for libraries; 0: never */
	bool searched;      /* for what it may load: */
	struct pt_loadables cuda, libs, torch;
};

struct cuda_session {
	unsigned int want; /* PT_CUDA_WANT_* */
	struct cuda_file *files;
	size_t file_count;
	struct cuda_process *processes;
	size_t process_count;
	bool announced[PT_CUDA_FN_MAX + 1];
	struct kernels *kernels;    /* NULL: none is attached */
	struct cuda_inside *inside; /* NULL: not needed yet, or it cannot be */
};

static unsigned int wanted(enum pt_cuda_mode mode)
{
	switch (mode) {
	case PT_CUDA_ONLY_RUNTIME:
		return PT_CUDA_WANT_RUNTIME;
	case PT_CUDA_ONLY_DRIVER:
		return PT_CUDA_WANT_DRIVER;
	case PT_CUDA_AUTO:
	case PT_CUDA_ALL:
		return PT_CUDA_WANT_RUNTIME | PT_CUDA_WANT_DRIVER | PT_CUDA_WANT_NCCL;
	case PT_CUDA_NONE:
		break;
	}
	return 0;
}

int cuda_new(struct session *session, struct pt_err *err)
{
	session->cuda = calloc(1, sizeof(*session->cuda));
	if (!session->cuda)
		return pt_err_set(err, -ENOMEM, PT_EXIT_FAILED, "", "out of memory");
	session->cuda->want = wanted(session->options->cuda) | session->options->cuda_libs;
	if (session->cuda->want)
		session->cuda->want |= session->options->stacks;
	return 0;
}

static void release_process(struct cuda_process *process)
{
	pt_loadables_release(&process->cuda);
	pt_loadables_release(&process->libs);
	pt_loadables_release(&process->torch);
}

void cuda_free(struct cuda_session *cuda)
{
	if (!cuda)
		return;
	for (size_t i = 0; i < cuda->file_count; i++) {
		pt_cuda_library_free(cuda->files[i].library);
		free(cuda->files[i].pids);
	}
	free(cuda->files);
	for (size_t i = 0; i < cuda->process_count; i++)
		release_process(&cuda->processes[i]);
	free(cuda->processes);
	cuda_inside_free(cuda->inside);
	kernels_free(cuda->kernels);
	free(cuda);
}

/* ---- records ---- */

static int put_fn(struct session *session, const struct pt_cuda_fn *fn, unsigned int major)
{
	struct pt_rec_cuda_fn record = {
	    .hdr = {.kind = PT_REC_CUDA_FN, .len = sizeof(record), .time_ns = pt_now_ns()},
	    .id = fn->id,
	    .api = fn->row->api,
	    .major = (uint8_t)(major > UINT8_MAX ? UINT8_MAX : major),
	    .in_words = (uint8_t)pt_cuda_in_words(&fn->layout),
	    .out_words = (uint8_t)fn->layout.out_count,
	};

	if (session->cuda->announced[fn->id])
		return 0;
	session->cuda->announced[fn->id] = true;
	snprintf(record.symbol, sizeof(record.symbol), "%s", fn->row->symbol);
	return session_put(session, &record.hdr, sizeof(record));
}

static int put_fns(struct session *session, const struct pt_cuda_library *library)
{
	int rc = 0;

	for (size_t i = 0; i < library->plan.site_count && !rc; i++)
		rc = put_fn(session, &library->fns[i], library->major);
	return rc;
}

/* late: the process has mapped it before the probes were there. */
static int put_lib(struct session *session, const struct pt_cuda_library *library, pid_t pid,
		   bool late, uint64_t time_ns)
{
	_Alignas(8) char buffer[sizeof(struct pt_rec_cuda_lib) + PATH_MAX_BYTES] = {0};
	struct pt_rec_cuda_lib *record = (struct pt_rec_cuda_lib *)(void *)buffer;
	size_t len = strnlen(library->path, PATH_MAX_BYTES);

	record->hdr.kind = PT_REC_CUDA_LIB;
	record->hdr.len = (uint32_t)((sizeof(*record) + len + 7) & ~(size_t)7);
	record->hdr.tgid = (uint32_t)pid;
	record->hdr.time_ns = time_ns;
	record->fn_count = (uint32_t)library->plan.site_count;
	record->late = late;
	record->torch = library->leaves.site_count != 0;
	record->text_bytes = (uint32_t)len;
	memcpy(record->data, library->path, len);
	return session_put(session, &record->hdr, record->hdr.len);
}

static int look_for_kernels(pid_t pid, uint32_t image_id, void *session);

/* ---- files ---- */

static struct cuda_file *find_file(struct cuda_session *cuda, const struct pt_module *module,
				   enum cuda_kind kind)
{
	for (size_t i = 0; i < cuda->file_count; i++)
		if (cuda->files[i].dev == module->dev && cuda->files[i].inode == module->inode &&
		    cuda->files[i].kind == kind)
			return &cuda->files[i];
	return NULL;
}

static bool has_pid(const struct cuda_file *file, pid_t pid)
{
	for (size_t i = 0; i < file->pid_count; i++)
		if (file->pids[i] == pid)
			return true;
	return false;
}

static bool has_probes(const struct cuda_file *file, pid_t pid)
{
	return file->for_all || has_pid(file, pid);
}

static void tell_library(const struct pt_cuda_library *library, enum cuda_kind kind)
{
	if (library->bare)
		pt_warn("CUDA %u of '%s' is newer than this program knows: its calls are recorded "
			"without arguments",
			library->major, library->path);
	if (library->lib_bare)
		pt_warn("--cuda-libs: '%s' is of version %u, whose arguments this program does not "
			"know: its calls are recorded without",
			library->path, library->lib_major);
	if (library->refused && kind == KIND_TORCH)
		pt_warn("--torch: %zu of %zu operators of '%s' are not recorded, the first is %s",
			library->refused, library->refused + library->plan.site_count,
			library->path, library->why_refused);
	else if (library->refused && kind == KIND_BLOCKS)
		pt_warn("--torch-memory: not all that PyTorch allocates by '%s' is recorded, the "
			"first that is not is %s",
			library->path, library->why_refused);
	else if (library->refused)
		pt_warn("--cuda: %zu functions of the CUDA runtime in '%s' are not recorded: which "
			"of its code they are is not sure",
			library->refused, library->path);
	pt_verbose("%zu %s in '%s'", library->plan.site_count, kind_names[kind].things,
		   library->path);
}

/* 0 with no job: only a warning. */
static int look_inside(struct session *session, struct cuda_file *file,
		       const struct pt_module *module)
{
	struct cuda_session *cuda = session->cuda;
	unsigned int want = file->kind == KIND_TORCH ? PT_CUDA_WANT_TORCH : cuda->want;
	int rc = cuda->inside ? 0
			      : cuda_inside_new(session->options->cache_dir,
						session->images_options.emulated, &cuda->inside);

	if (!rc)
		rc = cuda_inside_add(cuda->inside, module->open_path, module->path, want,
				     &file->job);
	if (rc && rc != -ENOMEM)
		pt_warn("--%s: not looked for %s in '%s': %s", kind_names[file->kind].option,
			kind_names[file->kind].things, module->path, strerror(-rc));
	return rc == -ENOMEM ? rc : 0;
}

/* What was found inside, once that is known. */
static void take_inside(struct session *session, struct cuda_file *file, bool wait)
{
	if (!file->job || !cuda_inside_take(session->cuda->inside, file->job, wait, &file->library))
		return;
	file->job = NULL;
	if (file->library)
		tell_library(file->library, file->kind);
}

static int load_file(const struct session *session, const struct pt_module *module,
		     struct cuda_file *file, bool *inside, struct pt_err *err)
{
	switch (file->kind) {
	case KIND_TORCH:
		return pt_torch_library_is(module->open_path, inside, err);
	case KIND_BLOCKS:
		return pt_torch_memory_load(module->open_path, module->path, &file->library, err);
	case KIND_CUDA:
	case KIND_COUNT:
		break;
	}
	return pt_cuda_library_load(module->open_path, module->path, session->cuda->want,
				    &file->library, inside, err);
}

/* The file's entry, made if need be; NULL: no memory. */
static struct cuda_file *look_at_file(struct session *session, const struct pt_module *module,
				      enum cuda_kind kind)
{
	struct cuda_session *cuda = session->cuda;
	struct cuda_file *file = find_file(cuda, module, kind), *bigger;
	struct pt_err err = {0};
	bool inside = false;
	int rc;

	if (file)
		return file;
	bigger = reallocarray(cuda->files, cuda->file_count + 1, sizeof(*bigger));
	if (!bigger)
		return NULL;
	cuda->files = bigger;
	file = &bigger[cuda->file_count++];
	*file = (struct cuda_file){.dev = module->dev, .inode = module->inode, .kind = kind};
	/* a file that is no ELF file or may not be read is not what is looked for */
	rc = load_file(session, module, file, &inside, &err);
	if (rc == -ENOTSUP && kind == KIND_BLOCKS)
		pt_warn("--torch-memory: not recorded of '%s': %s", module->path, err.what);
	else if (rc)
		pt_verbose("not looked at for %s: %s", kind_names[kind].things, err.what);
	else if (file->library)
		tell_library(file->library, kind);
	return inside && look_inside(session, file, module) ? NULL : file;
}

static int add_pid(struct cuda_file *file, pid_t pid)
{
	pid_t *bigger = reallocarray(file->pids, file->pid_count + 1, sizeof(*bigger));

	if (!bigger)
		return -ENOMEM;
	file->pids = bigger;
	bigger[file->pid_count++] = pid;
	return 0;
}

/* ---- processes ---- */

static struct cuda_process *process_find(struct cuda_session *cuda, pid_t pid)
{
	for (size_t i = 0; i < cuda->process_count; i++)
		if (cuda->processes[i].pid == pid)
			return &cuda->processes[i];
	return NULL;
}

/* Made if need be; NULL: no memory. */
static struct cuda_process *process_of(struct cuda_session *cuda, const struct target *target)
{
	struct cuda_process *process = process_find(cuda, target->pid), *bigger;

	if (!process) {
		bigger = reallocarray(cuda->processes, cuda->process_count + 1, sizeof(*bigger));
		if (!bigger)
			return NULL;
		cuda->processes = bigger;
		process = &bigger[cuda->process_count++];
		*process = (struct cuda_process){.pid = target->pid, .image_id = target->image_id};
	} else if (process->image_id != target->image_id) {
		release_process(process);
		*process = (struct cuda_process){.pid = target->pid, .image_id = target->image_id};
	}
	return process;
}

/* ---- kernels ---- */

/* The calls of this library are recorded from now on. */
static int name_kernels(struct session *session, const struct pt_cuda_library *library)
{
	const struct kernels_options options = {.cache_dir = session->options->cache_dir,
						.put = session_put_record,
						.look = look_for_kernels,
						.ctx = session};
	struct cuda_session *cuda = session->cuda;
	int rc = cuda->kernels ? 0 : kernels_new(&options, &cuda->kernels);

	if (!rc)
		kernels_functions(cuda->kernels, library);
	else if (rc != -ENOMEM)
		pt_warn("kernels are shown without their names: cannot start a thread: %s",
			strerror(-rc));
	return rc == -ENOMEM ? rc : 0;
}

/* If it has CUDA at all. */
static int look_at_kernels(struct session *session, const struct pt_process *process)
{
	const struct target *target = target_find(session, process->pid);
	const struct cuda_file *file;

	if (!session->cuda->kernels || !target)
		return 0;
	for (size_t i = 0; i < process->module_count; i++) {
		file = find_file(session->cuda, &process->modules[i], KIND_CUDA);
		if (file && file->library)
			return kernels_look(session->cuda->kernels, process, target->image_id);
	}
	return 0;
}

/* Stacks of its calls are to come. */
static int look_at_code(struct session *session, const struct pt_process *process)
{
	const struct target *target = target_find(session, process->pid);

	if (!session->callstacks || !session->options->native_stacks || !target)
		return 0;
	return callstacks_look(session->callstacks, process->pid, target->image_id);
}

/* Attaches to a library that the process maps, or may map. */
static int attach_library(struct session *session, struct cuda_file *file, pid_t pid,
			  const struct pt_module *module)
{
	/* both kinds on one file would report a call twice */
	bool for_all = !pt_tracer_multi_one_process() ||
		       (!file->pid_count && target_reach(session, module) == PT_REACH_FILE);
	struct pt_err err = {0};
	int rc = 0;

	/* a record that names a function comes before its calls */
	if (session->gate_open && file->kind != KIND_BLOCKS)
		rc = put_fns(session, file->library);
	if (rc)
		return rc;
	if (pt_tracer_add_cuda(session->tracer, file->library, for_all ? -1 : pid,
			       module->open_path, &err)) {
		pt_warn("--%s: calls of '%s' are not recorded: %s", kind_names[file->kind].option,
			module->path, err.what);
		pt_cuda_library_free(file->library);
		file->library = NULL;
		return 0;
	}
	file->probed_ns = pt_now_ns();
	file->for_all = for_all;
	pt_verbose("attached to the %s of '%s'%s", kind_names[file->kind].things, module->path,
		   for_all ? "" : ", in this process only");
	rc = for_all ? 0 : add_pid(file, pid);
	if (!rc && file->kind == KIND_CUDA)
		rc = name_kernels(session, file->library);
	if (!rc && session->gate_open && file->kind != KIND_BLOCKS &&
	    pt_process_maps(pid, module->dev, module->inode))
		rc = put_lib(session, file->library, pid, true, file->probed_ns);
	return rc;
}

/* A process maps a file that has probes for all. If those came while it was traced already, and it
 * has mapped the file since it was last looked at, then that may have been before them. */
static int meet_library(struct session *session, struct cuda_file *file, pid_t pid,
			uint64_t looked_ns)
{
	int rc = add_pid(file, pid);

	if (rc || !session->gate_open || !looked_ns || looked_ns > file->probed_ns)
		return rc;
	return put_lib(session, file->library, pid, true, file->probed_ns);
}

static int attach_module(struct session *session, const struct pt_process *process,
			 const struct pt_module *module, enum cuda_kind kind)
{
	struct cuda_file *file = look_at_file(session, module, kind);
	const struct cuda_process *known;

	if (!file)
		return -ENOMEM;
	/* the recording has to go on, once it has begun */
	take_inside(session, file, !session->gate_open);
	file->mapped = true;
	if (!file->library)
		return 0;
	if (!has_probes(file, process->pid))
		return attach_library(session, file, process->pid, module);
	if (has_pid(file, process->pid))
		return 0;
	known = process_find(session->cuda, process->pid);
	return meet_library(session, file, process->pid, known ? known->looked_ns : 0);
}

/* Probes for what the process may load later, so that no call is made before they are there. */
static int attach_ahead(struct session *session, const struct pt_process *process,
			const struct pt_loadables *loadables, enum cuda_kind kind)
{
	int rc = 0;

	for (size_t i = 0; i < loadables->count && !rc; i++) {
		const struct pt_loadable *loadable = &loadables->items[i];
		char open_path[32];
		const struct pt_module module = {.path = loadable->path,
						 .open_path = open_path,
						 .dev = loadable->dev,
						 .inode = loadable->inode};
		struct cuda_file *file;

		snprintf(open_path, sizeof(open_path), "/proc/self/fd/%d", loadable->fd);
		file = look_at_file(session, &module, kind);
		if (!file)
			return -ENOMEM;
		/* what was asked for by name is worth the wait */
		take_inside(session, file, kind == KIND_TORCH && !session->gate_open);
		if (file->library && !has_probes(file, process->pid))
			rc = attach_library(session, file, process->pid, &module);
	}
	return rc;
}

static int find_ahead(const struct session *session, const struct pt_process *process,
		      struct cuda_process *known)
{
	int rc = 0;

	if (known->searched)
		return 0;
	known->searched = true;
	/* else programs that have nothing to do with CUDA would pay for hundreds of probes at the
	 * start and at the end, on each host that has it */
	if (session->cuda->want && session->options->cuda_asked)
		rc = pt_loadables_find(process, cuda_names, &known->cuda);
	if (!rc && session->options->cuda_libs)
		rc = pt_loadables_find(process, lib_names, &known->libs);
	if (!rc && session->options->torch)
		rc = pt_loadables_find(process, torch_names, &known->torch);
	if (rc && rc != -ENOMEM)
		pt_verbose("not looked for libraries that process %d may load: %s", process->pid,
			   strerror(-rc));
	return rc == -ENOMEM ? rc : 0;
}

static int look_ahead(struct session *session, const struct pt_process *process)
{
	const struct target *target = target_find(session, process->pid);
	struct cuda_process *known = target ? process_of(session->cuda, target) : NULL;
	int rc;

	if (!target)
		return 0;
	if (!known)
		return -ENOMEM;
	rc = find_ahead(session, process, known);
	if (!rc)
		rc = attach_ahead(session, process, &known->cuda, KIND_CUDA);
	if (!rc)
		rc = attach_ahead(session, process, &known->libs, KIND_CUDA);
	if (!rc)
		rc = attach_ahead(session, process, &known->torch, KIND_TORCH);
	/* of probes that came before this is known whether the process had mapped the file */
	known->looked_ns = pt_now_ns();
	return rc;
}

int cuda_attach(struct session *session, const struct pt_process *process)
{
	int rc = 0;

	if (!session->cuda)
		return 0;
	for (size_t i = 0; i < process->module_count && !rc; i++) {
		if (session->cuda->want)
			rc = attach_module(session, process, &process->modules[i], KIND_CUDA);
		if (!rc && session->options->torch)
			rc = attach_module(session, process, &process->modules[i], KIND_TORCH);
		if (!rc && session->options->torch_memory)
			rc = attach_module(session, process, &process->modules[i], KIND_BLOCKS);
	}
	if (!rc)
		rc = look_ahead(session, process);
	if (!rc)
		rc = look_at_code(session, process);
	return rc ? rc : look_at_kernels(session, process);
}

int cuda_announce(struct session *session)
{
	struct cuda_session *cuda = session->cuda;
	int rc = 0;

	for (size_t i = 0; cuda && i < cuda->file_count && !rc; i++)
		if (cuda->files[i].library && cuda->files[i].kind != KIND_BLOCKS)
			rc = put_fns(session, cuda->files[i].library);
	return rc;
}

int cuda_announce_mapped(struct session *session)
{
	struct cuda_session *cuda = session->cuda;
	int rc = 0;

	for (size_t i = 0; cuda && i < cuda->file_count; i++) {
		const struct cuda_file *file = &cuda->files[i];

		for (size_t k = 0; k < session->target_count && !rc; k++)
			if (file->library && file->kind == KIND_CUDA && file->mapped &&
			    pt_process_maps(session->targets[k].pid, file->dev, file->inode))
				rc = put_lib(session, file->library, session->targets[k].pid, false,
					     session->gate_ns);
	}
	return rc;
}

/* ---- what is mapped later ---- */

/* Suits kernels_options.look. */
static int look_for_kernels(pid_t pid, uint32_t image_id, void *ctx)
{
	struct session *session = ctx;
	const struct target *target = target_find(session, pid);
	struct cuda_process *process;
	struct pt_process *opened;
	int rc;

	if (!target || target->image_id != image_id)
		return 0;
	process = process_of(session->cuda, target);
	if (!process)
		return -ENOMEM;
	if (!mapped_changed(pid, &process->kernels_kb) ||
	    pt_process_open_cached(pid, session->files, &opened, NULL))
		return 0;
	rc = kernels_look(session->cuda->kernels, opened, image_id);
	pt_process_free(opened);
	return rc;
}

int cuda_record(struct session *session, const struct pt_rec *record, size_t len, bool *taken)
{
	*taken = record->kind == PT_REC_CUDA_LOADED;
	if (!session->cuda || !session->cuda->kernels)
		return 0;
	if (*taken)
		return kernels_loaded(session->cuda->kernels,
				      (const struct pt_rec_cuda_loaded *)record, len);
	if (record->kind != PT_REC_BATCH)
		return 0;
	return kernels_batch(session->cuda->kernels, (const struct pt_rec_batch *)record, len);
}

int cuda_output(struct session *session, const struct pt_rec *record, size_t len)
{
	if (record->kind == PT_REC_CALL_STACK)
		return callstacks_complete(session->callstacks,
					   (const struct pt_rec_call_stack *)record,
					   pt_output_record, session->output);
	if (record->kind != PT_REC_CUDA_KERNEL)
		return pt_output_record(record, len, session->output);
	return kernels_complete(session->cuda->kernels, (const struct pt_rec_cuda_kernel *)record,
				pt_output_record, session->output);
}

bool cuda_news(const struct session *session)
{
	return session->cuda && session->cuda->inside && cuda_inside_news(session->cuda->inside);
}

void cuda_forget(struct session *session, pid_t pid)
{
	struct cuda_session *cuda = session->cuda;

	for (size_t i = 0; cuda && i < cuda->file_count; i++) {
		struct cuda_file *file = &cuda->files[i];

		for (size_t k = file->pid_count; k-- > 0;)
			if (file->pids[k] == pid)
				file->pids[k] = file->pids[--file->pid_count];
	}
	if (cuda && cuda->kernels)
		kernels_forget(cuda->kernels, pid);
	for (size_t i = cuda ? cuda->process_count : 0; i-- > 0;)
		if (cuda->processes[i].pid == pid) {
			release_process(&cuda->processes[i]);
			cuda->processes[i] = cuda->processes[--cuda->process_count];
		}
}

/* Did a traced process map such a file, or, if it ended before that was seen, call it? */
static bool was_used(const struct cuda_session *cuda, enum cuda_kind kind)
{
	for (size_t i = 0; i < cuda->file_count; i++)
		if (cuda->files[i].kind == kind && cuda->files[i].mapped &&
		    cuda->files[i].probed_ns)
			return true;
	return kind == KIND_CUDA && cuda->kernels && kernels_called(cuda->kernels);
}

void cuda_tell(const struct session *session)
{
	const struct cuda_session *cuda = session->cuda;

	for (size_t i = 0; cuda && i < cuda->file_count; i++)
		if (cuda->files[i].job && cuda->files[i].mapped)
			pt_warn("--%s: calls of '%s' are not recorded: this ended while its code "
				"was being read",
				kind_names[cuda->files[i].kind].option,
				cuda_inside_path(cuda->files[i].job));
	if (cuda && session->options->cuda_asked && !was_used(cuda, KIND_CUDA))
		pt_warn(
		    "--cuda: the traced processes had no file with such CUDA functions: nothing "
		    "to record");
	if (cuda && session->options->torch && !was_used(cuda, KIND_TORCH))
		pt_warn("--torch: the traced processes loaded no library with PyTorch's operators: "
			"nothing to record");
	if (cuda && session->options->torch_memory && !was_used(cuda, KIND_BLOCKS))
		pt_warn("--torch-memory: the traced processes loaded no PyTorch (no libc10): "
			"nothing to record");
}
