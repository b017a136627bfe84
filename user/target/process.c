// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "target/process.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "target/elf.h"
#include "target/filecache.h"
#include "target/maps.h"

/* A process may map 65530 regions by default (vm.max_map_count); paths are at most 4 KiB. */
#define MAPS_MAX_BYTES    (256u << 20)
#define STATUS_MAX_BYTES  (1u << 20)
#define CMDLINE_MAX_BYTES 4096
#define SYMBOL_OF_CPYTHON "_PyEval_EvalFrameDefault"

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

static int gone(pid_t pid, struct pt_err *err)
{
	return pt_err_set(err, -ESRCH, PT_EXIT_NO_TARGET,
			  "'pytrace-bpf list' shows the Python processes of this host",
			  "there is no process %d", pid);
}

/* Turns a failure to read something of /proc/PID into a message. */
static int cannot_read(pid_t pid, int rc, struct pt_err *err)
{
	if (rc == -ENOENT || rc == -ESRCH)
		return gone(pid, err);
	if (rc == -EACCES || rc == -EPERM)
		return pt_err_set(err, -EACCES, PT_EXIT_PERMISSION,
				  "it belongs to another user or is protected; run pytrace-bpf as "
				  "root (sudo)",
				  "cannot look into process %d: %s", pid, strerror(-rc));
	return pt_err_set(err, rc, PT_EXIT_FAILED, "", "cannot look into process %d: %s", pid,
			  strerror(-rc));
}

static bool same_link(const char *a, const char *b)
{
	char text_a[256], text_b[256];
	ssize_t n = readlink(a, text_a, sizeof(text_a));

	/* one that may not be read is taken to be ours: this only adds remarks to messages */
	return n < 0 || readlink(b, text_b, sizeof(text_b)) != n ||
	       !memcmp(text_a, text_b, (size_t)n);
}

static int read_status(struct pt_process *process, struct pt_err *err)
{
	char path[64], *text;
	long tgid, value;
	size_t size;
	int rc;

	snprintf(path, sizeof(path), "/proc/%d/status", process->pid);
	rc = pt_proc_read(path, STATUS_MAX_BYTES, &text, &size);
	if (rc)
		return cannot_read(process->pid, rc, err);
	if (!pt_status_number(text, "Tgid", 0, &tgid) && tgid != process->pid)
		rc = pt_err_set(err, -ESRCH, PT_EXIT_NO_TARGET,
				"give the process; all its threads are traced",
				"%d is a thread of process %ld", process->pid, tgid);
	process->has_ended = strstr(text, "\nState:\tZ") || strstr(text, "\nState:\tX");
	if (!pt_status_number(text, "PPid", 0, &value))
		process->ppid = (pid_t)value;
	if (!pt_status_number(text, "Uid", 1, &value))
		process->uid = (uid_t)value;
	process->ns_pid = process->pid;
	if (!pt_status_number(text, "NStgid", -1, &value))
		process->ns_pid = (pid_t)value;
	free(text);
	return rc;
}

/* Arguments joined by spaces, without control characters: this goes to terminals. */
static void read_cmdline(struct pt_process *process)
{
	char path[64], *text;
	size_t size;

	snprintf(path, sizeof(path), "/proc/%d/cmdline", process->pid);
	if (pt_proc_read(path, 4u << 20, &text, &size))
		return; /* stays NULL */
	while (size > 0 && !text[size - 1])
		size--;
	if (size > CMDLINE_MAX_BYTES)
		size = CMDLINE_MAX_BYTES;
	for (size_t i = 0; i < size; i++)
		if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
			text[i] = text[i] ? '?' : ' ';
	text[size] = '\0';
	process->cmdline = text;
}

static void read_identity(struct pt_process *process)
{
	char path[64], root[8] = "", head[5] = "", *text;
	size_t size;
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/comm", process->pid);
	if (!pt_proc_read(path, 4096, &text, &size)) {
		text[strcspn(text, "\n")] = '\0';
		snprintf(process->comm, sizeof(process->comm), "%.15s", text);
		free(text);
	}
	snprintf(path, sizeof(path), "/proc/%d/ns/mnt", process->pid);
	process->other_mount_ns = !same_link(path, "/proc/self/ns/mnt");
	snprintf(path, sizeof(path), "/proc/%d/ns/pid", process->pid);
	process->other_pid_ns = !same_link(path, "/proc/self/ns/pid");
	snprintf(path, sizeof(path), "/proc/%d/root", process->pid);
	n = readlink(path, root, sizeof(root) - 1);
	process->other_root = n > 0 && strcmp(root, "/");
	snprintf(path, sizeof(path), "/proc/%d/exe", process->pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	if (read(fd, head, sizeof(head)) == sizeof(head) && !memcmp(head, ELFMAG, SELFMAG))
		process->is_32bit = head[EI_CLASS] == ELFCLASS32;
	close(fd);
}

/* A path that opens the module's file from here: map_files is exact even for a file that was
 * removed, but needs CAP_CHECKPOINT_RESTORE; through the process's root, the inode is compared. */
static char *make_open_path(pid_t pid, const struct pt_module *module)
{
	char *by_map = NULL, *by_root = NULL;
	struct stat st;

	if (asprintf(&by_map, "/proc/%d/map_files/%llx-%llx", pid,
		     (unsigned long long)module->start, (unsigned long long)module->end) < 0)
		return NULL;
	if (!stat(by_map, &st) || module->deleted)
		return by_map;
	if (asprintf(&by_root, "/proc/%d/root%s", pid, module->path) < 0)
		return by_map;
	if (!stat(by_root, &st) && st.st_ino == module->inode) {
		free(by_map);
		return by_root;
	}
	free(by_root);
	return by_map;
}

static int add_part(struct pt_process *process, size_t module, const struct pt_map *map)
{
	struct pt_module_part *bigger;

	bigger = reallocarray(process->parts, process->part_count + 1, sizeof(*bigger));
	if (!bigger)
		return -ENOMEM;
	process->parts = bigger;
	process->parts[process->part_count++] = (struct pt_module_part){
	    .module = module,
	    .start = map->start,
	    .end = map->end,
	    .file_offset = map->offset,
	};
	return 0;
}

static int add_module(struct pt_process *process, const struct pt_map *map)
{
	struct pt_module *module, *bigger;

	for (size_t i = 0; i < process->module_count; i++) {
		module = &process->modules[i];
		if (module->dev == map->dev && module->inode == map->inode)
			return add_part(process, i, map); /* the first stands for the file */
	}
	bigger = reallocarray(process->modules, process->module_count + 1, sizeof(*bigger));
	if (!bigger)
		return -ENOMEM;
	process->modules = bigger;
	module = &process->modules[process->module_count];
	*module = (struct pt_module){
	    .dev = map->dev,
	    .inode = map->inode,
	    .start = map->start,
	    .end = map->end,
	    .file_offset = map->offset,
	    .deleted = map->deleted,
	};
	module->path = strdup(map->path);
	module->open_path = module->path ? make_open_path(process->pid, module) : NULL;
	if (!module->open_path) {
		free(module->path);
		return -ENOMEM;
	}
	process->module_count++;
	return 0;
}

static int read_modules(struct pt_process *process, struct pt_err *err)
{
	char path[64], *text, *line, *rest;
	size_t size;
	int rc;

	snprintf(path, sizeof(path), "/proc/%d/maps", process->pid);
	rc = pt_proc_read(path, MAPS_MAX_BYTES, &text, &size);
	if (rc)
		return cannot_read(process->pid, rc, err);
	rest = text;
	while (!rc && (line = strsep(&rest, "\n"))) {
		struct pt_map map;

		if (!*line || pt_map_parse(line, &map) || !map.executable || !map.inode)
			continue;
		if (!strncmp(base_name(map.path), "ld-musl-", 8) ||
		    !strncmp(base_name(map.path), "libc.musl-", 10))
			process->is_musl = true;
		rc = add_module(process, &map);
	}
	free(text);
	if (rc)
		return pt_err_set(err, rc, PT_EXIT_FAILED, "", "out of memory");
	return 0;
}

/* Does the file define the function that evaluates Python frames? One that cannot be read, or is
 * no 64-bit ELF file, does not. */
static bool holds_cpython(const struct pt_module *module, struct pt_file_cache *cache)
{
	struct elf_symbol symbol;
	struct elf_file *elf;
	struct stat st;
	bool holds = false;

	if (stat(module->open_path, &st) || !S_ISREG(st.st_mode))
		return false;
	if (cache && !pt_file_cache_get(cache, &st, &holds))
		return holds;
	if (!elf_file_open(module->open_path, &elf, NULL)) {
		holds = elf_symbol(elf, SYMBOL_OF_CPYTHON, &symbol);
		elf_file_close(elf);
	}
	if (cache)
		pt_file_cache_put(cache, &st, holds);
	return holds;
}

static int look_at_module(struct pt_process *process, size_t i, struct pt_file_cache *cache)
{
	if (!holds_cpython(&process->modules[i], cache))
		return -1;
	process->interpreter = (int)i;
	return 0;
}

static bool named_python(const struct pt_module *module)
{
	return strstr(base_name(module->path), "python");
}

static bool may_read(const struct pt_module *module)
{
	return !access(module->open_path, R_OK) || (errno != EACCES && errno != EPERM);
}

/* What is called python comes first: it nearly always ends the search at once. */
static void find_interpreter(struct pt_process *process, struct pt_file_cache *cache)
{
	char path[64], exe[4096] = "";
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/exe", process->pid);
	n = readlink(path, exe, sizeof(exe) - 1);
	exe[n > 0 ? n : 0] = '\0';
	process->exe_is_loader = !strncmp(base_name(exe), "ld-", 3);
	process->interpreter = process->unreadable = -1;
	for (size_t i = 0; i < process->module_count; i++) {
		if (!named_python(&process->modules[i]))
			continue;
		if (!look_at_module(process, i, cache))
			return;
		if (process->unreadable < 0 && !may_read(&process->modules[i]))
			process->unreadable = (int)i;
	}
	for (size_t i = 0; i < process->module_count; i++)
		if (!named_python(&process->modules[i]) && !look_at_module(process, i, cache))
			return;
}

int pt_process_open_cached(pid_t pid, struct pt_file_cache *cache, struct pt_process **out,
			   struct pt_err *err)
{
	struct pt_process *process = calloc(1, sizeof(*process));
	int rc;

	*out = NULL;
	if (!process)
		return pt_err_set(err, -ENOMEM, PT_EXIT_FAILED, "", "out of memory");
	process->pid = pid;
	process->interpreter = -1;
	rc = read_status(process, err);
	if (!rc)
		rc = read_modules(process, err);
	if (rc) {
		pt_process_free(process);
		return rc;
	}
	read_identity(process);
	read_cmdline(process);
	find_interpreter(process, cache);
	*out = process;
	return 0;
}

int pt_process_open(pid_t pid, struct pt_process **process, struct pt_err *err)
{
	return pt_process_open_cached(pid, NULL, process, err);
}

void pt_process_free(struct pt_process *process)
{
	if (!process)
		return;
	for (size_t i = 0; i < process->module_count; i++) {
		free(process->modules[i].path);
		free(process->modules[i].open_path);
	}
	free(process->modules);
	free(process->parts);
	free(process->cmdline);
	free(process);
}

/* As the kernel counts it: is_exec_mapping() in mm/internal.h. */
static int count_code(pid_t pid, uint64_t *pages)
{
	char path[64], *text, *line, *rest;
	size_t size;
	int rc;

	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	rc = pt_proc_read(path, MAPS_MAX_BYTES, &text, &size);
	if (rc)
		return rc;
	*pages = 0;
	rest = text;
	while ((line = strsep(&rest, "\n"))) {
		struct pt_map map;

		/* [vsyscall] belongs to no process */
		if (*line && !pt_map_parse(line, &map) && map.executable && !map.writable &&
		    strcmp(map.path, "[uprobes]") != 0 && strcmp(map.path, "[vsyscall]") != 0)
			*pages += (map.end - map.start) / 4096;
	}
	free(text);
	return 0;
}

int pt_process_start_stack(pid_t pid, uint64_t *start_stack)
{
	char path[64], *text, *at;
	size_t size;
	int rc;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	rc = pt_proc_read(path, STATUS_MAX_BYTES, &text, &size);
	if (rc)
		return rc;
	/* startstack is field 28 (fs/proc/array.c); field 2, and what may stand in it, ends at ) */
	at = strrchr(text, ')');
	for (int field = 2; at && field < 28; field++)
		at = strchr(at + 1, ' ');
	*start_stack = at ? strtoull(at + 1, NULL, 10) : 0;
	free(text);
	return *start_stack ? 0 : -ESRCH;
}

int pt_process_code(pid_t pid, struct pt_code_identity *identity)
{
	int rc = count_code(pid, &identity->exec_pages);

	return rc ? rc : pt_process_start_stack(pid, &identity->start_stack);
}

uint64_t pt_process_cpu_ns(pid_t pid)
{
	clockid_t clock;

	return clock_getcpuclockid(pid, &clock) ? 0 : pt_clock_ns(clock);
}

uint64_t pt_module_bias(const struct pt_module *module)
{
	struct elf_file *elf;
	uint64_t vaddr, bias = 0;

	if (elf_file_open(module->open_path, &elf, NULL))
		return 0;
	if (elf->type != ET_EXEC && elf_mapped_code(elf, module->file_offset, &vaddr))
		bias = module->start - vaddr;
	elf_file_close(elf);
	return bias;
}

/* Calls fn for each process id in /proc; stops when it returns non-zero, and returns that. */
static int each_pid(int (*fn)(pid_t pid, void *ctx), void *ctx)
{
	DIR *dir = opendir("/proc");
	struct dirent *entry;
	int rc = 0;

	if (!dir)
		return -errno;
	while (!rc && (entry = readdir(dir))) {
		char *end;
		long pid;

		if (entry->d_name[0] < '1' || entry->d_name[0] > '9')
			continue;
		pid = strtol(entry->d_name, &end, 10);
		if (!*end)
			rc = fn((pid_t)pid, ctx);
	}
	closedir(dir);
	return rc;
}

struct python_walk {
	struct pt_file_cache *cache;
	int (*fn)(const struct pt_process *process, void *ctx);
	void *ctx;
};

static int visit_if_python(pid_t pid, void *ctx)
{
	struct python_walk *walk = ctx;
	struct pt_process *process;
	int rc = 0;

	if (pid == getpid() || pt_process_open_cached(pid, walk->cache, &process, NULL) || !process)
		return 0;
	if (process->interpreter >= 0)
		rc = walk->fn(process, walk->ctx);
	pt_process_free(process);
	return rc;
}

int pt_process_each_python(struct pt_file_cache *cache,
			   int (*fn)(const struct pt_process *process, void *ctx), void *ctx,
			   struct pt_err *err)
{
	struct pt_file_cache *own = cache ? NULL : pt_file_cache_new();
	struct python_walk walk = {.cache = cache ? cache : own, .fn = fn, .ctx = ctx};
	int rc = each_pid(visit_if_python, &walk);

	pt_file_cache_free(own);
	if (rc < 0)
		pt_err_set(err, rc, PT_EXIT_FAILED, "is /proc mounted?",
			   "cannot walk the processes in /proc: %s", strerror(-rc));
	return rc;
}

struct file_walk {
	uint64_t dev, inode;
	const pid_t *except;
	size_t except_count;
	pid_t *pids;
	int count;
};

bool pt_process_maps(pid_t pid, uint64_t dev, uint64_t inode)
{
	char path[64], *text, *line, *rest;
	bool found = false;
	size_t size;

	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	if (pt_proc_read(path, MAPS_MAX_BYTES, &text, &size))
		return false;
	rest = text;
	while (!found && (line = strsep(&rest, "\n"))) {
		struct pt_map map;

		found = *line && !pt_map_parse(line, &map) && map.executable &&
			map.inode == inode && map.dev == dev;
	}
	free(text);
	return found;
}

static int collect_if_maps(pid_t pid, void *ctx)
{
	struct file_walk *walk = ctx;
	pid_t *bigger;

	for (size_t i = 0; i < walk->except_count; i++)
		if (walk->except[i] == pid)
			return 0;
	if (!pt_process_maps(pid, walk->dev, walk->inode))
		return 0;
	bigger = reallocarray(walk->pids, (size_t)walk->count + 1, sizeof(*bigger));
	if (!bigger)
		return -ENOMEM;
	walk->pids = bigger;
	walk->pids[walk->count++] = pid;
	return 0;
}

int pt_process_mapping_file(uint64_t dev, uint64_t inode, const pid_t *except, size_t except_count,
			    pid_t **pids)
{
	struct file_walk walk = {
	    .dev = dev, .inode = inode, .except = except, .except_count = except_count};
	int rc = each_pid(collect_if_maps, &walk);

	if (rc < 0) {
		free(walk.pids);
		return rc;
	}
	*pids = walk.pids;
	return walk.count;
}
