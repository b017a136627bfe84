// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "agent/config.h"

#include <errno.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include <cjson/cJSON.h>

#include "agent/listen.h"
#include "agent/post.h"
#include "base/parse.h"
#include "flight/ring.h"
#include "record/cuda.h"
#include "sink/json_scan.h"
#include "target/maps.h"

#define CONFIG_MAX_BYTES  (1u << 20)
#define TOKEN_MAX_BYTES   4096
#define TLS_MAX_BYTES     (1u << 20)
#define TOKEN_MIN_CHARS   16
#define HEADERS_MAX_BYTES 16384
#define RULES_MAX         1000
#define HOUR_NS           (3600ull * 1000000000)
#define RULE_NAME_MAX     40 /* of one with captures: it is a folder's name */

struct reader {
	const char *path, *text;
	struct agent_config *config;
	struct agent_rule *rule; /* that is being read */
	const char *listen_at;   /* where it stands; NULL: it does not */
	struct pt_err *err;
};

struct field {
	const char *name;
	/* at: where to store it */
	int (*take)(struct reader *reader, const struct field *field,
		    const struct pt_json_span *value, void *at);
	size_t at;
	uint64_t least, most; /* of a number, a size, a time */
	const struct field *members;
};

#define CONFIG(field)  offsetof(struct agent_config, field)
#define RULE(field)    offsetof(struct agent_rule, field)
#define CAPTURE(field) offsetof(struct agent_capture, field)

static int wrong(const struct reader *reader, const char *at, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
static int wrong(const struct reader *reader, const char *at, const char *fmt, ...)
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

static int no_memory(const struct reader *reader)
{
	pt_err_set(reader->err, -ENOMEM, PT_EXIT_FAILED, "", "out of memory");
	return -ENOMEM;
}

/* ---- values ---- */

/* From malloc. */
static int take_text(struct reader *reader, const struct field *field,
		     const struct pt_json_span *value, char **text)
{
	cJSON *item = cJSON_ParseWithLength(value->text, value->len);
	const char *string = cJSON_GetStringValue(item);

	*text = NULL;
	if (!string || !*string) {
		cJSON_Delete(item);
		wrong(reader, value->text, "\"%s\" must be a string that is not empty",
		      field->name);
		return -EINVAL;
	}
	*text = strdup(string);
	cJSON_Delete(item);
	return *text ? 0 : no_memory(reader);
}

static int take_string(struct reader *reader, const struct field *field,
		       const struct pt_json_span *value, void *at)
{
	free(*(char **)at);
	return take_text(reader, field, value, at);
}

static int take_bool(struct reader *reader, const struct field *field,
		     const struct pt_json_span *value, void *at)
{
	if (!pt_json_is(value, "true") && !pt_json_is(value, "false"))
		return wrong(reader, value->text, "\"%s\" must be true or false", field->name);
	*(bool *)at = pt_json_is(value, "true");
	return 0;
}

static int take_number(struct reader *reader, const struct field *field,
		       const struct pt_json_span *value, void *at)
{
	uint64_t number;

	if (!pt_json_take_u64(value, &number) || number < field->least || number > field->most)
		return wrong(reader, value->text, "\"%s\" must be a number from %llu to %llu",
			     field->name, (unsigned long long)field->least,
			     (unsigned long long)field->most);
	*(uint64_t *)at = number;
	return 0;
}

static int take_parsed(struct reader *reader, const struct field *field,
		       const struct pt_json_span *value, uint64_t *at,
		       int (*parse)(const char *text, uint64_t *result), const char *examples)
{
	char *text;
	int rc = take_text(reader, field, value, &text);

	if (rc)
		return rc;
	if (parse(text, at) || *at < field->least || *at > field->most)
		rc = wrong(reader, value->text, "\"%s\": '%.80s' is not %s", field->name, text,
			   examples);
	free(text);
	return rc;
}

static int take_time(struct reader *reader, const struct field *field,
		     const struct pt_json_span *value, void *at)
{
	return take_parsed(reader, field, value, at, pt_parse_time_ns,
			   field->least ? "a time such as \"500ms\" or \"5m\", from 100ms to 24h"
					: "a time such as \"500ms\" or \"5m\", up to 24h");
}

static int take_size(struct reader *reader, const struct field *field,
		     const struct pt_json_span *value, void *at)
{
	char examples[80];

	snprintf(examples, sizeof(examples), "a size such as \"16M\", from %lluM to %lluG",
		 (unsigned long long)field->least >> 20, (unsigned long long)field->most >> 30);
	return take_parsed(reader, field, value, at, pt_parse_size, examples);
}

static int take_percent(struct reader *reader, const struct field *field,
			const struct pt_json_span *value, void *at)
{
	return take_parsed(reader, field, value, at, pt_parse_percent,
			   "a share such as \"1%\" or \"0.5%\", up to 100%");
}

static int take_cuda(struct reader *reader, const struct field *field,
		     const struct pt_json_span *value, void *at)
{
	static const struct {
		const char *name;
		int mode;
	} modes[] = {{"\"auto\"", PT_CUDA_AUTO},
		     {"\"runtime\"", PT_CUDA_ONLY_RUNTIME},
		     {"\"driver\"", PT_CUDA_ONLY_DRIVER},
		     {"\"none\"", PT_CUDA_NONE}};

	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
		if (pt_json_is(value, modes[i].name)) {
			*(int *)at = modes[i].mode;
			return 0;
		}
	}
	return wrong(reader, value->text,
		     "\"cuda\" must be \"auto\", \"runtime\", \"driver\" or \"none\"");
}

static int take_engine(struct reader *reader, const struct field *field,
		       const struct pt_json_span *value, void *at)
{
	if (!pt_json_is(value, "\"exact\"") && !pt_json_is(value, "\"sample\""))
		return wrong(reader, value->text, "\"engine\" must be \"exact\" or \"sample\"");
	*(bool *)at = pt_json_is(value, "\"sample\"");
	return 0;
}

static int take_listen(struct reader *reader, const struct field *field,
		       const struct pt_json_span *value, void *at)
{
	int rc = take_string(reader, field, value, at);

	reader->listen_at = value->text;
	if (!rc && !agent_listen_check(*(char **)at))
		rc = wrong(reader, value->text,
			   "\"listen\": '%.80s' is not ADDRESS:PORT, such as 127.0.0.1:9754, nor "
			   "unix:/PATH",
			   *(char **)at);
	return rc;
}

static int take_endpoint(struct reader *reader, const struct field *field,
			 const struct pt_json_span *value, void *at)
{
	int rc = take_string(reader, field, value, at);
	const char *text = *(char **)at, *what = rc ? NULL : agent_post_check_url(text);

	return what ? wrong(reader, value->text, "\"%s\": '%.80s' %s", field->name, text, what)
		    : rc;
}

static int take_user(struct reader *reader, const struct field *field,
		     const struct pt_json_span *value, void *at)
{
	const struct passwd *user;
	uint64_t number;
	char *name;
	int rc;

	reader->rule->has_user = true;
	if (pt_json_take_u64(value, &number) && number < UINT32_MAX) {
		*(uid_t *)at = (uid_t)number;
		return 0;
	}
	rc = take_text(reader, field, value, &name);
	if (rc)
		return rc;
	user = getpwnam(name);
	if (user)
		*(uid_t *)at = user->pw_uid;
	else
		rc = wrong(reader, value->text, "\"user\": there is no user '%.80s'", name);
	free(name);
	return rc;
}

static int take_action(struct reader *reader, const struct field *field,
		       const struct pt_json_span *value, void *at)
{
	if (!pt_json_is(value, "\"include\"") && !pt_json_is(value, "\"exclude\""))
		return wrong(reader, value->text, "\"action\" must be \"include\" or \"exclude\"");
	*(bool *)at = pt_json_is(value, "\"include\"");
	return 0;
}

/* ---- objects ---- */

#define FIELDS_MAX 32

static int take_members(struct reader *reader, const struct field *fields,
			const struct pt_json_span *value, void *base)
{
	const char *p = value->text, *seen[FIELDS_MAX] = {NULL};
	struct pt_json_member member;
	int rc;

	if (*p != '{')
		return wrong(reader, p, "an object {..} must stand here");
	while ((rc = pt_json_next(&p, &member)) > 0) {
		size_t i = 0;

		while (fields[i].name && !pt_json_is(&member.key, fields[i].name))
			i++;
		if (!fields[i].name)
			return wrong(reader, member.key.text, "there is no key \"%.*s\" here",
				     (int)(member.key.len < 60 ? member.key.len : 60),
				     member.key.text);
		if (seen[i])
			return wrong(reader, member.key.text, "\"%s\" comes twice", fields[i].name);
		seen[i] = member.key.text;
		rc = fields[i].take(reader, &fields[i], &member.value, (char *)base + fields[i].at);
		if (rc)
			return rc;
	}
	return rc ? wrong(reader, p, "this is no JSON") : 0;
}

static int take_object(struct reader *reader, const struct field *field,
		       const struct pt_json_span *value, void *at)
{
	return take_members(reader, field->members, value, reader->config);
}

/* ---- lists ---- */

/* Calls take_one for each item. */
static int take_list(struct reader *reader, const struct field *field,
		     const struct pt_json_span *value,
		     int (*take_one)(struct reader *reader, const struct field *field,
				     const struct pt_json_span *item, void *at),
		     void *at)
{
	struct pt_json_span item = {value->text + 1, 0};
	int rc = 0;

	if (value->text[0] != '[')
		return wrong(reader, value->text, "\"%s\" must be a list [..]", field->name);
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

static int take_trigger(struct reader *reader, const struct field *field,
			const struct pt_json_span *item, void *at)
{
	struct agent_capture *capture = at;
	struct pt_err err = {0};
	char *text;
	int rc;

	if (capture->trigger_count == PT_TRIGGERS_MAX)
		return wrong(reader, item->text, "more than %d triggers", PT_TRIGGERS_MAX);
	rc = take_text(reader, field, item, &text);
	if (rc)
		return rc;
	rc = pt_trigger_parse(text, &capture->triggers[capture->trigger_count], &err);
	free(text);
	if (rc)
		return wrong(reader, item->text, "%s", err.what);
	capture->trigger_count++;
	return 0;
}

static int take_triggers(struct reader *reader, const struct field *field,
			 const struct pt_json_span *value, void *at)
{
	return take_list(reader, field, value, take_trigger, at);
}

/* ---- where captures are sent ---- */

static int take_word(struct reader *reader, const struct field *field,
		     const struct pt_json_span *item, void *at)
{
	struct agent_upload_config *upload = &reader->config->upload;
	int rc;

	if (upload->command_count == AGENT_COMMAND_MAX)
		return wrong(reader, item->text, "more than %d words", AGENT_COMMAND_MAX);
	rc = take_text(reader, field, item, &upload->command[upload->command_count]);
	upload->command_count += !rc;
	return rc;
}

static int take_command(struct reader *reader, const struct field *field,
			const struct pt_json_span *value, void *at)
{
	int rc = take_list(reader, field, value, take_word, at);

	if (!rc && !reader->config->upload.command_count)
		rc = wrong(reader, value->text, "\"command\" is empty");
	return rc;
}

/* It goes into a name that requests are signed with. */
static int take_region(struct reader *reader, const struct field *field,
		       const struct pt_json_span *value, void *at)
{
	static const char plain[] = "abcdefghijklmnopqrstuvwxyz0123456789-";
	int rc = take_string(reader, field, value, at);
	const char *text = rc ? "" : *(char **)at;

	if (!rc && (text[strspn(text, plain)] || strlen(text) > 60))
		rc = wrong(reader, value->text, "\"region\": '%.80s' is none, such as eu-west-1",
			   text);
	return rc;
}

static const struct field s3_fields[] = {
    {"url", take_endpoint, CONFIG(upload.url), 0, 0, NULL},
    {"region", take_region, CONFIG(upload.region), 0, 0, NULL},
    {"credentials_file", take_string, CONFIG(upload.credentials_file), 0, 0, NULL},
    {"ca_file", take_string, CONFIG(upload.ca_file), 0, 0, NULL},
    {NULL, NULL, 0, 0, 0, NULL},
};

static int take_s3(struct reader *reader, const struct field *field,
		   const struct pt_json_span *value, void *at)
{
	const struct agent_upload_config *upload = &reader->config->upload;
	int rc = take_object(reader, field, value, at);

	if (!rc && (!upload->url || !upload->credentials_file))
		rc = wrong(reader, value->text,
			   "\"s3\" needs a \"url\" and a \"credentials_file\"");
	return rc;
}

static const struct field upload_fields[] = {
    {"command", take_command, 0, 0, 0, NULL},
    {"s3", take_s3, 0, 0, 0, s3_fields},
    {"timeout", take_time, CONFIG(upload.timeout_ns), 100000000, 24 * HOUR_NS, NULL},
    {"attempts", take_number, CONFIG(upload.attempts), 1, 1000, NULL},
    {NULL, NULL, 0, 0, 0, NULL},
};

static int take_upload(struct reader *reader, const struct field *field,
		       const struct pt_json_span *value, void *at)
{
	const struct agent_upload_config *upload = &reader->config->upload;
	int rc = take_object(reader, field, value, at);

	if (!rc && !upload->command_count && !upload->url)
		rc = wrong(reader, value->text, "\"upload\" needs a \"command\" or \"s3\"");
	return rc;
}

/* ---- rules ---- */

static const struct field capture_fields[] = {
    {"on", take_triggers, 0, 0, 0, NULL},
    {"last", take_time, CAPTURE(last_ns), 100000000, 24 * HOUR_NS, NULL},
    {"after", take_time, CAPTURE(after_ns), 0, 24 * HOUR_NS, NULL},
    {"cool_down", take_time, CAPTURE(cool_down_ns), 0, 24 * HOUR_NS, NULL},
    {"memory", take_size, CAPTURE(memory_bytes), PT_RING_MIN_BYTES, 1u << 30, NULL},
    {"max_captures", take_number, CAPTURE(max_captures), 1, 100000, NULL},
    {"max_disk", take_size, CAPTURE(max_disk_bytes), 1u << 20, 1ull << 40, NULL},
    {"command_line", take_bool, CAPTURE(command_line), 0, 0, NULL},
    {NULL, NULL, 0, 0, 0, NULL},
};

static int take_capture(struct reader *reader, const struct field *field,
			const struct pt_json_span *value, void *at)
{
	struct agent_capture *capture = calloc(1, sizeof(*capture));

	if (!capture)
		return no_memory(reader);
	*(struct agent_capture **)at = capture;
	capture->last_ns = 30 * 1000000000ull;
	capture->cool_down_ns = 60 * 1000000000ull;
	capture->memory_bytes = 16u << 20;
	capture->max_captures = 20;
	capture->max_disk_bytes = 1u << 30;
	return take_members(reader, capture_fields, value, capture);
}

static const struct field rule_fields[] = {
    {"action", take_action, RULE(include), 0, 0, NULL},
    {"name", take_string, RULE(name), 0, 0, NULL},
    {"command", take_string, RULE(command), 0, 0, NULL},
    {"exe", take_string, RULE(exe), 0, 0, NULL},
    {"cgroup", take_string, RULE(cgroup), 0, 0, NULL},
    {"user", take_user, RULE(user), 0, 0, NULL},
    {"capture", take_capture, RULE(capture), 0, 0, NULL},
    {"max_overhead", take_percent, RULE(max_overhead_ppm), 1, 1000000, NULL},
    {NULL, NULL, 0, 0, 0, NULL},
};

/* The rule's captures lie in a folder of its name. */
static int check_capture(const struct reader *reader, const struct pt_json_span *value)
{
	static const char plain[] =
	    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.";
	const struct agent_config *config = reader->config;
	const struct agent_rule *rule = reader->rule;
	const char *name = rule->name;

	if (!rule->capture)
		return 0;
	if (!rule->include)
		return wrong(reader, value->text, "\"capture\" does not go with \"exclude\"");
	/* it would miss what it waits for, and a rest looks like a hang */
	if (rule->max_overhead_ppm)
		return wrong(reader, value->text,
			     "\"capture\" and \"max_overhead\" exclude each other");
	if (!name || name[0] == '.' || strlen(name) > RULE_NAME_MAX || name[strspn(name, plain)])
		return wrong(
		    reader, value->text,
		    "\"capture\" needs a \"name\" of up to %d letters, digits, '_', '-' and "
		    "'.'",
		    RULE_NAME_MAX);
	for (size_t i = 0; i + 1 < config->rule_count; i++)
		if (config->rules[i].capture && !strcmp(config->rules[i].name, name))
			return wrong(reader, value->text,
				     "another rule with \"capture\" is called \"%s\"", name);
	return 0;
}

static int take_rule(struct reader *reader, const struct field *field,
		     const struct pt_json_span *value, void *at)
{
	int rc;
	struct agent_config *config = reader->config;
	struct agent_rule *bigger;

	if (config->rule_count == RULES_MAX)
		return wrong(reader, value->text, "more than %d rules", RULES_MAX);
	bigger = reallocarray(config->rules, config->rule_count + 1, sizeof(*bigger));
	if (!bigger)
		return no_memory(reader);
	config->rules = bigger;
	reader->rule = &bigger[config->rule_count++];
	*reader->rule = (struct agent_rule){.include = true};
	rc = take_members(reader, rule_fields, value, reader->rule);
	return rc ? rc : check_capture(reader, value);
}

static int take_rules(struct reader *reader, const struct field *field,
		      const struct pt_json_span *value, void *at)
{
	return take_list(reader, field, value, take_rule, at);
}

static const struct field record_fields[] = {
    {"gc", take_bool, CONFIG(gc), 0, 0, NULL},
    {"gil", take_bool, CONFIG(gil), 0, 0, NULL},
    {"exceptions", take_bool, CONFIG(exceptions), 0, 0, NULL},
    {"cuda", take_cuda, CONFIG(cuda), 0, 0, NULL},
    {"buffer", take_size, CONFIG(buffer_bytes), 1u << 20, 1u << 30, NULL},
    {"max_overhead", take_percent, CONFIG(max_overhead_ppm), 1, 1000000, NULL},
    {"engine", take_engine, CONFIG(sample), 0, 0, NULL},
    {"frequency", take_number, CONFIG(frequency), 1, 1000, NULL},
    {NULL, NULL, 0, 0, 0, NULL},
};

static const struct field metrics_fields[] = {
    {"processes", take_number, CONFIG(processes), 1, 1000, NULL},
    {"functions", take_number, CONFIG(functions), 1, 1000, NULL},
    {"keep_ended", take_time, CONFIG(keep_ended_ns), 100000000, 24 * HOUR_NS, NULL},
    {NULL, NULL, 0, 0, 0, NULL},
};

static const struct field spool_fields[] = {
    {"dir", take_string, CONFIG(otlp.spool_dir), 0, 0, NULL},
    {"max_size", take_size, CONFIG(otlp.spool_bytes), 1u << 20, 1u << 30, NULL},
    {NULL, NULL, 0, 0, 0, NULL},
};

static const struct field otlp_fields[] = {
    {"endpoint", take_endpoint, CONFIG(otlp.endpoint), 0, 0, NULL},
    {"interval", take_time, CONFIG(otlp.interval_ns), 100000000, 24 * HOUR_NS, NULL},
    {"timeout", take_time, CONFIG(otlp.timeout_ns), 100000000, 24 * HOUR_NS, NULL},
    {"headers_file", take_string, CONFIG(otlp.headers_file), 0, 0, NULL},
    {"ca_file", take_string, CONFIG(otlp.ca_file), 0, 0, NULL},
    {"spool", take_object, 0, 0, 0, spool_fields},
    {NULL, NULL, 0, 0, 0, NULL},
};

static int take_otlp(struct reader *reader, const struct field *field,
		     const struct pt_json_span *value, void *at)
{
	int rc = take_object(reader, field, value, at);

	if (!rc && !reader->config->otlp.endpoint)
		rc = wrong(reader, value->text, "\"otlp\" needs an \"endpoint\"");
	return rc;
}

static const struct field tls_fields[] = {
    {"cert_file", take_string, CONFIG(tls.cert_file), 0, 0, NULL},
    {"key_file", take_string, CONFIG(tls.key_file), 0, 0, NULL},
    {NULL, NULL, 0, 0, 0, NULL},
};

static int take_tls(struct reader *reader, const struct field *field,
		    const struct pt_json_span *value, void *at)
{
	int rc = take_object(reader, field, value, at);

	if (!rc && (!reader->config->tls.cert_file || !reader->config->tls.key_file))
		rc = wrong(reader, value->text, "\"tls\" needs a \"cert_file\" and a \"key_file\"");
	return rc;
}

static const struct field top_fields[] = {
    {"listen", take_listen, CONFIG(listen), 0, 0, NULL},
    {"tls", take_tls, 0, 0, 0, tls_fields},
    {"allow_plain", take_bool, CONFIG(allow_plain), 0, 0, NULL},
    {"token_file", take_string, CONFIG(token_file), 0, 0, NULL},
    {"scan", take_time, CONFIG(scan_ns), 100000000, 24 * HOUR_NS, NULL},
    {"record", take_object, 0, 0, 0, record_fields},
    {"metrics", take_object, 0, 0, 0, metrics_fields},
    {"otlp", take_otlp, 0, 0, 0, otlp_fields},
    {"captures", take_string, CONFIG(captures), 0, 0, NULL},
    {"upload", take_upload, 0, 0, 0, upload_fields},
    {"rules", take_rules, 0, 0, 0, NULL},
    {NULL, NULL, 0, 0, 0, NULL},
};

/* ---- the whole ---- */

/* What only the exact engine has is not left out in silence. */
static int check_engine(const struct reader *reader)
{
	const struct agent_config *config = reader->config;
	const char *key = config->exceptions         ? "exceptions"
			  : config->max_overhead_ppm ? "max_overhead"
			  : config->cuda != PT_CUDA_AUTO && config->cuda != PT_CUDA_NONE ? "cuda"
											 : NULL;

	for (size_t i = 0; i < config->rule_count && !key; i++)
		key = config->rules[i].capture            ? "capture"
		      : config->rules[i].max_overhead_ppm ? "max_overhead"
							  : NULL;
	if (!config->sample || !key)
		return 0;
	return pt_err_set(reader->err, -EINVAL, PT_EXIT_USAGE, "docs/AGENT.md has all keys",
			  "%s: \"%s\" needs \"engine\": \"exact\" in \"record\"", reader->path,
			  key);
}

/* What a trigger needs must not have been switched off. */
static int check_needs(const struct reader *reader)
{
	const struct agent_config *config = reader->config;

	for (size_t i = 0; i < config->rule_count; i++) {
		const struct agent_capture *capture = config->rules[i].capture;

		if (capture && config->max_overhead_ppm)
			return pt_err_set(
			    reader->err, -EINVAL, PT_EXIT_USAGE, "docs/AGENT.md has all keys",
			    "%s: rule \"%s\": \"capture\" and \"max_overhead\" exclude "
			    "each other",
			    reader->path, config->rules[i].name);
		for (size_t k = 0; capture && k < capture->trigger_count; k++) {
			const struct pt_trigger *trigger = &capture->triggers[k];
			unsigned int needs = trigger->kind->needs;
			const char *key = needs & PT_NEEDS_GC && !config->gc     ? "gc"
					  : needs & PT_NEEDS_GIL && !config->gil ? "gil"
					  : needs & PT_NEEDS_CUDA && config->cuda == PT_CUDA_NONE
					      ? "cuda"
					      : NULL;

			if (key)
				return pt_err_set(reader->err, -EINVAL, PT_EXIT_USAGE,
						  "docs/AGENT.md has all keys",
						  "%s: rule \"%s\": '%s' needs what \"%s\" of "
						  "\"record\" switches off",
						  reader->path, config->rules[i].name,
						  trigger->text, key);
		}
	}
	return 0;
}

/* Names of functions are nobody else's business. */
static int check_listen(const struct reader *reader)
{
	const struct agent_config *config = reader->config;

	if (!reader->listen_at || config->tls.cert_file || config->allow_plain ||
	    agent_listen_is_local(config->listen))
		return 0;
	return wrong(reader, reader->listen_at,
		     "\"listen\": '%.80s' is open to other hosts: that needs \"tls\", or "
		     "\"allow_plain\": true if it is meant",
		     config->listen);
}

static int parse(struct reader *reader)
{
	struct pt_json_span whole = {reader->text, strlen(reader->text)};
	const char *end = NULL;
	cJSON *root = cJSON_ParseWithOpts(reader->text, &end, true);
	int rc;

	/* what is left to the other parser is JSON, then */
	cJSON_Delete(root);
	if (!root)
		return wrong(reader, end ? end : reader->text, "this is no JSON");
	whole.text += strspn(whole.text, " \t\r\n");
	rc = take_members(reader, top_fields, &whole, reader->config);
	if (!rc && !reader->config->rule_count)
		rc = wrong(reader, reader->text,
			   "there are no \"rules\"; {\"action\": \"include\"} takes every process");
	if (!rc)
		rc = check_listen(reader);
	if (!rc)
		rc = check_engine(reader);
	return rc ? rc : check_needs(reader);
}

int agent_config_parse(const char *path, const char *text, struct agent_config **config,
		       struct pt_err *err)
{
	struct reader reader = {.path = path, .text = text, .err = err};
	int rc;

	*config = reader.config = calloc(1, sizeof(**config));
	if (!reader.config)
		return no_memory(&reader);
	*reader.config = (struct agent_config){
	    .listen = strdup("127.0.0.1:9754"),
	    .captures = strdup("/var/lib/pytrace-bpf/captures"),
	    .upload = {.region = strdup("us-east-1"),
		       .timeout_ns = 300 * 1000000000ull,
		       .attempts = 10},
	    .scan_ns = 1000000000,
	    .keep_ended_ns = 300000000000ull,
	    .buffer_bytes = 16u << 20,
	    .processes = 50,
	    .functions = 10,
	    .gc = true,
	    .gil = true,
	    .cuda = PT_CUDA_AUTO,
	    .sample = true,
	    .frequency = 99,
	    .otlp = {.interval_ns = 60000000000ull,
		     .timeout_ns = 10000000000ull,
		     .spool_bytes = 64u << 20},
	};
	rc = reader.config->listen && reader.config->captures && reader.config->upload.region
		 ? parse(&reader)
		 : no_memory(&reader);
	if (rc) {
		agent_config_free(reader.config);
		*config = NULL;
	}
	return rc;
}

/* Reads a file with a secret (what) in it. Others must not be able to read it: it would be none. */
static int read_secret(const char *path, const char *what, size_t max_bytes, char **text,
		       struct pt_err *err)
{
	struct stat st;
	size_t size;
	int rc = pt_proc_read(path, max_bytes, text, &size);

	if (rc)
		return pt_err_set(err, rc, PT_EXIT_USAGE, "", "cannot read %s in '%s': %s", what,
				  path, strerror(-rc));
	if (strlen(*text) != size)
		return pt_err_set(err, -EINVAL, PT_EXIT_USAGE, "", "'%s' has a NUL in it", path);
	if (stat(path, &st) || st.st_mode & 0007)
		return pt_err_set(err, -EINVAL, PT_EXIT_USAGE, "chmod o= it",
				  "everybody may read %s in '%s'", what, path);
	return 0;
}

static int read_token(struct agent_config *config, struct pt_err *err)
{
	const char *path = config->token_file;
	int rc = path ? read_secret(path, "the token", TOKEN_MAX_BYTES, &config->token, err) : 0;

	if (rc || !path)
		return rc;
	config->token[strcspn(config->token, "\r\n")] = '\0';
	if (strlen(config->token) < TOKEN_MIN_CHARS)
		return pt_err_set(err, -EINVAL, PT_EXIT_USAGE, "openssl rand -hex 32 makes one",
				  "the token in '%s' has fewer than %d characters", path,
				  TOKEN_MIN_CHARS);
	return 0;
}

/* Those that say what the body is are ours. */
static bool is_header(const char *line)
{
	static const char *const ours[] = {
	    "content-type:", "content-encoding:", "content-length:", "transfer-encoding:"};
	size_t name = strspn(line, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				   "0123456789!#$%&'*+-.^_`|~"); /* RFC 9110, token */

	for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++)
		if (!strncasecmp(line, ours[i], strlen(ours[i])))
			return false;
	if (!name || line[name] != ':' || !line[name + 1 + strspn(line + name + 1, " \t")])
		return false;
	for (const char *p = line + name; *p; p++)
		if ((unsigned char)*p < ' ' && *p != '\t')
			return false;
	return true;
}

/* One line: KEY ID:SECRET KEY */
static int read_credentials(struct agent_upload_config *upload, struct pt_err *err)
{
	const char *path = upload->credentials_file, *colon;
	char *text = NULL;
	int rc = path ? read_secret(path, "the credentials", TOKEN_MAX_BYTES, &text, err) : 0;

	if (!rc && path) {
		text[strcspn(text, "\r\n")] = '\0';
		colon = strchr(text, ':');
		if (!colon || colon == text || !colon[1] || strpbrk(text, " \t"))
			rc = pt_err_set(err, -EINVAL, PT_EXIT_USAGE,
					"its only line is KEY_ID:SECRET_KEY",
					"there are no credentials in '%s'", path);
	}
	upload->credentials = text;
	return rc;
}

static int read_headers(struct agent_otlp_config *otlp, struct pt_err *err)
{
	char *text = NULL, *rest, *line;
	unsigned int number = 0;
	int rc = otlp->headers_file
		     ? read_secret(otlp->headers_file, "the headers", HEADERS_MAX_BYTES, &text, err)
		     : 0;

	rest = text;
	while (!rc && (line = strsep(&rest, "\n"))) {
		size_t len = strlen(line);

		number++;
		if (len && line[len - 1] == '\r')
			line[--len] = '\0';
		if (!len)
			continue;
		if (!is_header(line) || otlp->header_count == AGENT_HEADERS_MAX)
			rc = pt_err_set(err, -EINVAL, PT_EXIT_USAGE,
					"a line is \"Name: value\", up to 32 of them; those of the "
					"content are not for you",
					"%s:%u: this is no header", otlp->headers_file, number);
		else if (!(otlp->headers[otlp->header_count] = strdup(line)))
			rc = pt_err_set(err, -ENOMEM, PT_EXIT_FAILED, "", "out of memory");
		else
			otlp->header_count++;
	}
	free(text);
	return rc;
}

static int read_tls(struct agent_tls_config *tls, struct pt_err *err)
{
	size_t size;
	int rc = tls->cert_file ? pt_proc_read(tls->cert_file, TLS_MAX_BYTES, &tls->cert, &size)
				: 0;

	if (rc)
		return pt_err_set(err, rc, PT_EXIT_USAGE, "",
				  "cannot read the certificate in '%s': %s", tls->cert_file,
				  strerror(-rc));
	return tls->key_file ? read_secret(tls->key_file, "the key", TLS_MAX_BYTES, &tls->key, err)
			     : 0;
}

int agent_config_load(const char *path, struct agent_config **config, struct pt_err *err)
{
	char *text;
	size_t size;
	int rc = pt_proc_read(path, CONFIG_MAX_BYTES, &text, &size);

	*config = NULL;
	if (rc)
		return pt_err_set(err, rc, PT_EXIT_USAGE, "", "cannot read '%s': %s", path,
				  strerror(-rc));
	if (strlen(text) != size)
		rc = pt_err_set(err, -EINVAL, PT_EXIT_USAGE, "", "'%s' has a NUL in it", path);
	if (!rc)
		rc = agent_config_parse(path, text, config, err);
	if (!rc)
		rc = read_token(*config, err);
	if (!rc)
		rc = read_tls(&(*config)->tls, err);
	if (!rc)
		rc = read_headers(&(*config)->otlp, err);
	if (!rc)
		rc = read_credentials(&(*config)->upload, err);
	free(text);
	if (rc) {
		agent_config_free(*config);
		*config = NULL;
	}
	return rc;
}

static void free_capture(struct agent_capture *capture)
{
	for (size_t i = 0; capture && i < capture->trigger_count; i++)
		pt_trigger_release(&capture->triggers[i]);
	free(capture);
}

static void free_upload(struct agent_upload_config *upload)
{
	for (size_t i = 0; i < upload->command_count; i++)
		free(upload->command[i]);
	free(upload->url);
	free(upload->region);
	free(upload->ca_file);
	free(upload->credentials_file);
	free(upload->credentials);
}

void agent_config_free(struct agent_config *config)
{
	if (!config)
		return;
	for (size_t i = 0; i < config->rule_count; i++) {
		free(config->rules[i].name);
		free(config->rules[i].command);
		free(config->rules[i].exe);
		free(config->rules[i].cgroup);
		free_capture(config->rules[i].capture);
	}
	free(config->rules);
	for (size_t i = 0; i < config->otlp.header_count; i++)
		free(config->otlp.headers[i]);
	free(config->otlp.headers_file);
	free(config->otlp.endpoint);
	free(config->otlp.ca_file);
	free(config->otlp.spool_dir);
	free(config->listen);
	free(config->captures);
	free_upload(&config->upload);
	free(config->tls.cert_file);
	free(config->tls.key_file);
	free(config->tls.cert);
	free(config->tls.key);
	free(config->token_file);
	free(config->token);
	free(config);
}
