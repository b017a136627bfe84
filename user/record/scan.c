// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * With -a, a process that starts on an interpreter file with probes is met by BPF at its first
 * call. Interpreter files that nobody ran so far are found here: /proc is walked now and then, and
 * a process that is new, or runs another program than last time, is looked at for a second. Where
 * none began or executed anything since, there is nothing to find.
 */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "record/session_parts.h"

struct seen_process {
	pid_t pid;
	uint64_t exe_dev, exe_inode; /* 0: a kernel thread, or gone */
};

/* Chosen one by one, a process is not judged by its program alone. */
struct unwanted_process {
	pid_t pid;
	uint64_t start_stack;
};

static int compare_pids(const void *a, const void *b)
{
	const struct seen_process *x = a, *y = b;

	return x->pid < y->pid ? -1 : x->pid > y->pid;
}

static bool parse_pid(const char *name, pid_t *pid)
{
	char *end;
	long value;

	if (*name < '1' || *name > '9')
		return false;
	value = strtol(name, &end, 10);
	*pid = (pid_t)value;
	return !*end;
}

static int look_if_changed(struct session *session, const struct seen_process *now)
{
	const struct seen_process *before = NULL;

	if (session->seen_count)
		before = bsearch(now, session->seen, session->seen_count, sizeof(*now),
				 compare_pids);
	if (!now->exe_inode || now->pid == getpid() || target_find(session, now->pid))
		return 0;
	if (before && before->exe_dev == now->exe_dev && before->exe_inode == now->exe_inode)
		return 0;
	return follow_look_at(session, PT_PROC_EXEC, now->pid, 0, 0);
}

int scan_unwanted(struct session *session, pid_t pid, uint64_t start_stack)
{
	struct unwanted_process *bigger = reallocarray(
	    session->unwanted, session->unwanted_count + 1, sizeof(*bigger));

	if (!bigger)
		return -ENOMEM;
	session->unwanted = bigger;
	bigger[session->unwanted_count++] = (struct unwanted_process){pid, start_stack};
	return 0;
}

static int look_at_unwanted(struct session *session)
{
	int rc = 0;

	for (size_t i = session->unwanted_count; !rc && i-- > 0;) {
		struct unwanted_process *process = &session->unwanted[i];
		uint64_t now;
		int gone = pt_process_start_stack(process->pid, &now);

		if (!gone && now == process->start_stack)
			continue;
		if (!gone)
			rc = follow_look_at(session, PT_PROC_EXEC, process->pid, 0, 0);
		*process = session->unwanted[--session->unwanted_count];
	}
	return rc;
}

int scan_processes(struct session *session, bool first)
{
	struct seen_process *list = NULL;
	size_t count = 0, capacity = 0;
	struct dirent *entry;
	uint64_t arrivals = pt_tracer_arrivals(session->tracer);
	int rc = 0;
	DIR *dir;

	if (!first && arrivals == session->arrivals)
		return 0;
	session->arrivals = arrivals;
	dir = opendir("/proc");
	if (!dir)
		return -errno;
	while (!rc && (entry = readdir(dir))) {
		struct seen_process now = {0};
		char path[64];
		struct stat st;

		if (!parse_pid(entry->d_name, &now.pid))
			continue;
		snprintf(path, sizeof(path), "/proc/%d/exe", now.pid);
		if (!stat(path, &st)) {
			now.exe_dev = st.st_dev;
			now.exe_inode = st.st_ino;
		}
		if (count == capacity) {
			struct seen_process *bigger;

			capacity = capacity ? capacity * 2 : 256;
			bigger = reallocarray(list, capacity, sizeof(*list));
			if (!bigger) {
				rc = -ENOMEM;
				break;
			}
			list = bigger;
		}
		list[count++] = now;
		if (!first)
			rc = look_if_changed(session, &now);
	}
	closedir(dir);
	if (count)
		qsort(list, count, sizeof(*list), compare_pids);
	free(session->seen);
	session->seen = list;
	session->seen_count = count;
	return rc || first ? rc : look_at_unwanted(session);
}
