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

#endif
