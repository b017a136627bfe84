/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * http.h - the agent's HTTP server: a few fixed paths, answered from memory.
 *
 * A thread of the server asks `answer` for the text. Clients are bounded in number, time and bytes;
 * none can hold up another.
 */
#ifndef PT_AGENT_HTTP_H
#define PT_AGENT_HTTP_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/err.h"

enum agent_page { AGENT_METRICS, AGENT_HEALTH, AGENT_PROCESSES, AGENT_RELOAD };

struct agent_http;

/* Fills text; returns the HTTP status. Suits any thread. */
typedef unsigned int (*agent_answer_fn)(enum agent_page page, struct pt_buf *text, void *ctx);

struct agent_http_options {
	const char *listen; /* ADDRESS:PORT */
	const char *token;  /* NULL: what wants one is refused */
	agent_answer_fn answer;
	void *ctx;
};

/* Copies what it needs of options. */
int agent_http_start(const struct agent_http_options *options, struct agent_http **http,
		     struct pt_err *err);
/* Where it listens, as ADDRESS:PORT. */
const char *agent_http_address(const struct agent_http *http);
void agent_http_stop(struct agent_http *http);

#endif
