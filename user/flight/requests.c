// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "flight/requests.h"

#include <stddef.h>
#include <string.h>

/*
 * Servers come before frameworks: around one request there may be a call of each, and any of them
 * will do. Of applications that are coroutines (Starlette's, FastAPI's) the server's coroutine is
 * told of: they are also called for the life of the server, and for websockets.
 */
static const struct entry {
	const char *file, *qualname; /* file: how it ends */
	bool task;
} entries[] = {
    /* gunicorn 19 to 23; sync, gthread; gevent and eventlet */
    {"/gunicorn/workers/sync.py", "SyncWorker.handle_request", false},
    {"/gunicorn/workers/gthread.py", "ThreadWorker.handle_request", false},
    {"/gunicorn/workers/base_async.py", "AsyncWorker.handle_request", false},
    /* uvicorn 0.11 on, alone or in a worker of gunicorn's; one for each parser of HTTP */
    {"/uvicorn/protocols/http/h11_impl.py", "RequestResponseCycle.run_asgi", true},
    {"/uvicorn/protocols/http/httptools_impl.py", "RequestResponseCycle.run_asgi", true},
    /* the standard library's; Django's runserver is made of it, too */
    {"/wsgiref/handlers.py", "BaseHandler.run", false},
    {"/werkzeug/serving.py", "WSGIRequestHandler.run_wsgi", false},
    {"/flask/app.py", "Flask.wsgi_app", false},
    {"/django/core/handlers/wsgi.py", "WSGIHandler.__call__", false},
    {"/django/core/handlers/asgi.py", "ASGIHandler.__call__", true},
};

static bool ends_with(const char *text, const char *end)
{
	size_t len = strlen(text), end_len = strlen(end);

	return len >= end_len && !strcmp(text + len - end_len, end);
}

/* Up to 3.10 code has no qualified name; in these files the name alone will do. */
static bool has_name(const struct pt_function *function, const char *qualname)
{
	return !strcmp(function->qualname, qualname) ||
	       (!strchr(function->qualname, '.') &&
		!strcmp(function->qualname, strrchr(qualname, '.') + 1));
}

static const struct entry *find(const struct pt_function *function)
{
	for (size_t i = 0; i < sizeof(entries) / sizeof(entries[0]); i++)
		if (has_name(function, entries[i].qualname) &&
		    ends_with(function->file, entries[i].file))
			return &entries[i];
	return NULL;
}

bool pt_request_function(const struct pt_function *function)
{
	return find(function) != NULL;
}

bool pt_request_task(const struct pt_function *function)
{
	const struct entry *entry = find(function);

	return entry && entry->task;
}
