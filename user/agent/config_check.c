// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * What is wrong only together: keys that need or exclude each other.
 */
#include <stdbool.h>

#include "agent/config_parts.h"
#include "base/listen.h"
#include "record/cuda.h"

static int needs_engine(const struct config_reader *reader, size_t rule, const char *key,
			const char *engine)
{
	return config_wrong(reader, config_where(reader, rule, key),
			    "\"%s\" needs \"engine\": \"%s\" in \"record\"", key, engine);
}

static int check_rule_engine(const struct config_reader *reader, size_t number)
{
	const struct agent_config *config = reader->config;
	const struct agent_rule *rule = &config->rules[number - 1];

	if (rule->traces && config->engine != PT_ENGINE_AUTO)
		return needs_engine(reader, number, "traces", "exact");
	if (rule->max_overhead_ppm && config->engine != PT_ENGINE_AUTO)
		return needs_engine(reader, number, "max_overhead", "exact");
	if (rule->capture && config->engine == PT_ENGINE_SAMPLE)
		return needs_engine(reader, number, "capture", "exact\" or \"hybrid");
	return 0;
}

/* What only another engine has is not left out in silence. */
static int check_engine(const struct config_reader *reader)
{
	const struct agent_config *config = reader->config;
	bool sample = config->engine == PT_ENGINE_SAMPLE;
	int rc = 0;

	if (config->max_overhead_ppm && config->engine != PT_ENGINE_AUTO)
		return needs_engine(reader, 0, "max_overhead", "exact");
	if (config->exceptions && sample)
		return needs_engine(reader, 0, "exceptions", "exact\" or \"hybrid");
	if (config->cuda != PT_CUDA_AUTO && config->cuda != PT_CUDA_NONE && sample)
		return needs_engine(reader, 0, "cuda", "exact\" or \"hybrid");
	for (size_t number = 1; number <= config->rule_count && !rc; number++)
		rc = check_rule_engine(reader, number);
	return rc;
}

/* Somebody must get them. */
static int check_traces(const struct config_reader *reader)
{
	const struct agent_config *config = reader->config;

	for (size_t i = 0; i < config->rule_count && !config->otlp.endpoint; i++)
		if (config->rules[i].traces)
			return config_wrong(reader, config_where(reader, i + 1, "traces"),
					    "\"traces\" needs an \"endpoint\" in \"otlp\"");
	return 0;
}

/* What a trigger needs must not have been switched off. */
static int check_trigger(const struct config_reader *reader, size_t number,
			 const struct pt_trigger *trigger)
{
	const struct agent_config *config = reader->config;
	unsigned int needs = trigger->kind->needs;
	const char *key = needs & PT_NEEDS_GC && !config->gc                      ? "gc"
			  : needs & PT_NEEDS_GIL && !config->gil                  ? "gil"
			  : needs & PT_NEEDS_CUDA && config->cuda == PT_CUDA_NONE ? "cuda"
										  : NULL;

	if (config->engine == PT_ENGINE_HYBRID && needs & (PT_NEEDS_CALLS | PT_NEEDS_MEMORY))
		return needs_engine(reader, number, trigger->text, "exact");
	if (key)
		return config_wrong(
		    reader, config_where(reader, number, trigger->text),
		    "rule \"%s\": '%s' needs what \"%s\" of \"record\" switches off",
		    config->rules[number - 1].name, trigger->text, key);
	return 0;
}

static int check_needs(const struct config_reader *reader)
{
	const struct agent_config *config = reader->config;
	int rc = 0;

	for (size_t i = 0; i < config->rule_count && !rc; i++) {
		const struct agent_capture *capture = config->rules[i].capture;

		if (capture && config->max_overhead_ppm)
			return config_wrong(
			    reader, config_where(reader, i + 1, "capture"),
			    "rule \"%s\": \"capture\" and \"max_overhead\" exclude each other",
			    config->rules[i].name);
		for (size_t k = 0; capture && k < capture->trigger_count && !rc; k++)
			rc = check_trigger(reader, i + 1, &capture->triggers[k]);
	}
	return rc;
}

/* Names of functions are nobody else's business. */
static int check_listen(const struct config_reader *reader)
{
	const struct agent_config *config = reader->config;
	const char *at = config_where(reader, 0, "listen");

	if (!at || config->tls.cert_file || config->allow_plain ||
	    pt_listen_is_local(config->listen))
		return 0;
	return config_wrong(reader, at,
			    "\"listen\": '%.80s' is open to other hosts: that needs \"tls\", or "
			    "\"allow_plain\": true if it is meant",
			    config->listen);
}

int config_check(const struct config_reader *reader)
{
	int rc = check_listen(reader);

	if (!rc)
		rc = check_engine(reader);
	if (!rc)
		rc = check_traces(reader);
	return rc ? rc : check_needs(reader);
}
