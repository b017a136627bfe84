// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include <errno.h>
#include <string.h>

#include "probe/features.h"
#include "probe/tracer.h"

static int permission_error(struct pt_err *err, int code, const char *what)
{
	const struct pt_feature_result *privilege = pt_feature(PT_FEAT_PRIVILEGE);
	const struct pt_feature_result *lockdown = pt_feature(PT_FEAT_LOCKDOWN_OFF);

	if (!privilege->available)
		return pt_err_set(err, code, PT_EXIT_PERMISSION, privilege->remedy,
				  "cannot %s: %s (%s)", what, strerror(-code), privilege->reason);
	if (!lockdown->available)
		return pt_err_set(err, code, PT_EXIT_PERMISSION, lockdown->remedy,
				  "cannot %s: %s (%s)", what, strerror(-code), lockdown->reason);
	return pt_err_set(err, code, PT_EXIT_PERMISSION,
			  "Run as root on the host. In a container, allow bpf(2) and "
			  "perf_event_open(2) in its seccomp profile and give it CAP_BPF, "
			  "CAP_PERFMON and CAP_SYS_PTRACE, or run it with --privileged.",
			  "cannot %s: %s", what, strerror(-code));
}

int pt_probe_error(struct pt_err *err, int code, const char *what, bool semaphore)
{
	switch (-code) {
	case EPERM:
	case EACCES:
		return permission_error(err, code, what);
	case EINVAL:
		if (semaphore)
			return pt_err_set(
			    err, code, PT_EXIT_FAILED,
			    "End the other tracer (bpftrace, bcc, perf, systemtap), or use "
			    "--engine=frame.",
			    "cannot %s: another tracer holds this probe with a different semaphore",
			    what);
		break;
	case EMFILE:
	case ENFILE:
		return pt_err_set(err, code, PT_EXIT_FAILED,
				  "Each probe needs two file descriptors. Raise the limit "
				  "(ulimit -n), or trace fewer processes.",
				  "cannot %s: too many open files", what);
	case ENOMEM:
		return pt_err_set(err, code, PT_EXIT_FAILED,
				  "Ask for a smaller ring buffer, or free some memory.",
				  "cannot %s: out of memory", what);
	case ESRCH:
		return pt_err_set(err, code, PT_EXIT_NO_TARGET, NULL,
				  "cannot %s: the process is gone", what);
	case ENOENT:
		return pt_err_set(err, code, PT_EXIT_NO_TARGET,
				  "The interpreter's file may have been replaced or removed while "
				  "the process runs.",
				  "cannot %s: %s", what, strerror(-code));
	case 524: /* ENOTSUPP, include/linux/errno.h; not in libc's errno.h */
	case EOPNOTSUPP:
		return pt_err_set(err, code, PT_EXIT_UNSUPPORTED,
				  "This kernel cannot probe one of the instructions. Please report "
				  "the kernel and the interpreter's version.",
				  "cannot %s: the kernel does not support it", what);
	default:
		break;
	}
	return pt_err_set(err, code, PT_EXIT_FAILED,
			  "Run with -vv for the kernel's and libbpf's messages.", "cannot %s: %s",
			  what, strerror(-code));
}
