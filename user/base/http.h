/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * http.h - a small HTTP server: a few fixed paths, answered from memory, and files.
 *
 * A thread of the server asks `answer` for the text. Clients are bounded in number, time and bytes;
 * none can hold up another. What changes anything is refused to scripts of web pages.
 */
#ifndef PT_BASE_HTTP_H
#define PT_BASE_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

struct pt_http;

/* What there is at a path, and by which method. */
struct pt_http_page {
	const char *path, *method;
	const char *type; /* of an answer below 400; else it is text */
	int page;         /* the caller's number of it */
	bool needs_token;
	bool is_folder; /* what is below path, which ends in '/' */
};

struct pt_http_request {
	int page;
	const char *rest; /* of the path, behind the page's: of a folder */
	const char *pid;  /* ?pid=..; NULL: not given */
};

struct pt_http_reply {
	struct pt_buf text;
	uint64_t retry_after_s; /* 0: not said */
	int fd;                 /* -1: the text; else the file, which is closed then */
	uint64_t fd_bytes;
};

/* Fills the reply; returns the HTTP status. Suits any thread. */
typedef unsigned int (*pt_http_answer_fn)(const struct pt_http_request *request,
					  struct pt_http_reply *reply, void *ctx);

struct pt_http_options {
	const char *listen;             /* see listen.h */
	const char *tls_cert, *tls_key; /* PEM; NULL: no TLS */
	const char *token;              /* NULL: what wants one is refused .. */
	const char *token_name;         /* .. with the name of what would give one */
	const char *busy_hint;          /* where the address cannot be had */
	const struct pt_http_page *pages;
	size_t page_count;
	pt_http_answer_fn answer;
	void *ctx;
};

/* Copies what it needs of options, but the pages, which are borrowed. */
int pt_http_start(const struct pt_http_options *options, struct pt_http **http, struct pt_err *err);
/* Where it listens: http://ADDRESS:PORT, https://ADDRESS:PORT or unix:/PATH. */
const char *pt_http_url(const struct pt_http *http);
/* Is this header, which may be NULL, "Bearer TOKEN"? */
bool pt_http_authorized(const char *header, const char *token);
void pt_http_stop(struct pt_http *http);

#endif
