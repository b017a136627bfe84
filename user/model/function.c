// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * Code ids lead to functions in two steps: several ids may mean the same function (BPF's and user
 * space's, or one that was evicted and sent again), and a definition may come after the first use.
 * So frames hold the id's struct model_code, and the function is looked up when a slice ends.
 */
#include <errno.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/glob.h"
#include "base/utf8.h"
#include "model/model_priv.h"

/* A byte that was sent gives at most three bytes of UTF-8 (a NUL: U+FFFD); and an ellipsis. */
#define TEXT_MAX (3 * PT_STR_MAX_BYTES + 32)

static struct model_code *code_new(struct pt_model *model, uint32_t id)
{
	struct model_code *code = calloc(1, sizeof(*code));

	if (!code) {
		model_fail(model, -ENOMEM);
		return NULL;
	}
	code->id = id;
	code->next = model->code_list;
	model->code_list = code;
	return code;
}

struct model_code *model_code_get(struct pt_model *model, uint32_t id)
{
	struct model_code ***page, *code;

	if (id > PT_WORD_ARG_MASK) {
		code = pt_map_get(&model->codes, id, 0);
		if (code)
			return code;
		code = code_new(model, id);
		if (code && pt_map_put(&model->codes, id, 0, code))
			model_fail(model, -ENOMEM);
		return code;
	}
	page = &model->code_pages[id >> CODE_PAGE_BITS];
	if (!*page) {
		*page = calloc(1u << CODE_PAGE_BITS, sizeof(**page));
		if (!*page) {
			model_fail(model, -ENOMEM);
			return NULL;
		}
	}
	id &= (1u << CODE_PAGE_BITS) - 1;
	if (!(*page)[id])
		(*page)[id] = code_new(model,
				       (uint32_t)(page - model->code_pages) << CODE_PAGE_BITS | id);
	return (*page)[id];
}

bool model_code_same(const struct model_code *a, const struct model_code *b)
{
	return a == b || (a->function && a->function == b->function);
}

static bool matches_any(const char *const *globs, const char *file)
{
	for (; globs && *globs; globs++) {
		if (fnmatch(*globs, file, 0) == 0)
			return true;
	}
	return false;
}

static struct model_function *function_new(struct pt_model *model, uint32_t code_id, uint32_t line,
					   const char *name, const char *qualname, const char *file)
{
	size_t name_len = strlen(name) + 1, qualname_len = strlen(qualname) + 1;
	size_t file_len = strlen(file) + 1;
	struct model_function *function = calloc(1, sizeof(*function) + name_len + qualname_len +
							file_len);
	const struct pt_model_options *options = &model->options;
	char *text = (char *)(function + 1);

	if (!function) {
		model_fail(model, -ENOMEM);
		return NULL;
	}
	function->pub.id = (uint32_t)model->totals.functions++;
	function->pub.code_id = code_id;
	function->pub.line = line;
	function->pub.name = memcpy(text, name, name_len);
	function->pub.qualname = memcpy(text + name_len, qualname, qualname_len);
	function->pub.file = memcpy(text + name_len + qualname_len, file, file_len);
	/* "" are C functions, which have filters of their own */
	if (file[0])
		function->excluded = (options->include_files &&
				      !matches_any(options->include_files, file)) ||
				     matches_any(options->exclude_files, file);
	function->next = model->function_list;
	model->function_list = function;
	return function;
}

static uint64_t function_hash(uint32_t line, const char *name, const char *qualname,
			      const char *file)
{
	uint64_t hash = pt_hash_bytes(name, strlen(name), line);

	hash = pt_hash_bytes(qualname, strlen(qualname), hash);
	return pt_hash_bytes(file, strlen(file), hash);
}

static struct model_function *function_intern(struct pt_model *model, uint32_t code_id,
					      uint32_t line, const char *name, const char *qualname,
					      const char *file)
{
	uint64_t hash = function_hash(line, name, qualname, file);
	struct model_function *head = pt_map_get(&model->functions, hash, 0), *function;

	for (function = head; function; function = function->next_same_hash) {
		if (function->pub.line == line && !strcmp(function->pub.name, name) &&
		    !strcmp(function->pub.qualname, qualname) && !strcmp(function->pub.file, file))
			return function;
	}
	function = function_new(model, code_id, line, name, qualname, file);
	if (!function)
		return NULL;
	function->next_same_hash = head;
	if (pt_map_put(&model->functions, hash, 0, function))
		model_fail(model, -ENOMEM);
	return function;
}

static void code_text(const struct pt_rec_code *record, int which, char out[TEXT_MAX])
{
	pt_str_utf8(record, which, out, TEXT_MAX);
	if (record->str[which].truncated == 1)
		strcat(out, "\u2026");
	else if (record->str[which].truncated == 2 && !out[0])
		strcpy(out, "<unreadable>");
}

void model_code_define(struct pt_model *model, const struct pt_rec_code *record)
{
	struct model_code *code = model_code_get(model, record->id);
	char name[TEXT_MAX], qualname[TEXT_MAX], file[TEXT_MAX];

	if (!code)
		return;
	code->co_flags = record->co_flags;
	code_text(record, PT_STR_NAME, name);
	code_text(record, PT_STR_QUALNAME, qualname);
	code_text(record, PT_STR_FILE, file);
	code->function = function_intern(model, record->id, record->firstlineno, name,
					 qualname[0] ? qualname : name, file);
}

/* name: perhaps several, with '|' between. */
static bool c_is_wanted(const struct pt_model *model, bool probed, const char *owner,
			const char *name)
{
	char one[3 * PT_C_NAME_BYTES];

	if (model->options.no_c_functions)
		return false;
	if (!model->options.c_globs || (probed && model->options.c_chosen))
		return true;
	for (size_t len = 0; name; name = name[len] ? name + len + 1 : NULL) {
		len = strcspn(name, "|");
		snprintf(one, sizeof(one), "%.*s", (int)len, name);
		if (pt_glob_qualified(model->options.c_globs, owner, one))
			return true;
	}
	return false;
}

void model_cfunc_define(struct pt_model *model, const struct pt_rec_cfunc *record)
{
	struct model_code *code = model_code_get(model, record->id);
	char name[3 * PT_C_NAME_BYTES], owner[3 * PT_C_NAME_BYTES];
	char text[6 * PT_C_NAME_BYTES + 64], full[6 * PT_C_NAME_BYTES + 2];

	if (!code)
		return;
	code->c_probed = record->kind & PT_C_PROBED;
	pt_utf8_clean(name, sizeof(name), record->name, strlen(record->name));
	pt_utf8_clean(owner, sizeof(owner), record->owner, strlen(record->owner));
	if (PT_C_KIND(record->kind) == PT_C_METHOD)
		snprintf(text, sizeof(text), "<built-in method %s of %s object>", name, owner);
	else
		snprintf(text, sizeof(text), "<built-in function %s>", name);
	/* modules may have functions of one name, of which only some are wanted */
	snprintf(full, sizeof(full), "%s%s%s", owner, owner[0] ? "." : "", name);
	code->function = function_intern(model, record->id, 0, full, text, "");
	if (code->function)
		code->function->excluded = !c_is_wanted(model, code->c_probed, owner, name);
}

struct model_function *model_function_named(struct pt_model *model, const char *name)
{
	return function_intern(model, 0, 0, name, name, "");
}

struct model_function *model_function_native(struct pt_model *model, const char *name,
					     const char *file)
{
	const char *slash = strrchr(file, '/'), *base = slash ? slash + 1 : file;
	struct model_function *function;
	struct pt_buf text = {0};

	/* without a symbol it is a place in the file, which is named */
	pt_buf_printf(&text, strncmp(name, base, strlen(base)) ? "%s (%s)" : "%s", name, base);
	function = text.failed ? NULL : function_intern(model, 0, 0, name, text.data, "");
	if (text.failed)
		model_fail(model, -ENOMEM);
	pt_buf_release(&text);
	return function;
}

struct model_function *model_code_function(struct pt_model *model, struct model_code *code)
{
	char name[48];

	if (!code->function) {
		snprintf(name, sizeof(name), "<unknown code 0x%x>", code->id);
		code->function = function_new(model, code->id, 0, name, name, "<unknown>");
		model->totals.unknown_codes++;
	}
	return code->function;
}

void model_function_announce(struct pt_model *model, struct model_function *function)
{
	struct pt_op op = {.kind = PT_OP_FUNCTION, .function = function->pub};

	if (function->announced)
		return;
	function->announced = true;
	model_emit(model, &op);
}

void model_functions_release(struct pt_model *model)
{
	while (model->code_list) {
		struct model_code *next = model->code_list->next;

		model_lines_free(model->code_list->lines);
		free(model->code_list);
		model->code_list = next;
	}
	while (model->function_list) {
		struct model_function *next = model->function_list->next;

		free(model->function_list);
		model->function_list = next;
	}
	for (size_t i = 0; i < CODE_PAGES; i++)
		free(model->code_pages[i]);
	pt_map_release(&model->codes);
	pt_map_release(&model->functions);
}
