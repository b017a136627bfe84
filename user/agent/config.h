/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * config.h - the agent's configuration: one JSON object in a file (docs/AGENT.md has all keys).
 *
 * What is not known, given twice, of the wrong type or out of range is an error that names the file
 * and the line. Life cycle: agent_config_load() -> const use -> agent_config_free().
 */
#ifndef PT_AGENT_CONFIG_H
#define PT_AGENT_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "flight/trigger.h"
#include "record/engine.h"

struct pt_process;

/* The flight recorder of a rule. */
struct agent_capture {
	uint64_t last_ns, after_ns, cool_down_ns;
	uint64_t memory_bytes, max_captures, max_disk_bytes;
	bool command_line;
	struct pt_trigger triggers[PT_TRIGGERS_MAX];
	size_t trigger_count;
};

/* Which requests are told to a collector; traces.h. */
struct agent_trace_config {
	uint64_t limit_ns;   /* those that take longer */
	uint64_t per_minute; /* of each process, at most */
	uint64_t calls;      /* of each request, at most */
};

/* Decides about the processes of which all that it names is true. */
struct agent_rule {
	bool include;
	char *name;    /* for people; may be NULL */
	char *command; /* globs; NULL: any. Of the arguments, a space between them */
	char *exe;     /* of /proc/PID/exe */
	char *cgroup;  /* of a path in /proc/PID/cgroup: containers, pods, units */
	bool has_user;
	uid_t user;
	struct agent_capture *capture;     /* NULL: no flight recorder */
	struct agent_trace_config *traces; /* NULL: no requests are told of */
	uint64_t max_overhead_ppm;         /* of each such process by itself; 0: no limit */
};

struct agent_tls_config {
	char *cert_file, *key_file; /* NULL: no TLS */
	char *cert, *key;           /* what stands in them */
};

#define AGENT_HEADERS_MAX 32

/* Where to send metrics and traces; otlp.h. */
struct agent_otlp_config {
	char *endpoint; /* NULL: nowhere */
	uint64_t interval_ns, timeout_ns;
	char *headers_file;               /* or NULL */
	char *headers[AGENT_HEADERS_MAX]; /* what stands in it: "Name: value" */
	size_t header_count;
	char *ca_file;   /* NULL: the system's authorities */
	char *spool_dir; /* NULL: what waits does so in memory */
	uint64_t spool_bytes;
};

#define AGENT_COMMAND_MAX 32

/* Where captures are sent. */
struct agent_upload_config {
	char *command[AGENT_COMMAND_MAX + 1]; /* the first NULL ends it; none: no command */
	size_t command_count;
	char *url, *region, *ca_file; /* url NULL: no storage */
	char *credentials_file;
	char *credentials; /* what stands in it: "KEY ID:SECRET KEY" */
	uint64_t timeout_ns, attempts;
};

struct agent_config {
	char *listen; /* see listen.h */
	struct agent_tls_config tls;
	bool allow_plain; /* without TLS, for more than this host */
	char *token_file; /* NULL: nothing that changes anything can be asked for */
	char *token;      /* what stands in it */
	char *captures;   /* the folder of all captures */
	struct agent_upload_config upload;
	uint64_t scan_ns, keep_ended_ns;
	uint64_t buffer_bytes;
	uint64_t max_overhead_ppm;     /* of all processes together; 0: no limit */
	uint64_t processes, functions; /* with series of their own */
	bool gc, gil, exceptions;
	int cuda; /* enum pt_cuda_mode */
	/* PT_ENGINE_SAMPLE: nothing of the above but the buffer; PT_ENGINE_HYBRID: all of it, but
	 * of Python samples; PT_ENGINE_AUTO: exact */
	enum pt_engine_wish engine;
	uint64_t frequency; /* of samples: so often a second and CPU */
	struct agent_otlp_config otlp;
	struct agent_rule *rules;
	size_t rule_count;
};

/* Reads it and the files that it names. -EINVAL and err: "FILE:LINE: what is wrong". */
int agent_config_load(const char *path, struct agent_config **config, struct pt_err *err);
/* The same of a text; path is for messages. Reads no other file. */
int agent_config_parse(const char *path, const char *text, struct agent_config **config,
		       struct pt_err *err);
void agent_config_free(struct agent_config *config);

/* The first rule that fits, or NULL. Looks into /proc for what the rules name. */
const struct agent_rule *agent_config_rule(const struct agent_config *config,
					   const struct pt_process *process);

#endif
