// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/* list: the Python processes of this host. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "app/inspect.h"
#include "app/verbs.h"
#include "base/log.h"

struct listing {
	struct app_inspector inspector;
	cJSON *array; /* NULL: text */
	size_t count;
};

static void libraries_text(const struct pt_process *process, char *text, size_t size)
{
	cJSON *array = app_libraries_json(process), *item;

	text[0] = '\0';
	cJSON_ArrayForEach (item, array) {
		size_t len = strlen(text);

		snprintf(text + len, size - len, "%s%s", len ? "," : "", item->valuestring);
	}
	cJSON_Delete(array);
}

static void add_json(struct listing *listing, const struct pt_process *process,
		     const struct pt_traced_image *image, const struct pt_err *err)
{
	const struct pt_module *module = &process->modules[process->interpreter];
	const struct py_image *py = image ? image->image : NULL;
	cJSON *object = cJSON_CreateObject();
	char text[128];

	cJSON_AddNumberToObject(object, "pid", process->pid);
	cJSON_AddNumberToObject(object, "namespace_pid", process->ns_pid);
	cJSON_AddNumberToObject(object, "uid", process->uid);
	cJSON_AddStringToObject(object, "comm", process->comm);
	cJSON_AddStringToObject(object, "command", process->cmdline ? process->cmdline : "");
	cJSON_AddStringToObject(object, "interpreter", module->path);
	cJSON_AddStringToObject(object, "version", py ? py->version_text : "");
	if (py) {
		app_build_text(process, py, text, sizeof(text));
		cJSON_AddStringToObject(object, "build", text);
		app_build_id_text(py, text, sizeof(text));
		cJSON_AddStringToObject(object, "build_id", text);
	}
	cJSON_AddBoolToObject(object, "container",
			      process->other_mount_ns || process->other_pid_ns ||
				  process->other_root);
	cJSON_AddItemToObject(object, "libraries", app_libraries_json(process));
	if (!image || pt_err_is_set(err))
		cJSON_AddStringToObject(object, "refused", err->what);
	else
		cJSON_AddStringToObject(object, "engine", pt_engine_name(image->engine));
	cJSON_AddItemToArray(listing->array, object);
}

static void print_line(const struct pt_process *process, const struct pt_traced_image *image,
		       const struct pt_err *err)
{
	const struct py_image *py = image ? image->image : NULL;
	char build[64] = "-", libraries[128];

	if (py)
		app_build_text(process, py, build, sizeof(build));
	libraries_text(process, libraries, sizeof(libraries));
	printf("%7d  %-10s %-7s %-24s %s%s%s%.100s\n", process->pid, py ? py->version_text : "?",
	       !image || pt_err_is_set(err) ? "none" : pt_engine_name(image->engine), build,
	       libraries[0] ? "[" : "", libraries, libraries[0] ? "] " : "",
	       process->cmdline && process->cmdline[0] ? process->cmdline : process->comm);
	if (pt_err_is_set(err))
		printf("%9s%s\n", "", err->what);
}

static int visit(const struct pt_process *process, void *ctx)
{
	struct listing *listing = ctx;
	struct pt_traced_image *image;
	struct pt_err err = {0};

	app_inspect(&listing->inspector, process, &image, &err);
	if (!listing->count++ && !listing->array)
		printf("%7s  %-10s %-7s %-24s %s\n", "PID", "VERSION", "ENGINE", "BUILD",
		       "COMMAND");
	if (listing->array)
		add_json(listing, process, image, &err);
	else
		print_line(process, image, &err);
	return 0;
}

int app_list(const struct app_options *options, struct pt_err *err)
{
	struct listing listing = {.array = options->json ? cJSON_CreateArray() : NULL};
	int rc = app_inspector_init(&listing.inspector, options, err);

	if (!rc)
		rc = pt_process_each_python(NULL, visit, &listing, err);
	app_inspector_release(&listing.inspector);
	if (!rc && geteuid())
		pt_info("processes of other users are not shown; run as root to see all");
	if (!rc && !listing.count)
		pt_info("no Python process found");
	if (!rc && listing.array)
		return app_print_json(listing.array, err);
	cJSON_Delete(listing.array);
	return rc;
}
