// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "agent/http.h"

#include <errno.h>
#include <netdb.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <microhttpd.h>

#define CLIENTS_MAX      64u
#define IDLE_SECONDS     10u
#define CLIENT_MAX_BYTES 16384u /* of a request's head, and of an answer's */
#define BODY_MAX_BYTES   4096u

struct agent_http {
	struct MHD_Daemon *daemon;
	char *token;
	agent_answer_fn answer;
	void *ctx;
	char address[160];
};

static const struct page {
	const char *path, *method, *type;
	enum agent_page page;
	bool needs_token;
	bool is_folder; /* what is below path */
} pages[] = {
    {"/metrics", "GET", "text/plain; version=0.0.4; charset=utf-8", AGENT_METRICS, false, false},
    {"/healthz", "GET", "text/plain; charset=utf-8", AGENT_HEALTH, false, false},
    {"/processes", "GET", "application/json", AGENT_PROCESSES, false, false},
    {"/reload", "POST", "text/plain; charset=utf-8", AGENT_RELOAD, true, false},
    {"/capture", "POST", "application/json", AGENT_CAPTURE, true, false},
    {"/captures", "GET", "application/json", AGENT_CAPTURES, true, false},
    {"/captures/", "GET", "application/gzip", AGENT_DOWNLOAD, true, true},
};
#define PAGE_COUNT (sizeof(pages) / sizeof(pages[0]))

/* The response is given away. */
static enum MHD_Result respond_with(struct MHD_Connection *connection, unsigned int status,
				    const char *type, const char *header, const char *value,
				    struct MHD_Response *response)
{
	enum MHD_Result result;

	if (!response)
		return MHD_NO;
	MHD_add_response_header(response, "Content-Type", type);
	MHD_add_response_header(response, "Cache-Control", "no-store");
	MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
	if (header)
		MHD_add_response_header(response, header, value);
	result = MHD_queue_response(connection, status, response);
	MHD_destroy_response(response);
	return result;
}

static enum MHD_Result respond(struct MHD_Connection *connection, unsigned int status,
			       const char *type, const char *header, const char *value,
			       const struct pt_buf *text)
{
	return respond_with(
	    connection, status, type, header, value,
	    MHD_create_response_from_buffer(text->len, text->data, MHD_RESPMEM_MUST_COPY));
}

static enum MHD_Result respond_file(struct MHD_Connection *connection, unsigned int status,
				    const char *type, const struct agent_reply *reply)
{
	struct MHD_Response *response = MHD_create_response_from_fd64(reply->fd_bytes, reply->fd);

	if (!response)
		close(reply->fd);
	return respond_with(connection, status, type, NULL, NULL, response);
}

static enum MHD_Result refuse(struct MHD_Connection *connection, unsigned int status,
			      const char *header, const char *value, const char *text)
{
	const struct pt_buf buf = {.data = (char *)(uintptr_t)text, .len = strlen(text)};

	return respond(connection, status, "text/plain; charset=utf-8", header, value, &buf);
}

/* Takes as long whatever is wrong with it. */
static bool same_text(const char *a, const char *b)
{
	size_t len = strlen(b);
	bool same_len = strlen(a) == len;
	unsigned int differ = 0;

	for (size_t i = 0; i < len; i++)
		differ |= (unsigned char)(a[same_len ? i : 0] ^ b[i]);
	return same_len && !differ;
}

static bool has_token(const struct agent_http *http, struct MHD_Connection *connection)
{
	static const char scheme[] = "Bearer ";
	const char *value = MHD_lookup_connection_value(connection, MHD_HEADER_KIND,
							MHD_HTTP_HEADER_AUTHORIZATION);

	return value && !strncmp(value, scheme, sizeof(scheme) - 1) &&
	       same_text(value + sizeof(scheme) - 1, http->token);
}

/* What goes wrong is told in words. */
static const char *page_type(const struct page *page, unsigned int status)
{
	return status < 400 ? page->type : "text/plain; charset=utf-8";
}

static bool is_page(const struct page *page, const char *url)
{
	return page->is_folder ? !strncmp(url, page->path, strlen(page->path))
			       : !strcmp(url, page->path);
}

static enum MHD_Result serve(struct agent_http *http, struct MHD_Connection *connection,
			     const struct page *page, const char *url)
{
	const struct agent_request request = {
	    .page = page->page,
	    .rest = url + strlen(page->path),
	    .pid = MHD_lookup_connection_value(connection, MHD_GET_ARGUMENT_KIND, "pid")};
	struct agent_reply reply = {.fd = -1};
	enum MHD_Result result;
	unsigned int status;

	if (page->needs_token && !http->token)
		return refuse(connection, MHD_HTTP_FORBIDDEN, NULL, NULL,
			      "no token_file is configured\n");
	if (page->needs_token && !has_token(http, connection))
		return refuse(connection, MHD_HTTP_UNAUTHORIZED, "WWW-Authenticate", "Bearer",
			      "the token is missing or wrong\n");
	status = http->answer(&request, &reply, http->ctx);
	if (reply.fd >= 0)
		result = respond_file(connection, status, page->type, &reply);
	else if (reply.text.failed)
		result = refuse(connection, MHD_HTTP_INTERNAL_SERVER_ERROR, NULL, NULL,
				"out of memory\n");
	else
		result = respond(connection, status, page_type(page, status), NULL, NULL,
				 &reply.text);
	pt_buf_release(&reply.text);
	return result;
}

static enum MHD_Result on_request(void *ctx, struct MHD_Connection *connection, const char *url,
				  const char *method, const char *version, const char *body,
				  size_t *body_bytes, void **state)
{
	struct agent_http *http = ctx;
	const struct page *page = NULL;

	if (!*state) { /* the head; the body may follow */
		*state = calloc(1, sizeof(size_t));
		return *state ? MHD_YES : MHD_NO;
	}
	if (*body_bytes) { /* nothing wants one */
		size_t *taken = *state;

		*taken += *body_bytes;
		*body_bytes = 0;
		return *taken > BODY_MAX_BYTES ? MHD_NO : MHD_YES;
	}
	for (size_t i = 0; !page && i < PAGE_COUNT; i++)
		if (is_page(&pages[i], url))
			page = &pages[i];
	if (!page)
		return refuse(connection, MHD_HTTP_NOT_FOUND, NULL, NULL,
			      "there is no such page\n");
	if (strcmp(method, page->method) != 0 &&
	    (strcmp(method, "HEAD") != 0 || strcmp(page->method, "GET") != 0))
		return refuse(connection, MHD_HTTP_METHOD_NOT_ALLOWED, "Allow",
			      strcmp(page->method, "GET") ? page->method : "GET, HEAD",
			      "not by this method\n");
	return serve(http, connection, page, url);
}

static void on_end(void *ctx, struct MHD_Connection *connection, void **state,
		   enum MHD_RequestTerminationCode code)
{
	free(*state);
	*state = NULL;
}

/* ---- the socket ---- */

/* "[::1]:80" and "127.0.0.1:80", taken apart in place. */
static void split_address(char *text, char **host, char **port)
{
	char *colon = strrchr(text, ':'), *bracket;

	*colon = '\0';
	*port = colon + 1;
	*host = text;
	bracket = strrchr(text, ']');
	if (text[0] == '[' && bracket) {
		*host = text + 1;
		*bracket = '\0';
	}
}

static int bind_to(const struct addrinfo *address)
{
	int fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), rc,
	    on = 1;

	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (!bind(fd, address->ai_addr, address->ai_addrlen) && !listen(fd, (int)CLIENTS_MAX))
		return fd;
	rc = -errno;
	close(fd);
	return rc;
}

static void tell_address(struct agent_http *http, int fd)
{
	struct sockaddr_storage address = {0};
	socklen_t len = sizeof(address);
	char host[120], port[8];

	if (getsockname(fd, (struct sockaddr *)&address, &len) ||
	    getnameinfo((struct sockaddr *)&address, len, host, sizeof(host), port, sizeof(port),
			NI_NUMERICHOST | NI_NUMERICSERV))
		return;
	snprintf(http->address, sizeof(http->address),
		 address.ss_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host, port);
}

/* The descriptor, or -errno. Numbers only: nothing is looked up. */
static int listen_on(const char *where)
{
	const struct addrinfo hints = {.ai_flags = AI_PASSIVE | AI_NUMERICHOST | AI_NUMERICSERV,
				       .ai_socktype = SOCK_STREAM};
	struct addrinfo *address;
	char text[256], *host, *port;
	int fd;

	if (snprintf(text, sizeof(text), "%s", where) >= (int)sizeof(text) || !strchr(text, ':'))
		return -EINVAL;
	split_address(text, &host, &port);
	if (getaddrinfo(host, port, &hints, &address))
		return -EINVAL;
	fd = bind_to(address);
	freeaddrinfo(address);
	return fd;
}

int agent_http_start(const struct agent_http_options *options, struct agent_http **result,
		     struct pt_err *err)
{
	struct agent_http *http = calloc(1, sizeof(*http));
	int fd = http ? listen_on(options->listen) : -ENOMEM;

	if (fd < 0)
		goto fail;
	http->answer = options->answer;
	http->ctx = options->ctx;
	tell_address(http, fd);
	if (options->token && !(http->token = strdup(options->token))) {
		close(fd);
		fd = -ENOMEM;
		goto fail;
	}
	http->daemon = MHD_start_daemon(
	    MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_POLL, 0, NULL, NULL, on_request, http,
	    MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_CONNECTION_LIMIT, CLIENTS_MAX,
	    MHD_OPTION_CONNECTION_TIMEOUT, IDLE_SECONDS, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
	    (size_t)CLIENT_MAX_BYTES, MHD_OPTION_NOTIFY_COMPLETED, on_end, NULL, MHD_OPTION_END);
	if (!http->daemon) {
		close(fd);
		fd = -EIO;
		goto fail;
	}
	*result = http;
	return 0;
fail:
	agent_http_stop(http);
	return pt_err_set(err, fd, fd == -EACCES ? PT_EXIT_PERMISSION : PT_EXIT_FAILED,
			  fd == -EINVAL
			      ? "it is a numeric address and a port: 127.0.0.1:9754"
			      : "is another agent running? \"listen\" chooses another place",
			  "cannot listen on '%s': %s", options->listen, strerror(-fd));
}

const char *agent_http_address(const struct agent_http *http)
{
	return http->address;
}

void agent_http_stop(struct agent_http *http)
{
	if (!http)
		return;
	if (http->daemon)
		MHD_stop_daemon(http->daemon); /* closes the socket */
	free(http->token);
	free(http);
}
