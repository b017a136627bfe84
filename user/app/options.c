// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "app/options.h"

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "app/options_parts.h"
#include "target/maps.h"

#define CONFIG_MAX_BYTES (1u << 20)

#define DEFAULT_TOP          20
#define DEFAULT_BUFFER_BYTES (64u << 20)
#define DEFAULT_LAST_NS      30000000000ull
#define DEFAULT_COOL_DOWN_NS 10000000000ull
#define DEFAULT_WINDOW_BYTES (64u << 20)
#define DEFAULT_CAPTURES     20
#define DEFAULT_DISK_BYTES   (1u << 30)

static int read_environment(struct app_options *options, struct pt_err *err)
{
	int rc = 0;

	for (size_t i = 0; !rc && i < app_row_count; i++) {
		char name[64] = "PYTRACE_BPF_";
		size_t n = strlen(name);
		const char *value;

		if (app_rows[i].only_flag || !(app_rows[i].verbs & options->verb))
			continue;
		for (const char *p = app_rows[i].name; *p && n < sizeof(name) - 1; p++)
			name[n++] = *p == '-' ? '_' : (char)toupper((unsigned char)*p);
		value = getenv(name);
		if (value)
			rc = app_option_set(options, &app_rows[i], value, name, err);
	}
	return rc;
}

static int set_from_json(struct app_options *options, const struct app_row *row, const cJSON *value,
			 const char *source, struct pt_err *err)
{
	char text[64];

	if (cJSON_IsString(value))
		return app_option_set(options, row, value->valuestring, source, err);
	if (cJSON_IsBool(value))
		return app_option_set(options, row, cJSON_IsTrue(value) ? "true" : "false", source,
				      err);
	if (cJSON_IsNumber(value)) {
		snprintf(text, sizeof(text), "%.15g", value->valuedouble);
		return app_option_set(options, row, text, source, err);
	}
	return app_usage(err, "%s has a value of the wrong type", source);
}

static int read_config_item(struct app_options *options, const cJSON *item, struct pt_err *err)
{
	const struct app_row *row = app_row_find(item->string);
	const cJSON *value;
	char source[256];
	int rc = 0;

	snprintf(source, sizeof(source), "'%.60s' in '%.120s'", item->string, options->config);
	if (!row || row->only_flag)
		return app_usage(err, "%s is no option that may stand in a file", source);
	if (!(row->verbs & options->verb))
		return 0; /* one file may serve all verbs */
	if (!cJSON_IsArray(item) ||
	    (row->kind != KIND_LIST && row->kind != KIND_EVENTS && row->kind != KIND_NAMES &&
	     row->kind != KIND_PROBES && row->kind != KIND_CHOICES && row->kind != KIND_TRIGGERS))
		return set_from_json(options, row, item, source, err);
	cJSON_ArrayForEach (value, item) {
		if (!rc)
			rc = set_from_json(options, row, value, source, err);
	}
	return rc;
}

static int read_config(struct app_options *options, struct pt_err *err)
{
	cJSON *root, *item;
	char *text;
	size_t size;
	int rc = pt_proc_read(options->config, CONFIG_MAX_BYTES, &text, &size);

	if (rc)
		return app_usage(err, "cannot read '%s': %s", options->config, strerror(-rc));
	root = cJSON_ParseWithLength(text, size);
	free(text);
	if (!cJSON_IsObject(root)) {
		cJSON_Delete(root);
		return app_usage(err, "'%s' holds no JSON object", options->config);
	}
	cJSON_ArrayForEach (item, root) {
		if (!rc)
			rc = read_config_item(options, item, err);
	}
	cJSON_Delete(root);
	return rc;
}

/* ---- the command line ---- */

#define LONG_BASE 1000

static int parse_flags(int argc, char **argv, struct app_options *options, bool only_config,
		       struct pt_err *err)
{
	struct option longs[APP_ROWS_MAX + 1] = {0};
	/* a command's options are its own, so recording stops at the first word that is none */
	char shorts[2 * APP_ROWS_MAX + 3];
	int c, index;

	strcpy(shorts, options->verb & APP_TRACERS ? "+:" : ":");
	for (size_t i = 0; i < app_row_count; i++) {
		bool argument = app_row_takes_argument(&app_rows[i]);
		char letter[3] = {app_rows[i].letter, argument ? ':' : '\0'};

		longs[i] = (struct option){.name = app_rows[i].name,
					   .has_arg = argument ? required_argument : no_argument,
					   .val = LONG_BASE + (int)i};
		if (app_rows[i].letter)
			strcat(shorts, letter);
	}
	opterr = 0;
	optind = 0;
	while ((c = getopt_long(argc, argv, shorts, longs, NULL)) != -1) {
		const struct app_row *row = NULL;
		char source[64];

		if (c == '?')
			return optopt && optopt < LONG_BASE
				   ? app_usage(err, "there is no option -%c", optopt)
			       : optopt
				   ? app_usage(err, "'%s' takes no value", argv[optind - 1])
				   : app_usage(err, "there is no option '%s', or it is ambiguous",
					       argv[optind - 1]);
		if (c == ':')
			return app_usage(err, "'%s' needs a value", argv[optind - 1]);
		for (index = 0; !row && index < (int)app_row_count; index++)
			if (c == LONG_BASE + index ||
			    (c < LONG_BASE && c == app_rows[index].letter))
				row = &app_rows[index];
		if (!row)
			return app_usage(err, "there is no option -%c", c);
		if (!(row->verbs & options->verb))
			return app_usage(err, "--%s does not belong to '%s'", row->name,
					 options->verb == APP_RECORD
					     ? "recording"
					     : app_verb_find(options->verb)->name);
		/* the file comes before the environment, but its name is here */
		if (only_config != !strcmp(row->name, "config"))
			continue;
		snprintf(source, sizeof(source), "--%s", row->name);
		if (app_option_set(options, row, optarg, source, err))
			return -EINVAL;
	}
	return 0;
}

static int take_operands(int argc, char **argv, struct app_options *options, struct pt_err *err)
{
	bool dashes = optind > 1 && !strcmp(argv[optind - 1], "--");

	if (options->verb & APP_TRACERS) {
		if (optind >= argc)
			return dashes ? app_usage(err, "no command stands behind --") : 0;
		if (!dashes)
			return app_usage(err, "'%s' is no verb; a command to run stands behind --",
					 argv[optind]);
		options->command = argv + optind;
		return 0;
	}
	if (options->verb == APP_CTL || options->verb == APP_MERGE) {
		options->words = argv + optind;
		options->word_count = (size_t)(argc - optind);
		return 0;
	}
	if (app_verb_find(options->verb)->wants_file && optind < argc)
		options->file = argv[optind++];
	if (optind < argc)
		return app_usage(err, "'%s' is one argument too many", argv[optind]);
	if (app_verb_find(options->verb)->wants_file && !options->file)
		return app_usage(err, "'%s' needs a file", app_verb_find(options->verb)->name);
	return 0;
}

/* An option without a value that every form knows, such as -q: a verb may stand behind it. */
static bool is_common_flag(const char *word)
{
	for (size_t i = 0; i < app_row_count; i++) {
		const struct app_row *row = &app_rows[i];
		const char letter[3] = {'-', row->letter, '\0'};

		if (app_row_takes_argument(row) || row->verbs != APP_EVERYWHERE)
			continue;
		if ((row->letter && !strcmp(word, letter)) ||
		    (!strncmp(word, "--", 2) && !strcmp(word + 2, row->name)))
			return true;
	}
	return false;
}

/* Finds the verb and takes it out of argv. */
static void choose_verb(int *argc, char **argv, struct app_options *options)
{
	int at = 1;

	options->verb = APP_RECORD;
	while (at < *argc && is_common_flag(argv[at]))
		at++;
	for (size_t i = 1; at < *argc && i < app_verb_count; i++) {
		if (strcmp(argv[at], app_verbs[i].name))
			continue;
		options->verb = app_verbs[i].verb;
		memmove(&argv[at], &argv[at + 1], (size_t)(*argc - at) * sizeof(*argv));
		(*argc)--;
		return;
	}
}

int app_options_parse(int argc, char **argv, struct app_options *options, struct pt_err *err)
{
	int rc;

	*options = (struct app_options){.top = DEFAULT_TOP,
					.buffer_bytes = DEFAULT_BUFFER_BYTES,
					.frequency = UINT64_MAX,
					.min_block_ns = UINT64_MAX,
					.last_ns = DEFAULT_LAST_NS,
					.cool_down_ns = DEFAULT_COOL_DOWN_NS,
					.window_bytes = DEFAULT_WINDOW_BYTES,
					.max_captures = DEFAULT_CAPTURES,
					.max_disk_bytes = DEFAULT_DISK_BYTES};
	choose_verb(&argc, argv, options);
	rc = parse_flags(argc, argv, options, true, err);
	if (!rc && options->config && options->verb != APP_AGENT)
		rc = read_config(options, err);
	if (!rc)
		rc = read_environment(options, err);
	if (!rc)
		rc = parse_flags(argc, argv, options, false, err);
	if (rc || options->help || options->version)
		return rc;
	rc = take_operands(argc, argv, options, err);
	return rc ? rc : app_options_check(options, err);
}

static void list_release(struct app_list *list)
{
	for (size_t i = 0; i < list->count; i++)
		free(list->items[i]);
	free(list->items);
}

void app_options_release(struct app_options *options)
{
	free(options->pids);
	free(options->output);
	free(options->config);
	free(options->cache_dir);
	list_release(&options->audit);
	list_release(&options->args);
	list_release(&options->retval);
	list_release(&options->local);
	list_release(&options->probes);
	list_release(&options->triggers);
	free(options->token_file);
	free(options->process_name);
	free(options->c_functions);
	free(options->memory_history);
	list_release(&options->c_globs);
	list_release(&options->c_named);
	free(options->start_on);
	free(options->stop_on);
	free(options->control);
	free(options->socket);
	list_release(&options->include_files);
	list_release(&options->exclude_files);
}
