// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/* --dry-run: the probe plan of each process, as it would be attached. */
#include <stdio.h>
#include <string.h>

#include "app/inspect.h"
#include "app/verbs.h"
#include "base/log.h"

struct run {
	struct app_inspector inspector;
	cJSON *array; /* NULL: text */
	bool skip_refused;
	struct pt_err *err;
};

static const char *insn_class_name(enum py_insn_class insn_class)
{
	switch (insn_class) {
	case PY_INSN_JCC:
		return "jcc";
	case PY_INSN_JMP:
		return "jmp";
	case PY_INSN_CALL:
		return "call";
	case PY_INSN_PUSH:
		return "push";
	case PY_INSN_NOP1:
		return "nop";
	case PY_INSN_NOP_LONG:
		return "long nop";
	case PY_INSN_NOP5:
		return "nop5";
	case PY_INSN_OTHER:
	case PY_INSN_CLASS_COUNT:
		break;
	}
	return "other";
}

static const char *site_kind_name(uint64_t cookie)
{
	switch ((enum pt_site_kind)PT_COOKIE_KIND(cookie)) {
	case PT_SITE_DELTA:
		return "delta";
	case PT_SITE_ENTER:
	case PT_SITE_ENTER_REG:
	case PT_SITE_CHECKED:
		return "enter";
	case PT_SITE_EXIT:
		return "exit";
	case PT_SITE_FREE_CODE:
		return "free code";
	case PT_SITE_RUNTIME:
	case PT_SITE_RAISE:
		return "runtime";
	case PT_SITE_THROW:
		return "throw";
	case PT_SITE_C_CALL:
		return "C call";
	case PT_SITE_C_RETURN:
		return "C return";
	}
	return "?";
}

static void bytes_text(const struct py_site *site, char *text, size_t size)
{
	text[0] = '\0';
	for (size_t i = 0; i < site->byte_count && i < sizeof(site->bytes) && 3 * i + 4 < size; i++)
		snprintf(text + 3 * i, size - 3 * i, "%02x ", site->bytes[i]);
}

static bool is_emulated(const struct run *run, const struct py_site *site)
{
	return run->inspector.options.emulated & 1u << site->insn_class;
}

static void print_plan(struct run *run, const struct pt_process *process,
		       struct pt_traced_image *traced)
{
	const char *c_functions = app_c_functions_text(&run->inspector, process, traced);
	const struct pt_module *module = &process->modules[process->interpreter];
	const struct py_image *image = traced->image;
	const struct py_engine_plan *plan = &image->engines[traced->engine];
	char build[64], build_id[72], bytes[64];

	app_build_text(process, image, build, sizeof(build));
	app_build_id_text(image, build_id, sizeof(build_id));
	printf("process %d: %s\n", process->pid,
	       process->cmdline ? process->cmdline : process->comm);
	printf("  interpreter  %s\n", module->path);
	printf("  version      CPython %s (%s)\n", image->version_text, build);
	printf("  build id     %s\n", build_id[0] ? build_id : "none");
	printf("  engine       %s: %s\n",
	       pt_engine_wish_name(run->inspector.options.engine, traced->engine), traced->why);
	if (plan->reason[0])
		printf("  remark       %s\n", plan->reason);
	if (c_functions[0])
		printf("  C functions  %s\n", c_functions);
	printf("  instructions %s\n", run->inspector.calibrated
					  ? "emulation was measured on this kernel"
					  : "emulation is assumed, not measured (needs root)");
	printf("  found in     %.1f ms%s\n", image->find_ms, image->from_cache ? " (cache)" : "");
	printf("  %-4s %-12s %-10s %-18s %-10s %-8s %s\n", "site", "address", "kind", "method",
	       "instr.", "emulated", "bytes");
	for (size_t i = 0; i < plan->site_count; i++) {
		const struct py_site *site = &plan->sites[i];

		bytes_text(site, bytes, sizeof(bytes));
		printf("  %-4zu 0x%-10llx %-10s %-18s %-10s %-8s %s\n", i,
		       (unsigned long long)site->vaddr, site_kind_name(site->cookie),
		       site->method ? site->method : "", insn_class_name(site->insn_class),
		       is_emulated(run, site) ? "yes" : "NO", bytes);
	}
}

static cJSON *site_json(const struct run *run, const struct py_site *site)
{
	cJSON *object = cJSON_CreateObject();
	char text[64];

	snprintf(text, sizeof(text), "0x%llx", (unsigned long long)site->vaddr);
	cJSON_AddStringToObject(object, "address", text);
	snprintf(text, sizeof(text), "0x%llx", (unsigned long long)site->offset);
	cJSON_AddStringToObject(object, "offset", text);
	cJSON_AddStringToObject(object, "kind", site_kind_name(site->cookie));
	cJSON_AddStringToObject(object, "method", site->method ? site->method : "");
	cJSON_AddStringToObject(object, "instruction", insn_class_name(site->insn_class));
	cJSON_AddBoolToObject(object, "emulated", is_emulated(run, site));
	bytes_text(site, text, sizeof(text));
	cJSON_AddStringToObject(object, "bytes", text);
	snprintf(text, sizeof(text), "0x%llx", (unsigned long long)site->cookie);
	cJSON_AddStringToObject(object, "cookie", text);
	return object;
}

static void add_plan_json(struct run *run, const struct pt_process *process,
			  struct pt_traced_image *traced)
{
	const struct py_image *image = traced->image;
	const struct py_engine_plan *plan = &image->engines[traced->engine];
	cJSON *object = cJSON_CreateObject(), *sites = cJSON_CreateArray();
	char text[128];

	cJSON_AddNumberToObject(object, "pid", process->pid);
	cJSON_AddStringToObject(object, "interpreter", process->modules[process->interpreter].path);
	cJSON_AddStringToObject(object, "version", image->version_text);
	app_build_text(process, image, text, sizeof(text));
	cJSON_AddStringToObject(object, "build", text);
	app_build_id_text(image, text, sizeof(text));
	cJSON_AddStringToObject(object, "build_id", text);
	cJSON_AddStringToObject(object, "engine",
				pt_engine_wish_name(run->inspector.options.engine, traced->engine));
	cJSON_AddStringToObject(object, "why", traced->why);
	cJSON_AddStringToObject(object, "remark", plan->reason);
	cJSON_AddStringToObject(object, "c_functions",
				app_c_functions_text(&run->inspector, process, traced));
	cJSON_AddBoolToObject(object, "calibrated", run->inspector.calibrated);
	cJSON_AddNumberToObject(object, "find_ms", image->find_ms);
	for (size_t i = 0; i < plan->site_count; i++)
		cJSON_AddItemToArray(sites, site_json(run, &plan->sites[i]));
	cJSON_AddItemToObject(object, "sites", sites);
	cJSON_AddItemToArray(run->array, object);
}

static int visit(const struct pt_process *process, void *ctx)
{
	struct run *run = ctx;
	struct pt_traced_image *image;
	struct pt_err err = {0};
	int rc = app_inspect(&run->inspector, process, &image, &err);

	if (rc && run->skip_refused) {
		pt_warn("process %d (%s) would not be traced: %s", process->pid, process->comm,
			err.what);
		return 0;
	}
	if (rc) {
		*run->err = err;
		return rc;
	}
	if (run->array)
		add_plan_json(run, process, image);
	else
		print_plan(run, process, image);
	return 0;
}

static int visit_pid(struct run *run, pid_t pid, struct pt_err *err)
{
	struct pt_process *process;
	int rc = pt_process_open(pid, &process, err);

	if (rc)
		return rc;
	rc = visit(process, run);
	pt_process_free(process);
	return rc;
}

int app_dry_run(const struct app_options *options, struct pt_err *err)
{
	struct run run = {.array = options->json ? cJSON_CreateArray() : NULL,
			  .skip_refused = options->all,
			  .err = err};
	int rc = app_inspector_init(&run.inspector, options, err);

	if (!rc && options->all)
		rc = pt_process_each_python(NULL, visit, &run, err);
	for (size_t i = 0; !rc && i < options->pid_count; i++)
		rc = visit_pid(&run, options->pids[i], err);
	app_inspector_release(&run.inspector);
	if (!rc && run.array)
		return app_print_json(run.array, err);
	cJSON_Delete(run.array);
	return rc;
}
