// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "target/loadable.h"

#include <dirent.h>
#include <errno.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/buf.h"
#include "target/maps.h"
#include "target/source.h"

#define FOUND_MAX          32
#define FOLDER_ENTRIES_MAX 100000
#define ENVIRON_MAX_BYTES  (4u << 20)
#define CACHE_MAX_BYTES    (16u << 20)
#define MAPS_MAX_BYTES     (16u << 20)
#define PATH_MAX_BYTES     4096

struct search {
	const struct pt_source_root *root;
	const char *const *globs;
	struct pt_loadables *found;
	char **folders; /* looked at already */
	size_t folder_count;
	int rc; /* -ENOMEM */
};

/* ---- one file ---- */

static bool matches(const struct search *search, const char *name)
{
	for (const char *const *glob = search->globs; *glob; glob++)
		if (!fnmatch(*glob, name, 0))
			return true;
	return false;
}

/* What maps shows need not be what stat() says (btrfs, overlayfs), so the file is mapped. */
static int identity_of(int fd, uint64_t *dev, uint64_t *inode)
{
	void *at = mmap(NULL, 1, PROT_READ, MAP_PRIVATE, fd, 0);
	char *text = NULL, *line, *rest;
	int rc = -ENOENT;
	size_t size;

	if (at == MAP_FAILED)
		return -errno;
	if (!pt_proc_read("/proc/self/maps", MAPS_MAX_BYTES, &text, &size)) {
		rest = text;
		while (rc && (line = strsep(&rest, "\n"))) {
			struct pt_map map;

			if (pt_map_parse(line, &map) || map.start != (uint64_t)(uintptr_t)at)
				continue;
			*dev = map.dev;
			*inode = map.inode;
			rc = 0;
		}
		free(text);
	}
	munmap(at, 1);
	return rc;
}

static bool is_known(const struct pt_loadables *found, const struct pt_loadable *file)
{
	for (size_t i = 0; i < found->count; i++)
		if (found->items[i].dev == file->dev && found->items[i].inode == file->inode)
			return true;
	return false;
}

/* A file that cannot be opened is not one that the process would load. */
static void add_file(struct search *search, const char *path)
{
	struct pt_loadables *found = search->found;
	struct pt_loadable file = {.fd = pt_source_open(search->root, path)}, *bigger;

	if (file.fd < 0)
		return;
	if (found->count == FOUND_MAX || identity_of(file.fd, &file.dev, &file.inode) ||
	    is_known(found, &file)) {
		close(file.fd);
		return;
	}
	file.path = strdup(path);
	bigger = reallocarray(found->items, found->count + 1, sizeof(*bigger));
	if (bigger)
		found->items = bigger;
	if (!file.path || !bigger) {
		search->rc = -ENOMEM;
		close(file.fd);
		free(file.path);
		return;
	}
	bigger[found->count++] = file;
}

/* ---- folders ---- */

/* Calls fn with the path of each wanted entry of the folder, with below behind it; NULL: those that
 * match. */
static void each_entry(struct search *search, const char *folder, bool (*wanted)(const char *name),
		       const char *below, void (*fn)(struct search *search, const char *path))
{
	int fd = pt_source_open_folder(search->root, folder);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	char path[PATH_MAX_BYTES];
	struct dirent *entry;

	if (!dir && fd >= 0)
		close(fd);
	for (int i = 0; dir && i < FOLDER_ENTRIES_MAX && (entry = readdir(dir)); i++) {
		int len = snprintf(path, sizeof(path), "%s/%s%s", folder, entry->d_name, below);

		if ((wanted ? wanted(entry->d_name) : matches(search, entry->d_name)) &&
		    (size_t)len < sizeof(path))
			fn(search, path);
	}
	if (dir)
		closedir(dir);
}

/* Has the folder not been looked at yet? */
static bool is_new(struct search *search, const char *folder)
{
	char **bigger;

	if (folder[0] != '/')
		return false;
	for (size_t i = 0; i < search->folder_count; i++)
		if (!strcmp(search->folders[i], folder))
			return false;
	bigger = reallocarray(search->folders, search->folder_count + 1, sizeof(*bigger));
	if (!bigger) {
		search->rc = -ENOMEM;
		return false;
	}
	search->folders = bigger;
	bigger[search->folder_count] = strdup(folder);
	if (!bigger[search->folder_count]) {
		search->rc = -ENOMEM;
		return false;
	}
	search->folder_count++;
	return true;
}

static void add_folder(struct search *search, const char *folder)
{
	if (is_new(search, folder))
		each_entry(search, folder, NULL, "", add_file);
}

static bool is_visible(const char *name)
{
	return name[0] != '.';
}

/* Where packages are installed: a site-packages folder or the like. */
static void add_packages(struct search *search, const char *folder)
{
	char path[PATH_MAX_BYTES];

	if (!is_new(search, folder))
		return;
	if ((size_t)snprintf(path, sizeof(path), "%s/torch/lib", folder) < sizeof(path))
		add_folder(search, path);
	if ((size_t)snprintf(path, sizeof(path), "%s/nvidia", folder) < sizeof(path))
		each_entry(search, path, is_visible, "/lib", add_folder);
}

static bool is_python(const char *name)
{
	return !strncmp(name, "python3", 7);
}

/* An environment: what conda, venv and /usr have in common. */
static void add_prefix(struct search *search, const char *prefix)
{
	char path[PATH_MAX_BYTES];

	if ((size_t)snprintf(path, sizeof(path), "%s/lib", prefix) >= sizeof(path) ||
	    !is_new(search, prefix))
		return;
	add_folder(search, path);
	each_entry(search, path, is_python, "/site-packages", add_packages);
	each_entry(search, path, is_python, "/dist-packages", add_packages);
}

/* ---- where to look ---- */

static void add_list(struct search *search, const char *list,
		     void (*add)(struct search *search, const char *folder))
{
	char *copy = strdup(list), *rest = copy, *one;

	if (!copy)
		search->rc = -ENOMEM;
	while (copy && (one = strsep(&rest, ":;")))
		add(search, one);
	free(copy);
}

static void add_environ(struct search *search, pid_t pid)
{
	static const struct {
		const char *name;
		void (*add)(struct search *search, const char *folder);
	} all[] = {
	    {"LD_LIBRARY_PATH=", add_folder},
	    {"PYTHONPATH=", add_packages},
	    {"VIRTUAL_ENV=", add_prefix},
	    {"CONDA_PREFIX=", add_prefix},
	};
	char path[64], *text;
	size_t size;

	snprintf(path, sizeof(path), "/proc/%d/environ", pid);
	if (pt_proc_read(path, ENVIRON_MAX_BYTES, &text, &size))
		return;
	for (const char *at = text; at < text + size; at += strlen(at) + 1)
		for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
			if (!strncmp(at, all[i].name, strlen(all[i].name)))
				add_list(search, at + strlen(all[i].name), all[i].add);
	free(text);
}

/* PREFIX/bin/python */
static void add_program(struct search *search, const char *program)
{
	const char *slash = strrchr(program, '/');
	char path[PATH_MAX_BYTES];

	if (program[0] != '/' || slash < program + 4 || strncmp(slash - 4, "/bin", 4) != 0)
		return;
	if ((size_t)snprintf(path, sizeof(path), "%.*s", (int)(slash - 4 - program), program) <
	    sizeof(path))
		add_prefix(search, path[0] ? path : "/");
}

static void add_started_as(struct search *search, pid_t pid)
{
	char path[64], *text;
	size_t size;

	snprintf(path, sizeof(path), "/proc/%d/cmdline", pid);
	if (pt_proc_read(path, ENVIRON_MAX_BYTES, &text, &size))
		return;
	add_program(search, text);
	free(text);
}

/* .../site-packages/numpy/x.so */
static void add_mapped(struct search *search, const char *file)
{
	static const char *const kinds[] = {"/site-packages/", "/dist-packages/"};
	char path[PATH_MAX_BYTES];

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		const char *found = strstr(file, kinds[i]);

		if (found && (size_t)snprintf(path, sizeof(path), "%.*s",
					      (int)(found + strlen(kinds[i]) - 1 - file),
					      file) < sizeof(path))
			add_packages(search, path);
	}
}

/* ---- the loader's cache ---- */

/* glibc's sysdeps/generic/dl-cache.h; an older table may come before it */
#define CACHE_MAGIC "glibc-ld.so.cache1.1"

struct cache_head {
	char magic[20];
	uint32_t count, string_bytes, flags, extensions, unused[3];
};

struct cache_entry {
	int32_t flags;
	uint32_t key, value, os_version;
	uint64_t hwcap;
};

/* A string of the cache; NULL: it ends outside. */
static const char *cache_string(const char *at, size_t size, uint32_t offset)
{
	return offset < size && memchr(at + offset, 0, size - offset) ? at + offset : NULL;
}

void pt_loader_cache_each(const char *data, size_t size,
			  void (*fn)(const char *name, const char *path, void *ctx), void *ctx)
{
	const char *at = memmem(data, size, CACHE_MAGIC, sizeof(CACHE_MAGIC) - 1);
	struct cache_entry entry;
	struct cache_head head;

	if (!at || (size -= (size_t)(at - data)) < sizeof(head))
		return;
	memcpy(&head, at, sizeof(head));
	if (head.count > (size - sizeof(head)) / sizeof(entry))
		return;
	for (uint32_t i = 0; i < head.count; i++) {
		const char *name, *path;

		memcpy(&entry, at + sizeof(head) + i * sizeof(entry), sizeof(entry));
		/* offsets count from the head */
		name = cache_string(at, size, entry.key);
		path = cache_string(at, size, entry.value);
		if (name && path)
			fn(name, path, ctx);
	}
}

static void add_cached(const char *name, const char *path, void *ctx)
{
	struct search *search = ctx;

	if (matches(search, name))
		add_file(search, path);
}

static void add_cache(struct search *search)
{
	struct pt_buf data = {0};

	if (!pt_source_read_bytes(search->root, "/etc/ld.so.cache", CACHE_MAX_BYTES, &data))
		pt_loader_cache_each(data.data, data.len, add_cached, search);
	pt_buf_release(&data);
}

/* ---- all ---- */

static void look_everywhere(struct search *search, const struct pt_process *process)
{
	add_environ(search, process->pid);
	add_started_as(search, process->pid);
	for (size_t i = 0; i < process->module_count; i++)
		add_mapped(search, process->modules[i].path);
	if (process->interpreter >= 0)
		add_program(search, process->modules[process->interpreter].path);
	add_cache(search);
}

int pt_loadables_find(const struct pt_process *process, const char *const *globs,
		      struct pt_loadables *found)
{
	struct search search = {.globs = globs, .found = found};
	struct pt_source_root *root;
	int rc = pt_source_root_open(process->pid, &root);

	if (rc)
		return rc;
	search.root = root;
	look_everywhere(&search, process);
	for (size_t i = 0; i < search.folder_count; i++)
		free(search.folders[i]);
	free(search.folders);
	pt_source_root_free(root);
	return search.rc;
}

void pt_loadables_release(struct pt_loadables *found)
{
	for (size_t i = 0; i < found->count; i++) {
		close(found->items[i].fd);
		free(found->items[i].path);
	}
	free(found->items);
	*found = (struct pt_loadables){0};
}
