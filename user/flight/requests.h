/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * requests.h - which functions of web servers and frameworks handle one request, by file and name.
 */
#ifndef PT_FLIGHT_REQUESTS_H
#define PT_FLIGHT_REQUESTS_H

#include <stdbool.h>

#include "model/op.h"

/* One call of it is one request, or with a coroutine a part of one. */
bool pt_request_function(const struct pt_function *function);
/* A coroutine: a task that begins with it is one request, from its first step to its last one. */
bool pt_request_task(const struct pt_function *function);

/* Of the server whose coroutine that is: it is called when the answer to the request has been given
 * to the system, by the task that gave it. Without such a function nobody knows the end. */
bool pt_request_answered(const struct pt_function *function);
/* Is this a framework's function which calls the one that the program has for the request's path?
 */
bool pt_request_dispatcher(const struct pt_function *function);

enum pt_request_callee {
	PT_REQUEST_OWN,     /* it is the framework's, and no way to the program's */
	PT_REQUEST_WAY,     /* it only leads there: what it calls is to be looked at */
	PT_REQUEST_HANDLER, /* it is the program's */
};

/* Of what a dispatcher, or one on the way from it, calls. */
enum pt_request_callee pt_request_callee(const struct pt_function *dispatcher,
					 const struct pt_function *function);

#endif
