// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "agent/config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "agent/config_parts.h"
#include "record/cuda.h"
#include "sink/json_scan.h"
#include "target/maps.h"

#define CONFIG_MAX_BYTES (1u << 20)

static int parse(struct config_reader *reader)
{
	struct pt_json_span whole = {reader->text, strlen(reader->text)};
	const char *end = NULL;
	cJSON *root = cJSON_ParseWithOpts(reader->text, &end, true);
	int rc;

	/* what is left to the other parser is JSON, then */
	cJSON_Delete(root);
	if (!root)
		return config_wrong(reader, end ? end : reader->text, "this is no JSON");
	whole.text += strspn(whole.text, " \t\r\n");
	rc = config_take_members(reader, config_keys, &whole, reader->config);
	if (!rc && !reader->config->rule_count)
		rc = config_wrong(
		    reader, reader->text,
		    "there are no \"rules\"; {\"action\": \"include\"} takes every process");
	return rc ? rc : config_check(reader);
}

int agent_config_parse(const char *path, const char *text, struct agent_config **config,
		       struct pt_err *err)
{
	struct config_reader reader = {.path = path, .text = text, .err = err};
	int rc;

	*config = reader.config = calloc(1, sizeof(**config));
	if (!reader.config)
		return config_no_memory(&reader);
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
	    .engine = PT_ENGINE_SAMPLE,
	    .frequency = 99,
	    .otlp = {.interval_ns = 60000000000ull,
		     .timeout_ns = 10000000000ull,
		     .spool_bytes = 64u << 20},
	};
	rc = reader.config->listen && reader.config->captures && reader.config->upload.region
		 ? parse(&reader)
		 : config_no_memory(&reader);
	free(reader.places);
	if (rc) {
		agent_config_free(reader.config);
		*config = NULL;
	}
	return rc;
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
		rc = config_read_files(*config, err);
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
		free(config->rules[i].traces);
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
