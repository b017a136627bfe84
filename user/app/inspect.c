// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "app/inspect.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "app/cfunctions.h"
#include "app/verbs.h"
#include "probe/calibrate.h"
#include "python/jit.h"
#include "record/method_files.h"
#include "record/session.h"

/* For a list of C functions. */
static int make_methods(struct app_inspector *inspector, const struct app_options *options)
{
	const struct pt_tracer_options tracer = {
	    .no_uprobe_multi = options->no_uprobe_multi,
	    .no_cookie = options->no_cookie,
	    .no_task_storage = options->no_task_storage,
	};
	bool file_wide = options->all || options->follow == PT_FOLLOW_EXACT, wanted;
	const struct app_list *globs = &options->c_globs;
	struct app_list named = {0};

	if (options->verb == APP_CHECK) {
		if (app_parse_c_functions(APP_C_FUNCTIONS_DEFAULT, &wanted, &inspector->c_globs,
					  &named))
			return -ENOMEM;
		globs = &inspector->c_globs;
	} else if (!options->dry_run || !globs->count) {
		return 0;
	}
	pt_tracer_methods_supported(&tracer, file_wide, &inspector->c_refused);
	inspector->c_only = !options->c_asked;
	inspector->methods = method_files_new(&(struct method_files_options){
	    .globs = (const char *const *)globs->items,
	    .named = (const char *const *)options->c_named.items,
	    .emulated = inspector->options.emulated,
	    .cache_dir = inspector->options.cache_dir,
	    .only = inspector->c_only,
	});
	return inspector->methods ? 0 : -ENOMEM;
}

int app_inspector_init(struct app_inspector *inspector, const struct app_options *options,
		       struct pt_err *err)
{
	struct pt_calibration calibration = {0};

	memset(inspector, 0, sizeof(*inspector));
	inspector->options = (struct pt_images_options){
	    .engine = (enum pt_engine_wish)options->engine,
	    .emulated = PY_INSN_EMULATED_DEFAULT,
	    .cache_dir = app_cache_dir(options, inspector->cache_dir, sizeof(inspector->cache_dir)),
	    .c_globs = (const char *const *)options->c_globs.items,
	};
	if (options->dry_run)
		app_options_features(options, &inspector->options.features,
				     &inspector->options.features_asked);
	/* measuring needs probes of our own; without the right to make them, the default must do */
	if (!geteuid() && !pt_calibrate(inspector->options.cache_dir, &calibration, NULL)) {
		inspector->options.emulated = calibration.emulated;
		inspector->calibrated = true;
	}
	if (options->verb == APP_CHECK || (options->dry_run && options->c_asked))
		inspector->options.emulated |= PY_FIND_C_CALLS;
	if (pt_images_new(&inspector->options, &inspector->images) ||
	    make_methods(inspector, options))
		return pt_err_set(err, -ENOMEM, PT_EXIT_FAILED, "", "out of memory");
	return 0;
}

void app_inspector_release(struct app_inspector *inspector)
{
	pt_images_free(inspector->images);
	method_files_free(inspector->methods);
	for (size_t i = 0; i < inspector->c_globs.count; i++)
		free(inspector->c_globs.items[i]);
	free(inspector->c_globs.items);
}

const char *app_c_functions_text(struct app_inspector *inspector, const struct pt_process *process,
				 struct pt_traced_image *image)
{
	if (inspector->methods && pt_err_is_set(&inspector->c_refused) && !image->c_chosen)
		snprintf(image->c_why, sizeof(image->c_why), "%s: %.250s",
			 inspector->c_only ? "not recorded" : "where they are called",
			 inspector->c_refused.what);
	else if (inspector->methods && method_files_choose(inspector->methods, process, image))
		snprintf(image->c_why, sizeof(image->c_why), "out of memory");
	return image->c_why;
}

int app_inspect(struct app_inspector *inspector, const struct pt_process *process,
		struct pt_traced_image **image, struct pt_err *err)
{
	int rc = pt_process_check(process, err);

	*image = NULL;
	if (process->interpreter < 0 || process->is_32bit)
		return rc;
	if (!rc)
		rc = pt_images_load(inspector->images, &process->modules[process->interpreter],
				    image, err);
	if (rc)
		pt_err_set(err, rc, PT_EXIT_UNSUPPORTED, "", "this interpreter was refused before");
	else if (inspector->options.engine != PT_ENGINE_SAMPLE &&
		 inspector->options.engine != PT_ENGINE_HYBRID &&
		 py_jit_state(process->pid, (*image)->image,
			      pt_module_bias(&process->modules[process->interpreter]),
			      false) == PY_JIT_ON)
		rc = py_jit_refuse(process->pid, (*image)->image, err);
	return rc;
}

static void add_word(char *text, size_t size, bool really, const char *word)
{
	size_t len = strlen(text);

	if (really && len + strlen(word) + 3 < size)
		snprintf(text + len, size - len, "%s%s", len ? ", " : "", word);
}

void app_build_text(const struct pt_process *process, const struct py_image *image, char *text,
		    size_t size)
{
	const char *path = process->modules[process->interpreter].path;

	text[0] = '\0';
	add_word(text, size, true, strstr(path, ".so") ? "shared" : "static");
	add_word(text, size, image->stripped, "stripped");
	add_word(text, size, image->dtrace, "dtrace");
	add_word(text, size, image->debug, "debug");
	add_word(text, size, image->free_threaded, "free-threaded");
	add_word(text, size, process->modules[process->interpreter].deleted, "deleted");
}

void app_build_id_text(const struct py_image *image, char *text, size_t size)
{
	text[0] = '\0';
	for (size_t i = 0; i < image->build_id_len && 2 * i + 3 <= size; i++)
		snprintf(text + 2 * i, size - 2 * i, "%02x", image->build_id[i]);
}

cJSON *app_libraries_json(const struct pt_process *process)
{
	/* what a file's name starts with, and what people call it */
	static const struct {
		const char *prefix, *name;
	} known[] = {
	    {"libcudart", "libcudart"},   {"libcuda.so", "libcuda"}, {"libnccl", "libnccl"},
	    {"libtorch_python", "torch"}, {"libcupti", "libcupti"},  {"_multiarray_umath", "numpy"},
	    {"_greenlet", "greenlet"},    {"uvloop", "uvloop"},      {"libuwsgi", "uwsgi"},
	    {"mod_wsgi", "mod_wsgi"},     {"libmpi.so", "mpi"},
	};
	cJSON *array = cJSON_CreateArray();

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		for (size_t m = 0; m < process->module_count; m++) {
			const char *path = process->modules[m].path;
			const char *slash = strrchr(path, '/');
			const char *base = slash ? slash + 1 : path;

			if (strncmp(base, known[i].prefix, strlen(known[i].prefix)))
				continue;
			cJSON_AddItemToArray(array, cJSON_CreateString(known[i].name));
			break;
		}
	}
	return array;
}

int app_print_json(cJSON *root, struct pt_err *err)
{
	char *text = cJSON_Print(root);

	cJSON_Delete(root);
	if (!text)
		return pt_err_set(err, -ENOMEM, PT_EXIT_FAILED, "", "out of memory");
	puts(text);
	free(text);
	return 0;
}
