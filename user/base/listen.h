/* SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause */
/*
 * listen.h - the socket that clients come to: "ADDRESS:PORT" or "unix:/PATH".
 *
 * Life cycle: pt_listen() -> somebody uses, and closes, the descriptor -> pt_listen_remove().
 */
#ifndef PT_BASE_LISTEN_H
#define PT_BASE_LISTEN_H

#include <stdbool.h>
#include <sys/types.h>
#include <sys/un.h>

struct pt_listener {
	int fd;
	char address[160]; /* as it can be asked for: with the port that there is */
	/* of the kind unix: */
	char path[sizeof(((struct sockaddr_un *)0)->sun_path)]; /* "": it is not */
	dev_t dev;
	ino_t ino;
};

/* Does it have the form? Nothing is opened. */
bool pt_listen_check(const char *where);
/* Do only processes of this host get there? */
bool pt_listen_is_local(const char *where);
/* -EINVAL: it has not the form; or -errno. */
int pt_listen(const char *where, int backlog, struct pt_listener *listener);
/* What is left of it in the file system. */
void pt_listen_remove(const struct pt_listener *listener);

#endif
