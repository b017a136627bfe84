// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "record/method_files.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/log.h"
#include "python/method_cache.h"
#include "python/parts.h"

#define PATH_MAX_BYTES 4096

/* What is known of a glob of the user's. */
#define NAMED_FOUND  0x1 /* a file has such functions */
#define NAMED_PLACED 0x2 /* one of them can be probed */

struct method_files {
	struct method_files_options options;
	bool by_module;      /* only the files of modules that a glob begins with */
	uint8_t *named_seen; /* for each of options.named: NAMED_* */
	struct method_file **list;
	size_t count;
};

/* Do all globs begin with a module's whole name? */
static bool all_of_modules(const char *const *globs)
{
	for (; *globs; globs++)
		if ((*globs)[strcspn(*globs, "*?[\\.")] != '.')
			return false;
	return true;
}

struct method_files *method_files_new(const struct method_files_options *options)
{
	struct method_files *files = calloc(1, sizeof(*files));
	size_t count = 0;

	while (options->named && options->named[count])
		count++;
	if (!files)
		return NULL;
	files->options = *options;
	files->options.emulated &= ~PY_FIND_C_CALLS;
	files->by_module = !count && all_of_modules(options->globs);
	files->named_seen = calloc(count + 1, 1);
	if (files->named_seen)
		return files;
	free(files);
	return NULL;
}

void method_files_free(struct method_files *files)
{
	if (!files)
		return;
	for (size_t i = 0; i < files->count; i++) {
		py_method_sites_release(&files->list[i]->sites);
		free(files->list[i]->path);
		free(files->list[i]->pids);
		free(files->list[i]);
	}
	free(files->list);
	free(files->named_seen);
	free(files);
}

size_t method_files_count(const struct method_files *files)
{
	return files->count;
}

struct method_file *method_files_at(const struct method_files *files, size_t i)
{
	return files->list[i];
}

/* ---- looking at a file ---- */

/* The same file by its number, or by its path where a file system shows it under two numbers
 * (overlayfs). */
static struct method_file *find(const struct method_files *files, const struct stat *st,
				const char *path)
{
	uint64_t mtime_ns = (uint64_t)st->st_mtim.tv_sec * 1000000000ull +
			    (uint64_t)st->st_mtim.tv_nsec;

	for (size_t i = 0; i < files->count; i++) {
		struct method_file *file = files->list[i];

		if (file->size != (uint64_t)st->st_size || file->mtime_ns != mtime_ns)
			continue;
		if ((file->dev == st->st_dev && file->inode == st->st_ino) ||
		    !strcmp(file->path, path))
			return file;
	}
	return NULL;
}

static void see_named(struct method_files *files, const struct py_method_defs *defs,
		      const struct py_method_sites *sites)
{
	for (size_t i = 0; files->options.named && files->options.named[i]; i++) {
		const char *const glob[] = {files->options.named[i], NULL};

		for (size_t k = 0; k < defs->count && !(files->named_seen[i] & NAMED_FOUND); k++)
			if (py_method_wanted(&defs->defs[k], glob))
				files->named_seen[i] |= NAMED_FOUND;
		for (size_t k = 0; k < sites->count && !(files->named_seen[i] & NAMED_PLACED); k++)
			if (py_method_site_has(&sites->sites[k], glob))
				files->named_seen[i] |= NAMED_PLACED;
	}
}

static int find_in(struct method_files *files, const struct elf_file *elf, struct method_file *file)
{
	struct py_method_defs defs;
	int rc = py_method_defs_find(elf, &defs);

	if (rc)
		return rc;
	file->functions = defs.count;
	rc = py_method_sites_find(elf, &defs, files->options.globs, files->options.emulated,
				  &file->sites);
	if (!rc)
		see_named(files, &defs, &file->sites);
	py_method_defs_release(&defs);
	return rc;
}

static int load(struct method_files *files, const char *open_path, struct method_file *file)
{
	const struct method_files_options *options = &files->options;
	bool found = false, named = options->named && options->named[0];
	/* whether a file has what the user named is not kept */
	const char *cache = named ? NULL : options->cache_dir;
	struct pt_cache_key key;
	struct elf_file *elf;
	int rc;

	/* what is no ELF file, or may not be read, has no functions for us */
	if (elf_file_open(open_path, &elf, NULL))
		return 0;
	if (cache) {
		py_method_cache_key(&key, elf, options->globs, options->emulated);
		found = !py_method_cache_read(cache, &key, elf, &file->sites, &file->functions);
	}
	rc = found ? 0 : find_in(files, elf, file);
	if (!rc && !found && cache)
		py_method_cache_write(cache, &key, &file->sites, file->functions);
	elf_file_close(elf);
	if (rc && rc != -ENOMEM)
		pt_verbose("not looked at for C functions: '%s': %s", file->path, strerror(-rc));
	return rc == -ENOMEM ? rc : 0;
}

/* Takes file. */
static int keep(struct method_files *files, struct method_file *file)
{
	struct method_file **bigger = reallocarray(files->list, files->count + 1, sizeof(*bigger));

	if (!bigger) {
		py_method_sites_release(&file->sites);
		free(file->path);
		free(file);
		return -ENOMEM;
	}
	files->list = bigger;
	bigger[files->count++] = file;
	return 0;
}

/* *out NULL: it is not there. */
static int look(struct method_files *files, const char *open_path, const char *path,
		struct method_file **out)
{
	struct method_file *file;
	struct stat st;
	int rc;

	*out = NULL;
	if (stat(open_path, &st) || !S_ISREG(st.st_mode))
		return 0;
	*out = find(files, &st, path);
	if (*out)
		return 0;
	file = calloc(1, sizeof(*file));
	if (!file)
		return -ENOMEM;
	*file = (struct method_file){.path = strdup(path),
				     .dev = st.st_dev,
				     .inode = st.st_ino,
				     .size = (uint64_t)st.st_size,
				     .mtime_ns = (uint64_t)st.st_mtim.tv_sec * 1000000000ull +
						 (uint64_t)st.st_mtim.tv_nsec};
	rc = file->path ? load(files, open_path, file) : -ENOMEM;
	if (rc) {
		free(file->path);
		free(file);
		return rc;
	}
	*out = file;
	return keep(files, file);
}

/* ---- the files of a process ---- */

struct visit {
	struct method_files *files;
	int (*fn)(struct method_file *file, const char *open_path, void *ctx);
	void *ctx;
};

/* time.cpython-312-x86_64-linux-gnu.so is the file of "time", and of "_time" */
static bool may_have(const struct method_files *files, const char *path)
{
	const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
	size_t len;

	name += strspn(name, "_");
	len = strcspn(name, ".");
	for (const char *const *glob = files->options.globs; *glob; glob++) {
		const char *module = *glob + strspn(*glob, "_");

		if (strcspn(module, ".") == len && !strncmp(module, name, len))
			return true;
	}
	return false;
}

static int visit_file(struct visit *visit, const char *open_path, const char *path, bool own)
{
	struct method_file *file;
	int rc;

	if (!own && visit->files->by_module && !may_have(visit->files, path))
		return 0;
	rc = look(visit->files, open_path, path, &file);
	return rc || !file || !file->sites.count ? rc : visit->fn(file, open_path, visit->ctx);
}

/* Where the standard library's extension modules are, seen from here. sys.prefix is not known, but
 * where its programs and libraries are put is: Lib/site.py, and Debian's multiarch folders. */
static DIR *open_stdlib(const struct pt_process *process, const struct py_image *image, char *path,
			size_t size)
{
	static const char *const ways[] = {"../lib", ".", "..", "../lib64"};
	const char *own = process->modules[process->interpreter].path, *slash = strrchr(own, '/');
	DIR *dir = NULL;

	for (size_t i = 0; slash && !dir && i < sizeof(ways) / sizeof(ways[0]); i++) {
		int len = snprintf(path, size, "/proc/%d/root%.*s/%s/python%u.%u%s/lib-dynload",
				   process->pid, (int)(slash - own), own, ways[i],
				   image->version >> 24, image->version >> 16 & 0xff,
				   image->free_threaded ? "t" : "");

		dir = len > 0 && (size_t)len < size ? opendir(path) : NULL;
	}
	return dir;
}

static int visit_stdlib(struct visit *visit, const struct pt_process *process,
			const struct py_image *image)
{
	char folder[PATH_MAX_BYTES], path[PATH_MAX_BYTES + 256], prefix[32];
	DIR *dir = open_stdlib(process, image, folder, sizeof(folder));
	const struct dirent *entry;
	int rc = 0, skip;

	skip = snprintf(prefix, sizeof(prefix), "/proc/%d/root", process->pid);
	while (dir && !rc && (entry = readdir(dir))) {
		size_t len = strlen(entry->d_name);

		if (len < 3 || strcmp(entry->d_name + len - 3, ".so"))
			continue;
		snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name);
		rc = visit_file(visit, path, path + skip, false);
	}
	if (dir)
		closedir(dir);
	return rc;
}

int method_files_each(struct method_files *files, const struct pt_process *process,
		      const struct py_image *image,
		      int (*fn)(struct method_file *file, const char *open_path, void *ctx),
		      void *ctx)
{
	struct visit visit = {files, fn, ctx};
	int rc = 0;

	for (size_t i = 0; i < process->module_count && !rc; i++)
		rc = visit_file(&visit, process->modules[i].open_path, process->modules[i].path,
				(ssize_t)i == process->interpreter);
	/* one that ends maps nothing any more */
	return rc || process->interpreter < 0 ? rc : visit_stdlib(&visit, process, image);
}

/* ---- the choice ---- */

struct choice {
	size_t wanted, refused, probes;
	const char *reason; /* of the first that was refused */
};

static int count_file(struct method_file *file, const char *open_path, void *ctx)
{
	struct choice *choice = ctx;

	choice->wanted += file->sites.count;
	choice->probes += file->sites.count + file->sites.exit_count;
	return 0;
}

/* Of all files, also those of which nothing can be probed. */
static void count_refused(const struct method_files *files, struct choice *choice)
{
	for (size_t i = 0; i < files->count; i++) {
		const struct py_method_sites *sites = &files->list[i]->sites;

		choice->refused += sites->refused;
		if (sites->refused && !choice->reason)
			choice->reason = sites->reason;
	}
}

static bool is_literal(const char *glob)
{
	return !strpbrk(glob, "*?[\\");
}

/* Why one of the user's own globs needs the call sites, or false. */
static bool named_refused(const struct method_files *files, const struct choice *choice, char *why,
			  size_t size)
{
	for (size_t i = 0; files->options.named && files->options.named[i]; i++) {
		if (!(files->named_seen[i] & NAMED_FOUND)) {
			snprintf(why, size, "no file that is known now has C functions '%.60s'",
				 files->options.named[i]);
			return true;
		}
		if (!(files->named_seen[i] & NAMED_PLACED) && is_literal(files->options.named[i])) {
			snprintf(why, size, "'%.60s' cannot be probed at itself (%.160s)",
				 files->options.named[i],
				 choice->reason ? choice->reason : "it is another file's");
			return true;
		}
	}
	return false;
}

static bool choose(const struct method_files *files, const struct method_file *own,
		   const struct choice *choice, const struct pt_traced_image *traced, char *why,
		   size_t size)
{
	if (traced->engine != PY_ENGINE_FRAME && traced->engine != PY_ENGINE_SAMPLE)
		snprintf(why, size, "they need the frame engine");
	else if (traced->image->free_threaded)
		snprintf(why, size, "objects of a free-threaded build are not understood");
	else if (!own || !own->functions)
		snprintf(why, size, "the interpreter's file does not tell its C functions");
	else if (py_c_opcodes_wanted(traced->image, files->options.globs))
		snprintf(why, size, "one that is asked for has an opcode of its own");
	else if (own->sites.count > own->functions / 2)
		snprintf(why, size, "most C functions are asked for");
	else if (!named_refused(files, choice, why, size))
		return true;
	return false;
}

int method_files_choose(struct method_files *files, const struct pt_process *process,
			struct pt_traced_image *traced)
{
	const struct pt_module *module = &process->modules[process->interpreter];
	struct choice choice = {0};
	struct method_file *own;
	char why[256];
	int rc;

	if (traced->c_chosen)
		return 0;
	rc = method_files_each(files, process, traced->image, count_file, &choice);
	if (!rc)
		rc = look(files, module->open_path, module->path, &own);
	if (rc)
		return rc;
	count_refused(files, &choice);
	traced->c_chosen = true;
	traced->c_methods = choose(files, own, &choice, traced, why, sizeof(why));
	if (!traced->c_methods)
		snprintf(traced->c_why, sizeof(traced->c_why), "%s: %s",
			 files->options.only ? "not recorded" : "where they are called", why);
	else if (choice.refused)
		snprintf(traced->c_why, sizeof(traced->c_why),
			 "%zu probed at themselves (%zu probes); %zu not at all (%.200s)",
			 choice.wanted, choice.probes, choice.refused, choice.reason);
	else
		snprintf(traced->c_why, sizeof(traced->c_why),
			 "%zu probed at themselves (%zu probes)", choice.wanted, choice.probes);
	return 0;
}
