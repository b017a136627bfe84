// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * text.c - a breakpoint in the middle of an instruction kills the target, and the kernel does not
 * prevent it. So before anything is attached, the bytes at every site are compared with those that
 * were analysed: in the file, and in the memory of each process.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "probe/tracer.h"
#include "target/memory.h"

#define INT3       0xcc
#define CALL_REL32 0xe8

static bool same_bytes(const struct py_site *site, const uint8_t *found, bool in_process)
{
	if (memcmp(site->bytes, found, site->byte_count) == 0)
		return true;
	if (!in_process)
		return false;
	/* somebody's breakpoint, perhaps our own on the whole file */
	if (found[0] == INT3 && memcmp(site->bytes + 1, found + 1, site->byte_count - 1) == 0)
		return true;
	/* Linux 6.18 turns a probed 5-byte nop into a call (arch/x86/kernel/uprobes.c) */
	return site->insn_class == PY_INSN_NOP5 && site->byte_count == 5 && found[0] == CALL_REL32;
}

static bool site_sane(const struct py_site *site)
{
	return site->byte_count > 0 && site->byte_count <= sizeof(site->bytes);
}

int pt_text_check_file(const struct py_image *image, enum py_engine engine, const char *path,
		       struct pt_err *err)
{
	const struct py_engine_plan *plan = &image->engines[engine];
	int fd = open(path, O_RDONLY | O_CLOEXEC), rc = 0;
	uint8_t found[sizeof(plan->sites->bytes)];

	if (fd < 0) {
		rc = -errno;
		return pt_err_set(err, rc, rc == -EACCES ? PT_EXIT_PERMISSION : PT_EXIT_NO_TARGET,
				  NULL, "cannot open '%s': %s", path, strerror(-rc));
	}
	for (size_t i = 0; i < plan->site_count && !rc; i++) {
		const struct py_site *site = &plan->sites[i];

		if (!site_sane(site) ||
		    pread(fd, found, site->byte_count, (off_t)site->offset) != site->byte_count ||
		    !same_bytes(site, found, false))
			rc = pt_err_set(
			    err, -EINVAL, PT_EXIT_FAILED,
			    "The file was replaced after it was analysed. Try again; if "
			    "it persists, remove the cache.",
			    "'%s' is not the file that was analysed: other code at "
			    "offset %#llx",
			    path, (unsigned long long)site->offset);
	}
	close(fd);
	return rc;
}

int pt_text_check_process(const struct py_image *image, enum py_engine engine, pid_t pid,
			  uint64_t bias, struct pt_err *err)
{
	const struct py_engine_plan *plan = &image->engines[engine];
	uint8_t found[sizeof(plan->sites->bytes)];
	int rc = 0;

	for (size_t i = 0; i < plan->site_count && !rc; i++) {
		const struct py_site *site = &plan->sites[i];
		int failed = -EFAULT;

		if (site_sane(site))
			failed = pt_memory_read(pid, site->vaddr + bias, found, site->byte_count);
		if (failed == -EPERM)
			return pt_err_set(err, failed, PT_EXIT_PERMISSION,
					  "Reading a process's memory needs CAP_SYS_PTRACE; run "
					  "with sudo.",
					  "cannot read the memory of process %d: %s", pid,
					  strerror(-failed));
		if (failed == -ESRCH)
			return pt_err_set(err, failed, PT_EXIT_NO_TARGET, NULL, "no process %d",
					  pid);
		if (failed)
			rc = pt_err_set(err, -ESRCH, PT_EXIT_NO_TARGET,
					"It may have ended, or run another program meanwhile.",
					"cannot read the code of process %d at %#llx", pid,
					(unsigned long long)(site->vaddr + bias));
		else if (!same_bytes(site, found, true))
			rc = pt_err_set(
			    err, -EINVAL, PT_EXIT_UNSUPPORTED,
			    "Something has patched the interpreter in memory, or the "
			    "process maps another file than the one analysed.",
			    "the code of process %d differs from '%s' at %#llx: refusing to "
			    "probe it",
			    pid, image->path, (unsigned long long)(site->vaddr + bias));
	}
	return rc;
}
