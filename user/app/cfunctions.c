// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * What may wait or compute for long, by module or type: locks, sleep, sockets, files, processes,
 * polling, queues, compression, hashes, json, re, pickle, databases. Hot builtins (len, append,
 * isinstance, dict.get ..) are not among them.
 */
#include "app/cfunctions.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const char *const blocking[] = {
    "time.sleep",
    /* _thread: locks, threads; _queue; _asyncio's polling comes under select */
    "*lock.acquire",
    "*Lock.acquire",
    "*lock.__enter__",
    "*Lock.__enter__",
    "*SimpleQueue.get",
    "*ThreadHandle.join",
    /* sockets, TLS, polling */
    "_socket.*",
    "socket.*",
    "_ssl.*",
    "select.*",
    /* files, processes, the rest of the system */
    "io.open*",
    "_io.*",
    "mmap.mmap.flush",
    "fcntl.*",
    "signal.pause",
    "signal.sig*wait*",
    "_posixsubprocess.*",
    "posix.*open",
    "posix.*read*",
    "posix.*write*",
    "posix.sendfile",
    "posix.fsync",
    "posix.fdatasync",
    "posix.sync",
    "posix.*stat",
    "posix.listdir",
    "posix.scandir",
    "posix.*mkdir",
    "posix.*rmdir",
    "posix.unlink",
    "posix.remove",
    "posix.rename",
    "posix.replace",
    "posix.*truncate",
    "posix.wait*",
    "posix.fork*",
    "posix.posix_spawn*",
    "posix.system",
    "posix.getrandom",
    "posix.urandom",
    "posix.ScandirIterator.*",
    /* work on data */
    "zlib.*",
    "_bz2.*",
    "_lzma.*",
    "_zstd.*",
    "_hashlib.*",
    "_md5.*",
    "_sha*",
    "_blake2.*",
    "_json.*",
    "_pickle.*",
    "re.Pattern.*",
    "_sre.*",
    "sqlite3.*",
    "_sqlite3.*",
    "marshal.*",
    "gc.collect",
    "_imp.create_dynamic",
    "_imp.exec_dynamic",
    "_ctypes.dlopen",
};

static int add(struct app_list *list, const char *item, size_t len)
{
	char **bigger = reallocarray(list->items, list->count + 2, sizeof(*bigger));

	if (!bigger)
		return -ENOMEM;
	list->items = bigger;
	bigger[list->count] = strndup(item, len);
	if (!bigger[list->count])
		return -ENOMEM;
	bigger[++list->count] = NULL;
	return 0;
}

static bool is(const char *item, size_t len, const char *word)
{
	return len == strlen(word) && !strncmp(item, word, len);
}

int app_parse_c_functions(const char *text, bool *wanted, struct app_list *globs,
			  struct app_list *named)
{
	size_t len = strlen(text);
	int rc = 0;

	*wanted = !is(text, len, "none");
	if (!*wanted || is(text, len, "all"))
		return 0;
	while (!rc) {
		len = strcspn(text, ",");
		if (!len || is(text, len, "none") || is(text, len, "all"))
			return -EINVAL;
		if (is(text, len, "blocking"))
			for (size_t i = 0; !rc && i < sizeof(blocking) / sizeof(blocking[0]); i++)
				rc = add(globs, blocking[i], strlen(blocking[i]));
		else if (!(rc = add(globs, text, len)))
			rc = add(named, text, len);
		if (!text[len])
			break;
		text += len + 1;
	}
	return rc;
}
