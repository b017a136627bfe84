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

static const struct entry *find_in(const struct entry *list, size_t count,
				   const struct pt_function *function)
{
	for (size_t i = 0; i < count; i++)
		if (has_name(function, list[i].qualname) && ends_with(function->file, list[i].file))
			return &list[i];
	return NULL;
}

static const struct entry *find(const struct pt_function *function)
{
	return find_in(entries, sizeof(entries) / sizeof(entries[0]), function);
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

bool pt_request_answered(const struct pt_function *function)
{
	/* uvicorn 0.11 on */
	static const struct entry ends[] = {
	    {"/uvicorn/protocols/http/h11_impl.py", "H11Protocol.on_response_complete", false},
	    {"/uvicorn/protocols/http/httptools_impl.py", "HttpToolsProtocol.on_response_complete",
	     false},
	};

	return find_in(ends, sizeof(ends) / sizeof(ends[0]), function) != NULL;
}

/* ---- whom a framework calls for a path ---- */

/* Flask 0.8 on; Django 1.10 on. ways: views that are classes, and decorators. */
static const struct framework {
	struct entry dispatcher;
	const char *package; /* the file begins with it, after where it lies */
	const char *ways[5]; /* how files in the package begin */
} frameworks[] = {
    {{"/flask/app.py", "Flask.dispatch_request", false}, "/flask/", {"views.py"}},
    {{"/django/core/handlers/base.py", "BaseHandler._get_response", false},
     "/django/",
     {"views/generic/base.py", "views/decorators/", "utils/decorators.py",
      "contrib/auth/decorators.py"}},
};

static const struct framework *find_framework(const struct pt_function *dispatcher)
{
	for (size_t i = 0; i < sizeof(frameworks) / sizeof(frameworks[0]); i++)
		if (find_in(&frameworks[i].dispatcher, 1, dispatcher))
			return &frameworks[i];
	return NULL;
}

bool pt_request_dispatcher(const struct pt_function *function)
{
	return find_framework(function) != NULL;
}

enum pt_request_callee pt_request_callee(const struct pt_function *dispatcher,
					 const struct pt_function *function)
{
	const struct framework *framework = find_framework(dispatcher);
	/* up to the package's last slash */
	size_t root = strlen(dispatcher->file) - strlen(framework->dispatcher.file) +
		      strlen(framework->package);
	const char *rest;

	/* a middleware's, which Django calls from the same place */
	if (!function->file[0] || !strcmp(function->name, "process_view") ||
	    !strcmp(function->name, "process_template_response"))
		return PT_REQUEST_OWN;
	/* decorators that are context managers, as Django's for transactions */
	if (ends_with(function->file, "/contextlib.py"))
		return PT_REQUEST_WAY;
	if (strncmp(function->file, dispatcher->file, root) != 0)
		return PT_REQUEST_HANDLER;
	rest = function->file + root;
	for (const char *const *way = framework->ways; *way; way++)
		if (!strncmp(rest, *way, strlen(*way)))
			return PT_REQUEST_WAY;
	return PT_REQUEST_OWN;
}
