// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "record/marks.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/log.h"
#include "python/method_exits.h"
#include "python/sdt_args.h"
#include "record/mark_spec.h"
#include "target/elf.h"

#define ANY_SPEC SIZE_MAX

/* One probe in one file: its places, and for whom they are attached. */
struct mark_file {
	size_t spec; /* ANY_SPEC: whether it has any of those that are looked for in all files */
	uint64_t dev, inode;
	bool wanted;                  /* of ANY_SPEC: it has */
	struct pt_mark_place *places; /* none: the file does not have it */
	size_t place_count;
	pid_t *pids; /* -1: all */
	size_t pid_count;
};

struct pt_marks {
	struct pt_mark_spec *specs;
	size_t spec_count;
	struct mark_file *files;
	size_t file_count;
	uint32_t next_number;
	size_t place_count;
};

/* ---- what the user wants ---- */

static int add_spec(struct pt_marks *marks, const char *text, struct pt_err *err)
{
	struct pt_mark_spec *bigger = reallocarray(marks->specs, marks->spec_count + 1,
						   sizeof(*bigger));

	if (!bigger)
		return pt_err_set(err, -ENOMEM, PT_EXIT_FAILED, "", "out of memory");
	marks->specs = bigger;
	return pt_mark_spec_parse(text, &bigger[marks->spec_count++], err);
}

int pt_marks_new(const char *const *texts, bool nvtx, struct pt_marks **result, struct pt_err *err)
{
	struct pt_marks *marks = calloc(1, sizeof(*marks));
	int rc = 0;

	if (!marks)
		return pt_err_set(err, -ENOMEM, PT_EXIT_FAILED, "", "out of memory");
	for (; !rc && texts && *texts; texts++)
		rc = add_spec(marks, *texts, err);
	for (size_t i = 0; !rc && nvtx && pt_mark_nvtx[i]; i++)
		rc = add_spec(marks, pt_mark_nvtx[i], err);
	if (rc)
		pt_marks_free(marks);
	else
		*result = marks;
	return rc;
}

void pt_marks_free(struct pt_marks *marks)
{
	if (!marks)
		return;
	for (size_t i = 0; i < marks->file_count; i++) {
		free(marks->files[i].places);
		free(marks->files[i].pids);
	}
	free(marks->files);
	free(marks->specs);
	free(marks);
}

/* Ranges are of one group if they have one label. */
static uint32_t group_of(const struct pt_marks *marks, const struct pt_mark_spec *spec)
{
	size_t i = 0;

	while (i < marks->spec_count && strcmp(marks->specs[i].label, spec->label) != 0)
		i++;
	return (uint32_t)i;
}

static void display_name(const struct pt_mark_spec *spec, char *name, size_t size)
{
	if (spec->label[0])
		snprintf(name, size, "%s", spec->label);
	else if (spec->usdt)
		snprintf(name, size, "%.63s:%.63s", spec->provider, spec->symbol);
	else
		snprintf(name, size, "%.127s", spec->symbol);
}

int pt_marks_define(const struct pt_marks *marks, uint64_t time_ns,
		    int (*put)(const struct pt_rec *record, size_t len, void *ctx), void *ctx)
{
	int rc = 0;

	for (size_t i = 0; !rc && i < marks->spec_count; i++) {
		const struct pt_mark_spec *spec = &marks->specs[i];
		struct pt_rec_mark record = {
		    .hdr = {.kind = PT_REC_MARK, .len = sizeof(record), .time_ns = time_ns},
		    .id = (uint32_t)i + 1,
		    .kind = spec->kind,
		    .group = group_of(marks, spec),
		};

		display_name(spec, record.name, sizeof(record.name));
		for (unsigned int k = 0; k < spec->arg_count; k++) {
			if (spec->args[k].read == PT_MARK_READ_KEY)
				continue;
			record.args[record.arg_count].type = spec->args[k].type;
			snprintf(record.args[record.arg_count++].name, PT_MARK_ARG_NAME_BYTES, "%s",
				 spec->args[k].name);
		}
		rc = put(&record.hdr, sizeof(record), ctx);
	}
	return rc;
}

/* ---- one file ---- */

/* The registers of the first six integer arguments, in machine order: System V ABI, x86-64. */
static const uint8_t arg_regs[PT_MARK_ARGS_MAX] = {7, 6, 2, 1, 8, 9};

static void fill_mark(const struct pt_marks *marks, size_t number, struct pt_mark *mark)
{
	const struct pt_mark_spec *spec = &marks->specs[number];

	*mark = (struct pt_mark){
	    .id = (uint32_t)number + 1,
	    .kind = spec->kind,
	    .group = group_of(marks, spec),
	    .arg_count = spec->arg_count,
	};
	for (unsigned int i = 0; i < spec->arg_count; i++)
		mark->args[i] = (struct pt_mark_arg){
		    .read = (uint8_t)spec->args[i].read,
		    .reg = arg_regs[i],
		    .is_signed = spec->args[i].is_signed,
		    .bytes = spec->args[i].bytes,
		};
}

/* A note says where an argument is and how wide; the user says what it means. */
static int fill_usdt_args(const struct pt_mark_spec *spec, const struct elf_sdt_note *note,
			  struct pt_mark *mark, struct pt_err *err)
{
	for (unsigned int i = 0; i < spec->arg_count; i++) {
		struct pt_mark_arg *to = &mark->args[i];
		struct sdt_arg arg;
		unsigned int bytes;

		if (!sdt_arg_parse(note->args, i, &arg))
			return pt_err_set(err, -ENOTSUP, PT_EXIT_FAILED,
					  "name only the arguments before it",
					  "--probe '%s': argument %u is not there, or not where a "
					  "probe can read it (the probe's are '%s')",
					  spec->text, i + 1, note->args);
		bytes = (unsigned int)abs(arg.bytes);
		if (bytes != 1 && bytes != 2 && bytes != 4 && bytes != 8)
			return pt_err_set(err, -ENOTSUP, PT_EXIT_FAILED, "",
					  "--probe '%s': argument %u has %u bytes", spec->text,
					  i + 1, bytes);
		to->reg = arg.constant ? PT_REG_NONE : (uint8_t)arg.reg;
		to->memory = arg.memory;
		to->disp = arg.disp;
		to->bytes = bytes;
		to->is_signed = arg.bytes < 0;
	}
	return 0;
}

struct find {
	struct pt_marks *marks;
	struct pt_tracer *tracer;
	struct mark_file *file;
	const struct elf_file *elf;
	struct pt_err *err;
};

static int add_place(struct find *find, const struct pt_mark *mark, uint64_t vaddr,
		     uint64_t semaphore_vaddr)
{
	struct mark_file *file = find->file;
	struct pt_mark_place *place,
	    *bigger = reallocarray(file->places, file->place_count + 1, sizeof(*bigger));
	const char *text = find->marks->specs[file->spec].text;

	if (!bigger)
		return -ENOMEM;
	file->places = bigger;
	place = &bigger[file->place_count];
	*place = (struct pt_mark_place){.number = find->marks->next_number};
	if (place->number >= PT_MARKS_MAX)
		return pt_err_set(find->err, -ENOSPC, PT_EXIT_FAILED, "give fewer probes",
				  "--probe '%s': there are more than %d places to probe", text,
				  PT_MARKS_MAX);
	if (!elf_is_code(find->elf, vaddr) ||
	    !elf_vaddr_to_offset(find->elf, vaddr, &place->offset) ||
	    (semaphore_vaddr && !elf_vaddr_to_offset(find->elf, semaphore_vaddr, &place->ref_ctr)))
		return pt_err_set(find->err, -ENOEXEC, PT_EXIT_FAILED, "",
				  "--probe '%s': what has this name is no code", text);
	find->marks->next_number++;
	file->place_count++;
	return pt_tracer_set_mark(find->tracer, place->number, mark, find->err);
}

static int see_note(const struct elf_sdt_note *note, void *ctx)
{
	struct find *find = ctx;
	const struct pt_mark_spec *spec = &find->marks->specs[find->file->spec];
	struct pt_mark mark;
	int rc;

	if (strcmp(note->provider, spec->provider) != 0 || strcmp(note->name, spec->symbol) != 0)
		return 0;
	fill_mark(find->marks, find->file->spec, &mark);
	rc = fill_usdt_args(spec, note, &mark, find->err);
	return rc ? rc : add_place(find, &mark, note->vaddr, note->semaphore_vaddr);
}

static int add_end(struct find *find, uint32_t number, uint64_t vaddr)
{
	struct mark_file *file = find->file;
	struct pt_mark_place *bigger = reallocarray(file->places, file->place_count + 1,
						    sizeof(*bigger));

	if (!bigger)
		return -ENOMEM;
	file->places = bigger;
	bigger[file->place_count] = (struct pt_mark_place){.number = number, .ends = true};
	if (!elf_vaddr_to_offset(find->elf, vaddr, &bigger[file->place_count].offset))
		return -ENOEXEC;
	file->place_count++;
	return 0;
}

/* Where the slices of the last place end. Return probes would do harm (python/method_exits.h). */
static int add_ends(struct find *find, uint64_t vaddr)
{
	const struct pt_mark_spec *spec = &find->marks->specs[find->file->spec];
	uint32_t number = find->file->places[find->file->place_count - 1].number;
	struct method_code code = {.elf = find->elf, .jumps_are_exits = true};
	const char *reason = "the file does not say where its functions end (.eh_frame)";
	struct method_exits exits = {0};
	struct eh_ranges eh = {0};
	uint64_t lowest;
	int rc = eh_ranges_load(find->elf, &eh);

	code.eh = &eh;
	if (!rc)
		rc = mc_decoder_open(&code.decoder);
	if (!rc)
		rc = method_exits_add(&code, vaddr, &exits, &lowest, &reason);
	for (size_t i = 0; i < exits.count && !rc; i++) {
		reason = "it is one instruction";
		rc = exits.vaddrs[i] == vaddr ? -ENOTSUP : add_end(find, number, exits.vaddrs[i]);
	}
	method_exits_release(&exits);
	mc_decoder_close(code.decoder);
	eh_ranges_release(&eh);
	if (rc == -ENOTSUP || rc == -ENOENT)
		pt_err_set(find->err, rc, PT_EXIT_FAILED, "probe it without =slice",
			   "--probe '%s': where %s ends cannot be told: %s", spec->text,
			   spec->symbol, reason);
	return rc;
}

static int find_symbol(struct find *find)
{
	const struct pt_mark_spec *spec = &find->marks->specs[find->file->spec];
	struct elf_symbol symbol;
	struct pt_mark mark;
	int rc;

	if (!elf_symbol(find->elf, spec->symbol, &symbol))
		return 0;
	if (symbol.type == STT_GNU_IFUNC)
		return pt_err_set(find->err, -ENOTSUP, PT_EXIT_FAILED,
				  "probe one of the functions that it chooses from",
				  "--probe '%s': this is an indirect function, chosen when the "
				  "program starts",
				  spec->text);
	fill_mark(find->marks, find->file->spec, &mark);
	rc = add_place(find, &mark, symbol.vaddr, 0);
	return rc || spec->kind != PT_MARK_SLICE ? rc : add_ends(find, symbol.vaddr);
}

/* Finds the probe's places in the file at open_path. */
static int find_places(struct pt_marks *marks, struct pt_tracer *tracer, struct mark_file *file,
		       const char *open_path, const char *path, struct pt_err *err)
{
	const struct pt_mark_spec *spec = &marks->specs[file->spec];
	struct find find = {.marks = marks, .tracer = tracer, .file = file, .err = err};
	bool any_file = !strcmp(spec->path, "*");
	struct elf_file *elf;
	int rc = elf_file_open(open_path, &elf, NULL);

	if (rc && any_file)
		return 0;
	if (rc)
		return pt_err_set(err, rc, PT_EXIT_FAILED, "give a program or a shared library",
				  "--probe '%s': '%s' cannot be read as a 64-bit ELF file: %s",
				  spec->text, path, strerror(-rc));
	find.elf = elf;
	if (elf->machine != EM_X86_64)
		rc = any_file
			 ? 0
			 : pt_err_set(err, -ENOTSUP, PT_EXIT_UNSUPPORTED, "",
				      "--probe '%s': '%s' is not for x86-64", spec->text, path);
	else
		rc = spec->usdt ? elf_each_sdt_note(elf, see_note, &find) : find_symbol(&find);
	elf_file_close(elf);
	if (rc)
		file->place_count = 0; /* all of them or none */
	if (rc && !pt_err_is_set(err))
		return pt_err_set(err, rc, PT_EXIT_FAILED, "", "--probe '%s': %s", spec->text,
				  strerror(-rc));
	if (rc || file->place_count || any_file)
		return rc;
	if (spec->usdt)
		return pt_err_set(err, -ENOENT, PT_EXIT_FAILED,
				  "'readelf -n FILE' shows what it has",
				  "--probe '%s': '%s' has no USDT probe %s:%s", spec->text, path,
				  spec->provider, spec->symbol);
	return pt_err_set(err, -ENOENT, PT_EXIT_FAILED,
			  "'nm -D FILE' and 'nm FILE' show what it has; a stripped file has only "
			  "what it exports",
			  "--probe '%s': '%s' has no symbol %s", spec->text, path, spec->symbol);
}

static struct mark_file *file_get(struct pt_marks *marks, size_t spec, uint64_t dev, uint64_t inode,
				  bool *known)
{
	struct mark_file *bigger;

	for (size_t i = 0; i < marks->file_count; i++) {
		struct mark_file *file = &marks->files[i];

		if (file->spec == spec && file->dev == dev && file->inode == inode) {
			*known = true;
			return file;
		}
	}
	*known = false;
	bigger = reallocarray(marks->files, marks->file_count + 1, sizeof(*bigger));
	if (!bigger)
		return NULL;
	marks->files = bigger;
	bigger += marks->file_count++;
	*bigger = (struct mark_file){.spec = spec, .dev = dev, .inode = inode};
	return bigger;
}

/* Many files are looked into, and few have anything: each is opened once for all probes. */
static bool has_any(struct pt_marks *marks, const char *open_path)
{
	struct elf_symbol symbol;
	struct mark_file *file;
	struct elf_file *elf;
	struct stat st;
	bool known;

	if (stat(open_path, &st) || !S_ISREG(st.st_mode))
		return false;
	file = file_get(marks, ANY_SPEC, st.st_dev, st.st_ino, &known);
	if (!file || known)
		return file && file->wanted;
	if (elf_file_open(open_path, &elf, NULL))
		return false;
	for (size_t i = 0; i < marks->spec_count && !file->wanted; i++)
		file->wanted = !strcmp(marks->specs[i].path, "*") &&
			       elf_symbol(elf, marks->specs[i].symbol, &symbol);
	elf_file_close(elf);
	return file->wanted;
}

static bool is_attached(const struct mark_file *file, pid_t pid)
{
	for (size_t i = 0; i < file->pid_count; i++)
		if (file->pids[i] == pid || file->pids[i] == -1)
			return true;
	return false;
}

static int attach_places(struct pt_marks *marks, struct pt_tracer *tracer, struct mark_file *file,
			 pid_t pid, const char *open_path, struct pt_err *err)
{
	pid_t *pids = reallocarray(file->pids, file->pid_count + 1, sizeof(*pids));
	int rc = pids ? 0 : -ENOMEM;

	if (pids) {
		file->pids = pids;
		pids[file->pid_count++] = pid;
	}
	for (size_t i = 0; !rc && i < file->place_count; i++) {
		rc = pt_tracer_attach_mark(tracer, &file->places[i], pid, open_path, err);
	}
	return rc;
}

/* *found: the file has the probe, and it is attached. */
static int look_at_file(struct pt_marks *marks, struct pt_tracer *tracer, size_t spec, pid_t pid,
			const char *open_path, const char *path, bool *found, struct pt_err *err)
{
	struct mark_file *file;
	struct stat st;
	bool known;
	int rc = 0;

	if (stat(open_path, &st) || !S_ISREG(st.st_mode))
		return 0; /* it is gone by now, or nothing to look into */
	file = file_get(marks, spec, st.st_dev, st.st_ino, &known);
	if (!file)
		return -ENOMEM;
	if (!known)
		rc = find_places(marks, tracer, file, open_path, path, err);
	*found = file->place_count > 0;
	if (rc || !file->place_count || is_attached(file, pid))
		return rc;
	rc = attach_places(marks, tracer, file, pid, open_path, err);
	if (!rc) {
		marks->place_count += file->place_count;
		pt_verbose("probe '%s' attached to '%s'", marks->specs[spec].text, path);
	}
	return rc;
}

/* ---- one process ---- */

/* Opens a path as the process sees it; *fd_path opens it again. */
static int open_in_root(pid_t pid, const char *path, int *fd)
{
	struct open_how how = {.flags = O_PATH | O_CLOEXEC,
			       .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS};
	char root_path[64];
	int root, rc = 0;

	snprintf(root_path, sizeof(root_path), "/proc/%d/root", pid);
	root = open(root_path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (root < 0)
		return -errno;
	*fd = (int)syscall(SYS_openat2, root, path, &how, sizeof(how));
	if (*fd < 0)
		rc = -errno;
	close(root);
	return rc;
}

static int look_at_path(struct pt_marks *marks, struct pt_tracer *tracer, size_t number, pid_t pid,
			pid_t for_pid, struct pt_err *err)
{
	const struct pt_mark_spec *spec = &marks->specs[number];
	char absolute[2 * sizeof(spec->path)], folder[sizeof(spec->path)], self[64];
	bool found;
	int fd = -1, rc;

	/* what is not absolute lies below our own folder */
	if (spec->path[0] != '/' && !getcwd(folder, sizeof(folder)))
		return -errno;
	snprintf(absolute, sizeof(absolute), "%s%s%s", spec->path[0] == '/' ? "" : folder,
		 spec->path[0] == '/' ? "" : "/", spec->path);
	rc = open_in_root(pid, absolute, &fd);
	if (rc == -ESRCH)
		return rc;
	if (rc)
		return pt_err_set(err, rc, PT_EXIT_FAILED,
				  "the path is looked for below the root of the traced process; a "
				  "name without a slash is looked for among the files it maps",
				  "--probe '%s': cannot open '%s': %s", spec->text, absolute,
				  strerror(-rc));
	snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
	rc = look_at_file(marks, tracer, number, for_pid, self, absolute, &found, err);
	close(fd);
	return rc;
}

static bool name_fits(const struct pt_mark_spec *spec, const char *path)
{
	const char *slash = strrchr(path, '/');

	return !strcmp(spec->path, "*") || !strcmp(spec->path, slash ? slash + 1 : path);
}

/* *done stays as it is if the probe was found. */
static int look_at_maps(struct pt_marks *marks, struct pt_tracer *tracer, size_t number,
			const struct pt_process *process, pid_t for_pid, bool *done,
			struct pt_err *err)
{
	const struct pt_mark_spec *spec = &marks->specs[number];
	bool any = false, found = false;
	int rc = 0;

	for (size_t i = 0; !rc && i < process->module_count; i++) {
		const struct pt_module *module = &process->modules[i];

		if (!name_fits(spec, module->path) ||
		    (!strcmp(spec->path, "*") && !has_any(marks, module->open_path)))
			continue;
		rc = look_at_file(marks, tracer, number, for_pid, module->open_path, module->path,
				  &found, err);
		any |= found;
	}
	*done &= any && strcmp(spec->path, "*") != 0;
	return rc;
}

int pt_marks_look(struct pt_marks *marks, struct pt_tracer *tracer, pid_t pid, bool alone,
		  struct pt_file_cache *cache, bool *done, struct pt_err *err)
{
	struct pt_process *process = NULL;
	int rc = 0;

	*done = true;
	for (size_t i = 0; !rc && i < marks->spec_count; i++) {
		if (strchr(marks->specs[i].path, '/')) {
			rc = look_at_path(marks, tracer, i, pid, alone ? pid : -1, err);
			continue;
		}
		if (!process)
			rc = pt_process_open_cached(pid, cache, &process, err);
		if (!rc)
			rc = look_at_maps(marks, tracer, i, process, alone ? pid : -1, done, err);
	}
	pt_process_free(process);
	return rc;
}

size_t pt_marks_count(const struct pt_marks *marks)
{
	return marks->place_count;
}

void pt_marks_warn_unused(const struct pt_marks *marks)
{
	bool nvtx = false, wanted = false;

	for (size_t i = 0; i < marks->spec_count; i++) {
		bool any_file = !strcmp(marks->specs[i].path, "*"), used = false;

		for (size_t k = 0; k < marks->file_count; k++)
			used |= marks->files[k].spec == i && marks->files[k].pid_count;
		wanted |= any_file;
		nvtx |= any_file && used;
		if (!used && !any_file)
			pt_warn("--probe '%s': no traced process mapped such a file",
				marks->specs[i].text);
	}
	if (wanted && !nvtx)
		pt_warn("--nvtx: no traced process mapped a library that exports NVTX (NVTX 3 is "
			"header-only and exports nothing: docs/MARKS.md)");
}
