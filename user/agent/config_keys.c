// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * The keys of the configuration (docs/AGENT.md), and the values that only one of them has.
 */
#include <pwd.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "agent/config_parts.h"
#include "base/listen.h"
#include "flight/ring.h"
#include "record/cuda.h"

#define RULES_MAX     1000
#define HOUR_NS       (3600ull * 1000000000)
#define RULE_NAME_MAX 40 /* of one with captures: it is a folder's name */

#define CONFIG(field)  offsetof(struct agent_config, field)
#define RULE(field)    offsetof(struct agent_rule, field)
#define CAPTURE(field) offsetof(struct agent_capture, field)
#define TRACES(field)  offsetof(struct agent_trace_config, field)

static int take_cuda(struct config_reader *reader, const struct config_field *field,
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
	return config_wrong(reader, value->text,
			    "\"cuda\" must be \"auto\", \"runtime\", \"driver\" or \"none\"");
}

static int take_engine(struct config_reader *reader, const struct config_field *field,
		       const struct pt_json_span *value, void *at)
{
	static const struct {
		const char *text;
		enum pt_engine_wish engine;
	} engines[] = {
	    {"\"sample\"", PT_ENGINE_SAMPLE},
	    {"\"hybrid\"", PT_ENGINE_HYBRID},
	    {"\"exact\"", PT_ENGINE_AUTO},
	};

	for (size_t i = 0; i < sizeof(engines) / sizeof(engines[0]); i++) {
		if (!pt_json_is(value, engines[i].text))
			continue;
		*(enum pt_engine_wish *)at = engines[i].engine;
		return 0;
	}
	return config_wrong(reader, value->text,
			    "\"engine\" must be \"sample\", \"hybrid\" or \"exact\"");
}

static int take_listen(struct config_reader *reader, const struct config_field *field,
		       const struct pt_json_span *value, void *at)
{
	int rc = config_take_string(reader, field, value, at);

	if (!rc && !pt_listen_check(*(char **)at))
		rc = config_wrong(
		    reader, value->text,
		    "\"listen\": '%.80s' is not ADDRESS:PORT, such as 127.0.0.1:9754, nor "
		    "unix:/PATH",
		    *(char **)at);
	return rc;
}

static int take_user(struct config_reader *reader, const struct config_field *field,
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
	rc = config_take_text(reader, field, value, &name);
	if (rc)
		return rc;
	user = getpwnam(name);
	if (user)
		*(uid_t *)at = user->pw_uid;
	else
		rc = config_wrong(reader, value->text, "\"user\": there is no user '%.80s'", name);
	free(name);
	return rc;
}

static int take_action(struct config_reader *reader, const struct config_field *field,
		       const struct pt_json_span *value, void *at)
{
	if (!pt_json_is(value, "\"include\"") && !pt_json_is(value, "\"exclude\""))
		return config_wrong(reader, value->text,
				    "\"action\" must be \"include\" or \"exclude\"");
	*(bool *)at = pt_json_is(value, "\"include\"");
	return 0;
}

static int take_trigger(struct config_reader *reader, const struct config_field *field,
			const struct pt_json_span *item, void *at)
{
	struct agent_capture *capture = at;
	const struct pt_trigger *trigger;
	struct pt_err err = {0};
	char *text;
	int rc;

	if (capture->trigger_count == PT_TRIGGERS_MAX)
		return config_wrong(reader, item->text, "more than %d triggers", PT_TRIGGERS_MAX);
	rc = config_take_text(reader, field, item, &text);
	if (rc)
		return rc;
	rc = pt_trigger_parse(text, &capture->triggers[capture->trigger_count], &err);
	free(text);
	if (rc)
		return config_wrong(reader, item->text, "%s", err.what);
	trigger = &capture->triggers[capture->trigger_count++];
	if (trigger->kind == pt_trigger_asked())
		return config_wrong(
		    reader, item->text,
		    "'http' is for \"pytrace-bpf capture\"; here POST /capture always "
		    "works");
	return config_remember(reader, trigger->text, item->text);
}

static int take_triggers(struct config_reader *reader, const struct config_field *field,
			 const struct pt_json_span *value, void *at)
{
	return config_take_list(reader, field, value, take_trigger, at);
}

static int take_word(struct config_reader *reader, const struct config_field *field,
		     const struct pt_json_span *item, void *at)
{
	struct agent_upload_config *upload = &reader->config->upload;
	int rc;

	if (upload->command_count == AGENT_COMMAND_MAX)
		return config_wrong(reader, item->text, "more than %d words", AGENT_COMMAND_MAX);
	rc = config_take_text(reader, field, item, &upload->command[upload->command_count]);
	upload->command_count += !rc;
	return rc;
}

static int take_command(struct config_reader *reader, const struct config_field *field,
			const struct pt_json_span *value, void *at)
{
	int rc = config_take_list(reader, field, value, take_word, at);

	if (!rc && !reader->config->upload.command_count)
		rc = config_wrong(reader, value->text, "\"command\" is empty");
	return rc;
}

/* It goes into a name that requests are signed with. */
static int take_region(struct config_reader *reader, const struct config_field *field,
		       const struct pt_json_span *value, void *at)
{
	static const char plain[] = "abcdefghijklmnopqrstuvwxyz0123456789-";
	int rc = config_take_string(reader, field, value, at);
	const char *text = rc ? "" : *(char **)at;

	if (!rc && (text[strspn(text, plain)] || strlen(text) > 60))
		rc = config_wrong(reader, value->text,
				  "\"region\": '%.80s' is none, such as eu-west-1", text);
	return rc;
}

static const struct config_field s3_fields[] = {
    {"url", config_take_endpoint, CONFIG(upload.url), 0, 0, NULL},
    {"region", take_region, CONFIG(upload.region), 0, 0, NULL},
    {"credentials_file", config_take_string, CONFIG(upload.credentials_file), 0, 0, NULL},
    {"ca_file", config_take_string, CONFIG(upload.ca_file), 0, 0, NULL},
    {NULL, NULL, 0, 0, 0, NULL},
};

static int take_s3(struct config_reader *reader, const struct config_field *field,
		   const struct pt_json_span *value, void *at)
{
	const struct agent_upload_config *upload = &reader->config->upload;
	int rc = config_take_object(reader, field, value, at);

	if (!rc && (!upload->url || !upload->credentials_file))
		rc = config_wrong(reader, value->text,
				  "\"s3\" needs a \"url\" and a \"credentials_file\"");
	return rc;
}

static const struct config_field upload_fields[] = {
    {"command", take_command, 0, 0, 0, NULL},
    {"s3", take_s3, 0, 0, 0, s3_fields},
    {"timeout", config_take_time, CONFIG(upload.timeout_ns), 100000000, 24 * HOUR_NS, NULL},
    {"attempts", config_take_number, CONFIG(upload.attempts), 1, 1000, NULL},
    {NULL, NULL, 0, 0, 0, NULL},
};

static int take_upload(struct config_reader *reader, const struct config_field *field,
		       const struct pt_json_span *value, void *at)
{
	const struct agent_upload_config *upload = &reader->config->upload;
	int rc = config_take_object(reader, field, value, at);

	if (!rc && !upload->command_count && !upload->url)
		rc = config_wrong(reader, value->text, "\"upload\" needs a \"command\" or \"s3\"");
	return rc;
}

/* ---- rules ---- */

static const struct config_field capture_fields[] = {
    {"on", take_triggers, 0, 0, 0, NULL},
    {"last", config_take_time, CAPTURE(last_ns), 100000000, 24 * HOUR_NS, NULL},
    {"after", config_take_time, CAPTURE(after_ns), 0, 24 * HOUR_NS, NULL},
    {"cool_down", config_take_time, CAPTURE(cool_down_ns), 0, 24 * HOUR_NS, NULL},
    {"memory", config_take_size, CAPTURE(memory_bytes), PT_RING_MIN_BYTES, 1u << 30, NULL},
    {"max_captures", config_take_number, CAPTURE(max_captures), 1, 100000, NULL},
    {"max_disk", config_take_size, CAPTURE(max_disk_bytes), 1u << 20, 1ull << 40, NULL},
    {"command_line", config_take_bool, CAPTURE(command_line), 0, 0, NULL},
    {NULL, NULL, 0, 0, 0, NULL},
};

static int take_capture(struct config_reader *reader, const struct config_field *field,
			const struct pt_json_span *value, void *at)
{
	struct agent_capture *capture = calloc(1, sizeof(*capture));

	if (!capture)
		return config_no_memory(reader);
	*(struct agent_capture **)at = capture;
	capture->last_ns = 30 * 1000000000ull;
	capture->cool_down_ns = 60 * 1000000000ull;
	capture->memory_bytes = 16u << 20;
	capture->max_captures = 20;
	capture->max_disk_bytes = 1u << 30;
	return config_take_members(reader, capture_fields, value, capture);
}

static const struct config_field traces_fields[] = {
    {"slower_than", config_take_time, TRACES(limit_ns), 1000000, 24 * HOUR_NS, NULL},
    {"per_minute", config_take_number, TRACES(per_minute), 1, 6000, NULL},
    {"calls", config_take_number, TRACES(calls), 0, 99, NULL},
    {NULL, NULL, 0, 0, 0, NULL},
};

static int take_traces(struct config_reader *reader, const struct config_field *field,
		       const struct pt_json_span *value, void *at)
{
	struct agent_trace_config *traces = calloc(1, sizeof(*traces));
	int rc;

	if (!traces)
		return config_no_memory(reader);
	*(struct agent_trace_config **)at = traces;
	traces->per_minute = 60;
	traces->calls = 20;
	rc = config_take_members(reader, traces_fields, value, traces);
	if (!rc && !traces->limit_ns)
		rc = config_wrong(reader, value->text, "\"traces\" needs \"slower_than\"");
	return rc;
}

static const struct config_field rule_fields[] = {
    {"action", take_action, RULE(include), 0, 0, NULL},
    {"name", config_take_string, RULE(name), 0, 0, NULL},
    {"command", config_take_string, RULE(command), 0, 0, NULL},
    {"exe", config_take_string, RULE(exe), 0, 0, NULL},
    {"cgroup", config_take_string, RULE(cgroup), 0, 0, NULL},
    {"user", take_user, RULE(user), 0, 0, NULL},
    {"capture", take_capture, RULE(capture), 0, 0, NULL},
    {"traces", take_traces, RULE(traces), 0, 0, NULL},
    {"max_overhead", config_take_percent, RULE(max_overhead_ppm), 1, 1000000, NULL},
    {NULL, NULL, 0, 0, 0, NULL},
};

/* The rule's captures lie in a folder of its name. */
static int check_capture(const struct config_reader *reader, const struct pt_json_span *value)
{
	static const char plain[] =
	    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.";
	const struct agent_config *config = reader->config;
	const struct agent_rule *rule = reader->rule;
	const char *name = rule->name;

	if (!rule->capture)
		return 0;
	if (!rule->include)
		return config_wrong(reader, value->text,
				    "\"capture\" does not go with \"exclude\"");
	/* it would miss what it waits for, and a rest looks like a hang */
	if (rule->max_overhead_ppm)
		return config_wrong(reader, value->text,
				    "\"capture\" and \"max_overhead\" exclude each other");
	if (!name || name[0] == '.' || strlen(name) > RULE_NAME_MAX || name[strspn(name, plain)])
		return config_wrong(
		    reader, value->text,
		    "\"capture\" needs a \"name\" of up to %d letters, digits, '_', '-' and "
		    "'.'",
		    RULE_NAME_MAX);
	for (size_t i = 0; i + 1 < config->rule_count; i++)
		if (config->rules[i].capture && !strcmp(config->rules[i].name, name))
			return config_wrong(reader, value->text,
					    "another rule with \"capture\" is called \"%s\"", name);
	return 0;
}

static int take_rule(struct config_reader *reader, const struct config_field *field,
		     const struct pt_json_span *value, void *at)
{
	int rc;
	struct agent_config *config = reader->config;
	struct agent_rule *bigger;

	if (config->rule_count == RULES_MAX)
		return config_wrong(reader, value->text, "more than %d rules", RULES_MAX);
	bigger = reallocarray(config->rules, config->rule_count + 1, sizeof(*bigger));
	if (!bigger)
		return config_no_memory(reader);
	config->rules = bigger;
	reader->rule = &bigger[config->rule_count++];
	*reader->rule = (struct agent_rule){.include = true};
	rc = config_take_members(reader, rule_fields, value, reader->rule);
	if (!rc && reader->rule->traces && !reader->rule->include)
		rc = config_wrong(reader, value->text, "\"traces\" does not go with \"exclude\"");
	if (!rc)
		rc = check_capture(reader, value);
	reader->rule = NULL;
	return rc;
}

static int take_rules(struct config_reader *reader, const struct config_field *field,
		      const struct pt_json_span *value, void *at)
{
	return config_take_list(reader, field, value, take_rule, at);
}

static const struct config_field record_fields[] = {
    {"gc", config_take_bool, CONFIG(gc), 0, 0, NULL},
    {"gil", config_take_bool, CONFIG(gil), 0, 0, NULL},
    {"exceptions", config_take_bool, CONFIG(exceptions), 0, 0, NULL},
    {"cuda", take_cuda, CONFIG(cuda), 0, 0, NULL},
    {"buffer", config_take_size, CONFIG(buffer_bytes), 1u << 20, 1u << 30, NULL},
    {"max_overhead", config_take_percent, CONFIG(max_overhead_ppm), 1, 1000000, NULL},
    {"engine", take_engine, CONFIG(engine), 0, 0, NULL},
    {"frequency", config_take_number, CONFIG(frequency), 1, 1000, NULL},
    {NULL, NULL, 0, 0, 0, NULL},
};

static const struct config_field metrics_fields[] = {
    {"processes", config_take_number, CONFIG(processes), 1, 1000, NULL},
    {"functions", config_take_number, CONFIG(functions), 1, 1000, NULL},
    {"keep_ended", config_take_time, CONFIG(keep_ended_ns), 100000000, 24 * HOUR_NS, NULL},
    {NULL, NULL, 0, 0, 0, NULL},
};

static const struct config_field spool_fields[] = {
    {"dir", config_take_string, CONFIG(otlp.spool_dir), 0, 0, NULL},
    {"max_size", config_take_size, CONFIG(otlp.spool_bytes), 1u << 20, 1u << 30, NULL},
    {NULL, NULL, 0, 0, 0, NULL},
};

static const struct config_field otlp_fields[] = {
    {"endpoint", config_take_endpoint, CONFIG(otlp.endpoint), 0, 0, NULL},
    {"interval", config_take_time, CONFIG(otlp.interval_ns), 100000000, 24 * HOUR_NS, NULL},
    {"timeout", config_take_time, CONFIG(otlp.timeout_ns), 100000000, 24 * HOUR_NS, NULL},
    {"headers_file", config_take_string, CONFIG(otlp.headers_file), 0, 0, NULL},
    {"ca_file", config_take_string, CONFIG(otlp.ca_file), 0, 0, NULL},
    {"spool", config_take_object, 0, 0, 0, spool_fields},
    {NULL, NULL, 0, 0, 0, NULL},
};

static int take_otlp(struct config_reader *reader, const struct config_field *field,
		     const struct pt_json_span *value, void *at)
{
	int rc = config_take_object(reader, field, value, at);

	if (!rc && !reader->config->otlp.endpoint)
		rc = config_wrong(reader, value->text, "\"otlp\" needs an \"endpoint\"");
	return rc;
}

static const struct config_field tls_fields[] = {
    {"cert_file", config_take_string, CONFIG(tls.cert_file), 0, 0, NULL},
    {"key_file", config_take_string, CONFIG(tls.key_file), 0, 0, NULL},
    {NULL, NULL, 0, 0, 0, NULL},
};

static int take_tls(struct config_reader *reader, const struct config_field *field,
		    const struct pt_json_span *value, void *at)
{
	int rc = config_take_object(reader, field, value, at);

	if (!rc && (!reader->config->tls.cert_file || !reader->config->tls.key_file))
		rc = config_wrong(reader, value->text,
				  "\"tls\" needs a \"cert_file\" and a \"key_file\"");
	return rc;
}

const struct config_field config_keys[] = {
    {"listen", take_listen, CONFIG(listen), 0, 0, NULL},
    {"tls", take_tls, 0, 0, 0, tls_fields},
    {"allow_plain", config_take_bool, CONFIG(allow_plain), 0, 0, NULL},
    {"token_file", config_take_string, CONFIG(token_file), 0, 0, NULL},
    {"scan", config_take_time, CONFIG(scan_ns), 100000000, 24 * HOUR_NS, NULL},
    {"record", config_take_object, 0, 0, 0, record_fields},
    {"metrics", config_take_object, 0, 0, 0, metrics_fields},
    {"otlp", take_otlp, 0, 0, 0, otlp_fields},
    {"captures", config_take_string, CONFIG(captures), 0, 0, NULL},
    {"upload", take_upload, 0, 0, 0, upload_fields},
    {"rules", take_rules, 0, 0, 0, NULL},
    {NULL, NULL, 0, 0, 0, NULL},
};
