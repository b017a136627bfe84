/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * post.h - HTTP POST to one address, one request at a time, without ever blocking for it.
 *
 * Life cycle: agent_post_new() -> agent_post_begin() -> agent_post_wait() until it says that there
 * is a result; again; agent_post_free(). Redirections are not followed, proxies are those of the
 * environment. For one thread; agent_post_wake() suits any.
 */
#ifndef PT_AGENT_POST_H
#define PT_AGENT_POST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

struct agent_post;

struct agent_post_options {
	const char *url;
	const char *const *headers; /* "Name: value" */
	size_t header_count;
	const char *ca_file; /* NULL: the system's authorities */
	uint64_t timeout_ns; /* of a whole request */
};

enum agent_post_outcome {
	AGENT_POST_DONE,        /* answered: there is a status */
	AGENT_POST_UNREACHABLE, /* no connection, or it broke */
	AGENT_POST_SLOW,        /* no answer in time */
};

struct agent_post_result {
	enum agent_post_outcome outcome;
	long status;          /* of HTTP; 0: none */
	uint64_t retry_after; /* seconds; 0: nothing was said */
	const char *error;    /* what went wrong, if there is no status */
	struct pt_buf answer; /* its body, as far as it is kept; the post's own */
};

/* Whether it is http://HOST.. or https://HOST.., without a user, a query and a fragment; NULL, or
 * what is wrong. */
const char *agent_post_check_url(const char *url);

/* Copies what it needs of options. 0, -ENOMEM, -ENOPKG: there is no libcurl. */
int agent_post_new(const struct agent_post_options *options, struct agent_post **post);
/* data is borrowed until there is a result. */
int agent_post_begin(struct agent_post *post, const void *data, size_t len);
/* Waits that long, or until there is a result or agent_post_wake() was called. */
bool agent_post_wait(struct agent_post *post, uint64_t ns, struct agent_post_result *result);
void agent_post_wake(struct agent_post *post);
void agent_post_free(struct agent_post *post);

#endif
