/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * http.h - the agent's HTTP server: a few fixed paths, answered from memory, and captures, which
 * are files.
 *
 * A thread of the server asks `answer` for the text. Clients are bounded in number, time and bytes;
 * none can hold up another.
 */
#ifndef PT_AGENT_HTTP_H
#define PT_AGENT_HTTP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

enum agent_page {
	AGENT_METRICS,
	AGENT_HEALTH,
	AGENT_PROCESSES,
	AGENT_RELOAD,
	AGENT_CAPTURE,  /* make one */
	AGENT_CAPTURES, /* which there are */
	AGENT_DOWNLOAD, /* one of them */
};

struct agent_http;

struct agent_request {
	enum agent_page page;
	const char *rest; /* of the path, behind the page's: of AGENT_DOWNLOAD */
	const char *pid;  /* ?pid=..; NULL: not given */
};

struct agent_reply {
	struct pt_buf text;
	int fd; /* -1: the text; else the file, which is closed then */
	uint64_t fd_bytes;
};

/* Fills the reply; returns the HTTP status. Suits any thread. */
typedef unsigned int (*agent_answer_fn)(const struct agent_request *request,
					struct agent_reply *reply, void *ctx);

struct agent_http_options {
	const char *listen;             /* see listen.h */
	const char *tls_cert, *tls_key; /* PEM; NULL: no TLS */
	const char *token;              /* NULL: what wants one is refused */
	agent_answer_fn answer;
	void *ctx;
};

/* Copies what it needs of options. */
int agent_http_start(const struct agent_http_options *options, struct agent_http **http,
		     struct pt_err *err);
/* Where it listens: http://ADDRESS:PORT, https://ADDRESS:PORT or unix:/PATH. */
const char *agent_http_url(const struct agent_http *http);
/* Is this header, which may be NULL, "Bearer TOKEN"? */
bool agent_http_authorized(const char *header, const char *token);
void agent_http_stop(struct agent_http *http);

#endif
