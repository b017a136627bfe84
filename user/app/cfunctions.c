// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * Two sets of C functions.
 */
#include "app/cfunctions.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/*
 * What is recorded by default: what sleeps in the kernel, or takes long compared with two probes,
 * as a rule and not now and then. Each begins with the whole name of a module of the standard
 * library, which says in which files they can be (record/method_files.c). Locks are not among them:
 * an uncontended one takes a hundredth of what its probes do.
 */
static const char *const waiting[] = {
    "time.sleep",
    "builtins.input",
    "select.select",
    "select.*poll.poll",
    "_socket.getaddrinfo",
    "_socket.getnameinfo",
    "_socket.gethostby*",
    "_socket.socket.*accept",
    "_socket.socket.connect*",
    "_socket.socket.recv*",
    "_socket.socket.sendall",
    "_ssl._SSLSocket.do_handshake",
    "_ssl._SSLSocket.read",
    "_ssl._SSLSocket.write",
    "_ssl._SSLSocket.shutdown",
    "_queue.SimpleQueue.get",
    "_multiprocessing.SemLock.acquire",
    "_thread.*ThreadHandle.join",
    "_posixsubprocess.fork_exec",
    "posix.posix_spawn*",
    "posix.system",
    "posix.wait*",
    "posix.read",
    "posix.readv",
    "posix.pread*",
    "posix.write",
    "posix.writev",
    "posix.pwrite*",
    "posix.sendfile",
    "posix.splice",
    "posix.copy_file_range",
    "posix.fsync",
    "posix.fdatasync",
    "posix.sync",
    "posix.lockf",
    "signal.pause",
    "signal.sigwait*",
    "signal.sigtimedwait",
    "fcntl.flock",
    "fcntl.lockf",
    "mmap.mmap.flush",
    "_io.FileIO.read",
    "_io.FileIO.readall",
    "_io.FileIO.readinto",
    "_io.FileIO.write",
    "zlib.*compress",
    "_bz2.*compress",
    "_lzma.*compress",
    "_hashlib.pbkdf2_hmac",
    "_hashlib.scrypt",
    "_sqlite3.connect",
    "sqlite3.Connection.commit",
    "sqlite3.Cursor.execute*",
    "gc.collect",
    "_imp.create_dynamic",
    "_imp.exec_dynamic",
    "_ctypes.dlopen",
};

/*
 * What may wait or compute for long, by module or type: all of the above, locks, and more of
 * sockets, files, processes, compression, hashes, json, re, pickle, databases. Hot builtins (len,
 * append, isinstance, dict.get ..) are not among them.
 */
static const char *const blocking[] = {
    "time.sleep",
    /* _thread: locks, threads; _queue; _asyncio's polling comes under select */
    "*lock.acquire",
    "*Lock.acquire",
    "*lock.__enter__",
    "*Lock.__enter__",
    "*SimpleQueue.get",
    "*SemLock.acquire",
    "*ThreadHandle.join",
    "builtins.input",
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
    "posix.splice",
    "posix.copy_file_range",
    "posix.lockf",
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

static const struct set {
	const char *name;
	const char *const *globs;
	size_t count;
} sets[] = {
    {"waiting", waiting, sizeof(waiting) / sizeof(waiting[0])},
    {"blocking", blocking, sizeof(blocking) / sizeof(blocking[0])},
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

/* Is the item the name of a set? Then its globs are added. */
static int add_set(struct app_list *globs, const char *item, size_t len, bool *is_set)
{
	int rc = 0;

	*is_set = false;
	for (size_t i = 0; i < sizeof(sets) / sizeof(sets[0]); i++) {
		if (!is(item, len, sets[i].name))
			continue;
		*is_set = true;
		for (size_t k = 0; !rc && k < sets[i].count; k++)
			rc = add(globs, sets[i].globs[k], strlen(sets[i].globs[k]));
	}
	return rc;
}

int app_parse_c_functions(const char *text, bool *wanted, struct app_list *globs,
			  struct app_list *named)
{
	size_t len = strlen(text);
	bool is_set;
	int rc = 0;

	*wanted = !is(text, len, "none");
	if (!*wanted || is(text, len, "all"))
		return 0;
	while (!rc) {
		len = strcspn(text, ",");
		if (!len || is(text, len, "none") || is(text, len, "all"))
			return -EINVAL;
		rc = add_set(globs, text, len, &is_set);
		if (!rc && !is_set)
			rc = add(globs, text, len);
		if (!rc && !is_set)
			rc = add(named, text, len);
		if (!text[len])
			break;
		text += len + 1;
	}
	return rc;
}
