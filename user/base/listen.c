// SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
#include "base/listen.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/parse.h"

#define UNIX_PREFIX "unix:"
/* Whoever is in our group, which is root unless a unit says otherwise. */
#define UNIX_UMASK  0117

/* The path, or NULL: it is an address. */
static const char *unix_path(const char *where)
{
	size_t len = strlen(UNIX_PREFIX);

	return strncmp(where, UNIX_PREFIX, len) ? NULL : where + len;
}

/* Numbers only: nothing is looked up. NULL: it has not the form. */
static struct addrinfo *parse_address(const char *where)
{
	const struct addrinfo hints = {.ai_flags = AI_PASSIVE | AI_NUMERICHOST | AI_NUMERICSERV,
				       .ai_socktype = SOCK_STREAM};
	char text[160], *host = text, *port, *bracket;
	struct addrinfo *address;
	uint64_t number;

	if (snprintf(text, sizeof(text), "%s", where) >= (int)sizeof(text))
		return NULL;
	port = strrchr(text, ':');
	if (!port || port == text)
		return NULL;
	*port++ = '\0';
	if (pt_parse_number(port, &number) || number > 65535)
		return NULL;
	bracket = strrchr(text, ']');
	if (text[0] == '[' && bracket) {
		*bracket = '\0';
		host++;
	}
	return getaddrinfo(host, port, &hints, &address) ? NULL : address;
}

bool pt_listen_check(const char *where)
{
	const char *path = unix_path(where);
	struct addrinfo *address;

	if (path)
		return path[0] == '/' && path[1] &&
		       strlen(path) < sizeof(((struct sockaddr_un *)0)->sun_path);
	address = parse_address(where);
	if (address)
		freeaddrinfo(address);
	return address != NULL;
}

bool pt_listen_is_local(const char *where)
{
	struct addrinfo *address = unix_path(where) ? NULL : parse_address(where);
	const struct sockaddr *at = address ? address->ai_addr : NULL;
	bool local = !at;

	if (at && at->sa_family == AF_INET)
		local = ntohl(((const struct sockaddr_in *)(const void *)at)->sin_addr.s_addr) >>
			    24 ==
			IN_LOOPBACKNET;
	else if (at && at->sa_family == AF_INET6)
		local = IN6_IS_ADDR_LOOPBACK(
		    &((const struct sockaddr_in6 *)(const void *)at)->sin6_addr);
	if (address)
		freeaddrinfo(address);
	return local;
}

/* A socket that nobody listens on is left over from one that was killed. */
static int remove_stale(const struct sockaddr_un *address)
{
	struct stat st;
	int fd, rc;

	if (lstat(address->sun_path, &st))
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISSOCK(st.st_mode) || st.st_uid != geteuid())
		return -EEXIST;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	rc = connect(fd, (const struct sockaddr *)address, sizeof(*address)) ? -errno : 0;
	close(fd);
	if (rc != -ECONNREFUSED)
		return -EADDRINUSE;
	return unlink(address->sun_path) && errno != ENOENT ? -errno : 0;
}

static int bind_unix(const char *path, struct pt_listener *listener)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct stat st;
	mode_t mask;
	int rc;

	memcpy(address.sun_path, path, strlen(path));
	rc = remove_stale(&address);
	if (rc)
		return rc;
	mask = umask(UNIX_UMASK);
	rc = bind(listener->fd, (const struct sockaddr *)&address, sizeof(address)) ? -errno : 0;
	umask(mask);
	if (!rc && lstat(path, &st))
		rc = -errno;
	if (rc)
		return rc;
	listener->dev = st.st_dev;
	listener->ino = st.st_ino;
	snprintf(listener->path, sizeof(listener->path), "%s", path);
	snprintf(listener->address, sizeof(listener->address), UNIX_PREFIX "%s", path);
	return 0;
}

static int bind_address(const struct addrinfo *where, struct pt_listener *listener)
{
	struct sockaddr_storage address = {0};
	socklen_t len = sizeof(address);
	char host[120], port[8];
	int on = 1;

	setsockopt(listener->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(listener->fd, where->ai_addr, where->ai_addrlen) ||
	    getsockname(listener->fd, (struct sockaddr *)&address, &len))
		return -errno;
	if (getnameinfo((struct sockaddr *)&address, len, host, sizeof(host), port, sizeof(port),
			NI_NUMERICHOST | NI_NUMERICSERV))
		return -EINVAL;
	snprintf(listener->address, sizeof(listener->address),
		 address.ss_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host, port);
	return 0;
}

int pt_listen(const char *where, int backlog, struct pt_listener *listener)
{
	const char *path = unix_path(where);
	struct addrinfo *address = path ? NULL : parse_address(where);
	int rc;

	*listener = (struct pt_listener){.fd = -1};
	if (!pt_listen_check(where) || (!path && !address))
		return -EINVAL;
	listener->fd = socket(path ? AF_UNIX : address->ai_family,
			      SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (listener->fd < 0)
		rc = -errno;
	else
		rc = path ? bind_unix(path, listener) : bind_address(address, listener);
	if (!rc && listen(listener->fd, backlog))
		rc = -errno;
	if (address)
		freeaddrinfo(address);
	if (rc && listener->fd >= 0) {
		close(listener->fd);
		listener->fd = -1;
		pt_listen_remove(listener);
	}
	return rc;
}

void pt_listen_remove(const struct pt_listener *listener)
{
	struct stat st;

	/* another server may have put its own there */
	if (listener->path[0] && !lstat(listener->path, &st) && st.st_dev == listener->dev &&
	    st.st_ino == listener->ino)
		unlink(listener->path);
}
