/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * server.h - the trigger http: POST /capture makes a flight recorder write one.
 *
 * Life cycle: pt_flight_server_start() before anything is attached, so that an address which cannot
 * be had is told of at once -> pt_flight_server_serve(), by the recorder that it is for, when it
 * opens and closes -> pt_flight_server_stop().
 */
#ifndef PT_FLIGHT_SERVER_H
#define PT_FLIGHT_SERVER_H

#include "base/err.h"

struct pt_flight;
struct pt_flight_server;

/* where: see base/listen.h. token NULL: none is asked for, which is for this host alone. */
int pt_flight_server_start(const char *where, const char *token, struct pt_flight_server **server,
			   struct pt_err *err);
/* As pt_http_url(). */
const char *pt_flight_server_url(const struct pt_flight_server *server);
/* Whom it asks; NULL: nobody, which it says. Once it returns, the one before is asked no more. */
void pt_flight_server_serve(struct pt_flight_server *server, struct pt_flight *flight);
void pt_flight_server_stop(struct pt_flight_server *server);

#endif
