// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "base/http.h"

#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <microhttpd.h>

#include "base/listen.h"

#define CLIENTS_MAX      64u
#define IDLE_SECONDS     10u
#define CLIENT_MAX_BYTES 16384u /* of a request's head, and of an answer's */
#define BODY_MAX_BYTES   4096u
/* What is older than TLS 1.2 is refused. */
#define TLS_PRIORITIES   "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"

struct pt_http {
	struct MHD_Daemon *daemon;
	char *token;
	const char *token_name;
	const struct pt_http_page *pages;
	size_t page_count;
	pt_http_answer_fn answer;
	void *ctx;
	struct pt_listener listener;
	char url[sizeof(((struct pt_listener *)0)->address) + 16];
};

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
				    const char *type, const struct pt_http_reply *reply)
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

bool pt_http_authorized(const char *header, const char *token)
{
	static const char scheme[] = "Bearer ";

	return header && !strncmp(header, scheme, sizeof(scheme) - 1) &&
	       same_text(header + sizeof(scheme) - 1, token);
}

static bool has_token(const struct pt_http *http, struct MHD_Connection *connection)
{
	const char *value = MHD_lookup_connection_value(connection, MHD_HEADER_KIND,
							MHD_HTTP_HEADER_AUTHORIZATION);

	return pt_http_authorized(value, http->token);
}

/* What goes wrong is told in words. */
static const char *page_type(const struct pt_http_page *page, unsigned int status)
{
	return status < 400 ? page->type : "text/plain; charset=utf-8";
}

static enum MHD_Result respond_text(struct MHD_Connection *connection, unsigned int status,
				    const struct pt_http_page *page,
				    const struct pt_http_reply *reply)
{
	char seconds[24];

	snprintf(seconds, sizeof(seconds), "%llu", (unsigned long long)reply->retry_after_s);
	return respond(connection, status, page_type(page, status),
		       reply->retry_after_s ? "Retry-After" : NULL, seconds, &reply->text);
}

static bool is_page(const struct pt_http_page *page, const char *url)
{
	return page->is_folder ? !strncmp(url, page->path, strlen(page->path))
			       : !strcmp(url, page->path);
}

static enum MHD_Result serve(struct pt_http *http, struct MHD_Connection *connection,
			     const struct pt_http_page *page, const char *url)
{
	const struct pt_http_request request = {
	    .page = page->page,
	    .rest = url + strlen(page->path),
	    .pid = MHD_lookup_connection_value(connection, MHD_GET_ARGUMENT_KIND, "pid")};
	struct pt_http_reply reply = {.fd = -1};
	enum MHD_Result result;
	unsigned int status;

	status = http->answer(&request, &reply, http->ctx);
	if (reply.fd >= 0)
		result = respond_file(connection, status, page->type, &reply);
	else if (reply.text.failed)
		result = refuse(connection, MHD_HTTP_INTERNAL_SERVER_ERROR, NULL, NULL,
				"out of memory\n");
	else
		result = respond_text(connection, status, page, &reply);
	pt_buf_release(&reply.text);
	return result;
}

/* Who may not. 0: it may. */
static unsigned int check_rights(const struct pt_http *http, struct MHD_Connection *connection,
				 const struct pt_http_page *page, char *why, size_t size)
{
	unsigned int status = 0;

	if (page->needs_token && !http->token) {
		status = MHD_HTTP_FORBIDDEN;
		snprintf(why, size, "no %s is configured\n", http->token_name);
	} else if (page->needs_token && !has_token(http, connection)) {
		status = MHD_HTTP_UNAUTHORIZED;
		snprintf(why, size, "the token is missing or wrong\n");
	} else if (strcmp(page->method, "GET") != 0 &&
		   MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "Origin")) {
		/* a browser lets any page send a POST anywhere, and says so */
		status = MHD_HTTP_FORBIDDEN;
		snprintf(why, size, "not by the script of a web page\n");
	}
	return status;
}

static enum MHD_Result on_request(void *ctx, struct MHD_Connection *connection, const char *url,
				  const char *method, const char *version, const char *body,
				  size_t *body_bytes, void **state)
{
	struct pt_http *http = ctx;
	const struct pt_http_page *page = NULL;
	unsigned int refused;
	char why[80];

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
	for (size_t i = 0; !page && i < http->page_count; i++)
		if (is_page(&http->pages[i], url))
			page = &http->pages[i];
	if (!page)
		return refuse(connection, MHD_HTTP_NOT_FOUND, NULL, NULL,
			      "there is no such page\n");
	if (strcmp(method, page->method) != 0 &&
	    (strcmp(method, "HEAD") != 0 || strcmp(page->method, "GET") != 0))
		return refuse(connection, MHD_HTTP_METHOD_NOT_ALLOWED, "Allow",
			      strcmp(page->method, "GET") ? page->method : "GET, HEAD",
			      "not by this method\n");
	refused = check_rights(http, connection, page, why, sizeof(why));
	if (refused)
		return refuse(connection, refused,
			      refused == MHD_HTTP_UNAUTHORIZED ? "WWW-Authenticate" : NULL,
			      "Bearer", why);
	return serve(http, connection, page, url);
}

static void on_end(void *ctx, struct MHD_Connection *connection, void **state,
		   enum MHD_RequestTerminationCode code)
{
	free(*state);
	*state = NULL;
}

/* NULL: it cannot be started, and the socket is still the caller's. */
static struct MHD_Daemon *start_daemon(const struct pt_http_options *options, struct pt_http *http)
{
	const struct MHD_OptionItem tls[] = {
	    {MHD_OPTION_HTTPS_MEM_CERT, 0, (void *)(uintptr_t)options->tls_cert},
	    {MHD_OPTION_HTTPS_MEM_KEY, 0, (void *)(uintptr_t)options->tls_key},
	    {MHD_OPTION_HTTPS_PRIORITIES, 0, (void *)(uintptr_t)TLS_PRIORITIES},
	    {MHD_OPTION_END, 0, NULL}};
	const struct MHD_OptionItem none[] = {{MHD_OPTION_END, 0, NULL}};
	unsigned int flags = MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_POLL;
	struct MHD_Daemon *daemon;
	sigset_t all, before;

	if (options->tls_cert && MHD_is_feature_supported(MHD_FEATURE_TLS) != MHD_YES)
		return NULL;
	/* its thread takes no signals: base/thread.h */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	daemon = MHD_start_daemon(
	    flags | (options->tls_cert ? MHD_USE_TLS : 0), 0, NULL, NULL, on_request, http,
	    MHD_OPTION_LISTEN_SOCKET, http->listener.fd, MHD_OPTION_CONNECTION_LIMIT, CLIENTS_MAX,
	    MHD_OPTION_CONNECTION_TIMEOUT, IDLE_SECONDS, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
	    (size_t)CLIENT_MAX_BYTES, MHD_OPTION_NOTIFY_COMPLETED, on_end, NULL, MHD_OPTION_ARRAY,
	    options->tls_cert ? tls : none, MHD_OPTION_END);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return daemon;
}

static int cannot_listen(const char *where, int rc, const char *busy_hint, struct pt_err *err)
{
	const char *hint = busy_hint;

	if (rc == -EINVAL)
		hint = "a numeric address and a port, 127.0.0.1:9754, or unix:/run/NAME";
	else if (rc == -EEXIST)
		hint = "it is there, and no socket of ours";
	return pt_err_set(err, rc, rc == -EACCES ? PT_EXIT_PERMISSION : PT_EXIT_FAILED, hint,
			  "cannot listen on '%s': %s", where, strerror(-rc));
}

int pt_http_start(const struct pt_http_options *options, struct pt_http **result,
		  struct pt_err *err)
{
	struct pt_http *http = calloc(1, sizeof(*http));
	int rc = http ? pt_listen(options->listen, (int)CLIENTS_MAX, &http->listener) : -ENOMEM;

	if (rc) {
		free(http);
		return cannot_listen(options->listen, rc, options->busy_hint, err);
	}
	http->token_name = options->token_name;
	http->pages = options->pages;
	http->page_count = options->page_count;
	http->answer = options->answer;
	http->ctx = options->ctx;
	snprintf(http->url, sizeof(http->url), "%s%s",
		 http->listener.path[0] ? ""
		 : options->tls_cert    ? "https://"
					: "http://",
		 http->listener.address);
	if (options->token && !(http->token = strdup(options->token)))
		rc = -ENOMEM;
	else if (!(http->daemon = start_daemon(options, http)))
		rc = -EIO;
	if (rc) {
		close(http->listener.fd);
		pt_http_stop(http);
		if (rc == -EIO && options->tls_cert)
			return pt_err_set(err, -EINVAL, PT_EXIT_USAGE,
					  "PEM files that belong together, as openssl req -x509 "
					  "-nodes makes them",
					  "the certificate and the key of \"tls\" are refused");
		return cannot_listen(options->listen, rc, options->busy_hint, err);
	}
	*result = http;
	return 0;
}

const char *pt_http_url(const struct pt_http *http)
{
	return http->url;
}

void pt_http_stop(struct pt_http *http)
{
	if (!http)
		return;
	pt_listen_remove(&http->listener); /* nobody comes any more */
	if (http->daemon)
		MHD_stop_daemon(http->daemon); /* closes the socket */
	free(http->token);
	free(http);
}
