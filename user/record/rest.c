// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
/*
 * How the session's thread waits where processes are chosen one by one, day and night: until
 * something is due, the ring buffer fills, a signal comes, or a target ends. Elsewhere it looks 20
 * times a second, as it has always somebody to watch.
 */
#include <errno.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "record/session_parts.h"

#define EVENTS 16 /* the others come with the next call */

enum rest_what { REST_RING, REST_SIGNAL, REST_TARGET };

static int watch(const struct session *session, int fd, enum rest_what what)
{
	struct epoll_event event = {.events = EPOLLIN, .data.u32 = what};

	return epoll_ctl(session->rest.epoll_fd, EPOLL_CTL_ADD, fd, &event) ? -errno : 0;
}

int rest_open(struct session *session)
{
	struct rest *rest = &session->rest;
	sigset_t set;
	int rc;

	*rest = (struct rest){.epoll_fd = epoll_create1(EPOLL_CLOEXEC), .signal_fd = -1};
	if (rest->epoll_fd < 0)
		return -errno;
	session_signals(&set);
	/* never read: sigtimedwait() takes them */
	rest->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (rest->signal_fd < 0)
		return -errno;
	rc = watch(session, rest->signal_fd, REST_SIGNAL);
	return rc ? rc : watch(session, pt_tracer_poll_fd(session->tracer), REST_RING);
}

void rest_watch(struct session *session, const struct target *target)
{
	if (session->rest.epoll_fd >= 0 &&
	    (target->pidfd < 0 || watch(session, target->pidfd, REST_TARGET)))
		session->rest.unwatched = true;
}

int rest_wait(struct session *session, int timeout_ms)
{
	struct epoll_event events[EVENTS];
	int count = epoll_wait(session->rest.epoll_fd, events, EVENTS, timeout_ms);

	if (count < 0)
		return errno == EINTR ? 0 : -errno;
	for (int i = 0; i < count; i++)
		session->rest.ended |= events[i].data.u32 == REST_TARGET;
	return 0;
}

bool rest_may_have_ended(struct session *session)
{
	struct rest *rest = &session->rest;
	bool ended = rest->epoll_fd < 0 || rest->ended || rest->unwatched;

	rest->ended = false;
	return ended;
}

void rest_close(struct session *session)
{
	if (session->rest.signal_fd >= 0)
		close(session->rest.signal_fd);
	if (session->rest.epoll_fd >= 0)
		close(session->rest.epoll_fd);
}
