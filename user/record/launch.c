// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "record/launch.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/audit.h>
#include <pwd.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <linux/ptrace.h>

#include "base/log.h"

#define WATCH_OPTIONS                                                                              \
	(PTRACE_O_TRACEEXEC | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE |     \
	 PTRACE_O_TRACESYSGOOD)
/* A dynamic loader that maps 200 libraries makes some 2000 system calls. */
#define LOADER_CALL_MAX    8000
#define SERVICE_BLOCK_MS   4
#define EXEC_FAILED_STATUS 127

struct tracee {
	pid_t pid;          /* a thread's id, for a thread of a program that is not Python */
	unsigned int calls; /* system calls left to look at; 0: it runs freely */
	bool maps_code;     /* inside mmap() of an executable file */
};

struct pt_launch {
	pid_t child;
	int hold_fd;  /* closing it lets the child exec */
	int error_fd; /* the child's errno if exec fails */
	bool went, ended;
	int wait_status;
	char *name;
	struct tracee *tracees;
	size_t tracee_count;
};

static bool parse_id(const char *text, unsigned long *id)
{
	char *end;

	if (!text || *text < '0' || *text > '9')
		return false;
	errno = 0;
	*id = strtoul(text, &end, 10);
	return !errno && !*end && *id < UINT32_MAX;
}

bool pt_sudo_user(uid_t *uid, gid_t *gid)
{
	unsigned long user, group;

	if (geteuid() || !parse_id(getenv("SUDO_UID"), &user) ||
	    !parse_id(getenv("SUDO_GID"), &group) || !user)
		return false;
	*uid = (uid_t)user;
	*gid = (gid_t)group;
	return true;
}

static int become_user(void)
{
	struct passwd *passwd;
	uid_t uid;
	gid_t gid;

	if (!pt_sudo_user(&uid, &gid))
		return 0;
	passwd = getpwuid(uid);
	if (passwd ? initgroups(passwd->pw_name, gid) : setgroups(1, &gid))
		return -errno;
	if (setgid(gid) || setuid(uid))
		return -errno;
	return 0;
}

/* In the child. Never returns. */
static void run_command(char *const *command, int hold_fd, int error_fd, const sigset_t *signals,
			const struct rlimit *files)
{
	char byte;
	int rc;

	/* a byte: go; end of file: the tracer died */
	if (read(hold_fd, &byte, 1) != 1)
		_exit(EXEC_FAILED_STATUS);
	close(hold_fd);
	setrlimit(RLIMIT_NOFILE, files);
	signal(SIGPIPE, SIG_DFL);
	sigprocmask(SIG_SETMASK, signals, NULL);
	rc = become_user();
	if (!rc) {
		execvp(command[0], command);
		rc = -errno;
	}
	if (write(error_fd, &rc, sizeof(rc)) != sizeof(rc))
		_exit(EXEC_FAILED_STATUS - 1);
	_exit(EXEC_FAILED_STATUS);
}

static int cannot_start(const char *name, int rc, struct pt_err *err)
{
	return pt_err_set(err, rc, rc == -EACCES ? PT_EXIT_PERMISSION : PT_EXIT_NO_TARGET,
			  rc == -ENOENT && getenv("SUDO_UID")
			      ? "sudo searches its own PATH; give the command's full path"
			      : "is the command right?",
			  "cannot run '%s': %s", name, strerror(-rc));
}

static struct tracee *find_tracee(struct pt_launch *launch, pid_t pid)
{
	for (size_t i = 0; i < launch->tracee_count; i++)
		if (launch->tracees[i].pid == pid)
			return &launch->tracees[i];
	return NULL;
}

static struct tracee *add_tracee(struct pt_launch *launch, pid_t pid)
{
	struct tracee *tracee = find_tracee(launch, pid), *bigger;

	if (tracee)
		return tracee;
	bigger = reallocarray(launch->tracees, launch->tracee_count + 1, sizeof(*bigger));
	if (!bigger)
		return NULL;
	launch->tracees = bigger;
	tracee = &launch->tracees[launch->tracee_count++];
	*tracee = (struct tracee){.pid = pid};
	return tracee;
}

static void drop_tracee(struct pt_launch *launch, pid_t pid)
{
	struct tracee *tracee = find_tracee(launch, pid);

	if (tracee)
		*tracee = launch->tracees[--launch->tracee_count];
}

int pt_launch_new(char *const *command, struct pt_launch **out, struct pt_err *err)
{
	struct pt_launch *launch = calloc(1, sizeof(*launch));
	int hold[2] = {-1, -1}, error[2] = {-1, -1};
	struct rlimit files;
	sigset_t signals;

	*out = NULL;
	if (!launch || !(launch->name = strdup(command[0]))) {
		free(launch);
		return pt_err_set(err, -ENOMEM, PT_EXIT_FAILED, "", "out of memory");
	}
	getrlimit(RLIMIT_NOFILE, &files);
	sigemptyset(&signals);
	if (pipe2(hold, O_CLOEXEC) || pipe2(error, O_CLOEXEC) || (launch->child = fork()) < 0) {
		int rc = -errno;

		for (int i = 0; i < 2; i++) {
			close(hold[i]);
			close(error[i]);
		}
		free(launch->name);
		free(launch);
		return pt_err_set(err, rc, PT_EXIT_FAILED, "", "cannot start a process: %s",
				  strerror(-rc));
	}
	if (!launch->child) {
		close(hold[1]);
		run_command(command, hold[0], error[1], &signals, &files);
	}
	close(hold[0]);
	close(error[1]);
	launch->hold_fd = hold[1];
	launch->error_fd = error[0];
	*out = launch;
	return 0;
}

pid_t pt_launch_pid(const struct pt_launch *launch)
{
	return launch->child;
}

int pt_launch_go(struct pt_launch *launch, struct pt_err *err)
{
	if (!add_tracee(launch, launch->child) ||
	    ptrace(PTRACE_SEIZE, launch->child, NULL, (void *)WATCH_OPTIONS)) {
		int rc = -errno;

		drop_tracee(launch, launch->child);
		return pt_err_set(err, rc, PT_EXIT_PERMISSION,
				  "is ptrace forbidden here (kernel.yama.ptrace_scope, seccomp)? "
				  "Start the command yourself and attach with -p",
				  "cannot watch '%s' start: %s", launch->name, strerror(-rc));
	}
	if (write(launch->hold_fd, "g", 1) != 1)
		return pt_err_set(err, -errno, PT_EXIT_FAILED, "", "cannot start '%s'",
				  launch->name);
	close(launch->hold_fd);
	launch->hold_fd = -1;
	launch->went = true;
	return 0;
}

static void resume(const struct tracee *tracee, int signal_number)
{
	/* it may have been killed meanwhile: then wait() tells */
	ptrace(tracee->calls ? PTRACE_SYSCALL : PTRACE_CONT, tracee->pid, NULL,
	       (void *)(intptr_t)signal_number);
}

/* Asks whether it is Python now. Lets go of it if so. */
static int look_at(struct pt_launch *launch, struct tracee *tracee, pt_launch_look_fn look,
		   void *ctx)
{
	pid_t pid = tracee->pid;
	int rc = look(pid, ctx);

	if (rc > 0) {
		ptrace(PTRACE_DETACH, pid, NULL, NULL);
		drop_tracee(launch, pid);
		return 0;
	}
	resume(tracee, 0);
	return rc;
}

/* At a system call's entry or exit: is an executable file being mapped? Returns true when one has
 * just been. */
static bool code_was_mapped(struct tracee *tracee)
{
	struct ptrace_syscall_info info = {0};

	if (ptrace(PTRACE_GET_SYSCALL_INFO, tracee->pid, (void *)sizeof(info), &info) <= 0) {
		tracee->calls = 0;
		return false;
	}
	if (info.op == PTRACE_SYSCALL_INFO_ENTRY) {
		tracee->maps_code = info.entry.nr == SYS_mmap && (info.entry.args[2] & PROT_EXEC) &&
				    !(info.entry.args[3] & MAP_ANONYMOUS);
		return false;
	}
	tracee->calls--;
	return tracee->maps_code && info.op == PTRACE_SYSCALL_INFO_EXIT && !info.exit.is_error;
}

static bool is_stop_signal(int signal_number)
{
	return signal_number == SIGSTOP || signal_number == SIGTSTP || signal_number == SIGTTIN ||
	       signal_number == SIGTTOU;
}

static int handle_stop(struct pt_launch *launch, pid_t pid, int status, pt_launch_look_fn look,
		       void *ctx)
{
	struct tracee *tracee = add_tracee(launch, pid);
	int signal_number = WSTOPSIG(status);
	unsigned long former;

	if (!tracee) {
		ptrace(PTRACE_DETACH, pid, NULL, NULL);
		return 0;
	}
	switch (status >> 16) {
	case PTRACE_EVENT_EXEC:
		/* a thread that executes takes over its process's id */
		if (!ptrace(PTRACE_GETEVENTMSG, pid, NULL, &former) && (pid_t)former != pid) {
			drop_tracee(launch, (pid_t)former);
			tracee = find_tracee(launch, pid);
		}
		tracee->calls = LOADER_CALL_MAX;
		tracee->maps_code = false;
		return look_at(launch, tracee, look, ctx);
	case PTRACE_EVENT_STOP:
		if (is_stop_signal(signal_number))
			ptrace(PTRACE_LISTEN, pid, NULL, NULL);
		else
			resume(tracee, 0);
		return 0;
	case 0:
		break;
	default: /* fork, vfork, clone: the new one reports by itself */
		resume(tracee, 0);
		return 0;
	}
	if (signal_number != (SIGTRAP | 0x80)) {
		resume(tracee, signal_number);
		return 0;
	}
	if (code_was_mapped(tracee))
		return look_at(launch, tracee, look, ctx);
	resume(tracee, 0);
	return 0;
}

/* True while some process goes from system call to system call: each stop waits for us. */
static bool is_stepping(const struct pt_launch *launch)
{
	for (size_t i = 0; i < launch->tracee_count; i++)
		if (launch->tracees[i].calls)
			return true;
	return false;
}

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void note_end(struct pt_launch *launch, pid_t pid, int status)
{
	drop_tracee(launch, pid);
	if (pid == launch->child) {
		launch->ended = true;
		launch->wait_status = status;
	}
}

int pt_launch_service(struct pt_launch *launch, pt_launch_look_fn look, void *ctx)
{
	int64_t until_ms = now_ms() + SERVICE_BLOCK_MS;
	int rc = 0, status;

	while (!rc) {
		pid_t pid = waitpid(-1, &status, __WALL | WNOHANG);

		if (pid < 0)
			break; /* no children any more */
		if (!pid) {
			if (!is_stepping(launch) || now_ms() >= until_ms)
				break;
			nanosleep(&(struct timespec){.tv_nsec = 20000}, NULL);
			continue;
		}
		if (WIFSTOPPED(status)) {
			rc = handle_stop(launch, pid, status, look, ctx);
			continue;
		}
		note_end(launch, pid, status);
	}
	return rc;
}

bool pt_launch_watching(const struct pt_launch *launch)
{
	return launch->tracee_count > 0;
}

bool pt_launch_ended(const struct pt_launch *launch, int *wait_status)
{
	if (launch->ended && wait_status)
		*wait_status = launch->wait_status;
	return launch->ended;
}

int pt_launch_exec_error(struct pt_launch *launch, struct pt_err *err)
{
	int rc;

	if (fcntl(launch->error_fd, F_SETFL, O_NONBLOCK) ||
	    read(launch->error_fd, &rc, sizeof(rc)) != sizeof(rc))
		return 0;
	return cannot_start(launch->name, rc, err);
}

void pt_launch_signal(const struct pt_launch *launch, int signal_number)
{
	if (!launch->ended)
		kill(launch->child, signal_number);
}

/* A signal that was about to be delivered, or 0. */
static int pending_signal(int status)
{
	if (status >> 16 || WSTOPSIG(status) == (SIGTRAP | 0x80))
		return 0;
	return WSTOPSIG(status);
}

/* A running tracee must be stopped before it can be let go. */
static void let_go(struct pt_launch *launch, pid_t pid)
{
	int status;

	if (ptrace(PTRACE_INTERRUPT, pid, NULL, NULL))
		return;
	for (int i = 0; i < 100; i++) {
		if (waitpid(pid, &status, __WALL | WNOHANG) == pid) {
			if (WIFSTOPPED(status))
				ptrace(PTRACE_DETACH, pid, NULL,
				       (void *)(intptr_t)pending_signal(status));
			else
				note_end(launch, pid, status);
			return;
		}
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
	}
}

void pt_launch_let_go(struct pt_launch *launch)
{
	while (launch->tracee_count) {
		pid_t pid = launch->tracees[launch->tracee_count - 1].pid;

		let_go(launch, pid);
		drop_tracee(launch, pid);
	}
}

void pt_launch_free(struct pt_launch *launch)
{
	if (!launch)
		return;
	if (!launch->went && !launch->ended) {
		kill(launch->child, SIGKILL);
		waitpid(launch->child, NULL, __WALL);
	}
	pt_launch_let_go(launch);
	if (launch->hold_fd >= 0)
		close(launch->hold_fd);
	close(launch->error_fd);
	free(launch->tracees);
	free(launch->name);
	free(launch);
}
