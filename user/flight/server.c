// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "flight/server.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/http.h"
#include "base/listen.h"
#include "flight/flight.h"

#define NS_PER_S 1000000000ull

struct pt_flight_server {
	struct pt_http_page page;
	struct pt_http *http;
	pthread_mutex_t lock;
	struct pt_flight *flight; /* with the lock */
};

static unsigned int refuse(struct pt_http_reply *reply, unsigned int status, const char *why)
{
	pt_buf_add_str(&reply->text, why);
	return status;
}

/* Suits pt_http_answer_fn. */
static unsigned int answer(const struct pt_http_request *request, struct pt_http_reply *reply,
			   void *ctx)
{
	struct pt_flight_server *server = ctx;
	char name[PT_FLIGHT_NAME_MAX];
	uint64_t wait_ns = 0;
	int rc = -ENOENT;

	pthread_mutex_lock(&server->lock);
	if (server->flight)
		rc = pt_flight_ask(server->flight, 0, true, name, &wait_ns);
	pthread_mutex_unlock(&server->lock);
	if (rc == -EAGAIN) {
		reply->retry_after_s = (wait_ns + NS_PER_S - 1) / NS_PER_S;
		return refuse(reply, 429, "the last capture is younger than --cool-down\n");
	}
	if (rc == -EDQUOT)
		return refuse(reply, 409, "there are as many captures as --count asks for\n");
	if (rc)
		return refuse(reply, 503, "nothing is recorded yet, or any more\n");
	/* nothing in it that JSON escapes */
	pt_buf_printf(&reply->text, "{\"name\":\"%s\"}\n", name);
	return 202;
}

int pt_flight_server_start(const char *where, const char *token, struct pt_flight_server **result,
			   struct pt_err *err)
{
	struct pt_flight_server *server;
	struct pt_http_options options;
	int rc;

	*result = NULL;
	if (!token && !pt_listen_is_local(where))
		return pt_err_set(err, -EINVAL, PT_EXIT_USAGE,
				  "--token-file names a file with one; openssl rand -hex 32",
				  "--on http: '%s' is open to other hosts, that needs a token",
				  where);
	server = calloc(1, sizeof(*server));
	if (!server)
		return pt_err_set(err, -ENOMEM, PT_EXIT_FAILED, "", "out of memory");
	pthread_mutex_init(&server->lock, NULL);
	server->page = (struct pt_http_page){.path = "/capture",
					     .method = "POST",
					     .type = "application/json",
					     .needs_token = token != NULL};
	options = (struct pt_http_options){
	    .listen = where,
	    .token = token,
	    .token_name = "token",
	    .busy_hint = "is another recorder running? --on http:PORT chooses another place",
	    .pages = &server->page,
	    .page_count = 1,
	    .answer = answer,
	    .ctx = server};
	rc = pt_http_start(&options, &server->http, err);
	if (rc)
		pt_flight_server_stop(server);
	else
		*result = server;
	return rc;
}

const char *pt_flight_server_url(const struct pt_flight_server *server)
{
	return pt_http_url(server->http);
}

void pt_flight_server_serve(struct pt_flight_server *server, struct pt_flight *flight)
{
	pthread_mutex_lock(&server->lock);
	server->flight = flight;
	pthread_mutex_unlock(&server->lock);
}

void pt_flight_server_stop(struct pt_flight_server *server)
{
	if (!server)
		return;
	pt_http_stop(server->http);
	pthread_mutex_destroy(&server->lock);
	free(server);
}
