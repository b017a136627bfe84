// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * What a value may be: each take_ function stores one of its kind, or says what is wrong with it.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "agent/config_parts.h"
#include "agent/post.h"
#include "base/parse.h"

#define FIELDS_MAX 32

int config_wrong(const struct config_reader *reader, const char *at, const char *fmt, ...)
{
	unsigned int line = 1;
	char what[256];
	va_list args;

	for (const char *p = reader->text; p < at; p++)
		line += *p == '\n';
	va_start(args, fmt);
	vsnprintf(what, sizeof(what), fmt, args);
	va_end(args);
	pt_err_set(reader->err, -EINVAL, PT_EXIT_USAGE, "docs/AGENT.md has all keys", "%s:%u: %s",
		   reader->path, line, what);
	return -EINVAL;
}

int config_no_memory(const struct config_reader *reader)
{
	pt_err_set(reader->err, -ENOMEM, PT_EXIT_FAILED, "", "out of memory");
	return -ENOMEM;
}

int config_remember(struct config_reader *reader, const char *key, const char *text)
{
	struct config_place *bigger = reallocarray(reader->places, reader->place_count + 1,
						   sizeof(*bigger));

	if (!bigger)
		return config_no_memory(reader);
	reader->places = bigger;
	bigger[reader->place_count++] = (struct config_place){
	    .key = key, .text = text, .rule = reader->rule ? reader->config->rule_count : 0};
	return 0;
}

const char *config_where(const struct config_reader *reader, size_t rule, const char *key)
{
	for (size_t i = 0; i < reader->place_count; i++)
		if (reader->places[i].rule == rule && !strcmp(reader->places[i].key, key))
			return reader->places[i].text;
	return NULL;
}

int config_take_text(struct config_reader *reader, const struct config_field *field,
		     const struct pt_json_span *value, char **text)
{
	cJSON *item = cJSON_ParseWithLength(value->text, value->len);
	const char *string = cJSON_GetStringValue(item);

	*text = NULL;
	if (!string || !*string) {
		cJSON_Delete(item);
		config_wrong(reader, value->text, "\"%s\" must be a string that is not empty",
			     field->name);
		return -EINVAL;
	}
	*text = strdup(string);
	cJSON_Delete(item);
	return *text ? 0 : config_no_memory(reader);
}

int config_take_string(struct config_reader *reader, const struct config_field *field,
		       const struct pt_json_span *value, void *at)
{
	free(*(char **)at);
	return config_take_text(reader, field, value, at);
}

int config_take_bool(struct config_reader *reader, const struct config_field *field,
		     const struct pt_json_span *value, void *at)
{
	if (!pt_json_is(value, "true") && !pt_json_is(value, "false"))
		return config_wrong(reader, value->text, "\"%s\" must be true or false",
				    field->name);
	*(bool *)at = pt_json_is(value, "true");
	return 0;
}

int config_take_number(struct config_reader *reader, const struct config_field *field,
		       const struct pt_json_span *value, void *at)
{
	uint64_t number;

	if (!pt_json_take_u64(value, &number) || number < field->least || number > field->most)
		return config_wrong(
		    reader, value->text, "\"%s\" must be a number from %llu to %llu", field->name,
		    (unsigned long long)field->least, (unsigned long long)field->most);
	*(uint64_t *)at = number;
	return 0;
}

static int take_parsed(struct config_reader *reader, const struct config_field *field,
		       const struct pt_json_span *value, uint64_t *at,
		       int (*parse)(const char *text, uint64_t *result), const char *examples)
{
	char *text;
	int rc = config_take_text(reader, field, value, &text);

	if (rc)
		return rc;
	if (parse(text, at) || *at < field->least || *at > field->most)
		rc = config_wrong(reader, value->text, "\"%s\": '%.80s' is not %s", field->name,
				  text, examples);
	free(text);
	return rc;
}

int config_take_time(struct config_reader *reader, const struct config_field *field,
		     const struct pt_json_span *value, void *at)
{
	return take_parsed(reader, field, value, at, pt_parse_time_ns,
			   field->least == 1000000
			       ? "a time such as \"500ms\" or \"2s\", from 1ms to 24h"
			   : field->least ? "a time such as \"500ms\" or \"5m\", from 100ms to 24h"
					  : "a time such as \"500ms\" or \"5m\", up to 24h");
}

int config_take_size(struct config_reader *reader, const struct config_field *field,
		     const struct pt_json_span *value, void *at)
{
	char examples[80];

	snprintf(examples, sizeof(examples), "a size such as \"16M\", from %lluM to %lluG",
		 (unsigned long long)field->least >> 20, (unsigned long long)field->most >> 30);
	return take_parsed(reader, field, value, at, pt_parse_size, examples);
}

int config_take_percent(struct config_reader *reader, const struct config_field *field,
			const struct pt_json_span *value, void *at)
{
	return take_parsed(reader, field, value, at, pt_parse_percent,
			   "a share such as \"1%\" or \"0.5%\", up to 100%");
}

int config_take_endpoint(struct config_reader *reader, const struct config_field *field,
			 const struct pt_json_span *value, void *at)
{
	int rc = config_take_string(reader, field, value, at);
	const char *text = *(char **)at, *what = rc ? NULL : agent_post_check_url(text);

	return what ? config_wrong(reader, value->text, "\"%s\": '%.80s' %s", field->name, text,
				   what)
		    : rc;
}

int config_take_members(struct config_reader *reader, const struct config_field *fields,
			const struct pt_json_span *value, void *base)
{
	const char *p = value->text, *seen[FIELDS_MAX] = {NULL};
	struct pt_json_member member;
	int rc;

	if (*p != '{')
		return config_wrong(reader, p, "an object {..} must stand here");
	while ((rc = pt_json_next(&p, &member)) > 0) {
		size_t i = 0;

		while (fields[i].name && !pt_json_is(&member.key, fields[i].name))
			i++;
		if (!fields[i].name)
			return config_wrong(
			    reader, member.key.text, "there is no key \"%.*s\" here",
			    (int)(member.key.len < 60 ? member.key.len : 60), member.key.text);
		if (seen[i])
			return config_wrong(reader, member.key.text, "\"%s\" comes twice",
					    fields[i].name);
		seen[i] = member.key.text;
		rc = config_remember(reader, fields[i].name, member.key.text);
		if (!rc)
			rc = fields[i].take(reader, &fields[i], &member.value,
					    (char *)base + fields[i].at);
		if (rc)
			return rc;
	}
	return rc ? config_wrong(reader, p, "this is no JSON") : 0;
}

int config_take_object(struct config_reader *reader, const struct config_field *field,
		       const struct pt_json_span *value, void *at)
{
	return config_take_members(reader, field->members, value, reader->config);
}

int config_take_list(struct config_reader *reader, const struct config_field *field,
		     const struct pt_json_span *value,
		     int (*take_one)(struct config_reader *reader, const struct config_field *field,
				     const struct pt_json_span *item, void *at),
		     void *at)
{
	struct pt_json_span item = {value->text + 1, 0};
	int rc = 0;

	if (value->text[0] != '[')
		return config_wrong(reader, value->text, "\"%s\" must be a list [..]", field->name);
	while (!rc) {
		item.text += strspn(item.text, " \t\r\n,");
		if (*item.text == ']')
			return 0;
		item.len = (size_t)(pt_json_skip(item.text, PT_JSON_NESTING_MAX) - item.text);
		rc = take_one(reader, field, &item, at);
		item.text += item.len;
	}
	return rc;
}
