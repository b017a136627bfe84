// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/* check: what works on this host and for one process, and what to do where it does not. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

#include "app/inspect.h"
#include "app/verbs.h"
#include "probe/features.h"
#include "python/jit.h"
#include "target/maps.h"

struct checks {
	cJSON *array; /* NULL: text */
	int exit_code;
};

enum verdict { VERDICT_OK, VERDICT_FALLBACK, VERDICT_NO };

static const char *const verdict_names[] = {"ok", "fallback", "NO"};

static void tell(struct checks *checks, const char *name, enum verdict verdict, const char *detail,
		 const char *remedy)
{
	cJSON *object;

	if (!checks->array) {
		printf("%-9s %-16s %s\n", verdict_names[verdict], name, detail ? detail : "");
		if (verdict != VERDICT_OK && remedy && *remedy)
			printf("%-26s -> %s\n", "", remedy);
		return;
	}
	object = cJSON_CreateObject();
	cJSON_AddStringToObject(object, "name", name);
	cJSON_AddBoolToObject(object, "ok", verdict != VERDICT_NO);
	cJSON_AddStringToObject(object, "verdict",
				verdict == VERDICT_NO ? "no" : verdict_names[verdict]);
	cJSON_AddStringToObject(object, "detail", detail ? detail : "");
	cJSON_AddStringToObject(object, "remedy", verdict != VERDICT_OK && remedy ? remedy : "");
	cJSON_AddItemToArray(checks->array, object);
}

static void fail(struct checks *checks, enum pt_exit exit_code)
{
	if (!checks->exit_code)
		checks->exit_code = (int)exit_code;
}

static void check_host(struct checks *checks)
{
	struct utsname uts;

	if (!uname(&uts)) {
		char text[160];

		snprintf(text, sizeof(text), "%.64s %.64s", uts.release, uts.machine);
		tell(checks, "kernel", VERDICT_OK, text, "");
	}
	for (int i = 0; i < PT_FEAT_COUNT; i++) {
		const struct pt_feature_result *feature = pt_feature((enum pt_feature)i);
		enum verdict verdict = feature->available  ? VERDICT_OK
				       : feature->required ? VERDICT_NO
							   : VERDICT_FALLBACK;

		tell(checks, feature->name, verdict,
		     feature->available ? feature->since : feature->reason, feature->remedy);
		if (verdict == VERDICT_NO)
			fail(checks,
			     i == PT_FEAT_PRIVILEGE ? PT_EXIT_PERMISSION : PT_EXIT_UNSUPPORTED);
	}
}

/* uprobes need nothing of the process, but people ask. */
static void check_seccomp(struct checks *checks, pid_t pid)
{
	char path[64], *text;
	size_t size;
	long mode = 0;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	if (pt_proc_read(path, 1u << 20, &text, &size))
		return;
	pt_status_number(text, "Seccomp", 0, &mode);
	free(text);
	tell(checks, "seccomp", VERDICT_OK,
	     mode == 2   ? "the process has a filter; probes do not make system calls in it"
	     : mode == 1 ? "the process is in strict mode; probes do not make system calls in it"
			 : "none",
	     "");
}

static void check_engines(struct checks *checks, const struct py_image *image)
{
	for (int i = 0; i < PY_ENGINE_COUNT; i++) {
		const struct py_engine_plan *plan = &image->engines[i];
		char name[32], detail[300];

		snprintf(name, sizeof(name), "engine %s", pt_engine_name((enum py_engine)i));
		if (i == PY_ENGINE_SAMPLE)
			snprintf(detail, sizeof(detail), "no probes; not exact");
		else
			snprintf(detail, sizeof(detail), "%zu probes%s%s", plan->site_count,
				 plan->reason[0] ? ": " : "", plan->reason);
		tell(checks, name, plan->usable ? VERDICT_OK : VERDICT_FALLBACK,
		     plan->usable ? detail : plan->reason, "");
	}
}

static void check_features(struct checks *checks, const struct py_image *image)
{
	for (int f = 0; f < PY_FEATURE_COUNT; f++) {
		const struct py_engine_plan *plan = &image->features[f];
		char name[32], detail[300];

		snprintf(name, sizeof(name), "--%s", py_feature_name((enum py_feature)f));
		if (plan->site_count)
			snprintf(detail, sizeof(detail), "%zu probes: %s", plan->site_count,
				 plan->sites[0].method);
		else
			snprintf(detail, sizeof(detail), "no probes of its own");
		tell(checks, name, plan->usable ? VERDICT_OK : VERDICT_FALLBACK,
		     plan->usable ? detail : plan->reason, "");
	}
}

/* Those that are recorded by default. */
static void check_c_functions(struct checks *checks, const char *text,
			      const struct pt_traced_image *image)
{
	tell(checks, "C functions", image->c_methods ? VERDICT_OK : VERDICT_FALLBACK, text,
	     "--c-functions records them where they are called, at 1.5 us for each call of any");
}

static void check_jit(struct checks *checks, const struct pt_process *process,
		      const struct py_image *image)
{
	uint64_t bias = pt_module_bias(&process->modules[process->interpreter]);
	const char *remedy = "restart it with PYTHON_JIT=0 in its environment";

	switch (py_jit_state(process->pid, image, bias, false)) {
	case PY_JIT_NONE:
		break;
	case PY_JIT_OFF:
		tell(checks, "JIT", VERDICT_OK, "off", "");
		break;
	case PY_JIT_ON:
		tell(checks, "JIT", VERDICT_NO, "on", remedy);
		break;
	case PY_JIT_UNKNOWN:
		tell(checks, "JIT", VERDICT_FALLBACK,
		     "whether it is on cannot be told; calls made in JIT code would be missing",
		     remedy);
		break;
	}
}

static void check_process(struct checks *checks, const struct pt_process *process,
			  struct app_inspector *inspector)
{
	struct pt_traced_image *image;
	struct pt_err err = {0};
	char text[512];
	int rc;

	snprintf(text, sizeof(text), "%d %s%s", process->pid, process->comm,
		 process->other_mount_ns || process->other_root || process->other_pid_ns
		     ? " (in a container or chroot)"
		     : "");
	tell(checks, "process", VERDICT_OK, text, "");
	check_seccomp(checks, process->pid);
	rc = app_inspect(inspector, process, &image, &err);
	if (image && image->image) {
		char build[64];

		app_build_text(process, image->image, build, sizeof(build));
		snprintf(text, sizeof(text), "CPython %s (%s) %.300s", image->image->version_text,
			 build, process->modules[process->interpreter].path);
		tell(checks, "interpreter", VERDICT_OK, text, "");
		check_engines(checks, image->image);
		check_features(checks, image->image);
		check_c_functions(checks, app_c_functions_text(inspector, process, image), image);
		check_jit(checks, process, image->image);
	}
	if (rc || !image) {
		tell(checks, "traceable", VERDICT_NO, err.what, err.hint);
		fail(checks, err.exit_code);
		return;
	}
	snprintf(text, sizeof(text), "engine %s: %.400s", pt_engine_name(image->engine),
		 image->why);
	tell(checks, "traceable", VERDICT_OK, text, "");
}

static int check_pid(struct checks *checks, const struct app_options *options, struct pt_err *err)
{
	struct app_inspector inspector;
	struct pt_process *process;
	int rc = pt_process_open(options->pids[0], &process, err);

	if (rc)
		return rc;
	rc = app_inspector_init(&inspector, options, err);
	if (!rc) {
		check_process(checks, process, &inspector);
		app_inspector_release(&inspector);
	}
	pt_process_free(process);
	return rc;
}

int app_check(const struct app_options *options, struct pt_err *err)
{
	struct checks checks = {.array = options->json ? cJSON_CreateArray() : NULL};
	int rc = 0;

	check_host(&checks);
	if (options->pid_count)
		rc = check_pid(&checks, options, err);
	if (!rc && checks.array)
		rc = app_print_json(checks.array, err);
	else
		cJSON_Delete(checks.array);
	return rc ? rc : checks.exit_code;
}
