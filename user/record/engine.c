// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "record/engine.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

const char *pt_engine_name(enum py_engine engine)
{
	switch (engine) {
	case PY_ENGINE_FRAME:
		return "frame";
	case PY_ENGINE_USDT:
		return "usdt";
	case PY_ENGINE_C_CALLS:
		return "c-functions";
	case PY_ENGINE_SAMPLE:
		return "sample";
	case PY_ENGINE_COUNT:
		break;
	}
	return "?";
}

const char *pt_engine_wish_name(enum pt_engine_wish wish, enum py_engine engine)
{
	return wish == PT_ENGINE_HYBRID ? "hybrid" : pt_engine_name(engine);
}

static int refuse_wish(const struct py_image *image, enum py_engine engine, struct pt_err *err)
{
	return pt_err_set(
	    err, -ENOTSUP, PT_EXIT_UNSUPPORTED,
	    "try --engine auto; 'pytrace-bpf check -p PID' shows what each engine says",
	    "engine %s cannot trace CPython %s in '%s': %s", pt_engine_name(engine),
	    image->version_text, image->path, image->engines[engine].reason);
}

int pt_engine_choose(const struct py_image *image, enum pt_engine_wish wish, enum py_engine *engine,
		     char *why, size_t why_size, struct pt_err *err)
{
	const struct py_engine_plan *frame = &image->engines[PY_ENGINE_FRAME];
	const struct py_engine_plan *usdt = &image->engines[PY_ENGINE_USDT];

	if (wish != PT_ENGINE_AUTO) {
		*engine = wish == PT_ENGINE_FRAME  ? PY_ENGINE_FRAME
			  : wish == PT_ENGINE_USDT ? PY_ENGINE_USDT
						   : PY_ENGINE_SAMPLE;
		if (!image->engines[*engine].usable)
			return refuse_wish(image, *engine, err);
		snprintf(why, why_size, "as asked for");
		return 0;
	}
	if (frame->usable) {
		*engine = PY_ENGINE_FRAME;
		if (usdt->usable)
			snprintf(why, why_size, "exact, and cheaper than usdt");
		else
			snprintf(why, why_size, "exact; usdt: %s", usdt->reason);
		return 0;
	}
	if (usdt->usable) {
		*engine = PY_ENGINE_USDT;
		snprintf(why, why_size, "exact; frame: %s", frame->reason);
		return 0;
	}
	return pt_err_set(err, -ENOTSUP, PT_EXIT_UNSUPPORTED,
			  image->engines[PY_ENGINE_SAMPLE].usable
			      ? "--engine sample shows, not exactly, where the time goes"
			      : "'pytrace-bpf check -p PID' shows what is missing",
			  "CPython %s in '%s' cannot be traced exactly: frame: %s; usdt: %s",
			  image->version_text, image->path, frame->reason, usdt->reason);
}

/* By name: only to explain why nothing was found. */
static const char *maps_libpython(const struct pt_process *process)
{
	for (size_t i = 0; i < process->module_count; i++) {
		const char *slash = strrchr(process->modules[i].path, '/');

		if (slash && !strncmp(slash + 1, "libpython3.", 11))
			return process->modules[i].path;
	}
	return NULL;
}

int pt_process_check(const struct pt_process *process, struct pt_err *err)
{
	if (process->has_ended)
		return pt_err_set(err, -ESRCH, PT_EXIT_NO_TARGET,
				  "'pytrace-bpf list' shows the Python processes of this host",
				  "process %d (%s) has ended, or its main thread has", process->pid,
				  process->comm);
	if (process->is_32bit)
		return pt_err_set(err, -ENOTSUP, PT_EXIT_UNSUPPORTED,
				  "only 64-bit CPython can be traced", "process %d (%s) is 32-bit",
				  process->pid, process->comm);
	if (process->interpreter < 0 && process->unreadable >= 0)
		return pt_err_set(err, -EACCES, PT_EXIT_PERMISSION,
				  "run it as root, or give it CAP_DAC_READ_SEARCH as well",
				  "process %d (%s) runs '%s', which may not be read", process->pid,
				  process->comm, process->modules[process->unreadable].path);
	if (process->interpreter < 0 && maps_libpython(process))
		return pt_err_set(err, -ENOTSUP, PT_EXIT_UNSUPPORTED,
				  "was the file damaged, or stripped of its dynamic symbols?",
				  "process %d (%s) maps '%s', but no CPython can be found in its "
				  "symbol table",
				  process->pid, process->comm, maps_libpython(process));
	if (process->interpreter < 0)
		return pt_err_set(
		    err, -ESRCH, PT_EXIT_NO_TARGET,
		    "'pytrace-bpf list' shows the Python processes of this host",
		    "process %d (%s) is not Python: it maps no file that holds CPython",
		    process->pid, process->comm);
	if (process->is_musl)
		return pt_err_set(err, -ENOTSUP, PT_EXIT_UNSUPPORTED,
				  "run it with a CPython that was built for glibc",
				  "process %d (%s) uses the musl C library", process->pid,
				  process->comm);
	return 0;
}
